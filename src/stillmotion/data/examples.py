"""A made clip with exact tracks, for tests, benchmarks and numerical checks: no file, no world, no OpenCV."""

from __future__ import annotations

import numpy as np

from stillmotion.data.clip import Clip
from stillmotion.data.pose import JOINTS
from stillmotion.errors import StillmotionError

MIN_SIZE = 16
PERIOD = 48  # frames of one round of the square

_SIDE = 0.34  # of the picture
# A figure that faces the viewer, its places as shares of the square's side from the centre; its left is at +x.
_HEAD = (0.0, -0.4)
_LEFT = {
    "shoulder": (0.18, -0.2), "elbow": (0.3, -0.02), "wrist": (0.36, 0.14),
    "hip": (0.12, 0.1), "knee": (0.15, 0.26), "ankle": (0.17, 0.42),
}  # fmt: skip
# Per channel: cycles per picture (or square) along x and y, and phase.
_WALL = ((2.0, 1.0, 0.0), (-1.0, 2.0, 1.0), (1.5, 1.5, 2.0))
_SQUARE = ((1.2, 0.4, 0.5), (-0.5, 1.1, 2.5), (0.8, -0.9, 4.0))


def moving_square(size: int, frames: int, fps: float = 25.0) -> Clip:
    """Make a clip of a textured square that moves over a textured background along a figure of eight.

    The same arguments give the same clip. The square moves by fractions of a pixel, never leaves the picture, and
    returns to its start every `PERIOD` frames.

    Args:
        size: height and width in pixels, at least 16.
        frames: number of frames.
        fps: frames per second.

    Returns:
        A clip with the exact tracks `points` (T x 2, the square's centre), `box` (T x 4), `mask` (T x H x W, 0 or
        255), `flow_forward` and `flow_backward` (T-1 x H x W x 2, pixels) and `joints` (T x 13 x 3, a figure on the
        square, all visible; `meta["joints"]` names them), and the meta `action`.

    Raises:
        StillmotionError: the picture is too small, or there are no frames.
    """
    if size < MIN_SIZE or frames < 1:
        raise StillmotionError(
            f"A moving square needs at least {MIN_SIZE} pixels and 1 frame, not {size} pixels and {frames} frames."
        )
    side = _SIDE * size
    phase = 2 * np.pi * np.arange(frames) / PERIOD
    reach = (size - side) / 2 - 1
    centres = (size - 1) / 2 + reach * np.stack([np.cos(phase), 0.6 * np.sin(2 * phase)], axis=-1)  # T x 2
    y, x = np.mgrid[:size, :size].astype(np.float64)
    relative = np.stack([x, y], axis=-1) - centres[:, None, None]  # T x H x W x 2
    inside = np.abs(relative).max(axis=-1) < side / 2
    wall = 60 + 40 * _texture(x / size, y / size, _WALL)
    square = 170 + 70 * _texture(relative[..., 0] / side, relative[..., 1] / side, _SQUARE)
    step = np.diff(centres, axis=0)[:, None, None]
    places = np.array([_HEAD if name == "head" else _place(name) for name in JOINTS]) * side + centres[:, None]
    tracks: dict[str, np.ndarray] = {
        "points": centres.astype(np.float32),
        "box": np.stack([_bounds(mask) for mask in inside]),
        "mask": np.where(inside, 255, 0).astype(np.uint8),
        "flow_forward": np.where(inside[:-1, ..., None], step, 0).astype(np.float32),
        "flow_backward": np.where(inside[1:, ..., None], -step, 0).astype(np.float32),
        "joints": np.concatenate([places, np.ones((frames, len(JOINTS), 1))], axis=-1).astype(np.float32),
    }
    pictures = np.rint(np.where(inside[..., None], square, wall)).astype(np.uint8)
    return Clip(f"moving-square-{size}", pictures, fps, tracks, {"action": "move", "joints": list(JOINTS)})


def _texture(x: np.ndarray, y: np.ndarray, waves: tuple[tuple[float, float, float], ...]) -> np.ndarray:
    """A wave per channel, ... x 3 in [-1, 1]."""
    return np.stack([np.sin(2 * np.pi * (u * x + v * y) + phase) for u, v, phase in waves], axis=-1)


def _bounds(mask: np.ndarray) -> np.ndarray:
    y, x = np.nonzero(mask)
    return np.array([x.min(), y.min(), x.max(), y.max()], np.float32)


def _place(joint: str) -> tuple[float, float]:
    side, _, part = joint.partition("_")
    x, y = _LEFT[part]
    return (x if side == "left" else -x), y
