"""What is asked of a model, and the trivial answers it has to beat."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from stillmotion.animate import Animator
from stillmotion.controls import Drive
from stillmotion.data.clip import Clip
from stillmotion.errors import StillmotionError, StillmotionWarning
from stillmotion.evaluation.curves import Curve
from stillmotion.evaluation.measures import (
    INCEPTION_MEASURES,
    Case,
    Measure,
    identity_measures,
    keypoint_measures,
    pixel_measures,
    the_driving,
    the_still,
)
from stillmotion.evaluation.stroke_cases import (
    LONG_CASES,
    LONG_STEPS,
    STROKE_CURVES,
    STROKE_MEASURES,
    follow_stroke,
    has_truth,
    stroke_cases,
    true_clip,
)

Answer = Callable[[Case], np.ndarray | None]
"""Takes a case, gives as many frames as its driving video has, T x H x W x 3 `uint8`; None: it has no answer."""

PAIRS, PAIRS_SEED = 100, 0
"""Random pairs of the transfer protocols, as in Monkey-Net's code."""


@dataclass(frozen=True)
class Protocol:
    """A way to measure.

    Attributes:
        name: as on the command line.
        definition: what is done, in a sentence.
        cases: turns clips into questions.
        answer: turns a model into something that answers them.
        baselines: trivial answers by name.
        measures: the columns, in order.
        curves: metrics per step by name, of the cases that `has_truth` names.
        has_truth: whether a case's driving video is the truth.
    """

    name: str
    definition: str
    cases: Callable[[Sequence[Clip]], Sequence[Case]]
    answer: Callable[[Animator], Answer]
    baselines: Mapping[str, Answer]
    measures: Sequence[Measure]
    curves: Mapping[str, Callable[[], Curve]] = field(default_factory=dict)
    has_truth: Callable[[Case], bool] = lambda case: True


def reconstruction_cases(clips: Sequence[Clip]) -> list[Case]:
    """Each clip drives its own first frame."""
    return [Case(clip.name, np.asarray(clip.frames)[0], np.asarray(clip.frames)) for clip in clips]


def transfer_cases(clips: Sequence[Clip]) -> list[Case]:
    """Random ordered pairs of different clips, without replacement: the first frame of one, the motion of another.

    Raises:
        StillmotionError: fewer than two clips.
    """
    count = len(clips)
    if count < 2:
        raise StillmotionError("Transfer needs at least two clips in the split; try --split all.")
    pairs = [(still, driving) for still in range(count) for driving in range(count) if still != driving]
    drawn = np.random.default_rng(PAIRS_SEED).choice(len(pairs), min(PAIRS, len(pairs)), replace=False)
    cases = []
    for still, driving in (pairs[i] for i in sorted(drawn)):
        name = f"{clips[still].name}--{clips[driving].name}"
        cases.append(Case(name, np.asarray(clips[still].frames)[0], np.asarray(clips[driving].frames)))
    return cases


def copy_still(case: Case) -> np.ndarray:
    """Every frame is the still."""
    return np.repeat(case.still[None], len(case.driving), axis=0)


def mean_frame(case: Case) -> np.ndarray:
    """Every frame is the mean of all driving frames (it has seen the answer)."""
    mean = np.rint(np.asarray(case.driving, dtype=np.float64).mean(axis=0)).astype(np.uint8)
    return np.repeat(mean[None], len(case.driving), axis=0)


def copy_driving(case: Case) -> np.ndarray:
    """The driving video itself: all of the motion and none of the identity."""
    return case.driving


def drive(transfer: Literal["relative", "absolute"]) -> Callable[[Animator], Answer]:
    """The still driven by the driving video, at the still's own size."""

    def bind(animator: Animator) -> Answer:
        def answer(case: Case) -> np.ndarray:
            with warnings.catch_warnings():
                # Random pairs do not fit each other, and advice on cropping a still helps nobody here.
                warnings.simplefilter("ignore", StillmotionWarning)
                return animator(case.still, Drive(case.driving, transfer=transfer)).frames()

        return answer

    return bind


_PAIRS = (
    f"at most {PAIRS} random pairs of different clips (seed {PAIRS_SEED}): the first frame of one is the still, the "
    "other is its driving video"
)
_BASELINES: Mapping[str, Answer] = {"copy the still": copy_still, "mean frame": mean_frame}
_TRANSFER_BASELINES: Mapping[str, Answer] = {"copy the still": copy_still, "copy the driving video": copy_driving}
_OF_STILL = "AED compares with the still, everything else with the driving video"

PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "reconstruction",
            "frame 0 of each clip is the still and the whole clip its driving video, absolute keypoints, the clip's "
            "size",
            reconstruction_cases,
            drive("absolute"),
            _BASELINES,
            (*pixel_measures(), *keypoint_measures(), *identity_measures(the_driving), *INCEPTION_MEASURES),
        ),
        Protocol(
            "transfer",
            f"{_PAIRS}, relative keypoints; {_OF_STILL}",
            transfer_cases,
            drive("relative"),
            _TRANSFER_BASELINES,
            (*keypoint_measures(relative=True), *identity_measures(the_still), *INCEPTION_MEASURES),
        ),
        Protocol(
            "transfer-absolute",
            f"{_PAIRS}, absolute keypoints; {_OF_STILL}",
            transfer_cases,
            drive("absolute"),
            _TRANSFER_BASELINES,
            (*keypoint_measures(), *identity_measures(the_still), *INCEPTION_MEASURES),
        ),
        Protocol(
            "strokes",
            "frame 0 of each clip is the still, and three strokes are asked of it from there: the clip's own points "
            "(the clip is the truth), another clip's shifted to this start, and its own to and fro for "
            f"{LONG_STEPS} steps (first {LONG_CASES} clips)",
            stroke_cases,
            follow_stroke,
            {"copy the still": copy_still, "the true clip": true_clip},
            STROKE_MEASURES,
            STROKE_CURVES,
            has_truth,
        ),
    )
}


def find_protocol(name: str) -> Protocol:
    """Look a protocol up.

    Raises:
        StillmotionError: there is none of this name.
    """
    if name not in PROTOCOLS:
        raise StillmotionError(f"There is no protocol {name!r}; known are {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]
