"""LPIPS (Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", CVPR 2018).

Neither network is shipped: the trunk comes from a file with torchvision's names (VGG-16 or AlexNet), the five linear
layers from the lpips package's file, both as safetensors with digests (`stillmotion weights` makes them). LPIPS is a
sum of squares, so a frame becomes one vector, and the distance of two frames is that of their vectors, squared.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from stillmotion.errors import StillmotionError
from stillmotion.evaluation.extractors.base import NetworkFeatures, imagenet_normalize, load_weights
from stillmotion.files import read_weights, weights_in
from stillmotion.nn.vgg import VGG

_WIDTHS = {"VGG-16": (64, 128, 256, 512, 512), "AlexNet": (64, 192, 384, 256, 256)}
MIN_SIDE = 32  # pixels: below it AlexNet's third map is empty


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


class LPIPSNetwork(nn.Module):
    """Pictures as vectors of the weighted, normalised features of a trunk.

    Args:
        trunk: N x 3 x H x W in [0, 1] to five maps.
        weights: of the five linear layers, one per channel, none negative.
    """

    def __init__(self, trunk: nn.Module, weights: list[Tensor]):
        super().__init__()
        self.trunk, self.weights = trunk, nn.ParameterList(weights)

    def forward(self, pictures: Tensor) -> Tensor:
        """N x 3 x H x W in [0, 1] to N x D, so that squared distances are LPIPS.

        Raises:
            StillmotionError: pictures smaller than `MIN_SIDE`.
        """
        if min(pictures.shape[2:]) < MIN_SIDE:
            raise StillmotionError(f"LPIPS needs frames of {MIN_SIDE} pixels a side; prepare larger clips.")
        vectors = []
        for features, weight in zip(self.trunk(pictures), self.weights, strict=True):
            # The published code adds 1e-10 to the length, against a division by zero where all features are zero.
            length = features.square().sum(dim=1, keepdim=True).sqrt() + 1e-10
            share = weight.view(1, -1, 1, 1) / (features.shape[2] * features.shape[3])
            vectors.append((features / length * share.sqrt()).flatten(1))
        return torch.cat(vectors, dim=1)


def open_lpips(given: str, device: str | torch.device = "cpu") -> NetworkFeatures:
    """Open the two files, TRUNK.safetensors@SHA256+LINEAR.safetensors@SHA256, or the folder of `stillmotion weights`.

    Raises:
        StillmotionError: it does not read so, or a file is not the one that was named or holds other weights.
    """
    files = weights_in(given, "trunk.safetensors", "linear.safetensors") if Path(given).is_dir() else given.split("+")
    parts = [part.rpartition("@") for part in files]
    if len(parts) != 2 or not all(file and at for file, at, _ in parts):
        raise StillmotionError(
            "LPIPS needs two files: --network lpips=TRUNK.safetensors@SHA256+LINEAR.safetensors@SHA256, the trunk as "
            "torchvision publishes it (VGG-16 or AlexNet) and the linear layers of the lpips package; or lpips=DIR, "
            "which `stillmotion weights lpips -o DIR` makes."
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
    # The dimension depends on the size of the frames.
    return NetworkFeatures(LPIPSNetwork(trunk, weights), 0, None, lambda x: x, description, device)


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
