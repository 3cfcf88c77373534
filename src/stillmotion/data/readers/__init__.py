"""Readers of published data sets: which files are clips, and the papers' splits.

A reader takes the folder of a data set and returns what it found; `prepare` does the rest. `train` and `test` folders
are the paper's split as it was distributed. Without them, where the papers' lists of names are not known, the same
shares are drawn at random with seed 0: figures then compare approximately. Nothing is downloaded, and the terms of
each data set are its owners'. Each docstring says what is known and what is assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from stillmotion.data.readers.monkey_net import bair, mgif, tai_chi, uva_nemo, weizmann
from stillmotion.data.readers.pokes import iper, poking_plants, tai_chi_hd
from stillmotion.data.readers.take_directions import human36m, kth, push, weizmann_videos
from stillmotion.data.sources import Found

Reader = Callable[[Path], Found]

READERS: Mapping[str, Reader] = {
    "weizmann": weizmann,
    "weizmann-videos": weizmann_videos,
    "uva-nemo": uva_nemo,
    "tai-chi": tai_chi,
    "tai-chi-hd": tai_chi_hd,
    "bair": bair,
    "mgif": mgif,
    "kth": kth,
    "push": push,
    "human36m": human36m,
    "iper": iper,
    "poking-plants": poking_plants,
}
