"""How strokes learns: windows with points, one step at a time, rates, a dot (checklist 12 to 14, 16, 18, 19)."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stillmotion.data.augment import Augmentation
from stillmotion.data.clip import Clip
from stillmotion.data.sampling import WindowDataset, loader
from stillmotion.errors import StillmotionError
from stillmotion.systems.strokes.animating import Strokes
from stillmotion.systems.strokes.config import PRESETS
from stillmotion.systems.strokes.networks import StrokesNetworks
from stillmotion.systems.strokes.objectives import (
    Moment,
    foresee,
    look,
    make,
)
from stillmotion.systems.strokes.rates import UpdateRates, early, rate_factor
from stillmotion.systems.strokes.sheets import roll_out, rollout_sheet
from stillmotion.systems.strokes.training import Carried, StrokeStage, stages
from stillmotion.systems.strokes.windows import usable, window_points, with_points
from strokes_tools import TINY_STROKES
from strokes_training_tools import JUDGED, Update, batch_of, square_clip, stage_of

# --- clips and windows ---------------------------------------------------------------------------------------------


def test_windows_never_hold_an_unknown_point() -> None:
    clip = square_clip(frames=9)
    clip.tracks["points"][[0, 6]] = np.nan  # frames 1 to 5 are five in a row
    config = replace(TINY_STROKES, frames=4)
    dataset = StrokeStage(StrokesNetworks(config), config, [clip]).dataset
    firsts = {int(dataset[n]["points"][0, 0]) for n in range(40)}
    assert firsts == {int(clip.tracks["points"][t, 0]) for t in (1, 2)}
    assert all(torch.isfinite(dataset[n]["points"]).all() for n in range(40))


def test_grey_coding_also_skips_points_outside_and_soft_coding_does_not() -> None:
    clip = square_clip(frames=6)
    clip.tracks["points"][:, 0] = [-1, -0.6, -0.5, 31.4, 31.5, 40]
    grey = replace(TINY_STROKES, coding="grey", stroke_window=0)
    assert usable(clip, grey).tolist() == [False, False, True, True, False, False]
    assert usable(clip, TINY_STROKES).all()
    assert with_points([clip], replace(grey, frames=2)) == [clip]
    assert with_points([clip], replace(grey, frames=3)) == []
    assert with_points([replace_tracks(clip)], TINY_STROKES) == []


def replace_tracks(clip: Clip) -> Clip:
    return Clip(clip.name, clip.frames, clip.fps, {})


def test_points_follow_the_pixels_and_a_sample_depends_on_its_number_alone() -> None:
    """Under mirroring and reversal the point is still the centre of the square."""
    clips = [square_clip(f"c{i}", seed=i) for i in range(3)]
    changes = Augmentation(horizontal_flip=0.5, time_flip=0.5, exclusive_flips=False)
    dataset = WindowDataset(clips, 3, 4, changes, extra=partial(window_points, config=TINY_STROKES))
    seen = set()
    for n in range(24):
        sample, again = dataset[n], dataset[n]
        assert torch.equal(sample["frames"], again["frames"])
        assert torch.equal(sample["points"], again["points"])
        bright = sample["frames"][:, 0] > 0.5
        for frame, point in zip(bright, sample["points"], strict=True):
            rows, columns = frame.nonzero(as_tuple=True)
            assert point.tolist() == pytest.approx([columns.float().mean().item(), rows.float().mean().item()])
        seen.add(tuple((sample["points"][1] - sample["points"][0]).tolist()))
    assert seen == {(2, 1), (-2, 1), (-2, -1), (2, -1)}


def test_frames_may_be_taken_apart() -> None:
    sample = stage_of(frame_step=2, frames=4).dataset[0]
    assert (sample["points"][1:] - sample["points"][:-1]).tolist() == [[4, 2]] * 3


@pytest.mark.parametrize(
    ("changes", "clips", "only", "words"),
    [
        ({}, [], (), "no clips to train on"),
        ({"size": 64}, None, (), "clips are 32 x 32 pixels where the configuration says size 64"),
        ({"frames": 9}, None, (), "No clip has 9 frames in a row with a point each.*--tracks points"),
        ({"augmentation": "wild"}, None, (), "no augmentation 'wild'"),
        ({}, None, ("motion",), "no stage 'motion'"),
        ({"perceptual_weight": 1.0, "perceptual_network": "vgg19"}, None, (), "needs the weights of vgg19"),
    ],
)
def test_what_cannot_be_trained_is_told(changes: Any, clips: Any, only: Any, words: str) -> None:
    system = Strokes.build(replace(TINY_STROKES, **changes))
    with pytest.raises(StillmotionError, match=words):
        stages(system, [square_clip()] if clips is None else clips, (), only)


def test_there_is_one_stage_with_three_optimisers_and_only_what_animates_is_averaged() -> None:
    system = Strokes.build(JUDGED)
    (stage,) = stages(system, [square_clip()])
    assert set(stage.optimizers) == {"generator", "frame_discriminator", "pair_discriminator"}
    assert stage.ema == {"maker": stage.networks["maker"]}
    owned = [id(p) for o in stage.optimizers.values() for g in o.param_groups for p in g["params"]]
    assert sorted(owned) == sorted(id(p) for p in system.networks.parameters())
    assert set(stage_of().optimizers) == {"generator"}


# --- one step at a time --------------------------------------------------------------------------------------------


def test_the_first_state_is_h0_and_e1_learns_through_both_slots() -> None:
    """Checklist 12."""
    stage = stage_of()
    batch = batch_of(stage)
    moment = look_at(stage, batch, 0)
    seen: list[list[Tensor]] = []
    stage.model.predictor.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    make(stage.model, moment, None)
    current, initial = seen[0][:2]
    assert torch.equal(current, initial)
    for slot in (0, 1):
        inputs = [part if i == slot else part.detach() for i, part in enumerate(seen[0])]
        stage.model.encoder.zero_grad()
        stage.model.predictor(inputs).square().sum().backward(retain_graph=True)
        weight = stage.model.encoder.layers[0].weight
        assert weight.grad is not None
        assert weight.grad.abs().max() > 0


def look_at(stage: StrokeStage, batch: dict[str, Any], t: int) -> Moment:
    return look(batch["frames"] * 2 - 1, batch["points"], t, stage.config, stage.model, stage.generators["crops"])


def test_no_gradient_crosses_a_time_step() -> None:
    """Checklist 13: what is carried is constant, and the next loss does not depend on the step that made it."""
    stage = stage_of(JUDGED)
    batch = batch_of(stage)
    frames = (batch["frames"] * 2 - 1).requires_grad_()
    _, carried = stage.learn(frames, batch["points"], 0, Carried(None, frames[:, 0].detach()), Update(stage))
    assert carried.state is not None
    assert carried.frame is not None
    assert not carried.state.requires_grad
    assert not carried.frame.requires_grad
    taken: list[Tensor] = []

    def take(name: str, loss: Tensor, clip_grad: float | None = None) -> None:
        if name == "generator":
            taken.append(torch.autograd.grad(loss, frames, retain_graph=True)[0])

    stage.learn(frames, batch["points"], 3, carried, take)
    used = [t for t in range(frames.shape[1]) if taken[0][:, t].abs().max() > 0]
    assert used == [0, 4]  # h_0 and the target, not the frames in between


def test_a_clip_of_seventeen_frames_gives_sixteen_updates_of_each() -> None:
    """Checklist 14."""
    torch.manual_seed(0)
    config = replace(JUDGED, frames=17)
    stage = StrokeStage(StrokesNetworks(config), config, [square_clip(frames=17, by=(1, 1)) for _ in range(2)])
    update = Update(stage)
    terms = stage.step(batch_of(stage), update)
    assert update.names == ["generator", "frame_discriminator", "pair_discriminator"] * 16
    assert stage.rates.counted == 16
    sums = sum(value.item() for name, value in terms.items() if name not in (*stage.networks, "standing"))
    assert sums == pytest.approx(np.mean([x.item() for x in update.losses[::3]]), rel=1e-4)
    judged = np.mean([x.item() for x in update.losses[2::3]])
    assert terms["pair_discriminator"].item() == pytest.approx(judged, rel=1e-4)


def test_the_carried_state_comes_from_the_weights_after_the_update() -> None:
    """Checklist 14."""
    stage = stage_of(JUDGED)
    batch = batch_of(stage)
    frames = batch["frames"] * 2 - 1
    moment = look_at(stage, batch, 0)
    with torch.no_grad():
        before = foresee(stage.model, moment, None)[0]
    _, carried = stage.learn(frames, batch["points"], 0, Carried(None, frames[:, 0]), Update(stage))
    with torch.no_grad():
        after = foresee(stage.model, moment, None)[0]
        frame = stage.model.decoder(after, moment.still).frame
    assert carried.state is not None
    assert carried.frame is not None
    torch.testing.assert_close(carried.state, after)
    torch.testing.assert_close(carried.frame, frame)
    assert (carried.state - before).abs().max() > 1e-4

    _, later = stage.learn(frames, batch["points"], 1, carried, Update(stage))
    with torch.no_grad():
        own = foresee(stage.model, look_at(stage, batch, 1), carried.state)[0]
    assert later.state is not None
    torch.testing.assert_close(later.state, own)  # from its own state, never from a true frame's


def test_all_judges_see_the_frame_that_the_generator_side_was_updated_on() -> None:
    """The release's three updates start from one forward pass; real pairs are of true frames, fake ones of made."""
    stage = stage_of(JUDGED)
    batch = batch_of(stage)
    frames = batch["frames"] * 2 - 1
    shown: list[tuple[Tensor, Tensor]] = []
    judge = stage.model.pair_discriminator
    assert judge is not None
    judge.register_forward_pre_hook(lambda _, given: shown.append((given[0].detach().clone(), given[1].clone())))
    _, carried = stage.learn(frames, batch["points"], 0, Carried(None, frames[:, 0]), Update(stage))
    (for_generator, first), (real, true), (fake, again) = shown
    assert torch.equal(fake, for_generator)
    assert torch.equal(real, frames[:, 1])
    assert torch.equal(first, frames[:, 0])  # at the first step the current frame is the still
    assert torch.equal(true, frames[:, 0])
    assert torch.equal(again, frames[:, 0])
    shown.clear()
    stage.learn(frames, batch["points"], 1, carried, Update(stage))
    assert torch.equal(shown[0][1], carried.frame)
    assert torch.equal(shown[1][1], frames[:, 1])
    assert torch.equal(shown[2][1], carried.frame)


