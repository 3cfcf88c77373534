"""Draw the README's figure: bundled stills (left), the videos that drive them, and what the model made of them.

python recipes/make_figures.py driving-puppets docs/driving-demo.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from stillmotion import Drive, media
from stillmotion.animate import load

EXAMPLES = Path(__file__).parents[1] / "examples"
SHOWN, SIZE = ("wave2", "jack"), 128
FRAMES = range(0, 40, 5)


def figure(model: str) -> np.ndarray:
    """Two rows per still: the driving frames above, the animation below."""
    animator, rows = load(model), []
    for name in SHOWN:
        still = media.read_picture(EXAMPLES / "stills" / f"{name}.png")
        drive, _ = media.read_video(EXAMPLES / "drives" / f"{name}.mp4")
        made = animator(still, Drive(drive)).frames()
        blank = np.full((SIZE, SIZE, 3), 255, np.uint8)
        for first, video in ((blank, drive), (still, made)):
            cells = [first, *(video[i] for i in FRAMES)]
            rows.append(np.concatenate([media.resize(cell, (SIZE, SIZE)) for cell in cells], axis=1))
    return np.concatenate(rows, axis=0)


if __name__ == "__main__":
    media.write_picture(sys.argv[2], figure(sys.argv[1]), overwrite=True)
