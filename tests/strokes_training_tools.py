"""Small trainings of strokes for the tests: clips, stages, updates, and moments made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stillmotion.data.clip import Clip
from stillmotion.data.sampling import loader
from stillmotion.systems.strokes.config import StrokesConfig
from stillmotion.systems.strokes.networks import Drawn, StrokesNetworks
from stillmotion.systems.strokes.objectives import (
    Made,
    Moment,
)
from stillmotion.systems.strokes.training import StrokeStage
from strokes_tools import TINY_STROKES

JUDGED = replace(
    TINY_STROKES,
    gan_weight=1.0,
    pair_gan_weight=1.0,
    use_pair_discriminator=True,
    crop_branch=True,
    discriminator_width=4,
)
"""With both discriminators, as the release has them."""


def square_clip(
    name: str = "c", frames: int = 8, size: int = 32, seed: int = 0, by: tuple[int, int] = (2, 1)
) -> Clip:
    """A bright square of 5 pixels that moves by `by` pixels per frame; its centre is the point."""
    corner = np.random.default_rng(seed).integers(2, 9, 2)
    video, points = np.full((frames, size, size, 3), 30, np.uint8), np.zeros((frames, 2), np.float32)
    for t in range(frames):
        x, y = corner + np.array(by) * t
        video[t, y : y + 5, x : x + 5] = (240, 200, 60)
        points[t] = (x + 2, y + 2)
    return Clip(name, video, 10.0, {"points": points})


def stage_of(config: StrokesConfig = TINY_STROKES, clips: int = 2, **changes: Any) -> StrokeStage:
    torch.manual_seed(0)
    config = replace(config, **changes)
    made = StrokeStage(StrokesNetworks(config), config, [square_clip(f"c{i}", seed=i) for i in range(clips)])
    made.generators["crops"].manual_seed(0)
    return made


def batch_of(stage: StrokeStage) -> dict[str, Any]:
    return next(iter(loader(stage.dataset, start_step=0, steps=1, batch=stage.batch)))


class Update:
    """The loop's `update` for one process; notes what it was called with."""

    def __init__(self, stage: StrokeStage, move: bool = True):
        self.stage, self.move, self.names, self.losses = stage, move, [], []
        self.after: Callable[[str], None] = lambda name: None

    def __call__(self, name: str, loss: Tensor, clip_grad: float | None = None) -> None:
        parameters = [p for group in self.stage.optimizers[name].param_groups for p in group["params"]]
        for network in self.stage.networks.values():
            network.zero_grad()
        loss.backward(inputs=parameters)
        if clip_grad is not None:
            nn.utils.clip_grad_norm_(parameters, clip_grad)
        self.names.append(name)
        self.losses.append(loss.detach())
        if self.move:
            self.stage.optimizers[name].step()
        self.after(name)


def flat(value: float, size: int = 2) -> Tensor:
    return torch.full((1, 3, size, size), value)


def moment_of(size: int = 2, truth: float = 0.0) -> Moment:
    """A moment whose still and current frame are 0 and whose truth is flat."""
    zero, nothing = flat(0.0, size), torch.zeros(())
    real = flat(truth, size)
    return Moment(0, zero, zero, real, (zero, zero, real), motion=[], step=nothing, corners=torch.zeros(1, 2).long())


def made_of(frame: float, size: int = 2, painted: float = 0.0, rebuilt: float | None = None) -> Made:
    drawn = Drawn(flat(frame, size), flat(painted, size), None)
    again = None if rebuilt is None else flat(rebuilt, size)
    return Made(torch.zeros(1, 1, 1, 1), drawn, again, torch.zeros(1, 2, 1, 1))
