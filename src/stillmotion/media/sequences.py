"""Videos made of pictures, in and out: strips, folders of frames, animated WebP and PNG; the palette of a GIF."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from stillmotion.media.containers import FileType
from stillmotion.media.decoding import DamagedError, TimedFrames, VideoInfo, constant_fps, nominal_fps
from stillmotion.media.pictures import WHITE, Limits, MediaError, decode_image, image_to_rgb, open_image

# Writes frames of one size: `next` opens files, `send` adds a frame (`uint8` H x W x 3), `send(None)` completes the
# output and ends in StopIteration, `close` closes files without completing them.
Encoder = Generator[None, np.ndarray | None, None]

DEFAULT_FPS = 25.0
FRAME_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif")
MAX_STRIP_WIDTH = 65_000
# Text fields of the PNG strips written here; other programs ignore them.
FRAME_WIDTH_FIELD, FPS_FIELD = "FrameWidth", "FramesPerSecond"


def open_strip(
    path: Path, fps: float | None, frame_width: int | None, limits: Limits
) -> tuple[VideoInfo, TimedFrames]:
    """Split a strip into its frames, left to right.

    Frame width and rate are the arguments, else the file's text fields, else square frames at 25 per second.

    Raises:
        MediaError: the picture cannot be read or does not divide into such frames.
    """
    with open_image(path, limits) as image:
        stored_width, stored_fps = image.info.get(FRAME_WIDTH_FIELD), image.info.get(FPS_FIELD)
        picture = decode_image(image, str(path))
    height, width = picture.shape[:2]
    step = frame_width if frame_width is not None else int(_number(stored_width) or height)
    if frame_width is None and stored_width is None and width % step:
        raise MediaError(
            f"{str(path)!r} is a picture, {width} x {height} pixels, and not a strip of square frames; give a video."
        )
    if step < 1 or width % step:
        raise MediaError(
            f"The picture {str(path)!r}, {width} pixels wide, does not divide into frames {step} wide; "
            "give the right frame width."
        )
    fps = fps or _number(stored_fps) or DEFAULT_FPS
    count = width // step
    limits.check_frame(str(path), (height, step))
    limits.check_length(str(path), count, count / fps)
    frames = ((i / fps, picture[:, i * step : (i + 1) * step].copy()) for i in range(count))
    return VideoInfo(fps, fps, count, count / fps, complete=True), frames


def is_marked_strip(path: Path, limits: Limits) -> bool:
    """Return whether a picture says itself that it is a strip, as those written here do."""
    with open_image(path, limits) as image:
        return FRAME_WIDTH_FIELD in image.info


def _number(text: object) -> float | None:
    if not isinstance(text, str) or not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,20})?", text):
        return None
    return float(text) if 0.01 <= float(text) <= 100_000 else None


def open_folder(folder: Path, fps: float | None, limits: Limits) -> tuple[VideoInfo, TimedFrames]:
    """Read the pictures of a folder as frames in natural order (2 before 10); other files are ignored.

    Raises:
        MediaError: there are no pictures, or they are not all of one size.
    """
    name = str(folder)
    try:
        paths = [path for path in folder.iterdir() if _is_frame(path)]
    except OSError as error:
        raise MediaError(f"The folder {name!r} cannot be read ({error.strerror}).") from error
    if not paths:
        raise MediaError(f"The folder {name!r} holds no pictures; give one with PNG or JPEG frames.")
    paths.sort(key=lambda path: natural_key(path.name))
    fps = fps or DEFAULT_FPS
    limits.check_length(name, len(paths), len(paths) / fps)
    return VideoInfo(fps, fps, len(paths), len(paths) / fps, complete=True), _folder_frames(paths, fps, limits)


def _is_frame(path: Path) -> bool:
    return path.suffix.lower() in FRAME_ENDINGS and not path.name.startswith(".") and path.is_file()


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Return a sort key that compares the numbers in names by value; ties fall back on the plain name."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name.lower())
    return [(0, int(part), "") if part.isdecimal() and part.isascii() else (1, 0, part) for part in parts], name


def _folder_frames(paths: list[Path], fps: float, limits: Limits) -> TimedFrames:
    size: tuple[int, ...] | None = None
    for i, path in enumerate(paths):
        with open_image(path, limits) as image:
            limits.check_frame(str(path), (image.height, image.width))
            frame = decode_image(image, str(path))
        size = size or frame.shape
        if frame.shape != size:
            raise MediaError(
                f"The frame {str(path)!r} is {frame.shape[1]} x {frame.shape[0]} pixels but the first is "
                f"{size[1]} x {size[0]}; make them all one size."
            )
        yield i / fps, frame


def is_animated(path: Path, kind: FileType, limits: Limits) -> bool:
    """Return whether a GIF, WebP, PNG or AVIF file holds more than one frame."""
    if kind not in ("gif", "webp", "png", "avif"):
        return False
    with open_image(path, limits) as image:
        return bool(getattr(image, "is_animated", False))


def open_animation(path: Path, limits: Limits, ground: tuple[int, int, int] = WHITE) -> tuple[VideoInfo, TimedFrames]:
    """Read an animated WebP, PNG or AVIF; it is decoded twice, since only decoding shows how long frames last.

    Raises:
        MediaError: it is damaged or exceeds a limit.
    """
    begins = [0.0]
    with open_image(path, limits) as image:
        limits.check_frame(str(path), (image.height, image.width))
        numbers = range(int(getattr(image, "default_image", False)), getattr(image, "n_frames", 1))
        limits.check_length(str(path), len(numbers), 0.0)
        try:
            for number in numbers:
                image.seek(number)
                image.load()
                # Browsers show frames that claim less than 11 milliseconds for 100.
                milliseconds = float(image.info.get("duration") or 0)
                begins.append(begins[-1] + (milliseconds if milliseconds > 10 else 100.0) / 1000)
        except Exception as error:
            if len(begins) == 1:
                raise MediaError(f"The animation {str(path)!r} is damaged; export it again.") from error
    end, frames = begins.pop(), len(begins)
    limits.check_length(str(path), frames, end)
    fps = constant_fps(begins, [frames / end])
    info = VideoInfo(fps, fps or nominal_fps(begins, [frames / end]), frames, end, frames == len(numbers))
    return info, _animation_frames(path, limits, numbers, begins, ground)


def _animation_frames(
    path: Path, limits: Limits, numbers: range, begins: list[float], ground: tuple[int, int, int]
) -> TimedFrames:
    with open_image(path, limits) as image:
        for number, begin in zip(numbers, begins, strict=False):
            try:
                image.seek(number)
                frame = np.array(image_to_rgb(image, ground))
            except Exception as error:
                raise DamagedError from error
            yield begin, frame
    if len(begins) < len(numbers):
        raise DamagedError


def encode_strip(temporary: Path, name: str, fps: float) -> Encoder:
    """One lossless PNG, frames side by side; frame width and rate are stored in its text fields."""
    temporary.touch(exist_ok=False)  # reports a folder without write permission now, not at the end
    frames: list[np.ndarray] = []
    while (frame := (yield)) is not None:
        height, width = frame.shape[:2]
        total = width * (len(frames) + 1)
        if total > MAX_STRIP_WIDTH or total * height > Limits().max_pixels:
            raise MediaError(
                f"The strip {name!r} would be wider or larger than pictures may be after "
                f"{len(frames)} frames; write mp4 or a folder."
            )
        frames.append(frame.copy())
    fields = PngInfo()
    fields.add_text(FRAME_WIDTH_FIELD, str(frames[0].shape[1]))
    fields.add_text(FPS_FIELD, f"{fps:.10f}".rstrip("0").rstrip("."))
    Image.fromarray(np.concatenate(frames, axis=1)).save(temporary, format="PNG", pnginfo=fields)


def encode_folder(temporary: Path) -> Encoder:
    """A folder of lossless frame-00000.png, frame-00001.png, ..."""
    temporary.mkdir()
    count = 0
    while (frame := (yield)) is not None:
        Image.fromarray(np.ascontiguousarray(frame)).save(temporary / f"frame-{count:05d}.png")
        count += 1


def apply_palette(
    frames: Callable[[], Iterable[VideoFrame]], size: tuple[int, int], rate: Fraction
) -> Iterator[VideoFrame]:
    """Map frames to one palette of 256 colours that is chosen for all of them.

    Args:
        frames: yields the rgb24 frames, with their times; called twice.
        size: their (height, width).
        rate: frames per second.

    Yields:
        The frames as pal8, dithered.
    """
    height, width = size
    rgb, unit = VideoFormat("rgb24"), 1 / rate

    graph = Graph()
    source = graph.add_buffer(width=width, height=height, format=rgb, time_base=unit)
    palettegen, sink = graph.add("palettegen", "stats_mode=full"), graph.add("buffersink")
    source.link_to(palettegen)
    palettegen.link_to(sink)
    graph.configure()
    for frame in frames():
        source.push(frame)
    source.push(None)
    palette = sink.pull()
    assert isinstance(palette, VideoFrame)

    graph = Graph()
    source = graph.add_buffer(width=width, height=height, format=rgb, time_base=unit)
    colours = graph.add_buffer(width=16, height=16, format=palette.format, time_base=unit)
    paletteuse, sink = graph.add("paletteuse", "dither=sierra2_4a:diff_mode=rectangle"), graph.add("buffersink")
    source.link_to(paletteuse, 0, 0)
    colours.link_to(paletteuse, 0, 1)
    paletteuse.link_to(sink)
    graph.configure()
    colours.push(palette)
    colours.push(None)
    for frame in frames():
        source.push(frame)
        indexed = sink.pull()
        assert isinstance(indexed, VideoFrame)
        yield indexed
