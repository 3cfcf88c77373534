"""facts/forecast-refine.md section 12, lines 9, 11, 16, 17, 18 and 21: who is updated when, and that it learns."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from refusals import refused
from stillmotion.files import load_tensors
from stillmotion.systems.structures.config import PRESETS
from stillmotion.systems.structures.data import KNOWN, ForecastSquares, structure_maps
from stillmotion.systems.structures.training import stages
from stillmotion.training import LoopSettings, fit
from stillmotion.training.stage import check_stages
from stillmotion.training.update import Updater
from stopping import ctrl_c
from structures_tools import changed
from structures_training_tools import (
    LEARNING,
    Update,
    batch_of,
    copied,
    differs,
    face_clip,
    square_clip,
    stage_of,
    system_of,
)

LOOP = LoopSettings(checkpoint_every=1, preview_every=3, precision="fp32", threads=1, log_every=1)
ALL = ["forecast", "refinement", "pose_prediction"]


# --- which stages ---------------------------------------------------------------------------------------------------
def test_stages_come_in_order_and_have_the_papers_optimisers() -> None:
    made = stages(system_of(LEARNING), [square_clip()])
    check_stages(made, 1)
    assert [stage.name for stage in made] == ALL
    for stage in made[:2]:
        for optimizer in stage.optimizers.values():
            (group,) = optimizer.param_groups
            assert (group["lr"], group["betas"]) == (1e-4, (0.0, 0.9))
    rms = made[2].optimizers["predictor"]
    assert (type(rms).__name__, rms.param_groups[0]["lr"]) == ("RMSprop", 1e-3)
    assert len({stage.seed for stage in made}) == 3


def test_wrong_clips_and_stages_are_refused() -> None:
    system, clips = system_of(LEARNING), [square_clip()]
    assert [stage.name for stage in stages(system, clips, only=["refinement"])] == ["refinement"]
    assert "has no steps" in refused(
        stages, system_of(changed(LEARNING, refinement_training__steps=0)), clips, only=["refinement"]
    )
    assert "size 16" in refused(stages, system, [square_clip(size=32)])
    assert "augmentation" in refused(stages, system_of(changed(LEARNING, clip__augmentation="bolt")), clips)
    assert "4 frames" in refused(stages, system, [square_clip(frames=3)])
    assert "weights of vgg16" in refused(stages, system_of(changed(LEARNING, features__weight=1.0)), clips)


def test_presets_take_the_steps_of_their_stages() -> None:
    for name, expected in (("paper", ALL[:2]), ("paper-poses", ALL), ("release", ALL[:1])):
        config = PRESETS[name]
        steps = (config.forecast_training, config.refinement_training, config.pose_prediction)
        assert [stage for stage, settings in zip(ALL, steps, strict=True) if settings.steps] == expected


# --- forecast -------------------------------------------------------------------------------------------------------
def test_the_critic_is_updated_once_and_then_the_generator_on_the_same_frames() -> None:
    """Lines 9 and 11."""
    stage = stage_of("forecast")
    made: list[Tensor] = []
    judged: list[Tensor] = []
    stage.model.register_forward_hook(lambda _, __, output: made.append(output.frame))
    stage.critic.register_forward_pre_hook(lambda _, given: judged.append(given[0]))
    update, batch = Update(stage), batch_of(stage)
    terms = stage.step(batch, update)
    assert [name for name, _ in update.calls] == ["critic", "forecast"]
    assert update.changes == [{"critic"}, {"forecast"}]
    assert len(made) == 1
    real, fake, _, last = judged
    assert torch.equal(real[:, :3], 2 * batch["driving"] - 1)
    assert torch.equal(fake[:, :3], made[0])
    assert torch.equal(last[:, :3], made[0])
    assert [x.requires_grad for x in (real, fake, last)] == [False, False, True]
    maps = structure_maps(batch, stage.config)
    assert all(torch.equal(samples[:, 3:], maps[:, 1]) for samples in judged)
    assert update.calls[0][1] == pytest.approx(float(terms["wasserstein"] + terms["penalty"]), rel=1e-5)
    assert update.calls[1][1] == pytest.approx(
        float(terms["reconstruction"] + terms["mask"] + terms["gan"]), rel=1e-5
    )
    assert terms["copy"] == pytest.approx(float(2 * (batch["source"] - batch["driving"]).abs().mean()), rel=1e-5)
    assert not any(value.requires_grad for value in terms.values())


def test_the_still_and_its_own_map_come_first() -> None:
    stage, seen = stage_of("forecast"), list[tuple[Tensor, ...]]()
    stage.model.register_forward_pre_hook(lambda _, given: seen.append(given))
    batch = batch_of(stage)
    stage.step(batch, Update(stage))
    still, structure, target = seen[0]
    maps = structure_maps(batch, stage.config)
    assert torch.equal(still, 2 * batch["source"] - 1)
    assert torch.equal(structure, maps[:, 0])
    assert torch.equal(target, maps[:, 1])


def test_feature_similarity_sees_the_person_of_the_target() -> None:
    """Eq. 15, with its weight."""
    config = changed(LEARNING, features__network="random-vgg16", features__side=16, features__weight=0.5)
    stage = stage_of("forecast", config)
    stage.features[0].forward = lambda pictures: [pictures.mean((2, 3))]
    batch = batch_of(stage)
    terms = stage.step(batch, update := Update(stage))
    assert update.calls[1][1] == pytest.approx(
        float(terms["reconstruction"] + terms["mask"] + terms["gan"] + terms["features"]), rel=1e-5
    )
    batch["poses"][:, 0] = 0  # not the still's
    fresh = stage_of("forecast", config)
    fresh.features[0].forward = stage.features[0].forward
    boxes: list[Tensor] = []
    fresh.features[0].forward = lambda pictures: boxes.append(pictures) or [pictures.mean((2, 3))]
    fresh.step(batch, Update(fresh))
    assert boxes[0].shape == (2, 3, 16, 16)
    assert boxes[0].mean() > 0.6  # the square fills the box, of a picture that is dark
    assert float(terms["features"]) > 0


# --- refinement -----------------------------------------------------------------------------------------------------
def test_the_forecast_does_not_change_while_it_is_refined() -> None:
    """Line 17: not even its batch norms, although training leaves it in training mode."""
    stage = stage_of("refinement")
    stage.forecast.train()
    before, update = copied(stage.forecast), Update(stage)
    for step in range(2):
        stage.step(batch_of(stage, step), update)
    assert not differs(stage.forecast, before)
    assert stage.forecast.training
    assert all(p.grad is None for p in stage.forecast.parameters())
    assert "forecast" not in stage.networks


def test_the_critics_and_the_refiner_alternate() -> None:
    """Line 17: D_I and D_V in one step, D_I on one frame pair per clip; then G_R, D_I on all K frames."""
    stage, seen = stage_of("refinement"), dict[str, list[Tensor]]()
    for name in ("image_critic", "video_critic", "refinement"):
        seen[name] = []
        stage.networks[name].register_forward_pre_hook(lambda _, given, own=seen[name]: own.append(given[0]))
    update, batch = Update(stage), batch_of(stage)
    terms = stage.step(batch, update)
    assert [name for name, _ in update.calls] == ["critics", "refinement"]
    assert update.changes == [{"image_critic", "video_critic"}, {"refinement"}]
    assert [tuple(x.shape) for x in seen["image_critic"]] == [(2, 16, 16, 16)] * 3 + [(8, 16, 16, 16)]
    assert [tuple(x.shape) for x in seen["video_critic"]] == [(2, 16, 4, 16, 16)] * 4
    assert [x.requires_grad for x in seen["video_critic"]] == [False, False, True, True]
    true, maps = 2 * batch["frames"][:, 1:] - 1, structure_maps(batch, stage.config)
    real, fake, _, last = seen["video_critic"]
    assert torch.equal(real, torch.cat([true, maps[:, 1:]], 2).transpose(1, 2))
    assert torch.equal(fake, last)
    assert len(seen["refinement"]) == 1
    own = {name for name in terms if name.startswith(("image", "video"))}
    assert own == {"image_wasserstein", "image_penalty", "video_wasserstein", "video_penalty"}
    assert update.calls[0][1] == pytest.approx(float(sum(terms[name] for name in own)), rel=1e-5)
    assert update.calls[1][1] == pytest.approx(
        float(terms["reconstruction"] + terms["mask"] + terms["gan"]), rel=1e-5
    )


def test_clips_are_forecast_from_their_stills_as_when_animating() -> None:
    stage, batch = stage_of("refinement"), None
    stage.forecast.train()
    batch = batch_of(stage)
    maps, stills = structure_maps(batch, stage.config), 2 * batch["frames"][:, 0] - 1
    coarse = stage.forecasts(stills, maps, batch)[0]
    stage.forecast.eval()
    with torch.no_grad():
        expected = stage.forecast(stills, maps[:, 0], maps[:, 1:].flatten(0, 1)).frame.unflatten(0, (2, 4))
    torch.testing.assert_close(coarse, expected)
    assert not coarse.requires_grad
    terms = stage.step(batch, Update(stage))
    true = 2 * batch["frames"][:, 1:] - 1
    assert float(terms["coarse"]) == pytest.approx(float((coarse - true).abs().mean()), rel=1e-5)


OURS = changed(
    LEARNING,
    forecast__fields=True,
    refinement__content="difference",
    refinement__context=True,
    refinement__windows=3,
    refinement__crop=8,
    refinement_losses__gan=0.0,
    refinement_losses__squared=2.0,
)


def test_clips_are_forecast_once_and_squares_are_cut_of_all_that_is_known(tmp_path: Path) -> None:
    stage = stage_of("refinement", OURS, [square_clip(by=(0, 1)), square_clip(corner=(0, 11))])
    whole = stage.known(batch_of(SimpleNamespace(dataset=stage.dataset, batch=3)))
    stage.begin(tmp_path)
    assert len(stage.dataset) == len(stage.dataset.windows) == 3
    shapes = {"true": (4, 3, 8, 8), "coarse": (4, 3, 8, 8), "structures": (4, 13, 8, 8), "context": (4, 7, 8, 8)}
    corners = set()
    for item in (stage.dataset[number] for number in range(6)):
        assert {name: tuple(item[name].shape) for name in KNOWN} == shapes
        found = {
            (top, left)
            for top, left in np.ndindex(9, 9)
            if any(
                all(
                    torch.allclose(item[name], every[..., top : top + 8, left : left + 8], atol=4e-3)
                    for name, every in clip
                )
                for clip in ([(name, whole[name][number]) for name in KNOWN] for number in range(3))
            )
        }
        assert found
        corners |= found
    assert len(corners) > 3
    assert all(torch.equal(stage.dataset[4][name], stage.dataset[4][name]) for name in KNOWN)
    short = stage_of("refinement", changed(OURS, refinement_training__steps=1))
    short.begin(tmp_path)
    assert len(short.dataset) == 2  # one step of two
    update = Update(stage)
    terms = stage.step(batch_of(stage), update)
    assert update.changes == [{"refinement"}]
    assert float(terms["squared"]) > 0
    assert update.calls[0][1] == pytest.approx(
        float(terms["reconstruction"] + terms["mask"] + terms["squared"]), rel=1e-5
    )


def test_squares_are_cut_where_forecasts_change() -> None:
    coarse = torch.zeros(4, 3, 16, 16)
    coarse[1::2, :, 11:15, 1:5] = 1
    window = {"coarse": coarse, "structures": torch.zeros(4, 13, 3), "name": "corner"}
    rows, columns = torch.arange(16.0).expand(4, 1, 16, 16).mT, torch.arange(16.0).expand(4, 1, 16, 16)
    squares = ForecastSquares([window | {"true": torch.cat([rows, columns], 1)}], OURS, 0)
    corners = torch.stack([squares[n]["true"][0, :, 0, 0] for n in range(60)])
    shown = (corners[:, 0] >= 4) & (corners[:, 1] <= 4)  # of these rows and columns squares show the change
    assert shown.sum() >= 56  # a few of 60 may lie elsewhere
    assert len(corners.unique(dim=0)) > 5
    whole = sum(float(squares[n]["coarse"].sum() == coarse.sum()) for n in range(60))
    assert whole > 10  # a third is likely to show all of it; a twentieth of all squares does


# --- poses ----------------------------------------------------------------------------------------------------------
def test_joints_that_are_not_seen_add_no_loss() -> None:
    """Line 18."""
    losses = []
    for value in (0.0, 5.0):
        stage = stage_of("pose_prediction")
        batch = batch_of(stage)
        batch["visible"][:, :, 3] = 0
        batch["future"][:, :, [3, 16]] = value
        losses.append(stage.step(batch, Update(stage)))
    assert losses[0] == losses[1]
    assert losses[0]["pose"] > 0


def test_the_gradient_of_the_pose_predictor_is_clipped() -> None:
    stage, given = stage_of("pose_prediction"), list[Any]()
    stage.step(batch_of(stage), lambda name, loss, clip_grad: given.append((name, clip_grad)))
    assert given == [("predictor", 25.0)]


def test_it_learns_to_go_on() -> None:
    config = changed(
        LEARNING, pose__width=16, pose__embedding=8, pose_prediction__batch=8, pose_prediction__learning_rate=5e-3
    )
    clips = [square_clip("a", 24, (3, 0)), square_clip("b", 24, (0, 3))]
    stage = stage_of("pose_prediction", config, clips)
    update = Updater(stage, Accelerator(cpu=True))
    found = [stage.step(batch_of(stage, step), update) for step in range(110)]
    assert sum(float(one["pose"]) for one in found[-10:]) < 0.3 * sum(float(one["copy"]) for one in found[-10:])


# --- the whole ------------------------------------------------------------------------------------------------------
def test_it_learns_where_a_square_goes() -> None:
    """Line 21: the mask is larger near the square than elsewhere, and L1 is lower than copying the still."""
    config = changed(
        LEARNING,
        forecast__width=8,
        forecast__max_width=16,
        critic__width=2,
        critic__max_width=4,
        forecast_training__batch=3,
        forecast_training__learning_rate=4e-3,
        losses__reconstruction=3.0,
        losses__mask=0.05,
        losses__gan=0.01,
        clip__largest_jump=0,
    )
    clips = [square_clip(f"c{i}", 20, by, (i, 4 + i)) for i, by in enumerate([(1, 0), (0, 1), (1, 1), (2, 1)])]
    stage = stage_of("forecast", config, clips)
    update = Updater(stage, Accelerator(cpu=True))
    found = [stage.step(batch_of(stage, step), update) for step in range(80)]
    assert sum(float(one["reconstruction"]) for one in found[-10:]) < 0.5 * sum(
        float(one["copy"]) for one in found[-10:]
    )
    batch = batch_of(stage, 1000)
    stage.model.eval()
    with torch.no_grad():
        maps = structure_maps(batch, config)
        output = stage.model(2 * batch["source"] - 1, maps[:, 0], maps[:, 1])
    moved = ((batch["driving"] - batch["source"]).abs().mean(1) > 0.3)[:, None]
    assert output.mask[moved].mean() > 2 * output.mask[~moved].mean()
    assert (output.frame - 2 * batch["driving"] + 1).abs().mean() < (batch["source"] - batch["driving"]).abs().mean()


def test_previews_are_sheets_of_the_preview_clips(tmp_path: Path) -> None:
    system, clips = system_of(LEARNING), [square_clip()]
    for shown in ([], [square_clip("a"), square_clip("b", 9), square_clip("c", 2)]):
        sizes = {}
        for stage in stages(system, clips, shown):
            stage.begin(tmp_path)
            (sizes[stage.name],) = (sheet.shape for sheet in stage.preview().values())
        count = 2 if shown else 1  # one is too short for a clip, and has a pair
        pairs = 3 if shown else 1
        assert sizes == {
            "forecast": (16 * pairs, 16 * 7, 3),
            "refinement": (16 * 4 * count, 16 * 4, 3),
            "pose_prediction": (16 * 2 * count, 16 * 4, 3),
        }


def test_faces_are_learned_from_normal_maps_that_are_made_when_a_stage_begins(tmp_path: Path) -> None:
    config = changed(
        LEARNING, size=32, structure__kind="normals", structure__face_model="faces", pose_prediction__steps=0
    )
    system, clips = system_of(config), [face_clip(0), face_clip(1)]
    for stage in stages(system, clips, clips[:1]):
        stage.begin(tmp_path)
        batch = batch_of(stage)
        assert batch["normals"].shape[2:] == (3, 32, 32)
        terms = stage.step(batch, Update(stage))
        assert all(np.isfinite(float(value)) for value in terms.values())
        assert len(stage.shown) == 1
        assert stage.preview()
    assert len(list(tmp_path.rglob("chunk-*"))) == 4  # coefficients and maps, of both stages and of previews


def run_of(folder: Path, resume: bool = False) -> Mapping[str, Tensor]:
    """Three steps of each stage; the last checkpoints, optimisers and all."""
    config = changed(LEARNING, clip__augmentation="strong")
    clips = [square_clip("a"), square_clip("b", by=(0, 1)), square_clip("c", by=(1, 1))]
    fit(stages(system_of(config), clips), folder, LOOP, config={}, resume=resume)
    last = [folder / "checkpoints" / f"{name}-000003" for name in ALL]
    if not last[-1].is_dir():
        return {}
    return {
        f"{place.name}/{name}/{key}": value
        for place in last
        if place.is_dir()
        for name in ("model", "optim")
        for key, value in load_tensors(place / f"{name}.safetensors").items()
    }


def test_a_resumed_training_is_the_whole_one_bit_for_bit(tmp_path: Path) -> None:
    whole, stopped = run_of(tmp_path / "whole"), {}
    for _ in range(20):  # stopped after every single step
        with ctrl_c():
            stopped = run_of(tmp_path / "stopped", resume=(tmp_path / "stopped").is_dir())
        if stopped:
            break
    assert whole.keys() == stopped.keys()
    assert {name.partition("-")[0] for name in whole} == set(ALL)
    assert all(torch.equal(whole[key], stopped[key]) for key in whole)
