"""Rendering: from a description to frames and tracks, at any size."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stillmotion.worlds.arm.physics import STEPS_PER_SECOND, simulate
from stillmotion.worlds.arm.robot import Plan, Robot
from stillmotion.worlds.arm.scene import Scene, paint_scene
from stillmotion.worlds.arm.sprites import paint_hand, paint_link, paint_thing, shadow_of
from stillmotion.worlds.arm.things import Thing
from stillmotion.worlds.flow import flow_tracks
from stillmotion.worlds.sprites import Sprite

FPS = 10.0


@dataclass(frozen=True)
class Push:
    """The whole description of a clip, independent of its size and length.

    Attributes:
        scene: bin, table, camera and light.
        robot: the arm.
        plan: where its hand is to go.
        things: what lies in the bin.
    """

    scene: Scene
    robot: Robot
    plan: Plan
    things: tuple[Thing, ...]


@dataclass(frozen=True)
class Layer:
    """Something that is drawn, from below to above.

    Attributes:
        sprite: its picture.
        alpha: the sprite's alpha on its own.
        places: T x 2 x 3, from sprite pixels to canvas pixels.
        windows: T x 4 (x0, y0, x1, y1), what the sprite can touch of the canvas.
        body: number of the rigid body it shows, 1 and up, or 0 for a shadow.
        thing: whether it is a thing or its shadow, and so below the arm.
    """

    sprite: Sprite
    alpha: np.ndarray
    places: np.ndarray
    windows: np.ndarray
    body: int
    thing: bool


def run(push: Push, frames: int, fps: float = FPS, steps: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Run the physics.

    Args:
        push: what to run.
        frames: number of frames.
        fps: frames per second.
        steps: steps of the physics per frame; None keeps `STEPS_PER_SECOND`, whatever the frame rate.

    Returns:
        The things' poses, T x N x 3 (x, y, angle), and the hand's, T x 3, in bin coordinates.
    """
    steps = steps or max(1, round(STEPS_PER_SECOND / fps))
    times = np.arange((frames - 1) * steps + 1) / (fps * steps)
    tips = push.plan.at(times)
    plan = np.concatenate([tips, push.robot.heading(tips)[:, None]], 1)
    poses = np.array([thing.pose for thing in push.things]).reshape(-1, 3)
    stride = push.plan.stride() * STEPS_PER_SECOND / (fps * steps)
    bodies = [thing.body() for thing in push.things]
    things, hands = simulate(bodies, poses, push.scene.half, push.robot.body(), plan, stride)
    return things[::steps], hands[::steps]


def _rigid(poses: np.ndarray) -> np.ndarray:
    """Return T x 2 x 3: from a body's own coordinates to the bin's, for T poses (x, y, angle)."""
    c, s = np.cos(poses[:, 2]), np.sin(poses[:, 2])
    return np.stack([np.stack([c, -s, poses[:, 0]], -1), np.stack([s, c, poses[:, 1]], -1)], 1)


