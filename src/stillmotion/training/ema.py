"""Exponential moving average of network weights (EMA)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def warmup_decay(update: int, decay: float) -> float:
    """Share of the average that is kept at update number `update` (0, 1, 2, ...).

    It rises from 0.1 to `decay`, so that the initial random weights drop out of the average within few updates.
    """
    return min(decay, (1 + update) / (10 + update))


class EMA:
    """Averaged copies of networks.

    Parameters are averaged in float32. Buffers (running statistics, counters) are copied, because they are averages
    already.

    Attributes:
        shadow: the averaged parameters and copied buffers, `NETWORK.KEY` -> tensor.
        updates: how often `update` was called.
    """

    def __init__(self, networks: Mapping[str, nn.Module], decay: float):
        self.networks = dict(networks)
        self.decay = decay
        self.updates = 0
        self.shadow = {key: _copy(value) for key, value in self._live().items()}
        self._averaged = {
            f"{name}.{key}"
            for name, network in networks.items()
            for key, _ in network.named_parameters(remove_duplicate=False)
        }

    def _live(self) -> dict[str, Tensor]:
        return {
            f"{name}.{key}": value.detach()
            for name, network in self.networks.items()
            for key, value in network.state_dict().items()
        }

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the present weights."""
        weight = 1 - warmup_decay(self.updates, self.decay)
        for key, live in self._live().items():
            if key in self._averaged and live.is_floating_point():
                self.shadow[key].lerp_(live.float(), weight)
            else:
                self.shadow[key].copy_(live)
        self.updates += 1

    @torch.no_grad()
    def copy_to_networks(self) -> None:
        """Overwrite the networks with the average."""
        for key, live in self._live().items():
            live.copy_(self.shadow[key])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Swap the averaged weights in for the duration of a block; the networks' own come back bit for bit."""
        kept = {key: live.clone() for key, live in self._live().items()}
        self.copy_to_networks()
        try:
            yield
        finally:
            with torch.no_grad():
                for key, live in self._live().items():
                    live.copy_(kept[key])


def _copy(value: Tensor) -> Tensor:
    return value.float().clone() if value.is_floating_point() else value.clone()
