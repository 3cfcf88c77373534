"""Gaits: walking, jogging and running from joint-angle curves.

| | walk | jog | run |
| --- | --- | --- | --- |
| steps per second | 1.4 to 2.4 | 2.5 to 2.75 | 2.75 to 3.2 |
| share of a stride that one foot stands | 0.6 | 0.39 to 0.43 | 0.31 to 0.36 |
| both feet in the air, share of a stride | never | 0.14 to 0.22 | 0.28 to 0.38 |
| knee's bend while standing, while swinging | 17, 60 degrees | 40, 85 | 43, 105 |

The curves are round values set by hand to have the known features of each gait, not measured data: toe-off at about
62 % of the stride in walking, 39 % and 36 % in slow and fast running, a knee that bends to about 60, 90 and 105
degrees or more, elbows bent to a right angle in running. For measured curves see D. A. Winter, "Biomechanics and
Motor Control of Human Movement" (2009) on walking, and T. F. Novacheck, "The biomechanics of running", Gait &
Posture 7 (1998). Common steps per second: 1.9 in walking, 2.5 to 2.8 in running at an even pace. Nothing sets the
length of a stride: it follows from how far the standing foot sweeps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stillmotion.worlds.puppets.body import Body
from stillmotion.worlds.puppets.clock import FPS, Clock, pair, sample_clock
from stillmotion.worlds.puppets.skeleton import Pose, smooth_max, sole_reach


@dataclass(frozen=True)
class Gait:
    """What can be read off a gait.

    Attributes:
        stride_hz: strides of two steps per second.
        cadence_hz: steps per second.
        stride_length: over the ground, in body heights.
        speed: over the ground, in body heights per second.
        flight: share of the time without a foot on the floor.
    """

    stride_hz: float
    cadence_hz: float
    stride_length: float
    speed: float
    flight: float


@dataclass(frozen=True)
class Walk:
    """Walking: a factor on each of the measured gait curves, and the arms' swing."""

    clock: Clock
    hip: float
    knee: float
    arm: float
    elbow: float
    lean: float
    nod: float


@dataclass(frozen=True)
class Run:
    """Jogging or running (`kind`): factors on the gait's curves, and the arms' swing.

    `flight` is the share of the time in the air, `rise` the height of the trunk's swing up and down, in statures.
    """

    kind: str
    clock: Clock
    hip: float
    knee: float
    arm: float
    elbow: float
    lean: float
    nod: float
    flight: float
    rise: float


