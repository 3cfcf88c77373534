"""The motion generator of `actions` and the sequence discriminator: sizes, what enters where, both modes."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from actions_tools import TINY, changed, trainable, uniform
from stillmotion.systems.actions.config import PRESETS, ActionsConfig
from stillmotion.systems.actions.motion import LSTM, MotionGenerator, SequenceDiscriminator, from_release

LINEAR = changed(TINY, motion__mode="linear")


def generator_of(config: ActionsConfig = LINEAR, seed: int = 0, **changes: Any) -> MotionGenerator:
    """A generator whose outputs spread."""
    torch.manual_seed(seed)
    network = MotionGenerator(changed(config, **changes))
    nn.init.normal_(network.decoder.output.weight, std=1)
    return network


def initial(count: int = 1) -> Tensor:
    return uniform(1, 3, 2).expand(count, 3, 2)


# --- sizes ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("preset", "encoder", "decoder", "discriminator", "total"),
    [
        ("paper", 13_061_376, 12_809_104, 12_919_809, 25_870_480),
        ("paper-nemo", 12_849_024, 12_755_966, 12_715_009, 25_604_990),
        ("paper-mgif", 13_229_184, 12_851_096, 13_083_649, 26_080_280),
    ],
)
def test_parameter_counts_with_one_bias_per_layer(
    preset: str, encoder: int, decoder: int, discriminator: int, total: int
) -> None:
    """Torch's second bias per layer is constant, so it is not among those that are trained."""
    with torch.device("meta"):
        network, sequence_discriminator = MotionGenerator(PRESETS[preset]), SequenceDiscriminator(PRESETS[preset])
    assert (trainable(network.encoder), trainable(network.decoder)) == (encoder, decoder)
    assert trainable(sequence_discriminator) == discriminator
    assert trainable(network) == total
    constant = sum(value.numel() for value in network.parameters() if not value.requires_grad)
    assert constant == 2 * 2 * 4096


def test_an_lstm_starts_with_glorot_weights_and_an_open_forget_gate() -> None:
    torch.manual_seed(0)
    lstm = LSTM(30, changed(TINY, motion__hidden=64).motion)
    for layer, inputs in ((0, 30), (1, 64)):
        bound = math.sqrt(6 / (inputs + 64 + 4 * 64))
        for name in ("weight_ih", "weight_hh"):
            assert 0.95 * bound < getattr(lstm, f"{name}_l{layer}").abs().max() <= bound
        gates = (getattr(lstm, f"bias_ih_l{layer}") + getattr(lstm, f"bias_hh_l{layer}")).view(4, 64)
        assert gates.unique(dim=1).flatten().tolist() == [0, 1, 0, 0]  # input, forget, candidate, output
        assert not getattr(lstm, f"bias_hh_l{layer}").requires_grad


# --- sampling -------------------------------------------------------------------------------------------------------
@torch.no_grad()
def test_the_same_latent_and_action_give_the_same_sequence_and_others_another() -> None:
    network, latent = generator_of(), torch.randn(1, 6, generator=torch.Generator().manual_seed(0))
    action = torch.tensor([1])
    sequence = network.sample(initial(), action, latent)
    assert sequence.shape == (1, 5, 3, 2)
    assert torch.equal(sequence, network.sample(initial(), action, latent))
    for other in (
        network.sample(initial(), action, latent + 1),
        network.sample(initial(), torch.tensor([2]), latent),
        network.sample(initial() / 2, action, latent),
    ):
        assert (sequence - other).abs().max() > 1e-3


@torch.no_grad()
def test_keypoints_stay_within_the_frame() -> None:
    network = generator_of()
    network.decoder.output.bias.fill_(4.0)
    sequence = network.sample(initial(), torch.tensor([1]), uniform(1, 6))
    assert sequence.max() < 1
    torch.testing.assert_close(sequence, torch.full_like(sequence, math.tanh(4)), atol=0.1, rtol=0)


@torch.no_grad()
def test_sequences_have_32_frames_in_the_papers_size() -> None:
    config = changed(PRESETS["paper"], motion__hidden=16)
    sequence = MotionGenerator(config).sample(torch.zeros(2, 40, 2), torch.tensor([0, 8]), torch.Generator())
    assert sequence.shape == (2, 32, 40, 2)
    assert sequence.abs().max() < 1


