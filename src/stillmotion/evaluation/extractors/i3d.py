"""I3D (Carreira and Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017), for FVD (Unterthiner et al. 2018).

Inception v1 whose kernels and pools have a third dimension, time. The 400 logits of the network trained on Kinetics
are the features. Tensors have the names of the PyTorch port `pytorch-i3d`, whose file `rgb_imagenet` fits; every
convolution and pool pads as TensorFlow's "SAME".
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.evaluation.extractors.base import VideoFeatures, load_weights
from stillmotion.files import read_weights
from stillmotion.nn.padding import same_padding

CLASSES = 400
LEAST_FRAMES = 9  # three strides of 2 leave two steps of these, which the last average needs

Triple = tuple[int, int, int]  # time, height, width


def open_i3d(path: Path, sha256: str, device: str | torch.device = "cpu") -> VideoFeatures:
    """I3D with weights from a file.

    Raises:
        StillmotionError: the file is not the one that was named, or holds other weights.
    """
    network = I3D()
    load_weights(network, read_weights(path, sha256), path, ignored=())
    description = f"I3D (SHA-256 {sha256}), {CLASSES} logits averaged over time"
    return VideoFeatures(network, CLASSES, (224, 224), LEAST_FRAMES, description, device)


class I3D(nn.Module):
    """Videos to 400 logits."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = Convolution(3, 64, (7, 7, 7), (2, 2, 2))
        self.Conv3d_2b_1x1 = Convolution(64, 64, (1, 1, 1))
        self.Conv3d_2c_3x3 = Convolution(64, 192, (3, 3, 3))
        self.Mixed_3b = Mixed(192, 64, (96, 128), (16, 32), 32)
        self.Mixed_3c = Mixed(256, 128, (128, 192), (32, 96), 64)
        self.Mixed_4b = Mixed(480, 192, (96, 208), (16, 48), 64)
        self.Mixed_4c = Mixed(512, 160, (112, 224), (24, 64), 64)
        self.Mixed_4d = Mixed(512, 128, (128, 256), (24, 64), 64)
        self.Mixed_4e = Mixed(512, 112, (144, 288), (32, 64), 64)
        self.Mixed_4f = Mixed(528, 256, (160, 320), (32, 128), 128)
        self.Mixed_5b = Mixed(832, 256, (160, 320), (32, 128), 128)
        self.Mixed_5c = Mixed(832, 384, (192, 384), (48, 128), 128)
        self.logits = Logits(1024, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """N x 3 x T x 224 x 224 in [-1, 1] to N x 400; T is 9 or more."""
        x = self.Conv3d_1a_7x7(x)  # 64 x T/2 x 112 x 112, sizes rounded up
        x = same_max_pool(x, (1, 3, 3), (1, 2, 2))  # 64 x T/2 x 56 x 56
        x = self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x))  # 192 x T/2 x 56 x 56
        x = same_max_pool(x, (1, 3, 3), (1, 2, 2))  # 192 x T/2 x 28 x 28
        x = self.Mixed_3c(self.Mixed_3b(x))  # 480 x T/2 x 28 x 28
        x = same_max_pool(x, (3, 3, 3), (2, 2, 2))  # 480 x T/4 x 14 x 14
        x = self.Mixed_4f(self.Mixed_4e(self.Mixed_4d(self.Mixed_4c(self.Mixed_4b(x)))))  # 832 x T/4 x 14 x 14
        x = same_max_pool(x, (2, 2, 2), (2, 2, 2))  # 832 x T/8 x 7 x 7
        x = self.Mixed_5c(self.Mixed_5b(x))  # 1024 x T/8 x 7 x 7
        x = F.avg_pool3d(x, (2, 7, 7), stride=1)  # 1024 x (T/8 - 1) x 1 x 1
        return self.logits(x).mean(dim=(2, 3, 4))


class Convolution(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: Triple, stride: Triple = (1, 1, 1)):
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """N x inputs x T x H x W to N x outputs x T' x H' x W', sizes over the strides, rounded up."""
        return F.relu(self.bn(self.conv3d(pad_same(x, self.kernel, self.stride))), inplace=True)


class Mixed(nn.Module):
    """Four branches side by side: 1x1x1; 3x3x3 twice, each behind a 1x1x1; a pool and a 1x1x1."""

    def __init__(self, inputs: int, first: int, second: tuple[int, int], third: tuple[int, int], pooled: int):
        super().__init__()
        self.b0 = Convolution(inputs, first, (1, 1, 1))
        self.b1a = Convolution(inputs, second[0], (1, 1, 1))
        self.b1b = Convolution(second[0], second[1], (3, 3, 3))
        self.b2a = Convolution(inputs, third[0], (1, 1, 1))
        self.b2b = Convolution(third[0], third[1], (3, 3, 3))
        self.b3b = Convolution(inputs, pooled, (1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """N x inputs x T x H x W to N x sum of the branches' outputs x T x H x W."""
        pooled = self.b3b(same_max_pool(x, (3, 3, 3), (1, 1, 1)))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), pooled], dim=1)


class Logits(nn.Module):
    """The classifier, a 1x1x1 convolution with bias."""

    def __init__(self, inputs: int, classes: int):
        super().__init__()
        self.conv3d = nn.Conv3d(inputs, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """N x inputs x T x 1 x 1 to N x classes x T x 1 x 1."""
        return self.conv3d(x)


def pad_same(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Pad N x C x T x H x W with zeros so that sizes are divided by the stride, rounded up; an odd one goes after."""
    sides = [same_padding(*each) for each in zip(x.shape[2:], kernel, stride, strict=True)]
    return F.pad(x, [count for side in reversed(sides) for count in side])


def same_max_pool(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Maximum pool with the same padding; its zeros change nothing, since no value behind a ReLU is below 0."""
    return F.max_pool3d(pad_same(x, kernel, stride), kernel, stride)
