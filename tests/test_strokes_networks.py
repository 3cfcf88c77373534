"""E1, E2, P, G, D1 and D2: sizes, counts, paddings and norms (checklist 1, 2, 7 to 11, 17)."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.nn.modes import folded
from stillmotion.nn.padding import SameConv2d, same_padding
from stillmotion.nn.spectral import SpectralConvTranspose2d
from stillmotion.systems.strokes.config import PRESETS, StrokesConfig
from stillmotion.systems.strokes.networks import (
    Encoder,
    FrameDiscriminator,
    Generator,
    PairDiscriminator,
    StrokesNetworks,
    instance_norm,
)
from stillmotion.systems.strokes.object_frame import FieldGenerator, object_frame
from stillmotion.systems.strokes.stroke_encoding import stroke_step, whole_stroke
from strokes_tools import (
    TINY_FIELDS,
    TINY_OBJECT,
    TINY_RELEASE,
    TINY_STROKES,
    changed,
    count,
    random_points,
    random_still,
    step,
    tiny_strokes,
)


def build(config: StrokesConfig, seed: int = 0) -> StrokesNetworks:
    torch.manual_seed(seed)
    return StrokesNetworks(config)


# --- counts and sizes ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("preset", ["paper", "release"])
def test_parameter_counts_are_the_sheets(preset: str) -> None:
    """Checklist 1. Widths do not depend on the size, so all but the discriminators' last layers have one count."""
    with torch.device("meta"):
        networks = StrokesNetworks(PRESETS[preset])
    parts = {name: count(part) for name, part in networks.named_children()}
    assert parts["encoder"] == 370_816
    assert parts["motion"] == 369_664
    assert parts["predictor"] == 29_273_600
    assert parts["decoder"] == 1_706_115
    assert sum(parts[name] for name in ("encoder", "motion", "predictor", "decoder")) == 31_720_195


