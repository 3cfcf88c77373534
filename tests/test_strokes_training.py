"""How strokes learns: windows with points, every loss by hand, one step at a time (checklist 12 to 16, 18, 19)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stillmotion import losses
from stillmotion.data.augment import Augmentation
from stillmotion.data.clip import Clip
from stillmotion.data.sampling import WindowDataset, loader
from stillmotion.errors import StillmotionError
from stillmotion.files import save_tensors
from stillmotion.nn import vgg
from stillmotion.systems.strokes.animating import Strokes
from stillmotion.systems.strokes.config import PRESETS, StrokesConfig
from stillmotion.systems.strokes.networks import Drawn, StrokesNetworks
from stillmotion.systems.strokes.objectives import (
    Made,
    Moment,
    Objectives,
    crop_corners,
    crops,
    foresee,
    look,
    make,
    perceiver,
    to_perceiver,
)
from stillmotion.systems.strokes.sheets import roll_out, rollout_sheet
from stillmotion.systems.strokes.training import Carried, StrokeStage, UpdateRates, rate_factor, stages
from stillmotion.systems.strokes.windows import usable, window_points, with_points
from strokes_tools import TINY_STROKES

JUDGED = replace(
    TINY_STROKES,
    gan_weight=1.0,
    pair_gan_weight=1.0,
    use_pair_discriminator=True,
    crop_branch=True,
    discriminator_width=4,
)
"""With both discriminators, as the release has them."""


def square_clip(
    name: str = "c", frames: int = 8, size: int = 32, seed: int = 0, by: tuple[int, int] = (2, 1)
) -> Clip:
    """A bright square of 5 pixels that moves by `by` pixels per frame; its centre is the point."""
    corner = np.random.default_rng(seed).integers(2, 9, 2)
    video, points = np.full((frames, size, size, 3), 30, np.uint8), np.zeros((frames, 2), np.float32)
    for t in range(frames):
        x, y = corner + np.array(by) * t
        video[t, y : y + 5, x : x + 5] = (240, 200, 60)
        points[t] = (x + 2, y + 2)
    return Clip(name, video, 10.0, {"points": points})


def stage_of(config: StrokesConfig = TINY_STROKES, clips: int = 2, **changes: Any) -> StrokeStage:
    torch.manual_seed(0)
    config = replace(config, **changes)
    made = StrokeStage(StrokesNetworks(config), config, [square_clip(f"c{i}", seed=i) for i in range(clips)])
    made.generators["crops"].manual_seed(0)
    return made


def batch_of(stage: StrokeStage) -> dict[str, Any]:
    return next(iter(loader(stage.dataset, start_step=0, steps=1, batch=stage.batch)))


class Update:
    """The loop's `update` for one process; notes what it was called with."""

    def __init__(self, stage: StrokeStage, move: bool = True):
        self.stage, self.move, self.names, self.losses = stage, move, [], []
        self.after: Callable[[str], None] = lambda name: None

    def __call__(self, name: str, loss: Tensor, clip_grad: float | None = None) -> None:
        parameters = [p for group in self.stage.optimizers[name].param_groups for p in group["params"]]
        for network in self.stage.networks.values():
            network.zero_grad()
        loss.backward(inputs=parameters)
        if clip_grad is not None:
            nn.utils.clip_grad_norm_(parameters, clip_grad)
        self.names.append(name)
        self.losses.append(loss.detach())
        if self.move:
            self.stage.optimizers[name].step()
        self.after(name)


def flat(value: float, size: int = 2) -> Tensor:
    return torch.full((1, 3, size, size), value)


def moment_of(size: int = 2, truth: float = 0.0) -> Moment:
    """A moment whose still and current frame are 0 and whose truth is flat."""
    zero, nothing = flat(0.0, size), torch.zeros(())
    return Moment(0, zero, zero, flat(truth, size), motion=[], step=nothing, corners=torch.zeros(1, 2).long())


def made_of(frame: float, size: int = 2, painted: float = 0.0, rebuilt: float | None = None) -> Made:
    drawn = Drawn(flat(frame, size), flat(painted, size), None)
    again = None if rebuilt is None else flat(rebuilt, size)
    return Made(torch.zeros(1, 1, 1, 1), drawn, again, torch.zeros(1, 2, 1, 1))


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
    dataset = WindowDataset(clips, 3, 4, changes, extra=window_points)
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


