"""Ours: a stage in which P learns to foresee E1's codes, before anything is painted from its states.

In the stage of the paper every step of P is painted, which takes most of the time, and P learns from one step of a
few clips at a time. Here E1 says once what all frames of a window look like, and P is asked for roll-outs from true
codes that grow longer as it learns: what it adds wrongly in one step is added up in the next, and is felt at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.data.augment import AugmentParams
from stillmotion.data.clip import Clip
from stillmotion.systems.strokes.config import StrokesConfig
from stillmotion.systems.strokes.networks import StrokesNetworks
from stillmotion.systems.strokes.objectives import held
from stillmotion.systems.strokes.rates import early
from stillmotion.systems.strokes.sheets import rollout_sheet
from stillmotion.systems.strokes.windows import TRACK, Masks, before_grey, window_dataset, window_points


class ForeseeStage:
    """E2 and P learn what E1's codes of the coming frames will be; E1 and G stay as they are.

    Roll-outs have 1, 2, 4, ... steps and at last the whole window, each length for the same share of the training.
    Unlike in the paper's stage the gradient goes back through all steps of a roll-out.
    """

    name = "foresee"

    def __init__(
        self, model: StrokesNetworks, config: StrokesConfig, clips: Sequence[Any], preview_clips: Sequence[Any] = ()
    ):
        self.model, self.config = model, config
        self.steps, self.batch = config.foresee_steps, config.foresee_batch
        self.dataset = window_dataset(clips, config, partial(_points_and_masks, masks=Masks()))
        self.clips = preview_clips or clips
        foresight = nn.ModuleDict({"motion": model.motion, "predictor": model.predictor})
        self.networks: Mapping[str, nn.Module] = {"foresight": foresight}
        self.ema: Mapping[str, nn.Module] = {"foresight": foresight}
        self.generators = {"starts": torch.Generator()}  # seeded and stored by the loop
        optimizer, scheduler = early(foresight.parameters(), config.early_rate or config.learning_rate, self.steps)
        self.optimizers, self.schedulers = {"foresight": optimizer}, {"foresight": scheduler}

    @property
    def length(self) -> int:
        """Steps of a roll-out in the coming step of the training."""
        return rollout_length(self.schedulers["foresight"].last_epoch / self.steps, self.config.frames - 1)

    def step(self, batch: Mapping[str, Any], update: Any) -> dict[str, Tensor]:
        """One step.

        Args:
            batch: `frames`, B x T x 3 x s x s in [0, 1], `points`, B x T x 2 pixels, and with `plain_wall` `masks`,
                B x T x 1 x s x s in [0, 1].
            update: called as `update("foresight", loss, clip_grad=...)`.

        Returns:
            `state`, the mean square between the states of all steps and E1's codes, as a share of what it would be
            if each roll-out stood still; `last`, the same of the last steps alone; and the roll-outs' `length`.
        """
        frames, points = batch["frames"], batch[TRACK]
        length, count = self.length, frames.shape[1] - 1
        pieces = count // length
        offset = int(torch.randint(count - pieces * length + 1, (1,), generator=self.generators["starts"]))
        codes = self.codes(frames, points, batch.get("masks"))  # B x T x state x h x h
        steps = self.motion(points)  # B x (T - 1) x motion channels x h x h

        def folded(maps: Tensor, first: int) -> Tensor:
            """B x (pieces x length) x ... from `first` on, to (B x pieces) x length x ..."""
            return maps[:, first : first + pieces * length].unflatten(1, (pieces, length)).flatten(0, 1)

        aims = folded(codes, offset + 1).float()
        state = start = channels_last(folded(codes, offset)[:, 0])
        initial = channels_last(codes[:, :1].expand(-1, pieces, -1, -1, -1).flatten(0, 1))
        motion, made = folded(steps, offset), []
        for t in range(length):
            inputs = [state, initial, *channels_last(motion[:, t]).split(self.config.state, dim=1)]
            state = self.model.predictor(inputs)
            made.append(state)
        found, start = torch.stack(made, dim=1).float(), start.float()
        standing = F.mse_loss(start[:, None].expand_as(aims), aims)
        loss = F.mse_loss(found, aims) / standing
        update("foresight", loss, clip_grad=self.config.clip_grad or None)
        last = F.mse_loss(found[:, -1], aims[:, -1]) / F.mse_loss(start, aims[:, -1])
        return {"state": loss.detach(), "last": last.detach(), "length": loss.new_tensor(float(length))}

    def codes(self, frames: Tensor, points: Tensor, masks: Tensor | None) -> Tensor:
        """E1's codes, h_0 and those P is to foresee: B x T x 3 x s x s in [0, 1] to B x T x state x h x h.

        h_0 is what E1 sees of the still, wall and all; with masks the others are of what moves, before grey.
        """
        if masks is not None:
            frames = torch.cat([frames[:, :1], before_grey(frames[:, 1:], masks[:, 1:])], dim=1)
        return encode(self.model, frames * 2 - 1, points)

    def motion(self, points: Tensor) -> Tensor:
        """E2 of the stroke pictures of all steps: B x T x 2 pixels to B x (T - 1) x (codes x state) x h x h."""
        count = points.shape[1] - 1
        steps = (self.model.motion_pictures(points, t) for t in range(count))
        pictures = [torch.stack(parts) for parts in zip(*steps, strict=True)]
        codes = [self.model.motion(picture.flatten(0, 1)).unflatten(0, (count, -1)) for picture in pictures]
        return torch.cat(codes, dim=2).transpose(0, 1)

    def preview(self) -> dict[str, np.ndarray]:
        """A contact sheet as in the stage `stroke`."""
        return {"rollouts": rollout_sheet(self.model, self.clips)}


def _points_and_masks(
    clip: Clip, chosen: np.ndarray, drawn: AugmentParams, config: StrokesConfig, masks: Masks
) -> dict[str, Any]:
    found = window_points(clip, chosen, drawn, config)
    return found | {"masks": masks.window(clip, chosen, drawn)} if config.plain_wall else found


@torch.no_grad()
def encode(model: StrokesNetworks, frames: Tensor, points: Tensor) -> Tensor:
    """E1's codes of true frames, as it sees them: B x T x 3 x s x s in [-1, 1] to B x T x state x h x h."""
    seen = [held(frames[:, t], points, t, model.config) for t in range(frames.shape[1])]
    codes: Tensor = model.encoder(torch.cat(seen)).unflatten(0, (len(seen), -1))
    return codes.transpose(0, 1)


def channels_last(maps: Tensor) -> Tensor:
    """The same maps as P's convolutions want them: laid so once, and not in each of its units."""
    return maps.contiguous(memory_format=torch.channels_last)


def rollout_length(done: float, count: int) -> int:
    """Steps of a roll-out when a share `done` of the training is over: 1, 2, 4, ... and at last `count`."""
    levels = (count - 1).bit_length() + 1
    return int(min(2 ** int(done * levels), count))
