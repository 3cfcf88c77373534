"""Networks made ready for inference: the same function from fewer operations."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn

from stillmotion.nn.norm import Affine2d

Network = TypeVar("Network", bound=nn.Module)


def folded(network: Network, without: Iterable[str] = ()) -> Network:
    """A copy for inference, equal but for rounding: norms go into convolutions, weights are laid channels-last.

    Every part that has a method `fold` folds itself. The copy cannot be trained on, and its weights have other names.

    Args:
        network: stays as it is.
        without: names of parts that inference does not need; they are not copied, and the copy has None there.
    """
    # What a deep copy's memo knows is not copied.
    memo: dict[int, object] = {id(network.get_submodule(name)): None for name in without}
    made = copy.deepcopy(network, memo).eval().requires_grad_(False)
    for part in list(made.modules()):
        if (fold := getattr(part, "fold", None)) is not None:
            fold()
    return made.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@torch.no_grad()
def fold_norm(conv: nn.Conv2d, norm: nn.Module) -> None:
    """Take a norm that follows a convolution into its weights and bias, in place.

    Args:
        conv: with a bias.
        norm: batch norm (with its running statistics), or scale and shift alone.

    Raises:
        TypeError: another kind of norm.
    """
    scale: Tensor
    shift: Tensor
    if isinstance(norm, Affine2d):
        scale, shift = norm.weight, norm.bias
    elif isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None:
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        shift = norm.bias - norm.running_mean * scale
    else:
        raise TypeError(f"cannot fold {norm}")
    assert conv.bias is not None
    conv.weight.mul_(scale[:, None, None, None])
    conv.bias.mul_(scale).add_(shift)
