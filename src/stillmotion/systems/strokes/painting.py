"""Ours: a first stage in which E1 and G alone learn to paint frames.

The stage of the paper shows the same few clips in fifteen updates on end, and most of what G is given there are P's
guesses. Legs two pixels wide came out of it as a blur even from the codes of the true frames; out of a tenth as many
updates on frames of many clips they did not (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from stillmotion.data.augment import AUGMENTATIONS, Augmentation, augment_frames, move_points, sample_params
from stillmotion.data.sampling import clip_index, sample_rng, to_tensor
from stillmotion.systems.strokes.config import StrokesConfig
from stillmotion.systems.strokes.networks import StrokesNetworks
from stillmotion.systems.strokes.objectives import Moment, Objectives, held
from stillmotion.systems.strokes.rates import early
from stillmotion.systems.strokes.sheets import painting_sheet
from stillmotion.systems.strokes.windows import TRACK, Masks, before_grey, stroke_of, usable


class PaintStage:
    """E1 and G learn to paint a true frame from its own code, over an earlier frame of its clip as the still."""

    name = "paint"

    def __init__(
        self, model: StrokesNetworks, config: StrokesConfig, clips: Sequence[Any], preview_clips: Sequence[Any] = ()
    ):
        self.model, self.config = model, config
        self.steps, self.batch = config.paint_steps, 2 * config.batch
        self.dataset = FrameDataset(clips, config, AUGMENTATIONS[config.augmentation])
        self.clips = preview_clips or clips
        self.objectives = Objectives(model, config, perceives=False)
        painter = nn.ModuleDict({"encoder": model.encoder, "decoder": model.decoder})
        self.networks: Mapping[str, nn.Module] = {"painter": painter}
        self.ema: Mapping[str, nn.Module] = {"painter": painter}
        optimizer, scheduler = early(painter.parameters(), config.early_rate or config.learning_rate, self.steps)
        self.optimizers, self.schedulers = {"painter": optimizer}, {"painter": scheduler}
        self.generators = {"noise": torch.Generator()}  # seeded and stored by the loop

    def step(self, batch: Mapping[str, Any], update: Any) -> dict[str, Tensor]:
        """One step.

        Args:
            batch: `still`, `frame` and what E1 is `shown` of the frame, B x 3 x s x s in [0, 1], and `points`, the
                pixels of both, B x 2 x 2.
            update: called as `update("painter", loss, clip_grad=...)`.

        Returns:
            Every loss term, weighted, detached; and `standing`, what the first would be for the still itself.
        """
        still, frame, shown = (batch[name] * 2 - 1 for name in ("still", "frame", "shown"))
        moment = between(still, frame, batch[TRACK], self.model, shown)
        config = self.config
        still, _, frame = moment.seen
        *maps, _ = self.model.encoder.maps(still)
        code = self.model.encoder(frame)
        drawn = self.model.decoder(self.blurred(code), moment.still, moment.camera, [still, *maps])
        terms = self.objectives.painting(drawn, moment)
        if config.code_weight:
            terms["code"] = config.code_weight * code.float().square().mean()
        update("painter", sum(terms.values(), still.new_zeros(())), clip_grad=config.clip_grad or None)
        terms["standing"] = self.objectives.standing(moment)
        return {name: value.detach() for name, value in terms.items()}

    def blurred(self, code: Tensor) -> Tensor:
        """A code with `code_noise`.

        What does not help G to paint costs `code_weight` and drowns, such as the wall that moves past a camera; what
        does stands out far enough that G forgives P small errors. With noise of 1 and a weight w the two are the
        loss of a variational auto-encoder whose variances are fixed (Kingma & Welling 2014, appendix B), times 2 w
        per component.
        """
        if not self.config.code_noise:
            return code
        noise = torch.randn(code.shape, generator=self.generators["noise"]).to(code)
        return code + self.config.code_noise * noise

    def preview(self) -> dict[str, np.ndarray]:
        """Frames, and what G paints from their codes."""
        return {"paintings": painting_sheet(self.model, self.clips)}


def between(
    still: Tensor, frame: Tensor, points: Tensor, model: StrokesNetworks, shown: Tensor | None = None
) -> Moment:
    """The step from a still to a frame of its clip in one.

    Args:
        still: N x 3 x s x s in [-1, 1].
        frame: the same.
        points: N x 2 x 2, (x, y) in pixels, of both.
        model: it says what it sees.
        shown: what E1 is shown in place of the frame; None for the frame.
    """
    seen = (
        held(still, points, 0, model.config),
        held(still, points, 0, model.config),
        held(frame if shown is None else shown, points, 1, model.config),
    )
    nothing = still.new_zeros(())
    return Moment(0, still, still, frame, seen, [], nothing, nothing, model.camera(points, 0))


class FrameDataset(Dataset[dict[str, Any]]):
    """Two frames of a clip whose points are known, the earlier one as the still; item n is a pure function of n.

    `shown` is the later one as E1 sees it: with `plain_wall` what moves in it, before grey.
    """

    def __init__(self, clips: Sequence[Any], config: StrokesConfig, augmentation: Augmentation):
        self.clips, self.config, self.augmentation = clips, config, augmentation
        self.masks = Masks()

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        clip = self.clips[clip_index(len(self.clips), index, self.config.seed)]
        rng = sample_rng(self.config.seed, index)
        chosen = np.sort(rng.choice(np.flatnonzero(usable(clip, self.config)), size=2))
        frames = clip.frames[chosen]
        drawn = sample_params(frames.shape[1:3], rng, self.augmentation)
        still, frame = to_tensor(augment_frames(frames, drawn))
        points = np.ascontiguousarray(move_points(stroke_of(clip, self.config)[chosen], drawn))
        shown = frame
        if self.config.plain_wall:
            shown = before_grey(frame, self.masks.window(clip, chosen, drawn)[1])
        return {"still": still, "frame": frame, "shown": shown, TRACK: torch.from_numpy(points), "name": clip.name}
