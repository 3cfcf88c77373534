"""Ours: a generator that ends in fields (see `rendering`), and the frame of reference of the object.

With `object_frame` the networks work in a frame of reference that follows the stroke: E1 sees pictures, and E2
strokes, translated so that the object is where it is in the still; P predicts and G generates there, and what G
makes of the object is moved along the stroke and put over the background. In the object's frame a gait is periodic,
so P sees the same state once per stride, and E1's feature maps of the still are aligned with what G generates, so
they are skip connections. With `crop_zoom` the networks see the object alone, enlarged; the rest of the still does
not change.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion import geometry
from stillmotion.nn.unet import zero_init
from stillmotion.rendering.fields import PAINT, WARPED, FieldHead, Fields, MaskHead, blend, restrict, warp_still
from stillmotion.systems.strokes.config import StrokesConfig

SAME_BELOW = 1e-3
"""Where the plate differs from the still by less (largest channel), it is the still's own background."""


class GeneratorOutput(NamedTuple):
    """A frame and the fields it is blended of; the paper's generator has none."""

    frame: Tensor  # N x 3 x s x s in [-1, 1]
    unblended: Tensor  # N x 3 x s x s: with paint in place of the still's moved pixels, which alone has its gradient
    fields: Fields | None = None  # where they are in the picture; the displacement counts the stroke's shift


class ObjectFrame(NamedTuple):
    """What the networks see of the still, and how far the object has moved."""

    centre: Tensor  # N x 2, normalised (x, y): the middle of the part of the still that they see
    zoom: float  # they see 1 / zoom of the side
    shift: Tensor  # N x 2, normalised: displacement of the object, and of what they see, since the still


def object_frame(points: Tensor, t: int, config: StrokesConfig) -> ObjectFrame:
    """The object's frame of reference at point t of a stroke, N x T x 2 in pixels of the networks' frames.

    Without a zoom it shows the whole still; with one, the first point is in its middle.
    """
    size, zoom = (config.size, config.size), config.generator.crop_zoom
    shift = geometry.displacement_to_normalised(points[:, t] - points[:, 0], size)
    start = geometry.to_normalised(points[:, 0], size)
    return ObjectFrame(start if zoom > 1 else torch.zeros_like(start), zoom, shift)


def to_object_frame(pictures: Tensor, frame: ObjectFrame) -> Tensor:
    """Pictures N x C x s x s as seen in the object's frame, the same size; borders replicated."""
    return _sample(pictures, (frame.centre + frame.shift)[:, None, None], 1 / frame.zoom, "border")


def from_object_frame(maps: Tensor, frame: ObjectFrame, padding: str = "border") -> Tensor:
    """Inverse of `to_object_frame`: maps N x C x s x s where they are in the picture."""
    offset = (frame.centre + frame.shift)[:, None, None]
    return _sample(maps, -frame.zoom * offset, frame.zoom, padding)


def translate(pictures: Tensor, shift: Tensor) -> Tensor:
    """Pictures N x C x s x s translated by `shift` (N x 2, normalised), borders replicated."""
    return _sample(pictures, -shift.float()[:, None, None], 1.0, "border")


def _sample(pictures: Tensor, offset: Tensor, scale: float, padding: str) -> Tensor:
    """Each pixel from `scale` times its position plus `offset`, normalised; N x 1 x 1 x 2, or one for each pixel."""
    with torch.autocast(pictures.device.type, enabled=False):
        grid = scale * geometry.identity_grid((pictures.shape[2], pictures.shape[3]), offset) + offset.float()
        return geometry.warp(pictures.float(), grid, padding=padding)


def stroke_in_object_frame(points: Tensor, t: int, config: StrokesConfig) -> Tensor:
    """A stroke in pixels of the object's frame at point t: that point is where the object is in the still.

    Point 0 stays there and marks the object. Behind point t nothing else is shown (`stroke.lookahead`).
    """
    zoom = config.generator.crop_zoom
    origin = torch.full_like(points[:, :1], (config.size - 1) / 2) if zoom > 1 else points[:, :1]
    moved = (points - points[:, t : t + 1]) * zoom + origin
    return torch.cat([origin, moved[:, 1:]], dim=1)


