"""Derived tracks: what a finished network says about clips, computed once and stored beside the run.

Pseudo-labels, codes and forecasts of a frozen stage are arrays per clip, so they become one more track. Every array
is stored under a digest of what made it: a key, such as the digest of the network's weights, and the clip's content.
A resumed training reads what is stored; for another key or clip nothing is stored, and it is computed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import safetensors.numpy
import torch
from torch import nn

from stillmotion.data.clip import Clip
from stillmotion.data.clipset import ClipSet
from stillmotion.data.track_augment import KINDS
from stillmotion.errors import StillmotionError
from stillmotion.files import parse_json, parsing
from stillmotion.outputs import remove_stale, write_bytes, writing

CHUNK_CLIPS, CHUNK_BYTES = 32, 64 * 2**20
"""A chunk is written after so many clips or bytes: what a killed process loses, and what is held in memory."""

_TYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "U64": "<u8",
    "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip
"""Of safetensors, as numpy names them."""


class _Stored(NamedTuple):
    """Where an array lies."""

    path: Path
    start: int
    end: int
    dtype: str
    shape: tuple[int, ...]


def derived_track(
    clips: Sequence[Clip], name: str, make: Callable[[Clip], np.ndarray], *, kind: str, key: str, folder: Path | str
) -> Sequence[Clip]:
    """Add a track to clips; compute it for those for which it is not stored yet.

    What was computed for another key or other clips is removed. Only one process at a time may call this for the same
    folder and name: of several processes the first computes, and the others call it when it is done.

    Args:
        clips: any number; one chunk is in memory at a time, and arrays are mapped from the disk when read.
        name: of the new track.
        make: computes the track of a clip; called once per clip, in order.
        kind: how the track changes under an augmentation, a key of `track_augment.KINDS`.
        key: a text that differs whenever `make` would return something else: `weights_digest(network)` and settings.
        folder: where tracks are stored, such as the run's folder; this one goes to `folder/name`.

    Returns:
        The clips with the track, and its kind in `meta["track_kinds"]`. They can be sent to worker processes.

    Raises:
        StillmotionError: a clip has such a track already, the kind is not known, or the disk cannot be written.
        ValueError: `make` returned something else than an array of plain numbers.
    """
    if kind not in KINDS:
        raise StillmotionError(f"There is no kind of track {kind!r}: choose from {', '.join(KINDS)}.")
    target = Path(folder).absolute() / name
    with writing(target):
        target.mkdir(parents=True, exist_ok=True)
    digests = [_digest(key, _identity(clips, i)) for i in range(len(clips))]
    stored = _usable_chunks(target, set(digests))
    pending: dict[str, np.ndarray] = {}
    for i, digest in enumerate(digests):
        if digest in stored or digest in pending:
            continue
        pending[digest] = _made(make, clips[i], name)
        if len(pending) >= CHUNK_CLIPS or sum(array.nbytes for array in pending.values()) >= CHUNK_BYTES:
            stored |= _write_chunk(target, pending)
            pending = {}
    if pending:
        stored |= _write_chunk(target, pending)
    return DerivedClips(clips, name, kind, key, [stored[digest] for digest in digests])


def weights_digest(network: nn.Module) -> str:
    """SHA-256 of the names, types, shapes and values of a network's weights and buffers, in hexadecimal."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class DerivedClips(Sequence[Clip]):
    """Clips with one more track; see `derived_track`."""

    def __init__(self, clips: Sequence[Clip], name: str, kind: str, key: str, stored: Sequence[_Stored]):
        """Args: the clips, the track's name and kind, the key, and where each clip's array lies."""
        self._clips, self._name, self._kind, self._key, self._stored = clips, name, kind, key, tuple(stored)
        self._maps: dict[Path, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._stored)

    @overload
    def __getitem__(self, index: int) -> Clip: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Clip]: ...

    def __getitem__(self, index: int | slice) -> Clip | Sequence[Clip]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        clip, stored = self._clips[index], self._stored[index]
        if stored.path not in self._maps:
            self._maps[stored.path] = np.memmap(stored.path, np.uint8, mode="r")
        values = self._maps[stored.path][stored.start : stored.end].view(stored.dtype).reshape(stored.shape)
        kinds = {**clip.meta.get("track_kinds", {}), self._name: self._kind}
        tracks = {**clip.tracks, self._name: np.asarray(values)}
        return replace(clip, tracks=tracks, meta={**clip.meta, "track_kinds": kinds})

    def identity(self, index: int) -> str:
        """A text that names a clip's content, this track included."""
        return _digest(self._name, self._key, _identity(self._clips, index))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}  # a mapping belongs to one process


def _identity(clips: Sequence[Clip], index: int) -> str:
    if isinstance(clips, ClipSet | DerivedClips):
        return clips.identity(index)
    clip = clips[index]
    return _digest(clip.name, str(clip.frames.shape), hashlib.sha256(clip.frames.tobytes()).hexdigest())


def _digest(*texts: str) -> str:
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def _made(make: Callable[[Clip], np.ndarray], clip: Clip, name: str) -> np.ndarray:
    if name in clip.tracks:
        raise StillmotionError(f"Clip {clip.name!r} has a track {name!r} already: give the new one another name.")
    values = make(clip)
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf":
        given = getattr(values, "dtype", type(values))
        raise ValueError(f"the track {name!r} must be an array of numbers, not {given}")
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))


def _write_chunk(folder: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, _Stored]:
    # The name follows from the content: no other chunk is ever overwritten.
    path = folder / f"chunk-{_digest(*arrays)[:16]}.safetensors"
    write_bytes(path, safetensors.numpy.save(dict(arrays)))
    return _read_index(path)


def _usable_chunks(folder: Path, wanted: set[str]) -> dict[str, _Stored]:
    """What is stored of the wanted digests; chunks without any of them, or damaged, are removed."""
    remove_stale(folder)
    found: dict[str, _Stored] = {}
    for path in sorted(folder.glob("chunk-*.safetensors")):
        index = _read_index(path)
        if index.keys() & wanted:
            found |= index
        else:
            path.unlink()
    return found


def _read_index(path: Path) -> dict[str, _Stored]:
    """Where the arrays of a safetensors file lie, by name, from its header; nothing if it is damaged."""
    try:
        with parsing(str(path)):
            size = path.stat().st_size
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = parse_json(file.read(min(length, size)), str(path))
            index = {}
            for name, entry in header.items():
                start, end = (8 + length + int(offset) for offset in entry["data_offsets"])
                shape, dtype = tuple(map(int, entry["shape"])), np.dtype(_TYPES[entry["dtype"]])
                index[name] = _Stored(path, start, end, dtype.str, shape)
                if not 0 <= start <= end <= size or end - start != math.prod(shape) * dtype.itemsize:
                    raise ValueError("an array has another size than its place")
    except StillmotionError:
        return {}
    return index
