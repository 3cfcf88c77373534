"""Easing curves from 0 to 1."""

from __future__ import annotations

import numpy as np


def smoothstep(x: np.ndarray | float, start: float, end: float) -> np.ndarray:
    """Return 0 at `start` and before, 1 at `end` and beyond (`end` may be below `start`), with zero slope at both."""
    t = np.clip((np.asarray(x, float) - start) / (end - start), 0, 1)
    return t * t * (3 - 2 * t)


def smootherstep(t: np.ndarray) -> np.ndarray:
    """Return the minimum-jerk curve at t in [0, 1]: speed and acceleration are zero at both ends."""
    return t**3 * (10 - 15 * t + 6 * t**2)
