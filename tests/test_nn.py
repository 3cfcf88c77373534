"""Layers: spectral norms, folding, the U-Net; and the device they run on."""

import copy
import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from driving_tools import at, tiny
from refusals import refuses
from stillmotion.keypoints.networks import Keypoints
from stillmotion.nn import unet
from stillmotion.nn.device import best_times, choose_device, choose_precision, time_convolution
from stillmotion.nn.modes import folded
from stillmotion.nn.norm import BatchNorm2d
from stillmotion.nn.spectral import frozen_power_iteration, spectral_norm
from stillmotion.nn.unet import MAX_DIRECT_SIDE, Affine2d, UNet, UpsampleConv2d, fold_norm, upsample_conv2d


def randomize_norms(network: nn.Module, seed: int = 0) -> None:
    """Give every norm a scale, a shift and statistics that matter."""
    torch.manual_seed(seed)
    for part in network.modules():
        if isinstance(part, Affine2d | nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 2.0)
            nn.init.uniform_(part.bias, -1.0, 1.0)
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-1, 1)
            part.running_var.uniform_(0.2, 3)


def test_a_norm_by_hand() -> None:
    """y = 3 x + 1, then (y - 2) / sqrt(4) * 5 + 7 is 7.5 x + 4.5."""
    conv, norm = nn.Conv2d(1, 1, 1), BatchNorm2d(1, eps=0.0)
    for tensor, value in ((conv.weight, 3.0), (conv.bias, 1.0), (norm.weight, 5.0), (norm.bias, 7.0)):
        nn.init.constant_(tensor, value)
    norm.running_mean.fill_(2.0)
    norm.running_var.fill_(4.0)
    fold_norm(conv, norm)
    assert conv.weight.item() == pytest.approx(7.5)
    assert conv.bias.item() == pytest.approx(4.5)


