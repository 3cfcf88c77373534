"""facts/monkey-net.md section 12, all twenty items: where each is tested.

 1  parameter counts            test_driving_networks.py::test_parameter_counts_are_the_sheets
                                test_driving_networks.py::test_every_preset_has_its_counts_tested
 2  keypoint of a delta         test_geometry.py::test_delta_logits_give_their_pixel
                                test_driving_networks.py::test_detector_finds_the_pixel_of_a_delta_and_the_corners_exactly
 3  covariance of a gaussian    test_geometry.py::test_an_anisotropic_gaussian_is_recovered_with_its_orientation
 4  singular-value floor        test_geometry.py::test_the_floor_scales_up_thin_covariances_and_leaves_the_others
                                test_driving_networks.py::test_the_detector_floors_what_is_too_sharp_and_nothing_else
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
12  loss weights                test_losses.py::test_changing_the_last_map_counts_with_its_own_weight
                                test_driving_losses.py::test_a_changed_map_of_the_discriminator_costs_its_weight
13  who learns from what        test_driving_training.py::test_each_update_touches_its_own_networks_only
                                test_driving_losses.py::test_the_switch_stops_the_gradient_through_the_driving_heatmap
14  relative transfer           test_driving_animating.py::test_relative_transfer_of_a_standing_driver_keeps_the_stills_keypoints
                                test_driving_animating.py::test_relative_transfer_onto_the_drivers_own_first_frame_is_a_reconstruction
15  absolute transfer           test_driving_animating.py::test_absolute_transfer_ignores_the_first_frame
16  pairs and flips             test_data_sampling.py::test_pair_is_sorted_and_inside
                                test_data_sampling.py::test_pair_is_uniform_with_replacement
                                test_data_augment.py::test_flips_come_as_often_as_they_should
                                test_driving_data.py::test_training_pairs_are_sorted_and_drawn_with_replacement
17  the predictor               test_driving_prediction.py::test_covariances_are_symmetric_and_positive_and_means_stay_inside
                                test_driving_prediction.py::test_frame_zero_is_the_given_one_and_the_rest_depends_on_it_alone
18  variants of Table 2         test_driving_networks.py::test_variants_of_table_2_have_the_sheets_channel_counts
                                test_driving_networks.py::test_no_flow_is_the_identity_map
                                test_driving_training.py::test_every_variant_of_table_2_trains
                                test_driving_training.py::test_every_variant_of_table_2_is_saved_and_animates
19  moving squares              test_driving_training.py::test_it_learns_moving_squares_and_the_keypoints_move_with_them
20  metrics on toy inputs       test_evaluation_metrics.py::test_akd_is_in_pixels_of_the_frame
                                test_evaluation_metrics.py::test_akd_of_both_definitions_by_hand
                                test_evaluation_metrics.py::test_mkr_by_hand
                                test_evaluation_metrics.py::test_aed_of_all_definitions_by_hand
                                test_evaluation_metrics.py::test_the_papers_definition_is_the_default
"""  # noqa: E501

from checklists import check


def test_all_twenty_items_have_tests_that_exist() -> None:
    check(__doc__ or "", 20)
