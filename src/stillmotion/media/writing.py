"""Videos out: complete or not at all, in the format that the ending names."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

import av
import numpy as np

from stillmotion.media.encoders import ENDINGS, Encoder, make_encoder
from stillmotion.media.files import check_target, sync, temporary_sibling, write_errors
from stillmotion.media.limits import MediaError
from stillmotion.media.pictures import check_pixels
from stillmotion.media.timing import check_fps


class VideoWriter:
    """Takes the frames of one video; made by `open_writer`, used in a `with` block.

    Everything goes to a hidden file beside the output, which takes the output's name when the block ends
    well. When it ends with an exception (Ctrl-C too) the hidden file goes and an old output stays as it was.

    Attributes:
        path: where the video will be.
        count: frames written so far.
    """

    def __init__(self, path: Path, encoder: Encoder, temporary: Path, overwrite: bool) -> None:
        self.path = path
        self.count = 0
        self._encoder = encoder
        self._temporary = temporary
        self._overwrite = overwrite
        self._size: tuple[int, ...] | None = None
        self._open = True

    def write(self, frame: np.ndarray) -> None:
        """Add one frame, `uint8` H x W x 3; the first one fixes the size.

        Raises:
            MediaError: the size differs, the disk is full, or the format cannot hold such frames.
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
        with _encoding(self.path):
            self._encoder.write(frame)
        self.count += 1

    def close(self) -> None:
        """Complete the file and give it its name.

        Raises:
            MediaError: no frame was written, the disk is full, or the name has been taken in the meantime.
        """
        if not self._open:
            return
        try:
            if self.count == 0:
                raise MediaError(f"No frames were made for {str(self.path)!r}, so it was not written.")
            with _encoding(self.path):
                self._encoder.finish()
                self._encoder.close()
                _check_output(self.path, self._overwrite)
                _put_in_place(self._temporary, self.path)
        finally:
            self.abort()

    def abort(self) -> None:
        """Drop everything written so far; an old output stays. Does nothing after `close`."""
        if not self._open:
            return
        self._open = False
        with contextlib.suppress(OSError):  # Closing flushes, which fails again on a full disk.
            self._encoder.close()
        _remove(self._temporary)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def open_writer(path: str | Path, *, fps: float, overwrite: bool = False) -> VideoWriter:
    """Begin a video; the ending of `path` chooses the format.

    - `.mp4`: H.264, plays in browsers; `.webm`: VP9. Both halve the resolution of colour and need even sizes:
      an odd width or height grows by one, its last column or row repeated; nothing is scaled.
    - `.gif`: 256 colours for the whole, at most 50 frames per second, delays rounded to 1/100 second.
    - `.png`: a strip, all frames side by side in one picture, without loss; at most 65,000 pixels wide.
    - no ending: a folder of `frame-00000.png` ..., without loss.

    Args:
        path: where the video goes; its folder must exist.
        fps: frames per second, 0.01 to 1000.
        overwrite: replace what is there. A folder is replaced only if it holds nothing but such frames.

    Raises:
        MediaError: unknown ending, no such folder, something is there, or an impossible frame rate.
    """
    target = Path(path)
    fps = check_fps(fps)
    ending = target.suffix.lower()
    if ending not in ENDINGS:
        raise MediaError(
            f"The name {str(path)!r} must end in .mp4, .webm, .gif or .png (a strip) or have no ending (a folder)."
        )
    _check_output(target, overwrite)
    temporary = temporary_sibling(target)
    try:
        with _encoding(target):
            encoder = make_encoder(ending, temporary, str(path), fps)
    except BaseException:
        _remove(temporary)
        raise
    return VideoWriter(target, encoder, temporary, overwrite)


def write_video(path: str | Path, frames: Iterable[np.ndarray], fps: float, *, overwrite: bool = False) -> int:
    """Write all `frames`, `uint8` H x W x 3 each, to `path`; see `open_writer`. Returns their number."""
    with open_writer(path, fps=fps, overwrite=overwrite) as writer:
        for frame in frames:
            writer.write(frame)
    return writer.count


@contextlib.contextmanager
def _encoding(path: Path) -> Iterator[None]:
    """Turn what encoders and disks raise into a `MediaError` about `path`."""
    with write_errors(path):
        try:
            yield
        except av.FFmpegError as error:
            if isinstance(error, OSError):
                raise
            raise MediaError(
                f"{str(path)!r} cannot hold such frames ({error.strerror}); change their size or write a folder."
            ) from error


def _check_output(path: Path, overwrite: bool) -> None:
    if path.suffix or not path.is_dir():
        check_target(path, overwrite)
        return
    names = [entry.name for entry in path.iterdir()]
    if names and not overwrite:
        raise MediaError(f"The folder {str(path)!r} is not empty; pass --overwrite (-y) or choose another name.")
    if not all(re.fullmatch(r"frame-[0-9]{5,}\.png", name) for name in names):
        raise MediaError(f"The folder {str(path)!r} holds more than frames; choose another name.")


def _put_in_place(temporary: Path, path: Path) -> None:
    """Give the finished file or folder its name, in one step where there was none or a file."""
    if not temporary.is_dir():
        sync(temporary)
        temporary.replace(path)
        return
    if path.is_dir():
        # A folder cannot be replaced in one step: the old one steps aside until the new one stands.
        old = temporary_sibling(path)
        path.replace(old)
        try:
            temporary.replace(path)
        except BaseException:
            old.replace(path)
            raise
        shutil.rmtree(old)
    else:
        # A file here was checked with `overwrite`.
        path.unlink(missing_ok=True)
        temporary.replace(path)


def _remove(temporary: Path) -> None:
    if temporary.is_dir():
        shutil.rmtree(temporary, ignore_errors=True)
    else:
        temporary.unlink(missing_ok=True)
