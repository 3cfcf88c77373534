"""Videos out: atomically, in the format that the ending names."""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, cast

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation, VideoReformatter
from av.video.stream import VideoStream

from stillmotion.errors import StillmotionWarning
from stillmotion.media.pictures import MediaError, check_fps, check_pixels
from stillmotion.media.sequences import Encoder, apply_palette, encode_folder, encode_strip
from stillmotion.media.sound import SOUND_FORMATS, Sound, add_sound
from stillmotion.outputs import check_file, check_folder, put_in_place, remove, temporary_sibling, writing

MAX_GIF_FPS = 50.0  # browsers show a frame of less than 1/50 second for 1/10
SoundSource = Callable[[], Sound | None]  # asked when the first frame is written: what is heard from it on
_CONVERSION = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP
# Per ending: codec and its options, options of the container, pixel format. The same frames give the same bytes: one
# thread, and no macroblock tree, with which x264 (core 165) read uninitialised memory and gave other bytes in 17 of
# 3000 runs. `faststart` moves the index to the front so that browsers start to play at once.
_FORMATS: dict[str, tuple[str, dict[str, str], dict[str, str], str]] = {
    ".mp4": ("libx264", {"crf": "17", "preset": "veryfast", "mbtree": "0"}, {"movflags": "+faststart"}, "yuv420p"),
    ".webm": ("libvpx-vp9", {"crf": "22", "b": "0", "deadline": "good", "cpu-used": "5"}, {}, "yuv420p"),
    ".gif": ("gif", {}, {"loop": "0"}, "pal8"),
}


class VideoWriter:
    """Writes the frames of one video; made by `open_writer`, used in a `with` block.

    Everything is written to a hidden file beside the output, which is renamed to the output when the block ends
    without an exception. On an exception (Ctrl-C too) it is removed and an old output stays as it was.

    Attributes:
        path: where the video will be.
        count: frames written so far.
    """

    def __init__(
        self,
        path: Path,
        encoder: Encoder,
        final: Path,
        temporary: Path,
        overwrite: bool,
        kept: float,
        unheard: SoundSource | None,
    ) -> None:
        """Args: the share `kept` of the frames that the file can show; a sound `unheard` that it cannot hold."""
        self.path, self.count, self._final = path, 0, final
        self._given, self._kept, self._unheard = 0, kept, unheard
        self._encoder, self._temporary, self._overwrite = encoder, temporary, overwrite
        self._size: tuple[int, ...] | None = None
        self._open = True

    def write(self, frame: np.ndarray) -> None:
        """Add one frame, `uint8` H x W x 3; the first fixes the size. If it cannot be encoded, the video is aborted.

        Of a rate that the format cannot show, some frames are left out.

        Raises:
            StillmotionError: the size differs, the disk is full, or the format cannot hold such frames.
            TypeError: `frame` is no `uint8` H x W x 3 array.
        """
        if not self._open:
            raise ValueError("This writer is closed.")
        check_pixels(frame)
        self._size = self._size or frame.shape
        if frame.shape != self._size:
            raise MediaError(
                f"Frame {self.count + 1} of {str(self.path)!r} is {frame.shape[1]} x {frame.shape[0]} pixels "
                f"but the first was {self._size[1]} x {self._size[0]}; make them all one size."
            )
        if self._given == 0 and self._unheard and self._unheard():
            _warn(f"{str(self.path)!r} cannot hold the video's sound; write mp4 or webm to keep it.")
        self._given += 1
        if math.floor((self._given - 1) * self._kept + 1e-6) < self.count:
            return
        try:
            with _encoding_errors(self.path):
                self._encoder.send(frame)
        except BaseException:
            self.abort()
            raise
        self.count += 1

    def close(self) -> None:
        """Complete the file and rename it to `path`.

        Raises:
            StillmotionError: no frame was written, the disk is full, or something has appeared at `path` meanwhile.
        """
        if not self._open:
            return
        try:
            if self.count == 0:
                raise MediaError(f"No frames were made for {str(self.path)!r}, so it was not written.")
            with _encoding_errors(self.path):
                with contextlib.suppress(StopIteration):
                    self._encoder.send(None)
                _check_output(self.path, self._overwrite)
                put_in_place(self._temporary, self._final)
        finally:
            self.abort()

    def abort(self) -> None:
        """Drop everything written so far; an old output stays. Does nothing after `close`."""
        if not self._open:
            return
        self._open = False
        with contextlib.suppress(OSError):  # closing flushes, which fails again on a full disk
            self._encoder.close()
        remove(self._temporary)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        (self.close if kind is None else self.abort)()


