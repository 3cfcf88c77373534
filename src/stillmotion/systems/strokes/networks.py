"""E1, E2, P, G, D1 and D2, from the whole down to the parts (Sec. III, Fig. 2).

Shapes: N clips, s the side of frames, h = s / 8 that of states, C channels of states (`encoder.widths[-1]`). Frames
are RGB in [-1, 1].
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.nn.padding import SameConv2d
from stillmotion.nn.spectral import SpectralConv2d, SpectralConvTranspose2d, SpectralLinear
from stillmotion.systems.strokes.config import StrokesConfig
from stillmotion.systems.strokes.object_frame import (
    FieldGenerator,
    GeneratorOutput,
    ObjectFrame,
    from_object_frame,
    object_frame,
    stroke_in_object_frame,
    to_object_frame,
)
from stillmotion.systems.strokes.stroke_encoding import stroke_maps

_INITIALISED = ("fields.flow", "fields.shares", "mask.logit")  # they start at "keep the still" and "no figure"
_ENCODER_SLOPE, _DISCRIMINATOR_SLOPE = 0.2, 0.1
_INSTANCE_EPSILON = 1e-9
"""The map of a stroke is almost constant: the variances of its first features are 1e-6, below the usual epsilon."""

# Kernel, stride and width (over that of the first layer) of each convolution of a discriminator.
_DISCRIMINATOR_LAYERS = ((3, 1, 1), (4, 2, 2), (3, 1, 2), (4, 2, 4), (3, 1, 4), (4, 2, 8), (3, 1, 8))


class PreparedPredictor(NamedTuple):
    """P's 1x1 convolutions for constant inputs, see `Predictor.prepare`; one entry per unit, the transition last."""

    constants: list[Tensor]  # N x channels x h x h: what the constant inputs contribute, bias included
    weights: list[Tensor]  # for the inputs that vary


class Context(NamedTuple):
    """What all time steps of a roll-out share; made by `StrokesNetworks.begin`."""

    still: Tensor  # I_0, N x 3 x s x s
    initial: Tensor  # h_0 = E1(I_0), N x C x h x h: the first state
    features: Sequence[Tensor]  # the still as E1 sees it, and E1's maps of it at s/2 and s/4
    whole: Tensor | None = None  # E2(S), N x C x h x h, where S is the same at all steps
    prepared: PreparedPredictor | None = None  # with h_0 and E2(S) worked in, or None: everything at every step
    plate: Tensor | None = None  # N x 4 x s x s in [0, 1], see `rendering.fields.blend`


class StepInputs(NamedTuple):
    """Inputs of the time step from frame t to frame t + 1."""

    context: Context
    state: Tensor  # h_t, N x C x h x h
    strokes: Sequence[Tensor]  # S, unless the context has its code, and S_t; N x channels x s x s
    frame: ObjectFrame  # the object's, at point t + 1


class StepOutputs(NamedTuple):
    """Outputs of a time step."""

    state: Tensor  # h_{t+1}, N x C x h x h
    motion: Tensor  # x_t, N x (1 or 2) C x h x h
    generated: GeneratorOutput  # of frame t + 1


