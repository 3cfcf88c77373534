"""State of a running training, and what it reports: console, log, TensorBoard, previews."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import torch
from accelerate import Accelerator

from stillmotion.nn.modes import eval_mode
from stillmotion.training import checkpoint, distributed, state
from stillmotion.training.ema import EMA
from stillmotion.training.logging import Console, JsonLines, MeanMeter, TensorBoard, save_images
from stillmotion.training.settings import LoopSettings
from stillmotion.training.signals import StopSignal
from stillmotion.training.stage import Stage, optional
from stillmotion.training.update import Updater


@dataclass
class Session:
    """One call of `fit`: what its stages share, and the training time, which continues over resumes.

    Attributes:
        seconds: of training until the last `tick`, with those of the calls before.
    """

    run: Path
    stages: list[str]
    settings: LoopSettings
    accelerator: Accelerator
    stop_signal: StopSignal
    log: JsonLines
    config_hash: str
    precision: str = "fp32"
    seconds: float = 0.0
    _ticked: float = field(default_factory=lambda: perf_counter())

    def tick(self) -> None:
        """Add the time since the last tick."""
        before, self._ticked = self._ticked, perf_counter()
        self.seconds += self._ticked - before

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and the console."""
        return bool(self.accelerator.is_main_process)


@dataclass
class Progress:
    """One stage while it is trained.

    Attributes:
        started: the session's seconds when the stage began, in the first call of a run that is resumed.
        seconds_given: how many it may take from then on.
        share: how much of the stage is over, of its steps or its seconds, whichever is more; up to 1.
        finished: whether all of it is.
    """

    stage: Stage
    updater: Updater
    ema: EMA
    meter: MeanMeter
    console: Console | None = None
    tensorboard: TensorBoard | None = None
    started: float = 0.0
    seconds_given: float = math.inf
    step: int = 0
    share: float = 0.0
    finished: bool = False
    stopped: bool = False
    last_log: tuple[float, int] = (0.0, 0)  # seconds, step

    def seconds_left(self, now: float, steps_per_s: float) -> float:
        """What the steps that are left take at this rate, or the budget allows; `now` in the session's seconds."""
        by_steps = (self.stage.steps - self.step) / steps_per_s
        return 0.0 if self.finished else max(0.0, min(by_steps, self.started + self.seconds_given - now))


@contextlib.contextmanager
def displays(session: Session, progress: Progress) -> Iterator[None]:
    """Console and TensorBoard, on the first process."""
    if not session.is_main:
        yield
        return
    stage = progress.stage
    progress.console = Console(stage.name, progress.step, stage.steps)
    progress.tensorboard = TensorBoard(session.run / "tensorboard" / stage.name, progress.step)
    try:
        yield
    finally:
        progress.console.close()
        progress.tensorboard.close()


def log(session: Session, progress: Progress) -> None:
    """Log the mean losses since the last time, over all processes, to file, console and TensorBoard."""
    sums = shared_sums(session, progress)
    progress.meter.reset()
    if not session.is_main:
        return
    stage, (seconds, step) = progress.stage, progress.last_log
    losses = {name: total / count for name, (total, count) in sums.items()}
    steps_per_s = (progress.step - step) / max(session.seconds - seconds, 1e-9)
    rate, left = steps_per_s * stage.batch, progress.seconds_left(session.seconds, steps_per_s)
    progress.last_log = (session.seconds, progress.step)
    rates = dict(progress.updater.rates)
    line = {"stage": stage.name, "step": progress.step, "losses": losses, "lr": rates}
    session.log.write(line | {"samples_per_s": round(rate, 3), "seconds": round(session.seconds, 3)})
    if progress.console is not None and progress.tensorboard is not None:
        progress.console.total = round(progress.step / progress.share)  # a time budget leaves fewer than configured
        progress.console.losses(progress.step, losses, rate, left)
        progress.tensorboard.scalars(progress.step, losses | {f"lr/{name}": value for name, value in rates.items()})


def shared_sums(session: Session, progress: Progress) -> dict[str, tuple[float, int]]:
    """Sums of the logged scalars, averaged over processes."""
    sums = progress.meter.sums()
    totals = distributed.mean(session.accelerator, (total for total, _ in sums.values()))
    return {name: (total, count) for (name, (_, count)), total in zip(sums.items(), totals, strict=True)}


def preview(session: Session, progress: Progress) -> None:
    """Make preview images on the main process; weights and random states are the same afterwards."""
    make = getattr(progress.stage, "preview", None)
    if make is None or not session.is_main:
        return
    generators = optional(progress.stage, "generators")
    states = state.capture(generators)
    try:
        with eval_mode(*progress.stage.networks.values()), progress.ema.applied(), torch.no_grad():
            images = make()
    finally:
        state.restore(states, generators)
    save_images(session.run / "previews", progress.stage.name, progress.step, images)
    if progress.tensorboard is not None:
        progress.tensorboard.images(progress.step, images)


def report_stop(session: Session, progress: Progress) -> None:
    """Print the reason and the checkpoint, unless the run is finished."""
    stage, stop_signal = progress.stage, session.stop_signal
    stop_signal.reason = stop_signal.reason or "another process"
    if progress.console is None or (progress.finished and stage.name == session.stages[-1]):
        return
    folder = checkpoint.folder_of(session.run, stage.name, progress.step)
    progress.console.line(
        f"Stopped by {stop_signal.reason} after step {progress.step} of {stage.steps}; the checkpoint {folder.name} "
        "is written, and the same command with --resume goes on from there."
    )
