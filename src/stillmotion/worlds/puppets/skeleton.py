"""From joint angles to joint positions: plain two-dimensional kinematics, all frames at once.

Body coordinates: units of the stature, x to the right (front view) or forward (side view), y down, the origin
on the floor under the body. A limb's angle is 0 when it hangs straight down; positive angles turn it outward
(front view) or forward (side view). Bones never change their length: every motion stays in the picture plane.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillmotion.worlds.puppets.body import Body

# The shoulder rises by this much of the stature when the arm goes from level to straight up.
SHRUG = 0.028


@dataclass(frozen=True)
class Pose:
    """Joint angles over time, in radians; `T` frames, pairs are (left, right).

    Attributes:
        lean: T, direction of the pelvis, 0 = upright, positive to the right / forward.
        curl: T, how much further the chest is turned than the pelvis.
        nod: T, turn of the head against the chest.
        shoulder: T x 2, direction of the upper arm in the world (not against the chest).
        elbow: T x 2, turn of the forearm against the upper arm.
        hip: T x 2, direction of the thigh in the world.
        knee: T x 2, turn of the shin against the thigh (negative = bent, seen from the side).
        foot: T x 2, direction of the sole, 0 = flat, positive = toes up.
        lift: T, height of the lower foot over the floor, in statures.
        x: T, horizontal place of the pelvis, in statures.
        turn: T, front view: turn of the shoulders about the upright, which brings them nearer together in the
            picture; None = none. Arms and legs stay in the picture plane.
    """

    lean: np.ndarray
    curl: np.ndarray
    nod: np.ndarray
    shoulder: np.ndarray
    elbow: np.ndarray
    hip: np.ndarray
    knee: np.ndarray
    foot: np.ndarray
    lift: np.ndarray
    x: np.ndarray
    turn: np.ndarray | None = None


@dataclass(frozen=True)
class Figure:
    """Where everything is: points in body coordinates, T x 2 for single points, T x 2 x 2 for (left, right).

    Attributes:
        pelvis: middle of the hips.
        chest: middle of the shoulders.
        head: middle of the head.
        head_angle: T, direction from crown to chin, as a limb's angle.
        shoulder: shoulder joints.
        elbow: elbow joints.
        wrist: wrist joints.
        hip: hip joints.
        knee: knee joints.
        ankle: ankle joints.
        pose: the angles that gave the points.
    """

    pelvis: np.ndarray
    chest: np.ndarray
    head: np.ndarray
    head_angle: np.ndarray
    shoulder: np.ndarray
    elbow: np.ndarray
    wrist: np.ndarray
    hip: np.ndarray
    knee: np.ndarray
    ankle: np.ndarray
    pose: Pose


def side_signs(view: str) -> np.ndarray:
    """Return what positive limb angles mean for (left, right): +1 turns towards +x, -1 towards -x."""
    return np.array([1.0, -1.0]) if view == "front" else np.array([1.0, 1.0])


def direction(angle: np.ndarray) -> np.ndarray:
    """Return unit vectors (..., 2) of limb angles (...): 0 is down, a quarter turn is +x."""
    return np.stack([np.sin(angle), np.cos(angle)], axis=-1)


def spine_point(body: Body, pelvis: np.ndarray, pose: Pose, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the point (T x 2) at `share` of the spine, pelvis = 0, chest = 1, and the direction (T) there.

    The spine is an arc of circle; the direction is that of the line down the back, as a limb's angle.
    """
    half = 0.5 * pose.curl * share
    chord = body.torso * share * np.sinc(half / np.pi)
    middle = pose.lean + half
    up = np.stack([np.sin(middle), -np.cos(middle)], axis=-1)
    return pelvis + chord[:, None] * up, -(pose.lean + pose.curl * share)


def leg_reach(body: Body, pose: Pose) -> np.ndarray:
    """Return the ankles' places relative to their hips, T x 2 x 2, positive x = outward / forward."""
    return body.thigh * direction(pose.hip) + body.shin * direction(pose.hip + pose.knee)


def sole_reach(body: Body, pose: Pose, view: str) -> np.ndarray:
    """Return where the soles' heels and balls are relative to their hips, T x 4 x 2 (two points per foot).

    From the front a foot is seen end on, so that both its points lie under the ankle.
    """
    ankle = leg_reach(body, pose)
    if view == "front":
        return np.repeat(ankle + np.array([0.0, body.ankle]), 2, axis=1)
    toes = np.stack([np.cos(pose.foot), -np.sin(pose.foot)], axis=-1)
    down = direction(pose.foot)
    heel = ankle - 0.2 * body.foot * toes + body.ankle * down
    ball = ankle + 0.55 * body.foot * toes + body.ankle * down
    return np.concatenate([heel, ball], axis=1)


