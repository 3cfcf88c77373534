"""Plants: made clips of pot plants that are dragged, plucked or pushed, with exact truth and a second answer.

A description (`Plant`) is drawn first and knows no picture size. `counterfactual` gives the same plant another poke:
what a model makes of either can then be compared with what would have happened.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from stillmotion.data.clip import Clip
from stillmotion.errors import StillmotionError
from stillmotion.worlds.flow import flow_between
from stillmotion.worlds.plants.plant import FPS, Plant, counterfactual, describe, move
from stillmotion.worlds.plants.pokes import ACTIONS, Poke
from stillmotion.worlds.plants.render import render, render_pair
from stillmotion.worlds.plants.species import SPECIES

__all__ = [
    "ACTIONS", "FPS", "SPECIES", "Plant", "Poke", "counterfactual", "describe", "flow_between", "move", "render",
    "sample", "to_clip",
]  # fmt: skip


def to_clip(plant: Plant, size: int, frames: int, name: str = "plants") -> Clip:
    """Paint a description and wrap it up as a clip, with the answer to its other poke.

    Raises:
        StillmotionError: the size or the number of frames is out of range.
    """
    if not 16 <= size <= 1024:
        raise StillmotionError(f"The size of a plant clip must be 16 to 1024 pixels, not {size}.")
    if frames < 1:
        raise StillmotionError(f"A clip needs at least 1 frame, not {frames}.")
    video, tracks = render_pair(plant, size, frames)
    meta = {
        "world": "plants",
        "action": plant.poke.kind,
        "species": plant.species,
        "poke": _told(plant.poke, tracks["path"][0], size),
        "other_poke": _told(plant.other, tracks["other_path"][0], size),
        "description": {"scene": asdict(plant.scene), "springs": asdict(plant.springs)},
    }
    return Clip(name, video, FPS, tracks, meta)


def _told(poke: Poke, place: np.ndarray, size: int) -> dict[str, Any]:
    """A poke in pixels and frames."""
    return {
        "kind": poke.kind,
        "node": poke.node,
        "place": [float(value) for value in place],
        "displacement": [value * size for value in poke.displacement],
        "rise": poke.rise * FPS,
        "hold": poke.hold * FPS,
    }


def sample(rng: np.random.Generator, *, size: int = 64, frames: int = 32, action: str | None = None) -> Clip:
    """Make one clip of a plant that is poked.

    Args:
        rng: the only source of randomness.
        size: height and width in pixels, 16 to 1024.
        frames: number of frames, at 25 per second; the plant is at rest in the first.
        action: `drag` (a node is pulled and held), `pluck` (pulled, let go) or `push`; None draws one.

    Returns:
        A clip with the tracks `flow_forward`, `flow_backward`, `mask`, `path`, `parts`, `moves`, `other_frames` and
        `other_path`, and the meta `species`, `poke` and `other_poke`; docs/worlds.md says what they mean.

    Raises:
        StillmotionError: the action is unknown, or the size or number of frames is out of range.
    """
    return to_clip(describe(rng, action), size, frames)
