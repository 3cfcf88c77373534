"""Metrics over several predictions (samples) of one case: best of K, and diversity."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch
from torchmetrics import Metric

from stillmotion.evaluation.metrics.base import MeanOfValues


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
