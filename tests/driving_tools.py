"""Small driving systems and made clips for the tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from stillmotion.systems.driving.composing import Still

from stillmotion import geometry
from stillmotion.data.clip import Clip
from stillmotion.systems.driving.animating import Driving
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

TINY_32 = replace(
    TINY,
    size=32,
    motion_blocks=2,
    motion_groups=1,
    generator_blocks=2,
    composite=True,
    discriminator_blocks=2,
    feature_weights=(1.0, 1.0, 1.0),
)
"""Half as large, and with the blend of the preset `small`: for tests that animate and measure."""


def tiny(**changes: Any) -> tuple[DrivingConfig, DrivingNetworks]:
    """Networks as a training starts with them."""
    torch.manual_seed(0)
    config = replace(TINY, **changes)
    return config, DrivingNetworks(config)


def tiny_driving(seed: int = 0, card: dict[str, Any] | None = None, **changes: Any) -> Driving:
    """A tiny system whose weights, norms included, are all different from what `build` starts with."""
    torch.manual_seed(seed)
    system = Driving.build(replace(TINY_32, **changes), card)
    with torch.no_grad():
        for name, value in system.networks.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif value.is_floating_point():
                value.add_(0.05 * torch.randn(value.shape))
    return system


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


def system(**changes: Any) -> Driving:
    """A tiny system with trained-looking statistics and a flow that is not zero, so that frames differ."""
    config, networks = tiny(**changes)
    with torch.no_grad():
        networks.train()
        for _ in range(3):
            found = networks.detector(torch.rand(4, 3, 64, 64))
            networks.generator(networks.generator.encode(torch.rand(4, 3, 64, 64)), found, found)
        if networks.generator.dense_motion is not None:
            networks.generator.dense_motion.head.weight.normal_(0, 0.05)
    return Driving(config, networks)


class BrightSpot(torch.nn.Module):
    """Finds the bright thing in a dark picture: three keypoints at its centre, its width and its height away."""

    def forward(self, frames: torch.Tensor) -> Keypoints:
        heat = (frames.mean(1, keepdim=True) - 0.3).clamp_min(0) + 1e-9
        mean, covariance = geometry.soft_argmax(heat / heat.sum((2, 3), keepdim=True))
        spread = covariance[:, 0].diagonal(dim1=1, dim2=2).sqrt()
        centre = mean[:, 0]
        points = torch.stack(
            [centre, centre + spread * torch.tensor([2, 0]), centre - spread * torch.tensor([0, 2])], 1
        )
        return Keypoints(points, (0.01 * torch.eye(2)).expand(len(points), 3, 2, 2))


def seeing(**changes: Any) -> Driving:
    """`system` with keypoints that follow the bright thing."""
    driving = system(**changes)
    driving.networks.detector = BrightSpot()
    return driving


def spot(size: tuple[int, int], x: int, y: int, side: int) -> np.ndarray:
    """A bright square with its corner at x, y in a dark picture, `size` being (height, width)."""
    picture = np.full((*size, 3), 20, np.uint8)
    picture[y : y + side, x : x + side] = 250
    return picture


DRIVER = np.stack([spot((64, 64), 20, 16, 24), spot((64, 64), 24, 16, 24)])
"""Two frames: the square goes four pixels to the right."""


def own_means(driving: Driving, picture: np.ndarray) -> np.ndarray:
    """The keypoints of a picture, K x 2, normalised."""
    with torch.no_grad():
        return Still.prepare(driving, picture).keypoints.mean[0].numpy()
