"""The arm: three joints seen from above, and the plan its hand follows.

The base stands outside the picture. The upper arm and the forearm pass above the things; only the hand reaches down
to the floor and pushes. Coordinates are the bin's: picture heights from its middle.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from stillmotion.worlds.arm.physics import STEPS_PER_SECOND, Body
from stillmotion.worlds.arm.shapes import Shape
from stillmotion.worlds.colours import Colour

_GRIP = 0.13  # wrist to finger tips


@dataclass(frozen=True)
class Robot:
    """One arm.

    Attributes:
        base: where the shoulder joint is.
        upper: length of the upper arm.
        fore: length of the forearm, elbow to wrist.
        bend: +1 or -1, to which side the elbow points.
        swing: angle between the hand and the line from the base to the finger tips, radians.
        width: thickness of the arm, 1 = average.
        opening: half the distance between the fingers.
        metal: colour of the links.
        joint: colour of the joints.
        ring: colour of the lit rings on the joints.
    """

    base: tuple[float, float]
    upper: float
    fore: float
    bend: int
    swing: float
    width: float
    opening: float
    metal: Colour
    joint: Colour
    ring: Colour

    def hand(self) -> Shape:
        """Return the hand's outline: two fingers and a palm; the origin is between the tips, x points ahead."""
        o = self.opening
        fingers = tuple((-0.06, side * (o + 0.005), 0.0, side * o, 0.012, 0.01) for side in (1, -1))
        palm = (-0.072, -0.026, -0.072, 0.026, 0.016, 0.016)
        return Shape((*fingers, palm))

    def body(self) -> Body:
        """Return the hand as physics sees it: nothing moves it."""
        return Body(self.hand().discs(), 0.0, 0.0)

    def heading(self, tips: np.ndarray) -> np.ndarray:
        """Return the hand's angle when the finger tips are at `tips` (T x 2)."""
        away = tips - np.array(self.base)
        return np.arctan2(away[:, 1], away[:, 0]) + self.swing

    def joints(self, hands: np.ndarray) -> np.ndarray:
        """Return shoulder, elbow and wrist (T x 3 x 2) for the hand's poses (T x 3: x, y, angle)."""
        ahead = np.stack([np.cos(hands[:, 2]), np.sin(hands[:, 2])], -1)
        wrist = hands[:, :2] - _GRIP * ahead
        base = np.array(self.base)
        away = wrist - base
        far = np.linalg.norm(away, axis=1, keepdims=True)
        along = (far**2 + self.upper**2 - self.fore**2) / (2 * far)
        across = np.sqrt(np.maximum(self.upper**2 - along**2, 0))
        unit = away / far
        elbow = base + along * unit + self.bend * across * unit[:, ::-1] * np.array([-1.0, 1.0])
        return np.stack([np.broadcast_to(base, wrist.shape), elbow, wrist], 1)


@dataclass(frozen=True)
class Plan:
    """Where the finger tips are to be: from stop to stop on straight lines, round and round.

    Attributes:
        stops: K x 2.
        seconds: K, the time from each stop to the next one.
    """

    stops: tuple[tuple[float, float], ...]
    seconds: tuple[float, ...]

    def at(self, times: np.ndarray) -> np.ndarray:
        """Return the tips' wanted places at `times` (S, in seconds): S x 2; speed is zero at every stop."""
        stops, ends = np.array(self.stops), np.cumsum(self.seconds)
        times = np.mod(times, ends[-1])
        leg = np.minimum(np.searchsorted(ends, times, side="right"), len(ends) - 1)
        share = 1 - (ends[leg] - times) / np.array(self.seconds)[leg]
        # Minimum jerk (Flash and Hogan 1985), as arms move.
        eased = (share**3 * (10 - 15 * share + 6 * share**2))[:, None]
        result: np.ndarray = stops[leg] + eased * (np.roll(stops, -1, 0)[leg] - stops[leg])
        return result

    def stride(self) -> float:
        """Return the furthest that the plan goes in one step of the physics."""
        legs = np.linalg.norm(np.roll(self.stops, -1, 0) - np.array(self.stops), axis=1)
        return float(1.875 * (legs / np.array(self.seconds)).max() / STEPS_PER_SECOND)


def sample_robot(rng: np.random.Generator, half: tuple[float, float]) -> Robot:
    """Draw an arm whose hand reaches every place in the bin, on any of the picture's four sides."""
    side = int(rng.integers(4))
    away, aside = rng.uniform(0.68, 0.85), rng.uniform(-0.3, 0.3)
    base = [(away, aside), (-away, aside), (aside, away), (aside, -away)][side]
    furthest = float(np.hypot(abs(base[0]) + half[0], abs(base[1]) + half[1]))
    upper = rng.uniform(0.47, 0.55) * furthest
    grey = rng.random()
    metal = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.02, 0.1), 0.3 + 0.6 * grey)
    if rng.random() < 0.35:
        metal = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.6, 0.9), rng.uniform(0.5, 0.95))
    joint = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, 0.15), rng.uniform(0.15, 0.85))
    ring = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.5, 0.9), 1.0)
    return Robot(
        base=base,
        upper=upper,
        fore=furthest - upper,
        bend=1 if rng.random() < 0.5 else -1,
        swing=rng.uniform(-0.5, 0.5),
        width=rng.uniform(0.95, 1.5),
        opening=rng.uniform(0.016, 0.03),
        metal=metal,
        joint=joint,
        ring=ring,
    )


def sample_start(rng: np.random.Generator, robot: Robot, half: tuple[float, float]) -> np.ndarray:
    """Draw the hand's first pose (x, y, angle)."""
    tips = rng.uniform(-1, 1, (1, 2)) * (np.array(half) - 0.08)
    return np.array([*tips[0], robot.heading(tips)[0]])


def sample_plan(rng: np.random.Generator, start: np.ndarray, places: np.ndarray, half: tuple[float, float]) -> Plan:
    """Draw twelve stops: through things at `places` (N x 2) and some way beyond, or anywhere; away from the walls."""
    room = np.array(half) - 0.075
    stops = [np.asarray(start[:2], float)]
    while len(stops) < 12:
        target = rng.uniform(-1, 1, 2) * room
        if len(places) and rng.random() < 0.8:
            through = places[int(rng.integers(len(places)))]
            ahead = through - stops[-1]
            target = through + ahead / max(float(np.hypot(*ahead)), 1e-6) * rng.uniform(0.02, 0.25)
        target = np.clip(target + rng.normal(0, 0.02, 2), -room, room)
        if np.hypot(*(target - stops[-1])) > 0.12:
            stops.append(target)
    legs = np.linalg.norm(np.roll(stops, -1, 0) - np.array(stops), axis=1)
    seconds = np.maximum(legs, 0.05) / rng.uniform(0.09, 0.22, len(stops))
    return Plan(tuple((float(x), float(y)) for x, y in stops), tuple(float(v) for v in seconds))
