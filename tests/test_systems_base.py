"""What every system promises: weights in and out, and a clear sentence for anything that is not a model."""

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from driving_tools import at, driving_frames, still_picture, tiny_driving
from refusals import refused, refuses
from stillmotion.animate import declared_controls, find_system, load, system_names
from stillmotion.errors import StillmotionError
from stillmotion.systems import base
from stillmotion.systems.base import CONFIG, WEIGHTS
from stillmotion.systems.driving import Drive
from stillmotion.systems.driving.animating import Driving


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    tiny_driving().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def change_config(folder: Path, fields: dict[str, Any]) -> None:
    """Change stored values by dotted name."""
    stored = json.loads((folder / CONFIG).read_text())
    for name, value in fields.items():
        *owners, last = name.split(".")
        place = stored["config"]
        for owner in owners:
            place = place[int(owner) if owner.isdigit() else owner]
        place[last] = value
    (folder / CONFIG).write_text(json.dumps(stored))


def change_weights(folder: Path, change: Any) -> None:
    tensors = safetensors.torch.load_file(folder / WEIGHTS)
    change(tensors)
    safetensors.torch.save_file(tensors, folder / WEIGHTS)


# --- there and back ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("fields", [True, False])
def test_saved_weights_come_back_bit_for_bit(tmp_path: Path, fields: bool) -> None:
    system = tiny_driving(card={"data": "made", "steps": 3}, **at("generator", fields=fields))
    system.save_pretrained(tmp_path / "model")
    back = Driving.from_pretrained(tmp_path / "model")
    assert back.config == system.config
    assert back.card == {"data": "made", "steps": 3}
    before, after = system.shipped().state_dict(), back.shipped().state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    drive = Drive(driving_frames(2))
    frames = [s.animate(still_picture(), drive).frames() for s in (system, back)]
    assert np.array_equal(*frames)


def test_only_what_animating_needs_is_shipped(saved: Path) -> None:
    assert sorted(path.name for path in saved.iterdir()) == [CONFIG, WEIGHTS]
    names = safetensors.torch.load_file(saved / WEIGHTS)
    assert {name.split(".")[0] for name in names} == {"detector", "generator"}


def test_half_precision_halves_matrices_and_leaves_vectors(tmp_path: Path) -> None:
    system = tiny_driving()
    system.save_pretrained(tmp_path / "half", half=True)
    stored = safetensors.torch.load_file(tmp_path / "half" / WEIGHTS)
    back = Driving.from_pretrained(tmp_path / "half").shipped().state_dict()
    for name, value in system.shipped().state_dict().items():
        if value.ndim > 1:
            assert stored[name].dtype == torch.float16
            assert (back[name] - value).abs().max() <= 2**-11 * value.abs().max()
        else:  # norms and biases
            assert torch.equal(back[name], value)
        assert back[name].dtype == value.dtype


def test_loading_gives_eval_mode(saved: Path) -> None:
    assert not any(module.training for module in load(saved).system.networks.modules())


def test_saving_replaces_a_model_as_a_whole_or_not_at_all(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise StillmotionError("the disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(base, "write_json", full)
        with pytest.raises(StillmotionError, match="full"):
            tiny_driving(seed=1).save_pretrained(saved)
    assert [path.name for path in saved.parent.iterdir()] == ["model"]
    first = tiny_driving().shipped().state_dict()["detector.logits.bias"]
    assert torch.equal(load(saved).system.shipped().state_dict()["detector.logits.bias"], first)
    tiny_driving(seed=1).save_pretrained(saved)
    assert not torch.equal(load(saved).system.shipped().state_dict()["detector.logits.bias"], first)


# --- configurations ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("colour", 1),
        ("size", "large"),
        ("size", None),
        ("size", 33),
        ("size", 0),
        ("size", -32),
        ("keypoints", 3),
        ("keypoints.count", 2.5),
        ("keypoints.count", 0),
        ("keypoints.count", [3]),
        ("keypoints.temperature", "nan"),
        ("keypoints.temperature", 0.0),
        ("keypoints.covariance", "round"),
        ("keypoints.heatmap_scale", 0.0),
        ("keypoints.colour", 1),
        ("motion.image", "perhaps"),
        ("detector.width", 0),
        ("detector.blocks", -1),
        ("generator.max_width", -4),
        ("generator.refine_blocks", -1),
        ("motion_stages.0.learning_rate", "nan"),
        ("motion_stages.0.learning_rate", -1.0),
        ("motion_stages.0.losses.feature_matching", "much"),
        ("motion_stages.0.losses.feature_matching", [1.0, 1.0]),
    ],
)
def test_a_bad_configuration_names_file_and_field(saved: Path, field: str, value: Any) -> None:
    change_config(saved, {field: value})
    message = refused(load, saved)
    assert CONFIG in message
    assert field.rpartition(".")[2] in message


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("", "not readable JSON"),
        ("{", "not readable JSON"),
        ("[" * 100_000, "not readable JSON"),
        ('{"format": NaN}', "not readable JSON"),
        ('{"format": 1e999}', "not readable JSON"),
        ('{"\\ud800": 1}', "not readable JSON"),
        ("[]", "does not hold names and values"),
        ('{"config": {}}', "format: Field required"),
        ('{"system": "driving", "config": 3, "format": 2}', "config: Input should be a valid dictionary"),
        ('{"system": "driving", "config": {}, "format": 1}', "has format 1; this version reads format 2"),
        ('{"system": "driving", "config": {}}', "format: Field required"),
        ('{"system": "dancing", "config": {}, "format": 2}', "no system 'dancing'"),
        ('{"system": ["driving"], "config": {}, "format": 2}', "system: Input should be a valid string"),
        ('{"system": "driving", "config": {}, "format": 2, "card": [1]}', "card"),
    ],
)
def test_a_file_that_is_no_configuration(saved: Path, content: str, word: str) -> None:
    (saved / CONFIG).write_text(content)
    assert word in refused(load, saved)