# Angles of a relaxed adult gait, in degrees, every tenth of a stride from heel strike: the thigh's lean
# forward, the knee's bend, the toes' rise. Round values, joined by a short Fourier series.
_HIP = np.radians([26, 24, 16, 7, -2, -10, -9, 8, 24, 29])
_KNEE = np.radians([6, 17, 16, 9, 6, 12, 38, 60, 46, 14])
_FOOT = np.radians([16, 0, 0, 0, -4, -22, -52, -46, -8, 14])
_RUNNING = {
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


def sample_walk(rng: np.random.Generator) -> Walk:
    """Draw a gait, from a stroll to a brisk march."""
    return Walk(
        clock=sample_clock(rng, 21, 36),
        hip=rng.uniform(0.75, 1.2),
        knee=rng.uniform(0.8, 1.1),
        arm=rng.uniform(0.2, 0.6),
        elbow=rng.uniform(0.1, 0.6),
        lean=rng.uniform(0.0, 0.1),
        nod=rng.uniform(-0.05, 0.12),
    )


def _walk_angles(walk: Walk, phase: np.ndarray) -> Pose:
    curves = (_HIP, _KNEE, _FOOT)
    return _in_step(walk, curves, phase, lead=-0.02, forward=0.04, bent=(0.75, 0.35), bob=0.015, curl=0.03)


def _in_step(
    gait: Walk | Run,
    curves: tuple[np.ndarray, ...] | np.ndarray,
    phase: np.ndarray,
    *,
    lead: float,
    forward: float,
    bent: tuple[float, float],
    bob: float,
    curl: float,
) -> Pose:
    """Legs after the curves of hip, knee and foot, half a stride apart; arms swing against the leg of the same side.

    `lead` is the arms' phase before the leg's, `forward` the middle of their swing, `bent` how far elbows are
    bent and how much that changes, as shares of the gait's own; `bob` how far the trunk nods with each step.
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
        elbows.append(gait.elbow * (bent[0] - bent[1] * swing))
    nodding = bob * np.cos(4 * np.pi * phase)
    flat = np.zeros_like(phase)
    return Pose(
        lean=gait.lean + nodding, curl=flat + curl, nod=gait.nod - nodding,
        shoulder=pair(*shoulders), elbow=pair(*elbows), hip=pair(*hips),
        knee=pair(*knees), foot=pair(*feet), lift=flat, x=flat,
    )  # fmt: skip


def walked(walk: Walk, body: Body, phase: np.ndarray) -> np.ndarray:
    """Return the distance walked since phase 0, in statures, so that the standing foot hardly slides.

    At each moment the body moves forward as fast as the lowest point of the soles moves backward under it.
    """
    grid = np.linspace(0.0, 1.0, 129)
    soles = sole_reach(body, _walk_angles(walk, grid), "side")
    carrying = np.exp((soles[..., 1] - soles[..., 1].max(1, keepdims=True)) / 0.006)
    speed = -np.gradient(soles[..., 0], grid, axis=0)
    forward = (carrying * speed).sum(1) / carrying.sum(1)
    # A trunk is too heavy to follow every jerk of the feet: half of that goes into a hardly visible slide.
    forward = 0.5 * forward + 0.5 * forward[:-1].mean()
    steps = 0.5 * (forward[1:] + forward[:-1]) / 128
    distance = np.concatenate([[0.0], np.cumsum(steps)])
    whole = np.floor(phase)
    return whole * distance[-1] + np.interp(phase - whole, grid, distance)


def walk_pose(walk: Walk, body: Body, times: np.ndarray) -> Pose:
    """Return the poses of walking (side view); `x` is 0 at time 0."""
    phase = walk.clock.phase(times)
    start = walk.clock.phase(np.zeros(1))
    pose = _walk_angles(walk, phase)
    return replace(pose, x=walked(walk, body, phase) - walked(walk, body, start))


def walk_gait(walk: Walk, body: Body) -> Gait:
    """Return the facts of a walk, at its mean tempo."""
    return _facts(walk.clock, float(walked(walk, body, np.ones(1))[0]), 0.0)


def _facts(clock: Clock, stride: float, flight: float) -> Gait:
    rate = FPS / clock.period
    return Gait(rate, 2 * rate, stride, rate * stride, flight)


def sample_run(rng: np.random.Generator, kind: str) -> Run:
    """Draw a way of jogging or running, `kind` being `jog` or `run`."""
    jog = kind == "jog"
    clock = (
        sample_clock(rng, 2 * FPS / 2.75, 2 * FPS / 2.5) if jog else sample_clock(rng, 2 * FPS / 3.2, 2 * FPS / 2.75)
    )
    return Run(
        kind=kind,
        clock=clock,
        hip=rng.uniform(0.86, 1.1),
        knee=rng.uniform(0.88, 1.1),
        arm=float(rng.uniform(0.3, 0.55) if jog else rng.uniform(0.45, 0.85)),
        elbow=rng.uniform(1.2, 1.85),
        lean=float(rng.uniform(0.03, 0.13) if jog else rng.uniform(0.06, 0.22)),
        nod=rng.uniform(-0.12, 0.06),
        flight=float(rng.uniform(0.14, 0.22) if jog else rng.uniform(0.28, 0.38)),
        rise=rng.uniform(0.015, 0.022),
    )


def _run_angles(run: Run, phase: np.ndarray) -> Pose:
    return _in_step(run, _RUNNING[run.kind], phase, lead=0.08, forward=-0.35, bent=(1.0, 0.16), bob=0.02, curl=0.05)


def _flown(run: Run, phase: np.ndarray) -> np.ndarray:
    """Return the trunk's rise and fall, in statures: highest in the middle of each flight."""
    stands = 0.5 - 0.5 * run.flight
    return run.rise * np.cos(4 * np.pi * (phase - 0.5 * (stands + 0.5)))


def _ran(run: Run, body: Body) -> tuple[float, float]:
    """Return how high the trunk's swing lies over the floor, and the length of a stride; in statures.

    The trunk swings up and down as a body that flies does. Where that is higher than the legs reach, no foot is on
    the floor; the swing is put as high as the share of flight asks for. The stride is as long as the standing foot's
    speed makes it, for a trunk that moves on evenly.
    """
    grid = np.arange(256) / 256
    soles = sole_reach(body, _run_angles(run, grid), "side")
    reach = soles[..., 1].max(1)
    level = float(np.quantile(reach - _flown(run, grid), run.flight))
    height = np.maximum(reach, level + _flown(run, grid))
    carrying = np.exp((soles[..., 1] - height[:, None]) / 0.003)
    speed = -(np.roll(soles[..., 0], -1, 0) - np.roll(soles[..., 0], 1, 0)) * 128
    return level, float((carrying * speed).sum() / carrying.sum())


def run_pose(run: Run, body: Body, times: np.ndarray) -> Pose:
    """Return the poses of jogging or running (side view); `x` is 0 at time 0."""
    phase = run.clock.phase(times)
    pose = _run_angles(run, phase)
    level, stride = _ran(run, body)
    reach = smooth_max(sole_reach(body, pose, "side")[..., 1])
    lift = smooth_max(np.stack([reach, level + _flown(run, phase)], -1), 0.002) - reach
    return replace(pose, lift=lift, x=stride * (phase - run.clock.phase(np.zeros(1))))


def run_gait(run: Run, body: Body) -> Gait:
    """Return the facts of a run, at its mean tempo."""
    return _facts(run.clock, _ran(run, body)[1], run.flight)
