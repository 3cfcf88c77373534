"""Handles: how they swing by themselves, how they share the pixels, and what hands and forces do to them."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pokes_tools import handles_of, oscillators
from stillmotion import geometry
from stillmotion.systems.pokes.handles import (
    DAMPING,
    FREQUENCY,
    MAPS,
    RESTS,
    SAME,
    Handles,
    Interaction,
    OscillatorHead,
    Oscillators,
    Swing,
    advance,
    handle_maps,
    reach,
    rise_share,
    sample_at,
    spread,
)

CPU = torch.device("cpu")
HERE = np.array([0.2, -0.1])
NONE = np.zeros(2)


def integrated(state: np.ndarray, frequency: float, damping: float, aim: float = 0.0, frames: int = 1) -> np.ndarray:
    """x'' + 2 z w x' + w^2 (x - u) = 0 from (x, x') on, by Runge and Kutta's method in 500 steps a frame."""

    def change(s: np.ndarray) -> np.ndarray:
        return np.array([s[1], -2 * damping * frequency * s[1] - frequency**2 * (s[0] - aim)])

    step = 1 / 500
    for _ in range(500 * frames):
        a = change(state)
        b = change(state + step / 2 * a)
        c = change(state + step / 2 * b)
        d = change(state + step * c)
        state = state + step / 6 * (a + 2 * b + 2 * c + d)
    return state


# --- oscillators ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("frequency", "damping", "aim"), [(0.4, 0.15, 0.0), (1.3, 0.02, 0.5), (2.9, 0.7, -0.2), (0.05, 0.95, 1.0)]
)
def test_a_frame_is_the_exact_solution(frequency: float, damping: float, aim: float) -> None:
    """Two modes at once; the second swings twice as fast and has a fifth of the pull."""
    made = oscillators([frequency, 2 * frequency], [damping, damping], [0.8, 0.2])
    swing = Swing(torch.tensor([[[[0.3, -0.1], [0.2, 0.4]]]]), torch.tensor([[[[0.05, 0.2], [-0.3, 0.0]]]]))
    pull = None if aim == 0 else torch.full((1, 1, 2), aim)
    for _ in range(3):
        swing = advance(swing, made, pull)
    found = np.stack([swing.offset[0, 0].numpy(), swing.velocity[0, 0].numpy()], -1)  # mode, axis, state
    for mode, (start, share) in enumerate(
        [([(0.3, 0.05), (-0.1, 0.2)], 0.8), ([(0.2, -0.3), (0.4, 0.0)], 0.2)],
    ):
        for axis in (0, 1):
            exact = integrated(np.array(start[axis]), (mode + 1) * frequency, damping, share * aim, frames=3)
            assert np.abs(found[mode, axis] - exact).max() < 1e-4


@settings(deadline=None, max_examples=40)
@given(
    st.floats(0.3, 3.0),
    st.floats(0.1, 0.98),
    st.tuples(*[st.floats(-1, 1).map(lambda value: round(value, 3))] * 4),
)
def test_energy_never_grows_and_in_the_end_it_rests(
    frequency: float, damping: float, state: tuple[float, float, float, float]
) -> None:
    made = oscillators([frequency], [damping], [1.0])
    made = Oscillators(*(part.double() for part in made))
    swing = Swing(torch.tensor([[[state[:2]]]]).double(), torch.tensor([[[state[2:]]]]).double() * frequency)
    energies = []
    for _ in range(60):
        energies.append(float(swing.velocity.square().sum() + frequency**2 * swing.offset.square().sum()))
        swing = advance(swing, made)
    assert all(after <= before * (1 + 1e-9) for before, after in itertools.pairwise(energies))
    # After n frames the amplitude has fallen by exp(-n z w), at any frequency and damping.
    for _ in range(math.ceil(12 / (frequency * damping))):
        swing = advance(swing, made)
    assert float(swing.offset.abs().max()) < 1e-4


def test_a_state_is_spread_over_the_modes_by_their_shares() -> None:
    made = oscillators([0.4, 0.9], [0.1, 0.1], [0.7, 0.3])
    swing = Swing.of(made, torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[-0.5, 0.1]]]))
    torch.testing.assert_close(swing.offset[0, 0], torch.tensor([[0.7, 1.4], [0.3, 0.6]]))
    torch.testing.assert_close(swing.velocity[0, 0], torch.tensor([[-0.35, 0.07], [-0.15, 0.03]]))
    offset, velocity = swing.total()
    torch.testing.assert_close(offset, torch.tensor([[[1.0, 2.0]]]))
    torch.testing.assert_close(velocity, torch.tensor([[[-0.5, 0.1]]]))


