"""facts/monkey-net.md section 12, items 1 to 11 and 18: the networks."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from driving_tools import LOSSES, TINY, TINY_32, VARIANTS, at, changed_config, keypoints, same_pose, tiny
from stillmotion import geometry
from stillmotion.keypoints.networks import (
    FieldGenerator,
    StepInputs,
    gather_inputs,
    heatmaps,
)
from stillmotion.systems.driving.config import PRESETS
from stillmotion.systems.driving.networks import Discriminator, DrivingNetworks, Generator


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


# Sheet section 2.1: detector, generator, its encoder, dense motion, decoder, refinement with head, discriminator.
TAICHI = (14_132_728, 28_528_571, 6_274_560, 14_162_705, 7_944_288, 147_018, 1_719_489)
NARROW = (9_412_600, 19_088_315, 3_913_728, 9_442_577, 5_584_992, 147_018, 1_719_489)
# The decoder ends in 24 + 3 + 10 maps. Fields: 9 channels of 3 x 3, 9 * 37 * 9 + 9 = 3,006, behind a refinement of
# 24,864. Mask: 12 channels of each of 5 levels with 3 + 48 + 96 + 128 + 128 in all, mixed, and a logit: 11,449.
OURS = (916_630, 1_774_252, 302_016, 933_069, 499_848, 27_870, 433_761)
COUNTS = {
    **dict.fromkeys(("paper", "release", "release-taichi"), TAICHI),
    **dict.fromkeys(("release-nemo", "release-bair", "release-actions"), NARROW),
    "release-moving-gif": (14_132_728, 52_235_653, 15_714_816, 14_178_523, 22_195_296, 147_018, 1_719_489),
    "release-vox": (14_132_728, 80_629_691, 25_155_072, 14_162_705, 41_164_896, 147_018, 1_719_489),
    "release-shapes": (1_027_072, 2_111_899, 389_376, 1_033_555, 650_256, 38_712, 1_713_345),
    **dict.fromkeys(("small", "people"), OURS),
}


def count(module: nn.Module | None) -> int:
    return sum(p.numel() for p in module.parameters()) if module is not None else 0


def test_every_preset_has_its_counts_tested() -> None:
    assert set(COUNTS) == set(PRESETS)


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts_are_the_sheets(name: str) -> None:
    preset = PRESETS[name]
    with torch.device("meta"):  # without memory behind them: shapes and counts only
        networks, discriminator = DrivingNetworks(preset), Discriminator(preset)
    generator = networks.generator
    found = (
        count(networks.detector),
        count(generator),
        count(generator.encoder),
        count(generator.dense_motion),
        count(generator.decoder),
        count(generator.refine) + count(generator.fields if preset.generator.fields else generator.colours),
        count(discriminator),
    )
    assert found == COUNTS[name]
    if preset.generator.fields:
        assert count(generator.mask) == 11_449


def test_animating_builds_what_it_needs() -> None:
    """No discriminator; the paper's generator and ours are two classes; a predictor only where there is one."""
    _, plain = tiny()
    _, ours = tiny(**at("generator", fields=True), predictor={"hidden": 8})
    assert [name for name, _ in plain.named_children()] == ["detector", "generator"]
    assert [name for name, _ in ours.named_children()] == ["detector", "generator", "predictor"]
    assert (type(plain.generator), type(ours.generator)) == (Generator, FieldGenerator)


def test_one_still_serves_all_frames_of_a_forward_pass() -> None:
    _, networks = tiny()
    networks.eval()
    still, frames = torch.rand(1, 3, 64, 64), torch.rand(3, 3, 64, 64)
    inputs = gather_inputs(networks, still, frames)
    together = networks(inputs)
    repeated = networks(gather_inputs(networks, still.expand(3, -1, -1, -1), frames))
    assert torch.allclose(together.frame, repeated.frame, atol=1e-6)
    alone = networks(inputs._replace(target=inputs.target.rows(slice(1, 2))))
    assert torch.allclose(together.frame[1:2], alone.frame, atol=1e-5)


# --- the detector --------------------------------------------------------------------------------------------------
def test_detector_finds_the_pixel_of_a_delta_and_the_corners_exactly() -> None:
    for column, row, expected in ((0, 0, (-1, -1)), (63, 0, (1, -1)), (0, 63, (-1, 1)), (21, 42, (-1 / 3, 1 / 3))):
        logits = torch.zeros(1, 1, 64, 64)
        logits[0, 0, row, column] = 100.0
        mean, _ = geometry.soft_argmax(geometry.spatial_softmax(logits, 0.1), epsilon=1e-7)
        assert mean[0, 0].tolist() == pytest.approx(expected, abs=1e-3)


