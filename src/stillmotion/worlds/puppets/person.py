"""What the painters of all body parts share."""

from __future__ import annotations

from dataclasses import dataclass

from stillmotion.worlds.puppets.appearance import Appearance
from stillmotion.worlds.puppets.body_shape import BodyShape


@dataclass(frozen=True)
class Person:
    """One person, seen from one side at one size."""

    body: BodyShape
    appearance: Appearance
    view: str  # `front` or `side`
    scale: float  # pixels per stature
    light_side: float  # side of the light, -1 left to +1 right
