"""Augmentation of frames: drawn once per sample, then applied to all of its frames alike.

`draw` takes every random decision and returns it as a value; `apply` changes the frames and has no
randomness. So tracks can follow the pixels (`move_points`), and a test can ask for one exact change. The
order is that of Monkey-Net's fact sheet, section 6: flips, rotation, resize, crop, colour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType

import cv2
import numpy as np

from stillmotion.data import varying
from stillmotion.errors import StillmotionError

Range = tuple[float, float]

# Rec. 601 luma, the grey that saturation moves colours to and from.
_LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a sample; every (low, high) is a uniform range, None switches the change off.

    Attributes:
        time_flip: probability of playing backwards.
        horizontal_flip: probability of mirroring left and right.
        exclusive_flips: mirror only samples that were not reversed in time (Monkey-Net), so that 0.5 and 0.5
            mean 0.5 and 0.25 overall.
        affine_probability: probability of the next five, together.
        rotation: degrees, positive turns x towards y.
        scale: factor of both axes.
        aspect: one more factor of x, and its inverse for y, each to the square root.
        translate: fraction of the width for x and of the height for y, drawn apart.
        shear: degrees.
        resize: factor; nearest neighbour, then cropped or padded back (Monkey-Net).
        crop: (height, width) of the result: a random crop, after padding by edge replication where it is
            larger. None keeps the size of the input.
        colour_probability: probability of all of the following, together.
        hue: shift in turns.
        gain: factor of all channels.
        channel_gain: factor of each channel, drawn apart.
        contrast: factor of the distance from the mean grey of all frames.
        saturation: factor of the distance from grey.
        brightness: offset, where 1 is the full range.
        gamma: exponent.
        permute_channels: probability of a random order of the channels.
        bend: standard deviation of a smooth deformation, as a share of each side; 0 switches it off.
        dye: standard deviation of shifts of like colours (clothes), in [0, 1]; 0 switches it off.

    Raises:
        StillmotionError: a probability is outside [0, 1], a range is upside down, or a factor is not
            positive.
    """

    time_flip: float = 0.0
    horizontal_flip: float = 0.0
    exclusive_flips: bool = True
    affine_probability: float = 1.0
    rotation: Range | None = None
    scale: Range | None = None
    aspect: Range | None = None
    translate: Range | None = None
    shear: Range | None = None
    resize: Range | None = None
    crop: tuple[int, int] | None = None
    colour_probability: float = 1.0
    hue: Range | None = None
    gain: Range | None = None
    channel_gain: Range | None = None
    contrast: Range | None = None
    saturation: Range | None = None
    brightness: Range | None = None
    gamma: Range | None = None
    permute_channels: float = 0.0
    bend: float = 0.0
    dye: float = 0.0

    def __post_init__(self) -> None:
        probabilities = (
            "time_flip",
            "horizontal_flip",
            "affine_probability",
            "colour_probability",
            "permute_channels",
            "bend",
            "dye",
        )
        signed = ("rotation", "translate", "shear", "hue", "brightness")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in probabilities:
                if not 0 <= value <= 1:
                    raise StillmotionError(f"The augmentation {field.name} must be a probability, not {value}.")
            elif field.name not in ("exclusive_flips", "crop") and value is not None:
                low, high = value
                lowest_is_fine = field.name in signed or low > 0 or (field.name == "saturation" and low >= 0)
                if not (low <= high and lowest_is_fine):
                    raise StillmotionError(f"The augmentation {field.name} must be a range (low, high), not {value}.")


# For a few dozen clips: networks of a million weights learn those by heart otherwise.
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
# The same, and other bodies and clothes too: what is to be met later are people who are not in the clips.
_VARIED = replace(_STRONG, bend=0.02, dye=0.15)
# For a long training on a handful of people, which would learn their faces and walls by heart.
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
    bend=0.035,
    dye=0.25,
)

AUGMENTATIONS: Mapping[str, Augmentation] = MappingProxyType(
    {
        "none": Augmentation(),
        # The five of Monkey-Net's fact sheet, section 6. Its crops to the frame's own size are no-ops there.
        "taichi": Augmentation(time_flip=0.5, horizontal_flip=0.5),
        "nemo": Augmentation(time_flip=0.5, horizontal_flip=0.5),
        "bair": Augmentation(horizontal_flip=0.5),
        "moving-gif": Augmentation(time_flip=0.5, horizontal_flip=0.5, resize=(0.9, 1.1), hue=(-0.5, 0.5)),
        "actions": Augmentation(
            time_flip=0.5, horizontal_flip=0.5, rotation=(-10, 10), resize=(0.9, 1.1), hue=(-0.5, 0.5)
        ),
        # The poke paper's ranges. Borders are replicated and sampled bilinearly here, reflected and nearest
        # there.
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
        "strong": _STRONG,
        "varied": _VARIED,
        "bold": _BOLD,
    }
)


