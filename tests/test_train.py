"""`stillmotion train` without the typing: data in, a model out, weights taken over."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from driving_tools import STAGE, TINY, at, changed_config, moving_square, tiny
from refusals import refuses
from stillmotion.animate import load
from stillmotion.data.clip import Clip
from stillmotion.data.info import DatasetInfo
from stillmotion.data.shards import write_dataset
from stillmotion.files import parse_settings, read_json
from stillmotion.nn.norm import BatchNorm2d
from stillmotion.systems import stills
from stillmotion.systems.driving.animating import Driving
from stillmotion.systems.driving.config import PRESETS, DrivingConfig
from stillmotion.train import TrainRequest, stage_steps, train
from stillmotion.training import LoopSettings, Outcome
from stopping import ctrl_c

LOOP = LoopSettings(checkpoint_every=2, preview_every=0, precision="fp32", threads=1, log_every=1)
SEVERAL = parse_settings(
    DrivingConfig,
    {
        **asdict(TINY),
        "motion_stages": [{"name": "one", "steps": 5, "batch": 2}, {"name": "two", "steps": 6, "batch": 2}],
        "predictor": {"hidden": 8},
        "keypoint_prediction": {"steps": 7, "batch": 2},
    },
    "tests",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "squares"
    clips = []
    for i in range(4):
        clip = moving_square(f"clip-{i}", seed=i)
        clips.append(Clip(clip.name, clip.frames, clip.fps, meta={"split": "test" if i == 3 else "train"}))
    write_dataset(folder, clips, info=DatasetInfo(title="squares", licence="CC0"))
    return folder


@pytest.fixture(autouse=True)
def _small_is_tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "small", TINY)
    monkeypatch.setitem(PRESETS, "several", SEVERAL)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The stages of all trainings of the test, none of which is run."""
    stages: list[Any] = []

    def finished(given: list[Any], *_: Any, **__: Any) -> Outcome:
        stages.extend(given)
        return Outcome(finished=True, stage="motion", step=0)

    monkeypatch.setattr("stillmotion.train.fit", finished)
    monkeypatch.setattr("stillmotion.train.check_run", lambda *_: None)  # several use one folder
    return stages


def request(place: Path, run: Path, **changes: Any) -> TrainRequest:
    return replace(TrainRequest("driving", (str(place),), run, steps=2), **changes)


def test_a_run_leaves_a_model_with_its_card(data: Path, tmp_path: Path) -> None:
    assert train(request(data, tmp_path / "run"), LOOP) == f"{tmp_path / 'run' / 'model'}: trained for 2 steps"
    system = load(tmp_path / "run").system
    assert system.card == {
        **{"data": "squares", "data_licence": "CC0", "fps": 25.0, "preset": "small", "start_from": None, "steps": 2}
    }
    assert not system.networks.training
    trained = (system.networks.detector, system.networks.generator)
    counts = [int(m.num_batches_tracked) for part in trained for m in part.modules() if isinstance(m, BatchNorm2d)]
    assert counts
    assert min(counts) >= 2  # batch norm took part: its statistics have moved in every step


def test_the_card_knows_the_training_stills(
    data: Path, tmp_path: Path, seen: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stills, "_LEAST", 3)
    train(request(Path(f"{data}@2"), tmp_path / "run"))  # twice, since each half needs two
    firsts = [stills.describe(moving_square("one", seed=i).frames[0]) for i in range(3)]  # the fourth is for testing
    known = load(tmp_path / "run").system.card["stills"]
    assert known["mean"] == pytest.approx(np.mean(firsts, axis=0), rel=1e-5)


def test_a_training_that_was_stopped_leaves_the_model_of_its_last_step(data: Path, tmp_path: Path) -> None:
    asked = request(data, tmp_path / "run", preset="several")
    with ctrl_c():
        told = train(asked, LOOP)
    assert told.endswith("stopped by Ctrl-C at step 1 of stage one; add --resume to go on")
    assert load(tmp_path / "run").system.card["steps"] == 1
    assert train(replace(asked, resume=True), LOOP).endswith("trained for 2 steps")


