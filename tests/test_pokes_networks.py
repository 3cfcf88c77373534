"""The networks of `pokes`: sizes, roll-outs, what reads what, ablations, and equality with the authors' networks."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pokes_state_tools import TINY_STATES, changed, generator_of, golden_poke, poke_map, stills
from reference_tools import Golden, load, needs_reference
from stillmotion.systems.pokes.config import PRESETS, PokesConfig
from stillmotion.systems.pokes.networks import (
    StateGenerator,
    UpsamplingBlock,
    phi_factors,
    rename_release,
)

PARTS = ("object_encoder", "poke_encoder", "dynamics", "decoder")


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def on_meta(config: PokesConfig, **changes: Any) -> StateGenerator:
    """Shapes alone."""
    with torch.device("meta"):
        return StateGenerator(changed(config, **changes))


# --- sizes ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("size", "counts", "total"),
    [
        (64, (5_018_880, 7_689_376, 21_384_064, 5_018_499), 39_110_819),
        (128, (5_090_944, 8_353_056, 21_863_616, 4_795_587), 40_103_203),
    ],
)
def test_parameter_counts_of_the_release(size: int, counts: tuple[int, ...], total: int) -> None:
    network = on_meta(PRESETS["release"], size=size)
    assert tuple(parameters(getattr(network, part)) for part in PARTS) == counts
    assert parameters(network) == total == sum(counts)


def test_the_papers_poke_encoder_has_one_residual_block() -> None:
    block = 2 * (9 * 512 * 512 + 512)
    assert parameters(on_meta(PRESETS["paper"]).poke_encoder) == 7_689_376 - block


@pytest.mark.parametrize(
    ("size", "layers", "count"),
    [(64, 2, 39_675_715), (128, 2, 41_888_195), (64, 3, 53_833_027), (128, 3, 56_045_507)],
)
def test_parameter_counts_of_the_stack_without_a_hierarchy(size: int, layers: int, count: int) -> None:
    changes = {"dynamics__hierarchy": False, "dynamics__layers": layers}
    assert parameters(on_meta(PRESETS["release"], size=size, **changes)) == count
    assert (PRESETS["release"].dynamics.layers, PRESETS["paper"].dynamics.layers) == (2, 3)


@pytest.mark.parametrize("size", [64, 128])
def test_states_of_the_object_encoder(size: int) -> None:
    network = on_meta(PRESETS["release"], size=size)
    states = network.encode(torch.zeros(2, 3, size, size, device="meta"))
    shapes = [(512, 16, 16), (256, 16, 16), (128, 32, 32), (64, 64, 64)][: 3 if size == 64 else 4]
    assert [tuple(state.shape) for state in states] == [(2, *shape) for shape in shapes]
    assert network.encode_poke(torch.zeros(2, 2, size, size, device="meta")).shape == (2, 512, 16, 16)


@pytest.mark.parametrize(
    ("cell", "count"),
    [(0, 14_157_312), (1, 5_309_184), (2, 1_917_568), (3, 479_552)],
)
def test_each_cell_has_the_releases_size(cell: int, count: int) -> None:
    dynamics = on_meta(PRESETS["release"], size=128).dynamics
    assert parameters(dynamics.cells[cell]) + parameters(dynamics.upsampling[cell]) == count


# --- roll-outs -----------------------------------------------------------------------------------------------------
@torch.no_grad()
def test_a_rollout_has_its_shape_and_a_shorter_one_is_its_beginning() -> None:
    network = generator_of()
    still, poke = stills(TINY_STATES), poke_map(16, (4, 5, (3.0, 1.0)), (10, 9, (-2.0, 0.0)))
    long, short = network(still, poke, 10), network(still, poke, 3)
    assert long.frames.shape == (2, 10, 3, 16, 16)
    assert long.frames.abs().max() <= 1
    assert len(long.states) == 10
    torch.testing.assert_close(short.frames, long.frames[:, :3])
    assert (long.frames[:, 3] - long.frames[:, 2]).abs().max() > 1e-5
    for t, states in enumerate(long.states):  # the folded frames are those of the single steps
        torch.testing.assert_close(network.decode(states), long.frames[:, t])


@torch.no_grad()
def test_states_start_as_those_of_the_still_and_stay_where_no_gate_opens() -> None:
    network, still = generator_of(), stills(TINY_STATES)
    for cell in network.dynamics.cells:
        nn.init.zeros_(cell.update.weight)
        nn.init.constant_(cell.update.bias, -1e4)  # the update gate is zero
    output = network(still, poke_map(16, *[(8, 8, (3.0, 1.0))] * 2), 4)
    reconstructed = network.decode(network.encode(still))
    assert all(torch.allclose(output.frames[:, t], reconstructed, atol=1e-6) for t in range(4))
    assert all(torch.equal(a, b) for a, b in zip(output.states[3], network.encode(still), strict=True))


@torch.no_grad()
def test_phi_reaches_the_finest_level_within_one_step() -> None:
    """Each cell reads the new state of the one before; after its old state, phi would take a step per level."""
    network = generator_of()
    states, phi = network.encode(stills(TINY_STATES)), torch.zeros(2, 128, 4, 4)
    before, after = network.step(states, phi), network.step(states, phi + 1)
    assert all((a - b).abs().max() > 1e-6 for a, b in zip(before, after, strict=True))
    x = network.dynamics.cells[0](phi, states[0])
    x = network.dynamics.cells[1](x, states[1])
    x = network.dynamics.cells[2](network.dynamics.upsampling[2](x), states[2])
    assert torch.equal(x, before[2])


# --- phi -----------------------------------------------------------------------------------------------------------
def test_schedules_of_phi_by_hand() -> None:
    def factors(schedule: str, rest: int, frames: int) -> list[float]:
        return phi_factors(changed(TINY_STATES, poke__schedule=schedule, poke__rest=rest).poke, frames)

    assert factors("constant", 0, 3) == [1, 1, 1]
    assert factors("first", 0, 4) == [1, 0, 0, 0]
    assert factors("decay", 0, 5) == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])
    assert factors("decay", 1, 5) == [1, 0.75, 0.5, 0.25, 0]
    assert factors("pause", 2, 5) == [1, 1, 1, 0, 0]
    assert factors("decay", 7, 5) == factors("pause", 7, 5) == [0, 0, 0, 0, 0]


@torch.no_grad()
def test_a_rollout_follows_the_schedule_or_the_factors_that_are_given() -> None:
    config = changed(TINY_STATES, poke__schedule="first")
    network, still, poke = generator_of(config), stills(config, 1), poke_map(16, (8, 8, (3.0, 1.0)))
    states, phi = network.encode(still), network.encode_poke(poke)
    for factor, found in zip((1, 0, 0), network(still, poke, 3).states, strict=True):
        states = network.step(states, factor * phi)
        assert all(torch.equal(a, b) for a, b in zip(states, found, strict=True))
    free, given = network(still, poke, 3, [1.0, 0.0, 0.0]).frames, network(still, poke, 3, [0.5, 0.0, 0.0]).frames
    assert torch.equal(free, network(still, poke, 3).frames)
    assert (free - given).abs().max() > 1e-6
    with pytest.raises(ValueError, match="zip"):
        network(still, poke, 3, [1.0])


@torch.no_grad()
def test_no_poke_gives_zeros_for_its_sample_alone() -> None:
    network = generator_of()
    maps = poke_map(16, (8, 8, (3.0, 1.0)), (8, 8, (0.0, 0.0)))
    phi = network.encode_poke(maps)
    assert phi[1].abs().max() == 0
    assert phi[0].abs().max() > 0.1
    torch.testing.assert_close(phi[:1], network.encode_poke(maps[:1]))
    for vector in ((0.0, 2.0), (2.0, -2.0), (-1.0, 0.0)):
        assert network.encode_poke(poke_map(16, (8, 8, vector))).abs().max() > 0.1


@torch.no_grad()
def change_of_phi(magnitude: str) -> float:
    """How far phi of a poke of ten pixels is from that of three pixels, relative to it; in float64."""
    network = generator_of(TINY_STATES, size=32, encoder__bottleneck=8, encoder__magnitude=magnitude).double()
    short, long = (network.encode_poke(poke_map(32, (15, 16, (0.6 * d, 0.8 * d))).double()) for d in (3, 10))
    return float((long - short).norm() / short.norm())


def test_instance_norm_all_but_removes_a_pokes_length_unless_it_is_kept() -> None:
    """The paper's encoder gives almost the same for three pixels and for ten; that is why `kept` exists."""
    assert change_of_phi("normalised") < 0.05
    assert change_of_phi("kept") > 0.2


