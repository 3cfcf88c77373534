"""How the system learns: one step at a time, and no gradient ever crosses a time step (sheet section 5).

Before that, if asked, parts learn by themselves; see `painting`, `foreseeing` and `repainting`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam

from stillmotion.data.augment import AUGMENTATIONS
from stillmotion.errors import StillmotionError
from stillmotion.systems.base import System, chosen_stages
from stillmotion.systems.strokes.config import StrokesConfig
from stillmotion.systems.strokes.foreseeing import ForeseeStage
from stillmotion.systems.strokes.networks import StrokesNetworks
from stillmotion.systems.strokes.objectives import Moment, Objectives, foresee, look, make
from stillmotion.systems.strokes.painting import PaintStage
from stillmotion.systems.strokes.rates import UpdateRates
from stillmotion.systems.strokes.repainting import RepaintStage
from stillmotion.systems.strokes.sheets import rollout_sheet
from stillmotion.systems.strokes.windows import TRACK, window_dataset, with_points


def stages(
    system: System, clips: Sequence[Any], preview_clips: Sequence[Any] = (), only: Sequence[str] = ()
) -> list[PaintStage | ForeseeStage | RepaintStage | StrokeStage]:
    """The system's training stages: `paint`, `foresee` and `repaint`, if they have steps, and `stroke`.

    Args:
        system: a `Strokes` system; its networks are trained in place.
        clips: clips of the networks' size with the track `points`, T x 2, (x, y) pixels; NaN where it is unknown.
        preview_clips: what previews show; the training clips if empty.
        only: names of the stages to run; all if empty.

    Raises:
        StillmotionError: no clips, clips of another size than the configuration's, none with enough points, or a
            stage that is not there.
    """
    config = system.config
    early = {"paint": config.paint_steps, "foresee": config.foresee_steps, "repaint": config.repaint_steps}
    chosen = chosen_stages(early | {StrokeStage.name: config.steps}, only)
    if not clips:
        raise StillmotionError("There are no clips to train on.")
    if config.augmentation not in AUGMENTATIONS:
        raise StillmotionError(
            f"There is no augmentation {config.augmentation!r}; known are {', '.join(AUGMENTATIONS)}."
        )
    height, width = clips[0].frames.shape[1:3]
    if (height, width) != (config.size, config.size):
        raise StillmotionError(
            f"The clips are {height} x {width} pixels where the configuration says size {config.size}: "
            f"prepare them with --size {config.size} or train with --set size={height}."
        )
    assert isinstance(system.networks, StrokesNetworks)
    shown = with_points(preview_clips, config) or with_points(clips, config)
    usable_clips = with_points(clips, config)
    kinds: list[type[PaintStage | ForeseeStage | RepaintStage | StrokeStage]]
    kinds = [PaintStage, ForeseeStage, RepaintStage, StrokeStage]
    return [kind(system.networks, config, usable_clips, shown) for kind in kinds if kind.name in chosen]


class Carried(NamedTuple):
    """What one time step hands to the next: plain values, made by the weights after the update.

    Attributes:
        state: of the frame that was made; None for E1's own.
        frame: that frame, if the pair discriminator wants it.
    """

    state: Tensor | None
    frame: Tensor | None


class StrokeStage:
    """Generator side, D1 and D2 learn together, `frames - 1` updates of each per batch of clips.

    Attributes as `stillmotion.training.Stage` asks; three Adam optimisers, or as many as there are judges.
    """

    name = "stroke"

    def __init__(
        self,
        model: StrokesNetworks,
        config: StrokesConfig,
        clips: Sequence[Any],
        preview_clips: Sequence[Any] = (),
    ):
        if not clips:
            raise StillmotionError(
                f"No clip has {config.frames} frames in a row with a point each (with coding=grey, one inside the "
                "picture): prepare the data with --tracks points, or train with fewer frames."
            )
        self.model, self.config = model, config
        self.steps, self.batch = config.steps, config.batch
        # The release draws clips without replacement; a handful of clips would leave none.
        drop_batch = config.batch if len(clips) >= config.batch else None
        self.dataset = window_dataset(clips, config, drop_batch=drop_batch)
        self.preview_clips = preview_clips or clips
        self.objectives = Objectives(model, config)
        maker = nn.ModuleDict({name: getattr(model, name) for name in ("encoder", "motion", "predictor", "decoder")})
        judges = {"frame_discriminator": model.frame_discriminator, "pair_discriminator": model.pair_discriminator}
        self.networks: dict[str, nn.Module] = {"maker": maker}
        self.networks |= {name: judge for name, judge in judges.items() if judge is not None}
        self.ema: Mapping[str, nn.Module] = {"maker": maker}
        self.generators = {"crops": torch.Generator()}  # seeded and stored by the loop
        learning = {name: [network] for name, network in self.networks.items()}
        if config.hold_painter:
            learning["maker"] = [model.motion, model.predictor]
        self.optimizers = {
            "generator" if name == "maker" else name: Adam(
                [p for network in networks for p in network.parameters()], config.learning_rate, (config.beta1, 0.999)
            )
            for name, networks in learning.items()
        }
        self.rates = UpdateRates(self.optimizers, config)
        self.schedulers = {"rates": self.rates}

    def step(self, batch: Mapping[str, Any], update: Any) -> dict[str, Tensor]:
        """Learn from a batch of clips, frame by frame.

        Args:
            batch: `frames`, B x T x 3 x s x s in [0, 1], `points`, B x T x 2 pixels, and the clips' names.
            update: called as `update(optimizer name, loss)`, T - 1 times for each optimiser.

        Returns:
            Every loss term, weighted, detached, the mean over the time steps; and `standing`, what the reconstruction
            would be if every frame were the still.
        """
        frames, points = batch["frames"] * 2 - 1, batch[TRACK]
        carried = Carried(None, frames[:, 0])
        sums: dict[str, Tensor] = {}
        count = frames.shape[1] - 1
        for t in range(count):
            terms, carried = self.learn(frames, points, t, carried, update)
            for name, value in terms.items():
                sums[name] = sums.get(name, 0) + value.detach() / count
        return sums

    def learn(
        self, frames: Tensor, points: Tensor, t: int, carried: Carried, update: Any
    ) -> tuple[dict[str, Tensor], Carried]:
        """One time step: update every optimiser once, then make the frame again with the new weights.

        The discriminators' losses are those of the very frame that the generator side was updated on: the release
        runs all three updates from one forward pass.

        Returns:
            The loss terms, and what the next step begins with.
        """
        self.rates.advance()
        config, model = self.config, self.model
        moment = look(frames, points, t, config, model, self.generators["crops"])
        made = make(model, moment, carried.state)
        terms = self.objectives.generator(made, moment, carried.frame)
        loss = sum(terms.values(), torch.zeros((), device=frames.device))
        update("generator", loss, clip_grad=config.clip_grad or None)
        if model.frame_discriminator is not None:
            terms["frame_discriminator"] = self.objectives.frame_discriminator(made, moment)
            update("frame_discriminator", terms["frame_discriminator"])
        if model.pair_discriminator is not None:
            terms["pair_discriminator"] = self.objectives.pair_discriminator(made, moment, carried.frame)
            update("pair_discriminator", terms["pair_discriminator"])
        terms["standing"] = self.objectives.standing(moment)
        return terms, self.carry(moment, carried)

    @torch.no_grad()
    def carry(self, moment: Moment, carried: Carried) -> Carried:
        """What the next time step begins with; under teacher forcing, the true frame and no state."""
        if self.config.teacher_forcing:
            return Carried(None, moment.truth)
        seen = foresee(self.model, moment, carried.state)
        if not self.config.judges_pairs:  # nobody else looks at the frame that was made before
            return Carried(seen.state, None)
        return Carried(seen.state, self.model.decoder(seen.state, moment.still, moment.camera, seen.skips).frame)

    def preview(self) -> dict[str, np.ndarray]:
        """A contact sheet: the stroke over each still, the true frames, and those made."""
        return {"rollouts": rollout_sheet(self.model, self.preview_clips)}
