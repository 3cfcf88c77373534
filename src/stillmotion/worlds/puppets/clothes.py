"""Clothes, skin and hair: what one person looks like, apart from the proportions."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from stillmotion.worlds.colours import Colour, jitter, mix
from stillmotion.worlds.textures import Fabric


@dataclass(frozen=True)
class Clothes:
    """The looks of one person.

    Attributes:
        skin: skin colour.
        hair: hair colour.
        hair_style: `bald`, `short`, `cap`, `bob`, `long`, `bun`, `afro` or `hood`.
        beard: 0 to 1, how much the lower face takes the hair's colour.
        glasses: whether there are dark glasses.
        top: fabric of the upper part.
        inner: fabric seen where a jacket stands open.
        open_front: half the width of that opening, in statures; 0 = closed.
        neckline: depth of the neckline, in statures.
        sleeve: how far sleeves reach: 0 = none, 1 = elbow, 2 = wrist.
        hem: where the upper part ends, in statures below the hip joints (negative = above).
        print: `none`, `disc`, `bar` or `bolt`, on the chest.
        print_colour: its colour.
        bottom: fabric of trousers or skirt.
        leg: how far trousers reach: 0 = hip, 1 = knee, 2 = ankle.
        skirt: length of a skirt in statures, 0 = none.
        belt: colour of a belt, or None.
        socks: colour of socks, or None for bare shins.
        shoes: colour of the shoes.
        soles: colour of the soles.
        gloves: colour of gloves, or None.
        loose: how far cloth stands off the body, in statures.
    """

    skin: Colour
    hair: Colour
    hair_style: str
    beard: float
    glasses: bool
    top: Fabric
    inner: Fabric
    open_front: float
    neckline: float
    sleeve: float
    hem: float
    print: str
    print_colour: Colour
    bottom: Fabric
    leg: float
    skirt: float
    belt: Colour | None
    socks: Colour | None
    shoes: Colour
    soles: Colour
    gloves: Colour | None
    loose: float


_SKIN = (
    (0.96, 0.82, 0.73),
    (0.91, 0.73, 0.60),
    (0.80, 0.60, 0.45),
    (0.62, 0.43, 0.30),
    (0.43, 0.28, 0.19),
    (0.28, 0.18, 0.13),
)
_HAIR = (
    (0.07, 0.06, 0.06),
    (0.16, 0.10, 0.07),
    (0.30, 0.18, 0.10),
    (0.52, 0.33, 0.16),
    (0.80, 0.64, 0.36),
    (0.55, 0.22, 0.10),
    (0.62, 0.61, 0.60),
)


def sample_cloth_colour(rng: np.random.Generator) -> Colour:
    """Draw a clothing colour: mostly dark or muted, sometimes white, sometimes loud."""
    kind = rng.choice(4, p=[0.4, 0.15, 0.25, 0.2])
    hue = rng.random()
    if kind == 0:
        return colorsys.hsv_to_rgb(hue, rng.uniform(0, 0.5), rng.uniform(0.08, 0.35))
    if kind == 1:
        return colorsys.hsv_to_rgb(hue, rng.uniform(0, 0.12), rng.uniform(0.75, 0.97))
    if kind == 2:
        return colorsys.hsv_to_rgb(hue, rng.uniform(0.1, 0.45), rng.uniform(0.35, 0.75))
    return colorsys.hsv_to_rgb(hue, rng.uniform(0.6, 0.95), rng.uniform(0.45, 0.95))


def sample_fabric(rng: np.random.Generator, patterned: float) -> Fabric:
    """Draw a fabric; `patterned` is the probability of a pattern."""
    first = sample_cloth_colour(rng)
    second = sample_cloth_colour(rng) if rng.random() < 0.6 else mix(first, (1, 1, 1), 0.6)
    kind = "plain"
    if rng.random() < patterned:
        kind = str(rng.choice(["stripes", "stripes", "checks", "checks", "dots", "blotches"]))
    angle = float(rng.choice([0.0, np.pi / 2, rng.uniform(0, np.pi)], p=[0.6, 0.25, 0.15]))
    return Fabric(kind, first, second, rng.uniform(0.028, 0.08), angle, int(rng.integers(2**31)))


def _sample_trousers(rng: np.random.Generator) -> Fabric:
    if rng.random() < 0.4:
        blue = colorsys.hsv_to_rgb(rng.uniform(0.57, 0.64), rng.uniform(0.3, 0.65), rng.uniform(0.2, 0.65))
        return Fabric("denim", blue, mix(blue, (1, 1, 1), 0.25), 0.05, 0.0, int(rng.integers(2**31)))
    return sample_fabric(rng, patterned=0.12)


def sample_clothes(rng: np.random.Generator) -> Clothes:
    """Draw skin, hair and clothes."""
    tone = rng.uniform(0, len(_SKIN) - 1.001)
    skin = jitter(rng, mix(_SKIN[int(tone)], _SKIN[int(tone) + 1], tone % 1), 0.04)
    hair = jitter(rng, _HAIR[int(rng.choice(len(_HAIR), p=[0.25, 0.22, 0.18, 0.1, 0.12, 0.05, 0.08]))], 0.1)
    style = str(
        rng.choice(
            ["bald", "short", "cap", "bob", "long", "bun", "afro", "hood"],
            p=[0.06, 0.42, 0.07, 0.13, 0.15, 0.07, 0.05, 0.05],
        )
    )
    masculine = style in ("bald", "short", "cap", "hood", "afro")
    jacket = rng.random() < 0.3
    sleeve = (
        2.0
        if jacket or rng.random() < 0.45
        else float(rng.choice([0.25, rng.uniform(0.4, 0.7), rng.uniform(1.3, 1.7)], p=[0.15, 0.65, 0.2]))
    )
    skirt = rng.uniform(0.17, 0.34) if not masculine and rng.random() < 0.3 else 0.0
    leg = 2.0 if rng.random() < 0.75 else rng.uniform(0.7, 1.15)
    dark = (0.05, 0.05, 0.06)
    shoe = sample_cloth_colour(rng)
    return Clothes(
        skin=skin,
        hair=hair,
        hair_style=style,
        beard=rng.uniform(0.25, 0.8) if masculine and rng.random() < 0.3 else 0.0,
        glasses=bool(rng.random() < 0.12),
        top=sample_fabric(rng, patterned=0.2 if jacket else 0.5),
        inner=sample_fabric(rng, patterned=0.3),
        open_front=rng.uniform(0.015, 0.035) if jacket and rng.random() < 0.6 else 0.0,
        neckline=rng.uniform(0.0, 0.06),
        sleeve=sleeve,
        hem=rng.uniform(0.0, 0.075) if jacket else rng.uniform(-0.03, 0.05),
        print="none" if jacket or rng.random() < 0.6 else str(rng.choice(["disc", "bar", "bolt"])),
        print_colour=sample_cloth_colour(rng),
        bottom=_sample_trousers(rng),
        leg=0.0 if skirt else leg,
        skirt=skirt,
        belt=dark if rng.random() < 0.3 else None,
        socks=sample_cloth_colour(rng) if rng.random() < 0.5 else None,
        shoes=shoe,
        soles=mix(shoe, (0.95, 0.95, 0.95) if rng.random() < 0.5 else dark, 0.8),
        gloves=dark if rng.random() < 0.04 else None,
        loose=rng.uniform(0.003, 0.014) + (0.006 if jacket else 0.0),
    )
