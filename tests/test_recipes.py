"""Every recipe runs from its first line to its last, small: its stages train, and a loadable model is packed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stillmotion import media
from stillmotion.animate import load
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


def test_every_shipped_model_has_its_recipe() -> None:
    zoo = Path(__file__).parents[1] / "src" / "stillmotion" / "zoo"
    assert {path.stem for path in MODELS} == {folder.name for folder in zoo.iterdir() if folder.is_dir()}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", MODELS, ids=lambda path: path.stem)
def test_recipe_runs_small(recipe: Path, strips: Path, tmp_path: Path) -> None:
    settings = {**os.environ, "PYTHON": sys.executable, "WEIZMANN": str(strips), "DIGITS": ""}
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
