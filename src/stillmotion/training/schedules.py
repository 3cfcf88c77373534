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
from torch.optim.lr_scheduler import ReduceLROnPlateau

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


def factor(schedule: Schedule, step: int, steps: int, place: float | None = None) -> float:
    """The learning rate of a step (from 0) as a share of the optimiser's own; `schedule.total` precedes `steps`.

    `place` is the step whose decay it has, if not its own. The warm-up counts steps all the same, for it is there for
    Adam's estimates, which need them.
    """
    rise = min(1.0, (step + 1) / schedule.warmup) if schedule.warmup else 1.0
    return rise * _decayed(schedule, step if place is None else place, schedule.total or steps)


def _decayed(schedule: Schedule, step: float, total: int) -> float:
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


def scheduler(optimizer: Optimizer, schedule: Schedule, steps: int) -> StepSchedule:
    """A scheduler of one optimiser, see `StepSchedule`."""
    return StepSchedule({"": optimizer}, schedule, steps)


class StepSchedule:
    """A scheduler for `Stage.schedulers`, which the loop steps once per step.

    Under a time budget the loop also tells which share of the stage is over (`follow`). The decay is then that of the
    step at this share, if it is beyond the steps made.

    Attributes:
        count: steps made.
    """

    def __init__(self, optimizers: Mapping[str, Optimizer], schedule: Schedule, steps: int):
        """Args: the optimisers (their present rates are those of share 1); which; the steps of the whole stage."""
        self.schedule, self.steps = schedule, steps
        self.count, self._share = 0, 0.0
        # Not the groups: an optimiser that loads a state has new ones.
        self._rates = [(o, [group["lr"] for group in o.param_groups]) for o in optimizers.values()]
        self._set_rates()

    @property
    def last_epoch(self) -> float:
        """The place in the schedule, in steps; the name is that of torch's schedulers."""
        return max(self.count, self._share * self.steps)

    def follow(self, share: float) -> None:
        """Go on from the place at a share of the stage."""
        self._share = share
        self._set_rates()

    def step(self) -> None:
        """Count a step and set the learning rates of the next."""
        self.count += 1
        self._set_rates()

    def state_dict(self) -> dict[str, Any]:
        """The count, for checkpoints; the loop tells the share anew."""
        return {"count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a stored count."""
        self.count = int(state["count"])
        self._set_rates()

    def _set_rates(self) -> None:
        share = factor(self.schedule, self.count, self.steps, self.last_epoch)
        for optimizer, rates in self._rates:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"], group["initial_lr"] = rate * share, rate  # the name is that of torch's schedulers


class UpdateSchedule(StepSchedule):
    """A schedule whose steps are updates, for stages that make several per step of the loop.

    The stage calls `advance` before each update. To the loop it is a scheduler whose `step` does nothing.
    """

    def advance(self) -> None:
        """Set the learning rates of the next update and count it."""
        self._set_rates()
        self.count += 1

    def step(self) -> None:
        """Nothing: updates are counted one by one."""


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
