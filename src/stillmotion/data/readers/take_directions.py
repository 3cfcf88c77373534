"""The sets of "Learning to Take Directions One Step at a Time" (ICPR 2020), with its splits.

Its MNIST is read by the world `digits`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from stillmotion.data.info import Quarantined
from stillmotion.data.sources import (
    PICTURE_ENDINGS,
    Found,
    Source,
    counting,
    match_names,
    natural_key,
    split_found,
    walk,
)
from stillmotion.errors import StillmotionError

KTH_ACTIONS = ("walking", "jogging", "running")
KTH_TEST_PERSONS = frozenset(range(21, 26))
SEQUENCES = "00sequences.txt"
STROKE = "stroke"
HUMAN36M_TEST = frozenset({"S9", "S11"})

_KTH_NAME = re.compile(r"person(?P<person>\d{2})_(?P<action>[a-z]+)_(?P<scenario>d[1-4])(_uncomp)?$")
_KTH_LINE = re.compile(r"\s*(person\d{2}_[a-z]+_d[1-4])\s+frames\s+(.*)")
_WEIZMANN_VIDEO = re.compile(r"(?P<subject>[a-z]+)_(?P<action>[a-z]+\d?)$")
# walk1 and walk2 are Lena's two takes; wave1 and wave2 are actions of their own (one arm, both arms).
_TAKE = re.compile(r"(?P<action>walk|run|skip|side|jump|pjump|jack|bend)(?P<take>[12])$")
_HUMAN36M_NAME = re.compile(r"(?P<action>[A-Za-z]+)( (?P<take>\d))?\.(?P<camera>\d{8})$")
_PUSH_SETS = {"train": ("train", None), "testseen": ("test", "seen"), "testnovel": ("test", "novel")}


@counting
def kth(root: Path, passed_over: Counter[str]) -> Found:
    """KTH actions: walking, jogging and running; persons 21 to 25 are for testing, the others for training.

    Known: videos `personNN_ACTION_dS_uncomp.avi` of 160 x 120 at 25 frames per second, at any depth, and the official
    `00sequences.txt` in the folder or the one above its videos, whose lines name the parts in which a person is seen:
    `person01_walking_d1 frames 1-75, 152-225, ...`, counted from 1, ends included. Each part is a clip; meta `person`
    (int), `action`, `scenario`, `part` (from 1). In the official file parts are not always in order, may overlap by
    frames or end behind the video, and a video may have three; spaces vary. Other actions are passed over. A video
    without a line is left out, and so is a part that cannot be read.

    Raises:
        StillmotionError: no videos of these actions, or no sequence file.
    """
    sources, _ = walk(root, ("video",), passed_over, read=(SEQUENCES,))
    named, refused = match_names(sources, root, _KTH_NAME, "personNN_ACTION_dS_uncomp")
    wanted = [source for source in named if source.meta["action"] in KTH_ACTIONS]
    if not wanted:
        raise StillmotionError(
            f"No walking, jogging or running in {str(root)!r}: unpack these archives of KTH there."
        )
    passed_over["videos of other actions"] += len(named) - len(wanted)
    spans, broken = _read_sequences(_sequence_file(root))
    clips = []
    for source in wanted:
        label = source.path.stem.removesuffix("_uncomp")
        if label not in spans:
            reason = broken.get(label, f"It has no line in {SEQUENCES}.")
            refused.append(Quarantined(str(source.path.relative_to(root)), reason))
            continue
        person = int(source.meta["person"])
        split = "test" if person in KTH_TEST_PERSONS else "train"
        for part, span in enumerate(spans[label], start=1):
            facts = {"action": source.meta["action"], "scenario": source.meta["scenario"], "part": part}
            meta = {"person": person, **facts}
            clips.append(replace(source, name=f"{label}_{part}", split=split, fps=25.0, span=span, meta=meta))
    return Found(clips, "persons 21 to 25 for testing", "KTH actions", refused)


def _sequence_file(root: Path) -> Path:
    for folder in (root, root.resolve().parent):
        if (folder / SEQUENCES).is_file():
            return folder / SEQUENCES
    raise StillmotionError(f"There is no {SEQUENCES} in {str(root)!r}: fetch it from where the videos came from.")


def _read_sequences(path: Path) -> tuple[dict[str, list[tuple[int, int]]], dict[str, str]]:
    """Parts by video, (first frame, one past the last) counted from 0, and what is wrong with other lines."""
    spans: dict[str, list[tuple[int, int]]] = {}
    broken: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise StillmotionError(f"{str(path)!r} cannot be read ({error.strerror}).") from error
    for line in lines:
        match = _KTH_LINE.match(line)
        if match is None:  # the introduction, blank lines, "missing"
            continue
        label, listed = match.groups()
        parts = [re.fullmatch(r"(\d{1,6})\s*-\s*(\d{1,6})", part.strip()) for part in listed.rstrip(" ,").split(",")]
        numbers = [(int(part[1]), int(part[2])) for part in parts if part]
        if len(numbers) < len(parts) or any(not 1 <= first <= last for first, last in numbers):
            broken[label] = f"Its line in {path.name} cannot be understood: {line.strip()!r}."
            continue
        # In time's order, and each frame once: an overlap belongs to the earlier part.
        kept: list[tuple[int, int]] = []
        for first, last in sorted(numbers):
            start = max(first - 1, kept[-1][1] if kept else 0)
            if start < last:
                kept.append((start, last))
        spans[label] = kept
    return spans, broken


@counting
def weizmann_videos(root: Path, passed_over: Counter[str]) -> Found:
    """Weizmann "Actions as Space-Time Shapes", the original videos: `daria_walk.avi`, `lena_run2.avi`.

    Known: 9 people, 10 actions, 180 x 144; meta `subject` (a name), `action`, and `take` for Lena's second takes of
    walk, run and skip. The paper does not say its split. Assumed: without train and test folders 20 % of the people
    are for testing, so that no person is in both.
    """
    sources, has_splits = walk(root, ("video",), passed_over)
    named, refused = match_names(sources, root, _WEIZMANN_VIDEO, "PERSON_ACTION")
    clips = []
    for source in named:
        facts = dict(source.meta)
        if take := _TAKE.match(facts["action"]):
            facts.update(action=take["action"], take=int(take["take"]))
        clips.append(replace(source, meta=facts))
    return split_found(clips, has_splits, 0.2, "Weizmann actions", refused, by="subject")


@counting
def push(root: Path, passed_over: Counter[str]) -> Found:
    """Robot pushing (Finn et al.), as folders of frames; with `stroke.txt` its points become the track `points`.

    Known: the folders `push_train`, `push_testseen` and `push_testnovel` (or without `push_`) are the official
    training set and two test sets; meta `objects` is `seen` or `novel` in the latter. In the release of the paper's
    code a clip's folder also holds `stroke.txt`, a line `row,col` per point in pixels, of which line i (from 0)
    belongs to frame i + 1 (frame 0 has none; a file with more lines than frames has one too many at its start), and
    `stroke.png`, which is a picture of the stroke and no frame. Assumed: without these folders 20 % of the clips are
    for testing.
    """
    if not root.is_dir():
        raise StillmotionError(f"{str(root)!r} is not a folder: give the one with the folders of frames.")
    official = [
        folder
        for folder in sorted(root.iterdir())
        if folder.is_dir() and folder.name.removeprefix("push_") in _PUSH_SETS
    ]
    sources: list[Source] = []
    read = (f"{STROKE}.txt",)
    for folder in official:
        split, objects = _PUSH_SETS[folder.name.removeprefix("push_")]
        facts = {} if objects is None else {"objects": objects}
        sources += [
            replace(source, name=f"{folder.name}_{source.name}", split=split, meta=facts)
            for source in walk(folder, ("frames",), passed_over, read)[0]
        ]
    if official:
        passed_over["beside the folders push_..."] += sum(entry not in official for entry in root.iterdir())
    sources = sources or walk(root, ("frames",), passed_over, read)[0]
    passed_over["pictures of strokes"] += sum((source.path / f"{STROKE}.png").is_file() for source in sources)
    clips, refused = [], []
    for source in sources:
        try:
            clips.append(_with_stroke(source))
        except StillmotionError as error:
            refused.append(Quarantined(str(source.path.relative_to(root)), str(error)))
    if official:
        return Found(clips, f"the folders {', '.join(f.name for f in official)}", "Robot pushing", refused)
    return split_found(clips, False, 0.2, "Robot pushing", refused)


def _with_stroke(source: Source) -> Source:
    """Take a clip's frames without the stroke's own picture, and its points."""
    pictures = sorted(
        (p.name for p in source.path.iterdir() if p.suffix.lower() in PICTURE_ENDINGS and not p.name.startswith(".")),
        key=natural_key,
    )
    stroke = [i for i, name in enumerate(pictures) if Path(name).stem.lower() == STROKE]
    first = 1 if stroke == [0] else 0
    count = len(pictures) - len(stroke)
    if stroke and stroke not in ([0], [count]):
        raise StillmotionError(f"{pictures[stroke[0]]} lies between the frames: give the frames names before it.")
    source = replace(source, span=(first, first + count))
    path = source.path / f"{STROKE}.txt"
    if not path.is_file():
        return source
    nothing = (math.nan, math.nan)
    found = list(_stroke_lines(path))
    found = found[1:] if len(found) > count else found
    points = [nothing, *found][:count]
    return replace(source, points=tuple(points + [nothing] * (count - len(points))))


def _stroke_lines(path: Path) -> Iterator[tuple[float, float]]:
    """The points of a file of `row,col` lines as (x, y)."""
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n"), start=1):
        if not line.strip():
            continue
        match = re.fullmatch(r"\s*(-?\d{1,6}(?:\.\d{1,9})?)\s*,\s*(-?\d{1,6}(?:\.\d{1,9})?)\s*", line)
        if match is None:
            raise StillmotionError(f"Line {number} of its {path.name} should read row,col: {line.strip()[:40]!r}.")
        yield float(match[2]), float(match[1])


@counting
def human36m(root: Path, passed_over: Counter[str]) -> Found:
    """Human3.6M: subjects S9 and S11 are for testing, the others for training.

    Known: videos `S1/Videos/Directions 1.54138969.mp4` (action, sometimes a take, camera) at 50 frames per second;
    meta `subject` (`S1`), `action`, `camera`, and `take`. Videos whose name begins with `_` (calibration, all
    cameras) are left out. The subject is the nearest folder above that is called S and a number. It is the split of
    the poke paper (CVPR 2021) too, with S1, S5, S6, S7 and S8 for training, the centre of the picture and 6.25 frames
    per second: `prepare(fps=6.25, crop="centre")`.

    Raises:
        StillmotionError: no such video.
    """
    sources, _ = walk(root, ("video",), passed_over)
    named, refused = match_names(sources, root, _HUMAN36M_NAME, "ACTION CAMERA below a subject's folder")
    clips = []
    for source in named:
        above = (root.resolve().name, *source.path.relative_to(root).parts[:-1])
        folders = [name for name in above if re.fullmatch(r"S\d{1,2}", name)]
        if not folders:
            reason = "No folder above it names its subject, as S9 does."
            refused.append(Quarantined(str(source.path.relative_to(root)), reason))
            continue
        subject = folders[-1]
        facts = {key: value for key, value in source.meta.items() if value is not None}
        if "take" in facts:
            facts["take"] = int(facts["take"])
        label = "_".join([subject, *(str(facts[key]) for key in ("action", "take", "camera") if key in facts)])
        split = "test" if subject in HUMAN36M_TEST else "train"
        clips.append(replace(source, name=label, split=split, fps=50.0, meta={"subject": subject, **facts}))
    if not clips:
        raise StillmotionError(f"No video in {str(root)!r} lies below a subject's folder (S1, S9, ...).")
    return Found(clips, "subjects S9 and S11 for testing", "Human3.6M", refused)
