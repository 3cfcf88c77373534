"""Ours: a stage in which G learns to paint from P's states, once P can foresee.

G has learned to paint from E1's codes of true frames. P's states are less sure of themselves the longer a roll-out
lasts, and what G paints from them fades. Here G sees them, at random steps of whole roll-outs of many clips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from stillmotion.systems.strokes.config import StrokesConfig
from stillmotion.systems.strokes.foreseeing import ForeseeStage
from stillmotion.systems.strokes.networks import StrokesNetworks
from stillmotion.systems.strokes.objectives import Objectives
from stillmotion.systems.strokes.painting import between
from stillmotion.systems.strokes.rates import early
from stillmotion.systems.strokes.windows import TRACK

PAINTED = 4
"""Steps of a roll-out that are painted; the others cost little."""


class RepaintStage(ForeseeStage):
    """G learns; E1, E2 and P stay as they are. Batches are those of the stage `foresee`."""

    name = "repaint"

    def __init__(
        self, model: StrokesNetworks, config: StrokesConfig, clips: Sequence[Any], preview_clips: Sequence[Any] = ()
    ):
        super().__init__(model, config, clips, preview_clips)
        self.steps = config.repaint_steps
        self.objectives = Objectives(model, config, perceives=False)
        self.networks = self.ema = {"painter": model.decoder}
        optimizer, scheduler = early(model.decoder.parameters(), config.learning_rate, self.steps)
        self.optimizers, self.schedulers = {"painter": optimizer}, {"painter": scheduler}

    def step(self, batch: Mapping[str, Any], update: Any) -> dict[str, Tensor]:
        """One step.

        Args:
            batch: see `ForeseeStage.step`.
            update: called as `update("painter", loss, clip_grad=...)`.

        Returns:
            Every loss term, weighted, detached, the mean over the painted steps; and `standing`, what the first would
            be for the still itself.
        """
        frames, points, config = batch["frames"] * 2 - 1, batch[TRACK], self.config
        states = self.roll_out(frames[:, 0], points)
        times = torch.randperm(len(states), generator=self.generators["starts"])[:PAINTED].tolist()
        sums: dict[str, Tensor] = {}
        for t in times:
            moment = between(frames[:, 0], frames[:, t + 1], points[:, [0, t + 1]], self.model)
            with torch.no_grad():
                *maps, _ = self.model.encoder.maps(moment.seen[0])
            drawn = self.model.decoder(states[t], moment.still, moment.camera, [moment.seen[0], *maps])
            weights = self.objectives.weights(moment)
            terms = {
                "frame": config.reconstruction_weight * self.objectives.distance(drawn.frame, moment.truth, weights),
                "paint": config.reconstruction_weight * self.objectives.distance(drawn.paint, moment.truth, weights),
                "standing": self.objectives.standing(moment),
            }
            for name, value in terms.items():
                sums[name] = sums.get(name, frames.new_zeros(())) + value / len(times)
        update("painter", sums["frame"] + sums["paint"], clip_grad=config.clip_grad or None)
        return {name: value.detach() for name, value in sums.items()}

    @torch.no_grad()
    def roll_out(self, still: Tensor, points: Tensor) -> list[Tensor]:
        """P's states of all steps, from the still alone; N x 3 x s x s in [-1, 1] and N x T x 2 pixels."""
        context = self.model.begin(still, points)
        states = [context.initial]
        for t in range(points.shape[1] - 1):
            states.append(self.model.predict(context, states[-1], t))
        return states[1:]
