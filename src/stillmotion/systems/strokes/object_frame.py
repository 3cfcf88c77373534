"""Ours: generators that use the still's own pixels, moved along the stroke, and the frame of reference of the object.

`WarpGenerator` (`warp_still`) blends generated RGB, the still, and the still translated by the stroke so far.

`ObjectFrameGenerator` (`object_frame`) works in a frame of reference that follows the stroke: E1 sees pictures, and
E2 strokes, translated so that the object is where it is in the still; P predicts and G generates there, and the
generated foreground is moved along the stroke and composited over the background. In the object's frame a gait is
periodic, so P sees the same state once per stride, and E1's feature maps of the still are aligned with what G
generates, so they are skip connections. With `crop_zoom` the networks see the object alone, enlarged; the rest of the
still does not change.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion import geometry
from stillmotion.systems.strokes.config import StrokesConfig

MAX_DISPLACEMENT = 0.25  # of the foreground's warp, normalised: an eighth of the side that the networks see


class GeneratorOutput(NamedTuple):
    """A frame and what it is blended of.

    frame = still_share * still + (1 - still_share) * (warp_share * warped + (1 - warp_share) * rgb), where warped is
    the still sampled at displacement - shift (see `ObjectFrame`). Without a blend all three pictures are the same.
    """

    frame: Tensor  # N x 3 x s x s in [-1, 1]
    unblended: Tensor  # N x 3 x s x s: the frame with generated RGB in place of the still's pixels
    rgb: Tensor  # N x 3 x s x s: generated RGB as it is blended
    still_share: Tensor | None = None  # N x 1 x s x s in [0, 1]
    warp_share: Tensor | None = None  # N x 1 x s x s in [0, 1]
    displacement: Tensor | None = None  # N x 2 x s x s, normalised (x, y), beside the stroke's; None is zero


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


def translate(pictures: Tensor, shift: Tensor, displacement: Tensor | None = None) -> Tensor:
    """Pictures N x C x s x s translated by `shift` (N x 2, normalised), borders replicated.

    With a displacement (N x 2 x s x s, normalised) each pixel of the result is sampled that much further.
    """
    offset = -shift.float()[:, None, None]
    offset = offset if displacement is None else offset + displacement.float().permute(0, 2, 3, 1)
    return _sample(pictures, offset, 1.0, "border")


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


class BlendMask(nn.Module):
    """The share of the warped still in a blend with generated RGB."""

    def __init__(self, inputs: int):
        super().__init__()
        self.hidden = nn.Conv2d(inputs, 16, 3, padding=1)
        self.share = nn.Conv2d(16, 1, 3, padding=1)

    def forward(self, features: Tensor, rgb: Tensor, warped: Tensor, still: Tensor) -> Tensor:
        """G's last features, N x C x s x s, and three pictures, N x 3 x s x s, to N x 1 x s x s in [0, 1]."""
        x = torch.cat([features, rgb.detach(), warped, still], dim=1)  # N x (C + 9) x s x s
        return torch.sigmoid(self.share(F.relu(self.hidden(x))))


class WarpGenerator(nn.Module):
    """G with `warp_still`: one convolution gives RGB and the share of the still, two that of the warped still."""

    def __init__(self, config: StrokesConfig):
        super().__init__()
        self.layers, self.colours = decoder_layers(config)
        self.share = BlendMask(config.generator.widths[-1] + 9)

    def forward(self, state: Tensor, still: Tensor, _: Sequence[Tensor], frame: ObjectFrame) -> GeneratorOutput:
        """Generate a frame; arguments as for `ObjectFrameGenerator`."""
        for layer in self.layers:  # N x C x s/8 x s/8 -> s/4 -> s/2 -> s
            state = F.relu(layer(state))
        rgb, still_share = split_colours(self.colours(state), self.training)
        warped = translate(still, frame.shift)  # N x 3 x s x s
        warp_share = self.share(state, rgb, warped, still)  # N x 1 x s x s
        blend = rgb + warp_share * (warped - rgb)
        return GeneratorOutput(blend + still_share * (still - blend), rgb, rgb, still_share, warp_share)


class ObjectFrameGenerator(nn.Module):
    """G with `object_frame`: a background, and a foreground that moves with the stroke."""

    def __init__(self, config: StrokesConfig):
        super().__init__()
        half, quarter, _ = config.encoder.widths  # channels of E1's maps at s/2 and s/4
        self.layers, self.colours = decoder_layers(config, (0, quarter, half))
        self.layer = ForegroundHead(config.generator.widths[-1])

    def forward(
        self, state: Tensor, still: Tensor, features: Sequence[Tensor], frame: ObjectFrame
    ) -> GeneratorOutput:
        """Generate a frame.

        Args:
            state: N x C x s/8 x s/8.
            still: N x 3 x s x s in [-1, 1].
            features: the still as E1 sees it, and E1's maps of it at s/2 and s/4.
            frame: the object's, at the frame's point.
        """
        first, *others = self.layers
        state = F.relu(first(state))  # N x C x s/4 x s/4
        for layer, skip in zip(others, reversed(features[1:]), strict=True):
            state = F.relu(layer(torch.cat([state, skip], dim=1)))  # s/2, s
        background, still_share = split_colours(self.colours(state), self.training)
        return alpha_composite(self.layer(state, features[0]), background, still_share, still, frame)


