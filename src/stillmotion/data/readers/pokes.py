"""The sets of "Understanding Object Dynamics for Interactive Image-to-Video Synthesis" (CVPR 2021).

Its Human3.6M is that of `take_directions`. "Release" is the code that its authors published.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from stillmotion.data.info import Quarantined
from stillmotion.data.sources import Found, Source, counting, match_names, split_found, walk
from stillmotion.errors import StillmotionError

PLANTS_TRAIN_SHARE = 0.8
PLANTS_BROKEN = (0, 3)
PLANTS_LEFT_OUT = 8
IPER_LISTS = {"train.txt": "train", "val.txt": "test"}

_PLANT_NAME = re.compile(r"VID_(?P<object>\d+)_(?P<take>\d+)(?!\d)")
_IPER_NAME = re.compile(r"(?:^|_)(?P<actor>\d{3})_(?P<clothes>\d{1,3})_(?P<motion>\d)$")
_IPER_LINE = re.compile(r"(\d{3})[/_](\d{1,3})[/_](\d)$")
_TAI_CHI_HD_NAME = re.compile(r"(?P<video>[^#]+)")


@counting
def poking_plants(root: Path, passed_over: Counter[str]) -> Found:
    """PokingPlants: the first 80 % of every video are for training, the last 20 % for testing.

    Known (release): Matroska videos `VID_OBJECT_TAKE...` (`VID_0_3_1024x1024.mkv`); this split, of which the paper
    says that one fifth is for testing; the video `VID_0_3` is left out as damaged, and for plants the object 8. Known
    (paper): 27 videos of 13 plants, 43 thousand frames. Assumed: the first number is the plant (meta `object`, int)
    and the second one of its videos (meta `take`, int); folders of frames with such names serve as well. The two
    clips of a video are called NAME_train and NAME_test. Train and test folders are taken as they are, without a cut.
    """
    sources, has_splits = walk(root, ("video", "frames"), passed_over)
    named, refused = match_names(sources, root, _PLANT_NAME, "VID_OBJECT_TAKE")
    clips: list[Source] = []
    for source in named:
        facts = {key: int(source.meta[key]) for key in ("object", "take")}
        if facts["object"] == PLANTS_LEFT_OUT or (facts["object"], facts["take"]) == PLANTS_BROKEN:
            refused.append(Quarantined(str(source.path.relative_to(root)), "The authors leave it out."))
            continue
        source = replace(source, meta=facts)
        clips += [source] if has_splits else _cut(source, PLANTS_TRAIN_SHARE)
    if not clips:
        raise StillmotionError(f"All videos in {str(root)!r} are among those that the authors leave out.")
    rule = "the folders train and test" if has_splits else "the last 20 % of every video for testing"
    return Found(clips, rule, "PokingPlants", refused)


def _cut(source: Source, share: float) -> list[Source]:
    """The beginning of a video for training and the rest for testing."""
    return [
        replace(source, name=f"{source.name}_{split}", split=split, shares=shares)
        for split, shares in (("train", (0.0, share)), ("test", (share, 1.0)))
    ]


@counting
def iper(root: Path, passed_over: Counter[str]) -> Found:
    """iPER: 30 actors who show an A-pose or move freely in different clothes.

    Known: videos `ACTOR_CLOTHES_MOTION.mp4` (`001_10_2.mp4`) or folders of frames `001/10/2` at any depth, 30 frames
    per second, 206 in all; the official split is the files `train.txt` and `val.txt` in the folder or the one above,
    whose lines read `001/10/2` (180 thousand frames for training and 49 thousand for testing). With one of the files
    alone, what it does not name is the other split; with both, what neither names is left out. Meta `actor` (`001`),
    `clothes`, `motion`. Assumed: without the files and without train and test folders one fifth of the actors is for
    testing, so that no actor is in both; the release's shipped setting, 80 and 20 % within every video, is not
    offered.

    Raises:
        StillmotionError: nothing has such a name, or a list cannot be understood.
    """
    sources, has_splits = walk(root, ("video", "frames"), passed_over, read=IPER_LISTS)
    named, refused = [], []
    for source in sources:
        if match := _IPER_NAME.search(source.name):
            named.append(replace(source, meta=match.groupdict()))
        else:
            reason = "Its name does not have the form ACTOR_CLOTHES_MOTION."
            refused.append(Quarantined(str(source.path.relative_to(root)), reason))
    if not named:
        raise StillmotionError(f"Nothing in {str(root)!r} has a name of the form ACTOR_CLOTHES_MOTION, as 001_10_2.")
    lists = {} if has_splits else _iper_lists(root)
    if not lists:
        return split_found(named, has_splits, 0.2, "iPER", refused, by="actor")
    clips = []
    for source in named:
        split = _listed(source, lists)
        if split is None:
            reason = f"Neither {' nor '.join(IPER_LISTS)} names it."
            refused.append(Quarantined(str(source.path.relative_to(root)), reason))
        else:
            clips.append(replace(source, split=split))
    if not clips:
        raise StillmotionError(f"The lists of names beside {str(root)!r} name none of its videos: check the folder.")
    return Found(clips, f"the official lists ({', '.join(lists)})", "iPER", refused)


def _listed(source: Source, lists: dict[str, set[str]]) -> str | None:
    """The split of a source by the lists that are there; None if both are and neither names it."""
    label = "/".join(source.meta[key] for key in ("actor", "clothes", "motion"))
    for name, labels in lists.items():
        if label in labels:
            return IPER_LISTS[name]
    others = [split for name, split in IPER_LISTS.items() if name not in lists]
    return others[0] if others else None


def _iper_lists(root: Path) -> dict[str, set[str]]:
    """The names in the official files that are there, as ACTOR/CLOTHES/MOTION."""
    lists: dict[str, set[str]] = {}
    for name in IPER_LISTS:
        for path in (root / name, root.resolve().parent / name):
            if path.is_file():
                lists[name] = _read_list(path)
                break
    both = set.intersection(*lists.values()) if len(lists) > 1 else set()
    if both:
        raise StillmotionError(f"{min(both)} stands in both {' and '.join(lists)}: fetch iPER's lists again.")
    return lists


def _read_list(path: Path) -> set[str]:
    try:
        lines: Sequence[str] = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise StillmotionError(f"{str(path)!r} cannot be read ({error.strerror}).") from error
    labels = set()
    for number, line in enumerate(lines, start=1):
        match = _IPER_LINE.match(line.strip())
        if match:
            labels.add("/".join(match.groups()))
        elif line.strip():
            raise StillmotionError(f"Line {number} of {path.name} should read as 001/10/2: {line.strip()[:40]!r}.")
    return labels


@counting
def tai_chi_hd(root: Path, passed_over: Counter[str]) -> Found:
    """Tai-Chi-HD in the layout of the first-order model's loader.

    Known (paper): 280 videos, 252 for training and 28 for testing, 211 and 54 thousand frames; a temporal stride of
    2. Assumed: videos or folders of frames below `train` and `test`, called by their video and their first and last
    frame (`aDyyTMUBoLE#000173#000373.mp4`); meta `video` is what stands before the first `#`. Without these folders
    one in ten of the videos is for testing, which gives 28 of 280, and no video is in both. A folder of frames takes
    `prepare(fps=...)`, since its rate is not known.
    """
    sources, has_splits = walk(root, ("video", "frames"), passed_over)
    named, refused = match_names(sources, root, _TAI_CHI_HD_NAME, "VIDEO#FIRST#LAST")
    found = split_found(named, has_splits, 0.1, "Tai-Chi-HD", refused, by="video")
    return found if has_splits else replace(found, split_rule="10 % of the videos at random for testing (seed 0)")