def test_predicted_oscillators_start_at_the_constants_and_stay_in_range() -> None:
    head = OscillatorHead(3)
    torch.nn.init.zeros_(head.out.weight)
    found = head(torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0)))
    assert found.frequency.shape == (2, 4, 2)
    assert found.frequency[0, 0].tolist() == pytest.approx([FREQUENCY, FREQUENCY * math.e])
    assert found.damping[0, 0].tolist() == pytest.approx([DAMPING, DAMPING])
    assert found.share[0, 0].tolist() == pytest.approx([1 / (1 + math.exp(-2)), 1 / (1 + math.exp(2))])
    torch.nn.init.constant_(head.out.bias, 1e6)
    for bias in (1e6, -1e6):
        torch.nn.init.constant_(head.out.bias, bias)
        extreme = head(torch.zeros(1, 1, 3))
        assert ((extreme.damping > 0) & (extreme.damping < 1)).all()
        assert ((extreme.frequency > 0) & (extreme.frequency < math.pi)).all()  # below half a turn per frame


# --- how handles share the pixels ----------------------------------------------------------------------------------
def test_the_nearest_handle_has_nearly_all_of_a_pixel() -> None:
    """Present places (-0.5, 0) and (0.5, 0), at columns 2 and 6 of row 4; the first came there from (0, 0.5)."""
    handles = handles_of(((0, 0.5), (-0.5, -0.5)), ((0.5, 0), (0, 0)))
    shared = reach(handles, (9, 9))
    torch.testing.assert_close(shared.weights.sum(1), torch.ones(1, 9, 9))
    near, far = 1 / 0.05**4, 1 / (1 + 0.05**2) ** 2
    assert shared.weights[0, 0, 4, 2].item() == pytest.approx(near / (near + far))
    assert shared.weights[0, 1, 4, 6].item() == pytest.approx(near / (near + far))
    assert shared.weights[0, :, :, 4].flatten().tolist() == pytest.approx([0.5] * 18)  # as far from both
    assert shared.away[0, 0, :, 4, 2].tolist() == pytest.approx([0, 0], abs=1e-6)
    assert shared.away[0, 1, :, 0, 8].tolist() == pytest.approx([0.5, -1.0])
    values = spread(torch.tensor([[[1.0, 10.0], [3.0, 30.0]]]), shared.weights)
    assert values[0, :, 4, 4].tolist() == pytest.approx([2, 20])


def test_absent_handles_have_no_pixel() -> None:
    handles = handles_of(((0, 0), (0, 0)), ((0.5, 0), (0.9, -3)))
    one = handles._replace(present=torch.tensor([[1.0, 0.0]]))
    weights = reach(one, (5, 7)).weights
    assert torch.equal(weights[:, 1], torch.zeros(1, 5, 7))
    torch.testing.assert_close(weights[:, 0], torch.ones(1, 5, 7))
    nobody = handles._replace(present=torch.zeros(1, 2))
    assert torch.equal(reach(nobody, (5, 7)).weights, torch.zeros(1, 2, 5, 7))


def maps_of(handles: Handles, side: int = 9) -> Tensor:
    return handle_maps(handles, reach(handles, (side, side)), (side, side))[0]


def test_maps_of_one_handle_by_hand() -> None:
    """It was at column 6, row 3 of 9 x 9 pixels, and is at column 4, row 5."""
    found = maps_of(handles_of(((0.5, -0.25), (-0.5, 0.5)), velocity=(0.1, -0.05), held=1.0))
    assert found.shape == (MAPS, 9, 9)
    step = 0.25
    for channel, width, (column, row) in ((0, 0.05, (6, 3)), (1, 0.25, (6, 3)), (2, 0.05, (4, 5)), (3, 0.25, (4, 5))):
        bump = found[channel]
        assert bump[row, column].item() == pytest.approx(1)
        assert int(bump.argmax()) == 9 * row + column
        assert bump[row, column + 1].item() == pytest.approx(math.exp(-0.5 * (step / width) ** 2), rel=1e-4)
    carried = found[4:9].flatten(1)  # one handle has all pixels
    expected = torch.tensor([-0.5 / 0.25, 0.5 / 0.25, 0.1 / 0.05, -0.05 / 0.05, 1.0])
    torch.testing.assert_close(carried, expected[:, None].expand(-1, 81))
    assert found[9:11, 4, 8].tolist() == pytest.approx([1.0, -0.25])  # four columns to the right, one row up
    assert found[11, 5, 4].item() == pytest.approx(1)
    assert found[11, 5, 8].item() == pytest.approx(math.exp(-1))