def test_covariance_modes() -> None:
    _, full = tiny(**at("keypoints", covariance_floor=0.0))
    _, fixed = tiny(**at("keypoints", covariance="fixed", fixed_variance=0.02))
    frames = torch.rand(2, 3, 64, 64)
    covariance = full.detector(frames).covariance
    assert torch.allclose(covariance, covariance.mT)
    assert not torch.allclose(covariance, covariance * torch.eye(2))
    assert torch.equal(fixed.detector(frames).covariance, (0.02 * torch.eye(2)).expand(2, 3, 2, 2))


@pytest.mark.parametrize(("gain", "smallest"), [(1e4, 0.001), (0.0, 1 / 3 * 65 / 63)])
def test_the_detector_floors_what_is_too_sharp_and_nothing_else(gain: float, smallest: float) -> None:
    """Logits that single out one pixel give a covariance of almost nothing; flat ones that of the whole square.

    That is (n + 1) / 3 / (n - 1) for n even steps from -1 to 1.
    """
    _, networks = tiny(**at("keypoints", covariance_floor=0.001))
    networks.detector.logits.weight.mul_(gain)
    networks.detector.logits.bias.mul_(0)  # type: ignore[union-attr]
    found = torch.linalg.svdvals(networks.detector(torch.rand(2, 3, 64, 64)).covariance.double())[..., 1]
    assert torch.allclose(found, torch.full_like(found, smallest), rtol=0.01)


@pytest.mark.parametrize("unshuffle", [False, True])
def test_the_detector_sees_more_than_the_mean_of_four_pixels_only_with_pixel_unshuffle(unshuffle: bool) -> None:
    config = changed_config(TINY_32, **at("motion", scale=0.5, shrink="area"), **at("detector", blocks=2))
    detector = DrivingNetworks(changed_config(config, **at("detector", pixel_unshuffle=unshuffle))).eval().detector
    stripes = torch.zeros(1, 3, 32, 32)
    stripes[..., ::2] = 1.0
    grey = torch.full_like(stripes, 0.5)  # the same means over 2 x 2 pixels
    assert torch.allclose(detector(stripes).mean, detector(grey).mean, atol=1e-6) is not unshuffle


@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_heatmaps_are_one_over_the_scale_at_the_mean_and_fall_by_the_exponent(exponent: float) -> None:
    points = keypoints([[0.0, 0.0]], variance=(4 / 32) ** 2)  # one sigma is 4 of the 32 steps from centre to border
    config = changed_config(**at("keypoints", heatmap_exponent=exponent, heatmap_scale=100.0))
    heat = heatmaps(points, config, (65, 65))[0, 0]
    assert heat[32, 32] == pytest.approx(0.01)
    assert heat[32, 36] == pytest.approx(0.01 * math.exp(-exponent))
    config = changed_config(**at("keypoints", heatmap_sum=True))
    assert heatmaps(points, config).sum() == pytest.approx(1.0, abs=1e-5)


# --- dense motion --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("points", "background"), [(10, 0.425), (4, 0.649)])
def test_at_the_start_the_flow_is_the_identity_and_the_background_leads(points: int, background: float) -> None:
    _, networks = tiny(**at("keypoints", count=points))
    still, pose = torch.rand(2, 3, 64, 64), same_pose(2, points)
    motion = networks.generator.motion(still, pose, pose, torch.zeros(2, points, 64, 64))
    assert torch.equal(motion.displacement, torch.zeros(2, 64, 64, 2))
    assert motion.masks is not None
    assert motion.masks[:, 0].mean().item() == pytest.approx(background, abs=5e-4)
    assert torch.allclose(motion.masks.sum(1), torch.ones(2, 64, 64))
    made = networks.generator(networks.generator.encode(still), pose, pose)
    assert torch.allclose(made.warped, still, atol=1e-5)


def test_features_pass_an_identity_flow_unchanged_at_every_size() -> None:
    _, networks = tiny()
    grid = geometry.identity_grid((64, 64))[None]
    for feature in networks.generator.encode(torch.rand(1, 3, 64, 64)):
        here = geometry.resize_grid(grid, (feature.shape[2], feature.shape[3]))
        assert torch.allclose(geometry.warp(feature, here), feature, atol=1e-5)


