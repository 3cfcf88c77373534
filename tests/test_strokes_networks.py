"""E1, E2, P, G, D1 and D2: sizes, counts, paddings and norms (checklist 1, 2, 7 to 11, 17)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.nn.fold import folded
from stillmotion.nn.padding import SameConv2d, same_padding
from stillmotion.nn.spectral import SpectralConv2d, SpectralConvTranspose2d, SpectralLinear, frozen_power_iteration
from stillmotion.systems.strokes import coding
from stillmotion.systems.strokes.config import PRESETS, StrokesConfig
from stillmotion.systems.strokes.judges import FrameDiscriminator, PairDiscriminator
from stillmotion.systems.strokes.networks import Decoder, Encoder, StrokesNetworks, instance_norm
from strokes_tools import TINY_STROKES, tiny_strokes

RELEASE = replace(
    PRESETS["release"],
    size=32,
    encoder_widths=(4, 6),
    state=8,
    blocks=2,
    units=2,
    growth=4,
    bottleneck=4,
    generator_widths=(8, 6, 4),
    discriminator_width=4,
)
"""The release's design in small."""


def build(config: StrokesConfig, seed: int = 0) -> StrokesNetworks:
    torch.manual_seed(seed)
    return StrokesNetworks(config)


def points(count: int, size: int = 32, n: int = 1, seed: int = 0) -> Tensor:
    return torch.rand((n, count, 2), generator=torch.Generator().manual_seed(seed)) * (size - 2)


def still(size: int = 32, n: int = 1, seed: int = 0) -> Tensor:
    return torch.rand((n, 3, size, size), generator=torch.Generator().manual_seed(seed)) * 2 - 1


def count(network: nn.Module) -> int:
    return sum(value.numel() for value in network.parameters())


# --- counts and sizes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["paper", "release"])
def test_parameter_counts_are_the_sheets(preset: str) -> None:
    """Checklist 1. Widths do not depend on the size, so all but the judges' last layers have one count."""
    with torch.device("meta"):
        networks = StrokesNetworks(PRESETS[preset])
    parts = {name: count(part) for name, part in networks.named_children()}
    assert parts["encoder"] == 370_816
    assert parts["motion"] == 369_664
    assert parts["predictor"] == 29_273_600
    assert parts["decoder"] == 1_706_115
    assert sum(parts[name] for name in ("encoder", "motion", "predictor", "decoder")) == 31_720_195


@pytest.mark.parametrize(
    ("size", "frame", "pair"),
    [
        (256, 7_906_561, 6_379_265),
        (128, 7_464_193, 5_986_049),
        (112, 7_429_633, 5_955_329),
        (64, 7_353_601, 5_887_745),
    ],
)
def test_the_releases_judges_have_the_sheets_counts_at_every_size(size: int, frame: int, pair: int) -> None:
    """Checklist 1."""
    config = replace(PRESETS["release"], size=size)
    with torch.device("meta"):
        assert count(FrameDiscriminator(config)) == frame
        assert count(PairDiscriminator(config)) == pair


def test_the_papers_judges_by_hand() -> None:
    """D1 is told x_t: 512 channels more for its last convolution. D2 does not see S_t: 64 * 9 weights fewer."""
    config = PRESETS["paper"]
    with torch.device("meta"):
        assert count(FrameDiscriminator(config)) == 5_852_672 + 512 * 512 * 9 + 512 * 16 * 16 + 1
        assert count(PairDiscriminator(config)) == 5_986_049 - 576


@pytest.mark.parametrize(
    ("block", "parameters"),
    list(enumerate([2_459_520, 3_278_720, 4_097_920, 4_917_120, 5_736_320, 6_555_520])),
)
def test_dense_blocks_are_the_sheets_and_the_last_concatenation_has_8704_channels(
    block: int, parameters: int
) -> None:
    """Checklist 8."""
    with torch.device("meta"):
        predictor = StrokesNetworks(PRESETS["release"]).predictor
    assert count(predictor.blocks[block]) == parameters
    assert len(predictor.units) == 30
    assert predictor.transition.weight.shape == (256, 8704, 1, 1)


def test_what_animates_in_the_zoos_preset_fits_in_eight_megabytes() -> None:
    networks = build(PRESETS["small"])
    assert networks.frame_discriminator is None
    assert networks.pair_discriminator is None
    assert 2 * count(networks) < 4_200_000  # bytes as float16


