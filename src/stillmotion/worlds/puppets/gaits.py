"""Gaits: walking, jogging and running from joint-angle curves.

| | walk | jog | run |
| --- | --- | --- | --- |
| steps per second | 1.4 to 2.4 | 2.5 to 2.75 | 2.75 to 3.2 |
| stance of one foot, share of a stride | 0.6 | 0.39 to 0.43 | 0.31 to 0.36 |
| flight (no foot on the floor), share of a stride | never | 0.14 to 0.22 | 0.28 to 0.38 |
| knee flexion in stance, in swing | 17, 60 degrees | 40, 85 | 43, 105 |

The curves are round values set by hand to have the known features of each gait, not measured data: toe-off at about
62 % of the stride in walking, 39 % and 36 % in slow and fast running, knee flexion of about 60, 90 and 105 degrees or
more, elbows at a right angle in running. For measured curves see D. A. Winter, "Biomechanics and Motor Control of
Human Movement" (2009) on walking, and T. F. Novacheck, "The biomechanics of running", Gait & Posture 7 (1998). Common
cadences: 1.9 steps per second in walking, 2.5 to 2.8 in running at an even pace. The stride length is not set: it
follows from how far the standing foot moves back under the trunk.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stillmotion.worlds.puppets.body_shape import BodyShape
from stillmotion.worlds.puppets.skeleton import Pose, smooth_max, sole_offsets
from stillmotion.worlds.puppets.timing import FPS, Cycle, left_right, sample_cycle


@dataclass(frozen=True)
class Gait:
    """The parameters of a gait at its mean tempo."""

    stride_hz: float  # strides of two steps per second
    cadence_hz: float  # steps per second
    stride_length: float  # over the ground, in body heights
    speed: float  # over the ground, in body heights per second
    flight: float  # share of the time without a foot on the floor


@dataclass(frozen=True)
class Walk:
    """Walking; lengths in statures, angles in radians."""

    cycle: Cycle  # one stride
    hip: float  # factor on the gait's hip curve
    knee: float  # factor on its knee curve
    arm: float  # amplitude of the arms' swing
    elbow: float  # flexion of the elbows
    lean: float  # of the trunk
    nod: float  # of the head


@dataclass(frozen=True)
class Run(Walk):
    """Jogging or running."""

    kind: str  # `jog` or `run`
    flight: float  # share of the time in the air
    rise: float  # amplitude of the trunk's vertical motion


# Hip flexion, knee flexion and foot pitch of a relaxed adult gait, in degrees, every tenth of a stride from heel
# strike. Round values, joined by a short Fourier series.
_CURVES = {
    "walk": np.radians(
        [
            [26, 24, 16, 7, -2, -10, -9, 8, 24, 29],
            [6, 17, 16, 9, 6, 12, 38, 60, 46, 14],
            [16, 0, 0, 0, -4, -22, -52, -46, -8, 14],
        ]
    ),
    "jog": np.radians(
        [
            [27, 20, 6, -9, -19, -14, 4, 23, 34, 34],
            [16, 38, 40, 27, 17, 38, 72, 84, 60, 25],
            [8, 1, 0, -10, -38, -66, -74, -50, -14, 8],
        ]
    ),
    "run": np.radians(
        [
            [30, 20, 1, -18, -25, -12, 16, 41, 50, 43],
            [19, 42, 38, 20, 18, 58, 100, 104, 68, 28],
            [5, 0, -4, -34, -60, -80, -88, -60, -16, 3],
        ]
    ),
}


def _periodic(knots: np.ndarray, phase: np.ndarray) -> np.ndarray:
    """Return the smooth periodic curve through evenly spaced knots (a short Fourier series)."""
    count = len(knots)
    waves = np.fft.rfft(knots) / count
    value = np.full(np.shape(phase), waves[0].real)
    for k in range(1, (count + 1) // 2):
        value = value + 2 * np.real(waves[k] * np.exp(2j * np.pi * k * phase))
    return value


def _gait_pose(
    gait: Walk,
    curves: np.ndarray,
    phase: np.ndarray,
    *,
    lead: float,
    forward: float,
    flexion: tuple[float, float],
    bob: float,
    curl: float,
) -> Pose:
    """Return legs after the curves of hip, knee and foot, half a stride apart, and arms opposite to the legs.

    `lead` is the arms' phase before the leg's, `forward` the middle of their swing, `flexion` the elbows' mean and
    amplitude as shares of the gait's own; `bob` is the trunk's nod with each step.
    """
    hips, knees, feet, shoulders, elbows = [], [], [], [], []
    for offset in (0.0, 0.5):
        own = phase + offset
        hip, knee, foot = (_periodic(curve, own) for curve in curves)
        hips.append(gait.hip * hip)
        knees.append(-gait.knee * knee)
        feet.append(gait.hip * foot)
        swing = np.cos(2 * np.pi * (own + lead))
        shoulders.append(-gait.arm * swing + forward)
        elbows.append(gait.elbow * (flexion[0] - flexion[1] * swing))
    nodding = bob * np.cos(4 * np.pi * phase)
    zero = np.zeros_like(phase)
    return Pose(
        lean=gait.lean + nodding, curl=zero + curl, nod=gait.nod - nodding, shoulder=left_right(*shoulders),
        elbow=left_right(*elbows), hip=left_right(*hips), knee=left_right(*knees), foot=left_right(*feet), lift=zero,
        x=zero,
    )  # fmt: skip


def _gait_facts(cycle: Cycle, stride: float, flight: float) -> Gait:
    rate = FPS / cycle.period
    return Gait(rate, 2 * rate, stride, rate * stride, flight)


def sample_walk(rng: np.random.Generator) -> Walk:
    """Draw a walk, from a stroll to a brisk march."""
    return Walk(
        cycle=sample_cycle(rng, 21, 36),
        hip=rng.uniform(0.75, 1.2),
        knee=rng.uniform(0.8, 1.1),
        arm=rng.uniform(0.2, 0.6),
        elbow=rng.uniform(0.1, 0.6),
        lean=rng.uniform(0.0, 0.1),
        nod=rng.uniform(-0.05, 0.12),
    )


def _walk_angles(walk: Walk, phase: np.ndarray) -> Pose:
    return _gait_pose(
        walk, _CURVES["walk"], phase, lead=-0.02, forward=0.04, flexion=(0.75, 0.35), bob=0.015, curl=0.03
    )


def walk_distance(walk: Walk, body: BodyShape, phase: np.ndarray) -> np.ndarray:
    """Return the distance walked since phase 0, in statures, with little sliding of the standing foot.

    At each moment the body moves forward as fast as the lowest point of the soles moves backward under it.
    """
    grid = np.linspace(0.0, 1.0, 129)
    soles = sole_offsets(body, _walk_angles(walk, grid), "side")
    weight = np.exp((soles[..., 1] - soles[..., 1].max(1, keepdims=True)) / 0.006)
    speed = -np.gradient(soles[..., 0], grid, axis=0)
    forward = (weight * speed).sum(1) / weight.sum(1)
    # The trunk's inertia smooths the motion of the feet: half of the variation becomes a small slide.
    forward = 0.5 * forward + 0.5 * forward[:-1].mean()
    steps = 0.5 * (forward[1:] + forward[:-1]) / 128
    distance = np.concatenate([[0.0], np.cumsum(steps)])
    whole = np.floor(phase)
    return whole * distance[-1] + np.interp(phase - whole, grid, distance)


def walk_pose(walk: Walk, body: BodyShape, times: np.ndarray) -> Pose:
    """Return the poses of walking (side view); `x` is 0 at time 0."""
    phase = walk.cycle.phase(times)
    start = walk.cycle.phase(np.zeros(1))
    x = walk_distance(walk, body, phase) - walk_distance(walk, body, start)
    return replace(_walk_angles(walk, phase), x=x)


def walk_gait(walk: Walk, body: BodyShape) -> Gait:
    """Return the parameters of a walk."""
    return _gait_facts(walk.cycle, float(walk_distance(walk, body, np.ones(1))[0]), 0.0)


def sample_run(rng: np.random.Generator, kind: str) -> Run:
    """Draw a way of jogging or running, `kind` being `jog` or `run`."""
    jog = kind == "jog"
    slow, fast = (2.5, 2.75) if jog else (2.75, 3.2)  # steps per second
    return Run(
        kind=kind,
        cycle=sample_cycle(rng, 2 * FPS / fast, 2 * FPS / slow),
        hip=rng.uniform(0.86, 1.1),
        knee=rng.uniform(0.88, 1.1),
        arm=rng.uniform(0.3, 0.55) if jog else rng.uniform(0.45, 0.85),
        elbow=rng.uniform(1.2, 1.85),
        lean=rng.uniform(0.03, 0.13) if jog else rng.uniform(0.06, 0.22),
        nod=rng.uniform(-0.12, 0.06),
        flight=rng.uniform(0.14, 0.22) if jog else rng.uniform(0.28, 0.38),
        rise=rng.uniform(0.015, 0.022),
    )


def _run_angles(run: Run, phase: np.ndarray) -> Pose:
    return _gait_pose(
        run, _CURVES[run.kind], phase, lead=0.08, forward=-0.35, flexion=(1.0, 0.16), bob=0.02, curl=0.05
    )


def _flight_height(run: Run, phase: np.ndarray) -> np.ndarray:
    """Return the trunk's vertical motion, in statures: highest in the middle of each flight."""
    stance = 0.5 - 0.5 * run.flight
    return run.rise * np.cos(4 * np.pi * (phase - 0.5 * (stance + 0.5)))


