"""From keypoints to fields: what moves a figure by its keypoints, from the whole down to the parts.

Detector and dense motion are Monkey-Net's (Siarohin et al., CVPR 2019; sections and equations are its). They stand
here and not with its other networks in `systems.driving` because several systems move their stills with them: by the
keypoints of a video, by those that an action's name generates, by the joints of a pose.

Shapes: N frames (time folded into the batch), K keypoints, S the picture's side, s the side at which motion is
found (s = S * motion.scale). Pictures are RGB in [0, 1]; coordinates are normalised, (x, y), corners aligned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion import geometry
from stillmotion.keypoints.config import NetworkConfig
from stillmotion.nn.unet import ConvBlock, Decoder, Encoder, Residual, UNet, without_statistics, zero_init
from stillmotion.rendering.fields import FieldHead, Fields, MaskHead, blend, restrict, warp_still


class Keypoints(NamedTuple):
    """K keypoints per frame, in normalised units."""

    mean: Tensor  # N x K x 2
    covariance: Tensor  # N x K x 2 x 2

    def rows(self, index: slice) -> Keypoints:
        """The keypoints of some of the frames."""
        return Keypoints(self.mean[index], self.covariance[index])

    def detach(self) -> Keypoints:
        """The same keypoints without gradient."""
        return Keypoints(self.mean.detach(), self.covariance.detach())


class StepInputs(NamedTuple):
    """What a frame is generated from."""

    features: Sequence[Tensor]  # of N stills or of one, the still itself first: S, S/2, S/4, ... maps
    source: Keypoints  # of N stills or of one
    target: Keypoints  # of N frames
    plate: Tensor | None = None  # of N stills or of one, x 4 x S x S: see `rendering.fields.blend`


class Motion(NamedTuple):
    """A backward flow and the masks it was mixed from."""

    displacement: Tensor  # N x s x s x 2 (FieldGenerator: N x S x S x 2), normalised, relative to the pixel itself
    masks: Tensor | None  # N x (K+1) x s x s, sum to one, background first; None without the coarse part
    mixture: Tensor | None = None  # N x 3 x s x s, the shifted stills mixed by the masks; None without either


class GeneratorOutput(NamedTuple):
    """What the generator makes, and what explains it."""

    frame: Tensor  # N x 3 x S x S in [0, 1]
    motion: Motion
    warped: Tensor  # N x 3 x S x S, the still through the flow
    fields: Fields | None = None  # of a FieldGenerator, at S


class KeypointNetworks(nn.Module):
    """Detector and generator: a still and the keypoints of frames in, the frames out.

    Args:
        config: of both.
        generator: its class; driving also has the paper's.
    """

    def __init__(self, config: NetworkConfig, generator: type[WarpingGenerator] | None = None):
        super().__init__()
        self.detector = KeypointDetector(config)
        self.generator = (generator or FieldGenerator)(config)

    def forward(self, inputs: StepInputs) -> GeneratorOutput:
        """Generate N frames; a single still serves all of them (Sec. 3.1, Fig. 2)."""
        count = len(inputs.target.mean)
        features = [feature.expand(count, -1, -1, -1) for feature in inputs.features]
        source = Keypoints(*(part.expand(count, *part.shape[1:]) for part in inputs.source))
        plate = None if inputs.plate is None else inputs.plate.expand(count, -1, -1, -1)
        output: GeneratorOutput = self.generator(features, source, inputs.target, plate)
        return output


def gather_inputs(networks: KeypointNetworks, source: Tensor, driving: Tensor, freeze: bool = False) -> StepInputs:
    """Inputs for generating driving frames from source frames of the same clips; both N x 3 x S x S.

    The detector sees both in one batch, so that batch norm treats them alike (as in the release).

    Args:
        networks: the system's.
        source: N stills, or one for all frames.
        driving: N frames.
        freeze: no gradient for the detector. Its mode, and so its statistics, are the caller's business.
    """
    with torch.set_grad_enabled(torch.is_grad_enabled() and not freeze):
        found = networks.detector(torch.cat([source, driving]))
    own, others = found.rows(slice(len(source))), found.rows(slice(len(source), None))
    return StepInputs(networks.generator.encode(source), own, others)


class KeypointDetector(nn.Module):
    """Finds keypoints without labels (Sec. 3.2): U-Net, spatial softmax, mean and covariance."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        # With `pixel_unshuffle` a small pixel holds the pixels it stands for as channels instead of their mean.
        self.fold_pixels = round(1 / config.motion.scale) if config.detector.pixel_unshuffle else 1
        detector = config.detector
        self.unet = UNet(3 * self.fold_pixels**2, detector.width, detector.max_width, detector.blocks)
        self.logits = nn.Conv2d(self.unet.out_channels, config.keypoints.count, 3, padding=1)

    def forward(self, frames: Tensor) -> Keypoints:  # N x 3 x S x S
        """Keypoints of N frames (Eq. 1)."""
        small = F.pixel_unshuffle(frames, self.fold_pixels) if self.fold_pixels > 1 else shrink(frames, self.config)
        logits = self.logits(self.unet(small))  # N x K x s x s
        heat = geometry.spatial_softmax(logits, self.config.keypoints.temperature)
        mean, covariance = geometry.soft_argmax(heat, epsilon=1e-7)
        return Keypoints(mean, self._shape(covariance))

    def _shape(self, covariance: Tensor) -> Tensor:
        config = self.config.keypoints
        if config.covariance == "fixed":
            eye = torch.eye(2, dtype=covariance.dtype, device=covariance.device)
            return (config.fixed_variance * eye).expand_as(covariance)
        if config.covariance_floor:
            covariance = geometry.floor_covariance(covariance, config.covariance_floor)
        return covariance


