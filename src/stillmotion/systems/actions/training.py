"""How the system learns: first to find keypoints and translate stills by them, then how actions move them (Sec. 2).

Between the two the finished detector labels every frame of every clip. In ours the stages of `keypoints.training`
take the place of the first.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from stillmotion.data.augment import find_augmentation
from stillmotion.keypoints.data import partners
from stillmotion.keypoints.networks import Keypoints
from stillmotion.keypoints.training import KeypointSupervision, PairTraining
from stillmotion.systems.actions import losses
from stillmotion.systems.actions.config import ActionsConfig, StageConfig
from stillmotion.systems.actions.data import KeypointSequences, label, pairs
from stillmotion.systems.actions.motion import MotionGenerator, SequenceDiscriminator
from stillmotion.systems.actions.networks import ActionsNetworks, FieldActionsNetworks, ImageDiscriminator
from stillmotion.systems.actions.tracks import Condition, TrackFlow, to_track
from stillmotion.systems.actions.visualization import track_sheet, translation_sheet
from stillmotion.systems.base import System
from stillmotion.training.schedules import scheduler
from stillmotion.training.stage import Update, check_clips, chosen_stages, stage_seed

LEAST_NATS = 0.5
"""Divergence of a latent below which the posterior has collapsed."""

LEAST_DIVERSITY = 0.5
"""Of samples of the same action, over that of real clips."""

MOST_KNOWN_ALONE = 0.6
"""Share of the training windows of which the first frame alone is known."""

SCALE_SAMPLES = 512
"""Tracks from which their standard deviations are taken."""


def stages(
    system: System, clips: Sequence[Any], preview_clips: Sequence[Any] = (), only: Sequence[str] = (), seed: int = 0
) -> list[Any]:
    """The training stages that have steps, in order.

    Those of the paper are `keypoints` and `motion`; in ours `keypoint_supervision` and the pair stages by name take
    the place of the first.

    Args:
        system: an `Actions` system; its networks are trained in place.
        clips: clips of the networks' size, with an `action` in their meta if the model has actions.
        preview_clips: what previews show; the training clips if empty.
        only: names of the stages to run; all that have steps if empty.
        seed: of the samples' order and augmentation.

    Raises:
        StillmotionError: no clips, clips of another size than the configuration's, or a stage that is not there.
    """
    config, networks = system.config, system.networks
    assert isinstance(config, ActionsConfig)
    check_clips(clips, config.size)
    paired = {stage.name: stage for stage in config.pair_stages} if config.fields else {}
    steps = {"keypoint_supervision": config.keypoint_supervision.steps if config.fields else 0}
    steps |= {name: stage.steps for name, stage in paired.items()}
    steps |= {"keypoints": 0 if config.fields else config.keypoints_training.steps}
    steps |= {"motion": config.motion_training.steps}
    made: list[Any] = []
    shown = preview_clips or clips
    for name in chosen_stages(steps, only):
        own = stage_seed(seed, name)
        if name == "motion":
            assert isinstance(networks, ActionsNetworks | FieldActionsNetworks)
            kind = TrackTraining if config.tracks else MotionTraining
            made.append(kind(networks, config, clips, shown, own))
        elif name == "keypoints":
            assert isinstance(networks, ActionsNetworks)
            made.append(TranslationTraining(networks, config, clips, shown, own))
        else:
            assert isinstance(networks, FieldActionsNetworks)
            assert config.fields is not None
            if name in paired:
                find_augmentation(paired[name].augmentation)
                made.append(PairTraining(networks, config.fields, paired[name], clips, shown, own))
            else:
                count = config.fields.keypoints.count
                made.append(KeypointSupervision(networks, count, config.keypoint_supervision, clips, own))
    return made


class TranslationTraining:
    """Stage 1: detector, image encoder and translator learn from pairs of frames, against the image discriminator.

    One batch serves both sides of a step; the release draws one for each.
    """

    name: ClassVar[str] = "keypoints"

    def __init__(
        self,
        model: ActionsNetworks,
        config: ActionsConfig,
        clips: Sequence[Any],
        preview_clips: Sequence[Any],
        seed: int,
    ):
        stage = config.keypoints_training
        self.model, self.weights = model, config.losses
        self.steps, self.batch, self.preview_clips = stage.steps, stage.batch, preview_clips
        self.dataset = pairs(clips, seed, config.pairs, config.size)
        self.perceptual = losses.perceptual_network(config.losses.perceptual)
        self.networks: dict[str, nn.Module] = {"model": model}
        self.discriminator = ImageDiscriminator(config.discriminator) if config.losses.gan else None
        # Not the motion generator's: the second stage trains that alone.
        learning = [*model.detector.parameters(), *model.encoder.parameters(), *model.translator.parameters()]
        self.optimizers = {"generator": adam(learning, stage)}
        if self.discriminator is not None:
            self.networks["discriminator"] = self.discriminator
            self.optimizers["discriminator"] = adam(self.discriminator.parameters(), stage)
        self.schedulers = {name: scheduler(o, stage.schedule, stage.steps) for name, o in self.optimizers.items()}

    def step(self, batch: Mapping[str, Any], update: Update) -> dict[str, Tensor]:
        """One iteration: the discriminator first, then the other networks on the same translated frames.

        Args:
            batch: `source` and `driving`, B x 3 x S x S in [0, 1].
            update: called as `update("discriminator", loss)` and `update("generator", loss)`.
        """
        still, target = 2 * batch["source"] - 1, 2 * batch["driving"] - 1
        context = self.model.encode(still)
        output = self.model(context, self.model.detector(target))
        told: dict[str, Tensor] = {}
        if self.discriminator is not None:
            told["discriminator"] = losses.discriminator_loss(self.discriminator, target, output.frame)
            update("discriminator", told["discriminator"])
        terms = losses.translator_losses(self.perceptual, self.discriminator, output.frame, target, self.weights)
        update("generator", sum(terms.values(), torch.zeros((), device=still.device)))
        if output.mask is not None:
            told["kept"] = output.mask.mean()
        told["keypoint_spread"] = context.keypoints.std(dim=1).mean()
        return {name: value.detach() for name, value in (terms | told).items()}

    def preview(self) -> dict[str, np.ndarray]:
        """Translations between frames of clips."""
        return {"translations": translation_sheet(self.model, self.preview_clips)}


class SequenceTraining:
    """What both kinds of stage 2 share: a motion generator alone learns from the labels of the finished detector."""

    name: ClassVar[str] = "motion"
    dataset: KeypointSequences  # known when the detector is: see `begin`

    def __init__(
        self,
        model: ActionsNetworks | FieldActionsNetworks,
        config: ActionsConfig,
        clips: Sequence[Any],
        preview_clips: Sequence[Any],
        seed: int,
    ):
        stage = config.motion_training
        self.model, self.motion, self.config, self.seed = model, model.motion, config, seed
        self.clips, self.preview_clips = clips, preview_clips
        self.steps, self.batch = stage.steps, stage.batch
        self.networks: dict[str, nn.Module] = {"motion": self.motion}
        self.generators = {"noise": torch.Generator()}  # seeded and stored by the loop
        self.optimizers: dict[str, Optimizer] = {"motion": adam(self.motion.parameters(), stage)}
        self.schedulers = {"motion": scheduler(self.optimizers["motion"], stage.schedule, stage.steps)}
        self.set_up()

    def set_up(self) -> None:
        """Add what a kind has beside the generator."""

    def begin(self, folder: Path) -> None:
        """Label all clips, now that the detector has its final weights."""
        config, frames = self.config, self.config.motion.frames + 1
        settings = repr((config.keypoints, config.fields))
        labelled = label(self.model.labeller(), self.clips, size=config.size, folder=folder, settings=settings)
        guided = config.fields is not None and config.keypoint_supervision.steps > 0
        self.dataset = KeypointSequences(
            labelled,
            config.sequences,
            frames,
            self.seed,
            actions=config.actions or (),
            sides=config.sides or (),
            partners=partners(config.points) if guided else (),
        )

    def preview(self) -> dict[str, np.ndarray]:
        """Generated keypoints of some clips' actions; warns where all performances of an action are alike."""
        items = [self.dataset[i] for i in range(min(16, len(self.dataset)))]
        sheet, ratio = track_sheet(self.model, self.config, items)
        if ratio is not None and ratio < LEAST_DIVERSITY:
            print(f"Samples of one action differ by {ratio:.0%} of what real clips do.", file=sys.stderr)
        return {"tracks": sheet}


