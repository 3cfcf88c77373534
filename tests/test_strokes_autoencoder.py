"""The stage `autoencoder`: E1 and G on single frames; and which stages are run."""

from typing import Any

import numpy as np
import pytest
import torch

from refusals import refuses
from stillmotion.systems.strokes.animating import Strokes
from stillmotion.systems.strokes.data import mask_background
from stillmotion.systems.strokes.networks import StrokesNetworks
from stillmotion.systems.strokes.object_frame import object_frame
from stillmotion.systems.strokes.training import stages
from strokes_tools import TINY_STROKES, changed
from strokes_training_tools import (
    ADVERSARIAL,
    PEOPLE,
    batch_of,
    blinking_clip,
    changed_parts,
    copied,
    make_stage,
    square_clip,
    train,
)


def test_a_pair_is_the_steps_between_its_frames_in_one() -> None:
    """The object's frame of reference and the view are those of the step that ends at the frame."""
    torch.manual_seed(0)
    model = StrokesNetworks(PEOPLE)
    frames = torch.rand(2, 4, 3, 16, 16) * 2 - 1
    points = 4 + torch.rand(2, 4, 2) * 5
    pair = points[:, [0, 3]]
    assert torch.equal(model.align(frames[:, 3], pair, 1), model.align(frames[:, 3], points, 3))
    assert torch.equal(model.align(frames[:, 0], pair, 0), model.align(frames[:, 0], points, 0))
    assert torch.equal(object_frame(pair, 1, PEOPLE).shift, object_frame(points, 3, PEOPLE).shift)


def test_noise_is_added_to_what_g_is_given_and_large_codes_cost() -> None:
    config = changed(PEOPLE, autoencoder__latent_noise_std=0.5, autoencoder__latent_l2_weight=3.0)
    stage = make_stage("autoencoder", config, [blinking_clip()])
    code = torch.full((64, 16, 4, 4), 2.0)
    noisy = stage.add_noise(code)
    assert noisy.mean().item() == pytest.approx(2.0, abs=0.02)
    assert noisy.std().item() == pytest.approx(0.5, abs=0.02)
    assert not torch.equal(stage.add_noise(code), noisy)
    batch = batch_of(stage, 4)
    terms = stage.step(batch, lambda name, loss, clip_grad=None: None)
    codes = stage.model.encode(batch["driving"] * 2 - 1, batch["points"], 1)
    torch.testing.assert_close(terms["latent_l2"], 3 * codes.square().mean().detach())


def test_e1_is_shown_what_moves_and_g_must_generate_the_whole_frame() -> None:
    """With `mask_background` the code is that of the object on grey; the still is seen whole."""
    config = changed(PEOPLE, clip__mask_background=True, autoencoder__latent_l2_weight=1.0)
    stage = make_stage("autoencoder", config, [blinking_clip(mask=True)])
    batch = batch_of(stage, 4)
    background = (batch["driving"] * 255).round() == 90
    shown = mask_background(batch["driving"], batch["masks"][:, 1])
    assert (shown[background] == 0.5).all()
    torch.testing.assert_close(shown[~background], batch["driving"][~background])
    terms = stage.step(batch, lambda name, loss, clip_grad=None: None)
    codes = stage.model.encode(shown * 2 - 1, batch["points"], 1)
    torch.testing.assert_close(terms["latent_l2"], codes.square().mean().detach())
    plain = make_stage("autoencoder", PEOPLE, [blinking_clip(mask=True)])
    baseline = plain.step(batch_of(plain, 4), lambda name, loss, clip_grad=None: None)["copy"]
    torch.testing.assert_close(terms["copy"], baseline)  # targets are not masked


def test_it_learns_what_the_still_does_not_show_and_touches_neither_e2_nor_p() -> None:
    stage = make_stage("autoencoder", PEOPLE, [blinking_clip(), blinking_clip("b", (40, 200, 40))])
    before = copied(stage.model)
    found = [terms["reconstruction"] / terms["copy"] for terms in train(stage, 150, 16)]
    assert found[-1] < 0.7 * found[0]
    assert changed_parts(stage.model, before) == {"encoder", "decoder"}
    sheet = stage.preview()["autoencoding"]
    assert sheet.shape == (2 * 2 * 16, 8 * 16, 3)
    stage.model.config = changed(PEOPLE, clip__mask_background=True)
    assert not np.array_equal(stage.preview()["autoencoding"], sheet)
    assert stage.model.training


