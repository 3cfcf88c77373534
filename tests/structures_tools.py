"""Small configurations and inputs for the tests of `structures`."""

from typing import Any

import torch
from torch import Tensor, nn

from stillmotion.files import change_settings
from stillmotion.systems.structures.config import PRESETS, StructuresConfig


def changed(config: StructuresConfig, **changes: Any) -> StructuresConfig:
    """The configuration with some fields changed; `losses__mask` is `losses.mask`."""
    return change_settings(config, {name.replace("__", "."): value for name, value in changes.items()}, "test")


TINY = changed(
    PRESETS["paper-poses"],
    size=16,
    structure__kind="joints",
    forecast__width=4,
    forecast__max_width=8,
    forecast__code=6,
    critic__width=4,
    critic__max_width=8,
    refinement__frames=4,
    refinement__overlap=1,
    refinement__width=4,
    refinement__levels=2,
    refinement__critic_width=4,
)
"""Two halvings, to 4 x 4, and clips of four frames."""


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def uniform(*shape: int, seed: int = 0, low: float = -1.0) -> Tensor:
    """Numbers between `low` and 1."""
    return low + (1 - low) * torch.rand(shape, generator=torch.Generator().manual_seed(seed))
