"""Pictures in and out, operations on their pixels, and what all of `media` needs: limits, file checks, errors."""

from __future__ import annotations

import io
import os
import stat
import warnings
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageCms, ImageMode, features

from stillmotion.errors import StillmotionError
from stillmotion.media.containers import HEAD_BYTES, FileType, type_of_head
from stillmotion.outputs import check_file, put_in_place, remove, temporary_sibling, writing

if TYPE_CHECKING:
    from torch import Tensor

MIN_FPS, MAX_FPS = 0.01, 1000.0
# Types of pictures and Pillow's names for them; `heic` is read where the package pillow-heif is installed.
_PICTURE_FORMATS: dict[FileType, str] = {
    "png": "PNG", "jpeg": "JPEG", "webp": "WEBP", "avif": "AVIF", "heic": "HEIF",
    "gif": "GIF", "bmp": "BMP", "tiff": "TIFF",
}  # fmt: skip
PICTURE_TYPES = tuple(_PICTURE_FORMATS)
_ORIENTATION_TAG = 0x0112
_BAND_PIXELS = 2**20
# EXIF orientation to the transpose that turns the stored picture upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# JPEG without chroma subsampling; WebP is lossless, as PNG is.
_SAVE_OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"lossless": True}),
}


class MediaError(StillmotionError):
    """A picture or video cannot be read or written; the message is one sentence that says what to do."""


@dataclass(frozen=True)
class Limits:
    """Upper bounds for one media file, checked from headers before decoding and again while frames stream."""

    # height x width of one picture or strip. Pillow refuses more than 178 million by itself
    max_pixels: int = 50_000_000
    max_frame_pixels: int = 16_000_000  # height x width of one video frame
    max_frames: int = 100_000  # frames of one video
    max_seconds: float = 3600.0  # duration of one video
    max_bytes: int = 4 * 2**30  # memory that the frames returned by `read_video` may take

    def check_frame(self, name: str, size: tuple[int, int]) -> None:
        """Raise `MediaError` if video frames of `size` (height, width) are too large."""
        _check_size(f"A frame of {name!r}", size, self.max_frame_pixels)

    def check_length(self, name: str, frames: int, seconds: float) -> None:
        """Raise `MediaError` if a video has too many frames or lasts too long."""
        if frames > self.max_frames:
            raise MediaError(
                f"The video {name!r} has more than the {self.max_frames} frames allowed; cut it into shorter ones."
            )
        if seconds > self.max_seconds:
            raise MediaError(
                f"The video {name!r} lasts {seconds:.0f} seconds, more than the {self.max_seconds:g} "
                "allowed; cut it into shorter ones."
            )


def _check_size(what: str, size: tuple[int, int], most: int) -> None:
    height, width = size
    if height * width > most:
        raise MediaError(
            f"{what} is {width} x {height} pixels, more than the {most / 1e6:g} million allowed; scale it down first."
        )


def check_fps(fps: float) -> float:
    """Return `fps` as a float; raise `MediaError` unless it lies between 0.01 and 1000."""
    if not MIN_FPS <= fps <= MAX_FPS:  # also rejects NaN
        raise MediaError(f"The frame rate must be a number between {MIN_FPS:g} and {MAX_FPS:g}, not {fps}.")
    return float(fps)


def check_pixels(array: np.ndarray) -> None:
    """Raise `TypeError` unless `array` is one `uint8` H x W x 3 picture with at least one pixel."""
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise TypeError(f"A picture must be uint8, H x W x 3, not {array.dtype} {array.shape}.")


