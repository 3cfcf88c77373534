"""A still made ready for the networks, and a frame of the still's own size out of what they made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stillmotion import geometry, media
from stillmotion.boxes import Box
from stillmotion.errors import StillmotionError
from stillmotion.systems.driving import aligning, drawing, holding, mirroring
from stillmotion.systems.driving.holding import settle
from stillmotion.systems.driving.networks import Generated, Keypoints, Motion

if TYPE_CHECKING:
    from stillmotion.systems.driving.animating import Driving


@dataclass(frozen=True)
class Still:
    """A still made ready once: its pixels at full size, its features and keypoints at the network's."""

    square: Tensor  # 1 x 3 x P x P in [0, 1], padded
    box: tuple[int, int, int, int]  # where the picture lies in the square: x0, y0, x1, y1
    features: Sequence[Tensor]
    keypoints: Keypoints
    crop: Box  # the part of the picture given that is animated: x, y, width, height
    given: geometry.Size  # the size of the picture given
    mirrored: Sequence[Tensor] | None = None  # the features of its mirror image, with `flip_test`

    @classmethod
    def prepare(cls, system: Driving, still: np.ndarray, crop: Box | str | None = None) -> Still:
        """Crop, pad, shrink, encode and find the keypoints of H x W x 3 `uint8`; `auto` is no crop yet."""
        height, width = still.shape[:2]
        x, y, w, h = crop = (0, 0, width, height) if crop is None or isinstance(crop, str) else crop
        if x + w > width or y + h > height:
            raise StillmotionError(
                f"The crop {x},{y},{w},{h} reaches out of the still, which is {width} x {height} pixels."
            )
        part = media.crop(still, (x, y, x + w, y + h))
        square, box = media.pad_square(part)
        small = to_network(part, system.config.size)
        pixels = drawing.to_frames(square[None])
        networks, both = system.networks, system.config.flip_test
        with system.autocast():
            features, keypoints = networks.generator.encode(small), mirroring.detect(networks, small, both)
            mirrored = networks.generator.encode(small.flip(3)) if both else None
        return cls(pixels, box, features, keypoints, crop, (height, width), mirrored)

    @property
    def small(self) -> Tensor:
        """The still at the network's size, 1 x 3 x S x S in [0, 1]."""
        return self.features[0]

    @property
    def points(self) -> Tensor:
        """The keypoints in pixels of the picture given, K x 2."""
        side = self.square.shape[2]
        offset = [self.crop[i] - self.box[i] for i in (0, 1)]
        return geometry.to_pixels(self.keypoints.mean[0], (side, side)) + torch.tensor(offset)

    def normalised(self, points: Tensor) -> Tensor:
        """Pixels of the picture given, normalised over the padded square; ... x 2."""
        side = self.square.shape[2]
        offset = [self.crop[i] - self.box[i] for i in (0, 1)]
        return geometry.to_normalised(points - torch.tensor(offset), (side, side))

    def fit(self, reference: Keypoints) -> aligning.Fit | None:
        """How the still's body fits the driver's in its reference frame, 1 x K."""
        return aligning.compare(self.keypoints.mean[0], self.points, reference.mean[0], self.given)


def to_network(picture: np.ndarray, size: int) -> Tensor:
    """A picture as the networks want it: H x W x 3 `uint8` to 1 x 3 x size x size in [0, 1]."""
    square = media.resize(media.pad_square(picture)[0], (size, size))
    return drawing.to_frames(square[None])


def slice_generated(made: Generated, index: int) -> Generated:
    """One frame of a batch, still as a batch of one."""
    here = slice(index, index + 1)
    masks, keep, painted, retouch = (
        None if value is None else value[here] for value in (made.motion.masks, made.keep, made.painted, made.retouch)
    )
    motion = Motion(made.motion.displacement[here], masks)
    return Generated(made.frame[here], motion, made.warped[here], keep, painted, retouch)


def compose(still: Still, made: Generated, weight: Tensor | None = None) -> np.ndarray:
    """The full-size still through the upsampled flow, with what the network painted laid over it.

    Where nothing moves and nothing was painted the still's own pixels come out, whatever its size.

    Args:
        still: the still.
        made: one frame.
        weight: 1 x 1 x S x S, how much of the animation shows; the still's own pixels have the rest. None: all.

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
        if made.retouch is not None:
            # What it corrects where nothing moves is the noise of the small still, which a larger one does not have.
            frame = frame + enlarged(made.retouch) * (1 if side == made.frame.shape[2] else 1 - of_still)
    else:
        frame = warped + enlarged(made.frame - made.warped)
    if weight is not None:
        frame = holding.blend(frame, still.square[:, :, top:bottom, left:right], enlarged(weight))
    return drawing.to_pictures(frame)[0]
