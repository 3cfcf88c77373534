"""How the system learns: in the main from pairs of frames of one clip, without labels (Sec. 3.5)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam

from stillmotion.data.augment import find_augmentation
from stillmotion.errors import StillmotionError
from stillmotion.systems.base import System
from stillmotion.systems.driving import losses
from stillmotion.systems.driving.config import DrivingConfig, MotionStage
from stillmotion.systems.driving.data import (
    KeypointWindows,
    detect,
    frames_with_joints,
    pairs,
    window_length,
)
from stillmotion.systems.driving.networks import (
    Discriminator,
    DrivingNetworks,
    FieldGenerator,
    Keypoints,
    StepInputs,
    gather_inputs,
)
from stillmotion.systems.driving.visualization import keypoint_sheet, pair_sheet, path_sheet
from stillmotion.training.schedules import EpochPlateau, scheduler
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
            made.append(KeypointSupervision(networks, config, clips, stage_seed(seed, name)))
        else:
            made.append(KeypointPrediction(networks, config, clips, preview, stage_seed(seed, name)))
    return made


class MotionTraining:
    """Detector, generator and discriminator learn together, end to end, on pairs of frames.

    Attributes as `stillmotion.training.Stage` asks; Adam optimisers as in the release, of which generator and
    detector step together on one loss.
    """

    def __init__(
        self,
        model: DrivingNetworks,
        config: DrivingConfig,
        stage: MotionStage,
        clips: Sequence[Any],
        preview_clips: Sequence[Any],
        seed: int,
    ):
        self.model, self.config, self.stage = model, config, stage
        self.name, self.steps, self.batch = stage.name, stage.steps, stage.batch
        joints = config.keypoints.count if self.supervised else 0
        self.dataset = pairs(clips, seed, stage.augmentation, stage.batch, joints, config.generator.fields)
        self.preview_clips = preview_clips
        self.discriminator = Discriminator(config) if stage.losses.adversarial else None
        self.networks: dict[str, nn.Module] = {"model": model}
        self.generators = {"transforms": torch.Generator()}  # seeded and stored by the loop
        self.ema: Mapping[str, nn.Module] = {"model": model}
        learning = [*model.generator.parameters(), *model.detector.parameters()]
        self.optimizers = {"generator": Adam(learning, stage.learning_rate, (0.5, 0.999))}
        if self.discriminator is not None:
            self.networks["discriminator"] = self.discriminator
            parameters = self.discriminator.parameters()
            self.optimizers["discriminator"] = Adam(parameters, stage.learning_rate, (0.5, 0.999))
        self.schedulers = {name: scheduler(o, stage.schedule, stage.steps) for name, o in self.optimizers.items()}

    @property
    def supervised(self) -> bool:
        """Whether known joints supervise the keypoints."""
        return self.stage.losses.keypoint_supervision > 0 and not self.stage.freeze_detector

    def step(self, batch: Mapping[str, Any], update: Update) -> dict[str, Tensor]:
        """One iteration: generator and detector first, then the discriminator on the same generated frame.

        Args:
            batch: `source` and `driving`, B x 3 x S x S in [0, 1], and the clips' names; with joints `points`,
                B x 2 x K x 2, normalised, and `weights`, B x 2 x K; with fields what `data.known_targets` gives.
            update: called as `update(optimizer name, loss, clip_grad=...)`.

        Returns:
            Every loss term, weighted, detached; and `keypoint_spread`, the keypoints' standard deviation.
        """
        source, driving, weights = batch["source"], batch["driving"], self.stage.losses
        self.model.detector.train(not (self.stage.freeze_detector or self.stage.freeze_detector_bn))
        inputs = gather_inputs(self.model, source, driving, freeze=self.stage.freeze_detector)
        inputs = inputs._replace(plate=batch.get("plate"))
        output = self.model(inputs)
        known = batch.get("visibility")
        terms = losses.reconstruction_losses(output, source, driving, weights, self.config, known)
        if weights.truth:
            assert isinstance(self.model.generator, FieldGenerator)
            figure = self.model.generator.figure(inputs.features)
            terms |= losses.truth_losses(output, figure, batch, weights)
        terms |= self.keypoint_losses(inputs, batch)
        if self.discriminator is not None:
            terms |= losses.adversarial_losses(self.discriminator, output.frame, driving, inputs.target, weights)
        total = sum(terms.values(), torch.zeros((), device=source.device))
        update("generator", total, clip_grad=self.stage.clip_grad or None)
        if self.discriminator is not None:
            terms["discriminator"] = losses.discriminator_loss(
                self.discriminator, output.frame, driving, inputs.target
            )
            update("discriminator", terms["discriminator"])
        terms["keypoint_spread"] = inputs.source.mean.std(dim=1).mean()
        return {name: value.detach() for name, value in terms.items()}

    def keypoint_losses(self, inputs: StepInputs, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Ours: the terms of keypoints alone, weighted; none while the detector is frozen."""
        weights, terms = self.stage.losses, dict[str, Tensor]()
        if self.stage.freeze_detector:
            return terms
        if weights.equivariance:
            half = (len(batch["driving"]) + 1) // 2  # half the batch constrains it as well and costs half
            moved = losses.equivariance(
                self.model.detector,
                batch["driving"][:half],
                inputs.target.rows(slice(half)),
                self.generators["transforms"],
            )
            terms["equivariance"] = weights.equivariance * moved
        if weights.separation:
            terms["separation"] = weights.separation * losses.separation(inputs.target.mean)
        if self.supervised:
            found = torch.stack([inputs.source.mean, inputs.target.mean], dim=1).flatten(0, 1)  # 2 B x K x 2
            away = losses.joint_distance(found, batch["points"].flatten(0, 1), batch["weights"].flatten(0, 1))
            terms["keypoint_supervision"] = weights.keypoint_supervision * away
        return terms

    def preview(self) -> dict[str, np.ndarray]:
        """A contact sheet: driving frames with keypoints, generated frames, warped stills, masks."""
        return {"pairs": pair_sheet(self.model, self.preview_clips)}


