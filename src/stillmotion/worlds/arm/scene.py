"""The bin, the table below it, the camera and the light."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import cv2
import numpy as np

from stillmotion.worlds.colours import Colour
from stillmotion.worlds.textures import Surface, paint_surface, sample_ground, sample_wall, value_noise


@dataclass(frozen=True)
class Patch:
    """A piece of tape or paper on the table.

    Attributes:
        x: its middle, in picture heights from the bin's middle.
        y: the same.
        half: half its width and height.
        angle: radians.
        colour: its colour.
    """

    x: float
    y: float
    half: tuple[float, float]
    angle: float
    colour: Colour


@dataclass(frozen=True)
class Scene:
    """Everything but the arm and the things; lengths in picture heights.

    Attributes:
        half: half the width and height of the bin's floor.
        middle: where the bin's middle is in the picture (0 = left and upper border, 1 = right and lower).
        tilt: angle of the bin in the picture, radians.
        floor: the bin's floor.
        wall: colour of the bin's walls.
        height: how wide the walls appear.
        table: what the bin stands on.
        patches: tape and paper on the table.
        light: where the light comes from: the direction that shadows fall in, length 1.
        shadow: strength of the shadows, 0 to 1.
        lift: how far the arm's shadow falls from the arm; that of the things is a fifth of it.
        tint: colour of the light.
        noise: standard deviation of the sensor's noise, in [0, 1] brightness.
        noise_seed: names the noise.
        softness: blur of the lens, standard deviation in picture heights.
    """

    half: tuple[float, float]
    middle: tuple[float, float]
    tilt: float
    floor: Surface
    wall: Colour
    height: float
    table: Surface
    patches: tuple[Patch, ...]
    light: tuple[float, float]
    shadow: float
    lift: float
    tint: Colour
    noise: float
    noise_seed: int
    softness: float

    def to_pixels(self, size: float) -> np.ndarray:
        """Return the 2 x 3 map from bin coordinates to pixels (centres at integers) of a picture of that size."""
        c, s = np.cos(self.tilt), np.sin(self.tilt)
        middle = np.array(self.middle) * size - 0.5
        return np.concatenate([size * np.array([[c, -s], [s, c]]), middle[:, None]], 1)


def _grey(rng: np.random.Generator, low: float, high: float, colourful: float = 0.12) -> Colour:
    value = rng.uniform(low, high)
    return colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, colourful), value)


def _patch(rng: np.random.Generator) -> Patch:
    x, y = (float(v) for v in rng.uniform(-0.52, 0.52, 2))
    wide, tall = (float(v) for v in rng.uniform([0.02, 0.01], [0.06, 0.04]))
    hue, saturation, value = (float(v) for v in rng.uniform([0, 0, 0.5], [1, 0.9, 0.95]))
    return Patch(x, y, (wide, tall), rng.uniform(0, np.pi), colorsys.hsv_to_rgb(hue, saturation, value))


def sample_bin(rng: np.random.Generator) -> tuple[float, float]:
    """Draw half the width and height of a bin's floor."""
    return rng.uniform(0.35, 0.42), rng.uniform(0.33, 0.41)


def sample_scene(rng: np.random.Generator, half: tuple[float, float]) -> Scene:
    """Draw the rest of the scene around a bin of that size."""
    turn, noise_seed = rng.uniform(0, 2 * np.pi), int(rng.integers(2**31))
    floor = _grey(rng, 0.3, 0.85, 0.3 if rng.random() < 0.3 else 0.08)
    dark = (floor[0] * 0.75, floor[1] * 0.75, floor[2] * 0.75)
    kind = str(rng.choice(["plain", "concrete", "gradient", "tiles", "planks"], p=[0.4, 0.2, 0.2, 0.08, 0.12]))
    wall = _grey(rng, 0.3, 0.85) if rng.random() < 0.5 else floor
    patches = tuple(_patch(rng) for _ in range(int(rng.integers(0, 9))))
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
        light=(float(np.cos(turn)), float(np.sin(turn))),
        shadow=rng.uniform(0.2, 0.5),
        lift=rng.uniform(0.03, 0.07),
        tint=_grey(rng, 0.86, 1.06, 0.08),
        noise=0.0 if rng.random() < 0.3 else rng.uniform(0.002, 0.015),
        noise_seed=noise_seed,
        softness=float(0.005 * rng.random() ** 2),
    )  # fmt: skip


def _paint_bin(scene: Scene, picture: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Paint floor, inner walls and rim over the table (H x W x 3) at bin coordinates x, y."""
    over_x, over_y = np.abs(x) - scene.half[0], np.abs(y) - scene.half[1]
    beyond = np.maximum(over_x, over_y)
    # The walls rise towards the camera: their inner sides are seen, each lit by how it faces the light.
    across = over_x > over_y
    facing = np.where(across, np.sign(x) * scene.light[0], np.sign(y) * scene.light[1])
    steep = np.clip(beyond / scene.height, 0, 1)
    wall = np.asarray(scene.wall, np.float32) * (0.62 + 0.3 * facing + 0.12 * steep)[..., None]
    rim = np.asarray(scene.wall, np.float32) * 1.25
    floor = paint_surface(scene.floor, x, y)
    dirt = 1 + 0.05 * value_noise(scene.floor.seed + 7, x * 9, y * 9, 4)
    corner = 1 - 0.4 * np.exp(np.minimum(beyond, 0) / 0.025) - 0.10 * np.exp(np.minimum(beyond, 0) / 0.12)
    floor = floor * (dirt * corner)[..., None]
    outside = picture * (1 - 0.5 * np.exp(-np.maximum(beyond - scene.height - 0.012, 0) / 0.03))[..., None]
    picture = np.where((beyond < scene.height + 0.012)[..., None], rim, outside)
    picture = np.where((beyond < scene.height)[..., None], wall, picture)
    return np.where((beyond < 0)[..., None], floor, picture)


def paint_scene(scene: Scene, size: int) -> np.ndarray:
    """Return the picture without arm and things, float32, H x W x 3 in [0, 1]."""
    # Painted twice as fine and averaged down: edges would alias otherwise.
    pixels = np.arange(2 * size) / 2 - 0.25
    px, py = np.meshgrid(pixels, pixels)
    back = np.linalg.inv(scene.to_pixels(size)[:, :2])
    dx, dy = px - (scene.middle[0] * size - 0.5), py - (scene.middle[1] * size - 0.5)
    x = (back[0, 0] * dx + back[0, 1] * dy).astype(np.float32)
    y = (back[1, 0] * dx + back[1, 1] * dy).astype(np.float32)
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
