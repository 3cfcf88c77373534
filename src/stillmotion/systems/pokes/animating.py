"""Still plus pokes to frames: roll-outs that take pokes while they run (Sec. 3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from stillmotion import geometry, media
from stillmotion.errors import StillmotionError
from stillmotion.options import Control
from stillmotion.rendering.backdrop import find_backdrop
from stillmotion.rendering.canvas import Canvas
from stillmotion.rendering.compositing import LAYERS as RENDERER_LAYERS
from stillmotion.rendering.compositing import Renderer
from stillmotion.rendering.fields import PAINT, STATIC, Fields, alone
from stillmotion.systems.base import Output, Rollout, Step, System
from stillmotion.systems.pokes import CONTROLS, Impulse, Poke, Push, visualization
from stillmotion.systems.pokes.config import PRESETS, PokesConfig
from stillmotion.systems.pokes.data import farthest_move, is_poked
from stillmotion.systems.pokes.field_network import FieldNetwork
from stillmotion.systems.pokes.handles import Hand, Interaction, Oscillators, one_handle, sample_at
from stillmotion.systems.pokes.networks import StateGenerator, phi_factors
from stillmotion.systems.pokes.poking import SimulatedPoke, answer_frames, normalise_flow, poke_map
from stillmotion.systems.pokes.visualization import (
    draw_displacement,
    draw_handles,
    draw_heat,
    draw_neighbours,
    draw_parts,
)

if TYPE_CHECKING:
    from stillmotion.data.clip import Clip

NEIGHBOURS = 4
"""Clips that `explain --nearest` shows."""

SWINGING = 40
"""Frames of an animation after the last hand has let go or the last force has passed, if no number is given."""


class Pokes(System):
    """Interactive image-to-video synthesis: a part of the still is pushed, and the rest reacts."""

    name: ClassVar[str] = "pokes"
    controls: ClassVar[tuple[type[Control], ...]] = CONTROLS
    config_class: ClassVar[type] = PokesConfig
    presets: ClassVar[Mapping[str, Any]] = PRESETS
    protocol: ClassVar[str] = "pokes"
    layer_captions: ClassVar[Mapping[str, str]] = {
        "pokes": "the pokes over the still: from where to where, and where each place is now",
        "displacement": "how far each pixel has moved: hue is the direction, brightness the distance",
        **RENDERER_LAYERS,
    }

    @classmethod
    def build(cls, config: PokesConfig, card: Mapping[str, Any] | None = None) -> Self:
        """The system with fresh weights."""
        return cls(config, FieldNetwork(config) if config.generator.fields else StateGenerator(config), card)

    def rollout(self, still: np.ndarray, control: Control | None, output: Output) -> PokesRollout:
        """Start a roll-out; see `System.open` and `PokesRollout`."""
        return PokesRollout(self, still, control, output)

    def control_of(self, clip: Clip) -> Poke:
        """The poke that makes a clip: where it is poked, or the pixel that moves farthest, to where that goes.

        Raises:
            StillmotionError: nothing in the clip moves by a pixel.
        """
        last = min(self.config.clip.frames * self.config.clip.frame_step, len(clip) - 1)
        if is_poked(clip):
            path = np.asarray(clip.tracks["path"], np.float64)
            return Poke([(tuple(path[0]), tuple(path[last]))])
        return Poke([farthest_move(clip, last)])

    @torch.inference_mode()
    def explain(
        self,
        still: np.ndarray,
        *,
        at: tuple[float, float] | None = None,
        parts: int | None = None,
        nearest: Sequence[Clip] | None = None,
        pokes: int = visualization.POKES,
        seed: int = 0,
    ) -> np.ndarray:
        """A picture of what the model knows of a still's structure; one of `at`, `parts` and `nearest` is given.

        Args:
            still: H x W x 3, `uint8`.
            at: (x, y) in its pixels: how much each pixel moves as this one does (`visualization.correlation_map`).
            parts: so many parts (`visualization.find_parts`).
            nearest: the still beside the first frames of the clips that look most like it.
            pokes: random pokes of the heat map.
            seed: of the random numbers.

        Returns:
            H x W x 3, `uint8`; a row of pictures for `nearest`.

        Raises:
            StillmotionError: the place is outside of the still.
        """
        networks, rng = self.for_inference().networks, np.random.default_rng(seed)
        if not isinstance(networks, FieldNetwork):
            raise StillmotionError("Only a model that predicts fields (generator.fields) explains a still.")
        canvas = Canvas.prepare(still, self.config.size, None, self.device)
        if nearest is not None:
            order = visualization.nearest_neighbours(networks, still, nearest, self.config.size)
            return draw_neighbours(still, [np.asarray(nearest[int(i)].frames[0]) for i in order[:NEIGHBOURS]])
        context = networks.begin(canvas.small)
        rows, columns = canvas.enlarger()
        if parts is not None:
            labels = visualization.find_parts(networks, context, parts, rng)
            height, width = still.shape[:2]
            at_rows, at_columns = rows.argmax(1).cpu().numpy(), columns.argmax(1).cpu().numpy()
            return draw_parts(still, labels[at_rows][:, at_columns].reshape(height, width), parts)
        assert at is not None
        check_inside(at, still)
        place = torch.from_numpy(normalised(np.array(at), canvas)).float().to(self.device)
        found = torch.from_numpy(visualization.correlation_map(networks, context, place, pokes, rng))
        return draw_heat(still, (rows.cpu() @ found @ columns.T.cpu()).numpy(), at)

    @property
    def main_stage(self) -> str:
        """The stage of fields, or the one in which the paper's networks learn dynamics."""
        if self.config.generator.fields:
            return "fields"
        return "interleaved" if self.config.interleaved.steps else "dynamics_training"

    @property
    def fps(self) -> float:
        """Frames per second of the training clips, as the model takes them."""
        return self.clip_fps / self.config.clip.frame_step


