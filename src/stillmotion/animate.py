"""From a model's name to an animation: find systems and weights, read the still, apply the control."""

from __future__ import annotations

import contextlib
import copy
import pkgutil
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillmotion import systems
from stillmotion.errors import StillmotionError
from stillmotion.options import Control, check_size

if TYPE_CHECKING:
    import numpy as np

    from stillmotion.systems.base import Animation, Rollout, System

ZOO = Path(__file__).parent / "zoo"  # the shipped weights, one folder each
RUN_MODEL = "model"  # where a training leaves its model inside the run's folder
Picture = Any  # a picture file, a `PIL.Image`, H x W x 3 `uint8`, or a 3 x H x W float tensor in [0, 1]


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
        size: str | int = "native",
        layers: bool = False,
        mask: str | Path | None = None,
        plate: str | Path | None = None,
    ) -> Animation:
        """Animate a still from the start of a control to its end; the animation can be repeated and saved.

        Args:
            still: see `Picture`.
            control: what the model is directed by, e.g. `stillmotion.Drive("wave.mp4")`.
            frames: how many frames; None lets the control decide.
            seed: for systems that draw random numbers.
            size: `native`, the still's own size; `model`, the networks'; or the frames' longer side in pixels.
            layers: also draw what explains the frames.
            mask: a picture of the still's size with its figure in white, where the one found is not right.
            plate: a picture of the still's size without the figure, where what lies behind it is known; `none`
                leaves the background behind the figure to the networks.

        Raises:
            StillmotionError: the picture or the control cannot be used.

        Warns:
            StillmotionWarning: the still is unlike those that the model was trained on.
        """
        check_order(still, control)
        pixels = self._read(still)
        return self.system.animate(
            pixels, control, frames, seed=seed, size=size, layers=layers, mask=mask, plate=plate
        )

    def grid(
        self,
        still: Picture,
        control: Control,
        samples: int,
        frames: int | None = None,
        seed: int | None = None,
        **options: Any,
    ) -> Animation:
        """Several animations of a control side by side, with the seeds `seed`, `seed` + 1, ....

        Args:
            still: see `Picture`.
            control: as for a single one.
            samples: how many, at most `systems.grid.MOST`.
            frames: see `__call__`.
            seed: of the first; None for 0.
            options: see `System.open`.

        Raises:
            StillmotionError: too many, or as for a single one.
        """
        from stillmotion.systems.base import Animation
        from stillmotion.systems.grid import Grid, Resized, check_count

        check_count(samples)
        size = check_size("size", options.pop("size", "native"))
        options["size"] = "native" if isinstance(size, int) else size  # a number is the size of the whole
        pixels, system = self._read(still), self.system.for_inference()  # one copy of the networks for all
        seeds = [(seed or 0) + number for number in range(samples)]

        def open_grid() -> Rollout:
            grid = Grid([system.open(pixels, control, frames=frames, seed=each, **options) for each in seeds])
            return Resized(grid, size) if isinstance(size, int) else grid

        return Animation(open_grid)

    def open(self, still: Picture, control: Control | None = None, **options: Any) -> Rollout:
        """Start an animation that runs without end and takes new controls while it does; see `System.open`.

        rollout = animator.open("me.png")
        rollout.send(stillmotion.Drive(frame[None]))
        step = next(rollout)
        """
        return self.system.open(self._read(still), control, **options)

    def _read(self, still: Picture) -> np.ndarray:
        """The pixels of a still; warns if it is far from those that the model was trained on."""
        from stillmotion.systems.stills import warn_if_far

        pixels = to_pixels(still)
        warn_if_far(self.system.card, pixels)
        return pixels

    def explain(self, still: Picture, out: str | Path | None = None, **asked: Any) -> np.ndarray:
        """A picture of what a model that takes pokes knows of a still's structure.

        Args:
            still: see `Picture`.
            out: a file to write it to.
            asked: see `systems.pokes.animating.Pokes.explain`.

        Returns:
            H x W x 3, `uint8`.

        Raises:
            StillmotionError: another kind of model, a place outside of the still, or a file that cannot be written.
        """
        if not hasattr(self.system, "explain"):
            raise StillmotionError(f"A {self.system.name} model takes no pokes, so there is nothing to explain with.")
        picture: np.ndarray = self.system.explain(to_pixels(still), **asked)
        if out is not None:
            from stillmotion import media

            media.write_picture(out, picture)
        return picture


# --- systems -------------------------------------------------------------------------------------------------------


def system_names() -> list[str]:
    """The systems there are: the packages inside `stillmotion.systems`."""
    return sorted(found.name for found in pkgutil.iter_modules(systems.__path__) if found.ispkg)


def declared_controls() -> dict[str, tuple[type[Control], ...]]:
    """The controls of each system; imports nothing heavy."""
    return {name: import_module(f"stillmotion.systems.{name}").CONTROLS for name in system_names()}


def find_system(name: str) -> type[System]:
    """The class of a system.

    Raises:
        StillmotionError: there is no system of this name.
    """
    if name not in system_names():
        raise StillmotionError(f"There is no system {name!r}; known are {', '.join(system_names())}.")
    animating = import_module(f"stillmotion.systems.{name}.animating")
    found: type[System] = getattr(animating, name.title().replace("_", ""))
    return found


# --- models --------------------------------------------------------------------------------------------------------


