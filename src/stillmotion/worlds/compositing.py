"""Compositing of sprites on a supersampled canvas, and what a camera makes of the picture."""

from __future__ import annotations

import cv2
import numpy as np


def supersampling(size: int) -> int:
    """Return the samples per pixel and axis for pictures of `size` pixels a side."""
    return 3 if size <= 96 else 2


def sprite_windows(image: np.ndarray, transforms: np.ndarray, side: int) -> np.ndarray:
    """Return T x 4 (x0, y0, x1, y1): the part of a `side` x `side` canvas that a sprite (H x W x C) covers.

    The transforms (T x 2 x 3) map the sprite's pixels to the canvas's.
    """
    h, w = image.shape[:2]
    corners = transforms[:, :, :2] @ np.array([[0, w - 1, 0, w - 1], [0, 0, h - 1, h - 1]], float)
    corners = corners + transforms[..., 2:]
    low, high = np.floor(corners.min(2)), np.ceil(corners.max(2)) + 1
    return np.clip(np.concatenate([low, high], 1), 0, side).astype(int)


def coarse_windows(windows: np.ndarray, factor: int, size: int) -> np.ndarray:
    """Return windows (T x 4) of a canvas in pixels of a picture of that size, `factor` times as coarse."""
    return np.concatenate([windows[:, :2] // factor, np.minimum(-(-windows[:, 2:] // factor), size)], 1)


def warp_to_window(
    image: np.ndarray, transform: np.ndarray, window: np.ndarray | tuple[int, ...]
) -> tuple[np.ndarray, tuple[slice, slice]] | None:
    """Return an image warped into a window (x0, y0, x1, y1) and the window's slices, or None if it is empty."""
    x0, y0, x1, y1 = (int(v) for v in window)
    if x1 <= x0 or y1 <= y0:
        return None
    local = transform - np.array([[0, 0, x0], [0, 0, y0]])
    return cv2.warpAffine(image, local, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR), np.s_[y0:y1, x0:x1]


def attenuate(picture: np.ndarray, alpha: np.ndarray) -> None:
    """Multiply a picture (H x W x C) in place by 1 - alpha (H x W)."""
    # Merged to equal channels: broadcasting over the last axis takes three times as long.
    picture *= cv2.merge([1 - alpha] * picture.shape[2])


def draw_over(
    canvas: np.ndarray, image: np.ndarray, transform: np.ndarray, window: np.ndarray | tuple[int, ...]
) -> None:
    """Composite a sprite over the canvas (both premultiplied float32 RGBA), in place, inside a window."""
    warped = warp_to_window(image, transform, window)
    if warped is not None:
        sprite, region = warped
        attenuate(canvas[region], sprite[..., 3])
        canvas[region] += sprite


def over(foreground: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Return a premultiplied RGBA picture composited over an RGB one, H x W x 3."""
    picture = background.copy()
    attenuate(picture, foreground[..., 3])
    picture += foreground[..., :3]
    return picture


def blur(picture: np.ndarray, softness: float) -> np.ndarray:
    """Return the picture behind a soft lens; `softness` is the standard deviation in picture heights."""
    sigma = softness * picture.shape[0]
    return cv2.GaussianBlur(picture, (0, 0), sigma) if sigma > 0.1 else picture


def quantise(picture: np.ndarray) -> np.ndarray:
    """Return uint8 from values in [0, 1]."""
    return np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)


def expose(
    picture: np.ndarray, softness: float, noise: float, rng: np.random.Generator, gain: np.ndarray | None = None
) -> np.ndarray:
    """Return the frame (uint8) that a camera records of a picture (H x W x 3, float32 in [0, 1]).

    Softness is the blur of the lens, in picture heights, and noise the sensor's, both standard deviations; `gain` (3)
    is a factor on the channels between them.
    """
    picture = blur(picture, softness)
    if gain is not None:
        picture = picture * gain
    if noise > 0:
        picture = picture + np.float32(noise) * rng.standard_normal(picture.shape, dtype=np.float32)
    return quantise(picture)


def mask_box(mask: np.ndarray) -> np.ndarray:
    """Return x0, y0, x1, y1 (float32): the outermost pixel centres of a mask (H x W); NaN if it is empty."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    if len(columns) == 0:
        return np.full(4, np.nan, np.float32)
    return np.array([columns[0], rows[0], columns[-1], rows[-1]], np.float32)
