"""Video files through PyAV: what is in them, and their frames one at a time.

Files are handed to FFmpeg as open Python files with the demuxer fixed: no name can turn into an address, a
playlist or a list of files.

What is not done: interlaced video is not deinterlaced, pixels that are not square
are not stretched, a mirroring display matrix is not followed, HDR is not tone-mapped, sound is ignored.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from stillmotion.media.files import FileType
from stillmotion.media.limits import Limits, MediaError
from stillmotion.media.structure import is_cut_short
from stillmotion.media.timing import MAX_FPS, MIN_FPS, DamagedError, Survey, Timed, even_rate

_CONVERSION = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


@contextlib.contextmanager
def opened(path: Path, kind: FileType, limits: Limits) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a video file and choose its video stream; closes both.

    Raises:
        MediaError: nothing in it can be read as video.
    """

    def refuse(*_: Any) -> None:
        raise OSError("a video may not open further files")

    # Checked inside the decoders, before they allocate what a lying header asks for; they count whole blocks.
    guard = {"max_pixels": str(2 * limits.max_frame_pixels + 2**20)}
    with path.open("rb") as file:
        try:
            container = av.open(
                file,
                format=kind,
                io_open=refuse,
                options={**guard, "max_streams": "64"},
                metadata_errors="replace",
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            raise MediaError(f"The video {str(path)!r} is damaged or cut short; export it again.") from error
        assert isinstance(container, InputContainer)
        with container:
            stream = container.streams.best("video")
            if not isinstance(stream, VideoStream) or stream.codec_context is None:
                raise MediaError(f"The file {str(path)!r} holds no video that can be read; export it again as mp4.")
            context = stream.codec_context
            limits.check_frame(str(path), (context.height, context.width))
            context.thread_count = 1
            context.options = guard
            yield container, stream


def _survey(path: Path, kind: FileType, limits: Limits) -> Survey:
    """Read a video's packets without decoding them: count them and look at their times.

    Raises:
        MediaError: the video cannot be read or passes a limit.
    """
    name = str(path)
    with opened(path, kind, limits) as (container, stream):
        seconds = (container.duration or 0) / av.time_base
        promised = stream.frames
        limits.check_length(name, promised, seconds)
        spans, whole = _packet_spans(container, stream, name, limits)
        named = [float(rate) for rate in (stream.average_rate, stream.guessed_rate) if rate]
        named = [rate for rate in named if MIN_FPS <= rate <= MAX_FPS]
        alone = len(container.streams) == 1
    rate, mean, end = _timing(spans, named)
    limits.check_length(name, len(spans), end)
    # What is missing may be no more than the index at the end: the header says how much there should be.
    cut = is_cut_short(path, kind)
    if kind == "matroska" and alone and seconds:
        # Its demuxer stops in silence at unreadable bytes. The length of a last frame is often a guess.
        whole = whole and end > seconds - _start(spans) - (0.5 / mean if cut else max(0.25, 2 / mean))
    elif cut:
        whole = whole and kind in ("mp4", "avi") and 0 < promised <= len(spans)
    if not whole and rate is None:
        # What is missing leaves gaps that say nothing about the timing.
        rate = mean = next(iter(named), mean)
    return Survey(rate, mean, len(spans), end, whole)


def _packet_spans(
    container: InputContainer, stream: VideoStream, name: str, limits: Limits
) -> tuple[list[tuple[float | None, float]], bool]:
    """List (begin, duration) of every frame in seconds, as stored; tell whether all packets were readable."""
    spans: list[tuple[float | None, float]] = []
    hidden_frames = stream.codec_context.name == "vp8"
    unit = float(stream.time_base or 0)
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                return spans, False
            # Bit 4 of a VP8 packet is its "show frame" flag; frames behind an edit list are not shown either.
            if not packet.size or packet.is_discard or (hidden_frames and not bytes(packet)[0] & 0x10):
                continue
            spans.append((None if packet.pts is None else packet.pts * unit, (packet.duration or 0) * unit))
            if len(spans) > limits.max_frames:
                limits.check_length(name, len(spans), 0.0)
    except (av.FFmpegError, OSError):
        return spans, False
    return spans, True


def _timing(spans: list[tuple[float | None, float]], rates: list[float]) -> tuple[float | None, float, float]:
    """Return (even rate or None, mean rate, end in seconds since the first frame)."""
    fallback = rates[0] if rates else 25.0
    shown = sorted((begin, length) for begin, length in spans if begin is not None)
    begins = [begin for begin, _ in shown]
    if not spans or len(set(begins)) < len(spans):
        # Times are missing or doubled: frames are taken one by one at the rate that the header names.
        return fallback, fallback, len(spans) / fallback
    span = begins[-1] - begins[0]
    end = span + (shown[-1][1] or span / max(1, len(begins) - 1) or 1 / fallback)
    rate = even_rate(begins, rates)
    mean = min(max(len(begins) / end, MIN_FPS), MAX_FPS)
    return rate or (fallback if len(begins) == 1 else None), rate or mean, end


def _start(spans: list[tuple[float | None, float]]) -> float:
    return min((begin for begin, _ in spans if begin is not None), default=0.0)


def open_file(path: Path, kind: FileType, limits: Limits) -> tuple[Survey, Timed]:
    """Open a video file of a known kind; see `_survey` and `_frames`."""
    found = _survey(path, kind, limits)
    return found, _frames(path, kind, limits, found)


def _frames(path: Path, kind: FileType, limits: Limits, found: Survey) -> Timed:
    """Decode a video's frames in the order they are shown, upright.

    Yields:
        (seconds since the first frame, `uint8` H x W x 3).

    Raises:
        DamagedError: the file should hold further frames but they cannot be read.
    """
    convert = _Converter()
    # The last picture of a GIF that was cut decodes without complaint, half empty.
    half_empty = found.frames - 1 if kind == "gif" and not found.complete else None
    start: float | None = None
    time = 0.0
    with opened(path, kind, limits) as (container, stream):
        for count, (frame, left_over) in enumerate(_decoded(container, stream, found.complete)):
            previous, time = time, _seconds(frame, stream, count / found.mean_rate)
            start = time if start is None else start
            if count == half_empty or (left_over and count and time - previous > 1.5 / found.mean_rate):
                raise DamagedError
            yield time - start, convert(frame)
    if not found.complete:
        raise DamagedError


def _seconds(frame: av.VideoFrame, stream: VideoStream, otherwise: float) -> float:
    """Return when a frame begins; `frame.time` is NaN where a decoder is being emptied."""
    if frame.pts is None or stream.time_base is None:
        return otherwise
    return float(frame.pts * stream.time_base)


def _decoded(container: InputContainer, stream: VideoStream, complete: bool) -> Iterator[tuple[av.VideoFrame, bool]]:
    """Yield (frame, whether it is left over) until the end, or raise `DamagedError` when no more can be decoded.

    Left over is what a decoder still holds when it meets damage. It may lack the frames between, which are stored
    after those that they are predicted from.
    """
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                break
            for frame in packet.decode():
                if frame.is_corrupt:
                    raise DamagedError
                yield frame, not complete and packet.size == 0
        else:
            return
    except (av.FFmpegError, OSError):
        pass
    with contextlib.suppress(av.FFmpegError):
        for frame in stream.decode(None):
            if frame.is_corrupt:
                break
            yield frame, True
    raise DamagedError


class _Converter:
    """Turns decoded frames into upright RGB; keeps the scaler's tables between frames.

    Alpha is dropped: FFmpeg decodes the transparent pixels of a GIF as white, other alpha is rare in video.
    """

    def __init__(self) -> None:
        self._scaler = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        try:
            converted = self._scaler.reformat(frame, format="rgb24", interpolation=_CONVERSION, threads=1)
            pixels = converted.to_ndarray()
        except (av.FFmpegError, ValueError) as error:
            raise DamagedError from error
        # The display matrix counts counterclockwise, as rot90 does.
        return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))