@pytest.mark.parametrize(("dx", "dy"), [(6, 0), (0, -4), (-3, 5)])
def test_one_keypoint_world_moves_the_picture_by_half_the_steps_times_the_shift(dx: int, dy: int) -> None:
    """Item 8: mask forced to keypoint 1; driving = source + d moves the picture by +d (backward flow: -d)."""
    _, networks = tiny(**at("keypoints", count=1), **at("motion", flow="coarse"))
    motion_net = networks.generator.dense_motion
    assert motion_net is not None
    motion_net.head.bias.copy_(torch.tensor([-100.0, 100.0]))
    step = 2 / 63
    source, driving = keypoints([[0.0, 0.0]]), keypoints([[dx * step, dy * step]])
    still = torch.rand(1, 3, 64, 64)
    made = networks(StepInputs(networks.generator.encode(still), source, driving))
    moved = torch.roll(still, (dy, dx), dims=(2, 3))[..., 8:-8, 8:-8]  # the border rolled around
    assert torch.allclose(made.warped[..., 8:-8, 8:-8], moved, atol=1e-4)
    assert made.motion.mixture is not None  # one mask has everything, so the mixture is the same picture
    assert torch.allclose(made.motion.mixture, made.warped, atol=1e-4)
    assert made.motion.displacement[0, 0, 0].tolist() == pytest.approx([-dx * step, -dy * step], abs=1e-6)


CHANNELS = {  # of the motion network, K = 10: in, out
    "no F_coarse": (44, 2),
    "no F_residual": (44, 11),
    "no Sigma_k": (44, 13),
    "no x": (11, 13),
    "full": (44, 13),
    "moving-gif": (66, 13),
}


@pytest.mark.parametrize("variant", CHANNELS)
def test_variants_of_table_2_have_the_sheets_channel_counts(variant: str) -> None:
    changes = {"moving-gif": at("motion", displacement=True), **VARIANTS}[variant]
    config, networks = tiny(**at("keypoints", count=10), **changes)
    motion = networks.generator.dense_motion
    assert motion is not None
    assert (motion.unet.encoder.channels[0], motion.head.out_channels) == CHANNELS[variant]
    assert networks.generator.decoder.blocks[0].conv.in_channels == 8 + 10
    assert Discriminator(config).blocks[0].conv.in_channels == 3 + 10


def test_no_flow_is_the_identity_map() -> None:
    _, networks = tiny(**VARIANTS["no F"])
    assert networks.generator.dense_motion is None
    still = torch.rand(1, 3, 64, 64)
    a, b = keypoints([[0.0, 0.0]] * 3), keypoints([[0.5, 0.5]] * 3)
    made = networks.generator(networks.generator.encode(still), a, b)
    assert torch.allclose(made.warped, still, atol=1e-5)
    assert made.motion.masks is None


def test_no_sigma_has_the_weights_of_the_full_model() -> None:
    """So a detector trained with covariances can be used without: the benchmark of Table 2 does."""
    models = DrivingNetworks(TINY), DrivingNetworks(changed_config(**VARIANTS["no Sigma_k"]))
    shapes = [{name: value.shape for name, value in model.state_dict().items()} for model in models]
    assert shapes[0] == shapes[1]


def test_embedding_is_grouped_per_keypoint_with_the_background_first() -> None:
    config, networks = tiny(**at("keypoints", count=2), **at("motion", displacement=True))
    motion = networks.generator.dense_motion
    assert motion is not None
    still = torch.rand(1, 3, 64, 64)
    source, driving = keypoints([[0.0, 0.0], [0.5, 0.0]]), keypoints([[0.0, 0.0], [0.5, 0.25]])
    shifts = torch.cat([torch.zeros(1, 1, 2), source.mean - driving.mean], dim=1)
    heat = heatmaps(driving, config) - heatmaps(source, config)
    stacked, moved = motion.embed(still, heat, shifts)
    embedded = stacked.view(1, 3, 6, 64, 64)  # entry x (heat, dx, dy, r, g, b)
    assert moved is not None
    assert torch.equal(embedded[:, :, 3:], moved)
    background, first, second = embedded[0]
    assert torch.equal(background[:3], torch.zeros(3, 64, 64))
    assert torch.allclose(background[3:], still[0], atol=1e-5)
    assert torch.allclose(first[:3], torch.zeros(3, 64, 64), atol=1e-7)  # the first keypoint did not move
    assert torch.equal(second[0], heat[0, 1])
    assert torch.allclose(second[1], torch.zeros(64, 64))
    assert torch.allclose(second[2], torch.full((64, 64), -0.25))


