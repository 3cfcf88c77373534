"""Draw the contact sheet of the faces: a row per person; neutral, the six emotions, and the normal map of the last.

python recipes/make_world_faces.py docs/worlds-faces.png
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np

from stillmotion import media
from stillmotion.worlds.faces import EMOTIONS, Face, render, sample_description

SEED, PEOPLE, SIZE = 0, (5, 1, 7, 19), 84


def at_once(face: Face, emotion: str) -> Face:
    """The same person at the apex of an emotion from the second frame on, without blinks."""
    made = sample_description(np.random.default_rng([SEED, 100]), emotion).performance
    made = replace(made, start=0.0, onset=1.0, apex=10.0, blinks=(100.0, 100.0), place=(0.5, 0.5, 0.36))
    return replace(face, performance=replace(made, rest=face.performance.rest))


def sheet() -> np.ndarray:
    """One row per person."""
    rows = []
    for person in PEOPLE:
        face = sample_description(np.random.default_rng([SEED, person]))
        made = {emotion: render(at_once(face, emotion), SIZE, 2) for emotion in EMOTIONS}
        neutral = made["happiness"][0][0]
        map_ = made["happiness"][1]["normals"][1].astype(np.float32)
        shown = np.where((map_ != 0).any(-1, keepdims=True), 127.5 * (map_ + 1), 0).astype(np.uint8)
        rows.append(np.concatenate([neutral, *(video[1] for video, _ in made.values()), shown], axis=1))
    return np.concatenate(rows, axis=0)


if __name__ == "__main__":
    media.write_picture(sys.argv[1], sheet(), overwrite=True)
