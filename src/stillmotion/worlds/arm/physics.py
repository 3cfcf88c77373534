"""Quasi-static pushing: things on a floor that move only while something pushes them.

There is no momentum. A thing resists translation with friction f and rotation with friction f c, where c is the mean
distance of its area from its centre: the ellipsoid that approximates the limit surface of a sliding body (Goyal,
Ruina and Papadopoulos 1991; Lynch and Mason 1996). The motion that undoes an overlap at the least cost in that
metric is found by sweeping over all contacts (Gauss-Seidel), with Coulomb friction between touching things.

A step that would leave an overlap above `TOLERANCE` is not made: the arm stalls until its plan leads elsewhere. So by
induction no two things ever overlap by more, and nothing leaves the bin by more.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import cos, hypot, sin

import numpy as np

TOLERANCE = 0.002  # picture heights
STEPS_PER_SECOND = 60
_MARGIN = 0.01  # pairs of discs nearer than this are looked at during a step
_SWEEPS = 30
_LOOKS = 4
_GOOD = TOLERANCE / 2
_FRICTION = 0.3

# A contact: body and disc (x, y in the body) of both sides, the sum of the radii, and the first one's own.
_Contact = tuple[int, float, float, int, float, float, float, float]
# A contact with a wall: body, disc (x, y in the body), the wall's normal into the bin, the smallest n . p allowed.
_Wall = tuple[int, float, float, float, float, float]


@dataclass(frozen=True)
class Body:
    """What physics knows of a thing.

    Attributes:
        discs: K x 3 (x, y, radius) in the body's own coordinates.
        give: mobility in translation, 1 / f^2; 0 = moved by nobody (the hand).
        turn: mobility in rotation, 1 / (f c)^2.
    """

    discs: np.ndarray
    give: float
    turn: float

    @cached_property
    def reach(self) -> float:
        """The distance of the outermost point from the body's origin."""
        return float((np.hypot(self.discs[:, 0], self.discs[:, 1]) + self.discs[:, 2]).max())

    @cached_property
    def columns(self) -> np.ndarray:
        """The discs, 3 x K: x, y and radius, each on its own."""
        return np.ascontiguousarray(self.discs.T)

    @cached_property
    def rows(self) -> list[list[float]]:
        """The discs as plain floats, which Python reads faster."""
        rows: list[list[float]] = self.discs.tolist()
        return rows


class _State:
    """Poses of all bodies, the hand last, as plain floats: x, y, angle, cosine, sine."""

    def __init__(self, poses: list[tuple[float, float, float]]) -> None:
        self.pose = [[x, y, a, cos(a), sin(a)] for x, y, a in poses]

    def copy(self) -> _State:
        new = _State([])
        new.pose = [list(pose) for pose in self.pose]
        return new

    def put(self, i: int, x: float, y: float, a: float) -> None:
        self.pose[i] = [x, y, a, cos(a), sin(a)]


