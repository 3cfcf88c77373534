"""Prepared clips on disk: plain tar shards that `numpy` maps and `webdataset` streams.

A data set is a folder of uncompressed tar files `shard-00000.tar`, ... and a `dataset.json`. Each clip is one
sample in the WebDataset convention: `NAME.frames.npy` (`uint8`, T x H x W x 3), `NAME.json` (frame rate and
meta) and one `NAME.TRACK.npy` per track. Arrays in a tar are contiguous bytes, so they are mapped into memory
where they lie and a random frame costs no copy of the rest.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from stillmotion.data.clip import Clip
from stillmotion.data.clipset import ClipSet, concat, open_dataset
from stillmotion.data.info import INFO_FILE, DatasetInfo, Shard, info_to_json
from stillmotion.errors import StillmotionError
from stillmotion.outputs import check_folder, new_folder

__all__ = ["ClipSet", "DatasetInfo", "concat", "open_dataset", "write_dataset"]


def write_dataset(
    folder: Path | str,
    clips: Iterable[Clip],
    *,
    info: DatasetInfo | Callable[[], DatasetInfo],
    clips_per_shard: int = 64,
    max_shard_bytes: int = 256 * 2**20,
    overwrite: bool = False,
) -> DatasetInfo:
    """Write clips as a prepared data set.

    The same clips give the same bytes. The data set is built beside `folder` and renamed into place when it is
    complete and on the disk, so `folder` never holds half a data set, and an old one stays if anything fails.

    Args:
        folder: where to; must not exist, unless `overwrite` and it holds a prepared data set (or nothing).
        clips: taken one at a time; only one clip is in memory.
        info: what cannot be counted (title, licence, ...); or a function that returns it, called after the last clip.
        clips_per_shard: a new shard begins after so many clips.
        max_shard_bytes: a new shard begins before a clip that would make this one larger.
        overwrite: replace an older data set.

    Returns:
        The complete description, as stored in `dataset.json`.

    Raises:
        StillmotionError: two clips have the same name, a track or a meta value cannot be stored, there is no
            clip at all, or `folder` is taken.
    """
    folder = Path(folder).absolute()
    if clips_per_shard < 1 or max_shard_bytes < 1:
        raise StillmotionError("A shard must be allowed at least one clip and one byte.")
    check_folder(folder, overwrite, rf"{re.escape(INFO_FILE)}|shard-[0-9]{{5}}\.tar", "a prepared data set")
    with new_folder(folder) as building:
        counted = _Counter()
        shards = _write_shards(building, clips, counted, clips_per_shard, max_shard_bytes)
        described = info() if callable(info) else info
        if not shards:
            reason = f" (first: {described.quarantined[0].reason})" if described.quarantined else ""
            raise StillmotionError(f"There is not one usable clip to write to {str(folder)!r}{reason}.")
        complete = counted.complete(described, shards)
        (building / INFO_FILE).write_text(info_to_json(complete), encoding="utf-8")
    return complete


class _Counter:
    """What `dataset.json` says about all clips, gathered while they pass."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.frames = 0
        self.sizes: set[tuple[int, int]] = set()
        self.rates: set[float] = set()
        self.tracks: set[str] | None = None
        self.splits: Counter[str] = Counter()

    def add(self, clip: Clip) -> None:
        if clip.name in self.names:
            raise StillmotionError(f"Two clips are named {clip.name!r}: names must be unique in a data set.")
        self.names.add(clip.name)
        self.frames += len(clip)
        self.sizes.add((clip.frames.shape[1], clip.frames.shape[2]))
        self.rates.add(float(clip.fps))
        self.tracks = set(clip.tracks) if self.tracks is None else self.tracks & set(clip.tracks)
        if (split := clip.meta.get("split")) is not None:
            self.splits[str(split)] += 1

    def complete(self, info: DatasetInfo, shards: list[Shard]) -> DatasetInfo:
        return replace(
            info,
            size=next(iter(self.sizes)) if len(self.sizes) == 1 else None,
            fps=next(iter(self.rates)) if len(self.rates) == 1 else None,
            clips=len(self.names),
            frames=self.frames,
            tracks=tuple(sorted(self.tracks or ())),
            splits=dict(sorted(self.splits.items())),
            shards=tuple(shards),
        )


def _write_shards(
    folder: Path, clips: Iterable[Clip], counted: _Counter, clips_per_shard: int, max_shard_bytes: int
) -> list[Shard]:
    shards: list[Shard] = []
    writer: _ShardWriter | None = None
    try:
        for clip in clips:
            counted.add(clip)
            members = _members(clip)
            size = sum(_tar_bytes(len(data)) for _, data in members)
            if writer and (writer.clips >= clips_per_shard or writer.bytes + size > max_shard_bytes):
                shards.append(writer.finish())
                writer = None
            if writer is None:
                writer = _ShardWriter(folder / f"shard-{len(shards):05d}.tar")
            writer.add(members)
        if writer:
            shards.append(writer.finish())
            writer = None
    finally:
        if writer:
            writer.file.close()
    return shards


class _ShardWriter:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path.open("w+b")
        # GNU format: names over 100 letters and arrays over 8 GiB, without time stamps in extra headers.
        self.tar = tarfile.TarFile(fileobj=self.file, mode="w", format=tarfile.GNU_FORMAT)
        self.clips = 0
        self.bytes = 0

    def add(self, members: list[tuple[str, memoryview | bytes]]) -> None:
        for name, data in members:
            entry = tarfile.TarInfo(name)  # time, owner and group are zero already: equal bytes each time
            entry.size = len(data)
            entry.mode = 0o644
            self.tar.addfile(entry, io.BytesIO(data))
            self.bytes += _tar_bytes(entry.size)
        self.clips += 1

    def finish(self) -> Shard:
        self.tar.close()
        self.file.seek(0)
        digest = hashlib.file_digest(self.file, "sha256").hexdigest()
        size = self.file.seek(0, os.SEEK_END)
        self.file.close()
        return Shard(file=self.path.name, clips=self.clips, bytes=size, sha256=digest)


def _tar_bytes(size: int) -> int:
    return 512 + -(-size // 512) * 512


def _members(clip: Clip) -> list[tuple[str, memoryview | bytes]]:
    """Turn a clip into (file name, content) in the order of the tar: frames, json, tracks by name."""
    facts = {"fps": float(clip.fps), "meta": dict(clip.meta)}
    try:
        text = json.dumps(facts, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StillmotionError(f"The meta of clip {clip.name!r} cannot be written as JSON: {error}.") from None
    members: list[tuple[str, memoryview | bytes]] = [
        (f"{clip.name}.frames.npy", _npy(clip.frames)),
        (f"{clip.name}.json", text.encode()),
    ]
    for track in sorted(clip.tracks):
        if track == "frames" or not track or not all(c.isascii() and (c.isalnum() or c in "-_") for c in track):
            raise StillmotionError(
                f"The track name {track!r} of clip {clip.name!r} must hold letters, digits, '-' and '_' only "
                "and must not be 'frames'."
            )
        array = np.asarray(clip.tracks[track])
        if array.dtype.kind not in "biuf":
            raise StillmotionError(f"The track {track!r} of clip {clip.name!r} must hold numbers, not {array.dtype}.")
        members.append((f"{clip.name}.{track}.npy", _npy(array)))
    return members


def _npy(array: np.ndarray) -> memoryview:
    # Little-endian C order whatever the machine and the view, so that equal clips are equal bytes.
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(np.shape(array))
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version=(1, 0), allow_pickle=False)
    return buffer.getbuffer()
