"""The protocol `retargeting`: the expressions of one face on another's still (Sec. 3.1 and Table 1 of `structures`).

Each person's still is given to a random performer of another person. In the world `faces` the outcome is known: the
same performance is rendered with the still's person. There the still is that outcome's first frame, for a still with
another head pose would have another outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter

from stillmotion import media
from stillmotion.data.clip import Clip
from stillmotion.errors import StillmotionError
from stillmotion.evaluation.extractors.base import FeatureExtractor
from stillmotion.evaluation.extractors.faces import FaceExpressions
from stillmotion.evaluation.metrics.actions import RecognitionAccuracy
from stillmotion.evaluation.metrics.feature import IdentityAccuracy
from stillmotion.evaluation.protocols.action_cases import person_of
from stillmotion.evaluation.protocols.base import Protocol, copy_still, feed
from stillmotion.evaluation.protocols.columns import Case, Column, Prediction, metric
from stillmotion.evaluation.protocols.structure_columns import (
    COARSE,
    IDENTITY,
    REFINED,
    content_columns,
    frame_columns,
    refinement_columns,
)
from stillmotion.evaluation.protocols.structures import LENGTH
from stillmotion.options import Control
from stillmotion.systems.base import System
from stillmotion.systems.structures import DETECTED, EXACT, Retarget

SEED = 0  # of the choice of performers
EXPRESSIONS = "expressions"  # the name of its extractor
BLINK = "blink"  # the coefficient that is no part of an expression


@dataclass(frozen=True, eq=False)
class RetargetCase(Case):
    """A still and a performer, who is `clip`; where nothing is the true outcome, `target` is the performer."""

    marks: np.ndarray | None  # the still's landmarks, 68 x 2
    true: bool  # whether `target` shows the still's person
    apex: int | None  # the frame in which the performer's expression is strongest
    person: int  # place of the still's person in `gallery`
    gallery: np.ndarray  # a frame of every person, M x H x W x 3


# --- cases ---------------------------------------------------------------------------------------------------------


def retarget_cases(clips: Sequence[Clip]) -> list[Case]:
    """One case of each clip: its person, and the performance in a random clip of somebody else.

    Raises:
        StillmotionError: all clips show the same person.
    """
    people = list(dict.fromkeys(map(person_of, clips)))
    if len(people) < 2:
        raise StillmotionError("Retargeting needs clips of two persons or more in the split; try --split all.")
    first = {person_of(clip): clip for clip in reversed(clips)}
    size = clips[0].frames.shape[1:3]
    gallery = np.stack([media.resize(np.asarray(first[name].frames[0]), size) for name in people])
    rng, cases = np.random.default_rng(SEED), list[Case]()
    for clip in clips:
        others = [other for other in clips if person_of(other) != person_of(clip)]
        performer = others[int(rng.integers(len(others)))]
        frames = np.asarray(performer.frames[:LENGTH])
        made = true_outcome(performer, clip, len(frames))
        still, marks = (np.asarray(clip.frames[0]), clip.tracks.get("landmarks")) if made is None else (
            made[0][0], made[1]
        )  # fmt: skip
        own = None if marks is None else np.asarray(marks[0])[:, :2]
        target = frames if made is None else made[0]
        found = (own, made is not None, apex_of(performer, len(frames)), people.index(person_of(clip)), gallery)
        cases.append(RetargetCase(f"{clip.name}--{performer.name}", still, target, performer, *found))
    return cases


def true_outcome(performer: Clip, clip: Clip, frames: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The performance with the clip's person in the clip's scene: frames and landmarks; None outside `faces`."""
    if not all(each.meta.get("world") == "faces" and "description" in each.meta for each in (performer, clip)):
        return None
    from stillmotion.worlds.faces import Face, render, retarget

    read = TypeAdapter(Face).validate_python
    made = retarget(*(read(each.meta["description"]) for each in (performer, clip)))
    video, tracks = render(made, clip.frames.shape[1], frames)
    return video, tracks["landmarks"]


