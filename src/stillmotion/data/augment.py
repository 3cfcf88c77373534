"""Augmentation of frames: parameters are sampled once per sample, then applied to all of its frames alike.

`sample_params` takes every random decision and returns it as a value; `augment_frames` changes the frames and has no
randomness. So a clip's tracks follow the pixels (`move_points`, `track_augment.augment_tracks`), and a test can ask
for one exact change. The order is flips, affine, resize, crop, elastic deformation, colour, filter; without the
deformation and the filter it is Monkey-Net's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

import cv2
import numpy as np

from stillmotion.data import elastic
from stillmotion.data.colour import LUMA, ColourParams, colour_jitter, sample_shifts
from stillmotion.data.filters import PictureFilter, filter_frames, sample_filter
from stillmotion.errors import StillmotionError, check_known

Range = tuple[float, float]

_SHARES = ("time_flip", "horizontal_flip", "affine_probability", "colour_probability", "permute_channels")
_STDS = ("elastic", "local_colour")
_SIGNED = ("rotation", "translate", "shear", "hue", "brightness")


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a sample; every (low, high) is a uniform range, None switches the change off.

    Raises:
        StillmotionError: a probability is outside [0, 1], a range is upside down, or a factor is not positive.
    """

    time_flip: float = 0.0  # probability of playing backwards
    horizontal_flip: float = 0.0  # probability of mirroring left and right
    # Mirror only samples that were not reversed in time (Monkey-Net), so that 0.5 and 0.5 mean 0.5 and 0.25 overall
    exclusive_flips: bool = True
    affine_probability: float = 1.0  # probability of the next five, together
    rotation: Range | None = None  # degrees, positive turns x towards y
    whole_degrees: bool = False  # rotations are whole numbers of degrees, both ends of the range included
    scale: Range | None = None  # factor of both axes
    aspect: Range | None = None  # one more factor of x, and its inverse for y, each to the square root
    translate: Range | None = None  # fraction of the width for x and of the height for y, sampled separately
    shear: Range | None = None  # degrees
    black_border: bool = False  # what these five uncover is black; else edges are replicated, as in tracks always
    resize: Range | None = None  # factor; nearest neighbour, then cropped or padded back (Monkey-Net)
    crop: tuple[int, int] | None = None  # (height, width) of a random crop; edges are replicated where it is larger
    fit_crop: bool = False  # resize first so that the crop just fits: the short side is taken whole
    colour_probability: float = 1.0  # probability of all of the following, together
    hue: Range | None = None  # shift in turns
    gain: Range | None = None  # factor of all channels
    channel_gain: Range | None = None  # factor of each channel, sampled separately
    contrast: Range | None = None  # factor of the distance from the mean grey of all frames
    saturation: Range | None = None  # factor of the distance from grey
    brightness: Range | None = None  # offset, where 1 is the full range
    gamma: Range | None = None  # exponent
    permute_channels: float = 0.0  # probability of a random order of the channels
    elastic: float = 0.0  # standard deviation of an elastic deformation, as a share of each side; 0 switches it off
    local_colour: float = 0.0  # standard deviation of shifts of similar colours (clothes), in [0, 1]; 0: off
    filters: bool = False  # one of Pillow's filters, see `filters.sample_filter`

    def __post_init__(self) -> None:
        for setting in fields(self):
            name, value = setting.name, getattr(self, setting.name)
            if name in _SHARES or name in _STDS:
                if not 0 <= value <= 1:
                    raise StillmotionError(f"The augmentation {name} must be in [0, 1], not {value}.")
            elif name != "crop" and isinstance(value, tuple):
                low, high = value
                lowest_is_valid = name in _SIGNED or low > 0 or (name == "saturation" and low >= 0)
                if not (low <= high and lowest_is_valid):
                    raise StillmotionError(f"The augmentation {name} must be a range (low, high), not {value}.")


# For a few dozen clips, which networks of a million weights overfit otherwise.
_STRONG = Augmentation(
    time_flip=0.5,
    horizontal_flip=0.5,
    exclusive_flips=False,
    rotation=(-8, 8),
    scale=(0.88, 1.12),
    aspect=(0.92, 1.08),
    translate=(-0.06, 0.06),
    hue=(-0.08, 0.08),
    channel_gain=(0.75, 1.25),
    contrast=(0.75, 1.3),
    saturation=(0.5, 1.5),
    brightness=(-0.15, 0.15),
    permute_channels=0.15,
)
# For people who are not in the training clips: body shapes and clothes vary too.
_VARIED = replace(_STRONG, elastic=0.02, local_colour=0.15)
# For a long training on a handful of people, whose faces and backgrounds it would overfit.
_BOLD = replace(
    _VARIED,
    rotation=(-14, 14),
    scale=(0.8, 1.2),
    aspect=(0.85, 1.18),
    translate=(-0.1, 0.1),
    hue=(-0.2, 0.2),
    contrast=(0.6, 1.5),
    saturation=(0.2, 1.8),
    permute_channels=0.3,
    elastic=0.035,
    local_colour=0.25,
)

