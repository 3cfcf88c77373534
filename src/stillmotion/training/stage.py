"""The interface of one training stage of a system."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from stillmotion.errors import StillmotionError, check_known

Batch = Mapping[str, Any]


class Update(Protocol):
    """Argument of `Stage.step`: one optimiser step on a loss."""

    def __call__(
        self, names: str | Sequence[str], loss: Tensor, *, clip_grad: float | None = None, retain_graph: bool = False
    ) -> None:
        """Backpropagate `loss` and step.

        Only the parameters of the named optimisers get a gradient and change; those of all other networks
        stay as they are, bit for bit, whatever the loss went through.

        Args:
            names: one optimiser, or several that share this loss.
            loss: one number; a mean over the batch of this process (gradients are averaged over processes).
            clip_grad: largest norm of the gradient over all named optimisers together, if any.
            retain_graph: keep the graph of `loss` because a later update of this step goes through it again.

        Raises:
            StillmotionError: the loss or the gradient is NaN or infinite; names stage, step and clips.
        """


class Stage(Protocol):
    """One training stage of a system; any object with these members is one.

    These may be there as well:
        schedulers (`Mapping[str, LRScheduler]`): each is stepped once after every step. Those of
            `training.schedules` also follow a time budget: what else depends on the share of the stage that is over
            takes it from them, as `last_epoch / steps`.
        ema (`Mapping[str, nn.Module]`): networks, all of them in `networks` under the same name, of which an
            EMA of the weights is kept. `preview` runs with the averaged weights, and the networks take them over
            when the stage ends.
        generators (`Mapping[str, torch.Generator]`): CPU generators that `step` uses beside torch's global one. The
            loop seeds them when the stage starts, differently on each process, and stores their state.
        begin (`(Path) -> None`): called with the run's folder when the stage starts and again on every resume, after
            the networks of all earlier stages have their final weights and before this stage's own checkpoint is
            read. For what depends on earlier stages; it must do the same each time.
        preview (`() -> Mapping[str, ndarray]`): images, uint8 H x W x 3; called every `preview_every` steps
            without gradients, in eval mode, on the main process.
    """

    name: str  # a word of letters, digits and `_`, unique within a run
    steps: int  # training iterations of the whole stage, unless a time budget ends it before
    batch: int  # samples per step over all processes together
    networks: Mapping[str, nn.Module]  # everything whose weights and buffers must be saved, by a word like `name`
    optimizers: Mapping[str, torch.optim.Optimizer]  # by the names that `step` gives to `update`
    dataset: Dataset[Any]  # item n is sample number n, a pure function of n: a dict of tensors, and `name`, its clip

    def step(self, batch: Batch, update: Update) -> Mapping[str, Tensor]:
        """Do one training iteration.

        Args:
            batch: this process's samples, stacked, on the device; `name` is a list of texts.
            update: to be called for each optimiser, in the order that the paper prescribes.

        Returns:
            Numbers to log, detached; the same keys on every process.
        """


def optional(stage: Stage, member: str) -> Mapping[str, Any]:
    """A mapping that a stage may have (`schedulers`, `ema`, `generators`), empty if it has none."""
    return getattr(stage, member, None) or {}


def check_stages(stages: Sequence[Stage], world: int) -> None:
    """Refuse stages that cannot be trained or stored.

    Raises:
        StillmotionError: the batch does not divide by the number of processes.
        ValueError: a programming mistake: names that are no words or not unique, an EMA of an unknown network.
    """
    names = [stage.name for stage in stages]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"A run needs stages with different names, not {names}.")
    for stage in stages:
        for word in (stage.name, *stage.networks, *stage.optimizers, *optional(stage, "generators")):
            if not word.isidentifier():
                raise ValueError(f"Stage {stage.name!r}: {word!r} must be letters, digits and '_'.")
        for name, network in optional(stage, "ema").items():
            if stage.networks.get(name) is not network:
                raise ValueError(f"Stage {stage.name!r}: ema[{name!r}] must be networks[{name!r}].")
        if stage.steps < 1:
            raise StillmotionError(f"Stage {stage.name!r} has {stage.steps} steps; give at least 1.")
        if stage.batch < 1 or stage.batch % world:
            raise StillmotionError(
                f"The batch of {stage.batch} of stage {stage.name!r} cannot be divided among {world} "
                "processes; choose a multiple."
            )


def chosen_stages(stages: Mapping[str, int], only: Iterable[str]) -> list[str]:
    """Which stages of a training to run, of those there are (name -> steps): those in `only`, or all that have steps.

    Raises:
        StillmotionError: a stage that is not there, or has no steps.
    """
    only = list(only)
    for name in only:
        check_known("stage", name, stages)
        if not stages[name]:
            raise StillmotionError(f"The stage {name} has no steps: add --steps N.")
    return [name for name, count in stages.items() if (name in only if only else count)]


def check_clips(clips: Sequence[Any], size: int) -> None:
    """Refuse an empty data set, and clips of another size than the networks'.

    Raises:
        StillmotionError: says how to prepare them.
    """
    if not clips:
        raise StillmotionError("There are no clips to train on.")
    height, width = clips[0].frames.shape[1:3]
    if (height, width) != (size, size):
        raise StillmotionError(
            f"The clips are {height} x {width} pixels where the configuration says size {size}: "
            f"prepare them with --size {size} or train with --set size={height}."
        )


def stage_seed(seed: int, name: str) -> int:
    """The seed of a stage's samples: the same for the same run, unrelated between stages."""
    return zlib.crc32(f"{seed}/{name}".encode())
