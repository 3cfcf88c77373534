"""Every shipped model: small, complete, and still giving the answers it gave when it was packed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from stillmotion.controls import Drive, Stroke

from stillmotion.animate import ZOO, load, shipped_models
from stillmotion.files import load_tensors
from stillmotion.systems.base import read_config

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


def of_system(system: str) -> list[str]:
    """The shipped models of one system."""
    return [name for name in MODELS if read_config(ZOO / name)["system"] == system]


def assert_frames_alike(made, golden):
    """Two grey levels are what another CPU's rounding may cost; a few pixels on an edge more."""
    difference = np.abs(made.astype(int) - golden.numpy())
    assert difference.max() <= 8
    assert difference.mean() < 0.25


@pytest.mark.parametrize("name", of_system("strokes"))
def test_golden_outputs_of_strokes(name):
    golden = load_tensors(ZOO / name / "golden.safetensors")
    animator = load(name)
    assert not animator.system.networks.training
    stroke = Stroke(golden["points"].numpy())
    steps = list(animator(golden["still"].numpy(), stroke, frames=len(stroke.points), size="model"))
    assert (
        np.linalg.norm(np.diff(golden["points"].numpy(), axis=0), axis=1).sum() > 3
    )  # the golden stroke goes somewhere
    made = np.stack([step.frame for step in steps])
    assert np.abs(made[-1].astype(int) - made[0]).max() > 50  # and the object with it
    assert_frames_alike(made, golden["frames"])


@pytest.mark.parametrize("name", of_system("driving"))
def test_golden_outputs_of_driving(name):
    """Keypoints and flow to a thousandth of the picture, frames to two grey levels: another CPU rounds otherwise."""
    golden = load_tensors(ZOO / name / "golden.safetensors")
    animator = load(name)
    assert not animator.system.networks.training
    steps = list(animator(golden["still"].numpy(), Drive(golden["drive"].numpy()), size="model"))
    assert np.ptp(golden["mean"].numpy(), axis=0).max() > 0.05  # the golden driver moves its keypoints
    for name_of, tolerance in (("mean", 2e-3), ("covariance", 2e-3), ("displacement", 4e-3)):
        made = np.stack([step.facts[name_of] for step in steps])
        np.testing.assert_allclose(made, golden[name_of].numpy(), atol=tolerance)
    assert_frames_alike(np.stack([step.frame for step in steps]), golden["frames"])