def test_kept_length_is_the_logarithm_in_a_third_channel_and_the_first_layer_has_no_norm() -> None:
    network = generator_of(encoder__magnitude="kept")
    seen: list[Tensor] = []
    network.poke_encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    network.encode_poke(poke_map(16, (8, 8, (3.0, -4.0))))
    assert seen[0].shape == (1, 3, 16, 16)
    assert seen[0][0, :, 8, 8].tolist() == pytest.approx([3, -4, 1.791759], rel=1e-5)  # log 6
    assert seen[0][0, 2, 0, 0] == 0
    kinds = [type(layer.norm) for layer in network.poke_encoder.layers]
    assert kinds == [nn.Identity, nn.InstanceNorm2d]
    assert isinstance(generator_of().poke_encoder.layers[0].norm, nn.InstanceNorm2d)


# --- ablations -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("order", [1, 2, 3])
@torch.no_grad()
def test_a_lower_order_has_cells_and_skips_on_the_coarsest_levels_only(order: int) -> None:
    network = generator_of(dynamics__order=order)
    assert len(network.dynamics.cells) == order
    assert [block.conv1.conv.in_channels for block in network.decoder.blocks] == [
        64 * (2 if order > 1 else 1),
        32 * (2 if order > 2 else 1),
    ]
    output = network(stills(TINY_STATES), poke_map(16, *[(8, 8, (3.0, 1.0))] * 2), 2)
    assert [state.shape[1] for state in output.states[0]] == [128, 64, 32][:order]
    assert output.frames.shape == (2, 2, 3, 16, 16)


