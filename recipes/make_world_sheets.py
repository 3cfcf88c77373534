"""Draw the contact sheet of a world: a row per clip, its frames side by side.

python recipes/make_world_sheets.py digits docs/worlds-digits.png
python recipes/make_world_sheets.py arm docs/worlds-arm.png
"""

from __future__ import annotations

import sys

import numpy as np

from stillmotion import media
from stillmotion.worlds import sample_clip

# size, columns of clips, and the frames shown of each clip
LAYOUTS = {"digits": (80, 2, (0, 3, 6, 9, 12, 15)), "arm": (80, 2, (0, 10, 20))}
ROWS, SEED = 4, 7


def sheet(world: str) -> np.ndarray:
    """Four rows of clips."""
    size, columns, moments = LAYOUTS[world]
    strips = []
    for index in range(ROWS * columns):
        video = sample_clip(world, SEED, index, size, moments[-1] + 1).frames
        strips.append(np.concatenate([video[t] for t in moments], axis=1))
    gap = np.full((size, 6, 3), 255, np.uint8)
    pairs = [np.concatenate([strips[k], gap, strips[k + ROWS]], axis=1) for k in range(ROWS)]
    return np.concatenate(pairs, axis=0)


if __name__ == "__main__":
    media.write_picture(sys.argv[2], sheet(sys.argv[1]), overwrite=True)
