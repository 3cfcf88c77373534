"""Video files through PyAV: their frame times and completeness, then their frames one at a time.

FFmpeg gets an open Python file and a fixed demuxer, so no name is parsed as a URL, a playlist or a list of files.

Not supported: deinterlacing, non-square pixels, mirroring display matrices, HDR tone mapping. Sound: see sound.py.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from stillmotion.media.pictures import MAX_FPS, MIN_FPS, FileType, Limits, MediaError

# (seconds since the first frame, `uint8` H x W x 3) in display order; a generator, so that it can be closed.
TimedFrames = Generator[tuple[float, np.ndarray], None, None]

_CONVERSION = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video before its frames are decoded."""

    fps: float | None  # frames per second if the frames are evenly spaced, else None
    mean_fps: float  # frames per second on average
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
    info, first = _probe(container, stream, str(path), kind, truncated, limits)
    packets = _rewind(container, stream, first) if info.complete and first is not None else None
    if packets is None:
        container.close()
        container, stream = _open_container(file, str(path), kind, limits, stack)
        packets = container.demux(stream)
    return info, _frames(packets, stream, info, kind)


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
    limits.check_frame(name, (context.height, context.width))
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
) -> tuple[VideoInfo, av.Packet | None]:
    """Count the packets and read their times; also return the first packet."""
    seconds = (container.duration or 0) / av.time_base
    limits.check_length(name, stream.frames, seconds)
    first, spans, complete = _packet_spans(container, stream, name, limits)
    rates = [float(rate) for rate in (stream.average_rate, stream.guessed_rate) if rate]
    rates = [rate for rate in rates if MIN_FPS <= rate <= MAX_FPS]
    fps, mean, end = _frame_rate(spans, rates)
    limits.check_length(name, len(spans), end)
    begin = min((begin for begin, _ in spans if begin is not None), default=0.0)
    # A truncated file may lack no more than the index at its end: its header says how much there should be.
    if kind == "matroska" and len(container.streams) == 1 and seconds:
        # The demuxer stops without an error at unreadable bytes. The duration of a last frame is often a guess.
        complete = complete and end > seconds - begin - (0.5 / mean if truncated else max(0.25, 2 / mean))
    elif truncated:
        complete = complete and kind in ("mp4", "avi") and 0 < stream.frames <= len(spans)
    if not complete and fps is None:
        # Missing packets leave gaps, so the times do not show how the frames are spaced.
        fps = mean = next(iter(rates), mean)
    return VideoInfo(fps, mean, len(spans), end, complete, begin, bool(container.streams.audio)), first


def _packet_spans(
    container: InputContainer, stream: VideoStream, name: str, limits: Limits
) -> tuple[av.Packet | None, list[tuple[float | None, float]], bool]:
    """Return the first packet, (begin, duration) of every frame in seconds, and whether all packets are readable."""
    first: av.Packet | None = None
    spans: list[tuple[float | None, float]] = []
    hidden_frames = stream.codec_context.name == "vp8"
    unit = float(stream.time_base or 0)
    try:
        for packet in container.demux(stream):
            first = packet if first is None else first
            if packet.is_corrupt:
                return first, spans, False
            # Bit 4 of a VP8 packet is its "show frame" flag; frames behind an edit list are not shown either.
            if not packet.size or packet.is_discard or (hidden_frames and not bytes(packet)[0] & 0x10):
                continue
            spans.append((None if packet.pts is None else packet.pts * unit, (packet.duration or 0) * unit))
            if len(spans) > limits.max_frames:
                limits.check_length(name, len(spans), 0.0)
    except (av.FFmpegError, OSError):
        return first, spans, False
    return first, spans, True


def _rewind(container: InputContainer, stream: VideoStream, first: av.Packet) -> Iterator[av.Packet] | None:
    """Return all packets again, from `first` on; None where seeking does not lead back to it."""
    time = first.pts if first.dts is None else first.dts
    if time is None:
        return None
    try:
        container.seek(time, stream=stream)
        packets = container.demux(stream)
        again = next(packets)
    except (av.FFmpegError, OSError, StopIteration):
        return None
    if (again.pos, again.dts, again.pts, again.size) != (first.pos, first.dts, first.pts, first.size):
        return None
    return itertools.chain([again], packets)


def _frame_rate(spans: list[tuple[float | None, float]], rates: list[float]) -> tuple[float | None, float, float]:
    """Return (fps if evenly spaced else None, mean fps, end in seconds since the first frame)."""
    fallback = rates[0] if rates else 25.0
    shown = sorted((begin, length) for begin, length in spans if begin is not None)
    begins = [begin for begin, _ in shown]
    if not spans or len(set(begins)) < len(spans):
        # Times are missing or repeated: frames are counted at the rate that the header names.
        return fallback, fallback, len(spans) / fallback
    span = begins[-1] - begins[0]
    end = span + (shown[-1][1] or span / max(1, len(begins) - 1) or 1 / fallback)
    fps = constant_fps(begins, rates)
    mean = min(max(len(begins) / end, MIN_FPS), MAX_FPS)
    return fps or (fallback if len(begins) == 1 else None), fps or mean, end


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


