"""Quasi-static planar pushing: objects on a floor that move only while something pushes them.

There is no momentum. An object resists translation with friction f and rotation with friction f c, where c is the
mean distance of its area from its centre: the ellipsoid that approximates the limit surface of a sliding body (Goyal,
Ruina and Papadopoulos 1991; Lynch and Mason 1996). The motion that resolves an overlap at the least cost in that
metric is found by sweeping over all contacts (Gauss-Seidel), with Coulomb friction between touching bodies.

A step that would leave an overlap above `TOLERANCE` is not made: the arm stalls until its trajectory leads elsewhere.
So by induction no two bodies ever overlap by more, and nothing leaves the bin by more.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import cos, hypot, sin

import numpy as np

TOLERANCE = 0.002  # picture heights
STEPS_PER_SECOND = 60
_MARGIN = 0.01  # pairs of discs nearer than this are contacts during a step
_SWEEPS = 30
_SEARCHES = 4  # for contacts, within one step
_TARGET_DEPTH = TOLERANCE / 2  # sweeps end when no overlap is deeper
_FRICTION = 0.3

# A contact: body and disc (x, y in the body) of both sides, the sum of the radii, and the first one's own.
_Contact = tuple[int, float, float, int, float, float, float, float]
# A contact with a wall: body, disc (x, y in the body), the wall's normal into the bin, the smallest n . p allowed.
_WallContact = tuple[int, float, float, float, float, float]
_Poses = list[list[float]]  # poses of all bodies, the gripper last, as plain floats: x, y, angle, cosine, sine.


@dataclass(frozen=True)
class RigidBody:
    """The physical properties of an object."""

    discs: np.ndarray  # K x 3 (x, y, radius) in the body's own coordinates
    mobility: float  # in translation, 1 / f^2; 0 = not moved by contacts (the gripper)
    rotation_mobility: float  # 1 / (f c)^2

    @cached_property
    def radius(self) -> float:
        """The distance of the outermost point from the body's origin."""
        return float((np.hypot(self.discs[:, 0], self.discs[:, 1]) + self.discs[:, 2]).max())

    @cached_property
    def columns(self) -> np.ndarray:
        """The discs as contiguous columns, 3 x K: x, y and radius."""
        return np.ascontiguousarray(self.discs.T)

    @cached_property
    def rows(self) -> list[list[float]]:
        """The discs as plain floats, which Python reads faster."""
        rows: list[list[float]] = self.discs.tolist()
        return rows


def _pose(x: float, y: float, angle: float) -> list[float]:
    return [x, y, angle, cos(angle), sin(angle)]


