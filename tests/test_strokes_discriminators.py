"""D1, D2 and their spectral norm (checklist 1, 10, 11)."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.nn.spectral import SpectralConv2d, SpectralConvTranspose2d, SpectralLinear, frozen_power_iteration
from stillmotion.systems.strokes.config import PRESETS
from stillmotion.systems.strokes.networks import FrameDiscriminator, PairDiscriminator, flattened
from strokes_tools import TINY_RELEASE, changed, count, random_still


@pytest.mark.parametrize(
    ("size", "frame", "pair"),
    [
        (256, 7_906_561, 6_379_265),
        (128, 7_464_193, 5_986_049),
        (112, 7_429_633, 5_955_329),
        (64, 7_353_601, 5_887_745),
    ],
)
def test_the_releases_discriminators_have_the_sheets_counts_at_every_size(size: int, frame: int, pair: int) -> None:
    """Checklist 1."""
    config = changed(PRESETS["release"], size=size)
    with torch.device("meta"):
        assert count(FrameDiscriminator(config)) == frame
        assert count(PairDiscriminator(config)) == pair


def test_the_papers_discriminators_by_hand() -> None:
    """D1 is told x_t: 512 channels more for its last convolution. D2 does not see S_t: 64 * 9 weights fewer."""
    config = PRESETS["paper"]
    with torch.device("meta"):
        assert count(FrameDiscriminator(config)) == 5_852_672 + 512 * 512 * 9 + 512 * 16 * 16 + 1
        assert count(PairDiscriminator(config)) == 5_986_049 - 576


def test_discriminators_maps_halve_where_the_sheet_says() -> None:
    config = changed(TINY_RELEASE, size=64)
    discriminator = FrameDiscriminator(config)
    maps, score = discriminator.whole(random_still(64)), discriminator(random_still(64), random_still(32))
    assert [m.shape[1] for m in maps] == [4, 8, 8, 16, 16, 32, 32]
    assert [m.shape[2] for m in maps] == [64, 32, 32, 16, 16, 8, 8]
    assert [m.shape[1] for m in discriminator.crop(random_still(32))] == [2, 4, 4, 8, 8, 16, 16]
    assert score.shape == (1, 1)
    assert PairDiscriminator(config)(random_still(64), random_still(64), torch.ones(1, 1, 64, 64)).shape == (1, 1)


def test_linear_layers_read_maps_channels_last() -> None:
    maps = torch.arange(12).view(1, 2, 2, 3)  # channel, row, column
    assert flattened(maps).tolist() == [[0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11]]
    discriminator = PairDiscriminator(changed(TINY_RELEASE, size=64)).eval()
    pictures, seen = (random_still(64), random_still(64), torch.ones(1, 1, 64, 64)), []
    discriminator.score.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    discriminator(*pictures)
    last = discriminator.whole(torch.cat(pictures, dim=1))[-1]
    assert torch.equal(seen[0], flattened(last))


# --- spectral norm -------------------------------------------------------------------------------------------------
def matrix(layer: Any) -> Tensor:
    """What the layer should normalise, taken from the definition: last axis of TensorFlow's layout x the rest."""
    if isinstance(layer, nn.ConvTranspose2d):  # in x out x k x k; TensorFlow: k x k x out x in
        return layer.weight.permute(2, 3, 1, 0).reshape(-1, layer.in_channels).T
    return layer.weight.flatten(1)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: SpectralConv2d(6, 8, 3), (2, 6, 8, 8)),
        (lambda: SpectralConvTranspose2d(6, 4, 4, 2, 1), (2, 6, 4, 4)),
        (lambda: SpectralLinear(20, 1), (2, 20)),
    ],
    ids=["conv", "transposed", "linear"],
)
def test_after_a_few_passes_the_largest_singular_value_is_one(make: Any, shape: tuple[int, ...]) -> None:
    """Checklist 11, by the definition: the layer acts as its weights over the norm of their matrix."""
    torch.manual_seed(0)
    layer = make().train()
    nn.init.normal_(layer.weight, std=0.7)
    x = torch.randn(shape)
    for _ in range(15):
        layer(x)
    norm = torch.linalg.matrix_norm(matrix(layer), 2)
    plain = nn.Linear.forward if isinstance(layer, nn.Linear) else None
    with torch.no_grad():
        got = layer(x) - layer(torch.zeros_like(x))
        layer.weight.div_(norm)
        if plain is not None:
            wanted = F.linear(x, layer.weight)
        elif isinstance(layer, nn.ConvTranspose2d):
            wanted = F.conv_transpose2d(x, layer.weight, stride=2, padding=1)
        else:
            wanted = F.conv2d(x, layer.weight, padding=1)
    torch.testing.assert_close(got, wanted, rtol=0.05, atol=0.05 * wanted.abs().max().item())
    assert "u" in layer.state_dict()
    assert layer.u.shape == (len(layer.weight),)


def test_one_pass_is_one_power_iteration_by_hand() -> None:
    layer = SpectralLinear(2, 2).train()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
        layer.bias.zero_()
        layer.u.copy_(torch.tensor([1.0, 1.0]))
    made = layer(torch.tensor([[1.0, 1.0]]))
    # v ~ u W = (3, 1), u' ~ W v = (9, 1) / sqrt(82), sigma = u' W v = (81 + 1) / sqrt(820) = 82 / sqrt(820).
    sigma = 82 / math.sqrt(820)
    assert made[0].tolist() == pytest.approx([3 / sigma, 1 / sigma])
    assert layer.u.tolist() == pytest.approx([9 / math.sqrt(82), 1 / math.sqrt(82)])


def test_u_stays_in_eval_mode_and_where_it_is_to_be_forgotten() -> None:
    discriminator = FrameDiscriminator(TINY_RELEASE).train()
    before = {name: value.clone() for name, value in discriminator.named_buffers()}
    assert len(before) == 15
    with frozen_power_iteration(discriminator):
        discriminator(random_still(), random_still(16))
    discriminator.eval()
    discriminator(random_still(), random_still(16))
    assert all(torch.equal(value, before[name]) for name, value in discriminator.named_buffers())
    discriminator.train()
    discriminator(random_still(), random_still(16))
    assert not any(torch.equal(value, before[name]) for name, value in discriminator.named_buffers())


def test_gradients_run_through_the_power_iteration() -> None:
    """Against differences: with u and v held constant the derivative would be another."""
    torch.manual_seed(0)
    layer = SpectralLinear(3, 2).double().train()
    x, seen = torch.randn(1, 3, dtype=torch.double), layer.u.clone()

    def norm_of(weight: Tensor) -> Tensor:
        layer.u.copy_(seen)
        return torch.func.functional_call(layer, {"weight": weight}, (x,)).sum()

    layer.u.copy_(seen)
    weight = layer.weight.detach().clone().requires_grad_()
    norm_of(weight).backward()
    step = torch.zeros_like(weight)
    step[1, 2] = 1e-6
    with torch.no_grad():
        slope = (norm_of(weight + step) - norm_of(weight - step)) / 2e-6
    assert weight.grad[1, 2].item() == pytest.approx(slope.item(), rel=1e-3, abs=1e-6)
