"""facts/class-conditional-keypoints.md section 12, all twenty lines: where each is tested.

 1  parameter counts            test_actions_networks.py::test_parameter_counts_of_the_first_stage
                                test_actions_motion.py::test_parameter_counts_with_one_bias_per_layer
 2  shapes                      test_actions_networks.py::test_shapes
 3  read-out                    test_actions_networks.py::test_a_peak_is_read_out_at_its_pixel_x_first
 4  both read-outs              test_actions_networks.py::test_both_readouts_are_equal_on_separable_maps_and_differ_on_others
 5  gaussian maps               test_actions_networks.py::test_a_map_is_one_at_its_keypoint_and_a_share_of_e_at_the_inverse_sharpness
 6  the mask                    test_actions_networks.py::test_a_mask_of_one_is_the_still_exactly_and_of_zero_what_is_synthesized
 7  one detector                test_actions_networks.py::test_both_frames_of_a_pair_go_through_the_same_detector
 8  gradients                   test_actions_losses.py::test_the_perceptual_loss_trains_detector_encoder_and_translator_and_nothing_else
 9  who learns in which step    test_actions_training.py::test_each_update_of_the_first_stage_changes_its_own_networks
                                test_actions_training.py::test_each_update_of_the_second_stage_changes_its_own_network
                                test_actions_training.py::test_the_second_stage_leaves_the_first_untouched
10  perceptual loss             test_actions_losses.py::test_the_perceptual_loss_is_the_mean_of_the_means_of_five_layers
11  pairs                       test_actions_data.py::test_the_second_frame_is_8_to_11_later_and_wraps_around
                                test_actions_data.py::test_both_frames_of_a_pair_are_augmented_alike
12  sequences                   test_actions_data.py::test_long_clips_give_33_frames_at_a_gap_of_their_length_over_33
                                test_actions_data.py::test_shorter_clips_give_17_frames_and_their_midpoints
13  rotation                    test_actions_data.py::test_points_turn_and_flip_as_the_picture_does
14  the decoder                 test_actions_motion.py::test_sequences_have_32_frames_in_the_papers_size
                                test_actions_motion.py::test_the_decoders_input_stands_at_the_first_step_or_at_every
                                test_actions_motion.py::test_the_same_latent_and_action_give_the_same_sequence_and_others_another
15  divergence                  test_actions_losses.py::test_the_divergence_is_the_closed_form_and_zero_at_the_prior
16  ReLU and linear             test_actions_motion.py::test_released_layers_end_in_relus_and_linear_ones_do_not
17  learning rate               test_actions_config.py::test_the_learning_rate_falls_in_steps_or_smoothly
18  labels                      test_actions_data.py::test_labels_are_an_array_of_n_x_k_x_2_per_clip_from_a_detector_in_evaluation_mode
                                test_actions_data.py::test_chunked_is_unchunked
19  it learns                   test_actions_learning.py::test_it_learns_where_the_square_is_and_which_way_an_action_goes
20  a whole performance         test_actions_learning.py::test_a_whole_performance_has_32_frames_each_from_the_still
"""  # noqa: E501

from checklists import check


def test_every_item_of_the_checklist_has_its_tests() -> None:
    assert __doc__ is not None
    check(__doc__, 20)