# --- losses --------------------------------------------------------------------------------------------------------


def objectives(**weights: float | str) -> Objectives:
    """All weights are zero but those given; the network behind them does nothing."""
    zero = {name: 0.0 for name in vars(TINY_STROKES) if name.endswith("_weight")}
    config = replace(TINY_STROKES, **{**zero, "moving_focus": 0.0, "distance": "square", **weights})
    return Objectives(StrokesNetworks(config), config)


def test_reconstruction_terms_by_hand() -> None:
    """Checklist 15: frame 0.5, truth -0.5, auto-encoded 0.25, painted 0; every mean is over equal pixels."""
    moment, made = moment_of(truth=-0.5), made_of(0.5, painted=0.0, rebuilt=0.25)
    terms = objectives(reconstruction_weight=30.0, autoencode_weight=20.0, painted_weight=2.0).generator(
        made, moment, None
    )
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(
        {"reconstruction": 30 * 1.0, "autoencode": 20 * 0.75**2, "painted": 2 * 0.25}
    )
    literal = objectives(autoencode_weight=20.0, autoencode_target="made").generator(made, moment, None)
    assert literal["autoencode"].item() == pytest.approx(20 * 0.25**2)
    absolute = objectives(reconstruction_weight=30.0, distance="absolute").generator(made_of(0.25), moment, None)
    assert absolute["reconstruction"].item() == pytest.approx(30 * 0.75)


def test_what_differs_from_the_still_counts_more() -> None:
    """Half of the pixels move: weights 1 and 1 + 3, over their mean 2.5. The frame is wrong by 1 in a moving one."""
    both = objectives(reconstruction_weight=1.0, moving_focus=3.0)
    truth, frame = flat(0.0), flat(0.0)
    truth[..., 0] = 1.0  # the still is 0: the left column moved
    frame[..., 0] = truth[..., 0]
    frame[..., 0, 0] = 0.0
    moment = moment_of()._replace(truth=truth)
    drawn = Drawn(frame, frame, None)
    loss = both.generator(made_of(0)._replace(drawn=drawn), moment, None)["reconstruction"]
    assert loss.item() == pytest.approx((4 / 2.5) / 4)
    assert both.standing(moment).item() == pytest.approx(2 * (4 / 2.5) / 4)


def test_log_losses_by_hand() -> None:
    """Checklist 15: with a score of 0 everything is log 2; the generator's form does not saturate."""
    zero, score = torch.zeros(2, 1), torch.tensor([[math.log(3)]])  # s(log 3) = 3/4
    assert losses.log_discriminator(zero, zero).item() == pytest.approx(2 * math.log(2))
    assert losses.log_discriminator(score, zero).item() == pytest.approx(-math.log(3 / 4) + math.log(2))
    assert losses.log_discriminator(zero, score).item() == pytest.approx(math.log(2) - math.log(1 / 4))
    assert losses.log_generator(score).item() == pytest.approx(-math.log(3 / 4))


class Scored(nn.Module):
    """A judge whose score is the mean of the first picture it is shown."""

    def forward(self, frame: Tensor, *others: Any) -> Any:
        score = frame.mean(dim=(1, 2, 3))[:, None]
        return [frame * 2, score] if len(others) == 2 and others[0] is None else score


def test_judges_terms_by_hand() -> None:
    """Checklist 15: frame 1, truth -1, weights 2 and 3; D1's only map is twice the frame."""
    mine = objectives(gan_weight=2.0, pair_gan_weight=3.0, feature_weight=0.5)
    mine.networks.frame_discriminator = Scored()  # type: ignore[assignment]
    mine.networks.pair_discriminator = Scored()  # type: ignore[assignment]
    made, moment = made_of(1.0), moment_of(truth=-1.0)
    soft = math.log(1 + math.exp(-1))  # -log s(1)
    terms = mine.generator(made, moment, moment.still)
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(
        {"gan": 2 * soft, "features": 0.5 * 4, "pair_gan": 3 * soft}
    )
    wrong = 2 * math.log(1 + math.exp(1))  # real judged -1, fake judged 1: -log s(-1), twice
    assert mine.frame_discriminator(made, moment).item() == pytest.approx(wrong)
    assert mine.pair_discriminator(made, moment, moment.still).item() == pytest.approx(wrong)


