"""The ablations of actions in one command: variants train on the same keypoints, the table has their numbers."""

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from actions_tools import TINY_FIELDS, TINY_FIELDS_VAE, action_clips, actions_of, changed
from benchmark_tools import benchmark
from stillmotion.data.clip import Clip
from stillmotion.data.info import DatasetInfo
from stillmotion.data.shards import write_dataset
from stillmotion.files import change_settings, read_json
from stillmotion.systems.actions.config import PRESETS, ActionsConfig


@pytest.fixture(scope="module")
def ablations() -> ModuleType:
    return benchmark("actions_ablations")


@pytest.fixture
def common(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Four clips and a model with detector and generator; presets `small` and `small-vae` made tiny."""
    monkeypatch.setitem(PRESETS, "small", replace(TINY_FIELDS, actions=None))
    monkeypatch.setitem(PRESETS, "small-vae", replace(TINY_FIELDS_VAE, actions=None))
    clips = [
        Clip(clip.name, clip.frames, clip.fps, clip.tracks, {**clip.meta, "split": "train" if i < 2 else "test"})
        for i, clip in enumerate(action_clips())
    ]
    write_dataset(tmp_path / "data", clips, info=DatasetInfo(title="squares"))
    actions_of().save_pretrained(tmp_path / "given")
    places = [str(tmp_path / "data"), "-o", str(tmp_path / "runs"), "--from", str(tmp_path / "given")]
    return [*places, "--threads", "1"]


def test_each_variant_switches_what_it_is_called_after(ablations: ModuleType) -> None:
    """Sheet sections 8 and 9; the switches of the paper's ablations, and its figures."""
    plan = ablations.Plan(("a",), "a", {}, "actions-puppets", None, dict.fromkeys(ablations.VARIANTS, 7), 5)
    found: dict[str, ActionsConfig] = {}
    for key, variant in ablations.VARIANTS.items():
        request = plan.request(variant, Path("nowhere"))
        config = change_settings(PRESETS[variant.preset], request.settings, "test")
        assert isinstance(config, ActionsConfig)
        assert config.motion_training.steps == 7
        assert request.stages == (("keypoints", "motion") if variant.translator else ("motion",))
        assert request.start_from == (None if variant.translator else "actions-puppets")
        found[key] = config
    assert [key for key, config in found.items() if config.actions == ()] == ["flow-no-action", "vae-no-action"]
    assert [key for key, config in found.items() if config.tracks] == ["flow", "flow-no-action"]
    assert [key for key, config in found.items() if not config.translator.mask] == ["no-mask", "target-only"]
    assert [key for key, config in found.items() if not config.translator.reference_maps] == ["target-only"]
    alone = found["vae-no-discriminator"]
    assert alone == changed(found["vae"], motion__sequence_discriminator=False, motion_losses__gan=0.0), (
        "nothing else differs"
    )
    assert [found[key].keypoints_training.steps for key in ("translator", "no-mask", "target-only")] == [5] * 3
    assert found["translator"].motion == found["vae"].motion
    assert found["translator"].motion_losses == found["vae"].motion_losses
    papers = {key: variant.paper for key, variant in ablations.VARIANTS.items()}
    assert (papers["vae"], papers["vae-no-action"]) == ("68.89", "63.33")


@pytest.mark.slow
def test_the_table_of_ablations(
    ablations: ModuleType, common: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "runs"
    only = ["flow", "vae-no-action", "vae"]
    assert ablations.main([*common, "--steps", "2", "--only", *only]) == 0
    found, report = read_json(out / "ablations.json"), read_json(out / "report" / "report.json")
    assert list(found["variants"]) == ["flow", "vae", "vae-no-action"]
    for key, row in found["variants"].items():
        assert row["means"] == report["means"][str(out / key)]
        assert row["steps"] == 2
        assert row["means"]["keypoint consistency (% of width)"] is not None  # a model without classes acts too
    assert found["variants"]["flow"]["nats"] is None
    assert found["variants"]["vae"]["nats"] > 0
    stored = [{p.name: p.read_bytes() for p in (out / key / "keypoints").iterdir()} for key in found["variants"]]
    assert stored[0] == stored[1] == stored[2]  # labelled once
    lines = (out / "ablations.md").read_text().splitlines()
    assert lines[3].startswith("| Conditional VAE | ")
    assert lines[3].endswith("| 2 | 68.89 |")
    monkeypatch.setattr(ablations, "train", lambda request, loop: pytest.fail("it is trained already"))
    assert ablations.main([*common, "--steps", "2", "--only", *only]) == 0


@pytest.mark.slow
def test_minutes_become_the_steps_of_each_variant(
    ablations: ModuleType, common: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def steps_in(minutes: float, trial: object, loop: object, train: object, log_lines: object) -> int:
        asked.append((minutes, trial.preset, trial.stages, trial.settings["motion_training.steps"]))  # type: ignore[attr-defined]
        return len(asked)

    monkeypatch.setattr(ablations, "steps_in", steps_in)
    assert ablations.main([*common, "--minutes", "3", "--only", "flow"]) == 0
    steps = read_json(tmp_path / "runs" / "plan.json")["steps"]
    assert steps == {
        **{"flow": 1, "flow-no-action": 2, "vae": 3, "vae-no-action": 4, "vae-no-discriminator": 5},
        **{"translator": 3, "no-mask": 3, "target-only": 3, "keypoints": 6},
    }
    assert {minutes for minutes, *_ in asked} == {3.0}
    assert asked[-1][1:3] == ("paper", ("keypoints",))
    assert read_json(tmp_path / "runs" / "ablations.json")["variants"]["flow"]["steps"] == 1


def test_what_differs_between_variants_is_not_to_be_set(
    ablations: ModuleType, common: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ablations.main([*common, "--set", "translator.mask=false"]) == 2
    assert "translator.mask is not for --set" in capsys.readouterr().err
