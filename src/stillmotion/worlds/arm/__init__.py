"""Arm: a jointed robot arm pushes coloured things about a bin, seen from above, with exact truth.

Made after the robot-push videos that motion strokes were shown on (Finn et al. 2016; Hu et al., ICPR 2020). A
description (`Push`) is drawn first and knows no picture size; `render` runs the physics and paints it.
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from stillmotion.data.clip import Clip
from stillmotion.errors import StillmotionError
from stillmotion.worlds.arm.render import FPS, Push, render, run
from stillmotion.worlds.arm.robot import sample_plan, sample_robot, sample_start
from stillmotion.worlds.arm.scene import sample_bin, sample_scene
from stillmotion.worlds.arm.things import sample_things

__all__ = ["FPS", "Push", "describe", "render", "run", "sample", "to_clip"]


def describe(rng: np.random.Generator) -> Push:
    """Draw a bin, an arm, things and a plan."""
    half = sample_bin(rng)
    scene, robot = sample_scene(rng, half), sample_robot(rng, half)
    start = sample_start(rng, robot, half)
    things = sample_things(rng, half, robot.body(), start)
    places = np.array([thing.pose[:2] for thing in things]).reshape(-1, 2)
    return Push(scene, robot, sample_plan(rng, start, places, half), things)


def to_clip(push: Push, size: int, frames: int, name: str = "arm") -> Clip:
    """Run and paint a description and wrap it up as a clip."""
    if not 16 <= size <= 1024:
        raise StillmotionError(f"The size of an arm clip must be 16 to 1024 pixels, not {size}.")
    if frames < 1:
        raise StillmotionError(f"A clip needs at least 1 frame, not {frames}.")
    video, tracks = render(push, size, frames)
    meta = {"world": "arm", "things": [thing.kind for thing in push.things], "description": asdict(push)}
    return Clip(name, video, FPS, tracks, meta)


def sample(rng: np.random.Generator, *, size: int = 64, frames: int = 32, action: str | None = None) -> Clip:
    """Make one clip of an arm at work.

    Args:
        rng: the only source of randomness.
        size: height and width in pixels, 16 to 1024.
        frames: number of frames, at 10 per second.
        action: must be None; what the arm does has no name.

    Returns:
        A clip with the tracks `gripper`, `box`, `points`, `poses`, `mask`, `flow_forward` and `flow_backward`; see
        `render`. The kinds of things, in the order of `poses`, are in `meta["things"]`.

    Raises:
        StillmotionError: an action was named, or the size or number of frames is out of range.
    """
    if action is not None:
        raise StillmotionError(f"The arm knows no action {action!r}; leave the action out.")
    return to_clip(describe(rng), size, frames)
