"""Ours: the answer to pokes as fields (see `rendering`), from the still's features and its handles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion import geometry
from stillmotion.nn.unet import ConvBlock, Encoder, zero_init
from stillmotion.rendering.fields import (
    FIELD_VALUES,
    FieldHead,
    Fields,
    MaskHead,
    blend,
    read_fields,
    restrict,
    warp_still,
)
from stillmotion.systems.pokes.config import PokesConfig
from stillmotion.systems.pokes.handles import (
    MAPS,
    Handles,
    OscillatorHead,
    Oscillators,
    Reach,
    handle_maps,
    reach,
    sample_at,
    spread,
)

KEYS = 16
"""Channels in which a pixel is compared with the handle: parts of one body look alike."""

FOLLOWS = -2.0
"""Logit of how far a pixel goes with the handle, at the start."""

GRIP_FROM, GRIP_FULL = 0.3, 0.7
"""Probability of the figure where a hand takes the still: from the first on what is held goes with the hand, from the
second on all the way. Below, the hand is on the background and nothing goes with it."""

REACHES = 2
"""Pixels around a hand within which it finds the figure; pokes on the background are farther away."""

LEAST_FOLLOW = 0.2
"""Smallest share that what a handle lacks is divided by."""

PATCH = 0.2
"""Standard deviation, normalised, of what goes with a hand where the network does not know what does: 6.3 of 64."""


class Context(NamedTuple):
    """What all frames of a still share."""

    still: Tensor  # N x 3 x S x S in [0, 1]
    features: Sequence[Tensor]  # the still (with `generator.detail` half of it), and maps of half the size and so on
    keys: Sequence[Tensor]  # N x KEYS maps of half the size of the first of these, and so on
    figure: Tensor  # N x 1 x S x S, logits of the still's figure
    plate: Tensor | None = None  # N x 4 x S x S, see `rendering.fields.blend`


class FieldOutput(NamedTuple):
    """Frames and what they are blended of."""

    frame: Tensor  # N x 3 x S x S in [0, 1]
    fields: Fields
    at_handles: Tensor  # N x M x 2, normalised: the displacement where the handles are, before they were anchored


class Detail(nn.Module):
    """One level more, at the full size: corrects what was found at half of it; at the start it changes nothing."""

    def __init__(self, channels: int, width: int):
        """Args: channels of the maps at half the size; of its own."""
        super().__init__()
        self.up = ConvBlock(channels, width, upsample=True)
        self.mix = ConvBlock(width + 2 * 3, width)
        self.correction = zero_init(nn.Conv2d(width, 1 + FIELD_VALUES, 3, padding=1))

    def forward(self, maps: Tensor, values: Tensor, still: Tensor, offset: Tensor) -> Tensor:
        """Values at the size of the still.

        Args:
            maps: N x channels x S/2 x S/2.
            values: the logit of how far a pixel follows, and those of the fields, N x 10 x S/2 x S/2.
            still: N x 3 x S x S in [0, 1].
            offset: of the handles, N x 2 x S x S, normalised.
        """
        large = F.interpolate(values, scale_factor=2, mode="bilinear", align_corners=False)
        large = torch.cat([large[:, :1], 2 * large[:, 1:3], large[:, 3:]], dim=1)  # pixels are half as large
        moved = warp_still(still, _fields(large.detach(), offset))
        x = self.mix(torch.cat([self.up(maps), still.to(maps.dtype), moved.to(maps.dtype)], dim=1))
        return large + self.correction(x).float()


def _fields(values: Tensor, offset: Tensor) -> Fields:
    """Fields of values as in `Detail`, before handles are anchored."""
    return read_fields(values[:, 1:], -(torch.sigmoid(values[:, :1]) * offset).permute(0, 2, 3, 1))


class FieldNetwork(nn.Module):
    """A still encoded once, and fields for every state of its handles.

    A pixel's displacement is that of the nearest handle, as far as the pixel follows it, and a correction. The
    decoder reads the still's maps as they are and moved with the handle, since what it predicts lies where things
    have gone.
    """

    def __init__(self, config: PokesConfig):
        super().__init__()
        width, most, blocks = config.generator.width, config.generator.max_width, config.generator.blocks
        widths = [min(most, width * 2**i) for i in range(blocks + 1)]
        self.encoder = Encoder(3, width, most, blocks)
        channels = self.encoder.channels  # 3, then one per halving
        self.keys = nn.ModuleList(nn.Conv2d(count, KEYS, 1) for count in channels[1:])
        compared = [0, *(KEYS for _ in channels[1:])]
        inputs = [2 * count + MAPS + extra for count, extra in zip(channels, compared, strict=True)]
        self.bottom = nn.Sequential(ConvBlock(inputs[-1], widths[-1]), ConvBlock(widths[-1], widths[-1]))
        levels = range(len(widths) - 2, -1, -1)
        self.ups = nn.ModuleList(ConvBlock(widths[i + 1], widths[i], upsample=True) for i in levels)
        self.mixes = nn.ModuleList(ConvBlock(widths[i] + inputs[i], widths[i]) for i in levels)
        self.follow = nn.Conv2d(widths[0], 1, 3, padding=1)
        nn.init.constant_(self.follow.bias, FOLLOWS)  # type: ignore[arg-type]
        self.fields = FieldHead(widths[0])
        self.mask = MaskHead(channels)
        self.oscillators = OscillatorHead(sum(channels[1:]))
        self.detail = Detail(widths[0], config.generator.detail) if config.generator.detail else None

    def encode(self, still: Tensor) -> list[Tensor]:
        """Maps of N stills, N x 3 x S x S in [0, 1]; the largest, first, is what the networks see."""
        maps: list[Tensor] = self.encoder(still if self.detail is None else F.avg_pool2d(still, 2))
        return maps

    def begin(self, still: Tensor, plate: Tensor | None = None) -> Context:
        """Encode N stills, N x 3 x S x S in [0, 1]."""
        features = self.encode(still)
        keys = [key(maps) for key, maps in zip(self.keys, features[1:], strict=True)]
        figure: Tensor = self.mask(features)
        if self.detail is not None:
            figure = F.interpolate(figure, scale_factor=2, mode="bilinear", align_corners=False)
        return Context(still, features, keys, figure, plate)

    def swings(self, context: Context, places: Tensor) -> Oscillators:
        """How places of the stills swing, N x M x 2 normalised."""
        found = [sample_at(maps, places) for maps in context.features[1:]]
        oscillators: Oscillators = self.oscillators(torch.cat(found, dim=-1))
        return oscillators

    def forward(self, context: Context, handles: Handles) -> FieldOutput:
        """The frames in which the handles are as they are; as many handles as stills, N x M."""
        inputs, shared = self.gather(context, handles)
        x: Tensor = self.bottom(inputs[-1])
        for up, mix, level in zip(self.ups, self.mixes, reversed(inputs[:-1]), strict=True):
            x = mix(torch.cat([up(x), level], dim=1))
        values = torch.cat([self.follow(x).float(), self.fields.values(x)], dim=1)
        if self.detail is not None:
            shared = reach(handles, (context.still.shape[2], context.still.shape[3]))
        offset = spread(handles.offset, shared.weights)
        if self.detail is not None:
            values = self.detail(x, values, context.still, offset)
        follow, fields = torch.sigmoid(values[:, :1]), _fields(values, offset)
        displacement, found = anchored(fields.displacement, follow, handles, shared, grip(context.figure, handles))
        fields = restrict(fields._replace(displacement=displacement), context.plate)
        frame = blend(fields, warp_still(context.still, fields), context.still, context.plate)
        return FieldOutput(frame, fields, found)

    def gather(self, context: Context, handles: Handles) -> tuple[list[Tensor], Reach]:
        """What the decoder reads at each size, largest first, and how handles share the pixels of the largest."""
        inputs, reaches = [], []
        for number, maps in enumerate(context.features):
            size = (maps.shape[2], maps.shape[3])
            shared = reach(handles, size)
            offset = spread(handles.offset, shared.weights).permute(0, 2, 3, 1)
            grid = geometry.identity_grid(size, offset) - offset
            parts = [maps, geometry.warp(maps.float(), grid, padding="border"), handle_maps(handles, shared, size)]
            if number:
                keys = context.keys[number - 1]
                query = spread(sample_at(keys, handles.place), shared.weights)
                parts.append(geometry.warp(keys.float(), grid, padding="border") * query)
            joined = torch.cat([part.to(maps.dtype) for part in parts], dim=1)
            inputs.append(joined.contiguous(memory_format=torch.channels_last))
            reaches.append(shared)
        return inputs, reaches[0]

    def expand(self, context: Context, count: int) -> Context:
        """The context of N stills for `count` frames of each, N x count in this order."""

        def repeated(maps: Tensor) -> Tensor:
            return maps.repeat_interleave(count, dim=0)

        plate = None if context.plate is None else repeated(context.plate)
        features, keys = ([repeated(maps) for maps in group] for group in (context.features, context.keys))
        still = features[0] if self.detail is None else repeated(context.still)
        return Context(still, features, keys, repeated(context.figure), plate)


def grip(figure: Tensor, handles: Handles) -> Tensor:
    """How firmly hands hold the still, N x M in [0, 1]: fully on its figure, not at all on the background.

    A hand finds a figure that is `REACHES` pixels away: nobody pokes better than that, nor does estimated flow.

    Args:
        figure: N x 1 x S x S, logits; without gradient, for the figure has a truth of its own.
        handles: N x M; free ones are not held.
    """
    near = F.max_pool2d(figure.detach(), 2 * REACHES + 1, stride=1, padding=REACHES)
    probability = torch.sigmoid(sample_at(near, handles.place))[..., 0]
    firm = ((probability - GRIP_FROM) / (GRIP_FULL - GRIP_FROM)).clamp(0, 1)
    return firm * handles.present * handles.held


def anchored(
    displacement: Tensor, follow: Tensor, handles: Handles, shared: Reach, firm: Tensor
) -> tuple[Tensor, Tensor]:
    """A displacement that takes held handles just where they are held.

    What a handle lacks is added to all pixels by how far they follow it, so that a network in doubt of how much of a
    leaf moves does not let the leaf slip out of the hand. Where it says that nothing follows, a patch does.

    Args:
        displacement: N x S x S x 2, normalised, backward.
        follow: N x 1 x S x S in [0, 1].
        handles: N x M.
        shared: how they share its pixels.
        firm: N x M, see `grip`.

    Returns:
        The displacement, and what it was where the handles are, N x M x 2.
    """
    places = handles.place + handles.offset
    found = sample_at(displacement.permute(0, 3, 1, 2), places)
    here = sample_at(follow, places)[..., None]  # N x M x 1 x 1
    patch = torch.exp(-shared.away.square().sum(2) / (2 * PATCH**2)) * (1 - here)
    goes = torch.maximum((follow / here.clamp_min(LEAST_FOLLOW)).clamp(max=1), patch)  # N x M x S x S
    added = spread(firm[..., None] * (-handles.offset - found), shared.weights * goes)
    return displacement + added.permute(0, 2, 3, 1), found
