"""Still plus the name of an action to frames: keypoints are generated, the figure is brought to them (Fig. 2)."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch

from stillmotion import media
from stillmotion.errors import StillmotionError, StillmotionWarning
from stillmotion.keypoints.networks import Keypoints
from stillmotion.options import Box, Control
from stillmotion.rendering.canvas import Canvas, to_network
from stillmotion.rendering.compositing import LAYERS as RENDERER_LAYERS
from stillmotion.systems.actions import ALL, CONTROLS, NONE, Act, Pose, Remove
from stillmotion.systems.actions.config import PRESETS, ActionsConfig
from stillmotion.systems.actions.data import action_names, side_names
from stillmotion.systems.actions.networks import ActionsNetworks, FieldActionsNetworks
from stillmotion.systems.actions.performing import (
    Drawn,
    Performer,
    between,
    find_crop,
    next_window,
    open_performer,
    several_figures,
)
from stillmotion.systems.base import Output, Rollout, Step, System
from stillmotion.systems.grid import Grid

if TYPE_CHECKING:
    from stillmotion.data.clip import Clip

BATCH = 16
"""Frames that go through the networks together."""


class Actions(System):
    """Class-conditional video prediction: a still performs an action that is named."""

    name: ClassVar[str] = "actions"
    controls: ClassVar[tuple[type[Control], ...]] = CONTROLS
    config_class: ClassVar[type] = ActionsConfig
    presets: ClassVar[Mapping[str, Any]] = PRESETS
    protocol: ClassVar[str] = "actions"
    layer_captions: ClassVar[Mapping[str, str]] = {
        "keypoints": "where the keypoints are sent",
        "flow": "backward flow: hue is direction",
        "masks": "which keypoint moves which pixel",
        "warped": "the still through the flow alone",
        "mask": "what is kept of the still: white",
        "synthesized": "the synthesised image, which shows where the mask is black",
        **RENDERER_LAYERS,
    }
    config: ActionsConfig
    networks: ActionsNetworks | FieldActionsNetworks

    @classmethod
    def build(cls, config: ActionsConfig, card: Mapping[str, Any] | None = None) -> Self:
        """The system with fresh weights."""
        return cls(config, FieldActionsNetworks(config) if config.fields else ActionsNetworks(config), card)

    @classmethod
    def suited(cls, config: ActionsConfig, clips: Sequence[Clip]) -> ActionsConfig:
        """The configuration with the actions and sides of the clips, where it leaves them open."""
        found: dict[str, Any] = {}
        if config.actions is None:
            found["actions"] = action_names(clips)
        if config.sides is None:
            found["sides"] = side_names(clips)
        return replace(config, **found)

    @property
    def main_stage(self) -> str:
        """Stage 2; a finished model goes on to learn how things move."""
        return "motion"

    def check_control(self, control: Control) -> None:
        """Refuse actions and sides that the model does not know; names those it does."""
        super().check_control(control)
        if isinstance(control, Act):
            check_name("action", control.action, (*(self.config.actions or ()), NONE, ALL))
            if control.side is not None:
                if not self.config.sides:
                    raise StillmotionError("This model knows no sides: leave --side out.")
                check_name("side", control.side, self.config.sides)

    def example_clip(self, frames: int) -> Clip:
        """See `System`; it shows the first of the model's actions and sides, so that its stages take it."""
        clip, known = super().example_clip(frames), {"action": self.config.actions, "side": self.config.sides}
        return replace(clip, meta={**clip.meta, **{key: names[0] for key, names in known.items() if names}})

    def control_of(self, clip: Clip) -> Act:
        """The clip's own action, if the model knows it, and side."""
        action, side = clip.meta.get("action"), clip.meta.get("side")
        return Act(
            str(action) if action in (self.config.actions or ()) else NONE,
            str(side) if side in (self.config.sides or ()) else None,
        )

    @torch.inference_mode()
    def detect_keypoints(self, frames: np.ndarray) -> np.ndarray:
        """The keypoints of T frames, T x H x W x 3 `uint8`, whatever their size; T x K x 2, normalised."""
        networks = self.networks.labeller()
        found = [networks(to_network(frame, self.config.size, self.device)).cpu() for frame in frames]
        return torch.cat(found)[..., :2].float().numpy()

    def rollout(self, still: np.ndarray, control: Control | None, output: Output) -> Rollout:
        """Start a roll-out; see `System.open`.

        Returns:
            Steps whose `facts` hold the keypoints asked for (`mean`, K x 2, normalised) and the `shares` of the
            sources of each pixel (4 x S x S); with fields also `covariance` and `displacement`.

        Warns:
            StillmotionWarning: with the first step, where the still seems to show several figures.
        """
        system = self.for_inference()
        if isinstance(control, Act) and control.action == ALL:
            each = [replace(control, action=name) for name in self.config.actions or (NONE,)]
            return Grid([ActionsRollout(system, still, one, output) for one in each])
        return ActionsRollout(system, still, control, output)


