"""Training stages: three of ours that train parts of the system first, and the paper's (Sec. III-B, III-C).

1. `autoencoder`: E1 and G encode and generate single frames of many clips.
2. `latent_prediction`: E2 and P predict E1's codes in roll-outs of increasing length.
3. `generator_finetuning`: G is finetuned on P's states. The prediction error grows with the roll-out, and G has been
   trained on codes of true frames only.
4. `single_step`, and once more `annealing`: the paper's. One update per time step, and no gradient crosses a step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam
from torch.utils.data import Dataset

from stillmotion.systems.base import System
from stillmotion.systems.strokes import losses
from stillmotion.systems.strokes.data import (
    TRACK,
    clips_with_points,
    frame_pairs,
    frame_windows,
    mask_background,
    training_clips,
)
from stillmotion.systems.strokes.networks import Context, StrokesNetworks
from stillmotion.systems.strokes.object_frame import object_frame
from stillmotion.systems.strokes.stroke_encoding import stroke_step
from stillmotion.systems.strokes.visualization import autoencoding_sheet, rollout_sheet
from stillmotion.training.schedules import UpdateSchedule, scheduler
from stillmotion.training.stage import check_clips, chosen_stages, stage_seed

Batch = Mapping[str, Any]
"""Samples of a stage: `frames`, B x T x 3 x s x s in [0, 1], or of pairs `source` (the still) and `driving`, B x 3 x
s x s; `points`, B x T x 2 pixels; and what else `data.known_targets` gives of them."""

GENERATED_STEPS = 4  # steps per roll-out that `generator_finetuning` generates; P's steps cost little beside them


def stages(
    system: System, clips: Sequence[Any], preview_clips: Sequence[Any] = (), only: Sequence[str] = (), seed: int = 0
) -> list[StrokesStage]:
    """The training stages of the system that have steps, in order.

    Args:
        system: a `Strokes` system; its networks are trained in place.
        clips: clips of the networks' size with the track `points`, T x 2, (x, y) pixels; NaN where it is unknown.
        preview_clips: what previews show; the training clips if empty.
        only: names of the stages to run; all that have steps if empty.
        seed: of the samples' order and augmentation.

    Raises:
        StillmotionError: no clips, clips of another size than the configuration's, none with enough points, or a
            stage that does not exist or has no steps.
    """
    config, networks = system.config, system.networks
    assert isinstance(networks, StrokesNetworks)
    chosen = chosen_stages({name: getattr(config, name).steps for name in STAGES}, only)
    check_clips(clips, config.size)
    usable = training_clips(clips, config)
    shown = clips_with_points(preview_clips, config) or usable
    return [STAGES[name](name, networks, usable, shown, stage_seed(seed, name)) for name in chosen]


class StrokesStage:
    """What all stages share: Adam on some parts of the system, and one source of random numbers."""

    parts: ClassVar[tuple[str, ...]]

    def __init__(self, name: str, model: StrokesNetworks, clips: Sequence[Any], preview: Sequence[Any], seed: int):
        self.name, self.model, self.config, self.preview_clips = name, model, model.config, preview
        self.settings = getattr(self.config, name)
        self.steps, self.batch = self.settings.steps, self.settings.batch
        self.dataset = self.sample_from(clips, seed)
        network = nn.ModuleDict({part: getattr(model, part) for part in self.parts})
        self.networks: dict[str, nn.Module] = {name: network}
        self.ema: Mapping[str, nn.Module] = {name: network}
        self.optimizers = {name: self.adam(network)}
        self.schedulers: dict[str, Any] = {name: scheduler(self.optimizers[name], self.settings.schedule, self.steps)}
        self.generators = {"random": torch.Generator()}  # seeded and stored by the loop

    def sample_from(self, clips: Sequence[Any], seed: int) -> Dataset[Any]:
        """The stage's training samples."""
        return frame_windows(clips, self.config, seed)

    def adam(self, network: nn.Module) -> Adam:
        """An optimiser with the stage's settings."""
        return Adam(network.parameters(), self.settings.learning_rate, (self.settings.beta1, 0.999))

    def step_losses(self, context: Context, state: Tensor, target: Tensor, batch: Batch, t: int) -> dict[str, Tensor]:
        """The losses of frame t + 1 generated from a state, weighted; and `copy`, that of a copy of the still."""
        frame, weights = object_frame(batch[TRACK], t + 1, self.config), self.config.losses
        generated = self.model.generate(context, state, frame)
        terms = losses.reconstruction_losses(generated, context.still, target, frame, weights)
        terms |= losses.truth_losses(self.model, context, generated, batch, t)
        return terms | {"copy": losses.copy_baseline(context.still, target, frame, weights)}

    def minimise(self, terms: Mapping[str, Tensor], update: Any) -> dict[str, Tensor]:
        """Update on the sum of all terms but `copy`; gives them detached."""
        loss = sum((value for name, value in terms.items() if name != "copy"), terms["copy"].new_zeros(()))
        update(self.name, loss, clip_grad=self.settings.clip_grad or None)
        return {name: value.detach() for name, value in terms.items()}

    def preview(self) -> dict[str, np.ndarray]:
        """A contact sheet: the stroke over each still, the true frames, and those generated."""
        return {"rollouts": rollout_sheet(self.model, self.preview_clips)}


