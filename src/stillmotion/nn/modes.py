"""Networks for evaluation: their mode, copies folded for speed, and how large they would be."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar
from weakref import WeakSet

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from stillmotion.errors import StillmotionError

Network = TypeVar("Network", bound=nn.Module)

_FOLDED: WeakSet[nn.Module] = WeakSet()


@contextmanager
def eval_mode(*networks: nn.Module) -> Iterator[None]:
    """Put networks into eval mode; afterwards every module has the mode that it had."""
    modules = [module for network in networks for module in network.modules()]
    modes = [module.training for module in modules]
    try:
        for network in networks:
            network.eval()
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


def folded(network: Network) -> Network:
    """A copy for inference: every part that has a method `fold` folds itself, weights are laid channels-last.

    Equal but for rounding. The copy cannot be trained on, and its weights have other names. Of such a copy it is the
    copy itself.
    """
    if network in _FOLDED:
        return network
    made = copy.deepcopy(network).eval().requires_grad_(False)
    for part in list(made.modules()):
        getattr(part, "fold", lambda: None)()
    for tensor in (*made.parameters(), *made.buffers()):
        if tensor.ndim == 4:  # `Module.to` fails at weights of three-dimensional convolutions
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    _FOLDED.add(made)
    return made


@contextmanager
def without_memory(most: int, where: str) -> Iterator[None]:
    """Build networks without weights in this block; refuse more than `most` parameters, and sizes beyond counting."""
    left = itertools.count(most, -1)

    def count(*_: object) -> None:
        if next(left) <= 0:
            raise StillmotionError(f"{where}: it asks for more networks than the weights beside it are for.")

    hook = register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"):
            yield
    except (RuntimeError, OverflowError) as error:
        raise StillmotionError(f"{where}: networks of these sizes cannot be built.") from error
    finally:
        hook.remove()
