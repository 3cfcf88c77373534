"""Rendering: from a description to frames and tracks, at any size."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stillmotion.worlds.flow import flow_tracks
from stillmotion.worlds.puppets.body import Body
from stillmotion.worlds.puppets.clothes import Clothes
from stillmotion.worlds.puppets.labels import coverage, label, settle, to_pixels
from stillmotion.worlds.puppets.motion import ACTIONS
from stillmotion.worlds.puppets.parts import Part, build_parts
from stillmotion.worlds.puppets.scene import Scene
from stillmotion.worlds.puppets.skeleton import Figure, joints, place
from stillmotion.worlds.puppets.sports import Thing
from stillmotion.worlds.textures import paint_surface

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
        thing: what the person holds or throws.
    """

    figure: Figure
    origin: np.ndarray
    background: np.ndarray
    flip: float
    stature: float
    thing: Thing | None = None

    def project(self, points: np.ndarray, size: float) -> np.ndarray:
        """Return pixels (T x N x 2, centres at integers) of points in body coordinates (T x N x 2)."""
        return (self.origin[:, None] + points * np.array([self.flip, 1.0]) * self.stature) * size - 0.5


def crossed(travel: np.ndarray, span: float) -> np.ndarray:
    """Return where someone is in the picture who has travelled so far (T, picture heights), 0 = its middle.

    The camera stands still until nearly `span` is crossed, then goes along: so nobody ever leaves the picture.
    """
    share = travel / span
    return span * (share / (1 + share**6) ** (1 / 6) - 0.5)


def stage(puppet: Puppet, times: np.ndarray) -> Stage:
    """Return where everything is at `times` (T, in frames)."""
    action, scene = ACTIONS[puppet.action], puppet.scene
    figure = place(puppet.body, action.pose(puppet.motion, puppet.body, times), action.view)
    flip = float(scene.facing) if action.view == "side" else 1.0
    shake = scene.camera.offset(times)
    followed = np.zeros(len(times))
    if action.gait is not None:
        # The person's own travel is in the figure; what the camera takes back moves the background instead.
        travel = scene.stature * figure.pose.x
        # The legs and arms of a stride need room on both sides.
        seen = 0.0 if scene.camera.follow else crossed(travel, 1.0 - 0.6 * scene.stature)
        followed = flip * (travel - seen)
    pan = np.stack([followed, np.zeros_like(followed)], -1)
    thing = action.thing(puppet.motion, puppet.body, figure, times) if action.thing else None
    origin = np.array([scene.x, scene.floor]) - pan + shake
    return Stage(figure, origin, shake - pan, flip, scene.stature, thing)


def _transforms(part: Part, staged: Stage, grid: float) -> np.ndarray:
    """Return T x 2 x 3: from the sprite's pixels to the canvas's, `grid` of which are a picture height."""
    unit = staged.stature * grid / part.sprite.scale
    sin, cos = np.sin(part.angle), np.cos(part.angle)
    # A mirrored limb (mirror = -1) turns the other way: outward is to -x.
    across = part.mirror * np.stack([cos, -part.mirror * sin], -1)
    along = np.stack([part.mirror * sin, cos], -1) + part.shear[:, None] * across
    if part.narrow is not None:
        across = part.narrow[:, None] * across
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
    windows = np.clip(np.concatenate([low, high], 1), 0, side).astype(int)
    return windows if part.shown is None else windows * part.shown[:, None]


