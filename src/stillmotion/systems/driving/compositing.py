"""Output at the still's own size: where the still lies in the networks' picture, and its own pixels in each frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stillmotion import geometry, media
from stillmotion.errors import StillmotionError
from stillmotion.options import Box
from stillmotion.systems.driving.networks import GeneratorOutput

STATIC_BELOW, MOVING_ABOVE = 0.3, 1.0
"""In pixels of the network: slower motion is not applied to a larger still, faster motion in full.

The flow is never exactly zero where nothing moves. Upsampled to a thousand pixels that would make a static background
drift and blur; at the network's own size it still costs a little (docs/log.md, I).
"""


@dataclass(frozen=True)
class Canvas:
    """A still made ready once: cropped, padded to a square with its border pixels, and shrunk.

    Attributes:
        square: 1 x 3 x P x P in [0, 1], padded.
        box: where the picture lies in the square, (x0, y0, x1, y1).
        small: 1 x 3 x S x S in [0, 1], the square at the network's size.
        crop: the part of the picture given that is animated.
        given: (height, width) of the picture given.
    """

    square: Tensor
    box: Box
    small: Tensor
    crop: Box
    given: geometry.Size

    @classmethod
    def prepare(cls, still: np.ndarray, size: int, crop: Box | None, device: torch.device) -> Canvas:
        """Prepare H x W x 3 `uint8` for networks that work at `size`.

        Raises:
            StillmotionError: the crop reaches out of the still.
        """
        height, width = still.shape[:2]
        x, y, w, h = crop = crop or (0, 0, width, height)
        if x + w > width or y + h > height:
            raise StillmotionError(
                f"The crop {x},{y},{w},{h} reaches out of the still, which is {width} x {height} pixels."
            )
        part = media.crop(still, (x, y, x + w, y + h))
        square, box = media.pad_square(part)
        pixels = media.to_tensor(square[None]).to(device)
        return cls(pixels, box, to_network(part, size, device), crop, (height, width))

    @property
    def side(self) -> int:
        """Height and width of the square."""
        return self.square.shape[2]

    @property
    def picture(self) -> Tensor:
        """The part that is animated, 1 x 3 x h x w."""
        left, top, right, bottom = self.box
        return self.square[:, :, top:bottom, left:right]

    def to_given(self, points: Tensor) -> Tensor:
        """Normalised points in pixels of the picture given; ... x 2."""
        return geometry.to_pixels(points, (self.side, self.side)) + self._offset(points)

    def from_given(self, points: Tensor) -> Tensor:
        """Pixels of the picture given, normalised over the padded square; ... x 2."""
        return geometry.to_normalised(points - self._offset(points), (self.side, self.side))

    def _offset(self, like: Tensor) -> Tensor:
        return like.new_tensor([self.crop[i] - self.box[i] for i in (0, 1)])

    def enlarged(self, values: Tensor) -> Tensor:
        """Maps of the network's size where they lie in the picture; 1 x C x S x S to 1 x C x h x w."""
        left, top, right, bottom = self.box
        return geometry.resize_map(values.float(), (self.side, self.side))[:, :, top:bottom, left:right]


def to_network(picture: np.ndarray, size: int, device: torch.device) -> Tensor:
    """A picture as the networks want it: H x W x 3 `uint8` to 1 x 3 x size x size in [0, 1]."""
    square = media.resize(media.pad_square(picture)[0], (size, size))
    return media.to_tensor(square[None]).to(device)


def suppress_slow(displacement: Tensor) -> Tensor:
    """The flow without what moves by less than a fraction of a network pixel; N x s x s x 2, normalised."""
    size = (displacement.shape[1], displacement.shape[2])
    length = geometry.displacement_to_pixels(displacement, size).norm(dim=-1, keepdim=True)
    share = ((length - STATIC_BELOW) / (MOVING_ABOVE - STATIC_BELOW)).clamp(0, 1)
    return displacement * share


def composite(canvas: Canvas, output: GeneratorOutput, weight: Tensor | None = None) -> np.ndarray:
    """The full-size still through the upsampled flow, blended with what the network decoded.

    Where nothing moves and nothing was painted the still's own pixels come out, whatever its size.

    Args:
        canvas: the still.
        output: one frame.
        weight: 1 x 1 x S x S, how much of the animation shows; the still's own pixels have the rest. None: all.

    Returns:
        H x W x 3, `uint8`, the size of the part that is animated.
    """
    side, still = canvas.side, canvas.picture
    left, top, right, bottom = canvas.box
    large = geometry.resize_grid(suppress_slow(output.motion.displacement), (side, side))
    grid = geometry.identity_grid((side, side), large) + large
    warped = geometry.warp(canvas.square, grid[:, top:bottom, left:right], padding="border")
    if output.blend is not None and output.paint is not None and output.residual is not None:
        of_warped, of_still = canvas.enlarged(output.blend[:, :2]).split(1, dim=1)
        frame = of_warped * warped + of_still * still + (1 - of_warped - of_still) * canvas.enlarged(output.paint)
        # What it corrects where nothing moves is the noise of the small still, which a larger one does not have.
        frame = frame + canvas.enlarged(output.residual) * (1 if side == output.frame.shape[2] else 1 - of_still)
    else:
        frame = warped + canvas.enlarged(output.frame - output.warped)
    if weight is not None:
        frame = mix(frame, still, canvas.enlarged(weight))
    return media.to_pictures(frame)[0]


def mix(frame: Tensor, still: Tensor, weight: Tensor) -> Tensor:
    """The animation where the weight is one, exactly the still where it is zero; N x 3 x H x W."""
    return weight * frame + (1 - weight) * still