@dataclasses.dataclass(frozen=True)
class Planned:
    """A push that starts at a frame of the roll-out."""

    frame: int
    push: Push
    control: Poke | Impulse


class PokesRollout(Rollout):
    """A still that answers to pokes while it runs, without end and in memory that does not grow.

    Frame 0 is the still. Frames of pushes count from the step at which their control is taken up. A place is where it
    is seen now: the roll-out finds the place of the still that has moved there. A new `Poke` lets go of what an
    earlier one holds; `release` lets go of everything, and what is free swings back to rest.

    Steps have the facts `displacement`, S x S x 2, how far back each pixel of the networks' frame comes from, in its
    pixels; `shares`, 4 x S x S, of the sources of a pixel; and `handles`, M x 4, (x, y) of every handle in the still
    and its offset, in pixels of the still given.

    The mapping is deterministic: `Output.seed` changes nothing.
    """

    def __init__(self, system: Pokes, still: np.ndarray, control: Control | None, output: Output):
        self.still, self.output, self.fps = still, output, system.fps
        self.system = system
        self._canvas = Canvas.prepare(still, system.config.size, None, system.device)
        self._planned: list[Planned] = []
        self._frame, self._end, self._closed = -1, -1, False
        self._player: FieldPlayer | StatePlayer | None = None
        self._fields: Fields | None = None
        if control is not None:
            self.send(control)
        if output.frames is not None:
            self._end = output.frames - 1

    def send(self, control: Control) -> None:
        """Follow more pokes from the next step on; see the class.

        Raises:
            StillmotionError: another system's control, or a place outside of the still; the roll-out goes on.
        """
        self.system.check_control(control)
        assert isinstance(control, Poke | Impulse)
        pushes = control.moves if isinstance(control, Poke) else control.pushes
        for push in pushes:
            check_inside(push.place, self.still)
        now, self.fps = max(self._frame, 0), control.fps or self.fps
        if isinstance(control, Poke):
            self._planned = [plan for plan in self._planned if isinstance(plan.control, Impulse)]
            self.release()
        self._planned += [Planned(now + push.frame, push, control) for push in pushes]
        if self.output.frames is None:
            self._end = max(now + push.frame + self._duration(control, push) for push in pushes)

    def release(self) -> None:
        """Let go of everything that is held."""
        if self._player is not None:
            self._player.interaction.let_go(self._frame + 1)

    @property
    def done(self) -> bool:
        """Whether all pokes have been answered."""
        return self._frame >= self._end

    @property
    def length(self) -> int:
        """Frames until then."""
        return self._end + 1

    def close(self) -> None:
        """Release the networks' state."""
        self._closed, self._player, self._fields = True, None, None

    @torch.inference_mode()
    def __next__(self) -> Step:
        if self._closed:
            raise StopIteration
        if self._player is None:
            made = FieldPlayer if self.system.config.generator.fields else StatePlayer
            self._player = made(self.system.for_inference(), self._canvas, self.output)
        self._take_up(self._player.interaction)
        self._frame += 1
        if self._frame:
            self._player.interaction.step(self._frame)
        return self._answer(self._player)

    def _take_up(self, interaction: Interaction) -> None:
        """Start the pushes whose frame has come."""
        now = max(self._frame, 0)
        for plan in [plan for plan in self._planned if plan.frame <= now]:
            seen = normalised(np.array(plan.push.place), self._canvas)
            back = self._back(seen)
            vector = self._vector(np.array(plan.push.vector))
            if isinstance(plan.control, Impulse):
                interaction.push(now, seen + back, -back, vector, plan.control.duration)
            else:
                release = None if plan.control.release is None else now + plan.control.release
                interaction.add(now, seen + back, -back, vector, self._rise(plan.control, plan.push), release)
            self._planned.remove(plan)

    def _answer(self, player: FieldPlayer | StatePlayer) -> Step:
        """The frame of the present handles."""
        fields, seen = player.answer(self._frame)
        self._fields = fields
        size = (self._canvas.size, self._canvas.size)
        displacement = geometry.displacement_to_pixels(fields.displacement, size)[0].cpu().numpy()
        places = self._places(player.interaction.hands)
        facts = {"displacement": displacement, "shares": fields.shares[0].cpu().numpy(), "handles": places}
        frame = player.renderer.render(fields) if self.output.native else media.to_pictures(seen)[0]
        if not self.output.layers:
            return Step(frame, {}, facts)
        layers = {"pokes": draw_handles(self.still, places), "displacement": draw_displacement(displacement)}
        # Every layer is as long as the frames: the still where no figure is found.
        return Step(frame, layers | dict.fromkeys(RENDERER_LAYERS, self.still) | player.renderer.layers(), facts)

    def _places(self, hands: Sequence[Hand]) -> np.ndarray:
        """Handles, M x 4: (x, y) and offset in pixels of the still."""
        half, scale = (self._canvas.size - 1) / 2, self._canvas.scale
        rows = [
            np.concatenate([self._canvas.to_given((hand.place + 1) * half), hand.offset * half * scale])
            for hand in hands
        ]
        return np.stack(rows) if rows else np.zeros((0, 4))

    def _vector(self, vector: np.ndarray) -> np.ndarray:
        return vector / self._canvas.scale * 2 / (self._canvas.size - 1)

    def _back(self, place: np.ndarray) -> np.ndarray:
        """From a place seen now to where it is in the still, normalised."""
        if self._fields is None:
            return np.zeros(2)
        maps = self._fields.displacement.permute(0, 3, 1, 2)
        return np.asarray(sample_at(maps, one_handle(place, maps.device))[0, 0].cpu().numpy(), np.float64)

    def _rise(self, control: Poke, push: Push) -> int:
        config, pixels = self.system.config, float(np.hypot(*push.vector)) / self._canvas.scale
        return control.rise or answer_frames(pixels, config.poke, config.clip.frames)

    def _duration(self, control: Poke | Impulse, push: Push) -> int:
        """Frames that the answer to a push takes."""
        if isinstance(control, Impulse):
            return control.duration + SWINGING
        return self._rise(control, push) if control.release is None else control.release + SWINGING


