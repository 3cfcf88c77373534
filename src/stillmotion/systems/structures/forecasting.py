"""G_M, D_I and the pose predictor, from the whole down to the parts (Sec. 3.1 and 3.2, Fig. 4).

Shapes: N samples, s the side of frames, C the channels of structure maps, J joints. Frames are RGB in [-1, 1]. Lists
of feature maps go from the full size down to the smallest, s / 2^`halvings`.

The paper draws the network without numbers; they are the release's. Its decoder has skip connections from the still
and from both structure maps, where the paper mentions those from the still alone.
"""

from __future__ import annotations

import itertools
import re
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.nn.norm import BatchNorm2d
from stillmotion.rendering.fields import Fields
from stillmotion.systems.structures.config import PoseConfig, StructuresConfig

CRITIC_SLOPE = 0.01
"""Of the critic's leaky ReLU."""


class Code(NamedTuple):
    """What an encoder knows of pictures."""

    vector: Tensor  # N x length
    maps: list[Tensor]  # N x width x s x s, N x 2 width x s/2 x s/2, ...; before an activation


class Context(NamedTuple):
    """What all frames of a video share: the still, and the codes of the still and of its structure map."""

    still: Tensor  # N x 3 x s x s
    image: Code
    structure: Code


class ForecastOutput(NamedTuple):
    """Frames, and what they are blended of."""

    frame: Tensor  # N x 3 x s x s; in [-1, 1] if the residual is masked or none
    mask: Tensor  # N x 1 x s x s in (0, 1); all ones where no mask is predicted
    content: Tensor  # N x 3 x s x s in (-1, 1)
    fields: Fields | None = None  # of ours, see fields.py
    warped: Tensor | None = None  # N x 3 x s x s in [0, 1], of ours: the still through the displacement


