"""Plants: clips of pot plants that are dragged, plucked or pushed, with exact ground truth and a counterfactual.

A description (`Plant`) is drawn first and is independent of the picture's size. `counterfactual` gives the same plant
another poke, so that a model's video under either poke has its own ground truth.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from stillmotion.data.clip import Clip
from stillmotion.data.part_flow import flow_between
from stillmotion.worlds.plants.plant import FPS, Plant, counterfactual, sample_description, simulate_poke
from stillmotion.worlds.plants.pokes import ACTIONS, Poke
from stillmotion.worlds.plants.render import render, render_pair
from stillmotion.worlds.plants.species import SPECIES
from stillmotion.worlds.validation import check_clip

__all__ = [
    "ACTIONS", "FPS", "SPECIES", "Plant", "Poke", "counterfactual", "flow_between", "render", "sample",
    "sample_description", "simulate_poke",
]  # fmt: skip


def _poke_meta(poke: Poke, place: np.ndarray, size: int) -> dict[str, Any]:
    """Return a poke in pixels and frames; `place` is the node's first position (2)."""
    where = {"place": place.tolist(), "displacement": [value * size for value in poke.displacement]}
    return {"kind": poke.kind, "node": poke.node, **where, "rise": poke.rise * FPS, "hold": poke.hold * FPS}


def sample(rng: np.random.Generator, *, size: int = 64, frames: int = 32, action: str | None = None) -> Clip:
    """Make one clip of a plant that is poked, as `worlds.sample_clip` says, at 25 frames per second.

    The plant is at rest in the first frame.

    Returns:
        A clip with the tracks of `render_pair` (see docs/worlds.md) and the meta `species`, `poke` and `other_poke`.
    """
    check_clip("plants", size, frames)
    plant = sample_description(rng, action)
    video, tracks = render_pair(plant, size, frames)
    meta = {
        "world": "plants",
        "action": plant.poke.kind,
        "species": plant.species,
        "poke": _poke_meta(plant.poke, tracks["path"][0], size),
        "other_poke": _poke_meta(plant.other, tracks["other_path"][0], size),
        "description": {"scene": asdict(plant.scene), "springs": asdict(plant.springs)},
    }
    return Clip("plants", video, FPS, tracks, meta)
