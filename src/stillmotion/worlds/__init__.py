"""Worlds: generators of made clips with exact truth, so that everything can be tried without a download.

A world is a module with `sample(rng, *, size, frames, action=None) -> Clip`. `WORLDS` names them all; a
world's module (and OpenCV with it) is imported only when its first clip is made.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np

from stillmotion.errors import StillmotionError

if TYPE_CHECKING:
    from stillmotion.data.clip import Clip

__all__ = ["WORLDS", "sample_clip"]


def _lazy(module: str) -> Callable[..., Clip]:
    def sample(rng: np.random.Generator, *, size: int = 64, frames: int = 32, action: str | None = None) -> Clip:
        """Make one clip of this world; see the world's own `sample`."""
        made: Clip = import_module(module).sample(rng, size=size, frames=frames, action=action)
        return made

    return sample


WORLDS: dict[str, Callable[..., Clip]] = {"puppets": _lazy("stillmotion.worlds.puppets")}


def sample_clip(
    world: str, seed: int, index: int, size: int = 64, frames: int = 32, action: str | None = None
) -> Clip:
    """Make clip number `index` of an endless, repeatable list of clips.

    Args:
        world: a key of `WORLDS`.
        seed: names the list; at least 0.
        index: place in the list; at least 0. Clips do not depend on each other: any order and any number
            of worker processes give the same clips.
        size: height and width in pixels.
        frames: number of frames.
        action: one of the world's actions, or None to draw one at random.

    Returns:
        The clip, named `WORLD-SEED-INDEX`; the same arguments always give the same bytes on the same machine.

    Raises:
        StillmotionError: the world is unknown, or a number is out of range.
    """
    if world not in WORLDS:
        raise StillmotionError(f"There is no world {world!r}; choose one of: {', '.join(sorted(WORLDS))}.")
    if seed < 0 or index < 0:
        raise StillmotionError(f"Seed and index must be 0 or more, not {seed} and {index}.")
    # Imported here so that naming the worlds stays free of the data package.
    from dataclasses import replace

    clip = WORLDS[world](np.random.default_rng([seed, index]), size=size, frames=frames, action=action)
    return replace(
        clip, name=f"{world}-{seed}-{index:06d}", meta={**clip.meta, "seed": int(seed), "index": int(index)}
    )
