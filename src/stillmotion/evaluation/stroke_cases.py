"""The protocol `strokes`: what is asked with a stroke, and what is measured of the answers.

Three kinds of questions about each clip of a world: its own stroke (the truth is the clip), the stroke of another
clip shifted to this still's start (only the stroke is known), and the clip's stroke to and fro for 200 steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, Literal

import numpy as np
import torch
from torchmetrics import Metric

from stillmotion import media
from stillmotion.animate import Animator
from stillmotion.controls import Stroke
from stillmotion.data.clip import Clip
from stillmotion.errors import StillmotionError
from stillmotion.evaluation.curves import BrightnessCurve, Curve, PSNRCurve, SSIMCurve
from stillmotion.evaluation.digits import DigitClassifier, load_classifier, read_digits
from stillmotion.evaluation.gait import StrideRight, stride_rate
from stillmotion.evaluation.lpips import LPIPS
from stillmotion.evaluation.measures import Answered, Case, Measure, pixel_measures, the_driving
from stillmotion.evaluation.networks import Source
from stillmotion.evaluation.pose_metrics import KINDS, PoseSmoothness
from stillmotion.evaluation.tracking import track_object
from stillmotion.evaluation.truth_metrics import Counterfactual, Follow, Mean, Spill, resting

LONG_STEPS, LONG_CASES = 200, 8
PAIR_SEED = 0
LEAST_APART = 1 / 8
"""Of the width: strokes whose ends are nearer to each other ask for nearly the same."""

OTHER_GAIT = 1.25
"""Strides per second that differ by less than this factor are those of one gait."""


@dataclass(frozen=True, eq=False)
class StrokeCase(Case):
    """A still and a stroke from its first frame on.

    Attributes:
        kind: `own`, `other` or `long`.
        stroke: T x 2, a point per frame; the first is the still's.
        tracks: of the still's clip.
        other_end: (x, y) where the other stroke on this still ends; None if it ends too near or there is none.
        label: the digit, if it is one.
        stride_hz: of the person, if it walks or runs.
        asked_hz: of the person whose stroke it is.
        fps: frames per second.
    """

    kind: Literal["own", "other", "long"]
    stroke: np.ndarray
    tracks: Mapping[str, np.ndarray]
    other_end: np.ndarray | None
    label: int | None
    stride_hz: float | None
    asked_hz: float | None
    fps: float


def stroke_cases(clips: Sequence[Clip]) -> list[Case]:
    """All questions about the clips; `own` and `other` of a clip follow each other, the first few are asked long too.

    Raises:
        StillmotionError: a clip lacks `points` from its first frame on, or `box`.
    """
    cases: list[Case] = []
    for i, clip in enumerate(clips):
        points = _points_of(clip)
        donor, other = _other_stroke(clips, i, points)
        ends = None if other is None else (points[-1], other[-1])
        apart = ends is not None and np.linalg.norm(ends[0] - ends[1]) >= LEAST_APART * clip.frames.shape[2]
        frames = np.asarray(clip.frames)
        make = partial(_case, clip)
        cases.append(make(clip, "own", frames, points, other[-1] if other is not None and apart else None))
        if other is not None:
            assert donor is not None
            # There is no true video of this: the still stands for it, and nothing is compared with it.
            still = np.repeat(frames[:1], len(other), axis=0)
            cases.append(make(donor, "other", still, other, points[-1] if apart else None))
        if i < LONG_CASES:
            order = to_and_fro(len(frames), LONG_STEPS + 1)
            cases.append(make(clip, "long", frames[order], points[order], None))
    return cases


def to_and_fro(length: int, steps: int) -> np.ndarray:
    """Indices 0, 1, ..., length - 1, length - 2, ..., 0, 1, ...: `steps` of them."""
    if length == 1:
        return np.zeros(steps, int)
    at = np.arange(steps) % (2 * (length - 1))
    return np.where(at < length, at, 2 * (length - 1) - at)


def _case(
    clip: Clip, donor: Clip, kind: Literal["own", "other", "long"], real: np.ndarray, stroke: np.ndarray, end: Any
) -> Case:
    return StrokeCase(
        name=clip.name if kind == "own" else f"{clip.name}--{kind}",
        still=np.asarray(clip.frames)[0],
        driving=real,
        kind=kind,
        stroke=stroke,
        tracks=clip.tracks,
        other_end=end,
        label=clip.meta.get("label"),
        stride_hz=_stride_hz(clip),
        asked_hz=_stride_hz(donor),
        fps=clip.fps,
    )


def _stride_hz(clip: Clip) -> float | None:
    gait = clip.meta.get("gait")
    return None if gait is None else float(gait["stride_hz"])


def _points_of(clip: Clip) -> np.ndarray:
    points = np.asarray(clip.tracks.get("points", np.zeros((0, 2))), np.float64)
    if len(points) != len(clip) or not np.isfinite(points).all() or "box" not in clip.tracks:
        raise StillmotionError(
            f"Clip {clip.name!r} lacks the tracks points (in every frame) and box; take a world's clips."
        )
    return points


def _other_stroke(clips: Sequence[Clip], i: int, points: np.ndarray) -> tuple[Clip, np.ndarray] | tuple[None, None]:
    """Another clip, drawn by chance, and its stroke shifted to this one's start, if one stays inside the picture."""
    height, width = clips[i].frames.shape[1:3]
    box = np.asarray(clips[i].tracks["box"], np.float64)[0]
    reach = np.array([points[0] - box[:2], box[2:] - points[0]])
    for j in np.random.default_rng([PAIR_SEED, i]).permutation(len(clips)):
        theirs = np.asarray(clips[j].tracks.get("points", np.zeros((0, 2))), np.float64)
        if j == i or len(theirs) < len(points) or not np.isfinite(theirs).all():
            continue
        moved = (theirs - theirs[0] + points[0])[: len(points)]
        inside = (moved - reach[0] >= -0.5).all() and (moved + reach[1] <= (width - 0.5, height - 0.5)).all()
        if inside:
            return clips[j], moved
    return None, None