AUGMENTATIONS: Mapping[str, Augmentation] = {
    "none": Augmentation(),
    # Monkey-Net's published settings. Its crops to the frame's own size are no-ops.
    "taichi": Augmentation(time_flip=0.5, horizontal_flip=0.5),
    "nemo": Augmentation(time_flip=0.5, horizontal_flip=0.5),
    "bair": Augmentation(horizontal_flip=0.5),
    "moving-gif": Augmentation(time_flip=0.5, horizontal_flip=0.5, resize=(0.9, 1.1), hue=(-0.5, 0.5)),
    "actions": Augmentation(
        time_flip=0.5, horizontal_flip=0.5, rotation=(-10, 10), resize=(0.9, 1.1), hue=(-0.5, 0.5)
    ),
    # The poke paper's ranges. Borders are replicated and sampled bilinearly here, reflected and nearest there.
    "pokes": Augmentation(
        affine_probability=0.8,
        rotation=(-15, 15),
        translate=(-0.05, 0.05),
        colour_probability=0.8,
        hue=(-0.15, 0.30),
        gain=(0.6, 1.4),
        contrast=(0.5, 1.5),
        saturation=(0.6, 1.4),
    ),
    # The class-conditional keypoint paper's, as released; rotations are sampled bilinearly here.
    "penn": Augmentation(
        horizontal_flip=0.5, rotation=(-10, 10), whole_degrees=True, black_border=True, fit_crop=True, filters=True
    ),
    # For pictures whose single pixels count: nothing is resampled, and black stays black.
    "pixel-art": Augmentation(
        time_flip=0.5,
        horizontal_flip=0.5,
        exclusive_flips=False,
        hue=(-0.5, 0.5),
        channel_gain=(0.75, 1.25),
        saturation=(0.6, 1.4),
        permute_channels=0.3,
    ),
    "strong": _STRONG,
    "varied": _VARIED,
    "bold": _BOLD,
}


def find_augmentation(name: str) -> Augmentation:
    """An augmentation by its name.

    Raises:
        StillmotionError: there is none of this name.
    """
    check_known("augmentation", name, AUGMENTATIONS)
    return AUGMENTATIONS[name]


@dataclass(frozen=True, eq=False)
class AugmentParams:
    """Every decision for one sample, in the order in which they are applied; the defaults change nothing."""

    size: tuple[int, int]  # (height, width) of the frames that it is for
    out: tuple[int, int]  # (height, width) of the result
    reverse: bool = False  # play backwards
    mirror: bool = False  # flip left and right
    affine: np.ndarray | None = None  # 2 x 3, where a pixel (x, y, 1) of the (mirrored) frame goes
    black_border: bool = False  # what the affine uncovers is black
    resize: float = 1.0  # factor, nearest neighbour
    corner: tuple[int, int] = (0, 0)  # (x, y) of the result's first pixel in the resized frame; negative: padded
    elastic: np.ndarray | None = None  # H x W x 2 pixels, from each pixel of the result to where it is sampled
    colour: ColourParams = field(default_factory=ColourParams)  # changes of colour
    filter: PictureFilter | None = None  # the last change

    @property
    def crops(self) -> bool:
        """Whether the frames are resized, cropped or padded."""
        return self.resize != 1.0 or self.corner != (0, 0) or self.out != self.size


