"""What every system promises: weights in and out, and a still plus a control made into an animation."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from stillmotion import media
from stillmotion.controls import Control
from stillmotion.errors import StillmotionError
from stillmotion.files import (
    load_tensors,
    new_folder,
    read_json,
    save_tensors,
    tensor_shapes,
    write_json,
    writing,
)  # fmt: skip

WEIGHTS, CONFIG = "model.safetensors", "config.json"
FORMAT = 1


@dataclass(frozen=True)
class Step:
    """One moment of an animation.

    Attributes:
        frame: H x W x 3, `uint8` RGB.
        layers: pictures that explain the frame, by name, `uint8` RGB; their sizes may differ from the frame's.
        facts: the numbers behind the layers (keypoints, flow, ...), as arrays.
    """

    frame: np.ndarray
    layers: Mapping[str, np.ndarray] = field(default_factory=dict)
    facts: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Animation:
    """Frames made on demand: iterating makes them, one at a time, each time anew.

    Attributes:
        make: starts the animation and yields its steps.
        fps: frames per second.
    """

    make: Callable[[], Iterator[Step]]
    fps: float

    def __iter__(self) -> Iterator[Step]:
        return self.make()

    def frames(self) -> np.ndarray:
        """All frames at once, T x H x W x 3, `uint8`; takes memory with the length."""
        return np.stack([step.frame for step in self])

    def save(
        self,
        path: str | Path,
        *,
        layers: str | Path | None = None,
        overwrite: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Write a video (.mp4, .webm, .gif), a strip (.png) or a folder of frames, one frame in memory at a time.

        Args:
            path: its ending says what is written.
            layers: a folder for one more video per layer, of the same kind.
            overwrite: replace what is there.
            progress: called with the number of frames written so far.

        Returns:
            The number of frames.

        Raises:
            StillmotionError: the file exists, cannot be written, or a frame could not be made; what was there
                before stays.
        """
        path = Path(path)
        with ExitStack() as stack:
            writer = stack.enter_context(media.open_writer(path, fps=self.fps, overwrite=overwrite))
            layer_writers: dict[str, media.VideoWriter] = {}
            count = 0
            for count, step in enumerate(self, start=1):
                writer.write(step.frame)
                for name, picture in step.layers.items() if layers else ():
                    if name not in layer_writers:
                        with writing(Path(layers or "")):
                            Path(layers or "").mkdir(parents=True, exist_ok=True)
                        target = Path(layers or "") / f"{name}{path.suffix}"
                        layer_writers[name] = stack.enter_context(
                            media.open_writer(target, fps=self.fps, overwrite=overwrite)
                        )
                    layer_writers[name].write(picture)
                if progress:
                    progress(count)
        return count


