"""E_sigma, E_phi, F and G, from the whole down to the parts (Sec. 3, Fig. 2, appendix E.1).

Shapes: N samples, s the side of frames, b that of the smallest maps (`encoder.bottleneck`), W the channels of the
deepest states (`encoder.width`). Frames are RGB in [-1, 1]. Lists of states go from the coarsest level to the finest.

The paper states no widths and few activations; where it is silent, the networks are those of the release.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.nn.conv_gru import ConvGRUCell, orthogonal
from stillmotion.systems.pokes.config import PokeConfig, PokesConfig

Activation = Callable[[Tensor], Tensor]

_BASELINE_WIDTH = 32  # of the first layers of the ablation "RNN" (release)


class RolloutOutput(NamedTuple):
    """T predicted frames, and the states that they were decoded from."""

    frames: Tensor  # N x T x 3 x s x s in [-1, 1]
    states: list[list[Tensor]]  # of each step, coarse to fine


class StateGenerator(nn.Module):
    """The whole: a still and a poke to a video (Sec. 3.1). The stage that trains discriminators builds them.

    The object encoder E_sigma gives the states of the still, one per level, and the poke encoder E_phi the latent
    interaction phi. F predicts the states of the next frame from those of the last and phi, and the decoder G
    generates each frame from its states.
    """

    def __init__(self, config: PokesConfig):
        super().__init__()
        self.config = config
        encoder = config.encoder
        self.layers = 0 if config.dynamics.hierarchy else config.dynamics.layers  # of the ablation "RNN", or 0
        first = _BASELINE_WIDTH if self.layers else encoder.width >> config.halvings
        widths = [first << number for number in range(config.halvings)]  # of maps at s/2, s/4, ..., b
        states = [encoder.width, *reversed(widths)][: 1 if self.layers else config.levels]  # coarse to fine
        self.object_encoder = ObjectEncoder(widths, encoder.width)
        self.poke_encoder = PokeEncoder(config)
        self.dynamics = Dynamics(encoder.width, states * max(self.layers, 1), config.dynamics.hierarchy)
        relu = config.generator.activation == "relu"
        self.decoder = Decoder(widths, encoder.width, len(states) - 1, F.relu if relu else F.elu)

    def forward(
        self, still: Tensor, poke_map: Tensor, frames: int, factors: Sequence[float] | None = None
    ) -> RolloutOutput:
        """Predict T frames.

        Args:
            still: N x 3 x s x s in [-1, 1].
            poke_map: N x 2 x s x s, see `encode_poke`.
            frames: T.
            factors: of phi at each of the T steps; None for those of the configuration, see `phi_factors`.
        """
        states, phi = self.encode(still), self.encode_poke(poke_map)
        factors = phi_factors(self.config.poke, frames) if factors is None else factors
        steps = []
        for _, factor in zip(range(frames), factors, strict=True):
            states = self.step(states, factor * phi)
            steps.append(states)
        # Time is folded into the batch.
        folded = [torch.stack(level, dim=1).flatten(0, 1) for level in zip(*steps, strict=True)]
        return RolloutOutput(self.decode(folded).unflatten(0, (len(still), frames)), steps)

    def encode(self, still: Tensor) -> list[Tensor]:
        """E_sigma: the states of true frames, which the cells of F start from; N x 3 x s x s in [-1, 1].

        Returns:
            Per level N x C x h x h: W x b x b, W/2 x b x b, W/4 x 2b x 2b, ...; all layers of a stack start from the
            same state W x b x b.
        """
        states: list[Tensor] = self.object_encoder(still)
        return states[:1] * self.layers if self.layers else states[: self.config.levels]

    def encode_poke(self, poke_map: Tensor) -> Tensor:
        """E_phi: the latent interaction phi (Sec. 3).

        Args:
            poke_map: N x 2 x s x s, (dx, dy) in pixels of the networks' frames at the poked pixels, zero elsewhere.

        Returns:
            N x W x b x b. Zeros for samples without a poke, whose maps are constant: instance norm would divide
            rounding errors by the root of its epsilon.
        """
        poked = poke_map.flatten(1).ne(0).any(dim=1)[:, None, None, None]
        if self.config.encoder.magnitude == "kept":
            length = torch.linalg.vector_norm(poke_map, dim=1, keepdim=True)
            poke_map = torch.cat([poke_map, torch.log1p(length)], dim=1)
        phi: Tensor = self.poke_encoder(poke_map)
        return torch.where(poked, phi, torch.zeros_like(phi))

    def step(self, states: Sequence[Tensor], phi: Tensor) -> list[Tensor]:
        """F: states as `encode` gives them, and phi, N x W x b x b, to the states of the next frame."""
        predicted: list[Tensor] = self.dynamics(states, phi)
        return predicted

    def decode(self, states: Sequence[Tensor]) -> Tensor:
        """G: states as `encode` gives them, to frames N x 3 x s x s in [-1, 1]."""
        frame: Tensor = self.decoder(self.decoded(states))
        return frame

    def decoded(self, states: Sequence[Tensor]) -> Sequence[Tensor]:
        """The states that G reads: of all levels, but only of the last layer of a stack."""
        return states[-1:] if self.layers else states


def phi_factors(config: PokeConfig, frames: int) -> list[float]:
    """The factors of phi at each step of a roll-out of T frames.

    The same phi at every step is the paper's (Eq. 4). The other schedules are the release's for pokes as impulses
    (appendix B.1); `rest` steps at the end of `decay` and `pause` are without.
    """
    active = frames - config.rest
    if config.schedule == "first":
        return [float(n == 0) for n in range(frames)]
    if config.schedule == "decay":
        return [1 - n / active if n < active else 0.0 for n in range(frames)]
    if config.schedule == "pause":
        return [float(n < active) for n in range(frames)]
    return [1.0] * frames


class ObjectEncoder(nn.Module):
    """E_sigma: convolutions, each halves the resolution, and a residual block."""

    def __init__(self, widths: Sequence[int], width: int):
        """Args: channels of the maps at s/2, s/4, ..., b, and of the deepest state."""
        super().__init__()
        self.layers = nn.ModuleList(ConvBlock(a, c, 2) for a, c in itertools.pairwise((3, *widths)))
        self.bottleneck = ResidualBlock(widths[-1], width)

    def forward(self, x: Tensor) -> list[Tensor]:
        """N x 3 x s x s to the states of all levels, coarse to fine."""
        states: list[Tensor] = []
        for layer in self.layers:
            x = layer(x)
            states.insert(0, x)
        return [self.bottleneck(x), *states]


class PokeEncoder(nn.Module):
    """E_phi: convolutions, each halves the resolution, and residual blocks.

    Instance norm after a convolution of a map that is zero but for one patch all but removes the patch's magnitude.
    Where it is to be kept (ours), the first layer has no norm and reads a third channel.
    """

    def __init__(self, config: PokesConfig):
        super().__init__()
        encoder, kept = config.encoder, config.encoder.magnitude == "kept"
        widths = [3 if kept else 2, *(encoder.poke_width << number for number in range(config.halvings))]
        self.layers = nn.ModuleList(
            ConvBlock(a, c, 2, norm=number > 0 or not kept)
            for number, (a, c) in enumerate(itertools.pairwise(widths))
        )
        inputs = [widths[-1], *itertools.repeat(encoder.width, encoder.poke_blocks - 1)]
        self.blocks = nn.ModuleList(ResidualBlock(channels, encoder.width) for channels in inputs)

    def forward(self, x: Tensor) -> Tensor:
        """N x (2 or 3) x s x s -> N x W x b x b."""
        for layer in (*self.layers, *self.blocks):
            x = layer(x)
        return x


class Dynamics(nn.Module):
    """F: a chain of ConvGRU cells, coarse to fine (Eq. 3 to 5).

    The first cell reads phi, and each of the others the new state of the one before, upsampled where its own level is
    larger. In the hierarchy the two coarsest levels are of one size and each further level of twice the last; the
    layers of a stack have the same width and size.
    """

    def __init__(self, phi: int, widths: Sequence[int], hierarchy: bool):
        """Args: channels of phi and of the states of each cell; are these states levels, or layers of a stack?"""
        super().__init__()
        inputs = [phi, *widths[:-1]]
        self.cells = nn.ModuleList(ConvGRUCell(a, c) for a, c in zip(inputs, widths, strict=True))
        self.upsampling = nn.ModuleList(
            orthogonal(nn.ConvTranspose2d(channels, channels, 3, 2, 1, output_padding=1))
            if hierarchy and number > 1
            else nn.Identity()
            for number, channels in enumerate(inputs)
        )

    def forward(self, states: Sequence[Tensor], phi: Tensor) -> list[Tensor]:
        """N x C x h x h per level, and N x W x b x b, to the states of the next frame."""
        x, predicted = phi, []
        for cell, upsample, state in zip(self.cells, self.upsampling, states, strict=True):
            x = cell(upsample(x), state)
            predicted.append(x)
        return predicted


class Decoder(nn.Module):
    """G: residual blocks, of which all but the first double the resolution; the U-Net's half that generates."""

    def __init__(self, widths: Sequence[int], width: int, skips: int, upsampling: Activation):
        """Lay out the blocks.

        Args:
            widths: channels of the encoder's maps at s/2, s/4, ..., b.
            width: channels of the deepest state.
            skips: how many of the upsampling blocks also read the state of a level.
            upsampling: activation after transposed convolutions.
        """
        super().__init__()
        self.first = ResidualBlock(width, widths[-1])
        outputs = [*reversed(widths[:-1]), widths[0]]  # the last block keeps its width
        self.blocks = nn.ModuleList(
            ResidualBlock(a * (2 if number < skips else 1), c, upsampling)
            for number, (a, c) in enumerate(zip(reversed(widths), outputs, strict=True))
        )
        self.colours = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, states: Sequence[Tensor]) -> Tensor:
        """States N x C x h x h, coarse to fine, to N x 3 x s x s in [-1, 1]."""
        x = self.first(states[0])  # N x W/2 x b x b
        for block, skip in itertools.zip_longest(self.blocks, states[1:]):
            x = block(x if skip is None else torch.cat([x, skip], dim=1))
        return torch.tanh(self.colours(x))


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut, added; no activation after the sum (release).

    The shortcut has a convolution, norm and activation where shapes differ.
    """

    def __init__(self, inputs: int, outputs: int, upsampling: Activation | None = None):
        """Args: channels; with an activation the block doubles the resolution, by convolutions that end in it."""
        super().__init__()

        def resizing() -> nn.Module:
            return ConvBlock(inputs, outputs) if upsampling is None else UpsamplingBlock(inputs, outputs, upsampling)

        self.conv1, self.conv2 = resizing(), ConvBlock(outputs, outputs, activation=None)
        self.shortcut = nn.Identity() if upsampling is None and inputs == outputs else resizing()

    def forward(self, x: Tensor) -> Tensor:
        """N x inputs x h x h -> N x outputs x h x h, or 2h x 2h."""
        branch: Tensor = self.conv2(self.conv1(x))
        return branch + self.shortcut(x)


class ConvBlock(nn.Module):
    """3x3 convolution, instance norm, activation."""

    def __init__(
        self, inputs: int, outputs: int, stride: int = 1, activation: Activation | None = F.elu, norm: bool = True
    ):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1)
        self.norm = nn.InstanceNorm2d(outputs) if norm else nn.Identity()
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """N x inputs x h x h -> N x outputs x h/stride x h/stride."""
        x = self.norm(self.conv(x))
        return x if self.activation is None else self.activation(x)


class UpsamplingBlock(nn.Module):
    """3x3 transposed convolution that doubles the resolution, instance norm, activation."""

    def __init__(self, inputs: int, outputs: int, activation: Activation):
        super().__init__()
        self.conv = nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, output_padding=1)
        self.norm, self.activation = nn.InstanceNorm2d(outputs), activation

    def forward(self, x: Tensor) -> Tensor:
        """N x inputs x h x h -> N x outputs x 2h x 2h."""
        return self.activation(self.norm(self.conv(x)))


_RELEASE_NAMES = (
    (r"^module\.", ""),
    (r"^shape_enc\.blocks\.", "object_encoder.layers."),
    (r"^shape_enc\.", "object_encoder."),
    (r"^dynamics_enc\.model\.", "poke_encoder.layers."),
    (r"^dynamics_enc\.bottleneck\.", "poke_encoder.blocks."),
    (r"^fusion_block\.cells\.(\d+)\.up_gate\.", r"dynamics.upsampling.\1."),
    (r"^fusion_block\.", "dynamics."),
    (r"\.(reset|update)_gate\.", r".\1."),
    (r"\.out_gate\.", ".candidate."),
    (r"^dec\.in_block\.", "decoder.first."),
    (r"^dec\.out_conv\.conv\.", "decoder.colours."),
    (r"^dec\.", "decoder."),
    (r"\.res_conv\.", ".shortcut."),
)


def rename_release(name: str) -> str:
    """The name in a `StateGenerator` of a tensor of the release's generator, e.g. of `dec.out_conv.conv.weight`."""
    for pattern, ours in _RELEASE_NAMES:
        name = re.sub(pattern, ours, name)
    return name
