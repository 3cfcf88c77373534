"""Sprites of things and links: painted once per clip from signed distances, then only moved."""

from __future__ import annotations

import cv2
import numpy as np

from stillmotion.worlds.arm.robot import Robot
from stillmotion.worlds.arm.shapes import Shape, line
from stillmotion.worlds.arm.things import Thing
from stillmotion.worlds.colours import Colour
from stillmotion.worlds.sprites import Sprite
from stillmotion.worlds.textures import value_noise


def _grid(shape: Shape, scale: float, margin: float) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Return x, y of every pixel of a sprite around the shape, and the pixel of the origin."""
    x0, y0, x1, y1 = shape.bounds()
    edge = 2.0 + margin * scale
    origin = (float(np.ceil(edge - x0 * scale)), float(np.ceil(edge - y0 * scale)))
    wide, tall = int(np.ceil(origin[0] + x1 * scale + edge)), int(np.ceil(origin[1] + y1 * scale + edge))
    columns, rows = np.meshgrid(np.arange(wide + 1, dtype=np.float32), np.arange(tall + 1, dtype=np.float32))
    return (columns - origin[0]) / scale, (rows - origin[1]) / scale, origin


def _cover(distance: np.ndarray, scale: float) -> np.ndarray:
    """Return how much of each pixel lies inside, from its distance to the outline."""
    return np.clip(0.5 - distance * scale, 0, 1).astype(np.float32)


def _finish(colour: np.ndarray, alpha: np.ndarray, origin: tuple[float, float], scale: float) -> Sprite:
    image = np.concatenate([np.clip(colour, 0, 1) * alpha[..., None], alpha[..., None]], -1)
    return Sprite(np.ascontiguousarray(image, np.float32), origin, scale)


def _bevel(distance: np.ndarray, width: float) -> np.ndarray:
    """Return the light on a surface that is round towards its outline; the same from all sides, so it may turn."""
    edge = np.clip(1 + distance / width, 0, 1)
    return (1.05 - 0.5 * edge**2).astype(np.float32)


def _pattern(thing: Thing, x: np.ndarray, y: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Return how much of the second colour each place has, 0 to 1."""
    x0, y0, x1, _ = thing.shape.bounds()
    if thing.pattern == "ring":
        return (np.abs(distance + 0.021) < 0.005) | (distance < -0.036)
    if thing.pattern == "tip":
        return (x > x0 + 0.62 * (x1 - x0)) & (x < x0 + 0.7 * (x1 - x0)) | (x > x0 + 0.8 * (x1 - x0))
    if thing.pattern == "band":
        return np.abs(x - 0.5 * (x0 + x1)) < 0.15 * (x1 - x0)
    if thing.pattern == "rows":
        lines = np.mod(y - y0, 0.02) < 0.008
        return (
            lines & (distance < -0.014) & (x < x0 + (0.7 + 0.2 * np.sin(np.floor((y - y0) / 0.02) * 2.4)) * (x1 - x0))
        )
    return np.zeros(x.shape, bool)


def paint_thing(thing: Thing, scale: float) -> Sprite:
    """Paint a thing at `scale` pixels per picture height."""
    x, y, origin = _grid(thing.shape, scale, 0.0)
    distance = thing.shape.distance(x, y)
    share = _pattern(thing, x, y, distance).astype(np.float32)[..., None]
    colour = (1 - share) * np.asarray(thing.first, np.float32) + share * np.asarray(thing.second, np.float32)
    light = _bevel(distance, thing.bevel) * (1 + 0.06 * value_noise(thing.seed, x * 60, y * 60, 2))
    alpha = _cover(distance, scale)
    if thing.pattern == "studs":
        x0, y0, x1, y1 = thing.shape.bounds()
        nx, ny = max(2, round((x1 - x0) / 0.034)), max(2, round((y1 - y0) / 0.034))
        px = np.mod((x - x0) / (x1 - x0) * nx, 1) - 0.5
        py = np.mod((y - y0) / (y1 - y0) * ny, 1) - 0.5
        stud = np.hypot(px * (x1 - x0) / nx, py * (y1 - y0) / ny) - 0.0095
        light = light * (1 - 0.35 * np.exp(-((stud * 300) ** 2)) + 0.16 * _cover(stud, scale))
    if thing.pattern == "hole":
        # A roll of tape: dark core whose bottom lies in its own shadow.
        core = _cover(distance + 0.024, scale)[..., None]
        colour = (1 - core) * colour + core * np.float32(0.16)
        light = light * (1 + 0.05 * np.sin(distance * 1400)).astype(np.float32)
    return _finish(colour * light[..., None], alpha, origin, scale)