def apex_of(performer: Clip, frames: int) -> int | None:
    """The frame in which the expression is strongest, blinks left out; None if its coefficients are not known."""
    if "expression" not in performer.tracks:
        return None
    names = performer.meta.get("actions", ())
    counted = [at for at in range(performer.tracks["expression"].shape[1]) if at >= len(names) or names[at] != BLINK]
    return int(np.square(np.asarray(performer.tracks["expression"])[:frames, counted]).sum(1).argmax())


def as_retargeting(case: Case) -> RetargetCase:
    """The same case, known to be one of retargeting."""
    assert isinstance(case, RetargetCase)
    return case


def has_truth(case: Case) -> bool:
    """Whether the target shows the true outcome."""
    return as_retargeting(case).true


def retarget_control(system: System, case: RetargetCase) -> Control:
    """The performer, with the landmarks that are known; the head turns as the performer's."""
    marks, length = case.clip.tracks.get("landmarks"), len(case.target)
    known = None if marks is None else np.asarray(marks)[:length, :, :2]
    return Retarget(
        np.asarray(case.clip.frames[:length]), case.marks, known, head="video", smooth=False, fps=case.clip.fps,
        crop="none", landmark_noise=DETECTED if known is None else EXACT,
    )  # fmt: skip


def true_clip(case: Case, sample: int = 0) -> np.ndarray | None:
    """Baseline: the true outcome. What is recognised in it is the networks' own accuracy on these cases."""
    return case.target if has_truth(case) else None


def performer(case: Case, sample: int = 0) -> np.ndarray:
    """Baseline: the performer, with all of the expression and none of the identity."""
    frames = np.asarray(case.clip.frames[: len(case.target)])
    return frames


# --- columns -------------------------------------------------------------------------------------------------------


def _recognition(source: FeatureExtractor | None) -> RecognitionAccuracy:
    assert isinstance(source, FaceExpressions)
    return RecognitionAccuracy(
        source.classes,
        tabulated=True,
        definition="percent of predictions whose frame at the apex of the performance is recognised as the "
        "performer's expression; higher is better",
    )


def _recognised(prediction: Prediction) -> tuple[Any, ...] | None:
    """Scores of the frame at the apex, and the place of the performer's expression; None where it is not known."""
    case, source = as_retargeting(prediction.case), prediction.cache.extractors[EXPRESSIONS]
    assert isinstance(source, FaceExpressions)
    asked = case.clip.meta.get("action")
    if case.apex is None or asked not in source.classes:
        return None
    scores = source.scores(prediction.features(EXPRESSIONS)[case.apex : case.apex + 1])
    return scores, torch.tensor([source.classes.index(asked)])


def _gallery(case: Case) -> np.ndarray:
    return as_retargeting(case).gallery


def _identity(prediction: Prediction) -> tuple[Any, ...]:
    """Features of the frames after the still, those of every person, and the right one."""
    found = prediction.features(IDENTITY)[1:]
    people = prediction.cache.reference(IDENTITY, prediction.case, _gallery)
    return found, people, torch.full((len(found),), as_retargeting(prediction.case).person)


_RIGHT = (
    "percent of frames after the still whose identity features are nearer to those of the right person in another "
    "clip than to any other test person's; a tie is wrong; higher is better"
)

COLUMNS: tuple[Column, ...] = (
    *frame_columns(has_truth),
    *refinement_columns(has_truth),
    Column("expression recognised", _recognition, EXPRESSIONS, inputs=_recognised),
    Column("identity right", metric(IdentityAccuracy, definition=_RIGHT), IDENTITY, inputs=_identity),
    *content_columns(),
)

PROTOCOL = Protocol(
    name="retargeting",
    definition=f"the person of each clip performs what another person does in a random clip (seed {SEED}), at most "
    f"{LENGTH} frames, with the known landmarks of both; of the world `faces` the true outcome is rendered, and its "
    "first frame is the still; pixels in [0, 1]",
    cases=retarget_cases,
    predictor=feed(retarget_control, facts=(COARSE, REFINED)),
    baselines={"copy the still": copy_still, "the performer": performer, "the true clip": true_clip},
    columns=COLUMNS,
    controls=("Retarget",),
    has_truth=has_truth,
)
