"""Single-step training: one time step at a time, learning rates, a dot (checklist 12 to 14, 16, 18, 19)."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stillmotion.data.clip import Clip
from stillmotion.data.sampling import loader
from stillmotion.systems.strokes import losses
from stillmotion.systems.strokes.config import PRESETS
from stillmotion.systems.strokes.losses import frame_discriminator_loss, frame_score, generator_losses
from stillmotion.systems.strokes.networks import StepInputs, StepOutputs
from stillmotion.systems.strokes.object_frame import object_frame
from stillmotion.systems.strokes.training import RecurrentState
from stillmotion.systems.strokes.visualization import roll_out, rollout_sheet
from stillmotion.training.schedules import UpdateSchedule, factor
from strokes_tools import TINY_STROKES, changed, moves, predict_by_hand
from strokes_training_tools import (
    ADVERSARIAL,
    PEOPLE,
    Update,
    batch_of,
    blinking_clip,
    make_stage,
    square_clip,
    stage_of,
)


# --- one step at a time --------------------------------------------------------------------------------------------
def gather(stage: Any, batch: dict[str, Any], t: int, state: Tensor | None = None) -> StepInputs:
    """Inputs of step t, from h_0 if no state is given."""
    frames, points = batch["frames"] * 2 - 1, batch["points"]
    context = stage.model.begin(frames[:, 0], points, fast=False)
    return stage.model.step_inputs(context, context.initial if state is None else state, points, t)


def test_the_first_state_is_h0_and_e1_learns_through_both_slots() -> None:
    """Checklist 12."""
    stage = stage_of()
    frames, seen = batch_of(stage), list[list[Tensor]]()
    stage.model.predictor.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    stage.train_time_step(frames["frames"] * 2 - 1, frames, 0, RecurrentState(None, None), lambda *_, **__: None)
    current, initial = seen[0][:2]
    assert torch.equal(current, initial)
    for slot in (0, 1):
        inputs = [part if i == slot else part.detach() for i, part in enumerate(seen[0])]
        stage.model.encoder.zero_grad()
        stage.model.predictor(inputs).square().sum().backward(retain_graph=True)
        weight = stage.model.encoder.layers[0].weight
        assert weight.grad.abs().max() > 0


def test_no_gradient_crosses_a_time_step() -> None:
    """Checklist 13: what is carried is constant, and the next loss does not depend on the step that made it."""
    stage = stage_of(ADVERSARIAL)
    batch = batch_of(stage)
    frames = (batch["frames"] * 2 - 1).requires_grad_()
    _, carried = stage.train_time_step(frames, batch, 0, RecurrentState(None, frames[:, 0].detach()), Update(stage))
    assert not carried.state.requires_grad
    assert not carried.frame.requires_grad
    taken: list[Tensor] = []

    def take(name: str, loss: Tensor, clip_grad: float | None = None) -> None:
        if name == stage.name:
            taken.append(torch.autograd.grad(loss, frames, retain_graph=True)[0])

    stage.train_time_step(frames, batch, 3, carried, take)
    used = [t for t in range(frames.shape[1]) if taken[0][:, t].abs().max() > 0]
    assert used == [0, 4]  # h_0 and the target, not the frames in between


def test_a_clip_of_seventeen_frames_gives_sixteen_updates_of_each() -> None:
    """Checklist 14."""
    clips = [square_clip(frames=17, by=(1, 1)) for _ in range(2)]
    stage = make_stage("single_step", changed(ADVERSARIAL, clip__frames=17), clips)
    update = Update(stage)
    terms = stage.step(batch_of(stage), update)
    assert update.names == ["single_step", "frame_discriminator", "pair_discriminator"] * 16
    assert stage.schedule.count == 16
    sums = sum(value.item() for name, value in terms.items() if name not in (*stage.networks, "copy"))
    assert sums == pytest.approx(np.mean([x.item() for x in update.losses[::3]]), rel=1e-4)
    scored = np.mean([x.item() for x in update.losses[2::3]])
    assert terms["pair_discriminator"].item() == pytest.approx(scored, rel=1e-4)


def test_the_carried_state_comes_from_the_weights_after_the_update() -> None:
    """Checklist 14."""
    stage = stage_of(ADVERSARIAL)
    batch = batch_of(stage)
    frames = batch["frames"] * 2 - 1
    with torch.no_grad():
        before = stage.model(gather(stage, batch, 0)).state
    start = RecurrentState(None, frames[:, 0])
    _, carried = stage.train_time_step(frames, batch, 0, start, Update(stage))
    with torch.no_grad():
        after: StepOutputs = stage.model(gather(stage, batch, 0))
    torch.testing.assert_close(carried.state, after.state)
    torch.testing.assert_close(carried.frame, after.generated.frame)
    assert (carried.state - before).abs().max() > 1e-4

    _, later = stage.train_time_step(frames, batch, 1, carried, Update(stage))
    with torch.no_grad():
        own = stage.model(gather(stage, batch, 1, carried.state)).state
    torch.testing.assert_close(later.state, own)  # from its own state, never from a true frame's


def test_all_discriminators_see_the_frame_that_the_generator_side_was_updated_on() -> None:
    """The release's three updates start from one forward pass; real pairs are of true frames, fake ones of made."""
    stage = stage_of(ADVERSARIAL)
    batch = batch_of(stage)
    frames = batch["frames"] * 2 - 1
    shown: list[tuple[Tensor, Tensor]] = []
    pair = stage.discriminators.pair
    pair.register_forward_pre_hook(lambda _, given: shown.append((given[0].detach().clone(), given[1].clone())))
    _, carried = stage.train_time_step(frames, batch, 0, RecurrentState(None, frames[:, 0]), Update(stage))
    (for_generator, first), (real, true), (fake, again) = shown
    assert torch.equal(fake, for_generator)
    assert torch.equal(real, frames[:, 1])
    assert torch.equal(first, frames[:, 0])  # at the first step the current frame is the still
    assert torch.equal(true, frames[:, 0])
    assert torch.equal(again, frames[:, 0])
    shown.clear()
    stage.train_time_step(frames, batch, 1, carried, Update(stage))
    assert torch.equal(shown[0][1], carried.frame)
    assert torch.equal(shown[1][1], frames[:, 1])
    assert torch.equal(shown[2][1], carried.frame)