def bones_to(target: np.ndarray, near: float, far: float, side: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the angles of two bones that together reach a target: the first one's, and the second's turn against it.

    Args:
        target: (..., 2), seen from where the first bone hangs, positive x = outward / forward.
        near: length of the first bone.
        far: length of the second.
        side: +1 or -1, the sign of the second bone's turn.

    Returns:
        Two arrays (...). A target out of reach is pointed at with nearly straight bones.
    """
    reach = np.clip(np.hypot(target[..., 0], target[..., 1]), abs(near - far) + 1e-3, 0.9995 * (near + far))
    turn = np.arccos((reach**2 - near**2 - far**2) / (2 * near * far))
    lead = np.arccos((near**2 + reach**2 - far**2) / (2 * near * reach))
    return np.arctan2(target[..., 0], target[..., 1]) - side * lead, side * turn


def smooth_max(values: np.ndarray, softness: float = 0.004) -> np.ndarray:
    """Return the maximum over the last axis without a corner where the leader changes."""
    top = values.max(-1, keepdims=True)
    return top[..., 0] + softness * (np.log(np.exp((values - top) / softness).mean(-1)))


def place(body: Body, pose: Pose, view: str) -> Figure:
    """Put the body in its poses.

    The pelvis is as high as the longer leg allows: the lowest sole stands on the floor (plus `pose.lift`).

    Args:
        body: the proportions.
        pose: the angles over T frames.
        view: `front` or `side`.

    Returns:
        All points in body coordinates.
    """
    signs = side_signs(view)[None, :]
    swap = np.stack([signs, np.ones_like(signs)], axis=-1)  # 1 x 2 x 2: mirrors x for the right side in front view
    height = smooth_max(sole_reach(body, pose, view)[..., 1]) + pose.lift
    pelvis = np.stack([pose.x, -height], axis=-1)
    chest, spine_angle = spine_point(body, pelvis, pose, 1.0)
    across = np.stack([np.cos(spine_angle), -np.sin(spine_angle)], axis=-1)
    down = direction(spine_angle)
    if view == "front":
        raised = np.clip((pose.shoulder - 0.8) / 2.0, 0.0, 1.0)
        shrug = SHRUG * raised**2 * (3 - 2 * raised)
        wide = body.shoulder if pose.turn is None else body.shoulder * np.cos(pose.turn)[:, None]
        spread = wide - 0.6 * shrug
        shoulder = chest[:, None] + (signs * spread)[..., None] * across[:, None] - shrug[..., None] * down[:, None]
        hip = pelvis[:, None] + (signs * body.hip)[..., None] * np.array([1.0, 0.0])
        head_angle = spine_angle - pose.nod
        tilt = 0.0
    else:
        # Seen from the side the shoulders and hips turn a little against each other with the limbs.
        turn = 0.02 * np.sin(np.clip(pose.shoulder + pose.lean[:, None] + pose.curl[:, None], -1, 1))
        shoulder = chest[:, None] + turn[..., None] * across[:, None] + 0.012 * down[:, None]
        hip = pelvis[:, None] + (0.012 * np.sin(pose.hip))[..., None] * np.array([1.0, 0.0])
        head_angle = spine_angle - pose.nod
        tilt = 0.35
    neck_angle = spine_angle - 0.5 * pose.nod - tilt
    head = chest - (body.neck + 0.5 * body.head) * direction(neck_angle)
    elbow = shoulder + swap * body.upper_arm * direction(pose.shoulder)
    wrist = elbow + swap * body.forearm * direction(pose.shoulder + pose.elbow)
    knee = hip + swap * body.thigh * direction(pose.hip)
    ankle = knee + swap * body.shin * direction(pose.hip + pose.knee)
    return Figure(pelvis, chest, head, head_angle, shoulder, elbow, wrist, hip, knee, ankle, pose)


def joints(figure: Figure) -> np.ndarray:
    """Return the 13 joints in the order of `JOINTS`, T x 13 x 2, in body coordinates."""
    pairs = [figure.shoulder, figure.elbow, figure.wrist, figure.hip, figure.knee, figure.ankle]
    return np.concatenate([figure.head[:, None], *pairs], axis=1)
