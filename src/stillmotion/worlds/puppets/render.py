"""Rendering: from a description to frames and tracks, at any size."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stillmotion.worlds.puppets.body import Body
from stillmotion.worlds.puppets.clothes import Clothes
from stillmotion.worlds.puppets.motion import ACTIONS
from stillmotion.worlds.puppets.parts import Part, build_parts
from stillmotion.worlds.puppets.scene import Scene
from stillmotion.worlds.puppets.skeleton import Figure, joints, place
from stillmotion.worlds.puppets.textures import paint_wall

# A walker who is not followed crosses about this much of the picture before the camera catches up.
_WALK_THROUGH = 0.44
# Motion blur is the mean of this many moments; odd, so that the middle one is the frame's own time.
_MOMENTS = 3


@dataclass(frozen=True)
class Puppet:
    """The whole description of a clip, independent of its size and length.

    Attributes:
        action: a key of `ACTIONS`.
        body: proportions.
        clothes: looks.
        motion: the action's numbers.
        scene: place, wall, camera and light.
        arms_over_head: front view: whether arms pass in front of the head.
    """

    action: str
    body: Body
    clothes: Clothes
    motion: object
    scene: Scene
    arms_over_head: bool


@dataclass(frozen=True)
class Stage:
    """Where everything is at T moments, in picture heights.

    Attributes:
        figure: the skeleton in body coordinates.
        origin: T x 2, where the body's origin is.
        background: T x 2, how far the background has moved.
        flip: -1 when the person is mirrored (seen from the side, facing left), else +1.
        stature: the person's height.
    """

    figure: Figure
    origin: np.ndarray
    background: np.ndarray
    flip: float
    stature: float

    def project(self, points: np.ndarray, size: float) -> np.ndarray:
        """Return pixels (T x N x 2, centres at integers) of points in body coordinates (T x N x 2)."""
        return (self.origin[:, None] + points * np.array([self.flip, 1.0]) * self.stature) * size - 0.5


def stage(puppet: Puppet, times: np.ndarray) -> Stage:
    """Return where everything is at `times` (T, in frames)."""
    action, scene = ACTIONS[puppet.action], puppet.scene
    figure = place(puppet.body, action.pose(puppet.motion, puppet.body, times), action.view)
    flip = float(scene.facing) if action.view == "side" else 1.0
    shake = scene.camera.offset(times)
    followed = np.zeros(len(times))
    if puppet.action == "walk":
        # The person's own travel is in the figure; what the camera takes back moves the background instead.
        travel = scene.stature * figure.pose.x
        seen = 0.0 if scene.camera.follow else _WALK_THROUGH * (np.tanh(travel / _WALK_THROUGH) - 0.5)
        followed = flip * (travel - seen)
    pan = np.stack([followed, np.zeros_like(followed)], -1)
    return Stage(figure, np.array([scene.x, scene.floor]) - pan + shake, shake - pan, flip, scene.stature)


def _transforms(part: Part, staged: Stage, grid: float) -> np.ndarray:
    """Return T x 2 x 3: from the sprite's pixels to the canvas's, `grid` of which are a picture height."""
    unit = staged.stature * grid / part.sprite.scale
    sin, cos = np.sin(part.angle), np.cos(part.angle)
    # A mirrored limb (mirror = -1) turns the other way: outward is to -x.
    across = part.mirror * np.stack([cos, -part.mirror * sin], -1)
    along = np.stack([part.mirror * sin, cos], -1) + part.shear[:, None] * across
    linear = unit * np.stack([across, along], -1) * np.array([[staged.flip], [1.0]])
    target = staged.project(part.point[:, None], grid)[:, 0]
    moved = target - np.einsum("tij,j->ti", linear, np.array(part.sprite.origin))
    return np.concatenate([linear, moved[..., None]], -1)


def _windows(part: Part, transforms: np.ndarray, side: int) -> np.ndarray:
    """Return T x 4 (x0, y0, x1, y1): the part of a canvas of `side` pixels that the sprite can touch."""
    h, w = part.sprite.image.shape[:2]
    corners = (
        transforms[:, :, :2] @ np.array([[0, w - 1, 0, w - 1], [0, 0, h - 1, h - 1]], float) + transforms[..., 2:]
    )
    low, high = np.floor(corners.min(2)), np.ceil(corners.max(2)) + 1
    return np.clip(np.concatenate([low, high], 1), 0, side).astype(int)


def _draw(canvas: np.ndarray, image: np.ndarray, transform: np.ndarray, window: np.ndarray) -> None:
    """Draw a sprite over the canvas (both premultiplied float32 RGBA), touching only its window."""
    x0, y0, x1, y1 = (int(v) for v in window)
    if x1 <= x0 or y1 <= y0:
        return
    local = transform - np.array([[0, 0, x0], [0, 0, y0]])
    moved = cv2.warpAffine(image, local, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)
    region = canvas[y0:y1, x0:x1]
    region *= 1 - moved[..., 3:]
    region += moved


def _paint_background(puppet: Puppet, moved: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a background large enough for all moves (T x 2, pixels), and where its first pixel is (x, y)."""
    scene = puppet.scene
    first = np.floor(-moved.max(0)).astype(int) - 2
    last = np.ceil(-moved.min(0)).astype(int) + size + 2
    # Painted twice as fine and averaged down: the joints between bricks would alias otherwise.
    x, y = np.meshgrid(*(np.arange(a, b, 0.5) + 0.25 for a, b in zip(first, last, strict=True)))
    u, v = (x / size).astype(np.float32), (y / size).astype(np.float32)
    picture = paint_wall(scene.wall, u, v)
    if scene.ground is not None:
        picture = np.where((v > scene.horizon)[..., None], paint_wall(scene.ground, u, v * 2.5), picture)
        picture = picture * (1 - 0.35 * np.exp(-np.abs(v - scene.horizon) / 0.006))[..., None]
    width, height = (int(n) for n in last - first)
    return cv2.resize(picture.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA), first.astype(float)


