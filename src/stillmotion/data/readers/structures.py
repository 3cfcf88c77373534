"""MUG, of "Learning to Forecast and Refine Residual Motion for Image-to-Video Generation" (ECCV 2018).

Its Penn Action is that of `actions`. "Release" is the code that its authors published.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

from stillmotion.data.info import Quarantined
from stillmotion.data.sources import PICTURE_ENDINGS, Found, Source, counting, natural_key, split_found, walk
from stillmotion.errors import StillmotionError

MUG_LISTS = {"train": "train", "val": "train", "test": "test"}
"""The release's lists, each with the split of its clips."""

_LIST_FILES = tuple(f"{group}.txt" for group in MUG_LISTS)

MUG_EXPRESSIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")

_TITLE = "MUG facial expressions"
_LINE = re.compile(r"(?P<video>\d{3} [a-z]{1,20} take\d{3}) (?P<picture>img_\d{4}\.[a-z]{3,4})$")


@counting
def mug(root: Path, passed_over: Counter[str]) -> Found:
    """MUG: folders of frames `SUBJECT/EXPRESSION/TAKE`, as `001/happiness/take000/img_0000.jpg`.

    Known: 86 people, six expressions, 19 frames per second; the paper takes a third of the people each to train the
    forecast, to train the refinement, and to test. The release's lists `train.txt`, `val.txt` and `test.txt` (345,
    316 and 206 videos of 19, 19 and 12 people), if all lie in the folder or the one above, have a line for each
    picture: `001 happiness take000 img_0012.jpg`, a video's lines one after the other and in time. Meta `subject`,
    `expression`, `take`, and with lists `group` (`train`, `val`, `test`); the split of `val` is `train`, since it
    presumably is the group of the refinement. A clip is the part of its folder from the first picture named to the
    last; what the lists do not name is passed over. Assumed: without the lists the six expressions are taken, and a
    third of the people is for testing. Faces are not cut out: `prepare(crop=...)` does it.

    Raises:
        StillmotionError: no such folder, or a list cannot be understood or names what another list names.
    """
    if not root.is_dir():
        raise StillmotionError(f"{str(root)!r} is not a folder: give the one with the people's folders.")
    for folder in (root, root.resolve().parent):
        if all((folder / name).is_file() for name in _LIST_FILES):
            return _listed(root, folder, passed_over)
    sources, _ = walk(root, ("frames",), passed_over, _LIST_FILES)
    clips, refused = [], []
    for source in sources:
        label = " ".join(source.path.resolve().parts[-3:])
        if not re.fullmatch(rf"\d{{3}} ({'|'.join(MUG_EXPRESSIONS)}) take\d{{3}}", label):
            reason = "Its folders are not called SUBJECT/EXPRESSION/TAKE, with one of the six expressions."
            refused.append(Quarantined(source.path.relative_to(root).as_posix(), reason))
            continue
        clips.append(_clip(source.path, label))
    if not clips:
        raise StillmotionError(f"No folder in {str(root)!r} is called as 001/happiness/take000: check the folder.")
    return split_found(clips, False, 1 / 3, _TITLE, refused, by="subject")


def _clip(path: Path, label: str) -> Source:
    subject, expression, take = label.split(" ")
    meta = {"subject": subject, "expression": expression, "take": take}
    return Source(path, label.replace(" ", "_"), "frames", fps=19.0, meta=meta)


def _listed(root: Path, folder: Path, passed_over: Counter[str]) -> Found:
    """The videos of the lists in `folder`, in their order."""
    clips: list[Source] = []
    refused: list[Quarantined] = []
    groups: dict[str, str] = {}
    for group, split in MUG_LISTS.items():
        for label, pictures in _read_list(folder / f"{group}.txt").items():
            if label in groups:
                raise StillmotionError(
                    f"{label} stands in both {groups[label]}.txt and {group}.txt: fetch them again."
                )
            groups[label] = group
            path = root.joinpath(*label.split(" "))
            clip = _clip(path, label)
            try:
                span, count = _span(path, pictures)
            except StillmotionError as error:
                refused.append(Quarantined(path.relative_to(root).as_posix(), str(error)))
                continue
            passed_over["pictures before and after those that the lists name"] += count - (span[1] - span[0])
            clips.append(replace(clip, split=split, span=span, meta={**clip.meta, "group": group}))
    if not clips:
        raise StillmotionError(f"The lists in {str(folder)!r} name no folder in {str(root)!r}: check the folder.")
    named = {root.joinpath(*label.split(" ")) for label in groups}
    others = [source for source in walk(root, ("frames",), passed_over, _LIST_FILES)[0] if source.path not in named]
    passed_over["folders that the lists do not name"] += len(others)
    return Found(clips, f"the authors' lists ({', '.join(_LIST_FILES)})", _TITLE, refused)


def _span(path: Path, pictures: list[str]) -> tuple[tuple[int, int], int]:
    """Where the named pictures lie in a folder, (first, one past the last), and how many there are."""
    if not path.is_dir():
        raise StillmotionError("A list names it, but there is no such folder.")
    there = [p.name for p in path.iterdir() if p.suffix.lower() in PICTURE_ENDINGS and not p.name.startswith(".")]
    places = {name: i for i, name in enumerate(sorted(there, key=natural_key))}
    missing = [name for name in pictures if name not in places]
    if missing:
        raise StillmotionError(f"{len(missing)} of the {len(pictures)} pictures listed are missing, as {missing[0]}.")
    found = [places[name] for name in pictures]
    if found != sorted(set(found)):
        raise StillmotionError("Its pictures are not listed in the order of time.")
    return (found[0], found[-1] + 1), len(places)


def _read_list(path: Path) -> dict[str, list[str]]:
    """The pictures of each video (`001 happiness take000`), in the order of the file."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise StillmotionError(f"{str(path)!r} cannot be read ({error.strerror}).") from error
    videos: dict[str, list[str]] = {}
    for number, line in enumerate(lines, start=1):
        match = _LINE.match(line.strip())
        if match:
            videos.setdefault(match["video"], []).append(match["picture"])
        elif line.strip():
            wanted = "001 happiness take000 img_0012.jpg"
            raise StillmotionError(f"Line {number} of {path.name} should read as {wanted}: {line.strip()[:40]!r}.")
    return videos
