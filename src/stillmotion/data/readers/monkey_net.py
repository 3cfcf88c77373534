"""The sets of Monkey-Net ("Animating Arbitrary Objects via Deep Motion Transfer", CVPR 2019) and of its baselines."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

from stillmotion.data.sources import Found, counting, match_names, split_found, walk
from stillmotion.errors import StillmotionError

_WEIZMANN_NAME = re.compile(r"subject(?P<subject>\d+)_(?P<action>[a-z0-9]+)")
_NEMO_NAME = re.compile(r"(?P<subject>\d{3})_(?P<smile>deliberate|spontaneous)_smile")


@counting
def weizmann(root: Path, passed_over: Counter[str]) -> Found:
    """Weizmann "Actions as Space-Time Shapes", as cropped for Monkey-Net's `actions` set.

    Known: strips of 64 x 64 frames named `subjectN_ACTION.png`, 25 frames per second; meta `subject` (int) and
    `action`. The distributed `actions` set has train and test folders (57 and 15 strips). Assumed: without them, 20 %
    of the people are drawn for testing, so that no person is in both; `prepare(held_out={"subject": [...]})` names
    the people to hold out.
    """
    sources, has_splits = walk(root, ("strip",), passed_over)
    named, refused = match_names(sources, root, _WEIZMANN_NAME, "subjectN_ACTION")
    named = [replace(s, fps=25.0, meta={**s.meta, "subject": int(s.meta["subject"])}) for s in named]
    return split_found(named, has_splits, 0.2, "Weizmann actions", refused, by="subject")


@counting
def uva_nemo(root: Path, passed_over: Counter[str]) -> Found:
    """UvA-NEMO smiles, as aligned and cut for Monkey-Net.

    Known: 1110 clips for training and 124 for testing, 64 x 64, 32 frames from a neutral face on. Assumed: names
    begin with `NNN_deliberate_smile` or `NNN_spontaneous_smile` (NNN is the person; meta `subject`, `smile`), as
    strips, folders of frames or videos; without train and test folders one clip in ten is for testing, which gives
    1110 and 124 of the 1234. As in the paper, a person may then be in both.
    """
    sources, has_splits = walk(root, ("video", "frames", "strip"), passed_over)
    named, refused = match_names(sources, root, _NEMO_NAME, "NNN_deliberate_smile or NNN_spontaneous_smile")
    return split_found(named, has_splits, 0.1, "UvA-NEMO", refused)


@counting
def tai_chi(root: Path, passed_over: Counter[str]) -> Found:
    """Tai-Chi in MoCoGAN's layout: each clip a strip of 64 x 64 frames, 32 to 100 of them.

    Known: 3288 clips for training and 822 for testing. Without train and test folders one clip in five is for
    testing, which gives these numbers.
    """
    sources, has_splits = walk(root, ("strip",), passed_over)
    return split_found(sources, has_splits, 0.2, "Tai-Chi")


@counting
def bair(root: Path, passed_over: Counter[str]) -> Found:
    """BAIR robot pushing: folders of frames.

    Known: 40960 clips for training and 256 for testing, 64 x 64, 30 frames each. Assumed: the clips are folders of
    pictures at any depth below `train` and `test` (`test/traj_0_to_255/7/0.png`, ...), as converters of the original
    records write them; both folders are required, since the official test clips are not known otherwise.
    """
    sources, has_splits = walk(root, ("frames",), passed_over)
    if not has_splits:
        raise StillmotionError(
            f"{str(root)!r} has no train and test folders: BAIR's split is not known without them."
        )
    return split_found(sources, has_splits, 0.0, "BAIR robot pushing")


@counting
def mgif(root: Path, passed_over: Counter[str]) -> Found:
    """MGIF (Moving-GIF): animated pictures of walking animals.

    Known: 1000 clips, 900 for training and 100 for testing, 256 x 256, used at 128 x 128. Assumed: `.gif` files
    below train and test; without these folders one clip in ten is for testing.
    """
    sources, has_splits = walk(root, ("video",), passed_over)
    gifs = [source for source in sources if source.path.suffix.lower() == ".gif"]
    if not gifs:
        raise StillmotionError(f"No .gif files in {str(root)!r}: check the folder.")
    passed_over["videos that are no .gif"] += len(sources) - len(gifs)
    return split_found(gifs, has_splits, 0.1, "MGIF")
