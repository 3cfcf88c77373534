"""Coordinates, grids, warps, gaussian maps, soft-argmax and a flood fill: pure functions on tensors.

The conventions (docs/conventions.md, pinned by tests/test_geometry.py):

* points are (x, y), x to the right, y down; sizes are (height, width); pixel centres are at integers;
* normalised coordinates put -1 and 1 on the centres of the border pixels (aligned corners), so that a picture
  `width` pixels wide spans `width - 1` pixel steps;
* `flow` is a forward motion in pixels, `displacement` a backward one in normalised units: the value at a target
  pixel says how far from there the source is sampled.

Everything works on 4-D tensors: time is folded into the batch by the caller. Coordinates are kept in float32 even
under autocast, since bfloat16 cannot tell neighbouring pixels apart beyond 256 of them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

Size = tuple[int, int]
"""(height, width) in pixels."""


def identity_grid(size: Size, like: Tensor | None = None) -> Tensor:
    """Normalised coordinates of every pixel centre.

    Args:
        size: (height, width).
        like: take the device from this tensor; the type is float32 unless `like` is float64.

    Returns:
        H x W x 2, (x, y) in [-1, 1]; a side of one pixel lies at 0.
    """
    device = None if like is None else like.device
    dtype = torch.float64 if like is not None and like.dtype == torch.float64 else torch.float32
    height, width = size
    x = torch.linspace(-1, 1, width, device=device, dtype=dtype) if width > 1 else torch.zeros(1).to(device, dtype)
    y = torch.linspace(-1, 1, height, device=device, dtype=dtype) if height > 1 else torch.zeros(1).to(device, dtype)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def to_pixels(points: Tensor, size: Size) -> Tensor:
    """Normalised (x, y) to pixels of a picture of `size`; ... x 2 -> ... x 2."""
    return (points + 1) * _half_steps(points, size)


def to_normalised(points: Tensor, size: Size) -> Tensor:
    """Pixel (x, y) to normalised coordinates of a picture of `size`; ... x 2 -> ... x 2."""
    return points / _half_steps(points, size) - 1


def displacement_to_pixels(displacement: Tensor, size: Size) -> Tensor:
    """A normalised displacement in pixels of a picture of `size`; ... x 2 -> ... x 2."""
    return displacement * _half_steps(displacement, size)


def displacement_to_normalised(displacement: Tensor, size: Size) -> Tensor:
    """Displacement (..., 2) in pixels of `size` as one in normalised units."""
    return displacement / _half_steps(displacement, size)


def _half_steps(like: Tensor, size: Size) -> Tensor:
    height, width = size
    return torch.tensor([max(width - 1, 1) / 2, max(height - 1, 1) / 2], dtype=like.dtype, device=like.device)


def warp(image: Tensor, grid: Tensor, padding: str = "zeros") -> Tensor:
    """Sample `image` at `grid`: backward warping, bilinear, corners aligned.

    Args:
        image: B x C x H x W.
        grid: B x h x w x 2, normalised (x, y) where to look for each output pixel.
        padding: what lies outside: `zeros` or `border` (the nearest pixel repeated).

    Returns:
        B x C x h x w, in the image's type. The sampling itself runs in float32 at least.
    """
    with torch.autocast(image.device.type, enabled=False):
        working = torch.float64 if image.dtype == torch.float64 else torch.float32
        sampled = F.grid_sample(
            image.to(working), grid.to(working), mode="bilinear", padding_mode=padding, align_corners=True
        )
    return sampled.to(image.dtype)


def resize_map(values: Tensor, size: Size, mode: str = "bilinear") -> Tensor:
    """Resize a map of values or coordinates; by default the border pixels stay where they are (aligned corners).

    Args:
        values: B x C x H x W.
        size: the new (height, width).
        mode: `bilinear`; or as the released Monkey-Net does, `nearest`, and for vox `unaligned`, bilinear with
            aligned outer edges. Both shift coordinates by up to a pixel.
    """
    if tuple(values.shape[-2:]) == tuple(size):
        return values
    if mode == "nearest":
        return F.interpolate(values, size=size, mode="nearest")
    return F.interpolate(values, size=size, mode="bilinear", align_corners=mode != "unaligned")


def resize_grid(grid: Tensor, size: Size, mode: str = "bilinear") -> Tensor:
    """Resize a sampling grid B x H x W x 2 to B x h x w x 2; an identity grid stays one with `bilinear`."""
    return resize_map(grid.permute(0, 3, 1, 2), size, mode).permute(0, 2, 3, 1)


def spatial_softmax(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Softmax over all pixels of each map; B x K x H x W -> the same, float32, every map sums to 1."""
    working = logits if logits.dtype == torch.float64 else logits.float()
    return F.softmax(working.flatten(2) / temperature, dim=2).view_as(logits)