def test_a_training_in_a_time_budget_is_a_finished_one(data: Path, tmp_path: Path) -> None:
    told = train(request(data, tmp_path / "run", steps=100), replace(LOOP, time_budget_s=1e-9))
    assert told == f"{tmp_path / 'run' / 'model'}: trained for 1 steps"
    assert load(tmp_path / "run").system.card["steps"] == 1


def test_clips_of_the_test_split_are_not_trained_on(data: Path, tmp_path: Path, seen: list[Any]) -> None:
    train(request(data, tmp_path / "run"), LOOP)
    (stage,) = seen
    assert [clip.name for clip in stage.dataset.clips] == ["clip-0", "clip-1", "clip-2"]
    assert [clip.name for clip in stage.preview_clips] == ["clip-3"]


def test_a_set_can_count_several_times(data: Path, tmp_path: Path, seen: list[Any]) -> None:
    train(request(data, tmp_path / "run", data=(f"{data}@3",)), LOOP)
    assert len(seen[0].dataset.clips) == 9


def test_weights_are_taken_over_whole_or_in_parts(data: Path, tmp_path: Path, seen: list[Any]) -> None:
    Driving(*tiny()).save_pretrained(tmp_path / "given")
    given = load(tmp_path / "given").system.shipped().state_dict()
    parts = ("detector", "generator.dense_motion")
    for chosen in ((), parts):
        asked = request(data, tmp_path / "run", start_from=str(tmp_path / "given"), parts=chosen)
        train(asked, replace(LOOP, seed=5))
    whole, some = (stage.model.state_dict() for stage in seen)
    assert all(torch.equal(whole[name], value) for name, value in given.items())
    for name, value in given.items():
        if "weight" in name and "norm" not in name:
            assert torch.equal(some[name], value) is name.startswith(parts), name


def test_the_seed_decides_first_weights_and_the_order_of_samples(data: Path, tmp_path: Path, seen: list[Any]) -> None:
    for seed in (1, 1, 2):
        train(request(data, tmp_path / "run"), replace(LOOP, seed=seed))
    weights = [stage.model.detector.logits.weight for stage in seen]
    orders = [[stage.dataset[n]["name"] for n in range(12)] for stage in seen]
    for values, same in ((weights, torch.equal), (orders, list.__eq__)):
        assert same(values[0], values[1])
        assert not same(values[0], values[2])


# --- stages --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("only", "names"),
    [
        ((), ["motion_stages.one.steps", "motion_stages.two.steps", "keypoint_prediction.steps"]),
        (("two",), ["motion_stages.two.steps"]),
        (("keypoint_supervision", "one"), ["keypoint_supervision.steps", "motion_stages.one.steps"]),
    ],
)
def test_the_steps_of_a_stage_are_found_by_its_name(only: tuple[str, ...], names: list[str]) -> None:
    assert stage_steps(asdict(SEVERAL), only) == names


def test_settings_of_a_stage_may_be_called_its_training() -> None:
    values = {
        "forecast": {"width": 4},
        "forecast_training": {"steps": 0, "batch": 2},
        "other": {"steps": 1, "batch": 2},
    }
    assert stage_steps(values, ["forecast"]) == ["forecast_training.steps"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"steps": None}, {"one": 5, "two": 6, "keypoint_prediction": 7}),
        ({"steps": 3}, {"one": 3, "two": 3, "keypoint_prediction": 3}),
        ({"steps": 3, "settings": {"motion_stages.two.steps": "4"}}, {"one": 3, "two": 4, "keypoint_prediction": 3}),
        ({"steps": 3, "stages": ("two",)}, {"two": 3}),
        ({"steps": 3, "settings": {"motion_stages.one.steps": "0"}}, {"two": 3, "keypoint_prediction": 3}),
    ],
)
def test_steps_are_those_of_every_stage_that_runs(
    data: Path, tmp_path: Path, seen: list[Any], changes: dict[str, Any], expected: dict[str, int]
) -> None:
    train(request(data, tmp_path / "run", preset="several", **changes), LOOP)
    assert {stage.name: stage.steps for stage in seen} == expected