# --- which stages --------------------------------------------------------------------------------------------------
def names(only: tuple[str, ...] = (), **changes: Any) -> list[str]:
    system = Strokes.build(changed(PEOPLE, **changes))
    return [stage.name for stage in stages(system, [blinking_clip(), blinking_clip("b")], only=only)]


def test_stages_by_name_and_number_of_steps() -> None:
    assert names() == ["autoencoder", "single_step"]
    assert names(autoencoder__steps=0) == ["single_step"]
    assert names(("single_step",)) == ["single_step"]
    assert names(("autoencoder",)) == ["autoencoder"]
    assert names(latent_prediction__steps=9, generator_finetuning__steps=4, annealing__steps=2) == [
        "autoencoder",
        "latent_prediction",
        "generator_finetuning",
        "single_step",
        "annealing",
    ]
    assert names(("generator_finetuning",), generator_finetuning__steps=4) == ["generator_finetuning"]
    refuses("stage latent_prediction has no steps", names, ("latent_prediction",))
    known = "autoencoder, latent_prediction, generator_finetuning, single_step, annealing"
    refuses(f"known are {known}", names, ("predict",))


def test_what_bench_times_is_the_papers_stage_or_the_last_one() -> None:
    assert Strokes.build(TINY_STROKES).main_stage == "single_step"
    people = changed(PEOPLE, single_step__steps=0)
    assert Strokes.build(people).main_stage == "autoencoder"
    assert Strokes.build(changed(people, generator_finetuning__steps=1)).main_stage == "generator_finetuning"


@pytest.mark.parametrize(
    ("changes", "clips", "only", "words"),
    [
        ({}, [], (), "no clips to train on"),
        ({"size": 64}, None, (), "clips are 32 x 32 pixels where the configuration says size 64"),
        ({"clip__frames": 9}, None, (), "No clip has 9 frames in a row with a point each.*--tracks points"),
        ({"clip__augmentation": "wild"}, None, (), "no augmentation 'wild'"),
        ({}, None, ("motion",), "no stage 'motion'"),
        ({"losses__perceptual__weight": 1.0}, None, (), "needs the weights of vgg16"),
    ],
)
def test_what_cannot_be_trained_is_told(changes: Any, clips: Any, only: Any, words: str) -> None:
    system = Strokes.build(changed(TINY_STROKES, **changes))
    refuses(words, stages, system, [square_clip()] if clips is None else clips, (), only)


def test_samples_of_stages_are_unrelated_and_those_of_a_seed_the_same() -> None:
    system = Strokes.build(changed(TINY_STROKES, annealing__steps=1))
    clips = [square_clip(f"c{i}", seed=i) for i in range(9)]
    first, second = stages(system, clips, seed=1)
    (again, _), (other, _) = stages(system, clips, seed=1), stages(system, clips, seed=2)
    orders = [[stage.dataset[n]["name"] for n in range(8)] for stage in (first, again, second, other)]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0] != orders[3]


def test_there_is_one_optimiser_per_network_and_only_what_animates_is_averaged() -> None:
    system = Strokes.build(ADVERSARIAL)
    (stage,) = stages(system, [square_clip()])
    assert set(stage.optimizers) == {"single_step", "frame_discriminator", "pair_discriminator"}
    assert stage.ema == {"single_step": stage.networks["single_step"]}
    owned = [id(p) for o in stage.optimizers.values() for g in o.param_groups for p in g["params"]]
    networks = [system.networks, stage.discriminators.frame, stage.discriminators.pair]
    assert sorted(owned) == sorted(id(p) for network in networks for p in network.parameters())
    (plain,) = stages(Strokes.build(TINY_STROKES), [square_clip()])
    assert set(plain.optimizers) == {"single_step"}
