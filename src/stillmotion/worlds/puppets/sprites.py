"""Sprites: small pictures of body parts, painted once per clip and then only moved.

A sprite lives in its part's own coordinates, in statures: y runs along the bone, x across it. So patterns
stick to the limb that wears them.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stillmotion.worlds.puppets.textures import Colour

_SHIFT = 5  # sub-pixel bits of OpenCV's polygon corners


@dataclass(frozen=True)
class Sprite:
    """A painted part.

    Attributes:
        image: float32, H x W x 4, RGB multiplied by alpha, and alpha, in [0, 1].
        origin: pixel (x, y) of the part's own (0, 0).
        scale: pixels per stature.
    """

    image: np.ndarray
    origin: tuple[float, float]
    scale: float


class Easel:
    """Paints one sprite, layer over layer; every length in statures."""

    def __init__(self, bounds: tuple[float, float, float, float], scale: float) -> None:
        x0, y0, x1, y1 = bounds
        margin = 2.0
        self.scale = scale
        self.origin = (margin - x0 * scale, margin - y0 * scale)
        width, height = (
            int(np.ceil((x1 - x0) * scale + 2 * margin)),
            int(np.ceil((y1 - y0) * scale + 2 * margin)),
        )
        columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        self.x, self.y = (columns - self.origin[0]) / scale, (rows - self.origin[1]) / scale
        self.image = np.zeros((height, width, 4), np.float32)

    def cover(self, outline: np.ndarray) -> np.ndarray:
        """Return how much of each pixel (0 to 1) lies inside the outline (N x 2)."""
        mask = np.zeros(self.x.shape, np.uint8)
        corners = np.round((outline * self.scale + np.array(self.origin)) * 2**_SHIFT).astype(np.int32)
        cv2.fillPoly(mask, [corners], 255, lineType=cv2.LINE_AA, shift=_SHIFT)
        return mask.astype(np.float32) / 255

    def lay(
        self,
        outline: np.ndarray,
        colour: np.ndarray | Colour,
        opacity: float = 1.0,
        inside: np.ndarray | None = None,
    ) -> None:
        """Paint an outline (N x 2) in a colour or a picture of colours, but only `inside` (H x W)."""
        alpha = self.cover(outline) * opacity
        if inside is not None:
            alpha = alpha * inside
        self.image *= (1 - alpha)[..., None]
        self.image[..., :3] += alpha[..., None] * np.asarray(colour, np.float32)
        self.image[..., 3] += alpha

    def shade(self, light: np.ndarray) -> None:
        """Multiply what is painted so far by a picture of light (H x W)."""
        self.image[..., :3] *= light[..., None]

    def sprite(self) -> Sprite:
        """Return what was painted."""
        self.image[..., :3] = np.clip(self.image[..., :3], 0, self.image[..., 3:])
        return Sprite(self.image, self.origin, self.scale)


def curve(knots_x: np.ndarray, knots_y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return a smooth curve through the knots at x: cubic Hermite, finite-difference slopes, flat outside."""
    slopes = np.gradient(knots_y, knots_x)
    x = np.clip(x, knots_x[0], knots_x[-1])
    i = np.clip(np.searchsorted(knots_x, x, side="right") - 1, 0, len(knots_x) - 2)
    width = knots_x[i + 1] - knots_x[i]
    t = (x - knots_x[i]) / width
    rise = (2 * t**3 - 3 * t**2 + 1) * knots_y[i] + (3 * t**2 - 2 * t**3) * knots_y[i + 1]
    tangents = (t**3 - 2 * t**2 + t) * slopes[i] + (t**3 - t**2) * slopes[i + 1]
    return rise + width * tangents


def ellipse(x: float, y: float, rx: float, ry: float, count: int = 40) -> np.ndarray:
    """Return the outline of an ellipse, N x 2."""
    turn = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([x + rx * np.cos(turn), y + ry * np.sin(turn)], axis=-1)


def box(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    """Return the outline of a rectangle, 4 x 2."""
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def tube(
    along: np.ndarray, left: np.ndarray, right: np.ndarray, round_start: bool = True, round_end: bool = True
) -> np.ndarray:
    """Return a limb's outline: from `left` to `right` (x) at each `along` (y), with round or flat ends."""
    sides = [np.stack([right, along], -1)]
    turn = np.linspace(0, np.pi, 14)[1:-1]
    if round_end:
        middle, radius = 0.5 * (left[-1] + right[-1]), 0.5 * (right[-1] - left[-1])
        sides.append(np.stack([middle + radius * np.cos(turn), along[-1] + radius * np.sin(turn)], -1))
    sides.append(np.stack([left, along], -1)[::-1])
    if round_start:
        middle, radius = 0.5 * (left[0] + right[0]), 0.5 * (right[0] - left[0])
        sides.append(np.stack([middle - radius * np.cos(turn), along[0] - radius * np.sin(turn)], -1))
    return np.concatenate(sides)


def cylinder_light(
    x: np.ndarray, left: np.ndarray, right: np.ndarray, light_side: float, depth: float | np.ndarray = 0.34
) -> np.ndarray:
    """Return the light on a round limb: bright where it faces the light, dark towards its edges."""
    middle, radius = 0.5 * (left + right), np.maximum(0.5 * (right - left), 1e-4)
    across = np.clip((x - middle) / radius, -1.1, 1.1)
    return (1.04 - 0.8 * depth * np.abs(across - 0.35 * light_side) ** 2.2).astype(np.float32)