# --- generator and discriminator -----------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [64, 128, 256])
@pytest.mark.parametrize("ours", [False, True])
def test_generator_output_is_a_picture_of_the_right_size(size: int, ours: bool) -> None:
    _, networks = tiny(size=size, **at("motion", scale=64 / size), **at("generator", blocks=4, fields=ours))
    generator = networks.generator
    (generator.fields.paint if ours else generator.colours).weight.mul_(100)  # far beyond what a picture may hold
    still = torch.rand(2, 3, size, size)
    found = networks.detector(still)
    made = generator(generator.encode(still), found, found)
    assert made.frame.shape == made.warped.shape == (2, 3, size, size)
    assert made.motion.displacement.shape == ((2, size, size, 2) if ours else (2, 64, 64, 2))
    colours = made.fields.paint if ours else made.frame
    assert colours.min() < 0.1
    assert colours.max() > 0.9
    assert made.frame.min() >= 0
    assert made.frame.max() <= 1 + 1e-6  # the shares sum to one as well as floats do


# --- fields --------------------------------------------------------------------------------------------------------
def restless(**changes: Any) -> FieldGenerator:
    """A generator with fields whose flow and shares are not those that it starts with, in eval mode."""
    generator = tiny(**at("generator", fields=True), **changes)[1].generator.eval()
    for part in (generator.fields.flow, generator.fields.shares):
        part.weight.normal_(0, 0.03, generator=torch.Generator().manual_seed(0))
    return generator


def test_the_fields_start_by_keeping_the_warped_still() -> None:
    _, networks = tiny(**at("generator", fields=True))
    still, same = torch.rand(1, 3, 64, 64), keypoints([[0.1, 0.2]] * 3)
    made = networks.generator(networks.generator.encode(still), same, same)
    share = math.e / (2 * math.e + 1)  # logits 1, 1 and 0; there is no plate
    expected = torch.tensor([share, share, 0.0, 1 - 2 * share]).view(1, 4, 1, 1).expand(1, 4, 64, 64)
    assert torch.allclose(made.fields.shares, expected, atol=1e-6)
    frame = share * (made.warped + still) + (1 - 2 * share) * made.fields.paint
    assert torch.allclose(made.frame, frame, atol=1e-6)


def test_the_frame_is_the_blend_of_its_fields_with_the_plate_where_that_is_known() -> None:
    generator, still = restless(), torch.rand(2, 3, 64, 64)
    features, source, target = generator.encode(still), same_pose(2), same_pose(2)
    plate = torch.rand(2, 4, 64, 64)
    plate[:, 3] = 1
    plate[:, 3, :, :32] = 0
    made = generator(features, source, target, plate)
    warped, unmoved, behind, paint = made.fields.shares.split(1, dim=1)
    expected = warped * made.warped + unmoved * still + behind * plate[:, :3] + paint * made.fields.paint
    assert torch.allclose(made.frame, expected, atol=1e-6)
    assert torch.allclose(made.fields.shares.sum(1), torch.ones(2, 64, 64))
    assert behind[..., :32].max() == 0  # not known
    assert behind[..., 32:].min() > 0.01
    whole = generator(features, source, target, torch.cat([plate[:, :3], torch.ones_like(plate[:, :1])], 1)).fields
    others = [0, 1, 3]  # where the plate is not known, these have what it would have, in proportion
    kept = whole.shares[:, others] / (1 - whole.shares[:, 2:3])
    assert torch.allclose(made.fields.shares[:, others][..., :32], kept[..., :32], atol=1e-5)
    assert torch.equal(made.fields.shares[..., 32:], whole.shares[..., 32:])
    without = generator(features, source, target)
    assert without.fields.shares[:, 2].max() == 0
    assert torch.allclose(without.fields.shares[:, others], kept, atol=1e-5)


