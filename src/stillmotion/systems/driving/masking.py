"""What keeps the still's own pixels: the background, or everything outside a region.

The background and the region give a weight per pixel, N x 1 x S x S: one where the animation shows, zero where the
still's own pixels do, and a ramp of a few pixels between, against seams.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from stillmotion import geometry
from stillmotion.errors import StillmotionError
from stillmotion.keypoints.networks import GeneratorOutput, Keypoints
from stillmotion.options import Box
from stillmotion.rendering.canvas import Canvas
from stillmotion.rendering.compositing import suppress_slow
from stillmotion.rendering.fields import PLATE
from stillmotion.systems.driving import Drive
from stillmotion.systems.driving.transfer import as_text

BODY_ABOVE = 0.3
"""Share of the keypoints' masks together above which a pixel belongs to what moves."""

FLOWS_ABOVE = 1.0
"""In pixels of the flow: motion that counts whatever the masks say."""

PAINTED_ABOVE, CHANGED_ABOVE = 0.5, 0.1
"""Where plate and paint have most of a pixel and change it by more than this, they cover a place that was left."""

MARGIN, SOFT = 3, 2
"""In pixels of the network: how far what moves is widened, and half the width of the ramp at its edge."""

REACH, FADE = 0.12, 0.15
"""Normalised: how far around a region everything still moves, and the width of the ramp that follows."""


@dataclass(frozen=True)
class Masking:
    """What a control keeps of a still.

    Attributes:
        still: the still's keypoints, 1 x K.
        small: the still at the network's size, 1 x 3 x S x S in [0, 1].
        moving: K truth values, the keypoints in the region; None if all move.
        corners: 2 x 2, the region's first and last pixel, normalised (x, y); None without a region.
        background: whether the background is kept.
        own_masks: the masks of the still animated onto itself, which show its body.
    """

    still: Keypoints
    small: Tensor
    moving: Tensor | None
    corners: Tensor | None
    background: bool
    own_masks: Tensor | None

    @classmethod
    def of(cls, control: Drive, canvas: Canvas, still: Keypoints, own_masks: Tensor | None) -> Masking:
        """What a control keeps.

        Args:
            control: its `region` and `keep_background`.
            canvas: the prepared still.
            still: its keypoints, 1 x K.
            own_masks: see above.

        Raises:
            StillmotionError: no keypoint lies in the region.
        """
        moving = corners = None
        if control.region is not None:
            x, y, w, h = control.region
            size = (canvas.size, canvas.size)
            points = canvas.to_given(geometry.to_pixels(still.mean[0], size))
            ends = canvas.to_small(points.new_tensor([[x, y], [x + w - 1, y + h - 1]]))
            corners = geometry.to_normalised(ends, size)
            moving = choose_region(points, control.region, canvas.given)
        return cls(still, canvas.small, moving, corners, control.keep_background, own_masks)

    def keypoints(self, target: Keypoints) -> Keypoints:
        """N targets, of which only those of the region move."""
        return target if self.moving is None else pin_others(self.still, target, self.moving)

    def weigh(self, made: GeneratorOutput, target: Keypoints) -> tuple[GeneratorOutput, Tensor | None]:
        """What was made, its flow ending where it must, and how much of it shows (N x 1 x S x S; None: all)."""
        weight = None
        if self.moving is not None and self.corners is not None:
            size = (self.small.shape[2], self.small.shape[3])
            weight = region_weight(self.corners, target.mean[:, self.moving], size)
            made = fade(made, weight)
        if self.background:
            kept = background_weight(suppress_slow(made.motion.displacement), self.own_masks, made, self.small)
            weight = kept if weight is None else weight * kept
        return made, weight


def background_weight(displacement: Tensor, own_masks: Tensor | None, made: GeneratorOutput, still: Tensor) -> Tensor:
    """Keep the still's pixels wherever the background is seen both in the still and in the frame.

    Animated is: what the masks give to a keypoint in the frame (the body's new place) or in the still (its old
    place), what the moving body's flow samples (its old place again, sharper), what flows fast, and what paint
    changes clearly. So a limb that has left is painted over and never kept.

    Args:
        displacement: N x s x s x 2, the flow that is applied (without slow motion), backward and normalised. Masks of
            another size are resized to it.
        own_masks: 1 x (K+1) x s x s, the masks of the still animated onto itself; None without the coarse part.
        made: N frames.
        still: 1 x 3 x S x S in [0, 1], the still at the network's size.
    """
    size = (displacement.shape[1], displacement.shape[2])
    speed = geometry.displacement_to_pixels(displacement, size).norm(dim=-1)[:, None]  # N x 1 x s x s
    masks = made.motion.masks
    body = speed > 0 if masks is None else body_of(masks, size)
    active = body | (speed > FLOWS_ABOVE) | sampled_places(displacement, body & (speed > 0))
    if own_masks is not None:
        active = active | body_of(own_masks, size)
    active = geometry.resize_map(active.float(), (still.shape[2], still.shape[3])) >= 0.5
    changed = (made.frame - still).abs().amax(1, keepdim=True) > CHANGED_ABOVE
    if made.fields is not None:
        changed = changed & (made.fields.shares[:, PLATE:].sum(1, keepdim=True) > PAINTED_ABOVE)
    active = F.max_pool2d((active | changed).float(), 2 * MARGIN + 1, stride=1, padding=MARGIN)
    return F.avg_pool2d(active, 2 * SOFT - 1, stride=1, padding=SOFT - 1, count_include_pad=False)


