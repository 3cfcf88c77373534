"""Which files are touched and how: plain files only, known by their first bytes, replaced in one step."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from stillmotion.media.limits import MediaError

FileType = Literal["png", "jpeg", "webp", "gif", "mp4", "matroska", "avi"]

_ISO_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def plain_file(source: str | Path) -> Path:
    """Return `source` as a path if it is an existing regular file that holds something.

    Addresses, `concat:` and the like, devices, pipes and folders never get further than this.

    Raises:
        MediaError: it is anything else.
    """
    path = Path(source)
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        if isinstance(error, PermissionError):
            raise MediaError(f"You may not read {str(source)!r}; check its permissions.") from error
        raise MediaError(f"There is no file {str(source)!r}; check the name.") from error
    if stat.S_ISDIR(status.st_mode):
        raise MediaError(f"{str(source)!r} is a folder; give the name of a file in it.")
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(f"{str(source)!r} is not a plain file; copy it to one first.")
    if status.st_size == 0:
        raise MediaError(f"The file {str(source)!r} is empty; get it again from where it came from.")
    return path


def file_type(path: Path) -> FileType | None:
    """Tell what a file is from its first bytes; endings lie. None: nothing that is read here.

    Raises:
        MediaError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise MediaError(f"The file {str(path)!r} cannot be read ({error.strerror}).") from error
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    if head[:4] == b"RIFF" and head[8:12] in (b"WEBP", b"AVI "):
        return "webp" if head[8:12] == b"WEBP" else "avi"
    return "mp4" if head[4:8] in _ISO_BOXES else None


def check_target(path: Path, overwrite: bool) -> None:
    """Check that a file can come to lie at `path`.

    Raises:
        MediaError: its folder does not exist, or something is there that may not be replaced.
    """
    name = str(path)
    if "\0" in name or not path.name:
        raise MediaError(f"{name!r} is not a file name; choose another one.")
    if not path.parent.is_dir():
        raise MediaError(f"The folder {str(path.parent)!r} does not exist; make it or choose another place.")
    if path.is_dir():
        raise MediaError(f"{name!r} is a folder; choose another name.")
    if path.exists() and not path.is_file():
        raise MediaError(f"{name!r} is not a plain file; choose another name.")
    if path.exists() and not overwrite:
        raise MediaError(f"{name!r} already exists; pass --overwrite (-y) or choose another name.")


def temporary_sibling(path: Path) -> Path:
    """Name a hidden file beside `path`: on the same disk, so that the last step can be one rename."""
    return path.with_name(f".stillmotion-{secrets.token_hex(6)}.part")


def sync(path: Path) -> None:
    """Bring a written file to the disk, where some systems first notice that it is full."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn a failing disk inside the `with` block into a `MediaError` about `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise MediaError(
                f"{str(path)!r} was not written because the disk is full; free some space or choose another place."
            ) from error
        reason = error.strerror or str(error)
        raise MediaError(f"{str(path)!r} could not be written ({reason}); choose another place.") from error
