"""Squatting, a golf-like swing and throwing: motions built from smooth steps between key postures.

Squat (seen from the side): thighs sink to level or a little above or below, knees bend by 85 to 130 degrees, shins
lean forward by 18 to 33, the trunk by 20 to 44. These are chosen ranges, between a half and a deep squat.

Swing (seen from the front): backswing and downswing take about 3 : 1 of the time, as professionals' do (J. Novosel,
"Tour Tempo", 2004). It is a practice swing, at about half their speed: the real thing is a few frames long at 25
per second. The leading arm stays nearly straight, the other one folds, the shoulders turn, the wrists cock late and
uncock at the lowest point.

Throw (seen from the side): the arm is drawn back over the shoulder, the elbow bends by about 100 degrees, then trunk,
upper arm and forearm come forward one after the other; the ball leaves while the forearm passes the upright.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stillmotion.worlds.colours import Colour
from stillmotion.worlds.puppets.body import Body
from stillmotion.worlds.puppets.clock import FPS, Clock, ease, glide, pair, sample_clock, zeros
from stillmotion.worlds.puppets.skeleton import (
    Figure,
    Pose,
    bones_to,
    direction,
    leg_reach,
    place,
    side_signs,
    smooth_max,
)

# Gravity in statures per frame and frame, for a stature of 1.72 m.
_GRAVITY = 9.81 / 1.72 / FPS**2


@dataclass(frozen=True)
class Thing:
    """What a person holds or throws, over T frames.

    Attributes:
        kind: `club` or `ball`.
        length: of the club, or the ball's radius, in statures.
        colour: of the club's head or the ball.
        point: T x 2, its place in body coordinates: the grip, or the ball's middle.
        angle: T, the club's direction, as a limb's angle.
        shown: T, whether it is in the picture.
        front: T, whether it is in front of the body.
        side: the hand that holds it, 0 left, 1 right.
    """

    kind: str
    length: float
    colour: Colour
    point: np.ndarray
    angle: np.ndarray
    shown: np.ndarray
    front: np.ndarray
    side: int


@dataclass(frozen=True)
class Squat:
    """Squatting: the angles of thighs, shins and trunk (`lean`) at the lowest point, and how far the arms `reach`."""

    clock: Clock
    thigh: float
    shin: float
    lean: float
    curl: float
    reach: float
    elbow: float
    rest: float
    hold: float
    look: float


@dataclass(frozen=True)
class Swing:
    """A golf-like swing: the hands go `back` and `through` (radians from the lowest point), the wrists `cock`.

    `hand` is +1 for a right-handed, -1 for a left-handed player.
    """

    clock: Clock
    hand: float
    back: float
    through: float
    cock: float
    turn: float
    stance: float
    shift: float
    colour: Colour


@dataclass(frozen=True)
class Throw:
    """An overarm throw with the arm `side` (0 left, 1 right)."""

    clock: Clock
    side: int
    raised: float
    cocked: float
    back: float
    forward: float
    stride: float
    crouch: float
    other: float
    ball: float
    colour: Colour


def sample_squat(rng: np.random.Generator) -> Squat:
    """Draw a way of squatting, half or deep."""
    thigh = rng.uniform(1.15, 1.7)
    forward = rng.random() < 0.7
    return Squat(
        clock=sample_clock(rng, 36, 72),
        thigh=thigh,
        shin=rng.uniform(0.32, 0.58),
        lean=float(rng.uniform(0.3, 0.45) * thigh),
        curl=rng.uniform(0.0, 0.3),
        reach=float(rng.uniform(1.2, 1.65) if forward else rng.uniform(0.0, 0.4)),
        elbow=float(rng.uniform(0.0, 0.25) if forward else rng.uniform(0.1, 1.6)),
        rest=rng.uniform(-0.1, 0.1),
        hold=rng.uniform(0.0, 0.6),
        look=rng.uniform(0.5, 1.0),
    )


def squat_pose(squat: Squat, body: Body, times: np.ndarray) -> Pose:
    """Return the poses of squatting (side view); the ankles stay where they are."""
    down = ease(squat.clock.phase(times), squat.hold)
    still = zeros(times)
    hip, lean, curl = squat.thigh * down, squat.lean * down, 0.04 + squat.curl * down
    knee = -(squat.thigh + squat.shin) * down
    arms = [squat.rest + own + (squat.reach - squat.rest) * down for own in (-0.04, 0.04)]
    elbow = 0.12 + (squat.elbow - 0.12) * down
    pose = Pose(
        lean=lean, curl=curl, nod=-squat.look * (lean + 0.5 * curl), shoulder=pair(*arms), elbow=pair(elbow, elbow),
        hip=pair(hip + 0.02, hip - 0.02), knee=pair(knee, knee), foot=pair(still, still), lift=still, x=still,
    )  # fmt: skip
    return replace(pose, x=-leg_reach(body, pose)[..., 0].mean(-1))


def sample_swing(rng: np.random.Generator) -> Swing:
    """Draw a swing; a clip of two seconds holds the stroke."""
    clock = replace(sample_clock(rng, 84, 112), start=rng.uniform(0.05, 0.34))
    grey = rng.uniform(0.1, 0.8)
    return Swing(
        clock=clock,
        hand=-1.0 if rng.random() < 0.3 else 1.0,
        back=rng.uniform(2.0, 2.5),
        through=rng.uniform(2.1, 2.55),
        cock=rng.uniform(1.3, 1.85),
        turn=rng.uniform(0.8, 1.1),
        stance=rng.uniform(0.13, 0.24),
        shift=rng.uniform(0.01, 0.035),
        colour=(grey, grey, grey),
    )


def _strokes(swing: Swing, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the hands' angle about the chest, and the wrists' (T each), positive towards the target."""
    at = np.mod(swing.clock.phase(times), 1.0)
    through = glide(at, 0.39, 0.60)
    back, end = glide(at, 0.10, 0.38), glide(at, 0.75, 1.0)
    arms = swing.back * (through - back) + swing.through * (through - end)
    release = glide(at, 0.45, 0.56)
    wrists = swing.cock * (release - glide(at, 0.18, 0.37) + 0.9 * (release - glide(at, 0.76, 0.97)))
    return arms, wrists


