"""Inception v3 up to its pooled features (Szegedy et al. 2015, arXiv 1512.00567), for FID.

Modules have torchvision's names, so its weights fit, and those that pytorch-fid ported from TensorFlow. The two
differ in how the pooling branches pool, see `InceptionV3`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.errors import StillmotionError
from stillmotion.evaluation.extractors.base import NetworkFeatures, load_weights
from stillmotion.files import read_weights

FEATURES = 2048


def open_inception(path: Path, sha256: str, device: str | torch.device = "cpu") -> NetworkFeatures:
    """Inception v3 with weights of torchvision (1000 classes) or of pytorch-fid (1008 classes).

    The classifier is not used, but its size tells which of the two poolings belongs to the weights.

    Raises:
        StillmotionError: the file is not the one that was named, or holds other weights.
    """
    tensors = read_weights(path, sha256)
    classes = len(tensors["fc.bias"]) if "fc.bias" in tensors else 0
    if classes not in (1000, 1008):
        raise StillmotionError(
            f"{path} holds no Inception v3 with its classifier (fc.bias of 1000 or 1008 classes); convert the whole "
            "file of torchvision or pytorch-fid."
        )
    tensorflow = classes == 1008
    network = InceptionV3(tensorflow)
    load_weights(network, tensors, path, ignored=("fc.", "AuxLogits."))
    origin = "pytorch-fid's port of TensorFlow's" if tensorflow else "torchvision's"
    description = (
        f"Inception v3, {origin} weights (SHA-256 {sha256}), features before the classifier; frames scaled "
        "bilinearly to 299 x 299, values in [-1, 1]"
    )
    return NetworkFeatures(network, FEATURES, (299, 299), lambda x: 2 * x - 1, description, device)


class InceptionV3(nn.Module):
    """Frames to 2048 features: the average over the last 8 x 8 map ("pool3").

    Args:
        tensorflow: pool as the TensorFlow graph does from which pytorch-fid's weights come: averages leave the
            padding out, and the very last block takes the maximum. Else as torchvision's weights were trained.
    """

    def __init__(self, tensorflow: bool = False):
        super().__init__()
        pool = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=not tensorflow)
        self.Conv2d_1a_3x3 = Convolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Convolution(32, 32, 3)
        self.Conv2d_2b_3x3 = Convolution(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = Convolution(80, 192, 3)
        self.Mixed_5b = BlockA(192, 32, pool)
        self.Mixed_5c = BlockA(256, 64, pool)
        self.Mixed_5d = BlockA(288, 64, pool)
        self.Mixed_6a = ReductionB(288)
        self.Mixed_6b = BlockC(128, pool)
        self.Mixed_6c = BlockC(160, pool)
        self.Mixed_6d = BlockC(160, pool)
        self.Mixed_6e = BlockC(192, pool)
        self.Mixed_7a = ReductionD()
        self.Mixed_7b = BlockE(1280, pool)
        self.Mixed_7c = BlockE(2048, nn.MaxPool2d(3, stride=1, padding=1) if tensorflow else pool)

    def forward(self, x: Tensor) -> Tensor:
        """N x 3 x 299 x 299 in [-1, 1] to N x 2048."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))  # 64 x 147 x 147
        x = F.max_pool2d(x, 3, stride=2)  # 64 x 73 x 73
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))  # 192 x 71 x 71
        x = F.max_pool2d(x, 3, stride=2)  # 192 x 35 x 35
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))  # 288 x 35 x 35
        x = self.Mixed_6a(x)  # 768 x 17 x 17
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))
        x = self.Mixed_7a(x)  # 1280 x 8 x 8
        return self.Mixed_7c(self.Mixed_7b(x)).mean(dim=(2, 3))  # 2048


class Convolution(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int | tuple[int, int], **options: Any):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, bias=False, **options)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """N x inputs x H x W to N x outputs x H' x W'."""
        return F.relu(self.bn(self.conv(x)), inplace=True)


class BlockA(nn.Module):
    """Branches of 1x1, 5x5, two 3x3, and a pool, at 35 x 35; gives 224 + `pooled` channels."""

    def __init__(self, inputs: int, pooled: int, pool: nn.Module):
        super().__init__()
        self.branch1x1 = Convolution(inputs, 64, 1)
        self.branch5x5_1 = Convolution(inputs, 48, 1)
        self.branch5x5_2 = Convolution(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = Convolution(inputs, 64, 1)
        self.branch3x3dbl_2 = Convolution(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Convolution(96, 96, 3, padding=1)
        self.branch_pool = Convolution(inputs, pooled, 1)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """The branches side by side."""
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, three, self.branch_pool(self.pool(x))], dim=1)


class ReductionB(nn.Module):
    """35 x 35 to 17 x 17; adds 480 channels."""

    def __init__(self, inputs: int):
        super().__init__()
        self.branch3x3 = Convolution(inputs, 384, 3, stride=2)
        self.branch3x3dbl_1 = Convolution(inputs, 64, 1)
        self.branch3x3dbl_2 = Convolution(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Convolution(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """The branches side by side."""
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, stride=2)], dim=1)


class BlockC(nn.Module):
    """Branches with 7x7 convolutions in two halves, at 17 x 17; 768 channels in and out."""

    def __init__(self, inner: int, pool: nn.Module):
        super().__init__()
        wide: dict[str, Any] = {"kernel": (1, 7), "padding": (0, 3)}
        high: dict[str, Any] = {"kernel": (7, 1), "padding": (3, 0)}
        self.branch1x1 = Convolution(768, 192, 1)
        self.branch7x7_1 = Convolution(768, inner, 1)
        self.branch7x7_2 = Convolution(inner, inner, **wide)
        self.branch7x7_3 = Convolution(inner, 192, **high)
        self.branch7x7dbl_1 = Convolution(768, inner, 1)
        self.branch7x7dbl_2 = Convolution(inner, inner, **high)
        self.branch7x7dbl_3 = Convolution(inner, inner, **wide)
        self.branch7x7dbl_4 = Convolution(inner, inner, **high)
        self.branch7x7dbl_5 = Convolution(inner, 192, **wide)
        self.branch_pool = Convolution(768, 192, 1)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """The branches side by side."""
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(self.pool(x))], dim=1)


class ReductionD(nn.Module):
    """17 x 17 to 8 x 8; 768 to 1280 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1 = Convolution(768, 192, 1)
        self.branch3x3_2 = Convolution(192, 320, 3, stride=2)
        self.branch7x7x3_1 = Convolution(768, 192, 1)
        self.branch7x7x3_2 = Convolution(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = Convolution(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = Convolution(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """The branches side by side."""
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([three, seven, F.max_pool2d(x, 3, stride=2)], dim=1)


class BlockE(nn.Module):
    """Branches whose 3x3 convolutions end in two halves side by side, at 8 x 8; gives 2048 channels."""

    def __init__(self, inputs: int, pool: nn.Module):
        super().__init__()
        self.branch1x1 = Convolution(inputs, 320, 1)
        self.branch3x3_1 = Convolution(inputs, 384, 1)
        self.branch3x3_2a = Convolution(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = Convolution(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = Convolution(inputs, 448, 1)
        self.branch3x3dbl_2 = Convolution(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = Convolution(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = Convolution(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = Convolution(inputs, 192, 1)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """The branches side by side."""
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        parts = [self.branch3x3_2a(three), self.branch3x3_2b(three)]
        parts += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)]
        return torch.cat([self.branch1x1(x), *parts, self.branch_pool(self.pool(x))], dim=1)
