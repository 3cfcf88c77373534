"""How far the object that `find_object` detects is from the true one.

`python benchmarks/attach_error.py [size] [stills]`

Stills of every world that has strokes (seed 7, which nothing is trained on); the stroke starts a tenth of the side
off the true centre, both ways. Errors are shares of the side.
"""

from __future__ import annotations

import sys

import numpy as np

from stillmotion.data.object_detection import find_object
from stillmotion.worlds import sample_clip

SEED = 7
WORLDS = {"digits": None, "puppets": ["walk", "jog", "run"], "arm": None}


def main(size: int = 64, stills: int = 20) -> None:
    """Print a row per world."""
    print("| world | median | worst | none found |\n|---|---|---|---|")
    for world, actions in WORLDS.items():
        errors = []
        for index in range(stills):
            clip = sample_clip(world, SEED, index, size=size, frames=1, action=actions)
            box = clip.tracks["box"][0]
            truth = (box[:2] + box[2:]) / 2
            found = find_object(clip.frames[0], tuple(truth + size / 10))
            if found is not None:
                errors.append(np.linalg.norm((np.array(found[:2]) + found[2:]) / 2 - truth) / size)
        print(f"| {world} | {np.median(errors):.1%} | {np.max(errors):.1%} | {stills - len(errors)} of {stills} |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
