"""How the system learns: in the main from pairs of frames of one clip, without labels (Sec. 3.5)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam

from stillmotion.data.augment import find_augmentation
from stillmotion.errors import StillmotionError
from stillmotion.keypoints.data import detect
from stillmotion.keypoints.networks import Keypoints
from stillmotion.keypoints.training import KeypointSupervision, PairTraining
from stillmotion.systems.base import System
from stillmotion.systems.driving import losses
from stillmotion.systems.driving.config import DrivingConfig, MotionStage
from stillmotion.systems.driving.data import KeypointWindows, window_length
from stillmotion.systems.driving.networks import Discriminator, DrivingNetworks
from stillmotion.systems.driving.visualization import path_sheet
from stillmotion.training.schedules import EpochPlateau
from stillmotion.training.stage import Update, check_clips, chosen_stages, stage_seed


def stages(
    system: System, clips: Sequence[Any], preview_clips: Sequence[Any] = (), only: Sequence[str] = (), seed: int = 0
) -> Sequence[Any]:
    """The training stages, in order: `keypoint_supervision`, the motion stages by name, `keypoint_prediction`.

    Args:
        system: a `Driving` system; its networks are trained in place.
        clips: things with `frames` (T x S x S x 3 `uint8`) and `name`.
        preview_clips: what previews show; the training clips if empty.
        only: names of the stages to run; empty for all that have steps.
        seed: of the samples' order and augmentation.

    Raises:
        StillmotionError: no clips, clips of another size than the configuration's, or a stage that is not there.
    """
    config, networks = system.config, system.networks
    assert isinstance(config, DrivingConfig)
    assert isinstance(networks, DrivingNetworks)
    motion = {stage.name: stage for stage in config.motion_stages}
    steps = {"keypoint_supervision": config.keypoint_supervision.steps}
    steps |= {name: stage.steps for name, stage in motion.items()}
    steps["keypoint_prediction"] = config.keypoint_prediction.steps if networks.predictor is not None else 0
    if "keypoint_prediction" in only and networks.predictor is None:
        raise StillmotionError(
            "There is no keypoint predictor in the configuration: add --set predictor.hidden=N or --preset people."
        )
    chosen = chosen_stages(steps, only)
    check_clips(clips, config.size)
    for name in chosen:  # all names are checked before hours of training
        find_augmentation(motion[name].augmentation if name in motion else config.keypoint_supervision.augmentation)
    preview = preview_clips or clips
    made: list[Any] = []
    for name in chosen:
        if name in motion:
            made.append(MotionTraining(networks, config, motion[name], clips, preview, stage_seed(seed, name)))
        elif name == "keypoint_supervision":
            made.append(
                KeypointSupervision(
                    networks, config.keypoints.count, config.keypoint_supervision, clips, stage_seed(seed, name)
                )
            )
        else:
            made.append(KeypointPrediction(networks, config, clips, preview, stage_seed(seed, name)))
    return made


class MotionTraining(PairTraining):
    """Detector, generator and discriminator learn together, end to end, on pairs of frames (Sec. 3.5)."""

    config: DrivingConfig
    stage: MotionStage

    def __init__(
        self,
        model: DrivingNetworks,
        config: DrivingConfig,
        stage: MotionStage,
        clips: Sequence[Any],
        preview_clips: Sequence[Any],
        seed: int,
    ):
        super().__init__(model, config, stage, clips, preview_clips, seed)
        self.discriminator = Discriminator(config) if stage.losses.adversarial else None
        if self.discriminator is not None:
            self.networks["discriminator"] = self.discriminator
            self.learn("discriminator", list(self.discriminator.parameters()))

    def step(self, batch: Mapping[str, Any], update: Update) -> dict[str, Tensor]:
        """One iteration: generator and detector first, then the discriminator on the same generated frame."""
        if self.discriminator is None:
            return super().step(batch, update)
        made, driving = self.make(batch), batch["driving"]
        frame, found = made.output.frame, made.inputs.target
        made.terms.update(losses.adversarial_losses(self.discriminator, frame, driving, found, self.stage.losses))
        self.descend(made, update)
        made.terms["discriminator"] = losses.discriminator_loss(self.discriminator, frame, driving, found)
        update("discriminator", made.terms["discriminator"])
        return self.told(made)


class KeypointPrediction:
    """The keypoint predictor alone learns, from the keypoints of the finished detector (Sec. 4).

    One Adam and a rate that falls on a plateau, as in the release.
    """

    name: ClassVar[str] = "keypoint_prediction"
    dataset: KeypointWindows  # known when the detector is: see `begin`

    def __init__(
        self,
        model: DrivingNetworks,
        config: DrivingConfig,
        clips: Sequence[Any],
        preview_clips: Sequence[Any],
        seed: int,
    ):
        assert model.predictor is not None
        stage = config.keypoint_prediction
        self.model, self.predictor, self.seed = model, model.predictor, seed
        self.steps, self.batch = stage.steps, stage.batch
        self.clips, self.preview_clips = clips, preview_clips
        self.window = window_length(clips, stage.window)
        self.networks: Mapping[str, nn.Module] = {"predictor": self.predictor}
        self.optimizers = {"predictor": Adam(self.predictor.parameters(), stage.learning_rate)}
        epoch = math.ceil(len(clips) / self.batch)
        self.plateau = EpochPlateau(self.optimizers["predictor"], epoch, stage.patience)
        self.schedulers = {"predictor": self.plateau}

    def begin(self, _: Path) -> None:
        """Find the keypoints of all clips, now that the detector has its final weights."""
        found = [(clip.name, detect(self.model.detector, clip.frames)) for clip in self.clips]
        self.dataset = KeypointWindows(found, self.window, self.seed)

    def step(self, batch: Mapping[str, Any], update: Update) -> dict[str, Tensor]:
        """One step: L1 of means plus L1 of covariances over all frames but the first.

        Args:
            batch: `mean`, B x T x K x 2, and `covariance`, B x T x K x 2 x 2, of windows of clips.
            update: called as `update("predictor", loss)`.

        Returns:
            Both losses, and as `copy_baseline` what the first would be if nothing moved.
        """
        truth = Keypoints(batch["mean"], batch["covariance"])
        first = Keypoints(truth.mean[:, 0], truth.covariance[:, 0])
        predicted = self.predictor(first, truth.mean.shape[1])
        terms = losses.prediction_losses(predicted, truth, self.predictor.learns_covariance)
        loss = sum(terms.values(), torch.zeros((), device=truth.mean.device))
        update("predictor", loss)
        self.plateau.observe(loss)
        terms["copy_baseline"] = (truth.mean[:, 1:] - truth.mean[:, :1]).abs().mean()
        return {name: value.detach() for name, value in terms.items()}

    def preview(self) -> dict[str, np.ndarray]:
        """The paths of the keypoints over first frames: as detected, and as predicted."""
        return {"paths": path_sheet(self.model, self.preview_clips, self.window)}
