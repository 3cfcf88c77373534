"""Finding clips in a folder (videos, folders of frames, strips) and which are for training or testing."""

from __future__ import annotations

import functools
import hashlib
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec

import numpy as np

from stillmotion.data.info import Quarantined, left_out
from stillmotion.errors import StillmotionError
from stillmotion.media import Limits, MediaError
from stillmotion.media.pictures import WHITE, open_image

Kind = Literal["video", "frames", "strip", "drawn"]
P = ParamSpec("P")

VIDEO_ENDINGS = (
    ".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".webm", ".mkv", ".avi", ".gif",
    ".wmv", ".asf", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg",
)  # fmt: skip
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".heic", ".heif")
# Folders and files that systems make beside a person's own (in lower case), as hidden ones are.
SYSTEM_NAMES = (
    "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found", "__macosx",
    "thumbs.db", "ehthumbs.db", "desktop.ini", "thumbs", "thumbnails",
)  # fmt: skip
LAYOUTS: Mapping[str, tuple[Kind, ...]] = {
    "auto": ("video", "frames", "strip"),
    "videos": ("video",),
    "frames": ("frames",),
    "strips": ("strip",),
}
SPLIT_FOLDERS = ("train", "test")
_LONGEST_NAME = 80


@dataclass(frozen=True)
class Source:
    """Something that can become a clip."""

    path: Path  # a video, a folder of frames, a picture with the frames side by side, or what `draw` begins with
    name: str  # of the clip to be; made safe and unique by `with_safe_names`
    kind: Kind  # how to read it
    split: str | None = None  # `train`, `test`, or None while undecided
    fps: float | None = None  # frames per second, where only the data set's description tells, not the file
    frame_width: int | None = None  # of a strip, in pixels; None if frames are square
    ground: tuple[int, int, int] = WHITE  # RGB, behind what is transparent in an animation
    # The part of the video that is the clip, (first frame, one past the last), counted from 0 at the source's own
    # rate; None for all of it. What lies behind the end of the video is not missed.
    span: tuple[int, int] | None = None
    # The same as shares of the video's length, from 0 to 1, where the data set is split within its videos.
    shares: tuple[float, float] | None = None
    # T x 2, (x, y) in pixels of the source for each frame of the span, NaN where unknown: where the data set brings
    # its own. They become the track `points`.
    points: tuple[tuple[float, float], ...] | None = None
    # T x 13 x 3, (x, y) in pixels of the source and visibility, in the order of `pose.JOINTS`: the track `joints`.
    joints: np.ndarray | None = field(default=None, compare=False)
    # The part (x0, y0, x1, y1), ends exclusive, that `crop="box"` cuts out, where the data set brings boxes.
    box: tuple[int, int, int, int] | None = None
    # Of a source that is drawn and not read: makes `uint8` T x H x W x 4, RGB and the track `mask` (0 or 255).
    draw: Callable[[], np.ndarray] | None = field(default=None, compare=False)
    meta: Mapping[str, Any] = field(default_factory=dict)  # facts for the clip


@dataclass(frozen=True)
class Found:
    """What a folder holds."""

    sources: Sequence[Source]  # in the order of the clips to be
    split_rule: str  # how `split` was decided, for `dataset.json`
    title: str = ""  # of the data set
    refused: Sequence[Quarantined] = ()  # what does not belong there, with reasons
    licence: str = ""  # the terms of the clips, where they are the same for everyone
    passed_over: Mapping[str, int] = field(default_factory=dict)  # why, and how many files (a folder counts as one)


def counting(reader: Callable[Concatenate[Path, Counter[str], P], Found]) -> Callable[Concatenate[Path, P], Found]:
    """A reader whose second argument counts, by the reason, the files that it passes over."""

    @functools.wraps(reader)
    def read(root: Path, *args: P.args, **more: P.kwargs) -> Found:
        passed_over: Counter[str] = Counter()
        found = reader(root, passed_over, *args, **more)
        return replace(found, passed_over=dict(sorted((+passed_over).items())))

    return read


@counting
def find_sources(root: Path, passed_over: Counter[str], layout: str = "auto") -> Found:
    """Find clips in a folder and its subfolders.

    With `train` and `test` subfolders these are the splits and nothing beside them is taken; else 20 % are
    drawn for testing, with seed 0. `layout` is `videos`, `frames` (each folder with pictures is a clip), `strips`
    (each picture is a clip), or `auto`: all of these. Then the pictures of a folder are strips if its first picture
    is at least twice as wide as high and its width is a multiple of its height; other pictures that lie beside a
    video, or alone in their folder, are no clip. What is passed over (these pictures, files of other kinds, hidden
    ones, and those that systems make, such as thumbnails) is counted.

    Raises:
        StillmotionError: no such folder or layout, or nothing in it.
    """
    if layout not in LAYOUTS:
        raise StillmotionError(f"There is no layout {layout!r}: choose from {', '.join(LAYOUTS)}.")
    return split_found(*walk(root, LAYOUTS[layout], passed_over), 0.2)


