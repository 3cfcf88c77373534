"""G_R and D_V: clips of forecasts made coherent in time (Sec. 3.3, Fig. 5), and clips blended to longer videos.

Shapes: N samples, K frames of a clip, T frames of a video, s the side of frames, C the channels of structure maps.
Frames are RGB in [-1, 1]; videos have the time before the channels, and the 3-D networks after them.

The paper names the guideline, the video GAN of Vondrick et al. (NIPS 2016): strided convolutions down, transposed
ones up, kernels of four, no pooling. It adds skip connections and states no numbers; the widths are the guideline's.

Ours (`refinement.context`) reads the still and the sources of each pixel beside the forecast and its structure maps,
mixes what is at hand at full size, and leaves alone what is the still's own pixels; see `FullSize`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.nn.norm import BatchNorm2d
from stillmotion.nn.unet import without_statistics, zero_init
from stillmotion.rendering.compositing import settled
from stillmotion.rendering.fields import STATIC
from stillmotion.systems.structures.config import StructuresConfig

CRITIC_SLOPE = 0.2
"""Of leaky ReLU (Vondrick et al.)."""

CONTEXT = 7
"""Channels of `clip_context`."""

NEIGHBOURS = (-2, -1, 1, 2)
"""Frames before and after, of `alternatives`."""

ALTERNATIVES = len(NEIGHBOURS) + 1


class RefinementOutput(NamedTuple):
    """A refined clip, and what it is blended of."""

    frames: Tensor  # N x K x 3 x s x s in [-1, 1]
    mask: Tensor  # N x K x 1 x s x s in (0, 1), where the forecast is replaced
    content: Tensor  # N x K x 3 x s x s in (-1, 1)


class RefinementNetwork(nn.Module):
    """G_R: a 3-D U-Net whose mask and content replace pixels of a clip of forecasts (Eq. 10)."""

    def __init__(self, config: StructuresConfig):
        super().__init__()
        refinement = config.refinement
        widths = [refinement.width << level for level in range(refinement.levels)]  # of the maps at s/2, s/4, ...
        inputs = 3 + config.structure.channels + (CONTEXT if refinement.context else 0)
        self.down = nn.ModuleList(
            DownBlock(a, b, norm=level > 0) for level, (a, b) in enumerate(itertools.pairwise([inputs, *widths]))
        )
        # Blocks from the smallest maps up; all but the first also read the maps of their own size.
        self.up = nn.ModuleList(
            UpBlock(b if level == refinement.levels - 1 else 2 * b, a)
            for level, (a, b) in reversed(list(enumerate(itertools.pairwise(widths), 1)))
        )
        last = 2 * widths[0] if refinement.levels > 1 else widths[0]
        self.added = refinement.content == "difference"
        self.heads: nn.ConvTranspose3d | FullSize
        if refinement.context:
            self.heads = FullSize(inputs, last, refinement.width)
            without_statistics(self)
            return
        self.heads = nn.ConvTranspose3d(last, 4, 4, 2, 1)
        _initialise(self)
        if self.added:
            zero_init(self.heads)

    def forward(self, coarse: Tensor, structures: Tensor, context: Tensor | None = None) -> RefinementOutput:
        """Refine a clip.

        Args:
            coarse: N x K x 3 x s x s, forecasts in [-1, 1].
            structures: N x K x C x s x s, their structure maps.
            context: see `clip_context`; ours needs it, the paper's has none.
        """
        given = to_3d(coarse, structures if context is None else torch.cat([structures, context], dim=2))
        x, maps = given, []
        for block in self.down:
            x = block(x)
            maps.append(x)
        for block, skip in zip(self.up, reversed(maps[:-1]), strict=True):
            x = torch.cat([block(x), skip], dim=1)
        if context is not None:
            made: RefinementOutput = self.heads(x, given, coarse, context)
            return made
        heads = self.heads(x).transpose(1, 2)  # N x K x 4 x s x s
        content, mask = torch.tanh(heads[:, :, :3]), torch.sigmoid(heads[:, :, 3:])
        if self.added:
            content = (coarse + content).clamp(-1, 1)
        return RefinementOutput(mask * content + (1 - mask) * coarse, mask, content)


class VideoCritic(nn.Module):
    """D_V: the score of a clip of K frames under its structure maps (Eq. 12 to 14).

    Without batch norm, which would make the gradient of one sample depend on the others.
    """

    def __init__(self, config: StructuresConfig):
        super().__init__()
        refinement = config.refinement
        widths = [3 + config.structure.channels]
        widths += [refinement.critic_width << level for level in range(refinement.levels)]
        self.convs = nn.ModuleList(nn.Conv3d(a, b, 4, 2, 1) for a, b in itertools.pairwise(widths))
        side, frames = config.size >> refinement.levels, refinement.frames >> refinement.levels
        self.score = nn.Linear(widths[-1] * frames * side**2, 1)
        _initialise(self)

    def forward(self, samples: Tensor) -> Tensor:
        """Clips and their structure maps, N x (3 + C) x K x s x s, to scores N x 1; see `to_3d`."""
        for conv in self.convs:
            samples = F.leaky_relu(conv(samples), CRITIC_SLOPE)
        score: Tensor = self.score(samples.flatten(1))
        return score


class DownBlock(nn.Module):
    """A convolution that halves time and space, norm, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, norm: bool):
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, 4, 2, 1)
        self.norm = BatchNorm2d(outputs) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """N x inputs x k x h x h -> N x outputs x k/2 x h/2 x h/2."""
        return F.leaky_relu(_normalised(self.norm, self.conv(x)), CRITIC_SLOPE)


