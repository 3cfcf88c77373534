"""A running average of a network's weights (EMA)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def decay_at(update: int, decay: float) -> float:
    """Share of the old average kept at update number `update` (0, 1, 2, ...).

    It grows from 0.1 to `decay`, so that the random weights of the start are soon forgotten.
    """
    return min(decay, (1 + update) / (10 + update))


class Average:
    """Averaged copies of some networks.

    Parameters are averaged in float32; buffers (running statistics, counters) are copied: they are averages
    already.

    Attributes:
        tensors: the averaged weights and copied buffers, `NETWORK.KEY` -> tensor.
        updates: how often `update` was called.
    """

    def __init__(self, networks: Mapping[str, nn.Module], decay: float):
        self.networks = dict(networks)
        self.decay = decay
        self.updates = 0
        self.tensors = {key: _start(value) for key, value in self._live().items()}
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
        """Move the average towards the networks as they are now."""
        weight = 1 - decay_at(self.updates, self.decay)
        for key, live in self._live().items():
            if key in self._averaged and live.is_floating_point():
                self.tensors[key].lerp_(live.float(), weight)
            else:
                self.tensors[key].copy_(live)
        self.updates += 1

    @torch.no_grad()
    def copy_to_networks(self) -> None:
        """Overwrite the networks with the average."""
        for key, live in self._live().items():
            live.copy_(self.tensors[key])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the networks have the averaged weights for a while, then their own again, bit for bit."""
        kept = {key: live.clone() for key, live in self._live().items()}
        self.copy_to_networks()
        try:
            yield
        finally:
            with torch.no_grad():
                for key, live in self._live().items():
                    live.copy_(kept[key])


def _start(value: Tensor) -> Tensor:
    return value.float().clone() if value.is_floating_point() else value.clone()
