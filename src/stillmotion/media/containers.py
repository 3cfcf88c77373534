"""What a file is by its first bytes, and whether it ends before its own structure says."""

from __future__ import annotations

import os
from typing import BinaryIO, Literal

FileType = Literal[
    "png", "jpeg", "webp", "gif", "bmp", "tiff", "avif", "heic",
    "mp4", "matroska", "avi", "asf", "mpegts", "mpeg", "mpegvideo",
]  # fmt: skip

HEAD_BYTES = 1024  # as many as `type_of_head` looks at
_ISO_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")
_MAGIC: dict[FileType, tuple[bytes, ...]] = {
    "png": (b"\x89PNG\r\n\x1a\n",),
    "jpeg": (b"\xff\xd8\xff",),
    "gif": (b"GIF87a", b"GIF89a"),
    "tiff": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "matroska": (b"\x1a\x45\xdf\xa3",),
    "asf": (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",),
    "mpeg": (b"\0\0\1\xba",),
    "mpegvideo": (b"\0\0\1\xb3",),
}


def type_of_head(head: bytes) -> FileType | None:
    """Return what begins with these bytes (`HEAD_BYTES` or the whole file), whatever its ending; None if unknown."""
    for kind, starts in _MAGIC.items():
        if head.startswith(starts):
            return kind
    if head[:4] == b"RIFF" and head[8:12] in (b"WEBP", b"AVI "):
        return "webp" if head[8:12] == b"WEBP" else "avi"
    if head[4:8] in _ISO_BOXES:
        return _iso_type(head)
    # A bitmap's header names its own length, which tells it from a text that begins with BM.
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in (12, 40, 52, 56, 64, 108, 124):
        return "bmp"
    return "mpegts" if _has_packets(head) else None


def _iso_type(head: bytes) -> FileType:
    """Tell pictures that share the container of mp4 from videos, by their brands."""
    if head[4:8] != b"ftyp":
        return "mp4"
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[i : i + 4] for i in range(16, end - 3, 4))}
    if brands & {b"avif", b"avis"}:
        return "avif"
    # The other brands of pictures are common to all codecs.
    return "heic" if brands & {b"heic", b"heix", b"heim", b"heis"} or head[8:12] in (b"mif1", b"msf1") else "mp4"


def _has_packets(head: bytes) -> bool:
    """Whether the sync byte of an MPEG transport stream recurs: every 188 bytes, with 4 before each or 16 after."""
    return any(
        len(head) >= 3 * length and set(head[start::length]) == {0x47}
        for start, length in ((0, 188), (4, 192), (0, 204))
    )


def is_truncated(file: BinaryIO, kind: FileType) -> bool:
    """Return whether a file ends before its outermost parts say; False where they do not say.

    Demuxers stop without an error at the end of a truncated file, so its structure is read here.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if kind == "mp4":
        return _boxes_end(file, size) > size
    if kind == "matroska":
        return _segment_end(file) > size
    if kind == "avi":
        # Files larger than 1 GiB hold several RIFF parts; only the first is checked.
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
        if length < 8:  # 0 means "until the end of the file"
            return size
        position += length
    return position


def _segment_end(file: BinaryIO) -> int:
    """Return where the Segment of a Matroska file ends; 0 if its length is unknown (a live recording)."""
    file.seek(4)
    header_size, _ = _variable_length(file)
    file.seek(header_size, os.SEEK_CUR)
    if file.read(4) != b"\x18\x53\x80\x67":
        return 0
    segment_size, known = _variable_length(file)
    return file.tell() + segment_size if known else 0


def _variable_length(file: BinaryIO) -> tuple[int, bool]:
    """Read an EBML number (a leading zero bit per further byte); return its value and whether it is known."""
    first = file.read(1)
    if not first or first[0] == 0:
        return 0, False
    more = 8 - first[0].bit_length()
    bits = 7 * (more + 1)
    value = int.from_bytes(first + file.read(more), "big") & ((1 << bits) - 1)
    return value, value != (1 << bits) - 1


def _reaches_trailer(file: BinaryIO) -> bool:
    """Walk the blocks of a GIF; return whether they lead to the trailer."""
    head = file.read(13)
    file.seek(_colour_table_bytes(head[10]) if len(head) == 13 else 0, os.SEEK_CUR)
    while True:
        block = file.read(1)
        if block == b";":
            return True
        if block == b",":
            descriptor = file.read(9)
            if len(descriptor) < 9:
                return False
            file.seek(_colour_table_bytes(descriptor[8]) + 1, os.SEEK_CUR)  # 1: the LZW code size
        elif block == b"!":
            file.read(1)
        else:
            return False
        while (length := file.read(1)) not in (b"", b"\0"):
            file.seek(length[0], os.SEEK_CUR)


def _colour_table_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0
