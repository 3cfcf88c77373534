"""The recipes and the demo run."""

import json
import os
import runpy
import subprocess
import sys
from importlib import util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from stillmotion import media
from stillmotion.animate import ZOO, load, shipped_models
from stillmotion.evaluation.extractors import open_extractors
from stillmotion.worlds import sample_clip

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.sh"))
MODELS = [path for path in RECIPES if path.name != "common.sh"]


@pytest.fixture(scope="module")
def strips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made people in the form of the Weizmann strips."""
    folder = tmp_path_factory.mktemp("weizmann")
    for subject in (1, 4):
        for number, action in enumerate(("wave1", "jack")):
            clip = sample_clip("puppets", subject, number, size=64, frames=18, action=action)
            media.write_picture(folder / f"subject{subject}_{action}.png", np.concatenate(list(clip.frames), axis=1))
    return folder


@pytest.fixture(scope="module")
def penn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made people in the form of the strips of Penn Action."""
    folder = tmp_path_factory.mktemp("penn")
    for number in (1, 2, 6):
        for name, action in (("jumping_jacks", "jack"), ("golf_swing", "swing")):
            clip = sample_clip("puppets", number, 0, size=64, frames=18, action=action)
            media.write_picture(folder / f"{name}_{number}.png", np.concatenate(list(clip.frames), axis=1))
    return folder


@pytest.fixture(scope="module")
def real(strips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of folders of real clips, of which one is there."""
    folder = tmp_path_factory.mktemp("real")
    (folder / "weizmann").symlink_to(strips)
    return folder


def test_every_shipped_model_has_its_recipe() -> None:
    zoo = Path(__file__).parents[1] / "src" / "stillmotion" / "zoo"
    assert {path.stem for path in MODELS} == {folder.name for folder in zoo.iterdir() if folder.is_dir()}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", MODELS, ids=lambda path: path.stem)
def test_recipe_runs_small(recipe: Path, strips: Path, penn: Path, real: Path, tmp_path: Path) -> None:
    folders = {"WEIZMANN": str(strips), "PENN": str(penn), "REAL": str(real), "DIGITS": ""}
    settings = {**os.environ, "PYTHON": sys.executable, **folders}
    done = subprocess.run(
        ["bash", str(recipe), "--smoke", str(tmp_path)], env=settings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    text = recipe.read_text(encoding="utf-8")
    assert "--set" not in text
    named = set()
    for log in tmp_path.glob("runs/*/log.jsonl"):
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        trained = {line["stage"] for line in lines if "losses" in line}
        wanted = json.loads((log.parent / "config.json").read_text(encoding="utf-8"))
        assert trained == set(wanted.get("stages") or trained), log.parent.name
        named |= trained
    packed = tmp_path / "zoo" / recipe.stem
    assert {path.name for path in packed.iterdir()} >= {"config.json", "model.safetensors", "golden.safetensors"}
    animator = load(packed)
    assert animator.system.card["licence"]
    assert named
    assert (tmp_path / "out").is_dir()


ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_video_network_is_trained_and_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = runpy.run_path(str(ROOT / "recipes" / "video_network.py"))
    recipe["main"](["--smoke", str(tmp_path)])
    said = capsys.readouterr().out
    value = said.rpartition("--network video=")[2].strip()
    assert value.startswith(str(tmp_path / "video_network.safetensors@"))  # the shipped file stays
    source = open_extractors([("video", value)])["video"]
    assert source(np.zeros((11, 64, 64, 3), np.uint8)).shape == (1, 96)
    assert "arm, digits, faces " in said


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`examples/demo.py` as a module, in its folder."""
    spec = util.spec_from_file_location("demo", ROOT / "examples" / "demo.py")
    module = util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "demo", module)
    spec.loader.exec_module(module)
    monkeypatch.chdir(ROOT / "examples")
    return module


@pytest.mark.parametrize("model", shipped_models())
def test_a_shipped_model_has_examples_with_their_command(demo: ModuleType, model: str) -> None:
    found = demo.examples(load(model), model)
    assert len(found) >= 2
    for example in found:
        assert isinstance(example.control, load(model).system.controls)
        assert example.command.startswith("animate ")
        assert f"--model {model}" in example.command


def test_a_model_of_another_name_gets_no_example_of_a_shipped_one(demo: ModuleType) -> None:
    model = str(ZOO / "strokes-digits")
    (example,) = demo.examples(load(model), model)
    assert (example.name, example.command) == ("example clip", "")


def test_a_figure_quotes_its_address_and_its_caption(demo: ModuleType, tmp_path: Path) -> None:
    page = demo.figure(tmp_path / "a#1 b" / "still.png", "<still>", tmp_path)
    assert page == (
        '<figure><img src="a%231%20b/still.png" alt="&lt;still&gt;"><figcaption>&lt;still&gt;</figcaption></figure>'
    )


def test_a_doubled_model_finds_the_keypoints_that_it_found_in_pictures_of_half_the_size() -> None:
    small = load("driving-puppets").system
    large = runpy.run_path(str(ROOT / "recipes" / "double.py"))["doubled"](small)
    pictures = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        seen, before = large.networks.detector(pictures), small.networks.detector(F.avg_pool2d(pictures, 2))
    torch.testing.assert_close(seen.mean, before.mean, atol=1e-4, rtol=0)
    torch.testing.assert_close(seen.covariance, before.covariance, atol=1e-4, rtol=0)
