"""Still plus stroke to frames: the object follows a drawn line, one point per frame."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from stillmotion.controls import Control, Stroke, StrokeFrom
from stillmotion.errors import StillmotionError, StillmotionWarning
from stillmotion.nn.fold import folded
from stillmotion.systems.base import Animation, Step, System
from stillmotion.systems.strokes import coding, drawing, planning
from stillmotion.systems.strokes.composing import Canvas, Change, compose
from stillmotion.systems.strokes.config import GREY_POINTS, StrokesConfig
from stillmotion.data.object_detection import ObjectDetector, find_object
from stillmotion.systems.strokes.networks import Drawn, StrokesNetworks
from stillmotion.systems.strokes.windows import smooth

FPS = 25.0
"""Frames per second where neither the stroke nor the model's card says them."""


class Strokes(System):
    """Motion strokes: the still's object follows a drawn line, one point per frame.

    Attributes:
        finder: finds the object that a stroke is attached to; put a detector of your own here.
    """

    name: ClassVar[str] = "strokes"
    control: ClassVar[type] = Stroke
    config_class: ClassVar[type] = StrokesConfig
    networks: StrokesNetworks
    finder: ObjectDetector = staticmethod(find_object)

    @classmethod
    def build(cls, config: StrokesConfig, card: Mapping[str, Any] | None = None) -> Self:
        """The system with fresh weights."""
        return cls(config, StrokesNetworks(config), card)

    def shipped(self) -> nn.Module:
        """E1, E2, P and G; the discriminators only train."""
        parts = ("encoder", "motion", "predictor", "decoder")
        return nn.ModuleDict({name: getattr(self.networks, name) for name in parts})

    def check_control(self, control: Control) -> None:
        """Refuse what is neither a `Stroke` nor a `StrokeFrom`."""
        if not isinstance(control, StrokeFrom):
            super().check_control(control)

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
        """Animate a still after a stroke; see `System.animate`.

        A picture that is not square is padded to a square with its own border pixels for the networks. Frame 0 is the
        still; then the networks go on from their own last state, frame after frame, in memory that does not grow. The
        mapping is deterministic: `seed` changes nothing.

        Args:
            still: H x W x 3, `uint8` RGB.
            control: the stroke, in pixels of the still, or the video to take it from.
            frames: spread the whole stroke over so many frames, the still included. None: as long as the stroke's
                times say; without times a frame per point, but as many as a training clip has if those are more; a
                frame per frame of the video.
            seed: accepted for the common form.
            size: `native`, what changed put into the still at its own size; `model`, the networks' own frames.
            layers: also draw `stroke`, `coding` (S and S_t) and `change`.

        Returns:
            One step per frame; `facts` hold the `point` (x, y) where the object is to be, in pixels of the still, the
            `shift` of a stroke that was attached, and `change`, S x S, how much of the networks' frame shows.

        Raises:
            StillmotionError: the control does not fit the still; some of it shows only with the first step.

        Warns:
            StillmotionWarning: with the first step, where the stroke leaves the picture.
        """
        self.check_control(control)
        assert isinstance(control, Stroke | StrokeFrom)
        if frames is not None and frames < 1:
            raise StillmotionError(f"frames must be at least 1, not {frames}.")
        if size not in ("native", "model"):
            raise StillmotionError(f"size must be native or model, not {size!r}.")
        fps = planning.rate(control, self.fps)

        def steps() -> Iterator[Step]:
            plan = planning.make_plan(still, control, frames, fps=fps, least=self.config.frames, finder=self.finder)
            return self.ready()._steps(still, plan, size == "native", layers)

        return Animation(steps, fps)

    @property
    def fps(self) -> float:
        """The rate at which the model's strokes were learned: that of its training clips over `frame_step`."""
        known = self.card.get("fps")
        return (float(known) if isinstance(known, int | float) and known > 0 else FPS) / self.config.frame_step

    @property
    def most_points(self) -> int | None:
        """How many points a stroke may have; None for any number."""
        return GREY_POINTS if self.config.coding == "grey" else None

    def trial(self, frames: int) -> Stroke:
        """A line; see `System.trial`."""
        return Stroke(np.linspace(1, self.config.size - 2, max(frames, 2))[:, None].repeat(2, axis=1))

    def ready(self) -> Self:
        """The same system with folded networks: quicker frames, equal but for rounding, not to be trained."""
        made = copy.copy(self)
        made.networks = folded(self.networks)
        return made

    @torch.inference_mode()
    def _steps(self, still: np.ndarray, plan: planning.Plan, native: bool, layers: bool) -> Iterator[Step]:
        size = (still.shape[0], still.shape[1])
        if (sentence := plan.leaves(size)) is not None:
            warnings.warn(sentence, StillmotionWarning, stacklevel=2)
        inside = smooth(plan.inside(size), self.config.smooth_points)
        canvas = Canvas.prepare(still, self.config.size)
        points = canvas.to_network(inside)
        nothing = torch.zeros(1, 1, self.config.size, self.config.size)
        small = drawing.to_picture(canvas.small)

        def step(t: int, frame: np.ndarray, seen: np.ndarray, weight: Tensor) -> Step:
            facts = {"point": inside[t], "shift": plan.shift, "change": weight[0, 0].numpy()}
            return Step(frame, self._layers(still, inside, points, t, seen, weight) if layers else {}, facts)

        yield step(0, still.copy() if native else small, small, nothing)
        if len(inside) < 2:
            return
        change: Change | None = None
        for t, (drawn, unmoved) in enumerate(self._drawn(canvas.small, points)):
            change = change or Change(canvas.small, unmoved, points[0])
            weight = change.weigh(drawn, t)
            seen = drawing.to_picture(drawn.frame)
            way = points[0, t + 1] - points[0, 0]
            yield step(t + 1, compose(canvas, drawn, weight, way) if native else seen, seen, weight)

    def _drawn(self, small: Tensor, points: Tensor) -> Iterator[tuple[Drawn, Tensor]]:
        """What the networks make for every frame after the still, and the still as they paint it.

        Args:
            small: 1 x 3 x S x S in [-1, 1].
            points: 1 x T x 2, pixels of the network's picture.
        """
        with self.autocast():
            context = self.networks.begin(small, points)
            state = context.initial
            unmoved = self.networks.draw(context, state).frame
        for t in range(points.shape[1] - 1):
            with self.autocast():
                state = self.networks.predict(context, state, t)
                drawn = self.networks.draw(context, state, t)
            yield drawn, unmoved

    def _layers(
        self, still: np.ndarray, inside: np.ndarray, points: Tensor, t: int, seen: np.ndarray, weight: Tensor
    ) -> dict[str, np.ndarray]:
        pictures = {
            "stroke": drawing.draw_stroke(still, inside, t),
            "change": drawing.draw_change(seen, weight),
        }
        if points.shape[1] > 1:
            now = min(t, points.shape[1] - 2)
            pictures["coding"] = drawing.draw_coding(
                coding.whole(points, self.config, now), coding.step(points, now, self.config)
            )
        return pictures