def test_each_update_moves_its_own_networks_alone() -> None:
    stage = stage_of(JUDGED)
    update = Update(stage)
    states: list[dict[str, Tensor]] = [snapshot(stage)]
    update.after = lambda name: states.append(snapshot(stage))
    batch = batch_of(stage)
    frames = batch["frames"] * 2 - 1
    stage.learn(frames, batch["points"], 0, Carried(None, frames[:, 0]), update)
    for i, owner in enumerate(stage.networks):
        moved = {key.split(".")[0] for key in states[0] if not torch.equal(states[i][key], states[i + 1][key])}
        assert moved == {owner}


def snapshot(stage: StrokeStage) -> dict[str, Tensor]:
    networks = stage.networks.items()
    return {f"{name}.{key}": p.detach().clone() for name, part in networks for key, p in part.named_parameters()}


def test_judges_remember_u_from_the_fake_pass_alone_and_the_generator_from_each() -> None:
    """Sheet 2.9: per time step one update of each judge's u, and in G one for each of its three passes."""
    stage = stage_of(JUDGED, generator_norm="spectral")
    batch = batch_of(stage)
    moment = look_at(stage, batch, 0)
    stage.model.train()
    made = make(stage.model, moment, None)
    judge = stage.model.frame_discriminator
    assert judge is not None
    us = {name: value.clone() for name, value in judge.named_buffers()}
    stage.objectives.generator(made, moment, moment.still)
    assert all(torch.equal(value, us[name]) for name, value in judge.named_buffers())
    stage.objectives.frame_discriminator(made, moment)
    once = {name: value.clone() for name, value in judge.named_buffers()}
    assert any(not torch.equal(once[name], us[name]) for name in us)
    for name, value in judge.named_buffers():
        value.copy_(us[name])
    stage.objectives.judge_frame(made.drawn.frame.detach(), made, moment)  # the fake pass by itself
    assert all(torch.equal(value, once[name]) for name, value in judge.named_buffers())


