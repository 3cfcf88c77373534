"""Training stages (Sec. 3 and 4.1): forecasts, then their refinement, and the pose predictor.

1. `forecast`: G_M against D_I, on pairs of frames.
2. `refinement`: G_R against D_I and D_V, on clips of forecasts of the finished G_M, which does not change.
3. `pose_prediction`: the LSTM, on poses alone.

In each step of 1 and 2 the critics are updated once, then the generator once, on the same generated frames. Both
stages have a D_I of their own: the paper does not say whether the second goes on with that of the first, which is no
part of a finished model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer, RMSprop
from torch.utils.data import Dataset

from stillmotion.data.augment import find_augmentation
from stillmotion.nn.modes import eval_mode
from stillmotion.systems.base import System
from stillmotion.systems.structures import losses
from stillmotion.systems.structures.config import StageConfig, StructuresConfig
from stillmotion.systems.structures.data import (
    FIELD_INPUTS,
    KNOWN,
    ClipWindows,
    ForecastSquares,
    PoseWindows,
    coarse_displacement,
    field_inputs,
    pairs,
    person_boxes,
    structure_maps,
    usable_clips,
    with_structures,
)
from stillmotion.systems.structures.displacements import surface_truth
from stillmotion.systems.structures.fields import FieldForecast
from stillmotion.systems.structures.forecasting import ForecastNetwork, ImageCritic, PosePredictor
from stillmotion.systems.structures.networks import refinement_inputs
from stillmotion.systems.structures.refinement import RefinementNetwork, VideoCritic
from stillmotion.systems.structures.visualization import forecast_sheet, pose_sheet, refinement_sheet
from stillmotion.training.schedules import StepSchedule, scheduler
from stillmotion.training.stage import Batch, Update, check_clips, chosen_stages, stage_seed

SHOWN = 6
"""Clips of a preview."""


def stages(
    system: System, clips: Sequence[Any], preview_clips: Sequence[Any] = (), only: Sequence[str] = (), seed: int = 0
) -> list[Any]:
    """The training stages that have steps, in order.

    Args:
        system: a `Structures` system; its networks `forecast`, `refinement` and `predictor` are trained in place, the
            last two None where the configuration has none.
        clips: clips of the networks' size, with a track `joints`, or of faces.
        preview_clips: what previews show; the training clips if empty.
        only: names of the stages to run; all that have steps if empty.
        seed: of the samples' order and augmentation.

    Raises:
        StillmotionError: no clips, clips of another size than the configuration's, an augmentation or a stage that
            is not there or has no steps, or a loss without the weights of its network.
    """
    config: StructuresConfig = system.config
    networks: Any = system.networks
    check_clips(clips, config.size)
    find_augmentation(config.clip.augmentation)
    steps = {name: getattr(config, field).steps for name, field in _SETTINGS.items()}
    made: list[Any] = []
    for name in chosen_stages(steps, only):
        data = (config, clips, preview_clips, stage_seed(seed, name))
        if name == "forecast":
            kind = FieldTraining if config.forecast.fields else ForecastTraining
            made.append(kind(networks.forecast, *data))
        elif name == "refinement":
            made.append(RefinementTraining(networks.forecast, networks.refinement, *data))
        else:
            made.append(PoseTraining(networks.predictor, *data))
    return made


_SETTINGS = {
    "forecast": "forecast_training",
    "refinement": "refinement_training",
    "pose_prediction": "pose_prediction",
}
"""The stages, in order, and where their numbers stand in the configuration."""


class StructureStage:
    """What all stages share: clips with structures, which are made when the stage begins."""

    name: ClassVar[str]
    group: ClassVar[str] = ""  # of the authors' groups, see `usable_clips`
    networks: dict[str, nn.Module]

    def __init__(self, config: StructuresConfig, clips: Sequence[Any], preview_clips: Sequence[Any], seed: int):
        """Args: the system's configuration; what it learns from; what previews show, if not that; of the samples."""
        self.config, self.clips, self.preview_clips, self.seed = config, clips, preview_clips, seed
        self.settings = getattr(config, _SETTINGS[self.name])
        self.steps, self.batch = self.settings.steps, self.settings.batch
        self.dataset = self.shown = self.samples(usable_clips(clips, self.least, self.group))
        self.generators: dict[str, torch.Generator] = {}
        self.optimizers: dict[str, Optimizer] = {}
        self.schedulers: dict[str, StepSchedule] = {}

    @property
    def least(self) -> int:
        """Frames that a clip must have."""
        raise NotImplementedError

    def samples(self, clips: Sequence[Any]) -> Dataset[Any]:
        """What the stage learns from."""
        raise NotImplementedError

    def begin(self, folder: Path) -> None:
        """Make the normal maps that are not stored yet."""
        clips = with_structures(self.clips, self.config, folder)
        if clips is not self.clips:
            self.dataset = self.samples(usable_clips(clips, self.least, self.group))
        previews = with_structures(self.preview_clips, self.config, folder / "preview")
        long = [clip for clip in previews if len(clip) >= self.least]
        self.shown = self.samples(long) if long else self.dataset

    @property
    def clip_grad(self) -> float | None:
        """Largest norm of the gradient of what the stage is for; critics have none."""
        return self.settings.clip_grad or None

    def optimize(self, **optimizers: Optimizer) -> None:
        """Set the optimisers, which all follow the stage's schedule."""
        self.optimizers = optimizers
        self.schedulers = {name: scheduler(o, self.settings.schedule, self.steps) for name, o in optimizers.items()}

    def examples(self) -> list[Mapping[str, Any]]:
        """Samples for previews."""
        return [self.shown[i] for i in range(min(SHOWN, len(self.shown)))]  # type: ignore[arg-type]


