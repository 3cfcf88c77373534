"""Monkey-Net, from the whole down to the parts.

Its detector and dense motion, which other systems use as well, are in `keypoints.networks`.

Shapes: N frames (time folded into the batch), K keypoints, S the picture's side, s the side at which motion is
found (s = S * motion.scale). Pictures are RGB in [0, 1]; coordinates are normalised, (x, y), corners aligned.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.keypoints.networks import (
    FieldGenerator,
    GeneratorOutput,
    KeypointNetworks,
    Keypoints,
    WarpingGenerator,
    heatmaps,
)
from stillmotion.systems.driving.config import DrivingConfig


class DrivingNetworks(KeypointNetworks):
    """Detector, generator (with dense motion), perhaps a keypoint predictor. The discriminator only trains."""

    def __init__(self, config: DrivingConfig):
        super().__init__(config, FieldGenerator if config.generator.fields else Generator)
        # Last, so that the other networks start from the same random numbers with it and without.
        self.predictor = KeypointPredictor(config) if config.predictor is not None else None


class Generator(WarpingGenerator):
    """The paper's generator (Sec. 3.3): warps the still's features by the dense motion and decodes the frame."""

    def build_head(self, width: int) -> None:
        """Colours from the last maps."""
        self.colours = nn.Conv2d(width, 3, 1)

    def forward(
        self, features: Sequence[Tensor], source: Keypoints, target: Keypoints, plate: Tensor | None = None
    ) -> GeneratorOutput:
        """Generate N frames from the features of N stills (see `encode`); the paper's generator has no plate."""
        decoded, motion, warped = self.decode(features, source, target)
        return GeneratorOutput(torch.sigmoid(self.colours(decoded).float()), motion, warped)


class Discriminator(nn.Module):
    """The discriminator D (Sec. 3.5): a frame beside the driving heatmaps; its maps serve feature matching."""

    def __init__(self, config: DrivingConfig):
        super().__init__()
        self.config = config
        channels, discriminator = 3 + config.keypoints.count, config.discriminator
        blocks = []
        for i in range(discriminator.blocks):
            width = min(discriminator.max_width, discriminator.width * 2**i)
            blocks.append(DiscriminatorBlock(channels, width, norm=i > 0))
            channels = width
        self.blocks = nn.ModuleList(blocks)
        self.score = nn.Conv2d(channels, 1, 1)

    def forward(self, frame: Tensor, driving: Keypoints) -> list[Tensor]:
        """The frame, the map of every block, and last the scores (1 x 1 at 64 pixels)."""
        size = (frame.shape[2], frame.shape[3])
        heat = heatmaps(driving, self.config, size).to(frame.dtype)
        maps, x = [frame], torch.cat([frame, heat], dim=1)
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        return [*maps, self.score(x)]


class KeypointPredictor(nn.Module):
    """Continues the keypoints of one frame in time (Sec. 4, image-to-video translation).

    A GRU is given the first frame's keypoints and after them zeros. Means leave through tanh; a covariance is A^T A
    of the 2 x 2 block A that the last layer gives, plus `predictor.least_variance` on the diagonal. Without
    `predictor.covariance`, and where the detector's covariances are fixed, the first frame's are kept.
    """

    def __init__(self, config: DrivingConfig):
        super().__init__()
        assert config.predictor is not None
        self.count, self.full = config.keypoints.count, config.keypoints.covariance == "full"
        self.learns_covariance = self.full and config.predictor.covariance  # else it keeps the first frame's
        self.least_variance = config.predictor.least_variance
        self.width = self.count * (6 if self.full else 2)
        self.gru = nn.GRU(self.width, config.predictor.hidden, config.predictor.layers, batch_first=True)
        self.head = nn.Linear(config.predictor.hidden, self.width)

    def forward(self, first: Keypoints, count: int) -> Keypoints:
        """Keypoints of `count` frames: N x K of the first frame -> N x count x K; frame 0 is `first` itself."""
        return next(self.chunks(first, count, count))

    def chunks(self, first: Keypoints, count: int, size: int) -> Iterator[Keypoints]:
        """The same, up to `size` frames at a time: any length in the same memory; yields N x size x K."""
        state: Tensor | None = None
        for start in range(0, count, size):
            inputs = first.mean.new_zeros(len(first.mean), min(size, count - start), self.width)
            if start == 0:  # all means, then all covariances
                parts = (first.mean, first.covariance) if self.full else (first.mean,)
                inputs[:, 0] = torch.cat([part.flatten(1) for part in parts], dim=1)
            made, state = self.unroll(inputs, first, state)
            if start == 0:
                mean, covariance = (
                    torch.cat([known[:, None], guess[:, 1:]], dim=1) for known, guess in zip(first, made, strict=True)
                )
                made = Keypoints(mean, covariance)
            yield made

    def unroll(self, inputs: Tensor, first: Keypoints, state: Tensor | None) -> tuple[Keypoints, Tensor]:
        """Some steps of the GRU from `state`: N x T x width -> keypoints N x T x K and the state after them."""
        n, length, _ = inputs.shape
        k = self.count
        with torch.autocast(inputs.device.type, enabled=False):  # coordinates stay float32
            hidden, state = self.gru(inputs, state)
            out = self.head(hidden)
            mean = torch.tanh(out[..., : 2 * k]).reshape(n, length, k, 2)
            if not self.learns_covariance:
                return Keypoints(mean, first.covariance[:, None].expand(-1, length, -1, -1, -1)), state
            root = out[..., 2 * k :].reshape(n, length, k, 2, 2)
            # A^T A as a sum of products: a matrix product over axes of length two runs as thousands of tiny ones.
            covariance = (root[..., :, :, None] * root[..., :, None, :]).sum(-3)
            eye = torch.eye(2, dtype=out.dtype, device=out.device)
            return Keypoints(mean, covariance + self.least_variance * eye), state


