"""Sprites of objects and links, painted once per clip from signed distances."""

from __future__ import annotations

import cv2
import numpy as np

from stillmotion.worlds.arm.objects import BinObject
from stillmotion.worlds.arm.robot import Robot
from stillmotion.worlds.arm.shapes import Shape, polyline
from stillmotion.worlds.colours import blend
from stillmotion.worlds.sprites import Sprite
from stillmotion.worlds.textures import value_noise


def _grid(shape: Shape, scale: float) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Return x, y of every pixel of a sprite around the shape, and the pixel of the origin."""
    x0, y0, x1, y1 = shape.bounds()
    origin = (float(np.ceil(2.0 - x0 * scale)), float(np.ceil(2.0 - y0 * scale)))
    wide, tall = int(np.ceil(origin[0] + x1 * scale + 2.0)), int(np.ceil(origin[1] + y1 * scale + 2.0))
    columns, rows = np.meshgrid(np.arange(wide + 1, dtype=np.float32), np.arange(tall + 1, dtype=np.float32))
    return (columns - origin[0]) / scale, (rows - origin[1]) / scale, origin


def _coverage(distance: np.ndarray, scale: float) -> np.ndarray:
    """Return the share of each pixel inside, from its distance to the outline."""
    return np.clip(0.5 - distance * scale, 0, 1).astype(np.float32)


def _sprite(colour: np.ndarray, distance: np.ndarray, origin: tuple[float, float], scale: float) -> Sprite:
    alpha = _coverage(distance, scale)[..., None]
    image = np.concatenate([np.clip(colour, 0, 1) * alpha, alpha], -1)
    return Sprite(np.ascontiguousarray(image, np.float32), origin, scale)


def _bevel(distance: np.ndarray, width: float) -> np.ndarray:
    """Return the light on a surface that is round towards its outline, the same from all sides, as it may rotate."""
    edge = np.clip(1 + distance / width, 0, 1)
    return (1.05 - 0.5 * edge**2).astype(np.float32)


def _pattern(item: BinObject, x: np.ndarray, y: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Return where the object has its second colour."""
    x0, y0, x1, _ = item.shape.bounds()
    if item.pattern == "ring":
        return (np.abs(distance + 0.021) < 0.005) | (distance < -0.036)
    if item.pattern == "tip":
        return (x > x0 + 0.62 * (x1 - x0)) & (x < x0 + 0.7 * (x1 - x0)) | (x > x0 + 0.8 * (x1 - x0))
    if item.pattern == "band":
        return np.abs(x - 0.5 * (x0 + x1)) < 0.15 * (x1 - x0)
    if item.pattern == "rows":
        end = x0 + (0.7 + 0.2 * np.sin(np.floor((y - y0) / 0.02) * 2.4)) * (x1 - x0)
        return (np.mod(y - y0, 0.02) < 0.008) & (distance < -0.014) & (x < end)
    return np.zeros(x.shape, bool)


def paint_object(item: BinObject, scale: float) -> Sprite:
    """Paint an object at `scale` pixels per picture height."""
    x, y, origin = _grid(item.shape, scale)
    distance = item.shape.distance(x, y)
    colour = blend(item.first, item.second, _pattern(item, x, y, distance))
    light = _bevel(distance, item.bevel) * (1 + 0.06 * value_noise(item.seed, x * 60, y * 60, 2))
    if item.pattern == "studs":
        x0, y0, x1, y1 = item.shape.bounds()
        nx, ny = max(2, round((x1 - x0) / 0.034)), max(2, round((y1 - y0) / 0.034))
        px = np.mod((x - x0) / (x1 - x0) * nx, 1) - 0.5
        py = np.mod((y - y0) / (y1 - y0) * ny, 1) - 0.5
        stud = np.hypot(px * (x1 - x0) / nx, py * (y1 - y0) / ny) - 0.0095
        light = light * (1 - 0.35 * np.exp(-((stud * 300) ** 2)) + 0.16 * _coverage(stud, scale))
    if item.pattern == "hole":
        # A roll of tape: a dark core whose bottom is in its own shadow.
        core = _coverage(distance + 0.024, scale)[..., None]
        colour = (1 - core) * colour + core * np.float32(0.16)
        light = light * (1 + 0.05 * np.sin(distance * 1400)).astype(np.float32)
    return _sprite(colour * light[..., None], distance, origin, scale)


def paint_link(length: float, r0: float, r1: float, robot: Robot, scale: float) -> Sprite:
    """Paint a link from the origin along x: a round tube with a joint and its lit ring at the far end.

    Length and radii, r0 at the origin and r1 at the far end, are in picture heights; `scale` is pixels per height.
    """
    tube = Shape(((0.0, 0.0, length, 0.0, r0, r1),))
    joint = polyline([(length, 0.0), (length, 0.0)], r1 * 1.28)
    x, y, origin = _grid(Shape(tube.capsules + joint.capsules), scale)
    distance, joint_distance = tube.distance(x, y), joint.distance(x, y)
    radius = r0 + (r1 - r0) * np.clip(x / length, 0, 1)
    light = 1.06 - 0.55 * np.abs(np.clip(y / radius, -1.2, 1.2) - 0.25) ** 2.2
    seam = (np.abs(np.mod(x / length, 1) - 0.5) < 0.012) | (np.abs(x / length - 0.78) < 0.008)
    light = light * np.where(seam, 0.7, 1.0)
    colour = np.asarray(robot.metal, np.float32) * light[..., None].astype(np.float32)
    joint_colour = np.asarray(robot.joint, np.float32) * _bevel(joint_distance, r1 * 0.7)[..., None]
    colour = blend(colour, joint_colour, _coverage(joint_distance, scale))
    colour = blend(colour, robot.ring, _coverage(np.abs(joint_distance + 0.42 * r1) - 0.09 * r1, scale))
    return _sprite(colour, np.minimum(distance, joint_distance), origin, scale)


def paint_gripper(robot: Robot, scale: float) -> Sprite:
    """Paint the gripper: grey fingers with light pads, a coloured palm, and the wrist's tube."""
    gripper = robot.gripper()
    wrist = polyline([(-0.13, 0.0), (-0.085, 0.0)], 0.02 * robot.width)
    x, y, origin = _grid(Shape(gripper.capsules + wrist.capsules), scale)
    near, far = gripper.distance(x, y), wrist.distance(x, y)
    colour = np.where((x > -0.055)[..., None], np.float32(0.45), np.asarray(robot.ring, np.float32) * 0.7)
    colour = np.where((x > -0.02)[..., None], np.float32(0.9), colour)
    colour = colour * _bevel(near, 0.012)[..., None]
    tube = np.asarray(robot.metal, np.float32) * (1.0 - 0.5 * np.clip(np.abs(y) / 0.026, 0, 1) ** 2)[..., None]
    return _sprite(np.where((near < 0)[..., None], colour, tube), np.minimum(near, far), origin, scale)


def shadow_of(sprite: Sprite, blur: float, strength: float) -> Sprite:
    """Return a black, blurred copy of a sprite; `blur` in picture heights."""
    pixels = max(blur * sprite.scale, 0.5)
    edge = int(np.ceil(2.5 * pixels))
    alpha = cv2.copyMakeBorder(sprite.image[..., 3], edge, edge, edge, edge, cv2.BORDER_CONSTANT)
    image = np.zeros((*alpha.shape, 4), np.float32)
    image[..., 3] = strength * cv2.GaussianBlur(alpha, (0, 0), pixels)
    return Sprite(image, (sprite.origin[0] + edge, sprite.origin[1] + edge), sprite.scale)
