"""Trains the network that refines the edge of a still's figure: src/stillmotion/rendering/alpha.safetensors.

Ten minutes of one core. Made puppets and plants at twice the size, halved, give true alphas; their masks at a
quarter of the size, shifted, blurred and noisy, are what the network has to refine.

    python recipes/alpha.py FOLDER [--steps N] [--out FILE]      FOLDER keeps the made pictures
"""

import argparse
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stillmotion.data.clipset import open_dataset
from stillmotion.files import save_tensors
from stillmotion.rendering.alpha import WEIGHTS, AlphaNetwork

SIDE, CROP, BATCH = 256, 64, 8
RATE = 2e-3


def made_pictures(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Stills, N x 256 x 256 x 3 `uint8`, and their true alphas, N x 256 x 256."""
    stills, alphas = [], []
    for world, count in (("puppets", 160), ("plants", 80)):
        if not (folder / world).is_dir():
            how = ["--clips", str(count), "--frames", "2", "--size", str(2 * SIDE), "--seed", "5"]
            subprocess.run(
                [sys.executable, "-m", "stillmotion", "world", world, str(folder / world), *how], check=True
            )
        for clip in open_dataset(folder / world):
            stills.append(cv2.resize(np.asarray(clip.frames[0]), (SIDE, SIDE), interpolation=cv2.INTER_AREA))
            figure = (np.asarray(clip.tracks["parts"])[0] > 0).astype(np.float32)
            alphas.append(cv2.resize(figure, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
    return np.stack(stills), np.stack(alphas)


def rough_mask(alpha: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a mask at a quarter of the size is after enlarging: shifted, blurred, noisy."""
    size = int(rng.choice([SIDE // 4, SIDE // 4, SIDE // 2, SIDE // 8]))
    shift = np.float32([[1, 0, rng.normal(0, 1.5)], [0, 1, rng.normal(0, 1.5)]])
    moved = cv2.warpAffine(alpha, shift, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
    small = cv2.resize(moved, (size, size), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), rng.uniform(0.3, 0.8))
    noise = cv2.GaussianBlur(rng.normal(0, 1, small.shape).astype(np.float32), (0, 0), 1.0)
    logit = np.log(np.clip(small, 0.01, 0.99) / (1 - np.clip(small, 0.01, 0.99))) * rng.uniform(0.7, 1.6)
    small = (1 / (1 + np.exp(-(logit + 1.5 * noise * (np.abs(logit) < 3))))).astype(np.float32)
    return np.asarray(cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR))


def sample(stills: np.ndarray, alphas: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """A crop around the figure's edge: still, rough mask, true alpha."""
    index = int(rng.integers(len(stills)))
    alpha = alphas[index]
    still = stills[index].astype(np.float32) / 255
    scaled = np.clip((still - 0.5) * rng.uniform(0.5, 1.3, 3) + 0.5 + rng.uniform(-0.15, 0.15, 3), 0, 1)
    if rng.random() < 0.5:  # the figure and its background in colours of their own
        other = np.clip((still - 0.5) * rng.uniform(0.5, 1.3, 3) + 0.5 + rng.uniform(-0.15, 0.15, 3), 0, 1)
        scaled = alpha[..., None] * scaled + (1 - alpha[..., None]) * other
    rows, columns = np.nonzero((alpha > 0.2) & (alpha < 0.8))
    at = int(rng.integers(len(rows)))
    top, left = (int(np.clip(v + rng.integers(-16, 17) - CROP // 2, 0, SIDE - CROP)) for v in (rows[at], columns[at]))
    part = np.s_[top : top + CROP, left : left + CROP]
    mirror = -1 if rng.random() < 0.5 else 1
    pictures = (scaled[part].transpose(2, 0, 1), rough_mask(alpha, rng)[part][None], alpha[part][None])
    picked = (torch.from_numpy(p[..., ::mirror].astype(np.float32)) for p in pictures)
    return tuple(picked)  # type: ignore[return-value]


def stacked(samples: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """A batch out of samples."""
    still, mask, alpha = (torch.stack(parts) for parts in zip(*samples, strict=True))
    return still, mask, alpha


def loss_of(found: Tensor, alpha: Tensor) -> Tensor:
    """L1 of alpha and of its gradient."""
    terms = [F.l1_loss(found, alpha)]
    terms += [0.5 * F.l1_loss(found.diff(dim=axis), alpha.diff(dim=axis)) for axis in (2, 3)]
    return torch.stack(terms).sum()


def main() -> None:
    """Train and save."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--steps", type=int, default=2500)
    arguments.add_argument("--out", type=Path, default=WEIGHTS)
    given = arguments.parse_args()
    stills, alphas = made_pictures(given.folder)
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    network = AlphaNetwork()
    held_back = [sample(stills[::10], alphas[::10], rng) for _ in range(64)]
    stills, alphas = (np.delete(values, np.s_[::10], axis=0) for values in (stills, alphas))
    adam = torch.optim.Adam(network.parameters(), RATE)
    for step in range(given.steps):
        adam.param_groups[0]["lr"] = RATE * (1 - step / given.steps)
        still, mask, alpha = stacked([sample(stills, alphas, rng) for _ in range(BATCH)])
        adam.zero_grad()
        loss = loss_of(network(still, mask), alpha)
        loss.backward()
        adam.step()
    still, mask, alpha = stacked(held_back)
    with torch.no_grad():
        found = network(still, mask)
    edge = (F.max_pool2d(alpha, 9, 1, 4) - -F.max_pool2d(-alpha, 9, 1, 4)) > 0.1
    errors = [float((values - alpha).abs()[edge].mean()) for values in (mask, found)]
    print(f"error of alpha at the edge: {errors[0]:.4f} of the enlarged mask, {errors[1]:.4f} of the network")
    save_tensors(given.out, {name: value.half() for name, value in network.state_dict().items()})


if __name__ == "__main__":
    main()
