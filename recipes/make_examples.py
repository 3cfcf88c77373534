"""Generate the bundled stills, driving videos, strokes, poses and faces, from a seed of no training.

    python recipes/make_examples.py examples

Relative transfer needs a still whose pose is near that of the first driving frame, so each still is the frame, out of
clips of many people, whose joints are nearest to those of the first driving frame.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from stillmotion import media
from stillmotion.data.clip import Clip
from stillmotion.files import write_json
from stillmotion.worlds import sample_clip

SEED = 7  # trainings use seed 1
STILL_SIZE, DRIVE_SIZE, FRAMES = 256, 128, 48
DRIVERS = {"wave1": 3, "wave2": 5, "jack": 8, "bend": 0}  # action: the driver's index in the world
SHOWN = {"puppets": 4, "plants": 0, "faces": 2, "arm": 6, "digits": 2}  # world: which of its clips is shown
STROKES = {  # world-name: way points, pixels from the object's centre in the world's still, and points per part
    "digits-away": ([(0, 0), (80, -100)], 15),
    "digits-round": ([(45 * np.sin(a), 45 * (np.cos(a) - 1)) for a in np.linspace(0, 2 * np.pi, 24)], 1),
    "puppets-slow": ([(0, 0), (67, 0)], 23),
    "puppets-fast": ([(0, 0), (175, 0)], 23),
    "arm-down": ([(0, 0), (-40, 65)], 15),
    "arm-across": ([(0, 0), (50, 60), (-60, 90)], 10),
}
FACE = 40  # of the still; the next one drives it
WALKER = {"index": 0, "staging": "far", "action": "walk"}  # small, so that there is room for a stroke
PEOPLE, TRIED = range(100, 130), 24  # indices of the people to choose from, and how many of their frames


def nearest(action: str, drive: Clip) -> tuple[int, int]:
    """The person (index) and frame whose joints are nearest to those of the first driving frame."""
    aim = drive.tracks["joints"][0, :, :2] * (64 / DRIVE_SIZE)
    found = []
    for person in PEOPLE:
        clip = sample_clip("puppets", SEED, person, size=64, frames=TRIED, action=action)
        distances = np.linalg.norm(clip.tracks["joints"][..., :2] - aim, axis=-1).mean(axis=1)
        found.append((float(distances.min()), person, int(distances.argmin())))
    _, person, frame = min(found)
    return person, frame


def write_strokes(folder: Path) -> None:
    """Write `puppets.png` and `WORLD-NAME.json`, a point per frame, the first at the centre of the object."""
    for name, (way, parts) in STROKES.items():
        world = name.partition("-")[0]
        which = WALKER if world == "puppets" else {"index": SHOWN[world]}
        clip = sample_clip(world, SEED, size=STILL_SIZE, frames=1, **which)
        if world == "puppets":
            media.write_picture(folder / "puppets.png", clip.frames[0], overwrite=True)
        at = np.linspace(0, len(way) - 1, (len(way) - 1) * parts + 1)
        moved = [np.interp(at, range(len(way)), [point[axis] for point in way]) for axis in (0, 1)]
        points = clip.tracks["points"][0].astype(float) + np.stack(moved, 1)
        write_json(folder / f"{name}.json", {"points": points.round(1).tolist()})


def write_poses(folder: Path, action: str, drive: Clip, still: Clip) -> None:
    """Write `ACTION.json`, the poses of a driver, and `ACTION-still.json`, that of the still's own person."""
    for name, clip, frames in ((action, drive, slice(None)), (f"{action}-still", still, slice(-1, None))):
        joints = clip.tracks["joints"][frames].round(1).tolist()
        height, width = clip.frames.shape[1:3]
        about = {"joints": "penn", "size": [width, height], "fps": clip.fps}
        write_json(folder / f"{name}.json", {"poses": joints, **about})


def write_faces(folder: Path) -> None:
    """Write a still, a driver who is surprised, and the landmarks of both: two people of the world `faces`."""
    still = sample_clip("faces", SEED, FACE, size=STILL_SIZE, frames=1, action="surprise")
    drive = sample_clip("faces", SEED, FACE + 1, size=DRIVE_SIZE, frames=FRAMES, action="surprise")
    media.write_picture(folder / "still.png", still.frames[0], overwrite=True)
    media.write_video(folder / "surprise.mp4", iter(drive.frames), fps=drive.fps, overwrite=True)
    for name, clip in (("still", still), ("surprise", drive)):
        write_json(folder / f"{name}.json", clip.tracks["landmarks"][..., :2].round(1).tolist())


def main(folder: Path) -> None:
    """Write `stills/NAME.png`, `drives/NAME.mp4`, `worlds/WORLD.png`, strokes, poses, and faces."""
    for name in ("strokes", "poses", "faces", "stills", "drives", "worlds"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    write_faces(folder / "faces")
    write_strokes(folder / "strokes")
    for world, index in SHOWN.items():
        still = sample_clip(world, SEED, index, size=STILL_SIZE, frames=1).frames[0]
        media.write_picture(folder / "worlds" / f"{world}.png", still, overwrite=True)
    for action, driver in DRIVERS.items():
        drive = sample_clip("puppets", SEED, driver, size=DRIVE_SIZE, frames=FRAMES, action=action)
        person, frame = nearest(action, drive)
        still = sample_clip("puppets", SEED, person, size=STILL_SIZE, frames=frame + 1, action=action)
        media.write_picture(folder / "stills" / f"{action}.png", still.frames[frame], overwrite=True)
        write_poses(folder / "poses", action, drive, still)
        media.write_video(folder / "drives" / f"{action}.mp4", iter(drive.frames), fps=drive.fps, overwrite=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
