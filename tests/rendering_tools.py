"""Made stills for the tests of rendering."""

import cv2
import numpy as np


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def disc(height: int, width: int, radius: float, x: float = 0.5, y: float = 0.5) -> np.ndarray:
    """Alpha of a disc; its radius is a share of the smaller side, its place one of each side."""
    rows, columns = np.mgrid[:height, :width]
    distance = np.hypot(rows - y * (height - 1), columns - x * (width - 1))
    return np.clip(radius * min(height, width) - distance + 0.5, 0, 1).astype(np.float32)


def textured_disc(true: np.ndarray, seed: int = 0) -> np.ndarray:
    """A still of a figure with an alpha, with texture of its own, before a background of another colour."""
    rng = np.random.default_rng(seed)
    grain = cv2.GaussianBlur(rng.normal(0, 1, (*true.shape, 2)).astype(np.float32), (0, 0), 2)
    figure = np.array([200, 120, 60]) + 160 * grain[..., :1]
    wall = np.array([60, 110, 160]) + 80 * grain[..., 1:]
    return np.rint(np.clip(true[..., None] * figure + (1 - true[..., None]) * wall, 0, 255)).astype(np.uint8)
