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
from stillmotion.worlds.puppets.clock import FPS, Clock, ease, pair, sample_clock, zeros
from stillmotion.worlds.puppets.gaits import (
    Gait,
    Walk,
    run_gait,
    run_pose,
    sample_run,
    sample_walk,
    walk_gait,
    walk_pose,
    walked,
)
from stillmotion.worlds.puppets.skeleton import Figure, Pose, leg_reach
from stillmotion.worlds.puppets.sports import (
    Thing,
    sample_squat,
    sample_swing,
    sample_throw,
    squat_pose,
    swing_pose,
    swing_thing,
    throw_pose,
    throw_thing,
)

__all__ = ["ACTIONS", "FPS", "Action", "Bend", "Clock", "Jack", "Walk", "Wave", "walked"]


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


def sample_wave(rng: np.random.Generator, both: bool) -> Wave:
    """Draw a way of waving with one arm or with both."""
    side = int(rng.integers(2))
    style = "forearm" if rng.random() < (0.2 if both else 0.3) else "sweep"
    if style == "sweep":
        low, high = rng.uniform(1.1, 1.8), rng.uniform(2.45, 3.0)
        bend_low, bend_high = rng.uniform(-0.1, 0.25), rng.uniform(0.15, 1.3) * (3.25 - high) / 0.6
        clock = sample_clock(rng, 20, 46)
    else:
        # The upper arm stays nearly level, the forearm swings about the upright.
        low, high = rng.uniform(1.2, 1.7), 0.0
        high = low + rng.uniform(0.02, 0.15)
        upright = np.pi - low
        bend_low, bend_high = upright - rng.uniform(0.35, 0.8), upright + rng.uniform(0.2, 0.7)
        clock = sample_clock(rng, 13, 28)
    return Wave(
        clock=clock,
        arms=(1.0, 1.0) if both else (float(side == 0), float(side == 1)),
        style=style,
        low=float(low),
        high=float(high),
        bend_low=float(bend_low),
        bend_high=float(bend_high),
        lag=rng.normal(0, 0.02),
        rest=rng.uniform(0.06, 0.2),
        rest_bend=rng.uniform(-0.08, 0.02),
        stance=rng.uniform(0.0, 0.12),
        sway=rng.uniform(0, 0.02),
    )


def wave_pose(wave: Wave, body: Body, times: np.ndarray) -> Pose:
    """Return the poses of waving (front view)."""
    phase = wave.clock.phase(times)
    still = zeros(times)
    shoulders, elbows = [], []
    for side in (0, 1):
        swing = ease(phase + side * wave.lag, 0.25)
        # The forearm folds late in the upswing, as a relaxed arm does.
        fold = swing**1.5 if wave.style == "sweep" else swing
        moving = wave.arms[side]
        shoulders.append(moving * (wave.low + (wave.high - wave.low) * swing) + (1 - moving) * wave.rest)
        elbows.append(
            moving * (wave.bend_low + (wave.bend_high - wave.bend_low) * fold) + (1 - moving) * wave.rest_bend
        )
    sway = wave.sway * np.sin(2 * np.pi * phase)
    legs = pair(still + wave.stance, still + wave.stance)
    return Pose(
        lean=sway, curl=still, nod=-0.5 * sway, shoulder=pair(*shoulders), elbow=pair(*elbows),
        hip=legs, knee=-0.3 * legs, foot=0 * legs, lift=still, x=-0.2 * sway,
    )  # fmt: skip


def sample_jack(rng: np.random.Generator) -> Jack:
    """Draw a way of doing jumping jacks."""
    high = rng.uniform(2.55, 3.05)
    return Jack(
        clock=sample_clock(rng, 22, 38),
        low=rng.uniform(0.08, 0.35),
        high=high,
        bend=float(rng.uniform(0.0, 0.7) * (3.3 - high) / 0.5),
        closed=rng.uniform(0.0, 0.06),
        open=rng.uniform(0.26, 0.5),
        hop=rng.uniform(0.02, 0.06),
        lead=rng.uniform(-0.06, 0.06),
        sharp=rng.uniform(0.0, 0.5),
    )