def follow_stroke(animator: Animator) -> Callable[[Case], np.ndarray | None]:
    """Let the still follow the case's stroke, a frame per point; None where the model takes no stroke so long."""
    most = getattr(animator.system, "most_points", None)

    def answer(case: Case) -> np.ndarray | None:
        asked = _asked(case)
        if most is not None and len(asked.stroke) > most:
            return None
        return animator(case.still, Stroke(asked.stroke, fps=asked.fps), len(asked.stroke)).frames()

    return answer


def _asked(case: Case) -> StrokeCase:
    assert isinstance(case, StrokeCase)
    return case


def true_clip(case: Case) -> np.ndarray | None:
    """The true frames: what the instruments themselves leave to be reached. None for another clip's stroke."""
    return None if _asked(case).kind == "other" else case.driving


def has_truth(case: Case) -> bool:
    """Whether the true frames are known: a clip's own stroke, once."""
    return _asked(case).kind == "own"


def is_short(case: Case) -> bool:
    """Whether the stroke is as long as a clip."""
    return _asked(case).kind != "long"


# --- what is taken from an answer ----------------------------------------------------------------------------------


def tracked(case: StrokeCase, made: np.ndarray) -> np.ndarray:
    """The thing's places in an answer, T x 2, NaN where lost: by its box in the still and what the pixels do."""
    return track_object(made, box=np.asarray(case.tracks["box"])[0]) + (
        case.stroke[0] - (case.tracks["box"][0][:2] + case.tracks["box"][0][2:]) / 2
    )


class _Tracked:
    """Places of the latest answer: three measures want them."""

    def __init__(self) -> None:
        self._of: np.ndarray | None = None
        self._places = np.zeros((0, 2))

    def __call__(self, answered: Answered) -> np.ndarray:
        if self._of is not answered.made:
            self._of, self._places = answered.made, tracked(_asked(answered.case), answered.made)
        return self._places


def _follow(find: _Tracked, answered: Answered, width: bool = False) -> tuple[Any, ...]:
    scale = 100.0 / answered.made.shape[2] if width else 1.0
    return torch.from_numpy(find(answered) * scale), torch.from_numpy(_asked(answered.case).stroke * scale)


def _two_ends(find: _Tracked, answered: Answered) -> tuple[Any, ...] | None:
    case = _asked(answered.case)
    if case.other_end is None:
        return None
    return tuple(torch.from_numpy(np.asarray(end)) for end in (find(answered)[-1], case.stroke[-1], case.other_end))


def _class_kept(answered: Answered) -> tuple[Any, ...] | None:
    label = _asked(answered.case).label
    return None if label is None else (read_digits(answered.made[-1:], _classifier()), torch.tensor([label]))


@cache
def _classifier() -> DigitClassifier:
    return load_classifier()


def _stride(answered: Answered) -> tuple[Any, ...] | None:
    case = _asked(answered.case)
    if case.stride_hz is None:
        return None
    found = stride_rate(answered.made, case.fps, case.stroke, case.tracks["box"][0])
    return torch.tensor([found]), torch.tensor([case.stride_hz])


