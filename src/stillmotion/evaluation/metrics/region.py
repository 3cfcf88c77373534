"""Metrics inside a region of each frame, where an animation is sharp or blurred: L1, gradient error, sharpness.

Over a whole picture, most of which does not move, a copied still has a low error and a high sharpness.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F

from stillmotion.evaluation.metrics.base import MeanOfValues, check_frames


class RegionMean(MeanOfValues):
    """Mean over frames of a value inside a region; a frame without a pixel of it is left out."""

    @staticmethod
    @abstractmethod
    def values(preds: Tensor, target: Tensor, region: Tensor) -> Tensor:
        """A value per frame, T, of T x 3 x H x W in [0, 1] and a region T x H x W, of which no frame is empty."""

    def update(self, preds: Tensor, target: Tensor, region: Tensor) -> None:
        """Add one clip.

        Args:
            preds: predicted frames, T x 3 x H x W in [0, 1].
            target: of the same shape.
            region: T x H x W, `bool`.

        Raises:
            ValueError: the shapes do not fit.
        """
        check_frames(preds, target)
        if region.shape != (len(preds), *preds.shape[2:]):
            raise ValueError(
                f"The region of {tuple(preds.shape)} frames must be T x H x W, not {tuple(region.shape)}."
            )
        some = region.flatten(1).any(1)
        if some.any():
            self.add(self.values(preds[some].float(), target[some].float(), region[some]))


class RegionL1(RegionMean):
    """Mean absolute error of the region's pixels and channels."""

    definition = "mean absolute pixel error in [0, 1] inside the region, over frames that have it; lower is better"

    @staticmethod
    def values(preds: Tensor, target: Tensor, region: Tensor) -> Tensor:
        """Mean absolute error, T."""
        return mean_inside((preds - target).abs().mean(1), region)


class RegionGradientError(RegionMean):
    """Mean absolute error of both Sobel gradients; a lost or a doubled contour costs most."""

    definition = (
        "mean absolute error of the Sobel gradients (per pixel, in [0, 1]) inside the region, over frames that have "
        "it; lower is better"
    )

    @staticmethod
    def values(preds: Tensor, target: Tensor, region: Tensor) -> Tensor:
        """Mean absolute error of the gradients, T."""
        return mean_inside((sobel(preds) - sobel(target)).abs().mean((1, 2)), region)


class RegionSharpness(RegionMean):
    """Mean gradient magnitude over that of the target: 1 is as sharp, less is blurred, more has false edges."""

    definition = (
        "mean gradient magnitude (Sobel) inside the region over that of the target, over frames that have it; 1 is "
        "best, less is blurred"
    )

    @staticmethod
    def values(preds: Tensor, target: Tensor, region: Tensor) -> Tensor:
        """Ratio of the mean magnitudes, T."""
        made, true = (mean_inside(sobel(frames).norm(dim=1).mean(1), region) for frames in (preds, target))
        return made / true.clamp_min(1e-6)


def sobel(frames: Tensor) -> Tensor:
    """Horizontal and vertical Sobel gradient per pixel; T x C x H x W to T x 2 x C x H x W, borders repeated."""
    smooth, slope = frames.new_tensor([1.0, 2.0, 1.0]) / 4, frames.new_tensor([-1.0, 0.0, 1.0]) / 2
    kernels = torch.stack([smooth[:, None] * slope, slope[:, None] * smooth])[:, None]  # 2 x 1 x 3 x 3
    count, channels, *size = frames.shape
    padded = F.pad(frames.reshape(count * channels, 1, *size), (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, kernels).view(count, channels, 2, *size).transpose(1, 2)


def mean_inside(values: Tensor, region: Tensor) -> Tensor:
    """The mean of T x H x W values inside each frame's region; T."""
    return (values * region).sum((1, 2)) / region.sum((1, 2))
