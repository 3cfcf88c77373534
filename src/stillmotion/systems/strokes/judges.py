"""The discriminators: D1 looks at one frame, D2 at two neighbouring ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.nn.spectral import SpectralConv2d, SpectralLinear
from stillmotion.systems.strokes.config import StrokesConfig

_SLOPE = 0.1
# Kernel, stride and width (over that of the first layer) of each convolution.
_LAYERS = ((3, 1, 1), (4, 2, 2), (3, 1, 2), (4, 2, 4), (3, 1, 4), (4, 2, 8), (3, 1, 8))


class Branch(nn.Module):
    """Seven convolutions down to an eighth of the size.

    Args:
        inputs: channels of the picture.
        width: channels of the first layer; the last has eight times as many.
        extra: channels that join before the last convolution.
    """

    def __init__(self, inputs: int, width: int, extra: int = 0):
        super().__init__()
        layers = []
        for number, (kernel, stride, times) in enumerate(_LAYERS):
            inputs += extra if number == len(_LAYERS) - 1 else 0
            layers.append(SpectralConv2d(inputs, times * width, kernel, stride))
            inputs = times * width
        self.layers = nn.ModuleList(layers)
        self.out_channels = inputs

    def forward(self, picture: Tensor, extra: Tensor | None = None) -> list[Tensor]:
        """All maps; N x inputs x s x s, and N x extra x s/8 x s/8, to s, s/2, s/2, s/4, s/4, s/8, s/8."""
        maps = [picture]
        for layer in self.layers:
            last = len(maps) == len(self.layers)
            x = maps[-1] if extra is None or not last else torch.cat([maps[-1], extra], dim=1)
            maps.append(F.leaky_relu(layer(x), _SLOPE))
        return maps[1:]


class FrameDiscriminator(nn.Module):
    """D1: is this a real frame? Looks at the whole and, if configured, at a crop, and may be told the motion x_t."""

    def __init__(self, config: StrokesConfig):
        super().__init__()
        width, side = config.discriminator_width, config.size // 8
        extra = config.motion_channels if config.motion_condition else 0
        self.whole = Branch(3, width, extra)
        self.crop = Branch(3, width // 2) if config.crop_branch else None
        features = self.whole.out_channels * side**2
        if self.crop is not None:
            features += self.crop.out_channels * (side // 2) ** 2
        self.score = SpectralLinear(features, 1)

    def forward(self, frame: Tensor, crop: Tensor | None = None, motion: Tensor | None = None) -> list[Tensor]:
        """Maps of the whole frame, then the score.

        Args:
            frame: N x 3 x s x s in [-1, 1].
            crop: N x 3 x s/2 x s/2, where there is a branch for it.
            motion: x_t, N x channels x s/8 x s/8, where it is told.

        Returns:
            Seven maps, and the logit, N x 1.
        """
        maps = self.whole(frame, motion)
        features = [maps[-1].flatten(1)]
        if self.crop is not None:
            assert crop is not None
            features.append(self.crop(crop)[-1].flatten(1))
        return [*maps, self.score(torch.cat(features, dim=1))]


class PairDiscriminator(nn.Module):
    """D2: do these two frames follow each other, and S_t, if it is shown?"""

    def __init__(self, config: StrokesConfig):
        super().__init__()
        inputs = 6 + (config.channels if config.pair_sees_step else 0)
        self.whole = Branch(inputs, config.discriminator_width)
        self.score = SpectralLinear(self.whole.out_channels * (config.size // 8) ** 2, 1)
        self.sees_step = config.pair_sees_step

    def forward(self, following: Tensor, current: Tensor, step: Tensor) -> Tensor:
        """Next frame, current frame (N x 3 x s x s each), S_t (N x channels x s x s) to the logit, N x 1."""
        shown = [following, current, step] if self.sees_step else [following, current]
        return self.score(self.whole(torch.cat(shown, dim=1))[-1].flatten(1))
