"""The ablations of structures in one command: poses and faces train, tables have their numbers and the paper's."""

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from benchmark_tools import benchmark
from stillmotion.data.info import DatasetInfo
from stillmotion.data.shards import write_dataset
from stillmotion.files import change_settings, read_json
from stillmotion.systems.structures.config import PRESETS, StructuresConfig
from stillmotion.train import TrainRequest
from structures_tools import changed
from structures_training_tools import LEARNING, face_clip, square_clip


@pytest.fixture(scope="module")
def ablations() -> ModuleType:
    return benchmark("structures_ablations")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A moving square and faces of 16 pixels, and preset `narrow` made tiny."""
    monkeypatch.setitem(
        PRESETS, "narrow", changed(LEARNING, forecast_training__batch=1, refinement_training__batch=1)
    )
    squares = [square_clip(name, frames=6) for name in ("a", "b")]
    faces = [replace(face_clip(seed, frames=6, size=16), name=f"face-{seed}") for seed in range(3)]
    folders = []
    for title, clips in (("squares", squares), ("faces", faces)):
        splits = ["train"] + ["test"] * (len(clips) - 1)
        made = [replace(c, meta={**c.meta, "split": s}) for c, s in zip(clips, splits, strict=True)]
        write_dataset(tmp_path / title, made, info=DatasetInfo(title=title))
        folders.append(str(tmp_path / title))
    return folders


def test_the_variants_and_the_papers_numbers_are_the_sheets(ablations: ModuleType) -> None:
    """Sheet sections 8.1, 8.3 and 9: MSE on Penn Action with true joints, ACD-I and ACD-C on MUG."""
    off = {"refinement.enabled": False}
    found = {v.title: (dict(v.changes), v.paper, v.refined) for v in ablations.VARIANTS.values()}
    assert found == {
        "No dense links, no refinement": ({**off, "forecast.dense": False}, (0.027, 0.459, 0.155), False),
        "Dense links, no refinement": (off, (0.014, 0.252, 0.140), False),
        "Dense links and refinement": ({}, (0.011, 0.184, 0.107), True),
        "No residual (Villegas et al.)": ({**off, "forecast.residual": "none"}, (0.025, 0.683, 0.130), False),
        "Single difference map (Eq. 1)": ({**off, "forecast.residual": "difference"}, (), False),
        "Fields (ours)": ({**off, "forecast.fields": True}, (), False),
    }
    assert list(ablations.COLUMNS)[:3] == ["MSE", "ACD-I", "ACD-C"]


def test_every_variant_has_the_same_minutes(ablations: ModuleType) -> None:
    """Refinement has a quarter of them, in which it makes 5 steps; fields make 11."""
    steps_of_all = ablations.steps_of({"forecast": 8, "fields": 11}, 5)
    plan = ablations.Plan(("a",), "a", "narrow", {"losses.gan": "0"}, ablations.WORLD_FACES, None, steps_of_all)
    for key, variant in ablations.VARIANTS.items():
        request = plan.request(variant, Path("nowhere"))
        assert request.preset == ("small-faces" if key == "fields" else "narrow")
        config = change_settings(PRESETS["narrow"], request.settings, "test")
        assert isinstance(config, StructuresConfig)
        steps = (config.forecast_training.steps, config.refinement_training.steps, config.pose_prediction.steps)
        assert steps == {"full": (6, 5, 0), "fields": (11, 0, 0)}.get(key, (8, 0, 0))
        assert (config.structure.kind, config.structure.face_model, config.losses.gan) == ("normals", "faces", 0)
        assert config.forecast.dense == (key != "sparse")


def test_minutes_become_steps_of_the_stage_that_is_timed(
    ablations: ModuleType, data: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def steps_in(minutes: float, trial: TrainRequest, loop: object, train: object, lines: object) -> int:
        settings = trial.settings
        steps = settings["forecast_training.steps"], settings["refinement_training.steps"]
        asked.append((minutes, trial.preset, steps))
        return 9

    monkeypatch.setattr(ablations, "steps_in", steps_in)
    plan = ablations.Plan((data[0],), data[0], "narrow", {}, {}, 8.0)
    assert [ablations._steps(plan, None, stage) for stage in ablations.TIMED] == [9, 9, 9]
    trial = ablations.TRIAL_STEPS
    assert asked == [(8.0, "narrow", (trial, 0)), (2.0, "narrow", (1, trial)), (8.0, "small", (trial, 0))]


@pytest.mark.slow
def test_the_tables_of_ablations(
    ablations: ModuleType, data: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "runs"
    common = [*data, "-o", str(out), "--steps", "2", "--threads", "1", "--only", "full", "no-residual"]
    assert ablations.main(common) == 0
    for title, protocol in (("squares", "structures"), ("faces", "retargeting")):
        found, report = read_json(out / title / "ablations.json"), read_json(out / title / "report" / "report.json")
        assert list(found["variants"]) == ["full", "no-residual"]
        full = found["variants"]["full"]
        assert (full["steps"], found["report"]["protocol"], report["split"]) == ([2, 1], protocol, "test")
        assert full["ours"] == report["means"][str(out / title / "full")]
        assert full["ours"]["MSE after refinement"] is not None
        assert found["variants"]["no-residual"]["ours"]["MSE"] > 0
        lines = (out / title / "ablations.md").read_text().splitlines()
        (at,) = (
            i
            for i, line in enumerate(lines)
            if line.startswith("| Dense links and refinement | paper | 0.0110 | 0.184 |")
        )
        shown = lines[at + 1].split(" | ")
        assert (shown[1], shown[2], shown[-1]) == ("ours", f"{full['ours']['MSE']:.4f}", "2 + 1 |")
        assert any(line.startswith("| copy the still | ours |") for line in lines)
    monkeypatch.setattr(ablations, "train", lambda request, loop: pytest.fail("it is trained already"))
    assert ablations.main(common) == 0


def test_what_cannot_be_measured_alike_is_refused(
    ablations: ModuleType, data: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["-o", str(tmp_path / "runs")]
    assert ablations.main([*data, *out, "--set", "forecast.dense=false"]) == 2
    assert "forecast.dense is not for --set" in capsys.readouterr().err
    assert ablations.main([*data, *out, "--test", data[0]]) == 2
    assert "leave --test out" in capsys.readouterr().err