def test_a_crop_lies_around_the_point_of_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Key-point t, where the object is before the step (release)."""
    stage, asked = stage_of(ADVERSARIAL), list[Tensor]()
    corners = torch.tensor([[3, 5], [7, 2]])
    monkeypatch.setattr(losses, "crop_corners", lambda points, *_: asked.append(points) or corners)
    batch = batch_of(stage, 2)
    assert stage.gather_targets(batch["frames"], batch["points"], 1).corners is corners
    assert torch.equal(asked[0], batch["points"][:, 1])


def test_a_step_is_compared_in_the_frame_of_the_point_that_it_leads_to() -> None:
    stage = make_stage("single_step", changed(PEOPLE, clip__frames=4), [blinking_clip()])
    batch = batch_of(stage, 1)
    shifts = [object_frame(batch["points"], t, stage.config).shift for t in (1, 2)]
    assert not torch.equal(*shifts)
    assert torch.equal(stage.gather_targets(batch["frames"], batch["points"], 1).frame.shift, shifts[1])


def test_each_update_moves_its_own_networks_alone() -> None:
    stage = stage_of(ADVERSARIAL)
    update = Update(stage)
    states: list[dict[str, Tensor]] = [snapshot(stage)]
    update.after = lambda name: states.append(snapshot(stage))
    batch = batch_of(stage)
    frames = batch["frames"] * 2 - 1
    stage.train_time_step(frames, batch, 0, RecurrentState(None, frames[:, 0]), update)
    for i, owner in enumerate(stage.networks):
        moved = {key.split(".")[0] for key in states[0] if not torch.equal(states[i][key], states[i + 1][key])}
        assert moved == {owner}


def test_the_frame_that_d2_reads_next_is_blended_of_the_plate(monkeypatch: pytest.MonkeyPatch) -> None:
    """With G that moves the square over its plate, what is carried on is the true frame."""
    base = changed(ADVERSARIAL, generator__fields=True, generator__object_frame=True)
    stage = make_stage("single_step", base, [square_clip(by=(4, 3), frames=5)])
    batch = batch_of(stage, 1)
    frames = batch["frames"] * 2 - 1
    predict_by_hand(monkeypatch, moves((batch["frames"][0, 0, 0] > 0.5).float()))
    _, carried = stage.train_time_step(frames, batch, 0, RecurrentState(None, frames[:, 0]), lambda *_, **__: None)
    assert (carried.frame - frames[:, 1]).abs().max() < 0.03  # Telea's method rounds
    assert (frames[:, 0] - frames[:, 1]).abs().max() > 1


def snapshot(stage: Any) -> dict[str, Tensor]:
    networks = stage.networks.items()
    return {f"{name}.{key}": p.detach().clone() for name, part in networks for key, p in part.named_parameters()}


def test_a_discriminators_u_is_updated_by_the_pass_on_the_generated_frame_alone() -> None:
    """Sheet 2.9."""
    stage = stage_of(ADVERSARIAL, generator__norm="spectral")
    batch = batch_of(stage)
    targets = stage.gather_targets(batch["frames"] * 2 - 1, batch["points"], 0)
    outputs, network = stage.model(gather(stage, batch, 0)), stage.discriminators.frame
    us = {name: value.clone() for name, value in network.named_buffers()}
    generator_losses(outputs, None, targets, targets.still, stage.discriminators, stage.config)
    assert all(torch.equal(value, us[name]) for name, value in network.named_buffers())
    frame_discriminator_loss(network, outputs, targets)
    once = {name: value.clone() for name, value in network.named_buffers()}
    assert any(not torch.equal(once[name], us[name]) for name in us)
    for name, value in network.named_buffers():
        value.copy_(us[name])
    frame_score(network, outputs.generated.frame.detach(), outputs, targets)  # that pass by itself
    assert all(torch.equal(value, once[name]) for name, value in network.named_buffers())


def test_teacher_forcing_gives_the_true_frames_state_with_gradient() -> None:
    """Checklist 19: from the second step on the current slot holds E1 of the true frame, as never in the paper."""
    stage = stage_of(single_step__teacher_forcing=True)
    batch = batch_of(stage)
    frames = batch["frames"] * 2 - 1
    seen: list[list[Tensor]] = []
    stage.model.predictor.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    update = Update(stage, move=False)
    stage.step(batch, update)
    assert len(seen) == 4  # no second forward pass: nothing of its own is carried on
    for t, given in enumerate(seen):
        torch.testing.assert_close(given[0], stage.model.encoder(frames[:, t]))
        torch.testing.assert_close(given[1], stage.model.encoder(frames[:, 0]))
        assert given[0].requires_grad
    own = stage_of()
    own.model.predictor.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    seen.clear()
    own.step(batch, Update(own, move=False))
    assert [given[0].requires_grad for given in seen[::2]] == [True, False, False, False]


ABLATIONS: dict[str, dict[str, Any]] = {
    "whole": {"stroke__input": "whole"},
    "step": {"stroke__input": "step"},
    "teacher": {"single_step__teacher_forcing": True},
    "no pair": {"losses__pair_gan": 0.0},
    "no perceptual": {"losses__perceptual__weight": 0.0},
    "no autoencoding": {"losses__autoencoding": 0.0},
    "grey": {"stroke__encoding": "grey", "stroke__lookahead": 0},
    "condition": {
        "discriminators__motion_condition": True,
        "discriminators__crop_branch": False,
        "discriminators__pair_sees_step": False,
    },
    "release": {
        "encoder__norm": "instance",
        "generator__norm": "spectral",
        "losses__crop": 1.0,
        "generator__output": "tanh",
    },
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_ablation_takes_a_step_in_which_all_networks_learn(name: str) -> None:
    """Checklist 19."""
    stage = stage_of(changed(ADVERSARIAL, clip__frames=3), **ABLATIONS[name])
    before = snapshot(stage)
    terms = stage.step(batch_of(stage), Update(stage))
    assert all(math.isfinite(value) for value in terms.values())
    after = snapshot(stage)
    assert all((after[key] - before[key]).abs().max() > 0 for key in before if key.endswith("weight"))


# --- learning rates, sheets ----------------------------------------------------------------------------------------
def test_the_releases_rate_falls_by_a_tenth_every_twenty_thousand_updates() -> None:
    """Checklist 16."""
    stage = PRESETS["release"].single_step
    rates = [stage.learning_rate * factor(stage.schedule, n, 1) for n in (0, 19_999, 20_000, 39_999, 40_000)]
    assert rates == pytest.approx([2e-4, 2e-4, 1.8e-4, 1.8e-4, 1.62e-4])
    assert factor(stage.schedule, 1_000_000, 1) == pytest.approx(0.0052, abs=5e-5)
    assert factor(PRESETS["paper"].single_step.schedule, 1_000_000, 1) == 1
    optimizers = stage_of(ADVERSARIAL, single_step__beta1=0.5).optimizers.values()
    assert all(o.param_groups[0]["betas"] == (0.5, 0.999) for o in optimizers)


def test_rates_change_within_a_batch_of_clips_and_survive_a_resume() -> None:
    """Checklist 16: every time step counts, whatever the loop counts."""
    schedule = {"kind": "staircase", "decay": 0.5, "decay_every": 3}
    stage = stage_of(single_step__schedule=schedule, single_step__learning_rate=0.8)
    seen: list[float] = []
    update = Update(stage, move=False)
    update.after = lambda name: seen.append(stage.optimizers[name].param_groups[0]["lr"])
    stage.step(batch_of(stage), update)
    assert seen == pytest.approx([0.8, 0.8, 0.8, 0.4])
    stage.schedule.step()  # the loop's own count changes nothing
    fresh = stage_of(single_step__schedule=schedule, single_step__learning_rate=0.8)
    resumed = fresh.schedulers["updates"]
    assert isinstance(resumed, UpdateSchedule)
    resumed.load_state_dict(stage.schedule.state_dict())
    for _ in range(3):
        resumed.advance()
    assert fresh.optimizers["single_step"].param_groups[0]["lr"] == pytest.approx(0.2)


def test_the_shipped_digits_rates_rise_and_fall_and_the_first_stage_stops_early() -> None:
    first, second = PRESETS["small"].single_step, PRESETS["small"].annealing
    assert [factor(first.schedule, n, 118 * 15) for n in (0, 99)] == pytest.approx([1 / 200, 1 / 2], rel=1e-3)
    assert factor(first.schedule, 118 * 15, 118 * 15) > 0.9  # of 700 batches of clips
    assert factor(second.schedule, 80 * 15, 160 * 15) == pytest.approx(0.02 + 0.98 / 2)
    assert factor(second.schedule, 160 * 15, 160 * 15) == pytest.approx(0.02)


def test_rates_of_the_stages_before_fall_evenly() -> None:
    stage = PRESETS["people"].autoencoder
    found = [stage.learning_rate * factor(stage.schedule, n, 1000) for n in (0, 49, 500, 999)]
    assert found == pytest.approx([1.5e-3 * share for share in (0.02, 0.951, 0.5, 0.02)])


def test_the_preview_has_the_true_frames_above_those_made() -> None:
    stage = stage_of()
    stage.model.train()
    clip = square_clip()
    sheet = rollout_sheet(stage.model, [clip], shown=3, scale=2)
    assert sheet.shape == (128, 192, 3)
    np.testing.assert_array_equal(sheet[:64:2, 128::2], clip.frames[4])
    np.testing.assert_array_equal(sheet[64::2, :64:2], clip.frames[0])
    stage.model.eval()
    made = roll_out(stage.model, clip.frames[0], clip.tracks["points"][:5])
    np.testing.assert_array_equal(sheet[64::2, 128::2], made[4])
    stage.model.train()
    assert list(stage.preview()) == ["rollouts"]
    assert stage.model.decoder.training


# --- does it learn? ------------------------------------------------------------------------------------------------
def dot_clip(name: str, seed: int, frames: int = 5, size: int = 32) -> Clip:
    """A soft dot that goes from one random place to another in even steps."""
    ends = np.random.default_rng(seed).uniform(5, size - 6, (2, 2))
    points = ends[0] + (ends[1] - ends[0]) * np.linspace(0, 1, frames)[:, None]
    y, x = np.mgrid[:size, :size]
    near = np.exp(-((x - points[:, :1, None]) ** 2 + (y - points[:, 1:, None]) ** 2) / 8)
    video = 30 + near[..., None] * np.array([220, 180, 60])
    return Clip(name, video.clip(0, 255).astype(np.uint8), 10.0, {"points": points.astype(np.float32)})


def centre(picture: np.ndarray) -> np.ndarray:
    """The middle of what is bright, (x, y)."""
    bright = np.clip(picture.astype(float).sum(2) - 150, 0, None)
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]]
    return np.array([(bright * x).sum(), (bright * y).sum()]) / max(bright.sum(), 1e-9)


@pytest.mark.slow
def test_it_learns_a_moving_dot_and_two_strokes_take_it_to_two_places() -> None:
    """Checklist 18: 160 updates; the dot ends nearer to its own stroke's end than to any other's."""
    config = changed(
        TINY_STROKES,  # does not warp the still: the networks must move the dot themselves
        encoder__widths=(16, 24, 32),
        encoder__norm="instance",
        predictor__growth=24,
        predictor__bottleneck=24,
        generator__widths=(32, 24, 16),
        losses__autoencoding=0.0,
        single_step__batch=PRESETS["small"].single_step.batch,
        single_step__steps=40,
        single_step__learning_rate=3e-3,
        single_step__schedule__warmup=20,
    )
    stage = make_stage("single_step", config, [dot_clip(f"c{i}", i) for i in range(64)])
    update = Update(stage)
    for batch in loader(stage.dataset, start_step=0, steps=stage.steps, batch=stage.batch):
        terms = stage.step(batch, update)
    assert terms["reconstruction"] < 0.2 * terms["copy"]
    stage.model.eval()
    new = dot_clip("new", 1000)
    start, ends = new.tracks["points"][0], np.array([[7.0, 7.0], [24.0, 24.0], [24.0, 7.0], [7.0, 24.0]])
    for end in ends:
        stroke = start + (end - start) * np.linspace(0, 1, 5)[:, None]
        found = centre(roll_out(stage.model, new.frames[0], stroke)[-1])
        distances = np.linalg.norm(ends - found, axis=1)
        assert np.argmin(distances) == np.argmin(np.abs(ends - end).sum(1))
        assert distances.min() < 3
