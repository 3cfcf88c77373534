"""A plant's whole description, drawn from random numbers, and its motion."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stillmotion.errors import StillmotionError
from stillmotion.worlds.plants.growing import bounds, to_tree
from stillmotion.worlds.plants.looks import Look
from stillmotion.worlds.plants.painting import cut_out, rigid, stamp
from stillmotion.worlds.plants.physics import Dynamics, Motion, Springs, dynamics, simulate
from stillmotion.worlds.plants.pokes import Poke, pull_of, sample_kind, sample_poke
from stillmotion.worlds.plants.scene import Scene, sample_scene
from stillmotion.worlds.plants.species import SPECIES
from stillmotion.worlds.plants.tree import Tree, grips, place

FPS = 25.0
# Whether a node is seen is decided at this size, so that it does not depend on the size of the clip.
_PROOF = 192


@dataclass(frozen=True)
class Plant:
    """The whole description of a clip, independent of its size and length.

    Attributes:
        species: a key of `SPECIES`.
        tree: its segments.
        looks: what they look like.
        springs: what its joints are like.
        scene: everything else in the picture.
        poke: what is done to it.
        other: another poke, whose answer is the counterfactual.
    """

    species: str
    tree: Tree
    looks: tuple[Look, ...]
    springs: Springs
    scene: Scene
    poke: Poke
    other: Poke


def describe(rng: np.random.Generator, action: str | None = None) -> Plant:
    """Draw a plant, a scene and two pokes.

    Args:
        rng: the only source of randomness.
        action: `drag`, `pluck` or `push` for the first poke and the same for the other; None draws one.

    Raises:
        StillmotionError: the action is unknown.
    """
    kind = sample_kind(rng, action)
    names = list(SPECIES)
    grown = SPECIES[names[int(rng.integers(len(names)))]](rng)
    scene = sample_scene(rng)
    x0, y0, x1, y1 = bounds(grown.rows)
    pot = scene.pot
    # As tall as wanted, if it then fits into the picture.
    foot = (pot.x, pot.top + 0.02 * pot.wide)
    scale = min(
        (foot[1] - rng.uniform(0.04, 0.2)) / -y0, (0.97 - foot[0]) / max(x1, 0.01), (foot[0] - 0.03) / max(-x0, 0.01)
    )
    if y1 > 0.01:
        scale = min(scale, max(0.2 / y1, 0.5 * scale))
    tree = to_tree(grown.rows, scale, foot)
    dyn = dynamics(tree, grown.springs)
    nodes = seen_nodes(tree, grown.looks)
    poke = sample_poke(rng, tree, dyn, kind, nodes)
    other = sample_poke(rng, tree, dyn, kind, nodes, away=poke)
    return Plant(grown.species, tree, grown.looks, grown.springs, scene, poke, other)


def seen_nodes(tree: Tree, looks: tuple[Look, ...]) -> np.ndarray:
    """Return the nodes that lie in the picture, are not hidden at rest, and have at least two joints below them."""
    hinges, directions = place(tree, np.zeros((1, len(tree))))
    ids = stamp(cut_out(tree, looks), rigid(hinges, directions, _PROOF)[0], _PROOF)
    spots = np.round(grips(tree, hinges, directions)[0] * _PROOF - 0.5).astype(int)
    inside = ((spots >= 3) & (spots < _PROOF - 3)).all(1)
    x, y = np.clip(spots, 0, _PROOF - 1).T
    nodes = np.flatnonzero(inside & (ids[y, x] == np.arange(len(tree)) + 1))
    depth = np.zeros(len(tree), int)
    for k, parent in enumerate(tree.parent):
        depth[k] = depth[parent] + 1 if parent >= 0 else 0
    movable = nodes[depth[nodes] >= 2]
    return movable if len(movable) else nodes


def counterfactual(plant: Plant, poke: Poke | None = None) -> Plant:
    """Return the same plant under another poke: the same first frame, another answer.

    Args:
        plant: a description.
        poke: what is done instead; its own `other` if not given. The poke it had becomes its `other`.
    """
    return replace(plant, poke=plant.other if poke is None else poke, other=plant.poke)


def move(plant: Plant, frames: int, fps: float = FPS, dyn: Dynamics | None = None) -> Motion:
    """Return how the plant answers its poke: the bends of its joints at each frame.

    Args:
        plant: a description.
        frames: T, at least 1.
        fps: frames per second.
        dyn: the plant's numbers, if they are known already.

    Raises:
        StillmotionError: the plant has no such node, or the node cannot be brought where the poke wants it.
    """
    if not (np.isfinite(fps) and fps > 0):
        raise StillmotionError(f"The frame rate must be above 0, not {fps}.")
    dyn = dyn or dynamics(plant.tree, plant.springs)
    return simulate(dyn, frames, fps, pull_of(plant.tree, dyn, plant.poke))
