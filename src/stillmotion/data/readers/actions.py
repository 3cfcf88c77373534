"""The sets of "Unsupervised Keypoint Learning for Guiding Class-Conditional Video Prediction" (NeurIPS 2019).

Its UvA-NEMO and MGIF are Monkey-Net's, in `monkey_net`. "Release" is the code that its authors published.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from stillmotion.data.info import Quarantined
from stillmotion.data.pose import JOINTS
from stillmotion.data.sources import PICTURE_ENDINGS, Found, Source, counting, match_names, split_found, walk
from stillmotion.errors import StillmotionError

PENN_CLASSES = {
    "actions": (
        *("tennis_serve", "pull_ups", "clean_and_jerk", "tennis_forehand", "baseball_pitch", "jumping_jacks"),
        *("golf_swing", "squats", "baseball_swing"),
    ),
    "structures": (
        *("baseball_pitch", "baseball_swing", "clean_and_jerk", "golf_swing", "jumping_jacks", "jump_rope"),
        *("tennis_forehand", "tennis_serve"),
    ),
}
"""The classes of Penn Action that each paper takes, 9 and 8 of 15."""

PENN_LISTS = {"train_set.txt": "train", "test_set.txt": "test"}
PENN_TEST_CLIPS = 10
PENN_STRIPS_TEST = frozenset({6, 7})

_BOX_MARGIN = 5  # pixels
_PENN_NAME = re.compile(r"(?P<sequence>\d{4})$")
_PENN_LINE = re.compile(r"frames/(\d{4})\s+\d{1,2}$")
_STRIP_NAME = re.compile(r"(?P<action>[a-z]+(_[a-z]+)*)_(?P<number>\d{1,4})$")


@counting
def penn_action(root: Path, passed_over: Counter[str], paper: str | None = None) -> Found:
    """Penn Action: the folders of frames `frames/0001` and their labels `labels/0001.mat`.

    Known: 2326 clips of 15 actions, frames `000001.jpg` and so on, whose rate is not known (`prepare(fps=...)` states
    it); labels in MATLAB's format 5 with `action`, `pose` (the view), `x`, `y` and `visibility` (T x 13), `bbox`
    (T x 4: x0, y0, x1, y1), `train` (1 or -1). They become the track `joints`, meta `action`, `view`, `sequence`,
    and the box of `prepare(crop="box")`: a square around all of the clip's boxes with a margin of 5 pixels, clipped
    at the picture's border (Villegas et al. 2017). Assumed: MATLAB counts pixels from 1, so 1 is subtracted.
    Other classes are passed over, and a clip whose labels do not fit its frames is left out.

    Splits: by the labels' `train` (1258 and 1068), for "structures" too, whose lists were not released. For
    "actions" by the release's lists `train_set.txt` and `test_set.txt` (1172 and 90, lines `frames/2289 0`), if they
    lie in the folder or the one above; what they do not name is passed over. Assumed without them: the last ten
    clips of each class are for testing, since neighbours show the same scene.

    Args:
        root: the folder that holds `frames` and `labels`.
        passed_over: see `counting`.
        paper: take the classes of the paper `actions` or `structures` (see `PENN_CLASSES`); None for all.

    Raises:
        StillmotionError: `frames` or `labels` is missing, no clip fits, or a list cannot be understood.
    """
    if not (root / "labels").is_dir() or not (root / "frames").is_dir():
        raise StillmotionError(f"{str(root)!r} does not hold the folders frames and labels of Penn Action.")
    sources, _ = walk(root / "frames", ("frames",), passed_over)
    named, refused = match_names(sources, root, _PENN_NAME, "NNNN")
    beside = {"frames", "labels", *PENN_LISTS}
    passed_over["beside the folders frames and labels"] += sum(entry.name not in beside for entry in root.iterdir())
    labels = {f"{source.name}.mat" for source in named}
    passed_over["files in labels of no clip"] += sum(p.name not in labels for p in (root / "labels").iterdir())
    clips = []
    for source in named:
        try:
            clips.append(_with_labels(source, root / "labels" / f"{source.name}.mat"))
        except StillmotionError as error:
            refused.append(Quarantined(source.path.relative_to(root).as_posix(), str(error)))
    if paper:
        wanted = {_bare(action) for action in PENN_CLASSES[paper]}
        every, clips = clips, [clip for clip in clips if _bare(clip.meta["action"]) in wanted]
        passed_over["clips of other actions"] += len(every) - len(clips)
    if not clips:
        reason = f" (first left out: {refused[0].reason})" if refused else ""
        raise StillmotionError(f"No clip in {str(root)!r} can be taken{reason}.")
    rule = "the labels' `train`"
    if paper == "actions":
        every, (clips, rule) = clips, _split_for_actions(root, clips)
        passed_over["clips that the lists do not name"] += len(every) - len(clips)
    return Found(clips, rule, "Penn Action", refused)


def _bare(action: str) -> str:
    """An action's name without what the labels and the data set's page write differently (`pullup`, `pull_ups`)."""
    return action.lower().replace("_", "").removesuffix("s")


def _with_labels(source: Source, path: Path) -> Source:
    """A source with the facts of its label file."""
    labels = _read_labels(path)
    count = sum(p.suffix.lower() in PICTURE_ENDINGS and not p.name.startswith(".") for p in source.path.iterdir())
    values = [np.atleast_2d(labels[name]) for name in ("x", "y", "visibility")]
    for name, value in zip(("x", "y", "visibility"), values, strict=True):
        if value.ndim != 2 or value.shape[1] != len(JOINTS):
            raise StillmotionError(f"Its labels {name} are {' x '.join(map(str, value.shape))} and not T x 13.")
        if len(value) != count:
            raise StillmotionError(f"It has {count} frames, but {len(value)} labels {name}.")
        if value.dtype.kind not in "iuf" or not np.isfinite(value).all():
            raise StillmotionError(f"Its labels {name} are not all finite numbers.")
    x, y, visibility = (value.astype(np.float32) for value in values)
    train = np.ravel(labels["train"])
    if len(train) != 1 or train.dtype.kind not in "iuf":
        raise StillmotionError("Its label `train` is not one number.")
    facts = {"action": _text(labels, "action"), "view": _text(labels, "pose"), "sequence": source.name}
    return replace(
        source,
        split="train" if train[0] == 1 else "test",
        joints=np.stack([x - 1, y - 1, visibility], axis=-1),
        box=_square(np.atleast_2d(labels["bbox"])),
        meta=facts,
    )


def _read_labels(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise StillmotionError(f"It has no label file {path.name}.")
    names = ("action", "pose", "x", "y", "visibility", "bbox", "train")
    try:
        labels = loadmat(path, variable_names=names)
    except Exception as error:  # scipy meets broken files with every kind of exception
        raise StillmotionError(f"Its label file {path.name} cannot be read ({type(error).__name__}).") from error
    if missing := [name for name in names if name not in labels]:
        raise StillmotionError(f"Its label file {path.name} has no {missing[0]!r}.")
    return {name: labels[name] for name in names}


def _text(labels: dict[str, Any], name: str) -> str:
    text = np.ravel(labels[name])
    if len(text) != 1 or text.dtype.kind != "U":
        raise StillmotionError(f"Its label `{name}` is not one word.")
    return str(text[0]).strip()


def _square(boxes: np.ndarray) -> tuple[int, int, int, int] | None:
    """The square around boxes (T x 4, counted from 1) and their margin, ends exclusive; None without boxes."""
    if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype.kind not in "iuf":
        return None
    boxes = boxes[np.isfinite(boxes).all(1)]
    if len(boxes) == 0:
        return None
    low, high = boxes[:, :2].min(0) - 1 - _BOX_MARGIN, boxes[:, 2:].max(0) + _BOX_MARGIN
    side = math.ceil((high - low).max())
    x, y = (math.floor(v) for v in (low + high - side) / 2)
    return x, y, x + side, y + side


def _split_for_actions(root: Path, clips: Sequence[Source]) -> tuple[list[Source], str]:
    """Split by the release's lists, or by the order of the clips; returns the rule too."""
    for folder in (root, root.resolve().parent):
        if all((folder / name).is_file() for name in PENN_LISTS):
            splits = {label: split for name, split in PENN_LISTS.items() for label in _read_list(folder / name)}
            listed = [replace(clip, split=splits[clip.name]) for clip in clips if clip.name in splits]
            if not listed:
                raise StillmotionError(f"The lists in {str(folder)!r} name none of the clips: check the folder.")
            return listed, f"the authors' lists ({', '.join(PENN_LISTS)})"
    left = Counter(clip.meta["action"] for clip in clips)
    split = []
    for clip in clips:
        split.append(replace(clip, split="test" if left[clip.meta["action"]] <= PENN_TEST_CLIPS else "train"))
        left[clip.meta["action"]] -= 1
    return split, f"the last {PENN_TEST_CLIPS} clips of each action for testing"


