"""Joints of people in real frames, estimated by BlazePose, whose weights are in the `mediapipe` wheel.

Optional: `make pose` installs mediapipe 0.10.21, the last version that includes the models. It runs offline. The
joints are estimates: state so wherever they serve for training or as ground truth.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from stillmotion.errors import StillmotionError

_PARTS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
JOINTS = ("head", *(f"{side}_{part}" for part in _PARTS for side in ("left", "right")))
"""The 13 joints of Penn Action, in its order; "left" is the person's own left."""

# Landmarks of BlazePose that stand for each of `JOINTS`; a head is the middle of nose and ears.
_LANDMARKS = ((0, 7, 8), (11,), (12,), (13,), (14,), (15,), (16,), (23,), (24,), (25,), (26,), (27,), (28,))
# The network expects people that do not fill the picture, and larger pictures than the clips here.
_MARGIN, _SIDE = 0.375, 448


def joints(frames: np.ndarray, fps: float = 0.0) -> np.ndarray:
    """Track the joints of one person in a clip, each frame starting from the one before.

    Args:
        frames: `uint8`, T x H x W x 3.
        fps: not used; every tracker takes it.

    Returns:
        `float32`, T x 13 x 3: (x, y) in pixels, possibly outside the picture, and visibility in [0, 1], in the order
        of `JOINTS`. Where nobody is found, places are interpolated linearly in time, with visibility 0.

    Raises:
        StillmotionError: mediapipe is not installed, or nobody is found in any frame.
    """
    return _filled(find_joints(frames))


def find_joints(frames: np.ndarray, tracking: bool = True) -> np.ndarray:
    """Detect the joints of one person in each frame, without filling gaps.

    Args:
        frames: `uint8`, T x H x W x 3; with T = 0 this checks that mediapipe is installed.
        tracking: start each frame from the one before; otherwise every frame is searched independently, which takes
            1.5 times as long.

    Returns:
        `float32`, T x 13 x 3, as `joints`; NaN where nobody is found.

    Raises:
        StillmotionError: mediapipe is not installed.
    """
    found = np.full((len(frames), len(JOINTS), 3), np.nan, np.float32)
    with _detector(tracking) as detector:
        for t, frame in enumerate(frames):
            landmarks = _landmarks(detector, frame)
            if landmarks is not None:
                found[t] = [landmarks[list(those)].mean(0) for those in _LANDMARKS]
    return found


@contextlib.contextmanager
def _detector(tracking: bool) -> Iterator[Any]:
    try:
        with _quiet():
            from mediapipe.python.solutions.pose import Pose
    except ImportError as error:
        raise StillmotionError("Finding joints needs mediapipe 0.10.21: run `make pose` first.") from error
    with (
        _quiet(),
        # "Full", the model in the wheel; "lite" and "heavy" would be downloaded.
        Pose(
            model_complexity=1,
            static_image_mode=not tracking,
            smooth_landmarks=False,
            min_detection_confidence=0.3,
            min_tracking_confidence=0.3,
        ) as detector,
    ):
        yield detector


def _landmarks(detector: Any, frame: np.ndarray) -> np.ndarray | None:
    """The 33 landmarks of one frame as (x, y, visibility), in its own pixels; None if nobody is found."""
    import cv2  # here, so that the names of the joints are known without OpenCV

    height, width = frame.shape[:2]
    pad = round(_MARGIN * max(height, width))
    padded = cv2.copyMakeBorder(frame, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    factor = _SIDE / max(padded.shape[:2])
    found = detector.process(cv2.resize(padded, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC))
    if found.pose_landmarks is None:
        return None
    high, wide = padded.shape[:2]
    # Fractions of the padded picture, whose first pixel's centre is at -pad in the frame.
    return np.array(
        [(p.x * wide - 0.5 - pad, p.y * high - 0.5 - pad, p.visibility) for p in found.pose_landmarks.landmark]
    )


def _filled(found: np.ndarray) -> np.ndarray:
    """Fill frames of NaN, T x 13 x 3: places are interpolated linearly, visibility is 0."""
    seen = np.flatnonzero(~np.isnan(found[:, 0, 0]))
    if len(seen) == 0:
        raise StillmotionError("No person is found in any frame: leave `joints` out for this clip.")
    times, filled = np.arange(len(found)), found.copy()
    for joint in range(found.shape[1]):
        for axis in range(2):
            filled[:, joint, axis] = np.interp(times, seen, found[seen, joint, axis])
    filled[np.isnan(found[..., 2]), 2] = 0.0
    return filled


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress what mediapipe's C++ prints on standard error: a dozen lines of no use to a user."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
