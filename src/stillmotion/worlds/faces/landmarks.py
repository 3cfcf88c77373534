"""The 68 landmarks in iBUG's order, as vertices of the mesh.

"Left" and "right" in the names of this file are the picture's. The jaw's points are fixed on the head (as in 3D
annotations): they do not slide along its outline when it rotates.
"""

from __future__ import annotations

import numpy as np

from stillmotion.worlds.faces.grid import COLUMN_S, EYE_HALF, EYE_X, EYES, MOUTH, MOUTH_HALF, MOUTH_T, ROW_T

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


VERTICES = _vertices()  # 68 x 2: row and column of every landmark's vertex


def landmarks(vertices: np.ndarray) -> np.ndarray:
    """Return the landmarks (T x 68 x D) of vertices (T x R x C x D)."""
    return vertices[:, VERTICES[:, 0], VERTICES[:, 1]]
