"""The bin, the table below it, the camera and the light."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import cv2
import numpy as np

from stillmotion.worlds.affine import affine, rotations
from stillmotion.worlds.colours import Colour, sample_hsv
from stillmotion.worlds.textures import Surface, paint_surface, sample_ground, sample_wall, value_noise


@dataclass(frozen=True)
class Patch:
    """A piece of tape or paper on the table; lengths in picture heights, from the bin's middle."""

    x: float
    y: float
    half: tuple[float, float]  # half its width and height
    angle: float  # radians
    colour: Colour


@dataclass(frozen=True)
class Scene:
    """Everything but the arm and the objects; lengths in picture heights."""

    half: tuple[float, float]  # half the width and height of the bin's floor
    middle: tuple[float, float]  # of the bin in the picture: 0 = left and upper border, 1 = right and lower
    tilt: float  # angle of the bin in the picture, radians
    floor: Surface  # of the bin
    wall: Colour  # of the bin's walls
    height: float  # how wide the walls appear
    table: Surface
    patches: tuple[Patch, ...]
    light: tuple[float, float]  # unit vector in which shadows fall
    shadow: float  # strength of the shadows, 0 to 1
    lift: float  # how far the arm's shadow falls from the arm; that of the objects is a fifth of it
    tint: Colour  # of the light
    noise: float  # standard deviation of the sensor's noise, in [0, 1] brightness
    noise_seed: int
    softness: float  # blur of the lens, standard deviation

    def to_pixels(self, size: float) -> np.ndarray:
        """Return the 2 x 3 map from bin coordinates to pixels (centres at integers) of a picture of that size."""
        return affine(size * rotations(self.tilt), np.array(self.middle) * size - 0.5)


def _grey(rng: np.random.Generator, low: float, high: float, saturation: float = 0.12) -> Colour:
    value = rng.uniform(low, high)
    hue, chroma = rng.random(), rng.uniform(0, saturation)
    return colorsys.hsv_to_rgb(hue, chroma, value)


def _sample_patch(rng: np.random.Generator) -> Patch:
    x, y = rng.uniform(-0.52, 0.52, 2).tolist()
    wide, tall = rng.uniform([0.02, 0.01], [0.06, 0.04]).tolist()
    colour = sample_hsv(rng, (0, 1), (0, 0.9), (0.5, 0.95))
    return Patch(x, y, (wide, tall), rng.uniform(0, np.pi), colour)


def sample_bin(rng: np.random.Generator) -> tuple[float, float]:
    """Draw half the width and height of a bin's floor."""
    return rng.uniform(0.35, 0.42), rng.uniform(0.33, 0.41)


def sample_scene(rng: np.random.Generator, half: tuple[float, float]) -> Scene:
    """Draw the rest of the scene around a bin of that size."""
    direction, noise_seed = rng.uniform(0, 2 * np.pi), int(rng.integers(2**31))
    floor = _grey(rng, 0.3, 0.85, 0.3 if rng.random() < 0.3 else 0.08)
    dark = (floor[0] * 0.75, floor[1] * 0.75, floor[2] * 0.75)
    kind = str(rng.choice(["plain", "concrete", "gradient", "tiles", "planks"], p=[0.4, 0.2, 0.2, 0.08, 0.12]))
    wall = _grey(rng, 0.3, 0.85) if rng.random() < 0.5 else floor
    patches = tuple(_sample_patch(rng) for _ in range(int(rng.integers(0, 9))))
    period, strength = rng.uniform(0.1, 0.25), rng.uniform(0.2, 0.8)
    return Scene(
        half=half,
        middle=(rng.uniform(0.47, 0.53), rng.uniform(0.47, 0.53)),
        tilt=rng.normal(0, 0.05),
        floor=Surface(kind, floor, dark, period, strength, noise_seed),
        wall=wall,
        height=rng.uniform(0.035, 0.07),
        table=sample_ground(rng) if rng.random() < 0.5 else sample_wall(rng),
        patches=patches,
        light=(float(np.cos(direction)), float(np.sin(direction))),
        shadow=rng.uniform(0.2, 0.5),
        lift=rng.uniform(0.03, 0.07),
        tint=_grey(rng, 0.86, 1.06, 0.08),
        noise=0.0 if rng.random() < 0.3 else rng.uniform(0.002, 0.015),
        noise_seed=noise_seed,
        softness=0.005 * rng.random() ** 2,
    )


def _paint_bin(scene: Scene, picture: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Paint floor, inner walls and rim over the table (H x W x 3) at bin coordinates x, y."""
    over_x, over_y = np.abs(x) - scene.half[0], np.abs(y) - scene.half[1]
    beyond = np.maximum(over_x, over_y)
    # The walls rise towards the camera: their inner sides are visible, each lit by its angle to the light.
    facing = np.where(over_x > over_y, np.sign(x) * scene.light[0], np.sign(y) * scene.light[1])
    steep = np.clip(beyond / scene.height, 0, 1)
    wall = np.asarray(scene.wall, np.float32) * (0.62 + 0.3 * facing + 0.12 * steep)[..., None]
    rim = np.asarray(scene.wall, np.float32) * 1.25
    dirt = 1 + 0.05 * value_noise(scene.floor.seed + 7, x * 9, y * 9, 4)
    corner = 1 - 0.4 * np.exp(np.minimum(beyond, 0) / 0.025) - 0.10 * np.exp(np.minimum(beyond, 0) / 0.12)
    floor = paint_surface(scene.floor, x, y) * (dirt * corner)[..., None]
    outside = picture * (1 - 0.5 * np.exp(-np.maximum(beyond - scene.height - 0.012, 0) / 0.03))[..., None]
    picture = np.where((beyond < scene.height + 0.012)[..., None], rim, outside)
    picture = np.where((beyond < scene.height)[..., None], wall, picture)
    return np.where((beyond < 0)[..., None], floor, picture)


def paint_scene(scene: Scene, size: int) -> np.ndarray:
    """Return the picture without arm and objects, float32, H x W x 3 in [0, 1]."""
    # Painted at twice the resolution and averaged, against aliasing.
    pixels = np.arange(2 * size) / 2 - 0.25
    px, py = np.meshgrid(pixels, pixels)
    inverse = np.linalg.inv(scene.to_pixels(size)[:, :2])
    dx, dy = px - (scene.middle[0] * size - 0.5), py - (scene.middle[1] * size - 0.5)
    x = (inverse[0, 0] * dx + inverse[0, 1] * dy).astype(np.float32)
    y = (inverse[1, 0] * dx + inverse[1, 1] * dy).astype(np.float32)
    u, v = ((px + 0.5) / size).astype(np.float32), ((py + 0.5) / size).astype(np.float32)
    picture = paint_surface(scene.table, u, v)
    for patch in scene.patches:
        c, s = np.cos(patch.angle), np.sin(patch.angle)
        along, across = c * (x - patch.x) + s * (y - patch.y), c * (y - patch.y) - s * (x - patch.x)
        on = (np.abs(along) < patch.half[0]) & (np.abs(across) < patch.half[1])
        picture = np.where(on[..., None], np.asarray(patch.colour, np.float32), picture)
    picture = _paint_bin(scene, picture, x, y)
    picture = cv2.resize(picture.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    return np.clip(picture * np.asarray(scene.tint, np.float32), 0, 1)
