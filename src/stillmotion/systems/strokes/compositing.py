"""Output at the still's own size: the still's pixels, except where the networks' frame changed.

How much of the networks' frame shows is a mask, N x 1 x S x S in [0, 1]: one where the frame differs from the still,
zero where it does not, with a soft edge. Only regions connected with the path so far may change, so drift and flicker
of the networks far from the object never reach the background, however long the animation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stillmotion import geometry, media
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


@dataclass(frozen=True)
class Canvas:
    """A still, and its square at the networks' size."""

    still: np.ndarray  # H x W x 3, `uint8`, as it was given
    box: tuple[int, int, int, int]  # where it lies in the padded square, (x0, y0, x1, y1)
    small: Tensor  # 1 x 3 x S x S in [-1, 1], the square at the networks' size

    @classmethod
    def prepare(cls, still: np.ndarray, size: int) -> Canvas:
        """Pad a still with its own border pixels to a square, and resize that to the networks' size."""
        square, box = media.pad_square(still)
        return cls(still, box, to_network(media.resize(square, (size, size))[None]))

    @property
    def side(self) -> int:
        """Height and width of the square."""
        return max(self.still.shape[:2])

    def to_network(self, points: np.ndarray) -> Tensor:
        """Pixels of the still in pixels of the networks' frames; T x 2 to 1 x T x 2, `float32`."""
        scale = self.small.shape[2] / self.side
        moved = (points + np.array(self.box[:2]) + 0.5) * scale - 0.5
        return torch.from_numpy(moved.astype(np.float32)).clamp(0, self.small.shape[2] - 1)[None]


class ChangeMask:
    """How much of each frame shows; keeps the neighbourhood of the path so far, and nothing that grows with time.

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
        # G may blend where it need not: a pixel with half of the still shows only where it changed.
        mask = amount if generated.still_share is None else amount * (1 - generated.still_share.float())
        moved = geometry.reachable(amount > CLEAR, self.near)
        # Faint changes show beside clear ones, with a soft edge.
        gate = F.avg_pool2d(F.max_pool2d(moved.float(), 5, stride=1, padding=2), 3, stride=1, padding=1)
        return mask * gate * (mask > ACTIVE)


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
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    pixels = torch.stack([x, y], -1).flatten(0, 1)  # HW x 2
    return geometry.distance_to_polyline(pixels, torch.stack([start, end])).view(1, 1, *size)


def compose(canvas: Canvas, generated: GeneratorOutput, mask: Tensor, way: Tensor) -> np.ndarray:
    """Put what changed into the still at its own size.

    Generated RGB is enlarged. The warped still is sampled from the still at its own size, and as sharp as that.

    Args:
        canvas: the still.
        generated: one frame.
        mask: 1 x 1 x S x S in [0, 1]; the still's own pixels have the rest, unchanged where it is zero.
        way: (dx, dy) from the stroke's first point to the frame's, pixels of the networks' frames.

    Returns:
        H x W x 3, `uint8`.
    """
    frame = canvas.still.copy()
    used = mask[0, 0] > 0
    if not used.any():
        return frame
    rows, columns = (torch.nonzero(used.any(dim=axis))[:, 0] for axis in (1, 0))
    scale = canvas.side / mask.shape[2]
    left, top, right, bottom = canvas.box
    # Only the part in which anything shows is enlarged; a bilinear ramp reaches one network pixel beyond it.
    y, y_end = _part(int(rows[0]) - 1, int(rows[-1]) + 2, scale, top, bottom)
    x, x_end = _part(int(columns[0]) - 1, int(columns[-1]) + 2, scale, left, right)
    if y >= y_end or x >= x_end:  # it shows in the padding alone
        return frame
    ys, xs = torch.meshgrid(torch.arange(y, y_end), torch.arange(x, x_end), indexing="ij")
    places = (torch.stack([xs, ys], -1) + 0.5) / scale - 0.5  # outer edges aligned, as the still was shrunk
    grid = geometry.to_normalised(places, (mask.shape[2], mask.shape[3]))[None]
    parts = (generated.warp_share, generated.displacement)
    maps = [(generated.rgb.float() + 1) / 2, mask, *(part.float() for part in parts if part is not None)]
    sampled = geometry.warp(torch.cat(maps, 1), grid, padding="border")[0].permute(1, 2, 0)  # h x w x 4, 5 or 7
    shown, share = sampled[..., :3], sampled[..., 3:4]
    if generated.warp_share is not None:
        sources = torch.stack([xs, ys], -1) - way * scale
        if generated.displacement is not None:
            sources = sources + sampled[..., 5:] * (scale * (mask.shape[2] - 1) / 2)
        shown = shown + sampled[..., 4:5] * (sample_still(canvas, sources) - shown)
    part = frame[y - top : y_end - top, x - left : x_end - left]
    part[:] = media.to_uint8((share * shown).numpy() + (1 - share).numpy() * (part / np.float32(255)))
    return frame


def sample_still(canvas: Canvas, places: Tensor) -> Tensor:
    """The still's colours at places h x w x 2 (pixels of the square), borders replicated; h x w x 3 in [0, 1]."""
    height, width = canvas.still.shape[:2]
    grid = geometry.to_normalised(places.float() - torch.tensor(canvas.box[:2]), (height, width))[None]
    picture = torch.from_numpy(canvas.still).permute(2, 0, 1)[None].float() / 255
    return geometry.warp(picture, grid, padding="border")[0].permute(1, 2, 0)


def _part(first: int, last: int, scale: float, low: int, high: int) -> tuple[int, int]:
    """Network pixels from `first` up to `last` as a range of the square's, cut to the picture."""
    return max(low, math.floor(first * scale)), min(high, math.ceil(last * scale))
