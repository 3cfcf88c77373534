"""The U-Net's blocks: convolution of an upsampled map, and folded norms."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from refusals import refuses
from stillmotion.nn import unet
from stillmotion.nn.unet import MAX_DIRECT_SIDE, UNet, UpsampleConv2d, upsample_conv2d


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 7), st.integers(1, 7), st.booleans(), st.integers(0, 99))
def test_equals_upsampling_first(inputs: int, outputs: int, height: int, width: int, bias: bool, seed: int) -> None:
    torch.manual_seed(seed)
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias).double()
    x = torch.randn(2, inputs, height, width, dtype=torch.float64, requires_grad=True)
    plain = conv(F.interpolate(x, scale_factor=2, mode="nearest"))
    fast = upsample_conv2d(x, conv)
    assert torch.allclose(fast, plain, atol=1e-12)
    assert torch.allclose(UpsampleConv2d(conv)(x), plain, atol=1e-12)
    weights = torch.randn_like(plain)
    of_plain = torch.autograd.grad((plain * weights).sum(), [x, *conv.parameters()])
    of_fast = torch.autograd.grad((fast * weights).sum(), [x, *conv.parameters()])
    assert all(torch.allclose(a, b, atol=1e-11) for a, b in zip(of_plain, of_fast, strict=True))


def test_one_pixel_by_hand() -> None:
    """A 1 x 1 map of value 1 upsampled is 2 x 2 ones; with weights 1..9 each corner sums the four that meet ones."""
    conv = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.arange(1.0, 10.0).view(1, 1, 3, 3))
    # Top left: centre, right, below, below right = 5 + 6 + 8 + 9; and so on around.
    assert upsample_conv2d(torch.ones(1, 1, 1, 1), conv)[0, 0].tolist() == [[28.0, 24.0], [16.0, 12.0]]


def test_small_maps_are_upsampled_first_and_large_ones_never(monkeypatch: pytest.MonkeyPatch) -> None:
    conv, sides = nn.Conv2d(1, 1, 3, padding=1), []
    interleave = unet.interleave

    def watched(phases: torch.Tensor) -> torch.Tensor:
        sides.append(phases.shape[2] - 1)
        return interleave(phases)

    monkeypatch.setattr(unet, "interleave", watched)
    for upsampled in (lambda x: upsample_conv2d(x, conv), UpsampleConv2d(conv)):
        for side in (1, MAX_DIRECT_SIDE, MAX_DIRECT_SIDE + 1, 16):
            upsampled(torch.ones(1, 1, side, side))
    assert sides == [MAX_DIRECT_SIDE + 1, 16] * 2


@pytest.mark.parametrize(
    "options", [{"kernel_size": 1}, {"kernel_size": 3}, {"kernel_size": 3, "padding": 1, "groups": 2}]
)
def test_other_convolutions_are_refused(options: dict[str, int]) -> None:
    refuses("plain 3x3", upsample_conv2d, torch.zeros(1, 2, 4, 4), nn.Conv2d(2, 2, **options), error=ValueError)


def test_unet_has_the_channels_and_names_of_monkey_net() -> None:
    network = UNet(3, width=4, max_width=10, depth=3)
    # Down 8, 10, 10 (the limit); up 10, 8 and 4, each beside its skip: 10 + 10, 8 + 8, 4 + 3.
    assert network.encoder.channels == [3, 8, 10, 10]
    assert [block.conv.out_channels for block in network.decoder.blocks] == [10, 8, 4]
    assert network.out_channels == 4 + 3
    assert network(torch.zeros(2, 3, 16, 16)).shape == (2, 7, 16, 16)
    names = {name.rpartition(".")[0] for name in network.state_dict()}
    assert names == {
        f"{side}coder.blocks.{i}.{part}" for side in ("en", "de") for i in range(3) for part in ("conv", "norm")
    }
