"""The head's mesh: one grid of vertices around the head, and its mean shape.

Rows run from the crown down to the underside of the chin, columns from the picture's left to its right around the
head. A vertex has a meaning, not only a place: `S` and `T` say where on the mean face it lies, for every identity
and expression. Between the two rows of an eye's lids lie three rows of eyeball, between the two rows of the lips'
edges two rows of mouth. Where lids and lips touch, these rows coincide.

Axes of the model: x to the picture's right, y up, z towards the viewer. The unit is half the height of the mean
head: the crown is at y = 1, the chin at about -1, the eyes at 0.
"""

from __future__ import annotations

import numpy as np

Grid = np.ndarray  # R x C, one number per vertex

EYE_X, EYE_HALF = 0.315, 0.165  # middle and half width of an eye, in S; its corners lie on columns
MOUTH_T, MOUTH_HALF = -0.60, 0.24  # height of the mouth's line, in T, and its half width, in S
_PER_RADIAN = 0.7  # S per radian of azimuth: near the front, S is about x
_EYE_ROWS, _MOUTH_ROWS = 5, 4


def _rows() -> tuple[np.ndarray, int, int]:
    """Return T of every row (from top to bottom), and the first rows of the eyes' and of the mouth's slits."""
    above = [
        1 - 0.38 * np.linspace(0, 1, 10)[:-1] ** 2,
        np.linspace(0.62, 0.14, 15)[:-1],
        np.linspace(0.14, 0.0, 6)[:-1],
    ]
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


ROW_T, EYE_ROW, MOUTH_ROW = _rows()  # the upper lid's and the upper lip's edges are these rows
EYE_END, MOUTH_END = EYE_ROW + _EYE_ROWS - 1, MOUTH_ROW + _MOUTH_ROWS - 1  # the lower ones' edges
COLUMN_S = _columns()
ROWS, COLUMNS = len(ROW_T), len(COLUMN_S)
S, T = np.meshgrid(COLUMN_S, ROW_T)
AZIMUTH = S / _PER_RADIAN


def step(x: np.ndarray | float, start: float, end: float) -> np.ndarray:
    """Return a smooth step from 0 at `start` to 1 at `end` (which may be the smaller one)."""
    share = np.clip((np.asarray(x, float) - start) / (end - start), 0, 1)
    return share * share * (3 - 2 * share)


def lens(x: np.ndarray, power: float = 0.8) -> np.ndarray:
    """Return the outline of a lid or lip: 1 in the middle, 0 at the corners x = -1 and 1 and beyond."""
    return np.maximum(1 - np.asarray(x, float) ** 2, 0) ** power


def bump(s: float, t: float, width: float, height: float) -> Grid:
    """Return a gaussian bump on the face around (s, t)."""
    return np.exp(-(((S - s) / width) ** 2) - ((T - t) / height) ** 2)


def pair(s: float, t: float, width: float, height: float) -> tuple[Grid, Grid]:
    """Return a gaussian bump on both sides of the face, and the same with the sign of its side (left: -1)."""
    left, right = bump(-s, t, width, height), bump(s, t, width, height)
    return left + right, right - left


def field(x: Grid | float = 0.0, y: Grid | float = 0.0, z: Grid | float = 0.0) -> np.ndarray:
    """Return a displacement per vertex, R x C x 3, from its three components."""
    return np.stack([np.broadcast_to(part, S.shape) for part in (x, y, z)], -1).astype(np.float64)