class DiscriminatorBlock(nn.Module):
    """4x4 convolution without padding, instance norm, leaky ReLU, average pool."""

    def __init__(self, inputs: int, outputs: int, norm: bool):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 4)
        self.norm = nn.InstanceNorm2d(outputs, affine=True) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """N x inputs x h x w -> N x outputs x (h - 3) / 2 x (w - 3) / 2."""
        return F.avg_pool2d(F.leaky_relu(self.norm(self.conv(x)), 0.2), 2)


# --- the release's names --------------------------------------------------------------------------------------------
# What a name of the authors begins with, and what it is here; the first that fits counts.
_PLACES: Mapping[str, Mapping[str, str]] = {
    "kp_detector": {
        r"predictor\.encoder\.down_blocks\.": "detector.unet.encoder.blocks.",
        r"predictor\.decoder\.up_blocks\.": "detector.unet.decoder.blocks.",
        r"predictor\.decoder\.conv\.": "detector.logits.",
    },
    "generator": {
        r"appearance_encoder\.down_blocks\.": "generator.encoder.blocks.",
        r"dense_motion_module\.group_blocks\.": "generator.dense_motion.groups.",
        r"dense_motion_module\.hourglass\.encoder\.down_blocks\.": "generator.dense_motion.unet.encoder.blocks.",
        r"dense_motion_module\.hourglass\.decoder\.up_blocks\.": "generator.dense_motion.unet.decoder.blocks.",
        r"dense_motion_module\.hourglass\.decoder\.conv\.": "generator.dense_motion.head.",
        r"video_decoder\.up_blocks\.": "generator.decoder.blocks.",
        r"refinement_module\.conv-last\.": "generator.colours.",
        r"refinement_module\.r": "generator.refine.",
    },
    "discriminator": {r"down_blocks\.": "blocks.", r"conv\.": "score."},
    "predictor": {r"rnn\.": "predictor.gru.", r"linear\.": "predictor.head."},
}


def from_release(network: str, name: str, value: Tensor, config: DrivingConfig) -> tuple[str, Tensor] | None:
    """An entry of a network's state in the release, as one of `DrivingNetworks` or of `Discriminator`.

    The release's convolutions are three-dimensional with a kernel of one in time.

    Args:
        network: `kp_detector`, `generator`, `discriminator` or `predictor`.
        name: e.g. `appearance_encoder.down_blocks.0.conv.weight`.
        value: of any shape.
        config: of the networks here.

    Returns:
        Its name and value here; None where there is nothing of that name.
    """
    for begin, ours in _PLACES[network].items():
        found = re.match(begin, name)
        if found:
            if name.startswith("linear."):
                value = value[_predictor_rows(len(value), config.keypoints.count)]
            return ours + name[found.end() :], value.squeeze(2) if value.ndim == 5 else value
    return None


def _predictor_rows(outputs: int, keypoints: int) -> Tensor:
    """Rows of the release's last layer in our order, all means and then all roots of covariances.

    It has them keypoint by keypoint, two of the mean and four of the root.
    """
    rows = torch.arange(outputs).view(keypoints, -1)
    return torch.cat([rows[:, :2].flatten(), rows[:, 2:].flatten()])
