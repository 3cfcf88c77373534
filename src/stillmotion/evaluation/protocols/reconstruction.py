"""The protocol `reconstruction`: a clip from its own first frame and its own control."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from stillmotion.data.clip import Clip
from stillmotion.data.tracks import flow
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


def warped_still(case: Case, sample: int = 0) -> np.ndarray:
    """Baseline: the still, warped by the optical flow (DIS) from each target frame to it (it uses the target).

    What a warp without a network brings: sharp where the flow is right, and never what the still hides.
    """
    height, width = case.still.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    made = np.empty_like(case.target)
    for t, frame in enumerate(case.target):
        step = flow(np.stack([frame, case.still]))[0].astype(np.float32)  # H x W x 2
        places = x + step[..., 0], y + step[..., 1]
        made[t] = cv2.remap(case.still, *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return made


PROTOCOL = Protocol(
    name="reconstruction",
    definition="frame 0 of each clip is the still and the control is the clip's own (of a driving video: the whole "
    "clip, absolute keypoints), the clip's size",
    cases=reconstruction_cases,
    predictor=feed(lambda system, case: system.control_of(case.clip)),
    baselines={"copy the still": copy_still, "mean frame": mean_frame, "warped still": warped_still},
    columns=(
        *pixel_columns(),
        *region_columns(),
        *keypoint_columns(),
        *identity_columns(target_frames),
        FID_COLUMN,
        LPIPS_COLUMN,
    ),
)
