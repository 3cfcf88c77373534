"""Shapes of objects: unions of capsules, alone or around a convex polygon; in picture heights.

A shape's signed distance paints it, and a chain of discs along its outline is its collision geometry.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

HOLLOW = 0.0015  # how far the hollows between two neighbouring discs may lie inside the true outline


@dataclass(frozen=True)
class Shape:
    """A union of tapered capsules."""

    capsules: tuple[tuple[float, ...], ...]  # x0, y0, x1, y1, r0, r1: both ends and the radius at each
    filled: bool = False  # whether the capsules' axes, in turn, bound a convex polygon that belongs to the shape

    def distance(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the signed distance of each position (any array shape) from the outline, negative inside."""
        nearest = np.full(np.shape(x), np.inf)
        inside = np.full(np.shape(x), self.filled)
        edge_gaps = []
        for x0, y0, x1, y1, r0, r1 in self.capsules:
            ex, ey = x1 - x0, y1 - y0
            along = np.clip(((x - x0) * ex + (y - y0) * ey) / max(ex * ex + ey * ey, 1e-12), 0, 1)
            gap = np.hypot(x - x0 - along * ex, y - y0 - along * ey)
            nearest = np.minimum(nearest, gap - (r0 + along * (r1 - r0)))
            cross = ex * (y - y0) - ey * (x - x0)
            inside &= cross >= 0
            if self.filled:
                edge_gaps.append(np.abs(cross) / np.hypot(ex, ey))
        # Inside a polygon the outline is its edges' outer side: the same distances with the gap's sign turned.
        if self.filled:
            nearest = np.where(inside, -np.minimum.reduce(edge_gaps) - self.capsules[0][4], nearest)
        return nearest

    def ends(self) -> np.ndarray:
        """Return the capsules' ends as discs, 2N x 3 (x, y, radius)."""
        capsules = np.array(self.capsules)
        return np.concatenate([capsules[:, [0, 1, 4]], capsules[:, [2, 3, 5]]])

    def bounds(self) -> tuple[float, float, float, float]:
        """Return x0, y0, x1, y1 of the shape."""
        ends = self.ends()
        x0, y0 = (ends[:, :2] - ends[:, 2:]).min(0).tolist()
        x1, y1 = (ends[:, :2] + ends[:, 2:]).max(0).tolist()
        return x0, y0, x1, y1

    def discs(self) -> np.ndarray:
        """Return discs along all capsules, K x 3 (x, y, radius), dense enough for hollows of at most `HOLLOW`."""
        found = []
        for x0, y0, x1, y1, r0, r1 in self.capsules:
            radius = min(r0, r1)
            spacing = 2 * np.sqrt(2 * radius * HOLLOW - HOLLOW**2)
            share = np.linspace(0, 1, int(np.ceil(np.hypot(x1 - x0, y1 - y0) / spacing)) + 1)[:, None]
            first, last = np.array([x0, y0, r0]), np.array([x1, y1, r1])
            found.append(first + share * (last - first))
        return np.unique(np.concatenate(found).round(9), axis=0)

    def scaled(self, by: float) -> Shape:
        """Return the shape scaled about the origin."""
        return Shape(tuple(tuple(by * v for v in capsule) for capsule in self.capsules), self.filled)

    def shifted(self, x: float, y: float) -> Shape:
        """Return the shape translated."""
        moved = np.array(self.capsules) + np.array([x, y, x, y, 0.0, 0.0])
        return Shape(tuple(tuple(capsule) for capsule in moved.tolist()), self.filled)


def polyline(points: list[tuple[float, float]], radius: float, filled: bool = False) -> Shape:
    """Return a line of constant thickness through points; `filled`: closed, the points convex and clockwise."""
    ends = [*points[1:], points[0]] if filled else points[1:]
    return Shape(tuple((*p, *q, radius, radius) for p, q in zip(points, ends, strict=False)), filled)


@lru_cache(maxsize=256)
def moments(shape: Shape) -> tuple[float, float, float, float]:
    """Return the area, the centre of mass (x, y), and the mean distance from it, by counting a fine grid."""
    x0, y0, x1, y1 = shape.bounds()
    step = max(x1 - x0, y1 - y0) / 64
    x, y = np.meshgrid(np.arange(x0 + step / 2, x1, step), np.arange(y0 + step / 2, y1, step))
    inside = shape.distance(x, y) < 0
    x, y = x[inside], y[inside]
    centre = (float(x.mean()), float(y.mean()))
    return len(x) * step**2, *centre, float(np.hypot(x - centre[0], y - centre[1]).mean())


def centred(shape: Shape) -> Shape:
    """Return the shape with its centre of mass at the origin."""
    _, x, y, _ = moments(shape)
    return shape.shifted(-x, -y)
