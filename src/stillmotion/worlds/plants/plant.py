"""The description of a plant clip, drawn from random numbers, and the plant's motion."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stillmotion.errors import StillmotionError
from stillmotion.worlds.plants.physics import Dynamics, Motion, SpringParameters, build_dynamics, simulate
from stillmotion.worlds.plants.pokes import Poke, actuator_of, sample_kind, sample_poke
from stillmotion.worlds.plants.rasterization import build_outlines, rasterise_ids, segment_transforms
from stillmotion.worlds.plants.scene import Scene, sample_scene
from stillmotion.worlds.plants.species import SPECIES
from stillmotion.worlds.plants.styles import Style
from stillmotion.worlds.plants.tree import Tree, forward_kinematics, node_positions

FPS = 25.0
# Visibility of nodes is decided at this size, so that it does not depend on the size of the clip.
_VISIBILITY_SIZE = 192


@dataclass(frozen=True)
class Plant:
    """The whole description of a clip, independent of its size and length."""

    species: str  # a key of `SPECIES`
    tree: Tree
    styles: tuple[Style, ...]  # of the tree's segments
    springs: SpringParameters
    scene: Scene  # everything else in the picture
    poke: Poke
    other: Poke  # another poke, whose video is the counterfactual


def sample_description(rng: np.random.Generator, action: str | None = None) -> Plant:
    """Draw a plant, a scene and two pokes of the same action (`drag`, `pluck` or `push`); None draws one.

    Raises:
        StillmotionError: the action is unknown.
    """
    kind = sample_kind(rng, action)
    grown = SPECIES[list(SPECIES)[int(rng.integers(len(SPECIES)))]](rng)
    scene = sample_scene(rng)
    x0, y0, x1, y1 = grown.tree.bounds()
    foot = (scene.pot.x, scene.pot.top + 0.02 * scene.pot.wide)
    # The drawn height, or less if the plant is wider than the picture.
    scale = min(
        (foot[1] - rng.uniform(0.04, 0.2)) / -y0, (0.97 - foot[0]) / max(x1, 0.01), (foot[0] - 0.03) / max(-x0, 0.01)
    )
    if y1 > 0.01:
        scale = min(scale, max(0.2 / y1, 0.5 * scale))
    tree = grown.tree.build(scale, foot)
    dynamics = build_dynamics(tree, grown.springs)
    nodes = _visible_nodes(tree, grown.styles)
    poke = sample_poke(rng, tree, dynamics, kind, nodes)
    other = sample_poke(rng, tree, dynamics, kind, nodes, other=poke)
    return Plant(grown.species, tree, grown.styles, grown.springs, scene, poke, other)


def _visible_nodes(tree: Tree, styles: tuple[Style, ...]) -> np.ndarray:
    """Return the nodes in the picture that are not hidden at rest and have at least two joints below them."""
    size = _VISIBILITY_SIZE
    hinges, directions = forward_kinematics(tree, np.zeros((1, len(tree))))
    ids = rasterise_ids(build_outlines(tree, styles), segment_transforms(hinges, directions, size)[0], size)
    places = np.round(node_positions(tree, hinges, directions)[0] * size - 0.5).astype(int)
    inside = ((places >= 3) & (places < size - 3)).all(1)
    x, y = np.clip(places, 0, size - 1).T
    nodes = np.flatnonzero(inside & (ids[y, x] == np.arange(len(tree)) + 1))
    depth = np.zeros(len(tree), int)
    for k, parent in enumerate(tree.parent):
        depth[k] = depth[parent] + 1 if parent >= 0 else 0
    movable = nodes[depth[nodes] >= 2]
    return movable if len(movable) else nodes


def counterfactual(plant: Plant, poke: Poke | None = None) -> Plant:
    """Return the same plant under another poke, by default its `other`: the same first frame, another motion.

    The old poke becomes `other`.
    """
    return replace(plant, poke=plant.other if poke is None else poke, other=plant.poke)


def simulate_poke(plant: Plant, frames: int, fps: float = FPS, dynamics: Dynamics | None = None) -> Motion:
    """Return the plant's motion under its poke: the deflections of its joints at each of T >= 1 frames.

    The dynamics are computed unless they are given.

    Raises:
        StillmotionError: the plant has no such node, or the node cannot be moved to the poke's target.
    """
    if not (np.isfinite(fps) and fps > 0):
        raise StillmotionError(f"The frame rate must be above 0, not {fps}.")
    dynamics = dynamics or build_dynamics(plant.tree, plant.springs)
    return simulate(dynamics, frames, fps, actuator_of(plant.tree, dynamics, plant.poke))
