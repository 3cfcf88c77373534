"""Learning-rate schedules: the rate at each step as a share of the optimiser's own rate.

Needs torch and pydantic only, so that a system's configuration can hold a `Schedule`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
import torch.distributed
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Schedule:
    """A learning-rate schedule."""

    # `constant`; `milestone`: times `decay` at each milestone; `staircase`: times `decay` every `decay_every` steps;
    # `exponential`: the same, but smooth; `linear`: evenly from 1 towards 0, not below `floor`; `cosine`: half a
    # cosine from 1 to `floor`.
    kind: Literal["constant", "milestone", "staircase", "exponential", "linear", "cosine"] = "constant"
    warmup: Annotated[int, Field(ge=0)] = 0  # steps over which the rate also rises evenly, from 1 / `warmup` of it
    milestones: Annotated[tuple[Share, ...], Field(min_length=1)] = (2 / 3,)  # shares of `total`
    decay: Annotated[float, Field(gt=0, le=1)] = 0.1  # a factor
    decay_every: Count = 20_000  # steps
    floor: Share = 0.0  # the smallest share, of `linear` and `cosine`
    total: Count | None = None  # steps over which it extends, if not those of the stage; the rate stays afterwards


def factor(schedule: Schedule, step: int, steps: int) -> float:
    """The learning rate of a step (from 0) as a share of the optimiser's own; `schedule.total` precedes `steps`."""
    rise = min(1.0, (step + 1) / schedule.warmup) if schedule.warmup else 1.0
    return rise * _decayed(schedule, step, schedule.total or steps)


def _decayed(schedule: Schedule, step: int, total: int) -> float:
    if schedule.kind == "milestone":
        return schedule.decay ** sum(step >= share * total for share in schedule.milestones)
    if schedule.kind == "linear":
        return max(schedule.floor, 1 - step / total)
    if schedule.kind == "cosine":
        done = min(1.0, step / total)
        return schedule.floor + (1 - schedule.floor) * 0.5 * (1 + math.cos(math.pi * done))
    if schedule.kind == "staircase":
        return schedule.decay ** (step // schedule.decay_every)
    if schedule.kind == "exponential":
        return schedule.decay ** (step / schedule.decay_every)
    return 1.0


def scheduler(optimizer: Optimizer, schedule: Schedule, steps: int) -> LambdaLR:
    """A scheduler for `Stage.schedulers`, which the loop steps once per step; the present rates are of share 1."""
    return LambdaLR(optimizer, lambda step: factor(schedule, step, steps))


class UpdateSchedule:
    """A schedule that counts updates, for stages that make several per step of the loop.

    The stage calls `advance` before each update. To the loop it is a scheduler whose `step` does nothing.
    """

    def __init__(self, optimizers: Mapping[str, Optimizer], schedule: Schedule, updates: int):
        """Args: the optimisers (their present rates are those of share 1); which; the updates of the whole stage."""
        self.schedule, self.updates = schedule, updates
        self.count = 0
        self._groups = [(group, group["lr"]) for o in optimizers.values() for group in o.param_groups]

    def advance(self) -> None:
        """Set the learning rates of the next update and count it."""
        share = factor(self.schedule, self.count, self.updates)
        for group, rate in self._groups:
            group["lr"] = rate * share
        self.count += 1

    def step(self) -> None:
        """Nothing: updates are counted one by one."""

    def state_dict(self) -> dict[str, Any]:
        """The count, for checkpoints."""
        return {"count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a stored count."""
        self.count = int(state["count"])


class EpochPlateau:
    """Lowers a learning rate to a tenth when the mean loss of an epoch has not fallen for `patience` epochs.

    `ReduceLROnPlateau` needs a loss, and the loop steps schedulers without one. So the stage passes every step's loss
    to `observe`. To the loop it is a scheduler, which acts at the end of each epoch.
    """

    def __init__(self, optimizer: Optimizer, steps_per_epoch: int, patience: int):
        self.plateau = ReduceLROnPlateau(optimizer, factor=0.1, patience=patience)
        self.steps_per_epoch = steps_per_epoch
        self.total, self.count = 0.0, 0

    def observe(self, loss: Tensor) -> None:
        """Add the loss of one step: its mean over all processes, so that their rates stay the same."""
        loss = loss.detach().float().clone()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(loss)
            loss /= torch.distributed.get_world_size()
        self.total, self.count = self.total + loss.item(), self.count + 1

    def step(self) -> None:
        """After a step of the optimiser; acts at the end of an epoch only."""
        if self.count < self.steps_per_epoch:
            return
        self.plateau.step(self.total / self.count)
        self.total, self.count = 0.0, 0

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers, for checkpoints."""
        return {"plateau": self.plateau.state_dict(), "total": self.total, "count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a stored state."""
        self.plateau.load_state_dict(dict(state["plateau"]))
        self.total, self.count = state["total"], state["count"]
