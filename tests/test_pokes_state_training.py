"""Stages of the paper and of the release: what each update changes, when discriminators start, ablations."""

from typing import Any

import pytest
import torch
from torch import Tensor

from pokes_state_tools import (
    TINY_STATES,
    WITH_GANS,
    Update,
    batch_of,
    changed,
    changed_parts,
    copied,
    make_stage,
    train,
)
from stillmotion.systems.pokes.config import PRESETS, PokesConfig
from stillmotion.systems.pokes.networks import RolloutOutput
from stillmotion.systems.pokes.training import STATE_STAGES
from stillmotion.training.schedules import factor
from stillmotion.training.stage import check_stages

E, PHI, F, G = "object_encoder", "poke_encoder", "dynamics", "decoder"
STATIC = ("static_encoder", "static_decoder")


def without_static_step(stage: Any) -> None:
    """Leave the weights as they are in the first update of an interleaved step."""
    stage.optimizers["static_encoder"].step = stage.optimizers["static_decoder"].step = lambda: None


# --- who is updated ------------------------------------------------------------------------------------------------
def test_pretraining_trains_the_object_encoder_and_the_decoder() -> None:
    stage = make_stage("pretraining")
    before = copied(stage.model)
    assert list(train(stage)[0]) == ["static"]
    assert changed_parts(stage.model, before) == {E, G}


def test_dynamics_training_leaves_the_object_encoder_bit_identical() -> None:
    stage = make_stage("dynamics_training")
    before = copied(stage.model)
    terms = train(stage)[0]
    assert list(terms) == ["video", "latent"]
    assert min(terms.values()) > 0
    assert changed_parts(stage.model, before) == {PHI, F, G}


def test_an_interleaved_step_is_a_static_and_a_dynamic_one() -> None:
    stage = make_stage("interleaved")
    states = [copied(stage.model)]
    update, changes = Update(stage), list[set[str]]()

    def noted(names: Any, loss: Tensor, **options: Any) -> None:
        update(names, loss, **options)
        changes.append(changed_parts(stage.model, states[-1]))
        states.append(copied(stage.model))

    terms = stage.step(batch_of(stage.config), noted)
    assert update.names == [STATIC, "interleaved"]
    assert changes == [{E, G}, {PHI, F, G}]
    assert list(terms) == ["static", "video", "latent"]
    assert update.calls[0][1] == terms["static"].item()
    assert update.calls[1][1] == pytest.approx(terms["video"].item() + terms["latent"].item())


def test_the_decoder_has_two_adam_states() -> None:
    stage = make_stage("interleaved")
    train(stage, 2)
    weight = stage.model.decoder.colours.weight
    moments = [stage.optimizers[name].state[weight]["exp_avg"] for name in ("static_decoder", "interleaved")]
    assert not torch.equal(moments[0], moments[1])
    assert [stage.optimizers[name].state[weight]["step"].item() for name in ("static_decoder", "interleaved")] == [
        2,
        2,
    ]


def test_the_static_step_does_not_see_the_poke() -> None:
    losses, still = [], batch_of(TINY_STATES)
    for name in ("pretraining", "interleaved"):
        for poke in (still["poke"], still["poke"] * -3):
            stage = make_stage(name)
            losses.append(stage.step(still | {"poke": poke}, Update(stage))["static"].item())
    assert len(set(losses)) == 1


def test_targets_of_the_latent_loss_are_constant_but_in_a_single_stage() -> None:
    """In the single stage they move with the encoder that is trained (release)."""
    frames = batch_of(TINY_STATES)["frames"] * 2 - 1
    for single in (False, True):
        stage = make_stage("dynamics_training", changed(TINY_STATES, single_stage=single))
        output = stage.model(frames[:, 0], batch_of(TINY_STATES)["poke"], 3)
        fixed = RolloutOutput(output.frames, [[state.detach() for state in states] for states in output.states])
        assert stage.latent_loss(fixed, frames[:, 1:]).requires_grad == single