def sample_params(size: tuple[int, int], rng: np.random.Generator, settings: Augmentation) -> AugmentParams:
    """Take all random decisions for frames of `size` (height, width)."""
    size = (int(size[0]), int(size[1]))
    reverse = settings.time_flip > 0 and bool(rng.random() < settings.time_flip)
    may_mirror = settings.horizontal_flip > 0 and not (reverse and settings.exclusive_flips)
    mirror = may_mirror and bool(rng.random() < settings.horizontal_flip)
    affine = _sample_affine(size, rng, settings)
    out = settings.crop or size
    resize, corner = _sample_crop(size, out, rng, settings)
    colour = _sample_colour(rng, settings)
    # Last, so that settings without them sample the same numbers as before these three existed.
    deformation = elastic.sample_field(out, settings.elastic, rng) if settings.elastic else None
    if settings.local_colour:
        colour = replace(colour, shifts=sample_shifts(settings.local_colour, rng))
    chosen = sample_filter(rng) if settings.filters else None
    return AugmentParams(
        size, out, reverse, mirror, affine, settings.black_border, resize, corner, deformation, colour, chosen
    )


def centre_params(size: tuple[int, int], out: tuple[int, int]) -> AugmentParams:
    """Decisions that only resize frames of `size` so that `out` just fits, and take the centre of the long side."""
    resize = _cover(size, out)
    x, y = ((round(length * resize) - wanted) // 2 for length, wanted in zip(size[::-1], out[::-1], strict=True))
    return AugmentParams(size, out, resize=resize, corner=(x, y))


def augment_frames(frames: np.ndarray, params: AugmentParams, reference: int | None = None) -> np.ndarray:
    """Change frames as decided.

    Args:
        frames: T x H x W x 3, `uint8`, or float in [0, 1].
        params: from `sample_params`, for frames of this size.
        reference: see `colour.colour_jitter`; counted after the flip in time.

    Returns:
        `float32`, T x out height x out width x 3, in [0, 1]; never a view of `frames`.
    """
    if frames.shape[1:3] != params.size:
        raise ValueError(f"The parameters are for frames of {params.size}, not {frames.shape[1:3]}.")
    if params.reverse:
        frames = frames[::-1]
    if params.mirror:
        frames = frames[:, :, ::-1]
    scale = np.float32(1 / 255) if frames.dtype == np.uint8 else np.float32(1)
    changed = np.multiply(frames, scale, dtype=np.float32, order="C")
    if params.affine is not None:
        changed = warp_affine(changed, params.affine, params.black_border)
    if params.crops:
        rows = _nearest(params.out[0], params.corner[1], params.resize, params.size[0])
        columns = _nearest(params.out[1], params.corner[0], params.resize, params.size[1])
        changed = changed[:, rows[:, None], columns[None, :]]
    if params.elastic is not None:
        changed = elastic.deform(changed, params.elastic)
    changed = colour_jitter(changed, params.colour, reference)
    return changed if params.filter is None else filter_frames(changed, params.filter)


def move_points(points: np.ndarray, params: AugmentParams) -> np.ndarray:
    """Move points as `augment_frames` moves the pixels, and reverse their order if time was reversed.

    Args:
        points: T x ... x 2, (x, y) in pixels of the frames given to `augment_frames`; NaN stays NaN.
        params: the same decisions.

    Returns:
        `float32`, same shape, pixels of the result; points may lie outside it.
    """
    return transform_points(points[::-1] if params.reverse else points, params).astype(np.float32)


def transform_points(points: np.ndarray, params: AugmentParams) -> np.ndarray:
    """Move points (N x ... x 2, pixels) through the geometric changes, without the flip in time; `float64`."""
    moved = np.asarray(points, dtype=np.float64)
    if params.mirror:
        moved = moved * [-1.0, 1.0] + [params.size[1] - 1.0, 0.0]
    if params.affine is not None:
        moved = moved @ params.affine[:, :2].T + params.affine[:, 2]
    # Pixel centres are integers, so a resize keeps the picture's border at -1/2.
    moved = (moved + 0.5) * params.resize - 0.5 - np.asarray(params.corner)
    if params.elastic is not None:
        moved = elastic.deform_points(moved, params.elastic).astype(np.float64)
    return moved


def warp_affine(frames: np.ndarray, matrix: np.ndarray, black: bool = False) -> np.ndarray:
    """Move every pixel (x, y) to `matrix` (x, y, 1): one bilinear resample, borders replicated.

    Args:
        frames: T x H x W x 3, `float32`, contiguous.
        matrix: 2 x 3.
        black: what lies outside of the frames is 0 instead.
    """
    border = cv2.BORDER_CONSTANT if black else cv2.BORDER_REPLICATE
    warped = np.empty_like(frames)
    size = (frames.shape[2], frames.shape[1])
    for frame, target in zip(frames, warped, strict=True):
        cv2.warpAffine(frame, matrix, size, dst=target, flags=cv2.INTER_LINEAR, borderMode=border)
    return warped


def affine_matrix(
    size: tuple[int, int],
    *,
    rotation: float = 0.0,
    scale: tuple[float, float] = (1.0, 1.0),
    shear: float = 0.0,
    shift: tuple[float, float] = (0.0, 0.0),
) -> np.ndarray:
    """Compose scale (x, y), shear and rotation (degrees) about the centre, then a shift (x, y) in pixels.

    Returns:
        2 x 3: where a pixel (x, y, 1) goes.
    """
    angle, slope = np.radians(rotation), np.tan(np.radians(shear))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ np.array([[1.0, slope], [0.0, 1.0]]) @ np.diag(scale)
    centre = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])
    return np.column_stack([linear, centre - linear @ centre + np.asarray(shift)])


