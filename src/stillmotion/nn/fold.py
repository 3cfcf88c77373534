"""Networks prepared for inference: the same function from fewer operations."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def folded(network: Network, without: Iterable[str] = ()) -> Network:
    """A copy for inference, equal but for rounding: norms are folded into convolutions, weights are channels-last.

    Every module that has a method `fold` is asked to fold itself. The copy cannot be trained, and its weights have
    other names.

    Args:
        network: stays as it is.
        without: names of submodules that inference does not need; they are not copied, and the copy has None there.
    """
    # `deepcopy` does not copy what its memo already holds.
    memo: dict[int, object] = {id(network.get_submodule(name)): None for name in without}
    copied = copy.deepcopy(network, memo).eval().requires_grad_(False)
    for module in list(copied.modules()):
        if (fold := getattr(module, "fold", None)) is not None:
            fold()
    return copied.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
