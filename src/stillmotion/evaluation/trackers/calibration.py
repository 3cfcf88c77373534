"""Calibration: the error of the trackers of `tracking` on clips with ground truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch

from stillmotion.data.clip import Clip, evenly
from stillmotion.data.points import MIN_CONFIDENCE
from stillmotion.errors import StillmotionError
from stillmotion.evaluation.trackers.tracking import sample_map, track_object, track_points

Tracker = Callable[[Clip, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Takes a clip and N x 2 positions in its first frame, gives T x N x 2 positions and T x N confidences."""

# A surface point is dropped once the true forward and backward flow disagree by more than this (pixels), or the flow
# differs as much from that of the nearest pixel: it is occluded, or two parts meet there.
_MAX_DISAGREEMENT = 0.3


def by_points(clip: Clip, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Track each start with `track_points`."""
    return track_points(np.asarray(clip.frames), starts)


def by_object(given: Callable[[Clip], dict[str, np.ndarray]]) -> Tracker:
    """Track one object with `track_object`, whose arguments are made of the clip; the starts move with its centre."""

    def track(clip: Clip, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        centres = track_object(np.asarray(clip.frames), **given(clip))
        positions = starts + (centres - centres[0])[:, None]
        return positions, np.isfinite(positions[..., 0]).astype(np.float32)

    return track


TRACKERS: Mapping[str, Tracker] = {
    "points": by_points,
    "box": by_object(lambda clip: {"box": clip.tracks["box"][0]}),
    "mask": by_object(lambda clip: {"mask": clip.tracks["mask"][0]}),
    "background": by_object(lambda clip: {"background": true_background(clip)}),
}
"""By their names in docs/evaluation.md."""


@dataclass(frozen=True)
class TrackerError:
    """Distance of tracked from true positions, in pixels of the clips; infinite where the tracker lost them."""

    positions: int  # how many were compared: visible ones, without the first frame
    median: float  # over all positions
    high: float  # the 95 % quantile
    last: float  # the median in the clips' last frames, where drift is largest
    last_high: float  # the 95 % quantile there
    confident: float  # share of the positions with a confidence of at least `MIN_CONFIDENCE`
    high_confident: float  # the 95 % quantile of these
    moved: float  # median distance of the true positions from the first ones: the error of predicting no motion


def measure_tracker(clips: Iterable[Clip], track: str, tracker: Tracker = by_points) -> TrackerError:
    """Measure a tracker's error on clips with ground truth.

    Positions that are occluded or outside the picture in the first frame are left out, later ones where they are so.

    Args:
        clips: with the track and at least two frames.
        track: T x 2 or T x N x 2 positions in pixels, or T x N x 3 with 1 where visible.
        tracker: what is measured.

    Raises:
        StillmotionError: a clip lacks the track, or no clip shows a position after its first frame.
    """
    rows = []
    for clip in clips:
        if track not in clip.tracks:
            raise StillmotionError(f"Clip {clip.name!r} has no track {track!r}; it has {', '.join(clip.tracks)}.")
        rows.append(_compare(clip, np.asarray(clip.tracks[track], np.float64), tracker))
    found = np.concatenate(rows, axis=1) if rows else np.zeros((4, 0))
    if found.shape[1] == 0:
        raise StillmotionError(f"No clip shows a position of {track!r} after its first frame; take longer clips.")
    error, confidence, moved, last = found
    at_end, certain = error[last > 0], error[confidence >= MIN_CONFIDENCE]
    return TrackerError(
        positions=len(error),
        median=_quantile(error, 0.5),
        high=_quantile(error, 0.95),
        last=_quantile(at_end, 0.5),
        last_high=_quantile(at_end, 0.95),
        confident=len(certain) / len(error),
        high_confident=_quantile(certain, 0.95),
        moved=_quantile(moved, 0.5),
    )


def add_surface_points(clip: Clip, count: int = 30) -> Clip:
    """Add the track `surface`: points of the first frame's foreground, moved along the exact flows.

    These points are visible, unlike joints and nodes, which lie inside a body. A point that comes within a pixel of
    the outline is dropped, since flow is not exact between two pixels of different motion.

    Args:
        clip: with the tracks `mask`, `flow_forward` and `flow_backward`.
        count: N, spread evenly over the foreground's pixels inside its outline; fewer if it has fewer.

    Returns:
        The clip with T x N x 3 more: (x, y) in pixels, and 1 until the point is dropped.
    """
    masks = clip.tracks["mask"]
    y, x = np.nonzero(cv2.erode(np.ascontiguousarray(masks[0]), np.ones((3, 3), np.uint8)))
    chosen = evenly(len(x), count)
    points = [torch.from_numpy(np.stack([x[chosen], y[chosen]], axis=1).astype(np.float32))]
    visible = [torch.ones(len(chosen), dtype=torch.bool)]
    flows = zip(clip.tracks["flow_forward"], clip.tracks["flow_backward"], strict=True)
    for t, (forward, backward) in enumerate(flows):
        step = sample_map(forward, points[-1])
        discontinuity = (step - sample_map(forward, points[-1].round())).norm(dim=1)
        points.append(points[-1] + step)
        disagreement = (step + sample_map(backward, points[-1])).norm(dim=1)
        inside = sample_map(masks[t + 1][..., None] > 0, points[-1])[:, 0] > 0.999
        exact = (disagreement <= _MAX_DISAGREEMENT) & (discontinuity <= _MAX_DISAGREEMENT)
        visible.append(visible[-1] & exact & inside)
    track = torch.cat([torch.stack(points), torch.stack(visible)[..., None]], dim=-1).numpy()
    return replace(clip, tracks={**clip.tracks, "surface": track})


def true_background(clip: Clip) -> np.ndarray:
    """Median of each pixel over the frames in which the mask is off there (all frames if it never is); H x W x 3."""
    frames, mask = np.asarray(clip.frames), clip.tracks["mask"] > 0
    off = np.where((mask & ~mask.all(axis=0))[..., None], np.nan, frames.astype(np.float32))
    return np.nanmedian(off, axis=0).round().astype(np.uint8)


def _compare(clip: Clip, truth: np.ndarray, tracker: Tracker) -> np.ndarray:
    """Error, confidence, displacement, and whether the frame is the last, of visible positions after the first."""
    truth = truth[:, None] if truth.ndim == 2 else truth
    height, width = clip.frames.shape[1:3]
    positions = truth[..., :2]
    visible = np.asarray(((positions >= 0) & (positions <= (width - 1, height - 1))).all(-1))  # NaN is not
    if truth.shape[2] == 3:
        visible &= truth[..., 2] > 0
    positions, visible = positions[:, visible[0]], visible[1:, visible[0]]
    if visible.size == 0:
        return np.zeros((4, 0))
    found, confidence = tracker(clip, positions[0])
    error = np.linalg.norm(found - positions, axis=-1)[1:]
    moved = np.linalg.norm(positions - positions[0], axis=-1)[1:]
    last = np.zeros(error.shape)
    last[-1] = 1
    error = np.where(np.isfinite(error), error, np.inf)  # a lost position is an error
    return np.stack([values[visible] for values in (error, confidence[1:], moved, last)])


def _quantile(values: np.ndarray, share: float) -> float:
    # `lower`, since there is nothing between a number and infinity.
    return float(np.quantile(values, share, method="lower")) if len(values) else float("nan")