def _read_list(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise StillmotionError(f"{str(path)!r} cannot be read ({error.strerror}).") from error
    labels = []
    for number, line in enumerate(lines, start=1):
        if match := _PENN_LINE.match(line.strip()):
            labels.append(match[1])
        elif line.strip():
            raise StillmotionError(
                f"Line {number} of {path.name} should read as frames/2289 0: {line.strip()[:40]!r}."
            )
    return labels


@counting
def penn_strips(root: Path, passed_over: Counter[str]) -> Found:
    """Clips of Penn Action as strips named `ACTION_NUMBER.png` (`jumping_jacks_3.png`), 20 frames per second.

    Known: the example clips of the paper "Learning to Forecast and Refine Residual Motion" (ECCV 2018), 64 x 64, 20
    frames per second. Meta `action`, `number` (int). Assumed: without train and test folders the numbers 6 and 7 of
    each action are for testing; `where(number=6)` are those to validate on.
    """
    sources, has_splits = walk(root, ("strip",), passed_over)
    named, refused = match_names(sources, root, _STRIP_NAME, "ACTION_NUMBER")
    clips = [
        replace(source, fps=20.0, meta={"action": source.meta["action"], "number": int(source.meta["number"])})
        for source in named
    ]
    if has_splits:
        return split_found(clips, has_splits, 0.0, "Penn Action (strips)", refused)
    clips = [replace(c, split="test" if c.meta["number"] in PENN_STRIPS_TEST else "train") for c in clips]
    return Found(clips, "numbers 6 and 7 of each action for testing", "Penn Action (strips)", refused)
