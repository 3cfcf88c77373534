"""Faces: made clips of a parametric face, after the form of a 3D morphable model, with exact truth.

A description (`Face`) says who (`Person`), what is done (`Performance`: expression and pose over time) and where
(`Scene`); it is drawn first and knows no picture size. `render` paints it at any size.
"""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np

from stillmotion.data.clip import Clip
from stillmotion.errors import StillmotionError
from stillmotion.worlds.faces.expression import ACTIONS, EMOTIONS
from stillmotion.worlds.faces.identity import TRAITS, sample_identity
from stillmotion.worlds.faces.landmarks import PARTS
from stillmotion.worlds.faces.looks import sample_looks
from stillmotion.worlds.faces.model import project, rotation, shape
from stillmotion.worlds.faces.performance import Performance, sample_performance
from stillmotion.worlds.faces.render import Face, Person, normal_maps, render
from stillmotion.worlds.faces.scene import sample_scene

__all__ = [
    "ACTIONS",
    "EMOTIONS",
    "FPS",
    "PARTS",
    "TRAITS",
    "Face",
    "Performance",
    "Person",
    "describe",
    "normal_maps",
    "project",
    "render",
    "retarget",
    "rotation",
    "sample",
    "shape",
    "to_clip",
]

FPS = 25.0


def describe(rng: np.random.Generator, action: str | None = None) -> Face:
    """Draw a person, a performance and a scene.

    Args:
        rng: the only source of randomness.
        action: a key of `EMOTIONS`, or None to draw one (all equally likely).

    Raises:
        StillmotionError: there is no such emotion.
    """
    if action is not None and action not in EMOTIONS:
        raise StillmotionError(f"Faces know no emotion {action!r}; choose one of: {', '.join(EMOTIONS)}.")
    names = list(EMOTIONS)
    drawn = names[int(rng.integers(len(names)))]
    person = Person(tuple(float(value) for value in sample_identity(rng)), sample_looks(rng))
    return Face(person, sample_performance(rng, action or drawn), sample_scene(rng))


def retarget(performer: Face, target: Face) -> Face:
    """Return the target's person in the target's scene, doing what the performer does.

    The result's `expression` and `pose` tracks are the performer's, its `identity` track is the target's: the true
    answer when a system is asked to carry an expression over to another person.
    """
    return replace(target, performance=performer.performance)


def to_clip(face: Face, size: int, frames: int, name: str = "faces") -> Clip:
    """Paint a description and wrap it up as a clip."""
    if not 16 <= size <= 1024:
        raise StillmotionError(f"The size of a face clip must be 16 to 1024 pixels, not {size}.")
    if frames < 1:
        raise StillmotionError(f"A clip needs at least 1 frame, not {frames}.")
    video, tracks = render(face, size, frames)
    meta = {
        "world": "faces",
        "action": face.performance.emotion,
        "traits": list(TRAITS),
        "actions": list(ACTIONS),
        "description": asdict(face),
    }
    return Clip(name, video, FPS, tracks, meta)


def sample(rng: np.random.Generator, *, size: int = 64, frames: int = 32, action: str | None = None) -> Clip:
    """Make one clip of a face that shows an emotion.

    Args:
        rng: the only source of randomness.
        size: height and width in pixels, 16 to 1024.
        frames: number of frames, at 25 per second; the first is neutral.
        action: `anger`, `disgust`, `fear`, `happiness`, `sadness` or `surprise`; None draws one.

    Returns:
        A clip with the tracks `identity`, `expression`, `pose`, `normals`, `landmarks`, `box` and `mask`; see
        `render`. Its meta names the identity's coefficients (`traits`) and the expression's (`actions`).

    Raises:
        StillmotionError: there is no such emotion, or the size or number of frames is out of range.
    """
    return to_clip(describe(rng, action), size, frames)
