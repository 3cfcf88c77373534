"""The protocol `structures`: a clip from its first frame and its own poses or expressions, as Tables 1 and 3 have it.

Where a model predicts poses, clips that are long enough are cases once more: ten poses are observed, the last of them
is the still's, and what follows is predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from stillmotion.data.clip import Clip
from stillmotion.errors import StillmotionError
from stillmotion.evaluation.metrics.keypoint import MKR, PCK
from stillmotion.evaluation.metrics.structures import JointError
from stillmotion.evaluation.protocols.base import Protocol, copy_still, feed, true_clip
from stillmotion.evaluation.protocols.columns import Case, Column, Prediction, metric, target_frames
from stillmotion.evaluation.protocols.structure_columns import (
    COARSE,
    REFINED,
    content_columns,
    frame_columns,
    refinement_columns,
)
from stillmotion.options import Control
from stillmotion.systems.base import System
from stillmotion.systems.structures import Observe

LENGTH = 32  # frames of a clip, the still among them
OBSERVED, PREDICTED = 10, 32  # poses that are observed, and frames after the last of them
KEYPOINTS = "keypoints"  # the name of its extractor
PCK_SHARE = 0.1


@dataclass(frozen=True, eq=False)
class StructureCase(Case):
    """A still and the poses or expressions of its clip."""

    kind: Literal["own", "predicted"]  # the structures that it follows


def structure_cases(clips: Sequence[Clip]) -> list[Case]:
    """Of each clip its first frames; and where poses are known, what follows the ones observed."""
    cases: list[Case] = []
    for clip in clips:
        frames = np.asarray(clip.frames)
        cases.append(StructureCase(clip.name, frames[0], frames[:LENGTH], clip, "own"))
        if "joints" in clip.tracks and len(clip) >= OBSERVED + PREDICTED:
            last = OBSERVED - 1
            seen = frames[last : OBSERVED + PREDICTED]
            cases.append(StructureCase(f"{clip.name}--predicted", seen[0], seen, clip, "predicted"))
    return cases


def structure_control(system: System, case: StructureCase) -> Control | None:
    """The clip's own structures, or its first poses to go on from; None for a model that cannot."""
    if not is_predicted(case):
        return system.control_of(case.clip)
    joints = np.asarray(case.clip.tracks["joints"])[:OBSERVED]
    control = Observe(
        joints, keep_proportions=False, align_first=False, smooth=False, fill_gaps=False, fps=case.clip.fps
    )
    if Observe not in system.controls:
        return None
    try:
        system.check_control(control)
    except StillmotionError:  # a model of faces, or without a pose predictor
        return None
    return control


def is_predicted(case: Case) -> bool:
    """Whether poses are predicted."""
    return isinstance(case, StructureCase) and case.kind == "predicted"


def is_own(case: Case) -> bool:
    """Whether the structures are the target's own."""
    return not is_predicted(case)


def action_of(case: Case) -> str | None:
    """What the clip shows, if it says so."""
    action = case.clip.meta.get("action")
    return None if action is None else str(action)


# --- joints --------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)  # three columns of every model's prediction ask in turn
def _true_joints(case: Case) -> np.ndarray | None:
    """The target's joints, T x K x 3 (x, y, visible); None where they are not known."""
    if "joints" not in case.clip.tracks:
        return None
    joints = np.array(case.clip.tracks["joints"], np.float64)[: len(case.target)]
    seen = np.isfinite(joints).all(-1) & (joints[..., 2] > 0)
    return np.where(seen[..., None], joints, 0.0)


def _joints(prediction: Prediction) -> tuple[Tensor, Tensor]:
    """Joints found in the prediction, and the true ones: those of the clip, else those found in the target."""
    found, true = prediction.features(KEYPOINTS), _true_joints(prediction.case)
    if true is not None and true.shape == found.shape:
        return found, torch.from_numpy(true)
    return found, prediction.cache.reference(KEYPOINTS, prediction.case, target_frames)


def _joint_error(prediction: Prediction) -> tuple[Any, ...]:
    return *_joints(prediction), max(prediction.frames.shape[1:3])


def _pck(prediction: Prediction) -> tuple[Any, ...]:
    found, true = _joints(prediction)
    return found, true, joint_boxes(true)


def joint_boxes(joints: Tensor) -> Tensor:
    """Boxes around the visible joints, T x 4 (x0, y0, x1, y1); NaN without any. T x K x 3."""
    seen = (joints[..., 2] > 0)[..., None]
    low = joints[..., :2].masked_fill(~seen, torch.inf).amin(1)
    high = joints[..., :2].masked_fill(~seen, -torch.inf).amax(1)
    boxes = torch.cat([low, high], dim=1)
    return boxes.masked_fill(~boxes.isfinite(), torch.nan)


# --- columns -------------------------------------------------------------------------------------------------------

COLUMNS: tuple[Column, ...] = (
    *frame_columns(is_own),
    *refinement_columns(is_own),
    *frame_columns(is_predicted, "predicted "),
    Column("joint error (% of side)", metric(JointError), KEYPOINTS, inputs=_joint_error, applies=is_own),
    Column(f"PCK@{PCK_SHARE:g}", metric(PCK, alpha=PCK_SHARE), KEYPOINTS, inputs=_pck, applies=is_own),
    Column("MKR", metric(MKR), KEYPOINTS, inputs=_joints, applies=is_own),
    *content_columns(),
)

PROTOCOL = Protocol(
    name="structures",
    definition=f"frame 0 of each clip is the still and its own poses or expressions the control, at most {LENGTH} "
    f"frames; `predicted`: poses 0 to {OBSERVED - 1} are observed, frame {OBSERVED - 1} is the still and the next "
    f"{PREDICTED} frames are predicted; pixels in [0, 1]",
    cases=structure_cases,
    predictor=feed(structure_control, facts=(COARSE, REFINED)),
    baselines={"copy the still": copy_still, "the true clip": true_clip},
    columns=COLUMNS,
    controls=("Poses", "Retarget"),
    group=action_of,
    grouped=("MSE", "PSNR", "predicted MSE", "predicted PSNR"),
)
