"""Ours: pixels of the still go along with the stroke, and a camera may follow it.

With `carry`, G may take the still moved by the way the stroke has gone. With `stabilise`, moreover, a camera follows
the stroke. E1 sees true frames, and E2 strokes, shifted so that the object lies where it lay in the still; P foresees
and G paints the object there. What G painted is then moved along the stroke, over the still. What goes round, such as
a step, comes back at the same place of the state. With `skips` G also sees the still, which lies where it paints.
With `zoom` the camera sees the object alone, enlarged; beyond that the still stays as it is.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion import geometry

REACH = 0.25
"""How far `Layer` may bend the still, normalised units: an eighth of the side that the camera sees."""


class Piece(NamedTuple):
    """What moves with the stroke, one value per pixel of the still or of the frame.

    Attributes:
        paint: N x 3 x s x s, what G paints.
        cover: N x 1 x s x s in [0, 1], how far it covers what is behind it.
        share: N x 1 x s x s in [0, 1], how much of it is the still's own pixels and not paint.
        flow: N x 2 x s x s, normalised (x, y) of what the camera sees, or of the frame: so far from where they are
            shown these pixels lie in the still, the way of the stroke apart.
    """

    paint: Tensor
    cover: Tensor
    share: Tensor
    flow: Tensor


class Camera(NamedTuple):
    """Where the networks look, and how far the stroke has gone.

    Attributes:
        centre: N x 2, normalised (x, y) in the picture: the middle of what they see of the still.
        zoom: they see 1 / zoom of the picture's side.
        shift: N x 2, normalised: how far the object, and the camera with it, has gone.
    """

    centre: Tensor
    zoom: float
    shift: Tensor


def camera(points: Tensor, t: int, size: int, zoom: float = 1.0) -> Camera:
    """The camera at point t of a stroke, N x T x 2 in pixels of a picture of `size`.

    At zoom 1 it sees the picture from its middle; otherwise the object, where the stroke begins, is in the middle.
    """
    shift = geometry.displacement_to_normalised(points[:, t] - points[:, 0], (size, size))
    middle = geometry.to_normalised(points[:, 0], (size, size))
    return Camera(middle if zoom > 1 else torch.zeros_like(middle), zoom, shift)


def seen_by(camera: Camera, pictures: Tensor) -> Tensor:
    """What the camera sees of pictures, N x C x s x s to the same size; borders replicated."""
    return _sampled(pictures, (camera.centre + camera.shift)[:, None, None], 1 / camera.zoom, "border")


def placed_by(camera: Camera, maps: Tensor, padding: str = "border") -> Tensor:
    """Maps of what the camera sees, N x C x s x s, where they lie in the picture: `seen_by` undone."""
    away = (camera.centre + camera.shift)[:, None, None]
    return _sampled(maps, -camera.zoom * away, camera.zoom, padding)


def moved(pictures: Tensor, shift: Tensor, flow: Tensor | None = None) -> Tensor:
    """Pictures moved by (x, y), borders replicated.

    Args:
        pictures: N x C x s x s.
        shift: N x 2, normalised.
        flow: N x 2 x s x s, normalised: each pixel of the result is taken from so much further.
    """
    away = -shift.float()[:, None, None]
    return _sampled(pictures, away if flow is None else away + flow.float().permute(0, 2, 3, 1), 1.0, "border")


def _sampled(pictures: Tensor, offset: Tensor, scale: float, padding: str) -> Tensor:
    """Each pixel at v (normalised) from `scale` v + `offset`; offset N x 1 x 1 x 2, or one for each pixel."""
    with torch.autocast(pictures.device.type, enabled=False):
        grid = scale * geometry.identity_grid((pictures.shape[2], pictures.shape[3]), offset) + offset.float()
        return geometry.warp(pictures.float(), grid, padding=padding)


def stabilised(points: Tensor, t: int, size: int, zoom: float = 1.0) -> Tensor:
    """A stroke in pixels of what the camera sees at point t: that point lies where the object lay in the still.

    Point 0 stays there, so that it marks the object; of a stroke with a window nothing else is in the past.
    """
    place = torch.full_like(points[:, :1], (size - 1) / 2) if zoom > 1 else points[:, :1]
    seen = (points - points[:, t : t + 1]) * zoom + place
    return torch.cat([place, seen[:, 1:]], dim=1)


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


def shown(piece: Piece, still: Tensor, camera: Camera) -> tuple[Piece, Tensor]:
    """A piece where it is in the frame, and the still's pixels there, N x 3 x s x s; zero cover outside the view."""
    maps = torch.cat([part.float() for part in (piece.paint, piece.share, piece.flow / camera.zoom)], dim=1)
    paint, share, flow = placed_by(camera, maps).split((3, 1, 2), dim=1)
    there = Piece(paint, placed_by(camera, piece.cover, padding="zeros"), share, flow)
    return there, moved(still, camera.shift, flow)


def ground(camera: Camera, behind: Tensor, keep: Tensor, still: Tensor) -> tuple[Tensor, Tensor]:
    """What is painted behind the piece, and how much of the still is kept there: beyond the first view, the still."""
    if camera.zoom == 1:
        return behind.float(), keep.float()
    first = camera._replace(shift=torch.zeros_like(camera.shift))
    inside = placed_by(first, torch.ones_like(keep, dtype=torch.float32), padding="zeros")
    behind = still + inside * (placed_by(first, behind) - still)
    return behind, 1 - placed_by(first, 1 - keep.float(), padding="zeros")
