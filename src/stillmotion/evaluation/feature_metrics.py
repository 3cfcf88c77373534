"""Metrics on features that another network computes from frames: AED (identity) and FID (Inception)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from stillmotion.evaluation.keypoint_metrics import FrameMean

_AED = {
    "euclidean": "Euclidean distance",
    "squared": "sum of squared differences",
    "mean_absolute": "mean absolute difference",
}


class AED(FrameMean):
    """Average distance of identity features: how much a made frame shows somebody else.

    Args:
        distance: `euclidean`, as the paper's text; `squared`, the sum of squared differences of the newest
            reference code; or `mean_absolute`, the mean absolute difference of the older one. Which of them made
            the published tables is not known, and they differ by orders of magnitude.
    """

    def __init__(self, distance: str = "euclidean", **options: Any):
        super().__init__(**options)
        if distance not in _AED:
            raise ValueError(f"distance must be one of {', '.join(_AED)}, not {distance!r}.")
        self.distance = distance
        self.definition = (
            f"{_AED[distance]} between the identity features of the made and the real frame, over all frames; "
            "lower is better"
        )

    def of_frames(self, made: Tensor, real: Tensor) -> Tensor:
        """One distance per frame; made N x D, real N x D, or 1 x D to compare every frame with the same one."""
        if made.ndim != 2 or real.ndim != 2 or made.shape[1] != real.shape[1] or len(real) not in (1, len(made)):
            raise ValueError(
                f"Features must be N x D and N x D or 1 x D, not {tuple(made.shape)} and {tuple(real.shape)}."
            )
        difference = made - real
        if self.distance == "euclidean":
            return difference.norm(dim=1)
        return difference.square().sum(1) if self.distance == "squared" else difference.abs().mean(1)


class FID(FrechetInceptionDistance):
    """Frechet distance between gaussians fitted to the features of all made and of all real frames.

    Mean and covariance are running sums in float64, so no features are kept and processes merge exactly.

    Args:
        dimension: how many features a frame has.
    """

    higher_is_better = False

    def __init__(self, dimension: int = 2048, **options: Any):
        super().__init__(feature=_AsTheyAre(dimension), **options)
        self.definition = (
            f"Frechet distance between gaussians fitted to the {dimension} features of all made and of all real "
            "frames; it shrinks as frames are added, so compare only equal numbers of them (below "
            f"{dimension} frames the covariance has no full rank); lower is better"
        )

    def update(self, made: Tensor, real: Tensor) -> None:  # type: ignore[override]
        """Add the features of some frames, N x D each; the numbers of frames may differ."""
        dimension = self.inception.num_features
        if made.ndim != 2 or real.ndim != 2 or {made.shape[1], real.shape[1]} != {dimension}:
            raise ValueError(f"Features must be N x {dimension}, not {tuple(made.shape)} and {tuple(real.shape)}.")
        # A float32 result would lose what float64 sums kept.
        super().update(made.double(), real=False)
        super().update(real.double(), real=True)

    def compute(self) -> Tensor:
        """The distance; NaN for fewer than two frames, which have no covariance."""
        if min(self.fake_features_num_samples, self.real_features_num_samples) < 2:
            return torch.tensor(torch.nan)
        return super().compute().clamp_min(0)  # rounding may leave less than nothing


class _AsTheyAre(nn.Module):
    """Stands where torchmetrics expects the Inception network: our features are computed once for all metrics."""

    def __init__(self, dimension: int):
        super().__init__()
        self.num_features = dimension

    def forward(self, features: Tensor) -> Tensor:
        return features
