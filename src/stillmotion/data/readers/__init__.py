"""Readers of published data sets: which files are clips, and the papers' splits.

A reader takes the folder of a data set and returns what it found; `prepare` does the rest. `train` and `test` folders
are the paper's split as it was distributed. Without them, where the papers' lists of names are not known, the same
shares are drawn at random with seed 0: figures then compare approximately. Nothing is downloaded, and the terms of
each data set are its owners'. Each docstring says what is known and what is assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from stillmotion.data.readers.actions import penn_action, penn_strips
from stillmotion.data.readers.animations import parse_colour, webp
from stillmotion.data.readers.monkey_net import bair, mgif, tai_chi, uva_nemo, weizmann
from stillmotion.data.readers.pokes import iper, poking_plants, tai_chi_hd
from stillmotion.data.readers.sprites import sprites
from stillmotion.data.readers.structures import mug
from stillmotion.data.readers.take_directions import human36m, kth, push, weizmann_videos
from stillmotion.data.sources import Found
from stillmotion.errors import StillmotionError

Reader = Callable[[Path], Found]

READERS: Mapping[str, Callable[..., Found]] = {
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
    "penn-action": penn_action,
    "penn-action:actions": partial(penn_action, paper="actions"),
    "penn-action:structures": partial(penn_action, paper="structures"),
    "penn-strips": penn_strips,
    "mug": mug,
    "sprites": sprites,
    "sprites:colour": partial(sprites, ground="colour"),
    "sprites:grass": partial(sprites, ground="grass"),
    "webp": webp,
}

WITH_COUNT = ("sprites", "sprites:colour", "sprites:grass")
"""Take a number of characters, as `sprites=100`."""

WITH_COLOUR = "webp"
"""Takes what is put behind the figures, as `webp=20c040`."""


def find_reader(layout: str) -> Reader | None:
    """The reader of a key of `READERS`, with its `=COUNT` or `=COLOUR` if any; None if there is none of this name.

    Raises:
        StillmotionError: the reader takes no value, or it is no whole number or colour.
    """
    name, equals, value = layout.partition("=")
    if name not in READERS or not equals:
        return READERS.get(name)
    if name == WITH_COLOUR:
        return partial(webp, ground=parse_colour(value))
    if name not in WITH_COUNT:
        raise StillmotionError(f"The layout {name!r} takes no value: leave {equals + value!r} out.")
    if not value.isdecimal():
        raise StillmotionError(f"The number of characters must be a whole number, as in {name}=100, not {value!r}.")
    return partial(READERS[name], characters=int(value))