def test_stages_of_a_finished_model_run_on_its_own_configuration(data: Path, tmp_path: Path, seen: list[Any]) -> None:
    Driving(*tiny(**at("keypoints", heatmap_scale=7.0))).save_pretrained(tmp_path / "given")
    asked = request(data, tmp_path / "run", start_from=str(tmp_path / "given"), stages=("motion",))
    assert asked.preset_name == "as given"
    train(asked, LOOP)
    expected = changed_config(**at("keypoints", heatmap_scale=7.0), **{f"{STAGE}.steps": 2})
    assert seen[0].config == expected
    assert load(tmp_path / "run").system.card["stages"] == ["motion"]
    train(replace(asked, preset="small"), LOOP)
    assert seen[1].config == changed_config(**{f"{STAGE}.steps": 2})
    assert replace(asked, start_from=None).preset_name == "small"


def test_a_model_alone_is_trained_on_in_its_main_stage(data: Path, tmp_path: Path, seen: list[Any]) -> None:
    several = Driving.build(SEVERAL)
    assert several.main_stage == "two"
    several.save_pretrained(tmp_path / "given")
    asked = request(data, tmp_path / "run", start_from=str(tmp_path / "given"), steps=None)
    train(asked, LOOP)
    ((name, stage),) = ((stage.name, stage) for stage in seen)
    assert (name, stage.steps, stage.config) == ("two", 6, SEVERAL)
    card = load(tmp_path / "run").system.card
    assert (card["preset"], card["start_from"], card["stages"]) == ("as given", "given", ["two"])

    # A preset or a stage is taken as named; parts leave the rest fresh, which needs every stage.
    for changes, names in (
        ({"preset": "several"}, ["one", "two", "keypoint_prediction"]),
        ({"stages": ("one",)}, ["one"]),
        ({"parts": ("detector",)}, ["motion"]),
    ):
        seen.clear()
        train(replace(asked, **changes), LOOP)
        assert [stage.name for stage in seen] == names


