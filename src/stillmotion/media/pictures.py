"""Still pictures in and out, and the few changes to pixels that everything else needs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stillmotion.media.files import check_target, file_type, plain_file, sync, temporary_sibling, write_errors
from stillmotion.media.limits import Limits, MediaError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
_ORIENTATION_TAG = 0x0112
# EXIF says how the camera was held; these turn the picture upright again.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# JPEG without chroma subsampling; WebP without loss, as PNG.
_SAVE_OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"lossless": True}),
}


def read_picture(path: str | Path, *, limits: Limits | None = None) -> np.ndarray:
    """Read a PNG, JPEG, WebP or GIF picture (of an animation, the first frame).

    The EXIF orientation is applied, transparency is laid on white, 16-bit values become 8-bit; grey, palette
    and CMYK become RGB. Colour profiles are not applied.

    Args:
        path: a plain file; its first bytes, not its ending, say what it is.
        limits: the size that is allowed, checked before decoding.

    Returns:
        `uint8`, H x W x 3, RGB.

    Raises:
        MediaError: the file is missing, damaged, too large or no such picture.
    """
    limits = limits or Limits()
    file = plain_file(path)
    with open_image(file, limits) as image:
        orientation = _orientation(image)
        try:
            pixels = image_to_rgb(image)
        except Exception as error:
            # Damaged data surfaces in Pillow's decoders as a dozen kinds of exception.
            raise MediaError(f"The picture {str(path)!r} is damaged; export it again.") from error
    if orientation in _UPRIGHT:
        pixels = np.asarray(Image.fromarray(pixels).transpose(_UPRIGHT[orientation]))
    return np.array(pixels, order="C")


def open_image(path: Path, limits: Limits) -> Image.Image:
    """Open a picture file with Pillow and check its size from the header; nothing is decoded yet.

    Raises:
        MediaError: it is no PNG, JPEG, WebP or GIF, or it is too large.
    """
    name = str(path)
    if file_type(path) not in ("png", "jpeg", "webp", "gif"):
        raise MediaError(f"{name!r} is not a PNG, JPEG, WebP or GIF picture; convert it to one of these.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `limits` decides, not Pillow.
            image = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise MediaError(
            f"The picture {name!r} has more than the {limits.max_pixels / 1e6:g} million pixels allowed; "
            "scale it down first."
        ) from error
    except Exception as error:
        raise MediaError(f"The picture {name!r} is damaged; export it again.") from error
    try:
        limits.check_picture(name, (image.height, image.width))
    except MediaError:
        image.close()
        raise
    return image


def image_to_rgb(image: Image.Image) -> np.ndarray:
    """Decode a Pillow image of any mode to `uint8` H x W x 3; transparency is laid on white."""
    if image.mode.startswith("I"):
        # Pillow's own conversion cuts 16-bit grey off at 255 instead of scaling it.
        grey = np.asarray(image).astype(np.float64)
        grey8 = np.rint(np.clip(grey, 0, 65535) / 257).astype(np.uint8)
        return np.repeat(grey8[:, :, None], 3, axis=2)
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        return on_white(np.asarray(image.convert("RGBA")))
    return np.asarray(image.convert("RGB"))


def on_white(rgba: np.ndarray) -> np.ndarray:
    """Lay `uint8` H x W x 4 pixels (straight alpha) on white; returns `uint8` H x W x 3."""
    alpha = rgba[..., 3:].astype(np.uint16)
    # 255 * 255 + 127 still fits 16 bits; adding 127 makes the division round to nearest.
    return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:
        return 1  # A broken EXIF block says nothing about the pixels, which are shown as they lie.


def write_picture(path: str | Path, array: np.ndarray, *, overwrite: bool = False) -> None:
    """Write `uint8` H x W x 3 as PNG or WebP (without loss) or JPEG (quality 95), by the ending of `path`.

    The file appears complete or not at all, and an old one stays as it was until then.

    Raises:
        MediaError: unknown ending, no such folder, file exists and `overwrite` is off, or a full disk.
        TypeError: `array` is no `uint8` H x W x 3 array.
    """
    target = Path(path)
    check_pixels(array)
    if target.suffix.lower() not in _SAVE_OPTIONS:
        raise MediaError(f"The name {str(path)!r} must end in .png, .jpg or .webp.")
    check_target(target, overwrite)
    kind, options = _SAVE_OPTIONS[target.suffix.lower()]
    temporary = temporary_sibling(target)
    try:
        with write_errors(target):
            Image.fromarray(np.ascontiguousarray(array)).save(temporary, format=kind, **options)
            sync(temporary)
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def check_pixels(array: np.ndarray) -> None:
    """Raise `TypeError` unless `array` is one `uint8` H x W x 3 picture with at least one pixel."""
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise TypeError(f"A picture must be uint8, H x W x 3, not {array.dtype} {array.shape}.")


def resize(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scale one picture or a stack of them, antialiased (bicubic, its support widened when reducing).

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
        scaled = np.empty((len(pixels), height, width, 3), np.uint8)
        for frame, out in zip(pixels, scaled, strict=True):
            out[:] = resize(frame, size)
        return scaled
    check_pixels(pixels)
    if pixels.shape[:2] == (height, width):
        return pixels.copy()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.array(image.resize((width, height), Image.Resampling.BICUBIC))


def fit_square(size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the box (x0, y0, x1, y1), ends exclusive, of the centred largest square in (height, width)."""
    height, width = size
    side = min(height, width)
    x0, y0 = (width - side) // 2, (height - side) // 2
    return x0, y0, x0 + side, y0 + side


def pad_square(picture: np.ndarray) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """Pad the shorter side with the border's pixels, evenly; the box says where the picture lies (x0, y0, x1, y1)."""
    height, width = picture.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    padded = np.pad(picture, ((top, side - height - top), (left, side - width - left), (0, 0)), mode="edge")
    return padded, (left, top, left + width, top + height)


def crop(pixels: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """Cut the box (x0, y0, x1, y1), ends exclusive, out of ... x H x W x 3 pixels; returns a view."""
    x0, y0, x1, y1 = box
    height, width = pixels.shape[-3:-1]
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ValueError(f"The box {box} does not lie in a picture of height {height} and width {width}.")
    return pixels[..., y0:y1, x0:x1, :]


def to_uint8(values: np.ndarray) -> np.ndarray:
    """Turn floats in [0, 1] into `uint8`: clipped, times 255, rounded to nearest (halves to even).

    Raises:
        ValueError: a value is not a number; a NaN would silently become an arbitrary grey.
    """
    values = np.asarray(values)
    if np.isnan(values).any():
        raise ValueError("Pixels must be numbers; these hold NaN.")
    return np.rint(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)


def to_float(pixels: np.ndarray) -> np.ndarray:
    """Turn `uint8` ... x H x W x 3 into what networks take: `float32` ... x 3 x H x W in [0, 1].

    A new array, whose channels stay last in memory: convolutions on a CPU are faster so.
    """
    return np.moveaxis(np.asarray(pixels, dtype=np.float32) / np.float32(255), -1, -3)
