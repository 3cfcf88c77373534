"""The training loop: runs the stages of any system in order, and resumes any of them exactly."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from stillmotion.data.sampling import loader
from stillmotion.errors import StillmotionError
from stillmotion.files import load_tensors, parsing, read_json, write_json
from stillmotion.nn import device
from stillmotion.outputs import check_name, remove_stale, writing
from stillmotion.training import checkpoint, distributed, prefetch, reporting, state
from stillmotion.training.checkpoint import Checkpoint
from stillmotion.training.ema import EMA
from stillmotion.training.logging import JsonLines, MeanMeter
from stillmotion.training.reporting import Progress, Session
from stillmotion.training.schedules import StepSchedule
from stillmotion.training.settings import LoopSettings, Outcome
from stillmotion.training.signals import StopSignal
from stillmotion.training.stage import Batch, Stage, check_stages, optional
from stillmotion.training.update import Updater
from stillmotion.version import __version__

CONFIG = "config.json"


def fit(
    stages: Sequence[Stage],
    run: Path,
    settings: LoopSettings | None = None,
    *,
    config: Mapping[str, Any],
    may_change: Collection[str] = (),
    resume: bool = False,
) -> Outcome:
    """Train stages one after the other.

    Writes into `run`: `config.json`, `checkpoints/`, `last.json`, `log.jsonl`, `previews/` and
    `tensorboard/`. Under `torchrun` each process calls this with stages of its own and the same folder. When
    it returns, the networks hold their final weights (averaged ones where the stage has `ema`), unless it was
    stopped, and are in eval mode; while a stage trains, its networks are in training mode.

    Args:
        stages: what to train, in order.
        run: folder of this training.
        settings: how to train.
        config: everything that decides what is trained, as JSON values; a run is only resumed with the same.
        may_change: dotted names in `config` that may differ on resume; an entry of a list is named by its `name`. A
            stage that is given more steps than it was finished with goes on.
        resume: continue the run in `run` from its last checkpoint; if it has none yet, start it.

    Returns:
        How it ended.

    Raises:
        StillmotionError: the folder holds another run, a checkpoint is damaged, a loss became NaN, the disk is full.
    """
    settings = settings or LoopSettings()
    accelerator = distributed.start(settings)
    check_stages(stages, accelerator.num_processes)
    names = [stage.name for stage in stages]
    digest = hashlib.sha256(json.dumps(_leaves(config, may_change), sort_keys=True).encode()).hexdigest()
    distributed.on_main(accelerator, _open_run, run, config, may_change, resume)
    last = checkpoint.find_last(run, names) if resume else None
    if last is not None and stages[names.index(last.state.stage)].steps < last.state.step:
        raise StillmotionError(
            f"Stage {last.state.stage!r} in {run} has {last.state.step} steps already; give as many or more."
        )
    distributed.on_main(accelerator, write_json, run / CONFIG, config)
    with StopSignal() as stop_signal:
        log = JsonLines(run / "log.jsonl")
        session = Session(run, names, settings, accelerator, stop_signal, log, config_hash=digest)
        _prepare(session, last)
        _place_all(session, stages, resume)
        try:
            return _run_stages(session, stages, last)
        finally:
            session.log.close()
            for stage in stages:
                for network in stage.networks.values():
                    network.eval()


def _is_derived(path: Path) -> bool:
    """Whether a folder holds derived tracks and nothing else: a new run may be given those of another."""
    return path.is_dir() and {each.name.partition("-")[0] for each in path.iterdir()} == {"chunk"}


def check_run(run: Path, resume: bool) -> None:
    """Refuse a folder that is not new, or with `resume` no run; what is there stays as it is.

    Raises:
        StillmotionError: says which.
    """
    check_name(run)
    with writing(run):
        if not run.is_dir():
            if run.exists():
                raise StillmotionError(f"{str(run)!r} is not a folder; choose another name for the run.")
            if resume:
                raise StillmotionError(
                    f"There is no run to resume in {run}; check the name or start without resuming."
                )
            return
        own = (path for path in run.iterdir() if not path.name.startswith(".stillmotion-") and not _is_derived(path))
        names = sorted(path.name for path in own)
    is_run = CONFIG in names and not {"checkpoints", "log.jsonl", "initial.safetensors"}.isdisjoint(names)
    if is_run and not resume:
        raise StillmotionError(f"{run} already holds a training: resume it or choose another folder.")
    if names and not is_run and names != [CONFIG]:
        raise StillmotionError(f"{run} holds {names[0]!r} and is no run; choose another folder.")
    if names == [CONFIG] and not resume:
        raise StillmotionError(f"{run} holds a {CONFIG} already; choose another folder.")


def _open_run(run: Path, config: Mapping[str, Any], may_change: Collection[str], resume: bool) -> None:
    """Check that the folder is new, or is this run; on the first process only."""
    check_run(run, resume)
    remove_stale(run / "checkpoints")
    remove_stale(run)
    if resume and (run / CONFIG).is_file():
        _same_config(run, config, may_change)
    with writing(run):
        run.mkdir(parents=True, exist_ok=True)


def _same_config(run: Path, config: Mapping[str, Any], may_change: Collection[str] = ()) -> None:
    stored = read_json(run / CONFIG)
    if not isinstance(stored, dict):
        raise StillmotionError(f"{run / CONFIG} is not the configuration of a training; start a new run.")
    then, now = _leaves(stored, may_change), _leaves(json.loads(json.dumps(config)), may_change)
    differing = [
        f"{key}: {json.dumps(then.get(key))[:60]} then, {json.dumps(now.get(key))[:60]} now"
        for key in sorted(then.keys() | now.keys())
        if then.get(key) != now.get(key)
    ]
    if differing:
        raise StillmotionError(
            f"The run in {run} was started with another configuration ({'; '.join(differing[:3])}); resume it "
            "with the same one or start a new run in another folder."
        )


def _leaves(values: Any, without: Collection[str] = (), prefix: str = "") -> dict[str, Any]:
    """The values of nested plain values by dotted name, but for those in `without` and below."""
    if isinstance(values, list | tuple):
        names = [each.get("name", i) if isinstance(each, dict) else i for i, each in enumerate(values)]
        values = dict(zip(map(str, names), values, strict=True))
    if not isinstance(values, Mapping) or not values:
        return {prefix: {} if isinstance(values, Mapping) else values}
    inner = {f"{prefix}.{name}".lstrip("."): value for name, value in values.items()}
    return {
        key: leaf
        for name, value in inner.items()
        if name not in without
        for key, leaf in _leaves(value, without, name).items()
    }


def _prepare(session: Session, last: Checkpoint | None) -> None:
    """Check that the run is the same, and choose the precision: once, for the same bits on resume."""
    settings = session.settings
    if last is not None:
        if last.state.config_hash != session.config_hash:
            raise StillmotionError(
                f"The checkpoint {last.folder.name} belongs to another configuration than {session.run} has "
                "now; restore the run's config.json or start a new run."
            )
        if last.state.processes != session.accelerator.num_processes:
            raise StillmotionError(
                f"The run in {session.run} was trained by {last.state.processes} processes, not "
                f"{session.accelerator.num_processes}: resume it with as many, each has random numbers of its own."
            )
        session.seconds = last.state.seconds
        unfinished = not (last.state.finished and last.state.stage == session.stages[-1])
        if unfinished and settings.time_budget_s is not None and session.seconds >= settings.time_budget_s:
            raise StillmotionError(
                f"The run in {session.run} has been trained for {session.seconds / 60:.1f} minutes, which a time "
                "budget counts: give a larger one."
            )
    times: dict[str, float] = {}
    if last is not None and settings.precision == "auto":
        session.precision = last.state.precision
    else:
        chosen = device.choose_precision(settings.precision, session.accelerator.device, settings.channels_last)
        session.precision, times = distributed.broadcast_value(session.accelerator, chosen)
    if not session.is_main:
        return
    stage, step = (session.stages[0], 0) if last is None else (last.state.stage, last.state.step)
    session.log.truncate(session.stages, stage, step)
    session.log.write(
        {
            "event": "start" if last is None else "resume",
            "stage": stage,
            "step": step,
            "precision": session.precision,
            "time_budget_s": settings.time_budget_s,
            "probe_ms": times,
            "device": str(session.accelerator.device),
            "processes": session.accelerator.num_processes,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "stillmotion": __version__,
            "machine": platform.machine(),
        }
    )


def _run_stages(session: Session, stages: Sequence[Stage], last: Checkpoint | None) -> Outcome:
    current = session.stages.index(last.state.stage) if last is not None else 0
    step = 0
    for index, stage in enumerate(stages):
        if index < current:
            checkpoint.load_final(session.run, stage)
            continue
        progress = _train_stage(session, stages[index:], last if index == current else None)
        step = progress.step
        if progress.stopped and not (progress.finished and stage is stages[-1]):
            return Outcome(False, stage.name, step, session.stop_signal.reason)
    return Outcome(True, stages[-1].name, step)


def _place_all(session: Session, stages: Sequence[Stage], resume: bool) -> None:
    """Move all networks to the device, and start from the same weights on all processes and on every resume.

    The initial weights come from generators that the loop does not know, so they are kept in a file: a stage
    that starts only after a resume starts from the weights that the main process had initialised for it.
    """
    for stage in stages:
        for network in stage.networks.values():
            # In place: the optimisers hold these very parameters.
            network.to(session.accelerator.device)
            if session.settings.channels_last:
                for parameter in network.parameters():
                    if parameter.dim() == 4:
                        parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    initial = session.run / "initial.safetensors"
    if not (resume and initial.is_file()):
        for stage in stages:
            distributed.broadcast_weights(session.accelerator, stage.networks)
        distributed.on_main(session.accelerator, checkpoint.save_initial, initial, stages)
    else:
        checkpoint.load_initial(initial, stages)


def _train_stage(session: Session, stages: Sequence[Stage], last: Checkpoint | None) -> Progress:
    """Train the first of the stages that are left, from its checkpoint if there is one."""
    stage = stages[0]
    session.tick()
    started = session.seconds if last is None else last.state.started
    generators = optional(stage, "generators")
    rank, world = session.accelerator.process_index, session.accelerator.num_processes
    state.seed_all(session.settings.seed, stage.name, rank, generators)
    for network in stage.networks.values():
        network.train()  # systems come in eval mode, in which batch norm does not learn
    if (begin := getattr(stage, "begin", None)) is not None:
        begin(session.run)
        distributed.broadcast_weights(session.accelerator, stage.networks)
    ema = EMA(optional(stage, "ema"), session.settings.ema_decay)
    progress = Progress(stage, Updater(stage, session.accelerator), ema, MeanMeter())
    progress.step = last.state.step if last is not None else 0
    progress.started = started
    if (budget := session.settings.time_budget_s) is not None:
        # What the stages before have left is shared by steps, so that none takes the time of those behind it.
        progress.seconds_given = (budget - started) * stage.steps / sum(each.steps for each in stages)
    with session.stop_signal.children_ignore_interrupts():
        batches = iter(
            loader(
                stage.dataset,
                start_step=progress.step,
                steps=stage.steps - progress.step,
                batch=stage.batch // world,
                rank=rank,
                world=world,
                workers=session.settings.workers,
            )
        )
    if last is not None:
        progress.finished = last.state.finished and stage.steps <= last.state.steps
        checkpoint.load(last, stage, ema)
        progress.meter.reset(last.state.sums)
        path = last.folder / "rng.safetensors"
        states = load_tensors(path)
        with parsing(f"The file {path}", "it does not hold the random numbers of this training"):
            state.restore(distributed.own_rank(session.accelerator, states), generators)
    moved = prefetch.on_device(batches, session.accelerator.device, session.settings.channels_last)
    with reporting.displays(session, progress), moved as on_device:
        _iterate(session, progress, on_device)
    if progress.finished and ema.shadow:
        ema.copy_to_networks()
    return progress


def _iterate(session: Session, progress: Progress, batches: Iterator[Batch]) -> None:
    """The steps of a stage, until it is done or there is a reason to stop."""
    settings = session.settings
    _synchronise(session, progress)
    progress.last_log = (session.seconds, progress.step)
    while not (progress.finished or progress.stopped):
        _step(session, progress, next(batches))
        progress.stopped = _synchronise(session, progress)
        progress.finished = progress.share == 1
        if progress.step % settings.log_every == 0 or progress.finished:
            reporting.log(session, progress)
        if settings.preview_every and (progress.step % settings.preview_every == 0 or progress.finished):
            reporting.preview(session, progress)
        if progress.step % settings.checkpoint_every == 0 or progress.finished or progress.stopped:
            _save(session, progress)
    if progress.stopped:
        reporting.report_stop(session, progress)


def _synchronise(session: Session, progress: Progress) -> bool:
    """Take the time, and tell whether to stop: all processes have the same rates and leave at the same step."""
    session.tick()
    by_steps = progress.step / progress.stage.steps
    spent, given = session.seconds - progress.started, progress.seconds_given
    by_time = spent / given if spent < given else 1.0  # the stages before may have left nothing
    values = (max(by_steps, by_time), float(bool(session.stop_signal.reason)))
    progress.share, signalled = distributed.largest(session.accelerator, values)
    return bool(signalled)


def _step(session: Session, progress: Progress, batch: Batch) -> None:
    progress.updater.step = progress.step + 1
    progress.updater.batch = batch
    if session.settings.time_budget_s is not None:
        # The stage's own schedule at this share, below an even fall to zero, whatever the schedule ends with.
        progress.updater.decay = 1 - progress.share
        for scheduler in optional(progress.stage, "schedulers").values():
            if isinstance(scheduler, StepSchedule):
                scheduler.follow(progress.share)
    kind = session.accelerator.device.type
    with torch.autocast(kind, dtype=torch.bfloat16, enabled=session.precision == "bf16"):
        scalars = progress.stage.step(batch, progress.updater)
    for scheduler in optional(progress.stage, "schedulers").values():
        scheduler.step()
    progress.ema.update()
    progress.meter.add(scalars)
    progress.step += 1
    if progress.console is not None:
        progress.console.advance()


def _save(session: Session, progress: Progress) -> None:
    states = state.capture(optional(progress.stage, "generators"))
    states = distributed.gather_by_rank(session.accelerator, states)
    facts = checkpoint.Facts(
        steps=progress.stage.steps,
        stages=list(session.stages),
        processes=session.accelerator.num_processes,
        threads=torch.get_num_threads(),
        precision=session.precision,
        finished=progress.finished,
        seconds=session.seconds,
        started=progress.started,
        sums=reporting.shared_sums(session, progress),
        config_hash=session.config_hash,
        stillmotion=__version__,
        torch=torch.__version__,
    )

    def write() -> None:
        session.log.sync()
        checkpoint.save(
            session.run, progress.stage, progress.step, progress.ema, states, facts, session.settings.keep
        )

    distributed.on_main(session.accelerator, write)
