"""The benchmark of Table 2: the six variants and their numbers, one start for all, resuming, and the table."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from benchmark_tools import benchmark
from driving_tools import LOSSES, STAGE, TINY, at, moving_square
from stillmotion.animate import load
from stillmotion.data.clip import Clip
from stillmotion.data.info import DatasetInfo
from stillmotion.data.shards import write_dataset
from stillmotion.files import change_settings, read_json
from stillmotion.systems.driving.animating import Driving
from stillmotion.systems.driving.config import PRESETS
from stopping import ctrl_c

STEPS = "motion_stages.frozen_detector.steps"
SMALL = change_settings(
    TINY,
    {
        "keypoint_supervision.steps": 5,
        **at(LOSSES, mask_mixture=1.0, pyramid=1.0),
        **at(STAGE, freeze_detector=True, name="frozen_detector"),
    },
    "tests",
)


@pytest.fixture(scope="module")
def table2() -> ModuleType:
    return benchmark("driving_table2")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny data set and a model to start from."""
    folder = tmp_path_factory.mktemp("table2")
    clips = []
    for i in range(3):
        clip = moving_square(f"clip-{i}", frames=4, seed=i)
        clips.append(Clip(clip.name, clip.frames, clip.fps, meta={"split": "test" if i == 2 else "train"}))
    write_dataset(folder / "squares", clips, info=DatasetInfo(title="squares"))
    torch.manual_seed(7)  # not the weights that a training itself starts with
    Driving.build(TINY).save_pretrained(folder / "start")
    return folder


@pytest.fixture
def call(
    table2: ModuleType, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, Path]]:
    """Calls the command with a tiny network in the place of preset `small`."""
    monkeypatch.setitem(PRESETS, "small", SMALL)

    def run(*arguments: str, out: Path = tmp_path / "runs") -> tuple[int, Path]:
        start = ["--from", str(made / "start")]
        return table2.main([f"{made / 'squares'}@2", *start, "-o", str(out), "--threads", "1", *arguments]), out

    return run


def test_the_variants_and_the_papers_numbers_are_the_sheets(table2: ModuleType) -> None:
    """Sheet section 8.3."""
    found = {
        v.title: (v.paper["L1"], v.paper["AKD"], v.paper["MKR"], v.paper["AED"]) for v in table2.VARIANTS.values()
    }
    assert found == {
        "No F": (0.057, 3.11, 0.238, 0.24),
        "No F_residual": (0.051, 2.81, 0.180, 0.22),
        "No F_coarse": (0.052, 2.75, 0.197, 0.22),
        "No Sigma_k": (0.054, 2.86, 0.206, 0.23),
        "No x": (0.051, 2.71, 0.193, 0.21),
        "Full": (0.050, 2.53, 0.174, 0.21),
    }
    changes = [dict(variant.changes) for variant in table2.VARIANTS.values()]
    assert changes == [
        {"motion.flow": "none"},
        {"motion.flow": "coarse"},
        {"motion.flow": "residual"},
        {"keypoints.covariance": "fixed"},
        {"motion.image": False},
        {},
    ]


@pytest.mark.slow
def test_all_six_are_trained_from_one_detector_and_stand_under_the_papers(call, made, capsys) -> None:
    code, out = call("--steps", "1")
    assert code == 0
    given = load(made / "start").system.networks.detector.state_dict()
    for key in ("no-flow", "no-residual", "no-coarse", "no-covariance", "no-image", "full"):
        system = load(out / key).system
        assert system.card["steps"] == 1
        frozen = system.networks.detector.state_dict()  # all variants have the same keypoints
        assert all(torch.equal(frozen[name], value) for name, value in given.items())
    assert load(out / "no-covariance").system.config.keypoints.covariance == "fixed"
    assert load(out / "full").system.config.keypoints.covariance == "full"

    text = (out / "table2.md").read_text()
    assert text in capsys.readouterr().out + "\n"
    lines = text.splitlines()
    for title in ("No F", "No F_residual", "No F_coarse", "No Sigma_k", "No x", "Full"):
        (at,) = (i for i, line in enumerate(lines) if line.startswith(f"| {title} |"))
        assert lines[at].split(" | ")[1] == "paper"
        assert lines[at + 1].startswith("| | ours | 0.")
    assert "| Full | paper | 0.050 | - | - | - | 2.53 | 17.4% | 0.21 |" in lines
    found = read_json(out / "table2.json")
    report = read_json(out / "report" / "report.json")
    assert found["variants"]["no-image"]["ours"] == report["means"][str(out / "no-image")]
    assert (report["split"], report["clips"]) == ("test", 1)
    lacking = [title for title in ("No F", "No F_coarse", "No x") if f"{title} has no loss `mask_mixture`" in text]
    assert lacking == ["No F", "No F_coarse", "No x"]
    assert text.count("has no loss") == 3


def test_a_finished_variant_is_not_trained_again_and_a_begun_one_goes_on(call, table2, monkeypatch) -> None:
    code, out = call("--steps", "3", "--only", "full")
    assert code == 0
    before = (out / "full" / "model" / "model.safetensors").stat().st_mtime_ns
    asked = []

    def stopped(request, loop):  # as after Ctrl-C: one step, then a model that is not finished
        asked.append((request.run.name, request.resume))
        with ctrl_c():
            return train(request, loop)

    train = table2.train
    monkeypatch.setattr(table2, "train", stopped)
    assert call("--steps", "3", "--only", "full", "no-flow", "no-image")[0] == 130
    assert asked == [("no-flow", False)]  # not the finished one, and nothing after the stop
    assert load(out / "no-flow").system.card["steps"] == 1

    monkeypatch.setattr(table2, "train", lambda request, loop: asked.append(request.resume) or train(request, loop))
    assert call("--steps", "3", "--only", "full", "no-flow")[0] == 0
    assert asked[1:] == [True]
    assert load(out / "no-flow").system.card["steps"] == 3
    assert (out / "full" / "model" / "model.safetensors").stat().st_mtime_ns == before
    assert list(read_json(out / "table2.json")["variants"]) == ["no-flow", "full"]


