"""Animated pictures with alpha, which stand in for MGIF: Microsoft's Fluent Emoji and others like them."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import replace
from pathlib import Path

from stillmotion.data.info import Quarantined
from stillmotion.data.sources import Found, counting, split_found, walk
from stillmotion.errors import StillmotionError
from stillmotion.media import Limits, MediaError
from stillmotion.media.pictures import WHITE
from stillmotion.media.sequences import is_animated

_EMOJI = re.compile(r"1f[0-9a-f]{3}")
_COLOUR = re.compile(r"#?([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})")


@counting
def webp(root: Path, passed_over: Counter[str], ground: tuple[int, int, int] = WHITE) -> Found:
    """Animated WebP files; what is transparent shows the ground.

    Known: the 63 animals of Fluent Emoji (U+1F400 to U+1F43F), 256 x 256, 56 to 73 frames of 42 milliseconds, named
    by their code point (`1f400.webp`). Each file is one character and one class: meta `character` and `action` are
    the file's name, or that of its code point (`rat`). As in MGIF all are one domain: a model without classes learns
    from them together. Assumed: without train and test folders one in ten is for testing.

    Args:
        root: the folder.
        passed_over: see `counting`.
        ground: RGB.

    Raises:
        StillmotionError: there are no such files.
    """
    sources, has_splits = walk(root, ("strip",), passed_over)
    files = [source for source in sources if source.path.suffix.lower() == ".webp"]
    passed_over["pictures that are no .webp"] += len(sources) - len(files)
    moving, refused = [], []
    for source in files:
        try:
            animated, reason = is_animated(source.path, "webp", Limits()), "It is a still picture."
        except MediaError as error:
            animated, reason = False, str(error).replace(str(source.path), source.path.name)
        name = character_name(source.path.stem)
        meta = {"character": name, "action": name}
        if animated:
            moving.append(replace(source, name=name, kind="video", ground=ground, meta=meta))
        else:
            refused.append(Quarantined(source.path.relative_to(root).as_posix(), reason))
    if not moving:
        raise StillmotionError(f"No animated .webp files in {str(root)!r}: check the folder.")
    return split_found(moving, has_splits, 0.1, "Animated pictures", refused)


def character_name(stem: str) -> str:
    """The name of an emoji's code point, `water_buffalo` of `1f403`; another name as it is."""
    if not _EMOJI.fullmatch(stem.lower()):
        return stem
    return unicodedata.name(chr(int(stem, 16)), stem).lower().replace(" ", "_")


def parse_colour(text: str) -> tuple[int, int, int]:
    """RGB of six hexadecimal digits, with or without a `#`.

    Raises:
        StillmotionError: it is something else.
    """
    match = _COLOUR.fullmatch(text)
    if match is None:
        raise StillmotionError(f"The colour must be six hexadecimal digits, as in webp=20c040, not {text!r}.")
    red, green, blue = (int(part, 16) for part in match.groups())
    return red, green, blue
