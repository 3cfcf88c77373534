"""Looks: the outlines of stems, leaves and flowers, and the small pictures that are laid into them.

Each look is painted once per clip, in its own coordinates: u runs from 0 at the hinge to 1 at the far end, v from -1
to 1 across. For flowers u and v run over the disc, from -1 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillmotion.worlds.colours import Colour
from stillmotion.worlds.textures import value_noise

# Tiles reach a little beyond the outline, so that no edge mixes with the tile beside it.
_MARGIN = 0.2


@dataclass(frozen=True)
class Look:
    """What a kind of segment looks like.

    Attributes:
        kind: `stem`, `blade`, `leaf`, `frond` or `flower`.
        first: main colour.
        second: colour of veins, stripes, petal tips or rings on bark.
        third: colour of the rim of variegated leaves, or of a flower's middle.
        waist: leaves: the power of u in the outline; small = widest near the hinge.
        tip: leaves: the power of 1 - u; small = blunt.
        petiole: leaves: share of the length that is stalk.
        veins: leaves: pairs of side veins; flowers: petals; fronds: leaflets on each side of a segment.
        pattern: leaves: share of the half width that has the third colour at the rim; stems: strength of rings.
        seed: names the noise.
    """

    kind: str
    first: Colour
    second: Colour
    third: Colour
    waist: float
    tip: float
    petiole: float
    veins: int
    pattern: float
    seed: int


def _half_width(look: Look, u: np.ndarray) -> np.ndarray:
    """Return a leaf's half width (0 to 1) along its length."""
    lamina = np.clip((u - look.petiole) / (1 - look.petiole), 0, 1)
    top = look.waist / (look.waist + look.tip)
    peak = top**look.waist * (1 - top) ** look.tip
    return lamina**look.waist * (1 - lamina) ** look.tip / peak


def _petals(look: Look, turn: np.ndarray) -> np.ndarray:
    """Return a flower's radius (0 to 1) by direction."""
    return 0.66 + 0.34 * np.abs(np.cos(0.5 * look.veins * turn)) ** 0.7


def outline(look: Look, length: float, start: float, end: float) -> np.ndarray:
    """Return the outline (N x 2: along, across; the units of `length`) of a segment of this look."""
    if look.kind == "flower":
        turn = np.linspace(0, 2 * np.pi, 6 * look.veins, endpoint=False)
        radius = end * _petals(look, turn)
        return np.stack([length + radius * np.cos(turn), radius * np.sin(turn)], -1)
    if look.kind == "leaf":
        lamina = 0.5 - 0.5 * np.cos(np.linspace(0, np.pi, 10))
        u = look.petiole + (1 - look.petiole) * lamina
        half = np.maximum(end * _half_width(look, u), 0.0)
        half[0] = start
        side = np.stack([u * length, half], -1)
        if look.petiole > 0:
            side = np.concatenate([[[0.0, start]], side])
        if look.waist < 0.4:  # hearts: the lobes reach back behind the stalk's end
            side = np.insert(side, len(side) - 9, [[(look.petiole - 0.09) * length, 0.62 * end]], axis=0)
        return np.concatenate([side, (side * [1, -1])[::-1]])
    if look.kind == "frond":
        return _fishbone(look, length, start, end)
    turn = np.linspace(-0.5 * np.pi, 0.5 * np.pi, 5)
    far = np.stack([length + end * np.cos(turn), end * np.sin(turn)], -1)
    near = np.stack([-start * np.cos(turn), -start * np.sin(turn)], -1)
    return np.concatenate([far, near])


def _fishbone(look: Look, length: float, start: float, end: float) -> np.ndarray:
    """Return a piece of a fern's frond: a thin stalk with leaflets on both sides, one polygon."""
    stalk = 0.035 * length
    side = [[0.0, stalk]]
    step = length / look.veins
    for k in range(look.veins):
        u = (k + 0.5) / look.veins
        half = max(start + (end - start) * u, 1.5 * stalk)
        root = k * step
        side += [
            [root + 0.12 * step, stalk],
            [root + 0.22 * step, 0.55 * half],
            [root + 0.62 * step, half],
            [root + 0.86 * step, 0.6 * half],
            [root + 0.84 * step, stalk],
        ]
    side.append([1.04 * length, stalk])
    points = np.array(side)
    return np.concatenate([points, (points * [1, -1])[::-1]])


def texture_frame(
    look: Look, length: float, start: float, end: float, span: np.ndarray
) -> tuple[float, float, float]:
    """Return (offset, along, across): u = offset + along x and v = across y at (x, y) of the segment's own place."""
    if look.kind == "flower":
        return -length / end, 1 / end, 1 / end
    along = float(span[1] - span[0]) / length
    return float(span[0]), along, 1 / max(start, end)


def paint_tiles(looks: tuple[Look, ...], side: int) -> np.ndarray:
    """Return the looks side by side, `side` x (`side` K) x 3, float32 in [0, 1]."""
    steps = np.arange(side, dtype=np.float64) / (side - 1) * (1 + 2 * _MARGIN) - _MARGIN
    tiles = []
    for look in looks:
        across, along = np.meshgrid(2 * steps - 1, steps, indexing="ij")
        paint = {"flower": _paint_flower, "stem": _paint_stem, "blade": _paint_blade, "frond": _paint_frond}
        tiles.append(np.clip(paint.get(look.kind, _paint_leaf)(look, along, across), 0, 1).astype(np.float32))
    return np.concatenate(tiles, axis=1)


