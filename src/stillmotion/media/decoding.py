"""Video files through PyAV: their frame times and completeness, then their frames one at a time.

FFmpeg gets an open Python file and a fixed demuxer, so no name is parsed as a URL, a playlist or a list of files.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from stillmotion.media.containers import FileType, is_truncated
from stillmotion.media.deinterlacing import progressive
from stillmotion.media.display import pixel_aspect, to_rgb
from stillmotion.media.pictures import MAX_FPS, MIN_FPS, Limits, MediaError

# (seconds since the first frame, `uint8` H x W x 3) in display order; a generator, so that it can be closed.
TimedFrames = Generator[tuple[float, np.ndarray], None, None]

_USUAL_FPS = (
    10.0,
    12.0,
    15.0,
    20.0,
    24000 / 1001,
    24.0,
    25.0,
    30000 / 1001,
    30.0,
    50.0,
    60000 / 1001,
    60.0,
    120.0,
    240.0,
)
_MOST_NOMINAL_FPS = 240.0  # of a camera; stamps that lie closer are not taken seriously

# What demuxers and decoders raise at damage; IndexError: PyAV knows no stream that begins after the file was opened.
_UNREADABLE = (av.FFmpegError, OSError, IndexError)


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video before its frames are decoded."""

    fps: float | None  # frames per second if the frames are evenly spaced, else None
    nominal_fps: float  # `fps`, or that of the parts between pauses: resampling to it keeps their frames
    frames: int  # number of frames
    end: float  # when the last frame ends, in seconds since the first one begins
    complete: bool  # whether the file holds all that its headers announce
    begin: float = 0.0  # when the first frame begins, in seconds of the file's own clock
    has_sound: bool = False


class DamagedError(Exception):
    """No further frame can be read from a file that should hold more; caught where frames are counted."""


def open_video_file(
    path: Path, kind: FileType, limits: Limits, stack: contextlib.ExitStack
) -> tuple[VideoInfo, TimedFrames]:
    """Open a video file of a known type and read its packets once without decoding them; `stack` closes it.

    The container is opened once: decoding begins with a seek back to the first packet. It is opened a second time
    only if the file is damaged or the demuxer does not get back.

    Returns:
        What the packets say about the video; its frames, which raise `DamagedError` where further ones are missing.

    Raises:
        MediaError: nothing in the file can be read as video, or it exceeds a limit.
    """
    file = stack.enter_context(path.open("rb"))
    truncated = is_truncated(file, kind)
    container, stream = _open_container(file, str(path), kind, limits, stack)
    info, first, begins = _probe(container, stream, str(path), kind, truncated, limits)
    packets = _rewind(container, stream, first) if info.complete and first is not None else None
    if packets is None:
        container.close()
        container, stream = _open_container(file, str(path), kind, limits, stack)
        packets = container.demux(stream)
    return info, _frames(packets, stream, info, kind, begins if _lacks_times(kind, stream) else None)


def _open_container(
    file: BinaryIO, name: str, kind: FileType, limits: Limits, stack: contextlib.ExitStack
) -> tuple[InputContainer, VideoStream]:
    """Open the container from the start of `file` and choose its video stream."""
    # Decoders check this before they allocate what a corrupt header asks for; they count whole blocks.
    guard = {"max_pixels": str(2 * limits.max_frame_pixels + 2**20)}
    try:
        container = stack.enter_context(open_demuxer(file, kind, guard))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise MediaError(f"The video {name!r} is damaged or cut short; export it again.") from error
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.codec_context is None:
        raise MediaError(f"The file {name!r} holds no video that can be read; export it again as mp4.")
    context = stream.codec_context
    limits.check_frame(name, (context.height, round(context.width * max(Fraction(1), pixel_aspect(stream)))))
    context.thread_count = 1
    context.options = guard
    return container, stream


def open_demuxer(file: BinaryIO, kind: FileType, options: dict[str, str]) -> InputContainer:
    """Open a container from the start of `file`; it may open no other file. Raises what FFmpeg raises."""

    def refuse(*_: Any) -> None:
        raise OSError("a video may not open further files")

    file.seek(0)
    container = av.open(
        file, format=kind, io_open=refuse, options={**options, "max_streams": "64"}, metadata_errors="replace"
    )
    assert isinstance(container, InputContainer)
    return container


