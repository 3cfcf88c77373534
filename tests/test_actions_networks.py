"""The networks of the first stage of `actions`: sizes, read-outs, maps, masks, paddings."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from actions_tools import TINY, changed, networks_of, trainable, uniform
from stillmotion import geometry
from stillmotion.nn.modes import folded
from stillmotion.nn.norm import BatchNorm2d
from stillmotion.nn.padding import SameConv2d
from stillmotion.systems.actions.config import PRESETS, ActionsConfig, DiscriminatorConfig, KeypointConfig
from stillmotion.systems.actions.networks import (
    ActionsNetworks,
    Context,
    ConvBlock,
    ImageDiscriminator,
    blend,
    expand,
    from_release,
    gaussian_maps,
    marginals,
    read_out,
    upsample,
)

UNUSED = 886_272  # parameters of rows 7 and 8 of the release's image encoder, which are not built


def on_meta(config: ActionsConfig, **changes: Any) -> ActionsNetworks:
    """Shapes alone."""
    with torch.device("meta"):
        return ActionsNetworks(changed(config, **changes))


def context_of(network: ActionsNetworks, still: Tensor) -> Context:
    with torch.no_grad():
        return network.encode(still)


# --- sizes ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("preset", "detector", "translator", "total"),
    [
        ("paper", 2_252_840, 3_103_876, 6_534_732),
        ("paper-nemo", 2_252_415, 2_988_676, 6_419_107),
        ("paper-mgif", 2_253_180, 3_196_036, 6_627_232),
    ],
)
def test_parameter_counts_of_the_first_stage(preset: str, detector: int, translator: int, total: int) -> None:
    network = on_meta(PRESETS[preset])
    assert trainable(network.detector) == detector
    assert trainable(network.translator) == translator
    assert trainable(network.encoder) + UNUSED == 1_178_016
    parts = (network.detector, network.encoder, network.translator)
    assert sum(trainable(part) for part in parts) + UNUSED == total
    with torch.device("meta"):
        assert trainable(ImageDiscriminator(PRESETS[preset].discriminator)) == 44_721_088


def test_ablations_take_away_the_reference_maps_and_the_mask() -> None:
    """Rows (a) and (b) of Fig. 9: target keypoints alone, and no mask."""
    full = trainable(on_meta(PRESETS["paper"]).translator)
    no_mask = trainable(on_meta(PRESETS["paper"], translator__mask=False).translator)
    neither = trainable(
        on_meta(PRESETS["paper"], translator__mask=False, translator__reference_maps=False).translator
    )
    assert full - no_mask == 9 * 64 + 1
    assert no_mask - neither == 9 * 40 * 256


@pytest.mark.parametrize(("size", "scores"), [(128, 6), (64, 5)])
@torch.no_grad()
def test_shapes(size: int, scores: int) -> None:
    changes = {"size": size, "translator__width": 4, "motion__hidden": 4}
    network = ActionsNetworks(changed(PRESETS["release"], **changes)).eval()
    context = network.encode(torch.zeros(1, 3, size, size))
    assert context.keypoints.shape == (1, 40, 2)
    assert context.features.shape == (1, 128, size // 4, size // 4)
    output = network(context, torch.zeros(2, 40, 2))
    assert output.frame.shape == output.synthesized.shape == (2, 3, size, size)
    assert output.mask is not None
    assert output.mask.shape == (2, 1, size, size)
    with torch.device("meta"):
        discriminator = ImageDiscriminator(PRESETS["release"].discriminator)
    assert discriminator(torch.zeros(2, 3, size, size, device="meta")).shape == (2, 1, scores, scores)


# --- read-outs
@pytest.mark.parametrize("readout", ["separable", "full"])
def test_a_peak_is_read_out_at_its_pixel_x_first(readout: str) -> None:
    """Pixel (x 7, y 2) of 9 x 5; the last keypoint is in the last corner."""
    logits = torch.zeros(1, 2, 5, 9)
    for keypoint, (x, y) in enumerate([(7, 2), (8, 4)]):
        logits[0, keypoint, y, :] += 100
        logits[0, keypoint, :, x] += 100
    points = read_out(logits, readout)
    torch.testing.assert_close(points, torch.tensor([[[0.75, 0.0], [1.0, 1.0]]]))


def test_both_readouts_are_equal_on_separable_maps_and_differ_on_others() -> None:
    over_x, over_y = 3 * uniform(2, 4, 1, 12), 3 * uniform(2, 4, 10, 1, seed=1)
    torch.testing.assert_close(read_out(over_x + over_y, "separable"), read_out(over_x + over_y, "full"))
    other = 3 * uniform(2, 4, 10, 12, seed=2)
    assert (read_out(other, "separable") - read_out(other, "full")).abs().max() > 0.1
    x = (other.mean(2).softmax(-1) * torch.linspace(-1, 1, 12)).sum(-1)  # logits are averaged, not their softmax
    y = (other.mean(3).softmax(-1) * torch.linspace(-1, 1, 10)).sum(-1)
    torch.testing.assert_close(read_out(other, "separable"), torch.stack([x, y], -1))


@pytest.mark.parametrize("readout", ["separable", "full"])
def test_the_detector_reads_out_as_it_is_told_and_stays_within_the_frame(readout: str) -> None:
    network = networks_of(keypoints__readout=readout)
    nn.init.normal_(network.detector.head.weight, std=30)
    points = network.detector(uniform(3, 3, 16, 16))
    assert torch.equal(points, read_out(network.detector.logits(uniform(3, 3, 16, 16)), readout))
    assert points.abs().max() <= 1
    assert points.std() > 0.05


def test_logits_of_half_precision_are_read_out_in_float32() -> None:
    for softmax in marginals(uniform(1, 1, 4, 4).bfloat16()):
        assert softmax.dtype == torch.float32
        torch.testing.assert_close(softmax.sum(-1), torch.ones(1, 1))


# --- gaussian maps --------------------------------------------------------------------------------------------------
def test_a_map_is_one_at_its_keypoint_and_a_share_of_e_at_the_inverse_sharpness() -> None:
    """On a grid of 144 steps, 1 / 14.4 is five of them."""
    config = KeypointConfig(count=1, sharpness=14.4, map_peak="one")
    maps = gaussian_maps(torch.tensor([[[0.0, 0.5]]]), (145, 145), config)[0, 0]
    assert maps[108, 72].item() == maps.max().item() == 1
    for row, column in ((108, 77), (108, 67), (113, 72), (103, 72), (111, 76), (104, 75)):
        assert maps[row, column].item() == pytest.approx(math.exp(-1), rel=1e-4)


def test_maps_of_the_paper_are_densities_along_a_line() -> None:
    """Eq. 2 divides by sigma sqrt(2 pi), as in one dimension."""
    points, release = uniform(2, 3, 2), KeypointConfig(count=3, map_peak="one")
    paper, sigma = KeypointConfig(count=3), 1 / (14.3 * math.sqrt(2))
    expected = gaussian_maps(points, (8, 8), release) / (sigma * math.sqrt(2 * math.pi))
    torch.testing.assert_close(gaussian_maps(points, (8, 8), paper), expected)


def test_maps_follow_the_grid_with_aligned_corners() -> None:
    config, points = KeypointConfig(count=1, sharpness=2.0, map_peak="one"), torch.tensor([[[0.3, -0.6]]])
    grid = geometry.identity_grid((5, 7))
    expected = torch.exp(-4 * (grid - points[0, 0]).square().sum(-1))
    torch.testing.assert_close(gaussian_maps(points, (5, 7), config)[0, 0], expected)


# --- the whole ------------------------------------------------------------------------------------------------------
def test_a_mask_of_one_is_the_still_exactly_and_of_zero_what_is_synthesized() -> None:
    network, still = networks_of().eval(), uniform(2, 3, 16, 16)
    context, target = context_of(network, still), uniform(2, 3, 2, seed=1)
    assert network.translator.mask is not None
    nn.init.zeros_(network.translator.mask.weight)
    bias = network.translator.mask.bias
    assert bias is not None
    with torch.no_grad():
        bias.fill_(1e4)
        assert torch.equal(network(context, target).frame, still)
        bias.fill_(-1e4)
        output = network(context, target)
        assert torch.equal(output.frame, output.synthesized)
    half = blend(torch.ones(1, 3, 2, 2), -torch.ones(1, 3, 2, 2), torch.full((1, 1, 2, 2), 0.75))
    assert half.unique().tolist() == [0.5]


def test_without_a_mask_the_synthesized_image_is_the_frame() -> None:
    network, still = networks_of(translator__mask=False).eval(), uniform(1, 3, 16, 16)
    output = network(context_of(network, still), uniform(1, 3, 2, seed=1))
    assert output.mask is None
    assert torch.equal(output.frame, output.synthesized)


def test_frames_are_clipped_in_eval_mode_alone() -> None:
    network, still = networks_of(), uniform(2, 3, 16, 16)
    nn.init.normal_(network.translator.image.weight, std=3)
    context, target = context_of(network.eval(), still), uniform(2, 3, 2, seed=1)
    output = network(context, target)
    assert output.frame.abs().max() == output.synthesized.abs().max() == 1
    crude, mask = network.translator(context.features, context.keypoints, target)
    assert torch.equal(output.frame, blend(still, crude, mask).clamp(-1, 1))  # clipped after the blend
    raw = network.train()(context, target)
    assert raw.synthesized.abs().max() > 1


@torch.no_grad()
def test_all_frames_of_a_still_share_its_encoding() -> None:
    network, still = networks_of().eval(), uniform(1, 3, 16, 16)
    context, target = context_of(network, still), uniform(4, 3, 2, seed=1)
    frames = network(context, target).frame
    for number in range(4):
        one = network(context, target[number : number + 1]).frame
        torch.testing.assert_close(frames[number : number + 1], one, atol=1e-5, rtol=0)
    assert (frames[0] - frames[1]).abs().max() > 1e-4
    several = context_of(network, uniform(4, 3, 16, 16))
    assert all(torch.equal(a, b) for a, b in zip(several, expand(several, 4), strict=True))


@torch.no_grad()
def test_the_reference_maps_are_seen_unless_they_are_switched_off() -> None:
    for switch in (True, False):
        network, target = networks_of(translator__reference_maps=switch).eval(), uniform(1, 3, 2)
        context = context_of(network, uniform(1, 3, 16, 16))
        moved = context._replace(keypoints=context.keypoints + 0.3)
        assert torch.equal(network(context, target).frame, network(moved, target).frame) != switch
        other = network(context, target + 0.3).frame
        assert (network(context, target).frame - other).abs().max() > 1e-5


@torch.no_grad()
def test_both_frames_of_a_pair_go_through_the_same_detector() -> None:
    """Sheet section 12, line 7: the context's keypoints are those of `detector`, which has no state in eval mode."""
    network, frame = networks_of().eval(), uniform(2, 3, 16, 16)
    assert torch.equal(network.encode(frame).keypoints, network.detector(frame))
    assert torch.equal(network.detector(frame), network.detector(frame))


