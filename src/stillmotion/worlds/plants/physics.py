"""Motion: a plant as a tree of damped springs, integrated in the space of its joint angles.

Every joint has a spring and a damper; inertia is that of the plant at rest (as in small swings), while positions
follow from the angles exactly. So the unforced motion is linear, M q'' + D q' + K q = 0, and the implicit midpoint
rule takes the energy down by exactly what the dampers eat, at any step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillmotion.worlds.plants.tree import Tree, Way, ancestors, grips, place

# The longest step, in seconds. A swing of 3 Hz is then timed to within 0.1 % (the rule's error is (w h)^2 / 12).
LONGEST_STEP = 1 / 200
# No joint swings faster on its own than this many times the leaves: tips would jump between frames.
_QUICKEST = 2.5
# How much stiffer the hand is than the node it holds, and how fast (seconds) it damps what shakes in it.
_HAND_STIFFNESS = 100.0
_HAND_DAMPING = 0.02


@dataclass(frozen=True)
class Springs:
    """What the joints of a species are like.

    Attributes:
        pitch: the plant's slowest swing, Hz.
        leaf_pitch: swing of a leaf on its own hinge, Hz.
        air: damping by the air, a share of the critical one at `pitch`.
        inner: damping in the joints, a share of the critical one at `pitch`; faster swings are damped more.
        fall: how fast stiffness falls towards the tips: a power of the inertia of what hangs on a joint.
    """

    pitch: float
    leaf_pitch: float
    air: float
    inner: float
    fall: float


@dataclass(frozen=True)
class Dynamics:
    """The numbers of M q'' + (a M + b K) q' + K q = force, with q the bends of the N joints.

    Attributes:
        mass: M, N x N.
        stiffness: the diagonal of K, N; along every way from the soil to a tip it never rises.
        air: a, 1 / s.
        inner: b, s.
    """

    mass: np.ndarray
    stiffness: np.ndarray
    air: float
    inner: float


@dataclass(frozen=True)
class Motion:
    """Bends (T x N, radians) and their speeds (T x N, radians per second) at the frames."""

    bends: np.ndarray
    speeds: np.ndarray


@dataclass(frozen=True)
class Pull:
    """A hand or a push at one node.

    Attributes:
        way: the node's way.
        home: where the node rests.
        force: the force that holds the node at `reached`.
        tangent: where a small share of the force moves the node, per whole force.
        reached: the displacement that the force holds.
        grip: stiffness of the hand; 0 for a push.
        rise: seconds in which the force grows to its full size; for a push, how long it lasts.
        release: seconds after which the hand lets go.
    """

    way: Way
    home: tuple[float, float]
    force: tuple[float, float]
    tangent: tuple[float, float]
    reached: tuple[float, float]
    grip: float
    rise: float
    release: float


def _subtree_sums(tree: Tree, values: np.ndarray) -> np.ndarray:
    """Return for every segment the sum of `values` (N x ...) over all that hangs on it, itself included."""
    total = values.astype(float).copy()
    for child in range(len(tree) - 1, -1, -1):
        if tree.parent[child] >= 0:
            total[tree.parent[child]] += total[child]
    return total


def mass_matrix(tree: Tree) -> np.ndarray:
    """Return the plant's N x N inertia at rest.

    Entry [i, j] for i above j is the sum over all masses m at c beyond j of m (c - p_i) . (c - p_j), with p the
    hinges, plus the segments' own inertias (flat boards of their length and greatest width).
    """
    hinges, directions = (values[0] for values in place(tree, np.zeros((1, len(tree)))))
    arrow = np.stack([np.cos(directions), np.sin(directions)], -1)
    centre = hinges + 0.5 * tree.length[:, None] * arrow
    mass = _subtree_sums(tree, tree.mass)
    first = _subtree_sums(tree, tree.mass[:, None] * centre)
    second = _subtree_sums(tree, tree.mass * (centre**2).sum(-1) + own_inertia(tree))
    cross = np.einsum("ix,jx->ij", hinges, first)  # p_i . h_j
    own = (hinges * first).sum(-1)
    full = second - cross - own + np.einsum("ix,jx->ij", hinges, hinges) * mass
    upper = np.where(ancestors(tree), full, 0.0)
    return upper + upper.T - np.diag(np.diag(upper))


def own_inertia(tree: Tree) -> np.ndarray:
    """Return the segments' inertias (N) about their own middles."""
    return tree.mass * (tree.length**2 + (2 * np.maximum(tree.start, tree.end)) ** 2) / 12


