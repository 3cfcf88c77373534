"""facts/monkey-net.md section 7 (image-to-video) and section 12, item 17: predicting keypoints from one frame."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stillmotion.controls import Drive
from stillmotion.systems.driving.predicting import EpochPlateau, KeypointWindows, PredictStage, detect, window_length
from torch import Tensor

import stillmotion
from driving_tools import TINY, moving_square, tiny
from stillmotion import cli, media
from stillmotion.animate import load
from stillmotion.data.clip import Clip
from stillmotion.data.info import DatasetInfo
from stillmotion.data.shards import write_dataset
from stillmotion.errors import StillmotionError
from stillmotion.files import load_tensors
from stillmotion.systems.driving.animating import BATCH, Driving
from stillmotion.systems.driving.config import PRESETS, DrivingConfig
from stillmotion.systems.driving.networks import LEAST_VARIANCE, KeypointPredictor, Keypoints
from stillmotion.systems.driving.training import stages
from stillmotion.train import TrainRequest, train
from stillmotion.training import LoopSettings, fit

PREDICT: dict[str, Any] = {"predict_steps": 4, "predict_hidden": 8, "predict_batch": 2, "predict_window": 5}
LOOP = LoopSettings(checkpoint_every=2, preview_every=4, precision="fp32", threads=1, log_every=1)
STILL = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def predictor(seed: int = 0, **changes: Any) -> KeypointPredictor:
    torch.manual_seed(seed)
    return KeypointPredictor(replace(TINY, **{**PREDICT, **changes}))


def first_frame(count: int = 2, seed: int = 0) -> Keypoints:
    generator = torch.Generator().manual_seed(seed)
    root = 0.2 * torch.rand(count, 3, 2, 2, generator=generator)
    return Keypoints(torch.rand(count, 3, 2, generator=generator) * 2 - 1, root.mT @ root + 0.01 * torch.eye(2))


def clips(count: int = 3, frames: int = 7) -> list[Clip]:
    return [moving_square(f"clip-{i}", frames=frames, seed=i) for i in range(count)]


def stage_of(made: list[Clip] | None = None, **changes: Any) -> PredictStage:
    config, networks = tiny(**{**PREDICT, **changes})
    return PredictStage(networks, config, made or clips())


# --- the network ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", [name for name in PRESETS if PRESETS[name].predict_hidden == 1024])
def test_parameter_counts_are_the_sheets(preset):
    config = replace(PRESETS[preset], keypoints=10)
    for covariance, expected in (("full", 3_397_692), ("fixed", 3_233_812)):
        with torch.device("meta"):
            made = KeypointPredictor(replace(config, covariance=covariance))
        assert sum(p.numel() for p in made.parameters()) == expected


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(1, 6), scale=st.sampled_from([0.1, 1.0, 30.0]))
def test_covariances_are_symmetric_and_positive_and_means_stay_inside(seed, count, scale):
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


def test_means_are_tanh_and_covariances_are_a_transposed_a():
    """A last layer that gives the same numbers whatever the GRU says: the rest is worked out by hand."""
    net = predictor()
    with torch.no_grad():
        net.head.weight.zero_()
        net.head.bias.zero_()
        net.head.bias[:2] = torch.tensor([0.5, -20.0])  # the first keypoint's x and y
        net.head.bias[6:10] = torch.tensor([1.0, 2.0, 3.0, 4.0])  # its A = [[1, 2], [3, 4]]
        made = net(first_frame(), 3)
    assert torch.allclose(made.mean[:, 1:, 0], torch.tensor([np.tanh(0.5), -1.0], dtype=torch.float32))
    expected = torch.tensor([[10.0, 14.0], [14.0, 20.0]]) + LEAST_VARIANCE * torch.eye(2)
    assert torch.allclose(made.covariance[:, 1:, 0], expected.expand(2, 2, 2, 2))


def test_frame_zero_is_the_given_one_and_the_rest_depends_on_it_alone():
    net, first = predictor(), first_frame()
    with torch.no_grad():
        made, longer = net(first, 4), net(first, 9)
        other = net(Keypoints(first.mean + 0.1, first.covariance), 4)
    assert all(torch.equal(part[:, 0], given) for part, given in zip(made, first, strict=True))
    assert torch.allclose(longer.mean[:, :4], made.mean, atol=1e-6)  # no frame sees a later one
    assert not torch.allclose(other.mean[:, 1:], made.mean[:, 1:], atol=1e-4)


def test_the_gru_is_given_the_first_frame_and_zeros_after_it(monkeypatch):
    net, first, seen = predictor(), first_frame(), []
    run = net.gru.forward
    monkeypatch.setattr(net.gru, "forward", lambda inputs, state: seen.append(inputs) or run(inputs, state))
    net(first, 4)
    assert torch.equal(seen[0][:, 0], torch.cat([first.mean.flatten(1), first.covariance.flatten(1)], 1))
    assert not seen[0][:, 1:].any()


@pytest.mark.parametrize("size", [1, 3, 16])
def test_in_pieces_it_predicts_the_same(size):
    net, first = predictor(), first_frame(1)
    with torch.no_grad():
        pieces = list(net.chunks(first, 7, size))
        whole = net(first, 7)
    assert max(piece.mean.shape[1] for piece in pieces) <= size
    assert torch.allclose(torch.cat([piece.mean for piece in pieces], 1), whole.mean, atol=1e-6)
    assert torch.allclose(torch.cat([piece.covariance for piece in pieces], 1), whole.covariance, atol=1e-6)


@pytest.mark.parametrize(
    "changes", [{"predict_covariance": False}, {"covariance": "fixed"}, {"covariance": "single"}]
)
def test_a_kept_covariance_is_the_first_frames(changes):
    net, first = predictor(**changes), first_frame()
    assert not net.learns_covariance
    assert torch.equal(net(first, 5).covariance, first.covariance[:, None].expand(-1, 5, -1, -1, -1))


# --- the stage -----------------------------------------------------------------------------------------------------


def test_windows_are_consecutive_frames_of_one_clip():
    """Keypoints that carry their clip and time as numbers."""

    def clip(number: int, length: int) -> tuple[str, Keypoints]:
        time = torch.arange(length).float()
        mean = torch.stack([torch.full_like(time, number), time], -1)[:, None]
        return str(number), Keypoints(mean, mean[..., None].expand(-1, -1, -1, 2))

    windows = KeypointWindows([clip(0, 6), clip(1, 9)], 4, seed=0)
    starts: dict[str, set[int]] = {"0": set(), "1": set()}
    for index in range(200):
        item = windows[index]
        start = int(item["mean"][0, 0, 1])
        starts[item["name"]].add(start)
        assert item["mean"][:, 0].tolist() == [[int(item["name"]), start + t] for t in range(4)]
        assert torch.equal(item["covariance"][:, 0, 1, 0], item["mean"][:, 0, 1])
    assert starts == {"0": set(range(3)), "1": set(range(6))}
    assert all(torch.equal(windows[3][key], windows[3][key]) for key in ("mean", "covariance"))


def test_shorter_clips_shorten_the_windows_and_that_is_said(capsys):
    assert window_length(clips(frames=9), 5) == 5
    assert capsys.readouterr().err == ""
    assert window_length([*clips(frames=9), moving_square("short", frames=4)], 5) == 4
    assert "windows of 4 frames, not 5: short" in capsys.readouterr().err
    with pytest.raises(StillmotionError, match="short has one frame"):
        window_length([*clips(), moving_square("short", frames=1)], 5)


def test_keypoints_are_those_found_when_animating_whatever_the_mode():
    """Batch norm's running statistics, no gradient; the detector is left in the mode it was in, and as it was."""
    stage = stage_of(clips(1, frames=70))
    detector = stage.model.detector.train()
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    found = detect(detector, stage.clips[0].frames)
    assert detector.training
    assert not found.mean.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())
    frame = torch.from_numpy(stage.clips[0].frames[69:].copy()).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        alone = detector.eval()(frame)
    assert len(found.mean) == 70
    assert torch.allclose(found.mean[69], alone.mean[0], atol=1e-5)
    assert torch.allclose(found.covariance[69], alone.covariance[0], atol=1e-5)


