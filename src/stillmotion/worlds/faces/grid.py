"""The head's mesh: one grid of vertices around the head, and the 68 landmarks among them.

Rows run from the crown down to the underside of the chin, columns from the picture's left to its right around the
head. Vertices correspond across identities and expressions: `S` and `T` are a vertex's place on the mean face.
Between the two rows of an eye's lids are three rows of eyeball, between the two rows of the lips' edges two rows of
mouth. Where lids and lips touch, these rows coincide.

Axes of the model: x to the picture's right, y up, z towards the viewer. The unit is half the height of the mean
head: the crown is at y = 1, the chin at about -1, the eyes at 0.
"""

from __future__ import annotations

import numpy as np

Grid = np.ndarray  # R x C, one number per vertex

EYE_X, EYE_HALF = 0.315, 0.165  # middle and half width of an eye, in S; its corners are on columns
MOUTH_T, MOUTH_HALF = -0.60, 0.24  # height of the mouth's line, in T, and its half width, in S
_PER_RADIAN = 0.7  # S per radian of azimuth: near the front, S is about x
_EYE_ROWS, _MOUTH_ROWS = 5, 4


def _rows() -> tuple[np.ndarray, int, int]:
    """Return T of every row (from top to bottom), and the first rows of the eyes' and of the mouth's slits."""
    crown = 1 - 0.38 * np.linspace(0, 1, 10)[:-1] ** 2
    above = [crown, np.linspace(0.62, 0.14, 15)[:-1], np.linspace(0.14, 0, 6)[:-1]]
    between = [np.linspace(0.0, -0.12, 6)[1:], np.linspace(-0.12, -0.5, 14)[1:], np.linspace(-0.5, MOUTH_T, 6)[1:-1]]
    below = [np.linspace(MOUTH_T, -0.72, 7)[1:], np.linspace(-0.72, -1.0, 11)[1:]]
    parts = [*above, np.zeros(_EYE_ROWS), *between, np.full(_MOUTH_ROWS, MOUTH_T), *below]
    eye = sum(len(part) for part in above)
    mouth = eye + _EYE_ROWS + sum(len(part) for part in between)
    return np.concatenate(parts), eye, mouth


def _columns() -> np.ndarray:
    """Return S of every column, from left to right: fine in front, with extra ones for the ears."""
    sides = [0.60, 0.65, 0.71, 0.78, 0.86, 0.94, 1.02, 1.07, 1.11, 1.15, 1.19, 1.24, 1.32, 1.44, 1.6]
    right = np.concatenate([np.arange(1, 20) * 0.03, sides])
    return np.concatenate([-right[::-1], [0.0], right])


ROW_T, _EYE_ROW, _MOUTH_ROW = _rows()
COLUMN_S = _columns()
ROWS, COLUMNS = len(ROW_T), len(COLUMN_S)
S, T = np.meshgrid(COLUMN_S, ROW_T)
AZIMUTH = S / _PER_RADIAN


def lens(x: np.ndarray, power: float = 0.8) -> np.ndarray:
    """Return the outline of a lid or lip: 1 in the middle, 0 at the corners x = -1 and 1 and beyond."""
    return np.maximum(1 - np.asarray(x, float) ** 2, 0) ** power


class Slit:
    """The rows of the grid that meet where two lids or two lips touch.

    Attributes:
        first: row of the upper lid's or lip's edge.
        last: row of the lower one's edge.
        upper: R x 1, how much each row belongs to the upper side; with `lower` it sums to 1.
        lower: R x 1.
        inside: R x 1, 1 in the rows of eyeball or mouth, strictly between the edges.
        profile: R x C, how far the edges move: 1 in the middle, 0 at the corners and beyond.
    """

    def __init__(self, first: int, count: int, profile: Grid) -> None:
        self.first, self.last, self.profile = first, first + count - 1, profile
        row = np.arange(ROWS)
        self.lower = np.clip((row - first) / (self.last - first), 0, 1)[:, None]
        self.upper = 1 - self.lower
        self.inside = self.between(row)[:, None].astype(float)

    def between(self, row: np.ndarray) -> np.ndarray:
        """Return which (fractional) rows of the grid are strictly between the edges."""
        return (row > self.first) & (row < self.last)


EYES = Slit(_EYE_ROW, _EYE_ROWS, lens((np.abs(S) - EYE_X) / EYE_HALF))
MOUTH = Slit(_MOUTH_ROW, _MOUTH_ROWS, lens(S / MOUTH_HALF, 0.7))


_EYE = (EYE_X - EYE_HALF, EYE_X - 0.055, EYE_X + 0.055, EYE_X + EYE_HALF)
_HALF_JAW = (
    (1.0, 0.0), (1.0, -0.15), (0.99, -0.3), (0.97, -0.45), (0.9, -0.6), (0.76, -0.74), (0.57, -0.85), (0.32, -0.93),
)  # fmt: skip
_HALF_BROW = ((0.48, 0.17), (0.42, 0.21), (0.33, 0.23), (0.24, 0.215), (0.15, 0.18))


def _nearest_row(t: float) -> int:
    distance = np.abs(ROW_T - t)
    # Never inside a slit: its rows share one T, and only its edges are skin.
    distance[EYES.between(np.arange(len(ROW_T)))] = distance[MOUTH.between(np.arange(len(ROW_T)))] = np.inf
    return int(distance.argmin())


def _vertices() -> np.ndarray:
    def skin(*places: tuple[float, float]) -> list[tuple[int, float]]:
        return [(_nearest_row(t), s) for s, t in places]

    up, down = MOUTH_T + 0.07, MOUTH_T - 0.085
    points = skin(*((-s, t) for s, t in _HALF_JAW), (0.0, -0.955), *_HALF_JAW[::-1])
    points += skin(*((-s, t) for s, t in _HALF_BROW), *_HALF_BROW[::-1])
    points += skin((0, 0.03), (0, -0.1), (0, -0.22), (0, -0.35))
    points += skin((-0.12, -0.42), (-0.06, -0.44), (0, -0.45), (0.06, -0.44), (0.12, -0.42))
    for side in (-1, 1):
        inner, a, b, outer = _EYE
        across = (-outer, -b, -a, -inner) if side < 0 else (inner, a, b, outer)
        points += [(EYES.first, s) for s in across] + [(EYES.last, s) for s in across[2:0:-1]]
    points += [(MOUTH.first, -MOUTH_HALF)]
    points += skin((-0.15, up - 0.015), (-0.06, up), (0, up - 0.01), (0.06, up), (0.15, up - 0.015))
    points += [(MOUTH.first, MOUTH_HALF)]
    points += skin((0.15, down + 0.02), (0.06, down), (0, down), (-0.06, down), (-0.15, down + 0.02))
    inner_lip = MOUTH_HALF - 0.03
    points += [(MOUTH.first, s) for s in (-inner_lip, -0.09, 0.0, 0.09, inner_lip)]
    points += [(MOUTH.last, s) for s in (0.09, 0.0, -0.09)]
    return np.array([(row, int(np.abs(COLUMN_S - s).argmin())) for row, s in points])


# 68 x 2: row and column of every landmark's vertex, in iBUG's order. The jaw's points are fixed on the head (as in 3D
# annotations): they do not slide along its outline when it rotates.
VERTICES = _vertices()


def landmarks(vertices: np.ndarray) -> np.ndarray:
    """Return the landmarks (T x 68 x D) of vertices (T x R x C x D)."""
    return vertices[:, VERTICES[:, 0], VERTICES[:, 1]]