def _slit_weights(first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Return how much each row (R x 1) belongs to the slit's upper and to its lower side; they sum to 1."""
    lower = np.clip((np.arange(ROWS) - first) / (last - first), 0, 1)[:, None]
    return 1 - lower, lower


UPPER_EYE, LOWER_EYE = _slit_weights(EYE_ROW, EYE_END)
UPPER_LIP, LOWER_LIP = _slit_weights(MOUTH_ROW, MOUTH_END)
# The rows strictly between two lids or two lips: eyeball and inside of the mouth.
IN_EYE = ((np.arange(ROWS) > EYE_ROW) & (np.arange(ROWS) < EYE_END))[:, None].astype(float)
IN_MOUTH = ((np.arange(ROWS) > MOUTH_ROW) & (np.arange(ROWS) < MOUTH_END))[:, None].astype(float)
# Over each eye: how far the lids' edges move, full in the middle and nothing at the corners.
LID = lens((np.abs(S) - EYE_X) / EYE_HALF)
LIP = lens(S / MOUTH_HALF, 0.7)


def lids(upper: float, lower: float) -> Grid:
    """Return the rise (in y) of both eyes' lids; it fades away from the eye and goes linearly over the ball."""
    top = UPPER_EYE * np.exp(-((T / 0.11) ** 2))
    bottom = LOWER_EYE * np.exp(-((T / 0.10) ** 2))
    return LID * (upper * top + lower * bottom)


def _base() -> np.ndarray:
    """Return the head without features: cross-sections of a width and a depth that depend on the height."""
    t = ROW_T
    width = np.interp(
        _ease(t),
        _ease(np.array([-1, -0.98, -0.93, -0.85, -0.72, -0.5, -0.25, 0, 0.25, 0.5, 0.7, 0.85, 0.94, 0.985, 1])),
        [0, 0.19, 0.335, 0.44, 0.53, 0.615, 0.67, 0.70, 0.705, 0.67, 0.58, 0.445, 0.30, 0.155, 0],
    )
    front = np.interp(
        _ease(t),
        _ease(np.array([-1, -0.98, -0.93, -0.85, -0.7, -0.45, -0.2, 0, 0.2, 0.4, 0.6, 0.8, 0.93, 1])),
        [0.28, 0.48, 0.57, 0.60, 0.61, 0.63, 0.65, 0.66, 0.69, 0.68, 0.60, 0.42, 0.2, -0.05],
    )
    middle = np.interp(t, [-1, -0.7, -0.3, 0.3, 1], [0.28, 0.2, 0.02, -0.02, -0.05])
    back = np.interp(t, [-1, -0.8, -0.4, 0, 0.4, 0.8, 1], [0.2, -0.1, -0.5, -0.85, -0.9, -0.55, -0.05])
    sin, cos = np.sin(AZIMUTH), np.cos(AZIMUTH)
    # A face is flatter in front than an ellipse.
    bent = np.sign(cos) * np.abs(cos) ** 0.8
    depth = np.where(cos > 0, (front - middle)[:, None], (middle - back)[:, None])
    return np.stack([width[:, None] * sin, np.broadcast_to(t[:, None], S.shape), middle[:, None] + depth * bent], -1)


def _ease(t: np.ndarray) -> np.ndarray:
    """Return angles for heights, so that interpolating between knots keeps crown and chin round."""
    return np.arcsin(np.clip(t, -1, 1))


def _ears() -> np.ndarray:
    # Exactly nothing on the face itself, so that hair which hides the ears cannot change a normal map.
    across = step(np.abs(S), 1.02, 1.09) * np.exp(-(((np.abs(S) - 1.13) / 0.065) ** 2))
    across = across * np.exp(-((np.abs(T + 0.1) / 0.19) ** 3))
    return field(x=0.12 * np.sign(S) * across * (1 + 0.5 * (T + 0.1)), z=-0.05 * across)


EARS = _ears()
"""What the ears add to the mean face; some hair holds them flat."""


def _mean() -> np.ndarray:
    shape = _base()
    # Nose: a ridge that grows and widens from the root to the tip, wings beside it.
    ridge = np.interp(T, [-0.47, -0.43, -0.385, -0.33, -0.15, 0.02, 0.14], [0, 0.09, 0.22, 0.235, 0.13, 0.055, 0.0])
    spread = np.interp(T, [-0.45, -0.36, -0.2, 0.05], [0.10, 0.095, 0.066, 0.07])
    wings, _ = pair(0.115, -0.385, 0.05, 0.05)
    sockets, _ = pair(EYE_X - 0.03, 0.05, 0.15, 0.11)
    brows, _ = pair(0.27, 0.2, 0.2, 0.07)
    cheeks, _ = pair(0.43, -0.2, 0.18, 0.16)
    jaw, _ = pair(0.66, -0.6, 0.25, 0.18)
    # Nothing at the corners and beyond, where the two sides of the mouth's line are one.
    upper = UPPER_LIP * np.exp(-(((T - MOUTH_T - 0.035) / 0.05) ** 2)) * LIP
    lower = LOWER_LIP * np.exp(-(((T - MOUTH_T + 0.045) / 0.055) ** 2)) * LIP
    ball = LID * (1 - 0.35 * ((np.abs(S) - EYE_X) / EYE_HALF) ** 2)
    bulge = (
        ridge * np.exp(-((S / spread) ** 2)) + 0.055 * wings - 0.085 * sockets + 0.04 * brows + 0.04 * cheeks
        + 0.06 * upper + 0.065 * lower - 0.03 * bump(0, -0.77, 0.2, 0.05) + 0.055 * bump(0, -0.9, 0.2, 0.1)
        + 0.025 * ball * np.exp(-((T / 0.09) ** 2)) - 0.03 * IN_EYE * LID - 0.16 * IN_MOUTH * LIP
        - 0.012 * bump(0, -0.52, 0.03, 0.04)
    )  # fmt: skip
    shape += field(x=0.03 * np.sign(S) * jaw, z=bulge) + EARS
    return shape + field(y=lids(0.075, -0.05))


def close_poles(displacements: np.ndarray) -> np.ndarray:
    """Return fields (... x R x C x 3) whose first and last row are one point each: the crown and under the chin."""
    closed = displacements.copy()
    closed[..., 0, :, :] = displacements[..., 0, COLUMNS // 2, :][..., None, :]
    closed[..., -1, :, :] = displacements[..., -1, COLUMNS // 2, :][..., None, :]
    return closed


MEAN = close_poles(_mean())
"""The mean face with a neutral expression, R x C x 3, eyes open and lips closed."""