def open_writer(
    path: str | Path, *, fps: float, overwrite: bool = False, sound: SoundSource | None = None
) -> VideoWriter:
    """Begin a video; the ending of `path` chooses the format.

    - `.mp4`: H.264, plays in browsers; `.webm`: VP9. Both halve the resolution of colour and need even sizes: an odd
      width or height grows by one, its last column or row repeated; nothing is scaled.
    - `.gif`: one palette of 256 colours, delays rounded to 1/100 second; at most 50 frames per second, and of a
      higher rate some frames are left out.
    - `.png`: a strip, all frames side by side in one picture, lossless; at most 65,000 pixels wide.
    - no ending: a folder of `frame-00000.png` ..., lossless.

    Args:
        path: where the video goes; its folder must exist.
        fps: frames per second, 0.01 to 1000.
        overwrite: replace what is there. A folder is replaced only if it holds nothing but such frames.
        sound: what is heard, for `.mp4` and `.webm`; it ends with the frames.

    Warns:
        StillmotionWarning: something differs from what was asked for: the rate, an odd size, or no sound.

    Raises:
        StillmotionError: unknown ending, no such folder, something is there, or an impossible frame rate.
    """
    target = Path(path)
    fps = check_fps(fps)
    ending = target.suffix.lower()
    if ending not in (*_FORMATS, ".png", ""):
        raise MediaError(
            f"The name {str(path)!r} must end in .mp4, .webm, .gif or .png (a strip) or have no ending (a folder)."
        )
    if target.name.lower() in (*_FORMATS, ".png"):
        raise MediaError(f"{str(path)!r} is an ending without a name before it; choose a name.")
    _check_output(target, overwrite)
    final = Path(os.path.realpath(target))
    temporary = temporary_sibling(final)
    rate = shown_fps(target, fps)
    if rate < fps:
        _warn(f"A gif shows at most {rate:g} frames per second, so of {fps:g} some are left out; write mp4 or webm.")
    try:
        with _encoding_errors(target):
            if ending == "":
                encoder = encode_folder(temporary)
            elif ending == ".png":
                encoder = encode_strip(temporary, str(path), fps)
            elif ending == ".gif":
                encoder = _encode_gif(temporary, ending, rate)
            else:
                encoder = _encode_video(temporary, ending, fps, sound)
            next(encoder)
    except BaseException:
        remove(temporary)
        raise
    unheard = None if ending in SOUND_FORMATS else sound
    return VideoWriter(target, encoder, final, temporary, overwrite, rate / fps, unheard)


def shown_fps(path: str | Path, fps: float) -> float:
    """Frames per second of a file that is written at `fps`."""
    return min(fps, MAX_GIF_FPS) if Path(path).suffix.lower() == ".gif" else fps


class VideoFolder:
    """Several videos in one folder, each begun with its first frame.

    Args:
        folder: is made for the first; None: none is written.
        beside: the video that they explain, of the same kind; none may replace it.
        fps: frames per second.
        overwrite: replace what is there.
    """

    def __init__(self, folder: str | Path | None, beside: Path, fps: float, overwrite: bool) -> None:
        if folder is not None and not beside.suffix and Path(folder).resolve().is_relative_to(beside.resolve()):
            raise MediaError(f"The layers cannot go into the folder of the frames, {str(beside)!r}; choose another.")
        self._folder = None if folder is None else Path(folder)
        self._beside, self._fps, self._overwrite = beside, fps, overwrite
        self._writers: dict[str, VideoWriter] = {}
        self._stack = contextlib.ExitStack()

    def write(self, pictures: Mapping[str, np.ndarray]) -> None:
        """Add a frame to each of the videos that are named.

        Raises:
            StillmotionError: as `VideoWriter.write`.
        """
        folder = self._folder
        for name, picture in pictures.items() if folder else ():
            if folder and name not in self._writers:
                self._writers[name] = self._stack.enter_context(self._begin(name, folder))
            self._writers[name].write(picture)

    def _begin(self, name: str, folder: Path) -> VideoWriter:
        target = folder / f"{name}{self._beside.suffix}"
        if target.resolve() == self._beside.resolve():
            raise MediaError(f"The layer {name!r} would replace {str(self._beside)!r}; choose another place.")
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return open_writer(target, fps=self._fps, overwrite=self._overwrite)

    def __enter__(self) -> VideoFolder:
        return self

    def __exit__(self, *about: Any) -> bool | None:
        return self._stack.__exit__(*about)


def write_video(path: str | Path, frames: Iterable[np.ndarray], fps: float, *, overwrite: bool = False) -> int:
    """Write all `frames`, `uint8` H x W x 3 each, to `path`; see `open_writer`. Returns their number."""
    with open_writer(path, fps=fps, overwrite=overwrite) as writer:
        for frame in frames:
            writer.write(frame)
    return writer.count


