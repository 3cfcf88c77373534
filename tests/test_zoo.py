"""Every shipped model: small, complete, and still giving the answers it gave when it was packed."""

import json
import re
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stillmotion.animate import ZOO, declared_controls, load, shipped_models
from stillmotion.files import load_tensors, parse_settings
from stillmotion.options import Control
from stillmotion.rendering.compositing import LAYERS
from stillmotion.systems.base import read_config
from stillmotion.systems.driving import Drive
from stillmotion.systems.driving.config import PRESETS, DrivingConfig
from stillmotion.worlds import sample_clip

MODELS = shipped_models()
GOLDEN = runpy.run_path(str(Path(__file__).parents[1] / "recipes" / "pack.py"))["golden"]

NO_FIGURE = {"actions-sprites", "structures-penn"}
"""Models that are not sure of the figure in their golden still, so that there is no plate either."""

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


@pytest.mark.parametrize("name", ["driving-puppets", "driving-weizmann", "strokes-digits", "strokes-puppets"])
def test_the_page_of_a_model_says_what_its_configuration_says(name: str) -> None:
    """Data, preset, last stage with its steps, and the augmentation of it."""
    text = (ZOO / name / "README.md").read_text(encoding="utf-8")
    stored = json.loads((ZOO / name / "config.json").read_text(encoding="utf-8"))
    card, config = stored["card"], stored["config"]
    (stage,) = card["stages"]
    said = [f"`{card['preset']}`", f"`{stage}`", f"{card['steps']:,}", *re.findall(r"seed \d+", card["data"])]
    if "motion_stages" in config:
        said += [f"`{one['augmentation']}`" for one in config["motion_stages"] if one["name"] == stage]
    assert [words for words in said if words not in text] == []
    assert f"{config['size']} x {config['size']}" in text


def control_of(golden: Mapping[str, np.ndarray]) -> Control:
    """The control whose fields are stored as `control.CLASS.FIELD`: arrays, numbers, boxes, and texts as bytes."""

    def value(array: np.ndarray) -> Any:
        if array.ndim == 0:
            return array.item()
        if array.ndim == 1 and array.dtype == np.int64:
            return tuple(array.tolist())
        return bytes(array).decode() if array.ndim == 1 and array.dtype == np.uint8 else array

    stored = {tuple(key.split(".")[1:]): part for key, part in golden.items() if key.startswith("control.")}
    (kind,) = {kind for kind, _ in stored}
    known = {control.__name__: control for controls in declared_controls().values() for control in controls}
    return known[kind](**{field: value(array) for (_, field), array in stored.items()})


def check_pictures(made: np.ndarray, expected: np.ndarray, what: str) -> None:
    """Two grey levels are what another CPU's rounding may cost; a few pixels on an edge more."""
    difference = np.abs(made.astype(int) - expected)
    assert difference.max() <= 8, what
    assert difference.mean() < 0.25, what


@pytest.mark.parametrize("name", MODELS)
def test_golden_outputs(name: str) -> None:
    """Frames, facts, frames of the still's own size, layers, figure and plate, predictions: all are made again."""
    expected = {key: values.numpy() for key, values in load_tensors(ZOO / name / "golden.safetensors").items()}
    animator = load(name)
    assert not animator.system.networks.training
    still = expected["still"]
    again = GOLDEN(ZOO / name, still, control_of(expected), len(expected["frames"]))
    made = {key: values.numpy() for key, values in again.items()}
    assert made.keys() == expected.keys()
    for key, values in expected.items():
        assert made[key].shape == values.shape, key
        if values.dtype == np.uint8 and values.ndim > 1:  # `facts.coarse` and `facts.refined` are pictures too
            check_pictures(made[key], values, key)
        elif "facts." in key:
            atol = TOLERANCES.get(key.rpartition(".")[2], 2e-3)
            np.testing.assert_allclose(made[key], values, atol=atol, err_msg=key)
    # The golden control goes somewhere: frozen frames would be no test.
    frames = expected["frames"].astype(int)
    assert np.abs(frames[-1] - frames[0]).max() > 50
    if "facts.mean" in expected:
        assert np.ptp(expected["facts.mean"], axis=0).max() > 0.05
    assert expected["native"].shape == (len(still) * 5 // 4, *still.shape[1:])
    shown = {key.removeprefix("layers.") for key in expected if key.startswith("layers.")} - set(LAYERS)
    assert shown
    assert shown <= set(animator.system.layer_captions)  # the paper's networks may have others
    seen = {key.removeprefix("backdrop.") for key in expected if key.startswith("backdrop.")}
    assert seen == (set() if name in NO_FIGURE else set(LAYERS))


def test_models_that_predict_have_golden_predictions() -> None:
    """Of `driving` the keypoints, of `structures` the poses; they move."""
    moving = {
        name: facts
        for name in MODELS
        for key, facts in load_tensors(ZOO / name / "golden.safetensors").items()
        if key in ("prediction.facts.mean", "prediction.facts.pose")
    }
    assert set(moving) == {
        "driving-puppets",
        "driving-puppets-128",
        "driving-weizmann",
        "structures-penn",
        "structures-puppets",
    }
    for facts in moving.values():
        assert np.ptp(facts.numpy()[..., :2], axis=0).max() > 0.05


def test_a_packed_control_comes_back() -> None:
    still, video = sample_clip("puppets", 0, 0, size=64, frames=2).frames
    drive = Drive(video[None], transfer="absolute", fps=12.5, keep_background=True, region=(0, 0, 64, 64))
    packed = GOLDEN(ZOO / "driving-puppets", still, drive)
    found = control_of({name: values.numpy() for name, values in packed.items()})
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
