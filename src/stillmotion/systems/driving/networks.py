"""Monkey-Net, from the whole down to the parts.

Shapes: N frames (time folded into the batch), K keypoints, S the picture's side, s the side at which motion is
found (s = S * motion_scale). Pictures are RGB in [0, 1]; coordinates are normalised, (x, y), corners aligned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion import geometry
from stillmotion.nn.unet import ConvBlock, Decoder, Encoder, Residual, UNet, without_statistics
from stillmotion.systems.driving.config import DrivingConfig

SHARE_GAIN = 8.0
"""Factor of the blend's logits. The three ways differ by a few grey levels, so their gradient is mostly noise, and
with a gain of one the shares had hardly left their start after 1,600 steps (docs/log.md, H)."""


RETOUCH_GAIN = 0.1
"""Factor of what is added to the blend: a correction of some grey levels, so steps of a share of one."""


LEAST_VARIANCE = 1e-5
"""Added to both variances of a predicted covariance, so that it has an inverse. The root is 0.1 of 64 pixels."""


class Keypoints(NamedTuple):
    """K keypoints per frame, in normalised units."""

    mean: Tensor  # N x K x 2
    covariance: Tensor  # N x K x 2 x 2


class Motion(NamedTuple):
    """A backward flow and the masks it was mixed from."""

    displacement: (
        Tensor  # N x s x s x 2 (S x S with `fine_flow`), normalised: where to look, relative to where one is
    )
    masks: Tensor | None  # N x (K+1) x s x s, sum to one, background first; None without the coarse part
    mixed: Tensor | None = None  # N x 3 x s x s, the shifted stills mixed by the masks; None without either


class Generated(NamedTuple):
    """What the generator makes, and what explains it."""

    frame: Tensor  # N x 3 x S x S in [0, 1]
    motion: Motion
    warped: Tensor  # N x 3 x S x S, the still through the flow
    keep: Tensor | None  # N x 2 x S x S, shares of the warped and of the unmoved still (composite only)
    painted: Tensor | None  # N x 3 x S x S in [0, 1], which has the rest (composite only)
    retouch: Tensor | None = None  # N x 3 x S x S, added to the blend (composite with `retouch` only)


class DrivingNetworks(nn.Module):
    """The networks of the system: detector, generator (with dense motion), discriminator, perhaps a predictor."""

    def __init__(self, config: DrivingConfig):
        super().__init__()
        self.detector = KeypointDetector(config)
        self.generator = Generator(config)
        self.discriminator = Discriminator(config)
        # Last, so that the other networks start from the same random numbers with it and without.
        self.predictor = KeypointPredictor(config) if config.predict_steps else None


class KeypointDetector(nn.Module):
    """Finds keypoints without labels (section 3.1): U-Net, spatial softmax, mean and covariance."""

    def __init__(self, config: DrivingConfig):
        super().__init__()
        self.config = config
        # With `detector_detail` a small pixel holds the pixels it stands for as channels instead of their mean.
        self.detail = round(1 / config.motion_scale) if config.detector_detail else 1
        self.unet = UNet(3 * self.detail**2, config.detector_expansion, config.detector_max, config.detector_blocks)
        self.logits = nn.Conv2d(self.unet.out_channels, config.keypoints, 3, padding=1)

    def forward(self, frames: Tensor) -> Keypoints:  # N x 3 x S x S
        """Keypoints of N frames."""
        small = F.pixel_unshuffle(frames, self.detail) if self.detail > 1 else shrink(frames, self.config)
        logits = self.logits(self.unet(small))  # N x K x s x s
        heat = geometry.spatial_softmax(logits, self.config.temperature)
        mean, covariance = geometry.soft_argmax(heat, epsilon=1e-7)
        return Keypoints(mean, self._shape(covariance))

    def _shape(self, covariance: Tensor) -> Tensor:
        eye = torch.eye(2, dtype=covariance.dtype, device=covariance.device)
        if self.config.covariance == "fixed":
            return (self.config.fixed_variance * eye).expand_as(covariance)
        if self.config.covariance == "single":
            variance = (covariance[..., 0, 0] + covariance[..., 1, 1]) / 2
            covariance = variance[..., None, None] * eye
        if self.config.covariance_floor:
            covariance = geometry.floor_covariance(covariance, self.config.covariance_floor)
        return covariance


class Generator(nn.Module):
    """Warps the still's features by the dense motion and paints the driving frame (section 3.2)."""

    def __init__(self, config: DrivingConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(3, config.generator_expansion, config.generator_max, config.generator_blocks)
        self.dense_motion = DenseMotion(config) if config.use_flow else None
        skips = [channels + config.keypoints for channels in self.encoder.channels]
        self.decoder = Decoder(skips, config.generator_expansion, config.generator_max)
        width = self.decoder.out_channels
        self.refine = nn.Sequential(*(Residual(width) for _ in range(config.refine_blocks)))
        self.paint = nn.Conv2d(width, 5 if config.composite else 3, 1)
        if config.composite:  # start near "keep the still": most of a picture does not move
            with torch.no_grad():
                self.paint.weight[3:].zero_()
                bias_of(self.paint)[3:].fill_(1 / SHARE_GAIN)
        self.fine_flow = zeroed(nn.Conv2d(width, 2, 3, padding=1)) if config.fine_flow and config.use_flow else None
        self.retouch = zeroed(nn.Conv2d(width, 3, 3, padding=1)) if config.retouch else None
        if config.generator_norm == "affine":
            without_statistics(self)

    def encode(self, still: Tensor) -> list[Tensor]:
        """Feature maps of the still, the still itself first; once per still, whatever the video's length."""
        return self.encoder(still)  # N x 3 x S x S -> S, S/2, S/4, ... maps

    def forward(self, features: Sequence[Tensor], source: Keypoints, driving: Keypoints) -> Generated:
        """Paint N driving frames from the features of N stills (see `encode`)."""
        still = features[0]  # N x 3 x S x S
        heat = heatmaps(driving, self.config) - heatmaps(source, self.config)  # N x K x s x s
        motion = self.motion(still, source, driving, heat)
        grid = geometry.identity_grid(self.config.motion_size, motion.displacement) + motion.displacement

        skips = []
        for feature in features:
            size = (feature.shape[2], feature.shape[3])
            moved = geometry.warp(feature, geometry.resize_grid(grid, size, self.config.flow_resize))
            heat_here = geometry.resize_map(heat, size, self.config.flow_resize).to(moved.dtype)
            joined = torch.cat([moved, heat_here], dim=1)  # N x (C + K) x size
            skips.append(joined.contiguous(memory_format=torch.channels_last))  # once, not in every convolution
        warped = skips[0][:, :3]

        found = self.refine(self.decoder(skips))  # N x C x S x S
        if self.fine_flow is not None:
            motion = self.correct(motion, self.fine_flow(found).float())
            warped = geometry.warp(still, geometry.identity_grid(motion_size(motion), warped) + motion.displacement)
        painted = self.paint(found).float()  # N x 3 (or 5) x S x S
        colours = torch.sigmoid(painted[:, :3])
        if not self.config.composite:
            return Generated(colours, motion, warped, None, None)
        # Painting has the logit 0. The unmoved still is there so that a swimming flow costs the wall nothing.
        logits = torch.cat([SHARE_GAIN * painted[:, 3:], torch.zeros_like(painted[:, :1])], dim=1)
        shares = logits.softmax(dim=1)
        frame = shares[:, :1] * warped.float() + shares[:, 1:2] * still.float() + shares[:, 2:] * colours
        retouch = None if self.retouch is None else RETOUCH_GAIN * self.retouch(found).float()
        frame = frame if retouch is None else frame + retouch
        return Generated(frame, motion, warped, shares[:, :2], colours, retouch)

    def motion(self, still: Tensor, source: Keypoints, driving: Keypoints, heat: Tensor) -> Motion:
        """The dense motion alone; the identity where the flow is switched off."""
        if self.dense_motion is None:
            height, width = self.config.motion_size
            return Motion(still.new_zeros(len(driving.mean), height, width, 2, dtype=torch.float32), None)
        return self.dense_motion(shrink(still, self.config), source, driving, heat)

    def correct(self, motion: Motion, pixels: Tensor) -> Motion:
        """The same motion at full size, its flow corrected by N x 2 x S x S pixels."""
        size = (pixels.shape[2], pixels.shape[3])
        large = geometry.resize_grid(motion.displacement, size, self.config.flow_resize)
        return motion._replace(
            displacement=large + geometry.displacement_to_normalised(pixels.permute(0, 2, 3, 1), size)
        )


class DenseMotion(nn.Module):
    """Turns sparse keypoint displacements into a dense backward flow: masks times shifts, plus a residual."""

    def __init__(self, config: DrivingConfig):
        super().__init__()
        self.config = config
        entries = config.keypoints + 1  # the background comes first
        inputs = entries * (1 + 2 * config.use_displacement + 3 * config.use_image)
        self.groups = nn.Sequential(
            *(ConvBlock(inputs, inputs, kernel=1, groups=entries) for _ in range(config.motion_groups))
        )
        self.unet = UNet(inputs, config.motion_expansion, config.motion_max, config.motion_blocks)
        outputs = entries * config.use_coarse + 2 * config.use_residual
        self.head = nn.Conv2d(self.unet.out_channels, outputs, 3, padding=1)
        with torch.no_grad():
            self.head.weight.zero_()
            bias_of(self.head).zero_()
            if config.use_coarse:
                bias_of(self.head)[0] = config.background_bias

    def forward(
        self, still: Tensor, source: Keypoints, driving: Keypoints, heat: Tensor
    ) -> Motion:  # still: N x 3 x s x s
        """Backward flow from N driving frames to N stills."""
        shifts = source.mean - driving.mean  # N x K x 2, backward: where in the still to look
        shifts = torch.cat([torch.zeros_like(shifts[:, :1]), shifts], dim=1)  # the background stays
        embedding, moved = self.embed(still, heat, shifts)
        out = self.head(self.unet(self.groups(embedding))).float()  # N x (K+1 + 2) x s x s

        displacement, masks, mixed = torch.zeros_like(out[:, :2]), None, None
        if self.config.use_coarse:
            masks = F.softmax(out[:, : self.config.keypoints + 1], dim=1)
            x = (masks * shifts[:, :, 0, None, None]).sum(1)
            y = (masks * shifts[:, :, 1, None, None]).sum(1)
            displacement = torch.stack([x, y], dim=1)  # N x 2 x s x s
            mixed = None if moved is None else (masks[:, :, None] * moved).sum(1)
        if self.config.use_residual:
            displacement = displacement + out[:, -2:]
        return Motion(displacement.permute(0, 2, 3, 1), masks, mixed)

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
        if self.config.use_displacement:
            parts.append(shifts[..., None, None].expand(-1, -1, -1, height, width))
        if self.config.use_image:
            grid = geometry.identity_grid((height, width), shifts) + shifts[:, :, None, None, :]
            many = still[:, None].expand(-1, entries, -1, -1, -1).reshape(n * entries, 3, height, width)
            moved = geometry.warp(many, grid.view(n * entries, height, width, 2))
            moved = moved.view(n, entries, 3, height, width)
            parts.append(moved)
        parts = [part.to(still.dtype) for part in parts]
        return torch.cat(parts, dim=2).flatten(1, 2), moved


class Discriminator(nn.Module):
    """Judges a frame beside the driving heatmaps; also the features that the reconstruction loss matches."""

    def __init__(self, config: DrivingConfig):
        super().__init__()
        self.config = config
        channels = 3 + config.keypoints
        blocks = []
        for i in range(config.discriminator_blocks):
            width = min(config.discriminator_max, config.discriminator_expansion * 2**i)
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
    """Continues the keypoints of one frame in time (section 4, "Image-to-Video Translation"; sheet section 2.8).

    A GRU is given the first frame's keypoints and after them zeros. Means leave through tanh; a covariance is A^T A
    of the 2 x 2 block A that the last layer gives, plus `LEAST_VARIANCE` on the diagonal. Without
    `predict_covariance`, and where the detector's covariances are not full, the first frame's are kept.
    """

    def __init__(self, config: DrivingConfig):
        super().__init__()
        self.config = config
        self.width = config.keypoints * (6 if config.covariance == "full" else 2)
        self.gru = nn.GRU(self.width, config.predict_hidden, config.predict_layers, batch_first=True)
        self.head = nn.Linear(config.predict_hidden, self.width)

    @property
    def learns_covariance(self) -> bool:
        """Whether it predicts covariances, or keeps the first frame's."""
        return self.config.covariance == "full" and self.config.predict_covariance

    def forward(self, first: Keypoints, count: int) -> Keypoints:
        """Keypoints of `count` frames: N x K of the first frame -> N x count x K; frame 0 is `first` itself."""
        return next(self.chunks(first, count, count))

    def chunks(self, first: Keypoints, count: int, size: int) -> Iterator[Keypoints]:
        """The same, up to `size` frames at a time: any length in the same memory; yields N x size x K."""
        state: Tensor | None = None
        for start in range(0, count, size):
            inputs = first.mean.new_zeros(len(first.mean), min(size, count - start), self.width)
            if start == 0:
                inputs[:, 0] = self.flat(first)
            made, state = self.advance(inputs, first, state)
            if start == 0:
                mean, covariance = (
                    torch.cat([known[:, None], guess[:, 1:]], dim=1) for known, guess in zip(first, made, strict=True)
                )
                made = Keypoints(mean, covariance)
            yield made

    def flat(self, keypoints: Keypoints) -> Tensor:
        """What the GRU sees of N frames: all means, then all covariances; N x 6K (N x 2K without covariances)."""
        parts = keypoints if self.config.covariance == "full" else keypoints[:1]
        return torch.cat([part.flatten(1) for part in parts], dim=1)

    def advance(self, inputs: Tensor, first: Keypoints, state: Tensor | None) -> tuple[Keypoints, Tensor]:
        """Some steps of the GRU from `state`: N x T x width -> keypoints N x T x K and the state behind them."""
        n, length, _ = inputs.shape
        k = self.config.keypoints
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
            return Keypoints(mean, covariance + LEAST_VARIANCE * eye), state


def bias_of(conv: nn.Conv2d) -> Tensor:
    """The bias of a convolution that has one."""
    assert conv.bias is not None
    return conv.bias


def zeroed(conv: nn.Conv2d) -> nn.Conv2d:
    """A convolution that starts as zero: what it corrects starts as it was."""
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(bias_of(conv))
    return conv


def motion_size(motion: Motion) -> geometry.Size:
    """(height, width) of a flow."""
    return motion.displacement.shape[1], motion.displacement.shape[2]


def heatmaps(keypoints: Keypoints, config: DrivingConfig, size: geometry.Size | None = None) -> Tensor:
    """Gaussian pictures of the keypoints; N x K x s x s (or x size), float32."""
    with torch.autocast(keypoints.mean.device.type, enabled=False):
        heat = geometry.gaussian_map(
            keypoints.mean, keypoints.covariance, size or config.motion_size, config.heatmap_exponent
        )
        if config.heatmap_sum:
            return heat / heat.sum(dim=(2, 3), keepdim=True)
        return heat / config.heatmap_scale


def shrink(frames: Tensor, config: DrivingConfig) -> Tensor:
    """The picture at the size where motion is found; N x 3 x S x S -> N x 3 x s x s."""
    if config.motion_scale == 1:
        return frames
    return F.interpolate(frames, size=config.motion_size, mode=config.shrink)


class DiscriminatorBlock(nn.Module):
    """4x4 convolution without padding, instance norm, leaky ReLU, average pool."""

    def __init__(self, inputs: int, outputs: int, norm: bool):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 4)
        self.norm = nn.InstanceNorm2d(outputs, affine=True) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """N x inputs x h x w -> N x outputs x (h - 3) / 2 x (w - 3) / 2."""
        return F.avg_pool2d(F.leaky_relu(self.norm(self.conv(x)), 0.2), 2)
