"""The protocol `strokes`: cases with a stroke as control, and the columns that measure how well it is followed.

Three cases per clip: its own stroke (the clip is the true outcome), the stroke of another clip shifted to this
still's start (only the stroke is known), and the clip's stroke back and forth for 200 steps. The stroke is the clip's
`points`, or the middles of a person's box around its `joints`; frames without a point are interpolated.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from typing import Any, Literal

import numpy as np
import torch

from stillmotion import media
from stillmotion.data.clip import Clip
from stillmotion.data.points import boxes_of_joints, drop_uncertain, fill_gaps, smooth_path
from stillmotion.errors import StillmotionError, StillmotionWarning
from stillmotion.evaluation.extractors.digits import load_classifier, read_digits
from stillmotion.evaluation.metrics.control import (
    BackgroundChange,
    ClassAccuracy,
    CounterfactualAccuracy,
    StrideAccuracy,
    TrajectoryError,
    static_pixels,
)
from stillmotion.evaluation.metrics.curves import CURVES
from stillmotion.evaluation.metrics.keypoint import KINDS, PoseSmoothness
from stillmotion.evaluation.protocols.base import Protocol, copy_still, feed
from stillmotion.evaluation.protocols.columns import LPIPS_COLUMN, Case, Column, Prediction, metric, pixel_columns
from stillmotion.evaluation.protocols.regions import region_columns
from stillmotion.evaluation.trackers.gait import stride_rate
from stillmotion.evaluation.trackers.tracking import track_object
from stillmotion.systems.base import System
from stillmotion.systems.strokes import Stroke

LONG_STEPS, LONG_CASES = 200, 8
PAIR_SEED = 0
MIN_SEPARATION = 1 / 8  # of the width: strokes whose ends are nearer to each other are not compared

PATCH = 1 / 4  # of the smaller side: the object around a point without a box, as the paper's patches (64 of 256)

MIN_GAIT_RATIO = 1.25  # stride rates that differ by a smaller factor are those of one gait
GAITS = {"walking": ("walk", "walking"), "jogging": ("jog", "jogging"), "running": ("run", "running")}
"""The paper's Table I has these columns; the names of the actions in KTH, in Weizmann and in the worlds."""

Kind = Literal["own", "other", "long"]


@dataclass(frozen=True, eq=False)
class StrokeCase(Case):
    """A still and a stroke from its first frame on; `clip` is the still's."""

    kind: Kind  # `own`, `other` or `long`
    stroke: np.ndarray  # T x 2, a point per frame; the first is the still's
    donor: Clip  # the clip whose stroke it is
    other_end: np.ndarray | None  # (x, y), end of the other stroke on this still; None if too near or there is none
    box: np.ndarray  # of the object in the still: x0, y0, x1, y1


@dataclass(frozen=True, eq=False)
class Followed:
    """A clip with what its object does."""

    clip: Clip
    points: np.ndarray  # T x 2
    box: np.ndarray  # of the object in frame 0: x0, y0, x1, y1


def stroke_cases(clips: Sequence[Clip]) -> list[Case]:
    """All cases of the clips: `own` and `other` of each, and `long` of the first few.

    Raises:
        StillmotionError: a clip has neither track, or no clip has a known point.
    """
    followed, cases = follow(clips), list[Case]()
    for i, one in enumerate(followed):
        clip, points, frames = one.clip, one.points, np.asarray(one.clip.frames)
        donor, other = _other_stroke(followed, i)
        separation = 0.0 if other is None else np.linalg.norm(points[-1] - other[-1]) / frames.shape[2]
        ends = (points[-1], other[-1]) if other is not None and separation >= MIN_SEPARATION else (None, None)
        cases.append(StrokeCase(clip.name, frames[0], frames, clip, "own", points, clip, ends[1], one.box))
        if donor is not None and other is not None:
            # There is no true outcome: the still gives the shape of the target, and nothing is compared with it.
            still, name = np.repeat(frames[:1], len(other), axis=0), f"{clip.name}--other"
            cases.append(StrokeCase(name, frames[0], still, clip, "other", other, donor, ends[0], one.box))
        if i < LONG_CASES:
            at, name = back_and_forth(len(frames), LONG_STEPS + 1), f"{clip.name}--long"
            cases.append(StrokeCase(name, frames[0], frames[at], clip, "long", points[at], clip, None, one.box))
    return cases


def back_and_forth(length: int, steps: int) -> np.ndarray:
    """Indices 0, 1, ..., length - 1, length - 2, ..., 0, 1, ...: `steps` of them."""
    if length == 1:
        return np.zeros(steps, int)
    at = np.arange(steps) % (2 * (length - 1))
    return np.where(at < length, at, 2 * (length - 1) - at)


def stride_hz(clip: Clip) -> float | None:
    """True strides per second of the person in a clip; None if nobody walks or runs."""
    gait = clip.meta.get("gait")
    return None if gait is None else float(gait["stride_hz"])


