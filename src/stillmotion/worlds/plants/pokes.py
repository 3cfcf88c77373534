"""Pokes: what is done to one node of a plant, and the force that does it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillmotion.errors import StillmotionError
from stillmotion.worlds.plants.physics import Dynamics, Pull, hand_stiffness
from stillmotion.worlds.plants.tree import Tree, Way, ancestors, way_to

# What can be done: drag a node to a place and hold it there; drag, then let go; push it for a moment.
ACTIONS = ("drag", "pluck", "push")
# What a plant stands without breaking: radians per joint, and all the way from the soil to the node.
_LARGEST_BEND, _LARGEST_TURN = 0.75, 0.85
_SHORTEST = 0.045  # picture heights: 3 pixels of 64


@dataclass(frozen=True)
class Poke:
    """What is done to a plant from its first frame on.

    Attributes:
        kind: `drag` (pull the node, hold it), `pluck` (pull it, let go) or `push` (a force that comes and goes).
        node: index of the segment; it is grabbed at its `grip`.
        displacement: (dx, dy) in picture heights. Drag and pluck: where the node is brought to, from its rest. Push:
            where the push at its strongest would bring the node, if it lasted.
        rise: seconds until the node is there; for a push, how long it lasts.
        hold: seconds until the hand lets go, after `rise`; a pluck only.

    Raises:
        StillmotionError: a field is out of range.
    """

    kind: str
    node: int
    displacement: tuple[float, float]
    rise: float
    hold: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ACTIONS:
            raise StillmotionError(f"Plants know no poke {self.kind!r}; choose one of: {', '.join(ACTIONS)}.")
        if not (np.isfinite(self.displacement).all() and np.hypot(*self.displacement) <= 1):
            raise StillmotionError(
                f"A poke's displacement must be finite and at most 1 picture height, not {self.displacement}."
            )
        if not 0.02 <= self.rise < 1e3 or not 0 <= self.hold < 1e3:
            raise StillmotionError(
                f"A poke rises in 0.02 seconds or more and holds for 0 or more, not {self.rise} and {self.hold}."
            )


def compliance(dyn: Dynamics, way: Way, bends: np.ndarray) -> np.ndarray:
    """Return the 2 x 2 displacement per force of the node at the end of the way, at these bends (K)."""
    jacobian = way.point(bends)[1]
    return np.einsum("xk,yk->xy", jacobian / dyn.stiffness[way.joints], jacobian)


def hang(dyn: Dynamics, way: Way, force: np.ndarray, steps: int = 12) -> np.ndarray:
    """Return the bends (K) under a force (2) that grows in steps to its full size: close to the balance."""
    bends = np.zeros(len(way.joints))
    for step in range(1, steps + 1):
        jacobian = way.point(bends)[1]
        bends = np.einsum("xk,x->k", jacobian, force * step / steps) / dyn.stiffness[way.joints]
    return bends


def balance(dyn: Dynamics, way: Way, displacement: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Find the bends of least energy that bring the node to a displacement (sequential quadratic programming).

    Returns:
        The bends (K), the force (2) that holds them, and how far the node is from the displacement asked for.
    """
    home = way.point(np.zeros(len(way.joints)))[0]
    goal, bends, force = home + displacement, np.zeros(len(way.joints)), np.zeros(2)
    springs = dyn.stiffness[way.joints]
    for _ in range(30):
        point, jacobian = way.point(bends)
        (a, b), (_, d) = np.einsum("xk,yk->xy", jacobian / springs, jacobian)
        a, d = a * (1 + 1e-9), d * (1 + 1e-9)
        x, y = goal - point + np.einsum("xk,k->x", jacobian, bends)
        force = np.array([d * x - b * y, a * y - b * x]) / max(a * d - b * b, 1e-12 * (a + d) ** 2)
        change = np.einsum("xk,x->k", jacobian, force) / springs - bends
        largest = float(np.abs(change).max())
        bends = bends + change * min(1.0, 0.3 / max(largest, 1e-12))
        if largest < 1e-12:
            break
    miss = way.point(bends)[0] - goal
    return bends, force, float(np.hypot(*miss))


