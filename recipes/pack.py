"""Put a trained model into the zoo: half-size weights, its card, and golden inputs and outputs beside them.

    python recipes/pack.py RUN NAME --licence Apache-2.0

The golden tensors are made inputs and what the packed weights answer to them; a test compares them ever after.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stillmotion.animate import ZOO, load
from stillmotion.controls import Drive, Stroke
from stillmotion.files import save_tensors
from stillmotion.systems.base import System
from stillmotion.worlds import sample_clip

DRIVING_FACTS = ("mean", "covariance", "displacement")


def main() -> None:
    """Pack one model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("name")
    parser.add_argument("--licence", default="Apache-2.0")
    options = parser.parse_args()
    system = load(options.run).system
    system.card["licence"] = options.licence
    system.save_pretrained(ZOO / options.name, half=True)
    answers = {"driving": golden_driving, "strokes": golden_strokes}[system.name](ZOO / options.name, system)
    save_tensors(ZOO / options.name / "golden.safetensors", answers)
    total = sum(path.stat().st_size for path in (ZOO / options.name).iterdir())
    print(f"{ZOO / options.name}: {total / 2**20:.2f} MiB")


def golden_driving(folder: Path, system: System) -> dict[str, Tensor]:
    """A made still, made driving frames, and the answer of the packed weights."""
    size = system.config.size
    still = sample_clip("puppets", 11, 0, size=size, frames=1, action="wave2").frames[0]
    drive = np.asarray(sample_clip("puppets", 11, 1, size=size, frames=9, action="wave2").frames[::4])
    steps = list(load(folder)(still, Drive(drive), size="model"))
    return {
        "still": torch.from_numpy(still.copy()),
        "drive": torch.from_numpy(drive.copy()),
        "frames": torch.from_numpy(np.stack([step.frame for step in steps])),
        **{key: torch.from_numpy(np.stack([step.facts[key] for step in steps])) for key in DRIVING_FACTS},
    }


def golden_strokes(folder: Path, system: System) -> dict[str, Tensor]:
    """A still of the world that it was trained on, the stroke of its own clip, and the packed weights' answer."""
    size = system.config.size
    world, options = ("digits", {}) if "digits" in folder.name else ("puppets", {"action": "run", "far": True})
    clip = sample_clip(world, 11, 0, size=size, frames=6, **options)
    points = np.asarray(clip.tracks["points"], np.float64)
    steps = list(load(folder)(clip.frames[0], Stroke(points), frames=len(points), size="model"))
    return {
        "still": torch.from_numpy(clip.frames[0].copy()),
        "points": torch.from_numpy(points),
        "frames": torch.from_numpy(np.stack([step.frame for step in steps])),
    }


if __name__ == "__main__":
    main()
