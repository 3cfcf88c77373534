"""The appearance of one person apart from the body shape: skin, hair and clothes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillmotion.worlds.colours import Colour, jitter, mix, sample_hsv
from stillmotion.worlds.textures import Fabric


@dataclass(frozen=True)
class Appearance:
    """The appearance of one person; lengths in statures."""

    skin: Colour
    hair: Colour
    hair_style: str  # `bald`, `short`, `cap`, `bob`, `long`, `bun`, `afro` or `hood`
    beard: float  # 0 to 1, share of the hair's colour in the lower face
    glasses: bool  # dark glasses
    top: Fabric
    inner: Fabric  # visible where a jacket is open
    open_front: float  # half the width of that opening; 0 = closed
    neckline: float  # depth of the neckline
    sleeve: float  # end of the sleeves: 0 = none, 1 = elbow, 2 = wrist
    hem: float  # end of the top below the hip joints (negative = above)
    print: str  # `none`, `disc`, `bar` or `bolt`, on the chest
    print_colour: Colour
    bottom: Fabric  # of trousers or skirt
    leg: float  # end of the trousers: 0 = hip, 1 = knee, 2 = ankle
    skirt: float  # length of a skirt, 0 = none
    belt: Colour | None
    socks: Colour | None  # None for bare shins
    shoes: Colour
    soles: Colour
    gloves: Colour | None
    looseness: float  # distance of the cloth from the body


_SKIN = (
    (0.96, 0.82, 0.73), (0.91, 0.73, 0.60), (0.80, 0.60, 0.45), (0.62, 0.43, 0.30), (0.43, 0.28, 0.19),
    (0.28, 0.18, 0.13),
)  # fmt: skip
_HAIR = (
    (0.07, 0.06, 0.06), (0.16, 0.10, 0.07), (0.30, 0.18, 0.10), (0.52, 0.33, 0.16), (0.80, 0.64, 0.36),
    (0.55, 0.22, 0.10), (0.62, 0.61, 0.60),
)  # fmt: skip
_HAIR_STYLES = ("bald", "short", "cap", "bob", "long", "bun", "afro", "hood")


def _sample_cloth_colour(rng: np.random.Generator) -> Colour:
    """Draw a clothing colour: mostly dark or muted, sometimes white, sometimes saturated."""
    kind = rng.choice(4, p=[0.4, 0.15, 0.25, 0.2])
    saturation = ((0, 0.5), (0, 0.12), (0.1, 0.45), (0.6, 0.95))[kind]
    value = ((0.08, 0.35), (0.75, 0.97), (0.35, 0.75), (0.45, 0.95))[kind]
    return sample_hsv(rng, (0, 1), saturation, value)


def _sample_fabric(rng: np.random.Generator, patterned: float) -> Fabric:
    """Draw a fabric; `patterned` is the probability of a pattern."""
    first = _sample_cloth_colour(rng)
    second = _sample_cloth_colour(rng) if rng.random() < 0.6 else mix(first, (1, 1, 1), 0.6)
    kind = "plain"
    if rng.random() < patterned:
        kind = str(rng.choice(["stripes", "stripes", "checks", "checks", "dots", "blotches"]))
    angle = float(rng.choice([0.0, np.pi / 2, rng.uniform(0, np.pi)], p=[0.6, 0.25, 0.15]))
    return Fabric(kind, first, second, rng.uniform(0.028, 0.08), angle, int(rng.integers(2**31)))


def _sample_trousers(rng: np.random.Generator) -> Fabric:
    if rng.random() < 0.4:
        blue = sample_hsv(rng, (0.57, 0.64), (0.3, 0.65), (0.2, 0.65))
        return Fabric("denim", blue, mix(blue, (1, 1, 1), 0.25), 0.05, 0.0, int(rng.integers(2**31)))
    return _sample_fabric(rng, patterned=0.12)


def _sample_sleeve(rng: np.random.Generator, jacket: bool) -> float:
    if jacket or rng.random() < 0.45:
        return 2.0
    return float(rng.choice([0.25, rng.uniform(0.4, 0.7), rng.uniform(1.3, 1.7)], p=[0.15, 0.65, 0.2]))


def sample_appearance(rng: np.random.Generator) -> Appearance:
    """Draw skin, hair and clothes."""
    tone = rng.uniform(0, len(_SKIN) - 1.001)
    skin = jitter(rng, mix(_SKIN[int(tone)], _SKIN[int(tone) + 1], tone % 1), 0.04)
    hair = jitter(rng, _HAIR[int(rng.choice(len(_HAIR), p=[0.25, 0.22, 0.18, 0.1, 0.12, 0.05, 0.08]))], 0.1)
    style = str(rng.choice(_HAIR_STYLES, p=[0.06, 0.42, 0.07, 0.13, 0.15, 0.07, 0.05, 0.05]))
    masculine = style in ("bald", "short", "cap", "hood", "afro")
    jacket = rng.random() < 0.3
    sleeve = _sample_sleeve(rng, jacket)
    skirt = rng.uniform(0.17, 0.34) if not masculine and rng.random() < 0.3 else 0.0
    leg = 2.0 if rng.random() < 0.75 else rng.uniform(0.7, 1.15)
    dark = (0.05, 0.05, 0.06)
    shoe = _sample_cloth_colour(rng)
    return Appearance(
        skin=skin,
        hair=hair,
        hair_style=style,
        beard=rng.uniform(0.25, 0.8) if masculine and rng.random() < 0.3 else 0.0,
        glasses=bool(rng.random() < 0.12),
        top=_sample_fabric(rng, patterned=0.2 if jacket else 0.5),
        inner=_sample_fabric(rng, patterned=0.3),
        open_front=rng.uniform(0.015, 0.035) if jacket and rng.random() < 0.6 else 0.0,
        neckline=rng.uniform(0.0, 0.06),
        sleeve=sleeve,
        hem=rng.uniform(0.0, 0.075) if jacket else rng.uniform(-0.03, 0.05),
        print="none" if jacket or rng.random() < 0.6 else str(rng.choice(["disc", "bar", "bolt"])),
        print_colour=_sample_cloth_colour(rng),
        bottom=_sample_trousers(rng),
        leg=0.0 if skirt else leg,
        skirt=skirt,
        belt=dark if rng.random() < 0.3 else None,
        socks=_sample_cloth_colour(rng) if rng.random() < 0.5 else None,
        shoes=shoe,
        soles=mix(shoe, (0.95, 0.95, 0.95) if rng.random() < 0.5 else dark, 0.8),
        gloves=dark if rng.random() < 0.04 else None,
        looseness=rng.uniform(0.003, 0.014) + (0.006 if jacket else 0.0),
    )
