"""Draw the README's figures: bundled stills, their controls, and the animations.

python recipes/make_figures.py driving-puppets docs/driving-demo.png
python recipes/make_figures.py strokes-puppets docs/strokes-demo.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from stillmotion import Drive, Stroke, media
from stillmotion.animate import load
from stillmotion.options import read_points
from stillmotion.systems.strokes.visualization import draw_stroke

EXAMPLES = Path(__file__).parents[1] / "examples"
SHOWN, SIZE = ("wave2", "jack"), 128
FRAMES = range(0, 40, 5)


def walks(model: str) -> np.ndarray:
    """A row per stroke over one still: the stroke drawn on it, then some frames; the middle of their height."""
    animator, rows = load(model), []
    still = media.read_picture(EXAMPLES / "strokes" / "puppets.png")
    for name in ("slow", "fast"):
        stroke = Stroke(**read_points(EXAMPLES / "strokes" / f"puppets-{name}.json"))
        made = animator(still, stroke).frames()
        cells = [draw_stroke(still, np.asarray(stroke.points)), *(made[i] for i in range(3, len(made), 4))]
        rows.append(np.concatenate([cell[88:232, :, :] for cell in cells], axis=1))
    picture = np.concatenate(rows, axis=0)
    return media.resize(picture, (picture.shape[0] * 5 // 8, picture.shape[1] * 5 // 8))


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
    draw = walks if sys.argv[1].startswith("strokes") else figure
    media.write_picture(sys.argv[2], draw(sys.argv[1]), overwrite=True)
