"""Ours: pixels of the still go along with the stroke, and a camera may follow it.

With `carry`, G may take the still moved by the way the stroke has gone. With `stabilise`, moreover, a camera follows
the stroke. E1 sees true frames, and E2 strokes, shifted so that the object lies where it lay in the still; P foresees
and G paints the object there. What G painted is then moved along the stroke, over the still. What goes round, such as
a step, comes back at the same place of the state. With `skips` G also sees the still, which lies where it paints.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion import geometry

REACH = 0.25
"""How far `Layer` may bend the still, normalised units: an eighth of the side."""


class Piece(NamedTuple):
    """What moves with the stroke, one value per pixel of the still or of the frame.

    Attributes:
        paint: N x 3 x s x s, what G paints.
        cover: N x 1 x s x s in [0, 1], how far it covers what is behind it.
        share: N x 1 x s x s in [0, 1], how much of it is the still's own pixels and not paint.
        flow: N x 2 x s x s, normalised (x, y): so far from where they are shown these pixels lie in the still, the
            way of the stroke apart.
    """

    paint: Tensor
    cover: Tensor
    share: Tensor
    flow: Tensor


def shift_of(points: Tensor, t: int, size: geometry.Size) -> Tensor:
    """How far the stroke has gone at point t + 1, normalised; points N x T x 2 in pixels of `size` to N x 2."""
    return geometry.displacement_to_normalised(points[:, t + 1] - points[:, 0], size)


def moved(pictures: Tensor, shift: Tensor, flow: Tensor | None = None, padding: str = "border") -> Tensor:
    """Pictures moved by (x, y), outside of them `padding`.

    Args:
        pictures: N x C x s x s.
        shift: N x 2, normalised.
        flow: N x 2 x s x s, normalised: each pixel of the result is taken from so much further.
        padding: see `geometry.warp`.
    """
    with torch.autocast(pictures.device.type, enabled=False):
        size = (pictures.shape[2], pictures.shape[3])
        grid = geometry.identity_grid(size, shift) - shift.float()[:, None, None]
        if flow is not None:
            grid = grid + flow.float().permute(0, 2, 3, 1)
        return geometry.warp(pictures.float(), grid, padding=padding)


def stabilised(points: Tensor, t: int) -> Tensor:
    """A stroke seen by the camera that follows it: point t lies where the object lay in the still.

    Point 0 stays where it is, so that it marks the object; that of a stroke's window nothing else is in the past.
    """
    seen = points - points[:, t : t + 1] + points[:, :1]
    return torch.cat([points[:, :1], seen[:, 1:]], dim=1)


class Share(nn.Module):
    """How much of what is not kept is the still's own pixels, carried, and not paint."""

    def __init__(self, inputs: int):
        super().__init__()
        self.hidden = nn.Conv2d(inputs, 16, 3, padding=1)
        self.share = nn.Conv2d(16, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """G's last map, its colours, the carried and the unmoved still, N x (C + 9) x s x s, to N x 1 x s x s."""
        return torch.sigmoid(self.share(F.relu(self.hidden(x))))


class Layer(nn.Module):
    """What moves, painted where the object lay in the still: G's second set of colours, with `stabilise`.

    With `skips` they are made of G's last map and the still, by one more convolution.
    """

    def __init__(self, inputs: int, skips: bool):
        super().__init__()
        self.hidden = nn.Conv2d(inputs + 3, inputs, 3, padding=1) if skips else None
        self.colours = nn.Conv2d(inputs, 6, 3, padding=1)
        self.share = Share(inputs + 9)

    def forward(self, x: Tensor, still: Tensor) -> Piece:
        """G's last map, N x C x s x s, and the still, N x 3 x s x s."""
        if self.hidden is not None:
            x = F.relu(self.hidden(torch.cat([x, still.to(x.dtype)], dim=1)))
        made = self.colours(x)
        paint = made[:, :3] if self.training else made[:, :3].clamp(-1, 1)
        cover, flow = torch.sigmoid(made[:, 3:4]), REACH * torch.tanh(made[:, 4:].float())
        bent = moved(still, still.new_zeros(len(still), 2), flow)
        return Piece(paint, cover, self.share(torch.cat([x, paint.detach(), bent, still], dim=1)), flow)


def shown(piece: Piece, still: Tensor, shift: Tensor) -> tuple[Piece, Tensor]:
    """A piece where it is in the frame, and the still's pixels there, N x 3 x s x s."""
    maps = moved(torch.cat([part.float() for part in (piece.paint, piece.share, piece.flow)], dim=1), shift)
    paint, share, flow = maps.split((3, 1, 2), dim=1)
    there = Piece(paint, moved(piece.cover, shift, padding="zeros"), share, flow)
    return there, moved(still, shift, flow)
