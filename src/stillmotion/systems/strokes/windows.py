"""Which frames of a clip can be learned from, and the points that belong to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from stillmotion.data.augment import Draw, move_points
from stillmotion.data.clip import Clip
from stillmotion.data.sampling import window_starts
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


def window_points(clip: Clip, chosen: np.ndarray, drawn: Draw) -> dict[str, Any]:
    """The points of a window, moved as its pixels are: `points`, T x 2 float32."""
    points = np.asarray(clip.tracks[TRACK], dtype=np.float32)[chosen]
    return {TRACK: torch.from_numpy(np.ascontiguousarray(move_points(points, drawn)))}
