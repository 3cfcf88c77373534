"""A z-buffer for a grid of vertices, in NumPy: the place on the grid seen at each pixel.

A face has thousands of triangles of about one pixel each. So all pairs of a triangle and a pixel in its bounding box
are tested at once, without a loop over triangles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Fragments:
    """The nearest places of a grid at the N pixels that it covers."""

    pixels: np.ndarray  # N, indices into the flattened picture, each once
    row: np.ndarray  # N, row of the grid at the pixel's centre, fractional
    column: np.ndarray  # N, column of the grid
    depth: np.ndarray  # N, larger = nearer


@dataclass(frozen=True)
class _Triangles:
    """The N triangles that face the viewer, each with the non-empty box of pixels whose centres may lie in it."""

    x: np.ndarray  # first column of the pixels in the box
    y: np.ndarray  # its first row
    width: np.ndarray  # number of columns
    height: np.ndarray  # number of rows
    row: np.ndarray  # of the first corner in the grid
    column: np.ndarray  # of the first corner
    sign: np.ndarray  # +1 where the other corners are to the right and below in the grid, -1 to the left and above
    # 9 x N: along (the barycentric coordinate of the second corner), down (of the third) and depth at the box's first
    # pixel, each followed by its change per pixel to the right and down.
    planes: np.ndarray


def _corners(placed: np.ndarray) -> np.ndarray:
    """Return x, y, depth of the first, second and third corner of all triangles, 3 x 3 x 2 x (R - 1) x (C - 1)."""
    corners = np.empty((3, 3, 2, placed.shape[0] - 1, placed.shape[1] - 1), np.float32)
    for axis in range(3):
        part = np.ascontiguousarray(placed[..., axis], np.float32)
        corners[axis, 0, 0], corners[axis, 0, 1] = part[:-1, :-1], part[1:, 1:]
        corners[axis, 1, 0], corners[axis, 1, 1] = part[:-1, 1:], part[1:, :-1]
        corners[axis, 2] = corners[axis, 1, ::-1]
    return corners


def _triangles(placed: np.ndarray, size: int, quads: np.ndarray | None) -> _Triangles:
    """Split every quad in two: one half around its upper left corner, the other around its lower right one."""
    corners = _corners(placed)
    x0, x1, x2, y0, y1, y2 = corners[:2].reshape(6, *corners.shape[2:])
    facing = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0) > 1e-7
    kept = np.flatnonzero(facing if quads is None else facing & quads)
    corners = np.take(corners.reshape(9, -1), kept, axis=1)
    x0, x1, x2, y0, y1, y2 = corners[:6]
    left = np.maximum(np.ceil(np.minimum(np.minimum(x0, x1), x2)), 0)
    top = np.maximum(np.ceil(np.minimum(np.minimum(y0, y1), y2)), 0)
    width = np.minimum(np.floor(np.maximum(np.maximum(x0, x1), x2)), size - 1) - left + 1
    height = np.minimum(np.floor(np.maximum(np.maximum(y0, y1), y2)), size - 1) - top + 1
    # At a small size most triangles are between the pixels' centres.
    covering = np.flatnonzero((width > 0) & (height > 0))
    kept, left, top, width, height = (part.take(covering) for part in (kept, left, top, width, height))
    x0, x1, x2, y0, y1, y2, z0, z1, z2 = np.take(corners, covering, axis=1)
    px, py = left - x0, top - y0
    x1, x2, y1, y2 = x1 - x0, x2 - x0, y1 - y0, y2 - y0
    gain = np.float32(1) / (x1 * y2 - y1 * x2)
    ux, uy, vx, vy = x1 * gain, y1 * gain, x2 * gain, y2 * gain
    uz, vz = z1 - z0, z2 - z0
    along, down = px * vy - py * vx, py * ux - px * uy
    planes = np.stack(
        [along, vy, -vx, down, -uy, ux, z0 + along * uz + down * vz, vy * uz - uy * vz, ux * vz - vx * uz]
    )
    half, quad = np.divmod(kept, (placed.shape[0] - 1) * (placed.shape[1] - 1))
    row, column = np.divmod(quad, placed.shape[1] - 1)
    left, top, width, height = (part.astype(np.int32) for part in (left, top, width, height))
    return _Triangles(left, top, width, height, row + half, column + half, 1 - 2 * half, planes)


def _sort_keys(depth: np.ndarray) -> np.ndarray:
    """Return depths as 65536 steps from the farthest to the nearest: short integers sort several times as fast."""
    if len(depth) == 0:
        return depth
    far = depth.min()
    return ((depth - far) * np.float32(65535 / max(float(depth.max() - far), 1e-6))).astype(np.uint16)


def rasterise(placed: np.ndarray, size: int, quads: np.ndarray | None = None) -> Fragments:
    """Return the nearest place of a grid of vertices at every pixel of a square picture that it covers.

    Args:
        placed: R x C x 3: x, y in pixels (centres at integers) and depth, larger = nearer. Quads whose corners run
            clockwise in the picture (the grid's columns to the right, its rows down) face the viewer; the others
            are culled.
        size: height and width.
        quads: (R - 1) x (C - 1), True where the grid's surface exists; None = everywhere.
    """
    triangles = _triangles(placed, size, quads)
    counts = triangles.width * triangles.height
    owner = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    within = np.arange(len(owner), dtype=np.int32) - np.repeat(np.cumsum(counts, dtype=np.int32) - counts, counts)
    y, x = np.divmod(within, np.take(triangles.width, owner))
    right, low = x.astype(np.float32), y.astype(np.float32)
    along, down = (
        plane[0].take(owner) + right * plane[1].take(owner) + low * plane[2].take(owner)
        for plane in (triangles.planes[:3], triangles.planes[3:6])
    )
    # Slightly beyond the edge, so that rounding leaves no holes between neighbours.
    inside = np.flatnonzero((along >= -1e-5) & (down >= -1e-5) & (along + down <= 1 + 1e-5))
    owner, x, y = (part.take(inside) for part in (owner, x, y))
    along, down, right, low = (part.take(inside) for part in (along, down, right, low))
    plane = triangles.planes[6:]
    depth = plane[0].take(owner) + right * plane[1].take(owner) + low * plane[2].take(owner)
    pixels = (y + triangles.y.take(owner)) * size + x + triangles.x.take(owner)
    # The last assignment to a pixel stays, so the nearest must come last.
    order = np.argsort(_sort_keys(depth), kind="stable")
    winner = np.full(size * size, -1, np.int32)
    winner[pixels[order]] = order
    seen = np.flatnonzero(winner >= 0)
    best = winner[seen]
    owner = owner[best]
    sign = triangles.sign[owner]
    row, column = triangles.row[owner] + sign * down[best], triangles.column[owner] + sign * along[best]
    return Fragments(seen, row.astype(np.float32), column.astype(np.float32), depth[best])