class AutoencoderStage(StrokesStage):
    """E1 and G generate a true frame from its own code, with an earlier frame of its clip as the still."""

    parts = ("encoder", "decoder")

    def sample_from(self, clips: Sequence[Any], seed: int) -> Dataset[Any]:
        """Pairs of frames."""
        return frame_pairs(clips, self.config, seed)

    def step(self, batch: Batch, update: Any) -> dict[str, Tensor]:
        """One training step.

        Args:
            batch: pairs, their `points` B x 2 x 2.
            update: called as `update(name, loss, clip_grad=...)`.

        Returns:
            Every loss term, weighted, detached; and `copy`, the reconstruction loss of a copy of the still.
        """
        model, points = self.model, batch[TRACK]
        still, target = batch["source"] * 2 - 1, batch["driving"] * 2 - 1
        seen = target
        if "masks" in batch:  # a static background moves in the object's frame, and P cannot predict it
            seen = mask_background(batch["driving"], batch["masks"][:, 1]) * 2 - 1
        context = model.begin(still, points, batch.get("plate"), fast=False)
        code = model.encode(seen, points, 1)  # B x C x h x h
        terms = self.step_losses(context, self.add_noise(code), target, batch, 0)
        if self.settings.latent_l2_weight:
            terms["latent_l2"] = self.settings.latent_l2_weight * code.float().square().mean()
        return self.minimise(terms, update)

    def add_noise(self, code: Tensor) -> Tensor:
        """A code with Gaussian noise.

        Components of the code that do not reduce the reconstruction loss cost `latent_l2_weight` and vanish in the
        noise; the others become large against it, so that G tolerates P's errors. With a deviation of 1 and a weight
        w the two terms are the loss of a variational autoencoder of fixed variances (Kingma & Welling 2014, appendix
        B), times 2 w per component.
        """
        if not self.settings.latent_noise_std:
            return code
        noise = torch.randn(code.shape, generator=self.generators["random"]).to(code)
        return code + self.settings.latent_noise_std * noise

    def preview(self) -> dict[str, np.ndarray]:
        """True frames, and what G generates from their codes."""
        return {"autoencoding": autoencoding_sheet(self.model, self.preview_clips)}


class LatentPredictionStage(StrokesStage):
    """E2 and P predict E1's codes of the following frames; E1 and G are constant.

    Roll-outs have 1, 2, 4, ... steps and finally the whole window, each length for the same share of the training.
    Unlike in the paper's stage the gradient goes back through all steps of a roll-out, and no frame is generated.
    """

    parts = ("motion", "predictor")

    def sample_from(self, clips: Sequence[Any], seed: int) -> Dataset[Any]:
        """Windows, with masks where the background is masked."""
        return frame_windows(clips, self.config, seed, latent=True)

    @property
    def length(self) -> int:
        """Steps of a roll-out in the coming training step."""
        return rollout_length(self.schedulers[self.name].last_epoch / self.steps, self.config.clip.frames - 1)

    def step(self, batch: Batch, update: Any) -> dict[str, Tensor]:
        """One training step.

        Args:
            batch: windows, with `masks` if the background is masked.
            update: called as `update(name, loss, clip_grad=...)`.

        Returns:
            `state`, the mean square between the states of all steps and E1's codes, over that of constant states;
            `last`, the same of the last steps alone; and the roll-outs' `length`.
        """
        frames, points = batch["frames"], batch[TRACK]
        length, count = self.length, frames.shape[1] - 1
        pieces = count // length
        offset = int(torch.randint(count - pieces * length + 1, (1,), generator=self.generators["random"]))
        codes = self.encode(frames, points, batch.get("masks"))  # B x T x C x h x h
        steps = self.encode_motion(points)  # B x (T - 1) x (1 or 2) C x h x h

        def split(maps: Tensor, first: int) -> Tensor:
            """B x (pieces x length) x ... from `first` on, to (B x pieces) x length x ..."""
            return maps[:, first : first + pieces * length].unflatten(1, (pieces, length)).flatten(0, 1)

        targets = split(codes, offset + 1).float()
        state = start = channels_last(split(codes, offset)[:, 0])
        initial = channels_last(codes[:, :1].expand(-1, pieces, -1, -1, -1).flatten(0, 1))
        motion, states = split(steps, offset), []
        for t in range(length):
            x = channels_last(motion[:, t]).split(self.model.predictor.state, dim=1)
            state = self.model.predictor([state, initial, *x])  # Eq. 2
            states.append(state)
        found, start = torch.stack(states, dim=1).float(), start.float()
        loss = F.mse_loss(found, targets) / F.mse_loss(start[:, None].expand_as(targets), targets)
        update(self.name, loss, clip_grad=self.settings.clip_grad or None)
        last = F.mse_loss(found[:, -1], targets[:, -1]) / F.mse_loss(start, targets[:, -1])
        return {"state": loss.detach(), "last": last.detach(), "length": loss.new_tensor(float(length))}

    @torch.no_grad()
    def encode(self, frames: Tensor, points: Tensor, masks: Tensor | None) -> Tensor:
        """E1's codes of all frames, B x T x 3 x s x s in [0, 1] to B x T x C x h x h; h_0 is never masked."""
        if masks is not None:
            frames = torch.cat([frames[:, :1], mask_background(frames[:, 1:], masks[:, 1:])], dim=1)
        seen = [self.model.align(frames[:, t] * 2 - 1, points, t) for t in range(frames.shape[1])]
        codes: Tensor = self.model.encoder(torch.cat(seen)).unflatten(0, (len(seen), -1))
        return codes.transpose(0, 1)

    def encode_motion(self, points: Tensor) -> Tensor:
        """x_t of all steps (Eq. 1): B x T x 2 pixels to B x (T - 1) x (1 or 2) C x h x h."""
        count = points.shape[1] - 1
        steps = (self.model.strokes(points, t) for t in range(count))
        strokes = [torch.stack(maps) for maps in zip(*steps, strict=True)]
        codes = [self.model.motion(maps.flatten(0, 1)).unflatten(0, (count, -1)) for maps in strokes]
        return torch.cat(codes, dim=2).transpose(0, 1)


