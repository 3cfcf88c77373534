"""Sprites: pictures of single parts, painted once per clip and then only transformed, so textures move with them.

A sprite is painted in its part's own coordinates; the unit is the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stillmotion.worlds.colours import Colour

POLYGON_SHIFT = 5  # sub-pixel bits of OpenCV's polygon corners
_MARGIN = 2.0  # empty pixels around a sprite, so that its edge is interpolated


@dataclass(frozen=True)
class Sprite:
    """A painted part."""

    image: np.ndarray  # float32, H x W x 4: premultiplied RGB and alpha in [0, 1]
    origin: tuple[float, float]  # pixel (x, y) of the part's own (0, 0)
    scale: float  # pixels per unit


class Canvas:
    """Paints one sprite, layer over layer.

    Attributes:
        x: H x W, every pixel's x in the part's coordinates.
        y: H x W, its y.
        image: float32, H x W x 4, premultiplied RGBA.
    """

    def __init__(self, bounds: tuple[float, float, float, float], scale: float) -> None:
        """Begin with an empty canvas: x0, y0, x1, y1 in the part's coordinates, and pixels per unit."""
        x0, y0, x1, y1 = bounds
        self.scale = scale
        self.origin = (_MARGIN - x0 * scale, _MARGIN - y0 * scale)
        width, height = (int(np.ceil(extent * scale + 2 * _MARGIN)) for extent in (x1 - x0, y1 - y0))
        columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        self.x, self.y = (columns - self.origin[0]) / scale, (rows - self.origin[1]) / scale
        self.image = np.zeros((height, width, 4), np.float32)

    def coverage(self, outline: np.ndarray) -> np.ndarray:
        """Return the share of each pixel (0 to 1) inside a polygon (N x 2)."""
        mask = np.zeros(self.x.shape, np.uint8)
        corners = np.round((outline * self.scale + np.array(self.origin)) * 2**POLYGON_SHIFT).astype(np.int32)
        cv2.fillPoly(mask, [corners], 255, lineType=cv2.LINE_AA, shift=POLYGON_SHIFT)
        return mask.astype(np.float32) / 255

    def above(self, height: float | np.ndarray) -> np.ndarray:
        """Return the share of each pixel (0 to 1) above a line in the picture, y < `height` (a number or H x W)."""
        return np.clip((height - self.y) * self.scale + 0.5, 0, 1)

    def fill(
        self, outline: np.ndarray, colour: np.ndarray | Colour, opacity: float = 1.0, clip: np.ndarray | None = None
    ) -> None:
        """Paint a polygon (N x 2) in one colour or H x W x 3 colours, where `clip` (H x W, 0 to 1) allows it."""
        alpha = self.coverage(outline) * opacity
        if clip is not None:
            alpha = alpha * clip
        self.image *= (1 - alpha)[..., None]
        self.image[..., :3] += alpha[..., None] * np.asarray(colour, np.float32)
        self.image[..., 3] += alpha

    def shade(self, light: np.ndarray) -> None:
        """Multiply the colours painted so far by light (H x W)."""
        self.image[..., :3] *= light[..., None]

    def sprite(self) -> Sprite:
        """Return what was painted."""
        self.image[..., :3] = np.clip(self.image[..., :3], 0, self.image[..., 3:])
        return Sprite(self.image, self.origin, self.scale)


def hermite(knots_x: np.ndarray, knots_y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return a smooth curve through the knots at x: cubic Hermite, finite-difference slopes, constant outside."""
    slopes = np.gradient(knots_y, knots_x)
    x = np.clip(x, knots_x[0], knots_x[-1])
    i = np.clip(np.searchsorted(knots_x, x, side="right") - 1, 0, len(knots_x) - 2)
    width = knots_x[i + 1] - knots_x[i]
    t = (x - knots_x[i]) / width
    rise = (2 * t**3 - 3 * t**2 + 1) * knots_y[i] + (3 * t**2 - 2 * t**3) * knots_y[i + 1]
    tangents = (t**3 - 2 * t**2 + t) * slopes[i] + (t**3 - t**2) * slopes[i + 1]
    return rise + width * tangents


def ellipse(x: float, y: float, rx: float, ry: float) -> np.ndarray:
    """Return the outline of an ellipse, 40 x 2."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=-1)


def rectangle(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    """Return the outline of a rectangle, 4 x 2."""
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def symmetric(right: np.ndarray) -> np.ndarray:
    """Return a closed outline (2N x 2) from its right half (N x 2, from top to bottom), mirrored in x."""
    return np.roll(np.concatenate([right, (right * [-1, 1])[::-1]]), 1, axis=0)


def tube(
    along: np.ndarray, left: np.ndarray, right: np.ndarray, round_start: bool = True, round_end: bool = True
) -> np.ndarray:
    """Return a limb's outline: from `left` to `right` (x) at each `along` (y), with round or flat ends."""
    sides = [np.stack([right, along], -1)]
    angle = np.linspace(0, np.pi, 14)[1:-1]
    if round_end:
        middle, radius = 0.5 * (left[-1] + right[-1]), 0.5 * (right[-1] - left[-1])
        sides.append(np.stack([middle + radius * np.cos(angle), along[-1] + radius * np.sin(angle)], -1))
    sides.append(np.stack([left, along], -1)[::-1])
    if round_start:
        middle, radius = 0.5 * (left[0] + right[0]), 0.5 * (right[0] - left[0])
        sides.append(np.stack([middle - radius * np.cos(angle), along[0] - radius * np.sin(angle)], -1))
    return np.concatenate(sides)


def cylinder_shading(
    x: np.ndarray, left: np.ndarray, right: np.ndarray, light_side: float, depth: float | np.ndarray = 0.34
) -> np.ndarray:
    """Return the light on a round limb: bright towards the light, dark towards its edges by `depth`."""
    middle, radius = 0.5 * (left + right), np.maximum(0.5 * (right - left), 1e-4)
    across = np.clip((x - middle) / radius, -1.1, 1.1)
    return (1.04 - 0.8 * depth * np.abs(across - 0.35 * light_side) ** 2.2).astype(np.float32)
