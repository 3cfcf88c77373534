"""facts/monkey-net.md section 12, all twenty items: where each is tested, and what had no test of its own.

 1  parameter counts            test_driving_networks.py::test_parameter_counts_are_the_sheets
                                test_driving_networks.py::test_every_preset_has_its_counts_tested
 2  keypoint of a delta         test_geometry.py::test_delta_logits_give_their_pixel
                                test_driving_networks.py::test_detector_finds_the_pixel_of_a_delta_and_the_corners_exactly
 3  covariance of a gaussian    test_geometry.py::test_an_anisotropic_gaussian_is_recovered_with_its_orientation
 4  singular-value floor        test_geometry.py::test_the_floor_scales_up_thin_covariances_and_leaves_the_others
                                test_driving_checklist.py::test_the_detector_floors_what_is_too_sharp_and_nothing_else
 5  heatmap values              test_driving_networks.py::test_heatmaps_are_one_over_the_scale_at_the_mean_and_fall_by_the_exponent
                                test_geometry.py::test_heatmaps_are_divided_by_a_constant_or_by_their_sum
 6  motion at the start         test_driving_networks.py::test_at_the_start_the_flow_is_the_identity_and_the_background_leads
 7  the identity map            test_geometry.py::test_the_identity_warp_changes_nothing
                                test_driving_networks.py::test_features_pass_an_identity_flow_unchanged_at_every_size
 8  a one-keypoint world        test_driving_networks.py::test_one_keypoint_world_moves_the_picture_by_half_the_steps_times_the_shift
 9  the embedding               test_driving_networks.py::test_variants_of_table_2_have_the_sheets_channel_counts
                                test_driving_networks.py::test_embedding_is_grouped_per_keypoint_with_the_background_first
10  the generator's output      test_driving_networks.py::test_generator_output_is_a_picture_of_the_right_size
11  discriminator maps          test_driving_networks.py::test_discriminator_map_sizes
12  loss weights                test_driving_training.py::test_feature_matching_weights_are_ten_and_one_for_the_last_map
                                test_driving_checklist.py::test_a_changed_map_of_the_discriminator_costs_its_weight
13  who learns from what        test_driving_training.py::test_each_update_touches_its_own_networks_only
                                test_driving_training.py::test_the_switch_blocks_the_gradient_through_the_driving_heatmap
14  relative transfer           test_driving_animating.py::test_relative_transfer_of_a_standing_driver_keeps_the_stills_keypoints
                                test_driving_animating.py::test_relative_transfer_onto_the_drivers_own_first_frame_is_a_reconstruction
15  absolute transfer           test_driving_animating.py::test_absolute_transfer_ignores_the_first_frame
16  pairs and flips             test_data_sampling.py::test_pair_is_sorted_and_inside
                                test_data_sampling.py::test_pair_is_uniform_with_replacement
                                test_data_augment.py::test_flips_come_as_often_as_they_should
                                test_driving_checklist.py::test_training_pairs_are_sorted_and_drawn_with_replacement
17  the predictor               test_driving_predicting.py::test_covariances_are_symmetric_and_positive_and_means_stay_inside
                                test_driving_predicting.py::test_frame_zero_is_the_given_one_and_the_rest_depends_on_it_alone
18  variants of Table 2         test_driving_networks.py::test_variants_of_table_2_have_the_sheets_channel_counts
                                test_driving_networks.py::test_no_flow_is_the_identity_map
                                test_driving_training.py::test_every_variant_of_table_2_trains_a_step
                                test_driving_checklist.py::test_every_variant_trains_with_the_small_losses_and_animates
19  moving squares              test_driving_training.py::test_it_learns_moving_squares_and_the_keypoints_move_with_them
20  metrics on toy inputs       test_evaluation_metrics.py::test_akd_is_in_pixels_of_the_frame
                                test_evaluation_metrics.py::test_akd_of_both_definitions_by_hand
                                test_evaluation_metrics.py::test_mkr_by_hand
                                test_evaluation_metrics.py::test_aed_of_all_definitions_by_hand
                                test_evaluation_metrics.py::test_the_papers_definition_is_the_default
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stillmotion.controls import Drive
from torch import Tensor, nn

from checklists import check
from driving_tools import TINY, moving_square, tiny
from stillmotion.animate import load
from stillmotion.data.clip import Clip
from stillmotion.systems.driving.animating import Driving
from stillmotion.systems.driving.config import PRESETS, DrivingConfig
from stillmotion.systems.driving.networks import DrivingNetworks, Generated, Keypoints, Motion
from stillmotion.systems.driving.training import MotionStage


def test_all_twenty_items_have_tests_that_exist() -> None:
    check(__doc__ or "", 20)


# --- item 4 --------------------------------------------------------------------------------------------------------


def test_the_detector_floors_what_is_too_sharp_and_nothing_else() -> None:
    """Logits that single out one pixel give a covariance of almost nothing; flat ones that of the whole square."""
    frames = torch.rand(2, 3, 64, 64)
    for gain, smallest in ((1e4, 0.001), (0.0, 1 / 3 * 65 / 63)):  # (n + 1) / 3 / (n - 1): n even steps from -1 to 1
        _, networks = tiny(covariance_floor=0.001)
        with torch.no_grad():
            networks.detector.logits.weight.mul_(gain)
            networks.detector.logits.bias.mul_(0)  # type: ignore[union-attr]
            covariance = networks.detector(frames).covariance.double()
        found = torch.linalg.svdvals(covariance)[..., 1]
        assert torch.allclose(found, torch.full_like(found, smallest), rtol=0.01)


# --- item 12 -------------------------------------------------------------------------------------------------------


class Maps(nn.Module):
    """A discriminator whose maps are zero, except that one of them is one for generated frames."""

    def __init__(self, index: int):
        super().__init__()
        self.index = index

    def forward(self, frame: Tensor, driving: Keypoints) -> list[Tensor]:
        generated = float(frame.mean() > 0.5)
        return [torch.full((1, 1, 2, 2), generated * (i == self.index)) for i in range(6)]


@pytest.mark.parametrize(
    ("preset", "costs"), [("release", [10, 10, 10, 10, 1, 0]), ("paper", [10, 10, 10, 10, 10, 0])]
)
def test_a_changed_map_of_the_discriminator_costs_its_weight(preset: str, costs: list[float]) -> None:
    """The last of the six is the score: it belongs to the adversarial loss."""
    config, networks = tiny(feature_weights=PRESETS[preset].feature_weights)
    stage = MotionStage(networks, config, [moving_square("a")])
    black, white = torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64)
    made = Generated(white, Motion(torch.zeros(1, 64, 64, 2), None), white, None, None)
    points = Keypoints(torch.zeros(1, 3, 2), torch.eye(2).expand(1, 3, 2, 2))
    found, score = [], []
    for index in range(6):
        networks.discriminator = Maps(index)  # type: ignore[assignment]
        terms = stage.generator_terms(made, black, black, points)
        found.append(terms["features"].item())
        score.append(terms["gan"].item())
    assert found == costs
    assert score == [1, 1, 1, 1, 1, 0]  # (1 - D(fake))^2, and only the score counts


# --- item 16 -------------------------------------------------------------------------------------------------------


def test_training_pairs_are_sorted_and_drawn_with_replacement() -> None:
    """Frame t of the clip has the value t, so that samples tell which frames they hold."""
    values = np.broadcast_to(np.arange(4, dtype=np.uint8)[:, None, None, None], (4, 64, 64, 3))
    config, networks = tiny(augmentation="none")
    dataset = MotionStage(networks, config, [Clip("counting", values, 25.0)]).dataset
    pairs = [tuple(round(dataset[n][key].mean().item() * 255) for key in ("source", "driving")) for n in range(600)]
    assert all(source <= driving for source, driving in pairs)
    # 4 of the 16 draws take the same frame twice; three standard deviations are 0.053.
    assert np.mean([source == driving for source, driving in pairs]) == pytest.approx(0.25, abs=0.053)
    assert len(set(pairs)) == 10

    used = {name.removeprefix("release-"): PRESETS[name].augmentation for name in PRESETS if "release-" in name}
    assert used == {
        **{name: name for name in ("taichi", "nemo", "bair", "actions", "moving-gif")},
        "vox": "nemo",
        "shapes": "none",
    }


# --- item 18 -------------------------------------------------------------------------------------------------------

MIX = {"mix"}
VARIANTS = {
    # What the small preset's losses lose with the variant: only masks and shifted stills can be mixed.
    "no F": ({"use_flow": False}, MIX),
    "no F_coarse": ({"use_coarse": False}, MIX),
    "no F_residual": ({"use_residual": False}, set()),
    "no Sigma_k": ({"covariance": "fixed"}, set()),
    "no x": ({"use_image": False}, MIX),
    "full": ({}, set()),
}


def with_small_losses(**changes: object) -> tuple[DrivingConfig, DrivingNetworks]:
    """A tiny network with every loss of preset `small`."""
    small = asdict(PRESETS["small"])
    names = [name for name in small if name.endswith(("_weight", "_weights"))]
    names += ["motion_focus", "composite", "motion_scale", "shrink", "heatmap_scale", "background_bias"]
    names += ["detector_detail", "fine_flow", "retouch"]
    return tiny(**{name: small[name] for name in names}, **changes)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_trains_with_the_small_losses_and_animates(variant: str, tmp_path: Path) -> None:
    changes, lacking = VARIANTS[variant]
    config, networks = with_small_losses(**changes)
    stage = MotionStage(networks, config, [moving_square(f"clip-{i}", seed=i) for i in range(2)])
    before = {name: value.clone() for name, value in networks.state_dict().items()}
    samples = [stage.dataset[n] for n in (1, 3)]
    batch = {key: torch.stack([sample[key] for sample in samples]) for key in samples[0] if key != "name"}
    every = {"pyramid", "warp", "paint", "mix", "equivariance", "separation", "guide"}
    for _ in range(2):  # the first step moves the masks off their start, from where the second reaches all of M
        terms = stage.step(batch, stepping(stage))
        assert set(terms) - {"keypoint_spread"} == every - lacking
        assert all(torch.isfinite(value) for value in terms.values())
    moved = {name for name, value in networks.state_dict().items() if not torch.equal(value, before[name])}
    learns = ["detector.logits.weight", "generator.encoder.blocks.0.conv.weight", "generator.paint.weight"]
    if config.use_flow:
        learns += ["generator.dense_motion.head.weight", "generator.dense_motion.unet.encoder.blocks.0.conv.weight"]
    assert not [name for name in learns if name not in moved]

    system = Driving(config, networks)
    system.save_pretrained(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert loaded.system.config == config
    video = moving_square("drive", frames=3, seed=5).frames
    steps = list(loaded(video[0], Drive(video), layers=True))
    assert np.array_equal(np.stack([step.frame for step in steps]), system.animate(video[0], Drive(video)).frames())
    assert ("masks" in steps[0].layers) is (config.use_flow and config.use_coarse)
    assert steps[0].frame.shape == (64, 64, 3)
    if not config.use_flow:
        assert not any(step.facts["displacement"].any() for step in steps)
    if config.covariance == "fixed":
        assert np.array_equal(steps[1].facts["covariance"], np.tile(np.eye(2, dtype=np.float32) * 0.01, (3, 1, 1)))


def test_no_sigma_has_the_weights_of_the_full_model() -> None:
    """So a detector trained with covariances can be used without: the benchmark of Table 2 does."""
    full, fixed = DrivingNetworks(TINY), DrivingNetworks(replace(TINY, covariance="fixed"))
    shapes = [{name: value.shape for name, value in model.state_dict().items()} for model in (full, fixed)]
    assert shapes[0] == shapes[1]


def stepping(stage: MotionStage) -> Callable[[str, Tensor], None]:
    def update(name: str, loss: Tensor, clip_grad: float | None = None) -> None:
        for parameter in stage.model.parameters():
            parameter.grad = None
        loss.backward()
        stage.optimizers[name].step()

    return update
