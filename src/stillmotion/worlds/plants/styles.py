"""Styles: the outlines of stems, leaves and flowers, and the texture atlas that fills them.

Each style's tile is painted once per clip, in its own coordinates: u runs from 0 at the hinge to 1 at the far end, v
from -1 to 1 across. For flowers u and v run over the disc, from -1 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillmotion.worlds.colours import Colour
from stillmotion.worlds.textures import value_noise

_MARGIN = 0.2  # tiles extend beyond the outline, so that no edge mixes with the next tile


@dataclass(frozen=True)
class Style:
    """The outline and the texture of a kind of segment."""

    kind: str  # `stem`, `blade`, `leaf`, `frond` or `flower`
    first: Colour
    second: Colour  # veins, stripes, petal tips or rings on bark
    third: Colour  # the rim of variegated leaves, or a flower's middle
    waist: float  # leaves: the power of u in the outline; small = widest near the hinge
    tip: float  # leaves: the power of 1 - u; small = blunt
    petiole: float  # leaves: share of the length that is stalk
    veins: int  # leaves: pairs of side veins; flowers: petals; fronds: leaflets on each side of a segment
    pattern: float  # leaves: share of the half width in the third colour at the rim; stems: strength of rings
    seed: int  # of the noise


def _half_width(style: Style, u: np.ndarray) -> np.ndarray:
    """Return a leaf's half width (0 to 1) along its length."""
    lamina = np.clip((u - style.petiole) / (1 - style.petiole), 0, 1)
    top = style.waist / (style.waist + style.tip)
    peak = top**style.waist * (1 - top) ** style.tip
    return lamina**style.waist * (1 - lamina) ** style.tip / peak


def _petal_radius(style: Style, angle: np.ndarray) -> np.ndarray:
    """Return a flower's radius (0 to 1) by direction."""
    return 0.66 + 0.34 * np.abs(np.cos(0.5 * style.veins * angle)) ** 0.7


def _mirror(side: np.ndarray) -> np.ndarray:
    """Return the closed outline from one side (N x 2: along, across)."""
    return np.concatenate([side, (side * [1, -1])[::-1]])


def outline(style: Style, length: float, start: float, end: float) -> np.ndarray:
    """Return the outline (N x 2: along, across; the units of `length`) of a segment of this style."""
    if style.kind == "flower":
        angle = np.linspace(0, 2 * np.pi, 6 * style.veins, endpoint=False)
        radius = end * _petal_radius(style, angle)
        return np.stack([length + radius * np.cos(angle), radius * np.sin(angle)], -1)
    if style.kind == "leaf":
        lamina = 0.5 - 0.5 * np.cos(np.linspace(0, np.pi, 10))
        u = style.petiole + (1 - style.petiole) * lamina
        half = np.maximum(end * _half_width(style, u), 0.0)
        half[0] = start
        side = np.stack([u * length, half], -1)
        if style.petiole > 0:
            side = np.concatenate([[[0.0, start]], side])
        if style.waist < 0.4:  # hearts: the lobes reach back behind the stalk's end
            side = np.insert(side, len(side) - 9, [[(style.petiole - 0.09) * length, 0.62 * end]], axis=0)
        return _mirror(side)
    if style.kind == "frond":
        return _frond_outline(style, length, start, end)
    angle = np.linspace(-0.5 * np.pi, 0.5 * np.pi, 5)
    far = np.stack([length + end * np.cos(angle), end * np.sin(angle)], -1)
    near = np.stack([-start * np.cos(angle), -start * np.sin(angle)], -1)
    return np.concatenate([far, near])


def _frond_outline(style: Style, length: float, start: float, end: float) -> np.ndarray:
    """Return a piece of a fern's frond: a thin stalk with leaflets on both sides, one polygon."""
    stalk, step = 0.035 * length, length / style.veins
    side = [[0.0, stalk]]
    for k in range(style.veins):
        half = max(start + (end - start) * ((k + 0.5) / style.veins), 1.5 * stalk)
        leaflet = ((0.12, stalk), (0.22, 0.55 * half), (0.62, half), (0.86, 0.6 * half), (0.84, stalk))
        side += [[k * step + along * step, across] for along, across in leaflet]
    return _mirror(np.array([*side, [1.04 * length, stalk]]))


def segment_uv(style: Style, length: float, start: float, end: float, span: np.ndarray) -> tuple[float, float, float]:
    """Return (offset, along, across): u = offset + along x and v = across y at a segment's own (x, y)."""
    if style.kind == "flower":
        return -length / end, 1 / end, 1 / end
    along = float(span[1] - span[0]) / length
    return float(span[0]), along, 1 / max(start, end)


def tile_uv(style: Style, side: int) -> tuple[float, float, float, float]:
    """Return (u0, per u, v0, per v): a tile's pixel is (u0 + per_u u, v0 + per_v v)."""
    step = (side - 1) / (1 + 2 * _MARGIN)
    if style.kind == "flower":
        return (0.5 + _MARGIN) * step, 0.5 * step, (0.5 + _MARGIN) * step, 0.5 * step
    return _MARGIN * step, step, (0.5 + _MARGIN) * step, 0.5 * step