def pull_of(tree: Tree, dyn: Dynamics, poke: Poke) -> Pull:
    """Return the force and the hand of a poke.

    Raises:
        StillmotionError: the plant has no such node, or the node cannot be brought there.
    """
    if not 0 <= poke.node < len(tree):
        raise StillmotionError(f"The plant has nodes 0 to {len(tree) - 1}, not {poke.node}; choose one of them.")
    way, goal = way_to(tree, poke.node), np.array(poke.displacement, float)
    bends, force, miss = balance(dyn, way, goal)
    if miss > 1e-6 or np.abs(bends).max() > np.pi / 2:
        raise StillmotionError(
            f"Node {poke.node} cannot be moved by ({goal[0]:.3f}, {goal[1]:.3f}) picture heights; "
            "choose a shorter way or one across its branch."
        )
    still = np.zeros(len(way.joints))
    flexible = compliance(dyn, way, still)
    pushed = poke.kind == "push"
    release = {"drag": np.inf, "pluck": poke.rise + poke.hold, "push": poke.rise}[poke.kind]
    grip = 0.0 if pushed else hand_stiffness(flexible)
    tangent = np.einsum("xy,y->x", flexible, force)
    if not _follows(tangent, goal):
        tangent = goal  # the hand goes straight
    home = way.point(still)[0]
    return Pull(way, _pair(home), _pair(force), _pair(tangent), _pair(goal), grip, poke.rise, release)


def _pair(point: np.ndarray) -> tuple[float, float]:
    return float(point[0]), float(point[1])


def _follows(tangent: np.ndarray, reached: np.ndarray) -> bool:
    """Whether a node sets out roughly the way it ends: else it hardly yields that way, and swings wildly."""
    return float(np.hypot(*(tangent - reached))) <= 0.35 * float(np.hypot(*reached)) + 1e-12


def sample_kind(rng: np.random.Generator, action: str | None) -> str:
    """Draw a kind of poke; a kind that is asked for draws the same numbers."""
    drawn = str(rng.choice(ACTIONS, p=[0.5, 0.3, 0.2]))
    if action is not None and action not in ACTIONS:
        raise StillmotionError(f"Plants know no poke {action!r}; choose one of: {', '.join(ACTIONS)}.")
    return action or drawn


def sample_poke(
    rng: np.random.Generator, tree: Tree, dyn: Dynamics, kind: str, nodes: np.ndarray, away: Poke | None = None
) -> Poke:
    """Draw a poke that the plant can follow.

    Args:
        rng: the only source of randomness.
        tree: the plant.
        dyn: its numbers.
        kind: of `ACTIONS`.
        nodes: nodes to choose from (those that are seen).
        away: the other poke: half of the time the same node is moved another way, else another node.
    """
    if kind == "push":
        rise, hold = rng.uniform(0.16, 0.4), 0.0
    else:
        rise, hold = rng.uniform(0.2, 0.5), rng.uniform(0.0, 0.16) if kind == "pluck" else 0.0
    # Stems and branches move more of the plant than a leaf does, and are fewer.
    weights = np.sqrt(ancestors(tree)[nodes].sum(1))
    for _ in range(40):
        node = int(rng.choice(nodes, p=weights / weights.sum()))
        same = away is not None and bool(rng.random() < 0.5)
        if away is not None and same:
            node = away.node
        way = way_to(tree, node)
        moved = _sample_move(rng, dyn, way)
        if moved is None:
            continue
        if away is not None and same:
            first = np.array(away.displacement)
            alike = float(moved @ first) / float(np.hypot(*moved) * np.hypot(*first))
            if alike > 0.5:  # less than 60 degrees apart
                continue
        return Poke(kind, node, _pair(moved), rise, hold)
    return Poke(kind, int(nodes[0]), (0.0, 0.0), rise, hold)


def _sample_move(rng: np.random.Generator, dyn: Dynamics, way: Way) -> np.ndarray | None:
    """Draw a displacement (2) along which the plant yields, or None if the draw leads nowhere."""
    still = np.zeros(len(way.joints))
    home = way.point(still)[0]
    wanted = rng.uniform(0.08, 0.28)
    angle = rng.uniform(0, 2 * np.pi)
    flexible = compliance(dyn, way, still)
    # A force of any direction moves the node mostly the way its branch gives.
    along = np.einsum("xy,y->x", flexible, np.array([np.cos(angle), np.sin(angle)]))
    force = np.array([np.cos(angle), np.sin(angle)]) * wanted / float(np.hypot(*along))
    for _ in range(8):
        hung = hang(dyn, way, force)
        moved = way.point(hung)[0] - home
        target, far = home + moved, float(np.hypot(*moved))
        if far <= _SHORTEST:
            return None
        if _whole(hung) and far < 1.3 * wanted and bool(((target > 0.03) & (target < 0.97)).all()):
            bends, held, miss = balance(dyn, way, moved)
            if miss < 1e-9 and _whole(bends) and _follows(np.einsum("xy,y->x", flexible, held), moved):
                return moved
        force = force * 0.75
    return None


def _whole(bends: np.ndarray) -> bool:
    """Whether the branch stands these bends."""
    return bool(np.abs(bends).max() < _LARGEST_BEND and np.abs(bends.cumsum()).max() < _LARGEST_TURN)
