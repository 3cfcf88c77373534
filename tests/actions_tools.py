"""Small networks of `actions`."""

from typing import Any

import torch
from torch import Tensor, nn

from stillmotion.files import change_settings
from stillmotion.systems.actions.config import PRESETS, ActionsConfig
from stillmotion.systems.actions.networks import ActionsNetworks


def changed(config: ActionsConfig, **changes: Any) -> ActionsConfig:
    """The configuration with some fields changed; `motion__mode` is `motion.mode`."""
    return change_settings(config, {name.replace("__", "."): value for name, value in changes.items()}, "test")


TINY = changed(
    PRESETS["release"],
    size=16,
    norm_momentum=1.0,
    actions=("left", "right", "jump"),
    keypoints__count=3,
    encoder__width=4,
    translator__width=4,
    discriminator__width=2,
    motion__frames=5,
    motion__latent=6,
    motion__hidden=8,
    motion__input_width=4,
)


def networks_of(config: ActionsConfig = TINY, seed: int = 0, **changes: Any) -> ActionsNetworks:
    """Networks whose norms know their statistics, so that everything counts in eval mode too."""
    torch.manual_seed(seed)
    network = ActionsNetworks(changed(config, **changes))
    side, count = network.config.size, network.config.keypoints.count
    with torch.no_grad():
        network(network.encode(uniform(8, 3, side, side)), uniform(8, count, 2, seed=1))
    return network


def uniform(*shape: int, seed: int = 0) -> Tensor:
    """Numbers in [-1, 1]."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def trainable(network: nn.Module) -> int:
    return sum(value.numel() for value in network.parameters() if value.requires_grad)
