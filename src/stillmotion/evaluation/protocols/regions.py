"""The regions in which a report measures sharpness: what changed, what was uncovered, and the old outline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import torch

from stillmotion.data.motion_truth import PLATE, knows_motion, visibility
from stillmotion.data.part_flow import flow_between
from stillmotion.evaluation.metrics.region import RegionGradientError, RegionL1, RegionSharpness
from stillmotion.evaluation.protocols.columns import PIXELS, Case, Column, Prediction, metric, target_frames

CHANGED_ABOVE = 20
"""In grey levels: what differs by less between still and target counts as noise."""

Region = Callable[[Case], np.ndarray | None]
"""Gives T x H x W, `bool`, of a case; None where its clip does not know it."""


@lru_cache(maxsize=1)  # three columns of every model's prediction ask in turn
def changed(case: Case) -> np.ndarray:
    """Where the target differs from the still, and the pixels around."""
    difference = np.abs(case.target.astype(np.int16) - case.still).max(-1) > CHANGED_ABOVE
    return np.stack([_grown(frame, case) for frame in difference])


@lru_cache(maxsize=1)
def disoccluded(case: Case) -> np.ndarray | None:
    """Background that the figure of the still hides, in clips that know their parts' motion."""
    if not knows_motion(case.clip):
        return None
    parts, moves = (np.asarray(case.clip.tracks[name]) for name in ("parts", "moves"))
    shown = [visibility(parts[0], parts[t], flow_between(parts, moves, t, 0)) for t in range(len(case.target))]
    return np.stack(shown) == PLATE


@lru_cache(maxsize=1)
def old_outline(case: Case) -> np.ndarray | None:
    """The rim of the still's figure where the target shows background: a second contour there is a fault."""
    if not knows_motion(case.clip):
        return None
    parts = np.asarray(case.clip.tracks["parts"])[: len(case.target)]
    figure = parts[0] > 0
    rim = _grown(figure, case) & _grown(~figure, case)
    return np.asarray(rim & (parts == 0))


def _grown(mask: np.ndarray, case: Case) -> np.ndarray:
    """Dilated by 1/64 of the width."""
    reach = max(1, round(case.still.shape[1] / 64))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return cv2.dilate(mask.astype(np.uint8), kernel) > 0


REGIONS: Mapping[str, Region] = {"changed": changed, "disoccluded": disoccluded, "old outline": old_outline}

_METRICS = {"L1": RegionL1, "gradient error": RegionGradientError, "sharpness": RegionSharpness}


def region_columns(applies: Callable[[Case], bool] = lambda case: True) -> tuple[Column, ...]:
    """L1, gradient error and sharpness in each region."""
    return tuple(
        Column(f"{name} ({where})", metric(kind), inputs=_inside(region), applies=applies)
        for where, region in REGIONS.items()
        for name, kind in _METRICS.items()
    )


def _inside(region: Region) -> Callable[[Prediction], tuple[Any, ...] | None]:
    def inputs(prediction: Prediction) -> tuple[Any, ...] | None:
        case = prediction.case
        mask = region(case)
        if mask is None:
            return None
        target = prediction.cache.reference(PIXELS, case, target_frames)
        return prediction.features(PIXELS), target, torch.from_numpy(mask)

    return inputs