def test_another_systems_model_is_not_taken(saved: Path) -> None:
    stored = json.loads((saved / CONFIG).read_text())
    (saved / CONFIG).write_text(json.dumps({**stored, "system": "pokes"}))
    refuses("holds a pokes model, not a driving model", Driving.from_pretrained, saved)


@pytest.mark.parametrize("value", [1e5, 2**30])
def test_a_size_that_no_weights_confirm_has_a_limit(saved: Path, value: float) -> None:
    change_config(saved, {"size": value})
    assert "size must be at most 1024" in refused(load, saved)


# --- weights -------------------------------------------------------------------------------------------------------
def test_a_missing_tensor_is_named(saved: Path) -> None:
    change_weights(saved, lambda tensors: tensors.pop("detector.logits.bias"))
    message = refused(load, saved)
    assert "lacks 'detector.logits.bias'" in message
    assert WEIGHTS in message


def test_a_superfluous_tensor_is_named(saved: Path) -> None:
    change_weights(saved, lambda tensors: tensors.update(extra=torch.zeros(1)))
    assert "'extra'" in refused(load, saved)


def test_another_shape_is_named(saved: Path) -> None:
    change_weights(saved, lambda tensors: tensors.update({"detector.logits.bias": torch.zeros(4)}))
    message = refused(load, saved)
    assert "'detector.logits.bias'" in message
    assert "(4,)" in message
    assert "(3,)" in message


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        (at("generator", width=10**6, max_width=10**6), "where the configuration asks for"),  # 9e12 weights
        (at("generator", width=2**62, max_width=2**62), "cannot be built"),
        ({"predictor": {"hidden": 8, "layers": 10**9}}, "more networks than"),
    ],
    ids=["wide", "beyond-counting", "deep"],
)
def test_a_model_that_is_too_large_is_refused_before_it_takes_memory(
    saved: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, int], word: str
) -> None:
    build, devices = Driving.build, []

    def watched(*given: Any) -> Driving:
        devices.append(torch.zeros(0).device.type)
        return build(*given)

    monkeypatch.setattr(Driving, "build", watched)
    change_config(saved, fields)
    assert word in refused(load, saved)
    assert devices == ["meta"]  # which knows shapes and holds no numbers


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_named(saved: Path, value: float) -> None:
    change_weights(saved, lambda tensors: tensors["detector.logits.bias"].fill_(value))
    message = refused(load, saved)
    assert "'detector.logits.bias'" in message
    assert "NaN or infinity" in message


class _Bomb:
    """Unpickling it would write a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.write_text, (self.path, "bang"))


@pytest.mark.parametrize("kind", ["pickle", "zip", "torch"])
def test_a_pickle_under_another_name_is_never_opened(saved: Path, tmp_path: Path, kind: str) -> None:
    bomb = tmp_path / "bang"
    if kind == "pickle":
        (saved / WEIGHTS).write_bytes(pickle.dumps(_Bomb(bomb)))
    elif kind == "torch":
        torch.save(_Bomb(bomb), saved / WEIGHTS)
    else:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as file:
            file.writestr("data.pkl", pickle.dumps(_Bomb(bomb)))
        (saved / WEIGHTS).write_bytes(packed.getvalue())
    message = refused(load, saved)
    assert "pickle or zip" in message
    assert "safetensors" in message
    assert not bomb.exists()


@pytest.mark.parametrize("kept", [0, 7, 100, 0.5, -1])
def test_a_truncated_file_is_told(saved: Path, kept: float) -> None:
    content = (saved / WEIGHTS).read_bytes()
    length = int(kept * len(content)) if isinstance(kept, float) else kept
    (saved / WEIGHTS).write_bytes(content[:length])
    assert "cut short" in refused(load, saved)


def test_a_header_that_lies_about_its_length_is_told(saved: Path) -> None:
    content = (saved / WEIGHTS).read_bytes()
    (saved / WEIGHTS).write_bytes((2**60).to_bytes(8, "little") + content[8:])
    assert "cut short" in refused(load, saved)


# --- systems and controls ------------------------------------------------------------------------------------------
def test_a_system_is_a_package_with_its_controls_declared() -> None:
    assert {"driving", "strokes"} <= set(system_names())
    declared = declared_controls()
    assert list(declared) == system_names()
    assert declared["driving"][0] is Drive
    names = [control.__name__ for controls in declared.values() for control in controls]
    assert len(set(names)) == len(names)


def test_an_unknown_system_is_told_with_those_known() -> None:
    for name in ("dancing", "", "base", "driving.animating", "../driving"):
        refuses(f"no system '{name}'; known are actions, driving", find_system, name)


@pytest.mark.parametrize("name", system_names())
def test_every_system_keeps_the_common_promises(name: str) -> None:
    system = find_system(name)
    assert system.name == name
    assert issubclass(system, base.System)
    assert system.controls == declared_controls()[name]
    assert {"paper", "release", "small"} <= set(system.presets)
    assert all(isinstance(preset, system.config_class) for preset in system.presets.values())


@pytest.mark.parametrize("control", ["wave.mp4", None, 3])
def test_a_control_of_another_kind_is_refused(control: Any) -> None:
    driving = tiny_driving()
    ways = [driving.animate] if control is None else [driving.animate, driving.open]  # a roll-out without one rests
    for way in ways:
        refuses("directed by Drive or Predict, not by", way, still_picture(), control)