class WarpingGenerator(nn.Module):
    """Warps the still's features by the dense motion and decodes them (Sec. 3.3); what follows is a subclass's."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        generator = config.generator
        self.encoder = Encoder(3, generator.width, generator.max_width, generator.blocks)
        self.dense_motion = DenseMotion(config) if config.motion.flow != "none" else None
        skips = [channels + config.keypoints.count for channels in self.encoder.channels]
        self.decoder = Decoder(skips, generator.width, generator.max_width)
        width = self.decoder.out_channels
        self.refine = nn.Sequential(*(Residual(width) for _ in range(generator.refine_blocks)))
        self.build_head(width)
        if generator.norm == "affine":
            without_statistics(self)

    def build_head(self, width: int) -> None:
        """What follows the last maps, which have `width` channels."""
        raise NotImplementedError

    def encode(self, still: Tensor) -> list[Tensor]:
        """Feature maps of the still, the still itself first; once per still, whatever the video's length."""
        maps: list[Tensor] = self.encoder(still)  # N x 3 x S x S -> S, S/2, S/4, ... maps
        return maps

    def decode(
        self, features: Sequence[Tensor], source: Keypoints, target: Keypoints
    ) -> tuple[Tensor, Motion, Tensor]:
        """The last maps, N x C x S x S, the dense motion, and the warped still, N x 3 x S x S."""
        small = shrink(features[0], self.config)
        size = (small.shape[2], small.shape[3])
        heat = heatmaps(target, self.config, size) - heatmaps(source, self.config, size)  # N x K x s x s: H' - H
        motion = self.motion(small, source, target, heat)
        grid = geometry.identity_grid(size, motion.displacement) + motion.displacement
        skips = []
        for feature in features:
            size, mode = (feature.shape[2], feature.shape[3]), self.config.generator.flow_resize
            warped = geometry.warp(feature, geometry.resize_grid(grid, size, mode))  # Eq. 3
            heat_here = geometry.resize_map(heat, size, mode).to(warped.dtype)
            joined = torch.cat([warped, heat_here], dim=1)  # N x (C + K) x size
            skips.append(joined.contiguous(memory_format=torch.channels_last))  # once, not in every convolution
        return self.refine(self.decoder(skips)), motion, skips[0][:, :3]

    def motion(self, small: Tensor, source: Keypoints, target: Keypoints, heat: Tensor) -> Motion:
        """The dense motion alone, of a still as `shrink` gives it; the identity where the flow is switched off."""
        if self.dense_motion is None:
            return Motion(small.new_zeros(len(target.mean), *small.shape[2:], 2, dtype=torch.float32), None)
        motion: Motion = self.dense_motion(small, source, target, heat)
        return motion


class FieldGenerator(WarpingGenerator):
    """Ours: ends in fields (see `rendering`), of which the frame is blended; also finds the still's figure.

    What does not move is copied and not decoded. The unmoved still is a source of its own so that a noisy flow costs
    a static background nothing.
    """

    def build_head(self, width: int) -> None:
        """Fields from the last maps, and the figure from the encoder's."""
        self.fields = FieldHead(width)
        self.mask = MaskHead(self.encoder.channels)

    def figure(self, features: Sequence[Tensor]) -> Tensor:
        """Logits of the figure in N stills, from their features; N x 1 x S x S."""
        logits: Tensor = self.mask(features)
        return logits

    def forward(
        self, features: Sequence[Tensor], source: Keypoints, target: Keypoints, plate: Tensor | None = None
    ) -> GeneratorOutput:
        """Generate N frames from the features of N stills (see `encode`), and their plates if they are known."""
        decoded, motion, _ = self.decode(features, source, target)
        fields = restrict(self.fields(decoded, motion.displacement), plate)
        warped = warp_still(features[0], fields)
        frame = blend(fields, warped, features[0], plate)
        return GeneratorOutput(frame, motion._replace(displacement=fields.displacement), warped, fields)


