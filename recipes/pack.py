"""Put a trained model into the zoo: weights as float16, its card, and golden inputs and outputs.

    python recipes/pack.py RUN NAME --licence Apache-2.0 --world puppets --action run --far

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

from stillmotion.animate import ZOO, load
from stillmotion.files import save_tensors
from stillmotion.options import Control
from stillmotion.systems.base import Step
from stillmotion.worlds import sample_clip

FRAMES = 6
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
    parser.add_argument("--far", action="store_true")
    options = parser.parse_args(arguments)
    folder, system = options.zoo / options.name, load(options.run).system
    readme = folder / "README.md"
    card_text = readme.read_bytes() if readme.is_file() else None
    system.card["licence"] = options.licence
    system.save_pretrained(folder, half=True)
    if card_text is not None:
        readme.write_bytes(card_text)
    clip = system.example_clip(FRAMES)
    if options.world:
        about = {"action": options.action} if options.action else {}
        about |= {"far": True} if options.far else {}
        clip = sample_clip(options.world, 11, 0, size=system.config.size, frames=FRAMES, **about)
    save_tensors(folder / "golden.safetensors", golden(folder, clip.frames[0], system.control_of(clip)))
    total = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{folder}: {total / 2**20:.2f} MiB")


def golden(folder: Path, still: np.ndarray, control: Control) -> dict[str, Tensor]:
    """The still, the control's fields (`control.CLASS.FIELD`), and the model's frames and facts (`facts.NAME`)."""
    steps = list(islice(load(folder)(still, control, size="model", plate="none"), MOST))
    inputs = {each.name: getattr(control, each.name) for each in fields(control)}
    kind = type(control).__name__

    def tensor(values: Any) -> Tensor:
        text = isinstance(values, str)
        return torch.from_numpy(np.array([*values.encode()], np.uint8) if text else np.array(values))

    return {
        "still": tensor(still),
        **{f"control.{kind}.{name}": tensor(value) for name, value in inputs.items() if value is not None},
        "frames": tensor([step.frame for step in steps]),
        **{f"facts.{name}": tensor(values) for name, values in facts_of(steps).items()},
    }


def facts_of(steps: Sequence[Step]) -> dict[str, list[np.ndarray]]:
    """The facts that have one shape in all steps."""
    facts = {name: [step.facts[name] for step in steps] for name in steps[0].facts}
    return {name: values for name, values in facts.items() if len({value.shape for value in values}) == 1}


if __name__ == "__main__":
    main()