@pytest.mark.parametrize("size", [64, 112, 128])
def test_state_and_frame_have_an_eighth_of_the_size_and_the_size(size: int) -> None:
    """Checklist 2; 256 is the same design."""
    config = replace(RELEASE, size=size)
    networks = build(config)
    context = networks.begin(still(size), points(4, size))
    state, frame = networks.advance(context, context.initial, 0)
    assert context.initial.shape == state.shape == (1, 8, size // 8, size // 8)
    assert frame.shape == (1, 3, size, size)
    assert -1 <= frame.min() < frame.max() <= 1


def test_the_papers_network_at_128_gives_a_state_of_256_by_16_by_16() -> None:
    """Checklist 2."""
    encoder, decoder = Encoder(3, PRESETS["paper"]), Decoder(PRESETS["paper"])
    state = encoder(still(128))
    assert state.shape == (1, 256, 16, 16)
    assert decoder(state, still(128)).frame.shape == (1, 3, 128, 128)


def test_judges_maps_halve_where_the_sheet_says() -> None:
    config = replace(RELEASE, size=64)
    judge = FrameDiscriminator(config)
    *maps, score = judge(still(64), still(32))
    assert [m.shape[1] for m in maps] == [4, 8, 8, 16, 16, 32, 32]
    assert [m.shape[2] for m in maps] == [64, 32, 32, 16, 16, 8, 8]
    assert judge.crop is not None
    assert [m.shape[1] for m in judge.crop(still(32))] == [2, 4, 4, 8, 8, 16, 16]
    assert score.shape == (1, 1)
    assert PairDiscriminator(config)(still(64), still(64), torch.ones(1, 1, 64, 64)).shape == (1, 1)


# --- paddings, norms, slopes ---------------------------------------------------------------------------------------


def test_strided_convolutions_pad_below_and_on_the_right_alone() -> None:
    """Checklist 9, on 4 x 4: windows begin at rows and columns 0 and 2; the last reach one zero beyond the edge."""
    conv = SameConv2d(1, 1, 3, 2)
    nn.init.ones_(conv.weight)
    nn.init.zeros_(conv.bias)
    picture = torch.arange(16.0).view(1, 1, 4, 4)
    # Sums of rows 0-2 x columns 0-2, rows 0-2 x columns 2-3, rows 2-3 x columns 0-2, rows 2-3 x columns 2-3.
    expected = [[45.0, 39.0], [66.0, 50.0]]
    assert conv(picture)[0, 0].tolist() == expected
    assert build(RELEASE).encoder.layers[0](still(8)).shape[-1] == 4


@pytest.mark.parametrize(
    ("length", "kernel", "stride", "expected"),
    [(256, 3, 2, (0, 1)), (256, 4, 2, (1, 1)), (256, 3, 1, (1, 1)), (5, 3, 2, (1, 1)), (7, 1, 1, (0, 0))],
)
def test_same_padding_is_the_sheets(length: int, kernel: int, stride: int, expected: tuple[int, int]) -> None:
    assert same_padding(length, kernel, stride) == expected


def test_instance_norm_has_a_tiny_epsilon_the_biased_variance_and_no_parameters() -> None:
    """Checklist 10. Values 0 and d, half each: mean d/2, biased variance d^2 / 4."""
    d = 2e-5
    x = torch.tensor([0.0, d, 0.0, d]).view(1, 1, 2, 2)
    expected = (d / 2) / math.sqrt(d * d / 4 + 1e-9)
    assert instance_norm(x).flatten().tolist() == pytest.approx([-expected, expected, -expected, expected], rel=1e-4)
    assert {name.rpartition(".")[2] for name in build(RELEASE).encoder.state_dict()} == {"weight", "bias"}


def test_encoders_leak_a_fifth_and_judges_a_tenth() -> None:
    """Checklist 10: with one negative value per map, what comes out is the slope times what went in."""
    encoder = build(replace(RELEASE, encoder_norm="none")).encoder
    for layer in encoder.layers:
        nn.init.zeros_(layer.weight)
        nn.init.constant_(layer.bias, -1.0)
    assert encoder(still()).unique().tolist() == pytest.approx([-0.2])
    judge = FrameDiscriminator(replace(RELEASE, crop_branch=False))
    nn.init.constant_(judge.whole.layers[0].bias, -1.0)
    assert judge(torch.zeros(1, 3, 32, 32))[0].unique().tolist() == pytest.approx([-0.1])


def test_the_release_normalises_its_encoders_and_generator_and_the_paper_does_not() -> None:
    assert build(RELEASE).encoder.normalises
    assert not build(replace(RELEASE, encoder_norm="none")).encoder.normalises
    assert PRESETS["paper"].encoder_norm == PRESETS["paper"].generator_norm == "none"
    assert isinstance(build(RELEASE).decoder.colours, SpectralConvTranspose2d)
    assert type(build(replace(RELEASE, generator_norm="none")).decoder.colours) is nn.ConvTranspose2d


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
    judge = FrameDiscriminator(RELEASE).train()
    before = {name: value.clone() for name, value in judge.named_buffers()}
    assert len(before) == 15
    with frozen_power_iteration(judge):
        judge(still(), still(16))
    judge.eval()
    judge(still(), still(16))
    assert all(torch.equal(value, before[name]) for name, value in judge.named_buffers())
    judge.train()
    judge(still(), still(16))
    assert not any(torch.equal(value, before[name]) for name, value in judge.named_buffers())


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
    assert weight.grad is not None
    assert weight.grad[1, 2].item() == pytest.approx(slope.item(), rel=1e-3, abs=1e-6)


def test_folded_networks_make_the_same_frames() -> None:
    networks = build(replace(RELEASE, composite=True)).eval()
    ready = folded(networks)
    assert not [name for name, _ in ready.decoder.named_buffers()]
    for one in (networks, ready):
        context = one.begin(still(), points(3))
        one.frame = one.advance(context, context.initial, 0)[1]
    torch.testing.assert_close(ready.frame, networks.frame, rtol=1e-4, atol=1e-5)


# --- how the parts are joined --------------------------------------------------------------------------------------


def test_one_motion_encoder_reads_both_pictures_and_swapping_them_swaps_the_halves() -> None:
    """Checklist 7."""
    networks = build(RELEASE)
    whole, step = networks.motion_pictures(points(5), 1)
    first, second = networks.encode_motion([whole, step])
    swapped = networks.encode_motion([step, whole])
    torch.testing.assert_close(swapped[0], second)
    torch.testing.assert_close(swapped[1], first)
    with torch.no_grad():
        networks.motion.layers[0].weight.mul_(-1)
    changed = networks.encode_motion([whole, step])
    assert (changed[0] - first).abs().max() > 0.1
    assert (changed[1] - second).abs().max() > 0.1


def test_the_predictor_gets_current_initial_whole_and_step_in_this_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checklist 8."""
    networks = build(RELEASE).eval()
    stroke = points(5)
    context = networks.begin(still(), stroke, fast=False)
    state = torch.full_like(context.initial, 3.0)
    seen: list[Tensor] = []
    networks.predictor.register_forward_pre_hook(lambda _, given: seen.extend(given[0]))
    networks.predict(context, state, 2)
    expected = [
        state,
        networks.encoder(still()),
        networks.motion(coding.whole(stroke, RELEASE)),
        networks.motion(coding.step(stroke, 2, RELEASE)),
    ]
    for given, wanted in zip(seen, expected, strict=True):
        torch.testing.assert_close(given, wanted)


def test_a_unit_is_relu_1x1_relu_3x3_and_sees_all_before_it() -> None:
    """One block of two units on the sheet's words, with nothing shared between the units."""
    networks = build(replace(RELEASE, blocks=1))
    predictor = networks.predictor
    inputs = [torch.randn(1, 8, 4, 4, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    known = torch.cat(inputs, 1)
    for unit in predictor.blocks[0].units:
        made = F.conv2d(F.relu(known), unit.narrow.weight, unit.narrow.bias)
        made = F.conv2d(F.relu(made), unit.wide.weight, unit.wide.bias, padding=1)
        known = torch.cat([known, made], 1)
    wanted = F.conv2d(F.relu(known), predictor.transition.weight, predictor.transition.bias)
    torch.testing.assert_close(predictor(inputs), wanted)


VARIANTS = {
    "release": RELEASE,
    "whole": replace(RELEASE, motion_input="whole"),
    "step": replace(RELEASE, motion_input="step"),
    "window": TINY_STROKES,
    "soft": replace(TINY_STROKES, stroke_window=0),
    "window whole": replace(TINY_STROKES, motion_input="whole"),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_fast_path_is_the_plain_one_but_for_rounding(name: str) -> None:
    networks = tiny_strokes(**vars(VARIANTS[name])).networks
    stroke = points(6, n=2)
    fast, plain = (networks.begin(still(n=2), stroke, fast=way) for way in (True, False))
    assert plain.prepared is None
    a, b = fast.initial, plain.initial
    for t in range(5):
        (a, frame), (b, wanted) = networks.advance(fast, a, t), networks.advance(plain, b, t)
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(frame, wanted, rtol=1e-4, atol=1e-4)
    assert (frame - networks.draw(plain, plain.initial).frame).abs().max() > 1e-3  # something did move


@pytest.mark.parametrize(("motion_input", "parts"), [("both", 4), ("whole", 3), ("step", 3)])
def test_the_ablations_of_the_motion_input_narrow_the_predictor(motion_input: Any, parts: int) -> None:
    """Checklist 19."""
    networks = build(replace(RELEASE, motion_input=motion_input))
    assert networks.predictor.units[0].narrow.weight.shape[1] == 8 * parts
    stroke, other = points(5), points(5)
    other[:, 4] += torch.tensor([3.0, 2.0]) - other[:, 4].floor()  # a point that only S shows at step 0
    context, changed = networks.begin(still(), stroke), networks.begin(still(), other)
    same = torch.equal(networks.predict(context, context.initial, 0), networks.predict(changed, changed.initial, 0))
    assert same == (motion_input == "step")


@torch.no_grad()
def test_any_length_and_the_same_frames_again() -> None:
    """Checklist 17: 24 steps of networks configured for 4, twice."""
    networks = tiny_strokes().networks
    assert networks.config.frames == 5
    runs = []
    for _ in range(2):
        context = networks.begin(still(), points(25))
        state, frames = context.initial, []
        for t in range(24):
            state, frame = networks.advance(context, state, t)
            frames.append(frame)
        runs.append(torch.cat(frames))
    assert runs[0].shape == (24, 3, 32, 32)
    assert torch.equal(runs[0], runs[1])
    assert (runs[0][23] - runs[0][22]).abs().max() > 1e-3


def test_two_runs_of_the_release_are_alike_because_u_does_not_move() -> None:
    """Checklist 17, with spectral norm in the generator."""
    networks = build(RELEASE).eval()
    context = networks.begin(still(), points(25))
    first, again = (networks.advance(context, context.initial, 0)[1] for _ in range(2))
    assert torch.equal(first, again)


def test_the_blend_keeps_the_share_of_the_still_that_it_says() -> None:
    networks = tiny_strokes(composite=True).networks
    with torch.no_grad():
        networks.decoder.colours.weight.zero_()
        networks.decoder.colours.bias.copy_(torch.tensor([0.5, -0.5, 0.0, math.log(3)]))  # a share of 3 / 4
    picture = still()
    drawn = networks.draw(networks.begin(picture, points(3)), torch.zeros(1, 8, 4, 4))
    assert drawn.keep is not None
    assert drawn.keep.unique().tolist() == pytest.approx([0.75])
    colours = torch.tensor([0.5, -0.5, 0.0])[:, None, None]
    torch.testing.assert_close(drawn.frame, 0.75 * picture + 0.25 * colours)


def test_linear_colours_leave_the_range_in_training_alone() -> None:
    networks = tiny_strokes(composite=False, painted_weight=0.0, colours="linear").networks
    with torch.no_grad():
        networks.decoder.colours.bias.fill_(5.0)
    state = torch.zeros(1, 8, 4, 4)
    assert networks.decoder(state, still()).frame.max() <= 1
    assert networks.train().decoder(state, still()).frame.max() > 1


# --- first weights -------------------------------------------------------------------------------------------------


def test_first_weights_are_drawn_as_in_the_release() -> None:
    """Sheet 2.8: truncated normal of sd 0.01 (sd 0.88 of that after the cut) and bias 0.01; 0.02 and 0 elsewhere."""
    networks = build(replace(RELEASE, state=32, growth=32, bottleneck=32, discriminator_width=16))
    cut = 0.8796  # the deviation of a standard normal cut at 2
    for name, deviation, bias in (
        ("encoder", 0.01, 0.01),
        ("motion", 0.01, 0.01),
        ("predictor", 0.01, 0.01),
        ("decoder", 0.02, 0.0),
        ("frame_discriminator", 0.02, 0.0),
        ("pair_discriminator", 0.02, 0.0),
    ):
        values = dict(getattr(networks, name).named_parameters())
        weights = torch.cat([v.flatten() for k, v in values.items() if k.endswith("weight")])
        assert weights.std().item() == pytest.approx(cut * deviation, rel=0.05), name
        assert weights.abs().max() <= 2 * deviation
        assert all(torch.equal(v, torch.full_like(v, bias)) for k, v in values.items() if k.endswith("bias"))


def test_scaled_first_weights_keep_a_state_alive_through_the_predictor() -> None:
    """The release's would let a state without norms shrink to its biases."""
    scaled, released = (
        build(replace(TINY_STROKES, initialisation=kind, state=32, growth=32, bottleneck=32))
        for kind in ("scaled", "release")
    )
    inputs = [torch.randn(2, 32, 4, 4, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    assert 0.3 < scaled.predictor(inputs).std() < 10
    assert released.predictor(inputs).std() < 0.2