def _extent(windows: list[np.ndarray], factor: int, size: int) -> list[list[int]]:
    """Return (x0, y0, x1, y1) per moment, in pixels of the picture: all that any part can touch, at least a pixel."""
    every = np.stack(windows)
    drawn = (every[..., 2:] > every[..., :2]).all(-1, keepdims=True)
    low = np.where(drawn, every[..., :2], size * factor).min(0) // factor
    high = -(-np.where(drawn, every[..., 2:], 0).max(0) // factor)
    low = np.clip(low, 0, size - 1)
    spans: list[list[int]] = np.concatenate([low, np.clip(high, low + 1, size)], 1).tolist()
    return spans


def _draw(canvas: np.ndarray, image: np.ndarray, transform: np.ndarray, window: np.ndarray) -> None:
    """Draw a sprite over the canvas (both premultiplied float32 RGBA), touching only its window."""
    x0, y0, x1, y1 = (int(v) for v in window)
    if x1 <= x0 or y1 <= y0:
        return
    local = transform - np.array([[0, 0, x0], [0, 0, y0]])
    moved = cv2.warpAffine(image, local, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)
    region = canvas[y0:y1, x0:x1]
    # Merged to four equal channels: broadcasting over the last axis would take thrice as long.
    region *= cv2.merge([1 - moved[..., 3]] * 4)
    region += moved


def _paint_background(puppet: Puppet, moved: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a background large enough for all moves (T x 2, pixels), and where its first pixel is (x, y)."""
    scene = puppet.scene
    first = np.floor(-moved.max(0)).astype(int) - 2
    last = np.ceil(-moved.min(0)).astype(int) + size + 2
    # Painted twice as fine and averaged down: the joints between bricks would alias otherwise.
    x, y = np.meshgrid(*(np.arange(a, b, 0.5) + 0.25 for a, b in zip(first, last, strict=True)))
    u, v = (x / size).astype(np.float32), (y / size).astype(np.float32)
    picture = paint_surface(scene.wall, u, v)
    if scene.ground is not None:
        picture = np.where((v > scene.horizon)[..., None], paint_surface(scene.ground, u, v * 2.5), picture)
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
        (float32, T x 4: x0, y0, x1, y1, the outermost pixels of the person, without club or ball), `points`
        (float32, T x 2: the box's middle), `mask` (uint8, T x H x W, 0 or 255: the person and what is held or
        thrown), `flow_forward` and `flow_backward` (float16, T-1 x H x W x 2, pixels: the pixel (x, y) of frame t is
        at + forward in t+1, the pixel (x, y) of frame t+1 was at + backward in t).
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
        scene.light_side * staged.flip, staged.thing, ACTIONS[puppet.action].slices,
    )  # fmt: skip
    transforms = [_transforms(part, staged, side) for part in parts]
    windows = [_windows(part, transform, side) for part, transform in zip(parts, transforms, strict=True)]
    extent = _extent(windows, factor, size)
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
            x0, y0, x1, y1 = extent[moment]
            fine, coarse = canvas[y0 * factor : y1 * factor, x0 * factor : x1 * factor], person[y0:y1, x0:x1]
            fine[:] = 0
            for part, transform, window in zip(parts, transforms, windows, strict=True):
                _draw(canvas, part.sprite.image, transform[moment], window[moment])
            coarse += cv2.resize(fine, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA) / count
        shift = np.concatenate([np.eye(2), (corner + moved[t])[:, None]], 1)
        picture = cv2.warpAffine(wall, shift, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        if scene.shadow > 0:
            picture = picture * _shadow(scene, feet[t], size)
        picture = person[..., :3] + (1 - person[..., 3:]) * picture
        video[t] = _film(picture, scene, float(t), noise)
        mask[t] = np.where(person[..., 3] >= 0.5, 255, 0)
    transforms = [transform[own] for transform in transforms]
    places = joints(staged.figure)
    hidden = _hidden(staged.project(places, side)[own], parts, transforms, own)
    labels = _labels(parts, transforms, [window[own] for window in windows], mask, factor)
    tracks = _tracks(staged.project(places, size)[own], hidden, mask, labels, parts)
    still = np.concatenate([np.tile(np.eye(2), (frames, 1, 1)), moved[..., None]], -1)
    maps = np.stack([still, *(to_pixels(transform, factor) for transform in transforms)], 1)
    return video, {**tracks, **flow_tracks(labels, maps)}


def _labels(
    parts: list[Part], transforms: list[np.ndarray], windows: list[np.ndarray], mask: np.ndarray, factor: int
) -> np.ndarray:
    """Return uint8, T x H x W: 1 + the index of the part seen at each pixel, 0 for the background."""
    alphas = [coverage(part.sprite.image) for part in parts]
    maps = [to_pixels(transform, factor) for transform in transforms]
    size = mask.shape[1]
    spans = [np.concatenate([w[:, :2] // factor, np.minimum(-(-w[:, 2:] // factor), size)], 1) for w in windows]
    labels = np.zeros_like(mask)
    for t in range(len(mask)):
        weights = np.zeros((size, size), np.float32)
        for number, (alpha, to, span) in enumerate(zip(alphas, maps, spans, strict=True), start=1):
            label(labels[t], weights, number, alpha, to[t], span[t])
        labels[t] = settle(labels[t], mask[t])
    return labels


def _tracks(
    places: np.ndarray, hidden: np.ndarray, mask: np.ndarray, labels: np.ndarray, parts: list[Part]
) -> dict[str, np.ndarray]:
    size = mask.shape[1]
    inside = ((places >= -0.5) & (places < size - 0.5)).all(-1)
    tracked = np.concatenate([places, (inside & ~hidden)[..., None]], -1).astype(np.float32)
    things = [number for number, part in enumerate(parts, start=1) if part.thing]
    person = (mask > 0) & ~np.isin(labels, things) if things else mask
    box = np.stack([_bounds(m) for m in person])
    return {"joints": tracked, "box": box, "points": 0.5 * (box[:, :2] + box[:, 2:]), "mask": mask}


def _bounds(mask: np.ndarray) -> np.ndarray:
    """Return the box around the foreground: the first and last pixel centres that belong to it."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    if len(columns) == 0:
        return np.full(4, np.nan, np.float32)
    return np.array([columns[0], rows[0], columns[-1], rows[-1]], np.float32)


def _hidden(places: np.ndarray, parts: list[Part], transforms: list[np.ndarray], own: slice) -> np.ndarray:
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
        if part.shown is not None:
            on &= part.shown[own, None]
        alpha = part.sprite.image[np.clip(y, 0, h - 1), np.clip(x, 0, w - 1), 3]
        hidden[:, behind] |= on & (alpha > 0.5)
    return hidden
