"""Training stages of the paper (Sec. 3.2, appendix E.2), of the release, and of ours.

1. `pretraining`: E_sigma and G reconstruct single frames, which fixes the space of states.
2. `dynamics_training`: E_phi and F learn to predict states and frames, and G is finetuned; E_sigma is constant.

The release does both in every step, `interleaved`. Their batches hold `frames`, B x (T + 1) x 3 x s x s in [0, 1],
of which the first is the still, and `poke`, B x 2 x s x s in pixels (see `StateGenerator.encode_poke`). The stage of
ours is `fields`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer
from torch.utils.data import Dataset

from stillmotion.systems.base import System
from stillmotion.systems.pokes import losses
from stillmotion.systems.pokes.config import PokesConfig
from stillmotion.systems.pokes.data import MomentDataset, PokeDataset, moving_clips
from stillmotion.systems.pokes.field_network import FieldNetwork
from stillmotion.systems.pokes.handles import Handles
from stillmotion.systems.pokes.networks import RolloutOutput, StateGenerator
from stillmotion.systems.pokes.visualization import moment_sheet
from stillmotion.training import muon
from stillmotion.training.schedules import StepSchedule, scheduler
from stillmotion.training.stage import Batch, Update, check_clips, chosen_stages, stage_seed


def stages(
    system: System, clips: Sequence[Any], preview_clips: Sequence[Any] = (), only: Sequence[str] = (), seed: int = 0
) -> list[Any]:
    """The training stages of the system that have steps, in order.

    Args:
        system: a `Pokes` system; its networks are trained in place.
        clips: clips of the networks' size.
        preview_clips: what previews show; the training clips if empty.
        only: names of the stages to run; all that have steps if empty.
        seed: of the samples' order and augmentation.

    Raises:
        StillmotionError: no clips, clips of another size than the configuration's, or a stage that does not exist or
            has no steps.
    """
    config = system.config
    assert isinstance(config, PokesConfig)
    chosen = chosen_stages({name: getattr(config, name).steps for name in (*STATE_STAGES, "fields")}, only)
    check_clips(clips, config.size)
    usable = moving_clips(clips, config)
    made: list[Any] = []
    for name in chosen:
        own = stage_seed(seed, name)
        if isinstance(system.networks, FieldNetwork):
            made.append(FieldStage(system.networks, config, usable, preview_clips or usable, own))
        else:
            assert isinstance(system.networks, StateGenerator)
            dataset = PokeDataset(usable, config, own, getattr(config, name).batch)
            made.append(STATE_STAGES[name](name, system.networks, config, dataset, own))
    return made


class FieldStage:
    """Fields of single frames from the still and its handles, and oscillators, both from known motion (ours)."""

    name: ClassVar[str] = "fields"

    def __init__(
        self,
        model: FieldNetwork,
        config: PokesConfig,
        clips: Sequence[Any],
        preview_clips: Sequence[Any],
        seed: int,
    ):
        stage = config.fields
        self.model, self.config, self.preview_clips = model, config, preview_clips
        self.steps, self.batch = stage.steps, stage.batch
        self.dataset = MomentDataset(clips, config, seed)
        self.networks: Mapping[str, nn.Module] = {"model": model}
        self.ema: Mapping[str, nn.Module] = {"model": model}
        self.optimizers = muon.split(
            "model",
            model.parameters(),
            stage.muon,
            lambda rest: AdamW(rest, stage.learning_rate, (0.9, 0.99), weight_decay=0.01),
        )
        self.schedulers = {name: scheduler(o, stage.schedule, stage.steps) for name, o in self.optimizers.items()}

    def step(self, batch: Mapping[str, Any], update: Any) -> dict[str, Tensor]:
        """One training step.

        Args:
            batch: see `MomentDataset`, with a leading axis B.
            update: called as `update(("model",), loss, clip_grad=...)`.

        Returns:
            Every loss term, weighted, detached; and `copy`, what `displacement` is of standing still.
        """
        context = self.model.begin(batch["frames"][:, 0], batch["plate"])
        handles = Handles(*(batch[name].flatten(0, 1) for name in Handles._fields))
        count = batch["frames"].shape[1] - 1
        output = self.model(self.model.expand(context, count), handles)
        terms = losses.field_losses(self.model, context, output, batch, self.config.field_losses)
        total = sum(terms.values(), torch.zeros_like(terms["figure"]))
        update(tuple(self.optimizers), total, clip_grad=self.clip_grad)
        length, moving = batch["displacement"].norm(dim=-1), batch["moving"]
        terms["copy"] = self.config.field_losses.displacement * (length * moving).sum() / moving.sum().clamp_min(1)
        return {name: value.detach() for name, value in terms.items()}

    @property
    def clip_grad(self) -> float | None:
        """Largest norm of the gradient, if there is a limit."""
        return self.config.fields.clip_grad or None

    def preview(self) -> dict[str, np.ndarray]:
        """Stills with their pokes, true frames, and those predicted."""
        return {"answers": moment_sheet(self.model, self.config, self.preview_clips)}


# --- the paper's and the release's ----------------------------------------------------------------------------------


class StateStage:
    """What all stages share: Adam on some parts of the networks, and one source of random numbers."""

    def __init__(self, name: str, model: StateGenerator, config: PokesConfig, dataset: Dataset[Any], seed: int):
        """Args: the stage's field in `config`; networks, trained in place; samples; seed of random frames."""
        self.name, self.model, self.config, self.dataset = name, model, config, dataset
        self.settings = getattr(config, name)
        self.steps, self.batch = self.settings.steps, self.settings.batch
        self.clip_grad = self.settings.clip_grad or None
        self.perceptual = losses.perceptual_network(config.losses.perceptual)
        self.generators = {"random": torch.Generator().manual_seed(seed)}  # seeded again and stored by the loop
        self.networks: dict[str, nn.Module] = {name: model}
        self.optimizers: dict[str, Optimizer] = {}
        self.schedulers: dict[str, StepSchedule] = {}

    def adam(self, *networks: nn.Module) -> Adam:
        """An optimiser with the stage's learning rate."""
        return Adam([p for network in networks for p in network.parameters()], self.settings.learning_rate)

    def follow_schedule(self, names: Sequence[str]) -> StepSchedule:
        """Let the schedule set the rates of some of the optimisers; gives the scheduler, which counts the steps."""
        chosen = {name: self.optimizers[name] for name in names}
        self.schedulers["rates"] = StepSchedule(chosen, self.settings.schedule, self.steps)
        return self.schedulers["rates"]

    def static_loss(self, batch: Batch) -> Tensor:
        """Weighted distance between the still and G(E_sigma(still)). The poke does not count."""
        still = batch["frames"][:, 0] * 2 - 1
        reconstructed = self.model.decode(self.model.encode(still))
        return self.config.losses.static * losses.perceptual_distance(self.perceptual, reconstructed, still)


