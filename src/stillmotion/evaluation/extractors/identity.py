"""Features of identity: ResNet-50 up to its pooled features, and without a network the face's pixels.

ResNet-50 (He et al. 2015, arXiv 1512.03385): modules have torchvision's names, so ImageNet weights in its format fit,
and re-identification weights finetuned from them. The stride is in the 3x3 convolution, as torchvision has it.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.evaluation.extractors.base import NetworkFeatures, imagenet_normalize, load_weights
from stillmotion.files import read_weights

FEATURES = 2048
FACE_SIDE = 12
COLOUR_LEVELS = 4  # of each channel of `figure_colours`


def open_resnet50(
    path: Path, sha256: str, size: tuple[int, int] = (288, 144), device: str | torch.device = "cpu"
) -> NetworkFeatures:
    """ResNet-50 with re-identification or ImageNet weights in torchvision's format, as identity network.

    Args:
        path: the weights; a classifier in them is not used.
        sha256: their digest.
        size: (height, width) of the input; 288 x 144 is that of the re-identification network in Monkey-Net.
        device: where the network runs.

    Raises:
        StillmotionError: the file is not the one that was named, or holds other weights.
    """
    network = ResNet50()
    load_weights(network, read_weights(path, sha256), path, ignored=("fc.", "classifier."))
    description = (
        f"ResNet-50, 2048 pooled features, not normalised (SHA-256 {sha256}); frames scaled bilinearly to "
        f"{size[0]} x {size[1]} with ImageNet's mean and deviation"
    )
    return NetworkFeatures(network, FEATURES, size, imagenet_normalize, description, device)


class ResNet50(nn.Module):
    """Frames to 2048 features: the average over the last map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _layer(64, 64, blocks=3, stride=1)
        self.layer2 = _layer(256, 128, blocks=4, stride=2)
        self.layer3 = _layer(512, 256, blocks=6, stride=2)
        self.layer4 = _layer(1024, 512, blocks=3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """N x 3 x H x W, normalised, to N x 2048."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)  # H/2
        x = F.max_pool2d(x, 3, stride=2, padding=1)  # H/4
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # 2048 x H/32
        return x.mean(dim=(2, 3))


class Bottleneck(nn.Module):
    """1x1 to fewer channels, 3x3, 1x1 to four times as many, added to what came in."""

    def __init__(self, inputs: int, inner: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, 4 * inner, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * inner)
        self.downsample = (
            nn.Sequential(nn.Conv2d(inputs, 4 * inner, 1, stride, bias=False), nn.BatchNorm2d(4 * inner))
            if inputs != 4 * inner or stride != 1
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """N x inputs x H x W to N x 4 inner x H/stride x W/stride."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x), inplace=True)


def _layer(inputs: int, inner: int, blocks: int, stride: int) -> nn.Sequential:
    first = Bottleneck(inputs, inner, stride)
    return nn.Sequential(first, *(Bottleneck(4 * inner, inner, 1) for _ in range(blocks - 1)))


def face_crops(frames: np.ndarray, boxes: np.ndarray, side: int = FACE_SIDE) -> Tensor:
    """Crop the face out of every frame and downsample it; features of people who look alike are near.

    Downsampling removes expression before it removes skin, hair line, brows and proportions. For a predicted video
    the boxes are those of the target clip. Measured in docs/evaluation.md.

    Args:
        frames: `uint8`, T x H x W x 3.
        boxes: T x 4 (x0, y0, x1, y1), centres of the face's outermost pixels, as the world `faces` gives them; NaN
            where there is no face.
        side: of the crops in pixels.

    Returns:
        T x 3 side^2, in [0, 1]; NaN where there is no face, which the metric counts as wrong.

    Raises:
        ValueError: another shape.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or boxes.shape != (len(frames), 4):
        raise ValueError(f"Frames must be uint8, T x H x W x 3, and boxes T x 4, not {frames.shape}, {boxes.shape}.")
    found = np.full((len(frames), side, side, 3), np.nan, np.float32)
    # Each cell is the mean of 4 x 4 samples, so that fine texture does not alias.
    fine = 4 * side
    for t in np.flatnonzero(np.isfinite(boxes).all(1)):
        x0, y0, x1, y1 = boxes[t] + np.array([-0.5, -0.5, 0.5, 0.5])
        wide, high = (x1 - x0) / fine, (y1 - y0) / fine
        back = np.array([[wide, 0, x0 + wide / 2], [0, high, y0 + high / 2]])
        large = cv2.warpAffine(
            np.ascontiguousarray(frames[t]), back, (fine, fine), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip
        found[t] = cv2.resize(large.astype(np.float32) / 255, (side, side), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(found.reshape(len(frames), -1))


def figure_colours(frames: np.ndarray, figure: np.ndarray) -> Tensor:
    """The colours of a figure in every frame: a histogram that neither its place nor its pose changes much.

    Each channel has four levels, between which a pixel is divided linearly. The square root is taken of the shares:
    Euclidean distances are those of Hellinger. Measured in docs/evaluation.md.

    Args:
        frames: `uint8`, T x H x W x 3.
        figure: T x H x W in [0, 1], how much of a pixel belongs to the figure.

    Returns:
        T x 64, in [0, 1]; NaN for a frame without the figure, which the metric counts as wrong.

    Raises:
        ValueError: another shape.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or figure.shape != frames.shape[:3]:
        raise ValueError(
            f"Frames must be uint8, T x H x W x 3, and figures T x H x W, not {frames.shape}, {figure.shape}."
        )
    found = np.full((len(frames), COLOUR_LEVELS**3), np.nan, np.float32)
    for t, weights in enumerate(np.asarray(figure, np.float32)):
        seen = weights > 0
        places = frames[t][seen].astype(np.float32)[..., None] * ((COLOUR_LEVELS - 1) / 255)
        r, g, b = np.maximum(1 - np.abs(places - np.arange(COLOUR_LEVELS, dtype=np.float32)), 0).swapaxes(0, 1)
        if seen.any():
            histogram = np.einsum("p,pr,pg,pb->rgb", weights[seen], r, g, b, optimize=True).ravel()
            found[t] = np.sqrt(histogram / histogram.sum())
    return torch.from_numpy(found)
