"""Optical flow and boxes of what moves, without learned weights.

`boxes` assumes a static camera and `flow` small steps between frames. `trackers` names these and the others.
"""

from __future__ import annotations

import cv2
import numpy as np

# The patches of DIS are 8 pixels wide: smaller pictures are enlarged to this side, or their objects are too
# small.
_FLOW_SIDE, _MOST_ENLARGED = 256, 4
# The background is the median of at most so many frames.
_BACKGROUND_FRAMES = 64
# Differences below this are compression and camera noise in 8-bit video.
_LEAST_DIFFERENCE = 16.0
_SMOOTHED_FRAMES = 5


def flow(frames: np.ndarray, fps: float = 0.0) -> np.ndarray:
    """Estimate forward optical flow between neighbouring frames (OpenCV's DIS, medium preset).

    Args:
        frames: `uint8`, T x H x W x 3.
        fps: not used; every tracker takes it.

    Returns:
        `float16`, (T - 1) x H x W x 2: the pixel (x, y) of frame t is at (x + dx, y + dy) in frame t + 1.
    """
    height, width = frames.shape[1:3]
    factor = min(_MOST_ENLARGED, max(1, -(-_FLOW_SIDE // min(height, width))))
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    found = np.zeros((len(frames) - 1, height, width, 2), np.float16)
    before = _enlarged_grey(frames[0], factor)
    for t, frame in enumerate(frames[1:]):
        after = _enlarged_grey(frame, factor)
        large = estimator.calc(before, after, None)  # type: ignore[call-overload]
        found[t] = cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA) / factor
        before = after
    return found


def flow_backward(frames: np.ndarray, fps: float = 0.0) -> np.ndarray:
    """Estimate backward optical flow as `flow` does: entry t is from frame t + 1 to frame t; (T - 1) x H x W x 2."""
    return flow(frames[::-1], fps)[::-1]


def boxes(frames: np.ndarray, fps: float = 0.0) -> np.ndarray:
    """Detect what moves in every frame, before a static background.

    What differs from the clip's median picture is moving; the box is a running median over 5 frames. An object
    that rests for more than half of the clip becomes background.

    Args:
        frames: `uint8`, T x H x W x 3.
        fps: not used; every tracker takes it.

    Returns:
        `float32`, T x 4: (x0, y0, x1, y1), the centres of the outermost pixels; the whole picture if nothing
        moves; linearly interpolated where nothing is detected between two frames with a box.
    """
    height, width = frames.shape[1:3]
    chosen = np.linspace(0, len(frames) - 1, min(len(frames), _BACKGROUND_FRAMES)).round().astype(int)
    background = np.median(frames[chosen], axis=0).astype(np.float32)
    found = np.full((len(frames), 4), np.nan, np.float32)
    for t, frame in enumerate(frames):
        box = _moving_box(np.abs(frame - background).max(axis=2))
        if box is not None:
            found[t] = box
    seen = np.flatnonzero(~np.isnan(found[:, 0]))
    if len(seen) == 0:
        return np.tile(np.array([0, 0, width - 1, height - 1], np.float32), (len(frames), 1))
    times = np.arange(len(frames))
    filled = np.column_stack([np.interp(times, seen, found[seen, i]) for i in range(4)])
    return running_median(filled, _SMOOTHED_FRAMES).astype(np.float32)


def _enlarged_grey(frame: np.ndarray, factor: int) -> np.ndarray:
    grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
    if factor == 1:
        return grey
    return cv2.resize(grey, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)


def _moving_box(difference: np.ndarray) -> tuple[int, int, int, int] | None:
    """The box around the large connected components of what differs by more than the noise."""
    noise = 1.4826 * float(np.median(difference))
    mask = (difference > max(_LEAST_DIFFERENCE, 4 * noise)).astype(np.uint8)
    # Opening by 2 x 2 removes specks and keeps thin limbs. An even kernel needs opposite anchors, or the mask shifts.
    kernel = np.ones((2, 2), np.uint8)
    opened = cv2.dilate(cv2.erode(mask, kernel, anchor=(0, 0)), kernel, anchor=(1, 1))
    count, _, statistics, _ = cv2.connectedComponentsWithStats(opened, connectivity=8)
    if count < 2:
        return None
    parts = statistics[1:]
    parts = parts[parts[:, cv2.CC_STAT_AREA] >= 0.2 * parts[:, cv2.CC_STAT_AREA].max()]
    left, top = parts[:, cv2.CC_STAT_LEFT], parts[:, cv2.CC_STAT_TOP]
    right, bottom = left + parts[:, cv2.CC_STAT_WIDTH] - 1, top + parts[:, cv2.CC_STAT_HEIGHT] - 1
    return int(left.min()), int(top.min()), int(right.max()), int(bottom.max())


def running_median(values: np.ndarray, size: int) -> np.ndarray:
    """Median over `size` neighbours in time (the first axis); near the ends over as many as are on both sides."""
    smooth = np.empty_like(values)
    for t in range(len(values)):
        reach = min(size // 2, t, len(values) - 1 - t)
        smooth[t] = np.median(values[t - reach : t + reach + 1], axis=0)
    return smooth