@pytest.mark.parametrize(
    ("preset", "weights"),
    [
        ("paper", {"reconstruction": 20, "autoencode": 20, "crop": 0, "gan": 1, "pair_gan": 1, "perceptual": 10}),
        ("release", {"reconstruction": 30, "autoencode": 20, "crop": 50, "gan": 1, "pair_gan": 1, "perceptual": 10}),
    ],
)
def test_presets_have_the_sheets_weights(preset: str, weights: dict[str, float]) -> None:
    """Checklist 15."""
    config = PRESETS[preset]
    assert {name: getattr(config, f"{name}_weight") for name in weights} == weights
    assert config.perceptual_layers == (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
    assert (config.perceptual_distance, config.perceptual_region) == (
        ("square", "frame") if preset == "paper" else ("absolute", "crop")
    )
    assert config.distance == "square"
    assert (config.crop_branch, config.pair_sees_step, config.motion_condition) == (
        (False, False, True) if preset == "paper" else (True, True, False)
    )
    assert (config.learning_rate, config.beta1, config.frames, config.batch) == (2e-4, 0.5, 17, 4)


# --- crops ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["point", "release"])
def test_crops_are_half_the_side_around_the_point_and_inside(place: Any) -> None:
    """Sheet 4.3, at 256: the centre is clamped to [64, 192], and one coordinate is shifted by -64 to 64."""
    config = replace(PRESETS["release"], crop_place=place)
    point = torch.tensor([[100.0, 120.0]])
    corners = crop_corners(point.expand(400, 2), config, torch.Generator().manual_seed(0))
    x, y = corners.T
    # As in the release: x is the row's number plus 32, y the column's; else x and y are the point's own.
    centre = (120 + 32, 100 + 32) if place == "release" else (100, 120)
    assert (y == centre[1] - 64).all()
    assert int(x.min()) == max(centre[0] - 64, 64) - 64
    assert int(x.max()) == min(centre[0] + 64, 192) - 64
    assert len(x.unique()) > 60
    far = crop_corners(torch.tensor([[-50.0, 900.0]]), config, torch.Generator().manual_seed(0))
    assert sorted(far[0].tolist()) == [0, 128]


def test_a_crop_is_the_window_that_begins_at_x_y() -> None:
    pictures = torch.arange(2 * 16.0).view(2, 1, 4, 4)
    cut = crops(pictures, torch.tensor([[2, 1], [0, 2]]))
    assert cut[:, 0].tolist() == [[[6, 7], [10, 11]], [[24, 25], [28, 29]]]


def test_the_crop_loss_sees_the_crop_alone_on_both_sides() -> None:
    mine = objectives(crop_weight=50.0)
    frame = flat(0.0, 4)
    frame[..., 2:, 2:] = 0.5
    made = made_of(0, 4)._replace(drawn=Drawn(frame, frame, None))
    for corner, loss in (((0, 0), 0.0), ((2, 2), 50 * 0.25), ((1, 2), 50 * 0.125)):
        moment = moment_of(4)._replace(corners=torch.tensor([corner]))
        assert mine.generator(made, moment, None)["crop"].item() == pytest.approx(loss)


# --- the perceptual network ----------------------------------------------------------------------------------------


@pytest.fixture
def narrow_vgg(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same layers with few channels."""
    monkeypatch.setattr(vgg, "_WIDTHS", (2, 3, 4, 5, 6))


@pytest.mark.parametrize(("depth", "parameters", "last"), [(16, 14_714_688, 28), (19, 20_024_384, 34)])
def test_vgg_has_torchvisions_names_and_counts(depth: int, parameters: int, last: int) -> None:
    with torch.device("meta"):
        network = vgg.VGG(depth)
    assert sum(p.numel() for p in network.parameters()) == parameters
    names = [name for name, _ in network.named_parameters()]
    assert names[:4] == ["features.0.weight", "features.0.bias", "features.2.weight", "features.2.bias"]
    assert names[-1] == f"features.{last}.bias"
    assert [i + 1 for i in network.taken] == [4, 9, 16, 23, 30] if depth == 16 else [4, 9, 18, 27, 36]


@pytest.mark.usefixtures("narrow_vgg")
def test_vgg_normalises_as_imagenet_and_gives_maps_after_relu() -> None:
    network = vgg.random_vgg()
    picture = torch.tensor([0.485, 0.456, 0.406])[:, None, None].expand(1, 3, 16, 16)
    assert all(m.abs().max() == 0 for m in network(picture))  # zeros in, no biases
    maps = network(torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    assert [m.shape[1] for m in maps] == [2, 3, 4, 5, 6]
    assert [m.shape[2] for m in maps] == [16, 8, 4, 2, 1]
    assert all(m.min() >= 0 for m in maps)
    again = vgg.random_vgg()
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))


class Seer(nn.Module):
    """A perceptual network of five maps, each the picture itself."""

    def forward(self, pictures: Tensor) -> list[Tensor]:
        return [pictures] * 5


@pytest.mark.usefixtures("narrow_vgg")
@pytest.mark.parametrize(
    ("how", "expected"),
    [
        # Values 0.5 and -0.5 on [-1, 1] are 0.75 and 0.25 on [0, 1]; the layer weights sum to 31/32.
        ({"perceptual_distance": "square", "perceptual_input": "scaled"}, 10 * 31 / 32 * 0.25),
        ({"perceptual_distance": "absolute", "perceptual_input": "scaled"}, 10 * 31 / 32 * 0.5),
        ({"perceptual_distance": "absolute", "perceptual_input": "release"}, 10 * 31 / 32 / 255),
    ],
)
def test_the_perceptual_loss_by_hand(how: dict[str, Any], expected: float) -> None:
    """Checklist 15."""
    mine = objectives(perceptual_weight=10.0, perceptual_network="random-vgg16", perceptual_region="frame", **how)
    mine.perceiver = Seer()
    loss = mine.generator(made_of(0.5), moment_of(truth=-0.5), None)["perceptual"]
    assert loss.item() == pytest.approx(expected)


@pytest.mark.usefixtures("narrow_vgg")
def test_the_perceptual_loss_may_see_the_crop_alone() -> None:
    seen: list[Tensor] = []
    mine = objectives(perceptual_weight=1.0, perceptual_network="random-vgg16", perceptual_region="crop")
    mine.perceiver = Seer()
    mine.perceiver.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    mine.generator(made_of(0.5, 4), moment_of(4), None)
    assert [tuple(picture.shape) for picture in seen] == [(1, 3, 2, 2)] * 2


def test_the_releases_input_is_as_faint_as_the_sheet_says() -> None:
    """Means of 0 to 255 subtracted from values in [-1, 1]: a full step from -1 to 1 is 2 of 255."""
    step = to_perceiver(torch.tensor([-1.0, 1.0]), PRESETS["release"]).diff().item()
    assert step == pytest.approx(2 / 255)
    assert to_perceiver(torch.tensor([-1.0, 1.0]), PRESETS["paper"]).tolist() == [0, 1]


@pytest.mark.usefixtures("narrow_vgg")
def test_vgg_weights_are_checked_by_their_digest_and_their_names(tmp_path: Path) -> None:
    file = tmp_path / "vgg16.safetensors"
    weights = vgg.random_vgg(7).state_dict()
    save_tensors(file, {**weights, "classifier.0.weight": torch.zeros(2)})
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    config = replace(PRESETS["paper"], perceptual_weights=f"{file}@{digest}")
    read = perceiver(config)
    assert not any(p.requires_grad for p in read.parameters())
    assert torch.equal(read.state_dict()["features.28.weight"], weights["features.28.weight"])
    with pytest.raises(StillmotionError, match="SHA-256"):
        perceiver(replace(config, perceptual_weights=f"{file}@{'0' * 64}"))
    with pytest.raises(StillmotionError, match="lacks 'features"):
        perceiver(replace(config, perceptual_network="vgg19"))
    with pytest.raises(StillmotionError, match="random-vgg16"):
        perceiver(replace(config, perceptual_weights=""))


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