def _frames(packets: Iterator[av.Packet], stream: VideoStream, info: VideoInfo, kind: FileType) -> TimedFrames:
    """Decode frames in display order and turn them upright.

    Raises:
        DamagedError: the file should hold further frames but they cannot be read.
    """
    reformatter = VideoReformatter()
    # The last frame of a truncated GIF decodes without an error, although part of it is missing.
    partial = info.frames - 1 if kind == "gif" and not info.complete else None
    start: float | None = None
    time = 0.0
    for count, (frame, flushed) in enumerate(_decode(packets, stream, info.complete)):
        previous = time
        if frame.pts is None or stream.time_base is None:  # `frame.time` is NaN while a decoder is flushed
            time = count / info.mean_fps
        else:
            time = float(frame.pts * stream.time_base)
        start = time if start is None else start
        if count == partial or (flushed and count and time - previous > 1.5 / info.mean_fps):
            raise DamagedError
        yield time - start, _to_rgb(frame, reformatter)
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
    except (av.FFmpegError, OSError):
        pass
    with contextlib.suppress(av.FFmpegError):
        for frame in stream.decode(None):
            if frame.is_corrupt:
                break
            yield frame, True
    raise DamagedError


def _to_rgb(frame: av.VideoFrame, reformatter: VideoReformatter) -> np.ndarray:
    """Convert a decoded frame to upright `uint8` H x W x 3; `reformatter` keeps its tables from frame to frame.

    Alpha is dropped: FFmpeg decodes the transparent pixels of a GIF as white, other alpha is rare in video.
    """
    try:
        pixels = reformatter.reformat(frame, format="rgb24", interpolation=_CONVERSION, threads=1).to_ndarray()
    except (av.FFmpegError, ValueError) as error:
        raise DamagedError from error
    # The display matrix counts counterclockwise, as rot90 does.
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))


def is_truncated(file: BinaryIO, kind: FileType) -> bool:
    """Return whether a file ends before its outermost parts say; False where they do not say.

    Demuxers stop without an error at the end of a truncated file, so its structure is read here.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if kind == "mp4":
        return _boxes_end(file, size) > size
    if kind == "matroska":
        return _segment_end(file) > size
    if kind == "avi":
        # Files larger than 1 GiB hold several RIFF parts; only the first is checked.
        return int.from_bytes(file.read(8)[4:], "little") + 8 > size
    return kind == "gif" and not _reaches_trailer(file)


def _boxes_end(file: BinaryIO, size: int) -> int:
    """Walk the top-level boxes of an ISO file; return where the last one ends."""
    position = 0
    while position + 8 <= size:
        file.seek(position)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8:  # 0 means "until the end of the file"
            return size
        position += length
    return position


def _segment_end(file: BinaryIO) -> int:
    """Return where the Segment of a Matroska file ends; 0 if its length is unknown (a live recording)."""
    file.seek(4)
    header_size, _ = _variable_length(file)
    file.seek(header_size, os.SEEK_CUR)
    if file.read(4) != b"\x18\x53\x80\x67":
        return 0
    segment_size, known = _variable_length(file)
    return file.tell() + segment_size if known else 0


def _variable_length(file: BinaryIO) -> tuple[int, bool]:
    """Read an EBML number (a leading zero bit per further byte); return its value and whether it is known."""
    first = file.read(1)
    if not first or first[0] == 0:
        return 0, False
    more = 8 - first[0].bit_length()
    bits = 7 * (more + 1)
    value = int.from_bytes(first + file.read(more), "big") & ((1 << bits) - 1)
    return value, value != (1 << bits) - 1


def _reaches_trailer(file: BinaryIO) -> bool:
    """Walk the blocks of a GIF; return whether they lead to the trailer."""
    head = file.read(13)
    file.seek(_colour_table_bytes(head[10]) if len(head) == 13 else 0, os.SEEK_CUR)
    while True:
        block = file.read(1)
        if block == b";":
            return True
        if block == b",":
            descriptor = file.read(9)
            if len(descriptor) < 9:
                return False
            file.seek(_colour_table_bytes(descriptor[8]) + 1, os.SEEK_CUR)  # 1: the LZW code size
        elif block == b"!":
            file.read(1)
        else:
            return False
        while (length := file.read(1)) not in (b"", b"\0"):
            file.seek(length[0], os.SEEK_CUR)


def _colour_table_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0
