"""Put a trained model into the zoo: half-size weights, its card, and golden inputs and outputs beside them.

    python recipes/pack.py RUN NAME --licence Apache-2.0

The golden tensors are made inputs and what the packed weights answer to them; a test compares them ever after.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from stillmotion.animate import ZOO, load
from stillmotion.controls import Drive
from stillmotion.files import save_tensors
from stillmotion.worlds import sample_clip


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
    golden(ZOO / options.name, system.config.size)
    total = sum(path.stat().st_size for path in (ZOO / options.name).iterdir())
    print(f"{ZOO / options.name}: {total / 2**20:.2f} MiB")


def golden(folder: Path, size: int) -> None:
    """Write golden.safetensors: a made still, made driving frames, and the answer of the packed weights."""
    still = sample_clip("puppets", 11, 0, size=size, frames=1, action="wave2").frames[0]
    drive = np.asarray(sample_clip("puppets", 11, 1, size=size, frames=9, action="wave2").frames[::4])
    steps = list(load(folder)(still, Drive(drive), size="model"))
    answers = {
        "still": torch.from_numpy(still.copy()),
        "drive": torch.from_numpy(drive.copy()),
        "frames": torch.from_numpy(np.stack([step.frame for step in steps])),
        "mean": torch.from_numpy(np.stack([step.facts["mean"] for step in steps])),
        "covariance": torch.from_numpy(np.stack([step.facts["covariance"] for step in steps])),
        "displacement": torch.from_numpy(np.stack([step.facts["displacement"] for step in steps])),
    }
    save_tensors(folder / "golden.safetensors", answers)


if __name__ == "__main__":
    main()
