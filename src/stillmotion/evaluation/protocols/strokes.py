"""The protocol `strokes`: cases with a stroke as control, and the columns that measure how well it is followed.

Three cases per clip of a world: its own stroke (the clip is the true outcome), the stroke of another clip shifted to
this still's start (only the stroke is known), and the clip's stroke back and forth for 200 steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from typing import Any, Literal

import numpy as np
import torch

from stillmotion import media
from stillmotion.data.clip import Clip
from stillmotion.errors import StillmotionError
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

MIN_GAIT_RATIO = 1.25  # stride rates that differ by a smaller factor are those of one gait

Kind = Literal["own", "other", "long"]


@dataclass(frozen=True, eq=False)
class StrokeCase(Case):
    """A still and a stroke from its first frame on; `clip` is the still's."""

    kind: Kind  # `own`, `other` or `long`
    stroke: np.ndarray  # T x 2, a point per frame; the first is the still's
    donor: Clip  # the clip whose stroke it is
    other_end: np.ndarray | None  # (x, y), end of the other stroke on this still; None if too near or there is none


def stroke_cases(clips: Sequence[Clip]) -> list[Case]:
    """All cases of the clips: `own` and `other` of each, and `long` of the first few.

    Raises:
        StillmotionError: a clip lacks `points` from its first frame on, or `box`.
    """
    cases: list[Case] = []
    for i, clip in enumerate(clips):
        frames, points = np.asarray(clip.frames), _points(clip)
        donor, other = _other_stroke(clips, i, points)
        separation = 0.0 if other is None else np.linalg.norm(points[-1] - other[-1]) / frames.shape[2]
        ends = (points[-1], other[-1]) if other is not None and separation >= MIN_SEPARATION else (None, None)
        cases.append(StrokeCase(clip.name, frames[0], frames, clip, "own", points, clip, ends[1]))
        if donor is not None and other is not None:
            # There is no true outcome: the still gives the shape of the target, and nothing is compared with it.
            still = np.repeat(frames[:1], len(other), axis=0)
            cases.append(StrokeCase(f"{clip.name}--other", frames[0], still, clip, "other", other, donor, ends[0]))
        if i < LONG_CASES:
            at, name = back_and_forth(len(frames), LONG_STEPS + 1), f"{clip.name}--long"
            cases.append(StrokeCase(name, frames[0], frames[at], clip, "long", points[at], clip, None))
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


def _points(clip: Clip) -> np.ndarray:
    points = np.asarray(clip.tracks.get("points", np.zeros((0, 2))), np.float64)
    if len(points) != len(clip) or not np.isfinite(points).all() or "box" not in clip.tracks:
        raise StillmotionError(
            f"Clip {clip.name!r} lacks the tracks points (in every frame) and box; take a world's clips."
        )
    return points


def _other_stroke(clips: Sequence[Clip], i: int, points: np.ndarray) -> tuple[Clip, np.ndarray] | tuple[None, None]:
    """A random other clip and its stroke shifted to this one's start, if one stays inside the picture."""
    height, width = clips[i].frames.shape[1:3]
    box = np.asarray(clips[i].tracks["box"], np.float64)[0]
    before, after = points[0] - box[:2], box[2:] - points[0]
    for j in np.random.default_rng([PAIR_SEED, i]).permutation(len(clips)):
        other = np.asarray(clips[j].tracks.get("points", np.zeros((0, 2))), np.float64)
        if j == i or len(other) < len(points) or not np.isfinite(other).all():
            continue
        moved = (other - other[0] + points[0])[: len(points)]
        if (moved - before >= -0.5).all() and (moved + after <= (width - 0.5, height - 0.5)).all():
            return clips[j], moved
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
    box = np.asarray(case.clip.tracks["box"])[0]
    return track_object(prediction.frames, box=box) + (case.stroke[0] - (box[:2] + box[2:]) / 2)


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
    return stride_rate(prediction.frames, case.clip.fps, case.stroke, case.clip.tracks["box"][0])


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
    replace(LPIPS_COLUMN, applies=has_truth),
)

PROTOCOL = Protocol(
    name="strokes",
    definition="frame 0 of each clip is the still, with three strokes as controls: the clip's own points (the clip "
    "is the true outcome), another clip's shifted to this start, and its own back and forth for "
    f"{LONG_STEPS} steps (first {LONG_CASES} clips)",
    cases=stroke_cases,
    predictor=feed(stroke_control),
    baselines={"copy the still": copy_still, "the true clip": true_clip},
    columns=COLUMNS,
    controls=("Stroke",),
    curves=CURVES,
    has_truth=has_truth,
)
