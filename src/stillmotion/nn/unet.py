"""The U-Net of Monkey-Net and its successors, its blocks, and what makes them fast at inference.

Shapes: N x C x h x w. The encoder halves both sides per block, the decoder doubles them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.nn.norm import BatchNorm2d

Conv = TypeVar("Conv", bound=nn.Conv2d | nn.Conv3d | nn.ConvTranspose3d)

MAX_DIRECT_SIDE = 4
"""Maps up to this side are upsampled before they are convolved: there `upsample_conv2d` would be slower."""


class UNet(nn.Module):
    """Encoder and decoder with skip connections; the input itself is the last skip."""

    def __init__(self, in_channels: int, width: int, max_width: int, depth: int):
        """Args: `width` and `max_width` of block i: min(max_width, width * 2^i) channels; `depth` blocks each way."""
        super().__init__()
        self.encoder = Encoder(in_channels, width, max_width, depth)
        self.decoder = Decoder(self.encoder.channels, width, max_width)
        self.out_channels = self.decoder.out_channels

    def forward(self, x: Tensor) -> Tensor:
        """N x in_channels x s x s -> N x (width + in_channels) x s x s."""
        return self.decoder(self.encoder(x))


class Encoder(nn.Module):
    """`depth` blocks of convolution and average pooling; returns every map, the input first."""

    def __init__(self, in_channels: int, width: int, max_width: int, depth: int):
        super().__init__()
        self.channels = [in_channels, *(min(max_width, width * 2**i) for i in range(1, depth + 1))]
        self.blocks = nn.ModuleList(
            ConvBlock(a, b) for a, b in zip(self.channels[:-1], self.channels[1:], strict=True)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """All maps, largest first; N x in_channels x s x s -> s, s/2, s/4, ...."""
        maps = [x]
        for block in self.blocks:
            maps.append(F.avg_pool2d(block(maps[-1]), 2))
        return maps


class Decoder(nn.Module):
    """Upsampling blocks; after each one the encoder's map of the same size is concatenated."""

    def __init__(self, skips: Sequence[int], width: int, max_width: int):
        """Args: `skips` are the channels of the encoder's maps, largest map first."""
        super().__init__()
        blocks, channels = [], skips[-1]
        for i in range(len(skips) - 2, -1, -1):
            out_channels = min(max_width, width * 2**i)
            blocks.append(ConvBlock(channels, out_channels, upsample=True))
            channels = out_channels + skips[i]
        self.blocks = nn.ModuleList(blocks)
        self.out_channels = channels

    def forward(self, skips: Sequence[Tensor]) -> Tensor:
        """The encoder's maps, largest first -> N x out_channels at the size of the first."""
        x = skips[-1]
        for block, skip in zip(self.blocks, reversed(skips[:-1]), strict=True):
            x = torch.cat([block(x), skip], dim=1)
        return x


class ConvBlock(nn.Module):
    """Convolution, norm, ReLU; with `upsample` nearest-neighbour upsampling by 2 comes first."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 3, groups: int = 1, upsample: bool = False):
        super().__init__()
        self.conv: nn.Module = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, groups=groups)
        self.norm: nn.Module = BatchNorm2d(out_channels)
        self.upsample = upsample

    def forward(self, x: Tensor) -> Tensor:
        """N x in_channels x h x w -> N x out_channels x h x w, or x 2h x 2w."""
        if self.upsample and isinstance(self.conv, nn.Conv2d):
            return F.relu(self.norm(upsample_conv2d(x, self.conv)))
        return F.relu(self.norm(self.conv(x)))

    def fold(self) -> None:
        """Fold the norm into the convolution, for inference only; see `nn.modes.folded`."""
        assert isinstance(self.conv, nn.Conv2d)
        fold_norm(self.conv, self.norm)
        self.norm = nn.Identity()
        if self.upsample:
            self.conv = UpsampleConv2d(self.conv)


class Residual(nn.Module):
    """Pre-activation residual block: norm, ReLU, convolution, twice, added to the input."""

    def __init__(self, width: int):
        super().__init__()
        self.norm1, self.conv1 = BatchNorm2d(width), nn.Conv2d(width, width, 3, padding=1)
        self.norm2: nn.Module = BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """N x width x h x w -> the same."""
        out = self.conv1(F.relu(self.norm1(x)))
        return x + self.conv2(F.relu(self.norm2(out)))

    def fold(self) -> None:
        """Fold the second norm into the first convolution, for inference only; see `nn.modes.folded`."""
        fold_norm(self.conv1, self.norm2)
        self.norm2 = nn.Identity()


class Affine2d(nn.Module):
    """Scale and shift of a batch norm without its statistics; the same parameters under the same names."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, input: Tensor) -> Tensor:
        """Scale and shift N x C x h x w per channel."""
        return input * self.weight[:, None, None] + self.bias[:, None, None]