@torch.no_grad()
def test_a_generator_of_random_numbers_gives_the_latents() -> None:
    network, actions = generator_of(), torch.tensor([1, 1])
    first, again, other = (
        network.sample(initial(2), actions, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 1e-3
    assert (first[0] - first[1]).abs().max() > 1e-3  # of one still and one action
    latent = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(first, network.sample(initial(2), actions, latent))


@torch.no_grad()
def test_a_longer_sequence_begins_as_a_shorter_one() -> None:
    network, latent = generator_of(), uniform(1, 6)
    short, long = (network.sample(initial(), torch.tensor([0]), latent, frames) for frames in (3, 9))
    assert (short.shape[1], long.shape[1]) == (3, 9)
    torch.testing.assert_close(long[:, :3], short)


@pytest.mark.parametrize("every", [False, True])
@torch.no_grad()
def test_the_decoders_input_stands_at_the_first_step_or_at_every(every: bool) -> None:
    network, seen = generator_of(motion__input_every_step=every), list[Tensor]()
    network.decoder.lstm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network.sample(initial(), torch.tensor([0]), uniform(1, 6))
    assert seen[0].shape == (1, 5, 4)
    assert seen[0][:, 0].abs().min() > 0
    rest = seen[0][:, 1:]
    assert torch.equal(rest, seen[0][:, :1].expand_as(rest) if every else torch.zeros_like(rest))


# --- encoding -------------------------------------------------------------------------------------------------------
@torch.no_grad()
def test_a_reconstruction_is_decoded_from_the_posteriors_sample() -> None:
    network, future, action = generator_of(), uniform(2, 5, 3, 2, seed=1), torch.tensor([0, 2])
    noise = uniform(2, 6, seed=2)
    output = network(initial(2), future, action, noise)
    assert output.mean.shape == output.std.shape == (2, 6)
    expected = network.sample(initial(2), action, output.mean + output.std * noise)
    assert torch.equal(output.sequence, expected)


@pytest.mark.parametrize("what", ["initial", "action", "first", "last"])
@torch.no_grad()
def test_the_posterior_depends_on_the_whole_sequence_and_the_conditions(what: str) -> None:
    network, future, noise = generator_of(), uniform(1, 5, 3, 2, seed=1), torch.zeros(1, 6)
    before = network(initial(), future, torch.tensor([0]), noise).mean
    changed_future = future.clone()
    if what in ("first", "last"):
        changed_future[:, 0 if what == "first" else -1] += 0.5
    start, action = initial() + 0.5 * (what == "initial"), torch.tensor([int(what == "action")])
    after = network(start, changed_future, action, noise).mean
    assert (before - after).abs().max() > 1e-5


def test_without_classes_there_is_no_action_and_with_them_there_is_one() -> None:
    without = generator_of(actions=())
    assert without.sample(initial(), None, uniform(1, 6)).shape == (1, 5, 3, 2)
    assert without.condition(initial(), None).shape == (1, 6)
    condition = generator_of().condition(initial(), torch.tensor([2]))
    assert condition.tolist() == [[*initial().flatten().tolist(), 0, 0, 1]]
    for network, action in ((without, torch.tensor([0])), (generator_of(), None)):
        with pytest.raises(ValueError, match="if and only if"):
            network.sample(initial(), action, uniform(1, 6))


# --- modes ----------------------------------------------------------------------------------------------------------
@torch.no_grad()
def test_released_layers_end_in_relus_and_linear_ones_do_not() -> None:
    """Sheet section 12, line 16, on the same weights: mean, deviation, the decoder's input, sequence logits."""
    released, linear = generator_of(TINY), generator_of(LINEAR)
    linear.load_state_dict(released.state_dict())
    future, action, noise = uniform(64, 5, 3, 2, seed=1), torch.zeros(64, dtype=torch.int64), torch.zeros(64, 6)
    ours, theirs = (network(initial(64), future, action, noise) for network in (linear, released))
    assert ours.mean.min() < 0
    assert ours.std.min() > 0
    assert torch.equal(theirs.mean, ours.mean.relu())
    logits = ours.std.expm1().log()  # softplus, inverted
    torch.testing.assert_close(theirs.std, logits.relu(), atol=1e-5, rtol=1e-4)
    assert theirs.std.min() == 0

    torch.manual_seed(0)
    networks = [SequenceDiscriminator(config) for config in (TINY, LINEAR)]
    networks[1].load_state_dict(networks[0].state_dict())
    scores = [network(future) for network in networks]
    assert scores[0].shape == (64, 1)
    assert scores[1].min() < 0
    assert torch.equal(scores[0], scores[1].relu())

    inputs = []
    for network in (released, linear):
        network.decoder.lstm.register_forward_pre_hook(lambda _, given: inputs.append(given[0][:, 0]))
        network.sample(initial(64), action, uniform(64, 6))
    assert inputs[1].min() < 0
    assert torch.equal(inputs[0], inputs[1].relu())


@torch.no_grad()
def test_the_sequence_discriminator_scores_the_last_step() -> None:
    torch.manual_seed(0)
    discriminator, sequence = SequenceDiscriminator(LINEAR), uniform(2, 5, 3, 2)
    expected = F.linear(
        discriminator.lstm(sequence.flatten(2))[:, 4], discriminator.score.weight, discriminator.score.bias
    )
    assert torch.equal(discriminator(sequence), expected)


# --- the release's variables ----------------------------------------------------------------------------------------
def test_gates_of_tensorflow_are_put_into_torchs_order() -> None:
    """Columns are input, candidate, forget, output, of one hidden number each; rows two inputs and the state."""
    kernel = torch.arange(12.0).view(3, 4)
    found = from_release("seq_discr/rnn/multi_rnn_cell/cell_0/basic_lstm_cell/kernel", kernel)
    lstm = "sequence_discriminator.lstm"
    assert found[f"{lstm}.weight_ih_l0"].tolist() == [[0, 4], [2, 6], [1, 5], [3, 7]]
    assert found[f"{lstm}.weight_hh_l0"].tolist() == [[8], [10], [9], [11]]
    biases = from_release("vae_decoder/multi_rnn_cell/cell_1/basic_lstm_cell/bias", torch.arange(4.0))
    assert biases["motion.decoder.lstm.bias_ih_l1"].tolist() == [0, 2, 1, 3]
    assert biases["motion.decoder.lstm.bias_hh_l1"].tolist() == [0, 1, 0, 0]


def test_linear_layers_of_the_release_are_transposed() -> None:
    found = from_release("vae_decoder/fully_connected/W", torch.zeros(8, 6))
    assert {name: tuple(value.shape) for name, value in found.items()} == {"motion.decoder.output.weight": (6, 8)}
    assert [*from_release("vae_encoder/fully_connected/biases", torch.zeros(4))] == ["motion.encoder.posterior.bias"]
