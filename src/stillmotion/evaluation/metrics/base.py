"""Metrics that are means or ratios of sums: over clips, frames, any values, or cases with several predictions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class MeanOfValues(Metric):
    """Mean of all values that were added, summed in float64; NaN if there was none. Subclasses define `update`.

    Args:
        definition: replaces the class's own sentence.
    """

    full_state_update = False
    higher_is_better = False
    definition = ""
    total: Tensor
    count: Tensor

    def __init__(self, definition: str | None = None, **options: Any):
        super().__init__(**options)
        self.definition = definition or self.definition
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def add(self, values: Tensor) -> None:
        """Add each of the values."""
        self.total += values.double().sum()
        self.count += values.numel()

    def compute(self) -> Tensor:
        """The mean so far."""
        return (self.total / self.count).float()


class RatioOfSums(Metric):
    """A sum over all cases divided by another sum over all cases; NaN if the latter is 0. Subclasses define `update`.

    A mean of ratios would let the cases decide in which next to nothing moves, whose ratios are arbitrarily large.

    Args:
        definition: replaces the class's own sentence.
    """

    full_state_update = False
    higher_is_better = False
    definition = ""
    numerator: Tensor
    denominator: Tensor

    def __init__(self, definition: str | None = None, **options: Any):
        super().__init__(**options)
        self.definition = definition or self.definition
        for name in ("numerator", "denominator"):
            self.add_state(name, torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

    def add(self, numerator: Tensor, denominator: Tensor) -> None:
        """Add to both sums; one number each."""
        self.numerator += numerator
        self.denominator += denominator

    def compute(self) -> Tensor:
        """The ratio so far."""
        return torch.where(self.denominator > 0, self.numerator / self.denominator, torch.nan).float()


class ClipMean(MeanOfValues):
    """Mean over clips of the mean over each clip's frames, as in the papers' evaluation code.

    Args:
        with_still: count frame 0. Without it a metric is "averaged over the predicted frames": where frame 0 is the
            still itself, it has no error and only dilutes that of the others.
    """

    def __init__(self, with_still: bool = True, **options: Any):
        super().__init__(**options)
        self.with_still = with_still
        if not with_still:
            self.definition = self.definition.replace("with frame 0", "without frame 0 (the still)")

    @staticmethod
    @abstractmethod
    def per_frame(preds: Tensor, target: Tensor) -> Tensor:
        """A value per frame, T, of frames T x 3 x H x W in [0, 1]."""

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add one clip: predicted and target frames, T x 3 x H x W in [0, 1].

        Raises:
            ValueError: the shapes differ or are not T x 3 x H x W.
        """
        check_frames(preds, target)
        first = 0 if self.with_still else 1
        self.add(self.per_frame(preds[first:].float(), target[first:].float()).mean())


class FrameMean(MeanOfValues):
    """Mean over the frames of all clips, so long clips weigh more; a frame without a value is left out."""

    @abstractmethod
    def per_frame(self, preds: Tensor, target: Tensor) -> Tensor:
        """The values (float64) of those frames that have one."""

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add one clip."""
        self.add(self.per_frame(preds.double(), target.double()))


class BestOfSamples(MeanOfValues):
    """Mean over cases of a metric's value on the case's best sample.

    Args:
        metric: evaluates each sample; its `higher_is_better` says which is best.
    """

    def __init__(self, metric: Metric, **options: Any):
        super().__init__(f"on the best of a case's samples: {metric.definition}", **options)
        self.metric = metric

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]
        """As of the metric."""
        return bool(self.metric.higher_is_better)

    def update(self, samples: Sequence[tuple[Any, ...]]) -> None:
        """Add a case: the metric's arguments for each of its samples."""
        values = torch.tensor([_value(self.metric, *arguments) for arguments in samples], dtype=torch.float64)
        values = values[values.isfinite()]
        if len(values):
            self.add(values.max() if self.higher_is_better else values.min())


class SampleDiversity(MeanOfValues):
    """Mean distance between all pairs of a case's samples, then over cases; 0 for a deterministic model.

    Args:
        metric: the distance of two predictions, such as `MSE()` or `LPIPS()`.
    """

    higher_is_better = True

    def __init__(self, metric: Metric, **options: Any):
        distance = str(metric.definition).removesuffix("; lower is better")
        super().__init__(f"over all pairs of a case's samples: {distance}; higher is more diverse", **options)
        self.metric = metric

    def update(self, samples: Sequence[tuple[Any, ...]]) -> None:
        """Add a case: the metric's arguments for each of its samples, of which only the first (`preds`) is used."""
        values = [_value(self.metric, one[0], other[0]) for one, other in combinations(samples, 2)]
        if values:
            self.add(torch.tensor(values, dtype=torch.float64).mean())


def _value(metric: Metric, *arguments: Any) -> float:
    metric.reset()
    metric.update(*arguments)
    return float(metric.compute())


def check_frames(preds: Tensor, target: Tensor) -> None:
    """Raise `ValueError` unless both are T x 3 x H x W."""
    if preds.shape != target.shape or preds.ndim != 4 or preds.shape[1] != 3:
        raise ValueError(f"Clips must both be T x 3 x H x W, not {tuple(preds.shape)} and {tuple(target.shape)}.")


def shapes(*tensors: Tensor) -> str:
    """Shapes for a message."""
    return ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
