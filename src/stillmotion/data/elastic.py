"""Elastic deformation: one smooth random field moves the pixels and the points of all frames of a sample alike.

It changes the lengths and widths of limbs, so a data set of few people shows more body shapes.
"""

from __future__ import annotations

import cv2
import numpy as np

KNOTS = 5  # control points of the field along each side: a limb of a body that fills the picture spans a few of them
# Fixed-point iterations that invert the field; where its slope is far below 1 each one adds about a digit.
ITERATIONS = 12
_MAX_ERROR = 0.01  # in pixels: points off by more take further iterations


def sample_field(size: tuple[int, int], std: float, rng: np.random.Generator) -> np.ndarray:
    """Sample a field: normal offsets at `KNOTS` x `KNOTS` control points, bicubic between them.

    Args:
        size: (height, width) of the frames.
        std: standard deviation at the control points, as a share of each side.
        rng: the source of randomness.

    Returns:
        `float32`, H x W x 2, pixels: the offset (x, y) from each output pixel to where it is sampled.
    """
    knots = rng.normal(0, std, (KNOTS, KNOTS, 2)) * [size[1], size[0]]
    return cv2.resize(knots.astype(np.float32), (size[1], size[0]), interpolation=cv2.INTER_CUBIC)


def deform(frames: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Sample every pixel where `field` points: bilinear, borders replicated; T x H x W x 3, `float32`."""
    height, width = field.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    x, y = x + field[..., 0], y + field[..., 1]
    deformed = np.empty_like(frames)
    for frame, target in zip(frames, deformed, strict=True):
        cv2.remap(frame, x, y, cv2.INTER_LINEAR, dst=target, borderMode=cv2.BORDER_REPLICATE)
    return deformed


def deform_points(points: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Move points (N x ... x 2, pixels) as `deform` moves the pixels: through the inverse of the field.

    A strong field may fold the picture; of the places where a point is then seen one is returned.
    """
    edge = np.array([field.shape[1] - 1, field.shape[0] - 1], np.float32)
    # Rows of points: OpenCV takes no more than 32766 rows or columns.
    flat = points.reshape(-1, points.shape[-2], 2).astype(np.float32)

    def step(moved: np.ndarray) -> np.ndarray:
        at = np.clip(moved, 0, edge)  # outside the picture the field continues with its value at the border
        return flat - cv2.remap(field, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    moved = flat
    for _ in range(ITERATIONS):
        moved = step(moved)
    # Where the slope is near 1 or above, whole steps oscillate and half steps converge.
    wrong = np.abs(step(moved) - moved).max(-1, keepdims=True) > _MAX_ERROR
    for _ in range(ITERATIONS if wrong.any() else 0):
        moved = np.where(wrong, (moved + step(moved)) / 2, moved)
    return moved.reshape(points.shape)
