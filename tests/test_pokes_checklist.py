"""facts/poke.md section 12, all twenty items: where each is tested.

 1  parameter counts            test_pokes_networks.py::test_parameter_counts_of_the_release
                                test_pokes_networks.py::test_parameter_counts_of_the_stack_without_a_hierarchy
 2  states of E_sigma           test_pokes_networks.py::test_states_of_the_object_encoder
 3  roll-outs                   test_pokes_networks.py::test_a_rollout_has_its_shape_and_a_shorter_one_is_its_beginning
 4  where states start          test_pokes_networks.py::test_states_start_as_those_of_the_still_and_stay_where_no_gate_opens
 5  cells read new states       test_pokes_networks.py::test_phi_reaches_the_finest_level_within_one_step
 6  the poke's square           test_pokes_poking.py::test_a_map_is_a_square_of_one_vector
                                test_pokes_poking.py::test_pokes_keep_their_distance_from_the_border
 7  units of the flow           test_pokes_poking.py::test_a_translation_at_256_is_scaled_to_the_network
 8  candidates                  test_pokes_poking.py::test_pokes_lie_in_the_moving_blob
                                test_pokes_poking.py::test_thresholds_of_the_release_fall_back_in_order
                                test_pokes_poking.py::test_constant_flow_gives_no_poke
 9  pokes on the background     test_pokes_poking.py::test_a_tenth_of_the_pokes_are_on_the_background
                                test_pokes_windows.py::test_a_poke_on_the_background_has_a_still_video
10  impulses                    test_pokes_poking.py::test_impulses_are_at_most_one_long
                                test_pokes_networks.py::test_schedules_of_phi_by_hand
11  who learns in which step    test_pokes_state_training.py::test_pretraining_trains_the_object_encoder_and_the_decoder
                                test_pokes_state_training.py::test_dynamics_training_leaves_the_object_encoder_bit_identical
12  a single stage              test_pokes_state_training.py::test_a_single_stage_trains_the_object_encoder_too_and_has_no_static_loss
13  the latent loss             test_pokes_losses.py::test_the_latent_loss_averages_levels_and_then_frames
14  the perceptual distance     test_pokes_losses.py::test_the_perceptual_distance_has_six_terms
15  sizes of score maps         test_pokes_losses.py::test_score_maps_have_the_releases_sizes
                                test_nn_discriminators.py::test_temporal_discriminator_of_a_whole_clip
16  when GANs start             test_pokes_state_training.py::test_discriminators_change_from_their_first_step_on_and_not_before
17  the gradient penalty        test_pokes_losses.py::test_a_linear_discriminator_has_the_analytic_penalty
18  it learns                   test_pokes_state_training.py::test_it_learns_one_batch_and_the_same_seed_gives_the_same_numbers
                                test_pokes_training.py::test_it_learns_that_the_square_goes_with_the_hand
19  a poke's length             test_pokes_networks.py::test_instance_norm_all_but_removes_a_pokes_length_unless_it_is_kept
20  ablations                   test_pokes_state_training.py::test_every_ablation_takes_a_step_in_which_all_networks_learn
"""  # noqa: E501

from checklists import check


def test_every_item_of_the_checklist_has_its_tests() -> None:
    assert __doc__ is not None
    check(__doc__, 20)
