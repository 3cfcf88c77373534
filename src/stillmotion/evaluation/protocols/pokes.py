"""The protocol `pokes`: a still, one poke, ten frames after it, and columns that measure what the poke moved."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import cv2
import numpy as np

from stillmotion.evaluation.metrics.curves import CURVES
from stillmotion.evaluation.protocols.base import Protocol, copy_still, feed, true_clip
from stillmotion.evaluation.protocols.columns import Case, Sample
from stillmotion.evaluation.protocols.poke_cases import (
    CLEARANCE,
    LENGTH,
    SEED,
    SHORTEST,
    WINDOWS,
    PokeCase,
    as_poke,
    poke_cases,
)
from stillmotion.evaluation.protocols.poke_columns import COLUMNS, DRAGS, FIELD, has_truth
from stillmotion.options import Control


def control_of(case: PokeCase) -> Control:
    """The case's poke as the control of the system `pokes`."""
    poke: Callable[..., Control] = import_module("stillmotion.systems.pokes").Poke
    (x0, y0), (x1, y1) = case.start.tolist(), case.end.tolist()
    return poke([((x0, y0), (x1, y1))])


# --- baselines -----------------------------------------------------------------------------------------------------


def still_picture(case: Case, sample: int = 0) -> Sample:
    """Baseline: every frame is the still, and nothing is displaced."""
    return Sample(copy_still(case), {FIELD: np.zeros((*case.target.shape[:3], 2), np.float32)})


def moved_patch(case: Case, sample: int = 0) -> Sample:
    """Baseline: the still warped by a gaussian patch that goes along the poke, evenly in time.

    The patch has its full shift at the poked point and a standard deviation of a tenth of the width. It knows the
    control and nothing of the object.
    """
    poke = as_poke(case)
    height, width = case.still.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    frames, fields = np.empty_like(case.target), np.empty((*case.target.shape[:3], 2), np.float32)
    for t, share in enumerate(np.linspace(0, 1, len(frames))):
        shift = share * (poke.end - poke.start)
        distance = (x - (poke.start + shift)[0]) ** 2 + (y - (poke.start + shift)[1]) ** 2
        fields[t] = np.exp(-distance / (2 * (width / 10) ** 2))[..., None] * -shift
        places = x + fields[t, ..., 0], y + fields[t, ..., 1]
        frames[t] = cv2.remap(case.still, *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return Sample(frames, {FIELD: fields})


PROTOCOL = Protocol(
    name="pokes",
    definition=f"frame 0 of each clip is the still, followed by {LENGTH} frames, with three pokes as controls: the "
    "clip's own and the other one, each to where the poked point is in the last frame (both outcomes are known), and "
    f"the clip's own vector at a random place of the background {CLEARANCE} pixels or more from what moves (the "
    f"still is the outcome; seed {SEED}); a clip that knows no other outcome is cut into windows of {LENGTH + 1} "
    f"frames, of which at most {WINDOWS} are taken, each with a poke simulated from the optical flow (DIS) over it; "
    f"pokes under {SHORTEST:g} of the width are left out; '{DRAGS}' "
    f"is of frame {LENGTH} alone, of pokes whose hand holds on until then",
    cases=poke_cases,
    predictor=feed(lambda system, case: control_of(case), facts=(FIELD,)),
    baselines={"copy the still": still_picture, "moved patch": moved_patch, "the true clip": true_clip},
    columns=COLUMNS,
    controls=("Poke",),
    curves=CURVES,
    has_truth=has_truth,
    blocks=(DRAGS,),
)
