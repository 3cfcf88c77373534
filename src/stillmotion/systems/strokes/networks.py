"""E1, E2, P and G. s is the picture's side, h = s / 8 that of the state; the release has 256 and 32.

One step: state' = P(state, h_0, E2(S), E2(S_t)), frame' = G(state'), with h_0 = E1(still) as the first state.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.nn.padding import SameConv2d
from stillmotion.nn.spectral import SpectralConvTranspose2d
from stillmotion.systems.strokes import carrying, coding
from stillmotion.systems.strokes.config import StrokesConfig
from stillmotion.systems.strokes.judges import FrameDiscriminator, PairDiscriminator

_SLOPE = 0.2
_INSTANCE_EPSILON = 1e-9
"""A drawn stroke is almost constant: its first maps have variances of 1e-6, which a usual epsilon would drown."""


class Drawn(NamedTuple):
    """What the generator makes of a state.

    Attributes:
        frame: N x 3 x s x s in [-1, 1], blended with the still where there is a blend.
        painted: the same before the still is blended in; with `carry` the still moved by the stroke is part of it.
        keep: N x 1 x s x s in [0, 1], the share of the still in each pixel; None without `composite`.
        own: with `carry`, what G paints itself.
        share: with `carry`, how much of `painted` is the moved still; N x 1 x s x s in [0, 1].
        flow: with `stabilise`, how much further away the moved still's pixels are taken from; see `carrying.Piece`.
        alone: with `stabilise`, the frame with paint in place of every pixel of the still.
    """

    frame: Tensor
    painted: Tensor
    keep: Tensor | None
    own: Tensor | None = None
    share: Tensor | None = None
    flow: Tensor | None = None
    alone: Tensor | None = None

    @property
    def paint(self) -> Tensor:
        """What G paints, before any blend."""
        if self.alone is not None:
            return self.alone
        return self.painted if self.own is None else self.own


class Prepared(NamedTuple):
    """The predictor made ready for inputs of which some stay the same.

    Attributes:
        shares: per unit, and for the transition at the end, what the constant inputs contribute to its first
            convolution, bias included; N x channels x h x h.
        weights: of these convolutions, those for the inputs that vary.
    """

    shares: list[Tensor]
    weights: list[Tensor]


@dataclass(frozen=True)
class Context:
    """What does not change over the steps of an animation; made by `StrokesNetworks.begin`.

    Attributes:
        still: N x 3 x s x s in [-1, 1].
        points: N x T x 2, (x, y) in pixels of the networks' picture.
        initial: h_0, N x state x h x h; the first state.
        whole: E2(S), if S is used and stays the same.
        prepared: the predictor with what is constant worked in, or None to compute everything at every step.
        skips: the still as E1 has seen it, and E1's maps of it.
    """

    still: Tensor
    points: Tensor
    initial: Tensor
    whole: Tensor | None
    prepared: Prepared | None
    skips: Sequence[Tensor] = ()


class StrokesNetworks(nn.Module):
    """E1, E2, P and G, and the discriminators that the configuration asks for (None otherwise)."""

    def __init__(self, config: StrokesConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(3, config)
        self.motion = Encoder(config.channels, config)
        self.predictor = Predictor(config)
        self.decoder = Decoder(config)
        self.frame_discriminator = FrameDiscriminator(config) if config.judges_frames else None
        self.pair_discriminator = PairDiscriminator(config) if config.judges_pairs else None
        initialise(self)

    def begin(self, still: Tensor, points: Tensor, fast: bool = True) -> Context:
        """Compute once what all steps share.

        Args:
            still: N x 3 x s x s in [-1, 1].
            points: N x T x 2, (x, y) in pixels of the networks' picture.
            fast: work h_0 (and E2(S), if it stays the same) into the predictor's first convolutions; equal but for
                rounding.

        Raises:
            StillmotionError: the stroke cannot be coded; see `coding`.
        """
        camera = self.camera(points, -1)
        seen = still if camera is None or not self.config.stabilise else carrying.seen_by(camera, still)
        *maps, initial = self.encoder.maps(seen)
        constants, whole = [initial], None
        if self.config.motion_input != "step" and not self.config.moving_window:
            whole = self.motion(coding.whole(points, self.config))
            constants.append(whole)
        prepared = self.predictor.prepare(constants) if fast else None
        return Context(still, points, initial, whole, prepared, [seen, *maps])

    def advance(self, context: Context, state: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """One step, from frame t to frame t + 1 (t up to T - 2): the next state and the next frame."""
        state = self.predict(context, state, t)
        return state, self.draw(context, state, t).frame

    def predict(self, context: Context, state: Tensor, t: int) -> Tensor:
        """The next state alone."""
        pictures = self.motion_pictures(context.points, t)
        if context.whole is not None:
            pictures = pictures[1:]
        codes = self.encode_motion(pictures)
        if context.prepared is None:
            known = [context.initial] if context.whole is None else [context.initial, context.whole]
            return self.predictor([state, *known, *codes])
        return self.predictor.varying([state, *codes], context.prepared)

    def draw(self, context: Context, state: Tensor, t: int = -1) -> Drawn:
        """Frame t + 1 from its state, and the still's share of every pixel (for output at the still's own size)."""
        return self.decoder(state, context.still, self.camera(context.points, t), context.skips)

    def camera(self, points: Tensor, t: int) -> carrying.Camera | None:
        """The camera at point t + 1 of the stroke, N x T x 2 in pixels; None without `carry`."""
        config = self.config
        return carrying.camera(points, t + 1, config.size, config.zoom) if config.carry else None

    def motion_pictures(self, points: Tensor, t: int) -> list[Tensor]:
        """S and S_t, or the one of them that is used; N x channels x s x s."""
        wanted, made = self.config.motion_input, []
        if self.config.stabilise:
            points = carrying.stabilised(points, t, self.config.size, self.config.zoom)
        if wanted != "step":
            made.append(coding.whole(points, self.config, t))
        if wanted != "whole":
            made.append(coding.step(points, t, self.config))
        return made

    def encode_motion(self, pictures: Sequence[Tensor]) -> list[Tensor]:
        """E2 of each picture, with one set of weights; N x state x h x h each."""
        return list(self.motion(torch.cat(list(pictures))).chunk(len(pictures))) if pictures else []


class Encoder(nn.Module):
    """E1 and E2: three convolutions, each halves the picture."""

    def __init__(self, inputs: int, config: StrokesConfig):
        super().__init__()
        widths = (inputs, *config.encoder_widths, config.state)
        self.layers = nn.ModuleList(SameConv2d(a, b, 3, 2) for a, b in itertools.pairwise(widths))
        self.normalises = config.encoder_norm == "instance"

    def forward(self, x: Tensor) -> Tensor:
        """N x inputs x s x s -> N x state x h x h."""
        return self.maps(x)[-1]

    def maps(self, x: Tensor) -> list[Tensor]:
        """What each convolution gives: N x (widths, state) x s/2, s/4 and s/8."""
        made = []
        for layer in self.layers:
            x = layer(x)
            x = F.leaky_relu(instance_norm(x) if self.normalises else x, _SLOPE)
            made.append(x)
        return made


def instance_norm(x: Tensor) -> Tensor:
    """Mean 0 and (biased) variance 1 per sample and channel; N x C x H x W, computed in float32."""
    variance, mean = torch.var_mean(x.float(), dim=(2, 3), correction=0, keepdim=True)
    return ((x.float() - mean) * torch.rsqrt(variance + _INSTANCE_EPSILON)).to(x.dtype)


class Predictor(nn.Module):
    """P: dense blocks and a transition. Each convolution sees all inputs and all units' outputs so far, rectified."""

    def __init__(self, config: StrokesConfig):
        super().__init__()
        self.state, channels, self.residual = config.state, config.predictor_inputs * config.state, config.residual
        blocks = []
        for _ in range(config.blocks):
            blocks.append(DenseBlock(channels, config))
            channels = blocks[-1].out_channels
        self.blocks = nn.ModuleList(blocks)
        self.transition = nn.Conv2d(channels, config.state, 1)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Current state, h_0, E2(S), E2(S_t), N x state x h x h each, to the next state, which has no activation."""
        x = F.relu(torch.cat(list(inputs), dim=1))
        for unit in self.units:
            x = torch.cat([x, F.relu(unit(unit.narrow(x)))], dim=1)
        return self.onward(inputs[0], self.transition(x))

    def onward(self, state: Tensor, made: Tensor) -> Tensor:
        """The next state from the current one and what the transition gives."""
        return state + made if self.residual else made

    @property
    def units(self) -> list[Unit]:
        """All units in order. A block passes on all it was given, so each unit sees the outputs of all before it."""
        return [unit for block in self.blocks for unit in block.units]  # type: ignore[union-attr]

    def prepare(self, constants: Sequence[Tensor]) -> Prepared:
        """Work inputs that stay the same, h_0 and perhaps E2(S), into all 1x1 convolutions.

        A 1x1 convolution of rectified maps one behind the other is the sum of the convolutions of its parts.
        """
        first, last = self.state, self.state * (1 + len(constants))
        x = F.relu(torch.cat(list(constants), dim=1))
        shares, weights = [], []
        for layer in [*(unit.narrow for unit in self.units), self.transition]:
            shares.append(F.conv2d(x, layer.weight[:, first:last], layer.bias))
            weights.append(torch.cat([layer.weight[:, :first], layer.weight[:, last:]], dim=1))
        return Prepared(shares, weights)

    def varying(self, inputs: Sequence[Tensor], prepared: Prepared) -> Tensor:
        """`forward` from the inputs that vary, in the same order, equal but for rounding."""
        x = F.relu(torch.cat(list(inputs), dim=1))
        *inner, (share, weight) = zip(*prepared, strict=True)
        for unit, (known, rest) in zip(self.units, inner, strict=True):
            x = torch.cat([x, F.relu(unit(known + F.conv2d(x, rest)))], dim=1)
        return self.onward(inputs[0], share + F.conv2d(x, weight))


class DenseBlock(nn.Module):
    """Some units; the block's output is its input and all their outputs."""

    def __init__(self, channels: int, config: StrokesConfig):
        super().__init__()
        self.units = nn.ModuleList(Unit(channels + i * config.growth, config) for i in range(config.units))
        self.out_channels = channels + config.units * config.growth


