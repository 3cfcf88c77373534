"""facts/monkey-net.md section 7 (image-to-video) and section 12, item 17: predicting keypoints from one frame."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import stillmotion
from driving_tools import STAGE, STILL, at, batch_of, changed_config, moving_square, own_keypoints, stepper, tiny
from stillmotion import cli, media
from stillmotion.animate import load
from stillmotion.data.clip import Clip
from stillmotion.data.info import DatasetInfo
from stillmotion.data.shards import write_dataset
from stillmotion.errors import StillmotionError
from stillmotion.files import change_settings, load_tensors
from stillmotion.keypoints.networks import Keypoints
from stillmotion.systems.driving import Drive
from stillmotion.systems.driving.animating import BATCH, Driving
from stillmotion.systems.driving.config import DrivingConfig, PredictorConfig
from stillmotion.systems.driving.networks import KeypointPredictor
from stillmotion.systems.driving.training import KeypointPrediction
from stillmotion.train import TrainRequest, train
from stillmotion.training import LoopSettings, fit
from stillmotion.training.schedules import EpochPlateau
from stopping import ctrl_c

PREDICTION: dict[str, Any] = {"predictor.hidden": 8, **at("keypoint_prediction", steps=4, batch=2, window=5)}
LOOP = LoopSettings(checkpoint_every=2, preview_every=4, precision="fp32", threads=1, log_every=1)


def predictor(seed: int = 0, **changes: Any) -> KeypointPredictor:
    torch.manual_seed(seed)
    return KeypointPredictor(changed_config(**PREDICTION, **changes))


def first_frame(count: int = 2, seed: int = 0) -> Keypoints:
    generator = torch.Generator().manual_seed(seed)
    root = 0.2 * torch.rand(count, 3, 2, 2, generator=generator)
    return Keypoints(torch.rand(count, 3, 2, generator=generator) * 2 - 1, root.mT @ root + 0.01 * torch.eye(2))


def clips(count: int = 3, frames: int = 7) -> list[Clip]:
    return [moving_square(f"clip-{i}", frames=frames, seed=i) for i in range(count)]


def stage_of(**changes: Any) -> KeypointPrediction:
    config, networks = tiny(**{**PREDICTION, **changes})
    return KeypointPrediction(networks, config, clips(), clips(), 0)


# --- the network ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("covariance", "expected"), [("full", 3_397_692), ("fixed", 3_233_812)])
def test_parameter_counts_are_the_sheets(covariance: str, expected: int) -> None:
    config = replace(DrivingConfig(), predictor=PredictorConfig())
    with torch.device("meta"):
        made = KeypointPredictor(change_settings(config, {"keypoints.covariance": covariance}, "tests"))
    assert sum(p.numel() for p in made.parameters()) == expected


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(1, 6), scale=st.sampled_from([0.1, 1.0, 30.0]))
def test_covariances_are_symmetric_and_positive_and_means_stay_inside(seed: int, count: int, scale: float) -> None:
    """Item 17, for any weights and any start."""
    net = predictor(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(scale)
        made = net(first_frame(seed=seed), count)
    assert made.mean.shape == (2, count, 3, 2)
    assert made.covariance.shape == (2, count, 3, 2, 2)
    assert torch.equal(made.covariance, made.covariance.mT)
    values = torch.linalg.eigvalsh(made.covariance.double())
    assert (values > -1e-6 * values.max()).all()
    assert (made.mean.abs() <= 1).all()


@pytest.mark.parametrize("least", [0.0, 1e-5])
def test_means_are_tanh_and_covariances_are_a_transposed_a(least: float) -> None:
    """A last layer that gives the same numbers whatever the GRU says: the rest is worked out by hand."""
    net = predictor(**{"predictor.least_variance": least})
    with torch.no_grad():
        net.head.weight.zero_()
        net.head.bias.zero_()
        net.head.bias[:2] = torch.tensor([0.5, -20.0])  # the first keypoint's x and y
        net.head.bias[6:10] = torch.tensor([0.01, 0.02, 0.03, 0.04])  # its A = [[1, 2], [3, 4]] / 100
        made = net(first_frame(), 3)
    assert torch.allclose(made.mean[:, 1:, 0], torch.tensor([np.tanh(0.5), -1.0], dtype=torch.float32))
    expected = torch.tensor([[10.0, 14.0], [14.0, 20.0]]) * 1e-4 + least * torch.eye(2)
    assert torch.allclose(made.covariance[:, 1:, 0], expected.expand(2, 2, 2, 2))


def test_frame_zero_is_the_given_one_and_the_rest_depends_on_it_alone() -> None:
    net, first = predictor(), first_frame()
    with torch.no_grad():
        made, longer = net(first, 4), net(first, 9)
        other = net(Keypoints(first.mean + 0.1, first.covariance), 4)
    assert all(torch.equal(part[:, 0], given) for part, given in zip(made, first, strict=True))
    assert torch.allclose(longer.mean[:, :4], made.mean, atol=1e-6)  # no frame sees a later one
    assert not torch.allclose(other.mean[:, 1:], made.mean[:, 1:], atol=1e-4)


def test_the_gru_is_given_the_first_frame_and_zeros_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    net, first, seen = predictor(), first_frame(), []
    run = net.gru.forward
    monkeypatch.setattr(net.gru, "forward", lambda inputs, state: seen.append(inputs) or run(inputs, state))
    net(first, 4)
    assert torch.equal(seen[0][:, 0], torch.cat([first.mean.flatten(1), first.covariance.flatten(1)], 1))
    assert not seen[0][:, 1:].any()


@pytest.mark.parametrize("size", [1, 3, 16])
def test_in_pieces_it_predicts_the_same(size: int) -> None:
    net, first = predictor(), first_frame(1)
    with torch.no_grad():
        pieces = list(net.chunks(first, 7, size))
        whole = net(first, 7)
    assert max(piece.mean.shape[1] for piece in pieces) <= size
    assert torch.allclose(torch.cat([piece.mean for piece in pieces], 1), whole.mean, atol=1e-6)
    assert torch.allclose(torch.cat([piece.covariance for piece in pieces], 1), whole.covariance, atol=1e-6)


@pytest.mark.parametrize("changes", [{"predictor.covariance": False}, {"keypoints.covariance": "fixed"}])
def test_a_kept_covariance_is_the_first_frames(changes: dict[str, Any]) -> None:
    net, first = predictor(**changes), first_frame()
    assert not net.learns_covariance
    assert torch.equal(net(first, 5).covariance, first.covariance[:, None].expand(-1, 5, -1, -1, -1))


def test_a_predictor_changes_no_other_first_weight() -> None:
    without, beside = tiny()[1].state_dict(), tiny(**PREDICTION)[1].state_dict()
    assert all(torch.equal(value, beside[name]) for name, value in without.items())


# --- the stage -----------------------------------------------------------------------------------------------------
def test_the_loss_is_l1_over_all_frames_but_the_first_and_moves_the_predictor_only() -> None:
    stage, told = stage_of(), []
    stage.begin(Path())
    batch = batch_of(stage)
    with torch.no_grad():
        made = stage.predictor(Keypoints(batch["mean"][:, 0], batch["covariance"][:, 0]), 5)
    before = {name: value.clone() for name, value in stage.model.named_parameters()}
    step = stepper(stage)
    terms = stage.step(batch, lambda name, loss: told.append(loss.item()) or step(name, loss))
    of_mean, of_covariance, standing = (
        np.abs((a - b).numpy())[:, 1:].mean()
        for a, b in (
            (made.mean, batch["mean"]),
            (made.covariance, batch["covariance"]),
            (batch["mean"], batch["mean"][:, :1]),
        )
    )
    assert terms["mean"].item() == pytest.approx(of_mean, rel=1e-5)
    assert terms["covariance"].item() == pytest.approx(of_covariance, rel=1e-5)
    assert terms["copy_baseline"].item() == pytest.approx(standing, rel=1e-5)
    assert told == [pytest.approx(of_mean + of_covariance, rel=1e-5)]
    changed = {name for name, value in stage.model.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {f"predictor.{name}" for name, _ in stage.predictor.named_parameters()}


def test_the_rate_falls_when_an_epochs_mean_loss_has_not_fallen_for_longer_than_the_patience() -> None:
    """Two steps per epoch. Single steps swing; only the epochs' means, 2, 2, 2, 2, count."""
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], 1e-3)
    plateau, rates = EpochPlateau(optimizer, steps_per_epoch=2, patience=2), []
    for loss in (1.0, 3.0, 3.0, 1.0, 0.0, 4.0, 4.0, 0.0):
        plateau.observe(torch.tensor(loss))
        plateau.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == [1e-3] * 7 + [pytest.approx(1e-4)]


