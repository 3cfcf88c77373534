"""Pixel metrics on float RGB frames in [0, 1]: L1, MSE, PSNR and SSIM, a mean per clip first, then over clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from stillmotion.evaluation.metrics.base import ClipMean

PSNR_CAP = 60.0  # identical frames have no finite PSNR; it is capped here (dB)


class L1(ClipMean):
    """Mean absolute error over all pixels, channels and frames of a clip, frame 0 included."""

    definition = "mean absolute pixel error in [0, 1], per clip with frame 0, then over clips; lower is better"

    @staticmethod
    def per_frame(preds: Tensor, target: Tensor) -> Tensor:
        """Mean absolute error, T."""
        return (preds - target).abs().mean(dim=(1, 2, 3))


class MSE(ClipMean):
    """Mean squared error over all pixels, channels and frames of a clip, frame 0 included."""

    definition = "mean squared pixel error in [0, 1], per clip with frame 0, then over clips; lower is better"

    @staticmethod
    def per_frame(preds: Tensor, target: Tensor) -> Tensor:
        """Mean squared error, T."""
        return (preds - target).square().mean(dim=(1, 2, 3))


class PSNR(ClipMean):
    """Peak signal-to-noise ratio per frame in dB, capped at 60, averaged over a clip's frames."""

    definition = (
        "peak signal-to-noise ratio in dB per frame (at most 60), per clip, then over clips; higher is better"
    )
    higher_is_better = True

    @staticmethod
    def per_frame(preds: Tensor, target: Tensor) -> Tensor:
        """PSNR in dB, T."""
        each = peak_signal_noise_ratio(preds, target, data_range=1.0, reduction="none", dim=(1, 2, 3))
        return torch.nan_to_num(each, posinf=PSNR_CAP).clamp(max=PSNR_CAP).reshape(-1)


class SSIM(ClipMean):
    """Structural similarity (gaussian window of 11, sigma 1.5) per frame, averaged over a clip's frames."""

    definition = "structural similarity, gaussian window 11 / sigma 1.5, per clip, then over clips; higher is better"
    higher_is_better = True

    @staticmethod
    def per_frame(preds: Tensor, target: Tensor) -> Tensor:
        """SSIM, T."""
        value = structural_similarity_index_measure(preds, target, data_range=1.0, reduction="none")
        assert isinstance(value, Tensor)
        return value.reshape(-1)


PIXEL_METRICS: Mapping[str, Callable[[], ClipMean]] = {"L1": L1, "PSNR": PSNR, "SSIM": SSIM}
"""The columns of every report that compares pixels."""
