"""Puppets: made clips of a two-dimensional articulated person, with exact truth.

A description (`Puppet`) is drawn first and knows no picture size; `render` paints it at any size. So the same
generator state gives the same person, wall and motion at 64 and at 512 pixels.
"""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np

from stillmotion.data.clip import Clip
from stillmotion.data.pose import JOINTS
from stillmotion.errors import StillmotionError
from stillmotion.worlds.puppets.body import sample_body
from stillmotion.worlds.puppets.clothes import sample_clothes
from stillmotion.worlds.puppets.motion import ACTIONS, FPS
from stillmotion.worlds.puppets.render import Puppet, render
from stillmotion.worlds.puppets.scene import from_afar, sample_scene

__all__ = ["ACTIONS", "FPS", "JOINTS", "Puppet", "describe", "render", "sample", "to_clip"]


def describe(rng: np.random.Generator, action: str | None = None, far: bool = False) -> Puppet:
    """Draw a person, clothes, a scene and a motion.

    Args:
        rng: the only source of randomness.
        action: a key of `ACTIONS`, or None to draw one (all equally likely).
        far: see `sample`.

    Raises:
        StillmotionError: the action is unknown, or not one that is seen whole.
    """
    if action is not None and action not in ACTIONS:
        raise StillmotionError(f"Puppets know no action {action!r}; choose one of: {', '.join(ACTIONS)}.")
    names = list(ACTIONS)
    drawn = names[int(rng.integers(len(names)))]
    chosen = action or drawn
    body, clothes, scene = sample_body(rng), sample_clothes(rng), sample_scene(rng, chosen)
    puppet = Puppet(chosen, body, clothes, ACTIONS[chosen].sample(rng), scene, bool(rng.random() < 0.35))
    if not far:
        return puppet
    if ACTIONS[chosen].gait is None:
        raise StillmotionError("Only who walks, jogs or runs is seen from afar: name actions among walk, jog, run.")
    return replace(puppet, scene=from_afar(rng, scene))


def to_clip(puppet: Puppet, size: int, frames: int, name: str = "puppets") -> Clip:
    """Paint a description and wrap it up as a clip."""
    if not 16 <= size <= 1024:
        raise StillmotionError(f"The size of a puppet clip must be 16 to 1024 pixels, not {size}.")
    if frames < 1:
        raise StillmotionError(f"A clip needs at least 1 frame, not {frames}.")
    action = ACTIONS[puppet.action]
    video, tracks = render(puppet, size, frames)
    meta = {
        "world": "puppets",
        "action": puppet.action,
        "view": action.view,
        "framing": puppet.scene.framing,
        **({"gait": asdict(action.gait(puppet.motion, puppet.body))} if action.gait else {}),
        "joints": list(JOINTS),
        "description": asdict(puppet),
    }
    return Clip(name, video, FPS, tracks, meta)


def sample(
    rng: np.random.Generator, *, size: int = 64, frames: int = 32, action: str | None = None, far: bool = False
) -> Clip:
    """Make one clip of a person.

    Args:
        rng: the only source of randomness.
        size: height and width in pixels, 16 to 1024.
        frames: number of frames, at 25 per second.
        action: `wave1`, `wave2`, `jack`, `bend`, `walk`, `jog`, `run`, `squat`, `swing` (golf) or `throw`; None draws
            one.
        far: who walks, jogs or runs is 0.34 to 0.46 of the picture tall, and the camera stands still. Else they are
            two thirds of it, and the camera goes along with half of them.

    Returns:
        A clip with the tracks `joints` (T x 13 x 3: x, y, visible; the order of `JOINTS`, "head" is its
        middle), `box`, `points`, `mask`, `flow_forward` and `flow_backward`; see `render`. The meta of a walk, jog or
        run holds `gait`: see `gaits.Gait`.

    Raises:
        StillmotionError: the action is unknown, or the size or number of frames is out of range.
    """
    puppet = describe(rng, action, far)
    return to_clip(puppet, size, frames)
