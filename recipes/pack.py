"""Put a trained model into the zoo: weights as float16, its card, and golden inputs and outputs.

    python recipes/pack.py RUN NAME --licence Apache-2.0 --world puppets --action run --staging far

The golden tensors are the first frame of a synthetic clip, the clip's control, and the output of the packed weights;
`tests/test_zoo.py` compares with them. Without `--world` the clip is the system's example clip. An existing README.md
is kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stillmotion import media
from stillmotion.animate import ZOO, Animator, load
from stillmotion.errors import StillmotionError
from stillmotion.files import save_tensors
from stillmotion.options import Control
from stillmotion.rendering.compositing import LAYERS
from stillmotion.systems.base import Step
from stillmotion.systems.driving import Predict
from stillmotion.systems.structures import Observe
from stillmotion.worlds import sample_clip

FRAMES, SMALL = 6, 64  # of the golden clip, and the largest side for so many
MOST = 8  # frames of the golden output, which a control may make more of


def main(arguments: list[str] | None = None) -> None:
    """Pack one model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("name")
    parser.add_argument("--licence", default="Apache-2.0")
    parser.add_argument("--zoo", type=Path, default=ZOO)
    parser.add_argument("--world")
    parser.add_argument("--action")
    parser.add_argument("--staging")
    options = parser.parse_args(arguments)
    folder, system = options.zoo / options.name, load(options.run).system
    readme = folder / "README.md"
    card_text = readme.read_bytes() if readme.is_file() else None
    system.card["licence"] = options.licence
    system.save_pretrained(folder, half=True)
    if card_text is not None:
        readme.write_bytes(card_text)
    count = FRAMES * SMALL // max(SMALL, system.config.size)
    clip = system.example_clip(count)
    if options.world:
        about = {"action": options.action} if options.action else {}
        about |= {"staging": options.staging} if options.staging else {}
        clip = sample_clip(options.world, 11, 0, size=system.config.size, frames=count, **about)
    save_tensors(folder / "golden.safetensors", golden(folder, clip.frames[0], system.control_of(clip)))
    total = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{folder}: {total / 2**20:.2f} MiB")


def golden(folder: Path, still: np.ndarray, control: Control, most: int = MOST) -> dict[str, Tensor]:
    """The still, the control's fields (`control.CLASS.FIELD`), the model's frames and facts (`facts.NAME`), and more.

    More are the last frame of the size of a larger still (`native`); pictures of 16 x 16, `layers.NAME` of the last
    frame and the `backdrop.NAME` behind the figure; and what a model with a predictor of keypoints or poses predicts
    (`prediction.frames`, `prediction.facts.NAME`).
    """
    animator = load(folder)
    steps = list(islice(animator(still, control, size="model", plate="none", layers=True), most))
    *_, native = islice(animator(enlarged(still), control, size="native", plate="none"), most)
    first = next(iter(animator(still, control, layers=True)))  # with the plate, which is looked for once
    found = {
        **stored(control),
        "still": still,
        "frames": [step.frame for step in steps],
        "native": native.frame,
        **{f"facts.{name}": values for name, values in facts_of(steps).items()},
        **{f"layers.{name}": reduced(picture) for name, picture in steps[-1].layers.items()},
        **{f"backdrop.{name}": reduced(first.layers[name]) for name in LAYERS if name in first.layers},
        **{f"prediction.{name}": values for name, values in prediction(animator, still).items()},
    }
    return {name: torch.from_numpy(np.array(values)) for name, values in found.items()}


def stored(control: Control) -> dict[str, Any]:
    """The fields of a control by `control.CLASS.FIELD`, texts as bytes; None is left out."""
    values = {each.name: getattr(control, each.name) for each in fields(control)}
    return {
        f"control.{type(control).__name__}.{name}": np.frombuffer(value.encode(), np.uint8)
        if isinstance(value, str)
        else value
        for name, value in values.items()
        if value is not None
    }


def reduced(picture: np.ndarray) -> np.ndarray:
    """A picture of 16 x 16."""
    return media.resize(picture, (16, 16))


def enlarged(still: np.ndarray) -> np.ndarray:
    """The still with a quarter of its height more at the bottom: not square, larger, every place where it was."""
    return np.pad(still, ((0, len(still) // 4), (0, 0), (0, 0)), "edge")


def prediction(animator: Animator, still: np.ndarray) -> dict[str, Any]:
    """What the model predicts: keypoints after the still's, or poses after those of a made person."""
    joints = sample_clip("puppets", 11, 0, size=animator.system.config.size, frames=10).tracks["joints"]
    # As they are, for the still's own pose is found by a library that not everybody has.
    observed = Observe(joints, keep_proportions=False, align_first=False)
    for control in (Predict(MOST), observed):
        try:
            animator.system.check_control(control)
        except StillmotionError:
            continue
        steps = list(islice(animator(still, control, size="model", plate="none"), MOST))
        facts = {name: values for name, values in facts_of(steps).items() if values[0].size <= 128}
        return {
            "frames": [reduced(step.frame) for step in steps],
            **{f"facts.{name}": values for name, values in facts.items()},
        }
    return {}


def facts_of(steps: Sequence[Step]) -> dict[str, list[np.ndarray]]:
    """The facts that have one shape in all steps."""
    facts = {name: [step.facts[name] for step in steps] for name in steps[0].facts}
    return {name: values for name, values in facts.items() if len({value.shape for value in values}) == 1}


if __name__ == "__main__":
    main()
