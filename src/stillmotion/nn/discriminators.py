"""Discriminators of images and clips. Each returns its feature maps in order, the scores last.

`maps[-1]` are the scores (logits, no activation); the others serve feature matching.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.nn.norm import BatchNorm2d
from stillmotion.nn.spectral import spectral_norm as normalise

Norm = Literal["instance", "batch", "none"]
Stages = list[tuple[int, tuple[int, int, int]]]  # width and stride of each

_PER_FRAME: tuple[int, Stages] = 64, [(128, (1, 1, 1)), (128, (1, 2, 2)), (256, (1, 2, 2))]


class PatchDiscriminator(nn.Module):
    """PatchGAN (pix2pix): each score is of one patch of the image; 70 x 70 pixels with three layers.

    4x4 convolutions with padding 1: the first without norm, then `layers` with norm, of which the last has stride 1
    and the others stride 2; then the score. LeakyReLU 0.2 between them.
    """

    def __init__(
        self,
        in_channels: int = 3,
        width: int = 64,
        layers: int = 3,
        norm: Norm = "instance",
        spectral_norm: bool = False,
    ):
        """Args: `width` of the first layer; it doubles per layer, up to 8 `width`."""
        super().__init__()
        widths = [in_channels, *(width * min(2**i, 8) for i in range(layers + 1)), 1]
        strides = [*(2 for _ in range(layers)), 1, 1]
        convs = [
            nn.Conv2d(a, b, 4, stride, padding=1)
            for a, b, stride in zip(widths[:-1], widths[1:], strides, strict=True)
        ]
        self.convs = nn.ModuleList(normalise(conv) if spectral_norm else conv for conv in convs)
        self.norms = nn.ModuleList(_norm2d(norm, channels) for channels in widths[2:-1])

    def forward(self, image: Tensor) -> list[Tensor]:
        """N x in_channels x H x W -> `layers` + 1 maps after their activation, and the scores N x 1 x h x w."""
        maps = [F.leaky_relu(self.convs[0](image), 0.2)]
        for conv, norm in zip(self.convs[1:-1], self.norms, strict=True):
            maps.append(F.leaky_relu(norm(conv(maps[-1])), 0.2))
        return [*maps, self.convs[-1](maps[-1])]


class MultiScaleDiscriminator(nn.Module):
    """PatchGANs with weights of their own on the image, on the halved image, and so on (pix2pixHD)."""

    def __init__(self, scales: int = 2, **options: Any):
        """Args: `scales` is how many; the others are those of `PatchDiscriminator`."""
        super().__init__()
        self.discriminators = nn.ModuleList(PatchDiscriminator(**options) for _ in range(scales))

    def forward(self, image: Tensor) -> list[list[Tensor]]:
        """N x in_channels x H x W -> the maps of every scale, full size first."""
        outputs = []
        for number, discriminator in enumerate(self.discriminators):
            image = image if number == 0 else F.avg_pool2d(image, 3, 2, padding=1, count_include_pad=False)
            outputs.append(discriminator(image))
        return outputs


class TemporalDiscriminator(nn.Module):
    """A 3-D ResNet-18 over a whole clip, as in interactive-image2video-synthesis (Blattmann et al., CVPR 2021).

    It halves time until one moment is left, and gives a map of scores; so the clip's length is fixed. With
    `per_frame` it keeps time and gives one score per frame.
    """

    def __init__(
        self,
        frames: int = 10,
        size: int = 64,
        in_channels: int = 3,
        per_frame: bool = False,
        spectral_norm: bool = True,
    ):
        """Args: `frames` and `size` (height and width, a multiple of 16) of the clips."""
        super().__init__()
        first, stages = _PER_FRAME if per_frame else _whole_clip_stages(frames)
        self.conv = _conv3d(in_channels, 64, (3, 7, 7), (1, 2, 2), spectral_norm)
        self.norm = nn.GroupNorm(16, 64)
        channels, blocks = 64, []
        for width, stride in [(first, (1, 1, 1)), *stages]:
            shrinking = ResidualBlock3d(channels, width, stride, spectral_norm)
            blocks.append(nn.Sequential(shrinking, ResidualBlock3d(width, width, (1, 1, 1), spectral_norm)))
            channels = width
        self.stages = nn.ModuleList(blocks)
        self.score: nn.Module = nn.Conv2d(channels, 1, 3, padding=1)
        if per_frame:
            self.score = nn.Linear(channels, 1, bias=False)
        self.pooled, self.per_frame = size // 16, per_frame

    def forward(self, clip: Tensor) -> list[Tensor]:
        """N x in_channels x T x H x W -> the map after each stage, and the scores.

        Returns:
            Maps N x C x t x h x w, and N x 1 x H/16 x W/16, or N x T per frame.
        """
        x = F.max_pool3d(F.relu(self.norm(self.conv(clip))), 3, (1, 2, 2), padding=1)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        if self.per_frame:
            pooled = F.avg_pool3d(x, (1, self.pooled, self.pooled))[..., 0, 0]  # N x C x T
            return [*maps, self.score(pooled.transpose(1, 2))[..., 0]]
        return [*maps, self.score(x.squeeze(2))]


class ResidualBlock3d(nn.Module):
    """Convolution, group norm, ReLU, convolution, norm, plus the shortcut, then ReLU.

    The shortcut has a convolution and a norm if shapes differ. All kernels are 3x3x3.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: tuple[int, int, int], spectral_norm: bool):
        super().__init__()
        self.conv1 = _conv3d(in_channels, out_channels, (3, 3, 3), stride, spectral_norm)
        self.norm1 = nn.GroupNorm(16, out_channels)
        self.conv2 = _conv3d(out_channels, out_channels, (3, 3, 3), (1, 1, 1), spectral_norm)
        self.norm2 = nn.GroupNorm(16, out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != (1, 1, 1) or in_channels != out_channels:
            conv = _conv3d(in_channels, out_channels, (3, 3, 3), stride, spectral_norm)
            self.shortcut = nn.Sequential(conv, nn.GroupNorm(16, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """N x in_channels x t x h x w -> N x out_channels, sides over the strides, rounded up."""
        out = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(out)) + self.shortcut(x))


def _whole_clip_stages(frames: int) -> tuple[int, Stages]:
    """Width of the first stage, and width and stride of the others, which halve time until it is one."""
    stages: Stages = []
    while frames > 1:
        space = 2 if len(stages) < 2 else 1  # down to a sixteenth of the image
        stages.append((min(128 * 2 ** len(stages), 256), (2, space, space)))
        frames = (frames + 1) // 2
    return 32, stages


def _conv3d(
    in_channels: int,
    out_channels: int,
    kernel: tuple[int, int, int],
    stride: tuple[int, int, int],
    spectral_norm: bool,
) -> nn.Conv3d:
    """A 3-D convolution without bias, orthogonally initialised, padded to keep the size at stride 1."""
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    conv = nn.Conv3d(in_channels, out_channels, kernel, stride, padding, bias=False)
    nn.init.orthogonal_(conv.weight)
    return normalise(conv) if spectral_norm else conv


def _norm2d(norm: Norm, channels: int) -> nn.Module:
    if norm == "instance":
        return nn.InstanceNorm2d(channels)
    return BatchNorm2d(channels) if norm == "batch" else nn.Identity()