def _gait_decided(answered: Answered) -> tuple[Any, ...] | None:
    case = _asked(answered.case)
    if case.stride_hz is None or case.asked_hz is None:
        return None
    if max(case.stride_hz, case.asked_hz) < OTHER_GAIT * min(case.stride_hz, case.asked_hz):
        return None
    found = stride_rate(answered.made, case.fps, case.stroke, case.tracks["box"][0])
    return tuple(torch.tensor([rate]) for rate in (found, case.asked_hz, case.stride_hz))


def _spill(answered: Answered) -> tuple[Any, ...] | None:
    case = _asked(answered.case)
    if "mask" not in case.tracks:
        return None
    flows = [case.tracks[name] for name in ("flow_forward", "flow_backward") if name in case.tracks]
    still = torch.from_numpy(media.to_float(case.still[None]))[0]
    rests = torch.from_numpy(resting(case.tracks["mask"], *flows))
    return (answered.seen, still, rests) if rests.any() else None


def _smooth(answered: Answered) -> tuple[Any, ...]:
    return answered.seen, answered.made.shape[1:3]


class Kept(Mean):
    """Is the digit in the last frame still the one in the still?"""

    definition = (
        "percent of answers whose last frame shows the still's digit, read by a classifier (evaluation/digits.py) "
        "that is right on 98.9 % of digits it was not trained on; higher is better"
    )
    higher_is_better = True

    def update(self, found: torch.Tensor, label: torch.Tensor) -> None:
        """Add answers: digits as read and as they should be; N each."""
        self.add(100.0 * (found == label).double())


class TwoEnds(Counterfactual):
    """Does the thing end where its own stroke ends?"""

    definition = (
        "percent of answers in whose last frame the object is nearer to the end of the stroke that was asked than to "
        f"that of another stroke on the same still, which ends {LEAST_APART:g} of the width away or more; each pair "
        "is asked both ways, so 50 is what a model gets that ignores the stroke; higher is better"
    )


class GaitDecided(Counterfactual):
    """Do the legs go as the stroke of somebody else asks, and not as those of whom the still shows went?"""

    definition = (
        "percent of answers to another clip's stroke whose strides per second are nearer to those of that clip's "
        f"person than to those of the still's own clip, where these differ by a factor of {OTHER_GAIT:g} or more; a "
        "video without a readable gait is wrong; higher is better"
    )


class FollowShare(Follow):
    """`Follow` in percent of the picture's width: both paths are given so."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.definition = self.definition.replace("in pixels", "in percent of the picture's width")


def _build(metric: Callable[..., Metric], **options: Any) -> Callable[[Source | None], Metric]:
    return lambda source: metric(**options)


_find = _Tracked()

_pixels = partial(Measure, view="pixels", target=the_driving)

STROKE_MEASURES: tuple[Measure, ...] = (
    *(replace(measure, applies=has_truth) for measure in pixel_measures()),
    _pixels("follow", _build(Follow), take=partial(_follow, _find), applies=is_short),
    _pixels("follow (% of width)", _build(FollowShare), take=partial(_follow, _find, width=True), applies=is_short),
    _pixels("follow (share)", _build(Follow, unit="length"), take=partial(_follow, _find), applies=is_short),
    _pixels("two ends", _build(TwoEnds), take=partial(_two_ends, _find), applies=is_short),
    _pixels("class kept", _build(Kept), take=_class_kept, applies=is_short),
    _pixels("stride right", _build(StrideRight), take=_stride, applies=has_truth),
    _pixels(
        "gait decided", _build(GaitDecided), take=_gait_decided, applies=lambda case: _asked(case).kind == "other"
    ),
    _pixels("spill", _build(Spill), take=_spill, applies=has_truth),
    _pixels(f"spill ({LONG_STEPS})", _build(Spill), take=_spill, applies=lambda case: not is_short(case)),
    *(
        Measure(
            f"joint motion ({kind})",
            _build(PoseSmoothness, kind=kind),
            "keypoints",
            the_driving,
            take=_smooth,
            applies=has_truth,
        )
        for kind in KINDS
    ),
    Measure("LPIPS", _build(LPIPS), "lpips", the_driving, applies=has_truth),
)
"""The columns of the protocol `strokes`."""

STROKE_CURVES: Mapping[str, Callable[[], Curve]] = {
    "PSNR": PSNRCurve, "SSIM": SSIMCurve, "brightness": BrightnessCurve,
}  # fmt: skip