@dataclass(frozen=True, eq=False)
class Draw:
    """Every decision for one sample; the defaults change nothing.

    Attributes:
        size: (height, width) of the frames that it is for.
        out: (height, width) of the result.
        reverse: play backwards.
        mirror: flip left and right.
        affine: 2 x 3, where a pixel (x, y, 1) of the (mirrored) frame goes.
        resize: factor, nearest neighbour.
        corner: (x, y) of the result's first pixel in the resized frame; negative where it was padded.
        hue: turns.
        mixing: 3 x 3, applied to RGB columns: gains, saturation and the order of channels.
        contrast: factor around the mean grey, applied before `mixing`.
        brightness: offset, applied after `mixing`.
        gamma: exponent, applied last.
        bend: H x W x 2, from where each pixel of the result is taken; before all colours.
        dyes: shifts of like colours; before the other changes of colour.
    """

    size: tuple[int, int]
    out: tuple[int, int]
    reverse: bool = False
    mirror: bool = False
    affine: np.ndarray | None = None
    resize: float = 1.0
    corner: tuple[int, int] = (0, 0)
    hue: float = 0.0
    mixing: np.ndarray | None = None
    contrast: float = 1.0
    brightness: float = 0.0
    gamma: float = 1.0
    bend: np.ndarray | None = None
    dyes: tuple[varying.Dye, ...] = ()


def draw(size: tuple[int, int], rng: np.random.Generator, settings: Augmentation) -> Draw:
    """Take all random decisions for frames of `size` (height, width)."""
    size = (int(size[0]), int(size[1]))
    reverse = settings.time_flip > 0 and bool(rng.random() < settings.time_flip)
    may_mirror = settings.horizontal_flip > 0 and not (reverse and settings.exclusive_flips)
    mirror = may_mirror and bool(rng.random() < settings.horizontal_flip)
    affine = _draw_affine(size, rng, settings)
    out = settings.crop or size
    resize, corner = _draw_crop(size, out, rng, settings)
    hue, contrast, brightness, gamma, mixing = 0.0, 1.0, 0.0, 1.0, None
    if _happens(settings.colour_probability, rng):
        hue = _uniform(settings.hue, rng, 0.0)
        contrast = _uniform(settings.contrast, rng, 1.0)
        brightness = _uniform(settings.brightness, rng, 0.0)
        gamma = _uniform(settings.gamma, rng, 1.0)
        mixing = _draw_mixing(rng, settings)
    # Last, so that what has neither draws the same numbers as ever.
    bend = varying.draw_bend(out, settings.bend, rng) if settings.bend else None
    dyes = varying.draw_dyes(settings.dye, rng) if settings.dye else ()
    return Draw(
        size, out, reverse, mirror, affine, resize, corner, hue, mixing, contrast, brightness, gamma, bend, dyes
    )


def apply(frames: np.ndarray, drawn: Draw) -> np.ndarray:
    """Change frames as decided.

    Args:
        frames: T x H x W x 3, `uint8`, or float in [0, 1].
        drawn: from `draw`, for frames of this size.

    Returns:
        `float32`, T x out height x out width x 3, in [0, 1]; never a view of `frames`.
    """
    if frames.shape[1:3] != drawn.size:
        raise ValueError(f"drawn for frames of {drawn.size}, not {frames.shape[1:3]}")
    if drawn.reverse:
        frames = frames[::-1]
    if drawn.mirror:
        frames = frames[:, :, ::-1]
    scale = np.float32(1 / 255) if frames.dtype == np.uint8 else np.float32(1)
    made = np.multiply(frames, scale, dtype=np.float32, order="C")
    if drawn.affine is not None:
        made = warp_affine(made, drawn.affine)
    if drawn.resize != 1.0 or drawn.corner != (0, 0) or drawn.out != drawn.size:
        rows = _nearest(drawn.out[0], drawn.corner[1], drawn.resize, drawn.size[0])
        columns = _nearest(drawn.out[1], drawn.corner[0], drawn.resize, drawn.size[1])
        made = made[:, rows[:, None], columns[None, :]]
    if drawn.bend is not None:
        made = varying.bend(made, drawn.bend)
    if drawn.dyes:
        made = varying.dye(made, drawn.dyes)
    return _recolour(made, drawn)


def augment(frames: np.ndarray, rng: np.random.Generator, settings: Augmentation) -> np.ndarray:
    """Draw and apply in one go: `float32`, T x H x W x 3 in [0, 1], one draw for all frames."""
    return apply(frames, draw(frames.shape[1:3], rng, settings))


