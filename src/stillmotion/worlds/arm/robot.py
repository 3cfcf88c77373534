"""The robot arm: three joints seen from above, and the trajectory of its gripper.

The base is outside the picture. Upper arm and forearm pass above the objects; only the gripper reaches down to the
floor and pushes. Coordinates are the bin's: picture heights from its middle.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from stillmotion.worlds.arm.physics import STEPS_PER_SECOND, RigidBody
from stillmotion.worlds.arm.shapes import Shape
from stillmotion.worlds.colours import Colour, sample_hsv
from stillmotion.worlds.easing import smootherstep

_GRIPPER_LENGTH = 0.13  # wrist to finger tips


@dataclass(frozen=True)
class Robot:
    """One arm."""

    base: tuple[float, float]  # the shoulder joint
    upper: float  # length of the upper arm
    fore: float  # length of the forearm, elbow to wrist
    elbow_side: int  # +1 or -1, to which side the elbow points
    wrist_angle: float  # between the gripper and the line from the base to the finger tips, radians
    width: float  # thickness of the arm, 1 = average
    opening: float  # half the distance between the fingers
    metal: Colour  # of the links
    joint: Colour  # of the joints
    ring: Colour  # of the lit rings on the joints

    def gripper(self) -> Shape:
        """Return the gripper's outline: two fingers and a palm; the origin is between the tips, x points ahead."""
        o = self.opening
        fingers = tuple((-0.06, side * (o + 0.005), 0.0, side * o, 0.012, 0.01) for side in (1, -1))
        palm = (-0.072, -0.026, -0.072, 0.026, 0.016, 0.016)
        return Shape((*fingers, palm))

    def gripper_body(self) -> RigidBody:
        """Return the gripper's collision geometry; contacts do not move it."""
        return RigidBody(self.gripper().discs(), 0.0, 0.0)

    def gripper_poses(self, tips: np.ndarray) -> np.ndarray:
        """Return the gripper's poses (T x 3: x, y, angle) with the finger tips at `tips` (T x 2)."""
        away = tips - np.array(self.base)
        angle = np.arctan2(away[:, 1], away[:, 0]) + self.wrist_angle
        return np.concatenate([tips, angle[:, None]], 1)

    def joints(self, grippers: np.ndarray) -> np.ndarray:
        """Return shoulder, elbow and wrist (T x 3 x 2) for the gripper's poses (T x 3), by inverse kinematics."""
        ahead = np.stack([np.cos(grippers[:, 2]), np.sin(grippers[:, 2])], -1)
        wrist = grippers[:, :2] - _GRIPPER_LENGTH * ahead
        base = np.array(self.base)
        away = wrist - base
        far = np.linalg.norm(away, axis=1, keepdims=True)
        along = (far**2 + self.upper**2 - self.fore**2) / (2 * far)
        across = np.sqrt(np.maximum(self.upper**2 - along**2, 0))
        unit = away / far
        elbow = base + along * unit + self.elbow_side * across * unit[:, ::-1] * np.array([-1.0, 1.0])
        return np.stack([np.broadcast_to(base, wrist.shape), elbow, wrist], 1)


@dataclass(frozen=True)
class Trajectory:
    """The targets of the finger tips: a closed polygon of waypoints, with a stop at each."""

    waypoints: tuple[tuple[float, float], ...]  # K
    seconds: tuple[float, ...]  # K, the time from each waypoint to the next

    def at(self, times: np.ndarray) -> np.ndarray:
        """Return the tips' targets at `times` (S, in seconds): S x 2; minimum jerk (Flash and Hogan 1985)."""
        waypoints, ends = np.array(self.waypoints), np.cumsum(self.seconds)
        times = np.mod(times, ends[-1])
        leg = np.minimum(np.searchsorted(ends, times, side="right"), len(ends) - 1)
        share = smootherstep(1 - (ends[leg] - times) / np.array(self.seconds)[leg])[:, None]
        result: np.ndarray = waypoints[leg] + share * (np.roll(waypoints, -1, 0)[leg] - waypoints[leg])
        return result

    def stride(self) -> float:
        """Return the furthest that the targets move in one step of the physics."""
        legs = np.linalg.norm(np.roll(self.waypoints, -1, 0) - np.array(self.waypoints), axis=1)
        return float(1.875 * (legs / np.array(self.seconds)).max() / STEPS_PER_SECOND)


def sample_robot(rng: np.random.Generator, half: tuple[float, float]) -> Robot:
    """Draw an arm on one of the picture's four sides whose gripper reaches every position in the bin."""
    side = int(rng.integers(4))
    away, aside = rng.uniform(0.68, 0.85), rng.uniform(-0.3, 0.3)
    base = [(away, aside), (-away, aside), (aside, away), (aside, -away)][side]
    furthest = float(np.hypot(abs(base[0]) + half[0], abs(base[1]) + half[1]))
    upper = rng.uniform(0.47, 0.55) * furthest
    grey = rng.random()
    metal = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.02, 0.1), 0.3 + 0.6 * grey)
    if rng.random() < 0.35:
        metal = sample_hsv(rng, (0, 1), (0.6, 0.9), (0.5, 0.95))
    joint = sample_hsv(rng, (0, 1), (0, 0.15), (0.15, 0.85))
    ring = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.5, 0.9), 1.0)
    return Robot(
        base=base,
        upper=upper,
        fore=furthest - upper,
        elbow_side=1 if rng.random() < 0.5 else -1,
        wrist_angle=rng.uniform(-0.5, 0.5),
        width=rng.uniform(0.95, 1.5),
        opening=rng.uniform(0.016, 0.03),
        metal=metal,
        joint=joint,
        ring=ring,
    )


def sample_start(rng: np.random.Generator, robot: Robot, half: tuple[float, float]) -> np.ndarray:
    """Draw the gripper's first pose (x, y, angle)."""
    return robot.gripper_poses(rng.uniform(-1, 1, (1, 2)) * (np.array(half) - 0.08))[0]


def sample_trajectory(
    rng: np.random.Generator, start: np.ndarray, objects: np.ndarray, half: tuple[float, float]
) -> Trajectory:
    """Draw twelve waypoints away from the walls: most lie beyond one of the `objects` (N x 2), others anywhere."""
    room = np.array(half) - 0.075
    waypoints = [np.asarray(start[:2], float)]
    while len(waypoints) < 12:
        target = rng.uniform(-1, 1, 2) * room
        if len(objects) and rng.random() < 0.8:
            through = objects[int(rng.integers(len(objects)))]
            ahead = through - waypoints[-1]
            target = through + ahead / max(float(np.hypot(*ahead)), 1e-6) * rng.uniform(0.02, 0.25)
        target = np.clip(target + rng.normal(0, 0.02, 2), -room, room)
        if np.hypot(*(target - waypoints[-1])) > 0.12:
            waypoints.append(target)
    legs = np.linalg.norm(np.roll(waypoints, -1, 0) - np.array(waypoints), axis=1)
    seconds = np.maximum(legs, 0.05) / rng.uniform(0.09, 0.22, len(waypoints))
    return Trajectory(tuple((float(x), float(y)) for x, y in waypoints), tuple(seconds.tolist()))
