"""What a person gives beside the still: frozen dataclasses that check themselves.

Coordinates are pixels of the picture the person gave; the systems scale them with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from stillmotion.boxes import Box, check_box
from stillmotion.errors import StillmotionError

Transfer = Literal["relative", "absolute"]
Align = Literal["first", "best"]
Spacing = Literal["time", "even"]


@dataclass(frozen=True, eq=False)
class Drive:
    """Follow a driving video.

    Attributes:
        video: a file or folder that `media.open_video` reads, or frames, T x H x W x 3, `uint8` RGB.
        transfer: `relative` moves the still's keypoints as the driving ones move from the first driving frame;
            `absolute` puts them where the driving ones are (a reconstruction, if the still is the first frame).
        fps: frames per second of frames given as an array; None means 25. A file knows its own.
        scale_motion: relative transfer only: scale the motion by the size of the still's body over the driver's
            (square root of the ratio of the keypoints' hull areas; the release's `movement_mult`).
        clip: relative transfer only: keep keypoints inside the picture (the release's `clip_mean`).
        adapt_covariance: relative transfer only: carry over how the driver's covariances change instead of
            the covariances themselves (the release's `adapt_variance`).
        align: relative transfer only: motion counts from the `first` driving frame, or from the one whose pose is the
            `best` match of the still's; then the first frame made is no longer the still.
        keep_background: what is background in the still and in a frame keeps the still's own pixels.
        region: only the keypoints in this part of the still move, and nothing far from it; (x, y, width, height) in
            pixels of the still given.
        crop: animate this part of the still, (x, y, width, height) in its pixels, or `auto`: the part in which the
            body has the size and place of the driver's. The animation has the size of the part.

    Raises:
        StillmotionError: the video is neither a path nor frames, or an option has no such value.
    """

    video: str | Path | np.ndarray
    transfer: Transfer = "relative"
    fps: float | None = None
    scale_motion: bool = False
    clip: bool = False
    adapt_covariance: bool = False
    align: Align = "first"
    keep_background: bool = False
    region: Box | None = None
    crop: Box | Literal["auto"] | None = None

    def __post_init__(self) -> None:
        if self.transfer not in get_args(Transfer):
            raise StillmotionError(f"transfer must be relative or absolute, not {self.transfer!r}.")
        if self.align not in get_args(Align):
            raise StillmotionError(f"align must be first or best, not {self.align!r}.")
        if self.region is not None:
            check_box("region", self.region)
        if self.crop is not None and self.crop != "auto":
            check_box("crop", self.crop)
        _check_fps(self.fps)
        _check_video(self.video)


def _check_fps(fps: float | None) -> None:
    if fps is not None and not (np.isfinite(fps) and fps > 0):
        raise StillmotionError(f"fps must be above 0, not {fps}.")


def _check_video(video: Any) -> None:
    """Refuse what is neither a path nor frames, T x H x W x 3 `uint8`."""
    if isinstance(video, np.ndarray):
        if video.ndim != 4 or video.shape[3] != 3 or video.dtype != np.uint8:
            raise StillmotionError(
                f"Driving frames must be uint8, T x H x W x 3, not {video.dtype} {video.shape}; convert them first."
            )
        if min(video.shape[:3]) < 1:
            raise StillmotionError("The driving video has no frames; give at least one.")
    elif not isinstance(video, str | Path):
        raise StillmotionError(f"A driving video is a path or an array of frames, not {type(video).__name__}.")


@dataclass(frozen=True)
class Predict:
    """No direction: the model continues the still as its training clips went on (image-to-video translation).

    Only a model that was trained with a predictor can.

    Attributes:
        frames: how many frames to make; the first is the still.
        fps: frames per second; those of the training clips, if the motion is to have their speed.

    Raises:
        StillmotionError: a number is out of range.
    """

    frames: int = 32
    fps: float = 25.0

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise StillmotionError(f"frames must be at least 1, not {self.frames}.")
        _check_fps(self.fps)


_MOST_POINTS, _MOST_BYTES = 10_000, 1_000_000
_MOST = 1e6
"""Pixels and seconds: nothing is so large or so long, and sums of what lies beyond lose their precision."""


@dataclass(frozen=True, eq=False)
class Stroke:
    """Follow a drawn path: the object that it starts on goes along it.

    Attributes:
        points: N x 2, (x, y) in pixels of the still given; at least two.
        times: the second at which each point is reached, rising; None: one equal step of time between neighbours.
        spacing: `time` goes from point to point as the times say, so that dense points are slow; `even` goes the
            whole way at one speed.
        attach: shift the whole stroke so that it starts at the centre of the object found in the still.
        fps: frames per second; None: those of the clips that the model learned from.

    Raises:
        StillmotionError: too few or too many points, times that do not rise or do not fit, what is no number or
            beyond a million, or an option that has no such value.
    """

    points: np.ndarray | Sequence[Sequence[float]]
    times: np.ndarray | Sequence[float] | None = None
    spacing: Spacing = "time"
    attach: bool = False
    fps: float | None = None

    def __post_init__(self) -> None:
        points = _numbers("points", self.points)
        if points.ndim != 2 or points.shape[1] != 2:
            raise StillmotionError(f"A stroke's points must be N x 2, (x, y) each, not {points.shape}.")
        if not 2 <= len(points) <= _MOST_POINTS:
            raise StillmotionError(
                f"A stroke has 2 to {_MOST_POINTS} points, not {len(points)}; to rest, give the same point twice."
            )
        times = None
        if self.times is not None:
            times = _numbers("times", self.times)
            if times.shape != (len(points),):
                raise StillmotionError(f"A stroke of {len(points)} points needs as many times, not {times.shape}.")
            if not (np.diff(times) > 0).all():
                raise StillmotionError("A stroke's times must rise from point to point.")
        _check_spacing(self.spacing)
        _check_fps(self.fps)
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "times", times)


@dataclass(frozen=True, eq=False)
class StrokeFrom:
    """Follow the path of the moving thing in another video.

    The video is laid over the still, as large as fits and centred, and its path is the stroke: a point per frame.

    Attributes:
        video: a file or folder that `media.open_video` reads, or frames, T x H x W x 3, `uint8` RGB.
        spacing: `time` keeps the thing's speed, `even` goes the whole way at one speed.
        attach: shift the whole stroke so that it starts at the centre of the object found in the still.
        fps: frames per second; None: the video's own, 25 of frames given as an array.
        tracker: what finds the moving thing: `points`, or another tracker of that track (docs/data.md), e.g.
            `points:person` or `points:patch=FOLDER`.

    Raises:
        StillmotionError: the video is neither a path nor frames, or an option has no such value.
    """

    video: str | Path | np.ndarray
    spacing: Spacing = "time"
    attach: bool = False
    fps: float | None = None
    tracker: str = "points"

    def __post_init__(self) -> None:
        _check_spacing(self.spacing)
        _check_fps(self.fps)
        _check_video(self.video)


def resample(stroke: Stroke, frames: int) -> np.ndarray:
    """The place on a stroke in each of `frames` frames, the first at its start and the last at its end.

    Args:
        stroke: the stroke.
        frames: how many, at least 1.

    Returns:
        frames x 2, `float64`, pixels as the stroke's. With `time`, frames are equal steps of time; with `even`, of
        the way. A stroke without times that has as many points as there are frames is given back as it is.
    """
    if frames < 1:
        raise ValueError(f"frames must be at least 1, not {frames}.")
    points = np.asarray(stroke.points)
    if stroke.spacing == "even":
        steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
        # A point on its predecessor takes no part: the place on the way must rise for the interpolation.
        points = points[np.concatenate([[True], steps > 0])]
        reached = np.concatenate([[0.0], np.cumsum(steps[steps > 0])])
    else:
        reached = np.arange(len(points)) if stroke.times is None else np.asarray(stroke.times)
    at = np.linspace(reached[0], reached[-1], frames)
    return np.stack([np.interp(at, reached, points[:, axis]) for axis in (0, 1)], axis=1)


def frame_count(stroke: Stroke, fps: float, least: int) -> int:
    """How many frames a stroke asks for: its seconds at `fps`; without times, one per point but at least `least`."""
    if stroke.times is None:
        return max(len(stroke.points), least)
    return max(2, round((stroke.times[-1] - stroke.times[0]) * fps) + 1)


def read_stroke(
    given: str | Path, *, spacing: Spacing = "time", attach: bool = False, fps: float | None = None
) -> Stroke:
    """Make a stroke from text or a file.

    Args:
        given: `x,y x,y ...`, or the path of a JSON file, `{"points": [[x, y], ...], "times": [seconds, ...]}`, in
            which the times may be left out.
        spacing: see `Stroke`.
        attach: see `Stroke`.
        fps: see `Stroke`.

    Raises:
        StillmotionError: it is neither, the file is missing, too large or no such JSON, or a value cannot be used.
    """
    text = re.sub(r"\s*,\s*", ",", str(given).strip())
    if re.fullmatch(rf"{_POINT}(\s+{_POINT})*", text):
        points = [[float(number) for number in pair.split(",")] for pair in text.split()]
        return Stroke(points, None, spacing, attach, fps)
    if not str(given).endswith(".json"):
        raise StillmotionError(
            f"The stroke {str(given)!r} must be points like '10,20 40,35', or a file whose name ends in .json."
        )
    stored = _read_points(Path(given))
    return Stroke(stored["points"], stored.get("times"), spacing, attach, fps)


_NUMBER = r"[-+]?\d{1,7}(\.\d{0,9})?"
_POINT = f"{_NUMBER},{_NUMBER}"


def _read_points(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise StillmotionError(f"The file {path} does not exist.") from error
    except OSError as error:
        raise StillmotionError(f"The file {path} cannot be read ({error.strerror}).") from error
    if len(content) > _MOST_BYTES:
        raise StillmotionError(f"The file {path} is larger than {_MOST_BYTES} bytes; draw with fewer points.")
    try:
        stored = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise StillmotionError(f"The file {path} is not readable JSON ({error}).") from error
    if not isinstance(stored, dict) or "points" not in stored or set(stored) - {"points", "times"}:
        raise StillmotionError(f'The file {path} must read {{"points": [[x, y], ...], "times": [seconds, ...]}}.')
    return stored


def _numbers(name: str, values: Any) -> np.ndarray:
    """A new, read-only `float64` array."""
    try:
        array = np.array(values)  # lists of different lengths raise
        numbers = array.astype(np.float64) if array.dtype.kind in "fiu" else None
    except (TypeError, ValueError, OverflowError):
        numbers = None
    if numbers is None or not (np.abs(numbers) <= _MOST).all():  # False for NaN too
        raise StillmotionError(f"A stroke's {name} must be numbers from {-_MOST:.0f} to {_MOST:.0f}, in even rows.")
    numbers.flags.writeable = False
    return numbers


def _check_spacing(spacing: str) -> None:
    if spacing not in get_args(Spacing):
        raise StillmotionError(f"spacing must be time or even, not {spacing!r}.")


Control = Drive | Predict | Stroke | StrokeFrom
"""Any control; grows with the systems."""
