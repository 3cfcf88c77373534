"""Files that are either whole or absent: tensors as safetensors, everything else as JSON, never pickle.

Everything is written beside its final place, synced to the disk and renamed into place, so a crash, a `kill
-9` or a full disk leaves the old file as it was.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from stillmotion.errors import StillmotionError

_TEMPORARY = ".tmp-"
_REPLACED = ".old-"


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise a `StillmotionError` about `path` in place of any `OSError` from the `with` block."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = "the disk is full; free some space and try again"
        else:
            reason = f"{error.strerror or error}; check the folder and its permissions"
        raise StillmotionError(f"{path} could not be written: {reason} (nothing that was there is lost).") from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: it holds the old content or the new, never a part of either.

    Raises:
        StillmotionError: the disk is full or the folder cannot be written; the old file is untouched.
    """
    temporary = path.parent / f"{_TEMPORARY}{path.name}-{uuid.uuid4().hex[:8]}"
    with writing(path):
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            try:
                rest = memoryview(content)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            temporary.replace(path)
            _sync_folder(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; NaN and infinity are refused (they are not JSON)."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        StillmotionError: the file is missing, unreadable or not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise StillmotionError(f"The file {path} does not exist.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise StillmotionError(f"The file {path} is not readable JSON ({error}).") from error


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write named tensors as one safetensors file, atomically.

    Tensors may live on any device, in any memory layout, and may share memory (tied weights are written
    twice).

    Args:
        path: where to write, by custom with the ending `.safetensors`.
        tensors: what to write.
        metadata: short texts for the header of the file.

    Raises:
        StillmotionError: the disk is full or the folder cannot be written; the old file is untouched.
    """
    plain: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        flat = tensor.detach().cpu().contiguous()
        pointer = flat.untyped_storage().data_ptr()
        # safetensors refuses tensors that share memory; a copy costs little and keeps the caller simple.
        plain[name] = flat.clone() if pointer in seen else flat
        seen.add(pointer)
    write_bytes(path, safetensors.torch.save(plain, dict(metadata) if metadata else None))


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file written by anyone; tensors arrive on the CPU.

    Raises:
        StillmotionError: the file is missing, truncated, not safetensors (a pickle or zip file under that
            name is named as such and never opened), or holds NaN or infinity.
    """
    _refuse_other_formats(path)
    try:
        tensors = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
        raise StillmotionError(f"The file {path} is damaged or cut short ({error}); get it again.") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
            raise StillmotionError(f"The tensor {name!r} in {path} holds NaN or infinity; it cannot be used.")
    return tensors


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a safetensors file's tensors, by name, from its header alone.

    Raises:
        StillmotionError: as `load_tensors`, but for what the tensors hold.
    """
    _refuse_other_formats(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
        raise StillmotionError(f"The file {path} is damaged or cut short ({error}); get it again.") from error


def read_weights(path: Path, sha256: str) -> dict[str, Tensor]:
    """Read a safetensors file whose digest is known.

    Args:
        path: the file.
        sha256: its digest, 64 hexadecimal digits.

    Raises:
        StillmotionError: no digest or another one, or `load_tensors` refuses the file.
    """
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StillmotionError(f"The weights {path} cannot be read ({error.strerror}).") from error
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise StillmotionError(
            f"Say which weights you mean by their SHA-256, {path}@DIGEST; this file's is {found}, which proves "
            "nothing until you compare it with what its publisher says."
        )
    if found != sha256:
        raise StillmotionError(f"{path} has the SHA-256 {found}, not {sha256}; get the file again.")
    return load_tensors(path)


def read_metadata(path: Path) -> dict[str, str]:
    """The texts in the header of a safetensors file.

    Raises:
        StillmotionError: as for `load_tensors`.
    """
    _refuse_other_formats(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (safetensors.SafetensorError, OSError) as error:
        raise StillmotionError(f"The file {path} is damaged or cut short ({error}); get it again.") from error


@contextlib.contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """Write a folder atomically.

    Yields an empty folder beside `final`. When the block ends without an exception, the folder replaces `final`; on
    an exception it is removed and `final` stays as it was.
    """
    temporary = final.parent / f"{_TEMPORARY}{final.name}-{uuid.uuid4().hex[:8]}"
    with writing(final):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            _replace_folder(temporary, final)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def _replace_folder(temporary: Path, final: Path) -> None:
    """Sync a finished folder and rename it to `final`; a folder that was there is removed afterwards.

    Not every system can swap two folders in one call, so the old one is renamed first; `remove_stale` undoes that if
    the process ends between the two renames.
    """
    for path in sorted(temporary.rglob("*")):
        if path.is_file():
            _sync(path)
        else:
            _sync_folder(path)
    _sync_folder(temporary)
    old = final.parent / f"{_REPLACED}{final.name}"
    if final.exists():
        shutil.rmtree(old, ignore_errors=True)
        final.rename(old)
    temporary.rename(final)
    _sync_folder(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def remove_stale(folder: Path) -> None:
    """Remove the temporary files and folders of killed processes from `folder`; no process may be writing there."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.name.startswith(_REPLACED) and not (final := folder / path.name[len(_REPLACED) :]).exists():
            path.rename(final)
        elif path.name.startswith((_TEMPORARY, _REPLACED)):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _refuse_other_formats(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(9)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise StillmotionError(f"The file {path} cannot be read ({error.strerror}).") from error
    # A safetensors file is the length of its header (8 bytes, little endian), then the header, a JSON object.
    # This is looked at first: by chance a length may begin with the very bytes of a pickle.
    if len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") <= size - 8:
        return
    if start[:2] == b"PK" or start[:1] == b"\x80":
        raise StillmotionError(
            f"The file {path} is a pickle or zip file (an old torch checkpoint), which can run code when opened; "
            "only safetensors files are loaded."
        )
    raise StillmotionError(f"The file {path} is not a safetensors file, or it is cut short.")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened, and a rename is durable by itself
        _sync(path)
