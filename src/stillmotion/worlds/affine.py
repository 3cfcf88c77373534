"""Batches of affine maps of the plane, ... x 2 x 3."""

from __future__ import annotations

import numpy as np


def rotations(angles: np.ndarray | float) -> np.ndarray:
    """Return rotation matrices (... x 2 x 2) for angles (..., radians), positive from x towards y."""
    cos, sin = np.cos(angles), np.sin(angles)
    return np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)


def affine(linear: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return maps (... x 2 x 3) from their linear parts (... x 2 x 2) and shifts (... x 2)."""
    return np.concatenate([linear, shift[..., None]], -1)


def compose(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Return the maps (... x 2 x 3) that apply `inner`, then `outer`."""
    result = outer[..., :2] @ inner
    result[..., 2] += outer[..., 2]
    return result