def move_points(points: np.ndarray, drawn: Draw) -> np.ndarray:
    """Move a track of points as `apply` moves the pixels, and reverse it if time was reversed.

    Args:
        points: T x ... x 2, (x, y) in pixels of the frames given to `apply`.
        drawn: the same decisions.

    Returns:
        `float32`, same shape, pixels of the result; points may lie outside it.
    """
    moved = np.asarray(points[::-1] if drawn.reverse else points, dtype=np.float64)
    if drawn.mirror:
        moved = moved * [-1.0, 1.0] + [drawn.size[1] - 1.0, 0.0]
    if drawn.affine is not None:
        moved = moved @ drawn.affine[:, :2].T + drawn.affine[:, 2]
    # Pixel centres are integers, so a resize keeps the picture's border at -1/2.
    moved = (moved + 0.5) * drawn.resize - 0.5 - np.asarray(drawn.corner)
    if drawn.bend is not None:
        moved = varying.bend_points(moved, drawn.bend)
    return moved.astype(np.float32)


def warp_affine(frames: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Move every pixel (x, y) to `matrix` (x, y, 1): one bilinear resample, borders replicated.

    Args:
        frames: T x H x W x 3, float32, contiguous.
        matrix: 2 x 3.
    """
    made = np.empty_like(frames)
    size = (frames.shape[2], frames.shape[1])
    for frame, target in zip(frames, made, strict=True):
        cv2.warpAffine(frame, matrix, size, dst=target, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return made


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


def _draw_affine(size: tuple[int, int], rng: np.random.Generator, settings: Augmentation) -> np.ndarray | None:
    kinds = (settings.rotation, settings.scale, settings.aspect, settings.translate, settings.shear)
    if all(kind is None for kind in kinds) or not _happens(settings.affine_probability, rng):
        return None
    scale = _uniform(settings.scale, rng, 1.0)
    stretch = _uniform(settings.aspect, rng, 1.0) ** 0.5
    return affine_matrix(
        size,
        rotation=_uniform(settings.rotation, rng, 0.0),
        scale=(scale * stretch, scale / stretch),
        shear=_uniform(settings.shear, rng, 0.0),
        shift=(
            _uniform(settings.translate, rng, 0.0) * size[1],
            _uniform(settings.translate, rng, 0.0) * size[0],
        ),
    )


def _draw_crop(
    size: tuple[int, int], out: tuple[int, int], rng: np.random.Generator, settings: Augmentation
) -> tuple[float, tuple[int, int]]:
    resize = _uniform(settings.resize, rng, 1.0)
    corner = []
    for length, wanted in ((size[1], out[1]), (size[0], out[0])):
        room = round(length * resize) - wanted
        # Padding is as even as it can be; with one exact fit there is nothing to draw.
        corner.append(int(rng.integers(0, room + 1)) if room > 0 else -(-room // 2))
    return resize, (corner[0], corner[1])


def _draw_mixing(rng: np.random.Generator, settings: Augmentation) -> np.ndarray | None:
    """Gather everything that is linear in RGB: one matrix costs less than one pass each."""
    saturation = _uniform(settings.saturation, rng, 1.0)
    gains = np.full(3, _uniform(settings.gain, rng, 1.0))
    if settings.channel_gain is not None:
        gains = gains * rng.uniform(*settings.channel_gain, size=3)
    order = np.arange(3)
    if settings.permute_channels > 0 and rng.random() < settings.permute_channels:
        order = rng.permutation(3)
    mixing = gains[:, None] * (saturation * np.eye(3) + (1 - saturation) * _LUMA[None, :])
    mixing = mixing[order]
    return None if np.array_equal(mixing, np.eye(3)) else mixing


def _nearest(out: int, corner: int, resize: float, length: int) -> np.ndarray:
    """Tell which input pixel each output pixel shows; clipping is edge replication."""
    places = np.floor((np.arange(out) + corner + 0.5) / resize).astype(np.intp)
    return np.clip(places, 0, length - 1)


def _recolour(frames: np.ndarray, drawn: Draw) -> np.ndarray:
    shape = frames.shape
    flat = frames.reshape(-1, shape[2], 3)  # one tall picture: one call for all frames
    if drawn.hue:
        flat = shift_hue(flat, drawn.hue)
    if drawn.mixing is not None or drawn.contrast != 1.0 or drawn.brightness:
        mixing = np.eye(3) if drawn.mixing is None else drawn.mixing
        # Around the mean of all frames, not of each: frames must not flicker against each other.
        grey = float(np.mean(flat, axis=(0, 1), dtype=np.float64) @ _LUMA) if drawn.contrast != 1.0 else 0.0
        offset = mixing.sum(1) * (1 - drawn.contrast) * grey + drawn.brightness
        flat = cv2.transform(flat, np.column_stack([mixing * drawn.contrast, offset]))
        np.clip(flat, 0.0, 1.0, out=flat)
    if drawn.gamma != 1.0:
        flat = flat ** np.float32(drawn.gamma)
    return flat.reshape(shape)


def shift_hue(picture: np.ndarray, turns: float) -> np.ndarray:
    """Shift the hue of a float32 H x W x 3 picture in [0, 1]; the largest channel and greys stay."""
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)  # float: hue in degrees, no 8-bit rounding
    hue = hsv[..., 0] + np.float32(turns * 360)
    hsv[..., 0] = hue - 360 * np.floor(hue / 360)
    return np.clip(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), 0.0, 1.0)
