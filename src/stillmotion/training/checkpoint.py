"""Checkpoints: folders of safetensors and JSON that are complete or absent, and read back bit for bit.

`RUN/checkpoints/STAGE-000500/` holds

    model.safetensors   weights and buffers of every network of the stage, `NETWORK.KEY`
    ema.safetensors     their averages, if the stage has any
    optim.safetensors   the tensors of all optimisers and schedulers
    rng.safetensors     the states of all random number generators, `RANK.NAME`
    state.json          everything that is not a tensor

and `RUN/last.json` names the newest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic.dataclasses
import torch
from pydantic import Field
from torch import Tensor, nn

from stillmotion.errors import StillmotionError
from stillmotion.files import (
    STRICT,
    copy_into,
    load_tensors,
    parse_settings,
    parsing,
    read_json,
    read_settings,
    save_tensors,
    write_json,
)
from stillmotion.outputs import new_folder, retire
from stillmotion.training.ema import EMA
from stillmotion.training.stage import Stage, optional
from stillmotion.training.state import pack, unpack

FORMAT = 2
Count = Annotated[int, Field(ge=0, le=2**53)]
Seconds = Annotated[float, Field(ge=0)]


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class Facts:
    """What `state.json` says about the training that is not the stage's own."""

    steps: Count  # of the stage, in all
    stages: list[str]  # names of all stages, in order
    processes: Annotated[int, Field(ge=1)]
    threads: Annotated[int, Field(ge=1)]  # CPU threads per process
    precision: Annotated[str, Field(pattern="^(fp32|bf16)$")]
    finished: bool  # whether the stage ended here: with its last step, or with its part of a time budget
    seconds: Seconds  # of training so far
    started: Seconds  # of training when the stage began
    sums: Mapping[str, tuple[float, Count]]  # losses since the last line of the log: their sum and number
    config_hash: str
    stillmotion: str
    torch: str


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class State(Facts):
    """`state.json`."""

    format: Literal[2]
    stage: str  # name of the stage it is from
    step: Count  # steps of the stage that were done
    average_updates: Count
    optimizers: Mapping[str, Any]  # see `training.state.pack`
    schedulers: Mapping[str, Any]


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class Last:
    """`last.json`."""

    checkpoint: str  # name of its folder


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk: where it is and what its `state.json` says."""

    folder: Path
    state: State


def folder_of(run: Path, stage: str, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return run / "checkpoints" / f"{stage}-{step:06d}"


def save(run: Path, stage: Stage, step: int, ema: EMA, rng: Mapping[str, Tensor], facts: Facts, keep: int) -> Path:
    """Write a checkpoint after `step` steps, point `last.json` to it and remove those of the stage that are too old.

    Beside the stage it holds the averages (if there are any), `rng`, the states of the generators of all processes,
    and `facts` for `state.json`. The last `keep` checkpoints of this stage stay, but none of a
    later step: a run that went back to an earlier checkpoint has left it behind.

    Raises:
        StillmotionError: it could not be written; all older checkpoints stay.
    """
    tensors: dict[str, Tensor] = {}
    optimizers = {name: o.state_dict() for name, o in stage.optimizers.items()}
    schedulers = {name: s.state_dict() for name, s in optional(stage, "schedulers").items()}
    state = {
        "format": FORMAT,
        "stage": stage.name,
        "step": step,
        **asdict(facts),
        "average_updates": ema.updates,
        "optimizers": pack(optimizers, tensors, "optimizers"),
        "schedulers": pack(schedulers, tensors, "schedulers"),
    }
    final = folder_of(run, stage.name, step)
    with new_folder(final) as folder:
        save_tensors(folder / "model.safetensors", _weights(stage.networks))
        if ema.shadow:
            save_tensors(folder / "ema.safetensors", ema.shadow)
        save_tensors(folder / "optim.safetensors", tensors)
        save_tensors(folder / "rng.safetensors", rng)
        write_json(folder / "state.json", state)
    for later in _stage_folders(run, stage.name):
        if _step_of(later) > step:
            retire(later)
    write_json(run / "last.json", {"checkpoint": final.name})
    for old in _stage_folders(run, stage.name)[:-keep]:
        retire(old)
    return final


def find_last(run: Path, stages: Iterable[str]) -> Checkpoint | None:
    """The checkpoint to continue from: the one `last.json` names, else the newest one there is.

    Raises:
        StillmotionError: its `state.json` is damaged or from a newer version.
    """
    newest = [folder for stage in stages for folder in _stage_folders(run, stage)]
    if not newest:
        return None
    folder = newest[-1]
    if (run / "last.json").is_file():
        named = run / "checkpoints" / read_settings(run / "last.json", Last).checkpoint
        # A person may have removed a damaged checkpoint by hand, as the message about it says.
        folder = named if named in newest else folder
    try:
        return open_checkpoint(folder)
    except StillmotionError as error:
        raise StillmotionError(f"{str(error).rstrip('.')}.{_advice(folder)}") from error


def open_checkpoint(folder: Path) -> Checkpoint:
    """Read the `state.json` of a checkpoint.

    Raises:
        StillmotionError: it is missing, damaged or from a newer version.
    """
    path = folder / "state.json"
    stored = read_json(path)
    found = stored.get("format") if isinstance(stored, dict) else None
    if isinstance(found, int) and found != FORMAT:
        raise StillmotionError(
            f"The checkpoint {folder} has format {found}, and this version reads {FORMAT}: resume with the "
            "version of stillmotion that wrote it."
        )
    state = parse_settings(State, stored, str(path))
    if folder.name != folder_of(folder, state.stage, state.step).name:
        raise StillmotionError(f"{path} is of step {state.step} of stage {state.stage!r}, not of its folder's.")
    return Checkpoint(folder, state)


def load(checkpoint: Checkpoint, stage: Stage, ema: EMA) -> None:
    """Put networks, averages, optimisers and schedulers back to what they were.

    Raises:
        StillmotionError: a file is damaged, or does not fit these networks; names the checkpoint before this one.
    """
    folder, state = checkpoint.folder, checkpoint.state
    try:
        _load_weights(checkpoint, stage, ema)
        tensors = load_tensors(folder / "optim.safetensors")
        with parsing(f"The checkpoint {folder}", "its optimisers or schedulers are not those of this training"):
            optimizers, schedulers = (unpack(kind, tensors) for kind in (state.optimizers, state.schedulers))
            for name, optimizer in stage.optimizers.items():
                optimizer.load_state_dict(_match_layout(optimizer, optimizers[name]))
            for name, scheduler in optional(stage, "schedulers").items():
                scheduler.load_state_dict(schedulers[name])
    except StillmotionError as error:
        raise StillmotionError(f"{str(error).rstrip('.')}.{_advice(folder)}") from error


def load_final(run: Path, stage: Stage) -> None:
    """Give the networks of a finished stage the weights that it ended with, averaged ones where it has them.

    Raises:
        StillmotionError: the stage's last checkpoint is missing or damaged.
    """
    ema = EMA(optional(stage, "ema"), decay=0.0)
    final = open_checkpoint(_newest(run, stage.name))
    if not final.state.finished:
        raise StillmotionError(f"The last checkpoint of stage {stage.name!r} is gone from {run}; start a new run.")
    _load_weights(final, stage, ema)
    ema.copy_to_networks()


def save_initial(path: Path, stages: Iterable[Stage]) -> None:
    """Write the first weights of all stages."""
    save_tensors(path, _initial(stages))


def load_initial(path: Path, stages: Iterable[Stage]) -> None:
    """Put the first weights of all stages back; raises `StillmotionError` if the file is damaged or does not fit."""
    _fill(_initial(stages), path)


def stage_weights(run: Path, stage: str) -> dict[str, dict[str, Tensor]]:
    """The newest weights of a stage, the averaged ones where there are any: network -> its state dict.

    For use outside a training: while a run goes on, or after it.

    Raises:
        StillmotionError: the run has no checkpoint of this stage, or it is damaged.
    """
    folder = _newest(run, stage)
    tensors = load_tensors(folder / "model.safetensors")
    if (folder / "ema.safetensors").is_file():
        tensors |= load_tensors(folder / "ema.safetensors")
    weights: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        network, _, rest = key.partition(".")
        weights.setdefault(network, {})[rest] = tensor
    return weights


def _stage_folders(run: Path, stage: str) -> list[Path]:
    """Checkpoint folders of a stage, oldest first."""
    found = []
    for folder in (run / "checkpoints").glob(f"{stage}-*"):
        step = folder.name[len(stage) + 1 :]
        if step.isdigit() and folder.is_dir():
            found.append((int(step), folder))
    return [folder for _, folder in sorted(found)]


def _newest(run: Path, stage: str) -> Path:
    folders = _stage_folders(run, stage)
    if not folders:
        raise StillmotionError(f"The run {run} has no checkpoint of a stage {stage!r} yet.")
    return folders[-1]


def _step_of(folder: Path) -> int:
    return int(folder.name.rpartition("-")[2])


def _load_weights(checkpoint: Checkpoint, stage: Stage, ema: EMA) -> None:
    """Put weights into the stage's networks, and averaged ones into `ema`."""
    _fill(_weights(stage.networks), checkpoint.folder / "model.safetensors")
    if ema.shadow:
        _fill(ema.shadow, checkpoint.folder / "ema.safetensors")
        ema.updates = checkpoint.state.average_updates


