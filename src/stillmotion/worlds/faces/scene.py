"""The scene: background, light and camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillmotion.worlds.colours import Colour, jitter
from stillmotion.worlds.textures import Surface, sample_wall


@dataclass(frozen=True)
class Scene:
    """Everything in the picture but the person."""

    wall: Surface  # the background
    light: tuple[float, float, float]  # unit vector to the light (x right, y up, z to the viewer)
    ambient: float  # ambient light, 0 to 1; the directed light adds the rest
    gloss: float  # strength of the skin's highlights
    tint: Colour  # of the light
    noise: float  # standard deviation of the sensor's noise, in [0, 1] brightness
    noise_seed: int
    softness: float  # blur of the lens, standard deviation in picture heights


def sample_scene(rng: np.random.Generator) -> Scene:
    """Draw a scene."""
    side, height = rng.uniform(-0.8, 0.8), rng.uniform(0.15, 0.8)
    a, b, c = (np.array([side, height, 1.0]) / np.sqrt(side**2 + height**2 + 1)).tolist()
    return Scene(
        wall=sample_wall(rng),
        light=(a, b, c),
        ambient=rng.uniform(0.42, 0.62),
        gloss=rng.uniform(0.03, 0.14),
        tint=jitter(rng, (0.98, 0.98, 0.98), 0.04),
        noise=0.0 if rng.random() < 0.4 else rng.uniform(0.002, 0.012),
        noise_seed=int(rng.integers(2**31)),
        softness=0.005 * rng.random() ** 2,
    )
