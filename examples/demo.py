"""`make demo`: animate the bundled stills with every shipped model and write one page that shows them.

python examples/demo.py --out out/demo
"""

from __future__ import annotations

import argparse
import html
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

import stillmotion
from stillmotion import media
from stillmotion.animate import Animator
from stillmotion.controls import read_stroke
from stillmotion.systems.driving.drawing import draw_paths
from stillmotion.systems.strokes.drawing import draw_stroke
from stillmotion.worlds import sample_clip

HERE = Path(__file__).parent

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>stillmotion: what the shipped models do</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #222; }}
  section {{ display: flex; flex-wrap: wrap; gap: .75rem; margin: 1rem 0 2.5rem; }}
  figure {{ margin: 0; width: 11rem; }}
  figure.main {{ width: 16rem; }}
  img, video {{ width: 100%; image-rendering: auto; background: #eee; display: block; }}
  figcaption {{ font-size: .8rem; color: #555; }}
</style>
<h1>What the shipped models do</h1>
<p>Stills, driving videos and strokes are made, and no model was trained on them. Left to right: the still, what
directs it, the animation, then what explains it. Everything here was made on this machine, in {seconds:.0f}
seconds.</p>
{body}
</html>
"""


def main() -> None:
    """Animate, then write index.html."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/demo"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    started, parts = time.monotonic(), []
    for model in stillmotion.shipped_models():
        animator = stillmotion.load(model)
        parts.append(f"<h2>{html.escape(model)}</h2>")
        parts += SHOWS[animator.system.name](animator, model, out)
    parts.append("<h2>The made worlds</h2><section>")
    for still in sorted((HERE / "worlds").glob("*.png")):
        parts.append(show_world(still, out / "worlds", out))
    parts.append("</section>")
    page = PAGE.format(seconds=time.monotonic() - started, body="\n".join(parts))
    (out / "index.html").write_text(page, encoding="utf-8")
    print(f"Open {out / 'index.html'} in a browser.")


def show_driving(animator: Animator, model: str, root: Path) -> list[str]:
    """Every bundled still after the video of its name; returns the pieces of the page."""
    parts = []
    for still in sorted((HERE / "stills").glob("*.png")):
        print(f"{model}: {still.stem}", flush=True)
        parts.append(drive_still(animator, still, root / model / still.stem, root))
    return parts


def drive_still(animator: Animator, still: Path, folder: Path, root: Path) -> str:
    """Animate one still into `folder`; returns the piece of the page that shows it."""
    drive = HERE / "drives" / f"{still.stem}.mp4"
    folder.mkdir(parents=True, exist_ok=True)
    media.write_picture(folder / "still.png", media.read_picture(still), overwrite=True)
    animation = animator(still, stillmotion.Drive(drive), layers=True)
    animation.save(folder / "animation.mp4", layers=folder / "layers", overwrite=True)
    paths = np.stack([step.facts["mean"] for step in animator(still, stillmotion.Drive(drive), size="model")])
    square, (left, top, right, bottom) = media.pad_square(media.read_picture(still))
    drawn = draw_paths(square, paths)[top:bottom, left:right]
    media.write_picture(folder / "control.png", drawn, overwrite=True)
    figures = [
        figure(folder / "still.png", "the still", root, main=True),
        figure(folder / "control.png", "the control on it: where each keypoint is sent", root, main=True),
        figure(folder / "layers" / "driving.mp4", "the driving video with its keypoints", root, main=True),
        figure(folder / "animation.mp4", "the animation", root, main=True),
        figure(folder / "layers" / "keypoints.mp4", "where the keypoints were sent", root),
        figure(folder / "layers" / "flow.mp4", "backward flow: hue is direction", root),
    ]
    if (folder / "layers" / "masks.mp4").exists():
        figures.append(figure(folder / "layers" / "masks.mp4", "which keypoint moves which pixel", root))
    figures.append(figure(folder / "layers" / "warped.mp4", "the still through the flow alone", root))
    return f"<h3>{html.escape(still.stem)}</h3><section>{''.join(figures)}</section>"


def show_strokes(animator: Animator, model: str, root: Path) -> list[str]:
    """The still of the model's world (`strokes-WORLD`) after each of its strokes; returns the pieces of the page."""
    parts, world = [], model.partition("-")[2]
    picture = HERE / "strokes" / f"{world}.png"
    picture = picture if picture.is_file() else HERE / "worlds" / f"{world}.png"
    for file in sorted((HERE / "strokes").glob(f"{world}-*.json")):
        print(f"{model}: {file.stem}", flush=True)
        folder, still = root / model / file.stem, media.read_picture(picture)
        folder.mkdir(parents=True, exist_ok=True)
        stroke = read_stroke(file)
        animation = animator(still, stroke, layers=True)
        animation.save(folder / "animation.mp4", layers=folder / "layers", overwrite=True)
        media.write_picture(folder / "still.png", still, overwrite=True)
        media.write_picture(folder / "control.png", draw_stroke(still, np.asarray(stroke.points)), overwrite=True)
        figures = [
            figure(folder / "still.png", "the still", root, main=True),
            figure(folder / "control.png", "the stroke on it: a dot per frame, from blue to red", root, main=True),
            figure(folder / "animation.mp4", "the animation", root, main=True),
            figure(folder / "layers" / "stroke.mp4", "where the object is to be", root),
            figure(folder / "layers" / "change.mp4", "what is painted; the dark keeps the still's pixels", root),
            figure(folder / "layers" / "coding.mp4", "what the networks are told: the stroke above, the step", root),
        ]
        parts.append(f"<h3>{html.escape(file.stem)}</h3><section>{''.join(figures)}</section>")
    return parts


SHOWS: Mapping[str, Callable[[Animator, str, Path], list[str]]] = {"driving": show_driving, "strokes": show_strokes}
"""How a system's models are shown, by the system's name."""


def show_world(still: Path, folder: Path, root: Path) -> str:
    """A world's bundled still, and a clip of it made now."""
    folder.mkdir(parents=True, exist_ok=True)
    print(f"world: {still.stem}", flush=True)
    media.write_picture(folder / still.name, media.read_picture(still), overwrite=True)
    clip = sample_clip(still.stem, 7, 1, size=128, frames=32)
    media.write_video(folder / f"{still.stem}.mp4", iter(clip.frames), fps=clip.fps, overwrite=True)
    return figure(folder / still.name, still.stem, root) + figure(folder / f"{still.stem}.mp4", "a clip of it", root)


def figure(path: Path, caption: str, root: Path, main: bool = False) -> str:
    """One picture or looping video with its caption."""
    source = html.escape(path.relative_to(root).as_posix())
    tag = f'<img src="{source}" alt="">'
    if path.suffix == ".mp4":
        tag = f'<video src="{source}" autoplay loop muted playsinline controls></video>'
    kind = ' class="main"' if main else ""
    return f"<figure{kind}>{tag}<figcaption>{html.escape(caption)}</figcaption></figure>"


if __name__ == "__main__":
    main()
