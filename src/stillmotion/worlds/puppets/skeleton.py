"""From joint angles to joint positions: two-dimensional forward kinematics, all frames at once.

Body coordinates: units of the stature, x to the right (front view) or forward (side view), y down, the origin on the
floor under the body. A limb's angle is 0 when it hangs straight down; positive angles turn it outward (front view) or
forward (side view). Bones never change their length: every motion stays in the picture plane, but where an action of
the side view is seen from the front (`turn_to_front`), which foreshortens them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from stillmotion.worlds.puppets.body_shape import BodyShape

# The shoulder's rise, in statures, when the arm goes from level to straight up.
_SHRUG = 0.028

# An action of the side view, seen from the front: the trunk's depth over its length, the least length of a bone that
# points at the camera, and how far ankles lie outside the hips, elbows outside the shoulders (statures), and knees
# outside of the ankles (of their way forward).
_LEAST_TRUNK = 0.35
_LEAST_BONE = 0.05
_STANCE, _ELBOWS, _KNEES = 0.01, 0.03, 0.4


@dataclass(frozen=True)
class Pose:
    """Joint angles over T frames, in radians; pairs are (left, right). Arms and legs stay in the picture plane."""

    lean: np.ndarray  # T, direction of the pelvis, 0 = upright, positive to the right / forward
    curl: np.ndarray  # T, angle of the chest relative to the pelvis
    nod: np.ndarray  # T, angle of the head relative to the chest
    shoulder: np.ndarray  # T x 2, direction of the upper arm in the world (not relative to the chest)
    elbow: np.ndarray  # T x 2, angle of the forearm relative to the upper arm
    hip: np.ndarray  # T x 2, direction of the thigh in the world
    knee: np.ndarray  # T x 2, angle of the shin relative to the thigh (negative = bent, seen from the side)
    foot: np.ndarray  # T x 2, direction of the sole, 0 = flat, positive = toes up
    lift: np.ndarray  # T, height of the lower foot over the floor, in statures
    x: np.ndarray  # T, horizontal place of the pelvis, in statures
    turn: np.ndarray | None = None  # T, front view: yaw of the shoulders, which brings them nearer together
    trunk: np.ndarray | None = None  # T, front view: length of the spine as it is seen, over its own


@dataclass(frozen=True)
class Figure:
    """Points in body coordinates, T x 2 for single points, T x 2 x 2 for (left, right)."""

    pelvis: np.ndarray  # middle of the hips
    chest: np.ndarray  # middle of the shoulders
    head: np.ndarray  # middle of the head
    head_angle: np.ndarray  # T, direction from crown to chin, as a limb's angle
    shoulder: np.ndarray
    elbow: np.ndarray
    wrist: np.ndarray
    hip: np.ndarray
    knee: np.ndarray
    ankle: np.ndarray
    pose: Pose  # the angles that gave the points
    lengths: Mapping[str, np.ndarray] = field(default_factory=dict)  # of foreshortened bones over their own, T x 2


def side_signs(view: str) -> np.ndarray:
    """Return the sense of positive limb angles for (left, right): +1 turns towards +x, -1 towards -x."""
    return np.array([1.0, -1.0]) if view == "front" else np.array([1.0, 1.0])


def direction(angle: np.ndarray) -> np.ndarray:
    """Return unit vectors (..., 2) of limb angles (...): 0 is down, a quarter turn is +x."""
    return np.stack([np.sin(angle), np.cos(angle)], axis=-1)


def spine_point(body: BodyShape, pelvis: np.ndarray, pose: Pose, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the point (T x 2) at `share` of the spine, pelvis = 0, chest = 1, and the direction (T) there.

    The spine is a circular arc; the direction is that of the line down the back, as a limb's angle.
    """
    half = 0.5 * pose.curl * share
    chord = body.torso * share * np.sinc(half / np.pi) * (1.0 if pose.trunk is None else pose.trunk)
    middle = pose.lean + half
    up = np.stack([np.sin(middle), -np.cos(middle)], axis=-1)
    return pelvis + chord[:, None] * up, -(pose.lean + pose.curl * share)


