"""The track `points`: the place of one moving object in every frame, with a confidence.

A detector finds a box in each frame; a tracker follows one point through all frames. In the track, frames with a
confidence below 1/2 are NaN, since the paper of motion strokes drops them. Three kinds of trackers:

* the centres of a detector's boxes: `detect_moving_object` needs no weights, `detect_person` is BlazePose;
* a patch that is matched from frame to frame (`patches`);
* a tracker of OpenCV that starts from the moving object's box.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from stillmotion.data.pose import find_joints
from stillmotion.data.tracks import detect_moving_object, running_median
from stillmotion.errors import StillmotionError

PointTracker = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From frames (`uint8`, T x H x W x 3) to places (`float32`, T x 2, (x, y) in pixels) and confidences (T, 0 to 1).
A place is NaN where nothing is found, and unreliable below `MIN_CONFIDENCE`."""

BoxDetector = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From frames to boxes of one object, T x 4 (x0, y0, x1, y1 in pixels, NaN where there is none), and confidences."""

MIN_CONFIDENCE = 0.5  # frames below it are dropped

_MEDIAN_FRAMES = 3
_SMOOTHING = (0.25, 0.5, 0.25)
# A person's box reaches beyond the joints: the crown above the head's middle, the feet below the ankles.
_HEAD_ABOVE, _FEET_BELOW = 0.09, 0.05


def detect_person(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Detect one person per frame: the box of BlazePose's joints, with their mean visibility as the confidence.

    Raises:
        StillmotionError: mediapipe is not installed.
    """
    return boxes_of_joints(find_joints(frames))


def boxes_of_joints(joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The person's box around the joints that are there, with the mean visibility of all as the confidence.

    Args:
        joints: T x K x 3, (x, y, visibility) in pixels; a joint with visibility 0 or NaN is not there.
    """
    seen = np.greater(joints[..., 2], 0)  # T x K
    low = np.where(seen[:, :, None], joints[..., :2], np.inf).min(axis=1)
    high = np.where(seen[:, :, None], joints[..., :2], -np.inf).max(axis=1)
    found = np.where(seen.any(axis=1, keepdims=True), np.concatenate([low, high], axis=1), np.nan).astype(np.float32)
    tall = found[:, 3] - found[:, 1]
    found[:, 1] -= _HEAD_ABOVE * tall
    found[:, 3] += _FEET_BELOW * tall
    return found, np.nan_to_num(joints[..., 2]).mean(axis=1)


def tracker_from_detector(detector: BoxDetector) -> PointTracker:
    """Make a tracker from a detector: the centres of its boxes, a median over 3 and a mean over 3 frames."""

    def track(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found, confidence = detector(frames)
        return smooth_path((found[:, :2] + found[:, 2:]) / 2, confidence), confidence

    return track


def smooth_path(places: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """Smooth a path (T x 2) in time; frames with a low confidence neither contribute nor change."""
    reliable = (confidence >= MIN_CONFIDENCE) & np.isfinite(places).all(axis=1)
    smooth = places.astype(np.float32).copy()
    # Runs of neighbouring frames: nothing is smoothed across a gap.
    for run in np.split(np.flatnonzero(reliable), np.flatnonzero(np.diff(np.flatnonzero(reliable)) > 1) + 1):
        if len(run) >= 3:
            path = running_median(smooth[run], _MEDIAN_FRAMES)
            path[1:-1] = _SMOOTHING[0] * path[:-2] + _SMOOTHING[1] * path[1:-1] + _SMOOTHING[2] * path[2:]
            smooth[run] = path
    return smooth


def drop_uncertain(places: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """Places (... x 2) with NaN where the confidence (...) is below `MIN_CONFIDENCE`, `float32`."""
    return np.where((confidence >= MIN_CONFIDENCE)[..., None], places, np.nan).astype(np.float32)


def fill_gaps(points: np.ndarray) -> np.ndarray:
    """Interpolate a track: linearly between known points, constant before the first and after the last.

    Args:
        points: T x 2, NaN where unknown.

    Raises:
        StillmotionError: no point is known.
    """
    known = np.flatnonzero(np.isfinite(points).all(axis=1))
    if len(known) == 0:
        raise StillmotionError("Nothing that moves is found in any frame: draw the stroke by hand.")
    times = np.arange(len(points))
    return np.column_stack([np.interp(times, known, points[known, axis]) for axis in range(2)]).astype(np.float32)


track_moving_object = tracker_from_detector(detect_moving_object)
"""Tracks the centre of the moving object's box, seen by a camera that is static or translates."""

OPENCV_TRACKERS = ("csrt", "kcf", "mil")
"""The trackers of OpenCV that need no network file, by the name after `points:tracker=`."""

_TRACKER_SIDE = 256  # CSRT and KCF need objects of some tens of pixels


def opencv_tracker(name: str = "csrt") -> PointTracker:
    """Make a tracker from one of OpenCV's, which follows the moving object's box forwards and backwards in time.

    Args:
        name: one of `OPENCV_TRACKERS`.

    Raises:
        StillmotionError: no such tracker, or this build of OpenCV lacks it.
    """
    if name not in OPENCV_TRACKERS:
        raise StillmotionError(f"There is no tracker {name!r} of OpenCV: choose from {', '.join(OPENCV_TRACKERS)}.")
    kind: Any = getattr(cv2, f"Tracker{name.upper()}", None)
    if kind is None:
        raise StillmotionError(f"This OpenCV lacks the tracker {name!r}: install opencv-contrib-python-headless.")

    def track(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found, sure = detect_moving_object(frames)
        places = np.full((len(frames), 2), np.nan, np.float32)
        confidence = np.zeros(len(frames), np.float32)
        if sure.max(initial=0) < MIN_CONFIDENCE:
            return places, confidence
        start = int(sure.argmax())
        for times in (range(start, len(frames)), range(start, -1, -1)):
            for t, box in zip(times, _followed(kind.create(), frames[list(times)], found[start]), strict=False):
                places[t], confidence[t] = (box[:2] + box[2:]) / 2, 1.0
        return smooth_path(places, confidence), confidence

    return track


def _followed(tracker: Any, frames: np.ndarray, box: np.ndarray) -> list[np.ndarray]:
    """Boxes of the object at `box` in one frame after the other, until the tracker loses it."""
    scale = max(1.0, _TRACKER_SIDE / min(frames.shape[1:3]))
    size = (round(frames.shape[2] * scale), round(frames.shape[1] * scale))
    found = [box]
    for t, frame in enumerate(frames):
        large = cv2.resize(np.ascontiguousarray(frame[..., ::-1]), size, interpolation=cv2.INTER_LINEAR)
        if t == 0:
            # The outer edges of the box's pixels, as OpenCV wants: x, y, width, height.
            x0, y0, x1, y1 = np.array([*(box[:2] - 0.5), *(box[2:] + 0.5)]) * scale + 0.5 * scale
            tracker.init(large, (round(x0), round(y0), max(2, round(x1 - x0)), max(2, round(y1 - y0))))
            continue
        tracked, (x, y, width, height) = tracker.update(large)
        if not tracked:
            break
        found.append(np.array([x, y, x + width, y + height]) / scale - np.array([0, 0, 1, 1]))
    return found
