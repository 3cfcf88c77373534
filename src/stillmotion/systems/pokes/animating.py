"""Still plus pokes to frames: roll-outs that take pokes while they run (Sec. 3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch

from stillmotion import geometry, media
from stillmotion.errors import StillmotionError
from stillmotion.options import Control
from stillmotion.rendering.backdrop import find_backdrop
from stillmotion.rendering.canvas import Canvas
from stillmotion.rendering.compositing import LAYERS as RENDERER_LAYERS
from stillmotion.rendering.compositing import Renderer
from stillmotion.rendering.fields import Fields
from stillmotion.systems.base import Output, Rollout, Step, System
from stillmotion.systems.pokes import CONTROLS, Impulse, Poke, Push, visualization
from stillmotion.systems.pokes.config import PRESETS, PokesConfig
from stillmotion.systems.pokes.field_network import Context, FieldNetwork
from stillmotion.systems.pokes.handles import Interaction
from stillmotion.systems.pokes.visualization import (
    draw_displacement,
    draw_handles,
    draw_heat,
    draw_neighbours,
    draw_parts,
)

if TYPE_CHECKING:
    from stillmotion.data.clip import Clip

FPS = 25.0  # frames per second where the model's card does not state them

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
    layer_captions: ClassVar[Mapping[str, str]] = {
        "pokes": "the pokes over the still: from where to where, and where each place is now",
        "displacement": "how far each pixel has moved: hue is the direction, brightness the distance",
        **RENDERER_LAYERS,
    }
    networks: FieldNetwork

    @classmethod
    def build(cls, config: PokesConfig, card: Mapping[str, Any] | None = None) -> Self:
        """The system with fresh weights."""
        return cls(config, FieldNetwork(config), card)

    def rollout(self, still: np.ndarray, control: Control | None, output: Output) -> PokesRollout:
        """Start a roll-out; see `System.open` and `PokesRollout`."""
        return PokesRollout(self, still, control, output)

    def control_of(self, clip: Clip) -> Poke:
        """A poke that takes the place poked in a made clip to where it is `clip.frames` later."""
        if "path" not in clip.tracks:
            raise StillmotionError(f"The clip {clip.name!r} does not know where it was poked; take a world's clips.")
        path = np.asarray(clip.tracks["path"], np.float64)
        end = path[min(self.config.clip.frames * self.config.clip.frame_step, len(path) - 1)]
        return Poke([(tuple(path[0]), tuple(end))])

    def example_clip(self, frames: int) -> Clip:
        """A made plant."""
        from stillmotion.worlds import sample_clip

        return sample_clip("plants", 0, 0, size=self.config.size, frames=max(frames, self.config.clip.frames + 1))

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
        system, rng = self.for_inference(), np.random.default_rng(seed)
        canvas = Canvas.prepare(still, self.config.size, None, self.device)
        if nearest is not None:
            order = visualization.nearest_neighbours(system.networks, still, nearest, self.config.size)
            return draw_neighbours(still, [np.asarray(nearest[int(i)].frames[0]) for i in order[:NEIGHBOURS]])
        context = system.networks.begin(canvas.small)
        rows, columns = canvas.enlarger()
        if parts is not None:
            labels = visualization.find_parts(system.networks, context, parts, rng)
            height, width = still.shape[:2]
            at_rows, at_columns = rows.argmax(1).cpu().numpy(), columns.argmax(1).cpu().numpy()
            return draw_parts(still, labels[at_rows][:, at_columns].reshape(height, width), parts)
        assert at is not None
        check_inside(at, still)
        place = torch.from_numpy(normalised(np.array(at), canvas)).float().to(self.device)
        found = torch.from_numpy(visualization.correlation_map(system.networks, context, place, pokes, rng))
        return draw_heat(still, (rows.cpu() @ found @ columns.T.cpu()).numpy(), at)

    @property
    def main_stage(self) -> str:
        """The stage of fields, or the paper's last one."""
        return "fields" if self.config.generator.fields else "dynamics_training"

    @property
    def fps(self) -> float:
        """Frames per second of the training clips, as the model takes them."""
        known = self.card.get("fps")
        return (float(known) if isinstance(known, int | float) and known > 0 else FPS) / self.config.clip.frame_step


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
        self._frame, self._end, self._closed = -1, 0, False
        self._context: Context | None = None
        self._renderer: Renderer | None = None
        self._fields: Fields | None = None
        self._interaction: Interaction | None = None
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
        now = max(self._frame, 0)
        if isinstance(control, Poke):
            self._planned = [plan for plan in self._planned if isinstance(plan.control, Impulse)]
            self.release()
        self._planned += [Planned(now + push.frame, push, control) for push in pushes]
        if self.output.frames is None:
            self._end = max(now + push.frame + self._duration(control) for push in pushes)

    def release(self) -> None:
        """Let go of everything that is held."""
        if self._interaction is not None:
            self._interaction.let_go(self._frame + 1)

    @property
    def done(self) -> bool:
        """Whether all pokes have been answered."""
        return self._frame >= self._end

    def close(self) -> None:
        """Release the networks' state."""
        self._closed, self._context, self._fields = True, None, None

    @torch.inference_mode()
    def __next__(self) -> Step:
        if self._closed:
            raise StopIteration
        if self._context is None:
            self._begin()
        assert self._interaction is not None
        self._take_up()
        self._frame += 1
        if self._frame:
            self._interaction.step(self._frame)
        return self._answer()

    def _begin(self) -> None:
        """Find what all frames share."""
        self.system = self.system.for_inference()
        networks, small = self.system.networks, self._canvas.small
        with self.system.autocast():
            context = networks.begin(small)
            figure = torch.sigmoid(networks.figure(context))
        self._renderer = Renderer(self._canvas, find_backdrop(self._canvas, figure, self.output))
        self._context = context._replace(plate=self._renderer.small_plate)
        self._interaction = Interaction(lambda places: networks.swings(context, places), small.device)

    def _take_up(self) -> None:
        """Start the pushes whose frame has come."""
        assert self._interaction is not None
        now = max(self._frame, 0)
        for plan in [plan for plan in self._planned if plan.frame <= now]:
            seen = normalised(np.array(plan.push.place), self._canvas)
            back = self._back(seen)
            vector = self._vector(np.array(plan.push.vector))
            if isinstance(plan.control, Impulse):
                self._interaction.push(now, seen + back, -back, vector, plan.control.duration)
            else:
                release = None if plan.control.release is None else now + plan.control.release
                self._interaction.add(now, seen + back, -back, vector, self._rise(plan.control), release)
            self._planned.remove(plan)

    def _answer(self) -> Step:
        """The frame of the present handles."""
        assert self._context is not None
        assert self._renderer is not None
        assert self._interaction is not None
        handles = self._interaction.handles(self._frame)
        with self.system.autocast():
            output = self.system.networks(self._context, handles)
        fields = output.fields
        if not self._interaction.hands:  # nothing moves
            still = torch.zeros_like(fields.shares)
            still[:, 1] = 1.0
            fields = fields._replace(displacement=torch.zeros_like(fields.displacement), shares=still)
        self._fields = fields
        size = (self._canvas.size, self._canvas.size)
        displacement = geometry.displacement_to_pixels(fields.displacement, size)[0].cpu().numpy()
        facts = {"displacement": displacement, "shares": fields.shares[0].cpu().numpy(), "handles": self._places()}
        seen = media.to_pictures(output.frame if self._interaction.hands else self._canvas.small)[0]
        frame = self._renderer.render(fields) if self.output.native else seen
        return Step(frame, self._layers(displacement, facts["handles"]) if self.output.layers else {}, facts)

    def _layers(self, displacement: np.ndarray, places: np.ndarray) -> dict[str, np.ndarray]:
        assert self._renderer is not None
        layers = {"pokes": draw_handles(self.still, places), "displacement": draw_displacement(displacement)}
        return layers | dict.fromkeys(RENDERER_LAYERS, self.still) | self._renderer.layers()

    def _places(self) -> np.ndarray:
        """The handles, M x 4, in pixels of the still."""
        assert self._interaction is not None
        hands = self._interaction.hands
        if not hands:
            return np.zeros((0, 4))
        place, offset = (np.stack([getattr(hand, name) for hand in hands]) for name in ("place", "offset"))
        scale = self._canvas.scale * (self._canvas.size - 1) / 2
        return np.concatenate([self._canvas.to_given((place + 1) * (self._canvas.size - 1) / 2), offset * scale], 1)

    def _vector(self, vector: np.ndarray) -> np.ndarray:
        return vector / self._canvas.scale * 2 / (self._canvas.size - 1)

    def _back(self, place: np.ndarray) -> np.ndarray:
        """From a place seen now to where it is in the still, normalised."""
        if self._fields is None:
            return np.zeros(2)
        maps = self._fields.displacement.permute(0, 3, 1, 2)
        at = torch.from_numpy(place.astype(np.float32))[None, None, None].to(maps.device)
        return np.asarray(geometry.warp(maps, at, padding="border")[0, :, 0, 0].cpu().numpy(), np.float64)

    def _rise(self, control: Poke) -> int:
        return control.rise or self.system.config.clip.frames

    def _duration(self, control: Poke | Impulse) -> int:
        """Frames that the answer to a push takes."""
        if isinstance(control, Impulse):
            return control.duration + SWINGING
        return self._rise(control) if control.release is None else control.release + SWINGING


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
