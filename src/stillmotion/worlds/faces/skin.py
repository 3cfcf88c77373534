"""The face's texture: painted once per person over the mesh's grid, so that it moves with the skin."""

from __future__ import annotations

import cv2
import numpy as np

from stillmotion.worlds.faces.looks import Looks
from stillmotion.worlds.faces.mesh import (
    AZIMUTH,
    COLUMNS,
    EYE_END,
    EYE_HALF,
    EYE_ROW,
    EYE_X,
    MOUTH_END,
    MOUTH_HALF,
    MOUTH_ROW,
    MOUTH_T,
    ROWS,
    S,
    T,
    lens,
    step,
)
from stillmotion.worlds.textures import value_noise

# Which vertices the normal map shows: it ends below most hairlines, in front of the ears and under the chin.
FACE = ((np.abs(S) < 0.935) & (T < 0.56 - 0.1 * (S / 0.9) ** 2) & (T > -0.985)).astype(np.float32)


class Sheet:
    """A canvas over the grid, `fine` texels per cell: positions, and painting with soft masks."""

    def __init__(self, fine: int) -> None:
        self.fine = fine
        # Texel (i, j) lies at row i / fine, column j / fine of the grid.
        column, row = np.meshgrid(
            np.arange((COLUMNS - 1) * fine + 1, dtype=np.float32) / fine,
            np.arange((ROWS - 1) * fine + 1, dtype=np.float32) / fine,
        )
        self.row, self.column = row, column
        self.s = look_up(S.astype(np.float32), column, row)
        self.t = look_up(T.astype(np.float32), column, row)
        self.azimuth = look_up(AZIMUTH.astype(np.float32), column, row)
        self.colour = np.zeros((*row.shape, 3), np.float32)

    def lay(self, colour: tuple[float, float, float] | np.ndarray, mask: np.ndarray) -> None:
        """Mix a colour in where the mask (0 to 1) says so."""
        share = np.clip(mask, 0, 1).astype(np.float32)[..., None]
        self.colour += share * (np.asarray(colour, np.float32) - self.colour)

    def darken(self, mask: np.ndarray) -> None:
        """Take away the mask's share of the light, red the least, as in the creases of skin."""
        self.colour *= 1 - np.clip(mask, 0, 1).astype(np.float32)[..., None] * np.array([0.8, 1.0, 1.0], np.float32)


