"""PSNR, SSIM and LPIPS averaged without the still, and per batch as in the code of Blattmann et al. (CVPR 2021)."""

import math

import pytest
import torch
from torch import Tensor

from stillmotion.evaluation.metrics.feature import LPIPS
from stillmotion.evaluation.metrics.pixel import PSNR, SSIM, BatchPSNR, BatchSSIM


def level(*values: float) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 3, 16, 16)


def test_metrics_without_the_still() -> None:
    preds, target = level(0.5, 0.6, 0.51), level(0.5, 0.5, 0.5)
    psnr, ssim, lpips = PSNR(with_still=False), SSIM(with_still=False), LPIPS(with_still=False)
    psnr.update(preds, target)
    assert psnr.compute().item() == pytest.approx((20 + 40) / 2, rel=1e-4)
    ssim.update(preds[:2], target[:2])
    assert ssim.compute().item() == pytest.approx((2 * 0.6 * 0.5 + 1e-4) / (0.36 + 0.25 + 1e-4), abs=1e-4)
    lpips.update(torch.tensor([[9.0], [1.0], [2.0]]), torch.zeros(3, 1))
    assert lpips.compute() == (1 + 4) / 2
    assert all("without frame 0" in metric.definition for metric in (psnr, ssim, lpips))
    assert "with frame 0" in PSNR().definition


def clip_off_by(error: float) -> tuple[Tensor, Tensor]:
    """Frame 0 is absurd, then two frames with values from 0 to 0.5, predicted too high by so much."""
    target = torch.zeros(3, 3, 16, 16)
    target[1:, :, :8] = 0.5 - error  # so that the predicted values span 0.5, and the true ones less
    preds = target.clone()
    preds[1:, :, :8] += error
    preds[0] = 1
    return preds, target


def test_psnr_of_batches_by_hand() -> None:
    """Half of the pixels are wrong by 0.05 (20 dB of a span of 0.5) in one clip of two, then 0.005 in a third."""
    metric = BatchPSNR(batch=2)
    metric(*clip_off_by(0.05))  # returns the case's own value and leaves the batches as they are
    assert metric.compute().item() == pytest.approx(20 + 10 * math.log10(2), rel=1e-4)
    metric(*clip_off_by(0.0))
    first = 20 + 10 * math.log10(4)
    assert metric.compute().item() == pytest.approx(first, rel=1e-4)
    alone = metric(*clip_off_by(0.005))
    assert alone.item() == pytest.approx(40 + 10 * math.log10(2), rel=1e-4)
    assert metric.compute().item() == pytest.approx((first + 40 + 10 * math.log10(2)) / 2, rel=1e-4)
    assert BatchPSNR()(*clip_off_by(0.0)) == 60
    assert "per batch of 16 clips" in BatchPSNR().definition


def test_ssim_of_batches_by_hand() -> None:
    """Flat frames have the luminance term alone; its constant comes from the span of the batch, 0.6."""
    metric, small = BatchSSIM(batch=2), (0.01 * 0.6) ** 2
    metric.update(level(1, 0.6), level(0, 0.5))
    metric.update(level(1, 0), level(0, 0))
    darker = (2 * 0.6 * 0.5 + small) / (0.36 + 0.25 + small)
    assert metric.compute().item() == pytest.approx((darker + 1) / 2, abs=1e-4)
