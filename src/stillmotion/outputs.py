"""All that is written: whole or not at all, only where it was asked for, cleaned up after.

Files and folders are made under a hidden name beside their place, synced to the disk and moved there in one step, so
a crash, a `kill -9` or a full disk leaves what was there, or what is new, complete. An output that is a link is
written where it leads.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from stillmotion.errors import StillmotionError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# Nobody else's files have such names, so `remove_stale` may remove them.
_PART = re.compile(r"\.stillmotion-[0-9a-f]{12}\.part")
_REPLACED = re.compile(r"\.stillmotion-(.+)\.old")
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Raise a `StillmotionError` about `path` in place of any `OSError` from the `with` block."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL:
            reason = "the disk is full; free some space or choose another place"
        else:
            reason = f"{error.strerror or error}; check the folder and its permissions or choose another place"
        raise StillmotionError(f"{str(path)!r} could not be written: {reason} (nothing there is lost).") from error


def check_name(path: str | Path) -> None:
    """Refuse what is no name for a file or folder; `-` is not standard output, since nothing is written there.

    Raises:
        StillmotionError: says so.
    """
    name = Path(path).name
    if "\0" in str(path) or name == "-" or (name and not name.strip()):
        raise StillmotionError(f"{str(path)!r} is not a file name; choose another one.")


def check_file(path: str | Path, overwrite: bool) -> None:
    """Refuse to write a file where there is no folder, or where something is that may not be replaced.

    Raises:
        StillmotionError: says which.
    """
    check_name(path)
    path, name = Path(path), str(path)
    if not path.name:
        raise StillmotionError(f"{name!r} is not a file name; choose another one.")
    with writing(path):
        if not path.parent.is_dir():
            raise StillmotionError(
                f"The folder {str(path.parent)!r} does not exist; make it or choose another place."
            )
        if path.is_dir():
            raise StillmotionError(f"{name!r} is a folder; choose another name.")
        if path.exists() and not path.is_file():
            raise StillmotionError(f"{name!r} is not a plain file; choose another name.")
        if path.exists() and not overwrite:
            raise StillmotionError(f"{name!r} already exists; pass --overwrite (-y) or choose another name.")


def check_folder(path: str | Path, overwrite: bool, own: str, what: str) -> None:
    """Refuse to write a folder where something is that may not be replaced.

    Args:
        path: may be missing, or an empty folder.
        overwrite: whether one of ours may be replaced.
        own: a pattern of the names of its entries; a folder that holds anything else is never replaced.
        what: these entries in words, such as `frames`.

    Raises:
        StillmotionError: says which.
    """
    check_name(path)
    path, name = Path(path), str(path)
    if not path.is_dir():
        if path.exists():
            raise StillmotionError(f"{name!r} is not a folder; choose another name.")
        return
    with writing(path):
        names = [entry.name for entry in path.iterdir()]
    if names and not overwrite:
        raise StillmotionError(f"The folder {name!r} is not empty; pass --overwrite (-y) or choose another name.")
    foreign = [entry for entry in names if not re.fullmatch(own, entry)]
    if foreign:
        raise StillmotionError(
            f"The folder {name!r} holds more than {what}, such as {foreign[0]!r}, and is not replaced; "
            "choose another name."
        )


def temporary_sibling(path: Path) -> Path:
    """An unused hidden name beside `path`, so that one rename on the same disk completes a write."""
    return path.with_name(f".stillmotion-{secrets.token_hex(6)}.part")


def put_in_place(temporary: Path, final: Path) -> None:
    """Sync a finished file or folder and move it to `final`; what was there is removed afterwards.

    At any moment something complete is at `final`, on systems that can swap two names in one step. Elsewhere a folder
    that is replaced is renamed first, and `remove_stale` undoes that if the process ends between the two renames.
    """
    for path in (*sorted(temporary.rglob("*")), temporary) if temporary.is_dir() else (temporary,):
        _sync(path)
    if not temporary.is_dir() or not final.exists():
        temporary.replace(final)
    elif not _exchange(temporary, final):
        old = final.with_name(f".stillmotion-{final.name}.old")
        remove(old)
        final.rename(old)
        try:
            temporary.replace(final)
        except BaseException:
            old.rename(final)
            raise
        remove(old)
    _sync(final.parent)
    remove(temporary)  # what was there before, if the two were exchanged


def remove(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def retire(folder: Path) -> None:
    """Remove a folder; a hidden name first: a kill meanwhile must not leave a half one that looks whole."""
    hidden = temporary_sibling(folder)
    folder.rename(hidden)
    remove(hidden)


def remove_stale(folder: Path) -> None:
    """Remove what killed processes left half-written in `folder`; no process may be writing there."""
    if not folder.is_dir():
        return
    bring_back(folder)
    for path in folder.iterdir():
        if _REPLACED.fullmatch(path.name) or _PART.fullmatch(path.name):
            remove(path)


def bring_back(folder: Path) -> None:
    """Give what lies in `folder` its name again, where a process was killed between the two renames of a swap."""
    for path in folder.glob(".stillmotion-*.old"):
        replaced = _REPLACED.fullmatch(path.name)
        if replaced and not (final := folder / replaced[1]).exists():
            with contextlib.suppress(OSError):
                path.rename(final)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: it holds the old content or the new, never a part of either.

    Raises:
        StillmotionError: the disk is full or the folder cannot be written; the old file is untouched.
    """
    final = Path(os.path.realpath(path))
    temporary = temporary_sibling(final)
    with writing(path):
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            try:
                rest = memoryview(content)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
            finally:
                os.close(descriptor)
            put_in_place(temporary, final)
        except BaseException:
            remove(temporary)
            raise


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Write a folder atomically.

    Yields an empty folder beside `path`. When the block ends without an exception, the folder replaces `path`; on an
    exception it is removed and `path` stays as it was.
    """
    final = Path(os.path.realpath(path))
    temporary = temporary_sibling(final)
    with writing(path):
        bring_back(final.parent)
        try:
            temporary.mkdir(parents=True)
            yield temporary
            put_in_place(temporary, final)
        except BaseException:
            remove(temporary)
            raise


LOCK = ".stillmotion-lock"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a folder for this process while the block runs; it is made if it is missing.

    The lock ends with its process, however that ends, so none is ever stale. A file system without locks gives none.

    Raises:
        StillmotionError: another process has it.
    """
    path, was_there = folder / LOCK, folder.exists()
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    with file:
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StillmotionError(
                f"Another process is training in {str(folder)!r}; wait until it ends or choose another folder."
            ) from error
        except OSError:
            pass
        try:
            yield
        finally:
            remove(path)
            if not was_there:
                with contextlib.suppress(OSError):
                    folder.rmdir()  # only if nothing was written


def _sync(path: Path) -> None:
    """Flush a written file or folder to the disk; some systems report a full disk only then."""
    if path.is_dir() and os.name != "posix":
        return  # there a folder cannot be opened, and a rename is durable by itself
    descriptor = os.open(path, os.O_RDWR if os.name != "posix" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two names in one step, which Linux and macOS can on most file systems; False where it was not done."""
    names = os.fsencode(first), os.fsencode(second)
    try:
        libc = ctypes.CDLL(None)
        if sys.platform == "darwin":
            return int(libc.renamex_np(*names, 2)) == 0
        return int(libc.renameat2(-100, names[0], -100, names[1], 2)) == 0
    except (AttributeError, OSError, TypeError):
        return False
