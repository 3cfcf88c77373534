"""The static scene: pot, table, wall and light."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from stillmotion.worlds.colours import Colour, jitter, mix, sample_hsv
from stillmotion.worlds.compositing import over
from stillmotion.worlds.sprites import Canvas, ellipse
from stillmotion.worlds.textures import Surface, paint_surface, sample_wall, value_noise

_FLATTENING = 0.17  # of the pot's rim and foot, which are seen a little from above


@dataclass(frozen=True)
class Pot:
    """A pot; lengths in picture heights."""

    x: float  # its middle
    top: float  # y of the rim's middle
    bottom: float  # y of its foot
    wide: float  # half the width at the rim
    narrow: float  # half the width at the foot
    belly: float  # how far the sides bulge
    rim: float  # height of the thickened rim; 0 = none
    colour: Colour
    accent: Colour  # rim, bands or dots
    pattern: str  # `plain`, `bands`, `dots`, `drip` or `speckle`
    soil: Colour
    seed: int  # of the noise


@dataclass(frozen=True)
class Scene:
    """Everything but the plant."""

    pot: Pot
    wall: Surface
    table: Surface
    horizon: float  # y of the table's far edge
    shadow: float  # strength of the pot's shadow
    haze: float  # blur of the wall (the lens is focused on the plant), standard deviation in picture heights
    softness: float  # blur of the whole picture, standard deviation in picture heights
    tint: Colour  # of the light
    light_side: float  # side of the light, -1 left to +1 right


def _sample_pot(rng: np.random.Generator) -> Pot:
    style = str(rng.choice(["clay", "glazed", "white", "dark"], p=[0.35, 0.35, 0.2, 0.1]))
    if style == "clay":
        colour = sample_hsv(rng, (0.02, 0.07), (0.5, 0.75), (0.5, 0.8))
    elif style == "glazed":
        colour = sample_hsv(rng, (0.0, 1.0), (0.2, 0.8), (0.35, 0.85))
    else:
        value = rng.uniform(0.82, 0.95) if style == "white" else rng.uniform(0.12, 0.3)
        colour = jitter(rng, (value, value, value), 0.03)
    accent = mix(colour, (1, 1, 1) if rng.random() < 0.5 else (0.1, 0.1, 0.12), rng.uniform(0.25, 0.6))
    wide, height = rng.uniform(0.1, 0.19), rng.uniform(0.16, 0.27)
    bottom = rng.uniform(0.86, 1.08)
    return Pot(
        x=0.5 + rng.normal(0, 0.04),
        top=bottom - height,
        bottom=bottom,
        wide=wide,
        narrow=wide * rng.uniform(0.6, 0.95),
        belly=rng.uniform(0, 0.18) * wide,
        rim=0.0 if rng.random() < 0.35 else rng.uniform(0.025, 0.05),
        colour=colour,
        accent=accent,
        pattern=str(rng.choice(["plain", "bands", "dots", "drip", "speckle"], p=[0.4, 0.2, 0.1, 0.1, 0.2])),
        soil=sample_hsv(rng, (0.05, 0.1), (0.3, 0.6), (0.12, 0.3)),
        seed=int(rng.integers(2**31)),
    )


def sample_scene(rng: np.random.Generator) -> Scene:
    """Draw a pot in a place."""
    pot = _sample_pot(rng)
    kind = str(rng.choice(["planks", "plain", "paving", "concrete"], p=[0.5, 0.2, 0.15, 0.15]))
    first = sample_hsv(rng, (0.04, 0.13), (0.05, 0.6), (0.3, 0.85))
    second = mix(first, (0.08, 0.05, 0.03), 0.5)
    table = Surface(kind, first, second, 0.12, rng.uniform(0.3, 1), int(rng.integers(2**31)))
    wall = sample_wall(rng)
    if wall.kind == "foliage":  # a hedge: darker than the plant, so that the two are distinct
        wall = replace(wall, first=mix(wall.first, (0, 0, 0), 0.6), second=mix(wall.second, (0, 0, 0), 0.5))
    return Scene(
        pot=pot,
        wall=wall,
        table=table,
        horizon=pot.bottom - rng.uniform(0.03, 0.12),
        shadow=rng.uniform(0.25, 0.65),
        haze=0.02 * rng.random() ** 2,
        softness=0.004 * rng.random() ** 2,
        tint=jitter(rng, (0.96, 0.96, 0.96), 0.04),
        light_side=rng.uniform(-1, 1),
    )


def _half_width(pot: Pot, y: np.ndarray) -> np.ndarray:
    """Return the pot's half width at heights y."""
    s = np.clip((y - pot.top) / (pot.bottom - pot.top), 0, 1)
    return pot.wide + (pot.narrow - pot.wide) * s + pot.belly * np.sin(np.pi * s)


