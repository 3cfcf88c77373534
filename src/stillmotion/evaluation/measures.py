"""What is measured and against what: from metrics to the columns of a report."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from stillmotion import media
from stillmotion.evaluation.feature_metrics import AED, FID
from stillmotion.evaluation.keypoint_metrics import AKD, MKR
from stillmotion.evaluation.metrics import PIXEL_METRICS
from stillmotion.evaluation.networks import Source


@dataclass(frozen=True, eq=False)
class Case:
    """One question to a model.

    Attributes:
        name: of its strip and its row.
        still: H x W x 3, `uint8`.
        driving: T x H x W x 3, `uint8`.
    """

    name: str
    still: np.ndarray
    driving: np.ndarray


def the_driving(case: Case) -> np.ndarray:
    """Made frames should look like the driving ones."""
    return case.driving


def the_still(case: Case) -> np.ndarray:
    """Made frames should all show what the still shows; 1 x H x W x 3."""
    return case.still[None]


@dataclass(frozen=True, eq=False)
class Answered:
    """An answer to a case, for measures that look at more than two views of frames.

    Attributes:
        case: what was asked.
        made: the answer, T x H x W x 3 `uint8`.
        seen: what the measure's view sees in it.
    """

    case: Case
    made: np.ndarray
    seen: Tensor


@dataclass(frozen=True)
class Measure:
    """A column of a report.

    Attributes:
        name: its heading.
        build: makes the metric, given the source of `view` (None for pixels).
        view: `pixels`, or the network that looks at the frames.
        target: what the made frames are compared with.
        per_case: whether the number means something for a single case.
        take: makes the metric's arguments of an answer, None where the case gives no number; without it they are what
            the view sees in the made and in the target's frames.
        applies: whether a case gives this measure a number at all.
    """

    name: str
    build: Callable[[Source | None], Metric]
    view: str
    target: Callable[[Case], np.ndarray]
    per_case: bool = True
    take: Callable[[Answered], tuple[Any, ...] | None] | None = None
    applies: Callable[[Case], bool] = lambda case: True


def _plain(kind: Callable[..., Metric], **options: Any) -> Callable[[Source | None], Metric]:
    return lambda source: kind(**options)


def _fid(source: Source | None) -> Metric:
    assert source is not None
    return FID(source.dimension)


def pixel_measures(target: Callable[[Case], np.ndarray] = the_driving) -> tuple[Measure, ...]:
    """L1, PSNR, SSIM."""
    return tuple(Measure(name, _plain(kind), "pixels", target) for name, kind in PIXEL_METRICS.items())


def keypoint_measures(relative: bool = False) -> tuple[Measure, ...]:
    """AKD in both definitions, MKR; against the driving frames."""
    measure = partial(Measure, view="keypoints", target=the_driving)
    start = "motion AKD" if relative else "AKD"
    return (
        measure(start, _plain(AKD, relative=relative)),
        measure(f"{start} (Euclidean)", _plain(AKD, distance="euclidean", relative=relative)),
        measure("MKR", _plain(MKR)),
    )


def identity_measures(target: Callable[[Case], np.ndarray]) -> tuple[Measure, ...]:
    """AED in all three definitions."""
    measure = partial(Measure, view="identity", target=target)
    return (
        measure("AED", _plain(AED)),
        measure("AED (squared)", _plain(AED, distance="squared")),
        measure("AED (mean absolute)", _plain(AED, distance="mean_absolute")),
    )


INCEPTION_MEASURES = (Measure("FID", _fid, "inception", the_driving, per_case=False),)


class Views:
    """What the sources see in frames; what the targets show is looked at once for all models.

    Args:
        networks: sources by name, see `networks.NEEDS`.
    """

    def __init__(self, networks: Mapping[str, Source]):
        self.networks = networks
        self._case: Case | None = None
        self._known: dict[tuple[str, Callable[[Case], np.ndarray]], Tensor] = {}

    def has(self, name: str) -> bool:
        """Whether this view can be had."""
        return name == "pixels" or name in self.networks

    def see(self, name: str, frames: np.ndarray) -> Tensor:
        """T x 3 x H x W in [0, 1], or what the network says."""
        return torch.from_numpy(media.to_float(frames)) if name == "pixels" else self.networks[name](frames)

    def of_target(self, measure: Measure, case: Case) -> Tensor:
        """The view of what the case asks for."""
        if case is not self._case:
            self._case, self._known = case, {}
        key = (measure.view, measure.target)
        if key not in self._known:
            self._known[key] = self.see(measure.view, measure.target(case))
        return self._known[key]


def add_case(
    metrics: Mapping[str, Metric], measures: Sequence[Measure], views: Views, case: Case, made: np.ndarray
) -> dict[str, float | None]:
    """Add one case to the metrics and return its own numbers (None where it gives none).

    Args:
        metrics: by the measures' names.
        measures: the columns.
        views: the sources.
        case: what was asked.
        made: the answer, T x H x W x 3 `uint8`.
    """
    seen: dict[str, Tensor] = {}
    row: dict[str, float | None] = {}
    for measure in measures:
        if not measure.applies(case):
            row[measure.name] = None
            continue
        if measure.view not in seen:
            seen[measure.view] = views.see(measure.view, made)
        found = arguments(measure, views, Answered(case, made, seen[measure.view]))
        if found is None:
            row[measure.name] = None
        elif measure.per_case:
            row[measure.name] = number(metrics[measure.name](*found))
        else:
            metrics[measure.name].update(*found)
    return row


def arguments(measure: Measure, views: Views, answered: Answered) -> tuple[Any, ...] | None:
    """What a measure's metric is given of an answer; None if the case gives it no number."""
    if measure.take is not None:
        return measure.take(answered)
    return answered.seen, views.of_target(measure, answered.case)


def number(value: Tensor) -> float | None:
    """A metric's value for JSON, which knows no NaN."""
    found = float(value)
    return found if math.isfinite(found) else None
