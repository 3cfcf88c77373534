"""VGG-16's last feature map, averaged: features of frames where no Inception v3 is at hand.

A Frechet distance on them is not FID and compares only with others of these weights; its column's name says so.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from stillmotion.evaluation.extractors.base import NetworkFeatures, path_and_digest
from stillmotion.files import fill_from_file, weights_in
from stillmotion.nn.vgg import VGG

FEATURES = 512
SIDE = 64  # of the network's input, in pixels: that of the models' frames, which more pixels would only enlarge


class PooledVGG(nn.Module):
    """VGG-16 up to its last ReLU (conv5_3), averaged over the map; N x 3 x H x W in [0, 1] to N x 512."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = VGG(16)

    def forward(self, pictures: Tensor) -> Tensor:
        """The features."""
        pooled: Tensor = self.trunk(pictures)[-1].mean(dim=(2, 3))
        return pooled


def open_vgg16(given: str, device: str | torch.device = "cpu") -> NetworkFeatures:
    """Open FILE.safetensors@SHA256 with torchvision's names, or the folder of `stillmotion weights vgg16`.

    Raises:
        StillmotionError: the file is not the one that was named, or holds other weights.
    """
    if Path(given).is_dir():
        (given,) = weights_in(given, "trunk.safetensors")
    network = PooledVGG()
    fill_from_file(network.trunk, given, "features.")
    description = (
        f"VGG-16, {FEATURES} features of conv5_3 averaged over the map (SHA-256 {path_and_digest(given)[1]}); frames "
        f"scaled bilinearly to {SIDE} x {SIDE} with ImageNet's mean and deviation"
    )
    return NetworkFeatures(network, FEATURES, (SIDE, SIDE), lambda x: x, description, device)