def follow(clips: Sequence[Clip]) -> list[Followed]:
    """The clips with a point in every frame and a box; those of which no point is known are left out and named.

    Raises:
        StillmotionError: see `stroke_cases`.
    """
    found, lost = [], []
    for clip in clips:
        points, box = _points(clip)
        if not np.isfinite(points).all(axis=1).any():
            lost.append(clip.name)
            continue
        points = fill_gaps(points).astype(np.float64)
        found.append(Followed(clip, points, _patch(points[0], clip) if box is None else box))
    if not found:
        raise StillmotionError("No clip has a known point: prepare the data with another tracker (docs/data.md).")
    if lost:
        message = f"{len(lost)} clips have no known point and are left out: {', '.join(lost)}"
        warnings.warn(message, StillmotionWarning, stacklevel=2)
    return found


def _points(clip: Clip) -> tuple[np.ndarray, np.ndarray | None]:
    """A clip's points, T x 2, NaN where unknown, and the object's box in frame 0, if it is known."""
    if len(points := np.asarray(clip.tracks.get("points", np.zeros((0, 2))), np.float64)) == len(clip):
        box = np.asarray(clip.tracks["box"], np.float64)[0] if "box" in clip.tracks else None
        return points, box
    if len(joints := np.asarray(clip.tracks.get("joints", np.zeros((0, 1, 3))), np.float64)) == len(clip):
        boxes, confidence = boxes_of_joints(joints)
        places = smooth_path((boxes[:, :2] + boxes[:, 2:]) / 2, confidence)
        return drop_uncertain(places, confidence), boxes[0] if np.isfinite(boxes[0]).all() else None
    raise StillmotionError(
        f"Clip {clip.name!r} has neither of the tracks points and joints: prepare the data with --tracks points."
    )


def _patch(point: np.ndarray, clip: Clip) -> np.ndarray:
    """The box around a point, x0, y0, x1, y1, inside the picture."""
    height, width = clip.frames.shape[1:3]
    half, last = PATCH * min(height, width) / 2, np.array([width - 1.0, height - 1.0])
    middle = np.clip(point, 0, last)
    return np.concatenate([np.maximum(middle - half, 0), np.minimum(middle + half, last)])


def _other_stroke(followed: Sequence[Followed], i: int) -> tuple[Clip, np.ndarray] | tuple[None, None]:
    """A random other clip and its stroke shifted to this one's start, if one stays inside the picture."""
    points, box = followed[i].points, followed[i].box
    height, width = followed[i].clip.frames.shape[1:3]
    before, after = points[0] - box[:2], box[2:] - points[0]
    for j in np.random.default_rng([PAIR_SEED, i]).permutation(len(followed)):
        other = followed[j].points
        if j == i or len(other) < len(points):
            continue
        moved = (other - other[0] + points[0])[: len(points)]
        if (moved - before >= -0.5).all() and (moved + after <= (width - 0.5, height - 0.5)).all():
            return followed[j].clip, moved
    return None, None


def stroke_control(system: System, case: StrokeCase) -> Stroke | None:
    """The case's stroke, a point per frame; None where the model takes no stroke of this length."""
    maximum = getattr(system, "most_points", None)
    return None if maximum and len(case.stroke) > maximum else Stroke(case.stroke, fps=case.clip.fps)


def true_clip(case: Case, sample: int = 0) -> np.ndarray | None:
    """Baseline: the target frames, whose error is that of the trackers. None for another clip's stroke."""
    return None if _stroke_case(case).kind == "other" else case.target


def has_truth(case: Case) -> bool:
    """Whether the true outcome is known: the clip's own stroke, once."""
    return _stroke_case(case).kind == "own"


def _shows(actions: Sequence[str], case: Case) -> bool:
    """Whether the case's own stroke is that of a clip of one of these actions."""
    return has_truth(case) and case.clip.meta.get("action") in actions


def is_short(case: Case) -> bool:
    """Whether the stroke is as long as a clip."""
    return _stroke_case(case).kind != "long"


def _stroke_case(case: Case) -> StrokeCase:
    assert isinstance(case, StrokeCase)
    return case


# --- inputs of the metrics -----------------------------------------------------------------------------------------


@lru_cache(maxsize=1)  # several columns of the same prediction
def object_path(prediction: Prediction) -> np.ndarray:
    """The object's position in each predicted frame, T x 2, NaN where lost; tracked from its box in the still."""
    case = _stroke_case(prediction.case)
    middle = (case.box[:2] + case.box[2:]) / 2
    return track_object(prediction.frames, box=case.box) + (case.stroke[0] - middle)


def _trajectory(prediction: Prediction) -> tuple[Any, ...]:
    path = torch.from_numpy(object_path(prediction))
    return path, torch.from_numpy(_stroke_case(prediction.case).stroke), prediction.frames.shape[2]


def _endpoints(prediction: Prediction) -> tuple[Any, ...] | None:
    case = _stroke_case(prediction.case)
    if case.other_end is None:
        return None
    ends = (object_path(prediction)[-1], case.stroke[-1], case.other_end)
    return tuple(torch.from_numpy(np.asarray(end)) for end in ends)