def test_teacher_forcing_gives_the_true_frames_state_with_gradient() -> None:
    """Checklist 19: from the second step on the current slot holds E1 of the true frame, as never in the paper."""
    stage = stage_of(teacher_forcing=True)
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
    "whole": {"motion_input": "whole"},
    "step": {"motion_input": "step"},
    "teacher": {"teacher_forcing": True},
    "no pair": {"use_pair_discriminator": False},
    "no perceptual": {"perceptual_weight": 0.0},
    "no autoencode": {"autoencode_weight": 0.0},
    "grey": {"coding": "grey", "stroke_window": 0},
    "features": {"feature_weight": 1.0},
    "condition": {"motion_condition": True, "crop_branch": False, "pair_sees_step": False},
    "release": {"encoder_norm": "instance", "generator_norm": "spectral", "crop_weight": 1.0, "colours": "tanh"},
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_ablation_takes_a_step_in_which_all_networks_learn(name: str) -> None:
    """Checklist 19."""
    stage = stage_of(replace(JUDGED, frames=3), **ABLATIONS[name])
    before = snapshot(stage)
    terms = stage.step(batch_of(stage), Update(stage))
    assert all(math.isfinite(value) for value in terms.values())
    after = snapshot(stage)
    assert all((after[key] - before[key]).abs().max() > 0 for key in before if key.endswith("weight"))


