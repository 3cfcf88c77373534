"""Rendering: from a description to frames and tracks, at any size."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stillmotion.data.part_flow import flow_tracks
from stillmotion.worlds.affine import affine
from stillmotion.worlds.compositing import draw_over, expose, mask_box, over, sprite_windows, supersampling
from stillmotion.worlds.puppets.actions import ACTIONS
from stillmotion.worlds.puppets.appearance import Appearance, Person
from stillmotion.worlds.puppets.body_shape import BodyShape
from stillmotion.worlds.puppets.held_objects import HeldObject
from stillmotion.worlds.puppets.parts import Part, build_parts
from stillmotion.worlds.puppets.scene import Scene
from stillmotion.worlds.puppets.segmentation import part_labels, to_pixels
from stillmotion.worlds.puppets.skeleton import Figure, forward_kinematics, joints, turn_to_front
from stillmotion.worlds.textures import paint_surface

# Motion blur is the mean of this many moments; odd, so that the middle one is the frame's own time.
_MOMENTS = 3


@dataclass(frozen=True)
class Puppet:
    """The whole description of a clip, independent of its size and length."""

    action: str  # a key of `ACTIONS`
    body: BodyShape
    appearance: Appearance
    motion: object  # the action's parameters
    scene: Scene  # place, wall, camera and light
    arms_over_head: bool  # front view: whether arms pass in front of the head
    turned: bool = False  # whether an action of the side view is seen from the front

    @property
    def view(self) -> str:
        """`front` or `side`."""
        return "front" if self.turned else ACTIONS[self.action].view


@dataclass(frozen=True)
class Placement:
    """The person and the camera at T moments, in picture heights."""

    figure: Figure  # the skeleton in body coordinates
    origin: np.ndarray  # T x 2, place of the body's origin
    background: np.ndarray  # T x 2, shift of the background
    flip: float  # -1 when the person is mirrored (seen from the side, facing left), else +1
    stature: float  # the person's height
    held: HeldObject | None = None  # what the person holds or throws

    def project(self, points: np.ndarray, size: float) -> np.ndarray:
        """Return pixels (T x N x 2, centres at integers) of points in body coordinates (T x N x 2)."""
        return (self.origin[:, None] + points * np.array([self.flip, 1.0]) * self.stature) * size - 0.5


def crossing_position(travel: np.ndarray, span: float) -> np.ndarray:
    """Return the place in the picture (0 = middle) after a travel (T, picture heights).

    The camera is static until nearly `span` is crossed, then pans along, so that the person stays in the picture.
    """
    share = travel / span
    return span * (share / (1 + share**6) ** (1 / 6) - 0.5)


def place_puppet(puppet: Puppet, times: np.ndarray) -> Placement:
    """Return the person and the camera at `times` (T, in frames)."""
    action, scene = ACTIONS[puppet.action], puppet.scene
    figure = forward_kinematics(puppet.body, action.pose(puppet.motion, puppet.body, times), action.view)
    if puppet.turned:
        figure = turn_to_front(puppet.body, figure)
    flip = float(scene.facing) if puppet.view == "side" else 1.0
    shake = scene.camera.offset(times)
    followed = np.zeros(len(times))
    if action.gait is not None:
        # The person's own travel is in the figure; the camera's pan moves the background instead.
        travel = scene.stature * figure.pose.x
        # The legs and arms of a stride need room on both sides.
        seen = 0.0 if scene.camera.follow else crossing_position(travel, 1.0 - 0.6 * scene.stature)
        followed = flip * (travel - seen)
    pan = np.stack([followed, np.zeros_like(followed)], -1)
    held = action.held(puppet.motion, puppet.body, figure, times) if action.held else None
    origin = np.array([scene.x, scene.floor]) - pan + shake
    return Placement(figure, origin, shake - pan * (not scene.camera.treadmill), flip, scene.stature, held)


def _transforms(part: Part, placed: Placement, side: float) -> np.ndarray:
    """Return T x 2 x 3: from the sprite's pixels to those of a canvas, `side` of which are a picture height."""
    unit = placed.stature * side / part.sprite.scale
    sin, cos = np.sin(part.angle), np.cos(part.angle)
    # A mirrored limb (mirror = -1) turns the other way: outward is to -x.
    across = part.mirror * np.stack([cos, -part.mirror * sin], -1)
    along = np.stack([part.mirror * sin, cos], -1) + np.reshape(part.shear, (-1, 1)) * across
    if part.width is not None:
        across = part.width[:, None] * across
    if part.length is not None:
        along = part.length[:, None] * along
    linear = unit * np.stack([across, along], -1) * np.array([[placed.flip], [1.0]])
    target = placed.project(part.point[:, None], side)[:, 0]
    return affine(linear, target - np.einsum("tij,j->ti", linear, np.array(part.sprite.origin)))