def _shadow(scene: Scene, feet: np.ndarray, size: int) -> np.ndarray:
    """Return the light (H x W x 1) left by the soft shadow under the feet (x, y in pixels)."""
    ys, xs = np.ogrid[:size, :size]
    wide, tall = 0.17 * scene.stature * size, 0.022 * scene.stature * size
    dark = np.exp(-(((xs - feet[0]) / wide) ** 2)) * np.exp(-(((ys - feet[1]) / tall) ** 2))
    return (1 - scene.shadow * dark)[..., None].astype(np.float32)


def _film(picture: np.ndarray, scene: Scene, time: float, noise: np.random.Generator) -> np.ndarray:
    """Return the frame (uint8) that the lens and the sensor make of a clean picture (float32, [0, 1])."""
    size = picture.shape[0]
    if scene.softness * size > 0.1:
        picture = cv2.GaussianBlur(picture, (0, 0), scene.softness * size)
    gain = 1 + scene.flicker * np.sin(2 * np.pi * time / scene.flicker_period)
    picture = picture * (np.asarray(scene.tint, np.float32) * np.float32(gain))
    if scene.noise > 0:
        picture = picture + np.float32(scene.noise) * noise.standard_normal(picture.shape, dtype=np.float32)
    return np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)


def render(puppet: Puppet, size: int, frames: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Paint a description.

    Args:
        puppet: what to paint.
        size: height and width in pixels.
        frames: number of frames; the first frames of a longer clip are those of a shorter one.

    Returns:
        Frames (uint8, T x H x W x 3) and tracks: `joints` (float32, T x 13 x 3: x, y, visible), `box`
        (float32, T x 4: x0, y0, x1, y1, the outermost foreground pixels' centres), `points` (float32, T x 2:
        the box's middle) and `mask` (uint8, T x H x W, 0 or 255).
    """
    scene, view = puppet.scene, ACTIONS[puppet.action].view
    count = _MOMENTS if scene.shutter > 0 else 1
    moments = scene.shutter * (np.arange(count) - count // 2) / count
    staged = stage(puppet, (np.arange(frames)[:, None] + moments).ravel())
    factor = 3 if size <= 96 else 2
    side = size * factor
    near = 1 if scene.facing > 0 else 0  # someone facing right shows the right side
    parts = build_parts(
        puppet.body, puppet.clothes, staged.figure, view, near, puppet.arms_over_head, scene.stature * side,
        scene.light_side * staged.flip,
    )  # fmt: skip
    transforms = [_transforms(part, staged, side) for part in parts]
    windows = [_windows(part, transform, side) for part, transform in zip(parts, transforms, strict=True)]
    own = slice(count // 2, None, count)  # the frames' own times among all moments
    moved = staged.background[own] * size
    wall, corner = _paint_background(puppet, moved, size)
    feet = staged.project(staged.figure.pelvis[:, None] * np.array([1.0, 0.0]), size)[own, 0]
    video = np.empty((frames, size, size, 3), np.uint8)
    mask = np.empty((frames, size, size), np.uint8)
    canvas = np.empty((side, side, 4), np.float32)
    noise = np.random.default_rng(scene.noise_seed)
    for t in range(frames):
        person = np.zeros((size, size, 4), np.float32)
        for moment in range(t * count, (t + 1) * count):
            canvas[:] = 0
            for part, transform, window in zip(parts, transforms, windows, strict=True):
                _draw(canvas, part.sprite.image, transform[moment], window[moment])
            person += cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA) / count
        shift = np.concatenate([np.eye(2), (corner + moved[t])[:, None]], 1)
        picture = cv2.warpAffine(wall, shift, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        if scene.shadow > 0:
            picture = picture * _shadow(scene, feet[t], size)
        picture = person[..., :3] + (1 - person[..., 3:]) * picture
        video[t] = _film(picture, scene, float(t), noise)
        mask[t] = np.where(person[..., 3] >= 0.5, 255, 0)
    places = staged.project(joints(staged.figure), size)[own]
    hidden = _hidden(staged.project(joints(staged.figure), side)[own], parts, [m[own] for m in transforms])
    return video, _tracks(places, hidden, mask)


def _tracks(places: np.ndarray, hidden: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
    size = mask.shape[1]
    inside = ((places >= -0.5) & (places < size - 0.5)).all(-1)
    tracked = np.concatenate([places, (inside & ~hidden)[..., None]], -1).astype(np.float32)
    box = np.stack([_bounds(m) for m in mask])
    return {"joints": tracked, "box": box, "points": 0.5 * (box[:, :2] + box[:, 2:]), "mask": mask}


def _bounds(mask: np.ndarray) -> np.ndarray:
    """Return the box around the foreground: the first and last pixel centres that belong to it."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    if len(columns) == 0:
        return np.full(4, np.nan, np.float32)
    return np.array([columns[0], rows[0], columns[-1], rows[-1]], np.float32)


def _hidden(places: np.ndarray, parts: list[Part], transforms: list[np.ndarray]) -> np.ndarray:
    """Return T x 13: whether a part that lies in front of a joint's own parts covers it (canvas pixels)."""
    count = places.shape[1]
    first = [min((i for i, part in enumerate(parts) if j in part.joints), default=0) for j in range(count)]
    hidden = np.zeros(places.shape[:2], bool)
    for i, (part, transform) in enumerate(zip(parts, transforms, strict=True)):
        behind = [j for j in range(count) if first[j] < i and j not in part.joints]
        if not behind:
            continue
        inverse = np.linalg.inv(transform[:, :, :2])
        local = np.einsum("tij,tnj->tni", inverse, places[:, behind] - transform[:, None, :, 2])
        h, w = part.sprite.image.shape[:2]
        x, y = np.round(local[..., 0]).astype(int), np.round(local[..., 1]).astype(int)
        on = (x >= 0) & (x < w) & (y >= 0) & (y < h)
        alpha = part.sprite.image[np.clip(y, 0, h - 1), np.clip(x, 0, w - 1), 3]
        hidden[:, behind] |= on & (alpha > 0.5)
    return hidden