def ankle_offsets(body: BodyShape, pose: Pose) -> np.ndarray:
    """Return the ankles' places relative to their hips, T x 2 x 2, positive x = outward / forward."""
    return body.thigh * direction(pose.hip) + body.shin * direction(pose.hip + pose.knee)


def sole_offsets(body: BodyShape, pose: Pose, view: str) -> np.ndarray:
    """Return the places of the soles' heels and balls relative to their hips, T x 4 x 2 (two points per foot).

    From the front a foot is seen end on, so that both its points are under the ankle.
    """
    ankle = ankle_offsets(body, pose)
    if view == "front":
        return np.repeat(ankle + np.array([0.0, body.ankle]), 2, axis=1)
    toes = np.stack([np.cos(pose.foot), -np.sin(pose.foot)], axis=-1)
    down = direction(pose.foot)
    heel = ankle - 0.2 * body.foot * toes + body.ankle * down
    ball = ankle + 0.55 * body.foot * toes + body.ankle * down
    return np.concatenate([heel, ball], axis=1)


def two_bone_ik(target: np.ndarray, near: float, far: float, side: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the angles of two bones that together reach a target: the first one's, and the second's relative to it.

    Args:
        target: (..., 2), relative to the first bone's joint, positive x = outward / forward.
        near: length of the first bone.
        far: length of the second.
        side: +1 or -1, the sign of the second bone's angle.

    Returns:
        Two arrays (...). For a target out of reach the bones are nearly straight and point at it.
    """
    reach = np.clip(np.hypot(target[..., 0], target[..., 1]), abs(near - far) + 1e-3, 0.9995 * (near + far))
    second = np.arccos((reach**2 - near**2 - far**2) / (2 * near * far))
    first = np.arccos((near**2 + reach**2 - far**2) / (2 * near * reach))
    return np.arctan2(target[..., 0], target[..., 1]) - side * first, side * second


def smooth_max(values: np.ndarray, softness: float = 0.004) -> np.ndarray:
    """Return the maximum over the last axis without a corner where another value becomes the largest."""
    top = values.max(-1, keepdims=True)
    return top[..., 0] + softness * (np.log(np.exp((values - top) / softness).mean(-1)))


def forward_kinematics(body: BodyShape, pose: Pose, view: str) -> Figure:
    """Return the points of a body in its poses.

    The pelvis is as high as the longer leg allows: the lowest sole is on the floor (plus `pose.lift`).

    Args:
        body: the proportions.
        pose: the angles over T frames.
        view: `front` or `side`.

    Returns:
        All points in body coordinates.
    """
    signs = side_signs(view)[None, :]
    mirror = np.stack([signs, np.ones_like(signs)], axis=-1)  # 1 x 2 x 2: flips x for the right side in front view
    height = smooth_max(sole_offsets(body, pose, view)[..., 1]) + pose.lift
    pelvis = np.stack([pose.x, -height], axis=-1)
    chest, spine_angle = spine_point(body, pelvis, pose, 1.0)
    across = np.stack([np.cos(spine_angle), -np.sin(spine_angle)], axis=-1)
    down = direction(spine_angle)
    if view == "front":
        raised = np.clip((pose.shoulder - 0.8) / 2.0, 0.0, 1.0)
        shrug = _SHRUG * raised**2 * (3 - 2 * raised)
        width = body.shoulder if pose.turn is None else body.shoulder * np.cos(pose.turn)[:, None]
        shoulder_x, shoulder_y = signs * (width - 0.6 * shrug), -shrug
        hip_x = signs * body.hip
        neck_tilt = 0.0
    else:
        # Seen from the side, shoulders and hips rotate a little against each other with the limbs.
        turn = 0.02 * np.sin(np.clip(pose.shoulder + pose.lean[:, None] + pose.curl[:, None], -1, 1))
        shoulder_x, shoulder_y = turn, np.full_like(turn, 0.012)
        hip_x = 0.012 * np.sin(pose.hip)
        neck_tilt = 0.35
    shoulder = chest[:, None] + shoulder_x[..., None] * across[:, None] + shoulder_y[..., None] * down[:, None]
    hip = pelvis[:, None] + hip_x[..., None] * np.array([1.0, 0.0])
    head_angle = spine_angle - pose.nod
    head = chest - (body.neck + 0.5 * body.head) * direction(spine_angle - 0.5 * pose.nod - neck_tilt)
    elbow = shoulder + mirror * body.upper_arm * direction(pose.shoulder)
    wrist = elbow + mirror * body.forearm * direction(pose.shoulder + pose.elbow)
    knee = hip + mirror * body.thigh * direction(pose.hip)
    ankle = knee + mirror * body.shin * direction(pose.hip + pose.knee)
    return Figure(pelvis, chest, head, head_angle, shoulder, elbow, wrist, hip, knee, ankle, pose)


def turn_to_front(body: BodyShape, figure: Figure) -> Figure:
    """Return a figure of the side view as it is seen from the front, on the spot.

    Heights stay; what lay forward lies towards the camera, and foreshortens the bones. Knees turn a little outward.
    """
    zero = np.zeros(len(figure.pelvis))
    signs = side_signs("front")
    # The trunk has a depth, which is seen when it is level.
    rise = (figure.pelvis - figure.chest)[:, 1] / body.torso
    trunk = np.hypot(np.maximum(rise, 0.0), _LEAST_TRUNK)
    sunk = rise * body.torso - trunk * body.torso  # what is added to heights of the shoulders, and what hangs there

    def place(outward: np.ndarray | float, height: np.ndarray, lifted: bool) -> np.ndarray:
        wide = signs * np.broadcast_to(outward, height.shape)
        return np.stack([wide, height + (sunk[:, None] if lifted else 0.0)], -1)

    forward, bent = figure.knee[..., 0] - 0.5 * (figure.hip + figure.ankle)[..., 0], body.hip + _STANCE
    shoulder = place(body.shoulder, figure.shoulder[..., 1], True)
    elbow = place(body.shoulder + _ELBOWS, figure.elbow[..., 1], True)
    wrist = place(body.shoulder + 0.5 * _ELBOWS, figure.wrist[..., 1], True)
    hip = place(body.hip, figure.hip[..., 1], False)
    knee = place(bent + _KNEES * np.maximum(forward, 0.0), figure.knee[..., 1], False)
    ankle = place(bent, figure.ankle[..., 1], False)

    def bone(start: np.ndarray, end: np.ndarray, length: float) -> tuple[np.ndarray, np.ndarray]:
        along = end - start
        seen = np.hypot(along[..., 0], along[..., 1]) / length
        return np.arctan2(signs * along[..., 0], along[..., 1]), np.maximum(seen, _LEAST_BONE)

    upper, forearm = bone(shoulder, elbow, body.upper_arm), bone(elbow, wrist, body.forearm)
    thigh, shin = bone(hip, knee, body.thigh), bone(knee, ankle, body.shin)
    pose = replace(
        figure.pose, lean=zero, curl=zero, nod=zero, shoulder=upper[0], elbow=forearm[0] - upper[0], hip=thigh[0],
        knee=shin[0] - thigh[0], foot=np.zeros_like(thigh[0]), x=zero, trunk=trunk,
    )  # fmt: skip

    def middle(point: np.ndarray, lifted: bool) -> np.ndarray:
        return np.stack([zero, point[:, 1] + (sunk if lifted else 0.0)], -1)

    lengths = {"upper_arm": upper[1], "forearm": forearm[1], "thigh": thigh[1], "shin": shin[1]}
    points = (middle(figure.pelvis, False), middle(figure.chest, True), middle(figure.head, True), zero)
    return Figure(*points, shoulder, elbow, wrist, hip, knee, ankle, pose, lengths)


def joints(figure: Figure) -> np.ndarray:
    """Return the 13 joints in the order of `JOINTS`, T x 13 x 2, in body coordinates."""
    pairs = [figure.shoulder, figure.elbow, figure.wrist, figure.hip, figure.knee, figure.ankle]
    return np.concatenate([figure.head[:, None], *pairs], axis=1)
