"""facts/monkey-net.md section 12, items 1 to 11 and 18: the networks."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from driving_tools import keypoints, tiny
from stillmotion import geometry
from stillmotion.errors import StillmotionError
from stillmotion.systems.driving.config import PRESETS, DrivingConfig
from stillmotion.systems.driving.networks import DrivingNetworks, Keypoints, heatmaps


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


# Sheet section 2.1: detector, generator, its encoder, dense motion, decoder, refinement, discriminator.
COUNTS = {
    "paper": (14_132_728, 28_528_571, 6_274_560, 14_162_705, 7_944_288, 147_018, 1_719_489),
    "release": (14_132_728, 28_528_571, 6_274_560, 14_162_705, 7_944_288, 147_018, 1_719_489),
    "release-taichi": (14_132_728, 28_528_571, 6_274_560, 14_162_705, 7_944_288, 147_018, 1_719_489),
    "release-nemo": (9_412_600, 19_088_315, 3_913_728, 9_442_577, 5_584_992, 147_018, 1_719_489),
    "release-bair": (9_412_600, 19_088_315, 3_913_728, 9_442_577, 5_584_992, 147_018, 1_719_489),
    "release-actions": (9_412_600, 19_088_315, 3_913_728, 9_442_577, 5_584_992, 147_018, 1_719_489),
    "release-moving-gif": (14_132_728, 52_235_653, 15_714_816, 14_178_523, 22_195_296, 147_018, 1_719_489),
    "release-vox": (14_132_728, 80_629_691, 25_155_072, 14_162_705, 41_164_896, 147_018, 1_719_489),
    "release-shapes": (1_027_072, 2_111_899, 389_376, 1_033_555, 650_256, 38_712, 1_713_345),
    "small": (916_630, 1_761_657, 302_016, 933_069, 499_848, 25_054, 433_761),
}


def count(module: nn.Module | None) -> int:
    return sum(p.numel() for p in module.parameters()) if module is not None else 0


def on_meta(config: DrivingConfig) -> DrivingNetworks:
    """The networks without memory behind them: shapes and counts only."""
    with torch.device("meta"):
        return DrivingNetworks(config)


def test_every_preset_has_its_counts_tested():
    assert set(COUNTS) == set(PRESETS)


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts_are_the_sheets(name):
    networks = on_meta(PRESETS[name])
    generator = networks.generator
    found = (
        count(networks.detector),
        count(generator),
        count(generator.encoder),
        count(generator.dense_motion),
        count(generator.decoder),
        count(generator.refine) + count(generator.paint),
        count(networks.discriminator),
    )
    assert found == COUNTS[name]


def test_detector_finds_the_pixel_of_a_delta_and_the_corners_exactly():
    for column, row, expected in ((0, 0, (-1, -1)), (63, 0, (1, -1)), (0, 63, (-1, 1)), (21, 42, (-1 / 3, 1 / 3))):
        logits = torch.zeros(1, 1, 64, 64)
        logits[0, 0, row, column] = 100.0
        mean, _ = geometry.soft_argmax(geometry.spatial_softmax(logits, 0.1), epsilon=1e-7)
        assert mean[0, 0].tolist() == pytest.approx(expected, abs=1e-3)


def test_covariance_modes():
    _, full = tiny(covariance_floor=0.0)
    _, single = tiny(covariance="single", covariance_floor=0.0)
    _, fixed = tiny(covariance="fixed", fixed_variance=0.02)
    single.detector.load_state_dict(full.detector.state_dict())
    frames = torch.rand(2, 3, 64, 64)
    of_full, of_single = full.detector(frames).covariance, single.detector(frames).covariance
    assert torch.allclose(of_full, of_full.mT)
    trace = of_full.diagonal(dim1=-2, dim2=-1).sum(-1)
    assert torch.allclose(of_single, (trace / 2)[..., None, None] * torch.eye(2))
    assert torch.equal(fixed.detector(frames).covariance, (0.02 * torch.eye(2)).expand(2, 3, 2, 2))


def test_heatmaps_are_one_over_the_scale_at_the_mean_and_fall_by_the_exponent():
    points = keypoints([[0.0, 0.0]], variance=(4 / 32) ** 2)  # one sigma is 4 of the 32 steps from centre to border
    for exponent in (0.5, 1.0):
        config, _ = tiny(keypoints=1, heatmap_exponent=exponent, heatmap_scale=100.0)
        heat = heatmaps(points, config, (65, 65))[0, 0]
        assert heat[32, 32] == pytest.approx(0.01)
        assert heat[32, 36] == pytest.approx(0.01 * math.exp(-exponent))
    config, _ = tiny(keypoints=1, heatmap_sum=True)
    assert heatmaps(points, config).sum() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(("points", "background"), [(10, 0.425), (4, 0.649)])
def test_at_the_start_the_flow_is_the_identity_and_the_background_leads(points, background):
    _, networks = tiny(keypoints=points)
    still = torch.rand(2, 3, 64, 64)
    same = Keypoints(torch.rand(2, points, 2) - 0.5, (0.01 * torch.eye(2)).expand(2, points, 2, 2))
    motion = networks.generator.motion(still, same, same, torch.zeros(2, points, 64, 64))
    assert torch.equal(motion.displacement, torch.zeros(2, 64, 64, 2))
    assert motion.masks is not None
    assert motion.masks[:, 0].mean().item() == pytest.approx(background, abs=5e-4)
    assert torch.allclose(motion.masks.sum(1), torch.ones(2, 64, 64))
    made = networks.generator(networks.generator.encode(still), same, same)
    assert torch.allclose(made.warped, still, atol=1e-5)


def test_features_pass_an_identity_flow_unchanged_at_every_size():
    _, networks = tiny()
    features = networks.generator.encode(torch.rand(1, 3, 64, 64))
    grid = geometry.identity_grid((64, 64))[None]
    for feature in features:
        here = geometry.resize_grid(grid, (feature.shape[2], feature.shape[3]))
        assert torch.allclose(geometry.warp(feature, here), feature, atol=1e-5)


@pytest.mark.parametrize(("dx", "dy"), [(6, 0), (0, -4), (-3, 5)])
def test_one_keypoint_world_moves_the_picture_by_half_the_steps_times_the_shift(dx, dy):
    """Item 8: mask forced to keypoint 1; driving = source + d moves the picture by +d (backward flow: -d)."""
    _, networks = tiny(keypoints=1, use_residual=False)
    motion_net = networks.generator.dense_motion
    assert motion_net is not None
    with torch.no_grad():
        assert motion_net.head.bias is not None
        motion_net.head.bias.copy_(torch.tensor([-100.0, 100.0]))
    step = 2 / 63
    source, driving = keypoints([[0.0, 0.0]]), keypoints([[dx * step, dy * step]])
    still = torch.rand(1, 3, 64, 64)
    made = networks.generator(networks.generator.encode(still), source, driving)
    moved = torch.roll(still, (dy, dx), dims=(2, 3))[..., 8:-8, 8:-8]  # the rim rolled around
    assert torch.allclose(made.warped[..., 8:-8, 8:-8], moved, atol=1e-4)
    assert made.motion.mixed is not None  # one mask has everything, so the mixture is the same picture
    assert torch.allclose(made.motion.mixed, made.warped, atol=1e-4)
    assert made.motion.displacement[0, 0, 0].tolist() == pytest.approx([-dx * step, -dy * step], abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "inputs", "outputs"),
    [
        ({}, 44, 13),  # full
        ({"use_coarse": False}, 44, 2),  # no F_coarse
        ({"use_residual": False}, 44, 11),  # no F_residual
        ({"covariance": "fixed"}, 44, 13),  # no Sigma_k
        ({"use_image": False}, 11, 13),  # no x
        ({"use_displacement": True}, 66, 13),  # moving-gif
    ],
)
def test_variants_of_table_2_have_the_sheets_channel_counts(changes, inputs, outputs):
    _, networks = tiny(keypoints=10, **changes)
    motion = networks.generator.dense_motion
    assert motion is not None
    assert motion.unet.encoder.channels[0] == inputs
    assert motion.head.out_channels == outputs
    assert networks.generator.decoder.blocks[0].conv.in_channels == 8 + 10
    assert networks.discriminator.blocks[0].conv.in_channels == 3 + 10


def test_no_flow_is_the_identity_map():
    _, networks = tiny(use_flow=False)
    assert networks.generator.dense_motion is None
    still = torch.rand(1, 3, 64, 64)
    a, b = keypoints([[0.0, 0.0]] * 3), keypoints([[0.5, 0.5]] * 3)
    made = networks.generator(networks.generator.encode(still), a, b)
    assert torch.allclose(made.warped, still, atol=1e-5)
    assert made.motion.masks is None


def test_embedding_is_grouped_per_keypoint_with_the_background_first():
    config, networks = tiny(keypoints=2, use_displacement=True)
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


@pytest.mark.parametrize("size", [64, 128, 256])
@pytest.mark.parametrize("composite", [False, True])
def test_generator_output_is_a_picture_of_the_right_size(size, composite):
    scale = 64 / size
    _, networks = tiny(size=size, motion_scale=scale, generator_blocks=4, composite=composite)
    networks.generator.paint.weight.mul_(100)  # far beyond what a picture may hold, were it not kept in
    still = torch.rand(2, 3, size, size)
    found = networks.detector(still)
    made = networks.generator(networks.generator.encode(still), found, found)
    assert made.frame.shape == made.warped.shape == (2, 3, size, size)
    assert made.motion.displacement.shape == (2, 64, 64, 2)
    colours = made.painted if composite else made.frame
    assert colours is not None
    assert colours.min() < 0.1
    assert colours.max() > 0.9
    assert made.frame.min() >= 0
    assert made.frame.max() <= 1 + 1e-6  # the blend's shares sum to one as well as floats do


@pytest.mark.parametrize(("size", "sizes"), [(64, [64, 30, 13, 5, 1, 1]), (128, [128, 62, 29, 13, 5, 5])])
def test_discriminator_map_sizes(size, sizes):
    _, networks = tiny(size=size, generator_blocks=3)
    maps = networks.discriminator(torch.rand(1, 3, size, size), keypoints([[0.0, 0.0]] * 3))
    assert [m.shape[-1] for m in maps] == sizes
    assert maps[-1].shape[1] == 1


def test_composite_starts_by_keeping_the_warped_still():
    _, networks = tiny(composite=True)
    still = torch.rand(1, 3, 64, 64)
    same = keypoints([[0.1, 0.2]] * 3)
    made = networks.generator(networks.generator.encode(still), same, same)
    assert made.keep is not None
    assert made.painted is not None
    share = math.e / (2 * math.e + 1)  # logits 1, 1 and 0
    assert torch.allclose(made.keep, torch.full_like(made.keep, share))
    blend = share * made.warped + share * still + (1 - 2 * share) * made.painted
    assert torch.allclose(made.frame, blend, atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"size": 60},
        {"motion_scale": 0.3},
        {"use_coarse": False, "use_residual": False},
        {"feature_weights": (1.0, 2.0)},
        {"keypoints": 0},
        {"learning_rate": 0.0},
    ],
)
def test_impossible_configurations_are_refused(changes):
    with pytest.raises(StillmotionError):
        tiny(**changes)


def test_an_affine_generator_has_no_statistics_and_the_same_weights():
    """The scale and shift stay, under the same names; a batch of other pictures changes nothing."""
    _, batch = tiny(generator_norm="batch")
    _, affine = tiny(generator_norm="affine")
    statistics = {"running_mean", "running_var", "num_batches_tracked"}
    names = {
        name
        for name in batch.state_dict()
        if not name.startswith("generator.") or name.split(".")[-1] not in statistics
    }
    assert set(affine.state_dict()) == names
    assert any(name.startswith("detector.") and name.endswith("running_mean") for name in names)

    affine.train()
    still, other = torch.rand(2, 1, 3, affine.generator.config.size, affine.generator.config.size)
    alone = affine.generator.encode(still)[-1]
    together = affine.generator.encode(torch.cat([still, other]))[-1][:1]
    assert torch.allclose(alone, together, atol=1e-6)


@pytest.mark.parametrize("net", ["detector", "motion", "generator", "discriminator"])
def test_a_strangers_number_of_blocks_is_refused_before_anything_is_raised_to_it(net: str) -> None:
    with pytest.raises(StillmotionError, match=f"{net}_blocks must be at most 12, not 1000000000000"):
        DrivingConfig(**{f"{net}_blocks": 10**12})