class FieldGenerator(nn.Module):
    """G with `fields`: the paper's layers, and fields from its last maps and the still."""

    def __init__(self, config: StrokesConfig):
        super().__init__()
        half, quarter, eighth = config.encoder.widths  # channels of E1's maps at s/2, s/4 and s/8
        self.object_frame, self.moved_skips = config.generator.object_frame, config.generator.moved_skips
        copies = 2 if self.moved_skips else int(self.object_frame)  # of E1's maps of the still
        self.layers = decoder_layers(config, (0, copies * quarter, copies * half))
        width = config.generator.widths[-1]
        self.hidden = nn.Conv2d(width + 3 * max(1, copies), width, 3, padding=1)
        self.fields = FieldHead(width)
        self.mask = MaskHead((3, half, quarter, eighth))
        # It starts at "no figure": clips that do not know theirs never train it (see `StrokesNetworks.figure`).
        zero_init(self.mask.logit, {0: -4.0})

    def forward(
        self, state: Tensor, still: Tensor, features: Sequence[Tensor], plate: Tensor | None, frame: ObjectFrame
    ) -> GeneratorOutput:
        """Generate a frame.

        Args:
            state: N x C x s/8 x s/8.
            still: N x 3 x s x s in [-1, 1].
            features: the still as E1 sees it, and E1's maps of it at s/2 and s/4.
            plate: N x 4 x s x s, in [0, 1]; see `rendering.fields.blend`.
            frame: the object's, at the frame's point.
        """
        if self.moved_skips:
            features = [torch.cat([maps, translate(maps, frame.shift).to(maps.dtype)], dim=1) for maps in features]
        seen, *maps = features
        skips = reversed(maps) if self.object_frame or self.moved_skips else (None, None)
        for layer, skip in zip(self.layers, (None, *skips), strict=True):  # s/4, s/2, s
            state = F.relu(layer(state if skip is None else torch.cat([state, skip], dim=1)))
        x = F.relu(self.hidden(torch.cat([state, seen.to(state.dtype)], dim=1)))
        fields, picture = self.fields(x), (still.float() + 1) / 2
        if self.object_frame:
            fields = place(fields, picture, plate, frame)
        else:
            shift = frame.shift.float()[:, None, None]
            fields = restrict(fields._replace(displacement=fields.displacement - shift), plate)
        return blended(fields, picture, plate)

    def figure(self, features: Sequence[Tensor], initial: Tensor) -> Tensor:
        """Logits of the object in the still as E1 sees it, from E1's maps; N x 1 x s x s."""
        logits: Tensor = self.mask([*features, initial])
        return logits


def blended(fields: Fields, picture: Tensor, plate: Tensor | None) -> GeneratorOutput:
    """The frame of fields where they are in the picture; the still N x 3 x s x s and its plate in [0, 1]."""
    frame = blend(fields, warp_still(picture, fields), picture, plate)
    shares = fields.shares.detach().clone()
    shares[:, PAINT] += shares[:, WARPED]
    shares[:, WARPED] = 0.0
    painted = blend(fields._replace(shares=shares), picture, picture, plate)
    return GeneratorOutput(frame * 2 - 1, painted * 2 - 1, fields)


def place(fields: Fields, picture: Tensor, plate: Tensor | None, frame: ObjectFrame) -> Fields:
    """Fields of the object's frame where they are in the picture.

    The moved still and the paint move along the stroke. Behind them is the background: the plate where it differs
    from the still, and else the still.

    Args:
        fields: of N frames, in the object's frame.
        picture: the still, N x 3 x s x s in [0, 1].
        plate: N x 4 x s x s.
        frame: the object's.
    """
    inner = torch.cat([fields.displacement.permute(0, 3, 1, 2) / frame.zoom, fields.paint], dim=1)
    displacement, paint = from_object_frame(inner, frame).split((2, 3), dim=1)
    front = from_object_frame(fields.shares, frame, "zeros")
    rest = 1 - front[:, WARPED] - front[:, PAINT]
    hidden = torch.zeros_like(rest) if plate is None else behind(picture, plate)[:, 0]
    shares = [front[:, WARPED], rest * (1 - hidden), rest * hidden, front[:, PAINT]]
    shift = frame.shift.float()[:, None, None]
    return Fields(displacement.permute(0, 2, 3, 1) - shift, torch.stack(shares, dim=1), paint)


def behind(picture: Tensor, plate: Tensor) -> Tensor:
    """Where a known plate is not the still's own background; N x 1 x s x s, 0 or 1."""
    differs = (plate[:, :3] - picture).abs().amax(1, keepdim=True) > SAME_BELOW
    return differs.float() * plate[:, 3:]


def decoder_layers(config: StrokesConfig, skips: Sequence[int]) -> nn.ModuleList:
    """The paper's layers of G, with further input channels."""
    widths = (config.encoder.widths[-1], *config.generator.widths)
    pairs = zip(itertools.pairwise(widths), skips, strict=True)
    return nn.ModuleList(nn.ConvTranspose2d(a + more, b, 4, 2, 1) for (a, b), more in pairs)