def soft_argmax(heat: Tensor, epsilon: float = 0.0) -> tuple[Tensor, Tensor]:
    """Mean and covariance of maps read as probability distributions over the picture.

    Args:
        heat: B x K x H x W, each map sums to 1.
        epsilon: added to every pixel first, as Monkey-Net does for stability.

    Returns:
        Mean, B x K x 2, and covariance, B x K x 2 x 2, in normalised units, (x, y) order.
    """
    height, width = heat.shape[-2:]
    heat = heat if heat.dtype == torch.float64 else heat.float()
    grid = identity_grid((height, width), heat)
    x_axis, y_axis = grid[0, :, 0], grid[:, 0, 1]
    heat = heat + epsilon
    # The marginals make six small sums out of what would be an H x W x 2 x 2 product per map.
    along_x, along_y = heat.sum(2), heat.sum(3)  # B x K x W, B x K x H
    x, y = (along_x * x_axis).sum(-1), (along_y * y_axis).sum(-1)  # B x K
    off_x = x_axis - x[..., None]  # B x K x W
    off_y = y_axis - y[..., None]  # B x K x H
    xx = (along_x * off_x * off_x).sum(-1)
    yy = (along_y * off_y * off_y).sum(-1)
    xy = ((heat * off_x[:, :, None, :]).sum(-1) * off_y).sum(-1)
    covariance = torch.stack([torch.stack([xx, xy], -1), torch.stack([xy, yy], -1)], -2)
    return torch.stack([x, y], -1), covariance


def smallest_singular_value(matrix: Tensor) -> Tensor:
    """Smallest singular value of 2 x 2 matrices in closed form; ... x 2 x 2 -> ...."""
    a, b, c, d = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 1, 0], matrix[..., 1, 1]
    squares = a * a + b * b + c * c + d * d
    gap = (a * a + b * b - c * c - d * d) ** 2 + 4 * (a * c + b * d) ** 2
    # The difference of the same two terms would give it directly, but in float32 that is noise for a thin
    # matrix; the product of both values is the determinant. sqrt has no gradient at exactly zero.
    tiny = torch.finfo(matrix.dtype).tiny
    largest = ((squares + (gap + tiny).sqrt()) / 2).clamp_min(tiny).sqrt()
    return ((a * d - b * c).abs() / largest).clamp_min(tiny**0.5)


def floor_covariance(covariance: Tensor, floor: float) -> Tensor:
    """Scale up matrices whose smallest singular value lies below `floor`, keeping their shape; ... x 2 x 2.

    No gradient runs through the scale: the square root inside it has none at a singular matrix.
    """
    smallest = smallest_singular_value(covariance.detach())
    scale = (floor / smallest).clamp_min(1.0)
    return covariance * scale[..., None, None]


def inverse_2x2(matrix: Tensor) -> Tensor:
    """Inverse of 2 x 2 matrices written out; ... x 2 x 2. A singular matrix gives infinities."""
    a, b, c, d = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 1, 0], matrix[..., 1, 1]
    determinant = a * d - b * c
    rows = [torch.stack([d, -b], -1), torch.stack([-c, a], -1)]
    return torch.stack(rows, -2) / determinant[..., None, None]


