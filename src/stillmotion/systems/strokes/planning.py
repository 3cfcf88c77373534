"""From a control to a place per frame: strokes resampled, attached to the object, taken from another video."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from stillmotion import media
from stillmotion.controls import Stroke, StrokeFrom, frame_count, resample
from stillmotion.errors import StillmotionError
from stillmotion.data.object_detection import ObjectDetector

MOST_FRAMES = 100_000
"""The longest animation; it is streamed, so only patience limits it."""

_SEEN_SIDE = 128
"""The moving thing is looked for in frames whose longer side has at most so many pixels."""


@dataclass(frozen=True)
class Plan:
    """Where the object is to be in every frame.

    Attributes:
        points: T x 2, (x, y) in pixels of the still; the first frame is the still itself.
        shift: (dx, dy), by how much the stroke was moved to attach it; zero if it was not.
    """

    points: np.ndarray
    shift: np.ndarray

    def leaves(self, size: tuple[int, int]) -> str | None:
        """One sentence if the stroke leaves a picture of (height, width), otherwise None."""
        height, width = size
        outside = ((self.points < -0.5) | (self.points > (width - 0.5, height - 0.5))).any(axis=1)
        if not outside.any():
            return None
        first = int(outside.argmax())
        x, y = self.points[first]
        return (
            f"The stroke leaves the picture at frame {first} (x {x:.0f}, y {y:.0f} where the still is {width} x "
            f"{height} pixels) and is held at its border there, {int(outside.sum())} frames in all; draw it inside."
        )

    def inside(self, size: tuple[int, int]) -> np.ndarray:
        """The points, T x 2, those outside a picture of (height, width) at its nearest pixel."""
        return np.clip(self.points, 0, (size[1] - 1, size[0] - 1))


def rate(control: Stroke | StrokeFrom, default: float) -> float:
    """Frames per second: the control's own, the video's, or the default."""
    if control.fps is not None:
        return control.fps
    if isinstance(control, Stroke):
        return default
    if isinstance(control.video, np.ndarray):
        return 25.0
    with media.open_video(control.video) as reader:
        return reader.fps


def make_plan(
    still: np.ndarray,
    control: Stroke | StrokeFrom,
    frames: int | None,
    *,
    fps: float,
    least: int,
    finder: ObjectDetector,
) -> Plan:
    """Say where the object is to be in every frame.

    Args:
        still: H x W x 3, `uint8`.
        control: the stroke, or the video to take it from.
        frames: how many, the whole stroke spread over them; None lets the control decide.
        fps: frames per second, for strokes with times.
        least: frames of a stroke that has neither times nor so many points.
        finder: finds the object, for strokes that are to be attached to it.

    Raises:
        StillmotionError: too many frames, no object to attach to, or a video in which nothing moves.
    """
    size = (still.shape[0], still.shape[1])
    if isinstance(control, StrokeFrom):
        stroke = stroke_from(control, size)
        least = 2  # a point per frame of the video
    else:
        stroke = control
    count = frame_count(stroke, fps, least) if frames is None else frames
    if count > MOST_FRAMES:
        raise StillmotionError(
            f"The stroke asks for {count} frames, more than {MOST_FRAMES}; say fewer with --frames."
        )
    # A stroke spread over one frame is its start; the networks draw strokes of two points or more.
    points = resample(stroke, max(count, 2))[:count]
    shift = np.zeros(2)
    if control.attach:
        box = finder(still, (float(points[0, 0]), float(points[0, 1])))
        if box is None:
            raise StillmotionError(
                "No object stands out from the still's border, so the stroke cannot be attached to one; start the "
                "stroke on the object and leave attach out."
            )
        shift = (np.array(box[:2]) + np.array(box[2:])) / 2 - points[0]
    return Plan(points + shift, shift)


def stroke_from(control: StrokeFrom, size: tuple[int, int]) -> Stroke:
    """The path of the moving thing in a video, in pixels of a still of (height, width): a point per frame.

    Raises:
        StillmotionError: the video cannot be read, has one frame, nothing moves in it, or there is no such tracker.
    """
    from stillmotion.data.points import bridged  # these need OpenCV
    from stillmotion.data.trackers import find_tracker

    track, tracker = find_tracker(control.tracker)
    if track != "points":
        raise StillmotionError(f"The tracker {control.tracker!r} makes {track}, not points; a stroke needs points.")
    frames = np.stack(list(_seen(control.video)))
    if len(frames) < 2:
        raise StillmotionError("The video to take the stroke from has one frame; it needs two or more.")
    places = bridged(tracker(frames, 0.0))
    points = laid_over(places.astype(np.float64), (frames.shape[1], frames.shape[2]), size)
    return Stroke(points, spacing=control.spacing)


def laid_over(points: np.ndarray, video: tuple[int, int], still: tuple[int, int]) -> np.ndarray:
    """Points of a video in pixels of a still over which it is laid, as large as fits and centred.

    Args:
        points: T x 2, pixels of the video.
        video: (height, width) of its frames.
        still: (height, width).

    Returns:
        T x 2. Pictures are aligned by their outer edges, as when they are resized.
    """
    scale = min(still[0] / video[0], still[1] / video[1])
    margin = (np.array(still[::-1]) - scale * np.array(video[::-1])) / 2
    return (points + 0.5) * scale + margin - 0.5


def _seen(video: object) -> Iterator[np.ndarray]:
    """The frames, small."""
    if isinstance(video, np.ndarray):
        yield from map(_small, video)
        return
    with media.open_video(video) as reader:  # type: ignore[arg-type]
        yield from map(_small, reader)


def _small(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    scale = min(1.0, _SEEN_SIDE / max(height, width))
    return media.resize(frame, (max(1, round(height * scale)), max(1, round(width * scale))))