class ForecastNetwork(nn.Module):
    """G_M: what changes of a still when its structure does, and where (Sec. 3.2).

    An analogy in the latent space (Eq. 3): the code of the frame is that of the still, plus the difference between
    the codes of the frame's structure map and of the still's. A dense decoder gives the residual.
    """

    def __init__(self, config: StructuresConfig):
        super().__init__()
        forecast = config.forecast
        self.residual = forecast.residual
        widths = level_widths(forecast.width, forecast.max_width, config.halvings)
        self.image_encoder = Encoder(3, widths, config.size, forecast.code)
        self.structure_encoder = Encoder(config.structure.channels, widths, config.size, forecast.code)
        self.decoder = Decoder(widths, config.size, forecast.code, forecast.dense, forecast.residual == "mask")
        initialise(self)

    def forward(self, still: Tensor, structure: Tensor, targets: Tensor) -> ForecastOutput:
        """Predict frames of stills, each on its own.

        Args:
            still: N x 3 x s x s in [-1, 1].
            structure: N x C x s x s, the still's structure map.
            targets: NT x C x s x s, the structure maps of T frames of each still; T is 1 in training.

        Returns:
            Of NT frames.
        """
        return self.decode(self.encode(still, structure), targets)

    def encode(self, still: Tensor, structure: Tensor) -> Context:
        """f_I of stills and f_M of their structure maps, once per video."""
        return Context(still, self.image_encoder(still), self.structure_encoder(structure))

    def decode(self, context: Context, targets: Tensor) -> ForecastOutput:
        """NT frames of N stills from their structure maps, NT x C x s x s (Eq. 2 and 3)."""
        context = _repeated(context, len(targets) // len(context.still))
        target = self.structure_encoder(targets)
        vector = target.vector - context.structure.vector + context.image.vector
        levels = zip(context.image.maps, target.maps, context.structure.maps, strict=True)
        content, mask = self.decoder(vector, [torch.cat(maps, dim=1) for maps in levels])
        if self.residual == "mask":
            frame = mask * content + (1 - mask) * context.still
        elif self.residual == "difference":  # Eq. 1; frames in [-1, 1] differ by up to 2
            frame = context.still + 2 * content
        else:
            frame = content
        return ForecastOutput(frame, mask, content)


class ImageCritic(nn.Module):
    """D_I: the score of a frame under its structure map (Eq. 7 to 9)."""

    def __init__(self, config: StructuresConfig):
        super().__init__()
        widths = level_widths(config.critic.width, config.critic.max_width, config.halvings)
        self.encoder = Encoder(3 + config.structure.channels, widths, config.size, 1, CRITIC_SLOPE)
        initialise(self)

    def forward(self, samples: Tensor) -> Tensor:
        """Frames and their structure maps, N x (3 + C) x s x s, to scores N x 1."""
        code: Code = self.encoder(samples)
        return code.vector


class Encoder(nn.Module):
    """f_I and f_M: a convolution, blocks that halve the resolution, and a linear layer."""

    def __init__(self, inputs: int, widths: list[int], size: int, outputs: int, slope: float = 0.0):
        """Args: channels; `widths` of the levels; s; the vector's length; `slope` of leaky ReLU, 0 for ReLU."""
        super().__init__()
        self.first = _conv(inputs, widths[0])
        self.blocks = nn.ModuleList(SubsampleBlock(a, b, slope) for a, b in itertools.pairwise(widths))
        self.code = nn.Linear(widths[-1] * (size >> len(self.blocks)) ** 2, outputs)

    def forward(self, x: Tensor) -> Code:
        """N x inputs x s x s."""
        maps = [self.first(x)]
        for block in self.blocks:
            maps.append(block(maps[-1]))
        return Code(self.code(maps[-1].flatten(1)), maps)


class Decoder(nn.Module):
    """f_D: blocks that double the resolution, each of which reads the skips and all blocks before it."""

    def __init__(self, widths: list[int], size: int, code: int, dense: bool, masked: bool):
        """Args: `widths` of the levels, full size first; s; length of the code; the configuration's switches."""
        super().__init__()
        self.dense, self.side = dense, size >> (len(widths) - 1)
        self.first = nn.Linear(code, widths[-1] * self.side**2)
        blocks, outputs = [], [widths[-1]]  # outputs of the linear layer and of the blocks, coarse to fine
        for level in reversed(range(1, len(widths))):
            read = sum(outputs) if dense else outputs[-1]
            blocks.append(UpsampleBlock(3 * widths[level] + read, widths[level - 1]))
            outputs.append(widths[level - 1])
        self.blocks = nn.ModuleList(blocks)
        self.norm = BatchNorm2d(widths[0])
        self.content = _conv(4 * widths[0], 3)
        self.mask = _conv(4 * widths[0], 1) if masked else None

    def forward(self, vector: Tensor, skips: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Residual of codes.

        Args:
            vector: N x code.
            skips: per level, full size first, the maps of the still, of the target and of the source structure,
                concatenated.

        Returns:
            Content N x 3 x s x s in (-1, 1), and mask N x 1 x s x s in (0, 1), or ones without a mask.
        """
        outputs = [self.first(vector).unflatten(1, (-1, self.side, self.side))]
        for block, skip in zip(self.blocks, reversed(skips[1:]), strict=True):
            read = outputs if self.dense else outputs[-1:]
            enlarged = [F.interpolate(x, size=skip.shape[2:], mode="nearest") for x in read]
            outputs.append(block(torch.cat([skip, *enlarged], dim=1)))
        x = torch.cat([skips[0], F.relu(self.norm(outputs[-1]))], dim=1)  # N x 4 width x s x s
        content = torch.tanh(self.content(x))
        mask = torch.ones_like(content[:, :1]) if self.mask is None else torch.sigmoid(self.mask(x))
        return content, mask


class SubsampleBlock(nn.Module):
    """Two convolutions after their activations, mean of 2 x 2 pixels, and a shortcut of one convolution."""

    def __init__(self, inputs: int, outputs: int, slope: float):
        super().__init__()
        self.conv1, self.conv2 = _conv(inputs, outputs), _conv(outputs, outputs)
        self.shortcut, self.slope = _conv(inputs, outputs), slope

    def forward(self, x: Tensor) -> Tensor:
        """N x inputs x h x h -> N x outputs x h/2 x h/2."""
        branch = self.conv2(F.leaky_relu(self.conv1(F.leaky_relu(x, self.slope)), self.slope))
        shortcut: Tensor = self.shortcut(F.avg_pool2d(x, 2))
        return F.avg_pool2d(branch, 2) + shortcut


class UpsampleBlock(nn.Module):
    """Twice norm, ReLU and convolution, the first on doubled pixels, and a shortcut of one convolution."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.norm1, self.norm2 = BatchNorm2d(inputs), BatchNorm2d(outputs)
        self.conv1, self.conv2 = _conv(inputs, outputs), _conv(outputs, outputs)
        self.shortcut = _conv(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """N x inputs x h x h -> N x outputs x 2h x 2h."""
        branch = self.conv1(F.interpolate(F.relu(self.norm1(x)), scale_factor=2.0, mode="nearest"))
        shortcut: Tensor = self.shortcut(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.conv2(F.relu(self.norm2(branch))) + shortcut


class PosePredictor(nn.Module):
    """The LSTM that observes poses and predicts the next ones (Sec. 3.1; Villegas et al., 2017).

    While it predicts it reads zeros, so all it knows is in its state.
    """

    def __init__(self, config: PoseConfig, joints: int = 13):
        super().__init__()
        self.embedding = nn.Linear(2 * joints, config.embedding)
        self.gates = nn.Linear(config.embedding + config.width, 4 * config.width)  # one bias, unlike `nn.LSTM`
        self.pose = nn.Linear(config.width, 2 * joints)
        for layer in (self.embedding, self.gates, self.pose):
            nn.init.normal_(layer.weight, 0, 0.02)
            nn.init.zeros_(layer.bias)
        nn.init.ones_(self.gates.bias[config.width : 2 * config.width])  # remember at first

    def forward(self, observed: Tensor, steps: int) -> Tensor:
        """Predict the poses after those that are observed.

        Args:
            observed: N x T x 2J in [-1, 1], zero where a joint is not visible; see `structure_maps.pose_vectors`.
            steps: how many poses to predict.

        Returns:
            N x steps x 2J in (-1, 1).
        """
        inputs = F.relu(self.embedding(observed))  # N x T x embedding
        state = inputs.new_zeros(2, len(observed), self.pose.in_features)
        hidden, cell = state[0], state[1]
        for x in inputs.unbind(1):
            hidden, cell = self._step(x, hidden, cell)
        nothing, predicted = torch.zeros_like(inputs[:, 0]), []
        for _ in range(steps):
            hidden, cell = self._step(nothing, hidden, cell)
            predicted.append(hidden)
        return torch.tanh(self.pose(torch.stack(predicted, dim=1)))

    def _step(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """N x embedding and twice N x width to the next hidden and cell state."""
        taken, kept, candidate, shown = self.gates(torch.cat([x, hidden], dim=1)).chunk(4, dim=1)
        cell = torch.sigmoid(kept) * cell + torch.sigmoid(taken) * torch.tanh(candidate)
        return torch.sigmoid(shown) * torch.tanh(cell), cell


def level_widths(width: int, largest: int, halvings: int) -> list[int]:
    """Channels of all levels: `width` at full size, twice as many after each halving, up to `largest`."""
    return [min(width << level, largest) for level in range(halvings + 1)]


def initialise(network: nn.Module) -> None:
    """Initial weights of the release: N(0, 0.02), gains N(1, 0.02); biases of convolutions stay torch's."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, 0, 0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.02)


def _repeated(context: Context, times: int) -> Context:
    """The context of N stills for `times` frames of each, in this order."""
    if times == 1:
        return context

    def repeat(x: Tensor) -> Tensor:
        return x.repeat_interleave(times, dim=0)

    image, structure = (
        Code(repeat(code.vector), [repeat(x) for x in code.maps]) for code in (context.image, context.structure)
    )
    return Context(repeat(context.still), image, structure)


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


_RELEASE_NAMES = (
    (r"^module\.", ""),
    (r"^img_encoder\.", "image_encoder."),
    (r"^norm_encoder\.", "structure_encoder."),
    (r"^(decoder\.)fc\.", r"\1first."),
    (r"^(decoder\.)bn\.", r"\1norm."),
    (r"^(decoder\.)conv\.", r"\1content."),
    (r"^(decoder\.)w\.", r"\1mask."),
    (r"^(res_blocks|conv|fc)\.", r"encoder.\1."),  # the critic is an encoder
    (r"encoder\.conv\.", "encoder.first."),
    (r"encoder\.(fc|fc_z)\.", "encoder.code."),
    (r"\bres_blocks\.", "blocks."),
    (r"\.bn([12])\.", r".norm\1."),
    (r"\.(shortcut|conv1)\.1\.", r".\1."),
    (r"\.conv2\.0\.", ".conv2."),
)


def rename_release(name: str) -> str:
    """The name here of a tensor of the release's generator or critic, e.g. of `img_encoder.fc_z.bias`."""
    for pattern, ours in _RELEASE_NAMES:
        name = re.sub(pattern, ours, name)
    return name
