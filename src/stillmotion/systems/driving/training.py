"""How the driving system learns: in the main from pairs of frames of one clip, no labels (paper section 3.3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from stillmotion import geometry, losses
from stillmotion.data.augment import AUGMENTATIONS
from stillmotion.data.sampling import PairDataset
from stillmotion.errors import StillmotionError
from stillmotion.systems.base import System, chosen_stages
from stillmotion.systems.driving.config import DrivingConfig
from stillmotion.systems.driving.drawing import pair_sheet
from stillmotion.systems.driving.guiding import GuideStage, distance, joint_aims
from stillmotion.systems.driving.networks import DrivingNetworks, Generated, Keypoints, shrink
from stillmotion.systems.driving.predicting import PredictStage

Update = Callable[..., None]


def stages(
    system: System, clips: Sequence[Any], preview_clips: Sequence[Any] = (), only: Sequence[str] = ()
) -> list[GuideStage | MotionStage | PredictStage]:
    """The system's training stages, in order: `guide` and `predict` if they have steps, `motion` between them.

    Args:
        system: a `Driving` system; its networks are trained in place.
        clips: things with `frames` (T x S x S x 3 `uint8`) and `name`.
        preview_clips: what previews show; the training clips if empty.
        only: names of the stages to run; all if empty.

    Raises:
        StillmotionError: no clips, clips of another size than the configuration's, or a stage that is not there.
    """
    config = system.config
    if not clips:
        raise StillmotionError("There are no clips to train on.")
    if config.augmentation not in AUGMENTATIONS:
        raise StillmotionError(
            f"There is no augmentation {config.augmentation!r}; known are {', '.join(AUGMENTATIONS)}."
        )
    if clips[0].frames.shape[1:3] != (config.size, config.size):
        height, width = clips[0].frames.shape[1:3]
        raise StillmotionError(
            f"The clips are {height} x {width} pixels where the configuration says size {config.size}: "
            f"prepare them with --size {config.size} or train with --set size={height}."
        )
    assert isinstance(system.networks, DrivingNetworks)
    model = system.networks
    # Only what is run is made: the guide asks for joints, which a model's later data need not have.
    known: dict[str, Callable[[], GuideStage | MotionStage | PredictStage]] = {
        "guide": lambda: GuideStage(model, config, clips),
        "motion": lambda: MotionStage(model, config, clips, preview_clips),
        "predict": lambda: PredictStage(model, config, clips, preview_clips),
    }
    steps = {"guide": config.guide_steps, "motion": config.steps, "predict": config.predict_steps}
    return [known[name]() for name in chosen_stages(steps, only)]


class MotionStage:
    """The paper's only stage: detector, generator and discriminator learn together, end to end.

    Attributes as `stillmotion.training.Stage` asks; three Adam optimisers as in the release, of which generator
    and detector step together on one loss.
    """

    name = "motion"

    def __init__(
        self,
        model: DrivingNetworks,
        config: DrivingConfig,
        clips: Sequence[Any],
        preview_clips: Sequence[Any] = (),
    ):
        self.config = config
        self.model = model
        self.steps, self.batch = config.steps, config.batch
        self.dataset = PairDataset(
            clips,
            config.seed,
            AUGMENTATIONS[config.augmentation],
            # One pair per clip and epoch, the partial batch dropped (release); a handful of clips would leave none.
            drop_batch=config.batch if len(clips) >= config.batch else None,
            extra=partial(joint_aims, keypoints=config.keypoints) if config.guide_weight else None,
        )
        self.preview_clips = preview_clips or clips

        self.networks: Mapping[str, nn.Module] = {"model": model}
        self.generators = {"transforms": torch.Generator()}  # seeded and stored by the loop
        self.ema: Mapping[str, nn.Module] = {"model": model}
        self.optimizers = {
            "generator": Adam(
                [*model.generator.parameters(), *model.detector.parameters()],
                config.learning_rate,
                (0.5, 0.999),
            )
        }
        if self.judged:
            self.optimizers["discriminator"] = Adam(
                model.discriminator.parameters(), config.learning_rate, (0.5, 0.999)
            )
        self.schedulers = {
            name: LambdaLR(optimizer, lambda step: learning_rate_factor(step, config))
            for name, optimizer in self.optimizers.items()
        }

    @property
    def judged(self) -> bool:
        """Whether the discriminator ever takes part."""
        return self.config.gan_weight > 0 or any(self.config.feature_weights)

    @property
    def adversarial(self) -> bool:
        """Whether it takes part in the coming step."""
        return self.judged and self.schedulers["generator"].last_epoch >= self.config.gan_from

    @property
    def held(self) -> bool:
        """Whether the detector stays as it is in the coming step."""
        return self.schedulers["generator"].last_epoch < self.config.hold_detector

    def step(self, batch: Mapping[str, Any], update: Update) -> dict[str, Tensor]:
        """One iteration: generator and detector first, then the discriminator on the same generated frame.

        Args:
            batch: `source` and `driving`, B x 3 x S x S in [0, 1], and the clips' names.
            update: called as `update(optimizer name, loss, clip_grad=...)`.

        Returns:
            Every loss term, weighted, detached.
        """
        source, driving = batch["source"], batch["driving"]
        self.model.detector.train(not (self.held or self.config.freeze_statistics))
        made, of_source, of_driving = reconstruct(self.model, source, driving, hold_detector=self.held)
        terms = self.generator_terms(made, source, driving, of_driving)
        if self.config.guide_weight and not self.held:
            found = torch.stack([of_source.mean, of_driving.mean], dim=1).flatten(0, 1)  # 2 B x K x 2
            points, weights = batch["points"].flatten(0, 1), batch["weights"].flatten(0, 1)
            terms["guide"] = self.config.guide_weight * distance(found, points, weights)
        update("generator", sum(terms.values(), torch.zeros(())), clip_grad=self.config.clip_grad or None)
        if self.adversarial:
            terms["discriminator"] = self.discriminator_loss(made, driving, of_driving)
            update("discriminator", terms["discriminator"])
        terms["keypoint_spread"] = of_source.mean.std(dim=1).mean()
        return {name: value.detach() for name, value in terms.items()}

    def generator_terms(
        self, made: Generated, source: Tensor, driving: Tensor, of_driving: Keypoints
    ) -> dict[str, Tensor]:
        """The generator's and detector's loss, term by term, with the weights applied (sheet section 4)."""
        config, terms = self.config, {}
        weights = losses.motion_weights(source, driving, config.motion_focus) if config.motion_focus else None
        if config.pyramid_weight:
            terms["pyramid"] = config.pyramid_weight * losses.pyramid_l1(made.frame, driving, weights=weights)
        if config.warp_weight:
            terms["warp"] = config.warp_weight * losses.weighted_l1(made.warped, driving, weights)
        if config.paint_weight and made.painted is not None:
            # Without a loss of its own the painter dies: early on the warped still is always better, so the blend
            # closes, and behind a closed blend there is no gradient to reopen it (docs/log.md, G).
            terms["paint"] = config.paint_weight * losses.weighted_l1(made.painted, driving, weights)
        if config.mix_weight and made.motion.mixed is not None:
            # The flow sees the picture's slope where it looks now; the mixture compares whole shifts with the target,
            # so a mask learns at once which keypoint's shift brings the right pixels from afar.
            smaller = None if weights is None else shrink(weights, config)
            terms["mix"] = config.mix_weight * losses.weighted_l1(made.motion.mixed, shrink(driving, config), smaller)
        if config.equivariance_weight and not self.held:
            half = (len(driving) + 1) // 2  # half the batch teaches it as well and costs half
            few = Keypoints(of_driving.mean[:half], of_driving.covariance[:half])
            terms["equivariance"] = config.equivariance_weight * self.equivariance(driving[:half], few)
        if config.separation_weight and not self.held:
            terms["separation"] = config.separation_weight * separation(of_driving.mean)
        if self.adversarial:
            given = detached(of_driving) if config.block_heatmap_gradient else of_driving
            fake = self.model.discriminator(made.frame, given)
            with torch.no_grad():
                real = self.model.discriminator(driving, detached(of_driving))
            terms["features"] = losses.feature_matching(fake[:-1], real[:-1], config.feature_weights)
            terms["gan"] = config.gan_weight * losses.lsgan_generator(fake[-1])
        return terms

    def discriminator_loss(self, made: Generated, driving: Tensor, of_driving: Keypoints) -> Tensor:
        """Least-squares loss on the real and the (detached) generated frame, both beside the driving heatmaps."""
        given = detached(of_driving)
        real = self.model.discriminator(driving, given)[-1]
        fake = self.model.discriminator(made.frame.detach(), given)[-1]
        return losses.lsgan_discriminator(real, fake)

    def equivariance(self, frames: Tensor, keypoints: Keypoints) -> Tensor:
        """Distance between the keypoints of a transformed frame and the transformed keypoints.

        Not in the paper (its successors have it): with few people to learn from it keeps a keypoint on the same
        body part. The transform is a random rotation, scale and shift.
        """
        matrix, offset = random_affine(len(frames), self.generators["transforms"], frames.device)
        grid = geometry.identity_grid((frames.shape[2], frames.shape[3]), frames)
        grid = apply_affine(matrix, offset, grid.expand(len(frames), -1, -1, -1).flatten(1, 2))
        moved = geometry.warp(frames, grid.view(len(frames), *frames.shape[2:], 2), padding="border")
        found = self.model.detector(moved)
        return (apply_affine(matrix, offset, found.mean) - keypoints.mean).abs().mean()

    def preview(self) -> dict[str, np.ndarray]:
        """A contact sheet: driving frames with keypoints, what was made, warped stills, masks."""
        return {"pairs": pair_sheet(self.model, self.preview_clips)}


def reconstruct(
    model: DrivingNetworks, source: Tensor, driving: Tensor, hold_detector: bool = False
) -> tuple[Generated, Keypoints, Keypoints]:
    """Generate the driving frames from the source frames; both B x 3 x S x S.

    The detector sees both in one batch, so that batch norm treats them alike (as the release does). A held detector
    gets no gradient; its mode, and so its statistics, are the caller's business.
    """
    frames = torch.cat([source, driving])
    with torch.set_grad_enabled(torch.is_grad_enabled() and not hold_detector):
        both = model.detector(frames)
    of_source, of_driving = (Keypoints(*parts) for parts in zip(*(part.chunk(2) for part in both), strict=True))
    return model.generator(model.generator.encode(source), of_source, of_driving), of_source, of_driving


def separation(mean: Tensor, reach: float = 0.1) -> Tensor:
    """How close keypoints sit: mean over pairs of exp(-distance^2 / (2 reach^2)); B x K x 2 -> scalar in [0, 1].

    Left alone, most keypoints of a small network settle on the torso's centre and move nothing
    (docs/log.md, 2026-11-21).
    """
    x, y = mean[..., 0], mean[..., 1]
    square = (x[:, :, None] - x[:, None, :]) ** 2 + (y[:, :, None] - y[:, None, :]) ** 2
    count = mean.shape[1]
    close = torch.exp(-square / (2 * reach**2)).sum(dim=(1, 2)) - count  # without each point's own
    return (close / max(count * (count - 1), 1)).mean()


def detached(keypoints: Keypoints) -> Keypoints:
    """The same keypoints without gradient."""
    return Keypoints(keypoints.mean.detach(), keypoints.covariance.detach())


def random_affine(count: int, generator: torch.Generator, device: torch.device) -> tuple[Tensor, Tensor]:
    """`count` small random similarity transforms: B x 2 x 2 matrices and B x 1 x 2 offsets, normalised units."""
    draw = (torch.rand(count, 4, generator=generator) * 2 - 1).to(device)
    angle, scale = draw[:, 0] * math.radians(25), 1 + 0.2 * draw[:, 1]
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    matrix = torch.stack([torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)], -2)
    return matrix, 0.2 * draw[:, None, 2:]


def apply_affine(matrix: Tensor, offset: Tensor, points: Tensor) -> Tensor:
    """Map B x P x 2 points by matrix and offset, written out: bmm over two-wide axes is slow on a CPU."""
    x, y = points[..., 0], points[..., 1]
    m = matrix[:, None]
    return torch.stack([m[..., 0, 0] * x + m[..., 0, 1] * y, m[..., 1, 0] * x + m[..., 1, 1] * y], -1) + offset


def learning_rate_factor(step: int, config: DrivingConfig) -> float:
    """The learning rate at `step` as a share of `config.learning_rate`."""
    rise = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    if config.schedule == "milestone":
        return rise * (0.1 if step >= config.milestone * config.steps else 1.0)
    return rise * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / config.steps))))
