"""The scene: what is behind the person, the light and the camera's film."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillmotion.worlds.colours import Colour, jitter
from stillmotion.worlds.textures import Surface, sample_wall


@dataclass(frozen=True)
class Scene:
    """Everything in the picture but the person.

    Attributes:
        wall: what is behind.
        light: direction towards the light, a unit vector in the picture's axes (x right, y up, z to the viewer).
        ambient: light from everywhere, 0 to 1; the directed light brings the rest.
        gloss: strength of the skin's highlights.
        tint: colour of the light.
        noise: standard deviation of the sensor's noise, in [0, 1] brightness.
        noise_seed: names the noise.
        softness: blur of the lens, standard deviation in picture heights.
    """

    wall: Surface
    light: tuple[float, float, float]
    ambient: float
    gloss: float
    tint: Colour
    noise: float
    noise_seed: int
    softness: float


def sample_scene(rng: np.random.Generator) -> Scene:
    """Draw a scene."""
    side, height = rng.uniform(-0.8, 0.8), rng.uniform(0.15, 0.8)
    light = np.array([side, height, 1.0]) / np.sqrt(side**2 + height**2 + 1)
    a, b, c = (float(v) for v in light)
    return Scene(
        wall=sample_wall(rng),
        light=(a, b, c),
        ambient=rng.uniform(0.42, 0.62),
        gloss=rng.uniform(0.03, 0.14),
        tint=jitter(rng, (0.98, 0.98, 0.98), 0.04),
        noise=0.0 if rng.random() < 0.4 else rng.uniform(0.002, 0.012),
        noise_seed=int(rng.integers(2**31)),
        softness=float(0.005 * rng.random() ** 2),
    )
