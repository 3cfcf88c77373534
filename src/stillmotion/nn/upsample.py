"""Convolution of a doubled map, without making the doubled map."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SMALL = 4
"""Maps of up to this side are doubled before they are convolved."""


def conv_doubled(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """The same as `conv(F.interpolate(x, scale_factor=2, mode="nearest"))`, from 4/9 of the multiplications.

    In a doubled map a 3x3 window covers only 2x2 different values, in one of four ways (even or odd row, even or odd
    column). So each way is a 2x2 convolution of the small map whose weights are sums of the 3x3 weights. All four are
    run as one convolution with four times the outputs and then laced into each other. How much time that saves
    benchmarks/doubling.py tells. Maps of up to `SMALL` x `SMALL` are doubled first: there the lacing costs more.

    Args:
        x: N x I x h x w.
        conv: 3x3, stride 1, padding 1 with zeros, no groups, I inputs, O outputs.

    Returns:
        N x O x 2h x 2w, equal but for rounding.

    Raises:
        ValueError: another kind of convolution.
    """
    _check(conv)
    if max(x.shape[2:]) <= SMALL:
        return _doubled_first(x, conv)
    return lace(F.conv2d(x, *_four_ways(conv), padding=1))


class DoubledConv2d(nn.Module):
    """`conv_doubled` with the weights made ready once, for inference."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        _check(conv)
        self.conv = conv
        with torch.no_grad():
            weight, bias = _four_ways(conv)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """N x I x h x w -> N x O x 2h x 2w."""
        if max(x.shape[2:]) <= SMALL:
            return _doubled_first(x, self.conv)
        return lace(F.conv2d(x, self.weight, self.bias, padding=1))


def _doubled_first(x: Tensor, conv: nn.Conv2d) -> Tensor:
    result: Tensor = conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
    return result


def lace(ways: Tensor) -> Tensor:
    """Put the four ways where they belong: N x 4 O x (h+1) x (w+1) -> N x O x 2h x 2w, channels-last."""
    n, channels, height, width = ways.shape
    outputs, height, width = channels // 4, height - 1, width - 1
    ways = ways.permute(0, 2, 3, 1).reshape(n, height + 1, width + 1, 2, 2, outputs)
    rows = [
        torch.stack([ways[:, i : i + height, j : j + width, j, i] for j in range(2)], dim=3)  # n x h x w x 2 x O
        for i in range(2)
    ]
    return torch.stack(rows, dim=2).view(n, 2 * height, 2 * width, outputs).permute(0, 3, 1, 2)


def _check(conv: nn.Conv2d) -> None:
    form = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups)
    if form != ((3, 3), (1, 1), (1, 1), (1, 1), 1):
        raise ValueError(f"conv_doubled is for plain 3x3 convolutions, not {conv}")


def _four_ways(conv: nn.Conv2d) -> tuple[Tensor, Tensor | None]:
    """Weights 4 O x I x 2 x 2, in the order column parity, row parity, output; and the bias four times."""
    return _halves(_halves(conv.weight, 2), 3), None if conv.bias is None else conv.bias.repeat(4)


def _halves(weight: Tensor, axis: int) -> Tensor:
    """Three weights along an axis become two, for even places (a, b + c) and for odd ones (a + b, c)."""
    a, b, c = weight.unbind(axis)
    return torch.cat([torch.stack([a, b + c], axis), torch.stack([a + b, c], axis)])
