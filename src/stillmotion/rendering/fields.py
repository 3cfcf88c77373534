"""What a network says of a frame: where each pixel comes from, and which of four sources shows there.

Shapes: N frames, h x w pixels at the networks' size. Pictures are RGB in [0, 1].
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion import geometry
from stillmotion.nn.unet import zero_init

WARPED, STATIC, PLATE, PAINT = range(4)
"""The sources of a pixel: the still through the displacement, the still as it is, the background behind the still's
figure (the plate), and painted colours."""

SHARE_GAIN = 8.0
"""Factor of the shares' logits. The sources differ by a few grey levels, so that their gradient is mostly noise: with
a gain of one the shares had hardly left their start after 1,600 steps (docs/log.md, H)."""


class Fields(NamedTuple):
    """Motion and appearance of N frames."""

    displacement: Tensor  # N x h x w x 2, backward, normalised: where in the still each pixel is sampled
    shares: Tensor  # N x 4 x h x w, of the sources in their order; they sum to one
    paint: Tensor  # N x 3 x h x w

    def rows(self, index: slice) -> "Fields":
        """The fields of some of the frames."""
        return Fields(*(part[index] for part in self))


def alone(source: int, like: Tensor) -> Tensor:
    """Shares of one source, which has all of every pixel; like N x any x h x w, N x 4 x h x w of its type."""
    shares = like.new_zeros(len(like), 4, *like.shape[2:])
    shares[:, source] = 1.0
    return shares


FIELD_VALUES = 9
"""Numbers per pixel that fields are read from: two of flow, four of shares, three of paint."""


class FieldHead(nn.Module):
    """Fields out of a decoder's last maps; every network of ours ends in one.

    It starts as "keep the still": no correction of the displacement, and little plate or paint.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.flow = zero_init(nn.Conv2d(channels, 2, 3, padding=1))
        start = 1 / SHARE_GAIN
        self.shares = zero_init(nn.Conv2d(channels, 4, 3, padding=1), {WARPED: start, STATIC: start})
        self.paint = nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, maps: Tensor, coarse: Tensor | None = None) -> Fields:
        """Fields of N frames.

        Args:
            maps: N x channels x h x w.
            coarse: a displacement that is corrected, N x any height x any width x 2, normalised; None is zero.
        """
        return read_fields(self.values(maps), coarse)

    def values(self, maps: Tensor) -> Tensor:
        """What fields are read from, N x `FIELD_VALUES` x h x w: flow in pixels, logits of shares and paint."""
        flow, shares, paint = self.flow(maps), self.shares(maps), self.paint(maps)
        return torch.cat([flow.float(), SHARE_GAIN * shares.float(), paint.float()], dim=1)


def read_fields(values: Tensor, coarse: Tensor | None = None) -> Fields:
    """Fields of the values of a `FieldHead`; `coarse` as there."""
    flow, shares, paint = values.split([2, 4, 3], dim=1)
    size = (values.shape[2], values.shape[3])
    displacement = geometry.displacement_to_normalised(flow.permute(0, 2, 3, 1), size)
    if coarse is not None:
        displacement = displacement + geometry.resize_grid(coarse, size)
    return Fields(displacement, shares.softmax(dim=1), torch.sigmoid(paint))


MASK_CHANNELS = 12
"""Of each level of the mask head; the encoder's maps hold the rest."""


class MaskHead(nn.Module):
    """The figure out of an encoder's maps: from the smallest map up, each level adds its own."""

    def __init__(self, channels: Sequence[int]):
        """Args: the maps' channels, largest map first."""
        super().__init__()
        self.levels = nn.ModuleList(nn.Conv2d(count, MASK_CHANNELS, 1) for count in channels)
        self.mixes = nn.ModuleList(nn.Conv2d(MASK_CHANNELS, MASK_CHANNELS, 3, padding=1) for _ in channels)
        self.logit = nn.Conv2d(MASK_CHANNELS, 1, 1)

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


def warp_still(still: Tensor, fields: Fields) -> Tensor:
    """The still through the displacement, borders replicated; N x 3 x h x w."""
    size = (fields.displacement.shape[1], fields.displacement.shape[2])
    return geometry.warp(still, geometry.identity_grid(size, fields.displacement) + fields.displacement, "border")


def restrict(fields: Fields, plate: Tensor | None) -> Fields:
    """The fields of frames whose plate is not known everywhere: there the other sources have what it had.

    Shares of a softmax may have nothing but the plate; then the others are equal.

    Args:
        fields: of N frames.
        plate: N x 4 x h x w, see `blend`; None where none is known.
    """
    kept = torch.ones_like(fields.shares)
    kept[:, PLATE] = 0.0 if plate is None else plate[:, 3]
    shares = fields.shares.clamp_min(1e-9) * kept
    return fields._replace(shares=shares / shares.sum(1, keepdim=True))


def blend(fields: Fields, warped: Tensor, still: Tensor, plate: Tensor | None) -> Tensor:
    """The sum of the sources by their shares; N x 3 x h x w.

    Args:
        fields: of N frames; see `restrict`.
        warped: N x 3 x h x w, see `warp_still`.
        still: the same shape.
        plate: N x 4 x h x w, RGB and whether it is known (1) or not (0); None counts as black.
    """
    shares = fields.shares.split(1, dim=1)
    frame = shares[WARPED] * warped.float() + shares[STATIC] * still.float() + shares[PAINT] * fields.paint
    return frame if plate is None else frame + shares[PLATE] * plate[:, :3].float()
