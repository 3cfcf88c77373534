"""Coarse displacements: where the pixels of frames have come from, as far as structures alone say it.

Between two poses every limb is a stick that moves; between two shapes of a face model every point of the surface has
a place in both.

Shapes: S, the side of frames. A coarse displacement is ... x S x S x 3: (x, y) to where in the still a pixel has come
from, normalised, and how far that is to be trusted, in [0, 1].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stillmotion.systems.structures.structure_maps import limb_ends

LIMB_REACH = 0.05
"""Half the width of a limb, as a share of the picture's side."""

TRUNK = 6
"""The limb of `structure_maps.LIMBS` that is wider than the others: half as wide as the shoulders are apart."""

BACKGROUND_AT = 2.2
"""In half widths: farther from all limbs than this, a pixel is rather background than limb."""


AROUND = 0.06
"""How far the motion of a face is carried on around it: the standard deviation of a blur, as a share of the side."""


def limb_displacement(stills: Tensor, frames: Tensor, side: int) -> Tensor:
    """Where the pixels around a body have come from, if each limb is a stiff stick that stretches along itself.

    A pixel follows the limbs of the frame that it lies in or near, and none far from all.

    Args:
        stills: ... x 13 x 3, poses of the stills: (x, y, visibility) in pixels.
        frames: ... x 13 x 3, of the frames.
        side: S, of the square picture.

    Returns:
        ... x S x S x 3, see the module. Limbs that either pose does not show do not count.
    """
    (start, end, shown), (start_before, end_before, shown_before) = limb_ends(frames), limb_ends(stills)
    cells = torch.arange(side, dtype=frames.dtype, device=frames.device)
    pixel = torch.stack(torch.meshgrid(cells, cells, indexing="xy"), dim=-1)[:, :, None]  # S x S x 1 x 2
    along, across, length = _measured(pixel, start, end)  # ... x S x S x 12
    shoulders = (frames[..., 1, :2] - frames[..., 2, :2]).norm(dim=-1) / 2
    reach = torch.full_like(length, LIMB_REACH * side)
    reach[..., TRUNK] = torch.maximum(reach[..., TRUNK], shoulders[..., None, None])
    beyond = (along - along.clamp(min=torch.zeros_like(length), max=length)).abs()
    weight = (
        torch.exp(-(beyond.square() + across.square()) / reach.square()) * (shown * shown_before)[..., None, None, :]
    )
    moved = _placed(along / length, across, start_before, end_before) - pixel  # ... x S x S x 12 x 2
    every = weight.sum(-1, keepdim=True)
    trust = every / (every + math.exp(-(BACKGROUND_AT**2)))
    displacement = (weight[..., None] * moved).sum(-2) / every.clamp_min(1e-12) * trust
    return torch.cat([displacement * (2 / (side - 1)), trust], dim=-1)


def _measured(pixel: Tensor, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How far pixels lie along limbs and across them, and the limbs' lengths, in pixels; ... x S x S x 12."""
    limb = (end - start)[..., None, None, :, :]
    length = limb.norm(dim=-1).clamp_min(1.0)
    x, y = (pixel - start[..., None, None, :, :]).unbind(-1)
    direction = limb / length[..., None]
    dx, dy = direction.unbind(-1)
    return x * dx + y * dy, y * dx - x * dy, length.expand_as(x)


def _placed(share: Tensor, across: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Places at a share along limbs and so many pixels across them; ... x S x S x 12 x 2."""
    start, limb = start[..., None, None, :, :], (end - start)[..., None, None, :, :]
    dx, dy = (limb / limb.norm(dim=-1, keepdim=True).clamp_min(1.0)).unbind(-1)
    return start + share[..., None] * limb + across[..., None] * torch.stack([-dy, dx], dim=-1)


def surface_coarse(motion: Tensor) -> Tensor:
    """The motion of a face's surface, carried on around it: hair, ears and neck move with the nearest skin.

    Args:
        motion: ... x S x S x 3: (x, y) in pixels, and 1 where there is face, else 0.

    Returns:
        ... x S x S x 3, see the module. Trust fades with the distance from the face.
    """
    side = motion.shape[-2]
    maps = motion.reshape(-1, side, side, 3).permute(0, 3, 1, 2)
    face = maps[:, 2:]
    spread = _blurred(maps * face, AROUND * side)
    near = spread[:, 2:]
    trust = torch.maximum(face, (2 * near).clamp(max=1))
    flow = torch.where(face > 0, maps[:, :2], spread[:, :2] / near.clamp_min(1e-3) * trust)
    return torch.cat([flow * (2 / (side - 1)), trust], dim=1).permute(0, 2, 3, 1).view_as(motion)


def _blurred(maps: Tensor, sigma: float) -> Tensor:
    """Maps ... x S x S under a Gaussian of so many pixels, zeros outside."""
    cells = torch.arange(maps.shape[-1], dtype=maps.dtype, device=maps.device)
    weights = torch.exp(-(cells - cells[:, None]).square() / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
    with torch.autocast(maps.device.type, enabled=False):
        return weights @ maps @ weights