def test_the_loss_is_l1_over_all_frames_but_the_first_and_moves_the_predictor_only():
    stage, losses = stage_of(), []
    stage.begin()
    items = [stage.dataset[i] for i in range(2)]
    batch = {key: torch.stack([item[key] for item in items]) for key in ("mean", "covariance")}
    with torch.no_grad():
        made = stage.predictor(Keypoints(batch["mean"][:, 0], batch["covariance"][:, 0]), 5)
    before = {name: value.clone() for name, value in stage.model.named_parameters()}

    def update(name: str, loss: Tensor, clip_grad: float | None = None) -> None:
        losses.append(loss.item())
        loss.backward()
        stage.optimizers[name].step()

    terms = stage.step(batch, update)
    of_mean = np.abs((made.mean - batch["mean"]).numpy())[:, 1:].mean()
    of_covariance = np.abs((made.covariance - batch["covariance"]).numpy())[:, 1:].mean()
    assert terms["mean"].item() == pytest.approx(of_mean, rel=1e-5)
    assert terms["covariance"].item() == pytest.approx(of_covariance, rel=1e-5)
    assert losses == [pytest.approx(of_mean + of_covariance, rel=1e-5)]
    standing = np.abs((batch["mean"] - batch["mean"][:, :1]).numpy())[:, 1:].mean()
    assert terms["standing"].item() == pytest.approx(standing, rel=1e-5)
    changed = {name for name, value in stage.model.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {f"predictor.{name}" for name, _ in stage.predictor.named_parameters()}


def test_the_rate_falls_when_an_epochs_mean_loss_has_not_fallen_for_longer_than_the_patience():
    """Two steps per epoch. Single steps swing; only the epochs' means, 2, 2, 2, 2, count."""
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], 1e-3)
    plateau, rates = EpochPlateau(optimizer, steps_per_epoch=2, patience=2), []
    for loss in (1.0, 3.0, 3.0, 1.0, 0.0, 4.0, 4.0, 0.0):
        plateau.observe(torch.tensor(loss))
        plateau.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == [1e-3] * 7 + [pytest.approx(1e-4)]


