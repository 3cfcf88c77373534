"""Pixel metrics on float RGB frames in [0, 1]: L1, MSE, PSNR and SSIM, a mean per clip first, then over clips.

`BatchPSNR` and `BatchSSIM` are averaged as in the code of Blattmann et al. (CVPR 2021) instead: a value per batch of
clips, with the data range of that batch.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure
from torchmetrics.utilities import dim_zero_cat

from stillmotion.evaluation.metrics.base import ClipMean, check_frames

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
        "peak signal-to-noise ratio in dB per frame (at most 60), per clip with frame 0, then over clips; higher is "
        "better"
    )
    higher_is_better = True

    @staticmethod
    def per_frame(preds: Tensor, target: Tensor) -> Tensor:
        """PSNR in dB, T."""
        each = peak_signal_noise_ratio(preds, target, data_range=1.0, reduction="none", dim=(1, 2, 3))
        return torch.nan_to_num(each, posinf=PSNR_CAP).clamp(max=PSNR_CAP).reshape(-1)


class SSIM(ClipMean):
    """Structural similarity (gaussian window of 11, sigma 1.5) per frame, averaged over a clip's frames."""

    definition = (
        "structural similarity, gaussian window 11 / sigma 1.5, per clip with frame 0, then over clips; higher is "
        "better"
    )
    higher_is_better = True

    @staticmethod
    def per_frame(preds: Tensor, target: Tensor) -> Tensor:
        """SSIM, T."""
        return ssim_per_frame(preds, target, 1.0)


def ssim_per_frame(preds: Tensor, target: Tensor, data_range: float) -> Tensor:
    """SSIM of each frame, T (k 0.01 and 0.03; over the places where the whole window is inside the frame)."""
    value = structural_similarity_index_measure(preds, target, data_range=data_range, reduction="none")
    assert isinstance(value, Tensor)
    return value.reshape(-1)


class BatchMean(Metric):
    """Mean over batches of clips of one value per batch, computed on all of its frames but each clip's first.

    The value takes as data range the larger span (highest minus lowest value) of the predicted and the target frames
    of the batch, so it depends on which clips share one; a last, smaller batch weighs as much as the others. This is
    what the code of Blattmann et al. (CVPR 2021) reports, not what their text says.

    Args:
        batch: clips per batch.
    """

    full_state_update = True  # a case's own value must not end the batch that is being collected
    higher_is_better = True
    what = ""
    total: Tensor
    count: Tensor
    preds: list[Tensor]
    target: list[Tensor]

    def __init__(self, batch: int = 16, **options: Any):
        super().__init__(**options)
        self.batch = batch
        self.definition = (
            f"{self.what}, one value per batch of {batch} clips without frame 0 (the still), with the batch's own "
            "data range, then over batches; higher is better"
        )
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("preds", [], dist_reduce_fx="cat")
        self.add_state("target", [], dist_reduce_fx="cat")

    @staticmethod
    @abstractmethod
    def value(preds: Tensor, target: Tensor, data_range: float) -> Tensor:
        """The value of a batch: all of its frames, N x 3 x H x W each."""

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add one clip: predicted and target frames, T x 3 x H x W in [0, 1].

        Raises:
            ValueError: the shapes differ or are not T x 3 x H x W.
        """
        check_frames(preds, target)
        self.preds.append(preds[1:].float())
        self.target.append(target[1:].float())
        if len(self.preds) == self.batch:
            self.total += self._batch_value()
            self.count += 1
            self.preds, self.target = [], []

    def compute(self) -> Tensor:
        """The mean over all batches, the unfinished one among them; NaN if there is none."""
        if len(self.preds) == 0:
            return (self.total / self.count).float()
        return ((self.total + self._batch_value()) / (self.count + 1)).float()

    def _batch_value(self) -> Tensor:
        preds, target = dim_zero_cat(self.preds), dim_zero_cat(self.target)
        spans = [float(frames.max() - frames.min()) for frames in (preds, target)]
        return self.value(preds, target, max(*spans, 1 / 255)).double()


class BatchPSNR(BatchMean):
    """Peak signal-to-noise ratio of a batch: one mean squared error over all of its pixels."""

    what = f"peak signal-to-noise ratio in dB (at most {PSNR_CAP:g}) of one mean squared error"

    @staticmethod
    def value(preds: Tensor, target: Tensor, data_range: float) -> Tensor:
        """PSNR in dB."""
        return (10 * torch.log10(data_range**2 / (preds - target).square().mean())).clamp(max=PSNR_CAP)


class BatchSSIM(BatchMean):
    """Structural similarity of a batch: the mean over its frames."""

    what = "structural similarity, gaussian window 11 / sigma 1.5, mean over the frames"

    @staticmethod
    def value(preds: Tensor, target: Tensor, data_range: float) -> Tensor:
        """Mean SSIM."""
        return ssim_per_frame(preds, target, data_range).mean()


PIXEL_METRICS: Mapping[str, Callable[[], ClipMean]] = {"L1": L1, "PSNR": PSNR, "SSIM": SSIM}
"""The columns of every report that compares pixels."""
