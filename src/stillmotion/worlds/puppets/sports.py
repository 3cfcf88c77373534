"""Squatting, a golf swing and throwing: motions built from smooth ramps between key postures.

Squat (seen from the side): thighs sink to level or a little above or below, knees bend by 85 to 130 degrees, shins
lean forward by 18 to 33, the trunk by 20 to 44. These are chosen ranges, between a half and a deep squat.

Swing (seen from the front): backswing and downswing take about 3 : 1 of the time, as professionals' do (J. Novosel,
"Tour Tempo", 2004). It is a practice swing, at about half their speed: a full swing lasts a few frames at 25 per
second. The leading arm stays nearly straight, the other one folds, the shoulders turn, the wrists cock late and
uncock at the lowest point.

Throw (seen from the side): the arm is drawn back over the shoulder, the elbow bends by about 100 degrees, then trunk,
upper arm and forearm come forward one after the other; the ball leaves while the forearm passes the upright.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stillmotion.worlds.colours import Colour
from stillmotion.worlds.puppets.body_shape import BodyShape
from stillmotion.worlds.puppets.held_objects import HeldObject
from stillmotion.worlds.puppets.skeleton import (
    Figure,
    Pose,
    ankle_offsets,
    direction,
    forward_kinematics,
    side_signs,
    smooth_max,
    two_bone_ik,
)
from stillmotion.worlds.puppets.timing import FPS, Cycle, left_right, raised_cosine, ramp, sample_cycle

# Gravity in statures per frame and frame, for a stature of 1.72 m.
_GRAVITY = 9.81 / 1.72 / FPS**2


@dataclass(frozen=True)
class Squat:
    """Squatting; angles at the lowest point, in radians."""

    cycle: Cycle
    thigh: float
    shin: float
    lean: float  # of the trunk
    curl: float  # of the back
    reach: float  # of the shoulders
    elbow: float
    rest: float  # shoulder angle when upright
    hold: float  # how long both ends last, 0 to 1
    look: float  # how much the head compensates the trunk, 0 to 1


@dataclass(frozen=True)
class Swing:
    """A golf swing; angles in radians, lengths in statures."""

    cycle: Cycle
    hand: float  # +1 for a right-handed, -1 for a left-handed player
    back: float  # angle of the arms at the top of the backswing, from the lowest point
    through: float  # angle of the arms at the end of the follow-through
    cock: float  # angle of the wrists
    turn: float  # of the shoulders
    stance: float  # hip angle
    shift: float  # of the weight
    colour: Colour  # of the club's head


@dataclass(frozen=True)
class Throw:
    """An overarm throw; angles in radians, lengths in statures."""

    cycle: Cycle
    side: int  # the throwing arm: 0 left, 1 right
    raised: float  # shoulder angle when the arm is drawn back
    cocked: float  # elbow angle when the arm is drawn back
    back: float  # lean of the trunk backwards
    forward: float  # lean of the trunk forwards
    stride: float  # distance between the feet
    crouch: float  # how much lower the hips are than straight legs allow
    other: float  # shoulder angle of the other arm
    ball: float  # radius
    colour: Colour  # of the ball


def sample_squat(rng: np.random.Generator) -> Squat:
    """Draw a way of squatting, half or deep."""
    thigh = rng.uniform(1.15, 1.7)
    forward = rng.random() < 0.7
    return Squat(
        cycle=sample_cycle(rng, 36, 72),
        thigh=thigh,
        shin=rng.uniform(0.32, 0.58),
        lean=rng.uniform(0.3, 0.45) * thigh,
        curl=rng.uniform(0.0, 0.3),
        reach=rng.uniform(1.2, 1.65) if forward else rng.uniform(0.0, 0.4),
        elbow=rng.uniform(0.0, 0.25) if forward else rng.uniform(0.1, 1.6),
        rest=rng.uniform(-0.1, 0.1),
        hold=rng.uniform(0.0, 0.6),
        look=rng.uniform(0.5, 1.0),
    )


def squat_pose(squat: Squat, body: BodyShape, times: np.ndarray) -> Pose:
    """Return the poses of squatting (side view); the ankles stay in place."""
    down, zero = raised_cosine(squat.cycle.phase(times), squat.hold), np.zeros(len(times))
    hip, lean, curl = squat.thigh * down, squat.lean * down, 0.04 + squat.curl * down
    knee = -(squat.thigh + squat.shin) * down
    arms = [squat.rest + own + (squat.reach - squat.rest) * down for own in (-0.04, 0.04)]
    elbow = 0.12 + (squat.elbow - 0.12) * down
    pose = Pose(
        lean=lean, curl=curl, nod=-squat.look * (lean + 0.5 * curl), shoulder=left_right(*arms),
        elbow=left_right(elbow, elbow), hip=left_right(hip + 0.02, hip - 0.02), knee=left_right(knee, knee),
        foot=left_right(zero, zero), lift=zero, x=zero,
    )  # fmt: skip
    return replace(pose, x=-ankle_offsets(body, pose)[..., 0].mean(-1))


def sample_swing(rng: np.random.Generator) -> Swing:
    """Draw a swing; a clip of two seconds contains the stroke."""
    cycle = replace(sample_cycle(rng, 84, 112), start=rng.uniform(0.05, 0.34))
    grey = rng.uniform(0.1, 0.8)
    return Swing(
        cycle=cycle,
        hand=-1.0 if rng.random() < 0.3 else 1.0,
        back=rng.uniform(2.0, 2.5),
        through=rng.uniform(2.1, 2.55),
        cock=rng.uniform(1.3, 1.85),
        turn=rng.uniform(0.8, 1.1),
        stance=rng.uniform(0.13, 0.24),
        shift=rng.uniform(0.01, 0.035),
        colour=(grey, grey, grey),
    )


def _swing_angles(swing: Swing, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the hands' angle about the chest, and the wrists' (T each), positive towards the target."""
    at = np.mod(swing.cycle.phase(times), 1.0)
    through = ramp(at, 0.39, 0.60)
    back, end = ramp(at, 0.10, 0.38), ramp(at, 0.75, 1.0)
    arms = swing.back * (through - back) + swing.through * (through - end)
    release = ramp(at, 0.45, 0.56)
    wrists = swing.cock * (release - ramp(at, 0.18, 0.37) + 0.9 * (release - ramp(at, 0.76, 0.97)))
    return arms, wrists


