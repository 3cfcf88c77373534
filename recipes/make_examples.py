"""Make the bundled stills and driving videos: puppets that no model was trained on; and a still of every world.

    python recipes/make_examples.py examples

Relative transfer wants a still whose pose is near the driver's first frame, so each still is the frame, out of the
clips of many people, whose joints lie nearest to the driver's first ones.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from stillmotion import media
from stillmotion.data.clip import Clip
from stillmotion.worlds import sample_clip

SEED = 7  # trainings use seed 1
STILL_SIZE, DRIVE_SIZE, FRAMES = 256, 128, 48
DRIVERS = {"wave1": 3, "wave2": 5, "jack": 8, "bend": 0}  # action: the driver's index in the world
SHOWN = {"puppets": 4, "plants": 0, "faces": 2, "arm": 6, "digits": 2}  # world: which of its clips is shown
PEOPLE, TRIED = range(100, 130), 24  # indices of the people to choose from, and how many of their frames


def nearest(action: str, drive: Clip) -> tuple[int, int]:
    """The person (index) and frame whose joints lie nearest to the driver's first ones."""
    aim = drive.tracks["joints"][0, :, :2] * (64 / DRIVE_SIZE)
    found = []
    for person in PEOPLE:
        clip = sample_clip("puppets", SEED, person, size=64, frames=TRIED, action=action)
        distances = np.linalg.norm(clip.tracks["joints"][..., :2] - aim, axis=-1).mean(axis=1)
        found.append((float(distances.min()), person, int(distances.argmin())))
    _, person, frame = min(found)
    return person, frame


def main(folder: Path) -> None:
    """Write `stills/NAME.png`, `drives/NAME.mp4` and `worlds/WORLD.png`."""
    for world, index in SHOWN.items():
        still = sample_clip(world, SEED, index, size=STILL_SIZE, frames=1).frames[0]
        media.write_picture(folder / "worlds" / f"{world}.png", still, overwrite=True)
    for action, driver in DRIVERS.items():
        drive = sample_clip("puppets", SEED, driver, size=DRIVE_SIZE, frames=FRAMES, action=action)
        person, frame = nearest(action, drive)
        still = sample_clip("puppets", SEED, person, size=STILL_SIZE, frames=frame + 1, action=action).frames[frame]
        media.write_picture(folder / "stills" / f"{action}.png", still, overwrite=True)
        media.write_video(folder / "drives" / f"{action}.mp4", iter(drive.frames), fps=drive.fps, overwrite=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