def test_a_free_handle_is_not_held_and_of_several_the_bumps_are_the_highest() -> None:
    found = maps_of(handles_of(((-0.5, 0), (0, 0)), ((0.5, 0), (0, 0)), held=0.0))
    assert torch.equal(found[8], torch.zeros(9, 9))
    assert found[0, 4, [2, 6]].tolist() == pytest.approx([1, 1])
    assert found[1, 4, 4].item() == pytest.approx(math.exp(-0.5 * 4))  # and not their sum


def test_maps_without_a_handle_are_zero_whatever_the_padding_holds() -> None:
    handles = handles_of(((0.3, 0.2), (5, -7)), ((0, 0), (1, 1)), velocity=(3.0, 4.0))
    assert torch.equal(maps_of(handles._replace(present=torch.zeros(1, 2))), torch.zeros(MAPS, 9, 9))


def test_maps_are_sampled_between_pixels() -> None:
    maps = torch.arange(4.0).expand(1, 1, 3, 4) * torch.tensor([1.0, 10.0])[:, None, None]
    found = sample_at(maps, geometry.to_normalised(torch.tensor([[[1.5, 1.0], [3.0, 0.0], [9.0, 9.0]]]), (3, 4)))
    torch.testing.assert_close(found, torch.tensor([[[1.5, 15.0], [3.0, 30.0], [3.0, 30.0]]]))


# --- hands and forces ----------------------------------------------------------------------------------------------
def interaction(frequency: float = 0.5, damping: float = 0.2) -> Interaction:
    return Interaction(lambda places: oscillators([frequency], [damping], [1.0], places.shape[:2]), CPU)


def walk(made: Interaction, first: int, last: int) -> np.ndarray:
    """Offsets of the first handle at frames `first` to `last`."""
    found = []
    for frame in range(first, last + 1):
        made.step(frame)
        found.append(made.hands[0].offset if made.hands else NONE)
    return np.stack(found)


def test_the_curve_of_a_hand_by_hand() -> None:
    """10 s^3 - 15 s^4 + 6 s^5."""
    found = [rise_share(s) for s in (-1, 0, 0.25, 0.5, 0.75, 1, 7)]
    assert found == pytest.approx([0, 0, 0.103515625, 0.5, 0.896484375, 1, 1])


def test_a_hand_reaches_its_place_holds_it_and_lets_go() -> None:
    made, vector = interaction(), np.array([0.5, -0.25])
    made.add(3, HERE, NONE, vector, rise=4, release=9)
    np.testing.assert_allclose(
        walk(made, 4, 8), np.array([0.103515625, 0.5, 0.896484375, 1, 1])[:, None] * vector, rtol=1e-6
    )
    assert np.array_equal(made.hands[0].offset, vector)  # exactly there
    assert made.handles(8).held.tolist() == [[1.0]]
    assert made.handles(9).held.tolist() == [[0.0]]
    free = walk(made, 9, 20)
    for frames in (1, 5, 12):
        x = integrated(np.array([0.5, 0.0]), 0.5, 0.2, frames=frames)[0]
        np.testing.assert_allclose(free[frames - 1], x * np.array([1, -0.5]), atol=1e-5)
    assert free[:, 0].min() < -0.05  # it overshoots


def test_velocity_is_the_step_since_the_last_frame() -> None:
    made = interaction()
    made.add(0, HERE, NONE, np.array([0.4, 0.0]), rise=4, release=4)
    walk(made, 1, 2)
    assert made.handles(2).velocity[0, 0].tolist() == pytest.approx([0.4 * (0.5 - 0.103515625), 0])
    before = walk(made, 3, 5)[-1]
    after = walk(made, 6, 6)[-1]
    assert made.handles(6).velocity[0, 0].tolist() == pytest.approx((after - before).tolist(), abs=1e-7)
    assert made.handles(6).place[0, 0].tolist() == pytest.approx(HERE.tolist())


def test_what_has_come_to_rest_is_forgotten() -> None:
    made = interaction(0.5, 0.2)
    made.add(0, HERE, NONE, np.array([0.5, 0.0]), rise=2, release=3)
    count, last = 0, 0.0
    while made.hands and count < 200:
        count += 1
        last = float(np.hypot(*made.hands[0].offset))
        made.step(count)
    # The amplitude falls to the limits after ln(0.5 / 0.0012) / (0.2 * 0.5) frames, give or take a swing.
    assert 45 < count < 80
    assert last < 2 * RESTS[0]
    handles = made.handles(count)
    assert handles.present.tolist() == [[0.0]]
    assert handles.offset.tolist() == [[[0.0, 0.0]]]
    held = interaction()
    held.add(0, HERE, NONE, np.array([1e-5, 0.0]), rise=2, release=None)
    walk(held, 1, 50)
    assert len(held.hands) == 1  # held where it is, however near