def test_latent_targets_belong_to_the_frames_they_are_compared_with() -> None:
    """Predicted states that are the encoded ones of their own frames have no loss; those of other frames have."""
    stage = make_stage("dynamics_training")
    true = batch_of(TINY_STATES)["frames"][:, 1:] * 2 - 1
    with torch.no_grad():
        states = [stage.model.encode(true[:, t]) for t in range(3)]
    assert stage.latent_loss(RolloutOutput(true, states), true).item() < 1e-10
    assert stage.latent_loss(RolloutOutput(true, states[::-1]), true).item() > 1e-4


@pytest.mark.parametrize("name", ["dynamics_training", "interleaved"])
def test_a_single_stage_trains_the_object_encoder_too_and_has_no_static_loss(name: str) -> None:
    stage = make_stage(name, changed(TINY_STATES, single_stage=True))
    before, update = copied(stage.model), Update(stage)
    assert "static" not in train(stage, 1, update)[0]
    assert update.names == [name]
    assert changed_parts(stage.model, before) == {E, PHI, F, G}


# --- discriminators ------------------------------------------------------------------------------------------------
def test_discriminators_change_from_their_first_step_on_and_not_before() -> None:
    stage = make_stage("interleaved", changed(WITH_GANS, discriminators__start=1))
    networks = [stage.networks[name] for name in ("frame_discriminator", "clip_discriminator")]
    update = Update(stage)
    for step in range(2):
        before = [copied(network) for network in networks]
        terms = train(stage, 1, update)[0]
        assert [bool(changed_parts(n, b)) for n, b in zip(networks, before, strict=True)] == [step == 1] * 2
        adversarial = {"frame_gan", "clip_gan", "clip_features", "frame_discriminator", "clip_discriminator"}
        assert set(terms) == {"static", "video", "latent"} | (adversarial if step else set())
    assert update.names == [STATIC, "interleaved", STATIC, "frame_discriminator", "clip_discriminator", "interleaved"]


def test_discriminators_see_predicted_frames_and_the_generators_side_learns_from_them() -> None:
    """The patch discriminator gets 16 frames of each kind, the other whole clips without the still."""
    stage = make_stage("dynamics_training", WITH_GANS)
    seen: dict[str, list[Tensor]] = {"frame_discriminator": [], "clip_discriminator": []}
    for name, inputs in seen.items():
        stage.networks[name].register_forward_pre_hook(lambda _, given, inputs=inputs: inputs.append(given[0]))
    update, batch = Update(stage), batch_of(WITH_GANS)
    terms = stage.step(batch, update)
    assert [tuple(x.shape) for x in seen["frame_discriminator"]] == [(16, 3, 32, 32)] * 3
    real, fake, fooling, matched = seen["clip_discriminator"]
    assert [x.requires_grad for x in (fake, fooling)] == [False, True]
    true = batch["frames"][:, 1:].transpose(1, 2) * 2 - 1
    assert torch.equal(real.detach(), true)
    assert torch.equal(matched, true)
    assert torch.equal(fake, fooling)
    real, fake, fooling = seen["frame_discriminator"]
    assert torch.equal(fake, fooling)
    shown = [any(torch.equal(x, frame) for frame in true.transpose(1, 2).flatten(0, 1)) for x in real.detach()]
    assert all(shown)
    minimised = {name: value for name, value in terms.items() if not name.endswith("discriminator")}
    assert update.calls[-1][1] == pytest.approx(sum(value.item() for value in minimised.values()), rel=1e-5)


# --- learning rates ------------------------------------------------------------------------------------------------
def test_rates_fall_at_the_releases_epochs_but_that_of_the_decoder_in_the_static_step() -> None:
    milestones = {"interleaved__schedule__total": 100, "interleaved__steps": 200}
    stage = make_stage("interleaved", changed(WITH_GANS, discriminators__start=100, **milestones))
    rates = []
    for _ in range(6):
        rates.append({name: optimizer.param_groups[0]["lr"] for name, optimizer in stage.optimizers.items()})
        stage.schedulers["rates"].step()
    assert {rate.pop("static_decoder") for rate in rates} == {1e-4}
    assert set(rates[0]) == {"static_encoder", "interleaved", "frame_discriminator", "clip_discriminator"}
    for rate, expected in zip(rates, (1, 0.3, 0.3, 0.09, 0.09, 0.027), strict=True):
        assert list(rate.values()) == pytest.approx([1e-4 * expected] * 4)