def test_the_flow_is_corrected_by_pixels_of_the_full_size() -> None:
    model = tiny(**at("generator", fields=True), **at("motion", scale=0.5))[1].generator.eval()
    still, points = torch.rand(1, 3, 64, 64), keypoints([[0.0, 0.0]] * 3)
    model.fields.flow.bias[:] = torch.tensor([-1.0, 0.0])  # look one pixel to the left
    made = model(model.encode(still), points, points)
    assert torch.equal(made.motion.displacement, made.fields.displacement)
    assert made.motion.displacement.shape == (1, 64, 64, 2)
    assert torch.allclose(made.warped[..., 1:], still[..., :-1], atol=1e-4)
    assert torch.allclose(made.warped[..., 0], still[..., 0], atol=1e-4)  # beyond the border, the border


def test_the_fields_displacement_is_the_dense_motion_enlarged_and_corrected() -> None:
    generator = restless(**at("motion", scale=0.5))
    assert generator.dense_motion is not None
    generator.dense_motion.head.weight.normal_(0, 0.05)
    features = generator.encode(torch.rand(2, 3, 64, 64))
    source, target = same_pose(2), same_pose(2)
    decoded, motion, _ = generator.decode(features, source, target)
    made = generator(features, source, target)
    pixels = generator.fields.flow(decoded).permute(0, 2, 3, 1)
    expected = geometry.resize_grid(motion.displacement, (64, 64)) + pixels * 2 / 63
    assert motion.displacement.abs().max() > 1e-3
    assert pixels.abs().max() > 1e-3
    assert torch.allclose(made.fields.displacement, expected, atol=1e-6)
    assert made.motion.masks is not None
    assert torch.equal(made.motion.masks, motion.masks)


def test_the_figure_is_found_in_the_still_alone() -> None:
    generator = restless()
    still = torch.rand(2, 3, 64, 64)
    logits = generator.figure(generator.encode(still))
    assert (logits.shape, logits.dtype) == ((2, 1, 64, 64), torch.float32)
    assert torch.allclose(generator.figure(generator.encode(still[1:])), logits[1:], atol=1e-5)
    assert logits.std() > 1e-3


def test_one_plate_serves_all_frames_of_a_forward_pass() -> None:
    networks = tiny(**at("generator", fields=True))[1].eval()
    still, frames, plate = torch.rand(1, 3, 64, 64), torch.rand(3, 3, 64, 64), torch.rand(1, 4, 64, 64)
    plate[:, 3] = 1
    inputs = gather_inputs(networks, still, frames)._replace(plate=plate)
    together, alone = networks(inputs), networks(inputs._replace(target=inputs.target.rows(slice(2, 3))))
    assert torch.allclose(together.frame[2:], alone.frame, atol=1e-5)
    assert together.fields.shares[:, 2].min() > 0.1
    assert not torch.allclose(networks(inputs._replace(plate=None)).frame, together.frame, atol=1e-2)


def test_an_affine_generator_has_no_statistics_and_the_same_weights() -> None:
    """The scale and shift stay, under the same names; a batch of other pictures changes nothing."""
    _, batch = tiny()
    _, affine = tiny(**at("generator", norm="affine"))
    statistics = {"running_mean", "running_var", "num_batches_tracked"}
    kept = {
        name
        for name in batch.state_dict()
        if not name.startswith("generator.") or name.split(".")[-1] not in statistics
    }
    assert set(affine.state_dict()) == kept
    assert any(name.startswith("detector.") and name.endswith("running_mean") for name in kept)
    affine.train()
    still, other = torch.rand(2, 1, 3, 64, 64)
    alone = affine.generator.encode(still)[-1]
    together = affine.generator.encode(torch.cat([still, other]))[-1][:1]
    assert torch.allclose(alone, together, atol=1e-6)


@pytest.mark.parametrize(("size", "sizes"), [(64, [64, 30, 13, 5, 1, 1]), (128, [128, 62, 29, 13, 5, 5])])
def test_discriminator_map_sizes(size: int, sizes: list[int]) -> None:
    maps = Discriminator(replace(TINY, size=size))(torch.rand(1, 3, size, size), keypoints([[0.0, 0.0]] * 3))
    assert [m.shape[-1] for m in maps] == sizes
    assert maps[-1].shape[1] == 1


def adversarial(losses: dict[str, Any]) -> bool:
    return (
        changed_config(**{f"{LOSSES}.{name}": value for name, value in losses.items()})
        .motion_stages[0]
        .losses.adversarial
    )


def test_a_discriminator_takes_part_where_a_loss_asks_for_it() -> None:
    none = {"gan": 0.0, "feature_matching": (0.0,) * 5}
    assert [adversarial(none), adversarial(none | {"gan": 1.0}), adversarial({"gan": 0.0})] == [False, True, True]