def load(model: str | Path, precision: str = "fp32", device: str = "cpu") -> Animator:
    """Load a model by its name in the zoo, or from a saved folder or a training's run folder.

    Args:
        model: name or folder.
        precision: `fp32`; `bf16`, for processors that have it; `auto` measures for a moment which is faster here.
        device: `cpu`, `cuda`, or `auto`: CUDA where there is one.

    Raises:
        StillmotionError: there is no such model, precision or device, or the model is damaged.
    """
    from stillmotion.nn import device as devices
    from stillmotion.systems.base import read_config

    if precision not in devices.PRECISIONS:
        raise StillmotionError(f"precision must be one of {', '.join(devices.PRECISIONS)}, not {precision!r}.")
    folder = find_model(model)
    stored = read_config(folder)
    system = find_system(stored.system).from_pretrained(folder, stored)
    if device != "cpu":
        system.networks.to(devices.choose_device(device))
    system.precision = precision
    if precision == "auto":
        system.precision, _ = devices.choose_precision(precision, system.device, True, lambda *_: own_times(system))
    return Animator(system)


def own_times(system: System, frames: int = 8) -> dict[str, float]:
    """Milliseconds that a system takes for some frames of its example, in each precision.

    The time of one convolution does not predict it: where bf16 halved that, whole networks were slower because of the
    operations between their convolutions (docs/log.md).
    """
    from stillmotion.nn import device as devices

    clip = system.example_clip(frames)
    control = system.control_of(clip)

    def once(name: str) -> float:
        trial = copy.copy(system)
        trial.precision = name
        start = time.perf_counter()
        for _ in trial.animate(clip.frames[0], control, frames, size="model"):
            pass
        return 1000 * (time.perf_counter() - start)

    once("bf16")  # the first call prepares its kernels
    return devices.best_times(once)


def find_model(model: str | Path) -> Path:
    """The folder that holds a model's weights and configuration.

    Raises:
        StillmotionError: nothing of this name; names what there is.
    """
    folder = Path(model)
    for candidate in (folder, folder / RUN_MODEL, ZOO / str(model)):
        if _is_model(candidate):
            return candidate
    if _is(Path.is_dir, folder / "checkpoints"):
        raise StillmotionError(f"The run {folder} has no model yet: let it finish or stop it with Ctrl-C.")
    shipped = ", ".join(shipped_models()) or "none"
    raise StillmotionError(f"There is no model {str(model)!r}; shipped are {shipped}, or give a folder.")


def shipped_models() -> list[str]:
    """Names of the models in the zoo."""
    return sorted(folder.parent.name for folder in ZOO.glob("*/config.json"))


def describe_models(folders: Sequence[str | Path] = ()) -> list[tuple[str, ...]]:
    """Name, system, control, size, data and licence of every shipped model and of those found in `folders`.

    A folder is a model, a run, or holds models or runs; one that cannot be read is listed with the reason.
    """
    found = {name: ZOO / name for name in shipped_models()}
    for folder in map(Path, folders):
        for candidate in (folder, *(sorted(folder.iterdir()) if folder.is_dir() else ())):
            for place in (candidate, candidate / RUN_MODEL):
                if _is_model(place):
                    found.setdefault(str(candidate), place)
    return [(name, *_described(folder)) for name, folder in found.items()]


def _described(folder: Path) -> tuple[str, ...]:
    from stillmotion.systems.base import read_config

    try:
        stored = read_config(folder)
        system = find_system(stored.system)
    except StillmotionError as error:
        return (f"unusable: {error}", "", "", "", "")
    card: Mapping[str, Any] = stored.card or {}
    size = str(stored.config.get("size", ""))
    control = system.controls[0].__name__
    return (system.name, control, size, str(card.get("data", "")), str(card.get("licence", "yours")))


def _is_model(folder: Path) -> bool:
    return all(_is(Path.is_file, folder / name) for name in ("model.safetensors", "config.json"))


def _is(kind: Callable[[Path], bool], path: Path) -> bool:
    """Whether a path is of a kind; one too long to be a name is of none."""
    try:
        return kind(path)
    except OSError:
        return False


# --- pictures ------------------------------------------------------------------------------------------------------


def check_order(still: Picture, control: Control) -> None:
    """Refuse a still and a video in each other's place.

    Raises:
        StillmotionError: the still is a video, and the control's video is a picture.
    """
    from stillmotion import media

    def holds(given: Any) -> str:
        with contextlib.suppress(StillmotionError):  # told where it is read
            return media.sniff(given) if isinstance(given, str | Path) else ""
        return ""

    video = getattr(control, "video", None)
    if holds(video) == "picture" and holds(still) == "video":
        raise StillmotionError(f"The still {str(still)!r} is a video and {str(video)!r} a picture: swap the two.")


def shown_fps(out: str | Path, fps: float) -> float:
    """Frames per second of an animation of `fps` in a file, which a gif bounds."""
    from stillmotion import media

    return media.shown_fps(out, fps)


def to_pixels(picture: Picture) -> np.ndarray:
    """Any public form of a picture as H x W x 3 `uint8`.

    Raises:
        StillmotionError: the file cannot be read, or the value is no picture.
    """
    import numpy as np

    from stillmotion import media

    if isinstance(picture, str | Path):
        return media.read_picture(picture)
    if isinstance(picture, np.ndarray):
        pixels = picture
    elif hasattr(picture, "convert"):  # PIL.Image, without importing it
        pixels = media.decode_image(picture, getattr(picture, "filename", "") or "given")
    elif hasattr(picture, "detach"):  # a tensor
        if picture.ndim != 3 or picture.shape[0] != 3 or not picture.is_floating_point():
            raise StillmotionError("A picture tensor must be 3 x H x W, floating point, in [0, 1].")
        pixels = media.to_uint8(picture.detach().permute(1, 2, 0).cpu().float().numpy())
    else:
        raise StillmotionError(f"A picture is a file, an image, an array or a tensor, not {type(picture).__name__}.")
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or min(pixels.shape) < 1:
        raise StillmotionError(f"A picture array must be uint8, H x W x 3, not {pixels.dtype} {pixels.shape}.")
    return pixels