class PairStage(StructureStage):
    """Stage 1, of either network: frames are forecast from single others."""

    name, group = "forecast", "train"

    def __init__(self, model: Any, *data: Any, **critics: nn.Module):
        """Args: G_M, a `ForecastNetwork` or `FieldForecast`, trained in place; see `StructureStage`; its critics."""
        super().__init__(*data)
        self.model, self.networks = model, {"forecast": model, **critics}
        self.optimize(**{name: adam(self.settings, network) for name, network in self.networks.items()})
        self.features = [losses.appearance_network(self.config.features)] if self.config.features.weight else []

    @property
    def least(self) -> int:
        """One frame if it may be forecast from itself, else a time step."""
        return 1 if self.config.clip.pairs == "first" else self.config.clip.frame_step + 1

    def samples(self, clips: Sequence[Any]) -> Dataset[Any]:
        """Pairs of frames."""
        return pairs(clips, self.config, self.seed)

    def similarity(self, generated: Tensor, target: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Feature similarity (Eq. 15) of frames in [-1, 1], weighted, if it has a weight."""
        if not self.features:
            return {}
        settings, boxes = self.config.features, person_boxes(batch, self.config.size)[:, 1]
        similarity = losses.feature_loss(self.features, generated, target, boxes, settings)
        return {"features": settings.weight * similarity}

    def preview(self) -> dict[str, np.ndarray]:
        """Frames forecast from stills of the clips."""
        return {"forecasts": forecast_sheet(self.model, self.config, self.examples())}


class ForecastTraining(PairStage):
    """Stage 1: G_M against D_I (Eq. 4 to 9), and feature similarity if it has a weight (Eq. 15)."""

    model: ForecastNetwork

    def __init__(self, model: ForecastNetwork, config: StructuresConfig, *data: Any):
        """Args: see `PairStage`."""
        self.critic = ImageCritic(config)
        super().__init__(model, config, *data, critic=self.critic)
        self.generators = {"penalty": torch.Generator()}  # seeded and stored by the loop

    def step(self, batch: Batch, update: Update) -> dict[str, Tensor]:
        """Update D_I, then G_M on the same frames.

        Args:
            batch: of `data.pairs`.
            update: called as `update("critic", loss)` and `update("forecast", loss)`.

        Returns:
            Every loss term, weighted, detached; and `copy`, what `reconstruction` is of the still.
        """
        still, target = 2 * batch["source"] - 1, 2 * batch["driving"] - 1
        maps = structure_maps(batch, self.config)  # N x 2 x C x s x s
        output, weights = self.model(still, maps[:, 0], maps[:, 1]), self.config.losses
        told = losses.critic_loss(
            self.critic, target, output.frame, maps[:, 1], self.config.critic.penalty, self.generators["penalty"]
        )
        update("critic", losses.total(told))
        terms = losses.forecast_losses(output, target, maps[:, 1], self.critic, weights)
        terms |= self.similarity(output.frame, target, batch)
        update("forecast", losses.total(terms), clip_grad=self.clip_grad)
        told["copy"] = weights.reconstruction * losses.reconstruction_loss(still, target)
        return {name: value.detach() for name, value in (terms | told).items()}


class FieldTraining(PairStage):
    """Stage 1 of ours: fields learn from what frames look like, and from the exact motion of clips that know it."""

    model: FieldForecast

    def step(self, batch: Batch, update: Update) -> dict[str, Tensor]:
        """Update the network once.

        Args:
            batch: of `data.pairs`.
            update: called as `update("forecast", loss, clip_grad=...)`.

        Returns:
            Every loss term, weighted, detached.
        """
        still, target, weights = batch["source"], batch["driving"], self.config.field_losses
        maps, coarse = structure_maps(batch, self.config), coarse_displacement(batch, self.config)[:, 0]
        context = self.model.encode(2 * still - 1, maps[:, 0], batch["plate"])
        output = self.model.decode(context, maps[:, 1], coarse)
        known = {name: batch[name][:, 0] for name in ("displacement", "moving", "visibility")}
        if "motion" in batch:
            known = surface_truth(batch["motion"][:, 0], still, target, known)
        known["figure"] = batch["figure"]
        terms = losses.field_losses(output, self.model.figure(context), still, target, known, weights)
        terms |= self.similarity(output.frame, 2 * target - 1, batch)
        update("forecast", losses.total(terms), clip_grad=self.clip_grad)
        return {name: value.detach() for name, value in terms.items()}


class RefinementTraining(StructureStage):
    """Stage 2: G_R against D_I and D_V (Eq. 11 to 14), on clips of forecasts.

    Stills and augmentations differ from sample to sample, so forecasts are made in the step, by G_M in eval mode as
    when it animates. With `refinement.windows` (ours) so many are made when the stage begins.
    """

    name, group = "refinement", "val"

    def __init__(self, forecast: ForecastNetwork | FieldForecast, model: RefinementNetwork, *data: Any):
        """Args: G_M, fixed; G_R, trained in place; see `StructureStage`."""
        super().__init__(*data)
        self.forecast, self.model = forecast, model
        self.networks = {"refinement": model}
        self.critics: tuple[ImageCritic, VideoCritic] | None = None
        optimizers = {"refinement": adam(self.settings, model)}
        if self.config.refinement_losses.gan:
            self.critics = ImageCritic(self.config), VideoCritic(self.config)
            self.networks |= dict(zip(("image_critic", "video_critic"), self.critics, strict=True))
            self.generators = {"penalty": torch.Generator(), "moments": torch.Generator()}
            optimizers["critics"] = adam(self.settings, *self.critics)
        self.optimize(**optimizers)

    @property
    def least(self) -> int:
        """K frames."""
        return (self.config.refinement.frames - 1) * self.config.clip.frame_step + 1

    def samples(self, clips: Sequence[Any]) -> Dataset[Any]:
        """Clips of K frames."""
        return ClipWindows(clips, self.config, self.seed)

    def begin(self, folder: Path) -> None:
        """Forecast the windows, if they are forecast once."""
        super().begin(folder)
        if count := min(self.config.refinement.windows, self.steps * self.batch):  # no more than it will see
            windows = [self.forecast_once(self.dataset[number]) for number in range(count)]
            self.dataset = ForecastSquares(windows, self.config, self.seed)

    def forecast_once(self, item: dict[str, Any]) -> dict[str, Any]:
        """A sample with its forecasts, as `ForecastSquares` takes it, in half precision."""
        device = next(self.model.parameters()).device
        known = self.known({key: value[None].to(device) for key, value in item.items() if isinstance(value, Tensor)})
        known |= {"structures": item["poses"][None, 1:]} if "poses" in item else {}
        return {name: value[0].cpu().half() for name, value in known.items()} | {"name": item["name"]}

    def known(self, batch: Batch) -> dict[str, Tensor]:
        """`KNOWN` of a batch of either data set: N x K x ... each."""
        if "coarse" in batch:
            return {name: batch[name] for name in KNOWN if name in batch}
        frames, maps = 2 * batch["frames"] - 1, structure_maps(batch, self.config)
        return dict(zip(KNOWN, (frames[:, 1:], *self.forecasts(frames[:, 0], maps, batch)), strict=False))

    def step(self, batch: Batch, update: Update) -> dict[str, Tensor]:
        """Update D_I and D_V, then G_R on the same clips.

        Args:
            batch: of `data.ClipWindows` or `data.ForecastSquares`.
            update: called as `update("critics", loss)` and `update("refinement", loss)`.

        Returns:
            Every loss term, weighted, detached; and `coarse`, what `reconstruction` is of the forecasts.
        """
        true, *given = self.known(batch).values()
        coarse, structures = given[:2]  # N x K x ... x s x s
        output, weights = self.model(*given), self.config.refinement_losses
        told: dict[str, Tensor] = {}
        if self.critics is not None:
            told = self.critic_losses(true, output.frames, structures, *self.critics)
            update("critics", losses.total(told))
        terms = losses.refinement_losses(output, true, structures, self.critics, weights)
        update("refinement", losses.total(terms), clip_grad=self.clip_grad)
        told["coarse"] = weights.reconstruction * losses.reconstruction_loss(coarse, true)
        return {name: value.detach() for name, value in (terms | told).items()}

    @torch.no_grad()
    def forecasts(self, stills: Tensor, maps: Tensor, batch: Batch) -> list[Tensor]:
        """What G_R reads, N x K x ... each, forecasts first: of N stills and N x (1 + K) maps, clip by clip."""
        forecast, clips = self.forecast.to(stills.device), []
        with eval_mode(forecast):
            for i, (still, own) in enumerate(zip(stills, maps, strict=True)):
                one = {name: batch[name][i, None] for name in FIELD_INPUTS if name in batch}
                known = field_inputs(one, self.config)
                clips.append(refinement_inputs(forecast, still[None], own, *known, self.config))
        return [torch.cat(parts) for parts in zip(*clips, strict=True)]

    def critic_losses(
        self,
        true: Tensor,
        refined: Tensor,
        structures: Tensor,
        image_critic: ImageCritic,
        video_critic: VideoCritic,
    ) -> dict[str, Tensor]:
        """What D_I minimises, on one random moment of each clip, and D_V, on the clips."""
        penalty = self.config.critic.penalty
        real, fake, maps = losses.sample_frame(true, refined, structures, self.generators["moments"])
        image = losses.critic_loss(image_critic, real, fake, maps, penalty, self.generators["penalty"])
        real, fake, maps = (each.transpose(1, 2) for each in (true, refined, structures))  # N x ... x K x s x s
        video = losses.critic_loss(video_critic, real, fake, maps, penalty, self.generators["penalty"])
        kinds = {"image": image, "video": video}
        return {f"{kind}_{name}": value for kind, terms in kinds.items() for name, value in terms.items()}

    def preview(self) -> dict[str, np.ndarray]:
        """Clips before and after."""
        return {"refinement": refinement_sheet(self.forecast, self.model, self.config, self.examples()[: SHOWN // 2])}


class PoseTraining(StructureStage):
    """The LSTM learns to predict poses (Sec. 3.1; Villegas et al.)."""

    name = "pose_prediction"

    def __init__(self, model: PosePredictor, *data: Any):
        """Args: the pose predictor, trained in place; see `StructureStage`."""
        super().__init__(*data)
        self.model = model
        self.networks = {"predictor": model}
        self.optimize(predictor=RMSprop(model.parameters(), self.settings.learning_rate))

    @property
    def least(self) -> int:
        """One pose to predict."""
        return self.config.pose.observed * self.config.clip.frame_step + 1

    def samples(self, clips: Sequence[Any]) -> Dataset[Any]:
        """Poses over time."""
        return PoseWindows(clips, self.config, self.seed)

    def step(self, batch: Batch, update: Update) -> dict[str, Tensor]:
        """Update the predictor.

        Args:
            batch: of `data.PoseWindows`.
            update: called as `update("predictor", loss, clip_grad=...)`.

        Returns:
            `pose`, the loss; and `copy`, what it is of the last pose observed.
        """
        observed, future, visible = (batch[name] for name in ("observed", "future", "visible"))
        loss = losses.pose_loss(self.model(observed, future.shape[1]), future, visible)
        update("predictor", loss, clip_grad=self.clip_grad)
        return {"pose": loss.detach(), "copy": losses.pose_loss(observed[:, -1:].expand_as(future), future, visible)}

    def preview(self) -> dict[str, np.ndarray]:
        """Poses predicted after those that some clips show."""
        return {"poses": pose_sheet(self.model, self.config, self.examples())}


def adam(stage: StageConfig, *networks: nn.Module) -> Adam:
    """The paper's optimiser (Sec. 4.1)."""
    return Adam([p for network in networks for p in network.parameters()], stage.learning_rate, stage.betas)
