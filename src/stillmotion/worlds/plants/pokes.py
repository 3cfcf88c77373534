"""Pokes: the actions on one node of a plant, and the forces that perform them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillmotion.errors import StillmotionError
from stillmotion.worlds.plants.physics import Actuator, Dynamics, hand_stiffness
from stillmotion.worlds.plants.tree import KinematicChain, Tree, ancestors, chain_to
from stillmotion.worlds.validation import check_action

ACTIONS = ("drag", "pluck", "push")  # drag a node to a place and hold it there; drag, then let go; a short push
# The largest deflections, in radians: per joint, and summed from the soil to the node.
_LARGEST_DEFLECTION, _LARGEST_SUM = 0.75, 0.85
_SHORTEST = 0.045  # picture heights: 3 pixels of 64


@dataclass(frozen=True)
class Poke:
    """An action on a plant from its first frame on.

    Raises:
        StillmotionError: a field is out of range.
    """

    kind: str  # `drag` (pull the node, hold it), `pluck` (pull it, let go) or `push` (a short force)
    node: int  # index of the segment; it is moved by its `grip`
    # (dx, dy) in picture heights. Drag and pluck: the node's target, relative to its rest. Push: the displacement
    # that the push at its strongest would hold, if it lasted.
    displacement: tuple[float, float]
    rise: float  # seconds until the node is there; for a push, its duration
    hold: float = 0.0  # seconds until the hand lets go, after `rise`; a pluck only

    def __post_init__(self) -> None:
        check_action("plants", self.kind, ACTIONS)
        if not (np.isfinite(self.displacement).all() and np.hypot(*self.displacement) <= 1):
            raise StillmotionError(
                f"A poke's displacement must be finite and at most 1 picture height, not {self.displacement}."
            )
        if not 0.02 <= self.rise < 1e3 or not 0 <= self.hold < 1e3:
            raise StillmotionError(
                f"A poke rises in 0.02 seconds or more and holds for 0 or more, not {self.rise} and {self.hold}."
            )


def _compliance(dynamics: Dynamics, chain: KinematicChain) -> np.ndarray:
    """Return the 2 x 2 displacement per force of the node at the end of the chain, at rest."""
    jacobian = chain.node(np.zeros(len(chain.joints)))[1]
    return np.einsum("xk,yk->xy", jacobian / dynamics.stiffness[chain.joints], jacobian)


def _deflect(dynamics: Dynamics, chain: KinematicChain, force: np.ndarray, steps: int = 12) -> np.ndarray:
    """Return the deflections (K) under a force (2) that grows in steps to its full size: close to equilibrium."""
    deflections = np.zeros(len(chain.joints))
    for step in range(1, steps + 1):
        jacobian = chain.node(deflections)[1]
        deflections = np.einsum("xk,x->k", jacobian, force * step / steps) / dynamics.stiffness[chain.joints]
    return deflections


def _solve_equilibrium(
    dynamics: Dynamics, chain: KinematicChain, displacement: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Find the deflections of least energy that give the node a displacement (sequential quadratic programming).

    Returns:
        The deflections (K), the force (2) that holds them, and the node's distance from the displacement.
    """
    deflections, force = np.zeros(len(chain.joints)), np.zeros(2)
    goal = chain.node(deflections)[0] + displacement
    stiffness = dynamics.stiffness[chain.joints]
    for _ in range(30):
        point, jacobian = chain.node(deflections)
        (a, b), (_, d) = np.einsum("xk,yk->xy", jacobian / stiffness, jacobian)
        a, d = a * (1 + 1e-9), d * (1 + 1e-9)
        x, y = goal - point + np.einsum("xk,k->x", jacobian, deflections)
        force = np.array([d * x - b * y, a * y - b * x]) / max(a * d - b * b, 1e-12 * (a + d) ** 2)
        change = np.einsum("xk,x->k", jacobian, force) / stiffness - deflections
        largest = float(np.abs(change).max())
        deflections = deflections + change * min(1.0, 0.3 / max(largest, 1e-12))
        if largest < 1e-12:
            break
    miss = chain.node(deflections)[0] - goal
    return deflections, force, float(np.hypot(*miss))