def _discs(body: Body, pose: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of a body's discs."""
    x, y, _, c, s = pose
    across, down, _ = body.columns
    # Written out: a library's product may round otherwise on another processor.
    return c * across - s * down + x, s * across + c * down + y


def overlaps(bodies: list[Body], poses: np.ndarray) -> np.ndarray:
    """Return the deepest overlap of each pair of bodies at `poses` (N x 3), N x N; negative where they are apart."""
    placed = [
        _discs(body, [*pose, np.cos(pose[2]), np.sin(pose[2])]) for body, pose in zip(bodies, poses, strict=True)
    ]
    deepest = np.full((len(bodies), len(bodies)), -np.inf)
    for i in range(len(bodies)):
        for j in range(i):
            gap = np.hypot(*(a[:, None] - b for a, b in zip(placed[i], placed[j], strict=True)))
            deep = (bodies[i].discs[:, None, 2] + bodies[j].discs[None, :, 2] - gap).max()
            deepest[i, j] = deepest[j, i] = deep
    return deepest


@dataclass(frozen=True)
class _Crowd:
    """What stays the same from step to step.

    Attributes:
        bodies: the things, and the hand at the end.
        reaches: of each body.
        near: by pair of bodies, the squared distance below which their discs (K x L) are near; filled when asked for.
        columns: the discs of all things, 3 x M.
        owner: M, whose they are.
    """

    bodies: list[Body]
    reaches: list[float]
    near: dict[tuple[int, int], np.ndarray]
    columns: np.ndarray
    owner: np.ndarray

    @staticmethod
    def of(bodies: list[Body]) -> _Crowd:
        things = [body.columns for body in bodies[:-1]]
        owner = np.repeat(np.arange(len(things)), [part.shape[1] for part in things])
        columns = np.concatenate([*things, np.zeros((3, 0))], axis=1)
        return _Crowd(bodies, [body.reach for body in bodies], {}, columns, owner)

    def limit(self, i: int, j: int) -> np.ndarray:
        found = self.near.get((i, j))
        if found is None:
            radii = self.bodies[i].discs[:, None, 2] + self.bodies[j].discs[None, :, 2]
            found = self.near[i, j] = (radii + _MARGIN) ** 2
        return found


def _between(crowd: _Crowd, placed: dict[int, tuple[np.ndarray, np.ndarray]], i: int, j: int) -> list[_Contact]:
    """Return all pairs of discs of two bodies that are nearer than the margin; `placed` holds the discs' places."""
    (px, py), (qx, qy) = placed[i], placed[j]
    away_x, away_y = px[:, None] - qx, py[:, None] - qy
    close = away_x * away_x + away_y * away_y < crowd.limit(i, j)
    if not close.any():
        return []
    first, second = crowd.bodies[i].rows, crowd.bodies[j].rows
    found = []
    for a, b in np.argwhere(close).tolist():
        (ax, ay, ar), (bx, by, br) = first[a], second[b]
        found.append((i, ax, ay, j, bx, by, ar + br, ar))
    return found


def _clearance(crowd: _Crowd, state: _State) -> float:
    """Return how far the hand is from the nearest body; zero or less when it touches one."""
    if not len(crowd.owner):
        return 1.0
    hand = crowd.bodies[-1]
    px, py = _discs(hand, state.pose[-1])
    x, y, _, c, s = np.array(state.pose[:-1]).T.take(crowd.owner, axis=1)
    across, down, radius = crowd.columns
    away_x, away_y = px[:, None] - (c * across - s * down + x), py[:, None] - (s * across + c * down + y)
    gaps = np.sqrt(away_x * away_x + away_y * away_y) - (hand.columns[2][:, None] + radius)
    return min(1.0, float(gaps.min()))


def _touching(crowd: _Crowd, state: _State) -> list[_Contact]:
    """Return the contacts of the hand and of all that can pass its push on."""
    bodies, reaches = crowd.bodies, crowd.reaches
    hand = len(bodies) - 1
    found: list[_Contact] = []
    placed: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    reached, left = [hand], set(range(hand))
    for order, i in enumerate(reached):
        p = state.pose[i]
        for j in [*left, *reached[order + 1 :]]:
            q = state.pose[j]
            room = reaches[i] + reaches[j] + _MARGIN
            if (p[0] - q[0]) ** 2 + (p[1] - q[1]) ** 2 < room * room:
                for k in (i, j):
                    if k not in placed:
                        placed[k] = _discs(bodies[k], state.pose[k])
                new = _between(crowd, placed, i, j)
                found += new
                if new and j in left:
                    left.remove(j)
                    reached.append(j)
    return found


def _walls(crowd: _Crowd, state: _State, reached: set[int], half: tuple[float, float]) -> list[_Wall]:
    """Return the discs that are nearer to a wall than the margin; the hand comes from above and meets none."""
    found: list[_Wall] = []
    for i in reached:
        body, (x, y) = crowd.bodies[i], state.pose[i][:2]
        room = crowd.reaches[i] + _MARGIN
        if not body.give or (abs(x) < half[0] - room and abs(y) < half[1] - room):
            continue
        placed = _discs(body, state.pose[i])
        for axis, side in ((0, 1.0), (0, -1.0), (1, 1.0), (1, -1.0)):
            beyond = side * placed[axis] + body.columns[2] > half[axis] - _MARGIN
            nx, ny = (-side, 0.0) if axis == 0 else (0.0, -side)
            for ax, ay, r in body.discs[beyond].tolist():
                found.append((i, ax, ay, nx, ny, r - half[axis]))
    return found


def _meeting(contact: _Contact, state: _State) -> tuple[float, float, float, float, float]:
    """Return how deep two discs overlap, the normal towards the first, and the first's arm to its disc's middle."""
    i, ax, ay, j, bx, by, radii, _ = contact
    p, q = state.pose[i], state.pose[j]
    gx, gy = p[3] * ax - p[4] * ay, p[4] * ax + p[3] * ay
    nx = p[0] + gx - q[0] - q[3] * bx + q[4] * by
    ny = p[1] + gy - q[1] - q[4] * bx - q[3] * by
    gap = hypot(nx, ny) or 1e-12
    return radii - gap, nx / gap, ny / gap, gx, gy


def _slip(now: list[float], before: list[float], rx: float, ry: float, tx: float, ty: float) -> float:
    """Return how far the point of a body at the arm r has moved along t since the step began."""
    c, s = now[3] * before[3] + now[4] * before[4], before[4] * now[3] - before[3] * now[4]
    return (now[0] - before[0] + rx - c * rx + s * ry) * tx + (now[1] - before[1] + ry - s * rx - c * ry) * ty


def _turn(pose: list[float], by: float) -> None:
    if by:
        pose[2] += by
        pose[3], pose[4] = cos(pose[2]), sin(pose[2])


def _press(contact: _Contact, bodies: list[Body], state: _State, before: _State) -> float:
    """Undo the overlap of one contact, with friction; return how deep it was.

    An impulse u at the arm r shifts a body by give u and turns it by turn (r x u): the metric of its friction. Half
    of a clip's time is spent here, so nothing is called that can be written out.
    """
    deep, nx, ny, gx, gy = _meeting(contact, state)
    if deep <= 0:
        return deep
    i, j, radius = contact[0], contact[3], contact[7]
    p, q, first, second = state.pose[i], state.pose[j], bodies[i], bodies[j]
    # Both arms reach to the first disc's surface, where the two meet.
    gx, gy = gx - radius * nx, gy - radius * ny
    hx, hy = p[0] + gx - q[0], p[1] + gy - q[1]
    give, spin, other_give, other_spin = first.give, first.turn, second.give, second.turn
    both = give + other_give
    load = deep / (both + spin * (gx * ny - gy * nx) ** 2 + other_spin * (hx * ny - hy * nx) ** 2)
    ux, uy = load * nx, load * ny
    p[0], p[1], q[0], q[1] = p[0] + give * ux, p[1] + give * uy, q[0] - other_give * ux, q[1] - other_give * uy
    _turn(p, spin * (gx * uy - gy * ux))
    _turn(q, other_spin * (hy * ux - hx * uy))
    tx, ty = -ny, nx
    slip = _slip(p, before.pose[i], gx, gy, tx, ty) - _slip(q, before.pose[j], hx, hy, tx, ty)
    ease = both + spin * (gx * ty - gy * tx) ** 2 + other_spin * (hx * ty - hy * tx) ** 2
    grip = max(-_FRICTION * load, min(_FRICTION * load, -slip / ease))
    ux, uy = grip * tx, grip * ty
    p[0], p[1], q[0], q[1] = p[0] + give * ux, p[1] + give * uy, q[0] - other_give * ux, q[1] - other_give * uy
    _turn(p, spin * (gx * uy - gy * ux))
    _turn(q, other_spin * (hy * ux - hx * uy))
    return deep


def _beyond(wall: _Wall, state: _State) -> tuple[float, float, float]:
    """Return how deep a disc is in a wall, and the body's arm to the disc's middle."""
    i, ax, ay, nx, ny, least = wall
    p = state.pose[i]
    rx, ry = p[3] * ax - p[4] * ay, p[4] * ax + p[3] * ay
    return least - nx * (p[0] + rx) - ny * (p[1] + ry), rx, ry


def _hold(wall: _Wall, bodies: list[Body], state: _State) -> float:
    """Undo the overlap with a wall, without friction; return how deep it was."""
    deep, rx, ry = _beyond(wall, state)
    if deep > 0:
        i, nx, ny = wall[0], wall[3], wall[4]
        body, pose = bodies[i], state.pose[i]
        load = deep / (body.give + body.turn * (rx * ny - ry * nx) ** 2)
        ux, uy = load * nx, load * ny
        pose[0], pose[1] = pose[0] + body.give * ux, pose[1] + body.give * uy
        _turn(pose, body.turn * (rx * uy - ry * ux))
    return deep


def _settle(crowd: _Crowd, state: _State, before: _State, half: tuple[float, float]) -> bool:
    """Push everything apart after the hand has run into something; return whether that succeeded."""
    bodies, reaches = crowd.bodies, crowd.reaches
    seen = before
    for _ in range(_LOOKS):
        contacts = _touching(crowd, state)
        reached = {k for contact in contacts for k in (contact[0], contact[3])}
        walls = _walls(crowd, state, reached, half)
        close, last = contacts, 0.0
        for sweep in range(_SWEEPS):
            depths = [_press(contact, bodies, state, before) for contact in close]
            worst = max([*depths, *[_hold(wall, bodies, state) for wall in walls]])
            # A jam: overlaps shrink ever more slowly, so at this pace the sweeps that are left will not end it.
            if worst < _GOOD or (sweep > 7 and worst - (_SWEEPS - 1 - sweep) * (last - worst) > TOLERANCE):
                break
            last = worst
            if sweep == 1:  # most pairs are near but take no part
                close = [contact for contact, deep in zip(close, depths, strict=True) if deep > -_MARGIN / 4]
        worst = max(_meeting(contact, state)[0] for contact in contacts)
        worst = max([worst, *(_beyond(wall, state)[0] for wall in walls)])
        if worst > TOLERANCE:
            return False
        # A body that moved further than half the margin may have met what was not looked at.
        moved = (
            hypot(p[0] - q[0], p[1] - q[1]) + reach * abs(p[2] - q[2])
            for p, q, reach in zip(state.pose[:-1], seen.pose[:-1], reaches[:-1], strict=True)
        )
        if max(moved, default=0.0) <= _MARGIN / 2:
            return True
        seen = state.copy()
    return False


def simulate(
    bodies: list[Body], poses: np.ndarray, half: tuple[float, float], hand: Body, plan: np.ndarray, stride: float
) -> tuple[np.ndarray, np.ndarray]:
    """Follow the hand's plan and push what is in its way.

    Args:
        bodies: the N things.
        poses: N x 3 (x, y, angle), where they lie at first, without overlaps.
        half: half the bin's width and height; its middle is the origin.
        hand: the hand; its mobilities are 0.
        plan: S x 3 (x, y, angle), where the hand is to be at each step.
        stride: the furthest that the hand may go in one step, when it catches up after a stall.

    Returns:
        The things' poses, S x N x 3, and the hand's, S x 3. Angles are not wrapped.
    """
    crowd = _Crowd.of([*bodies, hand])
    state = _State([tuple(float(v) for v in pose) for pose in [*poses, plan[0]]])  # type: ignore[misc]
    things, hands = np.empty((len(plan), len(bodies), 3)), np.empty((len(plan), 3))
    clear = 0.0
    for step, (x, y, a) in enumerate(plan.tolist()):
        before = state.copy()
        now = state.pose[-1]
        share = min(1.0, stride / max(hypot(x - now[0], y - now[1]), 1e-12))
        state.put(len(bodies), *(old + share * (new - old) for old, new in zip(now[:3], (x, y, a), strict=True)))
        new = state.pose[-1]
        # The hand cannot have met anything before it has moved as far as it was clear of everything.
        clear -= hypot(new[0] - now[0], new[1] - now[1]) + crowd.reaches[-1] * abs(new[2] - now[2])
        if clear <= 0:
            clear = _clearance(crowd, state)
            if clear <= 0 and not _settle(crowd, state, before, half):
                state = before
        things[step] = np.reshape([pose[:3] for pose in state.pose[:-1]], (-1, 3))
        hands[step] = state.pose[-1][:3]
    return things, hands
