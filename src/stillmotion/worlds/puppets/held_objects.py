"""Objects in the hand: a club and a ball."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillmotion.worlds.colours import Colour
from stillmotion.worlds.sprites import Canvas, Sprite, ellipse, rectangle


@dataclass(frozen=True)
class HeldObject:
    """What a person holds or throws, over T frames."""

    kind: str  # `club` or `ball`
    length: float  # of the club, or the ball's radius, in statures
    colour: Colour  # of the club's head or the ball
    point: np.ndarray  # T x 2, its place in body coordinates: the grip, or the ball's middle
    angle: np.ndarray  # T, the club's direction, as a limb's angle
    shown: np.ndarray  # T, whether it is in the picture
    front: np.ndarray  # T, whether it is in front of the body
    side: int  # the hand that holds it, 0 left, 1 right


def paint_club(length: float, colour: Colour, scale: float) -> Sprite:
    """Paint a club; (0, 0) is the grip, y runs down the shaft."""
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
