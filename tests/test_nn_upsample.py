"""Convolution of a doubled map: equal to doubling first, values and gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from stillmotion.nn import upsample
from stillmotion.nn.upsample import SMALL, DoubledConv2d, conv_doubled


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 7), st.integers(1, 7), st.booleans(), st.integers(0, 99))
def test_equals_doubling_first(inputs: int, outputs: int, height: int, width: int, bias: bool, seed: int) -> None:
    torch.manual_seed(seed)
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias).double()
    x = torch.randn(2, inputs, height, width, dtype=torch.float64, requires_grad=True)
    plain = conv(F.interpolate(x, scale_factor=2, mode="nearest"))
    quick = conv_doubled(x, conv)
    assert torch.allclose(quick, plain, atol=1e-12)
    assert torch.allclose(DoubledConv2d(conv)(x), plain, atol=1e-12)
    weights = torch.randn_like(plain)
    of_plain = torch.autograd.grad((plain * weights).sum(), [x, *conv.parameters()])
    of_quick = torch.autograd.grad((quick * weights).sum(), [x, *conv.parameters()])
    assert all(torch.allclose(a, b, atol=1e-11) for a, b in zip(of_plain, of_quick, strict=True))


def test_one_pixel_by_hand() -> None:
    """A 1 x 1 map of value 1 doubled is 2 x 2 ones; with weights 1..9 each corner sums the four that meet ones."""
    conv = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.arange(1.0, 10.0).view(1, 1, 3, 3))
    # Top left: centre, right, below, below right = 5 + 6 + 8 + 9; and so on around.
    assert conv_doubled(torch.ones(1, 1, 1, 1), conv)[0, 0].tolist() == [[28.0, 24.0], [16.0, 12.0]]


def test_small_maps_are_doubled_first_and_large_ones_never(monkeypatch: pytest.MonkeyPatch) -> None:
    conv, laced = nn.Conv2d(1, 1, 3, padding=1), []
    lace = upsample.lace

    def watched(ways: torch.Tensor) -> torch.Tensor:
        laced.append(ways.shape[2] - 1)
        return lace(ways)

    monkeypatch.setattr(upsample, "lace", watched)
    for doubled in (lambda x: conv_doubled(x, conv), DoubledConv2d(conv)):
        for side in (1, SMALL, SMALL + 1, 16):
            doubled(torch.ones(1, 1, side, side))
    assert laced == [SMALL + 1, 16] * 2


@pytest.mark.parametrize(
    "options", [{"kernel_size": 1}, {"kernel_size": 3}, {"kernel_size": 3, "padding": 1, "groups": 2}]
)
def test_other_convolutions_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="plain 3x3"):
        conv_doubled(torch.zeros(1, 2, 4, 4), nn.Conv2d(2, 2, **options))
