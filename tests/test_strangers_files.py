"""Files that anyone may have made: whatever their bytes, they are read or refused in a sentence."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from refusals import refused, refuses
from stillmotion.data.clip import Clip
from stillmotion.data.clipset import open_dataset
from stillmotion.data.info import DatasetInfo
from stillmotion.data.shards import write_dataset
from stillmotion.files import load_tensors, parse_json, read_json, tensor_shapes
from test_training_gan import Gan, train


# --- one file each -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "shape", "size"),
    [("F4", [2], 1), ("C64", [1], 8), ("F8_E4M3", [4], 4), ("F32", [1] * 65, 4), ("F32", [2**63, 0], 0)],
)
def test_exotic_tensors_are_refused(tmp_path: Path, kind: str, shape: list[int], size: int) -> None:
    header = json.dumps({"w": {"dtype": kind, "shape": shape, "data_offsets": [0, size]}}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(size))
    assert str(path) in refused(load_tensors, path)
    assert str(path) in refused(tensor_shapes, path)


@pytest.mark.parametrize("text", ["[" * 100_000, "NaN", "-Infinity", "1e999", '["\\ud800"]', "1" * 5000, "\x00", "{"])
def test_json_that_no_value_is(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    assert "a.json" in refused(read_json, tmp_path / "a.json")


def test_json_keeps_what_it_may_hold() -> None:
    assert parse_json(b'{"a": [1, -0.5, 1e300, "\\ud83d\\ude00"]}', "") == {"a": [1, -0.5, 1e300, "\U0001f600"]}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set") / "set"
    clip = Clip("a", np.zeros((2, 4, 4, 3), np.uint8), 5.0, {"points": np.ones((2, 3))}, {"split": "test"})
    write_dataset(folder, [clip], info=DatasetInfo(title="made"))
    return folder


@pytest.mark.parametrize(
    "change",
    [
        {"clips": -1},
        {"fps": 10**400},
        {"size": [4]},
        {"settings": 5},
        {"splits": {"test": "some"}},
        {"quarantined": [{"source": "a"}]},
        {"shards": [{"file": "x" * 300, "clips": 1, "bytes": 1, "sha256": ""}]},
        {"shards": [{"file": "..", "clips": 1, "bytes": 1, "sha256": ""}]},
        {"shards": [5]},
    ],
)
def test_every_field_of_dataset_json_is_checked(dataset: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    shutil.copytree(dataset, tmp_path / "set")
    path = tmp_path / "set" / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    message = refused(open_dataset, tmp_path / "set")
    assert "dataset.json" in message
    assert next(iter(change)) in message


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("last.json", "[]", "last.json"),
        ("last.json", '{"checkpoint": 5}', "checkpoint"),
        ("config.json", "5", "config.json"),
        ("checkpoints/gan-000001/state.json", "[]", "state.json"),
        ("checkpoints/gan-000001/state.json", "step", "step"),
        ("checkpoints/gan-000001/state.json", "config_hash", "config_hash"),
        ("checkpoints/gan-000001/state.json", "sums", "sums"),
        ("checkpoints/gan-000001/state.json", "optimizers", "optimisers"),
    ],
)
def test_every_field_of_a_checkpoint_is_checked(tmp_path: Path, file: str, text: str, words: str) -> None:
    train(tmp_path, [Gan(steps=1)])
    path = tmp_path / file
    wrong: Any = {"generator": {"param_groups": "none"}} if text == "optimizers" else [["wrong"]]
    changed = {**json.loads(path.read_text()), text: wrong} if text.isidentifier() else json.loads(text)
    path.write_text(json.dumps(changed))
    refuses(words, train, tmp_path, [Gan(steps=1)], resume=True)


def test_the_state_of_an_optimiser_fits_its_parameters(tmp_path: Path) -> None:
    """Torch itself would only notice in the next step."""
    train(tmp_path, [Gan(steps=1)])
    folder = tmp_path / "checkpoints" / "gan-000001"
    whole = load_tensors(folder / "optim.safetensors")
    name = next(name for name in whole if name.endswith("exp_avg"))
    safetensors.torch.save_file({**whole, name: torch.zeros(7)}, folder / "optim.safetensors")
    refuses(r"exp_avg of parameter 0 has the shape \(7,\)", train, tmp_path, [Gan(steps=2)], resume=True)
    safetensors.torch.save_file(whole, folder / "optim.safetensors")
    stored = json.loads((folder / "state.json").read_text())
    stored["optimizers"]["generator"]["param_groups"][0]["lr"] = "fast"
    (folder / "state.json").write_text(json.dumps(stored))
    refuses("lr is no number", train, tmp_path, [Gan(steps=2)], resume=True)


def test_whole_numbers_are_no_weights(tmp_path: Path) -> None:
    train(tmp_path, [Gan(steps=1)])
    path = tmp_path / "checkpoints" / "gan-000001" / "model.safetensors"
    tensors = load_tensors(path)
    name = next(name for name, value in tensors.items() if value.is_floating_point())
    safetensors.torch.save_file({**tensors, name: tensors[name].to(torch.int32)}, path)
    refuses("int32 where torch.float32", train, tmp_path, [Gan(steps=1)], resume=True)