class ActionsRollout(Rollout):
    """A still that performs what it is told while it runs, without end and in memory that does not grow.

    Frame 0 is the still. A new control goes on from the pose that the last one led to. The same seed gives the same
    performance.
    """

    def __init__(self, system: Actions, still: np.ndarray, control: Control | None, output: Output):
        self.system, self.still, self.output = system, still, output
        self.networks = system.networks
        self.fps = system.clip_fps / max(1, system.config.sequences.step)
        self._random = torch.Generator().manual_seed(output.seed or 0)
        self._performer: Performer | None = None
        self._targets: Iterator[Keypoints] = iter(())
        self._steps: deque[tuple[Step, Keypoints]] = deque()  # made ahead, each with its pose
        self._past: deque[Keypoints] = deque(maxlen=system.config.tracks.known if system.config.tracks else 1)
        self._control: Control | None = None
        self._crop: Box | str | None = None
        self._frame, self._end = -1, 0 if output.frames is None else output.frames - 1
        if control is not None:
            self.send(control)

    def send(self, control: Control) -> None:
        """Perform another action, or take another pose, from the next step on."""
        self.system.check_control(control)
        if isinstance(control, Act) and control.action == ALL:
            raise StillmotionError("A performance goes on with one action; open another one for all of them.")
        self._control = control
        self._steps.clear()
        self._targets = iter(())
        assert isinstance(control, CONTROLS)
        if self._performer is not None and control.crop not in (None, self._crop):
            raise StillmotionError("The crop cannot change while an animation runs; open another one.")
        self._crop = control.crop if self._performer is None else self._crop
        self.fps = control.fps or self.fps
        if self.output.frames is None:
            self._end = max(self._frame, 0) + self._length(control)

    @property
    def done(self) -> bool:
        """Whether the control has been carried out."""
        return self._frame >= self._end

    @property
    def length(self) -> int:
        """Frames up to the end of the control."""
        return self._end + 1

    def close(self) -> None:
        """Drop what has been made ahead."""
        self._steps.clear()
        self._targets, self._performer = iter(()), None

    @torch.inference_mode()
    def __next__(self) -> Step:
        """Make the next step."""
        if self._performer is None:
            self._performer = self._open()
        self._frame += 1
        if not self._steps:
            self._steps.extend(self._make(self._performer))
        step, pose = self._steps.popleft()
        self._past.append(pose)
        return step

    def _open(self) -> Performer:
        size, device, crop = self.system.config.size, self.system.device, self._crop
        if not isinstance(crop, tuple | None):
            crop = find_crop(self.networks.labeller(), self.still, size, device)
        canvas = Canvas.prepare(self.still, size, crop, device)
        performer = open_performer(self.networks, canvas, self.output, self.system.precision)
        if several_figures(performer.own):
            warnings.warn(
                "The still seems to show several figures of like size, and keypoints lie between; crop it to one "
                "(--crop X,Y,W,H).",
                StillmotionWarning,
                stacklevel=3,
            )
        return performer

    def _make(self, performer: Performer) -> Iterator[tuple[Step, Keypoints]]:
        """The next steps, each with its pose."""
        if self._frame == 0:
            targets = performer.own
        elif isinstance(self._control, Remove):
            yield self._as_step(performer.empty(), performer), performer.own
            return
        else:
            targets = next(self._targets, None) or self._plan(performer)
        for i, drawn in enumerate(performer.draw(targets)):
            shown = drawn if self._frame else drawn._replace(frame=self._own_frame(performer))
            yield self._as_step(shown, performer), targets.rows(slice(i, i + 1))

    def _own_frame(self, performer: Performer) -> np.ndarray:
        canvas = performer.renderer.canvas
        return canvas.picture.copy() if self.output.native else media.to_pictures(canvas.small)[0]

    def _as_step(self, drawn: Drawn, performer: Performer) -> Step:
        """As the rest of the house knows it, the animated part back in its place."""
        canvas, frame = performer.renderer.canvas, drawn.frame
        return Step(canvas.put_back(self.still, frame) if self.output.native else frame, drawn.layers, drawn.facts)

    def _plan(self, performer: Performer) -> Keypoints:
        """The first batch of what the control asks for next; the others wait in `_targets`."""
        control, last = self._control, self._past[-1]
        if isinstance(control, Act):
            coming = self._perform(control)
        elif isinstance(control, Pose):
            coming = between(last, self._pose_of(control, performer), control.rise)
            self._control = None
        else:
            coming = last
        size = len(coming.mean)
        batches = [coming.rows(slice(start, start + BATCH)) for start in range(0, size, BATCH)]
        self._targets = iter(batches[1:])
        return batches[0]

    def _perform(self, control: Act) -> Keypoints:
        config = self.system.config
        past = Keypoints(*(torch.cat(parts)[None] for parts in zip(*self._past, strict=True)))
        action = None if control.action == NONE else (config.actions or ()).index(control.action)
        side = None if control.side is None else (config.sides or ()).index(control.side)
        return next_window(self.networks, config, past, action, side, self._random)

    def _pose_of(self, control: Pose, performer: Performer) -> Keypoints:
        given = control.picture
        picture = given if isinstance(given, np.ndarray) else media.read_picture(given)
        x, y, width, height = performer.renderer.canvas.crop
        if picture.shape == self.still.shape:
            picture = media.crop(picture, (x, y, x + width, y + height))
        return performer.find(to_network(picture, self.system.config.size, self.system.device))

    def _length(self, control: Control) -> int:
        """Frames of a control after the one at which it is taken up."""
        if isinstance(control, Act):
            return self.system.config.motion.frames
        return control.rise if isinstance(control, Pose) else 1


def check_name(kind: str, name: str, known: Sequence[str]) -> None:
    """Refuse a name that is not known, with those that are."""
    if name not in known:
        raise StillmotionError(f"This model knows no {kind} {name!r}; it knows {', '.join(known)}.")
