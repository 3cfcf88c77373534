"""Rendering: from a description to frames and tracks, at any size."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stillmotion.data.part_flow import flow_tracks
from stillmotion.worlds.affine import affine, compose, rotations
from stillmotion.worlds.arm.objects import BinObject
from stillmotion.worlds.arm.physics import STEPS_PER_SECOND, simulate
from stillmotion.worlds.arm.robot import Robot, Trajectory
from stillmotion.worlds.arm.scene import Scene, paint_scene
from stillmotion.worlds.arm.sprites import paint_gripper, paint_link, paint_object, shadow_of
from stillmotion.worlds.compositing import (
    attenuate,
    coarse_windows,
    draw_over,
    expose,
    over,
    sprite_windows,
    supersampling,
    warp_to_window,
)
from stillmotion.worlds.sprites import Sprite

FPS = 10.0


@dataclass(frozen=True)
class Push:
    """The whole description of a clip, independent of its size and length."""

    scene: Scene  # bin, table, camera and light
    robot: Robot
    trajectory: Trajectory  # of the robot's gripper
    objects: tuple[BinObject, ...]  # in the bin


@dataclass(frozen=True)
class Layer:
    """Something that is drawn, from below to above."""

    sprite: Sprite
    alpha: np.ndarray  # the sprite's alpha, contiguous
    transforms: np.ndarray  # T x 2 x 3, from sprite pixels to canvas pixels
    windows: np.ndarray  # T x 4 (x0, y0, x1, y1), the part of the canvas that the sprite covers
    body: int  # number of the rigid body it shows, from 1 on, or 0 for a shadow


def run(push: Push, frames: int, fps: float = FPS, steps: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Run the physics, by default `STEPS_PER_SECOND`, else in so many steps per frame.

    Returns:
        The objects' poses, T x N x 3 (x, y, angle), and the gripper's, T x 3, in bin coordinates.
    """
    steps = steps or max(1, round(STEPS_PER_SECOND / fps))
    times = np.arange((frames - 1) * steps + 1) / (fps * steps)
    targets = push.robot.gripper_poses(push.trajectory.at(times))
    poses = np.array([item.pose for item in push.objects]).reshape(-1, 3)
    stride = push.trajectory.stride() * STEPS_PER_SECOND / (fps * steps)
    bodies = [item.body() for item in push.objects]
    objects, grippers = simulate(bodies, poses, push.scene.half, push.robot.gripper_body(), targets, stride)
    return objects[::steps], grippers[::steps]


def _rigid(poses: np.ndarray) -> np.ndarray:
    """Return T x 2 x 3: from a body's own coordinates to the bin's, for T poses (x, y, angle)."""
    return affine(rotations(poses[:, 2]), poses[:, :2])


def _layer(sprite: Sprite, bodies: np.ndarray, side: int, body: int) -> Layer:
    """Return a layer from the maps (T x 2 x 3) of its body to the canvas of `side` pixels."""
    own = np.array([[1, 0, -sprite.origin[0]], [0, 1, -sprite.origin[1]]]) / sprite.scale
    transforms = compose(bodies, own)
    windows = sprite_windows(sprite.image, transforms, side)
    return Layer(sprite, np.ascontiguousarray(sprite.image[..., 3]), transforms, windows, body)


def _link_poses(robot: Robot, grippers: np.ndarray) -> list[np.ndarray]:
    """Return the poses (T x 3) of gripper, forearm and upper arm, from below to above."""
    shoulder, elbow, wrist = np.moveaxis(robot.joints(grippers), 1, 0)
    poses = [grippers]
    for first, last in ((elbow, wrist), (shoulder, elbow)):
        along = last - first
        poses.append(np.concatenate([first, np.unwrap(np.arctan2(along[:, 1], along[:, 0]))[:, None]], 1))
    return poses


def _layers(push: Push, bodies: list[np.ndarray], size: int, factor: int) -> tuple[list[Layer], list[Layer]]:
    """Return the layers of the objects and of the arm; `bodies` are maps to pixels of the picture, T x 2 x 3 each."""
    scene, robot, scale = push.scene, push.robot, float(size * factor)
    grid = np.array([[factor, 0, 0.5 * factor - 0.5], [0, factor, 0.5 * factor - 0.5]])
    thick = 0.045 * robot.width
    sprites = [paint_object(item, scale) for item in push.objects]
    sprites += [
        paint_gripper(robot, scale),
        paint_link(robot.fore, 1.0 * thick, 0.72 * thick, robot, scale),
        paint_link(robot.upper, 1.45 * thick, 1.15 * thick, robot, scale),
    ]
    count = len(push.objects)
    shadows, shown = [], []
    # The higher a body is, the further and the softer its shadow falls.
    lifts = [0.2] * count + [0.35, 0.8, 1.0]
    for number, (sprite, body, lift) in enumerate(zip(sprites, bodies, lifts, strict=True), start=1):
        shift = np.array(scene.light) * scene.lift * lift * size
        cast = body + affine(np.zeros((2, 2)), shift)
        dark = shadow_of(sprite, 0.18 * scene.lift * lift + 0.002, scene.shadow)
        shadows.append(_layer(dark, compose(grid, cast), size * factor, 0))
        shown.append(_layer(sprite, compose(grid, body), size * factor, number))
    if scene.shadow <= 0:
        return shown[:count], shown[count:]
    return shadows[:count] + shown[:count], shadows[count:] + shown[count:]