# --- what cannot be ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"system": "dancing"}, "no system 'dancing'"),
        ({"preset": "huge"}, "known are"),
        ({"start_from": "nothing-here"}, "no model"),
        ({"start_from": "SAVED", "parts": ("eyes",)}, "begin with detector, generator"),
        ({"start_from": "SAVED", "settings": {"keypoints.count": 4}}, "sizes"),
        ({"start_from": "SAVED", "settings": {"generator.fields": True}}, "sizes|other parts"),
        ({"settings": {"colour": "red"}}, "not a setting"),
        ({"settings": {"keypoints.counts": 3}}, "did you mean 'keypoints.count'"),
        ({"settings": {"size": 128}}, "--size 128"),
        ({"data": ("DATA@0",)}, "at least once"),
        ({"stages": ("dance",)}, "no stage 'dance'"),
    ],
)
def test_what_cannot_be_trained_is_said_in_a_sentence(
    data: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    if changes.get("start_from") == "SAVED":
        Driving(*tiny()).save_pretrained(tmp_path / "saved")
        changes = {**changes, "start_from": str(tmp_path / "saved")}
    if "data" in changes:
        changes = {"data": (f"{data}@0",)}
    refuses(words, train, request(data, tmp_path / "run", **changes), LOOP)
    assert not (tmp_path / "run").exists()


def test_a_finished_run_is_not_trained_over(data: Path, tmp_path: Path) -> None:
    train(request(data, tmp_path / "run"), LOOP)
    before = read_json(tmp_path / "run" / "last.json")
    refuses("resume", train, request(data, tmp_path / "run"), LOOP)
    assert read_json(tmp_path / "run" / "last.json") == before


# --- one run, one owner --------------------------------------------------------------------------------------------
def test_files_that_are_no_run_are_left_alone(data: Path, tmp_path: Path) -> None:
    mine = {tmp_path / "run" / name: name for name in ("config.json", ".tmp-notes", "model/work.txt", ".old-a/b")}
    for path, text in mine.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for resume in (False, True):
        refuses("is no run", train, request(data, tmp_path / "run", resume=resume), LOOP)
    assert {path: path.read_text() for path in mine} == mine
    (tmp_path / "file").write_text("mine")
    refuses("is not a folder", train, request(data, tmp_path / "file"), LOOP)
    refuses("file", train, request(data, tmp_path / "file" / "run"), LOOP)


def test_a_second_training_in_a_folder_is_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(*_: Any, **__: Any) -> Outcome:
        refuses("Another process is training", train, request(data, tmp_path / "run"), LOOP)
        return Outcome(finished=True, stage="motion", step=0)

    monkeypatch.setattr("stillmotion.train.fit", fit)
    train(request(data, tmp_path / "run"), LOOP)


def test_a_resume_needs_nothing_said_again_and_gives_the_same_weights(data: Path, tmp_path: Path) -> None:
    loop = replace(LOOP, seed=3)
    train(request(data, tmp_path / "whole", steps=3), loop)
    with ctrl_c():
        train(request(data, tmp_path / "run", steps=3), loop)
    assert train(TrainRequest("", (), tmp_path / "run", resume=True)).endswith("trained for 3 steps")
    whole, parts = (load(tmp_path / name).system.networks.state_dict() for name in ("whole", "run"))
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    refuses("Say which system", train, TrainRequest("", (), tmp_path / "other"))


def test_a_finished_run_can_be_given_more_steps_but_not_fewer(data: Path, tmp_path: Path) -> None:
    train(request(data, tmp_path / "run"), LOOP)
    again = TrainRequest("", (), tmp_path / "run", resume=True)
    assert train(replace(again, steps=4)).endswith("trained for 4 steps")
    assert load(tmp_path / "run").system.card["steps"] == 4
    assert train(again).endswith("trained for 4 steps")
    refuses("has 4 steps already", train, replace(again, steps=3))
    assert train(again).endswith("trained for 4 steps")  # what was refused is not remembered


def test_more_steps_are_more_than_a_stage_was_given_by_name(data: Path, tmp_path: Path) -> None:
    (name,) = stage_steps(asdict(TINY))
    train(request(data, tmp_path / "run", steps=None, settings={name: 1}), LOOP)
    again = TrainRequest("", (), tmp_path / "run", resume=True)
    assert train(replace(again, steps=3)).endswith("trained for 3 steps")
    assert train(again).endswith("trained for 3 steps")


def test_a_resume_knows_its_data_by_content_and_names_what_differs(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(data, tmp_path / "run", resume=True)
    train(replace(asked, resume=False), LOOP)
    monkeypatch.chdir(data.parent)
    (tmp_path / "moved").symlink_to(data)
    for spelling in (data.name, f"./{data.name}/", str(tmp_path / "moved")):
        train(replace(asked, data=(spelling,)), LOOP)
    write_dataset(tmp_path / "other", [moving_square("clip-0", seed=9)], info=DatasetInfo(title="squares"))
    refuses(r"data\.0\.digests", train, replace(asked, data=(str(tmp_path / "other"),)), LOOP)
    refuses("seed: 0 then, 5 now", train, asked, replace(LOOP, seed=5))
    refuses("system", train, replace(asked, system="strokes"), LOOP)
    refuses(r"keypoints\.count", train, replace(asked, settings={"keypoints.count": 4}), LOOP)
