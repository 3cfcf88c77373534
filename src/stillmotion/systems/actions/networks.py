"""Detector Q, image encoder, translator T and image discriminator, from the whole down to the parts (Sec. 2, Fig. 3).

Shapes: N frames (time folded into the batch), K keypoints, S the side of frames, s = S / 4 that of the translator's
inputs. Frames are RGB in [-1, 1]; coordinates are normalised, (x, y), corners aligned.

The paper states no layers; they are those of the release. The motion generator is in `motion.py`.
"""

from __future__ import annotations

import itertools
import math
import re
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion import geometry
from stillmotion.keypoints.networks import KeypointNetworks
from stillmotion.nn.norm import BatchNorm2d
from stillmotion.nn.padding import SameConv2d
from stillmotion.nn.unet import fold_norm
from stillmotion.systems.actions.config import ActionsConfig, DiscriminatorConfig, KeypointConfig
from stillmotion.systems.actions.motion import MotionGenerator
from stillmotion.systems.actions.tracks import TrackFlow

LEVELS = 4
"""Sizes of the detector's trunk: S, S/2, S/4 and S/8. The image encoder stops at S/4, for only that map is used."""


class Context(NamedTuple):
    """What all frames of a still share."""

    still: Tensor  # N x 3 x S x S in [-1, 1]
    features: Tensor  # N x C x s x s, of the image encoder
    keypoints: Tensor  # N x K x 2


class TranslatorOutput(NamedTuple):
    """N translated frames, and what they are blended of."""

    frame: Tensor  # N x 3 x S x S; in [-1, 1] in eval mode
    synthesized: Tensor  # N x 3 x S x S, s of Eq. 3; in [-1, 1] in eval mode
    mask: Tensor | None  # N x 1 x S x S in [0, 1], m of Eq. 3: 1 keeps the still; None without a mask


class ActionsNetworks(nn.Module):
    """The whole: from a still and the keypoints of a frame to this frame; `motion` generates these keypoints.

    The stages that train discriminators build them.
    """

    def __init__(self, config: ActionsConfig):
        super().__init__()
        self.config = config
        self.detector = KeypointDetector(config)
        self.encoder = Trunk(config, LEVELS - 1)
        self.translator = Translator(config)
        self.motion = MotionGenerator(config)

    def forward(self, context: Context, target: Tensor) -> TranslatorOutput:
        """Translate stills so that they show the target keypoints (Eq. 3, 4).

        Args:
            context: of N stills, or of one for all frames; see `encode`.
            target: N x K x 2.
        """
        context = expand(context, len(target))
        synthesized, mask = self.translator(context.features, context.keypoints, target)
        frame = blend(context.still, synthesized, mask)
        if not self.training:
            frame, synthesized = frame.clamp(-1, 1), synthesized.clamp(-1, 1)
        return TranslatorOutput(frame, synthesized, mask)

    def labeller(self) -> nn.Module:
        """Frames in [0, 1] to keypoints, N x K x 2."""
        return Labeller(self.detector)

    def encode(self, still: Tensor) -> Context:
        """Features and keypoints of N stills, N x 3 x S x S; once per still, whatever the video's length."""
        return Context(still, self.encoder(still)[-1], self.detector(still))


class FieldActionsNetworks(KeypointNetworks):
    """Ours: keypoints with covariances, and a generator that ends in fields; `motion` generates the keypoints."""

    def __init__(self, config: ActionsConfig):
        assert config.fields is not None
        super().__init__(config.fields)
        # Last, so that the other networks start from the same random numbers whatever it is.
        self.motion: MotionGenerator | TrackFlow = (
            TrackFlow(config.points, config.classes, len(config.sides or ()), config.tracks)
            if config.tracks
            else MotionGenerator(config)
        )

    def labeller(self) -> nn.Module:
        """Frames in [0, 1] to keypoints with their covariances behind; N x K x 6."""
        return Labeller(self.detector)


