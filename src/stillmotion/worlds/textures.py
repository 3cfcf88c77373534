"""Procedural textures as functions of position: the same at every picture size, and fixed to what they cover."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import cv2
import numpy as np

from stillmotion.worlds.colours import Colour, blend, jitter, mix, sample_hsv

_LATTICE = 64


def value_noise(seed: int, x: np.ndarray, y: np.ndarray, octaves: int = 1) -> np.ndarray:
    """Return value noise of about [-1, 1] at positions x, y (both H x W); one lattice step per unit, period 64.

    Each further octave is a layer twice as fine and 0.55 times as strong as the one before; `seed` is the lattice's.
    """
    lattice = np.random.default_rng(seed).uniform(-1, 1, (_LATTICE, _LATTICE)).astype(np.float32)
    total = np.zeros(x.shape, np.float32)
    scale, weight = 1.0, 1.0
    for _ in range(octaves):
        at_x, at_y = _wrap(x * scale), _wrap(y * scale + 17.3 * (scale - 1))
        total += weight * cv2.remap(lattice, at_x, at_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP)
        scale, weight = scale * 2, weight * 0.55
    return total


def _wrap(positions: np.ndarray) -> np.ndarray:
    """Return positions modulo the lattice, to the bit as np.mod does: 64 divides without rounding."""
    return (positions - _LATTICE * np.floor(positions / _LATTICE)).astype(np.float32)


@dataclass(frozen=True)
class Fabric:
    """The texture of a cloth."""

    kind: str  # `plain`, `stripes`, `checks`, `dots`, `denim` or `blotches`
    first: Colour
    second: Colour
    period: float  # of the pattern, in statures
    angle: float  # of stripes and checks, radians; 0 = across the limb
    seed: int


def paint_fabric(fabric: Fabric, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the cloth's colours, H x W x 3 in [0, 1], at positions x, y (H x W, in statures)."""
    along = (x * np.sin(fabric.angle) + y * np.cos(fabric.angle)) / fabric.period
    across = (x * np.cos(fabric.angle) - y * np.sin(fabric.angle)) / fabric.period
    if fabric.kind == "stripes":
        weight = np.mod(along, 1.0) < 0.5
    elif fabric.kind == "checks":
        weight = 0.5 * (np.mod(along, 1.0) < 0.5) + 0.5 * (np.mod(across, 1.0) < 0.5)
    elif fabric.kind == "dots":
        row = np.floor(along)
        weight = np.hypot(np.mod(along, 1) - 0.5, np.mod(across + 0.5 * row, 1) - 0.5) < 0.27
    elif fabric.kind == "denim":
        weight = 0.5 + 0.6 * value_noise(fabric.seed, x * 260, y * 60) * 0.4
    elif fabric.kind == "blotches":
        weight = np.clip(0.5 + 2.5 * value_noise(fabric.seed, x / fabric.period, y / fabric.period, 2), 0, 1)
    else:
        weight = np.zeros_like(x)
    # Folds: broad, soft changes of light, without which plain cloth looks flat.
    folds = value_noise(fabric.seed + 1, x * 22, y * 14, 2)[..., None]
    return np.clip(blend(fabric.first, fabric.second, weight) * (1 + 0.09 * folds), 0, 1).astype(np.float32)


@dataclass(frozen=True)
class Surface:
    """The texture of a wall, floor or table."""

    kind: str  # `plain`, `gradient`, `concrete`, `brick`, `planks`, `tiles`, `foliage` or `paving`
    first: Colour
    second: Colour  # joints, stains, or the far end of the gradient
    period: float  # of the pattern, in picture heights
    strength: float  # of the texture, 0 to 1
    seed: int