def dynamics(tree: Tree, springs: Springs) -> Dynamics:
    """Give every joint its stiffness, so that the slowest swing has the wanted pitch and the root is the stiffest."""
    mass = mass_matrix(tree)
    inertia = np.diag(mass)
    stiffness = inertia**springs.fall
    stiffness = stiffness * (2 * np.pi * springs.pitch) ** 2 / slowest(mass, stiffness)
    own = (2 * np.pi * springs.leaf_pitch) ** 2 * inertia
    stiffness = np.where(tree.leaf, own, np.minimum(stiffness, _QUICKEST**2 * own))
    for joint, parent in enumerate(tree.parent):
        if parent >= 0:
            stiffness[joint] = min(stiffness[joint], 0.95 * stiffness[parent])
    pulse = 2 * np.pi * springs.pitch
    return Dynamics(mass, stiffness, 2 * springs.air * pulse, 2 * springs.inner / pulse)


def slowest(mass: np.ndarray, stiffness: np.ndarray) -> float:
    """Return the squared angular frequency of the slowest swing (power iteration on K^-1 M)."""
    shape, value = np.ones(len(mass)), 1.0
    for _ in range(40):
        moved = np.einsum("ij,j->i", mass, shape) / stiffness
        value = float(np.sqrt((moved**2).sum()))
        shape = moved / value
    return 1 / value


def energy(dyn: Dynamics, bends: np.ndarray, speeds: np.ndarray) -> np.ndarray:
    """Return the energy (T) of the springs and of the motion (both T x N)."""
    kinetic = np.einsum("ti,ij,tj->t", speeds, dyn.mass, speeds)
    return 0.5 * (kinetic + (dyn.stiffness * bends**2).sum(-1))


def invert(matrix: np.ndarray) -> np.ndarray:
    """Return the inverse of a symmetric positive definite matrix, by sweeping.

    LAPACK is not used because its last digits depend on its version and on the number of threads.
    """
    swept = matrix.astype(float).copy()
    for k in range(len(swept)):
        pivot = swept[k, k]
        row, column = swept[k] / pivot, swept[:, k].copy()
        swept -= column[:, None] * row
        swept[k], swept[:, k] = row, -column / pivot
        swept[k, k] = 1 / pivot
    return swept


def smooth_rise(share: float) -> tuple[float, float]:
    """Return a curve from 0 (share 0) to 1 (share 1) without jumps in speed or acceleration, and its slope."""
    s = min(max(share, 0.0), 1.0)
    return s**3 * (10 - 15 * s + 6 * s * s), 30 * s * s * (1 - s) ** 2