def test_the_stage_has_the_releases_optimiser() -> None:
    stage = stage_of()
    assert stage.optimizers["predictor"].defaults["lr"] == 1e-3
    assert stage.optimizers["predictor"].defaults["betas"] == (0.9, 0.999)
    assert stage.plateau.plateau.factor == 0.1
    assert stage.plateau.steps_per_epoch == 2  # three clips in batches of two
    even = KeypointPrediction(stage.model, tiny(**PREDICTION)[0], stage.clips[:2], stage.clips, 0)
    assert even.plateau.steps_per_epoch == 1  # and two


def test_it_learns_a_motion_that_the_first_frame_tells() -> None:
    """Points that drift away from the centre, on made keypoints; far better than standing still."""
    stage = stage_of(**{"predictor.hidden": 32, "keypoint_prediction.learning_rate": 1e-2})
    generator, step = torch.Generator().manual_seed(0), stepper(stage)
    for _ in range(300):
        start = torch.rand(16, 1, 3, 2, generator=generator) - 0.5
        mean = start * (1 + 0.2 * torch.arange(6)[:, None, None])
        terms = stage.step({"mean": mean, "covariance": (0.01 * torch.eye(2)).expand(16, 6, 3, 2, 2)}, step)
    assert terms["mean"] < 0.5 * terms["copy_baseline"]
    assert terms["covariance"] < 0.002


