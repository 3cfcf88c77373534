"""The protocol `prediction`: what follows one frame, without a driving video (Monkey-Net, Sec. 4, Table 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stillmotion.animate import Animator
from stillmotion.data.clip import Clip
from stillmotion.evaluation.metrics.keypoint import MKR
from stillmotion.evaluation.protocols.base import Predictor, Protocol, copy_still, feed, true_clip
from stillmotion.evaluation.protocols.columns import (
    FID_COLUMN,
    FVD_COLUMN,
    WORLD_FVD_COLUMN,
    Case,
    Column,
    frechet_column,
    identity_columns,
    metric,
    pixel_columns,
    target_frames,
)
from stillmotion.systems.driving import Predict

LENGTH = 32  # frames of a prediction, the still among them


def prediction_cases(clips: Sequence[Clip]) -> list[Case]:
    """The first frames of each clip; shorter clips as they are."""
    return [Case(clip.name, np.asarray(clip.frames)[0], np.asarray(clip.frames)[:LENGTH], clip) for clip in clips]


def predict(animator: Animator) -> Predictor:
    """A predictor of a model that goes on from a still.

    Raises:
        StillmotionError: the model has no keypoint predictor.
    """
    animator.system.check_control(Predict())

    def control(_: Any, case: Case) -> Predict:
        return Predict(frames=len(case.target), fps=case.clip.fps)

    return feed(control)(animator)


PROTOCOL = Protocol(
    name="prediction",
    definition=f"frame 0 of each clip is the still and the model goes on from it alone (`--predict`), {LENGTH} "
    "frames or fewer; the clip is one of many possible outcomes, so read FID, AED and MKR (Monkey-Net's Table 3) "
    "before errors of pixels",
    cases=prediction_cases,
    predictor=predict,
    baselines={"copy the still": copy_still, "the true clip": true_clip},
    columns=(
        FID_COLUMN,
        frechet_column("Frechet distance (VGG-16)", "vgg16"),
        *identity_columns(target_frames),
        Column("MKR", metric(MKR), "keypoints"),
        FVD_COLUMN,
        WORLD_FVD_COLUMN,
        frechet_column("Frechet video distance (action network)", "actions"),
        *pixel_columns(),
    ),
    controls=("Predict",),
)