def test_a_poke_at_a_moved_place_takes_the_handle_over() -> None:
    made = interaction()
    made.add(0, HERE, NONE, np.array([0.4, 0.0]), rise=4, release=None)
    walk(made, 1, 6)
    made.add(6, HERE + 0.9 * np.array([0, SAME]), np.array([9.0, 9.0]), np.array([0.0, 0.2]), rise=2, release=None)
    assert len(made.hands) == 1
    np.testing.assert_allclose(walk(made, 7, 8), [[0.4, 0.1], [0.4, 0.2]], rtol=1e-6)
    assert np.array_equal(made.hands[0].place, HERE)
    made.add(8, HERE + 1.1 * np.array([0, SAME]), np.array([0.1, 0.1]), np.array([0.2, 0.2]), rise=2, release=None)
    assert len(made.hands) == 2  # another place, which has moved by (0.1, 0.1) when it is taken
    made.step(9)
    np.testing.assert_allclose(made.hands[1].offset, [0.2, 0.2], rtol=1e-6)


def test_a_swinging_handle_goes_on_from_where_it_is_when_it_is_taken() -> None:
    made = interaction()
    made.add(0, HERE, NONE, np.array([0.4, 0.0]), rise=2, release=2)
    before = walk(made, 1, 6)[-1]
    made.add(6, HERE, before, np.array([0.0, 0.3]), rise=5, release=None)
    np.testing.assert_allclose(walk(made, 7, 11)[-1], before + np.array([0, 0.3]), atol=1e-6)


def test_several_at_once_and_let_go_of_all() -> None:
    made = interaction()
    places = [np.array([-0.5, 0.0]), np.array([0.5, 0.0]), np.array([0.0, 0.5])]
    for k, place in enumerate(places):
        made.add(0, place, NONE, np.array([0.1 * (k + 1), 0.0]), rise=2, release=[None, 5, None][k])
    made.push(0, np.array([0.0, -0.5]), NONE, np.array([0.3, 0.0]), duration=4)
    made.step(1)
    made.step(2)
    handles = made.handles(2)
    assert handles.held.tolist() == [[1, 1, 1, 0]]
    assert handles.offset[0, :3, 0].tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert handles.offset[0, 3, 0].item() > 0
    assert handles.present.tolist() == [[1, 1, 1, 1]]
    made.let_go(3)
    assert made.handles(3).held.tolist() == [[0, 0, 0, 0]]
    for frame in range(3, 200):
        made.step(frame)
    assert made.hands == []


def test_a_force_swells_and_falls_and_the_handle_follows_the_oscillator() -> None:
    made, vector = interaction(0.5, 0.2), np.array([0.6, -0.3])
    made.push(2, HERE, NONE, vector, duration=4)
    found, state = walk(made, 3, 12), np.zeros(2)
    for t, offset in enumerate(found):
        pull = math.sin(math.pi * (t + 0.5) / 4) ** 2 if t < 4 else 0.0
        state = integrated(state, 0.5, 0.2, pull)
        np.testing.assert_allclose(offset, state[0] * vector, atol=1e-5)
    assert not any(made.hands[0].held(frame) for frame in range(20))
    assert [made.hands[0].pushed(frame) for frame in (2, 6, 7)] == [True, True, False]


def test_ten_times_the_force_moves_ten_times_as_far() -> None:
    paths = []
    for length in (1, 10):
        made = interaction()
        made.push(0, HERE, NONE, np.array([0.02, 0.01]) * length, duration=6)
        paths.append(walk(made, 1, 12))
    np.testing.assert_allclose(paths[1], 10 * paths[0], rtol=1e-4, atol=1e-7)


def test_a_weak_force_is_not_at_rest_before_it_has_passed() -> None:
    made = interaction()
    made.push(0, HERE, NONE, np.array([1e-4, 0.0]), duration=6)
    for frame in range(1, 7):
        made.step(frame)
        assert len(made.hands) == 1
    made.step(7)
    assert made.hands == []


def test_a_push_lets_go_of_what_is_held_and_a_hand_ends_a_push() -> None:
    made = interaction()
    made.add(0, HERE, NONE, np.array([0.4, 0.0]), rise=2, release=None)
    walk(made, 1, 3)
    made.push(3, HERE, NONE, np.array([0.0, 0.5]), duration=4)
    assert [made.hands[0].held(3), made.hands[0].pushed(4)] == [False, True]
    at = walk(made, 4, 5)[-1]
    made.add(5, HERE, NONE, np.array([0.1, 0.0]), rise=1, release=None)
    np.testing.assert_allclose(walk(made, 6, 30)[-1], at + np.array([0.1, 0]), atol=1e-6)
    assert made.handles(30).held.tolist() == [[1.0]]
