"""Texture maps over the head's grid, so that what is painted moves with the vertices."""

from __future__ import annotations

import cv2
import numpy as np

from stillmotion.worlds.faces.grid import AZIMUTH, COLUMNS, ROWS, S, T


class TextureMap:
    """A picture over the grid, `fine` texels per cell: texel (i, j) is at row i / fine, column j / fine.

    Attributes:
        fine: texels per cell of the grid in each direction.
        row: H x W, row of the grid at each texel; `column`, `s`, `t` and `azimuth` likewise.
        colour: float32, H x W x 3.
    """

    def __init__(self, fine: int) -> None:
        self.fine = fine
        self.column, self.row = np.meshgrid(
            np.arange((COLUMNS - 1) * fine + 1, dtype=np.float32) / fine,
            np.arange((ROWS - 1) * fine + 1, dtype=np.float32) / fine,
        )
        self.s, self.t, self.azimuth = (
            interpolate(grid.astype(np.float32), self.column, self.row) for grid in (S, T, AZIMUTH)
        )
        self.colour = np.zeros((*self.row.shape, 3), np.float32)

    def mix_in(self, colour: tuple[float, float, float] | np.ndarray, mask: np.ndarray) -> None:
        """Blend a colour in by a mask (0 to 1)."""
        share = np.clip(mask, 0, 1).astype(np.float32)[..., None]
        self.colour += share * (np.asarray(colour, np.float32) - self.colour)

    def darken(self, mask: np.ndarray) -> None:
        """Remove the mask's share of the light, red the least, as in the creases of skin."""
        self.colour *= 1 - np.clip(mask, 0, 1).astype(np.float32)[..., None] * np.array([0.8, 1.0, 1.0], np.float32)

    def mirrored_gaussian(self, s: float, t: float, width: float, height: float) -> np.ndarray:
        """Return a gaussian on both sides of the face (one in the middle for s = 0)."""
        return np.exp(-(((np.abs(self.s) - s) / width) ** 2) - ((self.t - t) / height) ** 2)


def interpolate(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return an image's values, float32, bilinear, at positions x, y of any shape."""
    shape, count = x.shape, x.size
    if count == 0:
        return np.zeros((*shape, *image.shape[2:]), np.float32)
    if x.ndim == 1:
        # OpenCV refuses rows of more than 32767 pixels.
        padded = np.zeros((2, -(-count // 256) * 256), np.float32)
        padded[0, :count], padded[1, :count] = x, y
        x, y = padded.reshape(2, -1, 256)
    found = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return found.reshape(-1, *image.shape[2:])[:count].reshape(*shape, *image.shape[2:])