class MotionTraining(SequenceTraining):
    """Stage 2 of the paper: a conditional VAE, against the sequence discriminator (Eq. 5)."""

    motion: MotionGenerator

    def set_up(self) -> None:
        """Build the discriminator, unless an ablation leaves it out."""
        config = self.config
        self.discriminator = SequenceDiscriminator(config) if config.motion.sequence_discriminator else None
        if self.discriminator is not None:
            stage = config.motion_training
            self.networks["discriminator"] = self.discriminator
            self.optimizers["discriminator"] = adam(self.discriminator.parameters(), stage)
            self.schedulers["discriminator"] = scheduler(
                self.optimizers["discriminator"], stage.schedule, stage.steps
            )
        self._told_collapse = False

    def step(self, batch: Mapping[str, Any], update: Update) -> dict[str, Tensor]:
        """One iteration: the discriminator first, then the generator; both on a sample of the posterior.

        Args:
            batch: of `KeypointSequences`.
            update: called as `update("discriminator", loss)` and `update("motion", loss)`.
        """
        first, future = batch["first"][..., :2], batch["points"][..., :2]
        action = batch["action"] if self.config.classes else None
        latent = self.config.motion.latent
        noise = torch.randn(len(first), latent, generator=self.generators["noise"]).to(first.device)
        output = self.motion(first, future, action, noise)
        terms: dict[str, Tensor] = {}
        if self.discriminator is not None:
            terms["discriminator"] = losses.discriminator_loss(self.discriminator, future, output.sequence)
            update("discriminator", terms["discriminator"])
        done = self.schedulers["motion"].last_epoch / self.steps
        own = losses.motion_losses(output, future, self.discriminator, self.config.motion_losses, done)
        update("motion", sum(own.values(), torch.zeros((), device=first.device)))
        nats = losses.kl_divergence(output.mean, output.std).mean(0).sum().detach()
        if done > 0.5 and float(nats) < LEAST_NATS and not self._told_collapse:
            self._told_collapse = True
            print(f"The posterior has collapsed: its divergence is {float(nats):.2f} nats in all.", file=sys.stderr)
        return {name: value.detach() for name, value in (terms | own | {"nats": nats}).items()}


