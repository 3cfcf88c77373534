"""Fabrics and walls as functions of position: they look alike at every size and stick to what they cover."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

Colour = tuple[float, float, float]  # RGB in [0, 1]
_LATTICE = 64


def smooth_noise(seed: int, x: np.ndarray, y: np.ndarray, octaves: int = 1) -> np.ndarray:
    """Return smooth noise of about [-1, 1] at positions x, y; one lattice step per unit, repeating every 64.

    Args:
        seed: names the noise.
        x: positions, any shape of two dimensions.
        y: positions, the same shape.
        octaves: number of layers, each twice as fine and 0.55 times as strong as the one before.
    """
    lattice = np.random.default_rng(seed).uniform(-1, 1, (_LATTICE, _LATTICE)).astype(np.float32)
    total = np.zeros(x.shape, np.float32)
    scale, weight = 1.0, 1.0
    for _ in range(octaves):
        at_x, at_y = _wrapped(x * scale), _wrapped(y * scale + 17.3 * (scale - 1))
        total += weight * cv2.remap(lattice, at_x, at_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP)
        scale, weight = scale * 2, weight * 0.55
    return total


def _wrapped(places: np.ndarray) -> np.ndarray:
    """Return places modulo the lattice: to the bit what np.mod gives, since 64 divides without rounding."""
    return (places - _LATTICE * np.floor(places / _LATTICE)).astype(np.float32)


@dataclass(frozen=True)
class Fabric:
    """A cloth's look.

    Attributes:
        kind: `plain`, `stripes`, `checks`, `dots`, `denim` or `blotches`.
        first: main colour.
        second: the other colour.
        period: size of the pattern, in statures.
        angle: direction of stripes and checks, radians; 0 = across the limb.
        seed: names the noise.
    """

    kind: str
    first: Colour
    second: Colour
    period: float
    angle: float
    seed: int


def paint_fabric(fabric: Fabric, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the cloth's colours, H x W x 3 in [0, 1], at positions x, y (H x W, in statures)."""
    along = (x * np.sin(fabric.angle) + y * np.cos(fabric.angle)) / fabric.period
    across = (x * np.cos(fabric.angle) - y * np.sin(fabric.angle)) / fabric.period
    if fabric.kind == "stripes":
        share = (np.mod(along, 1.0) < 0.5).astype(np.float32)
    elif fabric.kind == "checks":
        share = 0.5 * (np.mod(along, 1.0) < 0.5) + 0.5 * (np.mod(across, 1.0) < 0.5)
    elif fabric.kind == "dots":
        row = np.floor(along)
        share = (np.hypot(np.mod(along, 1) - 0.5, np.mod(across + 0.5 * row, 1) - 0.5) < 0.27).astype(np.float32)
    elif fabric.kind == "denim":
        share = 0.5 + 0.6 * smooth_noise(fabric.seed, x * 260, y * 60) * 0.4
    elif fabric.kind == "blotches":
        share = np.clip(0.5 + 2.5 * smooth_noise(fabric.seed, x / fabric.period, y / fabric.period, 2), 0, 1)
    else:
        share = np.zeros_like(x)
    share = np.asarray(share, np.float32)[..., None]
    colour = (1 - share) * np.asarray(fabric.first, np.float32) + share * np.asarray(fabric.second, np.float32)
    # Folds: broad, soft changes of light keep even plain cloth from looking cut out of paper.
    folds = smooth_noise(fabric.seed + 1, x * 22, y * 14, 2)[..., None]
    return np.clip(colour * (1 + 0.09 * folds), 0, 1).astype(np.float32)


@dataclass(frozen=True)
class Wall:
    """A surface behind or below the person.

    Attributes:
        kind: `plain`, `gradient`, `concrete`, `brick`, `planks`, `tiles`, `foliage` or `paving`.
        first: main colour.
        second: the other colour (joints, stains, far end of the gradient).
        period: size of the pattern, in picture heights.
        strength: how strong the texture is, 0 to 1.
        seed: names the noise.
    """

    kind: str
    first: Colour
    second: Colour
    period: float
    strength: float
    seed: int


def _cells(x: np.ndarray, y: np.ndarray, width: float, height: float, joint: float) -> tuple[np.ndarray, np.ndarray]:
    """Return an integer per brick (a repeatable random value in [-1, 1]) and 1 where there is a joint."""
    row = np.floor(y / height)
    shift = x / width + 0.5 * np.mod(row, 2)
    column = np.floor(shift)
    value = np.mod(np.sin(row * 12.9898 + column * 78.233) * 43758.5453, 1.0) * 2 - 1
    edge_x = np.minimum(np.mod(shift, 1), 1 - np.mod(shift, 1)) * width
    edge_y = np.minimum(np.mod(y / height, 1), 1 - np.mod(y / height, 1)) * height
    return value, (np.minimum(edge_x, edge_y) < joint).astype(np.float32)


def paint_wall(wall: Wall, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the surface's colours, H x W x 3 in [0, 1], at positions x, y (H x W, in picture heights)."""
    p, k, seed = wall.period, wall.strength, wall.seed
    first, second = np.asarray(wall.first, np.float32), np.asarray(wall.second, np.float32)
    fine = smooth_noise(seed, x * 60, y * 60, 2)
    broad = smooth_noise(seed + 1, x * 3.1, y * 3.1, 3)
    share = np.zeros_like(x)
    light = 0.05 * k * fine + 0.06 * k * broad
    if wall.kind == "gradient":
        share = np.clip(0.5 + 0.5 * np.sin(seed % 7) * (x - 0.5) * 2 + (y - 0.5), 0, 1)
        light = light * 0.5
    elif wall.kind == "concrete":
        # Slabs of slightly different grey with streaks running down, as on weathered stone cladding.
        tone, joint = _cells(y, x, p * 1.6, p * 0.5, 0.004)
        streaks = smooth_noise(seed + 2, x * 38, y * 3.5, 2)
        light = light + k * (0.09 * tone + 0.10 * streaks + 0.05 * fine)
        stain = smooth_noise(seed + 3, x * 4, y * 4, 3) + 2.2 * (y - 0.75)
        share = np.clip(0.9 * k * stain, 0, 0.6) + 0.35 * joint
    elif wall.kind == "brick":
        tone, joint = _cells(x, y, p, p * 0.38, p * 0.035)
        light = light + 0.22 * k * tone
        share = joint * (0.5 + 0.5 * k)
    elif wall.kind == "planks":
        tone, joint = _cells(y, x, p * 6, p * 0.8, 0.006)
        light = light + k * (0.16 * tone + 0.12 * smooth_noise(seed + 2, x * 70, y * 4, 2))
        share = joint * 0.8
    elif wall.kind == "tiles":
        column, joint = _cells(x, y, p, p, 0.006)
        light = light + 0.1 * k * column
        share = joint
    elif wall.kind == "foliage":
        leaves = smooth_noise(seed + 2, x / p * 4, y / p * 4, 4)
        share = np.clip(0.5 + 0.9 * k * leaves, 0, 1)
        light = light + 0.15 * k * fine
    elif wall.kind == "paving":
        light = light + k * (0.2 * smooth_noise(seed + 2, x * 14, y * 60, 2) + 0.12 * fine)
    share = np.asarray(share, np.float32)[..., None]
    colour = (1 - share) * first + share * second
    return np.clip(colour * (1 + np.asarray(light, np.float32)[..., None]), 0, 1).astype(np.float32)