def _probe(
    container: InputContainer, stream: VideoStream, name: str, kind: FileType, truncated: bool, limits: Limits
) -> tuple[VideoInfo, av.Packet | None, list[float]]:
    """Count the packets and read their times; also return the first packet, and when frames begin, rising."""
    seconds = (container.duration or 0) / av.time_base
    limits.check_length(name, stream.frames, seconds)
    first, spans, complete = _packet_spans(container, stream, name, kind, limits)
    rates = [float(rate) for rate in (stream.average_rate, stream.guessed_rate) if rate]
    rates = [rate for rate in rates if MIN_FPS <= rate <= MAX_FPS]
    fps, nominal, end = _frame_rate(spans, rates)
    limits.check_length(name, len(spans), end)
    begin = min((begin for begin, _ in spans if begin is not None), default=0.0)
    # A truncated file may lack no more than the index at its end: its header says how much there should be.
    if kind == "matroska" and len(container.streams) == 1 and seconds:
        # The demuxer stops without an error at unreadable bytes. The duration of a last frame is often a guess.
        complete = complete and end > seconds - begin - (0.5 / nominal if truncated else max(0.25, 2 / nominal))
    elif truncated:
        complete = complete and kind in ("mp4", "avi") and 0 < stream.frames <= len(spans)
    if not complete and fps is None:
        fps = nominal  # missing packets leave gaps that are no pauses
    begins = sorted(at for at, _ in spans if at is not None)
    return VideoInfo(fps, nominal, len(spans), end, complete, begin, bool(container.streams.audio)), first, begins


def _packet_spans(
    container: InputContainer, stream: VideoStream, name: str, kind: FileType, limits: Limits
) -> tuple[av.Packet | None, list[tuple[float | None, float]], bool]:
    """Return the first packet, (begin, duration) of every frame in seconds, and whether all packets are readable."""
    first: av.Packet | None = None
    spans: list[tuple[float | None, float]] = []
    hidden_frames = stream.codec_context.name == "vp8"
    unit, lacks_times = float(stream.time_base or 0), _lacks_times(kind, stream)
    try:
        for packet in container.demux(stream):
            first = packet if first is None else first
            if packet.is_corrupt:
                return first, spans, False
            # Bit 4 of a VP8 packet is its "show frame" flag; frames behind an edit list are not shown either.
            if not packet.size or packet.is_discard or (hidden_frames and not bytes(packet)[0] & 0x10):
                continue
            time = packet.dts if lacks_times else packet.pts
            spans.append((None if time is None else time * unit, (packet.duration or 0) * unit))
            if len(spans) > limits.max_frames:
                limits.check_length(name, len(spans), 0.0)
    except _UNREADABLE:
        return first, spans, False
    return first, spans, True


def _lacks_times(kind: FileType, stream: VideoStream) -> bool:
    """Whether the file only says when frames are decoded, and FFmpeg's guess at when they are shown is wrong.

    Taken in rising order, the times of decoding serve as those of display, up to a constant.
    """
    return kind == "mpegvideo" or (kind == "avi" and stream.codec_context.name in ("h264", "hevc"))


def _rewind(container: InputContainer, stream: VideoStream, first: av.Packet) -> Iterator[av.Packet] | None:
    """Return all packets again, from `first` on; None where seeking does not lead back to it."""
    time = first.pts if first.dts is None else first.dts
    if time is None:
        return None
    try:
        container.seek(time, stream=stream)
        packets = container.demux(stream)
        again = next(packets)
    except (*_UNREADABLE, StopIteration):
        return None
    if (again.pos, again.dts, again.pts, again.size) != (first.pos, first.dts, first.pts, first.size):
        return None
    return itertools.chain([again], packets)


def _frame_rate(spans: list[tuple[float | None, float]], rates: list[float]) -> tuple[float | None, float, float]:
    """Return (fps if evenly spaced else None, nominal fps, end in seconds since the first frame)."""
    fallback = rates[0] if rates else 25.0
    shown = sorted((begin, length) for begin, length in spans if begin is not None)
    begins = [begin for begin, _ in shown]
    if not spans or len(set(begins)) < len(spans):
        # Times are missing or repeated: frames are counted at the rate that the header names.
        return fallback, fallback, len(spans) / fallback
    if len(begins) == 1:
        return fallback, fallback, shown[0][1] or 1 / fallback
    fps = constant_fps(begins, rates)
    nominal = fps or nominal_fps(begins, rates)
    return fps, nominal, begins[-1] - begins[0] + max(shown[-1][1], 1 / nominal)


