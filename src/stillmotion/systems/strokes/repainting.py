"""Ours: a stage in which G learns to paint from P's states, once P can foresee.

G has learned to paint from E1's codes of true frames. P's states are less sure of themselves the longer a roll-out
lasts, and what G paints from them fades. Here G sees them, at random steps of whole roll-outs of many clips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stillmotion.systems.strokes.config import StrokesConfig
from stillmotion.systems.strokes.networks import Context, StrokesNetworks
from stillmotion.systems.strokes.objectives import Objectives
from stillmotion.systems.strokes.painting import between
from stillmotion.systems.strokes.rates import early
from stillmotion.systems.strokes.sheets import rollout_sheet
from stillmotion.systems.strokes.windows import TRACK, window_dataset

PAINTED = 4
"""Steps of a roll-out that are painted; the others cost little."""


class RepaintStage:
    """G learns; E1, E2 and P stay as they are. Batches are as large as those of the stage `foresee`."""

    name = "repaint"

    def __init__(
        self, model: StrokesNetworks, config: StrokesConfig, clips: Sequence[Any], preview_clips: Sequence[Any] = ()
    ):
        self.model, self.config = model, config
        self.steps, self.batch = config.repaint_steps, config.foresee_batch
        self.dataset = window_dataset(clips, config)
        self.clips = preview_clips or clips
        self.objectives = Objectives(model, config, perceives=False)
        self.networks: Mapping[str, nn.Module] = {"painter": model.decoder}
        self.ema: Mapping[str, nn.Module] = {"painter": model.decoder}
        self.generators = {"steps": torch.Generator()}  # seeded and stored by the loop
        optimizer, scheduler = early(model.decoder.parameters(), config.learning_rate, self.steps)
        self.optimizers, self.schedulers = {"painter": optimizer}, {"painter": scheduler}

    def step(self, batch: Mapping[str, Any], update: Any) -> dict[str, Tensor]:
        """One step.

        Args:
            batch: `frames`, B x T x 3 x s x s in [0, 1], and `points`, B x T x 2 pixels.
            update: called as `update("painter", loss, clip_grad=...)`.

        Returns:
            Every loss term, weighted, detached, the mean over the painted steps; and `standing`, what the first would
            be for the still itself.
        """
        frames, points = batch["frames"] * 2 - 1, batch[TRACK]
        context, states = self.roll_out(frames[:, 0], points)
        times = torch.randperm(len(states), generator=self.generators["steps"])[:PAINTED].tolist()
        sums: dict[str, Tensor] = {}
        for t in times:
            moment = between(frames[:, 0], frames[:, t + 1], points[:, [0, t + 1]], self.model)
            terms = self.objectives.painting(self.model.draw(context, states[t], t), moment)
            terms["standing"] = self.objectives.standing(moment)
            for name, value in terms.items():
                sums[name] = sums.get(name, frames.new_zeros(())) + value / len(times)
        update("painter", sums["frame"] + sums["paint"], clip_grad=self.config.clip_grad or None)
        return {name: value.detach() for name, value in sums.items()}

    @torch.no_grad()
    def roll_out(self, still: Tensor, points: Tensor) -> tuple[Context, list[Tensor]]:
        """What all steps share, and P's states of each, from the still alone; arguments as for `begin`."""
        context = self.model.begin(still, points)
        states = [context.initial]
        for t in range(points.shape[1] - 1):
            states.append(self.model.predict(context, states[-1], t))
        return context, states[1:]

    def preview(self) -> dict[str, np.ndarray]:
        """A contact sheet as in the stage `stroke`."""
        return {"rollouts": rollout_sheet(self.model, self.clips)}
