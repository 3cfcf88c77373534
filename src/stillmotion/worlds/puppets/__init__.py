"""Puppets: clips of a two-dimensional articulated person, with exact ground truth.

A description (`Puppet`) is drawn first and is independent of the picture's size; `render` renders it at any size. So
the same generator state gives the same person, wall and motion at 64 and at 512 pixels.
"""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np

from stillmotion.data.clip import Clip
from stillmotion.data.pose import JOINTS
from stillmotion.errors import StillmotionError
from stillmotion.worlds.puppets.actions import ACTIONS
from stillmotion.worlds.puppets.appearance import sample_appearance
from stillmotion.worlds.puppets.body_shape import sample_body_shape
from stillmotion.worlds.puppets.render import Puppet, render
from stillmotion.worlds.puppets.scene import distant_scene, sample_scene
from stillmotion.worlds.puppets.timing import FPS
from stillmotion.worlds.validation import check_action, check_clip

__all__ = ["ACTIONS", "FPS", "JOINTS", "STAGINGS", "Puppet", "render", "sample", "sample_description"]


STAGINGS = ("far", "treadmill", "front")
"""Other ways to show people than the usual one.

`far`: figures of 0.34 to 0.46 picture heights who walk, jog or run before a static camera, instead of about two
thirds and a camera that pans along in half of the clips. `treadmill`: who walks, jogs or runs stays where they are
before a background that stands, as an animated still shows them. `front`: the same, and who walks, jogs, runs, bends
or squats is seen from the front.
"""

FROM_FRONT = ("walk", "jog", "run", "bend", "squat")
"""Actions of the side view that `front` turns."""


def sample_description(rng: np.random.Generator, action: str | None = None, staging: str = "") -> Puppet:
    """Draw a person, an appearance, a scene and a motion.

    Args:
        rng: the only source of randomness.
        action: a key of `ACTIONS`, or None to draw one (all equally likely).
        staging: one of `STAGINGS`, or empty for the usual one.

    Raises:
        StillmotionError: the action or the staging is unknown, or the action not a gait with `far`.
    """
    check_action("puppets", action, tuple(ACTIONS))
    if staging and staging not in STAGINGS:
        raise StillmotionError(f"The staging must be far, treadmill or front, not {staging!r}.")
    drawn = list(ACTIONS)[int(rng.integers(len(ACTIONS)))]
    chosen = action or drawn
    body, appearance, scene = sample_body_shape(rng), sample_appearance(rng), sample_scene(rng, chosen)
    if staging in ("treadmill", "front"):
        scene = replace(scene, camera=replace(scene.camera, follow=True, treadmill=True))
    puppet = Puppet(chosen, body, appearance, ACTIONS[chosen].sample(rng), scene, bool(rng.random() < 0.35))
    if staging == "front":
        return replace(puppet, turned=chosen in FROM_FRONT)
    if staging != "far":
        return puppet
    if ACTIONS[chosen].gait is None:
        raise StillmotionError("Distant figures only walk, jog or run: name actions among walk, jog, run.")
    return replace(puppet, scene=distant_scene(rng, scene))


def sample(
    rng: np.random.Generator, *, size: int = 64, frames: int = 32, action: str | None = None, staging: str = ""
) -> Clip:
    """Make one clip of a person, as `worlds.sample_clip` says, at 25 frames per second.

    Returns:
        A clip with the tracks of `render`; the joints are in the order of `JOINTS`, "head" is its middle. The meta of
        a walk, jog or run has `gait`: see `gaits.Gait`.
    """
    check_clip("puppets", size, frames)
    puppet = sample_description(rng, action, staging)
    chosen = ACTIONS[puppet.action]
    video, tracks = render(puppet, size, frames)
    meta = {
        "world": "puppets",
        "action": puppet.action,
        "view": puppet.view,
        "framing": puppet.scene.framing,
        **({"gait": asdict(chosen.gait(puppet.motion, puppet.body))} if chosen.gait else {}),
        "joints": list(JOINTS),
        "description": asdict(puppet),
    }
    return Clip("puppets", video, FPS, tracks, meta)
