"""Coarse displacements: where the pixels of frames have come from, as far as structures alone say it.

Between two poses every limb is a stick that moves; between two shapes of a face model every point of the surface has
a place in both.

Shapes: S, the side of frames. A coarse displacement is ... x S x S x 3: (x, y) to where in the still a pixel has come
from, normalised, and how far that is to be trusted, in [0, 1]; or ... x S x S x 9, see `with_openings`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from stillmotion import geometry
from stillmotion.rendering.fields import PAINT, WARPED
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
    (direction, length), (direction_before, length_before) = (
        _measured(start, end),
        _measured(start_before, end_before),
    )
    shoulders = (frames[..., 1, :2] - frames[..., 2, :2]).norm(dim=-1) / 2
    reach = torch.full_like(length, LIMB_REACH * side)
    reach[..., TRUNK] = torch.maximum(reach[..., TRUNK], shoulders)
    along = _linear(start, direction, side)  # ... x 12 x S x S, pixels from the limb's start along it
    across = _linear(start, direction.flip(-1) * direction.new_tensor([-1.0, 1.0]), side)
    beyond = along - torch.minimum(along.clamp(min=0), _maps(length))
    weight = torch.exp(-(beyond.square() + across.square()) / _maps(reach.square())) * _maps(shown * shown_before)
    stretched = along * _maps(length_before / length)
    every = weight.sum(-3)
    trust = every / (every + math.exp(-(BACKGROUND_AT**2)))
    cells = torch.arange(side, dtype=frames.dtype, device=frames.device)
    parts = []
    for axis, sign, pixel in ((0, -1, cells), (1, 1, cells[:, None])):
        ahead, beside = _maps(direction_before[..., axis]), _maps(sign * direction_before[..., 1 - axis])
        came = _maps(start_before[..., axis]) + ahead * stretched + beside * across
        parts.append(((weight * came).sum(-3) / every.clamp_min(1e-12) - pixel) * trust * (2 / (side - 1)))
    return torch.stack([*parts, trust], dim=-1)


def _measured(start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Directions of limbs, ... x 12 x 2, and their lengths in pixels, ... x 12, at least 1."""
    length = (end - start).norm(dim=-1).clamp_min(1.0)
    return (end - start) / length[..., None], length


def _linear(start: Tensor, direction: Tensor, side: int) -> Tensor:
    """How far pixels lie from starts in directions, ... x 12 x 2 both; ... x 12 x S x S."""
    cells = torch.arange(side, dtype=start.dtype, device=start.device)
    x, y = ((cells - start[..., axis, None]) * direction[..., axis, None] for axis in (0, 1))
    return x[..., None, :] + y[..., :, None]


def _maps(values: Tensor) -> Tensor:
    """A number per limb, for each pixel: ... x 12 to ... x 12 x 1 x 1."""
    return values[..., None, None]


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


def with_openings(coarse: Tensor, openings: Tensor) -> Tensor:
    """A coarse displacement of faces, beside which stands what is open in the frame and in the still.

    Args:
        coarse: ... x T x S x S x 3.
        openings: ... x (1 + T) x S x S x 3, of the still and of the frames, see `morphable.openings`.

    Returns:
        ... x T x S x S x 9.
    """
    frames, still = openings[..., 1:, :, :, :], openings[..., :1, :, :, :]
    return torch.cat([coarse, frames, still.expand_as(frames)], dim=-1)


EXPLAINED_BELOW = 0.1
"""Mean difference over the channels up to which a moved pixel of a face shows what a frame shows: more than light and
noise change, less than teeth and the whites of eyes."""


def surface_truth(motion: Tensor, still: Tensor, target: Tensor, known: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the exact motion of a face's surface adds to what is known of pairs: displacement, and paint.

    The surface knows where each pixel has come from, not what appears between lips and lids. That is told by the
    pictures: paint is needed where the still, moved by the surface, does not show what the frame shows.

    Args:
        motion: N x S x S x 3, see `surface_coarse`.
        still: N x 3 x S x S in [0, 1].
        target: the true frames, the same shape.
        known: of the pairs, `displacement`, `moving` and `visibility`, see `data.motion_truth`.

    Returns:
        These three, with the faces.
    """
    face = motion[..., 2] > 0
    displacement = motion[..., :2] * (2 / (motion.shape[-2] - 1))
    grid = geometry.identity_grid((still.shape[2], still.shape[3]), still) + displacement
    explained = (geometry.warp(still, grid) - target).abs().mean(1) < EXPLAINED_BELOW
    shown = torch.where(explained, WARPED, PAINT)
    return {
        "displacement": torch.where(face[..., None], displacement, known["displacement"]),
        "moving": known["moving"].masked_fill(face, 1.0),
        "visibility": torch.where(face, shown, known["visibility"]),
    }


def _blurred(maps: Tensor, sigma: float) -> Tensor:
    """Maps ... x S x S under a Gaussian of so many pixels, zeros outside."""
    cells = torch.arange(maps.shape[-1], dtype=maps.dtype, device=maps.device)
    weights = torch.exp(-(cells - cells[:, None]).square() / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
    with torch.autocast(maps.device.type, enabled=False):
        return weights @ maps @ weights
