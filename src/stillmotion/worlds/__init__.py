"""Worlds: generators of synthetic clips with exact ground truth, so that everything can be tried without a download.

A world is a module with `sample(rng, *, size, frames, action=None) -> Clip`; `rng` is its only source of randomness.
A world's module (and OpenCV with it) is imported only when its first clip is made. Only `digits` also takes pictures
from a file (`source`, `share`), only `puppets` has a `staging`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stillmotion.errors import StillmotionError

if TYPE_CHECKING:
    from stillmotion.data.clip import Clip

__all__ = ["WORLDS", "sample_clip"]

WORLDS = ("arm", "digits", "faces", "plants", "puppets")


def sample_clip(
    world: str,
    seed: int,
    index: int,
    size: int = 64,
    frames: int = 32,
    action: str | Sequence[str] | None = None,
    *,
    source: Path | str | None = None,
    share: tuple[float, float] = (0.0, 1.0),
    staging: str = "",
) -> Clip:
    """Make clip number `index` of an endless, repeatable list of clips.

    Args:
        world: one of `WORLDS`.
        seed: of the list; at least 0.
        index: place in the list; at least 0. Clips are independent: any order and any number of worker processes
            give the same clips.
        size: height and width in pixels, 16 to 1024.
        frames: number of frames, at least 1.
        action: one of the world's actions, several to draw one from, or None to draw from all.
        source: a file to take pictures from; digits only.
        share: the part of that file to use, as shares of its pictures: (0, 1) is all of it.
        staging: another way to show puppets, one of `puppets.STAGINGS`; empty for the usual one.

    Returns:
        The clip, named `WORLD-SEED-INDEX`; the same arguments always give the same bytes on the same machine.

    Raises:
        StillmotionError: the world is unknown or reads no file, the file cannot be used, or a number is out of range.
    """
    if world not in WORLDS:
        raise StillmotionError(f"There is no world {world!r}; choose one of: {', '.join(WORLDS)}.")
    if seed < 0 or index < 0:
        raise StillmotionError(f"Seed and index must be 0 or more, not {seed} and {index}.")
    if source is not None and world != "digits":
        raise StillmotionError(f"The world {world!r} reads no file; leave {source} out.")
    if staging and world != "puppets":
        raise StillmotionError(f"Only puppets are staged as {staging}, not the world {world!r}.")
    rng = np.random.default_rng([seed, index])
    if action is not None and not isinstance(action, str):
        # A world draws its action first: the same number chooses here, so that naming all of a world's actions
        # gives the clips that naming none does.
        action = action[int(np.random.default_rng([seed, index]).integers(len(action)))] if action else None
    options: dict[str, Any] = {} if source is None else {"source": source, "share": share}
    if world == "puppets":
        options["staging"] = staging
    module = import_module(f"stillmotion.worlds.{world}")
    clip: Clip = module.sample(rng, size=size, frames=frames, action=action, **options)
    return replace(
        clip, name=f"{world}-{seed}-{index:06d}", meta={**clip.meta, "seed": int(seed), "index": int(index)}
    )