def paint_link(
    length: float, r0: float, r1: float, metal: Colour, joint: Colour, ring: Colour, scale: float
) -> Sprite:
    """Paint a link of the arm from the origin along x: a round tube with a joint and its lit ring at the far end."""
    tube = Shape(((0.0, 0.0, length, 0.0, r0, r1),))
    cap = line([(length, 0.0), (length, 0.0)], r1 * 1.28)
    both = Shape(tube.lines + cap.lines)
    x, y, origin = _grid(both, scale, 0.0)
    distance, knob = tube.distance(x, y), cap.distance(x, y)
    radius = r0 + (r1 - r0) * np.clip(x / length, 0, 1)
    across = np.clip(y / radius, -1.2, 1.2)
    light = 1.06 - 0.55 * np.abs(across - 0.25) ** 2.2
    seam = (np.abs(np.mod(x / length, 1) - 0.5) < 0.012) | (np.abs(x / length - 0.78) < 0.008)
    light = light * np.where(seam, 0.7, 1.0)
    colour = np.asarray(metal, np.float32) * light[..., None].astype(np.float32)
    on = _cover(knob, scale)[..., None]
    cap_colour = np.asarray(joint, np.float32) * _bevel(knob, r1 * 0.7)[..., None]
    colour = (1 - on) * colour + on * cap_colour
    lit = _cover(np.abs(knob + 0.42 * r1) - 0.09 * r1, scale)[..., None]
    colour = (1 - lit) * colour + lit * np.asarray(ring, np.float32)
    return _finish(colour, _cover(np.minimum(distance, knob), scale), origin, scale)


def paint_hand(robot: Robot, scale: float) -> Sprite:
    """Paint the hand: dark fingers with light pads, a palm, and the wrist's tube."""
    hand = robot.hand()
    wrist = line([(-0.13, 0.0), (-0.085, 0.0)], 0.02 * robot.width)
    both = Shape(hand.lines + wrist.lines)
    x, y, origin = _grid(both, scale, 0.0)
    near, far = hand.distance(x, y), wrist.distance(x, y)
    # Grey fingers on a coloured palm, with light pads: seen on any floor.
    colour = np.where((x > -0.055)[..., None], np.float32(0.45), np.asarray(robot.ring, np.float32) * 0.7)
    colour = np.where((x > -0.02)[..., None], np.float32(0.9), colour)
    colour = colour * _bevel(near, 0.012)[..., None]
    tube = np.asarray(robot.metal, np.float32) * (1.0 - 0.5 * np.clip(np.abs(y) / 0.026, 0, 1) ** 2)[..., None]
    colour = np.where((near < 0)[..., None], colour, tube)
    return _finish(colour, _cover(np.minimum(near, far), scale), origin, scale)


def shadow_of(sprite: Sprite, blur: float, strength: float) -> Sprite:
    """Return a black, blurred copy of a sprite; `blur` in picture heights."""
    pixels = max(blur * sprite.scale, 0.5)
    edge = int(np.ceil(2.5 * pixels))
    alpha = cv2.copyMakeBorder(sprite.image[..., 3], edge, edge, edge, edge, cv2.BORDER_CONSTANT)
    image = np.zeros((*alpha.shape, 4), np.float32)
    image[..., 3] = strength * cv2.GaussianBlur(alpha, (0, 0), pixels)
    return Sprite(image, (sprite.origin[0] + edge, sprite.origin[1] + edge), sprite.scale)
