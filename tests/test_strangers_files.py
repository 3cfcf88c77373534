"""Files that anyone may have made: whatever their bytes, they are read or refused in a sentence."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
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
from stillmotion.errors import StillmotionError
from stillmotion.evaluation.report import describe_data
from stillmotion.files import load_tensors, parse_json, read_json, tensor_shapes
from stillmotion.training import checkpoint
from test_training_gan import Gan, train

INPUTS = 300
"""Damaged versions of each file."""


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


def test_whole_numbers_are_no_weights(tmp_path: Path) -> None:
    train(tmp_path, [Gan(steps=1)])
    path = tmp_path / "checkpoints" / "gan-000001" / "model.safetensors"
    tensors = load_tensors(path)
    name = next(name for name, value in tensors.items() if value.is_floating_point())
    safetensors.torch.save_file({**tensors, name: tensors[name].to(torch.int32)}, path)
    refuses("int32 where torch.float32", train, tmp_path, [Gan(steps=1)], resume=True)


# --- any bytes -----------------------------------------------------------------------------------------------------
def damaged(content: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, cut out, repeated, or a number or sign put in place of another."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at, length = rng.randrange(len(changed) + 1), rng.choice((1, 2, 8, 40))
        piece = rng.choice(
            (b"", b"0", b"-1", b"1e999", b"null", b"[]", b"{}", b'"', b"9" * 30, rng.randbytes(length))
        )
        changed[at : at + rng.choice((0, length))] = piece
    return bytes(changed)


def read_all(folder: Path) -> None:
    clips = open_dataset(folder)
    describe_data(clips.info)
    for clip in clips:
        assert sum(float(array.sum()) for array in clip.tracks.values()) is not None


def readers(dataset: Path, run: Path) -> Iterator[tuple[Path, Callable[[], object]]]:
    for name in ("dataset.json", "shard-00000.tar"):
        yield dataset / name, lambda: read_all(dataset)
    last = run / "checkpoints" / "gan-000001"
    for path in (run / "last.json", last / "state.json"):
        yield path, lambda: checkpoint.find_last(run, ["gan"])
    yield last / "optim.safetensors", lambda: load_tensors(last / "optim.safetensors")
    yield last / "model.safetensors", lambda: tensor_shapes(last / "model.safetensors")


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_raise_no_foreign_exception(dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset, tmp_path / "set")
    train(tmp_path / "run", [Gan(steps=1)])
    rng = random.Random(5)
    for path, read in readers(tmp_path / "set", tmp_path / "run"):
        whole, refusals = path.read_bytes(), 0
        # A tar's size is known to `dataset.json`, so only changes that keep it get as far as the tar.
        for _ in range(INPUTS):
            content = damaged(whole, rng)
            path.write_bytes(content[: len(whole)].ljust(len(whole), b"\0") if path.suffix == ".tar" else content)
            try:
                read()
            except StillmotionError:
                refusals += 1
        path.write_bytes(whole)
        assert refusals > INPUTS // 20, path.name
