"""Motion: each action is a frozen set of numbers and a pure function from times to joint angles.

To add an action, write one dataclass, one function that draws it, one that turns times into a `Pose`, and add
a row to `ACTIONS`. Times are frames (25 per second) and need not be whole numbers. Angles are in radians.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stillmotion.worlds.puppets.body import Body
from stillmotion.worlds.puppets.skeleton import Pose, leg_reach, sole_reach

FPS = 25.0


@dataclass(frozen=True)
class Clock:
    """When things happen: `period` in frames, `start` in periods, a slow `wobble` of the tempo in periods."""

    period: float
    start: float
    wobble: float
    wobble_period: float

    def phase(self, times: np.ndarray) -> np.ndarray:
        """Return the phase in periods, growing by about 1 every `period` frames."""
        drift = np.sin(2 * np.pi * (times / self.wobble_period + self.start))
        return times / self.period + self.start + self.wobble * drift


@dataclass(frozen=True)
class Wave:
    """Waving: `arms` is (left, right), 1 for one that waves; `style` is `sweep` (whole arm) or `forearm`."""

    clock: Clock
    arms: tuple[float, float]
    style: str
    low: float
    high: float
    bend_low: float
    bend_high: float
    lag: float
    rest: float
    rest_bend: float
    stance: float
    sway: float


@dataclass(frozen=True)
class Jack:
    """Jumping jacks: arms go from `low` to `high`, legs from `closed` to `open`, with two hops of `hop`."""

    clock: Clock
    low: float
    high: float
    bend: float
    closed: float
    open: float
    hop: float
    lead: float
    sharp: float


@dataclass(frozen=True)
class Bend:
    """Bending forward and up again: `lean` turns the pelvis, `curl` the back, `reach` is the arms' angle."""

    clock: Clock
    lean: float
    curl: float
    knee: float
    reach: float
    elbow: float
    nod: float
    hold: float
    rest: float
    arm_lag: float


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


def _zeros(times: np.ndarray) -> np.ndarray:
    return np.zeros_like(times, dtype=float)