def _chain(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Return the maps (... x 2 x 3) that do `inner` first and `outer` then."""
    result = outer[..., :2] @ inner
    result[..., 2] += outer[..., 2]
    return result


def _layer(sprite: Sprite, bodies: np.ndarray, side: int, body: int, thing: bool) -> Layer:
    """Return a layer from the maps (T x 2 x 3) that take its body to the canvas of `side` pixels."""
    own = np.array([[1, 0, -sprite.origin[0]], [0, 1, -sprite.origin[1]]]) / sprite.scale
    places = _chain(bodies, own)
    h, w = sprite.image.shape[:2]
    corners = places[:, :, :2] @ np.array([[0, w - 1, 0, w - 1], [0, 0, h - 1, h - 1]], float) + places[..., 2:]
    low, high = np.floor(corners.min(2)), np.ceil(corners.max(2)) + 1
    windows = np.clip(np.concatenate([low, high], 1), 0, side).astype(int)
    return Layer(sprite, np.ascontiguousarray(sprite.image[..., 3]), places, windows, body, thing)


def _links(robot: Robot, hands: np.ndarray) -> list[np.ndarray]:
    """Return the poses (T x 3) of hand, forearm and upper arm, from below to above."""
    shoulder, elbow, wrist = np.moveaxis(robot.joints(hands), 1, 0)
    poses = [hands]
    for first, last in ((elbow, wrist), (shoulder, elbow)):
        along = last - first
        poses.append(np.concatenate([first, np.unwrap(np.arctan2(along[:, 1], along[:, 0]))[:, None]], 1))
    return poses


def _layers(push: Push, bodies: list[np.ndarray], size: int, factor: int) -> list[Layer]:
    """Return what is drawn over the empty scene; `bodies` are maps to pixels of the picture, T x 2 x 3 each."""
    scene, robot, scale = push.scene, push.robot, float(size * factor)
    grid = np.array([[factor, 0, 0.5 * factor - 0.5], [0, factor, 0.5 * factor - 0.5]])
    thick = 0.045 * robot.width
    sprites = [paint_thing(thing, scale) for thing in push.things]
    sprites += [
        paint_hand(robot, scale),
        paint_link(robot.fore, 1.0 * thick, 0.72 * thick, robot.metal, robot.joint, robot.ring, scale),
        paint_link(robot.upper, 1.45 * thick, 1.15 * thick, robot.metal, robot.joint, robot.ring, scale),
    ]
    count = len(push.things)
    shadows, shown = [], []
    # The higher something is, the further and the softer its shadow falls.
    lifts = [0.2] * count + [0.35, 0.8, 1.0]
    for number, (sprite, body, lift) in enumerate(zip(sprites, bodies, lifts, strict=True), start=1):
        shift = np.array(scene.light) * scene.lift * lift * size
        cast = body + np.concatenate([np.zeros((2, 2)), shift[:, None]], 1)
        dark = shadow_of(sprite, 0.18 * scene.lift * lift + 0.002, scene.shadow)
        shadows.append(_layer(dark, _chain(grid, cast), size * factor, 0, number <= count))
        shown.append(_layer(sprite, _chain(grid, body), size * factor, number, number <= count))
    if scene.shadow <= 0:
        return shown
    return shadows[:count] + shown[:count] + shadows[count:] + shown[count:]


def _draw(canvas: np.ndarray, layer: Layer, t: int) -> None:
    """Draw a layer over the canvas (premultiplied float32 RGBA), touching only its window."""
    x0, y0, x1, y1 = (int(v) for v in layer.windows[t])
    if x1 <= x0 or y1 <= y0:
        return
    local = layer.places[t] - np.array([[0, 0, x0], [0, 0, y0]])
    region = canvas[y0:y1, x0:x1]
    if not layer.body:  # a shadow is black: only its alpha counts
        alpha = cv2.warpAffine(layer.alpha, local, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)
        # Merged to four equal channels: broadcasting over the last axis would take thrice as long.
        region *= cv2.merge([1 - alpha] * 4)
        region[..., 3] += alpha
        return
    moved = cv2.warpAffine(layer.sprite.image, local, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)
    region *= cv2.merge([1 - moved[..., 3]] * 4)
    region += moved


def _label(labels: np.ndarray, layer: Layer, t: int, factor: int) -> None:
    """Write the layer's number wherever the centre of a pixel of `labels` (H x W) lies inside its body."""
    size = labels.shape[0]
    x0, y0 = (int(v) // factor for v in layer.windows[t, :2])
    x1, y1 = (min(-(-int(v) // factor), size) for v in layer.windows[t, 2:])
    if not layer.body or x1 <= x0 or y1 <= y0:
        return
    back = np.array([[1, 0, 0.5 - 0.5 * factor], [0, 1, 0.5 - 0.5 * factor]]) / factor
    local = _chain(back, layer.places[t]) - np.array([[0, 0, x0], [0, 0, y0]])
    alpha = cv2.warpAffine(layer.alpha, local, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)
    labels[y0:y1, x0:x1][alpha >= 0.5] = layer.body


def _film(picture: np.ndarray, scene: Scene, noise: np.random.Generator) -> np.ndarray:
    """Return the frame (uint8) that the lens and the sensor make of a clean picture (float32, [0, 1])."""
    if scene.softness * picture.shape[0] > 0.1:
        picture = cv2.GaussianBlur(picture, (0, 0), scene.softness * picture.shape[0])
    if scene.noise > 0:
        picture = picture + np.float32(scene.noise) * noise.standard_normal(picture.shape, dtype=np.float32)
    return np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)


def render(push: Push, size: int, frames: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Run and paint a description.

    Args:
        push: what to paint.
        size: height and width in pixels.
        frames: number of frames; the first frames of a longer clip are those of a shorter one.

    Returns:
        Frames (`uint8`, T x H x W x 3) and tracks, in pixels: `gripper` (float32, T x 2, between the finger tips),
        `box` (float32, T x 4: x0, y0, x1, y1 of the hand's outline), `points` (float32, T x 2, the box's middle),
        `poses` (float32, T x N x 3: each thing's centre of mass, and its angle in radians, positive from x towards
        y), `mask` (`uint8`, T x H x W, 255 where the pixel's centre shows the arm or a thing, moving or not),
        `flow_forward` and `flow_backward` (float16, T-1 x H x W x 2; shadows and the scene stand still).
    """
    scene, robot = push.scene, push.robot
    things, hands = run(push, frames)
    factor = 3 if size <= 96 else 2
    to_pixels = scene.to_pixels(size)
    poses = [things[:, i] for i in range(things.shape[1])] + _links(robot, hands)
    bodies = [_chain(to_pixels, _rigid(pose)) for pose in poses]
    layers = _layers(push, bodies, size, factor)
    empty = paint_scene(scene, size)
    below = [layer for layer in layers if layer.thing]
    above = layers[len(below) :]
    canvas = np.zeros((size * factor, size * factor, 4), np.float32)
    under, under_labels = canvas.copy(), np.zeros((size, size), np.uint8)
    noise = np.random.default_rng(scene.noise_seed)
    video = np.empty((frames, size, size, 3), np.uint8)
    labels = np.empty((frames, size, size), np.uint8)
    tint = np.asarray(scene.tint, np.float32)
    changed = np.ones(frames, bool)
    changed[1:] = (things[1:] != things[:-1]).any((1, 2))
    for t in range(frames):
        if changed[t]:
            # Only now has a thing moved: most frames keep what lies below the arm.
            under[:], under_labels[:] = 0, 0
            for layer in below:
                _draw(under, layer, t)
                _label(under_labels, layer, t, factor)
        canvas[:], labels[t] = under, under_labels
        for layer in above:
            _draw(canvas, layer, t)
            _label(labels[t], layer, t, factor)
        shown = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
        rest: np.ndarray = np.asarray(cv2.merge([1 - shown[..., 3]] * 3), np.float32)
        rest *= empty
        rest += shown[..., :3] * tint
        video[t] = _film(rest, scene, noise)
    still = np.broadcast_to(np.eye(2, 3), (frames, 2, 3))
    maps = np.stack([still, *bodies], 1)
    ends = robot.hand().ends()
    outline = np.einsum("tij,nj->tni", _chain(to_pixels, _rigid(hands)), np.c_[ends[:, :2], np.ones(len(ends))])
    reach = ends[:, 2:] * size
    box = np.concatenate([(outline - reach).min(1), (outline + reach).max(1)], 1).astype(np.float32)
    tracks = {
        "gripper": (hands[:, :2] @ to_pixels[:, :2].T + to_pixels[:, 2]).astype(np.float32),
        "box": box,
        "points": 0.5 * (box[:, :2] + box[:, 2:]),
        "poses": np.concatenate(
            [things[..., :2] @ to_pixels[:, :2].T + to_pixels[:, 2], things[..., 2:] + scene.tilt], -1
        ).astype(np.float32),
        "mask": np.where(labels > 0, 255, 0).astype(np.uint8),
        **flow_tracks(labels, maps),
    }
    return video, tracks