class UpBlock(nn.Module):
    """A transposed convolution that doubles time and space, norm, ReLU."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv, self.norm = nn.ConvTranspose3d(inputs, outputs, 4, 2, 1), BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """N x inputs x k x h x h -> N x outputs x 2k x 2h x 2h."""
        return F.relu(_normalised(self.norm, self.conv(x)))


class FullSize(nn.Module):
    """Ours: the level at full size. Each pixel is drawn to its `alternatives` by weights, and some paint is added.

    Forecasts have learned the same frames from the same still, so what is left of their error is mostly chance: what
    can be told of it is little, and weights of a few pictures find it where paint alone is lost in noise
    (docs/log.md). It starts at the forecast. There is no gate that learning could close.
    """

    def __init__(self, inputs: int, outputs: int, width: int):
        super().__init__()
        self.up, self.conv = UpBlock(outputs, width), nn.Conv3d(inputs, width, (1, 3, 3), padding=(0, 1, 1))
        self.change = zero_init(nn.Conv3d(2 * width + CONTEXT - 3, ALTERNATIVES + 3, 3, padding=1))

    def forward(self, x: Tensor, given: Tensor, coarse: Tensor, context: Tensor) -> RefinementOutput:
        """Refine.

        Args:
            x: N x outputs x K/2 x s/2 x s/2, of the level below.
            given: N x inputs x K x s x s, all that is read.
            coarse: N x K x 3 x s x s.
            context: N x K x 7 x s x s.
        """
        still, shares = context[:, 0, :3], context[:, :, 3:]
        own = F.leaky_relu(self.conv(given), CRITIC_SLOPE)
        change = self.change(torch.cat([self.up(x), own, shares.transpose(1, 2)], dim=1)).transpose(1, 2)
        drawn = (change[:, :, :-3, None] * alternatives(coarse, still)).sum(2)
        content = (coarse + drawn + torch.tanh(change[:, :, -3:])).clamp(-1, 1)
        mask = (shares[:, :, STATIC, None] < 1).to(content.dtype)
        return RefinementOutput(mask * content + (1 - mask) * coarse, mask, content)


def alternatives(coarse: Tensor, still: Tensor) -> Tensor:
    """What pixels may be drawn to, less the forecast: forecasts before and after it, and the still.

    Blurred forecasts are not among them: they lower the squared error most, and are seen to be blurred (docs/log.md).

    Args:
        coarse: N x K x 3 x s x s.
        still: N x 3 x s x s.

    Returns:
        N x K x `ALTERNATIVES` x 3 x s x s.
    """
    order = torch.arange(coarse.shape[1], device=coarse.device)
    found = [coarse[:, (order + away).clamp(0, len(order) - 1)] for away in NEIGHBOURS]
    return torch.stack([*found, still[:, None].expand_as(coarse)], dim=2) - coarse[:, :, None]


def clip_context(still: Tensor, shares: Tensor) -> Tensor:
    """What ours reads of a clip beside its forecasts.

    Args:
        still: N x 3 x s x s in [-1, 1].
        shares: N x K x 4 x s x s, of the sources of each pixel.

    Returns:
        N x K x 7 x s x s: the still, and the shares, one where pixels are the still's own.
    """
    known = settled(shares.flatten(0, 1)).view_as(shares)
    return torch.cat([still[:, None].expand(-1, shares.shape[1], -1, -1, -1), known], dim=2)


def to_3d(frames: Tensor, structures: Tensor) -> Tensor:
    """Frames N x K x 3 x s x s and their structure maps N x K x C x s x s as N x (3 + C) x K x s x s."""
    return torch.cat([frames, structures], dim=2).transpose(1, 2)


def refine(
    network: RefinementNetwork,
    coarse: Tensor,
    structures: Tensor,
    length: int,
    overlap: int,
    context: Tensor | None = None,
) -> Tensor:
    """Refine a video of any length, clip by clip.

    Args:
        network: in eval mode.
        coarse: N x T x 3 x s x s, forecasts; where T is below `length`, the last frame is repeated.
        structures: N x T x C x s x s, their structure maps.
        length: K, of the clips.
        overlap: frames over which neighbouring clips are blended, below K.
        context: N x T x 7 x s x s, see `clip_context`; of ours.

    Returns:
        N x T x 3 x s x s.
    """
    count = coarse.shape[1]
    order = torch.arange(max(count, length), device=coarse.device).clamp_max(count - 1)
    given = [each[:, order] for each in (coarse, structures, context) if each is not None]
    starts = clip_starts(len(order), length, overlap)
    clips = [network(*(each[:, t : t + length] for each in given)).frames for t in starts]
    return blend_clips(clips, starts)[:, :count]


def clip_starts(frames: int, length: int, overlap: int) -> list[int]:
    """First frames of the clips of `length` that cover a video of at least so many frames.

    Neighbours share `overlap` frames; the last clip ends with the video, so it may share more.
    """
    return [*range(0, frames - length, length - overlap), frames - length]


def next_clip(start: int, frames: int, length: int, overlap: int) -> int | None:
    """The clip after the one that begins at `start`, as `clip_starts` has them; None after the last."""
    return min(start + length - overlap, frames - length) if start + length < frames else None


def blend_clips(clips: Sequence[Tensor], starts: Sequence[int]) -> Tensor:
    """One video of overlapping clips: over the frames that two share, the earlier fades into the later evenly.

    Args:
        clips: N x K x ... each, in order of their first frames.
        starts: the first frame of each; ascending, from 0 on, without gaps.

    Returns:
        N x T x ..., T the end of the last clip.
    """
    video = clips[0]
    for clip, start in zip(clips[1:], starts[1:], strict=True):
        shared = video.shape[1] - start
        # Of a clip that shares n frames: 1 / (n + 1), 2 / (n + 1), ...; then all.
        share = torch.arange(1, shared + 1, dtype=clip.dtype, device=clip.device) / (shared + 1)
        share = share.view(-1, *(1 for _ in clip.shape[2:]))
        blended = torch.lerp(video[:, start:], clip[:, :shared], share)
        video = torch.cat([video[:, :start], blended, clip[:, shared:]], dim=1)
    return video


def _normalised(norm: nn.Module, x: Tensor) -> Tensor:
    """A norm of two dimensions with time folded into the rows; N x C x k x h x w."""
    folded: Tensor = norm(x.flatten(2, 3))
    return folded.view_as(x)


def _initialise(network: nn.Module) -> None:
    """Initial weights of Vondrick et al.: N(0, 0.01), gains N(1, 0.02), biases zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d | nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
            nn.init.zeros_(cast(Tensor, module.bias))
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.02)