def plain_file(source: str | Path) -> Path:
    """Return `source` as a path; raise `MediaError` unless it is an existing, non-empty regular file.

    URLs, FFmpeg protocols such as `concat:`, devices, pipes and folders are rejected here.
    """
    path = Path(source)
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        if isinstance(error, PermissionError):
            raise MediaError(f"You may not read {str(source)!r}; check its permissions.") from error
        raise MediaError(f"There is no file {str(source)!r}; check the name.") from error
    if stat.S_ISDIR(status.st_mode):
        raise MediaError(f"{str(source)!r} is a folder; give the name of a file in it.")
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(f"{str(source)!r} is not a plain file; copy it to one first.")
    if status.st_size == 0:
        raise MediaError(f"The file {str(source)!r} is empty; get it again from where it came from.")
    return path


def file_type(path: Path) -> FileType | None:
    """Return the type of a file from its first bytes, whatever its ending; None if the type is not supported."""
    try:
        with path.open("rb") as file:
            return type_of_head(file.read(HEAD_BYTES))
    except OSError as error:
        raise MediaError(f"The file {str(path)!r} cannot be read ({error.strerror}).") from error


def read_picture(path: str | Path, *, limits: Limits | None = None) -> np.ndarray:
    """Read a PNG, JPEG, WebP, AVIF, GIF, BMP or TIFF picture (the first frame or page), or HEIC with pillow-heif.

    The EXIF orientation is applied, transparency is composited on white, 16-bit values are scaled to 8 bits; grey,
    palette, CMYK and Lab become RGB. Colours of a profile, such as Display P3, become those of sRGB.

    Args:
        path: a regular file; its type is read from its first bytes, not from its ending.
        limits: the largest size allowed, checked before decoding.

    Returns:
        `uint8`, H x W x 3, RGB; C-contiguous and writeable.

    Raises:
        MediaError: the file is missing, damaged, too large or no such picture.
    """
    with open_image(path, limits or Limits()) as image:
        return decode_image(image, str(path))


