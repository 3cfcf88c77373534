"""Draw the README's figures: bundled stills, their controls, and the animations.

python recipes/make_figures.py docs/demo.gif              animated: the stills, their directions, the animations
python recipes/make_figures.py docs/strokes-demo.png      one still, two strokes
python recipes/make_figures.py docs/pokes-demo.gif        animated: made plants, dragged and let go, plucked, pushed
python recipes/make_figures.py docs/actions-demo.gif      animated: one still each, several actions
python recipes/make_figures.py docs/structures-demo.gif   animated: poses and expressions
python recipes/make_figures.py docs/sharpness.png BEFORE  made people: still, truth, an earlier version's frame, ours
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from stillmotion import Act, Drive, Impulse, Poke, Stroke, media
from stillmotion.animate import load
from stillmotion.options import Control, read_points
from stillmotion.systems.pokes.visualization import HAND
from stillmotion.systems.strokes.visualization import draw_stroke
from stillmotion.systems.structures import Express, Poses, Retarget
from stillmotion.worlds import sample_clip

EXAMPLES = Path(__file__).parents[1] / "examples"
SIZE, GAP = 112, 6
WALL = 245  # grey level between the pictures


def still_of(name: str) -> np.ndarray:
    """A bundled still."""
    return media.read_picture(EXAMPLES / name)


def along_stroke(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The bundled still, the same with a stroke drawn on it (`slow` or `fast`), and the animation along it."""
    still = still_of("strokes/puppets.png")
    stroke = Stroke(**read_points(EXAMPLES / "strokes" / f"puppets-{name}.json"))
    return still, draw_stroke(still, np.asarray(stroke.points)), load("strokes-puppets")(still, stroke).frames()


