"""How wrong the trackers of `tracking` are, measured on clips whose truth is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from stillmotion.data.clip import Clip
from stillmotion.errors import StillmotionError
from stillmotion.evaluation.tracking import LEAST_CONFIDENCE, sample_map, track_object, track_points

Instrument = Callable[[Clip, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Takes a clip and N x 2 places in its first frame, gives T x N x 2 places and T x N confidences."""

# A point of the surface is given up once the true flows, there and back, miss it by more than this (pixels), or the
# flow differs so much from that of the nearest pixel: it is hidden, or two parts meet there.
_MISSED = 0.3


def by_points(clip: Clip, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Follow each start with `track_points`."""
    return track_points(np.asarray(clip.frames), starts)


def by_box(clip: Clip, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Follow the thing in the first frame's box; the starts move with it."""
    return _carried(track_object(np.asarray(clip.frames), box=clip.tracks["box"][0]), starts)


def by_mask(clip: Clip, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Follow the thing in the first frame's mask; the starts move with it."""
    return _carried(track_object(np.asarray(clip.frames), mask=clip.tracks["mask"][0]), starts)


def by_background(clip: Clip, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Follow what differs from the true background; the starts move with it."""
    return _carried(track_object(np.asarray(clip.frames), background=true_background(clip)), starts)


INSTRUMENTS = {"points": by_points, "box": by_box, "mask": by_mask, "background": by_background}
"""By the words of the tables."""


@dataclass(frozen=True)
class InstrumentError:
    """How far a tracker is from the truth, in pixels of the clips; infinite where it has no answer.

    Attributes:
        places: how many were compared: visible ones, without the first frame.
        median: over all places.
        high: the 95 % quantile.
        last: the median in the clips' last frames, to which drift adds up.
        last_high: the 95 % quantile there.
        confident: share of the places with a confidence of at least `LEAST_CONFIDENCE`.
        high_confident: the 95 % quantile of these.
        moved: median distance of the true places from the first ones: the error of an instrument that says that
            nothing moves.
    """

    places: int
    median: float
    high: float
    last: float
    last_high: float
    confident: float
    high_confident: float
    moved: float


def instrument_error(clips: Iterable[Clip], track: str, instrument: Instrument = by_points) -> InstrumentError:
    """Measure an instrument on clips whose truth is known.

    Places that are hidden or outside the picture in the first frame are not followed; later ones count where visible.

    Args:
        clips: with the track and at least two frames.
        track: T x 2 or T x N x 2 places in pixels, or T x N x 3 with 1 where visible.
        instrument: the tracker.

    Raises:
        StillmotionError: a clip lacks the track, or no clip shows a place after its first frame.
    """
    rows = []
    for clip in clips:
        if track not in clip.tracks:
            raise StillmotionError(f"Clip {clip.name!r} has no track {track!r}; it has {', '.join(clip.tracks)}.")
        rows.append(_compare(clip, np.asarray(clip.tracks[track], np.float64), instrument))
    found = np.concatenate(rows, axis=1) if rows else np.zeros((4, 0))
    if found.shape[1] == 0:
        raise StillmotionError(f"No clip shows a place of {track!r} after its first frame; take longer clips.")
    error, confidence, moved, last = found
    at_end, sure = error[last > 0], error[confidence >= LEAST_CONFIDENCE]
    return InstrumentError(
        places=len(error),
        median=_quantile(error, 0.5),
        high=_quantile(error, 0.95),
        last=_quantile(at_end, 0.5),
        last_high=_quantile(at_end, 0.95),
        confident=len(sure) / len(error),
        high_confident=_quantile(sure, 0.95),
        moved=_quantile(moved, 0.5),
    )


def with_surface(clip: Clip, count: int = 30) -> Clip:
    """Add the track `surface`: points of the first frame's foreground, carried along by the exact flows.

    These are points that can be seen, unlike joints and nodes, which lie inside what is drawn. A point that comes
    within a pixel of the outline is given up, since between two pixels there is no exact flow.

    Args:
        clip: with the tracks `mask`, `flow_forward` and `flow_backward`.
        count: N, spread evenly over the foreground's pixels inside its outline; fewer if it has fewer.

    Returns:
        The clip with T x N x 3 more: (x, y) in pixels, and 1 until the point is given up.
    """
    masks = clip.tracks["mask"]
    y, x = np.nonzero(cv2.erode(np.ascontiguousarray(masks[0]), np.ones((3, 3), np.uint8)))
    chosen = np.linspace(0, len(x) - 1, min(count, len(x))).round().astype(int)
    places = [np.stack([x[chosen], y[chosen]], axis=1).astype(np.float32)]
    visible = [np.ones(len(chosen), bool)]
    for t, (ahead, back) in enumerate(zip(clip.tracks["flow_forward"], clip.tracks["flow_backward"], strict=True)):
        step = sample_map(ahead, places[-1])
        meets = np.linalg.norm(step - sample_map(ahead, places[-1].round()), axis=1)
        places.append(places[-1] + step)
        missed = np.linalg.norm(step + sample_map(back, places[-1]), axis=1)
        inside = sample_map(masks[t + 1][..., None] > 0, places[-1])[:, 0] > 0.999
        visible.append(visible[-1] & (missed <= _MISSED) & (meets <= _MISSED) & inside)
    track = np.concatenate([np.stack(places), np.stack(visible)[..., None]], axis=-1).astype(np.float32)
    return replace(clip, tracks={**clip.tracks, "surface": track})


def true_background(clip: Clip) -> np.ndarray:
    """Median of each pixel over the frames in which the mask is off there (all frames if it never is); H x W x 3."""
    frames, mask = np.asarray(clip.frames), clip.tracks["mask"] > 0
    off = np.where((mask & ~mask.all(axis=0))[..., None], np.nan, frames.astype(np.float32))
    return np.nanmedian(off, axis=0).round().astype(np.uint8)


def _compare(clip: Clip, truth: np.ndarray, instrument: Instrument) -> np.ndarray:
    """Error, confidence, way moved, and whether the frame is the last, of every visible place after the first."""
    truth = truth[:, None] if truth.ndim == 2 else truth
    height, width = clip.frames.shape[1:3]
    places = truth[..., :2]
    visible = np.asarray(((places >= 0) & (places <= (width - 1, height - 1))).all(-1))  # NaN is not
    if truth.shape[2] == 3:
        visible &= truth[..., 2] > 0
    places, visible = places[:, visible[0]], visible[1:, visible[0]]
    if visible.size == 0:
        return np.zeros((4, 0))
    found, confidence = instrument(clip, places[0])
    error = np.linalg.norm(found - places, axis=-1)[1:]
    moved = np.linalg.norm(places - places[0], axis=-1)[1:]
    last = np.zeros(error.shape)
    last[-1] = 1
    error = np.where(np.isfinite(error), error, np.inf)  # no answer is not a right one
    return np.stack([values[visible] for values in (error, confidence[1:], moved, last)])


def _quantile(values: np.ndarray, share: float) -> float:
    # `lower`, since there is nothing between a number and infinity.
    return float(np.quantile(values, share, method="lower")) if len(values) else float("nan")


def _carried(centres: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts that move with a centre, and confidence 1 where it is known."""
    places = starts + (centres - centres[0])[:, None]
    return places, np.isfinite(places[..., 0]).astype(np.float32)