@torch.no_grad()
def test_folded_networks_give_the_same_frames() -> None:
    network = networks_of()
    for part in network.modules():
        if isinstance(part, BatchNorm2d):
            part.running_mean.uniform_(-0.3, 0.3)  # type: ignore[union-attr]
            part.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    fast, still, target = folded(network), uniform(2, 3, 16, 16), uniform(2, 3, 2, seed=1)
    frames = [model(model.encode(still), target).frame for model in (network.eval(), fast)]
    torch.testing.assert_close(*frames, atol=1e-5, rtol=0)
    assert not any(isinstance(part, BatchNorm2d) for part in fast.modules())


# --- TensorFlow's paddings and grids --------------------------------------------------------------------------------
def test_upsampling_has_the_old_grid_of_tensorflow() -> None:
    """Pixel i lies at i / 2: every other pixel is one of the map, and the last is repeated."""
    row = torch.tensor([[[[0.0, 4.0, 8.0]]]])
    assert upsample(row).tolist() == [[[[0, 2, 4, 6, 8, 8]] * 2]]
    maps = uniform(2, 3, 5, 7)
    larger = upsample(maps)
    assert larger.shape == (2, 3, 10, 14)
    torch.testing.assert_close(larger[:, :, ::2, ::2], maps)
    torch.testing.assert_close(larger[:, :, 1:-1:2, ::2], (maps[:, :, 1:] + maps[:, :, :-1]) / 2)