class GeneratorFinetuningStage(StrokesStage):
    """G learns to generate frames from P's states in whole roll-outs; E1, E2 and P are constant."""

    parts = ("decoder",)

    def step(self, batch: Batch, update: Any) -> dict[str, Tensor]:
        """One training step.

        Args:
            batch: windows.
            update: called as `update(name, loss, clip_grad=...)`.

        Returns:
            Every loss term, weighted, detached, the mean over the generated steps; and `copy`, the reconstruction
            loss of a copy of the still.
        """
        frames = batch["frames"] * 2 - 1
        context, states = self.roll_out(frames[:, 0], batch[TRACK], batch.get("plate"))
        times = torch.randperm(len(states), generator=self.generators["random"])[:GENERATED_STEPS].tolist()
        sums: dict[str, Tensor] = {}
        for t in times:
            for name, value in self.step_losses(context, states[t], frames[:, t + 1], batch, t).items():
                sums[name] = sums.get(name, frames.new_zeros(())) + value / len(times)
        return self.minimise(sums, update)

    @torch.no_grad()
    def roll_out(self, still: Tensor, points: Tensor, plate: Tensor | None) -> tuple[Context, list[Tensor]]:
        """What all steps share, and P's states of each, from the still alone; arguments as for `begin`."""
        context = self.model.begin(still, points, plate)
        states = [context.initial]
        for t in range(points.shape[1] - 1):
            states.append(self.model.predict(self.model.step_inputs(context, states[-1], points, t))[0])
        return context, states[1:]


class RecurrentState(NamedTuple):
    """What one time step passes to the next, without gradient and from the weights after the update (Sec. III-C)."""

    state: Tensor | None  # of the generated frame; None for E1's own
    frame: Tensor | None  # that frame, if the pair discriminator reads it