def swing_pose(swing: Swing, body: Body, times: np.ndarray) -> Pose:
    """Return the poses of a swing (front view): both hands on the grip, both feet on their places."""
    arms, wrists = _strokes(swing, times)
    still, signs = zeros(times), side_signs("front")
    angle, share = swing.hand * arms, arms / max(swing.back, swing.through)
    weight = swing.hand * swing.shift * share
    hip = swing.stance - pair(weight, -weight) / (body.thigh + body.shin)
    pose = Pose(
        lean=0.3 * weight, curl=swing.hand * (-0.05 - 0.05 * share**2), nod=0.06 * angle,
        shoulder=pair(still, still), elbow=pair(still, still), hip=hip, knee=-0.06 + 0 * hip, foot=0 * hip,
        lift=still, x=still, turn=swing.turn * share,
    )  # fmt: skip
    pose = replace(pose, x=-(signs * leg_reach(body, pose)[..., 0]).mean(-1))
    # The leading arm stays nearly straight: that gives the hands' distance from the chest.
    length = 0.965 * (body.upper_arm + body.forearm)
    wide = body.shoulder * np.cos(swing.turn * share)
    across = np.sqrt(np.sin(angle) ** 2 + 0.02)
    far = np.sqrt(np.maximum(length**2 - (wide * np.cos(angle)) ** 2, 1e-4)) - wide * across
    for _ in range(3):  # raised arms shrug the shoulders, which moves where the arms hang
        figure = place(body, pose, "front")
        hands = figure.chest + far[:, None] * direction(angle)
        apart = 0.012 * np.where(signs * swing.hand > 0, -1.0, 1.0)  # one hand above the other
        grips = hands[:, None] + apart[:, None] * direction(angle + swing.hand * wrists)[:, None]
        local = (grips - figure.shoulder) * np.stack([signs, np.ones(2)], -1)
        reach = np.linalg.norm(local, axis=-1)
        # Arms that hit their full length would snap: they are held short of it, without a corner.
        short = -smooth_max(np.stack([-reach, np.full_like(reach, -1.02 * length)], -1))
        local = local * (short / reach)[..., None]
        shoulder, elbow = bones_to(local, body.upper_arm, body.forearm, 1.0)
        pose = replace(pose, shoulder=shoulder, elbow=elbow)
    return pose


def swing_thing(swing: Swing, body: Body, figure: Figure, times: np.ndarray) -> Thing:
    """Return the club: long enough to reach the ground at the lowest point, behind the body at both ends."""
    arms, wrists = _strokes(swing, times)
    angle = swing.hand * (arms + wrists)
    lead = 0 if swing.hand > 0 else 1
    standing = body.thigh + body.shin + body.ankle + body.torso
    length = standing - 0.93 * (body.upper_arm + body.forearm)
    return Thing(
        kind="club",
        length=length,
        colour=swing.colour,
        point=figure.wrist[:, lead] + 0.03 * direction(angle),
        angle=angle,
        shown=np.ones(len(times), bool),
        front=np.abs(angle) < 1.9,
        side=lead,
    )


