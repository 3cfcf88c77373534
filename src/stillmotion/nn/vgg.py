"""The convolutions of VGG-16 and VGG-19 (Simonyan and Zisserman, ICLR 2015), for perceptual losses."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_CONVOLUTIONS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_WIDTHS = (64, 128, 256, 512, 512)
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class VGG(nn.Module):
    """The convolutions; parameters have torchvision's names and order, `features.0.weight` and so on."""

    mean: Tensor
    std: Tensor

    def __init__(self, depth: int = 16):
        """Args: `depth` is 16 or 19."""
        super().__init__()
        layers: list[nn.Module] = []
        self.feature_layers: list[int] = []
        inputs = 3
        for width, count in zip(_WIDTHS, _CONVOLUTIONS[depth], strict=True):
            for _ in range(count):
                layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
                inputs = width
            self.feature_layers.append(len(layers) - 1)
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers[:-1])
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(_STD)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """The map after the last ReLU of each block, at 1, 1/2, ... 1/16 of the size; N x 3 x H x W in [0, 1]."""
        x, maps = (images - self.mean) / self.std, []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self.feature_layers:
                maps.append(x)
        return maps


@torch.no_grad()
def random_vgg(seed: int = 0) -> VGG:
    """A VGG-16 with fixed random weights and He initialisation, so that the maps keep their magnitude.

    Random features respond to edges and textures at five scales; they are not a perceptual distance.
    """
    network, generator = VGG(16), torch.Generator().manual_seed(seed)
    for name, value in network.named_parameters():
        if name.endswith("weight"):
            value.normal_(0, math.sqrt(2 / value[0].numel()), generator=generator)
        else:
            value.zero_()
    return network