def _pattern(pot: Pot, x: np.ndarray, y: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Return the accent's share at x (from the pot's axis) and y; `across` is -1 to 1 from side to side."""
    rim = _FLATTENING * pot.wide * np.sqrt(np.clip(1 - across**2, 0, 1))
    down = (y - rim - pot.top) / (pot.bottom - pot.top)
    if pot.pattern == "bands":
        return ((np.mod(down * 4, 1) < 0.3) & (down > 0.25) & (down < 0.85)).astype(np.float32)
    if pot.pattern == "dots":
        around = np.arcsin(np.clip(across, -1, 1)) * 3
        return (np.hypot(np.mod(around, 1) - 0.5, np.mod(down * 4, 1) - 0.5) < 0.24).astype(np.float32)
    if pot.pattern == "drip":
        return (down < 0.4 + 0.15 * value_noise(pot.seed, across * 4, across * 0, 2)).astype(np.float32)
    if pot.pattern == "speckle":
        return np.clip(3 * value_noise(pot.seed, x * 90, y * 90) - 1.6, 0, 1)
    return np.zeros_like(x)


def _paint_pot(canvas: Canvas, scene: Scene) -> None:
    """Paint the pot seen a little from above: foot and rim are ellipses."""
    pot, flat = scene.pot, _FLATTENING
    x, y = canvas.x - pot.x, canvas.y
    heights = np.linspace(pot.top, pot.bottom, 24)
    angle = np.linspace(0, np.pi, 24)
    foot = np.stack([pot.narrow * np.cos(angle), pot.bottom + flat * pot.narrow * np.sin(angle)], -1)
    sides = np.stack([_half_width(pot, heights), heights], -1)
    outline = np.concatenate([sides, foot, (sides * [-1, 1])[::-1]]) + np.array([pot.x, 0])
    across = x / np.maximum(_half_width(pot, y), 1e-3)
    share = _pattern(pot, x, y, across)[..., None]
    grain = 1 + 0.05 * value_noise(pot.seed + 1, x * 40, y * 40, 2)
    light = grain * (1.06 - 0.42 * np.abs(np.clip(across, -1, 1) - 0.45 * scene.light_side) ** 1.8)
    body = (1 - share) * np.asarray(pot.colour) + share * np.asarray(pot.accent)
    canvas.fill(outline, (body * light[..., None]).astype(np.float32))
    if pot.rim > 0:
        lip = 1.06 * pot.wide
        arc = np.stack([lip * np.cos(angle), pot.top + pot.rim + flat * lip * np.sin(angle)], -1)
        edge = np.concatenate([arc, [[-lip, pot.top], [lip, pot.top]]]) + np.array([pot.x, 0])
        canvas.fill(edge + np.array([0, 0.012]), (0.0, 0.0, 0.0), 0.25, clip=canvas.coverage(outline))
        canvas.fill(edge, (np.asarray(pot.colour) * (1.08 * light)[..., None]).astype(np.float32))
    mouth = 1.06 if pot.rim > 0 else 1.0
    canvas.fill(ellipse(pot.x, pot.top, mouth * pot.wide, flat * mouth * pot.wide), mix(pot.colour, (1, 1, 1), 0.2))
    soil = np.asarray(pot.soil) * (1 + 0.5 * value_noise(pot.seed + 2, x * 70, y * 140, 3))[..., None]
    hole = ellipse(pot.x, pot.top, 0.9 * pot.wide, flat * 0.86 * pot.wide)
    canvas.fill(hole, np.clip(soil, 0, 1).astype(np.float32))
    canvas.fill(hole, (0.0, 0.0, 0.0), 0.3, clip=np.clip((pot.top - y) / (flat * pot.wide) + 0.3, 0, 1))


def paint_scene(scene: Scene, side: int) -> np.ndarray:
    """Return the background, `side` x `side` x 3, float32 in [0, 1]."""
    steps = (np.arange(side, dtype=np.float32) + 0.5) / side
    u, v = np.meshgrid(steps, steps)
    pot, wall = scene.pot, paint_surface(scene.wall, u, v)
    if scene.haze * side > 0.3:
        wall = cv2.GaussianBlur(wall, (0, 0), scene.haze * side)
    picture = np.where((v > scene.horizon)[..., None], paint_surface(scene.table, u, v * 2.2), wall)
    picture = picture * (1 - 0.3 * np.exp(-np.abs(v - scene.horizon) / 0.005))[..., None]
    slant = u - pot.x + 0.5 * scene.light_side * np.clip(pot.bottom - v + 0.05, 0, 1)
    dark = np.exp(-((slant / (1.25 * pot.narrow)) ** 4)) * np.exp(-(((v - pot.bottom) / 0.05) ** 2))
    picture = (picture * (1 - scene.shadow * dark * (v > scene.horizon))[..., None]).astype(np.float32)
    # The pot's canvas has its own size; its pixels are the picture's.
    reach, margin = 1.1 * (pot.wide + pot.belly), 0.25 * pot.wide
    edges = (pot.x - reach, pot.top - margin, pot.x + reach, pot.bottom + margin)
    x0, y0, x1, y1 = (int(np.clip(edge * side, 0, side)) for edge in edges)
    bounds = ((x0 + 0.5) / side, (y0 + 0.5) / side, (x1 - 0.5) / side, (y1 - 0.5) / side)
    canvas = Canvas(bounds, side)
    _paint_pot(canvas, scene)
    left, top = (round(o + b * side) for o, b in zip(canvas.origin, bounds[:2], strict=True))
    painted = canvas.image[top : top + y1 - y0, left : left + x1 - x0]
    picture[y0:y1, x0:x1] = over(painted, picture[y0:y1, x0:x1])
    return picture
