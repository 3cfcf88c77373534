"""Random number generators of one process: seed, capture, restore."""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def derive_seed(*parts: int | str) -> int:
    """A seed that is the same for the same parts and unrelated for others."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "little")


def seed_all(seed: int, stage: str, rank: int, generators: Mapping[str, torch.Generator]) -> None:
    """Seed Python's, torch's and the stage's own generators, independently for each stage and process."""
    random.seed(derive_seed(seed, stage, rank, "python"))
    torch.manual_seed(derive_seed(seed, stage, rank, "torch"))
    for name, generator in generators.items():
        generator.manual_seed(derive_seed(seed, stage, rank, "generator", name))


def capture(generators: Mapping[str, torch.Generator]) -> dict[str, Tensor]:
    """The state of every generator of this process, as tensors."""
    states = {"torch": torch.get_rng_state(), "python": _python_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state()
    for name, generator in generators.items():
        states[f"generator_{name}"] = generator.get_state()
    return states


def restore(states: Mapping[str, Tensor], generators: Mapping[str, torch.Generator]) -> None:
    """Put the generators back to the states that `capture` returned."""
    torch.set_rng_state(states["torch"])
    _set_python_state(states["python"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
    for name, generator in generators.items():
        generator.set_state(states[f"generator_{name}"])


def _python_state() -> Tensor:
    _, numbers, gauss = random.getstate()
    # The half-used pair of gauss() is a float or None; its bits travel as an integer.
    bits = struct.unpack("<q", struct.pack("<d", gauss or 0.0))[0]
    return torch.tensor([gauss is not None, bits, *numbers], dtype=torch.int64)


def _set_python_state(state: Tensor) -> None:
    has_gauss, bits, *numbers = state.tolist()
    gauss: Any = struct.unpack("<d", struct.pack("<q", bits))[0] if has_gauss else None
    random.setstate((3, tuple(numbers), gauss))
