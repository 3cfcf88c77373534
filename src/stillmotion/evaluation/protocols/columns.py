"""Columns of a report: a metric, what it is given of a prediction, and the cases it applies to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from stillmotion import media
from stillmotion.data.clip import Clip
from stillmotion.evaluation.extractors.base import FeatureExtractor
from stillmotion.evaluation.metrics.base import BestOfSamples, SampleDiversity
from stillmotion.evaluation.metrics.curves import Curve
from stillmotion.evaluation.metrics.feature import AED, LPIPS, FrechetDistance
from stillmotion.evaluation.metrics.keypoint import AKD, MKR
from stillmotion.evaluation.metrics.pixel import PIXEL_METRICS

PIXELS = "pixels"  # in the place of an extractor: the frames themselves, T x 3 x H x W in [0, 1]


@dataclass(frozen=True, eq=False)
class Case:
    """One input to a model and what it is compared with."""

    name: str  # of its picture and its row
    still: np.ndarray  # H x W x 3, `uint8`
    target: np.ndarray  # T x H x W x 3, `uint8`: the frames that a prediction has the length and size of
    clip: Clip  # the clip whose tracks and meta describe the case; the control is made of it


def target_frames(case: Case) -> np.ndarray:
    """Predictions are compared with the target frames."""
    return case.target


def still_frame(case: Case) -> np.ndarray:
    """Every predicted frame is compared with the still; 1 x H x W x 3."""
    return case.still[None]


class FeatureCache:
    """Features of frames; those that a case compares with are computed once for all models.

    Args:
        extractors: by name, see `extractors.EXTRACTORS`.
    """

    def __init__(self, extractors: Mapping[str, FeatureExtractor]):
        self.extractors = extractors
        self._case: Case | None = None
        self._found: dict[tuple[str, Callable[[Case], np.ndarray]], Tensor] = {}

    def has(self, extractor: str) -> bool:
        """Whether these features can be computed."""
        return extractor == PIXELS or extractor in self.extractors

    def features(self, extractor: str, frames: np.ndarray) -> Tensor:
        """T x 3 x H x W in [0, 1], or what the extractor gives."""
        return torch.from_numpy(media.to_float(frames)) if extractor == PIXELS else self.extractors[extractor](frames)

    def reference(self, extractor: str, case: Case, frames: Callable[[Case], np.ndarray]) -> Tensor:
        """Features of the frames that predictions are compared with."""
        if case is not self._case:
            self._case, self._found = case, {}
        key = (extractor, frames)
        if key not in self._found:
            self._found[key] = self.features(extractor, frames(case))
        return self._found[key]


@dataclass(frozen=True, eq=False)
class Sample:
    """What a predictor gives where frames alone are not enough."""

    frames: np.ndarray  # T x H x W x 3 `uint8`
    facts: Mapping[str, np.ndarray]  # the numbers behind the frames by name, T x ... each; see `systems.base.Step`


@dataclass(frozen=True, eq=False)
class Prediction:
    """One sample of a model for a case; its features are computed on first use."""

    case: Case  # the input
    frames: np.ndarray  # T x H x W x 3 `uint8`
    cache: FeatureCache  # computes features
    facts: Mapping[str, np.ndarray] = field(default_factory=dict)  # see `Sample`; none from most predictors
    _features: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def features(self, extractor: str) -> Tensor:
        """Features of the predicted frames."""
        if extractor not in self._features:
            self._features[extractor] = self.cache.features(extractor, self.frames)
        return self._features[extractor]


@dataclass(frozen=True)
class Column:
    """A column of a report."""

    name: str  # its heading
    build: Callable[[FeatureExtractor | None], Metric]  # makes the metric, given the extractor (None for pixels)
    extractor: str = PIXELS  # `PIXELS`, or the name of the extractor whose features are compared
    reference: Callable[[Case], np.ndarray] = target_frames  # the frames that predictions are compared with
    # The metric's arguments for a prediction, None where the case has no value; without it they are the features of
    # the predicted and of the reference frames.
    inputs: Callable[[Prediction], tuple[Any, ...] | None] | None = None
    applies: Callable[[Case], bool] = lambda case: True  # whether a case has a value at all
    per_case: bool = True  # False for distances between distributions, which mean nothing for a single case
    # Whether the metric's only argument is the list of the inputs of all samples; else every sample is one update.
    over_samples: bool = False

    def arguments(self, prediction: Prediction) -> tuple[Any, ...] | None:
        """What the metric is given of one prediction; None if the case has no value."""
        if not self.applies(prediction.case):
            return None
        if self.inputs is not None:
            return self.inputs(prediction)
        reference = prediction.cache.reference(self.extractor, prediction.case, self.reference)
        return prediction.features(self.extractor), reference

    def update(self, metric: Metric, samples: Sequence[tuple[Any, ...]]) -> float | None:
        """Update the metric with a case's samples and return the case's own value (a mean over samples)."""
        if not samples:
            return None
        if self.over_samples:
            return finite(metric(samples))
        if self.per_case:
            values = [value for sample in samples if (value := finite(metric(*sample))) is not None]
            return sum(values) / len(values) if values else None
        for number, (preds, target) in enumerate(samples):
            # The target distribution does not grow with the number of samples.
            metric.update(preds, target if number == 0 else target[:0])
        return None


def add_case(
    metrics: Mapping[str, Metric],
    columns: Sequence[Column],
    cache: FeatureCache,
    case: Case,
    samples: Sequence[np.ndarray | Sample],
    curves: Iterable[Curve] = (),
) -> dict[str, float | None]:
    """Add one case to the metrics (by the columns' names) and return its own values, None where it has none.

    The samples are the predictions, T x H x W x 3 `uint8` each, with or without facts; they are added to the curves.
    """
    inputs: dict[str, list[tuple[Any, ...]]] = {column.name: [] for column in columns}
    for sample in samples:
        facts = sample.facts if isinstance(sample, Sample) else {}
        prediction = Prediction(case, frames_of(sample), cache, facts)
        for column in columns:
            if (arguments := column.arguments(prediction)) is not None:
                inputs[column.name].append(arguments)
        for curve in curves:
            reference = cache.reference(curve.extractor, case, target_frames)
            curve.update(prediction.features(curve.extractor), reference)
    row = {column.name: column.update(metrics[column.name], inputs[column.name]) for column in columns}
    return {column.name: row[column.name] for column in columns if column.per_case}


def frames_of(sample: np.ndarray | Sample) -> np.ndarray:
    """The frames of a prediction with or without facts."""
    return sample.frames if isinstance(sample, Sample) else sample


def finite(value: Tensor) -> float | None:
    """A metric's value for JSON, which has no NaN."""
    number = float(value)
    return number if math.isfinite(number) else None


# --- columns that several protocols have ---------------------------------------------------------------------------


def metric(kind: Callable[..., Metric], /, **options: Any) -> Callable[[FeatureExtractor | None], Metric]:
    """For `Column.build`: a metric that does not depend on the extractor."""
    return lambda extractor: kind(**options)


def pixel_columns() -> tuple[Column, ...]:
    """L1, PSNR, SSIM against the target."""
    return tuple(Column(name, metric(kind)) for name, kind in PIXEL_METRICS.items())


def keypoint_columns(relative: bool = False) -> tuple[Column, ...]:
    """AKD in both definitions and MKR, against the target."""
    name = "motion AKD" if relative else "AKD"
    return (
        Column(name, metric(AKD, relative=relative), "keypoints"),
        Column(f"{name} (Euclidean)", metric(AKD, distance="euclidean", relative=relative), "keypoints"),
        Column("MKR", metric(MKR), "keypoints"),
    )


def identity_columns(reference: Callable[[Case], np.ndarray]) -> tuple[Column, ...]:
    """AED in all three definitions."""
    return (
        Column("AED", metric(AED), "identity", reference),
        Column("AED (squared)", metric(AED, distance="squared"), "identity", reference),
        Column("AED (mean absolute)", metric(AED, distance="mean_absolute"), "identity", reference),
    )


def frechet_column(name: str, extractor: str) -> Column:
    """A Frechet distance between all predictions and all targets: FID or FVD, as the extractor's features are."""

    def build(source: FeatureExtractor | None) -> Metric:
        assert source is not None
        return FrechetDistance(source.dimension, source.per_video)

    return Column(name, build, extractor, per_case=False)


FID_COLUMN = frechet_column("FID", "inception")
FVD_COLUMN = frechet_column("FVD", "i3d")
WORLD_FVD_COLUMN = frechet_column("Frechet video distance (world network)", "video")
LPIPS_COLUMN = Column("LPIPS", metric(LPIPS), "lpips")


def best_of_samples(column: Column) -> Column:
    """The same metric on the best of each case's samples."""
    return _over_samples(column, f"{column.name} (best sample)", BestOfSamples)


def sample_diversity(column: Column) -> Column:
    """The same metric between the samples of each case instead of with the target, such as LPIPS or MSE."""
    return _over_samples(column, f"diversity ({column.name})", SampleDiversity)


def _over_samples(column: Column, name: str, kind: Callable[[Metric], Metric]) -> Column:
    return replace(column, name=name, build=lambda source: kind(column.build(source)), over_samples=True)