def sample_throw(rng: np.random.Generator) -> Throw:
    """Draw an overarm throw; a clip of one second and a half holds it."""
    clock = replace(sample_clock(rng, 46, 70), start=rng.uniform(0.0, 0.3))
    colours = [(0.93, 0.93, 0.9), (0.85, 0.9, 0.2), (0.85, 0.2, 0.15), (0.2, 0.35, 0.8), (0.9, 0.5, 0.1)]
    return Throw(
        clock=clock,
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


# When the ball leaves the hand, and for how long it is seen before the next throw begins, as shares of a throw.
_TAKEN, _LEFT, _GONE = 0.04, 0.52, 0.93


def throw_pose(throw: Throw, body: Body, times: np.ndarray) -> Pose:
    """Return the poses of throwing (side view); the feet stay, the weight goes from the rear to the front one."""
    at = np.mod(throw.clock.phase(times), 1.0)
    still = zeros(times)
    up, end = glide(at, 0.06, 0.46), glide(at, 0.74, 1.0)
    trunk, upper, fore = glide(at, 0.38, 0.62), glide(at, 0.42, 0.69), glide(at, 0.46, 0.63)
    arm = 0.12 + (throw.raised - 0.12) * (up - upper) + 0.35 * (upper - end)
    elbow = 0.3 + (throw.cocked - 0.3) * (up - fore) - 0.2 * (fore - end)
    # The other arm points at the target and is pulled in as the throwing one comes forward.
    other = 0.1 + throw.other * (up - glide(at, 0.42, 0.66)) - 0.3 * (trunk - end)
    bent = 0.25 + 0.9 * (trunk - end)
    lean = 0.03 - throw.back * (up - trunk) + throw.forward * (trunk - end)
    weight = -0.28 * (up - trunk) + 0.3 * (trunk - end)
    arms, elbows = [arm, other], [elbow, bent]
    order = (0, 1) if throw.side == 0 else (1, 0)
    pose = Pose(
        lean=lean, curl=0.04 + 0.4 * lean, nod=-0.7 * lean, shoulder=pair(*(arms[i] for i in order)),
        elbow=pair(*(elbows[i] for i in order)), hip=pair(still, still), knee=pair(still, still),
        foot=pair(still, still), lift=still, x=throw.stride * weight,
    )  # fmt: skip
    return _planted(pose, body, throw)


def _planted(pose: Pose, body: Body, throw: Throw) -> Pose:
    """Return the pose with legs that keep the feet on their places: the front foot is that of the other side."""
    half = 0.5 * throw.stride
    height = np.sqrt((0.985 * (body.thigh + body.shin)) ** 2 - (1.6 * half) ** 2) - throw.crouch
    hips, knees = [], []
    for side in (0, 1):
        foot = -half if side == throw.side else half
        target = np.stack([foot - pose.x, np.full_like(pose.x, height)], -1)
        for _ in range(2):  # the hip joint itself moves a little with the thigh
            hip, knee = bones_to(target, body.thigh, body.shin, -1.0)
            target[:, 0] = foot - pose.x - 0.012 * np.sin(hip)
        hips.append(hip)
        knees.append(knee)
    return replace(pose, hip=pair(*hips), knee=pair(*knees))


def throw_thing(throw: Throw, body: Body, figure: Figure, times: np.ndarray) -> Thing:
    """Return the ball: in the hand, then flying freely with the speed the hand gave it."""
    phase = throw.clock.phase(times)
    at = np.mod(phase, 1.0)
    held = _palm(throw, body, figure)
    leaving = times + (_LEFT - at) * throw.clock.period  # the time of this cycle's release, nearly
    before, after = (_held_at(throw, body, leaving + step) for step in (-0.05, 0.05))
    since = ((at - _LEFT) * throw.clock.period)[:, None]
    flown = 0.5 * (before + after) + (after - before) / 0.1 * since + 0.5 * np.array([0.0, _GRAVITY]) * since**2
    free = at >= _LEFT
    return Thing(
        kind="ball",
        length=throw.ball,
        colour=throw.colour,
        point=np.where(free[:, None], flown, held),
        angle=zeros(times),
        shown=(at >= _TAKEN) & (at <= _GONE),
        front=free,
        side=throw.side,
    )


def _palm(throw: Throw, body: Body, figure: Figure) -> np.ndarray:
    turn = figure.pose.shoulder[:, throw.side] + 0.9 * figure.pose.elbow[:, throw.side]
    return figure.wrist[:, throw.side] + 0.6 * body.hand * direction(turn)


def _held_at(throw: Throw, body: Body, times: np.ndarray) -> np.ndarray:
    return _palm(throw, body, place(body, throw_pose(throw, body, times), "side"))
