"""The ablations of strokes in one command: variants train, the table has their numbers, a second call trains none."""

from pathlib import Path
from types import ModuleType

import pytest

from benchmark_tools import benchmark
from stillmotion.files import change_settings, read_json
from stillmotion.systems.strokes.config import PRESETS
from stillmotion.worlds.dataset import write_world
from strokes_tools import TINY_STROKES, changed

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TINY = changed(TINY_STROKES, clip__frames=3, predictor__blocks=1, discriminators__width=4, single_step__batch=1)


@pytest.fixture(scope="module")
def ablations() -> ModuleType:
    return benchmark("strokes_ablations")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four clips of digits, and preset `small` made tiny."""
    import stillmotion.evaluation.protocols.strokes as protocol

    monkeypatch.setitem(PRESETS, "small", TINY)
    monkeypatch.setattr(protocol, "LONG_STEPS", 12)
    write_world("digits", tmp_path / "data", clips=4, size=32, frames=5, test_share=0.25)
    return tmp_path / "data"


def test_every_variant_builds_its_training(ablations: ModuleType) -> None:
    """Each changes the one thing that it is called after, and nothing else."""
    titles = {v.title: dict(v.changes) for v in ablations.VARIANTS.values()}
    assert titles == {
        "Full": {},
        "S only": {"stroke.input": "whole"},
        "S_t only": {"stroke.input": "step"},
        "Teacher forcing": {"single_step.teacher_forcing": True},
        "No D2": {"losses.pair_gan": 0.0},
        "No perceptual loss": {"losses.perceptual.weight": 0.0},
        "No auto-encoding loss": {"losses.autoencoding": 0.0},
        "Gaussian dots, whole stroke": {"stroke.encoding": "gaussian", "stroke.lookahead": 0},
        "Grey dots, whole stroke": {"stroke.encoding": "grey", "stroke.lookahead": 0},
    }
    plan = ablations.Plan(("a",), "a", "small", {"single_step.learning_rate": "1e-3"}, None, 7)
    settings = plan.request(ablations.VARIANTS["no-d2"], Path("nowhere")).settings
    assert settings["losses.pair_gan"] == 0
    assert settings["losses.gan"] == ablations.COMMON["losses.gan"]
    assert (settings["single_step.steps"], settings["single_step.learning_rate"]) == (7, "1e-3")
    for variant in ablations.VARIANTS.values():  # every name is one, and the configuration can be
        change_settings(PRESETS["small"], plan.request(variant, Path("nowhere")).settings, "test")


@pytest.mark.slow
def test_the_table_of_ablations(
    ablations: ModuleType, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "runs"
    options = ["--steps", "1", "--threads", "1", "--only", "teacher", "grey"]
    common = [str(data), "-o", str(out), *options]
    # The random VGG costs more than all else here.
    monkeypatch.setattr(ablations, "COMMON", {**ablations.COMMON, "losses.perceptual.weight": 0.0})
    assert ablations.main(common) == 0
    found = read_json(out / "ablations.json")
    report = read_json(out / "report" / "report.json")
    rows = found["rows"]
    assert list(rows) == ["baseline: copy the still", "baseline: the true clip", "teacher", "grey"]
    assert rows["teacher"]["means"] == report["means"][str(out / "teacher")]
    assert rows["teacher"]["last_brightness"] == report["curves"]["values"]["brightness"][str(out / "teacher")][4]
    assert rows["baseline: the true clip"]["above_still"] == 1
    assert rows["baseline: copy the still"]["above_still"] == 0
    lines = (out / "ablations.md").read_text().splitlines()
    assert lines[3].startswith("| the true clip | ")
    assert "| 60.00 | 100% | 1.00 | - |" in lines[3]
    assert "ignores the stroke" in lines[4]
    monkeypatch.setattr(ablations, "train", lambda request, loop: pytest.fail("it is trained already"))
    assert ablations.main(common) == 0


def test_what_differs_between_variants_is_not_to_be_set(
    ablations: ModuleType, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ablations.main([str(data), "-o", str(tmp_path / "runs"), "--set", "stroke.encoding=grey"]) == 2
    assert "stroke.encoding is not for --set" in capsys.readouterr().err
