"""Training samples: pairs and windows of frames with their points, and masks of the moving object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stillmotion.data.augment import AugmentParams, augment_frames, find_augmentation, move_points
from stillmotion.data.clip import Clip
from stillmotion.data.colour import ColourParams
from stillmotion.data.motion_truth import motion_truths, without_resting
from stillmotion.data.plates import Figures, Plates
from stillmotion.data.sampling import PairDataset, WindowDataset, to_tensor, window_starts
from stillmotion.errors import StillmotionError
from stillmotion.systems.strokes.config import StrokesConfig
from stillmotion.systems.strokes.stroke_encoding import smooth

TRACK = "points"  # the track with the stroke: T x 2, (x, y) pixels of the clip's frames, NaN where it is not known


def frame_pairs(clips: Sequence[Any], config: StrokesConfig, seed: int) -> PairDataset:
    """Two frames of a clip, the earlier one as the still: `source`, `driving`, and what `known_targets` gives."""
    return PairDataset(clips, seed, find_augmentation(config.clip.augmentation), **_per_clip(config))


def frame_windows(
    clips: Sequence[Any], config: StrokesConfig, seed: int, drop_batch: int | None = None, latent: bool = False
) -> WindowDataset:
    """Windows of `clip.frames` usable frames: `frames`, and what `known_targets` gives.

    Args:
        clips: with windows.
        config: the system's.
        seed: of the samples.
        drop_batch: see `data.sampling`.
        latent: no frame is generated: `masks`, and no plates or motion.
    """
    frames, step = config.clip.frames, config.clip.frame_step
    options = {"step": step, "drop_batch": drop_batch, **_per_clip(config, masks=latent, fields=not latent)}
    return WindowDataset(clips, seed, frames, find_augmentation(config.clip.augmentation), **options)


def training_clips(clips: Sequence[Any], config: StrokesConfig) -> list[Any]:
    """The clips that have a window of usable frames.

    Raises:
        StillmotionError: there is none.
    """
    if found := clips_with_points(clips, config):
        return found
    raise StillmotionError(
        f"No clip has {config.clip.frames} frames in a row with a point each (with stroke.encoding=grey, one inside "
        "the picture): prepare the data with --tracks points, or train with a smaller clip.frames."
    )


def clips_with_points(clips: Sequence[Any], config: StrokesConfig) -> list[Any]:
    """The clips that have a window of usable frames, perhaps none."""
    frames, step = config.clip.frames, config.clip.frame_step
    return [
        clip
        for clip in clips
        if TRACK in clip.tracks and len(window_starts(usable_frames(clip, config), frames, step))
    ]


def first_window(clip: Clip, config: StrokesConfig) -> np.ndarray:
    """Indices of the first window of usable frames of a clip that has one."""
    frames, step = config.clip.frames, config.clip.frame_step
    return int(window_starts(usable_frames(clip, config), frames, step)[0]) + step * np.arange(frames)


def usable_frames(clip: Clip, config: StrokesConfig) -> np.ndarray:
    """Which frames may be trained on, `bool` per frame: the point is known, and can be drawn in the grey encoding."""
    points = np.asarray(clip.tracks[TRACK], dtype=np.float64)
    known = np.isfinite(points).all(axis=1)
    if config.stroke.encoding == "grey":
        with np.errstate(invalid="ignore"):
            pixels = np.floor(points + 0.5)
            known &= ((pixels >= 0) & (pixels < config.size)).all(axis=1)
    return np.asarray(known)


def clip_stroke(clip: Clip, config: StrokesConfig) -> np.ndarray:
    """The stroke of a clip, smoothed as when animating; T x 2 `float32`, pixels."""
    return smooth(np.asarray(clip.tracks[TRACK]), config.stroke.smoothing_radius).astype(np.float32)


def known_targets(
    clip: Clip,
    indices: np.ndarray,
    params: AugmentParams,
    config: StrokesConfig,
    masks: ObjectMasks | None = None,
    plates: Plates | None = None,
) -> dict[str, Tensor]:
    """What is known of n frames besides their pixels, moved as those are.

    Returns:
        `points`, n x 2 `float32`; with `masks` n x 1 x H x W in [0, 1]; with `plates` the still's `plate`, and where
        a loss needs it the motion from the still to the others, see `data.motion_truth`.
    """
    points = move_points(clip_stroke(clip, config)[indices], params)
    found = {TRACK: torch.from_numpy(np.ascontiguousarray(points))}
    if masks is not None:
        found["masks"] = masks(clip, indices, params)
    if plates is not None:
        if config.losses.truth:
            clip = without_resting(clip, indices)
        found["plate"] = plates(clip, indices, params)
        if config.losses.truth:
            found |= motion_truths(clip, indices, params)
    return found


def clip_plate(clip: Clip, still: int, config: StrokesConfig) -> Tensor | None:
    """The plate of a frame as it is, 4 x H x W (see `rendering.fields.blend`); None for the paper's generator."""
    size = (clip.frames.shape[1], clip.frames.shape[2])
    return Plates()(clip, np.array([still]), AugmentParams(size, size)) if config.generator.fields else None


class ObjectMasks:
    """Masks of the moving object as pictures; see `data.plates.Figures`."""

    def __init__(self) -> None:
        self.figures = Figures()

    def __call__(self, clip: Clip, indices: np.ndarray, params: AugmentParams | None = None) -> Tensor:
        """The masks of some frames, moved as their pixels are: n x 1 x H x W in [0, 1]."""
        masks = self.figures(clip)[indices]
        pixels = np.repeat(masks[..., None], 3, axis=-1).astype(np.float32)
        if params is not None:
            pixels = augment_frames(pixels, replace(params, colour=ColourParams()))
        return to_tensor(pixels[..., :1])


def mask_background(frames: Tensor, masks: Tensor) -> Tensor:
    """The object alone, on mid grey: frames ... x 3 x H x W and masks ... x 1 x H x W in [0, 1]."""
    return 0.5 + masks * (frames - 0.5)


def _per_clip(config: StrokesConfig, masks: bool = True, fields: bool = True) -> dict[str, Any]:
    """What a sampler asks of each clip."""
    found = ObjectMasks() if masks and config.clip.mask_background else None
    plates = Plates() if fields and config.generator.fields else None
    return {
        "usable": partial(usable_frames, config=config),
        "extra": partial(known_targets, config=config, masks=found, plates=plates),
    }
