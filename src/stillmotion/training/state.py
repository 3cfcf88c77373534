"""State without pickle: optimisers, schedulers and the like as JSON plus named tensors, generators as tensors."""

from __future__ import annotations

import hashlib
import math
import random
import struct
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_TAGS = ("$tensor", "$tuple", "$dict", "$counter", "$float")


def pack(tree: Any, tensors: dict[str, Tensor], prefix: str) -> Any:
    """Turn a nested state into JSON; its tensors go into `tensors` under names that start with `prefix`.

    Understands None, booleans, integers, floats (also NaN and infinity), texts, lists, tuples, dicts with
    keys of any such kind, `Counter` and tensors: what torch's `state_dict`s are made of.

    Raises:
        TypeError: the state holds something else, which could not be stored without pickle.
    """
    if isinstance(tree, Tensor):
        tensors[prefix] = tree
        return {"$tensor": prefix}
    if isinstance(tree, float) and not math.isfinite(tree):
        return {"$float": repr(tree)}
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    if isinstance(tree, list):
        return [pack(item, tensors, f"{prefix}.{i}") for i, item in enumerate(tree)]
    if isinstance(tree, tuple):
        return {"$tuple": [pack(item, tensors, f"{prefix}.{i}") for i, item in enumerate(tree)]}
    if isinstance(tree, Counter):
        return {"$counter": [[key, count] for key, count in tree.items()]}
    if isinstance(tree, Mapping):
        packed = [(key, pack(item, tensors, f"{prefix}.{key}")) for key, item in tree.items()]
        if all(isinstance(key, str) and key not in _TAGS for key, _ in packed):
            return dict(packed)
        return {"$dict": [[pack(key, tensors, prefix), item] for key, item in packed]}
    raise TypeError(f"{prefix} holds a {type(tree).__name__}, which a checkpoint cannot store without pickle.")


def unpack(packed: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Undo `pack`.

    Raises:
        KeyError: a tensor is missing.
    """
    if isinstance(packed, list):
        return [unpack(item, tensors) for item in packed]
    if not isinstance(packed, dict):
        return packed
    if len(packed) == 1:
        tag, value = next(iter(packed.items()))
        if tag == "$tensor":
            return tensors[value]
        if tag == "$float":
            return float(value)
        if tag == "$tuple":
            return tuple(unpack(item, tensors) for item in value)
        if tag == "$counter":
            return Counter({key: count for key, count in value})
        if tag == "$dict":
            return {unpack(key, tensors): unpack(item, tensors) for key, item in value}
    return {key: unpack(item, tensors) for key, item in packed.items()}


# --- random number generators of one process ------------------------------------------------------------------------


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
