"""Things that people hold: a club and a ball."""

from __future__ import annotations

import numpy as np

from stillmotion.worlds.puppets.sprites import Easel, Sprite, box, ellipse
from stillmotion.worlds.puppets.textures import Colour


def paint_club(length: float, colour: Colour, scale: float) -> Sprite:
    """Paint a club; (0, 0) is where the hands hold it, y runs down the shaft."""
    easel = Easel((-0.08, -0.06, 0.08, length + 0.03), scale)
    easel.lay(box(-0.0055, -0.05, 0.0055, 0.06), (0.08, 0.08, 0.08))
    shaft = np.array([[-0.0048, 0.05], [0.0048, 0.05], [0.0042, length], [-0.0042, length]])
    easel.lay(shaft, (0.62, 0.63, 0.65))
    easel.lay(ellipse(0.0, length, 0.034, 0.02), colour)
    return easel.sprite()


def paint_ball(radius: float, colour: Colour, scale: float, light_side: float) -> Sprite:
    """Paint a ball; (0, 0) is its middle."""
    easel = Easel((-radius, -radius, radius, radius), scale)
    easel.lay(ellipse(0.0, 0.0, radius, radius), colour)
    lit = np.hypot(easel.x - 0.3 * radius * light_side, easel.y + 0.35 * radius) / radius
    easel.shade(np.clip(1.08 - 0.28 * lit**2, 0.4, 1.0).astype(np.float32))
    return easel.sprite()