def test_strided_convolutions_start_at_the_first_pixel() -> None:
    """The odd zero is at the bottom and right."""
    block = ConvBlock(1, 1, TINY, stride=2)
    nn.init.ones_(block.conv.weight)
    nn.init.zeros_(block.conv.bias)  # type: ignore[arg-type]
    picture = torch.zeros(1, 1, 6, 6)
    picture[..., 0, 0] = 1
    assert block.conv(picture)[0, 0].tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    picture[..., 0, 0], picture[..., 2, 2] = 0, 1
    assert block.conv(picture)[0, 0].tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]


def test_norms_have_the_releases_numbers() -> None:
    norm = ConvBlock(1, 1, PRESETS["release"]).norm
    assert isinstance(norm, BatchNorm2d)
    assert (norm.eps, norm.momentum) == (1e-5, pytest.approx(0.001))


def test_the_discriminator_pads_twice_and_leaks_a_hundredth() -> None:
    """One layer of one channel: a border of ones around the frame's scores, as the second zero leaves it."""
    torch.manual_seed(0)
    network, frames = ImageDiscriminator(DiscriminatorConfig(width=2, layers=1)), uniform(1, 3, 8, 8)
    assert isinstance(network.convs[0], SameConv2d)
    hidden = F.conv2d(F.pad(frames, (2, 2, 2, 2)), network.convs[0].weight, stride=2)  # 12 -> 5
    hidden = torch.where(hidden > 0, hidden, 0.01 * hidden)
    expected = F.conv2d(F.pad(hidden, (2, 2, 2, 2)), network.score.weight)
    assert network.score.bias is None
    torch.testing.assert_close(network(frames), expected)