def split_found(
    sources: Sequence[Source],
    has_splits: bool,
    share: float,
    title: str = "",
    refused: Sequence[Quarantined] = (),
    by: str | None = None,
) -> Found:
    """Keep the split by train and test folders, or draw `share` of the clips (people, if `by` names them)."""
    if has_splits:
        return Found(sources, "the folders train and test", title, refused)
    rule = f"{100 * share:.0f} % of the {'people' if by else 'clips'} at random for testing (seed 0)"
    return Found(random_split(sources, share, by), rule, title, refused)


def walk(
    root: Path, kinds: Sequence[Kind], passed_over: Counter[str], read: Collection[str] = ()
) -> tuple[list[Source], bool]:
    """List the sources below `root` in natural order, and tell whether train and test folders split them.

    What is no source is counted in `passed_over` by the reason, but for files with the names `read`.

    Raises:
        StillmotionError: no such folder, or nothing in it.
    """
    if not root.is_dir():
        raise StillmotionError(f"{str(root)!r} is not a folder: give one that holds videos or frames.")
    splits = [root / name for name in SPLIT_FOLDERS if (root / name).is_dir()]
    if splits:
        beside = sum(entry not in splits and entry.name not in read for entry in root.iterdir())
        passed_over["beside the folders train and test"] += beside
    sources = []
    for base in splits or [root]:
        split = base.name if splits else None
        sources += [replace(source, split=split) for source in _walk(base, base, kinds, set(), passed_over, read)]
    if not sources:
        raise StillmotionError(f"No {', no '.join(kinds)} in {str(root)!r}: check the folder and the layout.")
    return sources, bool(splits)


def random_split(sources: Sequence[Source], share: float, by: str | None = None) -> list[Source]:
    """Draw `share` of the sources, rounded up, for testing, with seed 0; the rest, or the only one, is for training.

    `by` is a key of `meta`: all sources with the same value (a person, say) come into the same split.
    """
    keys = [str(source.meta[by]) if by else str(i) for i, source in enumerate(sources)]
    groups = sorted(set(keys), key=natural_key)
    # The small subtraction undoes rounding: 0.1 * 1000 must not become 101.
    count = math.ceil(share * len(groups) - 1e-9) if len(groups) > 1 else 0
    chosen = {groups[i] for i in np.random.default_rng(0).permutation(len(groups))[:count]}
    return [
        replace(source, split="test" if key in chosen else "train") for source, key in zip(sources, keys, strict=True)
    ]


def hold_out(sources: Sequence[Source], wanted: Mapping[str, Sequence[Any]]) -> list[Source]:
    """Take for testing what has one of the named values in its meta, `{"subject": ["3", "8"]}`.

    Raises:
        StillmotionError: a value does not occur.
    """
    chosen = set().union(*(_with_values(sources, *item, "be held out for testing") for item in wanted.items()))
    return [replace(s, split="test" if i in chosen else "train") for i, s in enumerate(sources)]


def keep_only(sources: Sequence[Source], wanted: Mapping[str, Sequence[Any]]) -> list[Source]:
    """Take what has, for every key, one of the named values in its meta, `{"action": ["walk", "slash"]}`.

    Raises:
        StillmotionError: a value does not occur, or no source has one for every key.
    """
    chosen = set(range(len(sources)))
    for item in wanted.items():
        chosen &= _with_values(sources, *item, "be taken")
    if not chosen:
        asked = " and ".join(f"{key}={','.join(map(str, values))}" for key, values in wanted.items())
        raise StillmotionError(f"No clip has {asked}: ask for less at once.")
    return [source for i, source in enumerate(sources) if i in chosen]


def _with_values(sources: Sequence[Source], key: str, values: Sequence[Any], purpose: str) -> set[int]:
    """Indices of the sources with one of the values; each value must occur."""
    chosen: set[int] = set()
    for value in values:
        matching = {i for i, s in enumerate(sources) if str(s.meta.get(key)) == str(value)}
        if not matching:
            raise StillmotionError(f"No clip has {key}={value} that could {purpose}.")
        chosen |= matching
    return chosen


def match_names(
    sources: Sequence[Source], root: Path, pattern: re.Pattern[str], shape: str
) -> tuple[list[Source], list[Quarantined]]:
    """Read facts out of file names; what is named otherwise does not belong to the data set."""
    named, refused = [], []
    for source in sources:
        label = source.path.name if source.kind == "frames" else source.path.stem
        if match := pattern.match(label):
            named.append(replace(source, meta={**source.meta, **match.groupdict()}))
        else:
            reason = f"Its name does not have the form {shape}."
            refused.append(left_out(source.path.relative_to(root), reason))
    if not named:
        raise StillmotionError(f"Nothing in {str(root)!r} has a name of the form {shape}: check the folder.")
    return named, refused


