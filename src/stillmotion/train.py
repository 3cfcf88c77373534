"""From a system's name and prepared data to a trained model; the only place where systems, data and training meet."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pydantic.dataclasses
import torch

from stillmotion.animate import RUN_MODEL, find_system, load
from stillmotion.data.clip import Clip
from stillmotion.data.clipset import ClipSet, open_dataset
from stillmotion.errors import StillmotionError, check_known
from stillmotion.files import STRICT, change_settings, read_settings
from stillmotion.outputs import locked
from stillmotion.systems import stills
from stillmotion.systems.base import System
from stillmotion.training import LoopSettings, Outcome, check_run, fit, stage_weights


@dataclass(frozen=True)
class TrainRequest:
    """What to train, on what, from where."""

    system: str  # a system's name
    data: tuple[str, ...]  # folders of prepared data sets; `FOLDER@N` counts a set N times, to balance a small one
    run: Path  # folder of the training; the model ends up in `run/model`
    preset: str | None = None  # None for `small`, or with `stages` and `start_from` for the model's configuration
    settings: Mapping[str, Any] = field(default_factory=dict)  # changes by dotted name, values as text or numbers
    steps: int | None = None  # so many steps for every stage that runs; None for those of the configuration
    # A model whose weights to start from; its sizes must be those of the configuration. A part that it lacks as a
    # whole (a predictor) starts fresh. With `parts` it may be another system's.
    start_from: str | None = None
    parts: tuple[str, ...] = ()  # take only the weights whose names begin with one of these; empty for all
    # Run only these of the system's stages; empty for all that have steps. With `start_from` alone, neither a preset
    # nor parts, it is the model's main stage: those before it made what it starts from.
    stages: tuple[str, ...] = ()
    # Go on with the run. What is left empty here (`system` and `data` too) is as the run was started; more `steps`
    # let a finished run go on.
    resume: bool = False

    @property
    def preset_name(self) -> str:
        """The preset's name, for people."""
        goes_on = self.stages and self.start_from
        return self.preset or (f"as {Path(self.start_from or '').name}" if goes_on else "small")


def train(request: TrainRequest, loop: LoopSettings | None = None) -> str:
    """Train and save a model.

    Args:
        request: what to train.
        loop: how; None for the defaults, or on resume for what the run was started with.

    Returns:
        A sentence on how it ended and where the model is.

    Raises:
        StillmotionError: an unknown system, preset, stage or field, unusable data, or a training that failed.
    """
    with _own_run(request):
        return _train(request, loop)


def _own_run(request: TrainRequest) -> contextlib.AbstractContextManager[None]:
    """The folder of the run, checked and locked; of several processes the first does it."""
    if os.environ.get("RANK", "0") != "0":
        return contextlib.nullcontext()
    check_run(request.run, request.resume)
    return locked(request.run)


