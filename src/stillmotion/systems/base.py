"""What every system promises: weights in and out, and a still plus a control made into frames."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np
import pydantic.dataclasses
import torch
from torch import nn

from stillmotion import media
from stillmotion.errors import StillmotionError
from stillmotion.files import (
    STRICT,
    check_shapes,
    fill,
    load_tensors,
    parse_settings,
    read_settings,
    save_tensors,
    tensor_shapes,
    write_json,
)  # fmt: skip
from stillmotion.nn.modes import folded, without_memory
from stillmotion.options import Control, check_size
from stillmotion.outputs import check_folder, new_folder

if TYPE_CHECKING:
    from stillmotion.data.clip import Clip

WEIGHTS, CONFIG, FORMAT = "model.safetensors", "config.json", 2
MOST_SIZE = 1024  # of the networks' frames
FPS = 25.0  # frames per second where nothing states them


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
class Output:
    """What a roll-out is to give.

    Attributes:
        frames: at most so many of a video; a stroke is spread over so many. None lets the control decide.
        seed: of the random numbers; the same seed gives the same frames on the same CPU.
        native: frames have the still's own size; else the networks'.
        layers: also draw the layers that explain each frame.
        mask: a picture of the still's size, its figure in white; None lets the networks find it.
        plate: a picture of the still's size without its figure, or `none` for no plate; None inpaints it.
    """

    frames: int | None = None
    seed: int | None = None
    native: bool = True
    layers: bool = False
    mask: str | Path | None = None
    plate: str | Path | None = None


class Rollout(ABC):
    """The steps of an animation while it runs: endless, steerable, in memory that does not grow.

    When a control has been carried out, `done` is true and further steps hold the last pose.

    Attributes:
        fps: frames per second.
        sound: what is heard from the first step on; None for nothing.
    """

    fps: float
    sound: media.Sound | None = None

    def __iter__(self) -> Self:
        return self

    @abstractmethod
    def __next__(self) -> Step:
        """Make the next step."""

    @abstractmethod
    def send(self, control: Control) -> None:
        """Follow another control from the next step on.

        Raises:
            StillmotionError: the control is of another system, or cannot be taken up while the roll-out runs.
        """

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether the control has been carried out."""

    @property
    def length(self) -> int | None:
        """How many steps there are until `done`, with those that have been made; None where that is not known."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Release what is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Animation:
    """A roll-out of one control from its start to its end, made on demand and each time anew.

    Args:
        open_rollout: opens it. The first one is opened at once, so that what is wrong shows before any work.

    Attributes:
        fps: frames per second.
    """

    def __init__(self, open_rollout: Callable[[], Rollout]):
        self._open = open_rollout
        self._opened: Rollout | None = open_rollout()
        self._latest, self.fps = self._opened, self._opened.fps

    @property
    def length(self) -> int | None:
        """How many frames there are, if it is known; more may be known once the first is made."""
        return self._latest.length

    def __iter__(self) -> Iterator[Step]:
        self._latest, self._opened = self._opened or self._open(), None
        with self._latest as rollout:
            while not rollout.done:
                yield next(rollout)

    def frames(self) -> np.ndarray:
        """All frames at once, T x H x W x 3, `uint8`."""
        return np.stack([step.frame for step in self])

    def save(
        self,
        path: str | Path,
        *,
        layers: str | Path | None = None,
        sound: bool = True,
        overwrite: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Write a video (.mp4, .webm, .gif), a strip (.png) or a folder of frames, one frame in memory at a time.

        Args:
            path: its ending says what is written.
            layers: a folder for one more video per layer, of the same kind.
            sound: an .mp4 or .webm has the sound of the video that the still follows.
            overwrite: replace what is there.
            progress: called with the number of frames made so far.

        Returns:
            The number of frames written.

        Raises:
            StillmotionError: the file exists, cannot be written, or a frame fails; what was there before stays.
        """
        heard = (lambda: self._latest.sound) if sound else None
        others = media.VideoFolder(layers, Path(path), self.fps, overwrite)
        with media.open_writer(path, fps=self.fps, overwrite=overwrite, sound=heard) as writer, others:
            for count, step in enumerate(self, start=1):
                writer.write(step.frame)
                others.write(step.layers)
                if progress:
                    progress(count)
        return writer.count


