"""Derived tracks: computed once per key and clip, stored in chunks, mapped when read, never half."""

import errno
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from refusals import refuses
from stillmotion.data import derived
from stillmotion.data.clip import Clip
from stillmotion.data.derived import derived_track, weights_digest
from stillmotion.data.examples import moving_square
from stillmotion.data.info import DatasetInfo
from stillmotion.data.sampling import WindowDataset, loader
from stillmotion.data.shards import ClipSet, open_dataset, write_dataset


def squares(count: int = 5) -> list[Clip]:
    return [replace(moving_square(16, 3 + i), name=f"c{i}") for i in range(count)]


class Counting:
    """Mean colours per frame, times a factor; notes the clips that it was asked for."""

    def __init__(self, factor: float = 1.0):
        self.factor, self.asked = factor, []

    def __call__(self, clip: Clip) -> np.ndarray:
        self.asked.append(clip.name)
        return (self.factor * clip.frames.mean((1, 2))).astype(np.float32)


def means(clips: Sequence[Clip], make: Callable[[Clip], np.ndarray], folder: Path, **changes: Any) -> Sequence[Clip]:
    arguments = {"kind": "values", "key": "k", **changes}
    return derived_track(clips, arguments.pop("name", "means"), make, folder=folder, **arguments)


@pytest.fixture
def dataset(tmp_path: Path) -> ClipSet:
    write_dataset(tmp_path / "data", squares(), info=DatasetInfo(title="squares"), clips_per_shard=2)
    return open_dataset(tmp_path / "data")


def test_clips_come_back_with_the_track_and_its_kind(dataset: ClipSet, tmp_path: Path) -> None:
    make = Counting()
    made = means(dataset, make, tmp_path)
    assert make.asked == ["c0", "c1", "c2", "c3", "c4"]
    assert len(made) == 5
    for clip, plain in zip(made, dataset, strict=True):
        assert np.array_equal(clip.tracks["means"], plain.frames.mean((1, 2)).astype(np.float32))
        assert clip.meta["track_kinds"] == {"means": "values"}
        assert {**clip.tracks}.keys() == {*plain.tracks, "means"}
        assert not clip.tracks["means"].flags.writeable
    assert [clip.name for clip in made[1:3]] == ["c1", "c2"]
    assert made[-1].name == "c4"
    assert np.array_equal(pickle.loads(pickle.dumps(made))[3].tracks["means"], made[3].tracks["means"])
    sample = WindowDataset(made, 0, 3, tracks=("means",))[2]
    assert torch.allclose(sample["frames"].mean((2, 3)) * 255, sample["means"], atol=1e-3)


def test_a_resumed_run_computes_nothing_and_another_key_everything(dataset: ClipSet, tmp_path: Path) -> None:
    first = means(dataset, Counting(), tmp_path)
    again = Counting(9.0)
    assert np.array_equal(means(dataset, again, tmp_path)[0].tracks["means"], first[0].tracks["means"])
    assert again.asked == []
    other = Counting(2.0)
    changed = means(dataset, other, tmp_path, key="k2")
    assert len(other.asked) == 5
    assert np.allclose(changed[0].tracks["means"], 2 * Counting()(dataset[0]))
    assert len(list((tmp_path / "means").iterdir())) == 1  # what the old key made is gone


def test_a_clip_with_other_content_is_computed_alone(tmp_path: Path) -> None:
    """Clips in memory are known by their frames; a list may grow and change its order."""
    clips = squares()
    means(clips, Counting(), tmp_path)
    frames = clips[2].frames.copy()
    frames[0, 0, 0, 0] += 1
    changed = [*clips[3:], replace(clips[2], frames=frames), *clips[:2], replace(clips[0], name="new")]
    make = Counting()
    made = means(changed, make, tmp_path)
    assert make.asked == ["c2", "new"]
    for clip in made:
        assert np.array_equal(clip.tracks["means"], Counting()(clip))


def test_prepared_clips_are_known_by_shard_and_name(dataset: ClipSet, tmp_path: Path) -> None:
    names = {dataset.identity(i) for i in range(5)}
    assert len(names) == 5
    assert {name.partition("/")[0] for name in names} == {shard.sha256 for shard in dataset.info.shards}
    means(dataset, Counting(), tmp_path)
    make = Counting()
    means(dataset[1:4], make, tmp_path)
    assert make.asked == []
    changed = [replace(clip, frames=255 - clip.frames) for clip in squares()]
    write_dataset(tmp_path / "other", changed, info=DatasetInfo(), clips_per_shard=2)
    means(open_dataset(tmp_path / "other"), make, tmp_path)
    assert len(make.asked) == 5


def test_two_names_side_by_side_and_one_upon_the_other(dataset: ClipSet, tmp_path: Path) -> None:
    def doubled(clip: Clip) -> np.ndarray:
        asked.append(clip.name)
        return 2 * clip.tracks["means"]

    asked: list[str] = []
    base = means(dataset, Counting(), tmp_path)
    both = means(base, doubled, tmp_path, name="doubled")
    assert np.array_equal(both[1].tracks["doubled"], 2 * both[1].tracks["means"])
    assert both[1].meta["track_kinds"] == {"means": "values", "doubled": "values"}
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "data") == ["doubled", "means"]
    means(means(dataset, Counting(), tmp_path), doubled, tmp_path, name="doubled")
    assert len(asked) == 5  # both were there
    means(means(dataset, Counting(3.0), tmp_path, key="other"), doubled, tmp_path, name="doubled")
    assert len(asked) == 10  # what it rests on has changed