def _train(request: TrainRequest, loop: LoopSettings | None) -> str:
    before = read_run(request.run) if request.resume else None
    request = _as_before(request, before)
    loop = loop or (before.typed.loop if before else LoopSettings())
    system_class = find_system(request.system)
    source = _source(request)
    if source is not None and not (request.preset or request.stages or request.parts):
        request = replace(request, stages=(source.main_stage,))
    config = _config(request, system_class, source)

    sets = [_open(item) for item in request.data]
    clips = [clip for clipset, times in sets for _ in range(times) for clip in _split(clipset, "train")]
    held_back = [clip for clipset, _ in sets for clip in _split(clipset, "test", or_all=False)]

    config = system_class.suited(config, clips)
    torch.manual_seed(loop.seed)
    system = system_class.build(config)
    if source is not None:
        _copy_weights(source, system, request.parts)
    system.card = _card(request, [clipset for clipset, _ in sets])
    if seen := stills.summarize(stills.first_frames(clips)):
        system.card["stills"] = asdict(seen)
    stages = system.stages(clips, _spread(held_back or clips, 8), request.stages, loop.seed)

    described = asdict(_described(request, sets, config, loop))
    steps = [f"config.{name}" for name in stage_steps(described["config"])]
    may_change = ["typed", "steps", *steps]
    outcome = fit(stages, request.run, loop, config=described, may_change=may_change, resume=request.resume)
    if not outcome.finished:
        for name, weights in stage_weights(request.run, outcome.stage).items():
            next(stage for stage in stages if stage.name == outcome.stage).networks[name].load_state_dict(weights)
    system.card["steps"] = outcome.step
    system.save_pretrained(request.run / RUN_MODEL)
    return _told(request.run, outcome)


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class DataSource:
    """A data set by what it holds, wherever it is."""

    digests: list[str]  # of its shards
    times: int  # how often it counts


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class Typed:
    """How a run was asked for; it may be said otherwise on resume."""

    data: list[str]  # absolute folders, `@N` added
    settings: dict[str, Any]
    preset: str | None
    loop: LoopSettings


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class RunConfig:
    """`config.json` of a run: what is trained, on what."""

    system: str
    data: list[DataSource]
    preset: str
    start_from: str | None
    parts: list[str]
    stages: list[str]
    steps: int | None
    seed: int
    config: dict[str, Any]  # all settings of the system
    typed: Typed


def read_run(run: Path) -> RunConfig | None:
    """What a run was started with; None if it ended before it had written that.

    Raises:
        StillmotionError: its `config.json` is damaged, or of another version.
    """
    path = run / "config.json"
    return read_settings(path, RunConfig) if path.is_file() else None


def _as_before(request: TrainRequest, before: RunConfig | None) -> TrainRequest:
    """A request in which what was not said again is as the run was started."""
    if before is not None:
        if request.system not in ("", before.system):
            raise StillmotionError(
                f"The run in {request.run} trains the system {before.system}, not {request.system}."
            )
        stored: dict[str, Any] = {
            "system": before.system,
            "data": tuple(before.typed.data),
            "preset": before.typed.preset,
            "steps": before.steps,
            "start_from": before.start_from,
            "parts": tuple(before.parts),
            "stages": tuple(before.stages),
        }
        said = {name: getattr(request, name) or value for name, value in stored.items()}
        # More steps are more than those that a stage was given one by one.
        renewed = stage_steps(before.config) if request.steps else []
        settings = {name: value for name, value in before.typed.settings.items() if name not in renewed}
        request = replace(request, settings={**settings, **request.settings}, **said)
    if not request.system or not request.data:
        raise StillmotionError("Say which system to train on which data sets; only --resume of a begun run knows.")
    return request


def _described(
    request: TrainRequest, sets: Sequence[tuple[ClipSet, int]], config: Any, loop: LoopSettings
) -> RunConfig:
    """The run for `config.json`. Places are absolute, so that a resume may be typed anywhere."""
    source = request.start_from
    return RunConfig(
        system=request.system,
        data=[DataSource([shard.sha256 for shard in clips.info.shards], times) for clips, times in sets],
        preset=request.preset_name,
        start_from=str(Path(source).resolve()) if source and Path(source).exists() else source,
        parts=list(request.parts),
        stages=list(request.stages),
        steps=request.steps,
        seed=loop.seed,
        config=json.loads(json.dumps(asdict(config))),
        typed=Typed(
            data=[str(Path(item).resolve()) for item in request.data],
            settings=dict(request.settings),
            preset=request.preset,
            loop=loop,
        ),
    )


def _source(request: TrainRequest) -> System | None:
    """The model to start from, if there is one."""
    if not request.start_from:
        return None
    source = load(request.start_from).system
    if source.name != request.system and not request.parts:
        raise StillmotionError(
            f"--from names a {source.name} model; a {request.system} system is to be trained. What both have can be "
            "taken over with --parts."
        )
    return source