def _run_level_and_stride(run: Run, body: BodyShape) -> tuple[float, float]:
    """Return the mean height of the trunk's motion over the floor, and the length of a stride; in statures.

    Where the trunk is higher than the legs reach, no foot is on the floor; the level is such that this holds for the
    share `flight` of the time. The stride is as long as the standing foot's speed makes it, for an even trunk speed.
    """
    grid = np.arange(256) / 256
    soles = sole_offsets(body, _run_angles(run, grid), "side")
    reach = soles[..., 1].max(1)
    level = float(np.quantile(reach - _flight_height(run, grid), run.flight))
    height = np.maximum(reach, level + _flight_height(run, grid))
    weight = np.exp((soles[..., 1] - height[:, None]) / 0.003)
    speed = -(np.roll(soles[..., 0], -1, 0) - np.roll(soles[..., 0], 1, 0)) * 128
    return level, float((weight * speed).sum() / weight.sum())


def run_pose(run: Run, body: BodyShape, times: np.ndarray) -> Pose:
    """Return the poses of jogging or running (side view); `x` is 0 at time 0."""
    phase = run.cycle.phase(times)
    pose = _run_angles(run, phase)
    level, stride = _run_level_and_stride(run, body)
    reach = smooth_max(sole_offsets(body, pose, "side")[..., 1])
    lift = smooth_max(np.stack([reach, level + _flight_height(run, phase)], -1), 0.002) - reach
    return replace(pose, lift=lift, x=stride * (phase - run.cycle.phase(np.zeros(1))))


def run_gait(run: Run, body: BodyShape) -> Gait:
    """Return the parameters of a run."""
    return _gait_facts(run.cycle, _run_level_and_stride(run, body)[1], run.flight)
