"""The coloured things in the bin: what they are, how they look, and where they lie at first."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, replace

import numpy as np

from stillmotion.worlds.arm.physics import Body, overlaps
from stillmotion.worlds.arm.shapes import Shape, centred, line, measure
from stillmotion.worlds.colours import Colour

_KINDS = ("lid", "tape", "brush", "brick", "card", "wedge", "hook", "tee", "soap")
_APART = 0.004  # how far things lie from each other at first


@dataclass(frozen=True)
class Thing:
    """One thing.

    Attributes:
        kind: what it is, see `_KINDS`.
        shape: its outline, centre of mass at the origin.
        pattern: `plain`, `ring`, `hole`, `tip`, `band`, `studs` or `rows`.
        first: main colour.
        second: colour of the pattern.
        bevel: how far from the outline the shading reaches, in picture heights.
        weight: weight per area, 1 = average.
        pose: x, y (bin coordinates, in picture heights from the bin's middle) and angle at first.
        seed: names its texture.
    """

    kind: str
    shape: Shape
    pattern: str
    first: Colour
    second: Colour
    bevel: float
    weight: float
    pose: tuple[float, float, float]
    seed: int

    def body(self) -> Body:
        """Return what physics knows of it; friction is counted in units of a disc of 0.05 picture heights."""
        area, _, _, spread = measure(self.shape)
        friction = self.weight * area / (np.pi * 0.05**2)
        return Body(self.shape.discs(), friction**-2, (friction * spread) ** -2)


def _shape(kind: str, rng: np.random.Generator) -> tuple[Shape, str, float]:
    """Draw an outline of a kind; return it with its pattern and its bevel."""
    if kind in ("lid", "tape"):
        radius = rng.uniform(0.042, 0.066)
        return line([(0, 0), (0, 0)], radius), "ring" if kind == "lid" else "hole", 0.012
    if kind == "brush":
        thin, thick = rng.uniform(0.009, 0.013), rng.uniform(0.013, 0.022)
        return Shape(((0, 0, rng.uniform(0.17, 0.28), 0, thin, thick),)), "tip", 0.012
    if kind in ("brick", "card"):
        w, h = rng.uniform(0.1, 0.17), rng.uniform(0.055, 0.095)
        r = 0.009 if kind == "brick" else 0.014
        inner = line([(r, r), (w - r, r), (w - r, h - r), (r, h - r)], r, filled=True)
        return inner, "studs" if kind == "brick" else str(rng.choice(["band", "rows"])), 0.007
    if kind == "wedge":
        w, h, top = (float(v) for v in rng.uniform([0.1, 0.08, 0.2], [0.15, 0.13, 0.8]))
        return line([(0, 0), (w, 0), (w * top, h)], 0.012, filled=True), "plain", 0.016
    if kind == "hook":
        w, h = (float(v) for v in rng.uniform(0.07, 0.12, 2))
        return line([(0, h), (0, 0), (w, 0)], rng.uniform(0.014, 0.02)), "plain", 0.012
    if kind == "tee":
        w, h = (float(v) for v in rng.uniform(0.08, 0.12, 2))
        bar, stem = line([(0, 0), (w, 0)], 0.016), line([(w / 2, 0), (w / 2, h)], 0.013)
        return Shape(bar.lines + stem.lines), "plain", 0.011
    length, radius = rng.uniform(0.03, 0.07), rng.uniform(0.034, 0.05)
    return line([(0, 0), (length, 0)], radius), str(rng.choice(["rows", "plain", "band"])), 0.03


def _colour(rng: np.random.Generator) -> Colour:
    """Draw the colour of plastic: mostly loud, sometimes white, grey or brown."""
    kind = rng.random()
    if kind < 0.7:
        return colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.6, 0.95), rng.uniform(0.55, 0.95))
    if kind < 0.85:
        return colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, 0.12), rng.uniform(0.2, 0.97))
    return colorsys.hsv_to_rgb(rng.uniform(0.02, 0.1), 0.55, rng.uniform(0.35, 0.7))


def _one(rng: np.random.Generator) -> Thing:
    """Draw a thing that lies in the bin's middle."""
    kind = _KINDS[int(rng.integers(len(_KINDS)))]
    shape, pattern, bevel = _shape(kind, rng)
    light = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, 0.25), rng.uniform(0.85, 1.0))
    return Thing(
        kind=kind,
        shape=centred(shape.scaled(rng.uniform(1.0, 1.4))),
        pattern=pattern,
        first=_colour(rng),
        second=light if rng.random() < 0.6 else _colour(rng),
        bevel=bevel,
        weight=rng.uniform(0.5, 2.0),
        pose=(0.0, 0.0, 0.0),
        seed=int(rng.integers(2**31)),
    )


def inside(body: Body, pose: np.ndarray, half: tuple[float, float]) -> float:
    """Return how far a body at `pose` (3) is from the nearest wall, negative when it reaches into one."""
    c, s = np.cos(pose[2]), np.sin(pose[2])
    placed = body.discs[:, :2] @ np.array([[c, s], [-s, c]]) + pose[:2]
    return float((np.array(half) - np.abs(placed) - body.discs[:, 2:]).min())


def _free(body: Body, pose: np.ndarray, bodies: list[Body], poses: list[np.ndarray]) -> bool:
    """Return whether a body at `pose` lies apart from all others."""
    return all(
        overlaps([body, other], np.array([pose, place]))[0, 1] < -_APART
        for other, place in zip(bodies, poses, strict=True)
        if np.hypot(*(pose - place)[:2]) < body.reach + other.reach + _APART
    )


def sample_things(
    rng: np.random.Generator, half: tuple[float, float], hand: Body, at: np.ndarray
) -> tuple[Thing, ...]:
    """Draw up to eight things that lie in the bin and touch neither each other nor the hand at `at` (x, y, angle)."""
    wanted = int(rng.integers(3, 9))
    crowd = rng.uniform(0.6, 1.0)
    room = np.array([half[0] * crowd, half[1] * crowd, np.pi])
    things: list[Thing] = []
    bodies, poses = [hand], [at]
    for thing in (_one(rng) for _ in range(wanted)):
        body = thing.body()
        for _ in range(30):
            pose = rng.uniform(-room, room)
            if inside(body, pose, half) > _APART and _free(body, pose, bodies, poses):
                x, y, angle = (float(v) for v in pose)
                things.append(replace(thing, pose=(x, y, angle)))
                bodies.append(body)
                poses.append(pose)
                break
    return tuple(things)
