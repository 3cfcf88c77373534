"""Shapes of things: lines with a thickness, alone or around a convex polygon; in units of the picture's height.

One description serves both worlds a thing lives in: its signed distance paints it, and a chain of discs along its
outline meets other things.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

# How far the hollows between two neighbouring discs may lie inside the true outline.
HOLLOW = 0.0015


@dataclass(frozen=True)
class Shape:
    """A union of thick lines.

    Attributes:
        lines: x0, y0, x1, y1, r0, r1 of each line: its ends and the radius at each end.
        filled: whether the lines, in turn, close a convex polygon that belongs to the shape.
    """

    lines: tuple[tuple[float, ...], ...]
    filled: bool = False

    def distance(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return how far each place is from the outline (any shape), negative inside."""
        nearest = np.full(np.shape(x), np.inf)
        inside = np.full(np.shape(x), self.filled)
        for x0, y0, x1, y1, r0, r1 in self.lines:
            ex, ey = x1 - x0, y1 - y0
            along = np.clip(((x - x0) * ex + (y - y0) * ey) / max(ex * ex + ey * ey, 1e-12), 0, 1)
            gap = np.hypot(x - x0 - along * ex, y - y0 - along * ey)
            nearest = np.minimum(nearest, gap - (r0 + along * (r1 - r0)))
            inside &= ex * (y - y0) - ey * (x - x0) >= 0
        # Inside a polygon the outline is its edges' outer side: the same distances with the gap's sign turned.
        if self.filled:
            deep = np.minimum.reduce([self._edge_gap(line, x, y) for line in self.lines])
            nearest = np.where(inside, -deep - self.lines[0][4], nearest)
        return nearest

    @staticmethod
    def _edge_gap(line: tuple[float, ...], x: np.ndarray, y: np.ndarray) -> np.ndarray:
        x0, y0, x1, y1 = line[:4]
        gap: np.ndarray = np.abs((x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)) / np.hypot(x1 - x0, y1 - y0)
        return gap

    def bounds(self) -> tuple[float, float, float, float]:
        """Return x0, y0, x1, y1 of the shape."""
        ends = self.ends()
        low, high = (ends[:, :2] - ends[:, 2:]).min(0), (ends[:, :2] + ends[:, 2:]).max(0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    def ends(self) -> np.ndarray:
        """Return the lines' ends as discs, 2N x 3 (x, y, radius)."""
        lines = np.array(self.lines)
        return np.concatenate([lines[:, [0, 1, 4]], lines[:, [2, 3, 5]]])

    def discs(self) -> np.ndarray:
        """Return discs along all lines, K x 3 (x, y, radius), dense enough to leave hollows of at most `HOLLOW`."""
        found = []
        for x0, y0, x1, y1, r0, r1 in self.lines:
            radius = min(r0, r1)
            spacing = 2 * np.sqrt(2 * radius * HOLLOW - HOLLOW**2)
            share = np.linspace(0, 1, int(np.ceil(np.hypot(x1 - x0, y1 - y0) / spacing)) + 1)[:, None]
            first, last = np.array([x0, y0, r0]), np.array([x1, y1, r1])
            found.append(first + share * (last - first))
        return np.unique(np.concatenate(found).round(9), axis=0)

    def scaled(self, by: float) -> Shape:
        """Return the shape made larger."""
        return Shape(tuple(tuple(by * v for v in line) for line in self.lines), self.filled)

    def moved(self, x: float, y: float) -> Shape:
        """Return the shape shifted."""
        shift = np.array([x, y, x, y, 0.0, 0.0])
        return Shape(tuple(tuple(float(v) for v in np.array(line) + shift) for line in self.lines), self.filled)


def line(points: list[tuple[float, float]], radius: float, filled: bool = False) -> Shape:
    """Return a line of constant thickness through points, closed and filled on request (then convex, clockwise)."""
    ends = [*points[1:], points[0]] if filled else points[1:]
    return Shape(tuple((*p, *q, radius, radius) for p, q in zip(points, ends, strict=False)), filled)


@lru_cache(maxsize=256)
def measure(shape: Shape) -> tuple[float, float, float, float]:
    """Return the area, the centre of mass (x, y), and the mean distance from it, by counting a fine grid."""
    x0, y0, x1, y1 = shape.bounds()
    step = max(x1 - x0, y1 - y0) / 64
    x, y = np.meshgrid(np.arange(x0 + step / 2, x1, step), np.arange(y0 + step / 2, y1, step))
    inside = shape.distance(x, y) < 0
    x, y = x[inside], y[inside]
    middle = (float(x.mean()), float(y.mean()))
    return len(x) * step**2, *middle, float(np.hypot(x - middle[0], y - middle[1]).mean())


def centred(shape: Shape) -> Shape:
    """Return the shape with its centre of mass at the origin."""
    _, x, y, _ = measure(shape)
    return shape.moved(-x, -y)