def _extent(windows: list[np.ndarray], factor: int, size: int) -> list[list[int]]:
    """Return (x0, y0, x1, y1) per moment, in pixels of the picture: all that the parts cover, at least a pixel."""
    every = np.stack(windows)
    drawn = (every[..., 2:] > every[..., :2]).all(-1, keepdims=True)
    low = np.where(drawn, every[..., :2], size * factor).min(0) // factor
    high = -(-np.where(drawn, every[..., 2:], 0).max(0) // factor)
    low = np.clip(low, 0, size - 1)
    spans: list[list[int]] = np.concatenate([low, np.clip(high, low + 1, size)], 1).tolist()
    return spans


def _paint_background(scene: Scene, shifts: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a background large enough for all shifts (T x 2, pixels), and the place of its first pixel (x, y)."""
    first = np.floor(-shifts.max(0)).astype(int) - 2
    last = np.ceil(-shifts.min(0)).astype(int) + size + 2
    # Painted at twice the resolution and averaged, against aliasing of the joints between bricks.
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


def render(puppet: Puppet, size: int, frames: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Render a description.

    Args:
        puppet: the description.
        size: height and width in pixels.
        frames: number of frames; the first frames of a longer clip are those of a shorter one.

    Returns:
        Frames (uint8, T x H x W x 3) and tracks: `joints` (float32, T x 13 x 3: x, y, visible), `box`
        (float32, T x 4: x0, y0, x1, y1, the outermost pixels of the person, without club or ball), `points`
        (float32, T x 2: the box's middle), `mask` (uint8, T x H x W, 0 or 255: the person and what is held or
        thrown), `flow_forward` and `flow_backward` (float16, T-1 x H x W x 2, pixels: the pixel (x, y) of frame t is
        at + forward in t+1, the pixel (x, y) of frame t+1 was at + backward in t), `parts` (uint8, T x H x W) and
        `moves` (float32, T x P x 2 x 3): the part seen at each pixel and the parts' maps, for `data.motion_truth`.
    """
    scene = puppet.scene
    count = _MOMENTS if scene.shutter > 0 else 1
    moments = scene.shutter * (np.arange(count) - count // 2) / count
    placed = place_puppet(puppet, (np.arange(frames)[:, None] + moments).ravel())
    factor = supersampling(size)
    side = size * factor
    near = 1 if scene.facing > 0 else 0  # facing right, the right side is near
    light_side = scene.light_side * placed.flip
    person = Person(puppet.body, puppet.appearance, puppet.view, scene.stature * side, light_side)
    slices = 1 if puppet.turned else ACTIONS[puppet.action].slices
    parts = build_parts(person, placed.figure, near, puppet.arms_over_head, placed.held, slices)
    transforms = [_transforms(part, placed, side) for part in parts]
    windows = [
        sprite_windows(part.sprite.image, transform, side) * (1 if part.shown is None else part.shown[:, None])
        for part, transform in zip(parts, transforms, strict=True)
    ]
    extent = _extent(windows, factor, size)
    own = slice(count // 2, None, count)  # the frames' own times among all moments
    shifts = placed.background[own] * size
    wall, corner = _paint_background(scene, shifts, size)
    feet = placed.project(placed.figure.pelvis[:, None] * np.array([1.0, 0.0]), size)[own, 0]
    video = np.empty((frames, size, size, 3), np.uint8)
    mask = np.empty((frames, size, size), np.uint8)
    canvas = np.empty((side, side, 4), np.float32)
    noise = np.random.default_rng(scene.noise_seed)
    for t in range(frames):
        figure = np.zeros((size, size, 4), np.float32)
        for moment in range(t * count, (t + 1) * count):
            x0, y0, x1, y1 = extent[moment]
            fine, coarse = canvas[y0 * factor : y1 * factor, x0 * factor : x1 * factor], figure[y0:y1, x0:x1]
            fine[:] = 0
            for part, transform, window in zip(parts, transforms, windows, strict=True):
                draw_over(canvas, part.sprite.image, transform[moment], window[moment])
            coarse += cv2.resize(fine, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA) / count
        shift = affine(np.eye(2), corner + shifts[t])
        picture = cv2.warpAffine(wall, shift, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        if scene.shadow > 0:
            picture = picture * _shadow(scene, feet[t], size)
        flicker = 1 + scene.flicker * np.sin(2 * np.pi * float(t) / scene.flicker_period)
        gain = np.asarray(scene.tint, np.float32) * np.float32(flicker)
        video[t] = expose(over(figure, picture), scene.softness, scene.noise, noise, gain)
        mask[t] = np.where(figure[..., 3] >= 0.5, 255, 0)
    transforms = [transform[own] for transform in transforms]
    maps = [to_pixels(transform, factor) for transform in transforms]
    labels = part_labels(
        [part.sprite.image for part in parts], maps, [window[own] for window in windows], mask, factor
    )
    places = joints(placed.figure)
    hidden = _hidden_joints(placed.project(places, side)[own], parts, transforms, own)
    still = affine(np.tile(np.eye(2), (frames, 1, 1)), shifts)
    moves = np.stack([still, *maps], 1)
    return video, {
        **_tracks(placed.project(places, size)[own], hidden, mask, labels, parts),
        **flow_tracks(labels, moves),
        "parts": labels,
        "moves": moves.astype(np.float32),
    }


def _tracks(
    places: np.ndarray, hidden: np.ndarray, mask: np.ndarray, labels: np.ndarray, parts: list[Part]
) -> dict[str, np.ndarray]:
    size = mask.shape[1]
    inside = ((places >= -0.5) & (places < size - 0.5)).all(-1)
    tracked = np.concatenate([places, (inside & ~hidden)[..., None]], -1).astype(np.float32)
    held = [number for number, part in enumerate(parts, start=1) if part.held]
    person = (mask > 0) & ~np.isin(labels, held) if held else mask
    box = np.stack([mask_box(m) for m in person])
    return {"joints": tracked, "box": box, "points": 0.5 * (box[:, :2] + box[:, 2:]), "mask": mask}


def _hidden_joints(places: np.ndarray, parts: list[Part], transforms: list[np.ndarray], own: slice) -> np.ndarray:
    """Return T x 13: whether a part in front of a joint's own parts covers it; `places` in canvas pixels."""
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