@contextlib.contextmanager
def _encoding_errors(path: Path) -> Iterator[None]:
    """Raise a `MediaError` about `path` in place of what encoders and disks raise."""
    with writing(path):
        try:
            yield
        except av.FFmpegError as error:
            if isinstance(error, OSError):
                raise
            raise MediaError(
                f"{str(path)!r} cannot hold such frames ({error.strerror}); change their size or write a folder."
            ) from error


def _warn(sentence: str) -> None:
    warnings.warn(sentence, StillmotionWarning, stacklevel=3)


def _check_output(path: Path, overwrite: bool) -> None:
    if not path.suffix and path.is_dir():
        return check_folder(path, overwrite, r"frame-[0-9]{5,}\.png", "frames")
    return check_file(path, overwrite)


def _encode_video(temporary: Path, ending: str, fps: float, sound: SoundSource | None) -> Encoder:
    """An mp4 (H.264) or webm (VP9): 4:2:0, BT.709; odd edges are replicated, since 4:2:0 needs even sizes."""
    rate = Fraction(fps).limit_denominator(1001)
    reformatter = VideoReformatter()
    count = 0
    with _muxer(temporary, ending, rate, sound) as encode:
        while (frame := (yield)) is not None:
            height, width = frame.shape[:2]
            if count == 0 and (height % 2 or width % 2):
                _warn(
                    f"The result is {width + width % 2} x {height + height % 2} pixels, not {width} x {height}: "
                    f"{ending} needs even sizes, so its edge is repeated; change --size, or write gif or a folder."
                )
            even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            picture = reformatter.reformat(
                VideoFrame.from_ndarray(even, format="rgb24"),
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
                interpolation=_CONVERSION,
                threads=1,
            )
            picture.pts, picture.time_base = count, 1 / rate
            encode(picture)
            count += 1


def _encode_gif(temporary: Path, ending: str, fps: float) -> Encoder:
    """A gif with one palette for all frames, which are stored in an unnamed file beside the output until the end."""
    rate = Fraction(fps).limit_denominator(1001)
    count, shape = 0, (0, 0, 3)

    def stored_frames() -> Iterator[VideoFrame]:
        stored.seek(0)
        for i in range(count):
            pixels = np.frombuffer(stored.read(math.prod(shape)), np.uint8).reshape(shape)
            frame = VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = i, 1 / rate
            yield frame

    with tempfile.TemporaryFile(dir=temporary.parent) as stored:
        while (frame := (yield)) is not None:
            shape = frame.shape
            stored.write(frame.tobytes())
            count += 1
        with _muxer(temporary, ending, rate) as encode:
            for picture in apply_palette(stored_frames, shape[:2], rate):
                encode(picture)


@contextlib.contextmanager
def _muxer(
    temporary: Path, ending: str, rate: Fraction, sound: SoundSource | None = None
) -> Iterator[Callable[[VideoFrame], None]]:
    """Open a video file; yields a function that encodes one picture, and completes the file after the block."""
    codec, options, container_options, pixel_format = _FORMATS[ending]
    stream: VideoStream | None = None
    write_sound: Callable[[float], None] | None = None

    def encode(picture: VideoFrame) -> None:
        nonlocal stream, write_sound
        if stream is None:
            stream = cast(VideoStream, container.add_stream(codec, rate=rate, options=dict(options)))
            stream.height, stream.width, stream.pix_fmt = picture.height, picture.width, pixel_format
            context = stream.codec_context
            context.thread_count = 1
            if pixel_format == "yuv420p":
                context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
                context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
            heard = sound() if sound else None
            write_sound = stack.enter_context(add_sound(container, heard, ending)) if heard else None
        container.mux(stream.encode(picture))
        if write_sound:
            write_sound(float(((picture.pts or 0) + 1) / rate))
        output.check()

    def read_again(*_: Any) -> IO[bytes]:
        output.check()
        return temporary.open("rb")

    with _OutputFile(temporary) as output, contextlib.ExitStack() as stack:
        # To move the index, the muxer reads its own file again through `io_open`, so FFmpeg never parses a name.
        container = av.open(output, "w", format=ending[1:], container_options=container_options, io_open=read_again)
        yield encode
        try:
            if stream is not None:
                container.mux(stream.encode(None))
            container.close()
        finally:
            output.check()


class _OutputFile:
    """A file for a muxer. Its first failure is kept for `check`, since FFmpeg may drop an exception in a callback."""

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
        """Flush to the file and raise the first failure."""
        if self._failure is not None:
            raise self._failure
        self._file.flush()

    def __enter__(self) -> _OutputFile:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # closing flushes, which fails again on a full disk
            self._file.close()
