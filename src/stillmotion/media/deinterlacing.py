"""Interlaced frames, whose even and odd lines are of two moments, as frames of one moment, by FFmpeg's `bwdif`."""

from __future__ import annotations

import contextlib
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
from av.filter import Graph, filters_available
from av.video.frame import VideoFrame

from stillmotion.errors import StillmotionWarning

Decoded = tuple[VideoFrame, bool]  # a frame, and whatever goes with it

_FILTER = "bwdif"
_SOME_TIME_BASE = Fraction(1, 90_000)  # where a frame has none
_LEAST_SIDE = 4  # the filter takes no smaller frames


def progressive(decoded: Iterable[Decoded]) -> Iterator[Decoded]:
    """Deinterlace the frames that are marked as interlaced; the others pass as they are.

    As many frames come as go in, each for the moment of its first field: the lines of that field stay, the others
    are interpolated from their neighbours in space and time. So a frame waits for the one after it; one that stands
    alone stays as it is.

    Raises:
        whatever `decoded` raises, after the frames before it have come.

    Warns:
        StillmotionWarning: FFmpeg as it is installed cannot do it; the frames come as they are.
    """
    graph: _Deinterlacer | None = None
    usable = True
    try:
        for frame, mark in decoded:
            if graph is not None and not graph.fits(frame):
                yield from graph.rest()
                graph = None
            if graph is None and usable and frame.interlaced_frame and min(frame.width, frame.height) >= _LEAST_SIDE:
                graph = _deinterlacer(frame)
                usable = graph is not None
            if graph is None:
                yield frame, mark
            else:
                yield from graph.feed(frame, mark)
    except Exception:
        if graph is not None:
            yield from graph.rest()
        raise
    if graph is not None:
        yield from graph.rest()


def _deinterlacer(frame: VideoFrame) -> _Deinterlacer | None:
    try:
        if _FILTER not in filters_available:
            raise ValueError(_FILTER)
        return _Deinterlacer(frame)
    except (av.FFmpegError, ValueError):
        sentence = f"The video is interlaced, but FFmpeg as installed here cannot use its filter {_FILTER}"
        warnings.warn(f"{sentence}: edges that move look like combs.", StillmotionWarning, stacklevel=2)
        return None


class _Deinterlacer:
    """The filter for frames of one size and format."""

    def __init__(self, frame: VideoFrame):
        self._like = (frame.width, frame.height, frame.format.name)
        self._waiting: deque[Decoded] = deque()  # what went in and has not come out
        self._graph = Graph()
        self._graph.threads = 1
        source = self._graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format,
            time_base=frame.time_base or _SOME_TIME_BASE,
        )
        deinterlace = self._graph.add(_FILTER, "mode=send_frame:deint=interlaced")
        source.link_to(deinterlace)
        deinterlace.link_to(self._graph.add("buffersink"))
        self._graph.configure()

    def fits(self, frame: VideoFrame) -> bool:
        """Whether a frame is of the size and format that the filter was made for."""
        return (frame.width, frame.height, frame.format.name) == self._like

    def feed(self, frame: VideoFrame, mark: bool) -> Iterator[Decoded]:
        """Give it one frame; yield those that are ready."""
        self._waiting.append((frame, mark))
        yield from self._ready(frame)

    def rest(self) -> Iterator[Decoded]:
        """Yield the frames that still wait; those that the filter could not take come as they are."""
        yield from self._ready(None)
        yield from self._waiting

    def _ready(self, frame: VideoFrame | None) -> Iterator[Decoded]:
        with contextlib.suppress(av.FFmpegError):  # of which one says that it wants a further frame
            self._graph.push(frame)
            while self._waiting:
                made = self._graph.pull()
                assert isinstance(made, VideoFrame)
                given, mark = self._waiting.popleft()
                # The filter counts in a time base of its own; frames that a decoder is flushed of have none.
                made.pts, made.time_base = given.pts, given.time_base or _SOME_TIME_BASE
                yield made, mark