class System(ABC):
    """One paper's method with its weights. Subclasses set the class attributes and make the steps.

    Attributes:
        config: every number of the system; a frozen dataclass.
        networks: what is saved; in eval mode unless a training says otherwise.
        card: facts about the weights (data, licence, steps, ...), JSON values, shown by `stillmotion models`.
        precision: `fp32`, or `bf16`: convolutions under autocast; flow, grids and warps stay float32.
    """

    name: ClassVar[str]
    control: ClassVar[type]
    config_class: ClassVar[type]

    def __init__(self, config: Any, networks: nn.Module, card: Mapping[str, Any] | None = None):
        self.config = config
        self.networks = networks.eval()
        self.card = dict(card or {})
        self.precision = "fp32"

    def autocast(self) -> torch.autocast:
        """The context that calls of the networks belong in. Never yield inside it: it would leak to the caller."""
        device = next(self.networks.parameters()).device.type
        return torch.autocast(device, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    @classmethod
    @abstractmethod
    def build(cls, config: Any, card: Mapping[str, Any] | None = None) -> Self:
        """The system with fresh weights."""

    @abstractmethod
    def animate(
        self,
        still: np.ndarray,
        control: Control,
        frames: int | None = None,
        seed: int | None = None,
        *,
        size: str = "native",
        layers: bool = False,
    ) -> Animation:
        """Animate a still.

        Args:
            still: H x W x 3, `uint8` RGB.
            control: what the person gives, of the class `self.control`.
            frames: how many to make; None lets the control decide.
            seed: for systems that draw random numbers; the same seed gives the same frames on the same CPU.
            size: `native`, the still's own, or `model`, the networks'.
            layers: also draw the layers that explain each frame.

        Raises:
            StillmotionError: the control is of another kind or does not fit.
        """

    @abstractmethod
    def trial(self, frames: int) -> Control:
        """Any control for so many frames of a still of the networks' size: what `precision=auto` is timed on."""

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Read a folder that `save_pretrained` wrote.

        Raises:
            StillmotionError: a file is missing or damaged, the configuration has an unknown field or a wrong
                value, a tensor is missing, superfluous, of another shape, or not finite.
        """
        folder = Path(folder)
        stored = read_config(folder)
        if stored["system"] != cls.name:
            raise StillmotionError(f"{folder} holds a {stored['system']} model, not a {cls.name} model.")
        config = parse_config(cls.config_class, stored["config"], str(folder / CONFIG))
        # First without memory: a configuration may ask for more than there is room for.
        shapes = tensor_shapes(folder / WEIGHTS)
        with _without_memory(4 * len(shapes) + 1000, str(folder / CONFIG)):
            asked = cls.build(config).shipped()
        check_shapes(asked, shapes, str(folder / WEIGHTS))
        system = cls.build(config, stored.get("card"))
        fill(system.shipped(), load_tensors(folder / WEIGHTS), str(folder / WEIGHTS))
        return system

    def save_pretrained(self, folder: str | Path, *, half: bool = False) -> None:
        """Write the networks that animating needs and the configuration, as a whole or not at all.

        Args:
            folder: where; replaced if it exists.
            half: store matrices as float16, which halves the file. Vectors (norms, biases) stay float32.
        """
        folder = Path(folder)
        tensors = {
            name: value.half() if half and value.is_floating_point() and value.ndim > 1 else value
            for name, value in self.shipped().state_dict().items()
        }
        stored = {"format": FORMAT, "system": self.name, "config": asdict(self.config), "card": self.card}
        folder.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(folder) as temporary:
            save_tensors(temporary / WEIGHTS, tensors)
            write_json(temporary / CONFIG, stored)

    def shipped(self) -> nn.Module:
        """The networks that animating needs; a subclass leaves out its discriminators."""
        return self.networks

    def check_control(self, control: Control) -> None:
        """Refuse the control of another system, with a sentence."""
        if not isinstance(control, self.control):
            raise StillmotionError(
                f"A {self.name} model is directed by {self.control.__name__}, not by {type(control).__name__}."
            )


def read_config(folder: Path) -> dict[str, Any]:
    """The stored configuration of a model folder, checked as far as it is the same for all systems."""
    stored = read_json(folder / CONFIG)
    if not isinstance(stored, dict) or not isinstance(stored.get("config"), dict) or "system" not in stored:
        raise StillmotionError(f"{folder / CONFIG} is not the configuration of a stillmotion model.")
    if stored.get("format") != FORMAT:
        raise StillmotionError(
            f"{folder / CONFIG} has format {stored.get('format')!r}; this version reads format {FORMAT}."
        )
    if not isinstance(stored.get("card") or {}, dict):
        raise StillmotionError(f"{folder / CONFIG}: the card must be an object with names and values.")
    return stored


def parse_config(config_class: type, values: Mapping[str, Any], where: str) -> Any:
    """Make a configuration from plain values; text is turned into numbers where a number belongs.

    Raises:
        StillmotionError: an unknown field, a value of the wrong kind or outside its range, NaN or infinity.
    """
    known = [field.name for field in fields(config_class)]
    for name, value in values.items():
        if name not in known:
            raise StillmotionError(f"{where}: {name!r} is not a setting; known are {', '.join(known)}.")
        # Text may spell a NaN ("nan"), and a list may hold one.
        for part in value if isinstance(value, list | tuple) else (value,):
            if _not_finite(part):
                raise StillmotionError(f"{where}: {name} must be a finite number, not {part}.")
    try:
        return TypeAdapter(config_class).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        reason = str(first.get("ctx", {}).get("error") or f"{name}: {first['msg']}.")
        raise StillmotionError(f"{where}: {reason}") from error


def check_signs(config: Any, above_zero: Iterable[str], not_negative: Iterable[str]) -> None:
    """Refuse fields of a configuration that are not above zero, or not at least zero; NaN is neither.

    Raises:
        StillmotionError: names the first such field.
    """
    for name in above_zero:
        if not getattr(config, name) > 0:  # False for NaN too
            raise StillmotionError(f"{name} must be above zero, not {getattr(config, name)}.")
    for name in not_negative:
        if not getattr(config, name) >= 0:
            raise StillmotionError(f"{name} must be at least zero, not {getattr(config, name)}.")


def chosen_stages(steps: Mapping[str, int], only: Sequence[str]) -> list[str]:
    """Which stages of a training to run, in order.

    Args:
        steps: of each stage there is, in order.
        only: names of the stages to run; all that have steps if empty.

    Raises:
        StillmotionError: a stage that is not there, or has no steps.
    """
    for name in only:
        if name not in steps:
            raise StillmotionError(f"There is no stage {name!r}; known are {', '.join(steps)}.")
        if not steps[name]:
            raise StillmotionError(f"The stage {name} has no steps: add --set {name}_steps=N.")
    return [name for name, count in steps.items() if (name in only if only else count)]


def _not_finite(value: Any) -> bool:
    try:
        return isinstance(value, str | float) and not math.isfinite(float(value))
    except ValueError:
        return False


@contextmanager
def _without_memory(most: int, where: str) -> Iterator[None]:
    """Build networks in this block that have shapes and no weights, and at most so many parameters to name.

    Raises:
        StillmotionError: more of them, or a size beyond what can be counted.
    """
    left = itertools.count(most, -1)

    def count(*_: object) -> None:
        if next(left) <= 0:
            raise StillmotionError(f"{where}: it asks for more networks than the weights beside it are for.")

    hook = register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"):
            yield
    except (RuntimeError, OverflowError) as error:
        raise StillmotionError(f"{where}: networks of these sizes cannot be built.") from error
    finally:
        hook.remove()


def check_shapes(network: nn.Module, shapes: Mapping[str, Sequence[int]], where: str) -> None:
    """Compare stored tensors, by name and shape, with what a network wants.

    Raises:
        StillmotionError: a tensor is missing, superfluous or of another shape.
    """
    state = network.state_dict()
    missing, extra = sorted(set(state) - set(shapes)), sorted(set(shapes) - set(state))
    if missing or extra:
        what = f"lacks {missing[0]!r}" if missing else f"has {extra[0]!r}, which the networks lack"
        raise StillmotionError(f"{where} {what}: weights and configuration do not belong together.")
    for name, value in state.items():
        if value.shape != tuple(shapes[name]):
            raise StillmotionError(
                f"{where}: {name!r} has the shape {tuple(shapes[name])} where the configuration asks for "
                f"{tuple(value.shape)}."
            )


@torch.no_grad()
def fill(network: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Copy stored tensors into a network.

    Raises:
        StillmotionError: as `check_shapes`.
    """
    check_shapes(network, {name: value.shape for name, value in tensors.items()}, where)
    for name, value in network.state_dict().items():
        value.copy_(tensors[name])


def in_batches(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    """Groups of up to `size` items, in order."""
    while batch := list(itertools.islice(items, size)):
        yield batch
