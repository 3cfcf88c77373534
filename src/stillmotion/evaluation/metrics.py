"""Metrics on pixels, each a `torchmetrics.Metric`; every one says its definition.

Videos are compared clip by clip: a number per clip first, then the mean over clips, as the papers' evaluation
code does. Frames are float, RGB, in [0, 1].
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

PSNR_CAP = 60.0
"""Identical frames have no finite PSNR; it is capped here (dB)."""


class ClipMean(Metric):
    """Mean over clips of a number that each clip gives.

    Subclasses define `of_clip`. `update` takes one clip: made and real frames, T x 3 x H x W in [0, 1].
    """

    full_state_update = False
    definition = ""
    total: Tensor
    clips: Tensor

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("clips", torch.tensor(0), dist_reduce_fx="sum")

    @abstractmethod
    def of_clip(self, made: Tensor, real: Tensor) -> Tensor:
        """The clip's number."""

    def update(self, made: Tensor, real: Tensor) -> None:
        """Add one clip.

        Raises:
            ValueError: the shapes differ or are not T x 3 x H x W.
        """
        if made.shape != real.shape or made.ndim != 4 or made.shape[1] != 3:
            raise ValueError(f"Clips must both be T x 3 x H x W, not {tuple(made.shape)} and {tuple(real.shape)}.")
        self.total += self.of_clip(made.float(), real.float()).double()
        self.clips += 1

    def compute(self) -> Tensor:
        """The mean over all clips so far."""
        return (self.total / self.clips).float()


class L1(ClipMean):
    """Mean absolute error over all pixels, channels and frames of a clip, the first frame included."""

    definition = "mean absolute pixel error in [0, 1], per clip with frame 0, then over clips; lower is better"
    higher_is_better = False

    def of_clip(self, made: Tensor, real: Tensor) -> Tensor:
        """The clip's mean absolute error."""
        return (made - real).abs().mean()


class PSNR(ClipMean):
    """Peak signal-to-noise ratio per frame in dB, capped at 60, averaged over a clip's frames."""

    definition = (
        "peak signal-to-noise ratio in dB per frame (at most 60), per clip, then over clips; higher is better"
    )
    higher_is_better = True

    def of_clip(self, made: Tensor, real: Tensor) -> Tensor:
        """Mean over frames."""
        each = peak_signal_noise_ratio(made, real, data_range=1.0, reduction="none", dim=(1, 2, 3))
        return torch.nan_to_num(each, posinf=PSNR_CAP).clamp(max=PSNR_CAP).mean()


class SSIM(ClipMean):
    """Structural similarity (gaussian window of 11, sigma 1.5) per frame, averaged over a clip's frames."""

    definition = "structural similarity, gaussian window 11 / sigma 1.5, per clip, then over clips; higher is better"
    higher_is_better = True

    def of_clip(self, made: Tensor, real: Tensor) -> Tensor:
        """Mean over frames."""
        value = structural_similarity_index_measure(made, real, data_range=1.0)
        assert isinstance(value, Tensor)
        return value


PIXEL_METRICS: Mapping[str, Callable[[], ClipMean]] = {"L1": L1, "PSNR": PSNR, "SSIM": SSIM}
"""The metrics that need no other network."""
