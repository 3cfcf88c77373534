"""The protocols `transfer` and `transfer-absolute`: the first frame of one clip follows another clip."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from stillmotion.data.clip import Clip
from stillmotion.errors import StillmotionError
from stillmotion.evaluation.protocols.base import Protocol, copy_still, feed
from stillmotion.evaluation.protocols.columns import FID_COLUMN, Case, identity_columns, keypoint_columns, still_frame
from stillmotion.systems.driving import Drive

PAIRS, PAIRS_SEED = 100, 0  # random pairs, as many as in Monkey-Net's code


def transfer_cases(clips: Sequence[Clip]) -> list[Case]:
    """Random ordered pairs of different clips, without replacement: the first frame of one, the motion of another.

    Raises:
        StillmotionError: fewer than two clips.
    """
    count = len(clips)
    if count < 2:
        raise StillmotionError("Transfer needs at least two clips in the split; try --split all.")
    pairs = [(still, driving) for still in range(count) for driving in range(count) if still != driving]
    chosen = np.random.default_rng(PAIRS_SEED).choice(len(pairs), min(PAIRS, len(pairs)), replace=False)
    return [pair(clips[still], clips[driving]) for still, driving in (pairs[i] for i in sorted(chosen))]


def listed_cases(clips: Sequence[Clip], path: Path) -> list[Case]:
    """The pairs that a csv file lists in its columns `source` and `driving`, as Monkey-Net's lists do, in its order.

    Names are those of the clips or of the files they were made of (`7.png`, `wave/7.mp4`); other columns are ignored.

    Raises:
        StillmotionError: the file cannot be read, lacks a column or names a clip that is not there.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        raise StillmotionError(f"The list of pairs {path} cannot be read as a csv file.") from None
    if not lines or not {"source", "driving"} <= lines[0].keys():
        raise StillmotionError(f"The list of pairs {path} needs a line of names, among them source and driving.")
    named = {clip.name: clip for clip in clips}

    def find(name: str) -> Clip:
        for candidate in (name, PurePosixPath(name).stem):
            if candidate in named:
                return named[candidate]
        raise StillmotionError(f"The list of pairs {path} names {name!r}, and no clip of the split has that name.")

    return [pair(find(line["source"] or ""), find(line["driving"] or "")) for line in lines]


def pair(source: Clip, clip: Clip) -> Case:
    """The first frame of one clip and the motion of another."""
    return Case(f"{source.name}--{clip.name}", np.asarray(source.frames)[0], np.asarray(clip.frames), clip)


def copy_driving(case: Case, sample: int = 0) -> np.ndarray:
    """Baseline: the driving video itself, with all of the motion and none of the identity."""
    return case.target


def transfer_protocol(name: str, transfer: Literal["relative", "absolute"]) -> Protocol:
    """Transfer with relative or absolute keypoints."""
    return Protocol(
        name=name,
        definition=f"at most {PAIRS} random pairs of different clips (seed {PAIRS_SEED}): the first frame of one is "
        f"the still, the other is its driving video, {transfer} keypoints; AED compares with the still, everything "
        "else with the driving video",
        cases=transfer_cases,
        predictor=feed(lambda system, case: Drive(case.target, transfer=transfer)),
        baselines={"copy the still": copy_still, "copy the driving video": copy_driving},
        columns=(*keypoint_columns(transfer == "relative"), *identity_columns(still_frame), FID_COLUMN),
        controls=("Drive",),
        has_truth=lambda case: False,
        listed=listed_cases,
    )


PROTOCOL = transfer_protocol("transfer", "relative")
ABSOLUTE = transfer_protocol("transfer-absolute", "absolute")