@pytest.mark.parametrize(
    ("block", "parameters"), list(enumerate([2_459_520, 3_278_720, 4_097_920, 4_917_120, 5_736_320, 6_555_520]))
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
    assert 2 * count(build(PRESETS["small"])) < 4_200_000  # bytes as float16


@pytest.mark.parametrize("size", [64, 112, 128])
def test_state_and_frame_have_an_eighth_of_the_size_and_the_size(size: int) -> None:
    """Checklist 2; 256 is the same design."""
    config = changed(TINY_RELEASE, size=size)
    networks = build(config)
    stroke = random_points(4, size)
    context = networks.begin(random_still(size), stroke)
    state, frame = step(networks, context, context.initial, stroke, 0)
    assert context.initial.shape == state.shape == (1, 8, size // 8, size // 8)
    assert frame.shape == (1, 3, size, size)
    assert -1 <= frame.min() < frame.max() <= 1


def test_the_papers_network_at_128_gives_a_state_of_256_by_16_by_16() -> None:
    """Checklist 2."""
    encoder, generator = Encoder(3, PRESETS["paper"]), Generator(PRESETS["paper"])
    state = encoder(random_still(128))
    assert state.shape == (1, 256, 16, 16)
    assert generator(state).shape == (1, 3, 128, 128)


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
    assert build(TINY_RELEASE).encoder.layers[0](random_still(8)).shape[-1] == 4


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
    assert {name.rpartition(".")[2] for name in build(TINY_RELEASE).encoder.state_dict()} == {"weight", "bias"}


def test_encoders_leak_a_fifth_and_discriminators_a_tenth() -> None:
    """Checklist 10: with one negative value per map, what comes out is the slope times what went in."""
    encoder = build(changed(TINY_RELEASE, encoder__norm=None)).encoder
    for layer in encoder.layers:
        nn.init.zeros_(layer.weight)
        nn.init.constant_(layer.bias, -1.0)
    assert encoder(random_still()).unique().tolist() == pytest.approx([-0.2])
    discriminator = FrameDiscriminator(changed(TINY_RELEASE, discriminators__crop_branch=False))
    nn.init.constant_(discriminator.whole.layers[0].bias, -1.0)
    assert discriminator.whole(torch.zeros(1, 3, 32, 32))[0].unique().tolist() == pytest.approx([-0.1])


def test_the_release_normalises_its_encoders_and_generator_and_the_paper_does_not() -> None:
    assert build(TINY_RELEASE).encoder.normalises
    assert not build(changed(TINY_RELEASE, encoder__norm=None)).encoder.normalises
    assert PRESETS["paper"].encoder.norm is PRESETS["paper"].generator.norm is None
    assert isinstance(build(TINY_RELEASE).decoder.colours, SpectralConvTranspose2d)
    assert type(build(changed(TINY_RELEASE, generator__norm=None)).decoder.colours) is nn.ConvTranspose2d


def test_folded_networks_make_the_same_frames() -> None:
    networks, stroke = build(TINY_RELEASE).eval(), random_points(3)
    ready = folded(networks)
    assert not [name for name, _ in ready.decoder.named_buffers()]
    for one in (networks, ready):
        context = one.begin(random_still(), stroke)
        one.frame = step(one, context, context.initial, stroke, 0)[1]
    torch.testing.assert_close(ready.frame, networks.frame, rtol=1e-4, atol=1e-5)


# --- how the parts are joined --------------------------------------------------------------------------------------
def test_one_motion_encoder_reads_both_pictures_and_swapping_them_swaps_the_halves() -> None:
    """Checklist 7."""
    networks = build(TINY_RELEASE)
    whole, step = networks.strokes(random_points(5), 1)
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
    networks = build(TINY_RELEASE).eval()
    stroke = random_points(5)
    context = networks.begin(random_still(), stroke, fast=False)
    state = torch.full_like(context.initial, 3.0)
    seen: list[Tensor] = []
    networks.predictor.register_forward_pre_hook(lambda _, given: seen.extend(given[0]))
    networks.predict(networks.step_inputs(context, state, stroke, 2))
    expected = [
        state,
        networks.encoder(random_still()),
        networks.motion(whole_stroke(stroke, TINY_RELEASE)),
        networks.motion(stroke_step(stroke, 2, TINY_RELEASE)),
    ]
    for given, wanted in zip(seen, expected, strict=True):
        torch.testing.assert_close(given, wanted)


def test_a_unit_is_relu_1x1_relu_3x3_and_sees_all_before_it() -> None:
    """One block of two units on the sheet's words, with nothing shared between the units."""
    networks = build(changed(TINY_RELEASE, predictor__blocks=1))
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
    "release": TINY_RELEASE,
    "whole": changed(TINY_RELEASE, stroke__input="whole"),
    "step": changed(TINY_RELEASE, stroke__input="step"),
    "window": TINY_STROKES,
    "soft": changed(TINY_STROKES, stroke__lookahead=0),
    "window whole": changed(TINY_STROKES, stroke__input="whole"),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_fast_path_is_the_plain_one_but_for_rounding(name: str) -> None:
    networks = tiny_strokes(base=VARIANTS[name]).networks
    stroke = random_points(6, n=2)
    fast, plain = (networks.begin(random_still(n=2), stroke, fast=way) for way in (True, False))
    assert plain.prepared is None
    a, b = fast.initial, plain.initial
    for t in range(5):
        (a, frame), (b, wanted) = step(networks, fast, a, stroke, t), step(networks, plain, b, stroke, t)
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(frame, wanted, rtol=1e-4, atol=1e-4)
    unmoved = networks.generate(plain, plain.initial, object_frame(stroke, 0, networks.config)).frame
    assert (frame - unmoved).abs().max() > 1e-3  # something did move


@pytest.mark.parametrize(("motion_input", "parts"), [("both", 4), ("whole", 3), ("step", 3)])
def test_the_ablations_of_the_motion_input_narrow_the_predictor(motion_input: Any, parts: int) -> None:
    """Checklist 19."""
    networks = build(changed(TINY_RELEASE, stroke__input=motion_input))
    assert networks.predictor.units[0].narrow.weight.shape[1] == 8 * parts
    stroke, other = random_points(5), random_points(5)
    other[:, 4] += torch.tensor([3.0, 2.0]) - other[:, 4].floor()  # a point that only S shows at step 0
    states = []
    for each in (stroke, other):
        context = networks.begin(random_still(), each)
        states.append(step(networks, context, context.initial, each, 0)[0])
    assert torch.equal(*states) == (motion_input == "step")


@torch.no_grad()
def test_any_length_and_the_same_frames_again() -> None:
    """Checklist 17: 24 steps of networks configured for 4, twice."""
    networks = tiny_strokes().networks
    assert networks.config.clip.frames == 5
    runs, stroke = [], random_points(25)
    for _ in range(2):
        context = networks.begin(random_still(), stroke)
        state, frames = context.initial, []
        for t in range(24):
            state, frame = step(networks, context, state, stroke, t)
            frames.append(frame)
        runs.append(torch.cat(frames))
    assert runs[0].shape == (24, 3, 32, 32)
    assert torch.equal(runs[0], runs[1])
    assert (runs[0][23] - runs[0][22]).abs().max() > 1e-3


def test_two_runs_of_the_release_are_alike_because_u_does_not_move() -> None:
    """Checklist 17, with spectral norm in the generator."""
    networks, stroke = build(TINY_RELEASE).eval(), random_points(25)
    context = networks.begin(random_still(), stroke)
    first, again = (step(networks, context, context.initial, stroke, 0)[1] for _ in range(2))
    assert torch.equal(first, again)


def test_linear_colours_leave_the_range_in_training_alone() -> None:
    networks = tiny_strokes(generator__output="linear").networks
    with torch.no_grad():
        networks.decoder.colours.bias.fill_(5.0)
    state = torch.zeros(1, 8, 4, 4)
    assert networks.decoder(state).max() <= 1
    assert networks.train().decoder(state).max() > 1


def test_the_papers_generator_stands_alone_and_ours_is_beside_it() -> None:
    configs = (TINY_RELEASE, TINY_STROKES, TINY_FIELDS, TINY_OBJECT)
    found = [type(build(config).decoder) for config in configs]
    assert found == [Generator, Generator, FieldGenerator, FieldGenerator]
    # In the object's frame E1's maps of the still are skip connections.
    assert [layer.weight.shape[0] for layer in build(TINY_FIELDS).decoder.layers] == [8, 8, 4]
    assert [layer.weight.shape[0] for layer in build(TINY_OBJECT).decoder.layers] == [8, 8 + 4, 4 + 4]


def test_the_papers_frame_is_what_its_generator_gives() -> None:
    networks, points = build(TINY_RELEASE).eval(), random_points(3)
    context = networks.begin(random_still(), points)
    made = networks.generate(context, context.initial, object_frame(points, 1, TINY_RELEASE))
    assert torch.equal(made.frame, networks.decoder(context.initial))
    assert made.unblended is made.frame
    assert made.fields is None


def test_the_discriminators_are_not_built_to_animate() -> None:
    assert [name for name, _ in build(TINY_RELEASE).named_children()] == ["encoder", "motion", "predictor", "decoder"]


# --- first weights -------------------------------------------------------------------------------------------------
def test_first_weights_are_drawn_as_in_the_release() -> None:
    """Sheet 2.8: truncated normal of sd 0.01 (sd 0.88 of that after the cut) and bias 0.01; 0.02 and 0 elsewhere."""
    config = changed(
        TINY_RELEASE,
        encoder__widths=(4, 6, 32),
        predictor__growth=32,
        predictor__bottleneck=32,
        discriminators__width=16,
    )
    networks = build(config)
    parts = dict(networks.named_children())
    parts |= {"frame_discriminator": FrameDiscriminator(config), "pair_discriminator": PairDiscriminator(config)}
    cut = 0.8796  # the deviation of a standard normal cut at 2
    for name, deviation, bias in (
        ("encoder", 0.01, 0.01),
        ("motion", 0.01, 0.01),
        ("predictor", 0.01, 0.01),
        ("decoder", 0.02, 0.0),
        ("frame_discriminator", 0.02, 0.0),
        ("pair_discriminator", 0.02, 0.0),
    ):
        values = dict(parts[name].named_parameters())
        weights = torch.cat([v.flatten() for k, v in values.items() if k.endswith("weight")])
        assert weights.std().item() == pytest.approx(cut * deviation, rel=0.05), name
        assert weights.abs().max() <= 2 * deviation
        assert all(torch.equal(v, torch.full_like(v, bias)) for k, v in values.items() if k.endswith("bias"))


def test_scaled_first_weights_keep_a_state_alive_through_the_predictor() -> None:
    """The release's would let a state without norms shrink to its biases."""
    scaled, released = (
        build(
            changed(
                TINY_STROKES,
                initialisation=kind,
                encoder__widths=(4, 4, 32),
                predictor__growth=32,
                predictor__bottleneck=32,
            )
        )
        for kind in ("scaled", "release")
    )
    inputs = [torch.randn(2, 32, 4, 4, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    assert 0.3 < scaled.predictor(inputs).std() < 10
    assert released.predictor(inputs).std() < 0.2
