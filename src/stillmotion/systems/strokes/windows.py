"""Which frames of a clip can be learned from, and the points that belong to them.

The centre of a walker's box swings with every step. Nobody draws such a stroke, it tells what the legs do before the
networks had to find out, and what is carried by it shakes. `smooth_points` draws the stroke that a person would.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch

from stillmotion.data.augment import AUGMENTATIONS, AugmentParams, augment_frames, move_points
from stillmotion.data.background import moving_masks
from stillmotion.data.clip import Clip
from stillmotion.data.colour import ColourParams
from stillmotion.data.sampling import WindowDataset, window_starts
from stillmotion.systems.strokes.config import StrokesConfig

TRACK = "points"
"""The track with the stroke: T x 2, (x, y) pixels of the clip's frames, NaN where it is not known."""


def with_points(clips: Sequence[Any], config: StrokesConfig) -> list[Any]:
    """The clips that have a window of frames whose points all are usable."""
    return [
        clip
        for clip in clips
        if TRACK in clip.tracks and len(window_starts(usable(clip, config), config.frames, config.frame_step))
    ]


def usable(clip: Clip, config: StrokesConfig) -> np.ndarray:
    """Which frames may be learned from, bool per frame: the point is known, and grey coding can draw it."""
    points = np.asarray(clip.tracks[TRACK], dtype=np.float64)
    known = np.isfinite(points).all(axis=1)
    if config.coding == "grey":
        with np.errstate(invalid="ignore"):
            pixels = np.floor(points + 0.5)
            known &= ((pixels >= 0) & (pixels < config.size)).all(axis=1)
    return np.asarray(known)


def smooth(points: np.ndarray, reach: int) -> np.ndarray:
    """Fit a parabola to the points up to `reach` before and after each one, and take its value there.

    Args:
        points: T x 2; nothing is fitted across those that are NaN, which stay so.
        reach: 0 changes nothing. Near an end the same number of points is taken, more of them on the other side.

    Returns:
        T x 2 float64.
    """
    smoothed = np.array(points, np.float64)
    known = np.isfinite(smoothed).all(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]]).astype(int)))
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        run = smoothed[first:last].copy()
        if reach < 1 or len(run) < 4:
            continue
        for t in range(len(run)):
            start = min(max(t - reach, 0), max(len(run) - 2 * reach - 1, 0))
            end = min(start + 2 * reach + 1, len(run))
            smoothed[first + t] = _parabola(start - t, end - t) @ run[start:end]
    return smoothed


@cache
def _parabola(first: int, end: int) -> np.ndarray:
    """Weights of the values at `first`, ..., `end` - 1 in the value at 0 of the parabola fitted to them."""
    weights: np.ndarray = np.linalg.pinv(np.vander(np.arange(first, end, dtype=np.float64), 3))[2]
    return weights


def stroke_of(clip: Clip, config: StrokesConfig) -> np.ndarray:
    """The stroke of a clip, T x 2 float32, as the networks are to read it."""
    return smooth(np.asarray(clip.tracks[TRACK]), config.smooth_points).astype(np.float32)


def window_points(clip: Clip, chosen: np.ndarray, drawn: AugmentParams, config: StrokesConfig) -> dict[str, Any]:
    """The points of a window, moved as its pixels are: `points`, T x 2 float32."""
    points = stroke_of(clip, config)[chosen]
    return {TRACK: torch.from_numpy(np.ascontiguousarray(move_points(points, drawn)))}


def window_dataset(
    clips: Sequence[Any],
    config: StrokesConfig,
    extra: Callable[..., dict[str, Any]] = window_points,
    drop_batch: int | None = None,
) -> WindowDataset:
    """Windows of `frames` usable frames with their points; `extra` is called as `window_points` is."""
    return WindowDataset(
        clips,
        config.seed,
        config.frames,
        AUGMENTATIONS[config.augmentation],
        step=config.frame_step,
        drop_batch=drop_batch,
        extra=partial(extra, config=config),
        usable=partial(usable, config=config),
    )


class Masks:
    """Where the thing is in the frames of clips: their track `mask`, or what differs from the background."""

    def __init__(self) -> None:
        self.found: dict[str, np.ndarray] = {}

    def window(self, clip: Clip, chosen: np.ndarray, drawn: AugmentParams | None = None) -> torch.Tensor:
        """The masks of some frames, moved as their pixels are: n x 1 x H x W in [0, 1]."""
        known = clip.tracks.get("mask")
        if known is None and clip.name not in self.found:
            self.found[clip.name] = moving_masks(clip.frames)  # takes a while, so once
        masks = np.asarray(self.found[clip.name] if known is None else known)[chosen] > 0
        pixels = np.repeat(masks.reshape(len(chosen), *clip.frames.shape[1:3], 1), 3, axis=-1).astype(np.float32)
        if drawn is not None:
            still = replace(drawn, colour=ColourParams())
            pixels = augment_frames(pixels, still)
        return torch.from_numpy(np.ascontiguousarray(pixels[..., :1].transpose(0, 3, 1, 2)))


def before_grey(frames: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """The thing alone, before the middle grey: frames ... x 3 x H x W in [0, 1], masks ... x 1 x H x W."""
    return 0.5 + masks * (frames - 0.5)