def _weights(networks: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    return {f"{name}.{key}": v for name, network in networks.items() for key, v in network.state_dict().items()}


def _initial(stages: Iterable[Stage]) -> dict[str, Tensor]:
    """Weights by `STAGE.NETWORK.KEY`; a network that several stages train is there once."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for stage in stages:
        for key, value in _weights(stage.networks).items():
            if value.data_ptr() not in seen:
                found[f"{stage.name}.{key}"] = value
            seen.add(value.data_ptr())
    return found


@torch.no_grad()
def _fill(targets: Mapping[str, Tensor], path: Path) -> None:
    """Copy the tensors of a file into `targets`, which must have the same names and shapes."""
    stored = load_tensors(path)
    for kind, keys in (("lacks", targets.keys() - stored.keys()), ("has no use for", stored.keys() - targets.keys())):
        if keys:
            raise StillmotionError(
                f"{path} does not fit these networks: it {kind} {', '.join(sorted(keys)[:3])}"
                f"{' and others' if len(keys) > 3 else ''}."
            )
    for key, target in targets.items():
        if stored[key].shape != target.shape:
            raise StillmotionError(
                f"{path} does not fit these networks: {key} is {tuple(stored[key].shape)}, not {tuple(target.shape)}."
            )
    for key, target in targets.items():
        copy_into(target, stored[key], f"{path}: {key}")


def _match_layout(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Give optimiser tensors the memory layout of their parameters.

    Files hold plain layout. Torch's kernels round alike only when all operands are laid out alike (vectorised
    bodies and scalar tails may differ in the last bit), and the promise is the same bits.

    Raises:
        ValueError: a tensor is neither a number nor of its parameter's shape, or a setting is no number; torch would
            say so only in the next step.
    """
    for group, stored in zip(optimizer.param_groups, state["param_groups"], strict=True):
        for key, value in group.items():
            if isinstance(value, int | float) and not isinstance(stored[key], int | float):
                raise ValueError(f"{key} is no number")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for number, values in state["state"].items():
        for key, value in values.items():
            if not isinstance(value, Tensor):
                continue
            if value.dim() and value.shape != parameters[number].shape:
                raise ValueError(f"{key} of parameter {number} has the shape {tuple(value.shape)}")
            if value.dim():
                values[key] = torch.empty_like(parameters[number], dtype=value.dtype).copy_(value)
    return state


def _advice(folder: Path) -> str:
    stage = folder.name.rpartition("-")[0]
    older = [f.name for f in _stage_folders(folder.parent.parent, stage) if _step_of(f) < _step_of(folder)]
    if not older:
        return " There is no older checkpoint of this stage."
    return f" Remove the folder {folder.name} to continue from {older[-1]}."