def test_the_release_s_numbers():
    config = DrivingConfig()
    assert (config.predict_window, config.predict_batch, config.predict_patience) == (32, 256, 50)
    stage = stage_of()
    assert stage.optimizers["predictor"].defaults["lr"] == 1e-3
    assert stage.optimizers["predictor"].defaults["betas"] == (0.9, 0.999)
    assert stage.plateau.plateau.factor == 0.1
    assert stage.plateau.steps_per_epoch == 2  # three clips in batches of two


def test_it_learns_a_motion_that_the_first_frame_tells():
    """Points that drift away from the centre, on made keypoints; far better than standing still."""
    stage = stage_of(predict_hidden=32, predict_window=6, predict_batch=16, predict_learning_rate=1e-2)
    generator = torch.Generator().manual_seed(0)

    def update(name: str, loss: Tensor, clip_grad: float | None = None) -> None:
        stage.optimizers[name].zero_grad()
        loss.backward()
        stage.optimizers[name].step()

    for _ in range(300):
        start = torch.rand(16, 1, 3, 2, generator=generator) - 0.5
        mean = start * (1 + 0.2 * torch.arange(6)[:, None, None])
        terms = stage.step({"mean": mean, "covariance": (0.01 * torch.eye(2)).expand(16, 6, 3, 2, 2)}, update)
    assert terms["mean"] < 0.5 * terms["standing"]
    assert terms["covariance"] < 0.002


def run_of(folder: Path, seconds: float | None = None, resume: bool = False) -> Mapping[str, Tensor]:
    """Motion and prediction, two and six steps; the predictor's checkpoint at the end, optimiser and all."""
    system = Driving(*tiny(**{**PREDICT, "steps": 2, "predict_steps": 6, "predict_patience": 0}))
    loop = replace(LOOP, time_limit_s=seconds)
    fit(stages(system, clips()), folder, loop, config={}, resume=resume)
    last = folder / "checkpoints" / "predict-000006"
    if not last.is_dir():
        return {}
    return {
        f"{name}/{key}": v
        for name in ("model", "optim")
        for key, v in load_tensors(last / f"{name}.safetensors").items()
    }


def test_a_resumed_training_is_the_whole_one_bit_for_bit(tmp_path):
    whole = run_of(tmp_path / "whole")
    for _ in range(20):  # stopped after every single step
        stopped = run_of(tmp_path / "stopped", 1e-9, resume=(tmp_path / "stopped").is_dir())
        if stopped:
            break
    assert whole.keys() == stopped.keys()
    assert all(torch.equal(whole[key], stopped[key]) for key in whole)
    states = [
        (tmp_path / name / "checkpoints/predict-000006/state.json").read_text() for name in ("whole", "stopped")
    ]
    plateaus = [json.loads(text)["schedulers"] for text in states]
    assert plateaus[0] == plateaus[1]
    assert plateaus[0]["predictor"]["plateau"]["last_epoch"] == 3  # six steps, two to an epoch


# --- animating, saving, the command line ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared clips, a finished model without a predictor, and what `--stages predict` made of it."""
    folder = tmp_path_factory.mktemp("place")
    write_dataset(folder / "set", clips(), info=DatasetInfo(title="squares", licence="CC0"))
    config, networks = tiny(heatmap_scale=7.0, guide_steps=9)
    Driving(config, networks).save_pretrained(folder / "finished")
    request = TrainRequest(
        "driving",
        (str(folder / "set"),),
        folder / "run",
        settings={**PREDICT, "predict_steps": "2"},
        start_from=str(folder / "finished"),
        stages=("predict",),
    )
    assert "trained for 2 steps" in train(request, LOOP)
    media.write_video(folder / "me.png", iter(STILL[None]), 10)
    return folder


