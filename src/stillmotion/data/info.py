"""`dataset.json`: what a prepared data set says about itself."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from stillmotion.errors import StillmotionError

FORMAT_VERSION = 1
INFO_FILE = "dataset.json"


@dataclass(frozen=True)
class Quarantined:
    """An input that could not be used, and why."""

    source: str  # path of the input, relative to the folder that was prepared
    reason: str  # one sentence


@dataclass(frozen=True)
class Shard:
    """One tar file of a data set."""

    file: str  # its name inside the data set's folder
    clips: int  # how many clips it holds
    bytes: int  # its size; checked whenever the data set is opened
    sha256: str  # its digest in hexadecimal; checked by `ClipSet.verify`


@dataclass(frozen=True)
class DatasetInfo:
    """Everything known about a prepared data set beside its clips.

    The first group is given by whoever makes the data set; the second is counted by `write_dataset`, which
    ignores what it is given there.
    """

    title: str = ""  # a name for people
    licence: str = ""  # under what terms the clips may be used; empty if unknown
    decoder: str = ""  # what turned files into frames, with its version
    split_rule: str = ""  # how `meta["split"]` of the clips was decided
    settings: Mapping[str, Any] = field(default_factory=dict)  # how the clips were made (JSON-able values)
    quarantined: Sequence[Quarantined] = ()  # the inputs that were left out

    size: tuple[int, int] | None = None  # (height, width) of every clip, or None if they differ
    fps: float | None = None  # frames per second of every clip, or None if they differ
    clips: int = 0  # number of clips
    frames: int = 0  # number of frames in all clips
    tracks: Sequence[str] = ()  # names of the tracks that every clip has, sorted
    splits: Mapping[str, int] = field(default_factory=dict)  # number of clips per value of `meta["split"]`
    shards: Sequence[Shard] = ()  # the tar files in order
    version: int = FORMAT_VERSION  # version of the format on disk


def info_to_json(info: DatasetInfo) -> str:
    """Write `info` as JSON text: sorted keys, so that the same data set gives the same bytes."""
    try:
        return json.dumps(asdict(info), indent=1, sort_keys=True, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise StillmotionError(f"The facts about the data set cannot be written as JSON: {error}.") from None


def read_info(folder: Path) -> DatasetInfo:
    """Read `dataset.json` of a prepared data set.

    Raises:
        StillmotionError: it is missing, unreadable, of another version, or not in this format.
    """
    path = folder / INFO_FILE
    if not path.is_file():
        raise StillmotionError(
            f"There is no {INFO_FILE} in {str(folder)!r}: give a folder made by `stillmotion prepare`."
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StillmotionError(f"{str(path)!r} cannot be read ({error}): prepare the data again.") from None
    version = values.get("version") if isinstance(values, dict) else None
    if version != FORMAT_VERSION:
        raise StillmotionError(
            f"{str(path)!r} has format version {version!r}, but this stillmotion reads version "
            f"{FORMAT_VERSION}: prepare the data again."
        )
    return _info_from_values(values, path)


def _info_from_values(values: dict[str, Any], path: Path) -> DatasetInfo:
    known = {f.name for f in fields(DatasetInfo)}
    if set(values) != known:
        odd = ", ".join(sorted(set(values) ^ known))
        raise StillmotionError(f"{str(path)!r} misses fields or has unknown ones ({odd}): prepare it again.")
    try:
        size = values["size"]
        info = DatasetInfo(
            **{
                **values,
                "size": None if size is None else (int(size[0]), int(size[1])),
                "fps": None if values["fps"] is None else float(values["fps"]),
                "clips": int(values["clips"]),
                "frames": int(values["frames"]),
                "tracks": tuple(str(t) for t in values["tracks"]),
                "splits": {str(k): int(v) for k, v in values["splits"].items()},
                "quarantined": tuple(Quarantined(**q) for q in values["quarantined"]),
                "shards": tuple(Shard(**s) for s in values["shards"]),
            }
        )
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise StillmotionError(f"{str(path)!r} is damaged ({error}): prepare the data again.") from None
    # A shard's name comes from a file that may have been edited: it must stay inside the data set's folder.
    for shard in info.shards:
        if not isinstance(shard.file, str) or Path(shard.file).name != shard.file:
            raise StillmotionError(f"{str(path)!r} names the shard {shard.file!r} outside its own folder.")
    return info


def merge_infos(infos: Sequence[DatasetInfo]) -> DatasetInfo:
    """Describe several data sets as one: counts are added, what differs becomes None or is joined by '; '."""
    if len(infos) == 1:
        return infos[0]
    texts: dict[str, Any] = {
        name: "; ".join(dict.fromkeys(text for info in infos if (text := getattr(info, name))))
        for name in ("title", "licence", "decoder", "split_rule")
    }
    splits: Counter[str] = Counter()
    for info in infos:
        splits.update(info.splits)
    sizes, rates = {i.size for i in infos}, {i.fps for i in infos}
    return DatasetInfo(
        **texts,
        quarantined=tuple(q for i in infos for q in i.quarantined),
        size=sizes.pop() if len(sizes) == 1 else None,
        fps=rates.pop() if len(rates) == 1 else None,
        clips=sum(i.clips for i in infos),
        frames=sum(i.frames for i in infos),
        tracks=tuple(sorted(set.intersection(*(set(i.tracks) for i in infos)))),
        splits=dict(splits),
        shards=tuple(s for i in infos for s in i.shards),
    )