class StrokesNetworks(nn.Module):
    """E1, E2, P and G. The discriminators are built by the stage that trains them."""

    def __init__(self, config: StrokesConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(3, config)
        self.motion = Encoder(config.stroke.channels, config)
        self.predictor = Predictor(config)
        self.decoder = FieldGenerator(config) if config.generator.fields else Generator(config)
        initialise(self, config)

    def forward(self, inputs: StepInputs) -> StepOutputs:
        """One time step: the next state and the next frame (Sec. III-A; recursively at test time, Sec. III-D)."""
        state, motion = self.predict(inputs)  # Eq. 1, Eq. 2
        return StepOutputs(state, motion, self.generate(inputs.context, state, inputs.frame))

    def begin(self, still: Tensor, points: Tensor, plate: Tensor | None = None, fast: bool = True) -> Context:
        """Encode what all time steps share (Sec. III-A a).

        Args:
            still: N x 3 x s x s in [-1, 1].
            points: N x T x 2, (x, y) in pixels of the networks' frames.
            plate: the background behind the still's object, see `Context`; None if it is not known.
            fast: work h_0, and E2(S) if it is constant, into P's convolutions once; equal but for rounding.

        Raises:
            StillmotionError: the stroke cannot be encoded; see `stroke_encoding`.
        """
        seen = self.align(still, points, 0)
        *maps, initial = self.encoder.maps(seen)  # N x widths x s/2, s/4, h
        constants, whole = [initial], None
        if self.config.stroke.input != "step" and not self.config.stroke.lookahead:
            whole = self.motion(stroke_maps(points, 0, self.config)[0])  # N x C x h x h
            constants.append(whole)
        prepared = self.predictor.prepare(constants) if fast else None
        return Context(still, initial, [seen, *maps], whole, prepared, plate)

    def step_inputs(self, context: Context, state: Tensor, points: Tensor, t: int) -> StepInputs:
        """Inputs of the step from frame t to t + 1; `points` as for `begin`, t from 0 to T - 2."""
        strokes = self.strokes(points, t)
        strokes = strokes if context.whole is None else strokes[1:]
        return StepInputs(context, state, strokes, object_frame(points, t + 1, self.config))

    def strokes(self, points: Tensor, t: int) -> list[Tensor]:
        """S and S_t, or the one of them that is used, as E2 reads them; N x channels x s x s each."""
        if self.config.generator.object_frame:
            points = stroke_in_object_frame(points, t, self.config)
        return stroke_maps(points, t, self.config)

    def predict(self, inputs: StepInputs) -> tuple[Tensor, Tensor]:
        """The next state (Eq. 2) and x_t (Eq. 1)."""
        context, codes = inputs.context, self.encode_motion(inputs.strokes)
        known = [] if context.whole is None else [context.whole]
        motion = torch.cat([*known, *codes], dim=1)  # x_t
        if context.prepared is not None:
            return self.predictor.predict_prepared([inputs.state, *codes], context.prepared), motion
        return self.predictor([inputs.state, context.initial, *known, *codes]), motion

    def encode_motion(self, strokes: Sequence[Tensor]) -> list[Tensor]:
        """E2 of each map, with one set of weights (Eq. 1); N x C x h x h each."""
        return list(self.motion(torch.cat(list(strokes))).chunk(len(strokes))) if strokes else []

    def generate(self, context: Context, state: Tensor, frame: ObjectFrame) -> GeneratorOutput:
        """The frame of a state, and what it is blended of (Sec. III-A b)."""
        if isinstance(self.decoder, Generator):
            rgb = self.decoder(state)
            return GeneratorOutput(rgb, rgb)
        generated: GeneratorOutput = self.decoder(state, context.still, context.features, context.plate, frame)
        return generated

    def figure(self, context: Context, points: Tensor) -> Tensor:
        """Probability of the object in the still, N x 1 x s x s; `points` as for `begin`. Not of the paper's G."""
        assert isinstance(self.decoder, FieldGenerator)
        found = torch.sigmoid(self.decoder.figure(context.features, context.initial))
        start = object_frame(points, 0, self.config)
        return from_object_frame(found, start, "zeros") if self.config.generator.object_frame else found

    def encode(self, frames: Tensor, points: Tensor, t: int) -> Tensor:
        """E1's codes of true frames t, N x 3 x s x s to N x C x h x h; `points` as for `begin`."""
        codes: Tensor = self.encoder(self.align(frames, points, t))
        return codes

    def align(self, frames: Tensor, points: Tensor, t: int) -> Tensor:
        """Frames t as E1 sees them, N x 3 x s x s: with `object_frame`, in the object's frame of reference."""
        if not self.config.generator.object_frame:
            return frames
        return to_object_frame(frames, object_frame(points, t, self.config))


class Encoder(nn.Module):
    """E1 and E2: three convolutions, each halves the resolution."""

    def __init__(self, inputs: int, config: StrokesConfig):
        super().__init__()
        widths = (inputs, *config.encoder.widths)
        self.layers = nn.ModuleList(SameConv2d(a, b, 3, 2) for a, b in itertools.pairwise(widths))
        self.normalises = config.encoder.norm == "instance"

    def forward(self, x: Tensor) -> Tensor:
        """N x inputs x s x s -> N x C x h x h."""
        return self.maps(x)[-1]

    def maps(self, x: Tensor) -> list[Tensor]:
        """The feature maps of each convolution: N x widths x s/2, s/4 and s/8."""
        maps = []
        for layer in self.layers:
            x = layer(x)
            x = F.leaky_relu(instance_norm(x) if self.normalises else x, _ENCODER_SLOPE)
            maps.append(x)
        return maps


def instance_norm(x: Tensor) -> Tensor:
    """Mean 0 and (biased) variance 1 per sample and channel; N x C x H x W, computed in float32."""
    variance, mean = torch.var_mean(x.float(), dim=(2, 3), correction=0, keepdim=True)
    return ((x.float() - mean) * torch.rsqrt(variance + _INSTANCE_EPSILON)).to(x.dtype)


class Predictor(nn.Module):
    """P (Eq. 2, Sec. III-E): dense blocks and a transition, without norms."""

    def __init__(self, config: StrokesConfig):
        super().__init__()
        self.state, self.residual = config.encoder.widths[-1], config.predictor.residual
        channels = (2 + config.stroke.codes) * self.state
        blocks = []
        for _ in range(config.predictor.blocks):
            blocks.append(DenseBlock(channels, config))
            channels = blocks[-1].out_channels
        self.blocks = nn.ModuleList(blocks)
        self.transition = nn.Conv2d(channels, self.state, 1)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """h_t, h_0, E2(S), E2(S_t), N x C x h x h each, to h_{t+1}, which has no activation."""
        x = F.relu(torch.cat(list(inputs), dim=1))  # N x 4C x h x h
        for unit in self.units:
            x = torch.cat([x, F.relu(unit(unit.narrow(x)))], dim=1)  # + growth channels
        return self.add_residual(inputs[0], self.transition(x))

    def add_residual(self, state: Tensor, predicted: Tensor) -> Tensor:
        """The next state from the current one and what the transition gives."""
        return state + predicted if self.residual else predicted

    @property
    def units(self) -> list[Unit]:
        """All units in order. A block passes on all its inputs, so each unit sees the outputs of all before it."""
        return [unit for block in self.blocks for unit in block.units]  # type: ignore[union-attr]

    def prepare(self, constants: Sequence[Tensor]) -> PreparedPredictor:
        """Work constant inputs, h_0 and perhaps E2(S), into all 1x1 convolutions.

        A 1x1 convolution of concatenated rectified maps is the sum of the convolutions of its parts.
        """
        first, last = self.state, self.state * (1 + len(constants))
        x = F.relu(torch.cat(list(constants), dim=1))
        shares, weights = [], []
        for layer in [*(unit.narrow for unit in self.units), self.transition]:
            shares.append(F.conv2d(x, layer.weight[:, first:last], layer.bias))
            weights.append(torch.cat([layer.weight[:, :first], layer.weight[:, last:]], dim=1))
        return PreparedPredictor(shares, weights)

    def predict_prepared(self, inputs: Sequence[Tensor], prepared: PreparedPredictor) -> Tensor:
        """`forward` from the inputs that vary, in the same order, equal but for rounding."""
        x = F.relu(torch.cat(list(inputs), dim=1))
        *inner, (share, weight) = zip(*prepared, strict=True)
        for unit, (constant, rest) in zip(self.units, inner, strict=True):
            x = torch.cat([x, F.relu(unit(constant + F.conv2d(x, rest)))], dim=1)
        return self.add_residual(inputs[0], share + F.conv2d(x, weight))


class DenseBlock(nn.Module):
    """Some units; the block's output is its input and all their outputs, concatenated."""

    def __init__(self, channels: int, config: StrokesConfig):
        super().__init__()
        units, growth = config.predictor.units, config.predictor.growth
        self.units = nn.ModuleList(Unit(channels + i * growth, config) for i in range(units))
        self.out_channels = channels + units * growth


class Unit(nn.Module):
    """ReLU, 1x1 convolution, ReLU, 3x3 convolution; the predictor applies the first two."""

    def __init__(self, channels: int, config: StrokesConfig):
        super().__init__()
        self.narrow = nn.Conv2d(channels, config.predictor.bottleneck, 1)
        self.wide = nn.Conv2d(config.predictor.bottleneck, config.predictor.growth, 3, padding=1)

    def forward(self, narrowed: Tensor) -> Tensor:
        """Output of the 1x1 convolution, N x bottleneck x h x h, to N x growth x h x h."""
        return self.wide(F.relu(narrowed))


class Generator(nn.Module):
    """G, the paper's (Sec. III-A b, III-E): three transposed convolutions double the resolution, one more to RGB."""

    def __init__(self, config: StrokesConfig):
        super().__init__()
        widths = (config.encoder.widths[-1], *config.generator.widths)
        conv = SpectralConvTranspose2d if config.generator.norm == "spectral" else nn.ConvTranspose2d
        self.layers = nn.ModuleList(conv(a, b, 4, 2, 1) for a, b in itertools.pairwise(widths))
        self.colours = conv(widths[-1], 3, 3, 1, 1)
        self.bounded = config.generator.output == "tanh"

    def forward(self, state: Tensor) -> Tensor:
        """N x C x h x h -> N x 3 x s x s, in [-1, 1] outside of training."""
        for layer in self.layers:  # h -> s/4 -> s/2 -> s
            state = F.relu(layer(state))
        rgb = self.colours(state)
        if self.bounded:
            return torch.tanh(rgb)
        return rgb if self.training else rgb.clamp(-1, 1)


class DiscriminatorBranch(nn.Module):
    """Seven convolutions, down to an eighth of the side."""

    def __init__(self, inputs: int, width: int, extra: int = 0):
        """Args: channels of the picture and of the first layer; channels that join before the last convolution."""
        super().__init__()
        layers = []
        for number, (kernel, stride, times) in enumerate(_DISCRIMINATOR_LAYERS):
            inputs += extra if number == len(_DISCRIMINATOR_LAYERS) - 1 else 0
            layers.append(SpectralConv2d(inputs, times * width, kernel, stride))
            inputs = times * width
        self.layers = nn.ModuleList(layers)
        self.out_channels = inputs

    def forward(self, x: Tensor, extra: Tensor | None = None) -> list[Tensor]:
        """N x inputs x s x s and N x extra x s/8 x s/8 to seven maps: s, s/2, s/2, s/4, s/4, s/8, s/8."""
        maps = []
        for number, layer in enumerate(self.layers, start=1):
            joined = x if extra is None or number < len(self.layers) else torch.cat([x, extra], dim=1)
            x = F.leaky_relu(layer(joined), _DISCRIMINATOR_SLOPE)
            maps.append(x)
        return maps


class FrameDiscriminator(nn.Module):
    """D1 (Eq. 5): is this a real frame? It may also see a crop (release) and be conditioned on x_t (Sec. III-B)."""

    def __init__(self, config: StrokesConfig):
        super().__init__()
        settings, side = config.discriminators, config.size // 8
        self.conditioned = settings.motion_condition
        condition = config.stroke.codes * config.encoder.widths[-1] if self.conditioned else 0
        self.whole = DiscriminatorBranch(3, settings.width, condition)
        self.crop = DiscriminatorBranch(3, settings.width // 2) if settings.crop_branch else None
        features = self.whole.out_channels * side**2
        if self.crop is not None:
            features += self.crop.out_channels * (side // 2) ** 2
        self.score = SpectralLinear(features, 1)
        initialise(self, config)

    def forward(self, frame: Tensor, crop: Tensor | None = None, motion: Tensor | None = None) -> Tensor:
        """N x 3 x s x s, a crop N x 3 x s/2 x s/2, x_t N x channels x h x h, to logits N x 1."""
        features = [flattened(self.whole(frame, motion)[-1])]
        if self.crop is not None:
            assert crop is not None
            features.append(flattened(self.crop(crop)[-1]))
        logits: Tensor = self.score(torch.cat(features, dim=1))
        return logits


class PairDiscriminator(nn.Module):
    """D2 (Eq. 6): are these two consecutive frames, at the step S_t if it is given (release)?"""

    def __init__(self, config: StrokesConfig):
        super().__init__()
        self.sees_step = config.discriminators.pair_sees_step
        inputs = 6 + (config.stroke.channels if self.sees_step else 0)
        self.whole = DiscriminatorBranch(inputs, config.discriminators.width)
        self.score = SpectralLinear(self.whole.out_channels * (config.size // 8) ** 2, 1)
        initialise(self, config)

    def forward(self, following: Tensor, current: Tensor, step: Tensor) -> Tensor:
        """Next and current frame, N x 3 x s x s each, and S_t, N x channels x s x s, to logits N x 1."""
        x = torch.cat([following, current, step] if self.sees_step else [following, current], dim=1)
        logits: Tensor = self.score(flattened(self.whole(x)[-1]))
        return logits


def flattened(maps: Tensor) -> Tensor:
    """N x C x h x w -> N x (h w C): channels last, the order in which the release's linear layers read them."""
    return maps.permute(0, 2, 3, 1).flatten(1)


@torch.no_grad()
def initialise(network: nn.Module, config: StrokesConfig) -> None:
    """Draw initial weights: the release's, or (E1, E2, P and G only) scaled to each layer's inputs (He et al.)."""
    scaled = config.initialisation == "scaled" and isinstance(network, StrokesNetworks)
    for name, layer in network.named_modules():
        if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) or name.endswith(_INITIALISED):
            continue
        generates = name.startswith("decoder") or not isinstance(network, StrokesNetworks)
        deviation = 0.02 if generates else 0.01
        if scaled:
            deviation = math.sqrt(2 / _inputs_per_output(layer))
            # Start near grey, and with a state that stays.
            stays = config.predictor.residual and name == "predictor.transition"
            deviation /= 10 if stays or name.endswith(("colours", "fields.paint")) else 1
        nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        assert layer.bias is not None
        nn.init.constant_(layer.bias, 0.0 if generates else 0.01)


def _inputs_per_output(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> float:
    """How many products one output value is the sum of."""
    if isinstance(layer, nn.ConvTranspose2d):
        return layer.weight[:, 0].numel() / layer.stride[0] ** 2
    return layer.weight[0].numel()
