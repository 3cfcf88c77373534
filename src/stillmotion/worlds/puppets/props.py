"""Things that people hold: a club and a ball."""

from __future__ import annotations

import numpy as np

from stillmotion.worlds.colours import Colour
from stillmotion.worlds.sprites import Canvas, Sprite, ellipse, rectangle


def paint_club(length: float, colour: Colour, scale: float) -> Sprite:
    """Paint a club; (0, 0) is where the hands hold it, y runs down the shaft."""
    canvas = Canvas((-0.08, -0.06, 0.08, length + 0.03), scale)
    canvas.fill(rectangle(-0.0055, -0.05, 0.0055, 0.06), (0.08, 0.08, 0.08))
    shaft = np.array([[-0.0048, 0.05], [0.0048, 0.05], [0.0042, length], [-0.0042, length]])
    canvas.fill(shaft, (0.62, 0.63, 0.65))
    canvas.fill(ellipse(0.0, length, 0.034, 0.02), colour)
    return canvas.sprite()


def paint_ball(radius: float, colour: Colour, scale: float, light_side: float) -> Sprite:
    """Paint a ball; (0, 0) is its middle."""
    canvas = Canvas((-radius, -radius, radius, radius), scale)
    canvas.fill(ellipse(0.0, 0.0, radius, radius), colour)
    lit = np.hypot(canvas.x - 0.3 * radius * light_side, canvas.y + 0.35 * radius) / radius
    canvas.shade(np.clip(1.08 - 0.28 * lit**2, 0.4, 1.0).astype(np.float32))
    return canvas.sprite()