def _happens(probability: float, rng: np.random.Generator) -> bool:
    return probability >= 1 or bool(rng.random() < probability)


def _uniform(limits: Range | None, rng: np.random.Generator, default: float) -> float:
    return default if limits is None else float(rng.uniform(*limits))


def _sample_affine(size: tuple[int, int], rng: np.random.Generator, settings: Augmentation) -> np.ndarray | None:
    kinds = (settings.rotation, settings.scale, settings.aspect, settings.translate, settings.shear)
    if all(kind is None for kind in kinds) or not _happens(settings.affine_probability, rng):
        return None
    scale = _uniform(settings.scale, rng, 1.0)
    stretch = _uniform(settings.aspect, rng, 1.0) ** 0.5
    return affine_matrix(
        size,
        rotation=_sample_rotation(rng, settings),
        scale=(scale * stretch, scale / stretch),
        shear=_uniform(settings.shear, rng, 0.0),
        shift=(_uniform(settings.translate, rng, 0.0) * size[1], _uniform(settings.translate, rng, 0.0) * size[0]),
    )


def _sample_rotation(rng: np.random.Generator, settings: Augmentation) -> float:
    if settings.rotation is None or not settings.whole_degrees:
        return _uniform(settings.rotation, rng, 0.0)
    low, high = settings.rotation
    return float(rng.integers(int(low), int(high), endpoint=True))


def _cover(size: tuple[int, int], out: tuple[int, int]) -> float:
    return max(out[0] / size[0], out[1] / size[1])


def _sample_crop(
    size: tuple[int, int], out: tuple[int, int], rng: np.random.Generator, settings: Augmentation
) -> tuple[float, tuple[int, int]]:
    resize = _uniform(settings.resize, rng, 1.0) * (_cover(size, out) if settings.fit_crop else 1.0)
    corner = []
    for length, wanted in ((size[1], out[1]), (size[0], out[0])):
        room = round(length * resize) - wanted
        # Padding is as even as it can be; where the size fits exactly nothing is sampled.
        corner.append(int(rng.integers(0, room + 1)) if room > 0 else -(-room // 2))
    return resize, (corner[0], corner[1])


def _sample_colour(rng: np.random.Generator, settings: Augmentation) -> ColourParams:
    if not _happens(settings.colour_probability, rng):
        return ColourParams()
    return ColourParams(
        hue=_uniform(settings.hue, rng, 0.0),
        contrast=_uniform(settings.contrast, rng, 1.0),
        brightness=_uniform(settings.brightness, rng, 0.0),
        gamma=_uniform(settings.gamma, rng, 1.0),
        matrix=_sample_matrix(rng, settings),
    )


def _sample_matrix(rng: np.random.Generator, settings: Augmentation) -> np.ndarray | None:
    """Everything that is linear in RGB as one 3 x 3 matrix, which costs less than one pass each."""
    saturation = _uniform(settings.saturation, rng, 1.0)
    gains = np.full(3, _uniform(settings.gain, rng, 1.0))
    if settings.channel_gain is not None:
        gains = gains * rng.uniform(*settings.channel_gain, size=3)
    order = np.arange(3)
    if settings.permute_channels > 0 and rng.random() < settings.permute_channels:
        order = rng.permutation(3)
    matrix = gains[:, None] * (saturation * np.eye(3) + (1 - saturation) * LUMA[None, :])
    matrix = matrix[order]
    return None if np.array_equal(matrix, np.eye(3)) else matrix


def _nearest(out: int, corner: int, resize: float, length: int) -> np.ndarray:
    """Input pixel of each output pixel; clipping replicates the edge."""
    places = np.floor((np.arange(out) + corner + 0.5) / resize).astype(np.intp)
    return np.clip(places, 0, length - 1)