class Unit(nn.Module):
    """ReLU, 1x1 convolution, ReLU, 3x3 convolution; the predictor applies the first two."""

    def __init__(self, channels: int, config: StrokesConfig):
        super().__init__()
        self.narrow = nn.Conv2d(channels, config.bottleneck, 1)
        self.wide = nn.Conv2d(config.bottleneck, config.growth, 3, padding=1)

    def forward(self, narrowed: Tensor) -> Tensor:
        """What the 1x1 convolution gives, N x bottleneck x h x h, to N x growth x h x h."""
        return self.wide(F.relu(narrowed))


class Decoder(nn.Module):
    """G: three transposed convolutions, each doubles the map, and one more to colours."""

    def __init__(self, config: StrokesConfig):
        super().__init__()
        widths = (config.state, *config.generator_widths)
        make = SpectralConvTranspose2d if config.generator_norm == "spectral" else nn.ConvTranspose2d
        self.skips = config.skips
        more = (0, config.encoder_widths[1], config.encoder_widths[0]) if config.skips else (0, 0, 0)
        pairs = zip(itertools.pairwise(widths), more, strict=True)
        self.layers = nn.ModuleList(make(a + seen, b, 4, 2, 1) for (a, b), seen in pairs)
        self.colours = make(widths[-1], 4 if config.composite else 3, 3, 1, 1)
        self.composite, self.bounded = config.composite, config.colours == "tanh"
        self.share = carrying.Share(widths[-1] + 9) if config.carry and not config.stabilise else None
        self.layer = carrying.Layer(widths[-1], config.skips) if config.stabilise else None

    def forward(
        self, state: Tensor, still: Tensor, camera: carrying.Camera | None = None, skips: Sequence[Tensor] = ()
    ) -> Drawn:
        """Paint a state, and blend.

        Args:
            state: N x state x h x h.
            still: what may be kept, N x 3 x s x s.
            camera: how far the stroke has gone, and what E1 has seen of the still; needed with `carry`.
            skips: the still as E1 has seen it, and E1's maps of it at s/2 and s/4; needed with `stabilise`.
        """
        more = [None, *reversed(skips[1:])] if self.skips else [None] * len(self.layers)
        for layer, skip in zip(self.layers, more, strict=True):
            state = F.relu(layer(state if skip is None else torch.cat([state, skip], dim=1)))
        made = self.colours(state)
        painted, own, share = torch.tanh(made[:, :3]) if self.bounded else made[:, :3], None, None
        if not self.training:
            painted = painted.clamp(-1, 1)
        if not self.composite:
            return Drawn(painted, painted, None)
        keep = torch.sigmoid(made[:, 3:])
        if self.layer is not None:
            assert camera is not None
            return layered(self.layer(state, skips[0]), painted, keep, still, camera)
        if self.share is not None:
            assert camera is not None
            moved = carrying.moved(still, camera.shift)
            own, share = painted, self.share(torch.cat([state, painted.detach(), moved, still], dim=1))
            painted = own + share * (moved - own)
        return Drawn(painted + keep * (still - painted), painted, keep, own, share)