def with_safe_names(sources: Sequence[Source]) -> list[Source]:
    """Give every source a name of letters, digits, '-' and '_' that no other has (ignoring case)."""
    named = []
    taken: set[str] = set()
    for source in sources:
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", source.name).strip("-") or "clip"
        if len(name) > _LONGEST_NAME:
            name = f"{name[:_LONGEST_NAME]}-{hashlib.sha256(source.name.encode()).hexdigest()[:8]}"
        unique, count = name, 1
        while unique.lower() in taken:
            count += 1
            unique = f"{name}-{count}"
        taken.add(unique.lower())
        named.append(replace(source, name=unique))
    return named


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which `2` comes before `10`."""
    parts = re.split(r"([0-9]+)", text)
    return tuple((1, int(p), p) if p.isdecimal() and p.isascii() else (0, 0, p) for p in parts)


def _walk(
    folder: Path,
    base: Path,
    kinds: Sequence[Kind],
    seen: set[Path],
    passed_over: Counter[str],
    read: Collection[str],
) -> Iterator[Source]:
    real = folder.resolve()
    if real in seen:  # a link back up
        passed_over["links to folders that are taken already"] += 1
        return
    seen.add(real)
    entries = sorted(os.scandir(folder), key=lambda entry: natural_key(entry.name))
    roles = {Path(entry): file_role(entry) for entry in entries if entry.name not in read}
    pictures = [path for path, role in roles.items() if role == "picture"]
    thumbnails = "video" in roles.values() or (folder != base and _named_as_videos(pictures, folder.parent))
    kind, refusal = _picture_kind(pictures, thumbnails, kinds)
    if kind == "frames":
        yield Source(folder, _joined(folder, base) or real.name, "frames")
    for path, role in roles.items():
        if role == "folder":
            yield from _walk(path, base, kinds, seen, passed_over, read)
        elif role == "video" and "video" in kinds:
            yield Source(path, _joined(path.with_suffix(""), base), "video")
        elif role == "picture" and kind == "strip":
            yield Source(path, _joined(path.with_suffix(""), base), "strip")
        elif role == "video":
            passed_over["videos"] += 1
        elif role == "picture":
            if refusal:
                passed_over[refusal] += 1
        else:
            passed_over[role] += 1


def file_role(entry: os.DirEntry[str]) -> str:
    """`folder`, `video`, `picture`, or why it is none of these."""
    name = entry.name.lower()
    if name.startswith(".") or name in SYSTEM_NAMES:
        return "hidden or made by a system"
    if entry.is_dir():
        return "folder"
    if not entry.is_file():
        return "broken links and devices"
    if name.endswith(VIDEO_ENDINGS):
        return "video"
    return "picture" if name.endswith(PICTURE_ENDINGS) else f"{Path(name).suffix or 'unnamed'} files"


def _joined(path: Path, base: Path) -> str:
    return "_".join(path.relative_to(base).parts)


def _picture_kind(
    pictures: Sequence[Path], thumbnails: bool, kinds: Sequence[Kind]
) -> tuple[Kind | None, str | None]:
    """What the pictures of a folder are, and why they are no clip; `thumbnails` that are no strips are none."""
    if not {"strip", "frames"} & set(kinds):
        return None, "pictures"
    if len(kinds) == 1 or not pictures:
        return (kinds[0] if pictures else None), None
    kind = _shape_kind(pictures, kinds)
    if kind == "frames" and thumbnails:
        return None, "pictures beside videos"
    if kind == "frames" and len(pictures) == 1:
        return None, "pictures alone in their folder"
    return kind, None


def _named_as_videos(pictures: Sequence[Path], folder: Path) -> bool:
    """Whether each picture has the name of a video in the folder, `walk.jpg` or `walk.mp4.jpg`."""
    videos = [path for path in folder.iterdir() if path.name.lower().endswith(VIDEO_ENDINGS)]
    names = {name for path in videos for name in (path.name, path.stem)}
    return all(picture.stem in names for picture in pictures)


def _shape_kind(pictures: Sequence[Path], kinds: Sequence[Kind]) -> Kind:
    """Whether pictures are frames or strips, by the first that can be read."""
    if "strip" not in kinds:
        return "frames"
    for picture in pictures:
        try:
            with open_image(picture, Limits()) as image:
                width, height = image.size
        except MediaError:
            continue  # a broken one says nothing about the others
        return "strip" if width >= 2 * height and width % height == 0 else "frames"
    return "frames"
