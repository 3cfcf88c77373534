"""The figure of a still, found once per still."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS = 12
"""Of each level of the mask head; the encoder's maps hold the rest."""


class MaskHead(nn.Module):
    """The figure out of an encoder's maps: from the smallest map up, each level adds its own."""

    def __init__(self, channels: Sequence[int]):
        """Args: the maps' channels, largest map first."""
        super().__init__()
        self.levels = nn.ModuleList(nn.Conv2d(count, CHANNELS, 1) for count in channels)
        self.mixes = nn.ModuleList(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1) for _ in channels)
        self.logit = nn.Conv2d(CHANNELS, 1, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Logits of the figure: N x C x h x w maps, largest first, to N x 1 x h x w of the largest, float32."""
        x: Tensor | None = None
        for level, mix, values in reversed(list(zip(self.levels, self.mixes, maps, strict=True))):
            own = level(values)
            own = (
                own if x is None else own + F.interpolate(x, size=own.shape[2:], mode="bilinear", align_corners=True)
            )
            x = F.relu(mix(F.relu(own)))
        assert x is not None
        return self.logit(x).float()