def paint_atlas(styles: tuple[Style, ...], side: int) -> np.ndarray:
    """Return the styles' tiles side by side, `side` x (`side` K) x 3, float32 in [0, 1]."""
    steps = np.arange(side, dtype=np.float64) / (side - 1) * (1 + 2 * _MARGIN) - _MARGIN
    v, u = np.meshgrid(2 * steps - 1, steps, indexing="ij")
    painters = {
        "leaf": _paint_leaf, "flower": _paint_flower, "stem": _paint_stem, "blade": _paint_blade,
        "frond": _paint_frond,
    }  # fmt: skip
    tiles = [np.clip(painters[style.kind](style, u, v), 0, 1).astype(np.float32) for style in styles]
    return np.concatenate(tiles, axis=1)


def _mix(first: np.ndarray | Colour, second: np.ndarray | Colour, share: np.ndarray) -> np.ndarray:
    return np.asarray(first, float) + share[..., None] * (np.asarray(second) - first)


def _noise(style: Style, u: np.ndarray, v: np.ndarray, scale: float, octaves: int = 2) -> np.ndarray:
    return value_noise(style.seed, (u + 1) * scale, (v + 2) * scale, octaves)


def _paint_leaf(style: Style, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    half = _half_width(style, u) + 0.02
    rim = 1 - np.abs(v) / half  # 1 on the midrib, 0 on the rim
    colour = np.broadcast_to(np.asarray(style.first, float), (*u.shape, 3))
    if style.pattern > 0:
        edge = rim + 0.2 * _noise(style, u, v, 7)
        colour = _mix(colour, style.third, np.clip((style.pattern - edge) / 0.12, 0, 1))
    phase = np.mod((u - style.petiole) * style.veins - 0.35 * np.abs(v) * style.veins * 0.5, 1.0) - 0.5
    side_veins = 0.35 * np.exp(-((phase / 0.13) ** 2)) * (rim > 0.08)
    midrib = 0.75 * np.exp(-((v / 0.07) ** 2))
    colour = _mix(colour, style.second, np.maximum(side_veins, midrib))
    # One half of the leaf is brighter; its rim is dark, so that leaves are distinct from each other.
    light = 1 + 0.11 * np.tanh(v / 0.1) + 0.1 * _noise(style, u, v, 6) - 0.3 * np.exp(-np.maximum(rim, 0) / 0.16)
    return colour * (light + 0.12 * (u - 0.5))[..., None]


def _paint_blade(style: Style, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    colour = _mix(style.first, style.second, 0.45 * (0.5 + 0.5 * np.cos(v * np.pi * 2.5)))
    if style.pattern > 0:
        colour = _mix(colour, style.third, np.clip((np.abs(v) - 1 + style.pattern) / 0.15, 0, 1))
    colour = _mix(colour, (0.62, 0.5, 0.27), np.clip((u - 0.9) / 0.1, 0, 1) * 0.5)  # a dry tip
    light = 0.8 + 0.35 * u + 0.14 * np.tanh(v / 0.2) + 0.08 * _noise(style, u * 4, v, 3) - 0.16 * v**4
    return colour * light[..., None]


def _paint_frond(style: Style, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    colour = _mix(style.first, style.second, 0.7 * np.exp(-((v / 0.09) ** 2)))
    light = 0.86 + 0.2 * u + 0.1 * np.tanh(v / 0.2) + 0.14 * _noise(style, u * 3, v, 8) + 0.1 * np.abs(v)
    return colour * light[..., None]


def _paint_stem(style: Style, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    bark = _noise(style, u * 3, v * 0.4, 9, 3)
    colour = _mix(style.first, style.second, np.clip(0.3 + 0.5 * bark, 0, 1))
    rings = np.exp(-(((np.mod(u * 9, 1) - 0.5) / 0.14) ** 2))
    light = 1.08 - 0.5 * np.abs(v + 0.3) ** 1.7 - 0.3 * style.pattern * rings
    return colour * light[..., None]


def _paint_flower(style: Style, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    x, y = 2 * u - 1, v  # the tile's own coordinates run over the disc
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    colour = _mix(style.first, style.second, np.clip((radius - 0.35) / 0.6, 0, 1))
    gap = np.abs(np.cos(0.5 * style.veins * angle))
    edge = np.clip(radius / _petal_radius(style, angle) - 0.8, 0, 1)
    light = 0.72 + 0.34 * gap**0.5 + 0.08 * np.cos(angle + 2.2) - 0.25 * edge
    middle = np.asarray(style.third) * (0.95 + 0.25 * _noise(style, x, y, 12))[..., None]
    middle = middle * (1.1 - 0.9 * np.clip(radius / max(style.pattern, 0.01), 0, 1) ** 3 * 0.5)[..., None]
    return _mix(colour * light[..., None], middle, np.clip((style.pattern - radius) / 0.06, 0, 1))