def swing_pose(swing: Swing, body: BodyShape, times: np.ndarray) -> Pose:
    """Return the poses of a swing (front view): both hands on the grip, both feet in place."""
    arms, wrists = _swing_angles(swing, times)
    zero, signs = np.zeros(len(times)), side_signs("front")
    angle, share = swing.hand * arms, arms / max(swing.back, swing.through)
    weight = swing.hand * swing.shift * share
    hip = swing.stance - left_right(weight, -weight) / (body.thigh + body.shin)
    pose = Pose(
        lean=0.3 * weight, curl=swing.hand * (-0.05 - 0.05 * share**2), nod=0.06 * angle,
        shoulder=left_right(zero, zero), elbow=left_right(zero, zero), hip=hip, knee=-0.06 + 0 * hip, foot=0 * hip,
        lift=zero, x=zero, turn=swing.turn * share,
    )  # fmt: skip
    pose = replace(pose, x=-(signs * ankle_offsets(body, pose)[..., 0]).mean(-1))
    # The leading arm stays nearly straight, which gives the hands' distance from the chest.
    length = 0.965 * (body.upper_arm + body.forearm)
    wide = body.shoulder * np.cos(swing.turn * share)
    across = np.sqrt(np.sin(angle) ** 2 + 0.02)
    far = np.sqrt(np.maximum(length**2 - (wide * np.cos(angle)) ** 2, 1e-4)) - wide * across
    for _ in range(3):  # raised arms shrug the shoulders, which moves the arms' origin
        figure = forward_kinematics(body, pose, "front")
        hands = figure.chest + far[:, None] * direction(angle)
        apart = 0.012 * np.where(signs * swing.hand > 0, -1.0, 1.0)  # one hand above the other
        grips = hands[:, None] + apart[:, None] * direction(angle + swing.hand * wrists)[:, None]
        local = (grips - figure.shoulder) * np.stack([signs, np.ones(2)], -1)
        reach = np.linalg.norm(local, axis=-1)
        # Arms at their full length would snap: they are kept shorter, without a corner.
        short = -smooth_max(np.stack([-reach, np.full_like(reach, -1.02 * length)], -1))
        local = local * (short / reach)[..., None]
        shoulder, elbow = two_bone_ik(local, body.upper_arm, body.forearm, 1.0)
        pose = replace(pose, shoulder=shoulder, elbow=elbow)
    return pose


def swing_club(swing: Swing, body: BodyShape, figure: Figure, times: np.ndarray) -> HeldObject:
    """Return the club: long enough to reach the ground at the lowest point, behind the body at both ends."""
    arms, wrists = _swing_angles(swing, times)
    angle = swing.hand * (arms + wrists)
    lead = 0 if swing.hand > 0 else 1
    standing = body.thigh + body.shin + body.ankle + body.torso
    return HeldObject(
        kind="club",
        length=standing - 0.93 * (body.upper_arm + body.forearm),
        colour=swing.colour,
        point=figure.wrist[:, lead] + 0.03 * direction(angle),
        angle=angle,
        shown=np.ones(len(times), bool),
        front=np.abs(angle) < 1.9,
        side=lead,
    )