class Foreground(NamedTuple):
    """What moves with the stroke, per pixel of the object's frame or of the picture."""

    rgb: Tensor  # N x 3 x s x s, generated
    alpha: Tensor  # N x 1 x s x s in [0, 1]: how far it covers the background
    warp_share: Tensor  # N x 1 x s x s in [0, 1]: the share of the still's own pixels in it
    displacement: Tensor  # N x 2 x s x s, normalised (x, y): where it is sampled, beside the stroke's shift


class ForegroundHead(nn.Module):
    """The foreground from G's last features and the still, both in the object's frame."""

    def __init__(self, inputs: int):
        super().__init__()
        self.hidden = nn.Conv2d(inputs + 3, inputs, 3, padding=1)
        self.colours = nn.Conv2d(inputs, 6, 3, padding=1)
        self.share = BlendMask(inputs + 9)

    def forward(self, x: Tensor, still: Tensor) -> Foreground:
        """N x C x s x s and N x 3 x s x s to the foreground in the object's frame."""
        x = F.relu(self.hidden(torch.cat([x, still.to(x.dtype)], dim=1)))  # N x C x s x s
        output = self.colours(x)  # N x (3 + 1 + 2) x s x s
        rgb = output[:, :3] if self.training else output[:, :3].clamp(-1, 1)
        alpha, displacement = torch.sigmoid(output[:, 3:4]), MAX_DISPLACEMENT * torch.tanh(output[:, 4:].float())
        warped = translate(still, still.new_zeros(len(still), 2), displacement)
        return Foreground(rgb, alpha, self.share(x, rgb, warped, still), displacement)


def alpha_composite(
    foreground: Foreground, background: Tensor, still_share: Tensor, still: Tensor, frame: ObjectFrame
) -> GeneratorOutput:
    """The foreground moved along the stroke, over the background, which is generated RGB blended with the still.

    Args:
        foreground: in the object's frame, as are the next two.
        background: N x 3 x s x s.
        still_share: of the still in the background, N x 1 x s x s.
        still: N x 3 x s x s.
        frame: the object's, at the frame's point.
    """
    front = place_foreground(foreground, frame)
    background, still_share = place_background(background, still_share, still.float(), frame)
    still, alpha = still.float(), front.alpha
    warped = translate(still, frame.shift, front.displacement)  # N x 3 x s x s
    front_rgb = front.rgb + front.warp_share * (warped - front.rgb)
    ground = background + still_share * (still - background)
    picture = ground + alpha * (front_rgb - ground)
    unblended = background + alpha.detach() * (front.rgb - background)
    # The same picture as shares of the still, the warped still, and RGB, which has the rest.
    kept, moved = (1 - alpha) * still_share, alpha * front.warp_share
    rest = (1 - kept).clamp_min(1e-6)
    rgb = (1 - alpha) * (1 - still_share) * background + alpha * (1 - front.warp_share) * front.rgb
    rgb = rgb / (1 - kept - moved).clamp_min(1e-6)
    return GeneratorOutput(picture, unblended, rgb, kept, moved / rest, front.displacement)


def place_foreground(foreground: Foreground, frame: ObjectFrame) -> Foreground:
    """The foreground where it is in the picture; transparent outside of what the networks see."""
    parts = (foreground.rgb, foreground.warp_share, foreground.displacement / frame.zoom)
    maps = torch.cat([part.float() for part in parts], dim=1)
    rgb, warp_share, displacement = from_object_frame(maps, frame).split((3, 1, 2), dim=1)
    return Foreground(rgb, from_object_frame(foreground.alpha, frame, "zeros"), warp_share, displacement)


def place_background(
    background: Tensor, still_share: Tensor, still: Tensor, frame: ObjectFrame
) -> tuple[Tensor, Tensor]:
    """The background and the still's share where the networks saw the still; outside of that all is the still's."""
    if frame.zoom == 1:
        return background.float(), still_share.float()
    start = frame._replace(shift=torch.zeros_like(frame.shift))
    inside = from_object_frame(torch.ones_like(still_share, dtype=torch.float32), start, "zeros")
    background = still + inside * (from_object_frame(background, start) - still)
    return background, 1 - from_object_frame(1 - still_share.float(), start, "zeros")


def decoder_layers(config: StrokesConfig, skips: Sequence[int] = (0, 0, 0)) -> tuple[nn.ModuleList, nn.Module]:
    """The paper's layers of G, with further input channels, and one more output beside RGB."""
    widths = (config.encoder.widths[-1], *config.generator.widths)
    pairs = zip(itertools.pairwise(widths), skips, strict=True)
    layers = nn.ModuleList(nn.ConvTranspose2d(a + more, b, 4, 2, 1) for (a, b), more in pairs)
    return layers, nn.ConvTranspose2d(widths[-1], 4, 3, 1, 1)


def split_colours(colours: Tensor, training: bool) -> tuple[Tensor, Tensor]:
    """RGB, clamped to [-1, 1] outside of training, and the share of the still in [0, 1]; N x 4 x s x s."""
    rgb = colours[:, :3]
    return rgb if training else rgb.clamp(-1, 1), torch.sigmoid(colours[:, 3:])
