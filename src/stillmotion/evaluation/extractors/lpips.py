"""LPIPS (Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", CVPR 2018).

Neither network is shipped: the trunk comes from a file with torchvision's names (VGG-16 or AlexNet), the five linear
layers from the lpips package's file, both as safetensors with digests. LPIPS is a sum of squares, so a frame becomes
one vector, and the distance of two frames is that of their vectors, squared.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from stillmotion.errors import StillmotionError
from stillmotion.evaluation.extractors.base import imagenet_normalize, in_batches, load_weights
from stillmotion.files import read_weights
from stillmotion.nn.vgg import VGG

_WIDTHS = {"VGG-16": (64, 128, 256, 512, 512), "AlexNet": (64, 192, 384, 256, 256)}
MIN_SIDE = 32
"""Pixels: below it AlexNet's third map is empty."""


class AlexNet(nn.Module):
    """AlexNet's convolutions with torchvision's names; the maps behind its five ReLUs."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
        )

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """N x 3 x H x W in [0, 1] to five maps."""
        x, maps = imagenet_normalize(pictures), []
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                maps.append(x)
        return maps


class LPIPSFeatures:
    """A frame as the vector of its weighted, normalised features; a `FeatureExtractor`.

    Args:
        trunk: N x 3 x H x W in [0, 1] to five maps.
        weights: of the five linear layers, one per channel, none negative.
        description: see `FeatureExtractor`.
        device: where the trunk runs.
    """

    dimension, per_video = 0, False  # the dimension depends on the size of the frames

    def __init__(self, trunk: nn.Module, weights: list[Tensor], description: str, device: str | torch.device = "cpu"):
        self.trunk = trunk.eval().requires_grad_(False).to(device)
        self.weights, self.description, self.device = [w.to(device) for w in weights], description, device

    def __call__(self, frames: np.ndarray) -> Tensor:
        """T x D.

        Raises:
            StillmotionError: frames smaller than `MIN_SIDE`.
        """
        if min(frames.shape[1:3]) < MIN_SIDE:
            raise StillmotionError(f"LPIPS needs frames of {MIN_SIDE} pixels a side; prepare larger clips.")
        return in_batches(self._features, frames, self.device)

    def _features(self, pictures: Tensor) -> Tensor:
        maps = self.trunk(pictures)
        return torch.cat([_weighted(m, w) for m, w in zip(maps, self.weights, strict=True)], dim=1)


def _weighted(features: Tensor, weight: Tensor) -> Tensor:
    """N x C x H x W, normalised over channels and scaled, so that squared distances are LPIPS; N x CHW."""
    # The published code adds 1e-10 to the length, which avoids a division by zero where all features are zero.
    length = features.square().sum(dim=1, keepdim=True).sqrt() + 1e-10
    pixels = features.shape[2] * features.shape[3]
    return (features / length * (weight.view(1, -1, 1, 1) / pixels).sqrt()).flatten(1)


def open_lpips(given: str, device: str | torch.device = "cpu") -> LPIPSFeatures:
    """Open the two files.

    Args:
        given: TRUNK.safetensors@SHA256+LINEAR.safetensors@SHA256.
        device: where the trunk runs.

    Raises:
        StillmotionError: it does not read so, or a file is not the one that was named or holds other weights.
    """
    parts = [part.rpartition("@") for part in given.split("+")]
    if len(parts) != 2 or not all(file and at for file, at, _ in parts):
        raise StillmotionError(
            "LPIPS needs two files: --network lpips=TRUNK.safetensors@SHA256+LINEAR.safetensors@SHA256, the trunk as "
            "torchvision publishes it (VGG-16 or AlexNet) and the linear layers of the lpips package."
        )
    (trunk_file, _, trunk_digest), (linear_file, _, linear_digest) = parts
    tensors = read_weights(Path(trunk_file), trunk_digest.lower())
    kind = "VGG-16" if "features.28.weight" in tensors else "AlexNet"
    trunk: nn.Module = VGG(16) if kind == "VGG-16" else AlexNet()
    load_weights(trunk, tensors, Path(trunk_file), ignored=("classifier.",))
    linear = read_weights(Path(linear_file), linear_digest.lower())
    weights = _linear_layers(linear, _WIDTHS[kind], Path(linear_file), kind)
    description = (
        f"LPIPS on {kind} (SHA-256 {trunk_digest}) with the linear layers {linear_digest}, frames at their own size"
    )
    return LPIPSFeatures(trunk, weights, description, device)


def _linear_layers(tensors: Mapping[str, Tensor], widths: tuple[int, ...], path: Path, kind: str) -> list[Tensor]:
    weights = []
    for number, width in enumerate(widths):
        name = f"lin{number}.model.1.weight"
        if name not in tensors or tensors[name].numel() != width:
            raise StillmotionError(f"{path} lacks {name!r} with {width} numbers; it is not LPIPS for {kind}.")
        weight = tensors[name].flatten().float()
        if (weight < 0).any():
            raise StillmotionError(f"{path} has negative weights in {name!r}; those of LPIPS are not negative.")
        weights.append(weight)
    return weights
