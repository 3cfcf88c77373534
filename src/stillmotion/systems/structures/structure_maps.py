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
    shoulders, hips = (
        torch.cat([pair[..., :2].mean(-2, keepdim=True), pair[..., 2:].amin(-2, keepdim=True)], dim=-1)
        for pair in (poses[..., [LEFT_SHOULDER, RIGHT_SHOULDER], :], poses[..., [LEFT_HIP, RIGHT_HIP], :])
    )
    ends = torch.cat([poses, shoulders, hips], dim=-2)[..., torch.tensor(LIMBS, device=poses.device), :]
    start, end = ends[..., :1, :], ends[..., 1:, :]  # ... x 12 x 1 x 3
    share = torch.linspace(0, 1, LIMB_POINTS, dtype=poses.dtype, device=poses.device)[:, None]
    places = torch.lerp(start[..., :2], end[..., :2], share)  # ... x 12 x 4 x 2
    both = torch.minimum(start[..., 2:], end[..., 2:]).expand_as(places[..., :1])
    visible = torch.cat([start[..., 2:], both[..., 1:-1, :], end[..., 2:]], dim=-2)
    return torch.cat([places, visible], dim=-1).flatten(-3, -2)


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


# --- normals --------------------------------------------------------------------------------------------------------


def triangle_normals(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Unit normals of triangles (a, b, c): the direction of (a - b) x (a - c).

    Args:
        vertices: 3 x V in the model's own frame, before the pose.
        triangles: T x 3, `int64`, from 0 on.

    Returns:
        3 x T; zero for a triangle without an area.
    """
    a, b, c = vertices[:, triangles].unbind(-1)  # 3 x T each
    normals = torch.linalg.cross(a - b, a - c, dim=0)
    return normals / normals.norm(dim=0).clamp_min(torch.finfo(torch.float32).eps)


def centre_distances(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Squared distance of the triangles' centres from the model's origin: the release's stand-in for depth.

    Args: as for `triangle_normals`. Returns: T.
    """
    return vertices[:, triangles].mean(-1).square().sum(0)


def visible_triangles(
    projected: Tensor, triangles: Tensor, size: Size, nearness: Tensor | None = None, whole: bool = False
) -> Tensor:
    """Which triangle shows at each pixel of a picture.

    Args:
        projected: 3 x V, (x, y) in pixels, and z towards the viewer.
        triangles: T x 3, `int64`, from 0 on.
        size: (height, width) of the picture.
        nearness: T, one value per triangle in place of z (the release's: `centre_distances`).
        whole: leave out triangles that the border cuts (release).

    Returns:
        H x W, `int64`: the triangle of the largest z or `nearness`, the first of equals; -1 where there is none.
    """
    height, width = size
    corners = projected[:, triangles]  # 3 x T x 3
    lowest, highest = corners[:2].amin(-1).ceil(), corners[:2].amax(-1).floor()  # 2 x T, of pixel centres inside
    limits = lowest.new_tensor([[width - 1], [height - 1]])
    inside = ((lowest >= 0) & (highest <= limits)).all(0)
    lowest, highest = lowest.clamp_min(0), torch.minimum(highest, limits)
    sides = (highest - lowest + 1).clamp_min(0).long()
    counts = sides.prod(0) * (inside if whole else torch.ones_like(inside))
    # One candidate per pixel of each triangle's box.
    triangle = torch.repeat_interleave(counts)
    order = torch.arange(len(triangle), device=triangle.device) - (counts.cumsum(0) - counts)[triangle]
    x = lowest[0].long()[triangle] + order % sides[0].clamp_min(1)[triangle]
    y = lowest[1].long()[triangle] + order // sides[0].clamp_min(1)[triangle]
    covered, z = _covered(corners[:, triangle], x, y)
    keys = (z if nearness is None else nearness[triangle])[covered]
    triangle, pixel = triangle[covered], (y * width + x)[covered]
    best = keys.new_full((height * width,), -torch.inf).scatter_reduce(0, pixel, keys, "amax")
    wins = keys == best[pixel]
    first = triangle.new_full((height * width,), len(triangles)).scatter_reduce(
        0, pixel[wins], triangle[wins], "amin"
    )
    return torch.where(first == len(triangles), -1, first).view(size)


def normal_map(normals: Tensor, shown: Tensor) -> Tensor:
    """The normals 3 x T of the triangles that show (`visible_triangles`), each flat over its pixels.

    Returns:
        3 x H x W, `float32`; zero where no triangle shows.
    """
    return (normals[:, shown.clamp_min(0)] * (shown >= 0)).float()


def _covered(corners: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Whether triangles cover pixels, their borders included, and their z there.

    Args: corners 3 x N x 3; pixels, N each. Returns: N, `bool`, and N.
    """
    a, b, c = corners.unbind(-1)  # 3 x N each
    across, along, to = (b - a)[:2], (c - a)[:2], torch.stack([x - a[0], y - a[1]])
    area = across[0] * along[1] - across[1] * along[0]
    second = (to[0] * along[1] - to[1] * along[0]) / area
    third = (across[0] * to[1] - across[1] * to[0]) / area
    first = 1 - second - third
    covered = (first >= 0) & (second >= 0) & (third >= 0)  # NaN, of a triangle without an area, is not
    return covered, first * a[2] + second * b[2] + third * c[2]
