"""Videos in: opened by what the file holds, one frame at a time or whole, at their own rate or resampled.

Frame k of an evenly spaced video stands for the time k / fps. At any other rate, frame k of the result is the last
source frame that began before (k + 1/2) / fps, which repeats some frames and drops others.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import warnings
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from stillmotion.errors import StillmotionWarning
from stillmotion.media.containers import FileType
from stillmotion.media.decoding import DamagedError, TimedFrames, VideoInfo, open_video_file
from stillmotion.media.pictures import PICTURE_TYPES, WHITE, Limits, MediaError, check_fps, file_type, plain_file
from stillmotion.media.sequences import (
    DEFAULT_FPS,
    is_animated,
    is_marked_strip,
    open_animation,
    open_folder,
    open_strip,
)
from stillmotion.media.sound import Sound

_FEW = 4  # frames side by side: a panorama looks like a strip of so many


class VideoReader:
    """The frames of one video, `uint8` H x W x 3 RGB, in order and once; made by `open_video`.

    Frames are decoded as they are asked for. It is an iterator and a context manager that closes the file.

    Attributes:
        fps: frames per second of the frames it yields.
        size: their (height, width).
        length: their number by the file's own account; a damaged file yields fewer.
        sound: what is heard from the first of them on; None where there is none.

    Raises:
        MediaError: while iterating, where the file is damaged; the message says how many frames came before.
    """

    def __init__(
        self,
        frames: Generator[np.ndarray, None, None],
        first: np.ndarray,
        fps: float,
        length: int,
        sound: Sound | None = None,
    ):
        self.fps, self.size, self.length, self.sound = fps, (first.shape[0], first.shape[1]), length, sound
        self._frames = frames
        self._rest: Iterator[np.ndarray] = itertools.chain([first], frames)

    def __iter__(self) -> Iterator[np.ndarray]:
        return self

    def __next__(self) -> np.ndarray:
        return next(self._rest)

    def batches(self, most: int | None = None, size: int = 32) -> Iterator[np.ndarray]:
        """The frames a few at a time, N x H x W x 3; at most `most` in all and `size` at a time."""
        some = itertools.islice(self, most)
        return (np.stack(batch) for batch in iter(lambda: list(itertools.islice(some, size)), []))

    def close(self) -> None:
        """Close the file; no further frames come."""
        self._rest = iter(())
        self._frames.close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_video(
    source: str | Path,
    *,
    fps: float | None = None,
    frame_width: int | None = None,
    resample_fps: float | None = None,
    start: float = 0.0,
    ground: tuple[int, int, int] = WHITE,
    limits: Limits | None = None,
) -> VideoReader:
    """Open a video file, an animated gif, WebP, PNG or AVIF, a strip, or a folder of frames.

    Video files are mp4, mov, m4v, 3gp, webm, mkv, avi, wmv, and MPEG streams (ts, mts, m2ts, mpg). A strip is a
    picture with its frames side by side: any picture that is opened as a video and is not animated. The frames of a
    folder are its pictures in natural order. A file's type is read from its first bytes, not from its ending. Frames
    come as a screen shows them: turned and mirrored as the file says, with square pixels, HDR as SDR
    (`media.display`); transparency in gif, webp and png is composited on white.

    Frames that lie less than half a frame from an even spacing are returned one for one. Others come at the rate they
    have between pauses, in which frames are repeated, or at `resample_fps`, as any video may: frame k is then the
    last one that began before (k + 1/2) / rate.

    Args:
        source: a regular file or a folder on this machine.
        fps: the rate of a strip or folder (default: the one stored in strips written here, else 25); video files keep
            their own.
        frame_width: the width of a strip's frames (default: the one stored, else the height of the strip).
        resample_fps: resample any video to this constant rate.
        start: leave out what comes before this second.
        ground: RGB, behind what is transparent in an animated WebP or PNG.
        limits: sizes and lengths allowed, checked before decoding.

    Raises:
        MediaError: it is missing, no video, damaged from the start, ends before `start`, or exceeds a limit.
    """
    limits = limits or Limits()
    fps = None if fps is None else check_fps(fps)
    resample_fps = None if resample_fps is None else check_fps(resample_fps)
    with contextlib.ExitStack() as stack:
        info, timed = _open_source(source, fps, frame_width, ground, limits, stack)
        stack.callback(timed.close)
        sound = Sound(Path(source), info.begin) if info.has_sound else None
        if start:
            info, timed, skipped = _started(info, timed, start, str(source))
            sound = sound and sound.later(skipped)
        frames: Iterator[np.ndarray]
        if resample_fps is None and info.fps is not None:
            rate, length, frames = info.fps, info.frames, (frame for _, frame in timed)
        else:
            rate = resample_fps or info.nominal_fps
            length, frames = resampled_length(info.end, rate), resample(timed, info.end, rate)
            limits.check_length(str(source), length, info.end)
        checked = _checked(frames, str(source), limits, stack.pop_all())
    first = next(checked, None)
    if first is None:
        raise MediaError(f"The video {str(source)!r} has no frame that can be read; export it again.")
    return VideoReader(checked, first, rate, length, sound)


def open_driver(video: str | Path | np.ndarray, fps: float | None = None, start: float = 0.0) -> VideoReader:
    """Open a video that a still is to follow.

    Args:
        video: as for `open_video`, or frames, `uint8` T x H x W x 3.
        fps: frames per second: a file that has a rate is resampled, so that it lasts as long as before; for frames
            that have none it is their rate (default 25).
        start: it begins at this second.

    Raises:
        MediaError: as `open_video`.

    Warns:
        StillmotionWarning: it has one frame, or is a picture that may not be meant as a strip.
    """
    if isinstance(video, np.ndarray):
        rate = check_fps(fps or DEFAULT_FPS)
        info = VideoInfo(rate, rate, len(video), len(video) / rate, complete=True)
        frames = video[_first_frame(info, start, "given") :] if start else video
        reader = VideoReader((frame for frame in frames[1:]), frames[0], rate, len(frames))
    elif (holds := sniff(video)) == "video":
        reader = open_video(video, resample_fps=fps, start=start)
    else:
        reader = open_video(video, fps=fps, start=start)
        if holds == "picture" and 1 < reader.length <= _FEW and not is_marked_strip(Path(video), Limits()):
            _warn(f"The driver {str(video)!r} is a picture and read as {reader.length} frames side by side.")
    if reader.length == 1 and not isinstance(video, np.ndarray):
        _warn(f"The driver {str(video)!r} is one picture or one frame, so nothing will move; give a video.")
    return reader


def _open_source(
    source: str | Path,
    fps: float | None,
    frame_width: int | None,
    ground: tuple[int, int, int],
    limits: Limits,
    stack: contextlib.ExitStack,
) -> tuple[VideoInfo, TimedFrames]:
    """Open `source` by what it holds; `stack` closes it."""
    if _is_folder(source):
        return open_folder(Path(source), fps, limits)
    path, kind = _known_file(source)
    if kind == "gif" or kind not in PICTURE_TYPES:
        return open_video_file(path, kind, limits, stack)
    if is_animated(path, kind, limits):
        return open_animation(path, limits, ground)
    return open_strip(path, fps, frame_width, limits)


def _warn(sentence: str) -> None:
    warnings.warn(sentence, StillmotionWarning, stacklevel=3)


def _first_frame(info: VideoInfo, start: float, name: str) -> int:
    """The number of the frame at `start` in an evenly spaced video."""
    assert info.fps is not None
    number = round(start * info.fps)
    if not 0 <= number < info.frames:
        raise _too_late(name, info.end, start)
    return number


def _too_late(name: str, end: float, start: float) -> MediaError:
    return MediaError(f"The video {name!r} lasts {end:.2f} seconds, so it cannot begin at {start:g}; begin earlier.")


def _started(info: VideoInfo, timed: TimedFrames, start: float, name: str) -> tuple[VideoInfo, TimedFrames, float]:
    """A video from the frame that is shown at `start` on, and how many seconds are left out.

    Of an evenly spaced video these are whole frames; of others the first frame is shown for the rest of its time.
    """
    if info.fps is not None:
        number = _first_frame(info, start, name)
        skipped, tolerance, frames = number / info.fps, 0.5 / info.fps, info.frames - number
    else:
        if start >= info.end:
            raise _too_late(name, info.end, start)
        skipped, tolerance, frames = start, 1e-6, info.frames
    return replace(info, frames=frames, end=info.end - skipped), _after(timed, skipped, tolerance), skipped


def _after(timed: TimedFrames, begin: float, tolerance: float) -> TimedFrames:
    """Frames from the last that begins by `begin` on; times count from there."""
    held: np.ndarray | None = None
    started = False
    for time, frame in timed:
        if not started and time <= begin + tolerance:
            held = frame
            continue
        if not started and held is not None:
            yield 0.0, held
        held, started = None, True
        yield max(time - begin, 0.0), frame
    if held is not None:
        yield 0.0, held


def _is_folder(source: str | Path) -> bool:
    try:
        return Path(source).is_dir()
    except (OSError, ValueError):
        return False


def _known_file(source: str | Path) -> tuple[Path, FileType]:
    path = plain_file(source)
    kind = file_type(path)
    if kind is None:
        raise MediaError(
            f"{str(source)!r} is not a video or picture that can be read here; convert it to mp4, webm, gif or png."
        )
    return path, kind


def _checked(
    frames: Iterator[np.ndarray], name: str, limits: Limits, files: contextlib.ExitStack
) -> Generator[np.ndarray, None, None]:
    """Pass frames on; check their size and number, report damage as a `MediaError`, and close `files` at the end."""
    count = 0
    size: tuple[int, ...] | None = None
    with files:
        try:
            for frame in frames:
                size = size or frame.shape
                if frame.shape != size:
                    raise MediaError(
                        f"The video {name!r} changes its size after frame {count}; "
                        f"export it again or use --frames {count}."
                    )
                if count >= limits.max_frames:
                    limits.check_length(name, count + 1, 0.0)
                yield frame
                count += 1
        except DamagedError as error:
            if count == 0:
                raise MediaError(f"The video {name!r} is damaged from its first frame; export it again.") from error
            raise MediaError(
                f"The video {name!r} is damaged after frame {count}; export it again or use --frames {count}."
            ) from error


def resample(timed: Iterable[tuple[float, np.ndarray]], end: float, fps: float) -> Iterator[np.ndarray]:
    """Repeat and drop frames to reach a constant rate, holding one frame at a time.

    Args:
        timed: (seconds since the first frame, frame), in order.
        end: when the last frame ends, in seconds since the first frame.
        fps: the rate wanted.
    """
    held: np.ndarray | None = None
    count = 0
    try:
        for time, frame in timed:
            while held is not None and count < _first_index(time, fps):
                yield held
                count += 1
            held = frame
    except DamagedError:
        # How long the last good frame lasts is unknown: it is shown once.
        if held is not None:
            yield held
        raise
    while held is not None and count < resampled_length(end, fps):
        yield held
        count += 1


def resampled_length(end: float, fps: float) -> int:
    """Return how many frames `resample` makes of a video that ends after `end` seconds."""
    return max(1, _first_index(end, fps))


def _first_index(time: float, fps: float) -> int:
    """Return the first k with `time` before (k + 1/2) / fps: the first frame to show what begins at `time`."""
    return math.floor(time * fps + 0.5 + 1e-6)


def read_video(
    source: str | Path,
    *,
    max_frames: int | None = None,
    fps: float | None = None,
    frame_width: int | None = None,
    resample_fps: float | None = None,
    limits: Limits | None = None,
) -> tuple[np.ndarray, float]:
    """Read a video into memory; see `open_video` for the sources supported and the other arguments.

    With `max_frames` only the first so many are read, and damage after them does not matter. `limits.max_bytes`
    bounds the memory of all frames together.

    Returns:
        (frames, `uint8` T x H x W x 3; frames per second).

    Raises:
        MediaError: as `open_video`, and where the frames do not fit into `limits.max_bytes`.
    """
    limits = limits or Limits()
    if max_frames is not None and max_frames < 1:
        raise MediaError(f"The number of frames to read must be at least 1, not {max_frames}.")
    with open_video(source, fps=fps, frame_width=frame_width, resample_fps=resample_fps, limits=limits) as reader:
        height, width = reader.size
        fitting = limits.max_bytes // (height * width * 3)
        wanted = reader.length if max_frames is None else min(max_frames, reader.length)
        if wanted > fitting:
            raise MediaError(
                f"The video {str(source)!r} takes {wanted * height * width * 3 / 2**30:.1f} GiB of memory; "
                f"use --frames {fitting} or scale it down first."
            )
        frames = np.empty((wanted, height, width, 3), np.uint8)
        count = 0
        for frame in itertools.islice(reader, max_frames):
            if count == len(frames):  # `length` is the file's own account; more frames may come
                frames = np.concatenate([frames, np.empty((min(count, fitting - count), height, width, 3), np.uint8)])
            if count == fitting:
                raise MediaError(f"The video {str(source)!r} does not fit into memory; use --frames {fitting}.")
            frames[count] = frame
            count += 1
    return frames[:count], reader.fps


def sniff(source: str | Path) -> Literal["picture", "video", "folder"]:
    """Return what `source` holds: one still picture, a video (or animation), or a folder.

    A strip counts as a picture: nothing in the file says that it is meant as a video.

    Raises:
        MediaError: it is missing, not a regular file, or of no supported type.
    """
    if _is_folder(source):
        return "folder"
    path, kind = _known_file(source)
    return "video" if kind not in PICTURE_TYPES or is_animated(path, kind, Limits()) else "picture"
