"""What the loop tells while it trains: console, log, TensorBoard, previews."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from stillmotion.nn.modes import evaluating
from stillmotion.training import checkpoint, processes, randomness
from stillmotion.training.logging import Board, Console, save_pictures
from stillmotion.training.session import Progress, Session
from stillmotion.training.stage import optional


@contextlib.contextmanager
def showing(session: Session, progress: Progress) -> Iterator[None]:
    """Console and TensorBoard, on the first process."""
    if not session.first:
        yield
        return
    stage = progress.stage
    progress.console = Console(stage.name, progress.step, stage.steps)
    progress.board = Board(session.run / "tensorboard" / stage.name, progress.step)
    try:
        yield
    finally:
        progress.console.close()
        progress.board.close()


def log(session: Session, progress: Progress) -> None:
    """Write the losses since the last time, averaged over processes, wherever they are shown."""
    sums = shared_sums(session, progress)
    progress.numbers.start_from({})
    if not session.first:
        return
    stage, (seconds, step) = progress.stage, progress.logged
    losses = {name: total / count for name, (total, count) in sums.items()}
    rate = (progress.step - step) * stage.batch / max(session.seconds - seconds, 1e-9)
    progress.logged = (session.seconds, progress.step)
    rates = {name: float(o.param_groups[0]["lr"]) for name, o in stage.optimizers.items()}
    line = {"stage": stage.name, "step": progress.step, "losses": losses, "lr": rates}
    session.log.write(line | {"samples_per_s": round(rate, 3), "seconds": round(session.seconds, 3)})
    if progress.console is not None and progress.board is not None:
        progress.console.losses(progress.step, losses, rate)
        progress.board.numbers(progress.step, losses | {f"lr/{name}": value for name, value in rates.items()})


def shared_sums(session: Session, progress: Progress) -> dict[str, tuple[float, int]]:
    """Sums of the logged numbers, averaged over processes."""
    sums = progress.numbers.sums()
    totals = processes.mean(session.accelerator, (total for total, _ in sums.values()))
    return {name: (total, count) for (name, (_, count)), total in zip(sums.items(), totals, strict=True)}


def preview(session: Session, progress: Progress) -> None:
    """Make pictures on the first process; whatever `preview` does, the training goes on as if it had not."""
    make = getattr(progress.stage, "preview", None)
    if make is None or not session.first:
        return
    generators = optional(progress.stage, "generators")
    states = randomness.capture(generators)
    try:
        with evaluating(*progress.stage.networks.values()), progress.average.applied(), torch.no_grad():
            pictures = make()
    finally:
        randomness.restore(states, generators)
    save_pictures(session.run / "previews", progress.stage.name, progress.step, pictures)
    if progress.board is not None:
        progress.board.pictures(progress.step, pictures)


def say_stop(session: Session, progress: Progress) -> None:
    """Name the reason and the checkpoint on the console, unless nothing was left to do."""
    stage, stopper = progress.stage, session.stopper
    stopper.reason = stopper.reason or "another process"
    if progress.console is None or (progress.step == stage.steps and stage.name == session.stages[-1]):
        return
    folder = checkpoint.folder_of(session.run, stage.name, progress.step)
    progress.console.line(
        f"Stopped by {stopper.reason} after step {progress.step} of {stage.steps}; the checkpoint {folder.name} is "
        "written, and the same command with --resume goes on from there."
    )