def test_a_variant_that_fails_is_told_and_the_others_go_on(call, table2, monkeypatch, capsys) -> None:
    train = table2.train

    def fails_once(request, loop):
        if request.run.name == "no-flow":
            raise table2.StillmotionError("The loss became NaN.")
        return train(request, loop)

    monkeypatch.setattr(table2, "train", fails_once)
    code, out = call("--steps", "1", "--only", "no-flow", "full")
    assert code == 1
    assert "no-flow: The loss became NaN." in capsys.readouterr().err
    assert list(read_json(out / "table2.json")["variants"]) == ["full"]


def test_minutes_become_the_same_steps_for_all_and_are_kept(call, table2, monkeypatch) -> None:
    """Trial lines say 2 seconds for 8 steps: a quarter of a second each, so 3 minutes are 720 steps."""
    lines = [{"step": 4, "seconds": 5.0}, {"step": 12, "seconds": 7.0}]
    asked = []
    monkeypatch.setattr(table2, "log_lines", lambda *_: lines)
    monkeypatch.setattr(table2, "finished", lambda folder, steps: False)
    monkeypatch.setattr(table2, "train", lambda request, loop: asked.append(request) or "told")
    _, out = call("--minutes", "3", "--only", "full")
    steps = table2.steps_of("frozen_detector")
    assert [request.settings[steps] for request in asked] == [12, 720]
    assert {request.stages for request in asked} == {("frozen_detector",)}
    assert read_json(out / "plan.json")["steps"] == 720
    call("--minutes", "3", "--only", "no-flow")
    assert [request.settings[steps] for request in asked[2:]] == [720]  # no second trial


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--steps", "2"], "another steps (1, now 2)"),
        (["--steps", "1", "--set", "size=32"], "another settings"),
        (["--steps", "1", "--set", "motion.flow=none"], "motion.flow is not for --set here"),
        (["--steps", "1", "--set", f"{STEPS}=9"], f"{STEPS} is not for --set here"),
        (["--steps", "1", "--preset", "huge"], "no preset 'huge'"),
        (["--steps", "1", "--network", "eyes=mine"], "no network 'eyes'"),
    ],
)
def test_a_folder_holds_one_plan(call, table2, monkeypatch, capsys, arguments, words) -> None:
    monkeypatch.setattr(table2, "train", lambda request, loop: "told")
    call("--steps", "1", "--only", "full")
    assert call(*arguments)[0] == 2
    assert words in capsys.readouterr().err


def test_from_scratch_keypoints_are_supervised_first_and_not_while_steps_are_timed(
    table2, made, monkeypatch, tmp_path
) -> None:
    monkeypatch.setitem(PRESETS, "small", SMALL)
    asked = []
    monkeypatch.setattr(table2, "log_lines", lambda *_: [{"step": 4, "seconds": 5.0}, {"step": 12, "seconds": 7.0}])
    monkeypatch.setattr(table2, "finished", lambda folder, steps: False)
    monkeypatch.setattr(table2, "train", lambda request, loop: asked.append(request) or "told")
    table2.main([str(made / "squares"), "-o", str(tmp_path / "runs"), "--minutes", "1", "--only", "full"])
    assert [request.stages for request in asked] == [
        ("frozen_detector",),
        ("keypoint_supervision", "frozen_detector"),
    ]
    assert table2.stages_of("paper", from_scratch=True) == ("motion",)


def test_the_test_clips_are_asked_for_before_hours_of_training(table2, made, tmp_path, capsys) -> None:
    write_dataset(tmp_path / "train-only", [moving_square("a")], info=DatasetInfo(title="a"))
    assert table2.main([str(tmp_path / "train-only"), "-o", str(tmp_path / "runs"), "--steps", "1"]) == 2
    assert "no clips of split 'test'" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_metric_that_is_in_the_report_is_in_the_table(table2) -> None:
    row = {"title": "Full", "paper": {"L1": 0.05}, "losses": ["pyramid"], "seconds": 60.0, "threads": 2}
    ours = {"L1": 0.0123, "L1 / copy the still": None, "AKD": 1.25, "MKR": 0.0625}
    found = {
        "variants": {"full": row | {"ours": ours}},
        "baselines": {"baseline: copy the still": {"L1": 0.02, "MKR": 0.5}},
        "plan": {"start_from": None, "parts": [], "steps": 7},
        "report": {"clips": 1, "split": "test", "frames": 2, "definition": "as told"},
        "trained_on": "a",
        "measured_on": "b",
        "batch": 8,
        "machine": {"cpu": "some"},
    }
    lines = json.loads(json.dumps(table2.as_markdown(found))).splitlines()
    assert lines[3] == "| | ours | 0.0123 | - | - | - | 1.25 | 6.2% | - |"
    assert lines[4] == "| copy the still | ours | 0.0200 | - | - | - | - | 50.0% | - |"