def test_the_stage_alone_adds_a_predictor_and_leaves_the_rest_as_it_was(place):
    before, after = (load_tensors(place / name / "model.safetensors") for name in ("finished", "run/model"))
    assert {name for name in set(after) - set(before)} == {
        f"predictor.{name}" for name, _ in predictor().named_parameters()
    }
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    finished, made = (load(place / name).system for name in ("finished", "run"))
    assert made.config == replace(finished.config, **{**PREDICT, "predict_steps": 2})  # not the preset's
    assert made.card["stages"] == ["predict"]
    assert (place / "run/previews").is_dir()


def test_predicting_starts_at_the_still_and_gives_as_many_frames_as_asked_for(place):
    animator = load(place / "run")
    steps = list(animator(STILL, stillmotion.Predict(frames=BATCH + 2)))
    assert len(steps) == BATCH + 2
    networks = animator.system.networks
    with torch.no_grad():
        own = networks.detector(torch.from_numpy(STILL.copy()).permute(2, 0, 1)[None].float() / 255)
        predicted = networks.predictor(own, BATCH + 2)
    assert np.allclose(steps[0].facts["mean"], own.mean[0], atol=1e-5)
    for t in (1, BATCH + 1):
        assert np.allclose(steps[t].facts["mean"], predicted.mean[0, t], atol=1e-5)
        assert np.allclose(steps[t].facts["covariance"], predicted.covariance[0, t], atol=1e-5)
    fewer = animator(STILL, stillmotion.Predict(fps=10), frames=3, layers=True)
    assert fewer.fps == 10
    assert [sorted(step.layers) for step in fewer] == [["flow", "keypoints", "masks", "warped"]] * 3


def test_a_model_with_a_predictor_still_follows_videos_as_before(place):
    video = moving_square("drive", frames=3).frames
    before, after = (load(place / name)(STILL, Drive(video)).frames() for name in ("finished", "run"))
    assert np.array_equal(before, after)


def test_a_predictor_changes_no_other_first_weight():
    without, beside = tiny()[1].state_dict(), tiny(**PREDICT)[1].state_dict()
    assert all(torch.equal(value, beside[name]) for name, value in without.items())


def test_a_model_without_a_predictor_says_how_to_get_one(place):
    with pytest.raises(StillmotionError, match="--stages predict"):
        load(place / "finished")(STILL, stillmotion.Predict())


@pytest.mark.parametrize(("changes", "word"), [({"frames": 0}, "frames"), ({"fps": 0.0}, "fps")])
def test_a_prediction_checks_itself(changes, word):
    with pytest.raises(StillmotionError, match=word):
        stillmotion.Predict(**changes)


def test_the_command_line_predicts(place, tmp_path, capsys):
    common = ["animate", str(place / "me.png"), "-o", str(tmp_path / "out.gif"), "--size", "model"]
    assert cli.main([*common, "--model", str(place / "run"), "--predict", "--frames", "4"]) == 0
    assert "4 frames at 25 per second" in capsys.readouterr().out
    assert cli.main([*common, "--model", str(place / "run"), "--predict", "--drive", "x.mp4", "-y"]) == 2
    assert "one of --drive VIDEO" in capsys.readouterr().err
    assert cli.main([*common, "--model", str(place / "run"), "--predict", "--keep-background", "-y"]) == 2
    assert "--keep-background belongs to --drive" in capsys.readouterr().err
    assert cli.main([*common, "--model", str(place / "finished"), "--predict", "-y"]) == 2
    assert "no predictor" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--stages", "predict"], "--from"),
        (["--stages", "dance", "--from", "FINISHED"], "known are guide, motion, predict"),
        (["--stages", "predict", "--from", "FINISHED"], "--set predict_steps=N"),
        (["--stages", "predict", "--from", "FINISHED", "--set", "predict_window=1"], "predict_window"),
    ],
)
def test_stages_that_cannot_be_run_are_said_in_a_sentence(place, tmp_path, options, word, capsys):
    filled = [str(place / "finished") if part == "FINISHED" else part for part in options]
    assert cli.main(["train", "driving", str(place / "set"), "-o", str(tmp_path / "run"), *filled]) == 2
    assert word in capsys.readouterr().err


def test_all_stages_run_in_order_when_there_are_steps():
    config = {**asdict(TINY), **PREDICT}
    system = Driving.build(DrivingConfig(**config))
    assert [stage.name for stage in stages(system, clips())] == ["motion", "predict"]
    assert [stage.name for stage in stages(system, clips(), only=("predict",))] == ["predict"]
    assert [stage.name for stage in stages(Driving(*tiny()), clips())] == ["motion"]
