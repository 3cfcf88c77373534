"""A z-buffer for a grid of vertices, in NumPy: which place on the grid does each pixel show?

A face has thousands of triangles that cover about one pixel each. So all pairs of a triangle and a pixel in the
box around it are tested at once; there is no loop over triangles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Hits:
    """What a picture shows of a grid.

    Attributes:
        pixels: N, places in the flattened picture, each once.
        row: N, row of the grid at the pixel's centre, fractional.
        column: N, column of the grid.
        depth: N, larger = nearer.
    """

    pixels: np.ndarray
    row: np.ndarray
    column: np.ndarray
    depth: np.ndarray


@dataclass(frozen=True)
class _Triangles:
    """The N triangles that face the viewer, each with the box (not empty) of pixels whose centres may lie in it.

    Attributes:
        x: first column of the pixels in the box.
        y: its first row.
        wide: how many columns it has.
        high: how many rows.
        row: row of the first corner in the grid.
        column: its column.
        sign: +1 where the other corners lie to the right and below in the grid, -1 where to the left and above.
        plane: 9 x N, each of along (the share of the way to the second corner), down (to the third) and depth at
            the box's first pixel, and their change per pixel to the right and down.
    """

    x: np.ndarray
    y: np.ndarray
    wide: np.ndarray
    high: np.ndarray
    row: np.ndarray
    column: np.ndarray
    sign: np.ndarray
    plane: np.ndarray


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
    """Cut every quad in two: one half around its upper left corner, the other around its lower right one."""
    corners = _corners(placed)
    x0, x1, x2, y0, y1, y2 = corners[:2].reshape(6, *corners.shape[2:])
    facing = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0) > 1e-7
    kept = np.flatnonzero(facing if quads is None else facing & quads)
    corners = np.take(corners.reshape(9, -1), kept, axis=1)
    x0, x1, x2, y0, y1, y2 = corners[:6]
    left = np.maximum(np.ceil(np.minimum(np.minimum(x0, x1), x2)), 0)
    top = np.maximum(np.ceil(np.minimum(np.minimum(y0, y1), y2)), 0)
    wide = np.minimum(np.floor(np.maximum(np.maximum(x0, x1), x2)), size - 1) - left + 1
    high = np.minimum(np.floor(np.maximum(np.maximum(y0, y1), y2)), size - 1) - top + 1
    # At a small size most triangles lie between the pixels' centres.
    some = np.flatnonzero((wide > 0) & (high > 0))
    kept, left, top, wide, high = (part.take(some) for part in (kept, left, top, wide, high))
    x0, x1, x2, y0, y1, y2, z0, z1, z2 = np.take(corners, some, axis=1)
    px, py = left - x0, top - y0
    x1, x2, y1, y2 = x1 - x0, x2 - x0, y1 - y0, y2 - y0
    gain = np.float32(1) / (x1 * y2 - y1 * x2)
    ux, uy, vx, vy = x1 * gain, y1 * gain, x2 * gain, y2 * gain
    uz, vz = z1 - z0, z2 - z0
    along, down = px * vy - py * vx, py * ux - px * uy
    plane = np.stack(
        [along, vy, -vx, down, -uy, ux, z0 + along * uz + down * vz, vy * uz - uy * vz, ux * vz - vx * uz]
    )
    half, quad = np.divmod(kept, (placed.shape[0] - 1) * (placed.shape[1] - 1))
    row, column = np.divmod(quad, placed.shape[1] - 1)
    left, top, wide, high = (part.astype(np.int32) for part in (left, top, wide, high))
    return _Triangles(left, top, wide, high, row + half, column + half, 1 - 2 * half, plane)


def _steps(depth: np.ndarray) -> np.ndarray:
    """Return depths as 65536 steps from the farthest to the nearest: short integers sort several times as fast."""
    if len(depth) == 0:
        return depth
    far = depth.min()
    return ((depth - far) * np.float32(65535 / max(float(depth.max() - far), 1e-6))).astype(np.uint16)


def rasterise(placed: np.ndarray, size: int, quads: np.ndarray | None = None) -> Hits:
    """Find what a square picture shows of a grid of vertices.

    Args:
        placed: R x C x 3: x, y in pixels (centres at integers) and depth, larger = nearer. Quads whose corners run
            clockwise in the picture (the grid's columns to the right, its rows down) face the viewer; the others
            are not drawn.
        size: height and width.
        quads: (R - 1) x (C - 1), True where the grid's surface exists; None = everywhere.

    Returns:
        The nearest place of the grid at every covered pixel.
    """
    found = _triangles(placed, size, quads)
    counts = found.wide * found.high
    owner = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    within = np.arange(len(owner), dtype=np.int32) - np.repeat(np.cumsum(counts, dtype=np.int32) - counts, counts)
    y, x = np.divmod(within, np.take(found.wide, owner))
    right, low = x.astype(np.float32), y.astype(np.float32)
    along, down = (
        part[0].take(owner) + right * part[1].take(owner) + low * part[2].take(owner)
        for part in (found.plane[:3], found.plane[3:6])
    )
    # A little over the edge, so that rounding leaves no holes between neighbours.
    inside = np.flatnonzero((along >= -1e-5) & (down >= -1e-5) & (along + down <= 1 + 1e-5))
    owner, x, y = (part.take(inside) for part in (owner, x, y))
    along, down, right, low = (part.take(inside) for part in (along, down, right, low))
    depth = found.plane[6].take(owner) + right * found.plane[7].take(owner) + low * found.plane[8].take(owner)
    pixels = (y + found.y.take(owner)) * size + x + found.x.take(owner)
    # The last writer of a pixel wins, so the nearest must write last.
    order = np.argsort(_steps(depth), kind="stable")
    winner = np.full(size * size, -1, np.int32)
    winner[pixels[order]] = order
    seen = np.flatnonzero(winner >= 0)
    best = winner[seen]
    owner = owner[best]
    sign = found.sign[owner]
    row, column = found.row[owner] + sign * down[best], found.column[owner] + sign * along[best]
    return Hits(seen, row.astype(np.float32), column.astype(np.float32), depth[best])
