"""Trackers by name: what `prepare --tracks` runs on the finished frames of a clip."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from stillmotion.data.patches import patch_tracker, read_references
from stillmotion.data.points import (
    PointTracker,
    detect_person,
    drop_uncertain,
    opencv_tracker,
    track_moving_object,
    tracker_from_detector,
)
from stillmotion.data.pose import joints
from stillmotion.data.tracks import boxes, flow, flow_backward
from stillmotion.errors import StillmotionError

Tracker = Callable[[np.ndarray, float], np.ndarray]  # from frames (`uint8`, T x H x W x 3) and their rate to a track


def _points(tracker: PointTracker) -> Tracker:
    def track(frames: np.ndarray, fps: float = 0.0) -> np.ndarray:
        return drop_uncertain(*tracker(frames))

    return track


TRACKERS: Mapping[str, Callable[[str], Tracker]] = {
    "flow": lambda value: flow,
    "flow_forward": lambda value: flow,
    "flow_backward": lambda value: flow_backward,
    "boxes": lambda value: boxes,
    "points": lambda value: _points(track_moving_object),
    "points:patch": lambda value: _points(patch_tracker(read_references(Path(value)) if value else ())),
    "points:person": lambda value: _points(tracker_from_detector(detect_person)),
    "points:tracker": lambda value: _points(opencv_tracker(value or "csrt")),
    "joints": lambda value: joints,
}
"""What makes a tracker, given what follows `=` (`points:patch=FOLDER`, `points:tracker=kcf`) or nothing."""

WITH_VALUE = ("points:patch", "points:tracker")


def find_tracker(wanted: str) -> tuple[str, Tracker]:
    """The track's name (what stands before `:`) and the tracker of a key of `TRACKERS`, with its `=VALUE` if any.

    Raises:
        StillmotionError: there is none of this name, or its value cannot be used.
    """
    name, equals, value = wanted.partition("=")
    if name not in TRACKERS:
        raise StillmotionError(f"There is no tracker {name!r}: choose from {', '.join(sorted(TRACKERS))}.")
    if equals and name not in WITH_VALUE:
        raise StillmotionError(f"The tracker {name!r} takes no value: leave {equals + value!r} out.")
    return name.partition(":")[0], TRACKERS[name](value)


def check_trackers(wanted: Sequence[str]) -> None:
    """Raise `StillmotionError` unless every one can be found and no two make the same track."""
    tracks = [find_tracker(name)[0] for name in wanted]
    for track in tracks:
        if tracks.count(track) > 1:
            raise StillmotionError(f"A clip has one track {track!r}: name one tracker for it.")
