"""Structure maps, which condition frames (Sec. 3.1): heat maps of joints and of points on limbs, normals of faces.

Poses are in the order of Penn Action: head, then left and right shoulders, elbows, wrists, hips, knees and ankles,
each (x, y, visibility) in pixels, pixel centres at integers. A joint with visibility 0 is not there.

Normals follow the release. They are those of the model's own frame, so a head that turns moves them on the picture
and does not change them; they point into the head, and are exactly (0, 0, 0) where there is no face.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stillmotion.geometry import Size

JOINTS = 13
HEAD, LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_HIP, RIGHT_HIP = 0, 1, 2, 7, 8
_SHOULDERS, _HIPS = 13, 14  # the middles of both, behind the joints

LIMBS = (
    (HEAD, _SHOULDERS),
    (LEFT_SHOULDER, RIGHT_SHOULDER),
    (1, 3), (2, 4), (3, 5), (4, 6),
    (_SHOULDERS, _HIPS),
    (LEFT_HIP, RIGHT_HIP),
    (7, 9), (8, 10), (9, 11), (10, 12),
)  # fmt: skip
"""Ends of the limbs: neck, shoulders, upper arms, forearms, trunk, hips, thighs, shins (Villegas et al.)."""

LIMB_POINTS = 4
"""Per limb, its ends included."""


_AROUND = 0.15
"""Free space around poses in a crop, as a share of their box."""


# --- poses ----------------------------------------------------------------------------------------------------------


def pose_vectors(poses: Tensor, side: float) -> Tensor:
    """Poses as the pose predictor reads them (Villegas et al.).

    Args:
        poses: ... x J x 3, (x, y, visibility) in pixels of a square picture.
        side: of the picture.

    Returns:
        ... x 2J: all x, then all y, each 2 x / side - 1; zero where a joint is not visible.
    """
    places = (2 / side * poses[..., :2] - 1) * (poses[..., 2:] > 0)
    return places.transpose(-1, -2).flatten(-2)


def vector_poses(vectors: Tensor, side: float) -> Tensor:
    """The inverse of `pose_vectors`: ... x 2J to poses ... x J x 3, all of them visible."""
    places = (vectors.unflatten(-1, (2, -1)).transpose(-1, -2) + 1) * (side / 2)
    return torch.cat([places, torch.ones_like(places[..., :1])], dim=-1)


def limb_points(poses: Tensor) -> Tensor:
    """Four evenly spaced points on each of twelve limbs.

    Args:
        poses: ... x 13 x 3, (x, y, visibility).

    Returns:
        ... x 48 x 3, limb by limb. Of a limb with one visible end there is that end alone.
    """
    start, end = _ends(poses)
    start, end = start[..., None, :], end[..., None, :]  # ... x 12 x 1 x 3
    share = torch.linspace(0, 1, LIMB_POINTS, dtype=poses.dtype, device=poses.device)[:, None]
    places = torch.lerp(start[..., :2], end[..., :2], share)  # ... x 12 x 4 x 2
    both = torch.minimum(start[..., 2:], end[..., 2:]).expand_as(places[..., :1])
    visible = torch.cat([start[..., 2:], both[..., 1:-1, :], end[..., 2:]], dim=-2)
    return torch.cat([places, visible], dim=-1).flatten(-3, -2)


def limb_ends(poses: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Both ends of each limb, ... x 12 x 2 twice, and whether both are visible, ... x 12; of poses ... x 13 x 3."""
    start, end = _ends(poses)
    shown = (torch.minimum(start[..., 2], end[..., 2]) > 0).to(poses)
    return start[..., :2].nan_to_num(), end[..., :2].nan_to_num(), shown


def _ends(poses: Tensor) -> tuple[Tensor, Tensor]:
    """First and last points of the limbs, ... x 12 x 3 each."""
    shoulders, hips = (
        torch.cat([pair[..., :2].mean(-2, keepdim=True), pair[..., 2:].amin(-2, keepdim=True)], dim=-1)
        for pair in (poses[..., [LEFT_SHOULDER, RIGHT_SHOULDER], :], poses[..., [LEFT_HIP, RIGHT_HIP], :])
    )
    ends = torch.cat([poses, shoulders, hips], dim=-2)[..., torch.tensor(LIMBS, device=poses.device), :]
    return ends[..., 0, :], ends[..., 1, :]


def heat_maps(points: Tensor, size: Size, sigma: float) -> Tensor:
    """A map per point, a Gaussian with the value 1 at its place.

    Args:
        points: ... x K x 3, (x, y, visibility) in pixels of a picture of `size`.
        size: (height, width) of the maps.
        sigma: in pixels.

    Returns:
        ... x K x H x W in [0, 1]; all zeros where a point is not visible.
    """
    height, width = size
    x, y = (torch.arange(n, dtype=points.dtype, device=points.device) for n in (width, height))
    across = torch.exp(-((x - points[..., :1]) ** 2) / (2 * sigma**2))  # ... x K x W
    down = torch.exp(-((y - points[..., 1:2]) ** 2) / (2 * sigma**2)) * (points[..., 2:] > 0)
    # A place that is not known may be NaN, and NaN times zero is NaN.
    return (down[..., :, None] * across[..., None, :]).nan_to_num(0.0)


def pose_maps(poses: Tensor, kind: str, size: Size, sigma: float) -> Tensor:
    """Heat maps of poses.

    Args:
        poses: ... x 13 x 3, (x, y, visibility) in pixels of a picture of `size`.
        kind: `joints` or `limbs`.
        size: (height, width) of the maps.
        sigma: as a share of the width, see `StructureConfig`.

    Returns:
        ... x 13 x H x W of joints, or ... x 48 x H x W of points on limbs, in [0, 1].
    """
    return heat_maps(limb_points(poses) if kind == "limbs" else poses, size, sigma * size[1])
