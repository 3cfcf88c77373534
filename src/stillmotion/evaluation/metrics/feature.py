"""Metrics on features of other networks: AED, identity accuracy, LPIPS, and Frechet distances (FID, FVD)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from stillmotion.evaluation.metrics.base import FrameMean, MeanOfValues, shapes

_AED = {
    "euclidean": "Euclidean distance",
    "squared": "sum of squared differences",
    "mean_absolute": "mean absolute difference",
}


class AED(FrameMean):
    """Average Euclidean distance of identity features.

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
            f"{_AED[distance]} between the identity features of the predicted and the target frame, over all frames; "
            "lower is better"
        )

    def per_frame(self, preds: Tensor, target: Tensor) -> Tensor:
        """A distance per frame; preds N x D, target N x D, or 1 x D to compare every frame with the same one."""
        if preds.ndim != 2 or preds.shape[1:] != target.shape[1:] or len(target) not in (1, len(preds)):
            raise ValueError(f"Features must be N x D and N x D or 1 x D, not {shapes(preds, target)}.")
        difference = preds - target
        if self.distance == "euclidean":
            return difference.norm(dim=1)
        return difference.square().sum(1) if self.distance == "squared" else difference.abs().mean(1)


class LPIPS(FrameMean):
    """Learned perceptual image patch similarity: squared distance of `extractors.lpips.LPIPSNetwork`.

    Args:
        with_still: count each clip's frame 0; see `ClipMean`.
    """

    definition = (
        "learned perceptual image patch similarity (Zhang et al., 2018, version 0.1) of the predicted and the target "
        "frame, over all frames with frame 0; lower is better"
    )

    def __init__(self, with_still: bool = True, **options: Any):
        super().__init__(**options)
        self.with_still = with_still
        if not with_still:
            self.definition = self.definition.replace("with frame 0", "without frame 0 (the still)")

    def per_frame(self, preds: Tensor, target: Tensor) -> Tensor:
        """A distance per frame; T x D each."""
        if preds.shape != target.shape or preds.ndim != 2:
            raise ValueError(f"Features must both be T x D, not {shapes(preds, target)}.")
        return (preds - target).square().sum(dim=1)[0 if self.with_still else 1 :]


class IdentityAccuracy(MeanOfValues):
    """Rank-1 identification: percent of frames whose nearest gallery identity is the right one."""

    definition = (
        "percent of frames whose features are nearer (Euclidean) to those of the right identity than to any other's; "
        "a tie is wrong; higher is better, and chance is 100 over the number of identities"
    )
    higher_is_better = True

    def update(self, features: Tensor, gallery: Tensor, label: Tensor) -> None:
        """Add frames: features, N x D; one row per identity, M x D; the right row of each frame, N whole numbers."""
        sizes = features.shape[1:] == gallery.shape[1:] and features.ndim == 2 and len(gallery) >= 2
        if not sizes or label.shape != features.shape[:1]:
            raise ValueError(
                "Features must be N x D, M x D with two rows or more, and N numbers, not "
                f"{shapes(features, gallery, label)}."
            )
        distance = (features.double()[:, None] - gallery.double()).norm(dim=-1)
        own = distance.gather(1, label[:, None].long())[:, 0]
        others = distance.scatter(1, label[:, None].long(), torch.inf).amin(dim=1)
        self.add(100.0 * (own < others))


class FrechetDistance(FrechetInceptionDistance):
    """Frechet distance between gaussians fitted to predicted and target features: FID of frames, FVD of videos.

    Mean and covariance are running sums in float64, so no features are kept and processes merge exactly.

    Args:
        dimension: features per frame or video.
        per_video: whether a feature vector describes a whole video; else a frame.
    """

    higher_is_better = False

    def __init__(self, dimension: int = 2048, per_video: bool = False, **options: Any):
        super().__init__(feature=_Passthrough(dimension), **options)
        self.per_video = per_video

    @property
    def definition(self) -> str:
        """What it is, with the numbers of frames or videos added so far."""
        dimension, unit = self.inception.num_features, "videos" if self.per_video else "frames"
        added = (
            f" ({int(self.fake_features_num_samples)} and {int(self.real_features_num_samples)} here)"
            if self.update_called
            else ""
        )
        return (
            f"Frechet distance between gaussians fitted to the {dimension} features of all predicted and of all "
            f"target {unit}{added}; it falls as {unit} are added, so compare only equal numbers of them (below "
            f"{dimension} {unit} the covariance has no full rank); lower is better"
        )

    def update(self, preds: Tensor, target: Tensor) -> None:  # type: ignore[override]
        """Add features, N x D and M x D; either may have no row."""
        dimension = self.inception.num_features
        if preds.ndim != 2 or target.ndim != 2 or {preds.shape[1], target.shape[1]} != {dimension}:
            raise ValueError(f"Features must be N x {dimension}, not {shapes(preds, target)}.")
        # A float32 result would lose what float64 sums kept.
        super().update(preds.double(), real=False)
        super().update(target.double(), real=True)

    def compute(self) -> Tensor:
        """The distance; NaN for fewer than two rows on a side, which have no covariance."""
        if min(self.fake_features_num_samples, self.real_features_num_samples) < 2:
            return torch.tensor(torch.nan)
        return super().compute().clamp_min(0)  # rounding may leave a negative number


class _Passthrough(nn.Module):
    """Takes the place of torchmetrics' Inception network: features are computed once for all metrics."""

    def __init__(self, dimension: int):
        super().__init__()
        self.num_features = dimension

    def forward(self, features: Tensor) -> Tensor:
        return features