class TrackTraining(SequenceTraining):
    """Stage 2 of ours: a rectified flow over tracks."""

    motion: TrackFlow

    def set_up(self) -> None:
        """Average the weights."""
        self.ema: Mapping[str, nn.Module] = {"motion": self.motion}

    def begin(self, folder: Path) -> None:
        """Label all clips, and measure how far keypoints move."""
        super().begin(folder)
        chosen = [self.dataset[i] for i in range(SCALE_SAMPLES)]
        window, first = keypoints_of(
            {key: torch.stack([item[key] for item in chosen]) for key in ("first", "points")}
        )
        deviation = to_track(window, first)[:, 1:].flatten(0, 1).std(0).clamp_min(1e-3)
        self.motion.scale.copy_(deviation)

    def step(self, batch: Mapping[str, Any], update: Update) -> dict[str, Tensor]:
        """One iteration.

        Args:
            batch: of `KeypointSequences`, with covariances.
            update: called as `update("motion", loss, clip_grad=1)`.
        """
        window, first = keypoints_of(batch)
        track, generator = to_track(window, first), self.generators["noise"]
        valid = torch.cat([torch.ones_like(batch["valid"][:, :1]), batch["valid"]], dim=1)
        alone = torch.rand(len(track), generator=generator) < MOST_KNOWN_ALONE
        given = torch.randint(1, self.motion.config.known + 1, (len(track),), generator=generator)
        given = torch.where(alone, 1, given).to(track.device)
        action = batch["action"] if self.config.classes else torch.full_like(given, self.motion.no_action)
        side = batch["side"] if self.config.sides else torch.full_like(given, self.motion.no_side)
        loss = self.motion.loss(track, valid, Condition(first, action, side, track, given), generator)
        update("motion", loss, clip_grad=1.0)
        return {"velocity": loss.detach()}


def keypoints_of(batch: Mapping[str, Tensor]) -> tuple[Keypoints, Keypoints]:
    """The window's keypoints, N x (T + 1) x K, and its first frame's, out of a batch with covariances."""
    whole = torch.cat([batch["first"][:, None], batch["points"]], dim=1)  # N x (T + 1) x K x 6
    window = Keypoints(whole[..., :2], whole[..., 2:].unflatten(-1, (2, 2)))
    return window, Keypoints(window.mean[:, 0], window.covariance[:, 0])


def adam(parameters: Any, stage: StageConfig) -> Adam:
    """The paper's optimiser, of what learns."""
    return Adam([each for each in parameters if each.requires_grad], stage.learning_rate, stage.momenta)