# --- learning rates, sheets ----------------------------------------------------------------------------------------


def test_the_releases_rate_falls_by_a_tenth_every_twenty_thousand_updates() -> None:
    """Checklist 16."""
    config = PRESETS["release"]
    rates = [config.learning_rate * rate_factor(n, config) for n in (0, 19_999, 20_000, 39_999, 40_000)]
    assert rates == pytest.approx([2e-4, 2e-4, 1.8e-4, 1.8e-4, 1.62e-4])
    assert rate_factor(1_000_000, config) == pytest.approx(0.0052, abs=5e-5)
    assert rate_factor(1_000_000, PRESETS["paper"]) == 1
    assert all(o.param_groups[0]["betas"] == (0.5, 0.999) for o in stage_of(JUDGED, beta1=0.5).optimizers.values())


def test_rates_change_within_a_batch_of_clips_and_survive_a_resume() -> None:
    """Checklist 16: every time step counts, whatever the loop counts."""
    stage = stage_of(schedule="staircase", decay=0.5, decay_every=3, learning_rate=0.8)
    seen: list[float] = []
    update = Update(stage, move=False)
    update.after = lambda name: seen.append(stage.optimizers[name].param_groups[0]["lr"])
    stage.step(batch_of(stage), update)
    assert seen == pytest.approx([0.8, 0.8, 0.8, 0.4])
    stage.rates.step()  # the loop's own count changes nothing
    resumed = UpdateRates(stage.optimizers, stage.config)
    resumed.load_state_dict(stage.rates.state_dict())
    resumed.advance()
    resumed.advance()
    resumed.advance()
    assert stage.optimizers["generator"].param_groups[0]["lr"] == pytest.approx(0.2)


def test_the_small_presets_rate_rises_and_falls() -> None:
    config = replace(TINY_STROKES, schedule="cosine", warmup=4, steps=100)  # 400 updates
    assert [rate_factor(n, config) for n in (0, 1)] == pytest.approx([0.25, 0.5], rel=1e-3)
    assert rate_factor(200, config) == pytest.approx(0.02 + 0.98 / 2)
    assert rate_factor(400, config) == pytest.approx(0.02)


def test_the_early_stages_have_a_rate_of_their_own_that_falls_evenly():
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer, scheduler = early([weight], 1e-3, 1000)
    factor = scheduler.lr_lambdas[0]
    assert [factor(n) for n in (0, 49, 500, 999)] == pytest.approx([0.02, 0.951, 0.5, 0.02])
    assert optimizer.param_groups[0]["initial_lr"] == 1e-3


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
    config = replace(
        PRESETS["small"],
        size=32,
        frames=5,
        stroke_window=4,
        encoder_widths=(16, 24),
        encoder_norm="instance",
        state=32,
        blocks=2,
        units=2,
        growth=24,
        bottleneck=24,
        generator_widths=(32, 24, 16),
        carry=False,  # the networks must move the dot themselves
        autoencode_weight=0.0,
        painted_weight=0.0,
        steps=40,
        learning_rate=3e-3,
        warmup=20,
    )
    torch.manual_seed(0)
    stage = StrokeStage(StrokesNetworks(config), config, [dot_clip(f"c{i}", i) for i in range(64)])
    stage.model.train()
    update = Update(stage)
    for batch in loader(stage.dataset, start_step=0, steps=config.steps, batch=config.batch):
        terms = stage.step(batch, update)
    assert terms["reconstruction"] < 0.2 * terms["standing"]
    stage.model.eval()
    new = dot_clip("new", 1000)
    start, ends = new.tracks["points"][0], np.array([[7.0, 7.0], [24.0, 24.0], [24.0, 7.0], [7.0, 24.0]])
    for end in ends:
        stroke = start + (end - start) * np.linspace(0, 1, 5)[:, None]
        found = centre(roll_out(stage.model, new.frames[0], stroke)[-1])
        distances = np.linalg.norm(ends - found, axis=1)
        assert np.argmin(distances) == np.argmin(np.abs(ends - end).sum(1))
        assert distances.min() < 3
