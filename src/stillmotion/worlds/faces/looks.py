"""Looks: all of a person that is not geometry (skin, eyes, brows, lips, hair, beard, shirt)."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from stillmotion.worlds.colours import Colour, jitter, mix
from stillmotion.worlds.puppets.clothes import sample_clothes
from stillmotion.worlds.textures import Fabric

STYLES = ("bald", "receding", "short", "side", "curls", "fringe", "bob", "long", "long_fringe", "bun", "beanie")
_MASCULINE = (0.09, 0.1, 0.27, 0.2, 0.1, 0.08, 0.0, 0.05, 0.0, 0.02, 0.09)
_FEMININE = (0.01, 0.0, 0.06, 0.08, 0.1, 0.05, 0.2, 0.2, 0.15, 0.09, 0.06)
_IRIS = ((0.24, 0.13, 0.07), (0.36, 0.22, 0.10), (0.30, 0.38, 0.22), (0.28, 0.44, 0.60), (0.45, 0.50, 0.52))


@dataclass(frozen=True)
class Looks:
    """The looks of one person.

    Attributes:
        skin: skin colour.
        lips: colour of the lips.
        blush: redness of cheeks, nose and ears, 0 to 1.
        freckles: density, 0 to 1.
        iris: colour of the eyes.
        lashes: strength of the lash line, 0 to 1.
        brows: colour of the brows.
        brow_width: thickness of the brows, in the model's units.
        brow_arch: how much the brows' middle is higher than their ends.
        beard: 0 = shaved, 1 = full beard.
        moustache: whether a beard covers the upper lip too.
        hair: colour of the hair.
        style: one of `STYLES`.
        parting: -1 to 1, where the hair parts.
        volume: thickness of the hair, 1 = usual.
        hat: colour of a hat.
        top: fabric of the shirt.
        collar: depth of the neckline, 0 (at the neck) to 1.
        seed: names the noise in skin and hair.
    """

    skin: Colour
    lips: Colour
    blush: float
    freckles: float
    iris: Colour
    lashes: float
    brows: Colour
    brow_width: float
    brow_arch: float
    beard: float
    moustache: bool
    hair: Colour
    style: str
    parting: float
    volume: float
    hat: Colour
    top: Fabric
    collar: float
    seed: int


def sample_looks(rng: np.random.Generator) -> Looks:
    """Draw looks."""
    clothes = sample_clothes(rng)  # skin, hair and shirt are those of the puppets
    feminine = bool(rng.random() < 0.5)
    style = str(rng.choice(STYLES, p=_FEMININE if feminine else _MASCULINE))
    # Seen from so near, a tint of green in the hair would be noticed.
    red_part, green_part, blue_part = sorted(clothes.hair, reverse=True)
    skin, hair = clothes.skin, (red_part, green_part, blue_part)
    brightness = sum(skin) / 3
    red = mix(skin, (0.70, 0.22, 0.22), 0.42 if brightness > 0.45 else 0.3)
    if feminine and rng.random() < 0.4:
        red = mix(red, colorsys.hsv_to_rgb(rng.uniform(0.93, 1.0), 0.75, 0.7), rng.uniform(0.3, 0.8))
    iris = _IRIS[
        int(rng.choice(len(_IRIS), p=[0.34, 0.24, 0.14, 0.18, 0.1] if brightness > 0.5 else [0.7, 0.3, 0, 0, 0]))
    ]
    bearded = not feminine and rng.random() < 0.42
    return Looks(
        skin=skin,
        lips=jitter(rng, red, 0.04),
        blush=rng.uniform(0.1, 0.8),
        freckles=rng.uniform(0.4, 1) if rng.random() < 0.2 else 0.0,
        iris=jitter(rng, iris, 0.1),
        lashes=float(rng.uniform(0.7, 1.0) if feminine else rng.uniform(0.45, 0.75)),
        brows=mix(mix(hair, (0.12, 0.08, 0.06), 0.45), skin, 0.08),
        brow_width=float(rng.uniform(0.020, 0.030) if feminine else rng.uniform(0.026, 0.042)),
        brow_arch=rng.uniform(0.02, 0.06),
        beard=rng.uniform(0.25, 1.0) if bearded else 0.0,
        moustache=bool(rng.random() < 0.75),
        hair=hair,
        style=style,
        parting=rng.uniform(-1, 1),
        volume=rng.uniform(0.75, 1.4),
        hat=colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.1, 0.8), rng.uniform(0.2, 0.8)),
        top=clothes.top,
        collar=rng.random(),
        seed=int(rng.integers(2**31)),
    )
