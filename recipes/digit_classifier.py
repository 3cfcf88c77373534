"""Train the digit classifier of `evaluation/extractors/digits.py` and print its accuracy.

    python recipes/digit_classifier.py digits-8k-images-idx3-ubyte.gz

The first 7,000 digits are for training, the last 1,000 for testing. The classifier reads digits in small frames, so
the augmentation downsamples and upsamples pictures, and shifts, scales and rotates them a little.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stillmotion.evaluation.extractors.digits import SIDE, WEIGHTS, DigitClassifier, read_digits
from stillmotion.files import save_tensors
from stillmotion.worlds import sample_clip
from stillmotion.worlds.digits.idx import read_digits as read_idx_digits

TRAINED = 7_000
BATCH, RATE = 64, 3e-3


def main() -> None:
    """Train, test, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("pictures", type=Path, help="IDX file of pictures; the labels lie beside it")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    options = parser.parse_args()
    torch.manual_seed(0)
    pictures, labels = read_idx_digits(options.pictures)
    if labels is None:
        raise SystemExit("The file of labels is not beside the pictures.")
    inks = torch.from_numpy(pictures.astype(np.float32) / 255)[:, None]
    truth = torch.from_numpy(labels.astype(np.int64))
    network = DigitClassifier()
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=1e-3)
    steps = options.epochs * (TRAINED // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    for epoch in range(options.epochs):
        network.train()
        order, losses = torch.randperm(TRAINED), []
        for chosen in order[: TRAINED // BATCH * BATCH].split(BATCH):
            loss = F.cross_entropy(network(augment(inks[chosen])), truth[chosen], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}", flush=True)
    network.eval()
    with torch.inference_mode():
        right = (network(inks[TRAINED:]).argmax(1) == truth[TRAINED:]).float().mean()
    print(f"{right:.1%} of the last {len(truth) - TRAINED} digits, at {SIDE} pixels a side")
    save_tensors(options.out, network.state_dict())
    share = (TRAINED / len(truth), 1.0)
    for size in (64, 112):
        clips = [
            sample_clip("digits", 0, i, size=size, frames=2, source=options.pictures, share=share) for i in range(500)
        ]
        last = np.stack([np.asarray(clip.frames)[-1] for clip in clips])
        found = read_digits(last, network)
        right = (found == torch.tensor([clip.meta["label"] for clip in clips])).float().mean()
        print(f"{right:.1%} of 500 such digits somewhere in frames of {size} pixels")
    print(f"{options.out.stat().st_size / 1024:.0f} KB")


def augment(inks: Tensor) -> Tensor:
    """Rotate by up to 10 degrees, scale by up to 10 %, shift by up to 2 pixels; half of them at low resolution."""
    count = len(inks)
    turn = (torch.rand(count) * 2 - 1) * math.radians(10)
    scale = 1 + (torch.rand(count) * 2 - 1) * 0.1
    shift = (torch.rand(count, 2) * 2 - 1) * 2 * 2 / (SIDE - 1)
    cos, sin = scale * turn.cos(), scale * turn.sin()
    maps = torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1)
    grid = F.affine_grid(maps, list(inks.shape), align_corners=True)
    moved = F.grid_sample(inks, grid, align_corners=True)
    low = int(torch.randint(12, SIDE, ()))
    small = F.interpolate(moved[::2], (low, low), mode="area")
    moved[::2] = F.interpolate(small, (SIDE, SIDE), mode="bicubic", align_corners=False).clamp(0, 1)
    return moved


if __name__ == "__main__":
    main()