class DenseMotion(nn.Module):
    """The motion network M (Sec. 3.4): a dense backward flow out of sparse keypoint displacements."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        entries = config.keypoints.count + 1  # the background comes first (the paper's index K + 1)
        motion = config.motion
        inputs = entries * (1 + 2 * motion.displacement + 3 * motion.image)
        self.groups = nn.Sequential(
            *(ConvBlock(inputs, inputs, kernel=1, groups=entries) for _ in range(motion.group_convs))
        )
        self.unet = UNet(inputs, motion.width, motion.max_width, motion.blocks)
        outputs = entries * motion.coarse + 2 * motion.residual
        self.head = nn.Conv2d(self.unet.out_channels, outputs, 3, padding=1)
        zero_init(self.head, {0: motion.background_bias} if motion.coarse else {})

    def forward(self, still: Tensor, source: Keypoints, target: Keypoints, heat: Tensor) -> Motion:
        """Backward flow from N frames to N stills, N x 3 x s x s: F = F_coarse + F_residual."""
        shifts = source.mean - target.mean  # N x K x 2, backward: where in the still to look
        shifts = torch.cat([torch.zeros_like(shifts[:, :1]), shifts], dim=1)  # the background stays
        embedding, moved = self.embed(still, heat, shifts)
        out = self.head(self.unet(self.groups(embedding))).float()  # N x (K+1 + 2) x s x s
        displacement, masks, mixture = torch.zeros_like(out[:, :2]), None, None
        if self.config.motion.coarse:  # Eq. 4
            masks = F.softmax(out[:, : self.config.keypoints.count + 1], dim=1)
            x = (masks * shifts[:, :, 0, None, None]).sum(1)
            y = (masks * shifts[:, :, 1, None, None]).sum(1)
            displacement = torch.stack([x, y], dim=1)  # N x 2 x s x s
            mixture = None if moved is None else (masks[:, :, None] * moved).sum(1)
        if self.config.motion.residual:
            displacement = displacement + out[:, -2:]
        return Motion(displacement.permute(0, 2, 3, 1), masks, mixture)

    def embed(self, still: Tensor, heat: Tensor, shifts: Tensor) -> tuple[Tensor, Tensor | None]:
        """Per entry, background first: heatmap difference, [shift], [the still moved by that shift].

        Returns:
            N x (K+1)(1 [+2] [+3]) x s x s, and the moved stills alone, N x (K+1) x 3 x s x s, if they are used.
        """
        n, entries, _ = shifts.shape
        _, _, height, width = still.shape
        heat = torch.cat([torch.zeros_like(heat[:, :1]), heat], dim=1)
        moved = None
        parts = [heat[:, :, None]]  # N x (K+1) x 1 x s x s
        if self.config.motion.displacement:
            parts.append(shifts[..., None, None].expand(-1, -1, -1, height, width))
        if self.config.motion.image:
            grid = geometry.identity_grid((height, width), shifts) + shifts[:, :, None, None, :]
            many = still[:, None].expand(-1, entries, -1, -1, -1).reshape(n * entries, 3, height, width)
            moved = geometry.warp(many, grid.view(n * entries, height, width, 2))
            moved = moved.view(n, entries, 3, height, width)
            parts.append(moved)
        parts = [part.to(still.dtype) for part in parts]
        return torch.cat(parts, dim=2).flatten(1, 2), moved


def heatmaps(keypoints: Keypoints, config: NetworkConfig, size: geometry.Size | None = None) -> Tensor:
    """Gaussian maps of the keypoints (Eq. 2); N x K x s x s (or x size), float32."""
    with torch.autocast(keypoints.mean.device.type, enabled=False):
        exponent = config.keypoints.heatmap_exponent
        heat = geometry.gaussian_map(keypoints.mean, keypoints.covariance, size or config.motion_size, exponent)
        if config.keypoints.heatmap_sum:
            return heat / heat.sum(dim=(2, 3), keepdim=True)
        return heat / config.keypoints.heatmap_scale


def shrink(frames: Tensor, config: NetworkConfig) -> Tensor:
    """The picture at the size where motion is found; N x 3 x S x S -> N x 3 x s x s."""
    if config.motion.scale == 1:
        return frames
    size = [int(side * config.motion.scale) for side in frames.shape[2:]]
    return F.interpolate(frames, size=size, mode=config.motion.shrink)
