"""Learning rates: of the early stages, which fall evenly, and of the paper's, which change with every time step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from stillmotion.systems.strokes.config import StrokesConfig

_EARLY_WARMUP = 50


def early(parameters: Iterable[nn.Parameter], rate: float, steps: int) -> tuple[Adam, LambdaLR]:
    """Optimiser and scheduler of the stages before the paper's: a short rise, then down evenly to a fiftieth."""
    optimizer = Adam(parameters, rate, (0.9, 0.999))

    def factor(step: int) -> float:
        return min(1.0, (step + 1) / _EARLY_WARMUP) * max(0.02, 1 - step / steps)

    return optimizer, LambdaLR(optimizer, factor)


class UpdateRates:
    """Learning rates that change with every update and not with every step of the loop, which is many updates.

    To the loop it is a scheduler whose `step` does nothing; the stage calls `advance` before each time step.
    """

    def __init__(self, optimizers: Mapping[str, Optimizer], config: StrokesConfig):
        self.optimizers, self.config = dict(optimizers), config
        self.counted = 0

    def advance(self) -> None:
        """Set the rates of the next update and count it."""
        rate = self.config.learning_rate * rate_factor(self.counted, self.config)
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = rate
        self.counted += 1

    def step(self) -> None:
        """Nothing: the updates were counted one by one."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs."""
        return {"counted": self.counted}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo `state_dict`."""
        self.counted = int(state["counted"])


def rate_factor(counted: int, config: StrokesConfig) -> float:
    """The learning rate of update number `counted` (0, 1, 2, ...) as a share of `config.learning_rate`."""
    rise = min(1.0, (counted + 1) / config.warmup) if config.warmup else 1.0
    if config.schedule == "staircase":
        return rise * config.decay ** (counted // config.decay_every)
    done = min(1.0, counted / (config.steps * (config.frames - 1)))
    return rise * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