def constant_fps(times: Sequence[float], candidates: Iterable[float]) -> float | None:
    """Return the first rate that puts every frame less than half a frame from its place; None if there is none.

    Args:
        times: when each frame begins, in seconds, rising.
        candidates: rates that the file's header names, best first; the mean rate of `times` is tried last.
    """
    since = np.asarray(times, dtype=np.float64)
    since = since - since[0]
    rates = list(candidates)
    if len(since) > 1 and since[-1] > 0:
        rates.append((len(since) - 1) / since[-1])
    order = np.arange(len(since))
    for rate in rates:
        if MIN_FPS <= rate <= MAX_FPS and np.all(np.abs(since * rate - order) < 0.5):
            return float(rate)
    return None


def nominal_fps(times: Sequence[float], candidates: Iterable[float]) -> float:
    """Return the rate of a video between its pauses.

    That is the rate of the shortest step between frames that a fifth of the steps come within 1/8 of (their mean
    counts), or of the median step if there is none; a candidate or a usual rate within half a percent is preferred.

    Args:
        times: when each frame begins, in seconds, rising; at least two.
        candidates: rates that the file's header names.
    """
    steps = np.sort(np.diff(np.asarray(times, dtype=np.float64)))
    low, high = np.searchsorted(steps, steps / 1.125), np.searchsorted(steps, steps * 1.125, side="right")
    common = np.flatnonzero(5 * (high - low) >= len(steps))
    step = float(steps[low[common[0]] : high[common[0]]].mean()) if len(common) else float(np.median(steps))
    fps = min(max(1 / step, MIN_FPS), _MOST_NOMINAL_FPS)
    nearest = min((*candidates, *_USUAL_FPS), key=lambda rate: abs(rate - fps))
    return float(nearest) if abs(nearest - fps) < 0.005 * fps else fps


def _frames(
    packets: Iterator[av.Packet], stream: VideoStream, info: VideoInfo, kind: FileType, begins: Sequence[float] | None
) -> TimedFrames:
    """Decode frames in display order, as a screen shows them; `begins` are their times if the frames' own are wrong.

    Raises:
        DamagedError: the file should hold further frames but they cannot be read.
    """
    reformatter, aspect = VideoReformatter(), pixel_aspect(stream)
    # The last frame of a truncated GIF decodes without an error, although part of it is missing.
    partial = info.frames - 1 if kind == "gif" and not info.complete else None
    start: float | None = None
    time = 0.0
    for count, (frame, flushed) in enumerate(progressive(_decode(packets, stream, info.complete))):
        previous = time
        if begins is not None and count < len(begins):
            time = begins[count]
        elif frame.pts is None or stream.time_base is None:  # `frame.time` is NaN while a decoder is flushed
            time = count / info.nominal_fps
        else:
            time = float(frame.pts * stream.time_base)
        start = time if start is None else start
        if count == partial or (flushed and count and time - previous > 1.5 / info.nominal_fps):
            raise DamagedError
        try:
            pixels = to_rgb(frame, reformatter, aspect)
        except (av.FFmpegError, ValueError) as error:
            raise DamagedError from error
        yield time - start, pixels
    if not info.complete:
        raise DamagedError


def _decode(
    packets: Iterator[av.Packet], stream: VideoStream, complete: bool
) -> Iterator[tuple[av.VideoFrame, bool]]:
    """Yield (frame, whether it was flushed after damage), or raise `DamagedError` when no more can be decoded.

    Frames that the decoder still holds when it meets damage may lack the frames between them, which are stored after
    the ones that they are predicted from.
    """
    try:
        for packet in packets:
            if packet.is_corrupt:
                break
            for frame in packet.decode():
                if frame.is_corrupt:
                    raise DamagedError
                yield frame, not complete and packet.size == 0
        else:
            return
    except _UNREADABLE:
        pass
    with contextlib.suppress(av.FFmpegError):
        for frame in stream.decode(None):
            if frame.is_corrupt:
                break
            yield frame, True
    raise DamagedError
