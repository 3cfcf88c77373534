"""Prepared data sets of a world's clips."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from stillmotion.data.clip import Clip
from stillmotion.data.info import DatasetInfo
from stillmotion.data.pool import map_in_order
from stillmotion.data.shards import write_dataset
from stillmotion.errors import StillmotionError
from stillmotion.version import __version__
from stillmotion.worlds import sample_clip
from stillmotion.worlds.digits.idx import read_digits


def write_world(
    world: str,
    out: Path | str,
    *,
    clips: int = 100,
    size: int = 64,
    frames: int = 32,
    seed: int = 0,
    test_share: float = 0.05,
    source: Path | str | None = None,
    pictures: tuple[int, int] | None = None,
    actions: Sequence[str] = (),
    staging: str = "",
    jobs: int = 1,
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
) -> DatasetInfo:
    """Make clips and write them; the same arguments give the same bytes for any number of jobs.

    Args:
        world: one of `worlds.WORLDS`.
        out: folder of the data set.
        clips: number of clips.
        size: height and width.
        frames: frames per clip.
        seed: of the list of clips.
        test_share: share of the clips marked `split: test`, spread evenly; in [0, 1).
        source: a file to take pictures from, for the worlds that read one; test clips then draw from its last
            `test_share`, the others from the rest.
        pictures: use only this part of that file, (first, one past the last), counted from 0; None for all of it.
        actions: draw from these actions only, all equally likely; empty = from all of the world's.
        staging: see `sample_clip`.
        jobs: processes.
        overwrite: replace an older data set.
        progress: called with the number of clips made.

    Raises:
        StillmotionError: an unknown world or action, a file that cannot be used, a number out of range, or `out`
            is taken.
    """
    if not 0 <= test_share < 1:
        raise StillmotionError(f"The test share must be at least 0 and below 1, not {test_share}.")
    actions = tuple(actions)
    options = {"size": size, "frames": frames, "action": actions or None, "source": source, "staging": staging}
    used = _picture_range(source, pictures)
    make = partial(_make_clip, world, seed, test_share, used, options)
    for action in actions or (None,):  # invalid arguments raise here, before the pool starts
        _make_clip(world, seed, test_share, used, {**options, "frames": min(frames, 1), "action": action}, 0)

    def made() -> Iterator[Clip]:
        for count, clip in enumerate(map_in_order(make, range(clips), jobs, crashed=make), start=1):
            if progress:
                progress(count)
            yield clip

    name = None if source is None else Path(source).name
    given = {"source": name, "pictures": pictures and list(pictures), "actions": list(actions), "staging": staging}
    info = DatasetInfo(
        title=f"world {world}, seed {seed}",
        licence="Apache-2.0" if name is None else f"the terms of the pictures in {name}",
        decoder=f"stillmotion {__version__}",
        split_rule=f"every {1 / test_share:.0f}th clip is for testing"
        if test_share
        else "all clips are for training",
        settings={
            "world": world, "seed": seed, "clips": clips, "size": size, "frames": frames,
            **{key: value for key, value in given.items() if value},
        },
    )  # fmt: skip
    return write_dataset(out, made(), info=info, overwrite=overwrite)


def _picture_range(source: Path | str | None, pictures: tuple[int, int] | None) -> tuple[float, float]:
    """Return which of the file's pictures to use, as shares of their number."""
    if pictures is None:
        return 0.0, 1.0
    if source is None:
        raise StillmotionError("A range of digits needs a file of digits; name it with --digits.")
    count, (first, end) = len(read_digits(source)[0]), pictures
    if not 0 <= first < end <= count:
        raise StillmotionError(f"{Path(source).name} holds {count} pictures: no range {first}:{end} lies within.")
    return first / count, end / count


def _make_clip(
    world: str, seed: int, test_share: float, used: tuple[float, float], options: dict[str, Any], index: int
) -> Clip:
    test = int((index + 1) * test_share) > int(index * test_share)
    border = used[0] + (1 - test_share) * (used[1] - used[0])
    share = (border, used[1]) if test else (used[0], border)
    clip = sample_clip(world, seed, index, share=share, **options)
    return replace(clip, meta={**clip.meta, "split": "test" if test else "train"})
