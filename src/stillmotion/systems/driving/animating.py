"""Still plus driving video to frames: keypoints, transfer, generation, output at the still's own size."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion import geometry, media
from stillmotion.controls import Control, Drive
from stillmotion.errors import StillmotionError
from stillmotion.systems.base import Animation, Step, System, in_batches
from stillmotion.systems.driving import drawing
from stillmotion.systems.driving.config import DrivingConfig
from stillmotion.systems.driving.networks import DrivingNetworks, Generated, Keypoints, Motion

BATCH = 16
"""Driving frames that go through the networks together."""

STILL_BELOW, MOVING_ABOVE = 0.3, 1.0
"""In pixels of the network: slower motion is not applied to a larger still, faster motion in full.

The flow swims a little where nothing moves. Upsampled to a thousand pixels that would make a wall drift and blur; at
the network's own size it still costs a little (docs/log.md, I).
"""


class Driving(System):
    """Monkey-Net: the still moves as a driving video does."""

    name: ClassVar[str] = "driving"
    control: ClassVar[type] = Drive
    config_class: ClassVar[type] = DrivingConfig
    networks: DrivingNetworks

    @classmethod
    def build(cls, config: DrivingConfig, card: Mapping[str, Any] | None = None) -> Self:
        """The system with fresh weights."""
        return cls(config, DrivingNetworks(config), card)

    def shipped(self) -> nn.Module:
        """Detector and generator; the discriminator only trains."""
        return nn.ModuleDict({"detector": self.networks.detector, "generator": self.networks.generator})

    def animate(
        self,
        still: np.ndarray,
        control: Control,
        frames: int | None = None,
        seed: int | None = None,
        *,
        size: str = "native",
        layers: bool = False,
    ) -> Animation:
        """Animate a still after a driving video; see `System.animate`.

        A picture that is not square is padded to a square with its own border pixels for the networks, and so is
        the driving video. Nothing is random here: `seed` changes nothing.

        Args:
            still: H x W x 3, `uint8` RGB.
            control: the driving video and how to transfer it.
            frames: at most so many frames of the driving video; None for all of it.
            seed: accepted for the common form.
            size: `native` or `model`.
            layers: also draw `driving`, `keypoints`, `flow`, `masks` and `warped`.

        Returns:
            One step per driving frame; `facts` hold the keypoints (`mean`, K x 2, and `covariance`, K x 2 x 2,
            normalised) and the backward `displacement` (s x s x 2, normalised).
        """
        self.check_control(control)
        if frames is not None and frames < 1:
            raise StillmotionError(f"frames must be at least 1, not {frames}.")
        if size not in ("native", "model"):
            raise StillmotionError(f"size must be native or model, not {size!r}.")
        fps = 25.0 if control.fps is None else control.fps
        if not isinstance(control.video, np.ndarray):
            with media.open_video(control.video) as reader:
                fps = control.fps or reader.fps
        return Animation(lambda: self._steps(still, control, frames, size == "native", layers), fps)

    @torch.inference_mode()
    def _steps(
        self, still: np.ndarray, control: Drive, frames: int | None, native: bool, layers: bool
    ) -> Iterator[Step]:
        prepared = Still.prepare(self, still)
        first: Keypoints | None = None  # of the first driving frame: the reference of relative transfer
        for batch in in_batches(_driving_frames(control, frames), BATCH):
            small = torch.cat([to_network(frame, self.config.size) for frame in batch])
            found = self.networks.detector(small)
            first = first or Keypoints(found.mean[:1], found.covariance[:1])
            target = transfer(prepared.keypoints, first, found, control)
            made = self.generate(prepared, target)
            for i in range(len(batch)):
                one = slice_generated(made, i)
                frame = compose(prepared, one) if native else drawing.to_pictures(one.frame)[0]
                driving = Keypoints(found.mean[i], found.covariance[i])
                aim = Keypoints(target.mean[i], target.covariance[i])
                yield Step(
                    frame,
                    self._layers(one, small[i : i + 1], driving, aim) if layers else {},
                    {
                        "mean": aim.mean.numpy(),
                        "covariance": aim.covariance.numpy(),
                        "displacement": one.motion.displacement[0].numpy(),
                    },
                )

    def generate(self, still: Still, target: Keypoints) -> Generated:
        """Frames of the prepared still with its keypoints at N targets."""
        count = len(target.mean)
        features = [feature.expand(count, -1, -1, -1) for feature in still.features]
        source = Keypoints(*(part.expand(count, *part.shape[1:]) for part in still.keypoints))
        return self.networks.generator(features, source, target)

    def _layers(self, made: Generated, small: Tensor, driving: Keypoints, aim: Keypoints) -> dict[str, np.ndarray]:
        scale = max(1, round(256 / self.config.size))

        def enlarged(picture: np.ndarray) -> np.ndarray:
            factor = scale * self.config.size // picture.shape[0]
            return np.repeat(np.repeat(picture, factor, 0), factor, 1)

        def marked(frame: Tensor, points: Keypoints) -> np.ndarray:
            picture = drawing.to_pictures(frame)[0]
            return drawing.draw_keypoints(picture, points.mean.numpy(), points.covariance.numpy(), scale)

        pictures = {
            "driving": marked(small, driving),
            "keypoints": marked(made.frame, aim),
            "flow": enlarged(drawing.draw_flow(made.motion.displacement[0].numpy())),
            "warped": enlarged(drawing.to_pictures(made.warped)[0]),
        }
        if made.motion.masks is not None:
            pictures["masks"] = enlarged(drawing.draw_masks(made.motion.masks[0].numpy()))
        return pictures


@dataclass(frozen=True)
class Still:
    """A still made ready once: its pixels at full size, its features and keypoints at the network's."""

    square: Tensor  # 1 x 3 x P x P in [0, 1], padded
    box: tuple[int, int, int, int]  # where the picture lies in the square: x0, y0, x1, y1
    features: Sequence[Tensor]
    keypoints: Keypoints

    @classmethod
    def prepare(cls, system: Driving, still: np.ndarray) -> Still:
        """Pad, shrink, encode and find the keypoints of H x W x 3 `uint8`."""
        square, box = pad_square(still)
        small = to_network(still, system.config.size)
        pixels = drawing.to_frames(square[None])
        networks = system.networks
        return cls(pixels, box, networks.generator.encode(small), networks.detector(small))


