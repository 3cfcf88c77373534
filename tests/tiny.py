"""A driving system small enough for tests, and soft pictures to feed it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from stillmotion.systems.driving.animating import Driving
from stillmotion.systems.driving.config import DrivingConfig

TINY = DrivingConfig(
    size=32,
    keypoints=3,
    detector_expansion=4,
    detector_max=16,
    detector_blocks=3,
    motion_expansion=4,
    motion_max=16,
    motion_blocks=2,
    motion_groups=1,
    generator_expansion=4,
    generator_max=16,
    generator_blocks=2,
    refine_blocks=1,
    composite=True,
    discriminator_expansion=4,
    discriminator_max=8,
    discriminator_blocks=2,
    feature_weights=(1.0, 1.0, 1.0),
)


def tiny_driving(seed: int = 0, card: dict[str, Any] | None = None, **changes: Any) -> Driving:
    """A tiny system whose weights, norms included, are all different from what `build` starts with."""
    torch.manual_seed(seed)
    system = Driving.build(replace(TINY, **changes), card)
    with torch.no_grad():
        for name, value in system.networks.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif value.is_floating_point():
                value.add_(0.05 * torch.randn(value.shape))
    return system


def still_picture(size: tuple[int, int] = (32, 32)) -> np.ndarray:
    """A soft ramp with a bright square left of the middle; H x W x 3 `uint8`."""
    height, width = size
    y, x = np.mgrid[0:height, 0:width]
    picture = np.stack([x * 150 / width, y * 150 / height, 60 + 0 * x], -1)
    picture[height // 3 : height // 2, width // 4 : width // 2] = (250, 240, 40)
    return picture.astype(np.uint8)


def driving_frames(count: int, size: tuple[int, int] = (32, 32)) -> np.ndarray:
    """The same picture, its content rolling to the right by one pixel per frame; T x H x W x 3 `uint8`."""
    picture = still_picture(size)
    return np.stack([np.roll(picture, t, axis=1) for t in range(count)])
