"""What of the networks' frame shows: only regions connected with the path so far may change.

So drift and flicker of the networks far from the object never reach the background, however long the animation.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stillmotion import geometry, media
from stillmotion.rendering.fields import PAINT, Fields, alone
from stillmotion.systems.strokes.object_frame import GeneratorOutput

CHANGE_FROM, CHANGE_FULL = 0.04, 0.12
"""Difference of a frame from the unmoved still (largest channel, in [0, 1]): from where it counts, and fully."""

CLEAR, ACTIVE = 0.5, 0.05
"""Connected regions consist of pixels above the first amount; mask values below the second are noise."""

REACH = 1 / 8
"""A region may change if it comes this near to the path, as a share of the side; an object's centre may be a hole."""


def to_network(pictures: np.ndarray) -> Tensor:
    """N x H x W x 3 `uint8` to N x 3 x H x W in [-1, 1]."""
    return media.to_tensor(pictures) * 2 - 1


def from_network(frames: Tensor) -> np.ndarray:
    """N x 3 x H x W in [-1, 1] to N x H x W x 3 `uint8`."""
    return media.to_pictures((frames.float() + 1) / 2)


class ChangeMask:
    """How much of each frame shows; keeps the neighbourhood of the path so far, and nothing that grows with time.

    With fields it is one all over a region that may change, for the fields say themselves what of it is the still's.
    What the paper's G generates shows as far as it differs from the still.

    Args:
        still: 1 x 3 x S x S in [-1, 1].
        unmoved: the frame that G generates from h_0; a frame that equals either of them has not changed.
    """

    def __init__(self, still: Tensor, unmoved: Tensor):
        self.still, self.unmoved = still, unmoved.float()
        self.near = torch.zeros_like(still[:, :1], dtype=torch.bool)

    def update(self, generated: GeneratorOutput, start: Tensor, end: Tensor) -> Tensor:
        """The mask of the next frame, to which the object moves from `start` to `end`; once per step, in order.

        Args:
            generated: the frame.
            start: (x, y) in pixels of the networks' frames.
            end: the same.

        Returns:
            1 x 1 x S x S in [0, 1].
        """
        size = (self.still.shape[2], self.still.shape[3])
        self.near |= distance_to_segment(start, end, size) <= REACH * size[0]
        amount = changed(generated.frame.float(), self.still, self.unmoved)
        moved = geometry.reachable(amount > CLEAR, self.near)
        # Faint changes show beside clear ones, with a soft edge.
        near = F.max_pool2d(moved.float(), 5, stride=1, padding=2)
        if generated.fields is not None:
            return F.avg_pool2d(near, 3, stride=1, padding=1, count_include_pad=False)
        return amount * F.avg_pool2d(near, 3, stride=1, padding=1) * (amount > ACTIVE)


def changed(frame: Tensor, still: Tensor, unmoved: Tensor) -> Tensor:
    """How much a frame differs from the still and from what G generates of it; N x 1 x S x S in [0, 1].

    Args:
        frame: N x 3 x S x S in [-1, 1].
        still: 1 x 3 x S x S.
        unmoved: 1 x 3 x S x S.
    """
    differences = [(frame - other).abs().amax(1, keepdim=True) / 2 for other in (still, unmoved)]
    amount = (torch.minimum(*differences) - CHANGE_FROM) / (CHANGE_FULL - CHANGE_FROM)
    # Small holes in what moved are closed: there the object happens to look like what it covers.
    closed = F.max_pool2d(amount.clamp(0, 1), 3, stride=1, padding=1)
    return F.avg_pool2d(closed, 3, stride=1, padding=1, count_include_pad=False)


def distance_to_segment(start: Tensor, end: Tensor, size: geometry.Size) -> Tensor:
    """Distance in pixels of each pixel from the line segment between two points (x, y); 1 x 1 x H x W."""
    ranges = (torch.arange(side, device=start.device) for side in size)
    y, x = torch.meshgrid(*ranges, indexing="ij")
    pixels = torch.stack([x, y], -1).flatten(0, 1)  # HW x 2
    return geometry.distance_to_polyline(pixels, torch.stack([start, end])).view(1, 1, *size)


def as_fields(generated: GeneratorOutput) -> Fields:
    """The fields of a frame; what the paper's generator makes is all paint."""
    if generated.fields is not None:
        return generated.fields
    paint = (generated.frame.float() + 1) / 2
    return Fields(paint.new_zeros(len(paint), *paint.shape[2:], 2), alone(PAINT, paint), paint)