def body_of(masks: Tensor, size: geometry.Size) -> Tensor:
    """Where the keypoints' masks (N x (K+1) x s x s, background first) have a pixel; N x 1 x size truth values."""
    return 1 - geometry.resize_map(masks[:, :1], size) > BODY_ABOVE


def sampled_places(displacement: Tensor, moving: Tensor) -> Tensor:
    """Where in the still the moving pixels come from.

    Args:
        displacement: N x s x s x 2, backward and normalised.
        moving: N x 1 x s x s truth values.

    Returns:
        N x 1 x s x s truth values: the pixels nearest to what is sampled.
    """
    count, height, width, _ = displacement.shape
    grid = geometry.identity_grid((height, width), displacement) + displacement
    pixels = geometry.to_pixels(grid, (height, width)).round().long()
    x, y = pixels[..., 0].clamp(0, width - 1), pixels[..., 1].clamp(0, height - 1)
    frame = torch.arange(count, device=x.device)[:, None, None].expand_as(x)
    sampled = torch.zeros_like(moving)
    chosen = moving[:, 0]
    sampled[frame[chosen], 0, y[chosen], x[chosen]] = True
    return sampled


def region_weight(corners: Tensor, targets: Tensor, size: geometry.Size) -> Tensor:
    """Keep the still's pixels away from a region and from where its keypoints go.

    Args:
        corners: 2 x 2, first and last pixel of the region, normalised (x, y).
        targets: N x k x 2, normalised: where the keypoints that move are in each frame. A hand that leaves the
            region is followed, not cut off.
        size: (height, width) of the map.
    """
    low = torch.minimum(corners[0], targets.amin(1)) - REACH  # N x 2
    high = torch.maximum(corners[1], targets.amax(1)) + REACH
    grid = geometry.identity_grid(size, targets)
    outside = torch.maximum(low[:, None, None] - grid, grid - high[:, None, None]).clamp_min(0)  # N x H x W x 2
    return (1 - outside.norm(dim=-1) / FADE).clamp(0, 1)[:, None]


def fade(made: GeneratorOutput, weight: Tensor) -> GeneratorOutput:
    """Let the flow end where the weight does; weight N x 1 x S x S."""
    shape = made.motion.displacement.shape
    here = geometry.resize_map(weight, (shape[1], shape[2])).permute(0, 2, 3, 1)
    fields = None if made.fields is None else made.fields._replace(displacement=made.fields.displacement * here)
    return made._replace(motion=made.motion._replace(displacement=made.motion.displacement * here), fields=fields)


def inside(points: Tensor, region: Box) -> Tensor:
    """Which points, ... x 2 in pixels, lie in a part of the picture; its border pixels belong to it whole."""
    x, y, width, height = region
    low = points.new_tensor([x - 0.5, y - 0.5])
    high = points.new_tensor([x + width - 0.5, y + height - 0.5])
    return ((points >= low) & (points < high)).all(dim=-1)


def choose_region(points: Tensor, region: Box, size: geometry.Size) -> Tensor:
    """Which keypoints of the still are to move: those that lie in the region.

    Args:
        points: K x 2, in pixels of the still.
        region: (x, y, width, height) in pixels of the still.
        size: the still's (height, width).

    Returns:
        K truth values.

    Raises:
        StillmotionError: the region reaches out of the still, or no keypoint lies in it; lists where they lie.
    """
    x, y, width, height = region
    if x + width > size[1] or y + height > size[0]:
        raise StillmotionError(
            f"The region {as_text(region)} reaches out of the still, which is {size[1]} x {size[0]} pixels."
        )
    chosen = inside(points, region)
    if not bool(chosen.any()):
        places = ", ".join(f"({round(a)}, {round(b)})" for a, b in points.tolist())
        raise StillmotionError(
            f"No keypoint of the still lies in the region {as_text(region)}, so nothing would move; "
            f"choose one that holds some of {places}."
        )
    return chosen


def pin_others(still: Keypoints, target: Keypoints, moving: Tensor) -> Keypoints:
    """Keep the keypoints that do not move at the still's.

    Args:
        still: 1 x K.
        target: N x K, where the driver would send them.
        moving: K truth values.
    """
    mean = torch.where(moving[:, None], target.mean, still.mean)
    return Keypoints(mean, torch.where(moving[:, None, None], target.covariance, still.covariance))
