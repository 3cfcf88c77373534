"""Every shipped model: small, complete, and still giving the answers it gave when it was packed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stillmotion.animate import ZOO, load, shipped_models
from stillmotion.controls import Drive
from stillmotion.files import load_tensors

MODELS = shipped_models()


def test_the_zoo_ships_what_the_readme_promises():
    assert {"driving-puppets", "driving-weizmann"} <= set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_folder_is_complete_and_small(name):
    folder = ZOO / name
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "config.json",
        "golden.safetensors",
        "model.safetensors",
    }
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 8 * 2**20
    card = json.loads((folder / "config.json").read_text(encoding="utf-8"))["card"]
    assert card["licence"]
    assert card["data"]
    text = (folder / "README.md").read_text(encoding="utf-8")
    for heading in ("## Data", "## Licence", "## Training", "## Figures", "## Failures"):
        assert heading in text


@pytest.mark.parametrize("name", MODELS)
def test_golden_outputs(name):
    """Keypoints and flow to a thousandth of the picture, frames to two grey levels: another CPU rounds otherwise."""
    golden = load_tensors(ZOO / name / "golden.safetensors")
    animator = load(name)
    assert not animator.system.networks.training
    steps = list(animator(golden["still"].numpy(), Drive(golden["drive"].numpy()), size="model"))
    assert np.ptp(golden["mean"].numpy(), axis=0).max() > 0.05  # the golden driver moves its keypoints
    for name_of, tolerance in (("mean", 2e-3), ("covariance", 2e-3), ("displacement", 4e-3)):
        made = np.stack([step.facts[name_of] for step in steps])
        np.testing.assert_allclose(made, golden[name_of].numpy(), atol=tolerance)
    frames = np.stack([step.frame for step in steps]).astype(int)
    difference = np.abs(frames - golden["frames"].numpy())
    assert difference.max() <= 8
    assert difference.mean() < 0.25
