"""Labels: which part is seen at each pixel. With the parts' own affine maps they give the exact flow."""

from __future__ import annotations

import cv2
import numpy as np


def to_pixels(transforms: np.ndarray, factor: int) -> np.ndarray:
    """Return maps (T x 2 x 3) into pixels of the picture from maps into a canvas `factor` times as fine."""
    moved = transforms / factor
    moved[..., 2] += 0.5 / factor - 0.5
    return moved


def coverage(image: np.ndarray) -> np.ndarray:
    """Return a sprite's alpha (H x W) averaged over about a pixel of the picture, to be sampled at its centre."""
    return cv2.blur(np.ascontiguousarray(image[..., 3]), (3, 3), borderType=cv2.BORDER_CONSTANT)


def label(
    labels: np.ndarray, weights: np.ndarray, number: int, alpha: np.ndarray, transform: np.ndarray, window: np.ndarray
) -> None:
    """Write a part's number wherever it now holds the largest share of a pixel; parts come from back to front.

    Args:
        labels: uint8, H x W, changed in place.
        weights: float32, H x W, the share of the pixel that its labelled part holds; changed in place.
        number: of the part, 1 and up.
        alpha: float32, the sprite's `coverage`.
        transform: 2 x 3, from the sprite's pixels to the picture's.
        window: (x0, y0, x1, y1), the part of the picture that the sprite can touch.
    """
    x0, y0, x1, y1 = (int(v) for v in window)
    if x1 <= x0 or y1 <= y0:
        return
    local = transform - np.array([[0, 0, x0], [0, 0, y0]])
    share = cv2.warpAffine(alpha, local, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)
    seen, held = labels[y0:y1, x0:x1], weights[y0:y1, x0:x1]
    # What lies in front takes from all that is behind it alike, so the leader behind stays the leader behind.
    held *= 1 - share
    leads = share > held
    seen[leads] = number
    np.maximum(held, share, out=held)


def settle(labels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the labels with 0 outside the mask; a pixel of the mask that no part holds takes a neighbour's label."""
    grown = cv2.dilate(labels, np.ones((3, 3), np.uint8))
    return np.where(mask > 0, np.where(labels == 0, grown, labels), 0).astype(np.uint8)
