"""`dataset.json`: what a prepared data set says about itself."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field, fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from stillmotion.errors import StillmotionError
from stillmotion.files import STRICT, parse_settings, read_json
from stillmotion.outputs import bring_back

FORMAT_VERSION = 1
INFO_FILE = "dataset.json"
Count = Annotated[int, Field(ge=0, le=2**53)]
Rate = Annotated[float, Field(gt=0, le=1e6)]  # frames per second
_MAY_BE_MISSING = {"passed_over"}  # data sets made before there was such a field are read all the same


@dataclass(frozen=True, config=STRICT)
class Quarantined:
    """An input that could not be used, and why."""

    source: str  # path of the input, relative to the folder that was prepared
    reason: str  # one sentence


@dataclass(frozen=True, config=STRICT)
class Shard:
    """One tar file of a data set."""

    file: str  # its name inside the data set's folder
    clips: Count  # how many clips it holds
    bytes: Count  # its size; checked whenever the data set is opened
    sha256: str  # its digest in hexadecimal; checked by `ClipSet.verify`

    def __post_init__(self) -> None:
        # It comes from a file that anyone may have edited, and must lead nowhere else.
        if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}", self.file):
            raise StillmotionError(f"The shard {self.file[:100]!r} lies outside its own folder.")


@dataclass(frozen=True, config=STRICT)
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
    quarantined: tuple[Quarantined, ...] = ()  # the inputs that were left out
    passed_over: Mapping[str, Count] = field(default_factory=dict)  # files that are no inputs: the reason, how many

    size: tuple[Count, Count] | None = None  # (height, width) of every clip, or None if they differ
    fps: Rate | None = None  # frames per second of every clip, or None if they differ
    clips: Count = 0  # number of clips
    frames: Count = 0  # number of frames in all clips
    tracks: tuple[str, ...] = ()  # names of the tracks that every clip has, sorted
    splits: Mapping[str, Count] = field(default_factory=dict)  # number of clips per value of `meta["split"]`
    shards: tuple[Shard, ...] = ()  # the tar files in order
    version: int = FORMAT_VERSION  # version of the format on disk


def left_out(source: Path, reason: str) -> Quarantined:
    """An input that was left out; bytes of its name that are no UTF-8 are spelled out."""
    name, reason = (text.encode(errors="backslashreplace").decode() for text in (source.as_posix(), reason))
    return Quarantined(name, reason)


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
    if not folder.exists():
        bring_back(folder.absolute().parent)
    if not path.is_file():
        raise StillmotionError(
            f"There is no {INFO_FILE} in {str(folder)!r}: give a folder made by `stillmotion prepare`."
        )
    values = read_json(path)
    version = values.get("version") if isinstance(values, dict) else None
    if version != FORMAT_VERSION:
        raise StillmotionError(
            f"{str(path)!r} has format version {str(version)[:20]}, but this stillmotion reads version "
            f"{FORMAT_VERSION}: prepare the data again."
        )
    if missing := {each.name for each in fields(DatasetInfo)} - set(values) - _MAY_BE_MISSING:
        raise StillmotionError(f"{str(path)!r} misses {', '.join(sorted(missing))}: prepare the data again.")
    return parse_settings(DatasetInfo, values, str(path))


def merge_infos(infos: Sequence[DatasetInfo]) -> DatasetInfo:
    """Describe several data sets as one: counts are added, what differs becomes None or is joined by '; '."""
    if len(infos) == 1:
        return infos[0]
    texts: dict[str, Any] = {
        name: "; ".join(dict.fromkeys(text for info in infos if (text := getattr(info, name))))
        for name in ("title", "licence", "decoder", "split_rule")
    }
    splits: Counter[str] = Counter()
    passed_over: Counter[str] = Counter()
    for info in infos:
        splits.update(info.splits)
        passed_over.update(info.passed_over)
    sizes, rates = {i.size for i in infos}, {i.fps for i in infos}
    return DatasetInfo(
        **texts,
        quarantined=tuple(q for i in infos for q in i.quarantined),
        passed_over=dict(passed_over),
        size=sizes.pop() if len(sizes) == 1 else None,
        fps=rates.pop() if len(rates) == 1 else None,
        clips=sum(i.clips for i in infos),
        frames=sum(i.frames for i in infos),
        tracks=tuple(sorted(set.intersection(*(set(i.tracks) for i in infos)))),
        splits=dict(splits),
        shards=tuple(s for i in infos for s in i.shards),
    )