def simulate(
    dyn: Dynamics,
    frames: int,
    fps: float,
    pull: Pull | None = None,
    start: tuple[np.ndarray, np.ndarray] | None = None,
) -> Motion:
    """Move the plant.

    Args:
        dyn: the plant's numbers.
        frames: T.
        fps: frames per second; a frame is cut into equal steps of at most `LONGEST_STEP`.
        pull: what acts on it from the first frame on, or nothing.
        start: bends and speeds (N each) at the first frame; at rest if not given.

    Returns:
        Bends and speeds at the frames.
    """
    count = len(dyn.stiffness)
    steps = max(1, int(np.ceil(1 / (fps * LONGEST_STEP) - 1e-9)))
    h = 1 / (fps * steps)
    # A v_mid = M v - h/2 K q + h/2 f with A = (1 + a h/2) M + c K; M is written as (A - c K) / (1 + a h/2).
    c = 0.5 * h * dyn.inner + 0.25 * h * h
    keep = 1 / (1 + 0.5 * h * dyn.air)
    inverse = invert(dyn.mass / keep + c * np.diag(dyn.stiffness))
    springs = inverse * dyn.stiffness
    bends, speeds = (np.zeros(count), np.zeros(count)) if start is None else (start[0].copy(), start[1].copy())
    columns = np.ascontiguousarray(inverse[:, pull.way.joints]) if pull is not None else inverse[:, :0]
    out = Motion(np.empty((frames, count)), np.empty((frames, count)))
    for t in range(frames):
        out.bends[t], out.speeds[t] = bends, speeds
        for step in range(steps if t < frames - 1 else 0):
            middle = keep * speeds - np.einsum("ij,j->i", springs, keep * c * speeds + 0.5 * h * bends)
            if pull is not None:
                middle = _pulled(pull, columns, bends, middle, (t * steps + step) * h, h)
            bends = bends + h * middle
            speeds = 2 * middle - speeds
    return out


def _pulled(
    pull: Pull, columns: np.ndarray, bends: np.ndarray, middle: np.ndarray, time: float, h: float
) -> np.ndarray:
    """Return the mid-step speeds (N) with the pull's force added to those of the free plant."""
    share = min(max((pull.release - time) / h, 0.0), 1.0)  # of this step during which it acts
    if share == 0:
        return middle
    joints = pull.way.joints
    point, jacobian = pull.way.point(bends[joints])
    answer = np.einsum("nk,xk->nx", columns, jacobian)  # speeds per force
    if pull.grip == 0:
        swell = share * np.sin(np.pi * (time + 0.5 * h) / pull.rise) ** 2
        return middle + 0.5 * h * swell * (answer[:, 0] * pull.force[0] + answer[:, 1] * pull.force[1])
    stiff, damp = share * pull.grip, share * pull.grip * _HAND_DAMPING
    weight = 0.5 * h * stiff + damp
    free = np.einsum("xk,k->x", jacobian, middle[joints])
    # Plain numbers from here on: arrays of two cost more than what is done with them.
    x, y = (
        stiff * (hand - at) + damp * pace - weight * speed
        for (hand, pace), at, speed in zip(_hand(pull, time + 0.5 * h), point.tolist(), free.tolist(), strict=True)
    )
    (a, b), (c, d) = (0.5 * h * weight * np.einsum("xk,ky->xy", jacobian, answer[joints])).tolist()
    factor = 0.5 * h / ((a + 1) * (d + 1) - b * c)
    first, second = factor * ((d + 1) * x - b * y), factor * ((a + 1) * y - c * x)
    return middle + (first * answer[:, 0] + second * answer[:, 1])


def _hand(pull: Pull, time: float) -> list[tuple[float, float]]:
    """Return the hand's place and speed at a time, for x and for y."""
    s, slope = smooth_rise(time / pull.rise)
    made = []
    for home, force, tangent, reached in zip(pull.home, pull.force, pull.tangent, pull.reached, strict=True):
        # The hand goes ahead of the node by what its own softness takes.
        first, bow = tangent + force / pull.grip, reached - tangent
        made.append((home + s * first + s * s * bow, slope / pull.rise * (first + 2 * s * bow)))
    return made


def hand_stiffness(compliance: np.ndarray) -> float:
    """Return how stiff the hand is for a node of this compliance (2 x 2, displacement per force)."""
    return _HAND_STIFFNESS / float(np.trace(compliance))


def node_paths(tree: Tree, motion: Motion) -> np.ndarray:
    """Return T x N x 2, where all nodes are."""
    return grips(tree, *place(tree, motion.bends))