def test_at_128_pixels_there_are_up_to_four_levels() -> None:
    for order in (1, 2, 3, 4):
        network = on_meta(PRESETS["release"], size=128, dynamics__order=order)
        states = network.encode(torch.zeros(1, 3, 128, 128, device="meta"))
        assert [s.shape[1] for s in states] == [512, 256, 128, 64][:order]
        assert network.decode(network.step(states, torch.zeros(1, 512, 16, 16, device="meta"))).shape[2:] == (
            128,
            128,
        )


@torch.no_grad()
def test_a_stack_starts_from_one_state_and_the_decoder_reads_its_last_layer() -> None:
    network = generator_of(dynamics__hierarchy=False, dynamics__layers=3)
    states = network.encode(stills(TINY_STATES))
    assert [tuple(state.shape[1:]) for state in states] == [(128, 4, 4)] * 3
    assert torch.equal(states[0], states[2])
    predicted = network.step(states, torch.ones(2, 128, 4, 4))
    assert not torch.equal(predicted[0], predicted[2])
    frame = network.decode(predicted)
    assert torch.equal(frame, network.decode([torch.zeros_like(states[0])] * 2 + predicted[2:]))
    assert [layer.conv.out_channels for layer in network.object_encoder.layers] == [32, 64]


@torch.no_grad()
def test_transposed_convolutions_end_in_elu_or_in_the_releases_relu() -> None:
    for activation, least in (("relu", 0.0), ("elu", -1.0)):
        network = generator_of(generator__activation=activation)
        blocks = [module for module in network.modules() if isinstance(module, UpsamplingBlock)]
        assert len(blocks) == 4
        found = blocks[0](torch.randn(2, 128, 4, 4, generator=torch.Generator().manual_seed(0)))
        assert found.shape == (2, 32, 8, 8)
        assert found.min() >= least
        assert (found.min() < -0.1) == (activation == "elu")


# --- the authors' networks -----------------------------------------------------------------------------------------
def authors_network(golden: Golden, config: PokesConfig) -> StateGenerator:
    network = on_meta(config).to_empty(device="cpu").eval()
    load(network, golden.weights(), rename_release)
    return network


@needs_reference
@pytest.mark.slow
@pytest.mark.parametrize("size", [64, 128])
@torch.no_grad()
def test_the_release_equals_the_authors(size: int) -> None:
    golden = Golden(f"pokes/generator{size}")
    network = authors_network(golden, changed(PRESETS["release"], size=size))
    still, poke = golden.inputs()[0], golden_poke(golden)
    states = network.encode(still)
    for number, state in enumerate(reversed(states)):
        golden.check(f"object_states.{number}", state)
    golden.check("poke_code", network.encode_poke(poke))
    golden.check("static_frame", network.decode(states))
    steps = network(still, poke, 3 if size == 64 else 1)  # the rest of a roll-out is no different at 128
    if size == 64:
        golden.check("frames", steps.frames)
    for t, levels in enumerate(steps.states):
        for number, state in enumerate(levels):
            golden.check(f"step{t}.state.{number}", state)


@needs_reference
@pytest.mark.slow
@torch.no_grad()
def test_the_stack_equals_the_authors() -> None:
    golden = Golden("pokes/baseline64")
    network = authors_network(golden, changed(PRESETS["release"], dynamics__hierarchy=False))
    still, poke = golden.inputs()[0], golden_poke(golden)
    golden.check("object_state", network.encode(still)[0])
    output = network(still, poke, 3)
    golden.check("frames", output.frames)
    for t, layers in enumerate(output.states):
        golden.check(f"step{t}.top_state", layers[-1])


def test_names_of_the_release_fit_with_or_without_the_prefix_of_several_devices() -> None:
    assert rename_release("module.dec.out_conv.conv.bias") == "decoder.colours.bias"
    assert rename_release("fusion_block.cells.2.up_gate.weight") == "dynamics.upsampling.2.weight"
    assert rename_release("fusion_block.cells.0.out_gate.bias") == "dynamics.cells.0.candidate.bias"
    assert (
        rename_release("dynamics_enc.bottleneck.0.res_conv.conv.bias") == "poke_encoder.blocks.0.shortcut.conv.bias"
    )
