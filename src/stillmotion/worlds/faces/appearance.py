"""The appearance of a person apart from geometry (skin, eyes, brows, lips, hair, beard, shirt), and the scene."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from stillmotion.worlds.colours import Colour, jitter, mix, sample_hsv
from stillmotion.worlds.puppets.appearance import sample_appearance as sample_puppet_appearance
from stillmotion.worlds.textures import Fabric, Surface, sample_wall

HAIR_STYLES = ("bald", "receding", "short", "side", "curls", "fringe", "bob", "long", "long_fringe", "bun", "beanie")
_MASCULINE = (0.09, 0.1, 0.27, 0.2, 0.1, 0.08, 0.0, 0.05, 0.0, 0.02, 0.09)
_FEMININE = (0.01, 0.0, 0.06, 0.08, 0.1, 0.05, 0.2, 0.2, 0.15, 0.09, 0.06)
_IRIS = ((0.24, 0.13, 0.07), (0.36, 0.22, 0.10), (0.30, 0.38, 0.22), (0.28, 0.44, 0.60), (0.45, 0.50, 0.52))


@dataclass(frozen=True)
class Appearance:
    """The appearance of one person."""

    skin: Colour
    lips: Colour
    blush: float  # redness of cheeks, nose and ears, 0 to 1
    freckles: float  # density, 0 to 1
    iris: Colour
    lashes: float  # strength of the lash line, 0 to 1
    brows: Colour
    brow_width: float  # thickness of the brows, in the model's units
    brow_arch: float  # how much the brows' middle is higher than their ends
    beard: float  # 0 = shaved, 1 = full beard
    moustache: bool  # whether a beard covers the upper lip too
    hair: Colour
    style: str  # one of `HAIR_STYLES`
    parting: float  # -1 to 1, where the hair parts
    volume: float  # thickness of the hair, 1 = average
    hat: Colour
    top: Fabric  # of the shirt
    collar: float  # depth of the neckline, 0 (at the neck) to 1
    seed: int  # of the noise in skin and hair


def sample_appearance(rng: np.random.Generator) -> Appearance:
    """Draw an appearance."""
    clothes = sample_puppet_appearance(rng)  # skin, hair and shirt are those of the puppets
    feminine = bool(rng.random() < 0.5)
    style = str(rng.choice(HAIR_STYLES, p=_FEMININE if feminine else _MASCULINE))
    # In a close-up, a tint of green in the hair would be visible.
    red_part, green_part, blue_part = sorted(clothes.hair, reverse=True)
    skin, hair = clothes.skin, (red_part, green_part, blue_part)
    brightness = sum(skin) / 3
    red = mix(skin, (0.70, 0.22, 0.22), 0.42 if brightness > 0.45 else 0.3)
    if feminine and rng.random() < 0.4:
        red = mix(red, colorsys.hsv_to_rgb(rng.uniform(0.93, 1.0), 0.75, 0.7), rng.uniform(0.3, 0.8))
    shares = [0.34, 0.24, 0.14, 0.18, 0.1] if brightness > 0.5 else [0.7, 0.3, 0, 0, 0]
    iris = _IRIS[int(rng.choice(len(_IRIS), p=shares))]
    bearded = not feminine and rng.random() < 0.42
    return Appearance(
        skin=skin,
        lips=jitter(rng, red, 0.04),
        blush=rng.uniform(0.1, 0.8),
        freckles=rng.uniform(0.4, 1) if rng.random() < 0.2 else 0.0,
        iris=jitter(rng, iris, 0.1),
        lashes=rng.uniform(0.7, 1.0) if feminine else rng.uniform(0.45, 0.75),
        brows=mix(mix(hair, (0.12, 0.08, 0.06), 0.45), skin, 0.08),
        brow_width=rng.uniform(0.020, 0.030) if feminine else rng.uniform(0.026, 0.042),
        brow_arch=rng.uniform(0.02, 0.06),
        beard=rng.uniform(0.25, 1.0) if bearded else 0.0,
        moustache=bool(rng.random() < 0.75),
        hair=hair,
        style=style,
        parting=rng.uniform(-1, 1),
        volume=rng.uniform(0.75, 1.4),
        hat=sample_hsv(rng, (0, 1), (0.1, 0.8), (0.2, 0.8)),
        top=clothes.top,
        collar=rng.random(),
        seed=int(rng.integers(2**31)),
    )


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
