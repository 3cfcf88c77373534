"""Normal maps as the released code of the structures paper makes them, for comparison with it.

The release differs from `rendering`: triangles keep one flat normal each, in the direction of the file's own order
of corners (into the head for the Basel Face Model); which of two triangles is in front is told by their distance from
the model's origin; triangles that touch the border are dropped. Numbers of pixels start at 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillmotion.morphable.model import triangle_normals
from stillmotion.morphable.rendering import fragments, nearest

CROP = 120
"""Side of the crop that the release's regressor sees, in pixels."""
SHAPE, EXPRESSION = 40, 10

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels of the photo."""


@dataclass(frozen=True, eq=False)
class Parameters:
    """The 62 numbers of the regressor, taken apart."""

    linear: np.ndarray  # 3 x 3, a rotation times a scale
    offset: np.ndarray  # 3
    shape: np.ndarray  # 40
    expression: np.ndarray  # 10


def parse_parameters(values: np.ndarray, mean: np.ndarray, std: np.ndarray) -> Parameters:
    """The regressor's 62 outputs, de-whitened."""
    values = values * std + mean
    camera = values[:12].reshape(3, 4)
    return Parameters(camera[:, :3], camera[:, 3], values[12 : 12 + SHAPE], values[12 + SHAPE :])


def face_box(landmarks: np.ndarray) -> Box:
    """The square around landmarks, 68 x 2, of sqrt(2) times the longer side of their bounding box."""
    low, high = landmarks.min(0), landmarks.max(0)
    middle, half = (low + high) / 2, (high - low).max() / np.sqrt(2)
    return _box(middle, half)


def output_box(face: Box) -> Box:
    """The square that is written: 0.95 times as large, and higher by 8 % of the face's place in the photo.

    A face lower in the photo is therefore cropped higher: the release's own formula.
    """
    left, top, right, bottom = face
    middle = np.array([left + right, top + bottom]) / 2
    return _box(middle - [0, 0.04 * (top + bottom)], 0.95 * (right - left) / 2)


def _box(middle: np.ndarray, half: float) -> Box:
    left, top, right, bottom = (float(value) for value in np.concatenate([middle - half, middle + half]))
    return left, top, right, bottom


def crop(photo: np.ndarray, box: Box) -> np.ndarray:
    """Cut a box, rounded half to even, out of a photo, H x W x C; black where it reaches outside."""
    left, top, right, bottom = (round(side) for side in box)
    found = np.zeros((bottom - top, right - left, *photo.shape[2:]), photo.dtype)
    inside = photo[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    y, x = max(-top, 0), max(-left, 0)
    found[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    return found


def place(vertices: np.ndarray, linear: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Vertices, V x 3, in the regressor's crop; y runs down from 121."""
    placed = vertices @ linear.T + offset
    placed[:, 1] = CROP + 1 - placed[:, 1]
    return placed


def to_output(placed: np.ndarray, face: Box, output: Box, size: int) -> np.ndarray:
    """Places in the regressor's crop of the box `face` as places in the box `output`, `size` pixels a side."""
    into, out = (face[2] - face[0]) / CROP, size / (output[2] - output[0])
    moved = placed * into * out
    moved[:, :2] += (np.array(face[:2]) - output[:2]) * out
    return moved


def release_triangles(vertices: np.ndarray, placed: np.ndarray, triangles: np.ndarray, size: int) -> np.ndarray:
    """The triangle seen at each pixel, S x S, -1 where there is none.

    Args:
        vertices: V x 3, before any pose.
        placed: V x 3, in pixels of the output, of which the first is 1.
        triangles: N x 3.
        size: S.
    """
    corners = placed[:, :2][triangles]
    whole = np.flatnonzero(((np.ceil(corners.min(1)) >= 1) & (np.floor(corners.max(1)) <= size)).all(1))
    radius = (vertices[triangles[whole]].mean(1) ** 2).sum(1)
    found = fragments(placed - 1, triangles[whole], size, edge=0)
    best = nearest(found, radius[found.triangle])
    seen = np.full(size * size, -1)
    seen[found.pixel[best]] = whole[found.triangle[best]]
    return seen.reshape(size, size)


def release_normals(vertices: np.ndarray, placed: np.ndarray, triangles: np.ndarray, size: int) -> np.ndarray:
    """The release's normal map, S x S x 3, zero where there is no face; arguments as `release_triangles`."""
    seen = release_triangles(vertices, placed, triangles, size)
    return np.where(seen[..., None] >= 0, triangle_normals(vertices, triangles)[seen], 0)
