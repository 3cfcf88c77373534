"""The U-Net of Monkey-Net and its kin, and the blocks it is made of."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.nn.fold import fold_norm
from stillmotion.nn.norm import BatchNorm2d
from stillmotion.nn.upsample import DoubledConv2d, conv_doubled


class UNet(nn.Module):
    """Encoder and decoder with skips; the input itself is the last skip."""

    def __init__(self, inputs: int, expansion: int, limit: int, blocks: int):
        super().__init__()
        self.encoder = Encoder(inputs, expansion, limit, blocks)
        self.decoder = Decoder(self.encoder.channels, expansion, limit)
        self.out_channels = self.decoder.out_channels

    def forward(self, x: Tensor) -> Tensor:
        """N x inputs x s x s -> N x (expansion + inputs) x s x s."""
        return self.decoder(self.encoder(x))


class Encoder(nn.Module):
    """Halves the picture `blocks` times; returns every map, the input first."""

    def __init__(self, inputs: int, expansion: int, limit: int, blocks: int):
        super().__init__()
        widths = [min(limit, expansion * 2**i) for i in range(1, blocks + 1)]
        self.channels = [inputs, *widths]
        self.blocks = nn.ModuleList(
            ConvBlock(a, b) for a, b in zip(self.channels[:-1], self.channels[1:], strict=True)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """All maps, largest first; N x inputs x s x s -> s, s/2, s/4, ...."""
        maps = [x]
        for block in self.blocks:
            maps.append(F.avg_pool2d(block(maps[-1]), 2))
        return maps


class Decoder(nn.Module):
    """Doubles the picture back, joining the encoder's map of each size after each step."""

    def __init__(self, skips: Sequence[int], expansion: int, limit: int):
        super().__init__()
        blocks, inputs = [], skips[-1]
        for i in range(len(skips) - 2, -1, -1):
            width = min(limit, expansion * 2**i)
            blocks.append(ConvBlock(inputs, width, doubled=True))
            inputs = width + skips[i]
        self.blocks = nn.ModuleList(blocks)
        self.out_channels = inputs

    def forward(self, skips: Sequence[Tensor]) -> Tensor:
        """From the smallest map up; gives the size of the first."""
        x = skips[-1]
        for block, skip in zip(self.blocks, reversed(skips[:-1]), strict=True):
            x = torch.cat([block(x), skip], dim=1)
        return x


class ConvBlock(nn.Module):
    """Convolution, norm, ReLU; `doubled` makes the map twice as large first (nearest neighbour)."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, groups: int = 1, doubled: bool = False):
        super().__init__()
        self.conv: nn.Module = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups)
        self.norm: nn.Module = BatchNorm2d(outputs)
        self.doubled = doubled

    def forward(self, x: Tensor) -> Tensor:
        """N x inputs x h x w -> N x outputs x h x w, or x 2h x 2w."""
        made = conv_doubled(x, self.conv) if self.doubled and isinstance(self.conv, nn.Conv2d) else self.conv(x)
        return F.relu(self.norm(made))

    def fold(self) -> None:
        """Make this a convolution and a ReLU, for inference alone; see `fold.folded`."""
        assert isinstance(self.conv, nn.Conv2d)
        fold_norm(self.conv, self.norm)
        self.norm = nn.Identity()
        if self.doubled:
            self.conv = DoubledConv2d(self.conv)


class Residual(nn.Module):
    """Norm, ReLU, convolution, twice, added to the input."""

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
        """Take the second norm into the first convolution, for inference alone; see `fold.folded`."""
        fold_norm(self.conv1, self.norm2)
        self.norm2 = nn.Identity()
