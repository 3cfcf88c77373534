"""The convolutions of VGG-16 and VGG-19 (Simonyan and Zisserman, ICLR 2015), for perceptual losses."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from stillmotion.errors import StillmotionError
from stillmotion.files import fill_from_file

_CONVOLUTIONS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_WIDTHS = (64, 128, 256, 512, 512)
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CAFFE_MEAN = (103.939, 116.779, 123.68)  # blue, green, red

Inputs = Literal["torchvision", "caffe"]
"""What the first convolution sees: see `normalise` and `to_caffe`."""


class VGG(nn.Module):
    """The convolutions; parameters have torchvision's names and order, `features.0.weight` and so on."""

    def __init__(self, depth: int = 16, convolution: int = 0, inputs: Inputs = "torchvision"):
        """Args: `depth` is 16 or 19; which convolution of each block gives its map, from 1 on, or 0 for the last.

        `inputs`: what the weights expect. All networks take the same pictures.
        """
        super().__init__()
        self.prepare = to_caffe if inputs == "caffe" else normalise
        layers: list[nn.Module] = []
        self.feature_layers: list[int] = []
        channels = 3
        for width, count in zip(_WIDTHS, _CONVOLUTIONS[depth], strict=True):
            for number in range(1, count + 1):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
                if number == (convolution or count):
                    self.feature_layers.append(len(layers) - 1)
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers[:-1])

    def forward(self, images: Tensor) -> list[Tensor]:
        """A map of each block, after the ReLU, at 1, 1/2, ... 1/16 of the size; N x 3 x H x W in [0, 1]."""
        x, maps = self.prepare(images), []
        for number, layer in enumerate(list(self.features)[: self.feature_layers[-1] + 1]):
            x = layer(x)
            if number in self.feature_layers:
                maps.append(x)
        return maps


def normalise(images: Tensor) -> Tensor:
    """Pictures with the mean and deviation of ImageNet's taken out, as torchvision does; N x 3 x H x W in [0, 1]."""
    mean, std = (images.new_tensor(values)[:, None, None] for values in (_MEAN, _STD))
    return (images - mean) / std


def to_caffe(images: Tensor) -> Tensor:
    """Pictures as the networks' authors gave them: BGR of 0 to 255 minus the mean; N x 3 x H x W in [0, 1]."""
    return 255 * images.flip(1) - images.new_tensor(_CAFFE_MEAN)[:, None, None]


@torch.no_grad()
def random_vgg(seed: int = 0, convolution: int = 0, inputs: Inputs = "torchvision") -> VGG:
    """A VGG-16 with fixed random weights and He initialisation, so that the maps keep their magnitude.

    Random features respond to edges and textures at five scales; they are not a perceptual distance. `convolution`
    and `inputs` as for `VGG`.
    """
    network, generator = VGG(16, convolution, inputs), torch.Generator().manual_seed(seed)
    for name, value in network.named_parameters():
        if name.endswith("weight"):
            value.normal_(0, math.sqrt(2 / value[0].numel()), generator=generator)
        else:
            value.zero_()
    return network


def frozen_vgg(
    network: str, file: str, setting: str, off: str, convolution: int = 0, inputs: Inputs = "torchvision"
) -> VGG:
    """The network of a perceptual loss, which is not trained.

    Args:
        network: `vgg16`, `vgg19`, or `random-vgg16`, which needs no file.
        file: the weights, FILE.safetensors@SHA256 with torchvision's names, or DIR of `stillmotion weights`.
        setting: where both stand in the configuration, for the sentence of an error.
        off: the setting that does without, for the same.
        convolution: as for `VGG`.
        inputs: as for `VGG`.

    Raises:
        StillmotionError: no weights given, not those of the digest, or not of this network.
    """
    if network == "random-vgg16":
        made = random_vgg(convolution=convolution, inputs=inputs)
    elif file:
        made = VGG(19 if network == "vgg19" else 16, convolution, inputs)
        fill_from_file(made, file, "features.")
    else:
        raise StillmotionError(
            f"The perceptual loss needs the weights of {network}: add --set {setting}.file=FILE.safetensors@SHA256 "
            "(names as in torchvision) or =DIR, which `stillmotion weights vgg16 -o DIR` makes, or --set "
            f"{setting}.network=random-vgg16, or --set {setting}.{off}."
        )
    return made.eval().requires_grad_(False)