class KeypointSupervision:
    """Ours, before the motion stages: the detector alone learns the joints of clips that know them.

    Unsupervised keypoints of a small network need thousands of steps before they leave the torso (docs/log.md,
    2026-11-21). Puppets know their joints, and a pose network finds those of real people (`prepare --tracks joints`).
    """

    name: ClassVar[str] = "keypoint_supervision"

    def __init__(self, model: DrivingNetworks, config: DrivingConfig, clips: Sequence[Any], seed: int):
        self.detector, stage = model.detector, config.keypoint_supervision
        self.steps, self.batch = stage.steps, stage.batch
        self.dataset = frames_with_joints(clips, config.keypoints.count, seed, stage.augmentation)
        self.clips = clips
        self.networks: Mapping[str, nn.Module] = {"detector": model.detector}
        self.ema: Mapping[str, nn.Module] = {"detector": model.detector}
        self.optimizers = {"detector": Adam(model.detector.parameters(), stage.learning_rate, (0.9, 0.999))}
        self.schedulers = {"detector": scheduler(self.optimizers["detector"], stage.schedule, stage.steps)}

    def step(self, batch: Mapping[str, Any], update: Update) -> dict[str, Tensor]:
        """One step towards the joints.

        Args:
            batch: `frame`, B x 3 x S x S, `points`, B x 1 x K x 2, normalised, and `weights`, B x 1 x K.
            update: called as `update("detector", loss)`.
        """
        found = self.detector(batch["frame"])
        away = losses.joint_distance(found.mean, batch["points"].flatten(0, 1), batch["weights"].flatten(0, 1))
        terms = {"distance": away, "narrowness": 10 * losses.narrowness(found)}
        update("detector", terms["distance"] + terms["narrowness"])
        return {name: value.detach() for name, value in terms.items()}

    def preview(self) -> dict[str, np.ndarray]:
        """Keypoints on training clips."""
        return {"keypoints": keypoint_sheet(self.detector, self.clips)}


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

    def begin(self) -> None:
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