def test_chunks_are_small_and_written_as_they_are_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(derived, "CHUNK_CLIPS", 2)
    counts = []

    def make(clip: Clip) -> np.ndarray:
        counts.append(len(list((tmp_path / "means").glob("chunk-*"))))
        return np.zeros((3, 1000), np.int16)

    means(squares(), make, tmp_path)
    assert counts == [0, 0, 1, 1, 2]
    monkeypatch.setattr(derived, "CHUNK_BYTES", 6000)
    means(squares(), make, tmp_path, key="bytes")
    assert counts[5:] == [0, 1, 2, 3, 4]


def test_a_kill_half_way_loses_a_chunk_at_most(tmp_path: Path) -> None:
    code = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from stillmotion.data import derived
from test_data_derived import Counting, means, squares
derived.CHUNK_CLIPS = 2
class Dying(Counting):
    def __call__(self, clip):
        if clip.name == "c3":
            os._exit(9)
        return super().__call__(clip)
means(squares(), Dying(), Path({str(tmp_path)!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == 9
    (tmp_path / "means" / ".stillmotion-0123456789ab.part").write_bytes(b"half a chunk")
    make = Counting()
    made = means(squares(), make, tmp_path)
    assert make.asked == ["c2", "c3", "c4"]
    assert np.array_equal(made[0].tracks["means"], Counting()(squares()[0]))
    assert not list((tmp_path / "means").glob(".*"))


def test_a_full_disk_leaves_no_half_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        refuses("the disk is full", means, squares(), Counting(), tmp_path)
    assert list((tmp_path / "means").iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "header", "length", "list"])
def test_a_damaged_chunk_is_computed_again(damage: str, tmp_path: Path) -> None:
    means(squares(), Counting(), tmp_path)
    (chunk,) = (tmp_path / "means").glob("chunk-*")
    content = chunk.read_bytes()
    bad = {
        "cut": content[:-4],
        "header": content[:8] + b"{{" + content[10:],
        "length": b"\xff" * 8 + content[8:],
        "list": (2).to_bytes(8, "little") + b"[]",
    }
    chunk.write_bytes(bad[damage])
    make = Counting()
    made = means(squares(), make, tmp_path)
    assert len(make.asked) == 5
    assert np.array_equal(made[4].tracks["means"], Counting()(squares()[4]))


@pytest.mark.parametrize("dtype", ["bool", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", ">f4"])
def test_every_plain_type_and_empty_arrays_survive(dtype: str, tmp_path: Path) -> None:
    values = np.arange(6).reshape(2, 3).astype(dtype)

    def make(clip: Clip) -> np.ndarray:
        return values if clip.name == "c0" else values[:0]

    made = means(squares(2), make, tmp_path)
    assert np.array_equal(made[0].tracks["means"], values)
    assert made[0].tracks["means"].dtype == np.dtype(dtype).newbyteorder("<")
    assert made[1].tracks["means"].shape == (0, 3)


def test_what_cannot_be_stored_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be an array of numbers, not object"):
        means(squares(1), lambda clip: np.array([{}]), tmp_path)
    refuses("not <class 'list'>", means, squares(1), lambda clip: [1.0], tmp_path, error=ValueError)
    refuses("no kind of track 'code'", means, squares(1), Counting(), tmp_path, kind="code")
    refuses("has a track 'mask' already", means, squares(1), Counting(), tmp_path, name="mask")
    (tmp_path / "file").write_text("in the way")
    refuses("could not be written", means, squares(1), Counting(), tmp_path / "file")


def test_the_files_are_safetensors_and_no_pickle(tmp_path: Path) -> None:
    means(squares(2), Counting(), tmp_path)
    (chunk,) = (tmp_path / "means").iterdir()
    content = chunk.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert {entry["dtype"] for entry in header.values()} == {"F32"}
    assert b"numpy" not in content


@pytest.mark.slow
def test_workers_read_derived_tracks(dataset: ClipSet, tmp_path: Path) -> None:
    made = means(dataset, Counting(), tmp_path)
    windows = WindowDataset(made, 0, 2, tracks=("means",))
    alone, helped = (list(loader(windows, start_step=0, steps=2, batch=2, workers=n)) for n in (0, 1))
    assert all(torch.equal(a["means"], b["means"]) for a, b in zip(alone, helped, strict=True))


def test_a_digest_of_weights_changes_with_each_of_them() -> None:
    def network() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))

    assert weights_digest(network()) == weights_digest(network())
    found = {weights_digest(network())}
    for name, value in network().state_dict().items():
        other = network()
        other.state_dict()[name].view(-1)[0] += 1
        found.add(weights_digest(other))
        assert value.numel() > 0
    found.add(weights_digest(network().double()))
    found.add(weights_digest(network().bfloat16()))
    found.add(weights_digest(nn.Sequential(network())))
    assert len(found) == 1 + 7 + 3
