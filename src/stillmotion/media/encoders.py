"""What each kind of output does with frames: four small classes that `write` and `finish`."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, Protocol

import av
import numpy as np
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
    Interpolation,
    VideoReformatter,
)
from av.video.stream import VideoStream
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from stillmotion.media.limits import Limits, MediaError
from stillmotion.media.sequences import FPS_FIELD, FRAME_WIDTH_FIELD

MAX_STRIP_WIDTH = 65_000
MAX_GIF_FPS = 50.0
ENDINGS = (".mp4", ".webm", ".gif", ".png", "")
_CONVERSION = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP
_CODECS: dict[str, tuple[str, str, dict[str, str]]] = {
    # The same frames give the same bytes: one thread, and no macroblock tree, with which x264 (core 165) read memory
    # it had not written and gave other bytes in 17 of 3000 runs.
    ".mp4": ("mp4", "libx264", {"crf": "17", "preset": "veryfast", "mbtree": "0"}),
    ".webm": ("webm", "libvpx-vp9", {"crf": "22", "b": "0", "deadline": "good", "cpu-used": "5"}),
}


class Encoder(Protocol):
    """Takes frames of one size; `finish` completes what was written, without which it is worthless."""

    def write(self, frame: np.ndarray) -> None:
        """Add one frame, `uint8` H x W x 3."""

    def finish(self) -> None:
        """Write what is still held and end the file."""

    def close(self) -> None:
        """Let go of open files, finished or not."""


def make_encoder(ending: str, temporary: Path, name: str, fps: float) -> Encoder:
    """Make the encoder for one of `ENDINGS` that writes to `temporary`; `name` is for messages."""
    if ending in _CODECS:
        return FilmEncoder(ending, temporary, fps)
    if ending == ".gif":
        return GifEncoder(temporary, fps)
    if ending == ".png":
        return StripEncoder(temporary, name, fps)
    return FolderEncoder(temporary)


class _Output:
    """A file for a muxer; its first failure waits for `check`, since in a call-back it could get lost."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb")
        self._failure: BaseException | None = None

    def _try(self, action: Callable[[], int], otherwise: int) -> int:
        if self._failure is None:
            try:
                return action()
            except BaseException as error:  # Ctrl-C too
                self._failure = error
        return otherwise

    def write(self, data: bytes) -> int:
        return self._try(lambda: self._file.write(data), len(data))

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._try(lambda: self._file.seek(offset, whence), offset)

    def tell(self) -> int:
        return self._try(self._file.tell, 0)

    def check(self) -> None:
        """Bring everything to the file and raise what went wrong."""
        if self._failure is None:
            self._file.flush()
        else:
            raise self._failure

    def close(self) -> None:
        self._file.close()


