"""Output at the still's own size: what did not change keeps the still's pixels, what moved is painted, enlarged.

The network paints a small frame. How much of it shows is a weight per pixel, N x 1 x S x S: one where the frame
differs, zero where it does not, with a soft edge. Only what hangs together with the way travelled may change, so
that a network that drifts or flickers far from the object leaves the background alone, however long the animation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stillmotion import geometry, media
from stillmotion.systems.strokes import drawing
from stillmotion.data.object_detection import reachable
from stillmotion.systems.strokes.networks import Drawn

CHANGE_FROM, CHANGE_FULL = 0.04, 0.12
"""Difference of a frame from the unmoved still (largest channel, in [0, 1]): from where it counts, and fully."""

CLEAR, ACTIVE = 0.5, 0.05
"""Shares: so much of a change carries it on to its neighbours; weights below the second are noise."""

REACH = 1 / 8
"""Share of the picture's side: what changes counts if it comes this near to the way travelled, with all around it.

An object's centre may be a hole in it, as in a zero.
"""


@dataclass(frozen=True)
class Canvas:
    """A still made ready once.

    Attributes:
        still: H x W x 3, `uint8`, as it was given.
        box: where it lies in the padded square, (x0, y0, x1, y1).
        small: 1 x 3 x S x S in [-1, 1], the square at the network's size.
    """

    still: np.ndarray
    box: tuple[int, int, int, int]
    small: Tensor

    @classmethod
    def prepare(cls, still: np.ndarray, size: int) -> Canvas:
        """Pad a still with its own border pixels to a square, and shrink that to the network's size."""
        square, box = media.pad_square(still)
        return cls(still, box, drawing.to_frames(media.resize(square, (size, size))[None]))

    @property
    def side(self) -> int:
        """Height and width of the square."""
        return max(self.still.shape[:2])

    def to_network(self, points: np.ndarray) -> Tensor:
        """Pixels of the still in pixels of the network's picture; T x 2 to 1 x T x 2, `float32`."""
        scale = self.small.shape[2] / self.side
        moved = (points + np.array(self.box[:2]) + 0.5) * scale - 0.5
        return torch.from_numpy(moved.astype(np.float32)).clamp(0, self.small.shape[2] - 1)[None]


class Change:
    """How much of each frame shows; keeps the way travelled so far, and nothing that grows with time.

    Args:
        still: 1 x 3 x S x S in [-1, 1].
        unmoved: the same as the networks paint it; where a frame is like either of them nothing has changed.
        points: T x 2, pixels of the network's picture.
    """

    def __init__(self, still: Tensor, unmoved: Tensor, points: Tensor):
        self.still, self.unmoved, self.points = still, unmoved.float(), points
        self.near = torch.zeros_like(still[:, :1], dtype=torch.bool)

    def weigh(self, drawn: Drawn, t: int) -> Tensor:
        """The weight of frame t + 1, 1 x 1 x S x S; to be called once per step, in order."""
        size = (self.still.shape[2], self.still.shape[3])
        self.near |= distance_to_way(self.points[t], self.points[t + 1], size) <= REACH * size[0]
        amount = changed(drawn.frame.float(), self.still, self.unmoved)
        # Nothing makes G keep what it paints as well: a pixel it keeps by half shows only where it changed.
        weight = amount if drawn.keep is None else amount * (1 - drawn.keep.float())
        moved = reachable(amount > CLEAR, self.near)
        # What is faint shows beside what is clear, and with a soft edge.
        gate = F.avg_pool2d(F.max_pool2d(moved.float(), 5, stride=1, padding=2), 3, stride=1, padding=1)
        return weight * gate * (weight > ACTIVE)


def changed(frame: Tensor, still: Tensor, unmoved: Tensor) -> Tensor:
    """How much a frame differs from the still, as it is and as the network paints it; N x 1 x S x S in [0, 1].

    Args:
        frame: N x 3 x S x S in [-1, 1].
        still: 1 x 3 x S x S.
        unmoved: 1 x 3 x S x S.
    """
    differences = [(frame - other).abs().amax(1, keepdim=True) / 2 for other in (still, unmoved)]
    amount = (torch.minimum(*differences) - CHANGE_FROM) / (CHANGE_FULL - CHANGE_FROM)
    # Holes in what moved are closed: there the object happens to look like what it covers, but only when small.
    closed = F.max_pool2d(amount.clamp(0, 1), 3, stride=1, padding=1)
    return F.avg_pool2d(closed, 3, stride=1, padding=1, count_include_pad=False)


