"""Normal maps of a face: the condition of the forecasting network (Sec. 3.1), rendered with a z-buffer.

A face has thousands of triangles of about one pixel each. So all pairs of a triangle and a pixel of its bounding box
are tested at once, without a loop over triangles or pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillmotion.morphable.camera import Pose, project, rotation_matrices
from stillmotion.morphable.model import vertex_normals

_EDGE = 1e-6  # a little beyond a triangle's edge, so that rounding leaves no holes between neighbours


@dataclass(frozen=True, eq=False)
class Fragments:
    """Pairs of a pixel and a triangle that covers its centre, M of them."""

    pixel: np.ndarray  # M, indices into the flattened picture
    triangle: np.ndarray  # M
    weights: np.ndarray  # 3 x M, of the triangle's corners; they sum to 1


@dataclass(frozen=True, eq=False)
class NormalMaps:
    """What is seen of a face in T square pictures of S pixels.

    Attributes:
        normals: T x S x S x 3, `float32`: unit vectors, zero where there is no face.
        mask: T x S x S, `bool`, where there is.
        depth: T x S x S, `float32`, pixels towards the viewer from the model's origin; -inf where there is no face.
    """

    normals: np.ndarray
    mask: np.ndarray
    depth: np.ndarray


def render_normals(
    vertices: np.ndarray,
    triangles: np.ndarray,
    pose: Pose,
    size: int,
    *,
    rotated: bool = False,
    samples: int = 1,
) -> NormalMaps:
    """Normal maps of a head, out of which the normals point.

    Args:
        vertices: T x V x 3, or V x 3 for one shape in all poses; in the model's axes.
        triangles: N x 3, counter-clockwise seen from outside; those seen from inside are not drawn.
        pose: of T frames.
        size: S.
        rotated: give normals as the viewer sees them; otherwise those of the head before its rotation, so that a
            head that turns moves its map and keeps its vectors (as in the paper's code).
        samples: rays per pixel along each side; more than 1 smooth the outline. A pixel is face where at least half
            of its rays are.
    """
    vertices = np.broadcast_to(vertices, (len(pose), *vertices.shape[-2:]))
    placed = project(vertices, pose.resized(samples))
    turns = rotation_matrices(pose.rotation) if rotated else np.broadcast_to(np.eye(3), (len(pose), 3, 3))
    drawn = [
        _draw(frame, vertex_normals(shape, triangles) @ turn.T, triangles, size, samples)
        for frame, shape, turn in zip(placed, vertices, turns, strict=True)
    ]
    normals, depth = (np.stack(parts) for parts in zip(*drawn, strict=True))
    return NormalMaps(normals, np.isfinite(depth), depth)


def surface_displacement(still: np.ndarray, frames: np.ndarray, triangles: np.ndarray, size: int) -> np.ndarray:
    """Where the surface that frames show was in the still: the exact motion of a face between two of its shapes.

    Args:
        still: V x 2 or V x 3, the still's vertices in the picture, in pixels (`camera.project`).
        frames: T x V x 3, those of T frames.
        triangles: N x 3, as `render_normals` has them.
        size: S.

    Returns:
        T x S x S x 3, `float32`: (x, y) to the place in the still, in pixels, and 1 where there is face; else 0.
    """
    made = np.zeros((len(frames), size * size, 3), np.float32)
    for picture, placed in zip(made, frames, strict=True):
        seen = triangles[_facing(placed, triangles)]
        found = fragments(placed, seen, size)
        best = nearest(found, _blend(placed[:, 2], seen[found.triangle], found.weights))
        corners, weights, pixel = seen[found.triangle[best]], found.weights[:, best], found.pixel[best]
        for axis in range(2):
            picture[pixel, axis] = _blend(still[:, axis] - placed[:, axis], corners, weights)
        picture[pixel, 2] = 1
    return made.reshape(len(frames), size, size, 3)


def _draw(
    placed: np.ndarray, normals: np.ndarray, triangles: np.ndarray, size: int, samples: int
) -> tuple[np.ndarray, np.ndarray]:
    """One frame's normals, S x S x 3, and depth, S x S."""
    side = size * samples
    seen = triangles[_facing(placed, triangles)]
    found = fragments(placed, seen, side)
    depth = _blend(placed[:, 2], seen[found.triangle], found.weights)
    best = nearest(found, depth)
    corners, weights, pixel = seen[found.triangle[best]], found.weights[:, best], found.pixel[best]
    total = np.zeros((5, side * side), np.float32)  # normal, depth, 1 where there is face
    for axis in range(3):
        total[axis, pixel] = _blend(normals[:, axis], corners, weights)
    total[3, pixel], total[4, pixel] = depth[best] / samples, 1
    picture = (
        total.reshape(5, size, samples, size, samples).mean((2, 4)) if samples > 1 else total.reshape(5, size, size)
    )
    length = np.sqrt((picture[:3] ** 2).sum(0))
    # Opposite normals may cancel out; such a pixel has no direction.
    face = (picture[4] >= 0.5) & (length > 1e-3)
    unit = np.where(face, picture[:3] / np.maximum(length, 1e-3), 0)
    return unit.transpose(1, 2, 0), np.where(face, picture[3] / np.maximum(picture[4], 0.5), -np.inf)


def _blend(values: np.ndarray, corners: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Values of vertices at fragments: V, M x 3 and 3 x M -> M."""
    return sum(values[corners[:, i]] * weights[i] for i in range(3))


def _facing(placed: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Which triangles turn their outside to the viewer; y runs down, so the sign of their area is negative."""
    (x0, y0), (x1, y1), (x2, y2) = (placed[triangles[:, i], :2].T for i in range(3))
    return np.asarray((x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0) < 0)


def fragments(placed: np.ndarray, triangles: np.ndarray, size: int, edge: float = _EDGE) -> Fragments:
    """All pixels whose centres lie in a triangle, for all triangles.

    Args:
        placed: V x 2 or V x 3, (x, y) in pixels with centres at integers.
        triangles: N x 3.
        size: S, height and width of the picture.
        edge: how far beyond a triangle's edge a centre may lie, in units of its corners' weights.
    """
    x0, x1, x2 = placed[:, 0].astype(np.float64)[triangles.T]
    y0, y1, y2 = placed[:, 1].astype(np.float64)[triangles.T]
    left, wide = _span(x0, x1, x2, size)
    top, tall = _span(y0, y1, y2, size)
    x1, x2, y1, y2 = x1 - x0, x2 - x0, y1 - y0, y2 - y0
    area = x1 * y2 - y1 * x2
    # Most triangles of a fine mesh lie between the centres of pixels.
    kept = np.flatnonzero((wide > 0) & (tall > 0) & (area != 0))
    counts = (wide * tall)[kept]
    owner = np.repeat(kept, counts)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    row, column = np.divmod(within, wide[owner])
    x, y, gain = column + left[owner], row + top[owner], 1 / area[owner]
    right, low = x - x0[owner], y - y0[owner]
    second = (right * y2[owner] - low * x2[owner]) * gain
    third = (low * x1[owner] - right * y1[owner]) * gain
    inside = np.flatnonzero((second >= -edge) & (third >= -edge) & (second + third <= 1 + edge))
    second, third = second[inside], third[inside]
    return Fragments((y * size + x)[inside], owner[inside], np.stack([1 - second - third, second, third]))


def _span(first: np.ndarray, second: np.ndarray, third: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The first pixel that corners enclose along one axis, and how many there are (0 or less: none)."""
    low = np.ceil(np.minimum(np.minimum(first, second), third)).clip(0, size)
    high = np.floor(np.maximum(np.maximum(first, second), third)).clip(-1, size - 1)
    return low.astype(np.int64), (high - low + 1).astype(np.int64)


def nearest(found: Fragments, nearness: np.ndarray) -> np.ndarray:
    """The fragment with the largest `nearness` at every pixel that has one; among equals the first triangle's."""
    order = np.argsort(-nearness, kind="stable")
    _, first = np.unique(found.pixel[order], return_index=True)
    return order[first]