def walks() -> np.ndarray:
    """A row per stroke over one still: the stroke drawn on it, then some frames; the middle of their height."""
    rows = []
    for name in ("slow", "fast"):
        _, drawn, made = along_stroke(name)
        cells = [drawn, *(made[i] for i in range(3, len(made), 4))]
        rows.append(np.concatenate([cell[88:232, :, :] for cell in cells], axis=1))
    picture = np.concatenate(rows, axis=0)
    return media.resize(picture, (picture.shape[0] * 5 // 8, picture.shape[1] * 5 // 8))


def demo(count: int = 40) -> list[np.ndarray]:
    """Frames of two rows: a still, its direction and the animation, by `driving` and by `strokes`."""
    columns = []
    for name in ("wave2", "jack"):
        still, (drive, _) = still_of(f"stills/{name}.png"), media.read_video(EXAMPLES / "drives" / f"{name}.mp4")
        columns.append((still, drive, load("driving-puppets")(still, Drive(drive)).frames()))
    still, drawn, run = along_stroke("fast")
    columns.append((still, drawn[None], run))
    return [_row([cell for column in columns for cell in _at(column, t)]) for t in range(0, count, 2)]


def _at(column: tuple[np.ndarray, np.ndarray, np.ndarray], t: int) -> list[np.ndarray]:
    still, direction, made = column
    return [still, direction[min(t, len(direction) - 1)], made[min(t, len(made) - 1)]]


def _row(cells: list[np.ndarray]) -> np.ndarray:
    """Three columns of three pictures: direction over still, and beside them the animation at twice the size."""
    side, large = SIZE, 2 * SIZE + GAP
    width = len(cells) // 3 * (side + large + 2 * GAP)
    sheet = np.full((large, width - GAP, 3), WALL, np.uint8)
    for i in range(0, len(cells), 3):
        x = i // 3 * (side + large + 2 * GAP)
        sheet[:side, x : x + side] = media.resize(cells[i], (side, side))
        sheet[side + GAP :, x : x + side] = media.resize(cells[i + 1], (side, side))
        sheet[:, x + side + GAP : x + side + GAP + large] = media.resize(cells[i + 2], (large, large))
    return sheet


def plants(count: int = 44) -> list[np.ndarray]:
    """Frames of made plants side by side, 256 pixels each; an arrow says where to, as long as something acts on them.

    The first is dragged, held and let go, the second is plucked, the third pushed. None was trained on.
    """
    columns = [poked(12, 8, count, 20), poked(12, 14, count, 7, rise=6), poked(12, 9, count, 6, force=True)]
    wall = np.full((256, GAP, 3), WALL, np.uint8)
    return [np.concatenate([a, wall, b, wall, c], axis=1) for a, b, c in zip(*columns, strict=True)]


def poked(
    seed: int, index: int, count: int, acting: int, rise: int | None = None, force: bool = False
) -> list[np.ndarray]:
    """A plant of the world under the poke of its own clip, or a force of that vector that lasts `acting` frames."""
    clip = sample_clip("plants", seed, index, size=256, frames=12, action="drag")
    start, end = (tuple(float(value) for value in clip.tracks["path"][t]) for t in (0, 10))
    move = (start, end)
    control: Control = Poke([move], rise=rise, release=acting)
    if force:
        control = Impulse([(start, tuple(b - a for a, b in zip(*move, strict=True)))], duration=acting)
    made = load("pokes-plants")(clip.frames[0], control, count).frames()
    first, last = ([round(value) for value in point] for point in move)
    shown = [frame.copy() for frame in made]
    for frame in shown[:acting]:
        cv2.arrowedLine(frame, first, last, HAND, 3, cv2.LINE_AA, tipLength=0.25)
    return shown


def performances(count: int = 27) -> list[np.ndarray]:
    """Frames of three rows, each a still and what it performs, 128 pixels a cell; game characters start anew."""
    rows = [
        performed("actions-sprites", "stills/sprite-front.png", ("walk", "slash", "spellcast", "thrust"), count, 9),
        performed("actions-sprites", "stills/sprite-side.png", ("walk", "slash", "spellcast", "shoot"), count, 9),
        performed("actions-puppets", "stills/jack.png", ("jack", "bend", "squat", "walk"), count, count),
    ]
    return [np.concatenate([row[t] for row in rows]) for t in range(count)]


def performed(model: str, still: str, actions: Sequence[str], count: int, length: int) -> list[np.ndarray]:
    """A row of cells: the still, and under each action what the model makes of it, over and over."""
    picture, animator = still_of(still), load(model)
    columns = [animator(picture, Act(action), length, seed=0).frames() for action in actions]
    return [cells([picture, *(column[t % length] for column in columns)]) for t in range(count)]


def structured(count: int = 40) -> list[np.ndarray]:
    """Frames of two rows: a still and two pose sequences; a face, expressions and those of a video."""
    poses, faces = EXAMPLES / "poses", EXAMPLES / "faces"
    sequences = [
        Poses(poses / f"{name}.json", still_pose=poses / "jack-still.json", keep_proportions=True, align_first=True)
        for name in ("jack", "wave2")
    ]
    marks, driver = faces / "still.json", faces / "surprise.json"
    shown = Express("happiness@0.4,neutral@0.8,surprise@1.2", marks, fps=25)
    copied = Retarget(faces / "surprise.mp4", marks, driver, head="video", landmark_noise=0.001)
    rows = []
    for model, name, controls in (
        ("structures-puppets", "stills/jack.png", sequences),
        ("structures-faces", "faces/still.png", [shown, copied]),
    ):
        still, animator = still_of(name), load(model)
        made = [animator(still, control, count).frames() for control in controls]
        rows.append([cells([still, *(column[t] for column in made)], 160) for t in range(count)])
    return [np.concatenate(pair) for pair in zip(*rows, strict=True)]


def cells(pictures: Sequence[np.ndarray], side: int = 128) -> np.ndarray:
    """Pictures side by side; small ones are enlarged pixel by pixel."""
    sized = []
    for picture in pictures:
        factor = side // picture.shape[0]
        large = (
            np.repeat(np.repeat(picture, factor, 0), factor, 1) if factor > 1 else media.resize(picture, (side, side))
        )
        sized.append(np.pad(large, ((0, GAP), (0, GAP), (0, 0)), constant_values=WALL))
    return np.concatenate(sized, axis=1)


def sharpness(before: Path, shown: int = 4, time: int = 16, seed: int = 99) -> np.ndarray:
    """The first people of a seed in rows: still, true frame, the frame of an earlier version, and ours.

    Args:
        before: N x T x 256 x 256 x 3, `uint8`, the other version's frames of these people (`frames` in an .npz).
        shown: how many people.
        time: the frame.
        seed: of the people; see `benchmarks/sharpness.py`.
    """
    sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
    from sharpness import cases

    others, rows, animator = np.load(before)["frames"], [], load("driving-puppets")
    for clip, other in zip(cases(seed, shown), others, strict=False):
        frames = np.asarray(clip.frames)
        made = animator(frames[0], Drive(frames[: time + 1], transfer="absolute")).frames()
        rows.append(np.concatenate([frames[0], frames[time], other[time], made[time]], axis=1)[24:232])
    sheet = np.concatenate(rows)
    head = Image.new("RGB", (sheet.shape[1], 22), (WALL, WALL, WALL))
    for i, word in enumerate(("still", "true frame", "before", "now")):
        ImageDraw.Draw(head).text((256 * i + 8, 5), word, fill=(30, 30, 30))
    return np.concatenate([np.asarray(head), sheet])


if __name__ == "__main__":
    target = Path(sys.argv[1])
    if target.stem == "pokes-demo":
        media.write_video(target, iter(plants()), fps=12.5, overwrite=True)
    elif target.stem == "actions-demo":
        media.write_video(target, iter(performances()), fps=10, overwrite=True)
    elif target.stem == "structures-demo":
        media.write_video(target, iter(structured()), fps=20, overwrite=True)
    elif target.suffix == ".gif":
        media.write_video(target, iter(demo()), fps=12.5, overwrite=True)
    else:
        made = sharpness(Path(sys.argv[2])) if target.stem == "sharpness" else walks()
        media.write_picture(target, made, overwrite=True)