def distance_to_way(start: Tensor, end: Tensor, size: geometry.Size) -> Tensor:
    """Distance in pixels of each pixel from the straight way between two points (x, y); 1 x 1 x H x W."""
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    off = torch.stack([x, y], -1) - start  # H x W x 2
    way = end - start
    share = ((off * way).sum(-1) / way.square().sum().clamp_min(1e-12)).clamp(0, 1)
    return (off - share[..., None] * way).norm(dim=-1)[None, None]


def compose(canvas: Canvas, drawn: Drawn, weight: Tensor, way: Tensor | None = None) -> np.ndarray:
    """Put what changed into the still at its own size.

    What is painted is enlarged. What is carried (see `StrokesConfig.carry`) is the still itself, moved at its own
    size, and as sharp as it was.

    Args:
        canvas: the still.
        drawn: one frame.
        weight: 1 x 1 x S x S in [0, 1]; the still's own pixels have the rest, unchanged where it is zero.
        way: (dx, dy) from the stroke's first point to the frame's, pixels of the network's picture; for a model
            that carries.

    Returns:
        H x W x 3, `uint8`.
    """
    frame = canvas.still.copy()
    used = weight[0, 0] > 0
    if not used.any():
        return frame
    rows, columns = (torch.nonzero(used.any(dim=axis))[:, 0] for axis in (1, 0))
    scale = canvas.side / weight.shape[2]
    left, top, right, bottom = canvas.box
    # Only the part in which anything shows is enlarged; a bilinear ramp reaches one network pixel beyond it.
    y, y_end = _part(int(rows[0]) - 1, int(rows[-1]) + 2, scale, top, bottom)
    x, x_end = _part(int(columns[0]) - 1, int(columns[-1]) + 2, scale, left, right)
    if y >= y_end or x >= x_end:  # it shows in the padding alone
        return frame
    ys, xs = torch.meshgrid(torch.arange(y, y_end), torch.arange(x, x_end), indexing="ij")
    places = (torch.stack([xs, ys], -1) + 0.5) / scale - 0.5  # outer edges aligned, as the still was shrunk
    grid = geometry.to_normalised(places, (weight.shape[2], weight.shape[3]))[None]
    own = drawn.painted if drawn.own is None else drawn.own
    maps = [(own.float() + 1) / 2, weight, *(part.float() for part in (drawn.share, drawn.flow) if part is not None)]
    sampled = geometry.warp(torch.cat(maps, 1), grid, padding="border")[0].permute(1, 2, 0)  # h x w x 4, 5 or 7
    shown, share = sampled[..., :3], sampled[..., 3:4]
    if drawn.share is not None:
        assert way is not None
        from_where = torch.stack([xs, ys], -1) - way * scale
        if drawn.flow is not None:
            from_where = from_where + sampled[..., 5:] * (scale * (weight.shape[2] - 1) / 2)
        shown = shown + sampled[..., 4:5] * (carried(canvas, from_where) - shown)
    part = frame[y - top : y_end - top, x - left : x_end - left]
    part[:] = media.to_uint8((share * shown).numpy() + (1 - share).numpy() * (part / np.float32(255)))
    return frame


def carried(canvas: Canvas, places: Tensor) -> Tensor:
    """The still's colours at places h x w x 2 (pixels of the square), borders replicated; h x w x 3 in [0, 1]."""
    height, width = canvas.still.shape[:2]
    grid = geometry.to_normalised(places.float() - torch.tensor(canvas.box[:2]), (height, width))[None]
    picture = torch.from_numpy(canvas.still).permute(2, 0, 1)[None].float() / 255
    return geometry.warp(picture, grid, padding="border")[0].permute(1, 2, 0)


def _part(first: int, last: int, scale: float, low: int, high: int) -> tuple[int, int]:
    """Network pixels from `first` up to `last` as a range of the square's, cut to the picture."""
    return max(low, math.floor(first * scale)), min(high, math.ceil(last * scale))