def look_up(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return an image's values (linear between its pixels) at places x, y of any shape; float32."""
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


def _gauss(sheet: Sheet, s: float, t: float, width: float, height: float) -> np.ndarray:
    return np.exp(-(((np.abs(sheet.s) - s) / width) ** 2) - ((sheet.t - t) / height) ** 2)


def paint_skin(looks: Looks, fine: int) -> np.ndarray:
    """Return the texture: RGB in [0, 1], `fine` texels per cell of the grid in each direction.

    Args:
        looks: the person.
        fine: texels per cell of the grid.
    """
    sheet = Sheet(fine)
    s, t = sheet.s, sheet.t
    sheet.colour[:] = looks.skin
    mottled = value_noise(looks.seed, s * 9 + 20, t * 9 + 20, 3)
    sheet.colour *= 1 + 0.025 * mottled[..., None]
    _paint_flush(sheet, looks)
    _paint_hollows(sheet)
    _paint_beard(sheet, looks)
    _paint_lips(sheet, looks)
    _paint_eyes(sheet, looks)
    _paint_brows(sheet, looks)
    return np.clip(sheet.colour, 0, 1)


def _paint_flush(sheet: Sheet, looks: Looks) -> None:
    red = np.array(looks.skin) * np.array([1.0, 0.66, 0.62]) + np.array([0.05, 0.0, 0.0])
    flush = _gauss(sheet, 0.42, -0.26, 0.17, 0.13) + 0.5 * _gauss(sheet, 0, -0.36, 0.12, 0.08)
    flush = flush + 0.5 * _gauss(sheet, 1.13, -0.12, 0.1, 0.2)
    sheet.lay(red, 0.55 * looks.blush * flush)
    if looks.freckles > 0:
        spots = value_noise(looks.seed + 1, sheet.s * 75 + 20, sheet.t * 75 + 20)
        area = _gauss(sheet, 0.27, -0.22, 0.3, 0.14)
        sheet.lay(np.array(looks.skin) * [0.68, 0.52, 0.45], 0.75 * looks.freckles * area * step(spots, 0.35, 0.6))


def _paint_hollows(sheet: Sheet) -> None:
    """Paint the light that never reaches the face's hollows."""
    s, t = sheet.s, sheet.t
    sheet.darken(0.16 * _gauss(sheet, 0.2, 0.03, 0.09, 0.1) + 0.10 * _gauss(sheet, EYE_X, 0.09, 0.16, 0.045))
    sheet.darken(0.07 * _gauss(sheet, EYE_X, -0.11, 0.13, 0.03))
    sheet.darken(0.75 * step(_gauss(sheet, 0.062, -0.432, 0.038, 0.022), 0.3, 0.7))  # nostrils
    sheet.darken(0.20 * _gauss(sheet, 0.155, -0.39, 0.022, 0.055))  # beside the wings
    sheet.darken(0.14 * _gauss(sheet, 0, -0.462, 0.14, 0.02))
    fold = np.abs(np.abs(s) - (0.17 + 0.10 * step(t, -0.42, -0.6)))
    sheet.darken(0.11 * np.exp(-((fold / 0.025) ** 2)) * step(t, -0.62, -0.5) * step(t, -0.38, -0.45))
    sheet.darken(0.13 * np.exp(-((s / 0.13) ** 2) - ((t - MOUTH_T + 0.125) / 0.03) ** 2))
    sheet.darken(0.16 * step(np.abs(s), 0.96, 1.06) * step(t, 0.2, 0.0) * step(np.abs(s), 1.12, 1.06))


def _paint_lips(sheet: Sheet, looks: Looks) -> None:
    s, t = sheet.s, sheet.t
    across = lens(s / (MOUTH_HALF + 0.012), 0.75)
    bow = 1 - 0.22 * np.exp(-((s / 0.045) ** 2))
    above = (t - MOUTH_T) / np.maximum(0.078 * across * bow, 1e-3)
    below = (MOUTH_T - t) / np.maximum(0.092 * across, 1e-3)
    soft = 0.12
    inside = np.where(sheet.row <= MOUTH_ROW, step(above, 1 + soft, 1 - soft), step(below, 1 + soft, 1 - soft))
    inside = inside * (across > 0.02)
    sheet.lay(looks.lips, 0.85 * inside)
    sheet.darken(0.12 * inside * (sheet.row <= MOUTH_ROW))
    # The line between the lips is what the eye reads as "the mouth" in a small picture.
    edge = np.where(sheet.row <= MOUTH_ROW, t - MOUTH_T, MOUTH_T - t)
    line = np.exp(-((edge / 0.016) ** 2)) * step(np.abs(s), MOUTH_HALF + 0.03, MOUTH_HALF - 0.02)
    sheet.darken(0.62 * line)
    mouth = (sheet.row > MOUTH_ROW) & (sheet.row < MOUTH_END)
    sheet.lay((0.16, 0.04, 0.04), mouth.astype(np.float32))


def _paint_eyes(sheet: Sheet, looks: Looks) -> None:
    s, t = sheet.s, sheet.t
    off = (np.abs(s) - EYE_X) / EYE_HALF
    near = step(np.abs(off), 1.16, 0.98)
    upper = np.where(sheet.row <= EYE_ROW, np.exp(-((t / 0.017) ** 2)), 0)
    lower = np.where(sheet.row >= EYE_END, np.exp(-((t / 0.010) ** 2)), 0)
    crease = np.exp(-(((t - 0.052 * (1 - 0.5 * off**2)) / 0.009) ** 2)) * (sheet.row <= EYE_ROW)
    dark = np.array([0.10, 0.07, 0.06])
    sheet.lay(dark, near * (1.0 * looks.lashes * upper + 0.35 * looks.lashes * lower))
    sheet.darken(0.3 * crease * step(np.abs(off), 1.0, 0.7))
    ball = (sheet.row > EYE_ROW) & (sheet.row < EYE_END)
    sheet.lay((0.93, 0.92, 0.90), ball.astype(np.float32))


def _paint_brows(sheet: Sheet, looks: Looks) -> None:
    along = (np.abs(sheet.s) - 0.13) / 0.37  # 0 at the inner end, 1 at the outer one
    middle = 0.185 + looks.brow_arch * (1 - ((along - 0.6) / 0.6) ** 2) - 0.01 * along
    half = looks.brow_width * (1.05 - 0.6 * np.clip(along, 0, 1) ** 2)
    hairs = 1 + 0.22 * value_noise(looks.seed + 2, sheet.s * 55 + 20, sheet.t * 22 + 20)
    shape = step(np.abs(sheet.t - middle) / half, 1.25, 0.6) * step(along, -0.06, 0.06) * step(along, 1.05, 0.9)
    sheet.lay(looks.brows, 0.9 * shape * hairs)


def _paint_beard(sheet: Sheet, looks: Looks) -> None:
    if looks.beard <= 0:
        return
    s, t = np.abs(sheet.s), sheet.t
    line = np.interp(s, [0, 0.2, 0.3, 0.45, 0.7, 0.9, 1.02], [-0.66, -0.64, -0.56, -0.55, -0.38, -0.1, 0.1])
    area = step(t, line + 0.03, line - 0.04) * step(s, 1.1, 1.0)
    if looks.moustache:
        over = step(t, -0.475, -0.50) * step(s, 0.3, 0.24) * step(t, -0.68, -0.6)
        area = np.maximum(area, over)
    hairs = 0.85 + 0.3 * value_noise(looks.seed + 3, sheet.s * 60 + 20, sheet.t * 30 + 20)
    colour = 0.8 * np.array(looks.hair) + 0.2 * np.array(looks.skin) * 0.5
    sheet.lay(colour, area * hairs * (0.25 + 0.65 * looks.beard))