def _place_discs(body: RigidBody, pose: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of a body's discs."""
    x, y, _, c, s = pose
    across, down, _ = body.columns
    # Written out: a library's product may round differently on another processor.
    return c * across - s * down + x, s * across + c * down + y


def overlaps(bodies: list[RigidBody], poses: np.ndarray) -> np.ndarray:
    """Return the deepest overlap of each pair of bodies at `poses` (N x 3), N x N; negative where they are apart."""
    placed = [
        _place_discs(body, [*pose, np.cos(pose[2]), np.sin(pose[2])])
        for body, pose in zip(bodies, poses, strict=True)
    ]
    deepest = np.full((len(bodies), len(bodies)), -np.inf)
    for i in range(len(bodies)):
        for j in range(i):
            gap = np.hypot(*(a[:, None] - b for a, b in zip(placed[i], placed[j], strict=True)))
            deep = (bodies[i].discs[:, None, 2] + bodies[j].discs[None, :, 2] - gap).max()
            deepest[i, j] = deepest[j, i] = deep
    return deepest


class _Bodies:
    """The objects, the gripper last, and what stays the same from step to step."""

    def __init__(self, bodies: list[RigidBody]) -> None:
        objects = [body.columns for body in bodies[:-1]]
        self.all, self.radii = bodies, [body.radius for body in bodies]
        self.columns = np.concatenate([*objects, np.zeros((3, 0))], axis=1)  # the discs of all objects, 3 x M
        self.owner = np.repeat(np.arange(len(objects)), [part.shape[1] for part in objects])  # M, whose each disc is
        self._limits: dict[tuple[int, int], np.ndarray] = {}

    def contact_limit(self, i: int, j: int) -> np.ndarray:
        """Return the squared distances (K x L) below which the discs of two bodies are in contact."""
        if (i, j) not in self._limits:
            radii = self.all[i].discs[:, None, 2] + self.all[j].discs[None, :, 2]
            self._limits[i, j] = (radii + _MARGIN) ** 2
        return self._limits[i, j]


def _pair_contacts(
    bodies: _Bodies, placed: dict[int, tuple[np.ndarray, np.ndarray]], i: int, j: int
) -> list[_Contact]:
    """Return all pairs of discs of two bodies that are nearer than the margin; `placed` holds the discs' centres."""
    (px, py), (qx, qy) = placed[i], placed[j]
    away_x, away_y = px[:, None] - qx, py[:, None] - qy
    close = away_x * away_x + away_y * away_y < bodies.contact_limit(i, j)
    if not close.any():
        return []
    first, second = bodies.all[i].rows, bodies.all[j].rows
    found = []
    for a, b in np.argwhere(close).tolist():
        (ax, ay, ar), (bx, by, br) = first[a], second[b]
        found.append((i, ax, ay, j, bx, by, ar + br, ar))
    return found


def _clearance(bodies: _Bodies, poses: _Poses) -> float:
    """Return how far the gripper is from the nearest object; zero or less when it touches one."""
    if not len(bodies.owner):
        return 1.0
    gripper = bodies.all[-1]
    px, py = _place_discs(gripper, poses[-1])
    x, y, _, c, s = np.array(poses[:-1]).T.take(bodies.owner, axis=1)
    across, down, radius = bodies.columns
    away_x, away_y = px[:, None] - (c * across - s * down + x), py[:, None] - (s * across + c * down + y)
    gaps = np.sqrt(away_x * away_x + away_y * away_y) - (gripper.columns[2][:, None] + radius)
    return min(1.0, float(gaps.min()))


def _find_contacts(bodies: _Bodies, poses: _Poses) -> list[_Contact]:
    """Return the contacts of the gripper and of all objects that can transmit its push."""
    gripper = len(bodies.all) - 1
    found: list[_Contact] = []
    placed: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    reached, left = [gripper], set(range(gripper))
    for order, i in enumerate(reached):
        p = poses[i]
        for j in [*left, *reached[order + 1 :]]:
            q = poses[j]
            room = bodies.radii[i] + bodies.radii[j] + _MARGIN
            if (p[0] - q[0]) ** 2 + (p[1] - q[1]) ** 2 < room * room:
                for k in (i, j):
                    if k not in placed:
                        placed[k] = _place_discs(bodies.all[k], poses[k])
                new = _pair_contacts(bodies, placed, i, j)
                found += new
                if new and j in left:
                    left.remove(j)
                    reached.append(j)
    return found


def _find_wall_contacts(
    bodies: _Bodies, poses: _Poses, reached: set[int], half: tuple[float, float]
) -> list[_WallContact]:
    """Return the discs nearer to a wall than the margin; the gripper passes above the walls."""
    found: list[_WallContact] = []
    for i in reached:
        body, (x, y) = bodies.all[i], poses[i][:2]
        room = bodies.radii[i] + _MARGIN
        if not body.mobility or (abs(x) < half[0] - room and abs(y) < half[1] - room):
            continue
        placed = _place_discs(body, poses[i])
        for axis, side in ((0, 1.0), (0, -1.0), (1, 1.0), (1, -1.0)):
            beyond = side * placed[axis] + body.columns[2] > half[axis] - _MARGIN
            nx, ny = (-side, 0.0) if axis == 0 else (0.0, -side)
            for ax, ay, r in body.discs[beyond].tolist():
                found.append((i, ax, ay, nx, ny, r - half[axis]))
    return found


def _contact_geometry(contact: _Contact, poses: _Poses) -> tuple[float, float, float, float, float]:
    """Return the overlap of two discs, the normal towards the first, and the first's arm to its disc's centre."""
    i, ax, ay, j, bx, by, radii, _ = contact
    p, q = poses[i], poses[j]
    gx, gy = p[3] * ax - p[4] * ay, p[4] * ax + p[3] * ay
    nx = p[0] + gx - q[0] - q[3] * bx + q[4] * by
    ny = p[1] + gy - q[1] - q[4] * bx - q[3] * by
    gap = hypot(nx, ny) or 1e-12
    return radii - gap, nx / gap, ny / gap, gx, gy


def _slip(now: list[float], before: list[float], rx: float, ry: float, tx: float, ty: float) -> float:
    """Return how far the point of a body at the arm r has moved along t since the step began."""
    c, s = now[3] * before[3] + now[4] * before[4], before[4] * now[3] - before[3] * now[4]
    return (now[0] - before[0] + rx - c * rx + s * ry) * tx + (now[1] - before[1] + ry - s * rx - c * ry) * ty


def _rotate(pose: list[float], by: float) -> None:
    if by:
        pose[2] += by
        pose[3], pose[4] = cos(pose[2]), sin(pose[2])


def _resolve_contact(contact: _Contact, bodies: list[RigidBody], poses: _Poses, before: _Poses) -> float:
    """Remove the overlap of one contact, with friction; return how deep it was.

    An impulse u at the arm r shifts a body by mobility u and turns it by rotation_mobility (r x u): the metric of its
    friction. Half of a clip's time is spent here, so everything is written out.
    """
    deep, nx, ny, gx, gy = _contact_geometry(contact, poses)
    if deep <= 0:
        return deep
    i, j, radius = contact[0], contact[3], contact[7]
    p, q, first, second = poses[i], poses[j], bodies[i], bodies[j]
    # Both arms reach to the first disc's surface, where the two meet.
    gx, gy = gx - radius * nx, gy - radius * ny
    hx, hy = p[0] + gx - q[0], p[1] + gy - q[1]
    shift, spin = first.mobility, first.rotation_mobility
    other_shift, other_spin = second.mobility, second.rotation_mobility
    both = shift + other_shift
    load = deep / (both + spin * (gx * ny - gy * nx) ** 2 + other_spin * (hx * ny - hy * nx) ** 2)
    ux, uy = load * nx, load * ny
    p[0], p[1], q[0], q[1] = p[0] + shift * ux, p[1] + shift * uy, q[0] - other_shift * ux, q[1] - other_shift * uy
    _rotate(p, spin * (gx * uy - gy * ux))
    _rotate(q, other_spin * (hy * ux - hx * uy))
    tx, ty = -ny, nx
    slip = _slip(p, before[i], gx, gy, tx, ty) - _slip(q, before[j], hx, hy, tx, ty)
    compliance = both + spin * (gx * ty - gy * tx) ** 2 + other_spin * (hx * ty - hy * tx) ** 2
    friction = max(-_FRICTION * load, min(_FRICTION * load, -slip / compliance))
    ux, uy = friction * tx, friction * ty
    p[0], p[1], q[0], q[1] = p[0] + shift * ux, p[1] + shift * uy, q[0] - other_shift * ux, q[1] - other_shift * uy
    _rotate(p, spin * (gx * uy - gy * ux))
    _rotate(q, other_spin * (hy * ux - hx * uy))
    return deep


def _wall_depth(wall: _WallContact, poses: _Poses) -> tuple[float, float, float]:
    """Return how deep a disc is in a wall, and the body's arm to the disc's centre."""
    i, ax, ay, nx, ny, least = wall
    p = poses[i]
    rx, ry = p[3] * ax - p[4] * ay, p[4] * ax + p[3] * ay
    return least - nx * (p[0] + rx) - ny * (p[1] + ry), rx, ry


def _resolve_wall(wall: _WallContact, bodies: list[RigidBody], poses: _Poses) -> float:
    """Remove the overlap with a wall, without friction; return how deep it was."""
    deep, rx, ry = _wall_depth(wall, poses)
    if deep > 0:
        i, nx, ny = wall[0], wall[3], wall[4]
        body, pose = bodies[i], poses[i]
        load = deep / (body.mobility + body.rotation_mobility * (rx * ny - ry * nx) ** 2)
        ux, uy = load * nx, load * ny
        pose[0], pose[1] = pose[0] + body.mobility * ux, pose[1] + body.mobility * uy
        _rotate(pose, body.rotation_mobility * (rx * uy - ry * ux))
    return deep


def _resolve_overlaps(bodies: _Bodies, poses: _Poses, before: _Poses, half: tuple[float, float]) -> bool:
    """Separate all bodies after the gripper has moved into one; return whether that succeeded."""
    searched = before
    for _ in range(_SEARCHES):
        contacts = _find_contacts(bodies, poses)
        reached = {k for contact in contacts for k in (contact[0], contact[3])}
        walls = _find_wall_contacts(bodies, poses, reached, half)
        close, last = contacts, 0.0
        for sweep in range(_SWEEPS):
            depths = [_resolve_contact(contact, bodies.all, poses, before) for contact in close]
            worst = max([*depths, *[_resolve_wall(wall, bodies.all, poses) for wall in walls]])
            # A jam: overlaps shrink ever more slowly, so at this rate the remaining sweeps do not end it.
            jammed = sweep > 7 and worst - (_SWEEPS - 1 - sweep) * (last - worst) > TOLERANCE
            if worst < _TARGET_DEPTH or jammed:
                break
            last = worst
            if sweep == 1:  # most pairs are near but do not interact
                close = [contact for contact, deep in zip(close, depths, strict=True) if deep > -_MARGIN / 4]
        worst = max(_contact_geometry(contact, poses)[0] for contact in contacts)
        worst = max([worst, *(_wall_depth(wall, poses)[0] for wall in walls)])
        if worst > TOLERANCE:
            return False
        # A body that moved further than half the margin may touch bodies outside the list of contacts.
        moved = (
            hypot(p[0] - q[0], p[1] - q[1]) + radius * abs(p[2] - q[2])
            for p, q, radius in zip(poses[:-1], searched[:-1], bodies.radii[:-1], strict=True)
        )
        if max(moved, default=0.0) <= _MARGIN / 2:
            return True
        searched = [list(pose) for pose in poses]
    return False


def simulate(
    objects: list[RigidBody],
    poses: np.ndarray,
    half: tuple[float, float],
    gripper: RigidBody,
    targets: np.ndarray,
    stride: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Move the gripper along its targets and push what is in its way.

    Args:
        objects: the N objects.
        poses: N x 3 (x, y, angle), their first poses, without overlaps.
        half: half the bin's width and height; its middle is the origin.
        gripper: the gripper; its mobilities are 0.
        targets: S x 3 (x, y, angle), the gripper's pose at each step.
        stride: the furthest that the gripper may go in one step, when it catches up after a stall.

    Returns:
        The objects' poses, S x N x 3, and the gripper's, S x 3. Angles are not wrapped.
    """
    bodies = _Bodies([*objects, gripper])
    state = [_pose(*pose) for pose in [*poses.tolist(), targets[0].tolist()]]
    object_poses, gripper_poses = np.empty((len(targets), len(objects), 3)), np.empty((len(targets), 3))
    clear = 0.0
    for step, target in enumerate(targets.tolist()):
        before = [list(pose) for pose in state]
        now = state[-1]
        share = min(1.0, stride / max(hypot(target[0] - now[0], target[1] - now[1]), 1e-12))
        new = state[-1] = _pose(*(u + share * (v - u) for u, v in zip(now[:3], target, strict=True)))
        # The gripper cannot touch anything before it has moved as far as its clearance.
        clear -= hypot(new[0] - now[0], new[1] - now[1]) + bodies.radii[-1] * abs(new[2] - now[2])
        if clear <= 0:
            clear = _clearance(bodies, state)
            if clear <= 0 and not _resolve_overlaps(bodies, state, before, half):
                state = before
        object_poses[step] = np.reshape([pose[:3] for pose in state[:-1]], (-1, 3))
        gripper_poses[step] = state[-1][:3]
    return object_poses, gripper_poses
