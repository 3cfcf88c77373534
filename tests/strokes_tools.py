"""Small strokes systems and made stills for the tests."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stillmotion.files import change_settings
from stillmotion.rendering.fields import PAINT, STATIC, WARPED, FieldHead, Fields, MaskHead
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
    generator__fields=False,  # have their own tests
    generator__output="linear",
    losses__unblended=0.0,
    single_step__batch=2,
    single_step__steps=2,
    single_step__schedule__warmup=0,
    single_step__schedule__total=None,
    annealing__steps=0,
)
"""Untrained, but whole: what a still does under it is noise that depends on everything it is given."""

TINY_FIELDS = changed(TINY_STROKES, generator__fields=True, losses__unblended=5.0)
"""The same with frames blended of the still's own pixels, its background and paint."""

TINY_OBJECT = changed(TINY_FIELDS, generator__object_frame=True)
"""The same in the object's frame of reference."""


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


def fields_of(shares: Sequence[float] | Tensor, size: int = 32, paint: float = 0.0) -> Fields:
    """One frame's fields that are made by hand: shares of the four sources, or 4 x s x s; nothing is displaced."""
    given = torch.as_tensor(shares, dtype=torch.float32)
    maps = given if given.ndim == 3 else given[:, None, None].expand(4, size, size)
    size = maps.shape[-1]
    return Fields(torch.zeros(1, size, size, 2), maps[None].clone(), torch.full((1, 3, size, size), paint))


def block(x0: int, y0: int, x1: int, y1: int, size: int = 32) -> Tensor:
    """1 in a box of pixels, ends exclusive, 0 elsewhere; s x s."""
    mask = torch.zeros(size, size)
    mask[y0:y1, x0:x1] = 1
    return mask


def moves(mask: Tensor, source: int = WARPED) -> Fields:
    """Fields in which a mask, s x s, is taken from a source, and the rest is the unmoved still."""
    shares = torch.zeros(4, *mask.shape)
    shares[source], shares[STATIC] = mask, 1 - mask
    return fields_of(shares)


def predict_by_hand(monkeypatch: pytest.MonkeyPatch, fields: Fields, figure: Tensor | None = None) -> None:
    """Make every G with fields predict these in the frame in which it works, and a figure, s x s in [0, 1]."""

    def head(_: FieldHead, maps: Tensor, coarse: Tensor | None = None) -> Fields:
        return Fields(*(part.expand(len(maps), *part.shape[1:]) for part in fields))

    def mask(_: MaskHead, maps: Sequence[Tensor]) -> Tensor:
        found = fields.shares[0, [WARPED, PAINT]].sum(0) if figure is None else figure
        return torch.logit(found, eps=1e-6).expand(len(maps[0]), 1, -1, -1)

    monkeypatch.setattr(FieldHead, "forward", head)
    monkeypatch.setattr(MaskHead, "forward", mask)
