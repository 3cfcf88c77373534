"""The protocol `reconstruction`: a clip from its own first frame and its own control."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stillmotion.data.clip import Clip
from stillmotion.evaluation.protocols.base import Protocol, copy_still, feed
from stillmotion.evaluation.protocols.columns import (
    FID_COLUMN,
    LPIPS_COLUMN,
    Case,
    identity_columns,
    keypoint_columns,
    pixel_columns,
    target_frames,
)
from stillmotion.evaluation.protocols.regions import region_columns


def reconstruction_cases(clips: Sequence[Clip]) -> list[Case]:
    """Each clip is the target of its own first frame."""
    return [Case(clip.name, np.asarray(clip.frames)[0], np.asarray(clip.frames), clip) for clip in clips]


def mean_frame(case: Case, sample: int = 0) -> np.ndarray:
    """Baseline: every frame is the mean of all target frames (it uses the target)."""
    mean = np.rint(np.asarray(case.target, dtype=np.float64).mean(axis=0)).astype(np.uint8)
    return np.repeat(mean[None], len(case.target), axis=0)


PROTOCOL = Protocol(
    name="reconstruction",
    definition="frame 0 of each clip is the still and the control is the clip's own (of a driving video: the whole "
    "clip, absolute keypoints), the clip's size",
    cases=reconstruction_cases,
    predictor=feed(lambda system, case: system.control_of(case.clip)),
    baselines={"copy the still": copy_still, "mean frame": mean_frame},
    columns=(
        *pixel_columns(),
        *region_columns(),
        *keypoint_columns(),
        *identity_columns(target_frames),
        FID_COLUMN,
        LPIPS_COLUMN,
    ),
)