def sample_throw(rng: np.random.Generator) -> Throw:
    """Draw an overarm throw; a clip of one second and a half contains it."""
    cycle = replace(sample_cycle(rng, 46, 70), start=rng.uniform(0.0, 0.3))
    colours = [(0.93, 0.93, 0.9), (0.85, 0.9, 0.2), (0.85, 0.2, 0.15), (0.2, 0.35, 0.8), (0.9, 0.5, 0.1)]
    return Throw(
        cycle=cycle,
        side=int(rng.integers(2)),
        raised=rng.uniform(3.0, 3.7),
        cocked=rng.uniform(1.4, 2.0),
        back=rng.uniform(0.08, 0.3),
        forward=rng.uniform(0.25, 0.6),
        stride=rng.uniform(0.2, 0.32),
        crouch=rng.uniform(0.0, 0.025),
        other=rng.uniform(0.6, 1.5),
        ball=rng.uniform(0.022, 0.036),
        colour=colours[int(rng.integers(len(colours)))],
    )


# When the ball appears, leaves the hand and disappears, as shares of a throw.
_TAKEN, _RELEASED, _GONE = 0.04, 0.52, 0.93


def throw_pose(throw: Throw, body: BodyShape, times: np.ndarray) -> Pose:
    """Return the poses of throwing (side view); the feet stay, the weight moves from the rear to the front one."""
    at = np.mod(throw.cycle.phase(times), 1.0)
    zero = np.zeros(len(times))
    up, end = ramp(at, 0.06, 0.46), ramp(at, 0.74, 1.0)
    trunk, upper, fore = ramp(at, 0.38, 0.62), ramp(at, 0.42, 0.69), ramp(at, 0.46, 0.63)
    arm = 0.12 + (throw.raised - 0.12) * (up - upper) + 0.35 * (upper - end)
    elbow = 0.3 + (throw.cocked - 0.3) * (up - fore) - 0.2 * (fore - end)
    # The other arm points at the target and is pulled in as the throwing one comes forward.
    other = 0.1 + throw.other * (up - ramp(at, 0.42, 0.66)) - 0.3 * (trunk - end)
    bent = 0.25 + 0.9 * (trunk - end)
    lean = 0.03 - throw.back * (up - trunk) + throw.forward * (trunk - end)
    weight = -0.28 * (up - trunk) + 0.3 * (trunk - end)
    shoulders, elbows = ((arm, other), (elbow, bent)) if throw.side == 0 else ((other, arm), (bent, elbow))
    straight = left_right(zero, zero)
    pose = Pose(
        lean=lean, curl=0.04 + 0.4 * lean, nod=-0.7 * lean, shoulder=left_right(*shoulders),
        elbow=left_right(*elbows), hip=straight, knee=straight, foot=straight, lift=zero, x=throw.stride * weight,
    )  # fmt: skip
    return _plant_feet(pose, body, throw)


def _plant_feet(pose: Pose, body: BodyShape, throw: Throw) -> Pose:
    """Return the pose with legs that keep the feet in place: the front foot is that of the other side."""
    half = 0.5 * throw.stride
    height = np.sqrt((0.985 * (body.thigh + body.shin)) ** 2 - (1.6 * half) ** 2) - throw.crouch
    hips, knees = [], []
    for side in (0, 1):
        foot = -half if side == throw.side else half
        target = np.stack([foot - pose.x, np.full_like(pose.x, height)], -1)
        for _ in range(2):  # the hip joint itself moves a little with the thigh
            hip, knee = two_bone_ik(target, body.thigh, body.shin, -1.0)
            target[:, 0] = foot - pose.x - 0.012 * np.sin(hip)
        hips.append(hip)
        knees.append(knee)
    return replace(pose, hip=left_right(*hips), knee=left_right(*knees))


def throw_ball(throw: Throw, body: BodyShape, figure: Figure, times: np.ndarray) -> HeldObject:
    """Return the ball: in the hand, then in free flight with the hand's velocity."""

    def held_at(moments: np.ndarray) -> np.ndarray:
        pose = throw_pose(throw, body, moments)
        return _palm(throw, body, forward_kinematics(body, pose, "side"))

    at = np.mod(throw.cycle.phase(times), 1.0)
    release = times + (_RELEASED - at) * throw.cycle.period  # the time of this cycle's release, nearly
    before, after = held_at(release - 0.05), held_at(release + 0.05)
    since = ((at - _RELEASED) * throw.cycle.period)[:, None]
    flown = 0.5 * (before + after) + (after - before) / 0.1 * since + 0.5 * np.array([0.0, _GRAVITY]) * since**2
    free = at >= _RELEASED
    return HeldObject(
        kind="ball",
        length=throw.ball,
        colour=throw.colour,
        point=np.where(free[:, None], flown, _palm(throw, body, figure)),
        angle=np.zeros(len(times)),
        shown=(at >= _TAKEN) & (at <= _GONE),
        front=free,
        side=throw.side,
    )


def _palm(throw: Throw, body: BodyShape, figure: Figure) -> np.ndarray:
    angle = figure.pose.shoulder[:, throw.side] + 0.9 * figure.pose.elbow[:, throw.side]
    return figure.wrist[:, throw.side] + 0.6 * body.hand * direction(angle)