def pad_square(picture: np.ndarray) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """Pad the shorter side with the border's pixels, evenly; the box says where the picture lies (x0, y0, x1, y1)."""
    height, width = picture.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    padded = np.pad(picture, ((top, side - height - top), (left, side - width - left), (0, 0)), mode="edge")
    return padded, (left, top, left + width, top + height)


def to_network(picture: np.ndarray, size: int) -> Tensor:
    """A picture as the networks want it: H x W x 3 `uint8` to 1 x 3 x size x size in [0, 1]."""
    square = media.resize(pad_square(picture)[0], (size, size))
    return drawing.to_frames(square[None])


def transfer(still: Keypoints, first: Keypoints, driving: Keypoints, control: Drive) -> Keypoints:
    """Where the still's keypoints go (paper section 3.4).

    Args:
        still: keypoints of the still, 1 x K.
        first: keypoints of the first driving frame, 1 x K.
        driving: keypoints of N driving frames.
        control: the transfer and its options.

    Returns:
        N x K target keypoints. Relative: the still's means moved as the driving means moved since the first frame,
        with the driving covariances; absolute: the driving keypoints as they are.
    """
    if control.transfer == "absolute":
        return driving
    moved = driving.mean - first.mean
    if control.scale_motion:
        area = geometry.hull_area(first.mean[0])
        if not area > 0:
            raise StillmotionError(
                "The keypoints of the first driving frame span no area to compare with the still's; "
                "leave scale_motion out or start the video later."
            )
        moved = moved * (geometry.hull_area(still.mean[0]) / area).sqrt()
    mean, covariance = still.mean + moved, driving.covariance
    if control.clip:
        mean = mean.clamp(-1, 1)
    if control.adapt_covariance:
        covariance = driving.covariance @ geometry.inverse_2x2(first.covariance) @ still.covariance
        values, vectors = torch.linalg.eigh((covariance + covariance.mT) / 2)
        covariance = vectors @ torch.diag_embed(values.clamp_min(1e-6)) @ vectors.mT
    return Keypoints(mean, covariance)


def slice_generated(made: Generated, index: int) -> Generated:
    """One frame of a batch, still as a batch of one."""
    here = slice(index, index + 1)
    masks, keep, painted = (
        None if value is None else value[here] for value in (made.motion.masks, made.keep, made.painted)
    )
    motion = Motion(made.motion.displacement[here], masks)
    return Generated(made.frame[here], motion, made.warped[here], keep, painted)


def compose(still: Still, made: Generated) -> np.ndarray:
    """The full-size still through the upsampled flow, with what the network painted laid over it.

    Where nothing moves and nothing was painted the still's own pixels come out, whatever its size.

    Returns:
        H x W x 3, `uint8`, the size of the still that was given.
    """
    side = still.square.shape[2]
    left, top, right, bottom = still.box
    displacement = settle(made.motion.displacement)
    large = F.interpolate(displacement.permute(0, 3, 1, 2), size=(side, side), mode="bilinear", align_corners=True)
    grid = geometry.identity_grid((side, side)) + large.permute(0, 2, 3, 1)
    warped = geometry.warp(still.square, grid[:, top:bottom, left:right], padding="border")

    def enlarged(values: Tensor) -> Tensor:
        return geometry.resize_map(values.float(), (side, side))[:, :, top:bottom, left:right]

    if made.keep is not None and made.painted is not None:
        of_warped, of_still = enlarged(made.keep).split(1, dim=1)
        frame = of_warped * warped + of_still * still.square[:, :, top:bottom, left:right]
        frame = frame + (1 - of_warped - of_still) * enlarged(made.painted)
    else:
        frame = warped + enlarged(made.frame - made.warped)
    return drawing.to_pictures(frame)[0]


def settle(displacement: Tensor) -> Tensor:
    """Still what moves by less than a fraction of a network pixel; N x s x s x 2, normalised, both ways."""
    size = (displacement.shape[1], displacement.shape[2])
    length = geometry.displacement_to_pixels(displacement, size).norm(dim=-1, keepdim=True)
    share = ((length - STILL_BELOW) / (MOVING_ABOVE - STILL_BELOW)).clamp(0, 1)
    return displacement * share


def _driving_frames(control: Drive, frames: int | None) -> Iterator[np.ndarray]:
    if isinstance(control.video, np.ndarray):
        yield from control.video[:frames]
        return
    with media.open_video(control.video) as reader:
        # Not one more is decoded: what follows frame N of `--frames N` may be damaged.
        yield from itertools.islice(reader, frames)