def run_of(folder: Path, resume: bool = False) -> Mapping[str, Tensor]:
    """Motion and prediction, two and six steps; the predictor's checkpoint at the end, optimiser and all."""
    steps = {f"{STAGE}.steps": 2, **at("keypoint_prediction", steps=6, patience=0)}
    system = Driving(*tiny(**{**PREDICTION, **steps}))
    fit(system.stages(clips()), folder, LOOP, config={}, resume=resume)
    last = folder / "checkpoints" / "keypoint_prediction-000006"
    if not last.is_dir():
        return {}
    return {
        f"{name}/{key}": v
        for name in ("model", "optim")
        for key, v in load_tensors(last / f"{name}.safetensors").items()
    }


def test_a_resumed_training_is_the_whole_one_bit_for_bit(tmp_path: Path) -> None:
    whole, stopped = run_of(tmp_path / "whole"), {}
    for _ in range(20):  # stopped after every single step
        with ctrl_c():
            stopped = run_of(tmp_path / "stopped", resume=(tmp_path / "stopped").is_dir())
        if stopped:
            break
    assert whole.keys() == stopped.keys()
    assert all(torch.equal(whole[key], stopped[key]) for key in whole)
    states = [
        (tmp_path / name / "checkpoints/keypoint_prediction-000006/state.json").read_text()
        for name in ("whole", "stopped")
    ]
    plateaus = [json.loads(text)["schedulers"] for text in states]
    assert plateaus[0] == plateaus[1]
    assert plateaus[0]["predictor"]["plateau"]["last_epoch"] == 3  # six steps, two to an epoch


