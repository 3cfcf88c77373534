"""The ablations of pokes in one command: variants train, the table has their numbers beside the paper's."""

from pathlib import Path
from types import ModuleType

import pytest

from benchmark_tools import benchmark
from pokes_state_tools import TINY_STATES, changed
from pokes_tools import poked_clip
from stillmotion.data.clip import Clip
from stillmotion.data.info import DatasetInfo
from stillmotion.data.shards import write_dataset
from stillmotion.files import change_settings, read_json
from stillmotion.systems.pokes.config import PRESETS, PokesConfig


@pytest.fixture(scope="module")
def ablations() -> ModuleType:
    return benchmark("pokes_ablations")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two clips of 11 frames and 16 pixels, and preset `paper` made tiny."""
    monkeypatch.setitem(PRESETS, "paper", changed(TINY_STATES, interleaved__steps=0, dynamics_training__batch=1))
    clips = [poked_clip(name, frames=11, size=16, by=(4, 2), corner=(3, 4), side=5) for name in ("a", "b")]
    sets = [
        Clip(clip.name, clip.frames, clip.fps, clip.tracks, {**clip.meta, "split": split})
        for clip, split in zip(clips, ("train", "test"), strict=True)
    ]
    write_dataset(tmp_path / "data", sets, info=DatasetInfo(title="squares"))
    return tmp_path / "data"


def test_the_variants_and_the_papers_numbers_are_the_sheets(ablations: ModuleType) -> None:
    """Sheet sections 8.4, 8.5 and 9: LPIPS, PSNR and FVD of PokingPlants."""
    found = {v.title: (dict(v.changes), v.paper) for v in ablations.VARIANTS.values()}
    assert found == {
        "RNN at the bottleneck": ({"dynamics.hierarchy": False}, (0.08, 20.92, 175.42)),
        "Without latent loss": ({"losses.latent": 0.0}, (0.07, 21.53, 110.00)),
        "Single stage": ({"single_stage": True}, (0.07, 21.41, 115.65)),
        "N = 1": ({"dynamics.order": 1}, (0.08, 21.13, 170.74)),
        "N = 2": ({"dynamics.order": 2}, (0.08, 21.15, 138.72)),
        "Full (N = 3)": ({}, (0.06, 21.81, 89.67)),
    }
    assert list(ablations.COLUMNS)[:3] == ["LPIPS (paper)", "PSNR (paper)", "FVD"]
    assert (PRESETS["paper"].levels, PRESETS["paper"].dynamics.layers) == (3, 3)


def test_every_variant_is_a_training_of_as_many_steps_of_dynamics(ablations: ModuleType) -> None:
    plan = ablations.Plan(("a",), "a", "paper", {"losses.video": "4"}, None, 7)
    for key, variant in ablations.VARIANTS.items():
        settings = plan.request(variant, Path("nowhere")).settings
        config = change_settings(PRESETS["paper"], settings, "test")
        assert isinstance(config, PokesConfig)
        assert (config.pretraining.steps, config.dynamics_training.steps) == (0 if key == "single-stage" else 3, 7)
        assert (config.discriminators.start, config.losses.video) == (3, 4)
        assert config.losses.perceptual.network == "random-vgg16"
        assert config.single_stage == (key == "single-stage")


@pytest.mark.slow
def test_the_table_of_ablations(
    ablations: ModuleType,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "runs"
    off = [f"losses.{name}=0" for name in ("frame_gan", "clip_gan", "frame_features", "clip_features")]
    common = [str(data), "-o", str(out), "--steps", "2", "--threads", "1"]
    for change in (*off, "losses.perceptual.network=none"):
        common += ["--set", change]
    assert ablations.main(common) == 0
    found, report = read_json(out / "ablations.json"), read_json(out / "report" / "report.json")
    assert list(found["variants"]) == list(ablations.VARIANTS)
    full = found["variants"]["full"]
    assert full["ours"] == report["means"][str(out / "full")]
    assert found["variants"]["one"]["parameters"] < found["variants"]["two"]["parameters"] < full["parameters"]
    text = (out / "ablations.md").read_text()
    assert text in capsys.readouterr().out + "\n"
    lines = text.splitlines()
    start = "| Full (N = 3) | paper | 0.060 | 21.81 | 89.7 | - |"
    (at,) = (i for i, line in enumerate(lines) if line.startswith(start))
    shown = lines[at + 1].split(" | ")
    assert shown[:2] == ["|", "ours"]
    assert shown[3] == f"{full['ours']['PSNR (paper)']:.2f}"
    assert any(line.startswith("| the true clip | ours | - | 60.00 |") for line in lines)
    monkeypatch.setattr(ablations, "train", lambda request, loop: pytest.fail("it is trained already"))
    assert ablations.main(common) == 0


def test_what_differs_between_variants_is_not_to_be_set(
    ablations: ModuleType, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ablations.main([str(data), "-o", str(tmp_path / "runs"), "--set", "dynamics.order=1"]) == 2
    assert "dynamics.order is not for --set" in capsys.readouterr().err
