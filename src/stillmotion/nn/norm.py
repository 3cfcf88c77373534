"""Batch normalisation with statistics of the whole batch over all processes."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn


class BatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d`, with statistics over the batches of all processes while training under `torchrun`.

    Same parameters, buffers and results as `nn.BatchNorm2d` of the whole batch in one process. (Torch's
    `SyncBatchNorm` refuses to run on CPUs.) Statistics are float32 whatever the input is. All processes must
    call it equally often, forward and backward.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise B x C x H x W per channel; keeps type and memory layout."""
        if not (self.training and _world_size() > 1):
            return super().forward(input)
        self._check_input_dim(input)
        with torch.autocast(input.device.type, enabled=False):
            mean, variance, count = _statistics(input.float())
            # At least two processes with one value each: never a division by zero.
            self._update_running_statistics(mean.detach(), variance.detach() * (count / (count - 1)))
            # The mean is subtracted first: x * scale - mean * scale cancels where the mean is large.
            output = (input.float() - mean[:, None, None]) * torch.rsqrt(variance + self.eps)[:, None, None]
            if self.weight is not None:
                output = output * self.weight[:, None, None] + self.bias[:, None, None]
        return output.to(input.dtype)

    @torch.no_grad()
    def _update_running_statistics(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards those of this batch, as `nn.BatchNorm2d` does."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        weight = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, weight)
        self.running_var.lerp_(variance, weight)


def _world_size() -> int:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return 1
    return torch.distributed.get_world_size()


def _statistics(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance per channel over all processes, and how many values each is of.

    Sums of squares cancel where the mean is large against the deviation, so processes exchange their own means and
    variances, and those are combined (Chan, Golub and LeVeque).
    """
    variance, mean = torch.var_mean(values, dim=(0, 2, 3), correction=0)
    own = values.numel() / values.shape[1]
    everyone: Tensor = _AllGather.apply(torch.cat([mean, variance, mean.new_tensor([own])]))
    means, variances, counts = everyone.split([len(mean), len(mean), 1], dim=1)
    counts = counts.detach()
    shares = counts / counts.sum()
    total = (shares * means).sum(0)
    spread = (shares * (variances + (means - total) ** 2)).sum(0)
    return total, spread, counts.sum()


class _AllGather(torch.autograd.Function):
    """Stack one vector per process; the gradient flows back to the process it came from, summed over all."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        rows = [torch.empty_like(own) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(rows, own.contiguous())
        return torch.stack(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        summed = gradients[0].clone()
        torch.distributed.all_reduce(summed)
        return summed[torch.distributed.get_rank()]