class FilmEncoder:
    """mp4 (H.264) and webm (VP9), 4:2:0, BT.709; an odd edge is doubled, since 4:2:0 needs even sizes."""

    def __init__(self, ending: str, temporary: Path, fps: float) -> None:
        container, self._codec, self._options = _CODECS[ending]
        self._rate = Fraction(fps).limit_denominator(1001)
        self._temporary = temporary
        self._output = _Output(temporary)
        # The index goes to the front so that browsers start at once; to move it, the muxer reads its own file
        # again through `io_open`. With Python files throughout, FFmpeg never parses a name.
        self._container = av.open(
            self._output,
            "w",
            format=container,
            container_options={"movflags": "+faststart"} if ending == ".mp4" else {},
            io_open=self._read_again,
        )
        self._stream: VideoStream | None = None
        self._scaler = VideoReformatter()
        self._count = 0

    def _read_again(self, *_: Any) -> IO[bytes]:
        self._output.check()
        return self._temporary.open("rb")

    def _open_stream(self, height: int, width: int) -> VideoStream:
        stream = self._container.add_stream(self._codec, rate=self._rate, options=dict(self._options))
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        context = stream.codec_context
        context.thread_count = 1
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        return stream

    def write(self, frame: np.ndarray) -> None:
        """Encode one frame."""
        height, width = frame.shape[:2]
        even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._stream is None:
            self._stream = self._open_stream(*even.shape[:2])
        picture = self._scaler.reformat(
            VideoFrame.from_ndarray(even, format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=_CONVERSION,
            threads=1,
        )
        picture.pts, picture.time_base = self._count, 1 / self._rate
        self._container.mux(self._stream.encode(picture))
        self._output.check()
        self._count += 1

    def finish(self) -> None:
        """Flush the encoder and write the index."""
        assert self._stream is not None
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
        finally:
            self._output.check()

    def close(self) -> None:
        """Close the file."""
        self._output.close()


class GifEncoder:
    """gif with one palette for all frames; until then they wait in an unnamed file beside the output."""

    def __init__(self, temporary: Path, fps: float) -> None:
        if fps > MAX_GIF_FPS:
            raise MediaError(f"A gif plays at most {MAX_GIF_FPS:g} frames per second; write mp4 or webm.")
        self._rate = Fraction(fps).limit_denominator(1001)
        self._temporary = temporary
        self._waiting = tempfile.TemporaryFile(dir=temporary.parent)  # noqa: SIM115 - `close` closes it
        self._size = (0, 0)
        self._count = 0

    def write(self, frame: np.ndarray) -> None:
        """Store one frame."""
        self._size = (frame.shape[0], frame.shape[1])
        self._waiting.write(frame.tobytes())
        self._count += 1

    def _frames(self) -> Iterator[VideoFrame]:
        height, width = self._size
        self._waiting.seek(0)
        for i in range(self._count):
            pixels = np.frombuffer(self._waiting.read(height * width * 3), np.uint8).reshape(height, width, 3)
            frame = VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = i, 1 / self._rate
            yield frame

    def finish(self) -> None:
        """Choose the palette, then encode every frame with it."""
        palette = self._palette()
        height, width = self._size
        graph = Graph()
        source = graph.add_buffer(width=width, height=height, format=VideoFormat("rgb24"), time_base=1 / self._rate)
        colours = graph.add_buffer(width=16, height=16, format=palette.format, time_base=1 / self._rate)
        paletteuse = graph.add("paletteuse", "dither=sierra2_4a:diff_mode=rectangle")
        sink = graph.add("buffersink")
        source.link_to(paletteuse, 0, 0)
        colours.link_to(paletteuse, 0, 1)
        paletteuse.link_to(sink)
        graph.configure()
        colours.push(palette)
        colours.push(None)
        with (
            contextlib.closing(_Output(self._temporary)) as output,
            av.open(output, "w", format="gif", options={"loop": "0"}) as container,
        ):
            stream = container.add_stream("gif", rate=self._rate)
            assert isinstance(stream, VideoStream)
            stream.height, stream.width, stream.pix_fmt = height, width, "pal8"
            for frame in self._frames():
                source.push(frame)
                indexed = sink.pull()
                assert isinstance(indexed, VideoFrame)
                container.mux(stream.encode(indexed))
            container.mux(stream.encode(None))
            container.close()
            output.check()

    def _palette(self) -> VideoFrame:
        height, width = self._size
        graph = Graph()
        source = graph.add_buffer(width=width, height=height, format=VideoFormat("rgb24"), time_base=1 / self._rate)
        palettegen = graph.add("palettegen", "stats_mode=full")
        sink = graph.add("buffersink")
        source.link_to(palettegen)
        palettegen.link_to(sink)
        graph.configure()
        for frame in self._frames():
            source.push(frame)
        source.push(None)
        palette = sink.pull()
        assert isinstance(palette, VideoFrame)
        return palette

    def close(self) -> None:
        """Drop the waiting frames."""
        self._waiting.close()


class StripEncoder:
    """One PNG, frames side by side, without loss; frame width and rate are noted in its text fields."""

    def __init__(self, temporary: Path, name: str, fps: float) -> None:
        temporary.touch(exist_ok=False)  # A folder that may not be written to shows now, not at the end.
        self._temporary, self._name, self._fps = temporary, name, fps
        self._frames: list[np.ndarray] = []

    def write(self, frame: np.ndarray) -> None:
        """Hold one frame until the end: the strip is one picture."""
        height, width = frame.shape[:2]
        total = width * (len(self._frames) + 1)
        if total > MAX_STRIP_WIDTH or total * height > Limits().max_pixels:
            raise MediaError(
                f"The strip {self._name!r} would be wider or larger than pictures may be after "
                f"{len(self._frames)} frames; write mp4 or a folder."
            )
        self._frames.append(frame.copy())

    def finish(self) -> None:
        """Write the picture."""
        fields = PngInfo()
        fields.add_text(FRAME_WIDTH_FIELD, str(self._frames[0].shape[1]))
        fields.add_text(FPS_FIELD, f"{self._fps:.10f}".rstrip("0").rstrip("."))
        Image.fromarray(np.concatenate(self._frames, axis=1)).save(self._temporary, format="PNG", pnginfo=fields)

    def close(self) -> None:
        """Drop the frames."""
        self._frames.clear()


class FolderEncoder:
    """A folder of frame-00000.png, frame-00001.png, ...; without loss."""

    def __init__(self, temporary: Path) -> None:
        temporary.mkdir()
        self._temporary = temporary
        self._count = 0

    def write(self, frame: np.ndarray) -> None:
        """Write one picture."""
        Image.fromarray(np.ascontiguousarray(frame)).save(self._temporary / f"frame-{self._count:05d}.png")
        self._count += 1

    def finish(self) -> None:
        """Nothing is left to do."""

    def close(self) -> None:
        """Nothing is open."""
