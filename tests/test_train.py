"""`stillmotion train` without the typing: data in, a model out, weights taken over."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from driving_tools import TINY, moving_square, tiny
from stillmotion.animate import load
from stillmotion.data.clip import Clip
from stillmotion.data.info import DatasetInfo
from stillmotion.data.shards import write_dataset
from stillmotion.errors import StillmotionError
from stillmotion.files import read_json
from stillmotion.nn.norm import BatchNorm2d
from stillmotion.systems.driving.animating import Driving
from stillmotion.train import TrainRequest, train
from stillmotion.training import LoopSettings

LOOP = LoopSettings(checkpoint_every=2, preview_every=0, precision="fp32", threads=1, log_every=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "squares"
    clips = []
    for i in range(4):
        clip = moving_square(f"clip-{i}", seed=i)
        clips.append(Clip(clip.name, clip.frames, clip.fps, meta={"split": "test" if i == 3 else "train"}))
    write_dataset(folder, clips, info=DatasetInfo(title="squares", licence="CC0"))
    return folder


def request(data: Path, run: Path, **changes) -> TrainRequest:
    settings = {**asdict(TINY), "steps": 2, **changes.pop("settings", {})}
    return TrainRequest("driving", (str(data),), run, settings=settings, **changes)


def test_a_run_leaves_a_model_with_its_card(data, tmp_path):
    told = train(request(data, tmp_path / "run"), LOOP)
    assert "trained for 2 steps" in told
    system = load(tmp_path / "run").system
    assert system.card["data"] == "squares"
    assert system.card["data_licence"] == "CC0"
    assert system.card["steps"] == 2
    assert system.card["fps"] == 25
    assert not system.networks.training
    trained = (system.networks.detector, system.networks.generator)
    counts = [int(m.num_batches_tracked) for part in trained for m in part.modules() if isinstance(m, BatchNorm2d)]
    assert counts
    assert min(counts) >= 2  # batch norm took part: its statistics have moved in every step


def test_clips_of_the_test_split_are_not_trained_on(data, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("stillmotion.train.fit", lambda stages, *_, **__: seen.extend(stages) or _finished())
    train(request(data, tmp_path / "run"), LOOP)
    (stage,) = seen
    assert [clip.name for clip in stage.dataset.clips] == ["clip-0", "clip-1", "clip-2"]
    assert [clip.name for clip in stage.preview_clips] == ["clip-3"]


def test_a_set_can_count_several_times(data, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("stillmotion.train.fit", lambda stages, *_, **__: seen.extend(stages) or _finished())
    train(TrainRequest("driving", (f"{data}@3",), tmp_path / "run", settings=asdict(TINY)), LOOP)
    assert len(seen[0].dataset.clips) == 9


def test_weights_are_taken_over_whole_or_in_parts(data, tmp_path, monkeypatch):
    config, networks = tiny()
    Driving(config, networks).save_pretrained(tmp_path / "given")
    given = load(tmp_path / "given").system.shipped().state_dict()
    seen = []
    monkeypatch.setattr("stillmotion.train.fit", lambda stages, *_, **__: seen.extend(stages) or _finished())
    train(request(data, tmp_path / "whole", start_from=str(tmp_path / "given"), settings={"seed": 5}), LOOP)
    parts = ("detector", "generator.dense_motion")
    train(
        request(data, tmp_path / "parts", start_from=str(tmp_path / "given"), parts=parts, settings={"seed": 5}), LOOP
    )
    whole, some = (stage.model.state_dict() for stage in seen)
    assert all(torch.equal(whole[name], value) for name, value in given.items())
    for name, value in given.items():
        if "weight" in name and "norm" not in name:
            assert torch.equal(some[name], value) is name.startswith(parts), name


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"preset": "huge"}, "known are"),
        ({"start_from": "nothing-here"}, "no model"),
        ({"start_from": "SAVED", "parts": ("eyes",)}, "begin with detector, generator"),
        ({"start_from": "SAVED", "settings": {"keypoints": 4}}, "sizes"),
        ({"settings": {"colour": "red"}}, "not a setting"),
        ({"settings": {"size": 128}}, "--size 128"),
    ],
)
def test_what_cannot_be_trained_is_said_in_a_sentence(data, tmp_path, changes, words):
    if changes.get("start_from") == "SAVED":
        config, networks = tiny()
        Driving(config, networks).save_pretrained(tmp_path / "saved")
        changes = {**changes, "start_from": str(tmp_path / "saved")}
    with pytest.raises(StillmotionError, match=words):
        train(request(data, tmp_path / "run", **changes), LOOP)


def test_a_finished_run_is_not_trained_over(data, tmp_path):
    train(request(data, tmp_path / "run"), LOOP)
    before = read_json(tmp_path / "run" / "last.json")
    with pytest.raises(StillmotionError, match="resume"):
        train(request(data, tmp_path / "run"), LOOP)
    assert read_json(tmp_path / "run" / "last.json") == before


def _finished():
    from stillmotion.training import Outcome

    return Outcome(finished=True, stage="motion", step=0)