class FieldPlayer:
    """Answers of a `FieldNetwork`, of one still."""

    def __init__(self, system: Pokes, canvas: Canvas, output: Output):
        networks, self.system = system.networks, system
        assert isinstance(networks, FieldNetwork)
        self.networks, self.small = networks, canvas.small
        with system.autocast():
            context = networks.begin(canvas.small)
            figure = torch.sigmoid(context.figure)
        self.renderer = Renderer(canvas, find_backdrop(canvas, figure, output))
        self.context = context._replace(plate=self.renderer.small_plate)
        self.interaction = Interaction(partial(networks.swings, context), canvas.small.device)

    def answer(self, frame: int) -> tuple[Fields, Tensor]:
        """The fields of a frame, and it at the networks' size, 1 x 3 x S x S in [0, 1]."""
        if frame == 0 or not self.interaction.hands:
            return unmoved(self.small), self.small
        with self.system.autocast():
            output = self.networks(self.context, self.interaction.handles(frame))
        return output.fields, output.frame


class StatePlayer:
    """Answers of the paper's networks: states carry on from frame to frame, with phi while there is a poke."""

    def __init__(self, system: Pokes, canvas: Canvas, output: Output):
        networks, self.system = system.networks, system
        assert isinstance(networks, StateGenerator)
        self.networks, self.small, self.moved = networks, canvas.small, False
        self.renderer = Renderer(canvas, None)
        self.interaction = Interaction(stiff, canvas.small.device)
        with system.autocast():
            self.states = networks.encode(canvas.small * 2 - 1)

    def answer(self, frame: int) -> tuple[Fields, Tensor]:
        """As `FieldPlayer.answer`; the fields are all paint."""
        acting = [hand for hand in self.interaction.hands if hand.held(frame) or hand.pushed(frame)]
        if frame == 0 or not (acting or self.moved):
            return unmoved(self.small), self.small
        self.moved = True
        with self.system.autocast():
            self.states = self.networks.step(self.states, self.interaction_of(acting, frame))
            seen = (self.networks.decode(self.states).float() + 1) / 2
        return unmoved(self.small)._replace(shares=alone(PAINT, seen), paint=seen), seen

    def interaction_of(self, hands: Sequence[Hand], frame: int) -> Tensor:
        """Latent interaction of a frame: pokes that began together are one map, with the factor of its time."""
        config, size = self.system.config, (self.small.shape[2], self.small.shape[3])
        half = (np.array(size[::-1]) - 1) / 2
        phi = torch.zeros_like(self.states[0])
        for begin in sorted({hand.begin for hand in hands}):
            together = [hand for hand in hands if hand.begin == begin]
            frames = max(hand.rise for hand in together) if config.poke.lengths else config.clip.frames
            factors = phi_factors(config.poke, frames)
            pokes = [poke_at((hand.place + 1) * half, hand.vector * half, size) for hand in together]
            phi = phi + factors[min(frame - begin, len(factors)) - 1] * self.encode(pokes)
        return phi

    def encode(self, pokes: Sequence[SimulatedPoke]) -> Tensor:
        """Phi of pokes in one map."""
        poke, size = self.system.config.poke, (self.small.shape[2], self.small.shape[3])
        drawn = poke_map(pokes, size, poke.patch)
        if poke.interpretation == "impulse":
            drawn = normalise_flow(drawn.transpose(1, 2, 0), poke.largest).transpose(2, 0, 1)
        return self.networks.encode_poke(torch.from_numpy(np.ascontiguousarray(drawn))[None].to(self.small.device))


