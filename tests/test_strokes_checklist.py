"""facts/take-directions.md section 12, all twenty items: where each is tested.

 1  parameter counts            test_strokes_networks.py::test_parameter_counts_are_the_sheets
                                test_strokes_discriminators.py::test_the_releases_discriminators_have_the_sheets_counts_at_every_size
 2  sizes                       test_strokes_networks.py::test_the_papers_network_at_128_gives_a_state_of_256_by_16_by_16
                                test_strokes_networks.py::test_state_and_frame_have_an_eighth_of_the_size_and_the_size
 3  the whole stroke            test_strokes_stroke_encoding.py::test_seventeen_points_are_single_pixels_of_rising_grey_on_white
 4  one step                    test_strokes_stroke_encoding.py::test_a_step_is_two_pixels_with_the_levels_they_have_in_the_whole
 5  points on one pixel         test_strokes_stroke_encoding.py::test_of_points_on_one_pixel_the_later_is_seen
 6  too many, or outside        test_strokes_stroke_encoding.py::test_thirty_two_points_fit_and_no_more
                                test_strokes_stroke_encoding.py::test_a_point_outside_is_refused
 7  one E2                      test_strokes_networks.py::test_one_motion_encoder_reads_both_pictures_and_swapping_them_swaps_the_halves
 8  order and width in P        test_strokes_networks.py::test_the_predictor_gets_current_initial_whole_and_step_in_this_order
                                test_strokes_networks.py::test_dense_blocks_are_the_sheets_and_the_last_concatenation_has_8704_channels
 9  padding                     test_strokes_networks.py::test_strided_convolutions_pad_below_and_on_the_right_alone
10  norms and slopes            test_strokes_networks.py::test_instance_norm_has_a_tiny_epsilon_the_biased_variance_and_no_parameters
                                test_strokes_networks.py::test_encoders_leak_a_fifth_and_discriminators_a_tenth
11  spectral norm               test_strokes_discriminators.py::test_after_a_few_passes_the_largest_singular_value_is_one
                                test_strokes_discriminators.py::test_one_pass_is_one_power_iteration_by_hand
                                test_strokes_discriminators.py::test_u_stays_in_eval_mode_and_where_it_is_to_be_forgotten
12  the first step              test_strokes_training.py::test_the_first_state_is_h0_and_e1_learns_through_both_slots
13  no gradient across steps    test_strokes_training.py::test_no_gradient_crosses_a_time_step
14  sixteen updates             test_strokes_training.py::test_a_clip_of_seventeen_frames_gives_sixteen_updates_of_each
                                test_strokes_training.py::test_the_carried_state_comes_from_the_weights_after_the_update
15  weights and terms           test_strokes_losses.py::test_presets_have_the_sheets_weights
                                test_strokes_losses.py::test_reconstruction_terms_by_hand
                                test_strokes_losses.py::test_adversarial_terms_by_hand
                                test_strokes_losses.py::test_the_crop_loss_sees_the_crop_alone_on_both_sides
                                test_strokes_losses.py::test_the_perceptual_loss_by_hand
16  learning rate               test_strokes_training.py::test_the_releases_rate_falls_by_a_tenth_every_twenty_thousand_updates
                                test_strokes_training.py::test_rates_change_within_a_batch_of_clips_and_survive_a_resume
17  any length, the same again  test_strokes_networks.py::test_any_length_and_the_same_frames_again
                                test_strokes_networks.py::test_two_runs_of_the_release_are_alike_because_u_does_not_move
18  a moving dot                test_strokes_training.py::test_it_learns_a_moving_dot_and_two_strokes_take_it_to_two_places
19  the ablations' switches     test_strokes_training.py::test_teacher_forcing_gives_the_true_frames_state_with_gradient
                                test_strokes_training.py::test_every_ablation_takes_a_step_in_which_all_networks_learn
                                test_strokes_networks.py::test_the_ablations_of_the_motion_input_narrow_the_predictor
20  metrics                     test_evaluation_strokes.py::test_psnr_over_time_by_hand
                                test_evaluation_strokes.py::test_ssim_and_brightness_over_time
                                test_evaluation_strokes.py::test_lpips_by_hand
                                test_evaluation_strokes.py::test_pose_smoothness_by_hand
"""  # noqa: E501

from checklists import check


def test_all_twenty_items_have_tests_that_exist() -> None:
    check(__doc__ or "", 20)
