"""Ours, beside the paper's forecasting network: a still is moved by its structures, and painted where that fails.

A structure says more than a map shows: which way each pixel of a body or a face has come. From the still's pose to a
frame's every limb is a shift, a rotation and a stretch; from one shape of a face model to another every point of the
surface has a place in the still. This coarse displacement warps the still's feature maps; a decoder corrects it and
says what is copied, uncovered or painted (`rendering.fields`). The paper's network has to paint all that moves out of
a code of 128 numbers (Sec. 3.2), and is as soft as that.

Shapes: N stills, T frames of each, S the side of frames, C the channels of structure maps. A coarse displacement is
... x S x S x 3: (x, y) to where in the still a pixel has come from, normalised, and how far that is to be trusted.
With openings it is ... x S x S x 9: what a mouth shows inside is neither in the still nor on its surface.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from stillmotion import geometry
from stillmotion.morphable.openings import OPENINGS
from stillmotion.nn.unet import Decoder, Encoder, Residual, without_statistics
from stillmotion.rendering.fields import STATIC, FieldHead, MaskHead, blend, restrict, warp_still
from stillmotion.systems.structures.config import StructuresConfig
from stillmotion.systems.structures.forecasting import ForecastOutput


class FieldContext(NamedTuple):
    """What all frames of a video share."""

    features: Sequence[Tensor]  # maps of N stills, in [0, 1] the stills themselves first: S, S/2, S/4, ...
    structure: Tensor  # N x C x S x S, the stills' structure maps
    plate: Tensor | None  # N x 4 x S x S, see `rendering.fields.blend`


class FieldForecast(nn.Module):
    """Fields of frames out of a still, structure maps and a coarse displacement."""

    def __init__(self, config: StructuresConfig):
        super().__init__()
        forecast = config.forecast
        self.encoder = Encoder(3, forecast.width, forecast.max_width, config.halvings)
        # The frame's map, the still's, the coarse displacement, and what is open in the frame and in the still.
        condition = 2 * config.structure.channels + 3 + (2 * OPENINGS if config.structure.openings else 0)
        skips = [channels + condition for channels in self.encoder.channels]
        self.decoder = Decoder(skips, forecast.width, forecast.max_width)
        self.refine = Residual(self.decoder.out_channels)
        self.fields = FieldHead(self.decoder.out_channels)
        self.mask = MaskHead(self.encoder.channels)
        without_statistics(self)

    def encode(self, still: Tensor, structure: Tensor, plate: Tensor | None = None) -> FieldContext:
        """What is known of N stills, once per video.

        Args:
            still: N x 3 x S x S in [-1, 1].
            structure: N x C x S x S, the stills' structure maps.
            plate: N x 4 x S x S, RGB in [0, 1] and whether it is known; None: nowhere.
        """
        return FieldContext(self.encoder((still + 1) / 2), structure, plate)

    def figure(self, context: FieldContext) -> Tensor:
        """Logits of the figure in N stills; N x 1 x S x S."""
        logits: Tensor = self.mask(context.features)
        return logits

    def decode(self, context: FieldContext, targets: Tensor, coarse: Tensor) -> ForecastOutput:
        """NT frames of N stills.

        Args:
            context: of the stills.
            targets: NT x C x S x S, the structure maps of the frames.
            coarse: NT x S x S x 3, with openings NT x S x S x 9.
        """
        context = _repeated(context, len(targets) // len(context.structure))
        still, displacement = context.features[0], coarse[..., :2]
        condition = torch.cat([targets, context.structure, coarse.permute(0, 3, 1, 2)], dim=1)
        grid = geometry.identity_grid((still.shape[2], still.shape[3]), displacement) + displacement
        skips = []
        for maps in context.features:
            size = (maps.shape[2], maps.shape[3])
            warped = geometry.warp(maps, geometry.resize_grid(grid, size))
            here = geometry.resize_map(condition, size, "bilinear").to(warped.dtype)
            skips.append(torch.cat([warped, here], dim=1).contiguous(memory_format=torch.channels_last))
        fields = restrict(self.fields(self.refine(self.decoder(skips)), displacement), context.plate)
        warped = warp_still(still, fields)
        frame = blend(fields, warped, still, context.plate)
        mask = 1 - fields.shares[:, STATIC : STATIC + 1]
        return ForecastOutput(2 * frame - 1, mask, 2 * fields.paint - 1, fields, warped)


def _repeated(context: FieldContext, times: int) -> FieldContext:
    if times == 1:
        return context
    features = [maps.repeat_interleave(times, dim=0) for maps in context.features]
    plate = None if context.plate is None else context.plate.repeat_interleave(times, dim=0)
    return FieldContext(features, context.structure.repeat_interleave(times, dim=0), plate)
