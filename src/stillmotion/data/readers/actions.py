"""The sets of "Unsupervised Keypoint Learning for Guiding Class-Conditional Video Prediction" (NeurIPS 2019).

Its UvA-NEMO and MGIF are Monkey-Net's, in `monkey_net`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from stillmotion.data.sources import Found, match_names, split_found, walk

PENN_STRIPS_TEST = frozenset({6, 7})

_STRIP_NAME = re.compile(r"(?P<action>[a-z]+(_[a-z]+)*)_(?P<number>\d{1,4})$")


def penn_strips(root: Path) -> Found:
    """Clips of Penn Action as strips named `ACTION_NUMBER.png` (`jumping_jacks_3.png`), 20 frames per second.

    Known: the example clips of the paper "Learning to Forecast and Refine Residual Motion" (ECCV 2018), 64 x 64, 20
    frames per second. Meta `action`, `number` (int). Assumed: without train and test folders the numbers 6 and 7 of
    each action are for testing.
    """
    sources, has_splits = walk(root, ("strip",))
    named, refused = match_names(sources, root, _STRIP_NAME, "ACTION_NUMBER")
    clips = [
        replace(source, fps=20.0, meta={"action": source.meta["action"], "number": int(source.meta["number"])})
        for source in named
    ]
    if has_splits:
        return split_found(clips, has_splits, 0.0, "Penn Action (strips)", refused)
    clips = [replace(c, split="test" if c.meta["number"] in PENN_STRIPS_TEST else "train") for c in clips]
    return Found(clips, "numbers 6 and 7 of each action for testing", "Penn Action (strips)", refused)