def _draw(canvas: np.ndarray, labels: np.ndarray, layers: list[Layer], t: int) -> None:
    """Composite layers on the canvas (premultiplied RGBA) and write their numbers into the labels (H x W)."""
    size = labels.shape[0]
    factor = canvas.shape[0] // size
    to_labels = np.array([[1, 0, 0.5 - 0.5 * factor], [0, 1, 0.5 - 0.5 * factor]]) / factor
    for layer in layers:
        if layer.body:
            draw_over(canvas, layer.sprite.image, layer.transforms[t], layer.windows[t])
            window = coarse_windows(layer.windows[t : t + 1], factor, size)[0]
            found = warp_to_window(layer.alpha, compose(to_labels, layer.transforms[t]), window)
            if found is not None:
                alpha, region = found
                labels[region][alpha >= 0.5] = layer.body  # covers the pixel's centre
        else:  # a shadow is black: only its alpha counts
            found = warp_to_window(layer.alpha, layer.transforms[t], layer.windows[t])
            if found is not None:
                alpha, region = found
                attenuate(canvas[region], alpha)
                canvas[region][..., 3] += alpha


def render(push: Push, size: int, frames: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Simulate and render a description at `size` pixels a side; a longer clip begins as a shorter one.

    Returns:
        Frames (`uint8`, T x H x W x 3) and tracks, in pixels: `gripper` (float32, T x 2, between the finger tips),
        `box` (float32, T x 4: x0, y0, x1, y1 of the gripper's outline), `points` (float32, T x 2, the box's middle),
        `poses` (float32, T x N x 3: each object's centre of mass, and its angle in radians, positive from x towards
        y), `mask` (`uint8`, T x H x W, 255 where the pixel's centre shows the arm or an object, moving or not),
        `flow_forward` and `flow_backward` (float16, T-1 x H x W x 2; 0 on shadows and the scene), `parts` (`uint8`,
        T x H x W) and `moves` (float32, T x P x 2 x 3; see `data.part_flow`).
    """
    scene, robot = push.scene, push.robot
    objects, grippers = run(push, frames)
    factor = supersampling(size)
    to_pixels = scene.to_pixels(size)
    poses = [objects[:, i] for i in range(objects.shape[1])] + _link_poses(robot, grippers)
    bodies = [compose(to_pixels, _rigid(pose)) for pose in poses]
    below, above = _layers(push, bodies, size, factor)
    background = paint_scene(scene, size)
    canvas = np.zeros((size * factor, size * factor, 4), np.float32)
    under, under_labels = canvas.copy(), np.zeros((size, size), np.uint8)
    noise = np.random.default_rng(scene.noise_seed)
    video = np.empty((frames, size, size, 3), np.uint8)
    labels = np.empty((frames, size, size), np.uint8)
    changed = np.ones(frames, bool)
    changed[1:] = (objects[1:] != objects[:-1]).any((1, 2))
    for t in range(frames):
        if changed[t]:  # most frames keep what is below the arm
            under[:], under_labels[:] = 0, 0
            _draw(under, under_labels, below, t)
        canvas[:], labels[t] = under, under_labels
        _draw(canvas, labels[t], above, t)
        shown = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
        shown[..., :3] *= np.asarray(scene.tint, np.float32)
        video[t] = expose(over(shown, background), scene.softness, scene.noise, noise)
    ends = robot.gripper().ends()
    outline = np.einsum("tij,nj->tni", compose(to_pixels, _rigid(grippers)), np.c_[ends[:, :2], np.ones(len(ends))])
    reach = ends[:, 2:] * size
    box = np.concatenate([(outline - reach).min(1), (outline + reach).max(1)], 1).astype(np.float32)
    moves = np.stack([np.broadcast_to(np.eye(2, 3), (frames, 2, 3)), *bodies], 1)
    places = objects[..., :2] @ to_pixels[:, :2].T + to_pixels[:, 2]
    return video, {
        "gripper": (grippers[:, :2] @ to_pixels[:, :2].T + to_pixels[:, 2]).astype(np.float32),
        "box": box,
        "points": 0.5 * (box[:, :2] + box[:, 2:]),
        "poses": np.concatenate([places, objects[..., 2:] + scene.tilt], -1).astype(np.float32),
        "mask": np.where(labels > 0, 255, 0).astype(np.uint8),
        **flow_tracks(labels, moves),
        "parts": labels,
        "moves": moves.astype(np.float32),
    }
