"""Training and evaluation mode, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(*networks: nn.Module) -> Iterator[None]:
    """Put networks into eval mode; afterwards every part has the mode that it had."""
    parts = [part for network in networks for part in network.modules()]
    modes = [part.training for part in parts]
    try:
        for network in networks:
            network.eval()
        yield
    finally:
        for part, mode in zip(parts, modes, strict=True):
            part.training = mode