class SingleStepStage(StrokesStage):
    """Generator side, D1 and D2 together, one update of each per time step: `clip.frames` - 1 per batch of clips.

    The generator side has the stage's name among the networks and optimisers.
    """

    parts = ("encoder", "motion", "predictor", "decoder")

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.discriminators = losses.Discriminators.build(self.config)
        trained = {"frame_discriminator": self.discriminators.frame, "pair_discriminator": self.discriminators.pair}
        self.networks |= {key: network for key, network in trained.items() if network is not None}
        self.optimizers = {key: self.adam(network) for key, network in self.networks.items()}
        updates = self.steps * (self.config.clip.frames - 1)
        self.schedule = UpdateSchedule(self.optimizers, self.settings.schedule, updates)
        self.schedulers = {"updates": self.schedule}

    def sample_from(self, clips: Sequence[Any], seed: int) -> Dataset[Any]:
        """Windows; the release draws clips without replacement, but of a handful of clips none would be left."""
        return frame_windows(clips, self.config, seed, drop_batch=self.batch if len(clips) >= self.batch else None)

    def step(self, batch: Batch, update: Any) -> dict[str, Tensor]:
        """Train on a batch of clips, time step by time step.

        Args:
            batch: windows.
            update: called as `update(optimizer name, loss)`, T - 1 times for each optimiser.

        Returns:
            Every loss term, weighted, detached, the mean over the time steps; and `copy`, the reconstruction loss of
            a copy of the still.
        """
        frames, previous = batch["frames"] * 2 - 1, RecurrentState(None, batch["frames"][:, 0] * 2 - 1)
        sums: dict[str, Tensor] = {}
        count = frames.shape[1] - 1
        for t in range(count):
            terms, previous = self.train_time_step(frames, batch, t, previous, update)
            for name, value in terms.items():
                sums[name] = sums.get(name, 0) + value.detach() / count
        return sums

    def train_time_step(
        self, frames: Tensor, batch: Batch, t: int, previous: RecurrentState, update: Any
    ) -> tuple[dict[str, Tensor], RecurrentState]:
        """One time step: update every optimiser once, then predict the frame again with the new weights.

        All updates use one forward pass, as in the release; the paper alternates between them (Sec. III-B).

        Returns:
            The loss terms, and what the next step starts from.
        """
        self.schedule.advance()
        model, found, points = self.model, self.discriminators, batch[TRACK]
        targets = self.gather_targets(frames, points, t)
        context = model.begin(frames[:, 0], points, batch.get("plate"), fast=False)
        autoencoded = None
        if self.config.losses.autoencoding:
            code = model.encode(targets.target, points, t + 1)
            autoencoded = model.generate(context, code, targets.frame).unblended
        state = previous.state
        if state is None:  # h_0, or with teacher forcing the code of the true frame
            state = context.initial if t == 0 else model.encode(targets.current, points, t)
        outputs = model(model.step_inputs(context, state, points, t))
        terms = losses.generator_losses(outputs, autoencoded, targets, previous.frame, found, self.config)
        terms |= losses.truth_losses(model, context, outputs.generated, batch, t)
        terms["copy"] = losses.copy_baseline(targets.still, targets.target, targets.frame, self.config.losses)
        self.minimise(terms, update)
        if found.frame is not None:
            terms["frame_discriminator"] = losses.frame_discriminator_loss(found.frame, outputs, targets)
            update("frame_discriminator", terms["frame_discriminator"])
        if found.pair is not None:
            assert previous.frame is not None
            terms["pair_discriminator"] = losses.pair_discriminator_loss(found.pair, outputs, targets, previous.frame)
            update("pair_discriminator", terms["pair_discriminator"])
        return terms, self.next_state(frames, batch, t, previous)

    def gather_targets(self, frames: Tensor, points: Tensor, t: int) -> losses.StepTargets:
        """What step t is compared with; frames N x T x 3 x s x s in [-1, 1], points N x T x 2 pixels."""
        sees_step = self.discriminators.pair is not None and self.config.discriminators.pair_sees_step
        return losses.StepTargets(
            still=frames[:, 0],
            current=frames[:, t],
            target=frames[:, t + 1],
            frame=object_frame(points, t + 1, self.config),
            corners=losses.crop_corners(points[:, t], self.config.size, self.generators["random"]),
            step=stroke_step(points, t, self.config) if sees_step else frames.new_zeros(()),
        )

    @torch.no_grad()
    def next_state(self, frames: Tensor, batch: Batch, t: int, previous: RecurrentState) -> RecurrentState:
        """What the next time step starts from; under teacher forcing, the true frame and no state."""
        if self.settings.teacher_forcing:
            return RecurrentState(None, frames[:, t + 1])
        points = batch[TRACK]
        context = self.model.begin(frames[:, 0], points, batch.get("plate"), fast=False)
        state = context.initial if previous.state is None else previous.state
        inputs = self.model.step_inputs(context, state, points, t)
        if self.discriminators.pair is None:  # nothing else reads the frame
            return RecurrentState(self.model.predict(inputs)[0], None)
        outputs = self.model(inputs)
        return RecurrentState(outputs.state, outputs.generated.frame)


STAGES: Mapping[str, type[StrokesStage]] = {
    "autoencoder": AutoencoderStage,
    "latent_prediction": LatentPredictionStage,
    "generator_finetuning": GeneratorFinetuningStage,
    "single_step": SingleStepStage,
    "annealing": SingleStepStage,
}


def channels_last(maps: Tensor) -> Tensor:
    """The same maps in channels-last layout, as P's convolutions need them; converted once and not in each unit."""
    return maps.contiguous(memory_format=torch.channels_last)


def rollout_length(done: float, count: int) -> int:
    """Steps of a roll-out when a share `done` of the training is over: 1, 2, 4, ... and finally `count`."""
    levels = (count - 1).bit_length() + 1
    return int(min(2 ** int(done * levels), count))
