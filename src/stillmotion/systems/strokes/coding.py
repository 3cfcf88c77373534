"""Strokes as pictures that a network can read: S, the whole stroke, and S_t, the step from point t to point t + 1.

Two codings. `grey` is the release's: one pixel per point, brighter the later, so at most 32 points, and of points
on one pixel only the last is seen. `gaussian` is ours: five maps of soft dots, for any number of points and places
between pixels.

| map | what it says at a pixel near some of the points |
| --- | --- |
| where | how near the nearest point is, in [0, 1] |
| when | the points' mean time, times `where`; with a moving window it counts from now |
| whither (x, y) | the points' mean displacement to their next points, times `where` |
| whence | how near the stroke's first point is: there the object lies in the still |

Points on one place share it: their times and displacements are averaged, none is lost.

The time of a grey stroke, and of a gaussian one without a window, counts from the clip's start, so a stroke longer
than the training clips shows times that the networks have never seen. With `stroke_window` W the picture S of step t
holds the points t to t + W alone and the time of point i is (i - t) / W: what S looks like does not depend on how
long ago the animation began, and an animation may have any length. Training sees the same windows; at a stroke's end,
in both, the window holds fewer points.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stillmotion.errors import StillmotionError
from stillmotion.systems.strokes.config import GREY_POINTS, StrokesConfig

_FULL_STEP = 1 / 16
"""A displacement of this share of the side has the value one in `whither`."""


def whole(points: Tensor, config: StrokesConfig, t: int = 0) -> Tensor:
    """S, the stroke as one picture, as it is at step `t` (with a moving window it changes, otherwise not).

    Args:
        points: N x T x 2, (x, y) in pixels of the networks' picture.
        config: says how and how large.
        t: the step from frame t to frame t + 1.

    Returns:
        N x `config.channels` x size x size: grey in [-1, 1] on white (1), or soft maps on zero.

    Raises:
        StillmotionError: points that are not numbers; grey coding and more than 32 points, or one outside.
    """
    last = points.shape[1] - 1
    first, last = (t, min(t + config.stroke_window, last)) if config.moving_window else (0, last)
    return _coded(points, first, last, t, config)


def step(points: Tensor, t: int, config: StrokesConfig) -> Tensor:
    """S_t, the points t and t + 1 alone, coded as in S; arguments, result and errors as for `whole`."""
    return _coded(points, t, t + 1, t, config)


def _coded(points: Tensor, first: int, last: int, now: int, config: StrokesConfig) -> Tensor:
    """The picture of the points `first` to `last`, both included."""
    points, count = points.float(), points.shape[1]
    if not 0 <= now < count - 1:
        raise ValueError(f"a stroke of {count} points has the steps 0 to {count - 2}, not {now}")
    if not bool(torch.isfinite(points).all()):
        raise StillmotionError("A stroke has a point that is not a number: give x and y of every point.")
    if config.coding == "grey":
        return _grey(points, first, last, config.size)
    times = torch.arange(first, last + 1, device=points.device, dtype=points.dtype)
    times = (times - now) / config.stroke_window if config.moving_window else times / (config.frames - 1)
    ahead = points[:, 1:] - points[:, :-1]
    ahead = torch.cat([ahead, ahead[:, -1:]], dim=1)  # the last point goes on as it came
    chosen = slice(first, last + 1)
    return _soft(points[:, chosen], ahead[:, chosen], times, points[:, :1], config)


def _grey(points: Tensor, first: int, last: int, size: int) -> Tensor:
    """One pixel per point, 2 * 8i / 255 - 1 for point i, on 1; of points on one pixel the last is seen."""
    n, count = points.shape[:2]
    if count > GREY_POINTS:
        raise StillmotionError(
            f"A stroke of {count} points cannot be drawn in grey, which has levels for {GREY_POINTS}: give fewer "
            "points, or use a model with coding=gaussian."
        )
    pixels = (points[:, first : last + 1] + 0.5).floor().long()
    if bool((pixels < 0).any() | (pixels >= size).any()):
        raise StillmotionError(
            f"A stroke leaves the picture of {size} x {size} pixels, and grey coding cannot draw what is outside: "
            "move its points inside."
        )
    places = pixels[..., 1] * size + pixels[..., 0]  # N x K
    order = torch.arange(first, last + 1, device=points.device).expand(n, -1)
    latest = torch.full((n, size * size), -1, device=points.device)
    latest.scatter_reduce_(1, places, order, "amax")
    levels = torch.where(latest < 0, 255, 8 * latest).to(points.dtype) * (2 / 255) - 1
    return levels.view(n, 1, size, size)


def _soft(points: Tensor, ahead: Tensor, times: Tensor, origin: Tensor, config: StrokesConfig) -> Tensor:
    """The five maps of K points, N x K x 2, their displacements and K times, and the first point, N x 1 x 2."""
    rows, columns = _profiles(points, config)
    dots = rows[..., :, None] * columns[..., None, :]  # N x K x size x size
    where = dots.amax(dim=1, keepdim=True)
    told = torch.cat([times.expand(len(points), -1)[..., None], ahead / (config.size * _FULL_STEP)], dim=-1)
    sums = torch.einsum("nkhw,nkc->nchw", dots, told)
    means = sums / dots.sum(dim=1, keepdim=True).clamp_min(1e-12)
    rows, columns = _profiles(origin, config)
    return torch.cat([where, where * means, rows[..., :, None] * columns[..., None, :]], dim=1)


def _profiles(points: Tensor, config: StrokesConfig) -> tuple[Tensor, Tensor]:
    """A gaussian dot is the product of its profile along y and that along x: N x K x 2 -> two of N x K x size."""
    sigma = config.dot_sigma * config.size / 64
    pixels = torch.arange(config.size, device=points.device, dtype=points.dtype)
    profiles = torch.exp(-((pixels - points[..., None]) ** 2) / (2 * sigma**2))  # N x K x 2 x size
    return profiles[:, :, 1], profiles[:, :, 0]
