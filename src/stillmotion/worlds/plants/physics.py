"""Dynamics: a plant as a tree of damped springs, integrated in the space of its joint angles.

Every joint has a spring and a damper; inertia is that of the plant at rest (as in small swings), while positions
follow from the angles exactly. So the unforced motion is linear, M q'' + D q' + K q = 0, and the implicit midpoint
rule loses exactly the energy that the dampers dissipate, at any step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillmotion.worlds.plants.tree import KinematicChain, Tree, ancestors, forward_kinematics, node_positions

# The longest step, in seconds. A swing of 3 Hz is then timed to within 0.1 % (the rule's error is (w h)^2 / 12).
LONGEST_STEP = 1 / 200
_MAX_FREQUENCY = 2.5  # the highest natural frequency of a joint relative to a leaf's: tips would jump between frames.
# The hand's stiffness relative to the node it holds, and the time constant (seconds) of its damping.
_HAND_STIFFNESS = 100.0
_HAND_DAMPING = 0.02


@dataclass(frozen=True)
class SpringParameters:
    """The joints of one plant; damping is a share of the critical one at `frequency`."""

    frequency: float  # the plant's lowest natural frequency, Hz
    leaf_frequency: float  # of a leaf on its own hinge, Hz
    air_damping: float
    joint_damping: float  # higher modes are damped more
    stiffness_exponent: float  # stiffness of a joint as a power of the inertia of what hangs on it


@dataclass(frozen=True)
class Dynamics:
    """The coefficients of M q'' + (a M + b K) q' + K q = force, with q the deflections of the N joints."""

    mass: np.ndarray  # M, N x N
    stiffness: np.ndarray  # the diagonal of K, N; it never rises from the soil to a tip
    air_damping: float  # a, 1 / s
    joint_damping: float  # b, s


@dataclass(frozen=True)
class Motion:
    """Deflections (T x N, radians) and their velocities (T x N, radians per second) at the frames."""

    deflections: np.ndarray
    velocities: np.ndarray


@dataclass(frozen=True)
class Actuator:
    """A hand or a push at one node."""

    chain: KinematicChain  # to the node
    home: tuple[float, float]  # the node at rest
    force: tuple[float, float]  # the force that holds the node at `reached`
    tangent: tuple[float, float]  # the displacement by a small share of the force, per whole force
    reached: tuple[float, float]  # the displacement that the force holds
    stiffness: float  # of the hand; 0 for a push
    rise: float  # seconds in which the force grows to its full size; for a push, its duration
    release: float  # seconds after which the hand lets go


def _subtree_sums(tree: Tree, values: np.ndarray) -> np.ndarray:
    """Return for every segment the sum of `values` (N x ...) over the subtree below it, itself included."""
    total = values.astype(float).copy()
    for child in range(len(tree) - 1, -1, -1):
        if tree.parent[child] >= 0:
            total[tree.parent[child]] += total[child]
    return total


def mass_matrix(tree: Tree) -> np.ndarray:
    """Return the plant's N x N inertia at rest.

    Entry [i, j] for i above j is the sum over all masses m at c beyond j of m (c - p_i) . (c - p_j), with p the
    hinges, plus the segments' own inertias (flat plates of their length and greatest width).
    """
    hinges, directions = (values[0] for values in forward_kinematics(tree, np.zeros((1, len(tree)))))
    centre = hinges + 0.5 * tree.length[:, None] * np.stack([np.cos(directions), np.sin(directions)], -1)
    mass = _subtree_sums(tree, tree.mass)
    first = _subtree_sums(tree, tree.mass[:, None] * centre)
    second = _subtree_sums(tree, tree.mass * (centre**2).sum(-1) + own_inertia(tree))
    cross = np.einsum("ix,jx->ij", hinges, first)  # p_i . h_j
    own = (hinges * first).sum(-1)
    full = second - cross - own + np.einsum("ix,jx->ij", hinges, hinges) * mass
    upper = np.where(ancestors(tree), full, 0.0)
    return upper + upper.T - np.diag(np.diag(upper))


def own_inertia(tree: Tree) -> np.ndarray:
    """Return the segments' inertias (N) about their own centres."""
    return tree.mass * (tree.length**2 + (2 * np.maximum(tree.start, tree.end)) ** 2) / 12


def build_dynamics(tree: Tree, springs: SpringParameters) -> Dynamics:
    """Return stiffness that gives the lowest mode its frequency and is highest at the root."""
    mass = mass_matrix(tree)
    inertia = np.diag(mass)
    stiffness = inertia**springs.stiffness_exponent
    stiffness = stiffness * (2 * np.pi * springs.frequency) ** 2 / _lowest_mode(mass, stiffness)
    own = (2 * np.pi * springs.leaf_frequency) ** 2 * inertia
    stiffness = np.where(tree.leaf, own, np.minimum(stiffness, _MAX_FREQUENCY**2 * own))
    for joint, parent in enumerate(tree.parent):
        if parent >= 0:
            stiffness[joint] = min(stiffness[joint], 0.95 * stiffness[parent])
    angular = 2 * np.pi * springs.frequency
    return Dynamics(mass, stiffness, 2 * springs.air_damping * angular, 2 * springs.joint_damping / angular)


def _lowest_mode(mass: np.ndarray, stiffness: np.ndarray) -> float:
    """Return the squared angular frequency of the lowest mode (power iteration on K^-1 M)."""
    shape, value = np.ones(len(mass)), 1.0
    for _ in range(40):
        moved = np.einsum("ij,j->i", mass, shape) / stiffness
        value = float(np.sqrt((moved**2).sum()))
        shape = moved / value
    return 1 / value


