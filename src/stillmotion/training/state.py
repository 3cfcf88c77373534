"""State of optimisers, schedulers and the like as JSON plus named tensors, so that no pickle is needed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

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
