"""The 68 landmarks of a face (iBUG, dlib) in pictures, by MediaPipe's face mesh, or from a file.

Optional: `make pose` installs mediapipe 0.10.21, whose wheel contains the model. It runs offline. The landmarks are
estimates. Which points of the mesh stand for the 68 is the table of github.com/PeizhiYan/Mediapipe_2_Dlib_Landmarks
(MIT); where it names two, their middle is taken.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stillmotion.errors import StillmotionError
from stillmotion.files import load_array, read_json
from stillmotion.morphable.fitting import check_landmarks

_JAW = (127, 234, 93, (132, 58), (58, 172), 136, 150, 176, 152, 400, 379, 365, (397, 288), 361, 323, 454, 356)
_BROWS = (70, 63, 105, 66, 107, 336, 296, 334, 293, 300)
_NOSE = ((168, 6), (197, 195), 5, 4, 75, 97, 2, 326, 305)
_EYES = (33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380)
_LIPS = (61, 39, 37, 0, 267, 269, 291, 321, 314, 17, 84, 91, 78, 82, 13, 312, 308, 317, 14, 87)
_PAIRS = np.array(
    [each if isinstance(each, tuple) else (each, each) for each in _JAW + _BROWS + _NOSE + _EYES + _LIPS]
)
# The detector expects a face that does not fill the picture, and larger pictures than the clips here.
_MARGIN, _SIDE = 0.25, 448


def find_landmarks(frames: np.ndarray, tracking: bool = True) -> np.ndarray:
    """The landmarks of one face in every frame; gaps are filled linearly in time.

    Args:
        frames: `uint8`, T x H x W x 3; or one picture, H x W x 3.
        tracking: start each frame from the one before; otherwise every frame is searched by itself, which is slower.

    Returns:
        `float32`, T x 68 x 2, (x, y) in pixels, possibly outside of the picture.

    Raises:
        StillmotionError: mediapipe is not installed, or no face is found in any frame.
    """
    return fill_landmarks(detect_landmarks(frames[None] if frames.ndim == 3 else frames, tracking))


def detect_landmarks(frames: np.ndarray, tracking: bool = True) -> np.ndarray:
    """The landmarks of one face in each frame, T x 68 x 2; NaN where no face is found.

    Args:
        frames: `uint8`, T x H x W x 3.
        tracking: see `find_landmarks`.

    Raises:
        StillmotionError: mediapipe is not installed.
    """
    found = np.full((len(frames), len(_PAIRS), 2), np.nan, np.float32)
    with _detector(tracking and len(frames) > 1) as detector:
        for t, frame in enumerate(frames):
            mesh = _mesh(detector, frame)
            if mesh is not None:
                found[t] = mesh[_PAIRS].mean(1)
    return found


def fill_landmarks(found: np.ndarray) -> np.ndarray:
    """Landmarks with gaps, T x 68 x 2 with frames of NaN, filled linearly in time.

    Raises:
        StillmotionError: all frames are NaN.
    """
    seen = np.flatnonzero(~np.isnan(found[:, 0, 0]))
    if len(seen) == 0:
        raise StillmotionError("No face is found in any frame: give its 68 landmarks, or another picture.")
    times, flat = np.arange(len(found)), found.reshape(len(found), -1)
    filled = np.stack([np.interp(times, seen, column) for column in flat[seen].T], 1)
    return filled.reshape(found.shape).astype(np.float32)


def read_landmarks(path: Path) -> np.ndarray:
    """Landmarks from a .npy file or a JSON list, T x 68 x 2 or 68 x 2, (x, y) in pixels: T x 68 x 2.

    Raises:
        StillmotionError: the file cannot be read, or its numbers are no landmarks.
    """
    values = load_array(path, "The file of landmarks") if path.suffix.lower() == ".npy" else read_json(path)
    try:
        return check_landmarks(np.asarray(values, float))
    except StillmotionError as error:  # one of its bases is ValueError
        raise StillmotionError(f"{path}: {error}") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise StillmotionError(f"{path} is not a list of 68 points (x, y) per frame.") from error


@contextlib.contextmanager
def _detector(tracking: bool) -> Iterator[Any]:
    try:
        with _quiet():
            from mediapipe.python.solutions.face_mesh import FaceMesh
    except ImportError as error:
        raise StillmotionError("Finding faces needs mediapipe 0.10.21: run `make pose` first.") from error
    with (
        _quiet(),
        FaceMesh(static_image_mode=not tracking, max_num_faces=1, min_detection_confidence=0.3) as detector,
    ):
        yield detector


def _mesh(detector: Any, frame: np.ndarray) -> np.ndarray | None:
    """The 468 points of the mesh as (x, y) in the frame's own pixels; None where no face is found."""
    import cv2  # here, so that landmarks from a file are read without OpenCV

    pad = round(_MARGIN * max(frame.shape[:2]))
    padded = cv2.copyMakeBorder(frame, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    factor = max(1.0, _SIDE / max(padded.shape[:2]))
    found = detector.process(cv2.resize(padded, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC))
    if not found.multi_face_landmarks:
        return None
    high, wide = padded.shape[:2]
    # Fractions of the padded picture, whose first pixel's centre is at -pad in the frame.
    points = found.multi_face_landmarks[0].landmark
    return np.array([(point.x * wide - 0.5 - pad, point.y * high - 0.5 - pad) for point in points])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress what mediapipe's C++ prints on standard error."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
