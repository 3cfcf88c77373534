"""Base classes of metrics that are means: over clips, over frames, or over any values."""

from __future__ import annotations

from abc import abstractmethod
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


class ClipMean(MeanOfValues):
    """Mean over clips of the mean over each clip's frames, as in the papers' evaluation code."""

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
        self.add(self.per_frame(preds.float(), target.float()).mean())


class FrameMean(MeanOfValues):
    """Mean over the frames of all clips, so long clips weigh more; a frame without a value is left out."""

    @abstractmethod
    def per_frame(self, preds: Tensor, target: Tensor) -> Tensor:
        """The values (float64) of those frames that have one."""

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add one clip."""
        self.add(self.per_frame(preds.double(), target.double()))


def check_frames(preds: Tensor, target: Tensor) -> None:
    """Raise `ValueError` unless both are T x 3 x H x W."""
    if preds.shape != target.shape or preds.ndim != 4 or preds.shape[1] != 3:
        raise ValueError(f"Clips must both be T x 3 x H x W, not {tuple(preds.shape)} and {tuple(target.shape)}.")


def shapes(*tensors: Tensor) -> str:
    """Shapes for a message."""
    return ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
