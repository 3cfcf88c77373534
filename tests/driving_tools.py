"""Small driving systems and made clips for the tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from stillmotion.data.clip import Clip
from stillmotion.systems.driving.config import DrivingConfig
from stillmotion.systems.driving.networks import DrivingNetworks, Keypoints

TINY = DrivingConfig(
    size=64,
    keypoints=3,
    detector_expansion=4,
    detector_max=8,
    detector_blocks=3,
    motion_expansion=4,
    motion_max=8,
    motion_blocks=3,
    generator_expansion=4,
    generator_max=8,
    generator_blocks=3,
    refine_blocks=1,
    discriminator_expansion=4,
    discriminator_max=8,
    batch=2,
    steps=10,
    augmentation="none",
)


def tiny(**changes: Any) -> tuple[DrivingConfig, DrivingNetworks]:
    torch.manual_seed(0)
    config = replace(TINY, **changes)
    return config, DrivingNetworks(config)


def keypoints(points: list[list[float]], variance: float = 0.01) -> Keypoints:
    """One frame's keypoints at normalised (x, y), all with the same round covariance."""
    mean = torch.tensor([points])
    return Keypoints(mean, (variance * torch.eye(2)).expand(1, len(points), 2, 2))


def moving_square(name: str, frames: int = 8, size: int = 64, seed: int = 0) -> Clip:
    """A bright square that walks over a dark ground."""
    rng = np.random.default_rng(seed)
    start, step = rng.integers(4, 30, 2), rng.integers(-3, 4, 2)
    video = np.full((frames, size, size, 3), 30, np.uint8)
    colour = rng.integers(120, 255, 3)
    for t in range(frames):
        x, y = np.clip(start + t * step, 0, size - 16)
        video[t, y : y + 16, x : x + 16] = colour
    return Clip(name, video, fps=25.0)
