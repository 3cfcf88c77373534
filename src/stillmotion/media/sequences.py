"""Videos that are made of pictures: strips, folders of frames, animated WebP and PNG files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from stillmotion.media.files import FileType, plain_file
from stillmotion.media.limits import Limits, MediaError
from stillmotion.media.pictures import image_to_rgb, open_image, read_picture
from stillmotion.media.timing import DamagedError, Survey, Timed, even_rate

DEFAULT_FPS = 25.0
FRAME_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".gif")
# Text fields of the PNG strips written here; other programs ignore them.
FRAME_WIDTH_FIELD, FPS_FIELD = "FrameWidth", "FramesPerSecond"


def open_strip(path: Path, fps: float | None, frame_width: int | None, limits: Limits) -> tuple[Survey, Timed]:
    """Cut a strip into its frames, left to right.

    For the frame width and the rate, what the caller says counts first, then what the file's text fields say;
    then frames are square, 25 per second.

    Raises:
        MediaError: the picture cannot be read or does not divide into such frames.
    """
    with open_image(path, limits) as image:
        noted_width, noted_fps = image.info.get(FRAME_WIDTH_FIELD), image.info.get(FPS_FIELD)
    picture = read_picture(path, limits=limits)
    height, width = picture.shape[:2]
    step = frame_width if frame_width is not None else int(_number(noted_width) or height)
    if step < 1 or width % step:
        raise MediaError(
            f"The picture {str(path)!r}, {width} pixels wide, does not divide into frames {step} wide; "
            "give the right frame width."
        )
    rate = fps or _number(noted_fps) or DEFAULT_FPS
    count = width // step
    limits.check_frame(str(path), (height, step))
    limits.check_length(str(path), count, count / rate)
    frames = ((i / rate, picture[:, i * step : (i + 1) * step].copy()) for i in range(count))
    return Survey(rate, rate, count, count / rate, complete=True), frames


def _number(text: object) -> float | None:
    if not isinstance(text, str) or not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,20})?", text):
        return None
    return float(text) if 0.01 <= float(text) <= 100_000 else None


def open_folder(folder: Path, fps: float | None, limits: Limits) -> tuple[Survey, Timed]:
    """Read the pictures of a folder as frames, 2 before 10 as a person sorts them; other files are ignored.

    Raises:
        MediaError: there are no pictures, or they are not all of one size.
    """
    try:
        paths = [path for path in folder.iterdir() if _is_frame(path)]
    except OSError as error:
        raise MediaError(f"The folder {str(folder)!r} cannot be read ({error.strerror}).") from error
    if not paths:
        raise MediaError(f"The folder {str(folder)!r} holds no PNG, JPEG, WebP or GIF pictures.")
    paths.sort(key=lambda path: natural_order(path.name))
    rate = fps or DEFAULT_FPS
    limits.check_length(str(folder), len(paths), len(paths) / rate)
    return Survey(rate, rate, len(paths), len(paths) / rate, complete=True), _folder_frames(paths, rate, limits)


def _is_frame(path: Path) -> bool:
    return path.suffix.lower() in FRAME_ENDINGS and not path.name.startswith(".") and path.is_file()


def natural_order(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Return a key that sorts names with the numbers in them by value; ties fall back on the plain name."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name.lower())
    return [(0, int(part), "") if part.isdecimal() and part.isascii() else (1, 0, part) for part in parts], name


def _folder_frames(paths: list[Path], rate: float, limits: Limits) -> Timed:
    size: tuple[int, ...] | None = None
    for i, path in enumerate(paths):
        with open_image(plain_file(path), limits) as image:
            limits.check_frame(str(path), (image.height, image.width))
        frame = read_picture(path, limits=limits)
        size = size or frame.shape
        if frame.shape != size:
            raise MediaError(
                f"The frame {str(path)!r} is {frame.shape[1]} x {frame.shape[0]} pixels but the first is "
                f"{size[1]} x {size[0]}; make them all one size."
            )
        yield i / rate, frame


def is_animated(path: Path, kind: FileType, limits: Limits) -> bool:
    """Tell whether a GIF, WebP or PNG file holds more than one frame."""
    if kind not in ("gif", "webp", "png"):
        return False
    with open_image(path, limits) as image:
        return bool(getattr(image, "is_animated", False))


def open_animation(path: Path, limits: Limits) -> tuple[Survey, Timed]:
    """Read an animated WebP or PNG, decoding it twice: only decoding tells how long frames last.

    Raises:
        MediaError: it is damaged or passes a limit.
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
    survey = Survey(even_rate(begins, [frames / end]), frames / end, frames, end, frames == len(numbers))
    return survey, _animation_frames(path, limits, numbers, begins)


def _animation_frames(path: Path, limits: Limits, numbers: range, begins: list[float]) -> Timed:
    with open_image(path, limits) as image:
        for number, begin in zip(numbers, begins, strict=False):
            try:
                image.seek(number)
                frame = np.array(image_to_rgb(image))
            except Exception as error:
                raise DamagedError from error
            yield begin, frame
    if len(begins) < len(numbers):
        raise DamagedError