# --- animating, saving, the command line ---------------------------------------------------------------------------
@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared clips, a finished model without a predictor, and what the stage alone made of it."""
    folder = tmp_path_factory.mktemp("place")
    write_dataset(folder / "set", clips(), info=DatasetInfo(title="squares", licence="CC0"))
    Driving(*tiny(**at("keypoints", heatmap_scale=7.0))).save_pretrained(folder / "finished")
    request = TrainRequest(
        "driving",
        (str(folder / "set"),),
        folder / "run",
        settings={name: str(value) for name, value in PREDICTION.items() if not name.endswith("steps")},
        steps=2,
        start_from=str(folder / "finished"),
        stages=("keypoint_prediction",),
    )
    assert "trained for 2 steps" in train(request, LOOP)
    media.write_video(folder / "me.png", iter(STILL[None]), 10)
    return folder


def test_the_stage_alone_adds_a_predictor_and_leaves_the_rest_as_it_was(place: Path) -> None:
    before, after = (load_tensors(place / name / "model.safetensors") for name in ("finished", "run/model"))
    assert set(after) - set(before) == {f"predictor.{name}" for name, _ in predictor().named_parameters()}
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    finished, made = (load(place / name).system for name in ("finished", "run"))
    expected = change_settings(finished.config, {**PREDICTION, "keypoint_prediction.steps": 2}, "tests")
    assert made.config == expected  # not the preset's
    assert made.card["stages"] == ["keypoint_prediction"]
    assert (place / "run/previews").is_dir()


def test_predicting_starts_at_the_still_and_gives_as_many_frames_as_asked_for(place: Path) -> None:
    animator = load(place / "run")
    steps = list(animator(STILL, stillmotion.Predict(frames=BATCH + 2)))
    assert len(steps) == BATCH + 2
    own = own_keypoints(animator.system, STILL)
    with torch.no_grad():
        predicted = animator.system.networks.predictor(own, BATCH + 2)
    assert np.allclose(steps[0].facts["mean"], own.mean[0], atol=1e-5)
    for t in (1, BATCH + 1):
        assert np.allclose(steps[t].facts["mean"], predicted.mean[0, t], atol=1e-5)
        assert np.allclose(steps[t].facts["covariance"], predicted.covariance[0, t], atol=1e-5)
    fewer = animator(STILL, stillmotion.Predict(fps=10), frames=3, layers=True)
    assert fewer.fps == 10
    assert [sorted(step.layers) for step in fewer] == [["flow", "keypoints", "masks", "warped"]] * 3


def test_a_model_with_a_predictor_still_follows_videos_as_before(place: Path) -> None:
    video = moving_square("drive", frames=3).frames
    before, after = (load(place / name)(STILL, Drive(video)).frames() for name in ("finished", "run"))
    assert np.array_equal(before, after)


def test_a_model_without_a_predictor_says_how_to_get_one(place: Path) -> None:
    with pytest.raises(StillmotionError, match="--preset people --stages keypoint_prediction"):
        load(place / "finished")(STILL, stillmotion.Predict())


def test_the_command_line_predicts(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["animate", str(place / "me.png"), "-o", str(tmp_path / "out.gif"), "--size", "model", "--predict"]
    assert cli.main([*common, "--model", str(place / "run"), "--frames", "4"]) == 0
    assert "4 frames at 25 per second" in capsys.readouterr().out
    for more, words in (
        (["--drive", "x.mp4"], "--drive VIDEO"),
        (["--keep-background"], "--keep-background belongs to --drive"),
    ):
        assert cli.main([*common, "--model", str(place / "run"), "-y", *more]) == 2
        assert words in capsys.readouterr().err
    assert cli.main([*common, "--model", str(place / "finished"), "-y"]) == 2
    assert "no keypoint predictor" in capsys.readouterr().err


FROM = ["--stages", "keypoint_prediction", "--from", "FINISHED"]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--stages", "keypoint_prediction", "--preset", "release"], "no keypoint predictor"),
        (["--stages", "dance", "--from", "FINISHED"], "known are keypoint_supervision, motion, keypoint_prediction"),
        (FROM, "no keypoint predictor in the configuration"),
        ([*FROM, "--set", "predictor.hidden=8"], "no steps: add --steps N"),
        ([*FROM, "--set", "keypoint_prediction.window=1"], "keypoint_prediction.window"),
    ],
)
def test_stages_that_cannot_be_run_are_said_in_a_sentence(
    place: Path, tmp_path: Path, options: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [str(place / "finished") if part == "FINISHED" else part for part in options]
    assert cli.main(["train", "driving", str(place / "set"), "-o", str(tmp_path / "run"), *filled]) == 2
    assert word in capsys.readouterr().err