@pytest.mark.parametrize("norm", ["batch", "affine"])
def test_folded_networks_give_the_same_output_and_the_original_stays(norm: str) -> None:
    config, networks = tiny(**at("generator", norm=norm, refine_blocks=2, fields=True))
    randomize_norms(networks)
    networks.eval()
    before = copy.deepcopy(networks.state_dict())
    copied = folded(networks)
    # Only a norm that stands before its convolution is left: the first of each residual.
    left = [name for name, part in copied.generator.named_modules() if isinstance(part, Affine2d | nn.BatchNorm2d)]
    assert left == ["refine.0.norm1", "refine.1.norm1"]

    pictures = torch.rand(3, 3, config.size, config.size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        slow, fast = (net.detector(pictures) for net in (networks, copied))
        assert torch.allclose(slow.mean, fast.mean, atol=1e-5)
        source = Keypoints(*(part[:1].expand_as(part) for part in slow))
        made = [
            net.generator([f.expand(3, -1, -1, -1) for f in net.generator.encode(pictures[:1])], source, slow)
            for net in (networks, copied)
        ]
        figures = [net.generator.figure(net.generator.encode(pictures)) for net in (networks, copied)]
    assert torch.allclose(made[0].frame, made[1].frame, atol=1e-4)
    assert torch.allclose(figures[0], figures[1], atol=1e-4)
    assert (made[0].frame - made[0].frame.mean()).abs().max() > 0.01
    assert all(torch.equal(value, networks.state_dict()[name]) for name, value in before.items())


def test_what_cannot_be_folded_is_refused() -> None:
    refuses("GroupNorm", fold_norm, nn.Conv2d(2, 2, 1), nn.GroupNorm(1, 2), error=TypeError)


def linear(weight: list[list[float]], u: list[float], v: list[float]) -> nn.Linear:
    layer = nn.Linear(len(v), len(u), bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
    spectral_norm(layer)
    layer.parametrizations.weight[0].u.copy_(torch.tensor(u))
    layer.parametrizations.weight[0].v.copy_(torch.tensor(v))
    return layer


def vectors(layer: nn.Module) -> list[list[float]]:
    return [getattr(layer.parametrizations.weight[0], name).tolist() for name in "uv"]


def test_the_matrix_is_divided_by_u_w_v_by_hand() -> None:
    """W = diag(3, 4). From u = (0.6, 0.8): v ~ W u = (1.8, 3.2), u' ~ W v ~ (5.4, 12.8), sigma = u' W v = |W v|."""
    layer = linear([[3.0, 0.0], [0.0, 4.0]], [0.6, 0.8], [1.0, 0.0]).train()
    sigma = (5.4**2 + 12.8**2) ** 0.5 / (1.8**2 + 3.2**2) ** 0.5
    assert torch.allclose(layer(torch.eye(2)), torch.diag(torch.tensor([3.0, 4.0])) / sigma)
    length = (1.8**2 + 3.2**2) ** 0.5
    assert vectors(layer)[1] == pytest.approx([1.8 / length, 3.2 / length])


def test_eval_mode_uses_the_stored_vectors_and_leaves_them() -> None:
    layer = linear([[3.0, 0.0], [0.0, 4.0]], [0.6, 0.8], [1.0, 0.0]).eval()
    assert torch.allclose(layer(torch.eye(2)), torch.diag(torch.tensor([3.0, 4.0])) / (0.6 * 3.0))
    assert vectors(layer)[1] == [1.0, 0.0]


def test_inside_frozen_power_iteration_nothing_is_stored() -> None:
    layer = linear([[3.0, 0.0], [0.0, 4.0]], [0.6, 0.8], [1.0, 0.0]).train()
    before = vectors(layer)
    with frozen_power_iteration(layer):
        inside = layer(torch.eye(2))
    assert vectors(layer) == before
    assert torch.equal(layer(torch.eye(2)), inside)
    assert vectors(layer) != before


def test_training_equals_torchs_value_gradient_and_vectors() -> None:
    torch.manual_seed(0)
    theirs = nn.Conv3d(2, 4, 3)
    ours = copy.deepcopy(theirs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated in favour of a form with another order of updates
        theirs = nn.utils.spectral_norm(theirs)
    spectral_norm(ours)
    ours.parametrizations.weight[0].u.copy_(theirs.weight_u)
    clip = torch.randn(1, 2, 4, 4, 4)
    for _ in range(2):
        outputs = ours(clip), theirs(clip)
        assert torch.allclose(*outputs, atol=1e-6)
    weights = ours.parametrizations.weight.original, theirs.weight_orig
    gradients = [torch.autograd.grad(o.square().sum(), w)[0] for o, w in zip(outputs, weights, strict=True)]
    assert torch.allclose(*gradients, rtol=1e-4, atol=1e-6)
    assert torch.allclose(ours.parametrizations.weight[0].v, theirs.weight_v, atol=1e-6)


def test_a_pass_in_training_mode_does_not_break_the_graph_of_an_earlier_one() -> None:
    layer = linear([[3.0, 0.0], [0.0, 4.0]], [0.6, 0.8], [1.0, 0.0])
    early = layer.eval()(torch.eye(2)).square().sum()
    middle = layer.train()(torch.eye(2)).square().sum()
    layer(torch.eye(2))
    (early + middle).backward()
    assert torch.isfinite(layer.parametrizations.weight.original.grad).all()


def test_networks_with_it_are_copied_and_stored() -> None:
    layer = linear([[3.0, 0.0], [0.0, 4.0]], [0.6, 0.8], [1.0, 0.0]).eval()
    copied = copy.deepcopy(layer)
    assert torch.equal(copied(torch.eye(2)), layer(torch.eye(2)))
    assert list(layer.state_dict()) == [
        "parametrizations.weight.original",
        "parametrizations.weight.0.u",
        "parametrizations.weight.0.v",
    ]


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


CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def with_cuda(monkeypatch: pytest.MonkeyPatch, available: bool, bf16: bool = True) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16 or including_emulation)


def test_auto_takes_cuda_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with_cuda(monkeypatch, True)
    assert [choose_device(name) for name in ("auto", "cuda", "cpu")] == [CUDA, CUDA, CPU]
    with_cuda(monkeypatch, False)
    assert [choose_device(name) for name in ("auto", "cpu")] == [CPU, CPU]
    refuses("no CUDA device", choose_device, "cuda")
    refuses("auto, cpu, cuda, not 'tpu'", choose_device, "tpu")


def test_cuda_takes_bf16_where_its_hardware_has_it_and_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def timer(*_: object) -> dict[str, float]:
        raise AssertionError("measured")

    with_cuda(monkeypatch, True, bf16=True)
    assert choose_precision("auto", CUDA, True, timer) == ("bf16", {})
    assert choose_precision("fp32", CUDA, True, timer) == ("fp32", {})
    with_cuda(monkeypatch, True, bf16=False)
    assert choose_precision("auto", CUDA, True, timer) == ("fp32", {})


def test_the_cpu_takes_what_is_measured_to_be_faster() -> None:
    def clock(fp32: float, bf16: float):
        return lambda *_: {"fp32": fp32, "bf16": bf16}

    assert choose_precision("auto", CPU, True, clock(10.0, 5.0)) == ("bf16", {"fp32": 10.0, "bf16": 5.0})
    assert choose_precision("auto", CPU, True, clock(10.0, 9.5))[0] == "fp32"  # below 15 %
    assert choose_precision("auto", CPU, True, clock(5.0, 10.0))[0] == "fp32"
    assert choose_precision("bf16", CPU, True, clock(5.0, 10.0)) == ("bf16", {})

    def lacking(*_: object) -> dict[str, float]:
        raise RuntimeError("no bfloat16 here")

    assert choose_precision("auto", CPU, True, lacking) == ("fp32", {})


def test_measuring_gives_times_and_draws_no_random_number() -> None:
    before = torch.get_rng_state()
    times = time_convolution(CPU, channels_last=True, repeats=1)
    assert times.keys() == {"fp32", "bf16"}
    assert all(0 < value < math.inf for value in times.values())
    assert torch.equal(torch.get_rng_state(), before)


def test_best_times_are_the_smallest_of_each_in_turns() -> None:
    times = {"fp32": iter([3.0, 1.0]), "bf16": iter([2.0, 5.0])}
    asked = []

    def once(name: str) -> float:
        asked.append(name)
        return next(times[name])

    assert best_times(once, repeats=2) == {"fp32": 1.0, "bf16": 2.0}
    assert asked == ["fp32", "bf16"] * 2


def test_folding_leaves_three_dimensional_convolutions_as_they_are() -> None:
    network = nn.Sequential(nn.Conv3d(2, 3, 3), nn.Flatten(1, 2), nn.Conv2d(3, 4, 1))
    made = folded(network)
    assert made[2].weight.is_contiguous(memory_format=torch.channels_last)
    x = torch.rand(1, 2, 3, 5, 5)
    assert torch.allclose(made(x), network(x), atol=1e-6)
