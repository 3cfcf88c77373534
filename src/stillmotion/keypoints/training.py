"""How the networks learn: from pairs of frames of one clip, and the detector from joints before that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam

from stillmotion.keypoints import losses
from stillmotion.keypoints.config import NetworkConfig, PairStage, SupervisionStage
from stillmotion.keypoints.data import frames_with_joints, halved, pairs
from stillmotion.keypoints.networks import (
    FieldGenerator,
    GeneratorOutput,
    KeypointNetworks,
    StepInputs,
    gather_inputs,
)
from stillmotion.keypoints.visualization import keypoint_sheet, pair_sheet
from stillmotion.training import muon
from stillmotion.training.schedules import scheduler
from stillmotion.training.stage import Update


class Made(NamedTuple):
    """What a step made of a batch."""

    inputs: StepInputs
    output: GeneratorOutput
    terms: dict[str, Tensor]  # losses, weighted


class PairTraining:
    """Detector and generator learn together, end to end, on pairs of frames.

    Attributes as `stillmotion.training.Stage` asks; both are stepped on one loss.
    """

    def __init__(
        self,
        model: KeypointNetworks,
        config: NetworkConfig,
        stage: PairStage,
        clips: Sequence[Any],
        preview_clips: Sequence[Any],
        seed: int,
    ):
        self.model, self.config, self.stage = model, config, stage
        self.name, self.steps, self.batch = stage.name, stage.steps, stage.batch
        joints = config.keypoints.count if self.supervised else 0
        self.dataset = pairs(clips, seed, stage.augmentation, stage.batch, joints, config.generator.fields)
        self.preview_clips = preview_clips
        self.networks: dict[str, nn.Module] = {"model": model}
        self.generators = {"transforms": torch.Generator()}  # seeded and stored by the loop
        self.ema: Mapping[str, nn.Module] = {"model": model}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.schedulers: dict[str, Any] = {}
        self.descending = self.learn(
            "generator", [*model.generator.parameters(), *model.detector.parameters()], stage.muon
        )

    def learn(self, name: str, parameters: Sequence[nn.Parameter], rate: float = 0.0) -> tuple[str, ...]:
        """Add an Adam optimiser, momenta as in Monkey-Net's release, and Muon if it has a rate; gives their names."""
        made = muon.split(name, parameters, rate, lambda rest: Adam(rest, self.stage.learning_rate, (0.5, 0.999)))
        self.optimizers |= made
        self.schedulers |= {key: scheduler(o, self.stage.schedule, self.steps) for key, o in made.items()}
        return tuple(made)

    @property
    def supervised(self) -> bool:
        """Whether known joints supervise the keypoints."""
        return self.stage.losses.keypoint_supervision > 0 and not self.stage.freeze_detector

    def step(self, batch: Mapping[str, Any], update: Update) -> dict[str, Tensor]:
        """One iteration.

        Args:
            batch: see `make`.
            update: called as `update(("generator",), loss, clip_grad=...)`.

        Returns:
            Every loss term, weighted, detached; and `keypoint_spread`, the keypoints' standard deviation.
        """
        made = self.make(self.sized(batch))
        self.descend(made, update)
        return self.told(made)

    def sized(self, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        """The batch, or half its size in the first part of the stage, as `small_first` says."""
        small = self.schedulers["generator"].last_epoch < self.stage.small_first * self.steps
        return halved(batch) if small else batch

    def make(self, batch: Mapping[str, Any]) -> Made:
        """Generate the driving frames, and measure them.

        Args:
            batch: `source` and `driving`, B x 3 x S x S in [0, 1], and the clips' names; with joints `points`,
                B x 2 x K x 2, normalised, and `weights`, B x 2 x K; with fields what `data.known_targets` gives.
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
        return Made(inputs, output, terms | self.keypoint_losses(inputs, batch))

    def descend(self, made: Made, update: Update) -> None:
        """Step generator and detector."""
        device = made.output.frame.device
        total = sum(made.terms.values(), torch.zeros((), device=device))
        update(self.descending, total, clip_grad=self.stage.clip_grad or None)

    def told(self, made: Made) -> dict[str, Tensor]:
        """What is logged of a step."""
        made.terms["keypoint_spread"] = made.inputs.source.mean.std(dim=1).mean()
        return {name: value.detach() for name, value in made.terms.items()}

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

    def __init__(
        self, model: KeypointNetworks, keypoints: int, stage: SupervisionStage, clips: Sequence[Any], seed: int
    ):
        self.detector = model.detector
        self.steps, self.batch = stage.steps, stage.batch
        self.dataset = frames_with_joints(clips, keypoints, seed, stage.augmentation)
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