def energy(dynamics: Dynamics, motion: Motion) -> np.ndarray:
    """Return the energy (T) of the springs and of the motion."""
    kinetic = np.einsum("ti,ij,tj->t", motion.velocities, dynamics.mass, motion.velocities)
    return 0.5 * (kinetic + (dynamics.stiffness * motion.deflections**2).sum(-1))


def invert(matrix: np.ndarray) -> np.ndarray:
    """Return the inverse of a symmetric positive definite matrix, by the sweep operator.

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


def _rise(share: float) -> tuple[float, float]:
    """Return the minimum-jerk curve from 0 (share 0) to 1 (share 1) and its slope, as plain numbers."""
    s = min(max(share, 0.0), 1.0)
    return s**3 * (10 - 15 * s + 6 * s * s), 30 * s * s * (1 - s) ** 2


def simulate(
    dynamics: Dynamics,
    frames: int,
    fps: float,
    actuator: Actuator | None = None,
    start: tuple[np.ndarray, np.ndarray] | None = None,
) -> Motion:
    """Integrate the motion over T frames, each divided into equal steps of at most `LONGEST_STEP`.

    The actuator, if there is one, acts from the first frame on, at which the deflections and velocities (N each) are
    `start`, or those at rest.
    """
    count = len(dynamics.stiffness)
    steps = max(1, int(np.ceil(1 / (fps * LONGEST_STEP) - 1e-9)))
    h = 1 / (fps * steps)
    # A v_mid = M v - h/2 K q + h/2 f with A = (1 + a h/2) M + c K; M is written as (A - c K) / (1 + a h/2).
    c = 0.5 * h * dynamics.joint_damping + 0.25 * h * h
    keep = 1 / (1 + 0.5 * h * dynamics.air_damping)
    inverse = invert(dynamics.mass / keep + c * np.diag(dynamics.stiffness))
    springs = inverse * dynamics.stiffness
    q, v = (np.zeros(count), np.zeros(count)) if start is None else (start[0].copy(), start[1].copy())
    columns = np.ascontiguousarray(inverse[:, actuator.chain.joints]) if actuator is not None else inverse[:, :0]
    out = Motion(np.empty((frames, count)), np.empty((frames, count)))
    for t in range(frames):
        out.deflections[t], out.velocities[t] = q, v
        for step in range(steps if t < frames - 1 else 0):
            middle = keep * v - np.einsum("ij,j->i", springs, keep * c * v + 0.5 * h * q)
            if actuator is not None:
                middle = _actuate(actuator, columns, q, middle, (t * steps + step) * h, h)
            q = q + h * middle
            v = 2 * middle - v
    return out


def _actuate(
    actuator: Actuator, columns: np.ndarray, deflections: np.ndarray, middle: np.ndarray, time: float, h: float
) -> np.ndarray:
    """Return the mid-step velocities (N) with the actuator's force added to those of the free plant."""
    share = min(max((actuator.release - time) / h, 0.0), 1.0)  # of this step during which it acts
    if share == 0:
        return middle
    joints = actuator.chain.joints
    point, jacobian = actuator.chain.node(deflections[joints])
    response = np.einsum("nk,xk->nx", columns, jacobian)  # velocities per force
    if actuator.stiffness == 0:
        swell = share * np.sin(np.pi * (time + 0.5 * h) / actuator.rise) ** 2
        return middle + 0.5 * h * swell * (response[:, 0] * actuator.force[0] + response[:, 1] * actuator.force[1])
    stiff, damp = share * actuator.stiffness, share * actuator.stiffness * _HAND_DAMPING
    weight = 0.5 * h * stiff + damp
    free = np.einsum("xk,k->x", jacobian, middle[joints])
    # Plain numbers from here on: arrays of two cost more than the arithmetic.
    x, y = (
        stiff * (hand - at) + damp * pace - weight * speed
        for (hand, pace), at, speed in zip(
            _hand(actuator, time + 0.5 * h), point.tolist(), free.tolist(), strict=True
        )
    )
    (a, b), (c, d) = (0.5 * h * weight * np.einsum("xk,ky->xy", jacobian, response[joints])).tolist()
    factor = 0.5 * h / ((a + 1) * (d + 1) - b * c)
    first, second = factor * ((d + 1) * x - b * y), factor * ((a + 1) * y - c * x)
    return middle + (first * response[:, 0] + second * response[:, 1])


def _hand(actuator: Actuator, time: float) -> list[tuple[float, float]]:
    """Return the hand's position and velocity at a time, for x and for y."""
    s, slope = _rise(time / actuator.rise)
    axes = zip(actuator.home, actuator.force, actuator.tangent, actuator.reached, strict=True)
    found = []
    for home, force, tangent, reached in axes:
        # The hand goes ahead of the node by its own compliance.
        first, bow = tangent + force / actuator.stiffness, reached - tangent
        found.append((home + s * first + s * s * bow, slope / actuator.rise * (first + 2 * s * bow)))
    return found


def hand_stiffness(compliance: np.ndarray) -> float:
    """Return the hand's stiffness for a node of this compliance (2 x 2, displacement per force)."""
    return _HAND_STIFFNESS / float(np.trace(compliance))


def node_paths(tree: Tree, motion: Motion) -> np.ndarray:
    """Return T x N x 2, the positions of all nodes."""
    return node_positions(tree, *forward_kinematics(tree, motion.deflections))
