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

__all__ = ["ACTIONS", "FPS", "JOINTS", "Puppet", "render", "sample", "sample_description"]


def sample_description(
    rng: np.random.Generator, action: str | None = None, far: bool = False, treadmill: bool = False
) -> Puppet:
    """Draw a person, an appearance, a scene and a motion.

    Args:
        rng: the only source of randomness.
        action: a key of `ACTIONS`, or None to draw one (all equally likely).
        far: walk, jog and run only: figures of 0.34 to 0.46 picture heights and a static camera, instead of about two
            thirds and a camera that pans along in half of the clips.
        treadmill: who walks, jogs or runs stays where they are before a background that stands, as an animated still
            shows them.

    Raises:
        StillmotionError: the action is unknown, or not a gait with `far`.
    """
    check_action("puppets", action, tuple(ACTIONS))
    drawn = list(ACTIONS)[int(rng.integers(len(ACTIONS)))]
    chosen = action or drawn
    body, appearance, scene = sample_body_shape(rng), sample_appearance(rng), sample_scene(rng, chosen)
    if treadmill:
        scene = replace(scene, camera=replace(scene.camera, follow=True, treadmill=True))
    puppet = Puppet(chosen, body, appearance, ACTIONS[chosen].sample(rng), scene, bool(rng.random() < 0.35))
    if not far:
        return puppet
    if ACTIONS[chosen].gait is None:
        raise StillmotionError("Distant figures only walk, jog or run: name actions among walk, jog, run.")
    return replace(puppet, scene=distant_scene(rng, scene))


def sample(
    rng: np.random.Generator,
    *,
    size: int = 64,
    frames: int = 32,
    action: str | None = None,
    far: bool = False,
    treadmill: bool = False,
) -> Clip:
    """Make one clip of a person, as `worlds.sample_clip` says, at 25 frames per second.

    Returns:
        A clip with the tracks of `render`; the joints are in the order of `JOINTS`, "head" is its middle. The meta of
        a walk, jog or run has `gait`: see `gaits.Gait`.
    """
    check_clip("puppets", size, frames)
    puppet = sample_description(rng, action, far, treadmill)
    chosen = ACTIONS[puppet.action]
    video, tracks = render(puppet, size, frames)
    meta = {
        "world": "puppets",
        "action": puppet.action,
        "view": chosen.view,
        "framing": puppet.scene.framing,
        **({"gait": asdict(chosen.gait(puppet.motion, puppet.body))} if chosen.gait else {}),
        "joints": list(JOINTS),
        "description": asdict(puppet),
    }
    return Clip("puppets", video, FPS, tracks, meta)