def open_image(source: str | Path, limits: Limits) -> Image.Image:
    """Open a picture file with Pillow and check its size from the header, without decoding it.

    Raises:
        MediaError: it is no regular file, no picture that can be read here, or it is too large.
    """
    path, name = plain_file(source), str(source)
    kind = file_type(path)
    if kind is not None and kind not in _PICTURE_FORMATS:
        raise MediaError(f"{name!r} is a video, not a picture; give a picture, such as one of its frames as png.")
    if kind is None:
        raise MediaError(f"{name!r} is not a PNG, JPEG, WebP, AVIF, GIF, BMP or TIFF picture; convert it to PNG.")
    _check_decoder(kind, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `limits` replaces Pillow's own check
            image = Image.open(path, formats=(_PICTURE_FORMATS[kind],))
    except Image.DecompressionBombError as error:
        raise MediaError(
            f"The picture {name!r} has more than the {limits.max_pixels / 1e6:g} million pixels allowed; "
            "scale it down first."
        ) from error
    except Exception as error:
        raise MediaError(f"The picture {name!r} is damaged; export it again.") from error
    try:
        _check_size(f"The picture {name!r}", (image.height, image.width), limits.max_pixels)
    except MediaError:
        image.close()
        raise
    return image


def _check_decoder(kind: FileType, name: str) -> None:
    """Raise `MediaError` if Pillow cannot read pictures of this kind as it is installed here."""
    if kind == "avif" and not features.check("avif"):
        raise MediaError(f"{name!r} is an AVIF picture: install pillow 11.3 or later, or convert it to PNG.")
    if kind == "heic" and "HEIF" not in Image.OPEN:
        try:
            import_module("pillow_heif").register_heif_opener()
        except ImportError:
            raise MediaError(
                f"{name!r} is a HEIC picture: install the package pillow-heif, or convert it to JPEG."
            ) from None


def decode_image(image: Image.Image, name: str) -> np.ndarray:
    """Decode an opened picture to upright `uint8` H x W x 3; raise `MediaError` if it is damaged."""
    if image.mode == "F":
        raise MediaError(f"The picture {name!r} holds floating-point numbers; convert it to 8 or 16 bits per colour.")
    try:
        pixels = image_to_rgb(image)
    except Exception as error:
        # Pillow's decoders raise a dozen kinds of exceptions for damaged data.
        raise MediaError(f"The picture {name!r} is damaged; export it again.") from error
    try:
        # Only now: Pillow turns a TIFF upright while it decodes it, and then drops the orientation.
        orientation = int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:
        orientation = 1  # a broken EXIF block does not affect the pixels
    if orientation in _UPRIGHT:
        pixels = np.array(Image.fromarray(pixels).transpose(_UPRIGHT[orientation]), order="C")
    return pixels


WHITE = (255, 255, 255)


def image_to_rgb(image: Image.Image, ground: tuple[int, int, int] = WHITE) -> np.ndarray:
    """Decode a Pillow image of any mode to `uint8` H x W x 3; transparency is composited on the ground.

    Band by band, so that beside the decoded picture and the result little memory is taken.
    """
    image.load()
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    rows, to_srgb = max(1, _BAND_PIXELS // width), _srgb_transform(image)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        band = image.crop((0, top, width, bottom))
        if to_srgb is None:
            pixels[top:bottom] = _band_to_rgb(band, ground)
            continue
        if to_srgb.input_mode != image.mode:
            rgb = _band_to_rgb(band, ground)
            band = Image.fromarray(rgb if to_srgb.input_mode == "RGB" else np.ascontiguousarray(rgb[..., 0]))
        pixels[top:bottom] = np.asarray(to_srgb.apply(band))
    return pixels


def _srgb_transform(image: Image.Image) -> ImageCms.ImageCmsTransform | None:
    """What turns the image's own colours, such as Display P3, into sRGB; None where nothing is to do.

    Its `input_mode` is RGB, L, CMYK or LAB.
    """
    stored = image.info.get("icc_profile")
    try:
        if image.mode == "LAB":
            return ImageCms.buildTransform(
                ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
            )
        if not isinstance(stored, bytes):
            return None
        profile = ImageCms.ImageCmsProfile(io.BytesIO(stored))
        mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(profile.profile.xcolor_space.strip())
        colours = "CMYK" if image.mode == "CMYK" else "L" if ImageMode.getmode(image.mode).basemode == "L" else "RGB"
        # A profile of RGB also says how bright the greys of a grey picture are; others must fit the picture.
        if mode is None or (mode != colours and (mode, colours) != ("RGB", "L")):
            return None
        if "sRGB" in ImageCms.getProfileDescription(profile):
            return None
        return ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None  # a broken profile does not affect the pixels


def _band_to_rgb(image: Image.Image, ground: tuple[int, int, int]) -> np.ndarray:
    if image.mode.startswith("I"):
        # Pillow's own conversion clips 16-bit grey at 255 instead of scaling it.
        grey = np.rint(np.clip(np.asarray(image).astype(np.float64), 0, 65535) / 257).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        rgba = np.asarray(image.convert("RGBA"))
        alpha = rgba[..., 3:].astype(np.uint16)
        # 255 * 255 + 127 still fits 16 bits; adding 127 makes the division round to nearest.
        return ((rgba[..., :3] * alpha + np.array(ground, np.uint16) * (255 - alpha) + 127) // 255).astype(np.uint8)
    return np.asarray(image.convert("RGB"))


def write_picture(path: str | Path, array: np.ndarray, *, overwrite: bool = False) -> None:
    """Write `uint8` H x W x 3 as PNG or WebP (lossless) or JPEG (quality 95), chosen by the ending of `path`.

    The file is replaced atomically: `path` holds the complete new picture or what it held before.

    Raises:
        StillmotionError: unknown ending, no such folder, the file exists and `overwrite` is off, or the disk is full.
        TypeError: `array` is no `uint8` H x W x 3 array.
    """
    target = Path(path)
    check_pixels(array)
    if target.suffix.lower() not in _SAVE_OPTIONS:
        raise MediaError(f"The name {str(path)!r} must end in .png, .jpg or .webp.")
    check_file(target, overwrite)
    kind, options = _SAVE_OPTIONS[target.suffix.lower()]
    final = Path(os.path.realpath(target))
    temporary = temporary_sibling(final)
    try:
        with writing(target):
            Image.fromarray(np.ascontiguousarray(array)).save(temporary, format=kind, **options)
            put_in_place(temporary, final)
    finally:
        remove(temporary)


def resize(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize one picture or a stack of them with antialiasing (bicubic, its support widened when reducing).

    The outer edges of the pictures are aligned, not the centres of their corner pixels: x becomes
    (x + 0.5) * new / old - 0.5.

    Args:
        pixels: `uint8`, H x W x 3 or T x H x W x 3.
        size: the new (height, width).

    Returns:
        `uint8`, of the same number of dimensions; always a new array.
    """
    height, width = size
    if height < 1 or width < 1:
        raise ValueError(f"A size must be at least (1, 1), not {size}.")
    if pixels.ndim == 4:
        resized = np.empty((len(pixels), height, width, 3), np.uint8)
        for frame, out in zip(pixels, resized, strict=True):
            out[:] = resize(frame, size)
        return resized
    check_pixels(pixels)
    if pixels.shape[:2] == (height, width):
        return pixels.copy()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.array(image.resize((width, height), Image.Resampling.BICUBIC))


def fit_square(size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the box (x0, y0, x1, y1), ends exclusive, of the largest centred square in (height, width)."""
    height, width = size
    side = min(height, width)
    x0, y0 = (width - side) // 2, (height - side) // 2
    return x0, y0, x0 + side, y0 + side


def pad_square(picture: np.ndarray) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """Pad the shorter side evenly by edge replication; return the square and the picture's box (x0, y0, x1, y1)."""
    height, width = picture.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    padded = np.pad(picture, ((top, side - height - top), (left, side - width - left), (0, 0)), mode="edge")
    return padded, (left, top, left + width, top + height)


def crop(pixels: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """Return the view of ... x H x W x 3 pixels inside the box (x0, y0, x1, y1), ends exclusive."""
    x0, y0, x1, y1 = box
    height, width = pixels.shape[-3:-1]
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ValueError(f"The box {box} does not lie in a picture of height {height} and width {width}.")
    return pixels[..., y0:y1, x0:x1, :]


def to_uint8(values: np.ndarray) -> np.ndarray:
    """Convert floats in [0, 1] to `uint8`: clipped, times 255, rounded to nearest (halves to even).

    Raises:
        ValueError: a value is NaN, which would become an arbitrary grey.
    """
    values = np.asarray(values)
    if np.isnan(values).any():
        raise ValueError("Pixels must be numbers; these hold NaN.")
    return np.rint(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)


def to_float(pixels: np.ndarray) -> np.ndarray:
    """Convert `uint8` ... x H x W x 3 to `float32` ... x 3 x H x W in [0, 1].

    A new array whose channels stay last in memory, which makes convolutions on a CPU faster.
    """
    return np.moveaxis(np.asarray(pixels, dtype=np.float32) / np.float32(255), -1, -3)


def to_tensor(pictures: np.ndarray) -> Tensor:
    """Convert `uint8` N x H x W x 3 to a `float32` tensor N x 3 x H x W in [0, 1], in channels-last memory format."""
    import torch

    return torch.from_numpy(to_float(pictures))


def to_pictures(frames: Tensor) -> np.ndarray:
    """Convert a float tensor N x 3 x H x W in [0, 1], of any device, to `uint8` N x H x W x 3.

    Values outside [0, 1] are clipped; halves are rounded to even, as in `to_uint8`.
    """
    import torch

    channels = frames.detach().float().clamp(0, 1).mul_(255).round_().byte().unbind(1)
    return torch.stack(channels, dim=-1).cpu().numpy()