def jack_pose(jack: Jack, body: Body, times: np.ndarray) -> Pose:
    """Return the poses of jumping jacks (front view)."""
    phase = jack.clock.phase(times)
    still = zeros(times)
    arms, legs = ease(phase + jack.lead, jack.sharp), ease(phase, jack.sharp)
    shoulder = jack.low + (jack.high - jack.low) * arms
    hip = jack.closed + (jack.open - jack.closed) * legs
    elbow = jack.bend * arms**2 + 0.1 * (1 - arms)
    return Pose(
        lean=still, curl=still, nod=still, shoulder=pair(shoulder, shoulder), elbow=pair(elbow, elbow),
        hip=pair(hip, hip), knee=-0.12 * pair(hip, hip), foot=-0.4 * pair(hip, hip),
        lift=jack.hop * np.sin(2 * np.pi * phase) ** 2, x=still,
    )  # fmt: skip


def sample_bend(rng: np.random.Generator) -> Bend:
    """Draw a way of bending down."""
    deep = rng.uniform(0.75, 1.1)
    return Bend(
        clock=sample_clock(rng, 44, 76),
        lean=rng.uniform(0.85, 1.15) * deep,
        curl=rng.uniform(0.5, 0.95) * deep,
        knee=float(rng.choice([rng.uniform(0.05, 0.3), rng.uniform(0.3, 0.8)], p=[0.7, 0.3])),
        reach=rng.uniform(-0.15, 0.5),
        elbow=rng.uniform(0.0, 0.4),
        nod=rng.uniform(-0.5, 0.1),
        hold=rng.uniform(0.2, 0.6),
        rest=rng.uniform(-0.1, 0.1),
        arm_lag=rng.uniform(-0.02, 0.03),
    )


def bend_pose(bend: Bend, body: Body, times: np.ndarray) -> Pose:
    """Return the poses of bending (side view); the ankles stay where they are."""
    phase = bend.clock.phase(times)
    still = zeros(times)
    down = ease(phase, bend.hold)
    reaching = ease(phase - bend.arm_lag, bend.hold)
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
        shoulder=pair(*shoulders), elbow=pair(*elbows), hip=pair(hip + 0.02, hip - 0.02),
        knee=pair(knee, knee), foot=pair(still, still), lift=still, x=still,
    )  # fmt: skip
    planted = -leg_reach(body, pose)[..., 0].mean(-1)
    return replace(pose, x=planted)


@dataclass(frozen=True)
class Action:
    """How an action is seen (`view`: `front` or `side`), drawn (`sample`) and turned into angles (`pose`).

    A gait, which takes the person somewhere, also has `gait`: the facts about it. `thing` says where the person's
    club or ball is. A back that bends is drawn in several `slices`.
    """

    view: str
    sample: Callable[[np.random.Generator], Any]
    pose: Callable[[Any, Body, np.ndarray], Pose]
    gait: Callable[[Any, Body], Gait] | None = None
    thing: Callable[[Any, Body, Figure, np.ndarray], Thing] | None = None
    slices: int = 1


ACTIONS: dict[str, Action] = {
    "wave1": Action("front", lambda rng: sample_wave(rng, both=False), wave_pose),
    "wave2": Action("front", lambda rng: sample_wave(rng, both=True), wave_pose),
    "jack": Action("front", sample_jack, jack_pose),
    "bend": Action("side", sample_bend, bend_pose, slices=7),
    "walk": Action("side", sample_walk, walk_pose, walk_gait),
    "jog": Action("side", lambda rng: sample_run(rng, "jog"), run_pose, run_gait),
    "run": Action("side", lambda rng: sample_run(rng, "run"), run_pose, run_gait),
    "squat": Action("side", sample_squat, squat_pose, slices=3),
    "swing": Action("front", sample_swing, swing_pose, thing=swing_thing),
    "throw": Action("side", sample_throw, throw_pose, thing=throw_thing, slices=3),
}