def layered(piece: carrying.Piece, behind: Tensor, keep: Tensor, still: Tensor, camera: carrying.Camera) -> Drawn:
    """A piece of the still, bent and painted, moved by the stroke over what is painted behind it and what is kept.

    Args:
        piece: where the object lay in the still, as the camera sees it; as are the next two.
        behind: what is painted where the still is not kept, and no piece lies over it; N x 3 x s x s.
        keep: the share of the still behind the piece.
        still: N x 3 x s x s.
        camera: at the frame's point.

    Returns:
        The frame, and its parts as `Drawn` has them: kept, carried and painted shares of each pixel.
    """
    piece, carried = carrying.shown(piece, still, camera)
    still = still.float()
    behind, keep = carrying.ground(camera, behind, keep, still)
    cover, share = piece.cover, piece.share
    front = piece.paint + share * (carried - piece.paint)
    ground = behind + keep * (still - behind)
    frame = ground + cover * (front - ground)
    alone = behind + cover.detach() * (piece.paint - behind)
    kept, moved = (1 - cover) * keep, cover * share  # the rest is paint
    rest = (1 - kept).clamp_min(1e-6)
    own = ((1 - cover) * (1 - keep) * behind + cover * (1 - share) * piece.paint) / (1 - kept - moved).clamp_min(1e-6)
    return Drawn(frame, (frame - kept * still) / rest, kept, own, moved / rest, piece.flow, alone)


@torch.no_grad()
def initialise(networks: StrokesNetworks) -> None:
    """Draw first weights: the release's (sheet section 2.8), or scaled to each layer's inputs (He et al.)."""
    ours, decoder = networks.config.initialisation == "scaled", networks.decoder
    colours = [decoder.colours, *([] if decoder.layer is None else [decoder.layer.colours])]
    for name, network in networks.named_children():
        predicts = name in ("encoder", "motion", "predictor")
        for layer in network.modules():
            if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                continue
            deviation = 0.01 if predicts else 0.02
            if ours and (predicts or name == "decoder"):
                deviation = math.sqrt(2 / inputs_per_output(layer))
            if ours and any(layer is other for other in colours):
                deviation /= 10  # begin near grey, and near an even blend
            if ours and networks.config.residual and layer is networks.predictor.transition:
                deviation /= 10  # begin with a state that stays
            nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
            assert layer.bias is not None
            nn.init.constant_(layer.bias, 0.01 if predicts else 0.0)


def inputs_per_output(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> float:
    """How many products add up to one value that a layer gives."""
    if isinstance(layer, nn.ConvTranspose2d):
        return layer.weight[:, 0].numel() / layer.stride[0] ** 2
    return layer.weight[0].numel()