class System(ABC):
    """One paper's method with its weights. A subclass sets the class attributes and gives roll-outs.

    Attributes:
        name: that of its folder.
        controls: what directs it.
        config_class: a frozen dataclass with every number of the system, among them `size`, the networks' side.
        presets: configurations by name.
        protocol: the protocol that `evaluate` takes unless another is named.
        layer_captions: what each layer shows.
        config: of the class `config_class`.
        networks: what is saved; in eval mode unless a training says otherwise.
        card: facts about the weights (data, licence, steps, ...), JSON values, shown by `stillmotion models`.
        precision: `fp32`, or `bf16`: convolutions under autocast; coordinates and warps stay float32.
    """

    name: ClassVar[str]
    controls: ClassVar[tuple[type[Control], ...]]
    config_class: ClassVar[type[Any]]
    presets: ClassVar[Mapping[str, Any]]
    protocol: ClassVar[str] = "reconstruction"
    layer_captions: ClassVar[Mapping[str, str]] = {}

    def __init__(self, config: Any, networks: nn.Module, card: Mapping[str, Any] | None = None):
        self.config = config
        self.networks = networks.eval()
        self.card = dict(card or {})
        self.precision = "fp32"

    @classmethod
    def suited(cls, config: Any, _: Sequence[Clip]) -> Any:
        """A configuration for a training on these clips, which may settle what it leaves open."""
        return config

    @classmethod
    @abstractmethod
    def build(cls, config: Any, card: Mapping[str, Any] | None = None) -> Self:
        """The system with fresh weights."""

    @abstractmethod
    def rollout(self, still: np.ndarray, control: Control | None, output: Output) -> Rollout:
        """Start a roll-out; the arguments have been checked. See `open`."""

    @property
    @abstractmethod
    def main_stage(self) -> str:
        """The training stage that `bench` times, and that trains a finished model on."""

    @abstractmethod
    def control_of(self, clip: Clip) -> Control:
        """The control that makes a clip out of its first frame."""

    def open(
        self,
        still: np.ndarray,
        control: Control | None = None,
        *,
        frames: int | None = None,
        seed: int | None = None,
        size: str | int = "native",
        layers: bool = False,
        mask: str | Path | None = None,
        plate: str | Path | None = None,
    ) -> Rollout:
        """Start an animation that can be steered while it runs.

        Args:
            still: H x W x 3, `uint8` RGB.
            control: of a class in `controls`; None: the still rests until a control is sent.
            size: `native`, the still's own; `model`, the networks'; or the frames' longer side in pixels.
            frames: see `Output`.
            seed: see `Output`.
            layers: see `Output`.
            mask: see `Output`.
            plate: see `Output`.

        Raises:
            StillmotionError: the control is of another kind or does not fit; some of it only with the first step.
        """
        if control is not None:
            self.check_control(control)
        if frames is not None and frames < 1:
            raise StillmotionError(f"frames must be at least 1, not {frames}.")
        side = check_size("size", size)
        rollout = self.rollout(still, control, Output(frames, seed, side != "model", layers, mask, plate))
        if isinstance(side, int):
            from stillmotion.systems.grid import Resized

            return Resized(rollout, side)
        return rollout

    def animate(self, still: np.ndarray, control: Control, frames: int | None = None, **options: Any) -> Animation:
        """The roll-out of one control from start to end, which can be repeated and saved; arguments as for `open`."""
        self.check_control(control)
        return Animation(lambda: self.open(still, control, frames=frames, **options))

    def check_control(self, control: Control) -> None:
        """Refuse the control of another system, with a sentence."""
        if not isinstance(control, self.controls):
            known = " or ".join(each.__name__ for each in self.controls)
            raise StillmotionError(f"A {self.name} model is directed by {known}, not by {type(control).__name__}.")

    def example_clip(self, frames: int) -> Clip:
        """A made clip of the networks' size: what speed is measured on where no other clip is at hand."""
        from stillmotion.data.examples import moving_square

        return moving_square(self.config.size, frames)

    def stages(
        self, clips: Sequence[Any], preview_clips: Sequence[Any] = (), only: Sequence[str] = (), seed: int = 0
    ) -> Sequence[Any]:
        """The training stages, or only those named; see the system's `training.py`. Needs the `train` extra."""
        training: Any = import_module(f"stillmotion.systems.{self.name}.training")
        return cast(Sequence[Any], training.stages(self, clips, preview_clips, only, seed))

    @property
    def clip_fps(self) -> float:
        """Frames per second of the training clips, as the card states them."""
        known = self.card.get("fps")
        return float(known) if isinstance(known, int | float) and 0 < known <= 1000 else FPS

    @property
    def device(self) -> torch.device:
        """Of the networks."""
        return next(self.networks.parameters()).device

    def autocast(self) -> torch.autocast:
        """The context that calls of the networks belong in. Never yield inside it: it would leak to the caller."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def for_inference(self) -> Self:
        """The same system with folded networks, see `folded`."""
        system = copy.copy(self)
        system.networks = folded(self.networks)
        return system

    @classmethod
    def from_pretrained(cls, folder: str | Path, stored: Stored | None = None) -> Self:
        """Read a folder that `save_pretrained` wrote.

        Args:
            folder: with `config.json` and `model.safetensors`.
            stored: its configuration, if `read_config` has read it already.

        Raises:
            StillmotionError: a file is missing or damaged, a field is unknown or has a wrong value, a tensor is
                missing, superfluous, of another shape, or not finite.
        """
        folder = Path(folder)
        stored = stored or read_config(folder)
        if stored.system != cls.name:
            raise StillmotionError(f"{folder} holds a {stored.system} model, not a {cls.name} model.")
        config: Any = parse_settings(cls.config_class, stored.config, str(folder / CONFIG))
        if config.size > MOST_SIZE:  # no weight has this size, so none confirms it
            raise StillmotionError(f"{folder / CONFIG}: size must be at most {MOST_SIZE} pixels, not {config.size}.")
        # First without memory: a configuration may ask for more than there is room for.
        shapes = tensor_shapes(folder / WEIGHTS)
        with without_memory(4 * len(shapes) + 1000, str(folder / CONFIG)):
            asked = cls.build(config).shipped()
        check_shapes(asked, shapes, str(folder / WEIGHTS))
        system = cls.build(config, stored.card)
        fill(system.shipped(), load_tensors(folder / WEIGHTS), str(folder / WEIGHTS))
        return system

    def save_pretrained(self, folder: str | Path, *, half: bool = False) -> None:
        """Write the networks that animating needs and the configuration, as a whole or not at all.

        Args:
            folder: where; a model that is there is replaced.
            half: store matrices as float16, which halves the file. Vectors (norms, biases) stay float32.
        """
        folder = Path(folder)
        check_folder(folder, True, rf"{WEIGHTS}|{CONFIG}|golden\.safetensors|README\.md", "a model")
        tensors = {
            name: value.half() if half and value.is_floating_point() and value.ndim > 1 else value
            for name, value in self.shipped().state_dict().items()
        }
        stored = {"format": FORMAT, "system": self.name, "config": asdict(self.config), "card": self.card}
        with new_folder(folder) as temporary:
            save_tensors(temporary / WEIGHTS, tensors)
            write_json(temporary / CONFIG, stored)

    def shipped(self) -> nn.Module:
        """The networks that animating needs."""
        return self.networks


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class Stored:
    """`config.json` of a model, checked as far as it is the same for all systems."""

    format: int
    system: str
    config: dict[str, Any]
    card: dict[str, Any] | None = None


def read_config(folder: Path) -> Stored:
    """The stored configuration of a model folder.

    Raises:
        StillmotionError: the file is missing, damaged, of another format, or no model's.
    """
    path = folder / CONFIG
    stored = read_settings(path, Stored)
    if stored.format != FORMAT:
        raise StillmotionError(f"{path} has format {stored.format}; this version reads format {FORMAT}.")
    return stored
