"""The objects in the bin: their kinds, their appearance and their first poses."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, replace

import numpy as np

from stillmotion.worlds.arm.physics import RigidBody, overlaps
from stillmotion.worlds.arm.shapes import Shape, centred, moments, polyline
from stillmotion.worlds.colours import Colour, sample_hsv

KINDS = ("lid", "tape", "brush", "brick", "card", "wedge", "hook", "tee", "soap")
_SPACING = 0.004  # least distance between objects at first


@dataclass(frozen=True)
class BinObject:
    """One object."""

    kind: str  # one of `KINDS`
    shape: Shape  # its outline, centre of mass at the origin
    pattern: str  # `plain`, `ring`, `hole`, `tip`, `band`, `studs` or `rows`
    first: Colour
    second: Colour  # of the pattern
    bevel: float  # how far from the outline the shading reaches, in picture heights
    weight: float  # per area, 1 = average
    pose: tuple[float, float, float]  # first x, y (bin coordinates) and angle
    seed: int  # of its texture

    def body(self) -> RigidBody:
        """Return its physical properties; friction is in units of a disc of radius 0.05 picture heights."""
        area, _, _, spread = moments(self.shape)
        friction = self.weight * area / (np.pi * 0.05**2)
        return RigidBody(self.shape.discs(), friction**-2, (friction * spread) ** -2)


def _sample_shape(kind: str, rng: np.random.Generator) -> tuple[Shape, str, float]:
    """Draw an outline of a kind; return it with its pattern and its bevel."""
    if kind in ("lid", "tape"):
        radius = rng.uniform(0.042, 0.066)
        return polyline([(0, 0), (0, 0)], radius), "ring" if kind == "lid" else "hole", 0.012
    if kind == "brush":
        thin, thick = rng.uniform(0.009, 0.013), rng.uniform(0.013, 0.022)
        return Shape(((0, 0, rng.uniform(0.17, 0.28), 0, thin, thick),)), "tip", 0.012
    if kind in ("brick", "card"):
        w, h = rng.uniform(0.1, 0.17), rng.uniform(0.055, 0.095)
        r = 0.009 if kind == "brick" else 0.014
        inner = polyline([(r, r), (w - r, r), (w - r, h - r), (r, h - r)], r, filled=True)
        return inner, "studs" if kind == "brick" else str(rng.choice(["band", "rows"])), 0.007
    if kind == "wedge":
        w, h, top = rng.uniform([0.1, 0.08, 0.2], [0.15, 0.13, 0.8]).tolist()
        return polyline([(0, 0), (w, 0), (w * top, h)], 0.012, filled=True), "plain", 0.016
    if kind == "hook":
        w, h = rng.uniform(0.07, 0.12, 2).tolist()
        return polyline([(0, h), (0, 0), (w, 0)], rng.uniform(0.014, 0.02)), "plain", 0.012
    if kind == "tee":
        w, h = rng.uniform(0.08, 0.12, 2).tolist()
        bar, stem = polyline([(0, 0), (w, 0)], 0.016), polyline([(w / 2, 0), (w / 2, h)], 0.013)
        return Shape(bar.capsules + stem.capsules), "plain", 0.011
    length, radius = rng.uniform(0.03, 0.07), rng.uniform(0.034, 0.05)
    return polyline([(0, 0), (length, 0)], radius), str(rng.choice(["rows", "plain", "band"])), 0.03


def _sample_colour(rng: np.random.Generator) -> Colour:
    """Draw the colour of plastic: mostly saturated, sometimes white, grey or brown."""
    kind = rng.random()
    if kind < 0.7:
        return sample_hsv(rng, (0, 1), (0.6, 0.95), (0.55, 0.95))
    if kind < 0.85:
        return sample_hsv(rng, (0, 1), (0, 0.12), (0.2, 0.97))
    return colorsys.hsv_to_rgb(rng.uniform(0.02, 0.1), 0.55, rng.uniform(0.35, 0.7))


def _sample_object(rng: np.random.Generator) -> BinObject:
    """Draw an object in the bin's middle."""
    kind = KINDS[int(rng.integers(len(KINDS)))]
    shape, pattern, bevel = _sample_shape(kind, rng)
    light = sample_hsv(rng, (0, 1), (0, 0.25), (0.85, 1.0))
    return BinObject(
        kind=kind,
        shape=centred(shape.scaled(rng.uniform(1.0, 1.4))),
        pattern=pattern,
        first=_sample_colour(rng),
        second=light if rng.random() < 0.6 else _sample_colour(rng),
        bevel=bevel,
        weight=rng.uniform(0.5, 2.0),
        pose=(0.0, 0.0, 0.0),
        seed=int(rng.integers(2**31)),
    )


def wall_clearance(body: RigidBody, pose: np.ndarray, half: tuple[float, float]) -> float:
    """Return how far a body at `pose` (3) is from the nearest wall, negative when it reaches into one."""
    c, s = np.cos(pose[2]), np.sin(pose[2])
    placed = body.discs[:, :2] @ np.array([[c, s], [-s, c]]) + pose[:2]
    return float((np.array(half) - np.abs(placed) - body.discs[:, 2:]).min())


def _is_free(body: RigidBody, pose: np.ndarray, bodies: list[RigidBody], poses: list[np.ndarray]) -> bool:
    """Return whether a body at `pose` is apart from all others."""
    return all(
        overlaps([body, other], np.array([pose, place]))[0, 1] < -_SPACING
        for other, place in zip(bodies, poses, strict=True)
        if np.hypot(*(pose - place)[:2]) < body.radius + other.radius + _SPACING
    )


def sample_objects(
    rng: np.random.Generator, half: tuple[float, float], gripper: RigidBody, gripper_pose: np.ndarray
) -> tuple[BinObject, ...]:
    """Draw up to eight objects in the bin that touch neither each other nor the gripper at its pose (x, y, angle)."""
    wanted = int(rng.integers(3, 9))
    spread = rng.uniform(0.6, 1.0)
    room = np.array([half[0] * spread, half[1] * spread, np.pi])
    objects: list[BinObject] = []
    bodies, poses = [gripper], [gripper_pose]
    for item in (_sample_object(rng) for _ in range(wanted)):
        body = item.body()
        for _ in range(30):
            pose = rng.uniform(-room, room)
            if wall_clearance(body, pose, half) > _SPACING and _is_free(body, pose, bodies, poses):
                x, y, angle = pose.tolist()
                objects.append(replace(item, pose=(x, y, angle)))
                bodies.append(body)
                poses.append(pose)
                break
    return tuple(objects)