def _config(request: TrainRequest, system: type[System], source: System | None) -> Any:
    """The preset's configuration, or that of the model of which some stages are run, with the settings changed."""
    if request.stages and request.preset is None and isinstance(source, system):
        base = source.config
    else:
        name = request.preset_name if source is None or isinstance(source, system) else request.preset or "small"
        check_known("preset", name, system.presets)
        base = system.presets[name]
    steps = {name: request.steps for name in stage_steps(asdict(base), request.stages)} if request.steps else {}
    return change_settings(base, {**steps, **request.settings}, "--set")


def stage_steps(values: Any, only: Sequence[str] = (), prefix: str = "") -> list[str]:
    """Dotted names of the steps of the stages in `only`, or of all that have some, in a configuration."""
    if isinstance(values, list | tuple) and values and isinstance(values[0], Mapping):
        values = {entry["name"]: entry for entry in values}
    if not isinstance(values, Mapping):
        return []
    name = prefix.rstrip(".").rpartition(".")[2]
    # The settings of a stage `forecast` may be called `forecast_training`, beside its network's.
    named = not {name, name.removesuffix("_training")}.isdisjoint(only)
    runs = {"steps", "batch"} <= values.keys() and (named if only else values["steps"])
    own = [f"{prefix}steps"] if runs else []
    return own + [name for key, value in values.items() for name in stage_steps(value, only, f"{prefix}{key}.")]


def _open(item: str) -> tuple[ClipSet, int]:
    folder, at, times = item.rpartition("@")
    if at and times.isdigit() and not Path(item).exists():
        if int(times) < 1:
            raise StillmotionError(f"{item}: a data set must count at least once.")
        return open_dataset(folder), int(times)
    return open_dataset(item), 1


def _split(clips: ClipSet, split: str, or_all: bool = True) -> Sequence[Clip]:
    """Clips of one split; all clips where none says its split."""
    if any("split" in clip.meta for clip in clips):
        return clips.select(lambda clip: clip.meta.get("split") == split)
    return clips if or_all else []


def _spread(clips: Sequence[Clip], count: int) -> list[Clip]:
    step = max(1, len(clips) // count)
    return [clips[i] for i in range(0, len(clips), step)][:count]


def _copy_weights(source: System, target: System, parts: Sequence[str] = ()) -> None:
    """Copy weights whose names begin with one of `parts`, or all; the rest stays fresh."""
    here, there = target.shipped().state_dict(), source.shipped().state_dict()
    taken = {name: value for name, value in there.items() if not parts or name.startswith(tuple(parts))}
    if not taken:
        known = ", ".join(sorted({name.rpartition(".")[0].partition(".")[0] for name in there}))
        raise StillmotionError(f"--parts {','.join(parts)} names no weights; they begin with {known}.")
    if any(name not in here or here[name].shape != value.shape for name, value in taken.items()):
        raise StillmotionError("--from names a model of other sizes; use its preset and settings.")
    given = {name.partition(".")[0] for name in there}
    if not parts and any(name.partition(".")[0] in given for name in set(here) - set(there)):
        raise StillmotionError("--from names a model with other parts; use its preset and settings.")
    target.shipped().load_state_dict({**here, **taken})


def _card(request: TrainRequest, sets: Sequence[ClipSet]) -> dict[str, Any]:
    infos = [clipset.info for clipset in sets]
    rates = {info.fps for info in infos}
    return {
        "data": " + ".join(info.title for info in infos),
        "data_licence": "; ".join(sorted({info.licence for info in infos if info.licence})) or "unknown",
        **({"fps": rates.pop()} if len(rates) == 1 and None not in rates else {}),
        "preset": request.preset_name,
        # A name, not a place: cards travel, and folders of one machine mean nothing on another.
        "start_from": Path(request.start_from).name if request.start_from else request.start_from,
        **({"stages": list(request.stages)} if request.stages else {}),
    }


def _told(run: Path, outcome: Outcome) -> str:
    model = run / RUN_MODEL
    if outcome.finished:
        return f"{model}: trained for {outcome.step} steps"
    where = f"at step {outcome.step} of stage {outcome.stage}"
    return f"{model}: stopped by {outcome.stopped_by} {where}; add --resume to go on"
