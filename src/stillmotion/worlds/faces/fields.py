"""Displacement fields over the grid: what the bases of the morphable model are made of."""

from __future__ import annotations

import numpy as np

from stillmotion.worlds.faces.grid import COLUMNS, EYES, Grid, S, T


def gaussian(s: float, t: float, width: float, height: float) -> Grid:
    """Return a gaussian on the face around (s, t)."""
    return np.exp(-(((S - s) / width) ** 2) - ((T - t) / height) ** 2)


def mirrored_gaussian(s: float, t: float, width: float, height: float) -> tuple[Grid, Grid]:
    """Return a gaussian on both sides of the face, and the same with the sign of its side (left: -1)."""
    left, right = gaussian(-s, t, width, height), gaussian(s, t, width, height)
    return left + right, right - left


def displacement(x: Grid | float = 0.0, y: Grid | float = 0.0, z: Grid | float = 0.0) -> np.ndarray:
    """Return a displacement per vertex, R x C x 3, from its three components."""
    return np.stack([np.broadcast_to(part, S.shape) for part in (x, y, z)], -1).astype(np.float64)


def lid_rise(upper: float, lower: float) -> Grid:
    """Return the rise (in y) of both eyes' lids: it decays away from the eye and is linear over the eyeball."""
    top = EYES.upper * np.exp(-((T / 0.11) ** 2))
    bottom = EYES.lower * np.exp(-((T / 0.10) ** 2))
    return EYES.profile * (upper * top + lower * bottom)


def merge_poles(displacements: np.ndarray) -> np.ndarray:
    """Return fields (... x R x C x 3) whose first and last row are one point each: the crown and under the chin."""
    merged = displacements.copy()
    for row in (0, -1):
        merged[..., row, :, :] = displacements[..., row, COLUMNS // 2, :][..., None, :]
    return merged
