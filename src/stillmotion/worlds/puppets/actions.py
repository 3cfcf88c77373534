"""Actions: each is a frozen set of parameters and a pure function from times to joint angles.

To add an action, write one dataclass, one function that draws it, one that returns its `Pose` at given times, and a
row in `ACTIONS`. Times are frames (25 per second) and need not be whole numbers. Angles are in radians.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stillmotion.worlds.puppets.body_shape import BodyShape
from stillmotion.worlds.puppets.gaits import Gait, run_gait, run_pose, sample_run, sample_walk, walk_gait, walk_pose
from stillmotion.worlds.puppets.held_objects import HeldObject
from stillmotion.worlds.puppets.skeleton import Figure, Pose, ankle_offsets
from stillmotion.worlds.puppets.sports import (
    sample_squat,
    sample_swing,
    sample_throw,
    squat_pose,
    swing_club,
    swing_pose,
    throw_ball,
    throw_pose,
)
from stillmotion.worlds.puppets.timing import Cycle, left_right, raised_cosine, sample_cycle


@dataclass(frozen=True)
class Wave:
    """Waving."""

    cycle: Cycle
    arms: tuple[float, float]  # (left, right), 1 for one that waves
    style: str  # `sweep` (whole arm) or `forearm`
    low: float  # lowest shoulder angle
    high: float  # highest shoulder angle
    bend_low: float  # elbow angle at `low`
    bend_high: float  # elbow angle at `high`
    lag: float  # phase between the arms
    rest: float  # shoulder angle of an arm at rest
    rest_bend: float  # its elbow angle
    stance: float  # hip angle
    sway: float  # amplitude of the trunk's sway


@dataclass(frozen=True)
class Jack:
    """Jumping jacks."""

    cycle: Cycle
    low: float  # lowest shoulder angle
    high: float  # highest shoulder angle
    bend: float  # elbow angle at `high`
    closed: float  # smallest hip angle
    open: float  # largest hip angle
    hop: float  # height of the two hops per cycle, in statures
    lead: float  # phase of the arms before the legs
    hold: float  # how long both ends last, 0 to 1


@dataclass(frozen=True)
class Bend:
    """Bending forward and up again."""

    cycle: Cycle
    lean: float  # largest angle of the pelvis
    curl: float  # largest angle of the back
    knee: float  # largest knee flexion
    reach: float  # shoulder angle at the lowest point
    elbow: float  # elbow angle at the lowest point
    nod: float  # head angle at the lowest point
    hold: float  # how long both ends last, 0 to 1
    rest: float  # shoulder angle when upright
    arm_lag: float  # phase of the arms behind the trunk


def sample_wave(rng: np.random.Generator, both: bool) -> Wave:
    """Draw a way of waving with one arm or with both."""
    side = int(rng.integers(2))
    style = "forearm" if rng.random() < (0.2 if both else 0.3) else "sweep"
    if style == "sweep":
        low, high = rng.uniform(1.1, 1.8), rng.uniform(2.45, 3.0)
        bend_low, bend_high = rng.uniform(-0.1, 0.25), rng.uniform(0.15, 1.3) * (3.25 - high) / 0.6
        cycle = sample_cycle(rng, 20, 46)
    else:
        # The upper arm stays nearly level, the forearm swings about the upright.
        low = rng.uniform(1.2, 1.7)
        high = low + rng.uniform(0.02, 0.15)
        upright = np.pi - low
        bend_low, bend_high = upright - rng.uniform(0.35, 0.8), upright + rng.uniform(0.2, 0.7)
        cycle = sample_cycle(rng, 13, 28)
    return Wave(
        cycle=cycle,
        arms=(1.0, 1.0) if both else (float(side == 0), float(side == 1)),
        style=style,
        low=low,
        high=high,
        bend_low=bend_low,
        bend_high=bend_high,
        lag=rng.normal(0, 0.02),
        rest=rng.uniform(0.06, 0.2),
        rest_bend=rng.uniform(-0.08, 0.02),
        stance=rng.uniform(0.0, 0.12),
        sway=rng.uniform(0, 0.02),
    )


def wave_pose(wave: Wave, body: BodyShape, times: np.ndarray) -> Pose:
    """Return the poses of waving (front view)."""
    phase, zero = wave.cycle.phase(times), np.zeros(len(times))
    shoulders, elbows = [], []
    for side in (0, 1):
        swing = raised_cosine(phase + side * wave.lag, 0.25)
        # The forearm folds late in the upswing, as a relaxed arm does.
        fold = swing**1.5 if wave.style == "sweep" else swing
        on = wave.arms[side]
        shoulders.append(on * (wave.low + (wave.high - wave.low) * swing) + (1 - on) * wave.rest)
        elbows.append(on * (wave.bend_low + (wave.bend_high - wave.bend_low) * fold) + (1 - on) * wave.rest_bend)
    sway = wave.sway * np.sin(2 * np.pi * phase)
    legs = left_right(zero + wave.stance, zero + wave.stance)
    return Pose(
        lean=sway, curl=zero, nod=-0.5 * sway, shoulder=left_right(*shoulders), elbow=left_right(*elbows), hip=legs,
        knee=-0.3 * legs, foot=0 * legs, lift=zero, x=-0.2 * sway,
    )  # fmt: skip


def sample_jack(rng: np.random.Generator) -> Jack:
    """Draw a way of doing jumping jacks."""
    high = rng.uniform(2.55, 3.05)
    return Jack(
        cycle=sample_cycle(rng, 22, 38),
        low=rng.uniform(0.08, 0.35),
        high=high,
        bend=rng.uniform(0.0, 0.7) * (3.3 - high) / 0.5,
        closed=rng.uniform(0.0, 0.06),
        open=rng.uniform(0.26, 0.5),
        hop=rng.uniform(0.02, 0.06),
        lead=rng.uniform(-0.06, 0.06),
        hold=rng.uniform(0.0, 0.5),
    )


def jack_pose(jack: Jack, body: BodyShape, times: np.ndarray) -> Pose:
    """Return the poses of jumping jacks (front view)."""
    phase, zero = jack.cycle.phase(times), np.zeros(len(times))
    arms, legs = raised_cosine(phase + jack.lead, jack.hold), raised_cosine(phase, jack.hold)
    shoulder = jack.low + (jack.high - jack.low) * arms
    hip = jack.closed + (jack.open - jack.closed) * legs
    elbow, hips = jack.bend * arms**2 + 0.1 * (1 - arms), left_right(hip, hip)
    return Pose(
        lean=zero, curl=zero, nod=zero, shoulder=left_right(shoulder, shoulder), elbow=left_right(elbow, elbow),
        hip=hips, knee=-0.12 * hips, foot=-0.4 * hips, lift=jack.hop * np.sin(2 * np.pi * phase) ** 2, x=zero,
    )  # fmt: skip


def sample_bend(rng: np.random.Generator) -> Bend:
    """Draw a way of bending down."""
    depth = rng.uniform(0.75, 1.1)
    return Bend(
        cycle=sample_cycle(rng, 44, 76),
        lean=rng.uniform(0.85, 1.15) * depth,
        curl=rng.uniform(0.5, 0.95) * depth,
        knee=float(rng.choice([rng.uniform(0.05, 0.3), rng.uniform(0.3, 0.8)], p=[0.7, 0.3])),
        reach=rng.uniform(-0.15, 0.5),
        elbow=rng.uniform(0.0, 0.4),
        nod=rng.uniform(-0.5, 0.1),
        hold=rng.uniform(0.2, 0.6),
        rest=rng.uniform(-0.1, 0.1),
        arm_lag=rng.uniform(-0.02, 0.03),
    )


def bend_pose(bend: Bend, body: BodyShape, times: np.ndarray) -> Pose:
    """Return the poses of bending (side view); the ankles stay in place."""
    phase, zero = bend.cycle.phase(times), np.zeros(len(times))
    down, reaching = raised_cosine(phase, bend.hold), raised_cosine(phase - bend.arm_lag, bend.hold)
    # The seat moves back as the chest moves forward, to stay balanced.
    hip = 0.16 * down * bend.lean + 0.5 * bend.knee * down
    knee = -bend.knee * down
    shoulders, elbows = [], []
    for own in (-0.04, 0.04):
        shoulders.append(bend.rest + own + (bend.reach - bend.rest) * reaching)
        elbows.append(0.15 + own + (bend.elbow - 0.15) * reaching)
    pose = Pose(
        lean=bend.lean * down, curl=0.05 + bend.curl * down, nod=bend.nod * down, shoulder=left_right(*shoulders),
        elbow=left_right(*elbows), hip=left_right(hip + 0.02, hip - 0.02), knee=left_right(knee, knee),
        foot=left_right(zero, zero), lift=zero, x=zero,
    )  # fmt: skip
    return replace(pose, x=-ankle_offsets(body, pose)[..., 0].mean(-1))


@dataclass(frozen=True)
class Action:
    """How an action is seen, drawn from random numbers and turned into joint angles."""

    view: str  # `front` or `side`
    sample: Callable[[np.random.Generator], Any]
    pose: Callable[[Any, BodyShape, np.ndarray], Pose]
    gait: Callable[[Any, BodyShape], Gait] | None = None  # the parameters of an action that moves the person along
    held: Callable[[Any, BodyShape, Figure, np.ndarray], HeldObject] | None = None
    slices: int = 1  # of the torso, for a back that bends


ACTIONS: dict[str, Action] = {
    "wave1": Action("front", lambda rng: sample_wave(rng, both=False), wave_pose),
    "wave2": Action("front", lambda rng: sample_wave(rng, both=True), wave_pose),
    "jack": Action("front", sample_jack, jack_pose),
    "bend": Action("side", sample_bend, bend_pose, slices=7),
    "walk": Action("side", sample_walk, walk_pose, walk_gait),
    "jog": Action("side", lambda rng: sample_run(rng, "jog"), run_pose, run_gait),
    "run": Action("side", lambda rng: sample_run(rng, "run"), run_pose, run_gait),
    "squat": Action("side", sample_squat, squat_pose, slices=3),
    "swing": Action("front", sample_swing, swing_pose, held=swing_club),
    "throw": Action("side", sample_throw, throw_pose, held=throw_ball, slices=3),
}
