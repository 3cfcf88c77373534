"""The IDX format of the MNIST data set: pictures and labels, gzip or not.

A file is a magic number (two zero bytes, the type, the number of dimensions), one big-endian 32-bit size per
dimension, and the values. MNIST's pictures have the type 8 (unsigned bytes) and three dimensions, its labels one.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from stillmotion.errors import StillmotionError

_UNSIGNED_BYTES = 8
# Generous for every published set in this format (the largest, EMNIST, holds 814,255 pictures: 0.6 GiB).
MAX_BYTES = 1 << 30
MAX_SIDE = 256


def read_idx(path: Path | str, dimensions: int) -> np.ndarray:
    """Read an IDX file of unsigned bytes with so many dimensions as a read-only `uint8` array; also if it is gzip.

    Raises:
        StillmotionError: the file is missing, not IDX, of another type or number of dimensions, empty, truncated,
            longer than its own sizes say, or larger than `MAX_BYTES`.
    """
    path = Path(path)
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            return _read(path, cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if packed else raw, dimensions)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise StillmotionError(f"{path} is damaged or truncated (gzip); fetch the file again.") from error
    except OSError as error:
        raise StillmotionError(f"{path} could not be read: {error.strerror or error}; check the path.") from error


def _read(path: Path, file: BinaryIO, dimensions: int) -> np.ndarray:
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0":
        raise StillmotionError(f"{path} is not an IDX file (MNIST's format); name a file of digit pictures.")
    if head[2] != _UNSIGNED_BYTES:
        raise StillmotionError(f"{path} must hold unsigned bytes (IDX type 8), not IDX type {head[2]}.")
    if head[3] != dimensions:
        raise StillmotionError(
            f"{path} must have {dimensions} dimensions, not {head[3]}; "
            "pictures have 3 (count, height, width) and labels have 1."
        )
    sizes = file.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise StillmotionError(f"{path} ends within its header; fetch the file again.")
    shape = struct.unpack(f">{dimensions}I", sizes)
    total, sizes_text = math.prod(shape), " x ".join(map(str, shape))
    if total == 0:
        raise StillmotionError(f"{path} holds nothing (its sizes are {sizes_text}); name another file.")
    if total > MAX_BYTES or any(side > MAX_SIDE for side in shape[1:]):
        raise StillmotionError(
            f"{path} declares {sizes_text} values; the limits are {MAX_BYTES >> 20} MiB in all and "
            f"{MAX_SIDE} pixels a side."
        )
    # One byte more than declared: enough to detect a longer file, and a gzip bomb is never unpacked.
    values = file.read(total + 1)
    if len(values) < total:
        raise StillmotionError(
            f"{path} is truncated: {len(values)} of {total} values are there; fetch the file again."
        )
    if len(values) > total:
        raise StillmotionError(f"{path} is longer than its header says; fetch the file again.")
    return np.frombuffer(values, np.uint8).reshape(shape)


def labels_path(pictures: Path | str) -> Path:
    """Return the path of a picture file's labels under MNIST's naming (`images-idx3` becomes `labels-idx1`)."""
    pictures = Path(pictures)
    return pictures.with_name(
        pictures.name.replace("images-idx3", "labels-idx1").replace("images.idx3", "labels.idx1")
    )


def read_digits(path: Path | str) -> tuple[np.ndarray, np.ndarray | None]:
    """Read digit pictures, and their labels if the file of labels is beside them under MNIST's name.

    Returns:
        Pictures (`uint8`, N x H x W, ink is bright) and labels (`uint8`, N) or None.

    Raises:
        StillmotionError: a file cannot be read (see `read_idx`), or there is not one label per picture.
    """
    path = Path(path)
    try:
        changed = path.stat()
    except OSError as error:
        raise StillmotionError(f"{path} could not be read: {error.strerror or error}; check the path.") from error
    return _read_digits(path.resolve(), changed.st_mtime_ns, changed.st_size)


@lru_cache(maxsize=2)  # one clip needs one picture; the file is read once per process
def _read_digits(path: Path, _changed: int, _size: int) -> tuple[np.ndarray, np.ndarray | None]:
    pictures = read_idx(path, 3)
    beside = labels_path(path)
    if beside == path or not beside.is_file():
        return pictures, None
    labels = read_idx(beside, 1)
    if len(labels) != len(pictures):
        raise StillmotionError(
            f"{beside} has {len(labels)} labels for {len(pictures)} pictures; bring two files that belong together."
        )
    return pictures, labels