def _pair(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.stack([left, right], axis=-1)


def _ease(phase: np.ndarray, sharp: float = 0.0) -> np.ndarray:
    """Return a wave from 0 (phase 0) to 1 (phase 0.5) and back; `sharp` > 0 lingers at the ends."""
    wave = np.cos(2 * np.pi * phase)
    bent = np.sin(0.5 * np.pi * wave)
    return 0.5 - 0.5 * ((1 - sharp) * wave + sharp * bent)


def _clock(rng: np.random.Generator, fastest: float, slowest: float) -> Clock:
    period = float(np.exp(rng.uniform(np.log(fastest), np.log(slowest))))
    return Clock(period, float(rng.random()), float(rng.uniform(0, 0.02)), float(rng.uniform(70, 160)))


def sample_wave(rng: np.random.Generator, both: bool) -> Wave:
    """Draw a way of waving with one arm or with both."""
    side = int(rng.integers(2))
    style = "forearm" if rng.random() < (0.2 if both else 0.3) else "sweep"
    if style == "sweep":
        low, high = rng.uniform(1.1, 1.8), rng.uniform(2.45, 3.0)
        bend_low, bend_high = rng.uniform(-0.1, 0.25), rng.uniform(0.15, 1.3) * (3.25 - high) / 0.6
        clock = _clock(rng, 20, 46)
    else:
        # The upper arm stays nearly level, the forearm swings about the upright.
        low, high = rng.uniform(1.2, 1.7), 0.0
        high = low + rng.uniform(0.02, 0.15)
        upright = np.pi - low
        bend_low, bend_high = upright - rng.uniform(0.35, 0.8), upright + rng.uniform(0.2, 0.7)
        clock = _clock(rng, 13, 28)
    return Wave(
        clock=clock,
        arms=(1.0, 1.0) if both else (float(side == 0), float(side == 1)),
        style=style,
        low=float(low),
        high=float(high),
        bend_low=float(bend_low),
        bend_high=float(bend_high),
        lag=float(rng.normal(0, 0.02)),
        rest=float(rng.uniform(0.06, 0.2)),
        rest_bend=float(rng.uniform(-0.08, 0.02)),
        stance=float(rng.uniform(0.0, 0.12)),
        sway=float(rng.uniform(0, 0.02)),
    )


def wave_pose(wave: Wave, body: Body, times: np.ndarray) -> Pose:
    """Return the poses of waving (front view)."""
    phase = wave.clock.phase(times)
    still = _zeros(times)
    shoulders, elbows = [], []
    for side in (0, 1):
        swing = _ease(phase + side * wave.lag, 0.25)
        # The forearm folds late in the upswing, as a relaxed arm does.
        fold = swing**1.5 if wave.style == "sweep" else swing
        moving = wave.arms[side]
        shoulders.append(moving * (wave.low + (wave.high - wave.low) * swing) + (1 - moving) * wave.rest)
        elbows.append(
            moving * (wave.bend_low + (wave.bend_high - wave.bend_low) * fold) + (1 - moving) * wave.rest_bend
        )
    sway = wave.sway * np.sin(2 * np.pi * phase)
    legs = _pair(still + wave.stance, still + wave.stance)
    return Pose(
        lean=sway, curl=still, nod=-0.5 * sway, shoulder=_pair(*shoulders), elbow=_pair(*elbows),
        hip=legs, knee=-0.3 * legs, foot=0 * legs, lift=still, x=-0.2 * sway,
    )  # fmt: skip


def sample_jack(rng: np.random.Generator) -> Jack:
    """Draw a way of doing jumping jacks."""
    high = float(rng.uniform(2.55, 3.05))
    return Jack(
        clock=_clock(rng, 22, 38),
        low=float(rng.uniform(0.08, 0.35)),
        high=high,
        bend=float(rng.uniform(0.0, 0.7) * (3.3 - high) / 0.5),
        closed=float(rng.uniform(0.0, 0.06)),
        open=float(rng.uniform(0.26, 0.5)),
        hop=float(rng.uniform(0.02, 0.06)),
        lead=float(rng.uniform(-0.06, 0.06)),
        sharp=float(rng.uniform(0.0, 0.5)),
    )


def jack_pose(jack: Jack, body: Body, times: np.ndarray) -> Pose:
    """Return the poses of jumping jacks (front view)."""
    phase = jack.clock.phase(times)
    still = _zeros(times)
    arms, legs = _ease(phase + jack.lead, jack.sharp), _ease(phase, jack.sharp)
    shoulder = jack.low + (jack.high - jack.low) * arms
    hip = jack.closed + (jack.open - jack.closed) * legs
    elbow = jack.bend * arms**2 + 0.1 * (1 - arms)
    return Pose(
        lean=still, curl=still, nod=still, shoulder=_pair(shoulder, shoulder), elbow=_pair(elbow, elbow),
        hip=_pair(hip, hip), knee=-0.12 * _pair(hip, hip), foot=-0.4 * _pair(hip, hip),
        lift=jack.hop * np.sin(2 * np.pi * phase) ** 2, x=still,
    )  # fmt: skip


def sample_bend(rng: np.random.Generator) -> Bend:
    """Draw a way of bending down."""
    deep = float(rng.uniform(0.75, 1.1))
    return Bend(
        clock=_clock(rng, 44, 76),
        lean=float(rng.uniform(0.85, 1.15)) * deep,
        curl=float(rng.uniform(0.5, 0.95)) * deep,
        knee=float(rng.choice([rng.uniform(0.05, 0.3), rng.uniform(0.3, 0.8)], p=[0.7, 0.3])),
        reach=float(rng.uniform(-0.15, 0.5)),
        elbow=float(rng.uniform(0.0, 0.4)),
        nod=float(rng.uniform(-0.5, 0.1)),
        hold=float(rng.uniform(0.2, 0.6)),
        rest=float(rng.uniform(-0.1, 0.1)),
        arm_lag=float(rng.uniform(-0.02, 0.03)),
    )


def bend_pose(bend: Bend, body: Body, times: np.ndarray) -> Pose:
    """Return the poses of bending (side view); the ankles stay where they are."""
    phase = bend.clock.phase(times)
    still = _zeros(times)
    down = _ease(phase, bend.hold)
    reaching = _ease(phase - bend.arm_lag, bend.hold)
    # The seat goes back as the chest goes forward, else the figure would topple over.
    hip = 0.16 * down * bend.lean + 0.5 * bend.knee * down
    knee = -bend.knee * down
    shoulders, elbows = [], []
    for side in (0, 1):
        own = 0.08 * (side - 0.5)
        shoulders.append(bend.rest + own + (bend.reach - bend.rest) * reaching)
        elbows.append(0.15 + own + (bend.elbow - 0.15) * reaching)
    pose = Pose(
        lean=bend.lean * down, curl=0.05 + bend.curl * down, nod=bend.nod * down,
        shoulder=_pair(*shoulders), elbow=_pair(*elbows), hip=_pair(hip + 0.02, hip - 0.02),
        knee=_pair(knee, knee), foot=_pair(still, still), lift=still, x=still,
    )  # fmt: skip
    planted = -leg_reach(body, pose)[..., 0].mean(-1)
    return replace(pose, x=planted)


# Angles of a relaxed adult gait, in degrees, every tenth of a stride from heel strike: the thigh's lean
# forward, the knee's bend, the toes' rise. Round values, joined by a short Fourier series.
_HIP = np.radians([26, 24, 16, 7, -2, -10, -9, 8, 24, 29])
_KNEE = np.radians([6, 17, 16, 9, 6, 12, 38, 60, 46, 14])
_FOOT = np.radians([16, 0, 0, 0, -4, -22, -52, -46, -8, 14])


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
        clock=_clock(rng, 21, 36),
        hip=float(rng.uniform(0.75, 1.2)),
        knee=float(rng.uniform(0.8, 1.1)),
        arm=float(rng.uniform(0.2, 0.6)),
        elbow=float(rng.uniform(0.1, 0.6)),
        lean=float(rng.uniform(0.0, 0.1)),
        nod=float(rng.uniform(-0.05, 0.12)),
    )