def unmoved(small: Tensor) -> Fields:
    """Fields of the still as it is; 1 x 3 x S x S in [0, 1]."""
    return Fields(small.new_zeros(1, *small.shape[2:], 2), alone(STATIC, small), small)


def stiff(places: Tensor) -> Oscillators:
    """Oscillators that rest at once: the paper's states swing by themselves."""
    rate = places.new_full((*places.shape[:2], 1), 20.0)
    return Oscillators(rate, torch.full_like(rate, 0.9), torch.ones_like(rate))


def poke_at(place: np.ndarray, vector: np.ndarray, size: geometry.Size) -> SimulatedPoke:
    """A poke in whole pixels of the networks' frame."""
    x, y = np.rint(place).astype(int).clip(0, (size[1] - 1, size[0] - 1)).tolist()
    dx, dy = vector.tolist()
    return SimulatedPoke((x, y), (dx, dy))


def check_inside(place: tuple[float, float], still: np.ndarray) -> None:
    """Refuse a place, (x, y) in pixels, outside of a still.

    Raises:
        StillmotionError: says how large the still is.
    """
    (x, y), (height, width) = place, still.shape[:2]
    if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
        raise StillmotionError(f"The place {x:g},{y:g} is outside of the still, which is {width} x {height} pixels.")


def normalised(point: np.ndarray, canvas: Canvas) -> np.ndarray:
    """A pixel of the still, (x, y), normalised in the networks' frame."""
    return np.asarray(canvas.to_small(point) * 2 / (canvas.size - 1) - 1)
