"""Motion, visibility and figure of clips that do not know their own: estimated from flow, where that is sure."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from stillmotion import geometry
from stillmotion.data.augment import AugmentParams
from stillmotion.data.clip import Clip
from stillmotion.data.flow import Flows, consistent
from stillmotion.data.motion_truth import UNKNOWN, knows_motion, motion_truths
from stillmotion.data.plates import Figures
from stillmotion.data.track_augment import augment_flow, augment_labels, source_places
from stillmotion.rendering.fields import STATIC

MOVES = 0.5
"""In pixels: what moves by less is at rest, for estimated flow has about this error."""

SURROUNDINGS = 0.1
"""Share of the width around all that ever moves in which an unknown figure may lie."""

_SAME_GREY = 10  # of 255: pixels at rest differ by less


def motion_of(
    clip: Clip, indices: np.ndarray, params: AugmentParams, flows: Flows, figures: Figures
) -> dict[str, Tensor]:
    """Motion as `motion_truths` gives it: the clip's own where it knows it, else estimated where that is sure."""
    if knows_motion(clip):
        return motion_truths(clip, indices, params)
    still, sources = int(indices[0]), source_places(params)
    parts: dict[str, list[Tensor]] = {"displacement": [], "moving": [], "visibility": []}
    for t in map(int, indices[1:]):
        size = (clip.frames.shape[1], clip.frames.shape[2])
        back, trusted = np.zeros((*size, 2), np.float32), np.ones(size, bool)
        if t != still:
            back = flows(t, still)
            trusted = consistent(back, flows(still, t))
        length = np.linalg.norm(back, axis=-1)
        change = np.abs(clip.frames[t].astype(int) - clip.frames[still]).max(-1)
        shown = np.where((length < MOVES) & (change < _SAME_GREY), STATIC, UNKNOWN)
        moved = torch.from_numpy(augment_flow(back, params, sources))
        parts["displacement"].append(geometry.displacement_to_normalised(moved, params.out))
        moving = augment_labels(trusted & (length > MOVES), sources).astype(np.float32)
        parts["moving"].append(torch.from_numpy(moving))
        parts["visibility"].append(torch.from_numpy(augment_labels(shown, sources).astype(np.int64)))
    figure = torch.from_numpy(augment_labels(seen_figure(figures(clip), still), sources).astype(np.float32))
    return {**{name: torch.stack(values) for name, values in parts.items()}, "figure": figure[None]}


def seen_figure(masks: np.ndarray, still: int) -> np.ndarray:
    """The figure of a still in a clip that does not know it: H x W, 1 for what moves, 0 for background, else -1.

    What rests for a while looks like background, so that nothing is said of the surroundings of all that ever moves.

    Args:
        masks: T x H x W truth values, what differs from the background.
        still: the frame.
    """
    away = cv2.distanceTransform(np.where(masks.any(0), 0, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    return np.where(masks[still], 1, np.where(away > SURROUNDINGS * masks.shape[2], 0, -1))
