"""The release's face regressor: MobileNet-v1 of width 1.0, from a crop of a face to 62 numbers (Zhu et al. 2016).

Its weights come from a cloud drive and are not shipped; `release.parse_parameters` takes its output apart.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

OUTPUTS = 62
# Name of each block in the release, output channels, stride.
_BLOCKS = (
    ("dw2_1", 64, 1), ("dw2_2", 128, 2), ("dw3_1", 128, 1), ("dw3_2", 256, 2), ("dw4_1", 256, 1), ("dw4_2", 512, 2),
    ("dw5_1", 512, 1), ("dw5_2", 512, 1), ("dw5_3", 512, 1), ("dw5_4", 512, 1), ("dw5_5", 512, 1), ("dw5_6", 1024, 2),
    ("dw6", 1024, 1),
)  # fmt: skip


class DepthwiseBlock(nn.Module):
    """A 3 x 3 convolution of every channel by itself, then a 1 x 1 convolution."""

    def __init__(self, channels: int, out: int, stride: int):
        super().__init__()
        self.conv_dw = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
        self.bn_dw = nn.BatchNorm2d(channels)
        self.conv_sep = nn.Conv2d(channels, out, 1, bias=False)
        self.bn_sep = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        """Return the next map, N x C x H x W."""
        return F.relu(self.bn_sep(self.conv_sep(F.relu(self.bn_dw(self.conv_dw(x))))))


class FaceRegressor(nn.Module):
    """3,270,526 parameters, named as in the release."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        channels = 32
        for name, out, stride in _BLOCKS:
            self.add_module(name, DepthwiseBlock(channels, out, stride))
            channels = out
        self.fc = nn.Linear(channels, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        """Whitened parameters, N x 62, from crops, N x 3 x 120 x 120: BGR, (value - 127.5) / 128."""
        x = F.relu(self.bn1(self.conv1(x)))
        for name, _, _ in _BLOCKS:
            x = getattr(self, name)(x)
        return self.fc(x.mean((2, 3)))