def _walk_angles(walk: Walk, phase: np.ndarray) -> Pose:
    hips, knees, feet, shoulders, elbows = [], [], [], [], []
    for offset in (0.0, 0.5):
        own = phase + offset
        hips.append(walk.hip * _periodic(_HIP, own))
        knees.append(-walk.knee * _periodic(_KNEE, own))
        feet.append(walk.hip * _periodic(_FOOT, own))
        # Arms swing against the leg of the same side.
        swing = np.cos(2 * np.pi * (own - 0.02))
        shoulders.append(-walk.arm * swing + 0.04)
        elbows.append(walk.elbow * (0.75 - 0.35 * swing))
    bob = 0.015 * np.cos(4 * np.pi * phase)
    flat = np.zeros_like(phase)
    return Pose(
        lean=walk.lean + bob, curl=flat + 0.03, nod=walk.nod - bob,
        shoulder=_pair(*shoulders), elbow=_pair(*elbows), hip=_pair(*hips),
        knee=_pair(*knees), foot=_pair(*feet), lift=flat, x=flat,
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


@dataclass(frozen=True)
class Action:
    """How an action is seen (`view`: `front` or `side`), drawn (`sample`) and turned into angles (`pose`)."""

    view: str
    sample: Callable[[np.random.Generator], Any]
    pose: Callable[[Any, Body, np.ndarray], Pose]


ACTIONS: dict[str, Action] = {
    "wave1": Action("front", lambda rng: sample_wave(rng, both=False), wave_pose),
    "wave2": Action("front", lambda rng: sample_wave(rng, both=True), wave_pose),
    "jack": Action("front", sample_jack, jack_pose),
    "bend": Action("side", sample_bend, bend_pose),
    "walk": Action("side", sample_walk, walk_pose),
}