def without_statistics(network: nn.Module) -> None:
    """Replace every batch norm in a network by its scale and shift, in place."""
    for name, module in network.named_children():
        if isinstance(module, nn.BatchNorm2d):
            setattr(network, name, Affine2d(module.num_features))
        else:
            without_statistics(module)


@torch.no_grad()
def fold_norm(conv: nn.Conv2d, norm: nn.Module) -> None:
    """Fold a norm that follows a convolution into its weights and bias, in place.

    Args:
        conv: with a bias.
        norm: batch norm (with its running statistics), or scale and shift alone.

    Raises:
        TypeError: another kind of norm.
    """
    scale: Tensor
    shift: Tensor
    if isinstance(norm, Affine2d):
        scale, shift = norm.weight, norm.bias
    elif isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None:
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        shift = norm.bias - norm.running_mean * scale
    else:
        raise TypeError(f"cannot fold {norm}")
    assert conv.bias is not None
    conv.weight.mul_(scale[:, None, None, None])
    conv.bias.mul_(scale).add_(shift)


def upsample_conv2d(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """`conv(F.interpolate(x, scale_factor=2, mode="nearest"))` from 4/9 of the multiplications.

    In an upsampled map a 3x3 window covers only 2x2 different values, in one of four phases (even or odd row, even or
    odd column). So each phase is a 2x2 convolution of the small map whose weights are sums of the 3x3 weights. All
    four run as one convolution with four times the output channels, which are then interleaved. The gain is measured
    by benchmarks/upsample_conv.py. Maps up to `MAX_DIRECT_SIDE` are upsampled first: there interleaving costs more.

    Args:
        x: N x I x h x w.
        conv: 3x3, stride 1, zero padding 1, no groups, I inputs, O outputs.

    Returns:
        N x O x 2h x 2w, equal but for rounding.

    Raises:
        ValueError: another kind of convolution.
    """
    _check_plain(conv)
    if max(x.shape[2:]) <= MAX_DIRECT_SIDE:
        return _upsample_first(x, conv)
    return interleave(F.conv2d(x, *_phase_weights(conv), padding=1))


class UpsampleConv2d(nn.Module):
    """`upsample_conv2d` with the phase weights computed once, for inference."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        _check_plain(conv)
        self.conv = conv
        with torch.no_grad():
            weight, bias = _phase_weights(conv)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """N x I x h x w -> N x O x 2h x 2w."""
        if max(x.shape[2:]) <= MAX_DIRECT_SIDE:
            return _upsample_first(x, self.conv)
        return interleave(F.conv2d(x, self.weight, self.bias, padding=1))


def _upsample_first(x: Tensor, conv: nn.Conv2d) -> Tensor:
    result: Tensor = conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
    return result


def interleave(phases: Tensor) -> Tensor:
    """Put the four phases in their places: N x 4 O x (h+1) x (w+1) -> N x O x 2h x 2w, channels-last."""
    n, channels, height, width = phases.shape
    outputs, height, width = channels // 4, height - 1, width - 1
    phases = phases.permute(0, 2, 3, 1).reshape(n, height + 1, width + 1, 2, 2, outputs)
    rows = [
        torch.stack([phases[:, i : i + height, j : j + width, j, i] for j in range(2)], dim=3)  # N x h x w x 2 x O
        for i in range(2)
    ]
    return torch.stack(rows, dim=2).view(n, 2 * height, 2 * width, outputs).permute(0, 3, 1, 2)


def _check_plain(conv: nn.Conv2d) -> None:
    form = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups)
    if form != ((3, 3), (1, 1), (1, 1), (1, 1), 1):
        raise ValueError(f"upsample_conv2d is for plain 3x3 convolutions, not {conv}")


def _phase_weights(conv: nn.Conv2d) -> tuple[Tensor, Tensor | None]:
    """Weights 4 O x I x 2 x 2, in the order column parity, row parity, output; and the bias four times."""
    weight = _phases_along(_phases_along(conv.weight, 2), 3)
    return weight, None if conv.bias is None else conv.bias.repeat(4)


def _phases_along(weight: Tensor, axis: int) -> Tensor:
    """Three weights along an axis become two, for even positions (a, b + c) and for odd ones (a + b, c)."""
    a, b, c = weight.unbind(axis)
    return torch.cat([torch.stack([a, b + c], axis), torch.stack([a + b, c], axis)])


def zero_init(conv: Conv, bias: Mapping[int, float] | None = None) -> Conv:
    """Start a convolution at zero, so that what it corrects starts unchanged; some channels' biases may differ."""
    assert conv.bias is not None
    with torch.no_grad():
        conv.weight.zero_()
        conv.bias.zero_()
        for channel, value in (bias or {}).items():
            conv.bias[channel] = value
    return conv
