"""Worlds: generators of made clips with exact truth, so that everything can be tried without a download.

A world is a module with `sample(rng, *, size, frames, action=None) -> Clip`. `WORLDS` names them all; a
world's module (and OpenCV with it) is imported only when its first clip is made. The worlds in `READERS` can also
take their pictures from a file: their `sample` knows `source` and `share`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stillmotion.errors import StillmotionError

if TYPE_CHECKING:
    from stillmotion.data.clip import Clip

__all__ = ["READERS", "WORLDS", "sample_clip"]


def _lazy(module: str) -> Callable[..., Clip]:
    def sample(
        rng: np.random.Generator, *, size: int = 64, frames: int = 32, action: str | None = None, **reading: Any
    ) -> Clip:
        """Make one clip of this world; see the world's own `sample`."""
        made: Clip = import_module(module).sample(rng, size=size, frames=frames, action=action, **reading)
        return made

    return sample


WORLDS: dict[str, Callable[..., Clip]] = {
    "arm": _lazy("stillmotion.worlds.arm"),
    "digits": _lazy("stillmotion.worlds.digits"),
    "faces": _lazy("stillmotion.worlds.faces"),
    "plants": _lazy("stillmotion.worlds.plants"),
    "puppets": _lazy("stillmotion.worlds.puppets"),
}
READERS = ("digits",)


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
    far: bool = False,
) -> Clip:
    """Make clip number `index` of an endless, repeatable list of clips.

    Args:
        world: a key of `WORLDS`.
        seed: names the list; at least 0.
        index: place in the list; at least 0. Clips do not depend on each other: any order and any number
            of worker processes give the same clips.
        size: height and width in pixels.
        frames: number of frames.
        action: one of the world's actions, several of them to draw one from, or None to draw one from all.
        source: a file to take pictures from, for the worlds in `READERS` only.
        share: which part of that file to use, as shares of its pictures: (0, 1) is all of it.
        far: small figures before a camera that stands still; puppets that walk, jog or run only.

    Returns:
        The clip, named `WORLD-SEED-INDEX`; the same arguments always give the same bytes on the same machine.

    Raises:
        StillmotionError: the world is unknown or reads no file, the file cannot be used, or a number is out of range.
    """
    if world not in WORLDS:
        raise StillmotionError(f"There is no world {world!r}; choose one of: {', '.join(sorted(WORLDS))}.")
    if seed < 0 or index < 0:
        raise StillmotionError(f"Seed and index must be 0 or more, not {seed} and {index}.")
    if source is not None and world not in READERS:
        raise StillmotionError(f"The world {world!r} reads no file; leave {source} out.")
    if far and world != "puppets":
        raise StillmotionError(f"Only puppets can be seen from afar, not the world {world!r}.")
    # Imported here so that naming the worlds stays free of the data package.
    from dataclasses import replace

    rng = np.random.default_rng([seed, index])
    if action is not None and not isinstance(action, str):
        # A world draws its action before all else: the same number chooses here, so that naming all of a world's
        # actions gives the clips that naming none would.
        action = action[int(np.random.default_rng([seed, index]).integers(len(action)))] if action else None
    reading: dict[str, Any] = {} if source is None else {"source": source, "share": share}
    if far:
        reading["far"] = True
    clip = WORLDS[world](rng, size=size, frames=frames, action=action, **reading)
    return replace(
        clip, name=f"{world}-{seed}-{index:06d}", meta={**clip.meta, "seed": int(seed), "index": int(index)}
    )
