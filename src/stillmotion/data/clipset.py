"""Reading a prepared data set: a sequence of clips whose arrays are mapped out of the tar shards."""

from __future__ import annotations

import hashlib
import io
import math
import mmap
import operator
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsIndex, overload

import numpy as np
import pydantic.dataclasses

from stillmotion.data.clip import Clip
from stillmotion.data.info import DatasetInfo, Rate, Shard, merge_infos, read_info
from stillmotion.errors import StillmotionError
from stillmotion.files import STRICT, parse_json, parse_settings, parsing


@dataclass(frozen=True)
class _Entry:
    """One clip: its shard and where the bytes of each of its parts (`json`, `frames`, the tracks) lie in it."""

    name: str
    shard: Path
    parts: Mapping[str, slice]


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class _Facts:
    """What `NAME.json` says."""

    fps: Rate
    meta: Mapping[str, Any]


class StoredClip(Clip):
    """A clip of a `ClipSet`. Worker processes get its place, and not a copy of gigabytes of arrays."""

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        # What `dataclasses.replace` makes of it has no place.
        place = self.__dict__.get("place")
        return super().__reduce_ex__(protocol) if place is None else (operator.getitem, place)


class ClipSet(Sequence[Clip]):
    """The clips of one or more prepared data sets, or some of them.

    `clips[i]` is a `Clip` whose frames and tracks are read-only views into the mapped tar file: nothing is
    copied until it is touched. A set can be sent to worker processes; each maps the files anew.

    Attributes:
        info: describes the data sets on disk that the clips come from, also if this set holds only some.
    """

    def __init__(self, entries: Sequence[_Entry], infos: Sequence[DatasetInfo], folders: Sequence[Path]):
        self._entries = tuple(entries)
        self._infos = tuple(infos)
        self._folders = tuple(folders)
        self._maps: dict[Path, mmap.mmap] = {}
        sets = zip(self._folders, self._infos, strict=True)
        self._digests = {folder / shard.file: shard.sha256 for folder, info in sets for shard in info.shards}
        self.info = merge_infos(self._infos)

    @property
    def names(self) -> tuple[str, ...]:
        """The clips' names, in order."""
        return tuple(entry.name for entry in self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> Clip: ...

    @overload
    def __getitem__(self, index: slice) -> ClipSet: ...

    def __getitem__(self, index: int | slice) -> Clip | ClipSet:
        if isinstance(index, slice):
            return self._view(self._entries[index])
        entry = self._entries[index]
        fps, meta = self._facts(entry)
        arrays = {part: self._array(entry, part) for part in entry.parts if part != "json"}
        clip = StoredClip(entry.name, arrays.pop("frames"), fps, tracks=arrays, meta=meta)
        object.__setattr__(clip, "place", (self, index))
        return clip

    def named(self, name: str) -> Clip:
        """Return the clip of that name (the first one, if concatenated sets share a name).

        Raises:
            StillmotionError: there is none.
        """
        for i, entry in enumerate(self._entries):
            if entry.name == name:
                return self[i]
        raise StillmotionError(f"There is no clip named {name!r} among the {len(self)} clips.")

    def identity(self, index: int) -> str:
        """A text that names a clip's content: the digest of its shard, and its name."""
        entry = self._entries[index]
        return f"{self._digests[entry.shard]}/{entry.name}"

    def select(self, predicate: Callable[[Clip], bool]) -> ClipSet:
        """Keep the clips for which `predicate(clip)` is true; nothing is copied."""
        return self._view([entry for i, entry in enumerate(self._entries) if predicate(self[i])])

    def where(self, **meta: Any) -> ClipSet:
        """Keep the clips whose meta has all the given values, as in `where(split="train", subject=3)`.

        Raises:
            StillmotionError: no clip is left.
        """
        kept = [entry for entry in self._entries if meta.items() <= self._facts(entry)[1].items()]
        if not kept:
            wanted = ", ".join(f"{key}={value!r}" for key, value in meta.items())
            raise StillmotionError(f"None of the {len(self)} clips has {wanted}.")
        return self._view(kept)

    def verify(self) -> None:
        """Read every shard and compare it with its digest.

        Raises:
            StillmotionError: a shard was changed since it was written.
        """
        for folder, info in zip(self._folders, self._infos, strict=True):
            for shard in info.shards:
                with (folder / shard.file).open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                if digest != shard.sha256:
                    raise StillmotionError(
                        f"{str(folder / shard.file)!r} was changed after it was written: prepare it again."
                    )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}  # a mapping belongs to one process

    def _view(self, entries: Sequence[_Entry]) -> ClipSet:
        view = ClipSet(entries, self._infos, self._folders)
        view._maps = self._maps  # share the open files
        return view

    def _map(self, path: Path) -> mmap.mmap:
        if path not in self._maps:
            with path.open("rb") as file:
                self._maps[path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._maps[path]

    def _facts(self, entry: _Entry) -> tuple[float, dict[str, Any]]:
        what = _named(entry, "json")
        facts = parse_settings(_Facts, parse_json(self._map(entry.shard)[entry.parts["json"]], what), what)
        return facts.fps, dict(facts.meta)

    def _array(self, entry: _Entry, part: str) -> np.ndarray:
        """View one stored array; only the npy header is read."""
        span = entry.parts[part]
        content = self._map(entry.shard)
        header = io.BytesIO(content[span.start : min(span.stop, span.start + 4096)])
        with parsing(_named(entry, part), "prepare the data again"):
            version = np.lib.format.read_magic(header)
            if version != (1, 0):
                raise ValueError(f"npy version {version}")
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(header)
            if dtype.hasobject or dtype.kind not in "biuf":
                # Objects in npy files are pickles, and a pickle can run anything.
                raise ValueError(f"it holds {dtype} and not numbers")
            count = math.prod(shape)
            if (
                fortran
                or min(shape, default=0) < 0
                or header.tell() + count * dtype.itemsize != span.stop - span.start
            ):
                raise ValueError("its size does not fit its shape")
            return np.frombuffer(content, dtype, count, span.start + header.tell()).reshape(shape)


def open_dataset(folder: Path | str) -> ClipSet:
    """Open a prepared data set; only tar headers are read.

    Raises:
        StillmotionError: `folder` is not a prepared data set, is of another version, or a shard is missing,
            truncated or damaged.
    """
    folder = Path(folder).absolute()
    info = read_info(folder)
    entries = [entry for shard in info.shards for entry in _index_shard(folder, shard)]
    return ClipSet(entries, [info], [folder])


def concat(sets: Sequence[ClipSet]) -> ClipSet:
    """Join several sets, in order; clips of different sets may have the same name."""
    if not sets:
        raise StillmotionError("There is no data set to join: give at least one.")
    seen: dict[Path, DatasetInfo] = {}
    for clips in sets:
        seen.update(zip(clips._folders, clips._infos, strict=True))
    entries = [entry for clips in sets for entry in clips._entries]
    return ClipSet(entries, list(seen.values()), list(seen))


def _index_shard(folder: Path, shard: Shard) -> list[_Entry]:
    path = folder / shard.file
    if not path.is_file():
        raise StillmotionError(f"The shard {str(path)!r} is missing: copy it there or prepare the data again.")
    if path.stat().st_size != shard.bytes:
        raise StillmotionError(
            f"The shard {str(path)!r} has {path.stat().st_size} bytes instead of {shard.bytes}: "
            "it was cut off or changed, so copy it or prepare the data again."
        )
    parts: dict[str, dict[str, slice]] = {}
    with parsing(f"The shard {str(path)!r}", "prepare it again"), tarfile.open(path, "r:") as tar:
        for member in tar:
            name, _, part = member.name.partition(".")
            if not member.isreg() or not (part == "json" or part.endswith(".npy")):
                raise StillmotionError(f"The shard {str(path)!r} holds {member.name!r}, which is no clip's.")
            span = slice(member.offset_data, member.offset_data + member.size)
            parts.setdefault(name, {})[part.removesuffix(".npy")] = span
    incomplete = [name for name, found in parts.items() if not {"json", "frames"} <= set(found)]
    if incomplete or len(parts) != shard.clips:
        raise StillmotionError(
            f"The shard {str(path)!r} should hold {shard.clips} whole clips but holds "
            f"{len(parts) - len(incomplete)}: prepare the data again."
        )
    return [_Entry(name, path, found) for name, found in parts.items()]


def _named(entry: _Entry, part: str) -> str:
    return f"The {part} of clip {entry.name!r} in {str(entry.shard)!r}"
