"""From a model's name to an animation: find the weights, read the still, apply the control."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stillmotion import media, systems
from stillmotion.controls import Control
from stillmotion.errors import StillmotionError
from stillmotion.nn.device import PRECISIONS, best_times, choose_precision
from stillmotion.systems.base import CONFIG, WEIGHTS, Animation, System, read_config

ZOO = Path(str(files("stillmotion"))) / "zoo"
"""The shipped weights, one folder each."""

RUN_MODEL = "model"
"""Where a training leaves its model inside the run's folder."""

Picture = str | Path | np.ndarray | Any


class Animator:
    """A model ready to animate.

    Attributes:
        system: the loaded system (networks, configuration, card).
    """

    def __init__(self, system: System):
        self.system = system

    def __call__(
        self,
        still: Picture,
        control: Control,
        frames: int | None = None,
        seed: int | None = None,
        *,
        size: str = "native",
        layers: bool = False,
    ) -> Animation:
        """Animate a still; see `stillmotion.systems.base.System.animate` for the rest.

        Args:
            still: a picture file, a `PIL.Image`, H x W x 3 `uint8`, or a 3 x H x W float tensor in [0, 1].
            control: what the model is directed by, e.g. `stillmotion.Drive("wave.mp4")`.
            frames: how many frames; None lets the control decide.
            seed: for systems that draw random numbers.
            size: `native` or `model`.
            layers: also draw what explains the frames.

        Raises:
            StillmotionError: the picture or the control cannot be used.
        """
        pixels = to_pixels(still)
        return self.system.animate(pixels, control, frames, seed, size=size, layers=layers)


def load(model: str | Path, precision: str = "fp32") -> Animator:
    """Load a model by its name in the zoo, or from a saved folder or a training's run folder.

    Args:
        model: name or folder.
        precision: `fp32`; `bf16`, for processors that have it; `auto` measures for a moment which is faster here.

    Raises:
        StillmotionError: there is no such model or precision, or the model is damaged.
    """
    if precision not in PRECISIONS:
        raise StillmotionError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}.")
    folder = find_model(model)
    stored = read_config(folder)
    system = systems.find(str(stored["system"])).system.from_pretrained(folder)
    system.precision, _ = choose_precision(precision, torch.device("cpu"), True, lambda *_: own_times(system))
    return Animator(system)


def own_times(system: System, frames: int = 8) -> dict[str, float]:
    """Milliseconds that a system takes for some frames of a blank still, in each precision.

    A convolution alone would not say it: where bf16 halved that, whole networks were slower for all that lies between
    their convolutions (docs/log.md).
    """
    blank = np.zeros((system.config.size, system.config.size, 3), np.uint8)

    def once(name: str) -> float:
        trial = copy.copy(system)
        trial.precision = name
        start = time.perf_counter()
        for _ in trial.animate(blank, trial.trial(frames), frames, size="model"):
            pass
        return 1000 * (time.perf_counter() - start)

    once("bf16")  # the first call prepares its kernels
    return best_times(once)


def find_model(model: str | Path) -> Path:
    """The folder that holds a model's weights and configuration.

    Raises:
        StillmotionError: nothing of this name; names what there is.
    """
    folder = Path(model)
    for candidate in (folder, folder / RUN_MODEL, ZOO / str(model)):
        if _is(Path.is_file, candidate / WEIGHTS) and _is(Path.is_file, candidate / CONFIG):
            return candidate
    if _is(Path.is_dir, folder / "checkpoints"):
        raise StillmotionError(f"The run {folder} has no model yet: let it finish or stop it with Ctrl-C.")
    shipped = ", ".join(shipped_models()) or "none"
    raise StillmotionError(f"There is no model {str(model)!r}; shipped are {shipped}, or give a folder.")


def _is(kind: Callable[[Path], bool], path: Path) -> bool:
    """Whether a path is of a kind; one too long to be a name is of none."""
    try:
        return kind(path)
    except OSError:
        return False


def shipped_models() -> list[str]:
    """Names of the models in the zoo."""
    return sorted(folder.parent.name for folder in ZOO.glob(f"*/{CONFIG}"))


def to_pixels(picture: Picture) -> np.ndarray:
    """Any public form of a picture as H x W x 3 `uint8`.

    Raises:
        StillmotionError: the file cannot be read, or the value is no picture.
    """
    if isinstance(picture, str | Path):
        return media.read_picture(picture)
    if isinstance(picture, np.ndarray):
        pixels = picture
    elif hasattr(picture, "convert"):  # PIL.Image, without importing it
        pixels = np.asarray(picture.convert("RGB"))
    elif hasattr(picture, "detach"):  # a tensor
        if picture.ndim != 3 or picture.shape[0] != 3 or not picture.is_floating_point():
            raise StillmotionError("A picture tensor must be 3 x H x W, floating point, in [0, 1].")
        pixels = media.to_uint8(picture.detach().permute(1, 2, 0).cpu().float().numpy())
    else:
        raise StillmotionError(f"A picture is a file, an image, an array or a tensor, not {type(picture).__name__}.")
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or min(pixels.shape) < 1:
        raise StillmotionError(f"A picture array must be uint8, H x W x 3, not {pixels.dtype} {pixels.shape}.")
    return pixels


def describe_models(folders: Sequence[str | Path] = ()) -> list[tuple[str, ...]]:
    """Name, system, control, size, data and licence of every shipped model and of those found in `folders`.

    A folder is a model, a run, or holds models or runs; one that cannot be read is listed with the reason.
    """
    found = {name: ZOO / name for name in shipped_models()}
    for folder in map(Path, folders):
        for candidate in (folder, *(sorted(folder.iterdir()) if folder.is_dir() else ())):
            for place in (candidate, candidate / RUN_MODEL):
                if (place / CONFIG).is_file() and (place / WEIGHTS).is_file():
                    found.setdefault(str(candidate), place)
    return [(name, *_described(folder)) for name, folder in found.items()]


def _described(folder: Path) -> tuple[str, ...]:
    try:
        stored = read_config(folder)
        control = systems.find(str(stored["system"])).system.control.__name__
    except StillmotionError as error:
        return (f"unusable: {error}", "", "", "", "")
    card = stored.get("card") or {}
    size = str(stored["config"].get("size", ""))
    return (stored["system"], control, size, str(card.get("data", "")), str(card.get("licence", "yours")))