def test_layers_start_with_xavier_weights_and_no_bias() -> None:
    for layer in networks_of(encoder__width=16, translator__width=16).modules():
        if isinstance(layer, nn.Conv2d):
            (outputs, inputs), kernel = layer.weight.shape[:2], layer.weight[0, 0].numel()
            bound = math.sqrt(6 / ((inputs + outputs) * kernel))
            assert 0.9 * bound < layer.weight.abs().max() <= bound
            assert layer.bias is not None
            assert layer.bias.abs().max() == 0


# --- the release's variables ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("image_encoder/encoder/conv_1/conv2d/kernel", "encoder.levels.0.0.conv.weight"),
        ("image_encoder/encoder/b_norm_6/gamma", "encoder.levels.2.1.norm.weight"),
        ("pose_encoder/encoder/b_norm_8/moving_variance", "detector.trunk.levels.3.1.norm.running_var"),
        ("pose_encoder/b_norm_4_1/beta", "detector.blocks.1.3.norm.bias"),
        ("pose_encoder/conv_7_0/conv2d/bias", "detector.blocks.3.0.conv.bias"),
        ("pose_encoder/conv_0/conv2d/kernel", "detector.head.weight"),
        ("translator/conv_5_1/conv2d/kernel", "translator.blocks.2.1.conv.weight"),
        ("translator/conv_6_1/conv2d/bias", "translator.mask.bias"),
        ("img_discr/conv_0/conv2d/kernel", "image_discriminator.convs.0.weight"),
        ("img_discr/D_logit/conv2d/kernel", "image_discriminator.score.weight"),
    ],
)
def test_names_of_the_releases_variables(theirs: str, ours: str) -> None:
    value = torch.zeros(3, 3, 5, 7) if theirs.endswith("kernel") else torch.zeros(7)
    found = from_release(theirs, value)
    assert found is not None
    assert found[0] == ours
    assert found[1].shape == ((7, 5, 3, 3) if theirs.endswith("kernel") else (7,))


def test_the_unused_level_of_the_releases_image_encoder_is_left_out() -> None:
    assert from_release("image_encoder/encoder/conv_7/conv2d/kernel", torch.zeros(3, 3, 5, 7)) is None
    assert from_release("image_encoder/encoder/b_norm_8/beta", torch.zeros(7)) is None
