"""Strokes as maps that E2 reads: S, the whole stroke, and S_t, its step from point t to point t + 1 (Sec. III-A a).

`grey` is the paper's encoding as released (Sec. IV-A): one pixel per point, the later the brighter, so at most 32
points, and of points on one pixel only the last is visible. `gaussian` is ours: five maps of Gaussian dots, for any
number of points and for positions between pixels.

| map | value at a pixel near some of the points |
| --- | --- |
| occupancy | the nearest point's Gaussian, in [0, 1] |
| time | the points' mean time, times `occupancy`; with `lookahead` relative to t |
| displacement (x, y) | the points' mean displacement to their next points, times `occupancy` |
| origin | the Gaussian of the stroke's first point, where the object is in the still |

Points at one position share it: their times and displacements are averaged.

The time of a grey stroke, and of a Gaussian one without `lookahead`, counts from the start of the clip, so a stroke
longer than the training clips has times outside of the training range. With `lookahead` W, the map S of step t holds
the points t to t + W, and the time of point i is (i - t) / W: S does not depend on the time since the start, and an
animation has any length. Training uses the same windows; near the end of a stroke they hold fewer points.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from stillmotion.errors import StillmotionError
from stillmotion.systems.strokes.config import GREY_LEVELS, StrokesConfig

_DOT_SIGMA = 1 / 32  # standard deviation of a Gaussian dot, as a share of the side
_UNIT_DISPLACEMENT = 1 / 16  # the displacement that has the value one, as a share of the side


def whole_stroke(points: Tensor, config: StrokesConfig, t: int = 0) -> Tensor:
    """S, the whole stroke as maps, at step `t` (only with `lookahead` does it differ between steps).

    Args:
        points: N x T x 2, (x, y) in pixels of the networks' frames.
        config: the system's.
        t: the step from frame t to frame t + 1.

    Returns:
        N x `config.stroke.channels` x size x size: grey in [-1, 1] on white (1), or Gaussian maps on zero.

    Raises:
        StillmotionError: points that are not numbers; grey encoding and more than 32 points, or one outside.
    """
    last = points.shape[1] - 1
    lookahead = config.stroke.lookahead
    return _encode(points, t if lookahead else 0, min(t + lookahead, last) if lookahead else last, t, config)


def stroke_step(points: Tensor, t: int, config: StrokesConfig) -> Tensor:
    """S_t, the points t and t + 1 alone, encoded as in S; arguments, result and errors as for `whole_stroke`."""
    return _encode(points, t, t + 1, t, config)


def stroke_maps(points: Tensor, t: int, config: StrokesConfig) -> list[Tensor]:
    """S and S_t, or the one of them that `config.stroke.input` names; arguments and errors as for `whole_stroke`."""
    wanted = config.stroke.input
    maps = [] if wanted == "step" else [whole_stroke(points, config, t)]
    return maps if wanted == "whole" else [*maps, stroke_step(points, t, config)]


def _encode(points: Tensor, first: int, last: int, now: int, config: StrokesConfig) -> Tensor:
    """The maps of the points `first` to `last`, both included."""
    points, count = points.float(), points.shape[1]
    if not 0 <= now < count - 1:
        raise ValueError(f"a stroke of {count} points has the steps 0 to {count - 2}, not {now}")
    if not bool(torch.isfinite(points).all()):
        raise StillmotionError("A stroke has a point that is not a number: give x and y of every point.")
    if config.stroke.encoding == "grey":
        return _grey(points, first, last, config.size)
    times = torch.arange(first, last + 1, device=points.device, dtype=points.dtype)
    lookahead = config.stroke.lookahead
    times = (times - now) / lookahead if lookahead else times / (config.clip.frames - 1)
    displacements = points[:, 1:] - points[:, :-1]
    displacements = torch.cat([displacements, displacements[:, -1:]], dim=1)  # the last point repeats its own
    chosen = slice(first, last + 1)
    return _gaussian(points[:, chosen], displacements[:, chosen], times, points[:, :1], config.size)


def _grey(points: Tensor, first: int, last: int, size: int) -> Tensor:
    """One pixel per point, 2 * 8i / 255 - 1 for point i, on 1; of points on one pixel the last is visible."""
    n, count = points.shape[:2]
    if count > GREY_LEVELS:
        raise StillmotionError(
            f"A stroke of {count} points cannot be drawn in grey, which has levels for {GREY_LEVELS}: give fewer "
            "points, or use a model with stroke.encoding=gaussian."
        )
    pixels = (points[:, first : last + 1] + 0.5).floor().long()
    if bool((pixels < 0).any() | (pixels >= size).any()):
        raise StillmotionError(
            f"A stroke leaves the picture of {size} x {size} pixels, and grey encoding cannot draw what is outside: "
            "move its points inside."
        )
    places = pixels[..., 1] * size + pixels[..., 0]  # N x K
    order = torch.arange(first, last + 1, device=points.device).expand(n, -1)
    latest = torch.full((n, size * size), -1, device=points.device)
    latest.scatter_reduce_(1, places, order, "amax")
    levels = torch.where(latest < 0, 255, 8 * latest).to(points.dtype) * (2 / 255) - 1
    return levels.view(n, 1, size, size)


def _gaussian(points: Tensor, displacements: Tensor, times: Tensor, origin: Tensor, size: int) -> Tensor:
    """The five maps of K points, N x K x 2, their displacements and K times, and the first point, N x 1 x 2."""
    rows, columns = _profiles(points, size)
    dots = rows[..., :, None] * columns[..., None, :]  # N x K x size x size
    occupancy = dots.amax(dim=1, keepdim=True)
    values = torch.cat(
        [times.expand(len(points), -1)[..., None], displacements / (size * _UNIT_DISPLACEMENT)], dim=-1
    )  # N x K x 3
    sums = torch.einsum("nkhw,nkc->nchw", dots, values)
    means = sums / dots.sum(dim=1, keepdim=True).clamp_min(1e-12)
    rows, columns = _profiles(origin, size)
    return torch.cat([occupancy, occupancy * means, rows[..., :, None] * columns[..., None, :]], dim=1)


def _profiles(points: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """A Gaussian dot is the product of its profiles along y and x: N x K x 2 -> two of N x K x size."""
    sigma = _DOT_SIGMA * size
    pixels = torch.arange(size, device=points.device, dtype=points.dtype)
    profiles = torch.exp(-((pixels - points[..., None]) ** 2) / (2 * sigma**2))  # N x K x 2 x size
    return profiles[:, :, 1], profiles[:, :, 0]


def smooth(points: np.ndarray, radius: int) -> np.ndarray:
    """Ours: the value of a parabola fitted to the points up to `radius` before and after each one.

    The centre of a walker's box oscillates with every step, and a drawn stroke does not.

    Args:
        points: T x 2; runs between NaN are fitted separately, and NaN stays.
        radius: 0 changes nothing. Near an end as many points are used, more of them on the other side.

    Returns:
        T x 2, `float64`.
    """
    smoothed = np.array(points, np.float64)
    known = np.isfinite(smoothed).all(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]]).astype(int)))
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        run = smoothed[first:last].copy()
        if radius < 1 or len(run) < 4:
            continue
        for t in range(len(run)):
            start = min(max(t - radius, 0), max(len(run) - 2 * radius - 1, 0))
            end = min(start + 2 * radius + 1, len(run))
            smoothed[first + t] = _parabola(start - t, end - t) @ run[start:end]
    return smoothed


@cache
def _parabola(first: int, end: int) -> np.ndarray:
    """Weights of the values at `first`, ..., `end` - 1 in the value at 0 of the parabola fitted to them."""
    weights: np.ndarray = np.linalg.pinv(np.vander(np.arange(first, end, dtype=np.float64), 3))[2]
    return weights


class Trajectory:
    """Where the object is to be, one point per frame; grows while it is followed.

    Attributes:
        points: K x 2, (x, y) in pixels of the still, as they were given.
        path: the same, smoothed.
        index: of the point where the object is.
        origin: 1 x 2, the first point of all, where the object is in the still.
    """

    def __init__(self, points: np.ndarray, smoothing_radius: int, keep_all: bool):
        """Args: `keep_all` keeps all points behind the object, and not only those that smoothing needs."""
        self.radius, self.keep_all = smoothing_radius, keep_all
        self.points, self.path = points, smooth(points, smoothing_radius)
        self.index, self.origin = 0, self.path[:1]

    @property
    def arrived(self) -> bool:
        """Whether the object is at the last point."""
        return self.index >= len(self.path) - 1

    def append(self, points: np.ndarray) -> None:
        """Add points behind the last one; only the path ahead of the object changes."""
        # The parabola at a point near the end uses up to twice the radius of points before it.
        first = 0 if self.keep_all else max(0, self.index - 2 * self.radius)
        self.points = np.concatenate([self.points[first:], points])
        path = smooth(self.points, self.radius)
        path[: self.index + 1 - first] = self.path[first : self.index + 1]
        self.path, self.index = path, self.index - first
