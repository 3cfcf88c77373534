"""Small strokes systems and made stills for the tests."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stillmotion.files import change_settings
from stillmotion.systems.strokes.animating import Strokes
from stillmotion.systems.strokes.config import PRESETS, StrokesConfig
from stillmotion.systems.strokes.networks import Context, StrokesNetworks


def changed(config: StrokesConfig, **changes: Any) -> StrokesConfig:
    """The configuration with some fields changed; `losses__gan` is `losses.gan`."""
    return change_settings(config, {name.replace("__", "."): value for name, value in changes.items()}, "test")


NARROW: dict[str, Any] = {
    "size": 32,
    "predictor__blocks": 2,
    "predictor__units": 2,
    "predictor__growth": 4,
    "predictor__bottleneck": 4,
}

TINY_STROKES = changed(
    PRESETS["small"],
    **NARROW,
    clip__frames=5,
    stroke__lookahead=4,
    encoder__widths=(4, 4, 8),
    generator__widths=(8, 4, 4),
    generator__warp_still=False,  # has its own tests
    losses__unblended=0.0,
    single_step__batch=2,
    single_step__steps=2,
    single_step__schedule__warmup=0,
    single_step__schedule__total=None,
    annealing__steps=0,
)
"""Untrained, but whole: what a still does under it is noise that depends on everything it is given."""

TINY_WARP = changed(TINY_STROKES, generator__warp_still=True, losses__unblended=5.0)
"""The same with the still's own pixels in the blend."""


TINY_RELEASE = changed(
    PRESETS["release"],
    **NARROW,
    encoder__widths=(4, 6, 8),
    generator__widths=(8, 6, 4),
    discriminators__width=4,
)
"""The release's design in small."""


def count(network: nn.Module) -> int:
    """Parameters."""
    return sum(value.numel() for value in network.parameters())


def random_points(count: int, size: int = 32, n: int = 1, seed: int = 0) -> Tensor:
    return torch.rand((n, count, 2), generator=torch.Generator().manual_seed(seed)) * (size - 2)


def random_still(size: int = 32, n: int = 1, seed: int = 0) -> Tensor:
    """In [-1, 1]."""
    return torch.rand((n, 3, size, size), generator=torch.Generator().manual_seed(seed)) * 2 - 1


def step(networks: StrokesNetworks, context: Context, state: Tensor, points: Tensor, t: int) -> tuple[Tensor, Tensor]:
    """The next state and frame."""
    outputs = networks(networks.step_inputs(context, state, points, t))
    return outputs.state, outputs.generated.frame


def tiny_strokes(
    seed: int = 0, card: dict[str, Any] | None = None, base: StrokesConfig = TINY_STROKES, **changes: Any
) -> Strokes:
    """A tiny system with weights that are large enough for a stroke to change the frames."""
    torch.manual_seed(seed)
    system = Strokes.build(changed(base, **changes), card)
    with torch.no_grad():
        for value in system.networks.parameters():
            value.add_(0.2 * torch.randn(value.shape))
    return system


def spot(size: tuple[int, int] = (32, 32), x: int = 8, y: int = 10, side: int = 6) -> np.ndarray:
    """A bright square on a dark ground, its first pixel at (x, y); H x W x 3 `uint8`."""
    picture = np.full((*size, 3), 30, np.uint8)
    picture[y : y + side, x : x + side] = (240, 200, 60)
    return picture