def test_presets_have_the_releases_optimisers_and_epochs() -> None:
    for config in (PRESETS["paper"], PRESETS["release"]):
        for stage in config.state_stages:
            assert (stage.learning_rate, stage.batch, stage.clip_grad) == (1e-4, 10, 0)
        assert config.discriminators.start == 4000
    schedule, epoch = PRESETS["release"].interleaved.schedule, 3440
    assert [factor(schedule, n * epoch, 147_000) for n in (9, 10, 25, 50)] == pytest.approx([1, 0.3, 0.09, 0.027])
    steps = {name: [s.steps for s in PRESETS[name].state_stages] for name in ("paper", "release")}
    assert steps == {"paper": [100_000, 147_000, 0], "release": [0, 0, 147_000]}


def test_a_warm_up_starts_from_the_stages_own_rate() -> None:
    stage = make_stage("interleaved", changed(TINY_STATES, interleaved__schedule__warmup=4))
    assert stage.optimizers["interleaved"].param_groups[0]["lr"] == pytest.approx(2.5e-5)
    assert stage.optimizers["static_encoder"].param_groups[0]["lr"] == pytest.approx(2.5e-5)


# --- the whole -----------------------------------------------------------------------------------------------------
ABLATIONS: dict[str, dict[str, Any]] = {
    "stack": {"dynamics__hierarchy": False, "dynamics__layers": 3},
    "without latent loss": {"losses__latent": 0.0},
    "single stage": {"single_stage": True},
    "order 1": {"dynamics__order": 1},
    "order 2": {"dynamics__order": 2},
    "impulse": {"poke__interpretation": "impulse", "poke__schedule": "first"},
    "decay": {"poke__schedule": "decay", "poke__rest": 1},
    "pause": {"poke__schedule": "pause", "poke__rest": 1},
    "kept length": {"encoder__magnitude": "kept"},
    "paper": {"encoder__poke_blocks": 1, "generator__activation": "elu"},
}


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_every_ablation_takes_a_step_in_which_all_networks_learn(ablation: str) -> None:
    config: PokesConfig = changed(TINY_STATES, **ABLATIONS[ablation])
    stage = make_stage("interleaved", config)
    check_stages([stage], 1)
    before = copied(stage.model)
    terms = train(stage)[0]
    assert changed_parts(stage.model, before) == {E, PHI, F, G}
    assert ("latent" in terms) == (ablation != "without latent loss")


def test_without_any_poke_the_poke_encoder_learns_nothing_and_nothing_breaks() -> None:
    stage = make_stage("interleaved")
    without_static_step(stage)
    before, batch = copied(stage.model), batch_of(TINY_STATES)
    stage.step(batch | {"poke": torch.zeros_like(batch["poke"])}, Update(stage))
    assert changed_parts(stage.model, before) == {F, G}


def test_it_learns_one_batch_and_the_same_seed_gives_the_same_numbers() -> None:
    quick = changed(TINY_STATES, interleaved__learning_rate=1e-3, interleaved__steps=40)
    terms = train(make_stage("interleaved", quick), 40)
    assert terms[-1]["video"] < 0.5 * terms[0]["video"]
    assert terms[-1]["static"] < 0.6 * terms[0]["static"]
    assert train(make_stage("interleaved", quick), 2) == terms[:2]


def test_stages_have_the_names_of_their_settings() -> None:
    assert list(STATE_STAGES) == ["pretraining", "dynamics_training", "interleaved"]
    for name in STATE_STAGES:
        stage = make_stage(name, seed=3)
        assert stage.generators["random"].initial_seed() == 3
        check_stages([stage], 1)
        assert (stage.name, stage.steps, stage.batch) == (name, 10, 10)
