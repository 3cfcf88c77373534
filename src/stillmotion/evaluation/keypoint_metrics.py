"""Metrics on points that a detector finds in real and in made frames: AKD and MKR.

Points are N x K x 3: (x, y) in pixels of the frame, and 1 where the point was found, 0 where it was not. The
papers' evaluation code takes a number per frame, then the mean over all frames of all clips, so long clips
weigh more here than in L1.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class FrameMean(Metric):
    """Mean over the frames of all clips; a frame may give no number and is then left out.

    Subclasses define `of_frames`. `update` takes one clip.
    """

    full_state_update = False
    higher_is_better = False
    definition = ""
    total: Tensor
    frames: Tensor

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("frames", torch.tensor(0), dist_reduce_fx="sum")

    @abstractmethod
    def of_frames(self, made: Tensor, real: Tensor) -> Tensor:
        """The numbers (float64) of those frames that give one."""

    def update(self, made: Tensor, real: Tensor) -> None:
        """Add one clip."""
        values = self.of_frames(made.double(), real.double())
        self.total += values.sum()
        self.frames += len(values)

    def compute(self) -> Tensor:
        """The mean so far; NaN if no frame gave a number."""
        return (self.total / self.frames).float()


DISTANCES = ("mean_absolute", "euclidean")


class AKD(FrameMean):
    """Average keypoint distance: how far the points of made frames are from those of the real ones, in pixels.

    Args:
        distance: `mean_absolute`, as the reference code of Monkey-Net: the mean of |dx| and |dy|, which is at
            most the Euclidean distance over sqrt(2) and at least half of it; or `euclidean`, as the paper's text
            reads.
        relative: compare how the points moved since the clip's first frame instead of where they are; for
            relative transfer, where the places differ by intent. The first frame then gives no number.
    """

    def __init__(self, distance: str = "mean_absolute", relative: bool = False, **options: Any):
        super().__init__(**options)
        if distance not in DISTANCES:
            raise ValueError(f"distance must be one of {', '.join(DISTANCES)}, not {distance!r}.")
        self.distance, self.relative = distance, relative
        what = "mean of |dx| and |dy|" if distance == "mean_absolute" else "Euclidean distance"
        moved = " of the points' motion since the first frame" if relative else ""
        self.definition = (
            f"{what}{moved} in pixels of the frame, over the points found in both the made and the real frame, then "
            "over all frames with such points; lower is better"
        )

    def of_frames(self, made: Tensor, real: Tensor) -> Tensor:
        """Mean over the points found in both."""
        _check_points(made, real)
        both = (made[..., 2] > 0) & (real[..., 2] > 0)
        difference = made[..., :2] - real[..., :2]
        if self.relative:
            both = both[1:] & both[:1]
            difference = difference[1:] - difference[:1]
        each = difference.abs().mean(-1) if self.distance == "mean_absolute" else difference.norm(dim=-1)
        # Points that were not found may hold NaN, which times 0 is still NaN.
        sums = torch.where(both, each, 0.0).sum(-1)
        counts = both.sum(-1)
        return sums[counts > 0] / counts[counts > 0]


class MKR(FrameMean):
    """Missing keypoint rate: the share of the real frame's points that are not found in the made frame."""

    definition = (
        "share, 0 to 1, of the points found in the real frame that are not found in the made frame, then over all "
        "frames with a point in the real one; lower is better"
    )

    def of_frames(self, made: Tensor, real: Tensor) -> Tensor:
        """Share per frame with at least one real point."""
        _check_points(made, real)
        expected = real[..., 2] > 0
        missing = (expected & ~(made[..., 2] > 0)).sum(-1)
        counts = expected.sum(-1)
        return missing[counts > 0].double() / counts[counts > 0]


def _check_points(made: Tensor, real: Tensor) -> None:
    if made.shape != real.shape or made.ndim != 3 or made.shape[2] != 3:
        raise ValueError(f"Points must both be N x K x 3, not {tuple(made.shape)} and {tuple(real.shape)}.")