class PretrainingStage(StateStage):
    """E_sigma and G reconstruct single frames: the first of each clip, which may be any of its video."""

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.optimizers = {self.name: self.adam(self.model.object_encoder, self.model.decoder)}
        self.follow_schedule([self.name])

    def step(self, batch: Batch, update: Update) -> dict[str, Tensor]:
        """One training step; gives `static`, weighted."""
        loss = self.static_loss(batch)
        update(self.name, loss, clip_grad=self.clip_grad)
        return {"static": loss.detach()}


class DynamicsStage(StateStage):
    """E_phi, F and G learn from whole roll-outs, and the discriminators with them from a step on.

    E_sigma is constant, and so are the states of true frames. With `single_stage` (ablation) it is trained as well,
    and those states move with it (release).
    """

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        model = self.model
        parts = [model.poke_encoder, model.dynamics, model.decoder]
        if self.config.single_stage:
            parts.append(model.object_encoder)
        self.discriminators = losses.Discriminators.build(self.config)
        self.optimizers = {self.name: self.adam(*parts)}
        for name, network in self.discriminators._asdict().items():
            if network is not None:
                self.networks[f"{name}_discriminator"] = network
                self.optimizers[f"{name}_discriminator"] = self.adam(network)
        self.optimizers |= self.static_optimizers()
        self.schedule = self.follow_schedule([name for name in self.optimizers if name != "static_decoder"])

    def static_optimizers(self) -> dict[str, Optimizer]:
        """Those of the static loss, of which there is none here."""
        return {}

    def step(self, batch: Batch, update: Update) -> dict[str, Tensor]:
        """One training step; gives every loss term, weighted, detached."""
        return self.dynamics_step(batch, update)

    def dynamics_step(self, batch: Batch, update: Update) -> dict[str, Tensor]:
        """Update the discriminators, from `discriminators.start` on, and then the generator's side (Eq. 8)."""
        weights, frames = self.config.losses, batch["frames"] * 2 - 1
        true = frames[:, 1:]  # B x T x 3 x s x s
        output = self.model(frames[:, 0], batch["poke"], true.shape[1])
        distance = losses.perceptual_distance(self.perceptual, output.frames.flatten(0, 1), true.flatten(0, 1))
        terms = {"video": weights.video * distance}
        if weights.latent:
            terms["latent"] = weights.latent * self.latent_loss(output, true)
        scores = dict[str, Tensor]()
        if self.schedule.count >= self.config.discriminators.start:
            scores = self.update_discriminators(true, output.frames, terms, update)
        update(self.name, torch.stack(list(terms.values())).sum(), clip_grad=self.clip_grad)
        return {name: value.detach() for name, value in (terms | scores).items()}

    def latent_loss(self, output: RolloutOutput, true: Tensor) -> Tensor:
        """Eq. 7, not weighted; true frames B x T x 3 x s x s."""
        model, count = self.model, true.shape[1]
        with torch.set_grad_enabled(self.config.single_stage):
            encoded = model.decoded(model.encode(true.flatten(0, 1)))
        steps = [[level.unflatten(0, (-1, count))[:, t] for level in encoded] for t in range(count)]
        return losses.latent_loss([model.decoded(states) for states in output.states], steps)

    def update_discriminators(
        self, true: Tensor, generated: Tensor, terms: dict[str, Tensor], update: Update
    ) -> dict[str, Tensor]:
        """Update each discriminator, then add to `terms` what the generator's side minimises against it.

        Args:
            true: B x T x 3 x s x s; the still is not among the frames.
            generated: the same shape, with gradient.
            terms: receives `frame_gan`, `clip_gan`, and `_features`, weighted.
            update: of the stage's step.

        Returns:
            The discriminators' own losses.
        """
        weights, settings = self.config.losses, self.config.discriminators
        found = dict[str, Tensor]()
        if self.discriminators.frame is not None:
            count, random = settings.frame_examples, self.generators["random"]
            samples = losses.sample_frames(true, count, random), losses.sample_frames(generated, count, random)
            options = settings.frame_penalty, weights.frame_gan, weights.frame_features
            found |= self.update_discriminator("frame", samples, options, terms, update)
        if self.discriminators.clip is not None:
            samples = true.transpose(1, 2), generated.transpose(1, 2)  # B x 3 x T x s x s
            options = settings.clip_penalty, weights.clip_gan, weights.clip_features
            found |= self.update_discriminator("clip", samples, options, terms, update)
        return found

    def update_discriminator(
        self,
        kind: str,
        samples: tuple[Tensor, Tensor],
        options: tuple[float, float, float],
        terms: dict[str, Tensor],
        update: Update,
    ) -> dict[str, Tensor]:
        """One of the two: `samples` are real and generated, `options` the weights of penalty, GAN and features."""
        name, (real, fake), (penalty, gan, features) = f"{kind}_discriminator", samples, options
        network = self.networks[name]
        loss = losses.discriminator_loss(network, real, fake, penalty)
        update(name, loss, clip_grad=self.clip_grad)
        for term, value in losses.generator_losses(network, real, fake, gan, features).items():
            terms[f"{kind}_{term}"] = value
        return {name: loss}


class InterleavedStage(DynamicsStage):
    """Every step trains E_sigma and G on the stills, and then E_phi, F and G on roll-outs (release).

    G has two Adam states and is updated twice. Its rate in the first update is constant, as the release overwrites
    it. With `single_stage` (ablation) there is no first update.
    """

    def static_optimizers(self) -> dict[str, Optimizer]:
        """One of E_sigma, and one of G whose rate follows no schedule."""
        if self.config.single_stage:
            return {}
        encoder, decoder = self.model.object_encoder, self.model.decoder
        return {"static_encoder": self.adam(encoder), "static_decoder": self.adam(decoder)}

    def step(self, batch: Batch, update: Update) -> dict[str, Tensor]:
        """One training step; gives every loss term, weighted, detached."""
        if self.config.single_stage:
            return self.dynamics_step(batch, update)
        loss = self.static_loss(batch)
        update(("static_encoder", "static_decoder"), loss, clip_grad=self.clip_grad)
        return {"static": loss.detach()} | self.dynamics_step(batch, update)


STATE_STAGES: Mapping[str, type[StateStage]] = {
    "pretraining": PretrainingStage,
    "dynamics_training": DynamicsStage,
    "interleaved": InterleavedStage,
}