def tile_frame(look: Look, side: int) -> tuple[float, float, float, float]:
    """Return (u0, per u, v0, per v): a tile's pixel is (u0 + per_u u, v0 + per_v v)."""
    step = (side - 1) / (1 + 2 * _MARGIN)
    if look.kind == "flower":
        return (0.5 + _MARGIN) * step, 0.5 * step, (0.5 + _MARGIN) * step, 0.5 * step
    return _MARGIN * step, step, (0.5 + _MARGIN) * step, 0.5 * step


def _blend(first: np.ndarray, second: np.ndarray | Colour, share: np.ndarray) -> np.ndarray:
    return first + share[..., None] * (np.asarray(second) - first)


def _base(look: Look, shape: tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(np.asarray(look.first, float), (*shape, 3))


def _noise(look: Look, u: np.ndarray, v: np.ndarray, fine: float, octaves: int = 2) -> np.ndarray:
    return value_noise(look.seed, (u + 1) * fine, (v + 2) * fine, octaves)


def _paint_leaf(look: Look, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    half = _half_width(look, u) + 0.02
    rim = 1 - np.abs(v) / half  # 1 on the midrib, 0 on the rim
    colour = _base(look, u.shape)
    if look.pattern > 0:
        edge = rim + 0.2 * _noise(look, u, v, 7)
        colour = _blend(colour, look.third, np.clip((look.pattern - edge) / 0.12, 0, 1))
    phase = np.mod((u - look.petiole) * look.veins - 0.35 * np.abs(v) * look.veins * 0.5, 1.0) - 0.5
    side_veins = 0.35 * np.exp(-((phase / 0.13) ** 2)) * (rim > 0.08)
    midrib = 0.75 * np.exp(-((v / 0.07) ** 2))
    colour = _blend(colour, look.second, np.maximum(side_veins, midrib))
    # One half of the leaf turns to the light; its rim is dark, so that leaves stand out from each other.
    light = 1 + 0.11 * np.tanh(v / 0.1) + 0.1 * _noise(look, u, v, 6) - 0.3 * np.exp(-np.maximum(rim, 0) / 0.16)
    return colour * (light + 0.12 * (u - 0.5))[..., None]


def _paint_blade(look: Look, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    stripes = 0.5 + 0.5 * np.cos(v * np.pi * 2.5)
    colour = _blend(_base(look, u.shape), look.second, 0.45 * stripes)
    if look.pattern > 0:
        colour = _blend(colour, look.third, np.clip((np.abs(v) - 1 + look.pattern) / 0.15, 0, 1))
    dry = np.clip((u - 0.9) / 0.1, 0, 1) * 0.5
    colour = _blend(colour, (0.62, 0.5, 0.27), dry)
    light = 0.8 + 0.35 * u + 0.14 * np.tanh(v / 0.2) + 0.08 * _noise(look, u * 4, v, 3) - 0.16 * v**4
    return colour * light[..., None]


def _paint_frond(look: Look, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    stalk = np.exp(-((v / 0.09) ** 2))
    colour = _blend(_base(look, u.shape), look.second, 0.7 * stalk)
    light = 0.86 + 0.2 * u + 0.1 * np.tanh(v / 0.2) + 0.14 * _noise(look, u * 3, v, 8) + 0.1 * np.abs(v)
    return colour * light[..., None]


def _paint_stem(look: Look, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    bark = _noise(look, u * 3, v * 0.4, 9, 3)
    colour = _blend(_base(look, u.shape), look.second, np.clip(0.3 + 0.5 * bark, 0, 1))
    rings = np.exp(-(((np.mod(u * 9, 1) - 0.5) / 0.14) ** 2))
    light = 1.08 - 0.5 * np.abs(v + 0.3) ** 1.7 - 0.3 * look.pattern * rings
    return colour * light[..., None]


def _paint_flower(look: Look, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    x, y = 2 * u - 1, v  # the tile's own coordinates run over the disc
    radius, turn = np.hypot(x, y), np.arctan2(y, x)
    colour = _blend(_base(look, u.shape), look.second, np.clip((radius - 0.35) / 0.6, 0, 1))
    gap = np.abs(np.cos(0.5 * look.veins * turn))
    light = (
        0.72 + 0.34 * gap**0.5 + 0.08 * np.cos(turn + 2.2) - 0.25 * np.clip(radius / _petals(look, turn) - 0.8, 0, 1)
    )
    colour = colour * light[..., None]
    middle = np.asarray(look.third) * (0.95 + 0.25 * _noise(look, x, y, 12))[..., None]
    middle = middle * (1.1 - 0.9 * np.clip(radius / max(look.pattern, 0.01), 0, 1) ** 3 * 0.5)[..., None]
    return _blend(colour, middle, np.clip((look.pattern - radius) / 0.06, 0, 1))
