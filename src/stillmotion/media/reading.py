"""Videos in: files, strips and frame folders, one frame at a time or whole."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np

from stillmotion.media.decoding import open_file
from stillmotion.media.files import file_type, plain_file
from stillmotion.media.limits import Limits, MediaError
from stillmotion.media.sequences import is_animated, open_animation, open_folder, open_strip
from stillmotion.media.timing import DamagedError, Survey, Timed, check_fps, resample, resampled_length


class VideoReader:
    """The frames of one video, `uint8` H x W x 3 RGB, in order and once; made by `open_video`.

    Frames are decoded as they are asked for. It is an iterator and a context manager that closes the file.

    Attributes:
        fps: frames per second of the frames it gives.
        size: their (height, width).
        length: how many there are by the file's own account; a damaged file holds fewer.

    Raises:
        MediaError: on the way, where the file is damaged; the message says how many frames came before.
    """

    def __init__(self, frames: Generator[np.ndarray, None, None], first: np.ndarray, fps: float, length: int):
        self.fps = fps
        self.size = (first.shape[0], first.shape[1])
        self.length = length
        self._first: np.ndarray | None = first
        self._frames = frames

    def __iter__(self) -> Iterator[np.ndarray]:
        return self

    def __next__(self) -> np.ndarray:
        if self._first is None:
            return next(self._frames)
        first, self._first = self._first, None
        return first

    def close(self) -> None:
        """Close the file; no further frames come."""
        self._first = None
        self._frames.close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_video(
    source: str | Path,
    *,
    fps: float | None = None,
    frame_width: int | None = None,
    resample_fps: float | None = None,
    limits: Limits | None = None,
) -> VideoReader:
    """Open an mp4, mov, webm, mkv, avi, gif or animated WebP file, a strip, or a folder of frames.

    A strip is a picture with its frames side by side: any PNG, JPEG or still WebP that is opened as a video.
    The frames of a folder are its pictures in natural order. What a file is, its first bytes say, not its
    ending. Rotated videos come upright; transparency in gif, webp and png lies on white. Pixels that are not
    square are not stretched.

    Frames that lie less than half a frame from an even spacing come one for one. Others are repeated and
    dropped to reach the video's mean rate; so is any video to reach `resample_fps`. Frame k is then the last
    one that began before (k + 1/2) / rate.

    Args:
        source: a plain file or a folder on this machine.
        fps: the rate of a strip or folder (default: as noted in strips written here, else 25); video files
            keep their own.
        frame_width: the width of a strip's frames (default: as noted, else the height of the strip).
        resample_fps: bring any video to this constant rate.
        limits: sizes and lengths that are allowed, checked before decoding.

    Raises:
        MediaError: it is missing, no video, damaged from the start, or beyond a limit.
    """
    limits = limits or Limits()
    if fps is not None:
        fps = check_fps(fps)
    if resample_fps is not None:
        resample_fps = check_fps(resample_fps)
    survey, timed = _open_source(source, fps, frame_width, limits)
    rate = resample_fps or survey.rate
    even: Iterator[np.ndarray]
    if resample_fps is None and rate is not None:
        length, even = survey.frames, (frame for _, frame in timed)
    else:
        rate = rate or survey.mean_rate
        length, even = resampled_length(survey.end, rate), resample(timed, survey.end, rate)
        limits.check_length(str(source), length, survey.end)
    frames = _checked(even, timed, str(source), limits)
    first = next(frames, None)
    if first is None:
        raise MediaError(f"The video {str(source)!r} has no frame that can be read; export it again.")
    return VideoReader(frames, first, rate, length)


def _open_source(
    source: str | Path, fps: float | None, frame_width: int | None, limits: Limits
) -> tuple[Survey, Timed]:
    """Choose the reader for `source` by what it is; returns what is known of it, and its frames."""
    if _is_folder(source):
        return open_folder(Path(source), fps, limits)
    path = plain_file(source)
    kind = file_type(path)
    if kind is None:
        raise _unknown(source)
    if kind in ("mp4", "matroska", "avi", "gif"):
        return open_file(path, kind, limits)
    if is_animated(path, kind, limits):
        return open_animation(path, limits)
    return open_strip(path, fps, frame_width, limits)


def _is_folder(source: str | Path) -> bool:
    try:
        return Path(source).is_dir()
    except (OSError, ValueError):
        return False


def _checked(
    frames: Iterator[np.ndarray], timed: Timed, name: str, limits: Limits
) -> Generator[np.ndarray, None, None]:
    """Pass frames on; check their size and number, put damage into words, and close `timed` at the end."""
    count = 0
    size: tuple[int, ...] | None = None
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
    finally:
        timed.close()


def read_video(
    source: str | Path,
    *,
    max_frames: int | None = None,
    fps: float | None = None,
    frame_width: int | None = None,
    resample_fps: float | None = None,
    limits: Limits | None = None,
) -> tuple[np.ndarray, float]:
    """Read a video into memory; see `open_video` for what it takes.

    Args:
        source: a plain file or a folder on this machine.
        max_frames: read only the first so many; what comes after them may be damaged.
        fps: see `open_video`.
        frame_width: see `open_video`.
        resample_fps: see `open_video`.
        limits: see `open_video`; `max_bytes` is how much the frames may take together.

    Returns:
        (frames, `uint8` T x H x W x 3; frames per second).

    Raises:
        MediaError: as `open_video`, and where the frames would not fit into `limits.max_bytes`.
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
            if count == len(frames):  # `length` was the file's own account; more may come.
                frames = np.concatenate([frames, np.empty((min(count, fitting - count), height, width, 3), np.uint8)])
            if count == fitting:
                raise MediaError(f"The video {str(source)!r} does not fit into memory; use --frames {fitting}.")
            frames[count] = frame
            count += 1
    return frames[:count], reader.fps


def sniff(source: str | Path) -> Literal["picture", "video", "folder"]:
    """Tell what `source` is from what lies there: one still picture, a video (or animation), or a folder.

    Strips are pictures to this function: only the person knows that they are meant as videos.

    Raises:
        MediaError: it is missing, not a plain file, or nothing that is read here.
    """
    if _is_folder(source):
        return "folder"
    path = plain_file(source)
    kind = file_type(path)
    if kind in ("mp4", "matroska", "avi"):
        return "video"
    if kind is None:
        raise _unknown(source)
    return "video" if is_animated(path, kind, Limits()) else "picture"


def _unknown(source: str | Path) -> MediaError:
    return MediaError(
        f"{str(source)!r} is not a video or picture that can be read here; convert it to mp4, webm, gif or png."
    )