def gaussian_map(mean: Tensor, covariance: Tensor, size: Size, exponent: float = 0.5) -> Tensor:
    """Unnormalised gaussian pictures: exp(-exponent * (p - mean)^T covariance^-1 (p - mean)).

    Args:
        mean: B x K x 2, normalised (x, y).
        covariance: B x K x 2 x 2, symmetric positive definite, normalised units.
        size: (height, width) of the maps.
        exponent: 0.5 for a true gaussian.

    Returns:
        B x K x H x W in [0, 1], 1 at the mean.
    """
    grid = identity_grid(size, mean)
    dx = grid[0, :, 0] - mean[..., 0:1]  # B x K x W
    dy = grid[:, 0, 1] - mean[..., 1:2]  # B x K x H
    precision = inverse_2x2(covariance)
    # The quadratic form written out: a matrix product over axes of length two would run as thousands of tiny ones.
    form = (
        (precision[..., 0, 0, None] * dx * dx)[:, :, None, :]
        + (precision[..., 1, 1, None] * dy * dy)[:, :, :, None]
        + (precision[..., 0, 1] + precision[..., 1, 0])[..., None, None] * dy[:, :, :, None] * dx[:, :, None, :]
    )
    return torch.exp(-exponent * form)


class Place(NamedTuple):
    """Where a body is and how large, in the unit of its points."""

    centre: Tensor  # N x 2
    size: Tensor  # N, the root mean square distance of the points from the centre


def place(points: Tensor) -> Place:
    """Centre and size of N bodies of K points; N x K x 2."""
    centre = points.mean(dim=1)
    return Place(centre, (points - centre[:, None]).square().sum(-1).mean(1).sqrt())


def hull_area(points: Tensor) -> Tensor:
    """Area of the convex hull of a set of points; K x 2 -> scalar, in the square of the points' unit.

    Fewer than three points, or points on one line, have area 0.
    """
    ordered = sorted({(float(x), float(y)) for x, y in points.tolist()})
    if len(ordered) < 3:
        return points.new_zeros(())

    def half(chain_points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        chain: list[tuple[float, float]] = []
        for point in chain_points:
            while len(chain) > 1 and _turn(chain[-2], chain[-1], point) <= 0:
                chain.pop()
            chain.append(point)
        return chain[:-1]

    hull = half(ordered) + half(ordered[::-1])
    twice = sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(hull, hull[1:] + hull[:1], strict=True))
    return points.new_tensor(abs(twice) / 2)


def _turn(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def distance_to_polyline(points: Tensor, vertices: Tensor) -> Tensor:
    """Distance of each point (T x 2) from the polyline through the vertices (S x 2); T."""
    if len(vertices) == 1:
        return (points - vertices).norm(dim=1)
    start, segment = vertices[:-1], vertices.diff(dim=0)  # S-1 x 2
    offset = points[:, None] - start  # T x S-1 x 2
    # On a segment of zero length the nearest point is its start.
    share = ((offset * segment).sum(-1) / segment.square().sum(-1).clamp_min(1e-12)).clamp(0, 1)
    return (offset - share[..., None] * segment).norm(dim=-1).amin(dim=1)


def reachable(mask: Tensor, seed: Tensor) -> Tensor:
    """Flood fill: the 8-connected components of a mask that touch a seed; both 1 x 1 x H x W, `bool`."""
    filled = mask & seed
    while True:
        grown = (F.max_pool2d(filled.float(), 3, stride=1, padding=1) > 0.5) & mask
        # Whole runs at once: most components take two or three rounds, where single pixels would take dozens.
        grown = _fill_rows(mask, grown)
        grown = _fill_rows(mask.mT, grown.mT).mT
        if torch.equal(grown, filled):
            return filled
        filled = grown


def _fill_rows(mask: Tensor, filled: Tensor) -> Tensor:
    """All of each run of set pixels in a row of which any pixel is filled; both 1 x 1 x H x W."""
    padded = F.pad(mask, (0, 1))  # a run ends with its row
    run = (~padded).flatten().cumsum(0)
    hit = torch.bincount(run, F.pad(filled, (0, 1)).flatten().float()) > 0
    return hit[run].view_as(padded)[..., :-1] & mask
