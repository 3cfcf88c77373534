"""Faces: clips of a parametric face, a 3D morphable model, with exact ground truth.

A description (`Face`) consists of a `Person`, a `Performance` (expression and pose over time) and a `Scene`; it is
drawn first and is independent of the picture's size. `render` renders it at any size.
"""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np

from stillmotion.data.clip import Clip
from stillmotion.worlds.faces.appearance import sample_appearance, sample_scene
from stillmotion.worlds.faces.expression import ACTION_UNITS, EMOTIONS
from stillmotion.worlds.faces.identity import TRAITS, sample_identity
from stillmotion.worlds.faces.model import project, rotation, shape
from stillmotion.worlds.faces.performance import Performance, sample_performance
from stillmotion.worlds.faces.render import Face, Person, normal_maps, render
from stillmotion.worlds.validation import check_action, check_clip

__all__ = [
    "ACTION_UNITS", "EMOTIONS", "FPS", "TRAITS", "Face", "Performance", "Person", "normal_maps", "project", "render",
    "retarget", "rotation", "sample", "sample_description", "shape",
]  # fmt: skip

FPS = 25.0


def sample_description(rng: np.random.Generator, action: str | None = None) -> Face:
    """Draw a person, a scene and a performance of an emotion, a key of `EMOTIONS`; None draws one, equally likely.

    Raises:
        StillmotionError: there is no such emotion.
    """
    check_action("faces", action, tuple(EMOTIONS))
    drawn = list(EMOTIONS)[int(rng.integers(len(EMOTIONS)))]
    person = Person(tuple(sample_identity(rng).tolist()), sample_appearance(rng))
    return Face(person, sample_performance(rng, action or drawn), sample_scene(rng))


def retarget(performer: Face, target: Face) -> Face:
    """Return the target's person in the target's scene with the performer's performance.

    The result's `expression` and `pose` tracks are the performer's, its `identity` track is the target's: the ground
    truth of expression transfer.
    """
    return replace(target, performance=performer.performance)


def sample(rng: np.random.Generator, *, size: int = 64, frames: int = 32, action: str | None = None) -> Clip:
    """Make one clip of a face that shows an emotion, as `worlds.sample_clip` says, at 25 frames per second.

    The first frame is neutral.

    Returns:
        A clip with the tracks of `render`. Its meta names the identity's coefficients (`traits`) and the
        expression's (`actions`).
    """
    check_clip("faces", size, frames)
    face = sample_description(rng, action)
    video, tracks = render(face, size, frames)
    names = {"traits": list(TRAITS), "actions": list(ACTION_UNITS)}
    meta = {"world": "faces", "action": face.performance.emotion, **names, "description": asdict(face)}
    return Clip("faces", video, FPS, tracks, meta)