def actuator_of(tree: Tree, dynamics: Dynamics, poke: Poke) -> Actuator:
    """Return the actuator that performs a poke.

    Raises:
        StillmotionError: the plant has no such node, or the node cannot be moved there.
    """
    if not 0 <= poke.node < len(tree):
        raise StillmotionError(f"The plant has nodes 0 to {len(tree) - 1}, not {poke.node}; choose one of them.")
    chain, goal = chain_to(tree, poke.node), np.array(poke.displacement, float)
    deflections, force, miss = _solve_equilibrium(dynamics, chain, goal)
    if miss > 1e-6 or np.abs(deflections).max() > np.pi / 2:
        raise StillmotionError(
            f"Node {poke.node} cannot be moved by ({goal[0]:.3f}, {goal[1]:.3f}) picture heights; "
            "choose a shorter displacement or one across its branch."
        )
    compliance = _compliance(dynamics, chain)
    release = {"drag": np.inf, "pluck": poke.rise + poke.hold, "push": poke.rise}[poke.kind]
    stiffness = 0.0 if poke.kind == "push" else hand_stiffness(compliance)
    tangent = np.einsum("xy,y->x", compliance, force)
    if not _is_direct(tangent, goal):
        tangent = goal  # the hand moves straight
    home = chain.node(np.zeros(len(chain.joints)))[0]
    vectors = _pair(home), _pair(force), _pair(tangent), _pair(goal)
    return Actuator(chain, *vectors, stiffness, poke.rise, release)


def _pair(point: np.ndarray) -> tuple[float, float]:
    return float(point[0]), float(point[1])


def _is_direct(tangent: np.ndarray, reached: np.ndarray) -> bool:
    """Whether a node starts roughly in the direction of its target; otherwise the branch is too stiff that way."""
    return float(np.hypot(*(tangent - reached))) <= 0.35 * float(np.hypot(*reached)) + 1e-12


def _is_small(deflections: np.ndarray) -> bool:
    return bool(np.abs(deflections).max() < _LARGEST_DEFLECTION and np.abs(deflections.cumsum()).max() < _LARGEST_SUM)


def sample_kind(rng: np.random.Generator, action: str | None) -> str:
    """Draw a kind of poke; a kind that is given consumes the same random numbers."""
    check_action("plants", action, ACTIONS)
    drawn = str(rng.choice(ACTIONS, p=[0.5, 0.3, 0.2]))
    return action or drawn


def sample_poke(
    rng: np.random.Generator, tree: Tree, dynamics: Dynamics, kind: str, nodes: np.ndarray, other: Poke | None = None
) -> Poke:
    """Draw a poke (`kind` is one of `ACTIONS`) of one of the nodes, the visible ones, that the plant can follow.

    Half of the time the node of the `other` poke is moved another way, else another node.
    """
    if kind == "push":
        rise, hold = rng.uniform(0.16, 0.4), 0.0
    else:
        rise, hold = rng.uniform(0.2, 0.5), rng.uniform(0.0, 0.16) if kind == "pluck" else 0.0
    # Stems and branches move more of the plant than a leaf does, and are fewer.
    weights = np.sqrt(ancestors(tree)[nodes].sum(1))
    for _ in range(40):
        node = int(rng.choice(nodes, p=weights / weights.sum()))
        same = other if other is not None and rng.random() < 0.5 else None
        if same is not None:
            node = same.node
        moved = _sample_displacement(rng, dynamics, chain_to(tree, node))
        if moved is None:
            continue
        if same is not None:
            first = np.array(same.displacement)
            if float(moved @ first) / float(np.hypot(*moved) * np.hypot(*first)) > 0.5:  # less than 60 degrees apart
                continue
        return Poke(kind, node, _pair(moved), rise, hold)
    return Poke(kind, int(nodes[0]), (0.0, 0.0), rise, hold)


def _sample_displacement(rng: np.random.Generator, dynamics: Dynamics, chain: KinematicChain) -> np.ndarray | None:
    """Draw a displacement (2) along which the plant yields, or None if the draw leads nowhere."""
    home = chain.node(np.zeros(len(chain.joints)))[0]
    wanted, angle = rng.uniform(0.08, 0.28), rng.uniform(0, 2 * np.pi)
    compliance, direction = _compliance(dynamics, chain), np.array([np.cos(angle), np.sin(angle)])
    # A force of any direction moves the node mostly in the direction of the branch's compliance.
    along = np.einsum("xy,y->x", compliance, direction)
    force = direction * wanted / float(np.hypot(*along))
    for _ in range(8):
        deflected = _deflect(dynamics, chain, force)
        moved = chain.node(deflected)[0] - home
        target, far = home + moved, float(np.hypot(*moved))
        if far <= _SHORTEST:
            return None
        if _is_small(deflected) and far < 1.3 * wanted and bool(((target > 0.03) & (target < 0.97)).all()):
            deflections, held, miss = _solve_equilibrium(dynamics, chain, moved)
            direct = _is_direct(np.einsum("xy,y->x", compliance, held), moved)
            if miss < 1e-9 and _is_small(deflections) and direct:
                return moved
        force = force * 0.75
    return None
