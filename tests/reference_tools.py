"""Outputs of the authors' released networks as golden numbers: weights and inputs are filled by rules from names.

The folder of goldens is no part of the repository. It is looked for in `$STILLMOTION_REFERENCE`, then beside the
repository in `shared/reference`; tests that need it are skipped where it is missing. Its README states the rules.
"""

import json
import math
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

FOLDER = Path(os.environ.get("STILLMOTION_REFERENCE") or Path(__file__).parents[2] / "shared" / "reference")
needs_reference = pytest.mark.skipif(not FOLDER.is_dir(), reason="the goldens of the authors' networks are not here")


class Golden:
    """One golden: `facts` is its json, and `check` compares an output."""

    def __init__(self, name: str):
        """Args: `name` is SYSTEM/NAME."""
        self.facts: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
        self.values = np.load(FOLDER / f"{name}.npz")

    def weights(self, network: str = "") -> dict[str, Tensor]:
        """The authors' state, filled by the rule, of one `network` where there are several."""
        fill = _filled_tensorflow if "tensorflow" in self.facts["ran_with"] else _filled
        entries = self.facts["parameters"]
        weights = {name: fill(name, shape) for name, shape in (entries[network] if network else entries)}
        scales = self.facts.get("scale_changes", {})
        for name, scale in scales.items() if isinstance(scales, dict) else ():  # some are told in words
            weights[name] *= scale
        return weights

    def waves(self) -> list[Tensor]:
        """Inputs of the kind `waves`, N x C x T x H x W, values around 0.5."""
        found = []
        for entry in (entry for entry in self.facts["inputs"] if "waves" in entry.get("kind", "")):
            batch, channels, frames, height, width = entry["shape"]
            drawn = generator(entry["name"]).random((batch, channels, frames, 4, 4))
            y, x = np.arange(height)[:, None] / height, np.arange(width) / width
            fy, fx, phase, size = (drawn[..., None, None, :, i] for i in range(4))
            y, x = y[..., None], x[:, None]
            angle = 2 * np.pi * ((0.5 + 2.5 * fy) * y + (0.5 + 2.5 * fx) * x + phase)
            found.append(_tensor(0.5 + ((0.05 + 0.07 * size) * np.sin(angle)).sum(-1)))
        return found

    def inputs(self) -> list[Tensor]:
        """Inputs of the kind `range`."""
        drawn = []
        for entry in (entry for entry in self.facts["inputs"] if "range" in entry):
            low, high = entry["range"]
            drawn.append(_tensor(generator(entry["name"]).random(entry["shape"]) * (high - low) + low))
        return drawn

    def check(self, name: str, output: Tensor, tolerance: float = 1e-4) -> None:
        """Compare an output with the stored sample, relative to the sample's largest value."""
        entry, stored = self.facts["outputs"][name], torch.from_numpy(self.values[name])
        assert list(output.shape) == entry["shape"], name
        sample = output.detach().reshape(-1)[:: entry["stride"]]
        error = (sample - stored).abs().max() / stored.abs().max()
        assert error <= max(tolerance, 10 * entry.get("fp32_vs_fp64_rel", 0.0)), f"{name}: {error:.2e}"


def load(network: nn.Module, weights: Mapping[str, Tensor], rename: Callable[[str], str]) -> None:
    """Put the authors' weights into a network under its own names; none may be missing or left over."""
    network.load_state_dict({rename(name): value for name, value in weights.items()})


def set_leading_vectors(weights: dict[str, Tensor]) -> None:
    """Replace `weight_u` and `weight_v` by the leading singular vectors of `weight_orig`, found in float64."""
    for name in [name for name in weights if name.endswith("weight_orig")]:
        matrix = weights[name].double().flatten(1)
        left = torch.linalg.eigh(matrix @ matrix.T).eigenvectors[:, -1]
        right = nn.functional.normalize(left @ matrix, dim=0)
        stem = name.removesuffix("orig")
        weights[f"{stem}u"], weights[f"{stem}v"] = left.float(), right.float()


def generator(name: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


def _filled_tensorflow(name: str, shape: list[int]) -> Tensor:
    """The rule for TensorFlow's networks."""
    rng, last = generator(name), name.rpartition("/")[2]
    if last == "moving_variance":
        return _tensor(0.5 + rng.random(shape))
    if last in ("moving_mean", "beta", "bias", "biases", "b"):
        return _tensor(0.1 * rng.standard_normal(shape))
    values = rng.standard_normal(shape)
    if last == "u":
        return _tensor(values / np.linalg.norm(values))
    return _tensor(values * math.sqrt(1 / math.prod(shape[:-1])) if len(shape) > 1 else 1 + 0.1 * values)


def _filled(name: str, shape: list[int]) -> Tensor:
    """The rule for torch networks."""
    rng, last = generator(name), name.rpartition(".")[2]
    if last == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    if last == "running_var":
        return _tensor(0.5 + rng.random(shape))
    if last == "running_mean" or "bias" in last:
        return _tensor(0.1 * rng.standard_normal(shape))
    values = rng.standard_normal(shape)
    if last in ("weight_u", "weight_v"):
        return _tensor(values / np.linalg.norm(values))
    return _tensor(values * math.sqrt(1 / math.prod(shape[1:])) if len(shape) > 1 else 1 + 0.1 * values)