class Labeller(nn.Module):
    """A detector as `data.label` wants it: frames in [0, 1] in, one array out."""

    def __init__(self, detector: nn.Module):
        super().__init__()
        self.detector = detector

    def forward(self, frames: Tensor) -> Tensor:
        """N x 3 x S x S to N x K x 2, or N x K x 6 with covariances."""
        if isinstance(self.detector, KeypointDetector):
            return self.detector(2 * frames - 1)
        found = self.detector(frames)
        return torch.cat([found.mean, found.covariance.flatten(-2)], dim=-1)


def expand(context: Context, count: int) -> Context:
    """The context of one still as that of `count` frames; that of `count` stills as it is."""
    return Context(*(part.expand(count, *part.shape[1:]) for part in context))


def blend(still: Tensor, synthesized: Tensor, mask: Tensor | None) -> Tensor:
    """The still where the mask is 1, what is synthesized where it is 0 or where there is none (Eq. 4)."""
    return synthesized if mask is None else mask * still + (1 - mask) * synthesized


class KeypointDetector(nn.Module):
    """Q: finds keypoints without labels; a trunk, and blocks that go back to full size with skip connections."""

    def __init__(self, config: ActionsConfig):
        super().__init__()
        self.config = config
        width = config.encoder.width
        self.trunk = Trunk(config, LEVELS)
        # Each block sees the trunk's map of its size, and has half its channels.
        joined = [width << LEVELS - 1, *(2 * (width << level) for level in reversed(range(LEVELS - 1)))]
        widths = [(width << level) // 2 for level in reversed(range(LEVELS))]
        self.blocks = nn.ModuleList(
            convolutions(a, b, 4 if number < LEVELS - 1 else 2, config)
            for number, (a, b) in enumerate(zip(joined, widths, strict=True))
        )
        self.head = SameConv2d(widths[-1], config.keypoints.count, 1)
        initialise(self.head)

    def forward(self, frames: Tensor) -> Tensor:
        """Keypoints of N frames, N x 3 x S x S; N x K x 2, never outside the frame."""
        return read_out(self.logits(frames), self.config.keypoints.readout)

    def logits(self, frames: Tensor) -> Tensor:
        """N x K x S x S, of which the keypoints are read out."""
        maps = self.trunk(frames)
        x = self.blocks[0](maps.pop())  # N x 4W x S/8 x S/8, where the trunk begins with W channels
        for block in self.blocks[1:]:
            x = block(torch.cat([upsample(x), maps.pop()], dim=1))
        logits: Tensor = self.head(x)
        return logits


class Translator(nn.Module):
    """T: synthesises the target image and a mask out of the still's features and of both keypoint sets (Eq. 3)."""

    def __init__(self, config: ActionsConfig):
        super().__init__()
        self.config = config
        width, count = config.translator.width, config.keypoints.count
        inputs = 4 * config.encoder.width + count * (2 if config.translator.reference_maps else 1)
        self.blocks = nn.ModuleList([
            convolutions(inputs, 4 * width, 4, config),
            convolutions(4 * width, 2 * width, 4, config),
            convolutions(2 * width, width, 2, config),
        ])  # fmt: skip
        self.image = SameConv2d(width, 3, 3)
        self.mask = SameConv2d(width, 1, 3) if config.translator.mask else None
        self.apply(initialise)

    def forward(self, features: Tensor, reference: Tensor, target: Tensor) -> tuple[Tensor, Tensor | None]:
        """Synthesised images and masks of N frames.

        Args:
            features: N x C x s x s, of the still.
            reference: N x K x 2, the still's keypoints.
            target: N x K x 2.

        Returns:
            N x 3 x S x S without bounds, and N x 1 x S x S in [0, 1] or None.
        """
        sets = [reference, target] if self.config.translator.reference_maps else [target]
        size = (features.shape[2], features.shape[3])
        maps = [gaussian_maps(points, size, self.config.keypoints).to(features.dtype) for points in sets]
        x = self.blocks[0](torch.cat([features, *maps], dim=1))  # N x 4W x s x s
        for block in self.blocks[1:]:
            x = block(upsample(x))  # N x 2W x 2s x 2s, then N x W x S x S
        mask = None if self.mask is None else torch.sigmoid(self.mask(x).float())
        return self.image(x).float(), mask


class ImageDiscriminator(nn.Module):
    """Scores of overlapping patches of a frame, without a condition and without norms.

    Each convolution adds a border of one zero to the padding that TensorFlow calls "SAME" (release).
    """

    def __init__(self, config: DiscriminatorConfig):
        super().__init__()
        widths = [3, *(config.width << number for number in range(config.layers))]
        self.convs = nn.ModuleList(SameConv2d(a, b, 4, stride=2) for a, b in itertools.pairwise(widths))
        self.score = SameConv2d(widths[-1], 1, 3)
        self.score.bias = None
        self.apply(initialise)

    def forward(self, frames: Tensor) -> Tensor:
        """N x 3 x S x S -> logits N x 1 x h x h; h is 6 for S of 128, 5 for 64."""
        x = frames
        for conv in self.convs:
            x = F.leaky_relu(conv(F.pad(x, (1, 1, 1, 1))), 0.01)
        logits: Tensor = self.score(F.pad(x, (1, 1, 1, 1)))
        return logits


class Trunk(nn.Module):
    """Pairs of convolutions, of which all but the first halve the size and double the channels."""

    def __init__(self, config: ActionsConfig, levels: int):
        super().__init__()
        widths = [config.encoder.width << level for level in range(levels)]
        pairs = [(ConvBlock(3, widths[0], config, 7), ConvBlock(widths[0], widths[0], config))]
        for a, b in itertools.pairwise(widths):
            pairs.append((ConvBlock(a, b, config, stride=2), ConvBlock(b, b, config)))
        self.levels = nn.ModuleList(nn.Sequential(*pair) for pair in pairs)

    def forward(self, frames: Tensor) -> list[Tensor]:
        """N x 3 x S x S -> a map of each level: N x W x S x S, N x 2W x S/2 x S/2, ...."""
        maps = [frames]
        for level in self.levels:
            maps.append(level(maps[-1]))
        return maps[1:]


class ConvBlock(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, config: ActionsConfig, kernel: int = 3, stride: int = 1):
        super().__init__()
        self.conv = SameConv2d(inputs, outputs, kernel, stride)
        self.norm: nn.Module = BatchNorm2d(outputs, eps=1e-5, momentum=config.norm_momentum)
        initialise(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        """N x inputs x h x w -> N x outputs x h / stride x w / stride."""
        return F.relu(self.norm(self.conv(x)))

    def fold(self) -> None:
        """Fold the norm into the convolution, for inference only; see `nn.modes.folded`."""
        fold_norm(self.conv, self.norm)
        self.norm = nn.Identity()


def convolutions(inputs: int, outputs: int, count: int, config: ActionsConfig) -> nn.Sequential:
    """So many `ConvBlock`s of one size."""
    return nn.Sequential(*(ConvBlock(outputs if number else inputs, outputs, config) for number in range(count)))


def initialise(layer: nn.Module) -> None:
    """Xavier uniform weights and zero biases, in a convolution (release)."""
    if isinstance(layer, nn.Conv2d):
        nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def upsample(maps: Tensor) -> Tensor:
    """Twice the size on the grid of TensorFlow 1: pixel i of the result is at i / 2 of the maps, the last repeats.

    N x C x h x w -> N x C x 2h x 2w. Aligning the corners of one more pixel on both sides is that grid.
    """
    height, width = maps.shape[-2:]
    size, padded = (2 * height + 1, 2 * width + 1), F.pad(maps, (0, 1, 0, 1), mode="replicate")
    return F.interpolate(padded, size=size, mode="bilinear", align_corners=True)[..., :-1, :-1]


# --- keypoints ------------------------------------------------------------------------------------------------------
def read_out(logits: Tensor, readout: str) -> Tensor:
    """Keypoints of maps of logits, as `KeypointConfig.readout` says (Eq. 1, release); N x K x S x S -> N x K x 2."""
    if readout == "full":
        return geometry.soft_argmax(geometry.spatial_softmax(logits))[0]
    over_x, over_y = marginals(logits)
    grid = geometry.identity_grid((logits.shape[2], logits.shape[3]), over_x)
    return torch.stack([(over_x * grid[0, :, 0]).sum(-1), (over_y * grid[:, 0, 1]).sum(-1)], dim=-1)


def marginals(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax over the columns and over the rows, of logits averaged along the other axis (release).

    N x K x H x W -> N x K x W and N x K x H, at least float32.
    """
    working = logits if logits.dtype == torch.float64 else logits.float()
    return working.mean(2).softmax(-1), working.mean(3).softmax(-1)


def gaussian_maps(points: Tensor, size: geometry.Size, config: KeypointConfig) -> Tensor:
    """Maps of keypoints (Eq. 2): exp(-(sharpness d)^2) at the distance d; N x K x 2 -> N x K x size, float32.

    With `map_peak` "density" they are divided by sigma sqrt(2 pi), so that their peak is sharpness / sqrt(pi).
    """
    with torch.autocast(points.device.type, enabled=False):
        points = points if points.dtype == torch.float64 else points.float()
        covariance = torch.eye(2, dtype=points.dtype, device=points.device) / config.sharpness**2
        covariance = covariance.expand(*points.shape, 2)
        maps = geometry.gaussian_map(points, covariance, size, exponent=1.0)
    return maps * (config.sharpness / math.sqrt(math.pi)) if config.map_peak == "density" else maps


# --- the release's variables ----------------------------------------------------------------------------------------
_UNUSED = re.compile(r"image_encoder/encoder/(conv|b_norm)_[78]/")
_PARTS = {"kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}
_PARTS |= {"moving_mean": "running_mean", "moving_variance": "running_var"}


def from_release(name: str, value: Tensor) -> tuple[str, Tensor] | None:
    """A variable of the release's first stage as an entry of `ActionsNetworks`, of `image_discriminator.*` for the D.

    Args:
        name: e.g. `translator/conv_1_0/conv2d/kernel`.
        value: kernels height x width x in x out.

    Returns:
        Its name and value here; None for the image encoder's last level, of which nothing is used.
    """
    if _UNUSED.match(name):
        return None
    network, *_ = name.split("/")
    part = _PARTS[name.rpartition("/")[2]]
    place, layer = _place(name, network)
    kind = "norm." if "b_norm" in name else ("conv." if layer else "")
    return f"{place}.{kind}{part}", value.permute(3, 2, 0, 1).contiguous() if value.dim() == 4 else value


def _place(name: str, network: str) -> tuple[str, bool]:
    """The layer here that a variable belongs to, and whether it is a block of convolution and norm."""
    numbers = [int(number) for number in re.findall(r"(?<=_)\d+(?=[_/])", name)]
    if network == "img_discr":
        return ("image_discriminator.score" if not numbers else f"image_discriminator.convs.{numbers[0]}"), False
    ours = {"image_encoder": "encoder", "pose_encoder": "detector", "translator": "translator"}[network]
    if "/encoder/" in name:
        level, number = divmod(numbers[0] - 1, 2)
        return f"{ours}{'.trunk' if ours == 'detector' else ''}.levels.{level}.{number}", True
    if ours == "detector" and numbers == [0]:
        return "detector.head", False
    if ours == "translator" and numbers[0] == 6:
        return f"translator.{('image', 'mask')[numbers[1]]}", False
    block, half = divmod(numbers[0] - 1, 2)
    return f"{ours}.blocks.{block}.{2 * half + numbers[1]}", True
