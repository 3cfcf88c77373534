"""Is a video file cut short? Its outer structure tells, where demuxers stop in silence."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from stillmotion.media.files import FileType


def is_cut_short(path: Path, kind: FileType) -> bool:
    """Tell whether the file ends before its outermost parts say it does; False where they say nothing."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if kind == "mp4":
            return _boxes_end(file, size) > size
        if kind == "matroska":
            return _segment_end(file) > size
        if kind == "avi":
            # Files past 1 GiB hold several RIFF parts; only the first is checked.
            return int.from_bytes(file.read(8)[4:], "little") + 8 > size
        return kind == "gif" and not _reaches_trailer(file)


def _boxes_end(file: BinaryIO, size: int) -> int:
    """Walk the top-level boxes of an ISO file; return where the last one ends."""
    position = 0
    while position + 8 <= size:
        file.seek(position)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length == 0:  # "until the end of the file"
            return size
        if length < 8:
            return size
        position += length
    return position


def _segment_end(file: BinaryIO) -> int:
    """Return where the Segment of a Matroska file ends; 0 if it does not say (a live recording)."""
    file.seek(4)
    header_size, _ = _variable_length(file)
    file.seek(header_size, 1)
    if file.read(4) != b"\x18\x53\x80\x67":
        return 0
    segment_size, known = _variable_length(file)
    return file.tell() + segment_size if known else 0


def _variable_length(file: BinaryIO) -> tuple[int, bool]:
    """Read an EBML number: the leading zero bits of the first byte count the bytes that follow."""
    first = file.read(1)
    if not first or first[0] == 0:
        return 0, False
    more = 8 - first[0].bit_length()
    bits = 7 * (more + 1)
    value = int.from_bytes(first + file.read(more), "big") & ((1 << bits) - 1)
    return value, value != (1 << bits) - 1


def _reaches_trailer(file: BinaryIO) -> bool:
    """Walk the blocks of a GIF; tell whether they lead to the trailer."""
    head = file.read(13)
    file.seek(_colour_table_bytes(head[10]) if len(head) == 13 else 0, 1)
    while True:
        block = file.read(1)
        if block == b";":
            return True
        if block == b",":
            descriptor = file.read(9)
            if len(descriptor) < 9:
                return False
            file.seek(_colour_table_bytes(descriptor[8]) + 1, 1)  # and one byte: the LZW code size
        elif block == b"!":
            file.read(1)
        else:
            return False
        while (length := file.read(1)) not in (b"", b"\0"):
            file.seek(length[0], 1)


def _colour_table_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0
