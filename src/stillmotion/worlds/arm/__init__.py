"""Arm: a jointed robot arm pushes coloured objects about a bin, seen from above.

Modelled on the robot-push videos used for motion strokes (Finn et al. 2016; Hu et al., ICPR 2020). A description
(`Push`) is drawn first and is independent of the picture's size; `render` runs the physics and renders it.
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from stillmotion.data.clip import Clip
from stillmotion.worlds.arm.objects import sample_objects
from stillmotion.worlds.arm.render import FPS, Push, render, run
from stillmotion.worlds.arm.robot import sample_robot, sample_start, sample_trajectory
from stillmotion.worlds.arm.scene import sample_bin, sample_scene
from stillmotion.worlds.validation import check_clip

__all__ = ["FPS", "Push", "render", "run", "sample", "sample_description"]


def sample_description(rng: np.random.Generator) -> Push:
    """Draw a bin, an arm, objects and a trajectory."""
    half = sample_bin(rng)
    scene, robot = sample_scene(rng, half), sample_robot(rng, half)
    start = sample_start(rng, robot, half)
    objects = sample_objects(rng, half, robot.gripper_body(), start)
    places = np.array([item.pose[:2] for item in objects]).reshape(-1, 2)
    return Push(scene, robot, sample_trajectory(rng, start, places, half), objects)


def sample(rng: np.random.Generator, *, size: int = 64, frames: int = 32, action: str | None = None) -> Clip:
    """Make one clip of an arm that pushes objects, as `worlds.sample_clip` says, at 10 frames per second.

    Returns:
        A clip with the tracks of `render`. `meta["things"]` are the kinds of objects, in the order of `poses`.
    """
    check_clip("arm", size, frames, action)
    push = sample_description(rng)
    video, tracks = render(push, size, frames)
    meta = {"world": "arm", "things": [item.kind for item in push.objects], "description": asdict(push)}
    return Clip("arm", video, FPS, tracks, meta)
