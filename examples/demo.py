"""`make demo`: animate the bundled stills with every shipped model and write one page that shows them.

python examples/demo.py --out out/demo [MODEL ...]

`demo/SYSTEM.json` lists the examples of a system: stills and options of `stillmotion animate`, relative to this
folder. A model without one is shown on its system's example clip.
"""

from __future__ import annotations

import argparse
import html
import json
import os
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

import stillmotion
from stillmotion import cli, media
from stillmotion.animate import Animator
from stillmotion.options import Control
from stillmotion.worlds import sample_clip

HERE = Path(__file__).parent

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>stillmotion: animated stills</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #222; }}
  section {{ display: flex; flex-wrap: wrap; gap: .75rem; margin: 1rem 0 2.5rem; }}
  figure {{ margin: 0; width: 11rem; }}
  figure.main {{ width: 16rem; }}
  img, video {{ width: 100%; image-rendering: auto; background: #eee; display: block; }}
  figcaption {{ font-size: .8rem; color: #555; }}
  pre {{ overflow-x: auto; }}
</style>
<h1>Animated stills</h1>
<p>The shipped models were trained on none of these stills, driving videos and strokes. From left to right: the
still, the animation, and the layers that explain it. Computed on this machine in {seconds:.0f} seconds. The commands
run in the folder <code>examples</code>.</p>
{body}
</html>
"""


@dataclass(frozen=True)
class Example:
    """A still, its control, and the command that gives the same animation; empty if there is none."""

    name: str
    still: np.ndarray
    control: Control
    command: str


def main(arguments: list[str] | None = None) -> None:
    """Animate, then write index.html."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--out", type=Path, default=Path("out/demo"))
    options = parser.parse_args(arguments)
    out = options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    started, parts = time.monotonic(), []
    models = [str(Path(model).absolute()) if Path(model).exists() else model for model in options.models]
    os.chdir(HERE)  # the examples' files are relative to it
    for model in models or stillmotion.shipped_models():
        animator = stillmotion.load(model)
        name = Path(model).name
        parts.append(f"<h2>{html.escape(name)}</h2>")
        parts += [show(animator, example, out / name, out) for example in examples(animator, model)]
    parts.append("<h2>Worlds: synthetic clips with exact ground truth</h2><section>")
    parts += [show_world(still, out / "worlds", out) for still in sorted((HERE / "worlds").glob("*.png"))]
    page = PAGE.format(seconds=time.monotonic() - started, body="\n".join([*parts, "</section>"]))
    (out / "index.html").write_text(page, encoding="utf-8")
    print(f"Open {out / 'index.html'} in a browser.")


def examples(animator: Animator, model: str) -> list[Example]:
    """What a model is shown on: the examples of its system that fit it, or the system's example clip."""
    system, file = animator.system, HERE / "demo" / f"{animator.system.name}.json"
    stored = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    fitting = [each for each in stored if each.get("model", model) == model]
    if not fitting:
        clip = system.example_clip(24)
        return [Example("example clip", clip.frames[0], system.control_of(clip), "")]
    return [read_example(each, model) for each in fitting]


def read_example(stored: Mapping[str, Any], model: str) -> Example:
    """The example of an entry of `demo/SYSTEM.json`."""
    command = ["animate", stored["still"], "--model", model, *stored["options"], "-o", "out.mp4"]
    control = cli.control_from(vars(cli.parser().parse_args(command)))
    return Example(stored["name"], media.read_picture(stored["still"]), control, shlex.join(command))


def show(animator: Animator, example: Example, folder: Path, root: Path) -> str:
    """Animate one example; returns its part of the page."""
    print(f"{folder.name}: {example.name}", flush=True)
    folder = folder / example.name.replace(" ", "-").replace(",", "")
    folder.mkdir(parents=True, exist_ok=True)
    media.write_picture(folder / "still.png", example.still, overwrite=True)
    animation = animator(example.still, example.control, layers=True)
    animation.save(folder / "animation.mp4", layers=folder / "layers", overwrite=True)
    figures = [
        figure(folder / "still.png", "the still", root, main=True),
        figure(folder / "animation.mp4", "the animation", root, main=True),
    ]
    for name, caption in animator.system.layer_captions.items():
        if (file := folder / "layers" / f"{name}.mp4").is_file():
            figures.append(figure(file, caption, root))
    command = f"<pre>stillmotion {html.escape(example.command)}</pre>" if example.command else ""
    return f"<h3>{html.escape(example.name)}</h3>{command}<section>{''.join(figures)}</section>"


def show_world(still: Path, folder: Path, root: Path) -> str:
    """A world's bundled still, and a clip generated now."""
    folder.mkdir(parents=True, exist_ok=True)
    print(f"world: {still.stem}", flush=True)
    media.write_picture(folder / still.name, media.read_picture(still), overwrite=True)
    clip = sample_clip(still.stem, 7, 1, size=128, frames=32)
    media.write_video(folder / f"{still.stem}.mp4", iter(clip.frames), fps=clip.fps, overwrite=True)
    made = figure(folder / f"{still.stem}.mp4", f"a clip of {still.stem}", root)
    return figure(folder / still.name, still.stem, root) + made


def figure(path: Path, caption: str, root: Path, main: bool = False) -> str:
    """One picture or looping video with its caption."""
    source = quote(path.relative_to(root).as_posix())
    tag = f'<img src="{source}" alt="{html.escape(caption)}">'
    if path.suffix == ".mp4":
        tag = f'<video src="{source}" autoplay loop muted playsinline controls></video>'
    kind = ' class="main"' if main else ""
    return f"<figure{kind}>{tag}<figcaption>{html.escape(caption)}</figcaption></figure>"


if __name__ == "__main__":
    main()