def _cells(x: np.ndarray, y: np.ndarray, width: float, height: float, joint: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a pseudo-random value in [-1, 1] per brick, and 1 where there is a joint."""
    row = np.floor(y / height)
    shift = x / width + 0.5 * np.mod(row, 2)
    column = np.floor(shift)
    value = np.mod(np.sin(row * 12.9898 + column * 78.233) * 43758.5453, 1.0) * 2 - 1
    edge_x = np.minimum(np.mod(shift, 1), 1 - np.mod(shift, 1)) * width
    edge_y = np.minimum(np.mod(y / height, 1), 1 - np.mod(y / height, 1)) * height
    return value, (np.minimum(edge_x, edge_y) < joint).astype(np.float32)


def paint_surface(surface: Surface, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the surface's colours, H x W x 3 in [0, 1], at positions x, y (H x W, in picture heights)."""
    p, k, seed = surface.period, surface.strength, surface.seed
    fine = value_noise(seed, x * 60, y * 60, 2)
    broad = value_noise(seed + 1, x * 3.1, y * 3.1, 3)
    weight = np.zeros_like(x)
    light = 0.05 * k * fine + 0.06 * k * broad
    if surface.kind == "gradient":
        weight = np.clip(0.5 + 0.5 * np.sin(seed % 7) * (x - 0.5) * 2 + (y - 0.5), 0, 1)
        light = light * 0.5
    elif surface.kind == "concrete":
        # Slabs of slightly different grey with vertical streaks, as on weathered stone cladding.
        tone, joint = _cells(y, x, p * 1.6, p * 0.5, 0.004)
        streaks = value_noise(seed + 2, x * 38, y * 3.5, 2)
        light = light + k * (0.09 * tone + 0.10 * streaks + 0.05 * fine)
        stain = value_noise(seed + 3, x * 4, y * 4, 3) + 2.2 * (y - 0.75)
        weight = np.clip(0.9 * k * stain, 0, 0.6) + 0.35 * joint
    elif surface.kind == "brick":
        tone, joint = _cells(x, y, p, p * 0.38, p * 0.035)
        light = light + 0.22 * k * tone
        weight = joint * (0.5 + 0.5 * k)
    elif surface.kind == "planks":
        tone, joint = _cells(y, x, p * 6, p * 0.8, 0.006)
        light = light + k * (0.16 * tone + 0.12 * value_noise(seed + 2, x * 70, y * 4, 2))
        weight = joint * 0.8
    elif surface.kind == "tiles":
        tone, weight = _cells(x, y, p, p, 0.006)
        light = light + 0.1 * k * tone
    elif surface.kind == "foliage":
        weight = np.clip(0.5 + 0.9 * k * value_noise(seed + 2, x / p * 4, y / p * 4, 4), 0, 1)
        light = light + 0.15 * k * fine
    elif surface.kind == "paving":
        light = light + k * (0.2 * value_noise(seed + 2, x * 14, y * 60, 2) + 0.12 * fine)
    colour = blend(surface.first, surface.second, weight)
    return np.clip(colour * (1 + np.asarray(light, np.float32)[..., None]), 0, 1).astype(np.float32)


def sample_wall(rng: np.random.Generator) -> Surface:
    """Draw a wall; weathered concrete, as in many outdoor recordings, is the most frequent."""
    kinds = ["plain", "gradient", "concrete", "brick", "planks", "tiles", "foliage"]
    kind = str(rng.choice(kinds, p=[0.1, 0.1, 0.36, 0.16, 0.12, 0.06, 0.1]))
    hue, value = rng.random(), rng.uniform(0.35, 0.92)
    saturation = rng.uniform(0, 0.16) if kind == "concrete" else rng.uniform(0, 0.4)
    if kind == "brick":
        hue, saturation, value = rng.uniform(0.0, 0.08), rng.uniform(0.1, 0.6), rng.uniform(0.35, 0.85)
    elif kind == "planks":
        hue, saturation = rng.uniform(0.05, 0.12), rng.uniform(0.1, 0.55)
    elif kind == "foliage":
        hue, saturation, value = rng.uniform(0.2, 0.38), rng.uniform(0.3, 0.65), rng.uniform(0.3, 0.6)
    first = colorsys.hsv_to_rgb(hue, saturation, value)
    if kind == "gradient":
        second = mix(first, (1, 1, 1) if rng.random() < 0.5 else (0, 0, 0), rng.uniform(0.2, 0.6))
    elif kind in ("brick", "tiles"):
        second = mix(first, (0.8, 0.78, 0.74) if rng.random() < 0.6 else (0.2, 0.2, 0.2), 0.7)
    else:
        second = mix(first, (0.1, 0.09, 0.07), rng.uniform(0.35, 0.7))
    second = jitter(rng, second, 0.1 if kind == "gradient" else 0.05)
    return Surface(kind, first, second, rng.uniform(0.1, 0.26), rng.uniform(0.35, 1.0), int(rng.integers(2**31)))


def sample_ground(rng: np.random.Generator) -> Surface:
    """Draw a ground: paving, planks, grass or a plain one."""
    kind = str(rng.choice(["paving", "plain", "foliage", "planks"], p=[0.5, 0.15, 0.2, 0.15]))
    grass = kind == "foliage"
    first = sample_hsv(rng, (0.22, 0.33) if grass else (0.04, 0.16), (0.3, 0.6) if grass else (0, 0.3), (0.25, 0.75))
    return Surface(kind, first, mix(first, (0, 0, 0), 0.45), 0.08, rng.uniform(0.3, 1), int(rng.integers(2**31)))