def _digit(prediction: Prediction) -> tuple[Any, ...] | None:
    label = prediction.case.clip.meta.get("label")
    return None if label is None else (read_digits(prediction.frames[-1:], _classifier()), torch.tensor([label]))


_classifier = cache(load_classifier)


def _measured_hz(prediction: Prediction) -> float:
    case = _stroke_case(prediction.case)
    return stride_rate(prediction.frames, case.clip.fps, case.stroke, case.box)


def _stride(prediction: Prediction) -> tuple[Any, ...] | None:
    true = stride_hz(prediction.case.clip)
    return None if true is None else (torch.tensor([_measured_hz(prediction)]), torch.tensor([true]))


def _gait(prediction: Prediction) -> tuple[Any, ...] | None:
    case = _stroke_case(prediction.case)
    donor, own = stride_hz(case.donor), stride_hz(case.clip)
    if donor is None or own is None or max(donor, own) < MIN_GAIT_RATIO * min(donor, own):
        return None
    return tuple(torch.tensor([rate]) for rate in (_measured_hz(prediction), donor, own))


def _background(prediction: Prediction) -> tuple[Any, ...] | None:
    case, tracks = prediction.case, prediction.case.clip.tracks
    if "mask" not in tracks:
        return None
    flows = [tracks[name] for name in ("flow_forward", "flow_backward") if name in tracks]
    static = torch.from_numpy(static_pixels(tracks["mask"], *flows))
    still = torch.from_numpy(media.to_float(case.still[None]))[0]
    return (prediction.features("pixels"), still, static) if static.any() else None


def _joints(prediction: Prediction) -> tuple[Any, ...]:
    return prediction.features("keypoints"), prediction.frames.shape[1:3]


_CLASS = (
    "percent of predictions whose last frame shows the still's digit, read by a classifier (extractors/digits.py) "
    "that is right on 98.9 % of digits it was not trained on; higher is better"
)
_ENDPOINT = (
    "percent of predictions in whose last frame the object is nearer to the end of its own stroke than to that of "
    f"another stroke on the same still, which ends {MIN_SEPARATION:g} of the width away or more; both strokes of "
    "each pair are evaluated, so 50 is the value of a model that ignores the stroke; higher is better"
)
_GAIT = (
    "percent of predictions for another clip's stroke whose strides per second are nearer to those of that clip's "
    f"person than to those of the still's own clip, where these differ by a factor of {MIN_GAIT_RATIO:g} or more; a "
    "video without a measurable gait is wrong; higher is better"
)

_short = partial(Column, applies=is_short)
_true = partial(Column, applies=has_truth)

COLUMNS: tuple[Column, ...] = (
    *(replace(column, applies=has_truth) for column in pixel_columns()),
    *region_columns(has_truth),
    _short("trajectory error", metric(TrajectoryError), inputs=_trajectory),
    _short("trajectory error (% of width)", metric(TrajectoryError, unit="width"), inputs=_trajectory),
    _short("trajectory error (relative)", metric(TrajectoryError, unit="length"), inputs=_trajectory),
    _short("endpoint accuracy", metric(CounterfactualAccuracy, definition=_ENDPOINT), inputs=_endpoints),
    _short("class accuracy", metric(ClassAccuracy, definition=_CLASS), inputs=_digit),
    _true("stride accuracy", metric(StrideAccuracy), inputs=_stride),
    Column(
        "gait transfer accuracy",
        metric(CounterfactualAccuracy, definition=_GAIT),
        inputs=_gait,
        applies=lambda case: _stroke_case(case).kind == "other",
    ),
    _true("background change", metric(BackgroundChange), inputs=_background),
    Column(
        f"background change ({LONG_STEPS})",
        metric(BackgroundChange),
        inputs=_background,
        applies=lambda case: not is_short(case),
    ),
    *(
        _true(f"joint motion ({kind})", metric(PoseSmoothness, kind=kind), "keypoints", inputs=_joints)
        for kind in KINDS
    ),
    *(
        Column(
            f"joint motion, {kind} ({gait})",
            metric(PoseSmoothness, kind=kind),
            "keypoints",
            inputs=_joints,
            applies=partial(_shows, actions),
        )
        for gait, actions in GAITS.items()
        for kind in ("mean", "deviation")
    ),
    replace(LPIPS_COLUMN, applies=has_truth),
)

PROTOCOL = Protocol(
    name="strokes",
    definition="frame 0 of each clip is the still, with three strokes as controls: the clip's own points (the clip "
    "is the true outcome; without points the middles of the box around its joints; gaps interpolated), another "
    f"clip's shifted to this start, and its own back and forth for {LONG_STEPS} steps (first {LONG_CASES} clips)",
    cases=stroke_cases,
    predictor=feed(stroke_control),
    baselines={"copy the still": copy_still, "the true clip": true_clip},
    columns=COLUMNS,
    controls=("Stroke",),
    curves=CURVES,
    has_truth=has_truth,
    blocks=tuple(GAITS),
)
