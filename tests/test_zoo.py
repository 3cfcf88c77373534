"""Every shipped model: small, complete, and still giving the answers it gave when it was packed."""

import json
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from stillmotion.animate import ZOO, declared_controls, load, shipped_models
from stillmotion.files import load_tensors, parse_settings
from stillmotion.options import Control
from stillmotion.systems.base import read_config
from stillmotion.systems.driving import Drive
from stillmotion.systems.driving.config import PRESETS, DrivingConfig
from stillmotion.worlds import sample_clip

MODELS = shipped_models()

TOLERANCES = {"displacement": 4e-3}
"""Keypoints and flow to a thousandth of the picture's width of 2: another CPU rounds otherwise."""


def test_the_zoo_ships_what_the_readme_promises() -> None:
    assert {"driving-puppets", "driving-weizmann", "strokes-digits", "strokes-puppets"} <= set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_folder_is_complete_and_small(name: str) -> None:
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


def control_of(golden: Mapping[str, Tensor]) -> Control:
    """The control whose fields are stored as `control.CLASS.FIELD`: arrays, numbers, boxes, and texts as bytes."""

    def value(array: np.ndarray) -> Any:
        if array.ndim == 0:
            return array.item()
        if array.ndim == 1 and array.dtype == np.int64:
            return tuple(array.tolist())
        return bytes(array).decode() if array.ndim == 1 and array.dtype == np.uint8 else array

    stored = {tuple(key.split(".")[1:]): part.numpy() for key, part in golden.items() if key.startswith("control.")}
    (kind,) = {kind for kind, _ in stored}
    known = {control.__name__: control for controls in declared_controls().values() for control in controls}
    return known[kind](**{field: value(array) for (_, field), array in stored.items()})


@pytest.mark.parametrize("name", MODELS)
def test_golden_outputs(name: str) -> None:
    """Two grey levels are what another CPU's rounding may cost; a few pixels on an edge more."""
    golden = load_tensors(ZOO / name / "golden.safetensors")
    animator = load(name)
    assert not animator.system.networks.training
    frames, facts = golden["frames"].numpy(), {}
    steps = list(
        animator(golden["still"].numpy(), control_of(golden), frames=len(frames), size="model", plate="none")
    )
    assert len(steps) == len(frames)
    for key, expected in golden.items():
        if key.startswith("facts."):
            facts[fact := key.removeprefix("facts.")] = expected.numpy()
            made = np.stack([step.facts[fact] for step in steps])
            np.testing.assert_allclose(made, expected.numpy(), atol=TOLERANCES.get(fact, 2e-3), err_msg=fact)
    difference = np.abs(np.stack([step.frame for step in steps]).astype(int) - frames)
    assert difference.max() <= 8
    assert difference.mean() < 0.25
    # The golden control goes somewhere: frozen frames would be no test.
    assert np.abs(frames[-1].astype(int) - frames[0]).max() > 50
    if "mean" in facts:
        assert np.ptp(facts["mean"], axis=0).max() > 0.05


def test_a_packed_control_comes_back() -> None:
    golden = runpy.run_path(str(Path(__file__).parents[1] / "recipes" / "pack.py"))["golden"]
    still, video = sample_clip("puppets", 0, 0, size=64, frames=2).frames
    drive = Drive(video[None], transfer="absolute", fps=12.5, keep_background=True, region=(0, 0, 64, 64))
    packed = golden(ZOO / "driving-puppets", still, drive)
    found = control_of(packed)
    assert isinstance(found, Drive)
    assert np.array_equal(found.video, drive.video)
    for field in ("transfer", "fps", "keep_background", "align", "region", "crop"):
        assert getattr(found, field) == getattr(drive, field), field
    assert packed["frames"].shape == (1, 64, 64, 3)
    assert packed["facts.mean"].shape == (1, 10, 2)


@pytest.mark.parametrize(("name", "preset"), [("driving-puppets", "small"), ("driving-weizmann", "people")])
def test_the_presets_of_driving_are_what_the_shipped_models_were_trained_with(name: str, preset: str) -> None:
    stored = read_config(ZOO / name).config
    assert parse_settings(DrivingConfig, stored, name) == PRESETS[preset]
