"""Handles: oscillators against a fine integration, how handles share pixels, hands and forces frame by frame."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pokes_tools import handles_of, oscillators
from stillmotion.systems.pokes.handles import (
    MAPS,
    Handles,
    Interaction,
    Oscillators,
    Swing,
    advance,
    handle_maps,
    reach,
    rise_share,
)

CPU = torch.device("cpu")


def integrated(rate: float, ratio: float, offset: float, velocity: float, pull: float, steps: int = 20_000) -> float:
    """x after a frame of x'' + 2 z w x' + w^2 (x - u) = 0, by small steps (semi-implicit Euler)."""
    h = 1 / steps
    for _ in range(steps):
        velocity += h * (-2 * ratio * rate * velocity - rate**2 * (offset - pull))
        offset += h * velocity
    return offset


@pytest.mark.parametrize("pull", [0.0, 0.3])
@pytest.mark.parametrize(("rate", "ratio"), [(0.3, 0.1), (1.2, 0.6), (0.8, 0.95)])
def test_a_frame_is_the_solution_of_the_damped_oscillator(rate: float, ratio: float, pull: float) -> None:
    modes = oscillators([rate], [ratio], [1.0])
    swing = Swing(torch.tensor([[[[0.2, 0.0]]]]), torch.tensor([[[[-0.1, 0.0]]]]))
    found = advance(swing, modes, torch.tensor([[[pull, 0.0]]])).total()[0]
    assert float(found[0, 0, 0]) == pytest.approx(integrated(rate, ratio, 0.2, -0.1, pull), abs=1e-4)
    assert float(found[0, 0, 1]) == 0


def test_without_a_force_energy_falls_until_all_rests() -> None:
    modes = oscillators([0.5, 1.5], [0.1, 0.3], [0.7, 0.3])
    swing = Swing.of(modes, torch.tensor([[[0.2, -0.1]]]), torch.tensor([[[0.05, 0.0]]]))
    assert torch.allclose(swing.total()[0], torch.tensor([[[0.2, -0.1]]]))
    assert torch.allclose(swing.offset[0, 0, 1], torch.tensor([0.06, -0.03]))  # the mode's own share
    energies = []
    for _ in range(200):
        squared = modes.frequency[..., None] ** 2
        energies.append(float((swing.velocity**2 + squared * swing.offset**2).sum()))
        swing = advance(swing, modes)
    assert all(later < before for before, later in itertools.pairwise(energies))
    assert float(swing.total()[0].abs().max()) < 1e-4


def test_handles_share_pixels_and_absent_ones_have_none() -> None:
    two = handles_of(((-0.5, 0.0), (0.0, 0.0)), ((0.5, 0.0), (0.0, 0.0)))
    weights = reach(two, (9, 9)).weights
    assert torch.allclose(weights.sum(1), torch.ones(1, 9, 9))
    assert float(weights[0, 0, 4, 0]) > 0.9  # far left is the first one's
    assert float(weights[0, 0, 4, 4]) == pytest.approx(0.5)
    gone = two._replace(present=torch.tensor([[1.0, 0.0]]))
    assert torch.allclose(reach(gone, (9, 9)).weights[0, 0], torch.ones(9, 9))
    nobody = two._replace(present=torch.zeros(1, 2))
    assert float(reach(nobody, (9, 9)).weights.abs().max()) == 0


def test_maps_peak_where_the_handle_was_and_is_and_carry_its_offset() -> None:
    one = handles_of(((-0.5, 0.0), (0.5, 0.25)), velocity=(0.05, -0.1))
    maps = handle_maps(one, reach(one, (9, 9)), (9, 9))[0]
    assert len(maps) == MAPS
    assert np.unravel_index(int(maps[0].argmax()), (9, 9)) == (4, 2)  # x = -0.5 is column 2 of 9, y = 0 row 4
    assert np.unravel_index(int(maps[2].argmax()), (9, 9)) == (5, 4)
    assert torch.allclose(maps[4:6, 0, 0], torch.tensor([2.0, 1.0]))  # offset over a quarter
    assert torch.allclose(maps[6:8, 0, 0], torch.tensor([1.0, -2.0]))  # velocity over a twentieth
    assert float(maps[8, 0, 0]) == 1
    assert torch.allclose(maps[9:11, 5, 4], torch.zeros(2), atol=1e-6)  # relative to the handle
    assert torch.allclose(maps[9:11, 4, 8], torch.tensor([1.0, -0.25]), atol=1e-6)


def test_padding_changes_no_map() -> None:
    one = handles_of(((0.2, 0.1), (0.1, 0.0)))
    padded = Handles(
        *(torch.cat([part, torch.full_like(part, 7.0)], 1) for part in one[:4]), torch.tensor([[1.0, 0]])
    )
    for size in ((5, 5), (8, 8)):
        expected = handle_maps(one, reach(one, size), size)
        assert torch.allclose(handle_maps(padded, reach(padded, size), size), expected, atol=1e-6)
    absent = one._replace(present=torch.zeros(1, 1))
    assert float(handle_maps(absent, reach(absent, (5, 5)), (5, 5)).abs().max()) == 0


def swings(rate: float = 0.7, ratio: float = 0.2) -> "Interaction":
    """Handles that all swing alike."""

    def found(places: Tensor) -> Oscillators:
        return oscillators([rate], [ratio], [1.0], places.shape[:2])

    return Interaction(found, CPU)


def test_minimum_jerk_begins_and_ends_at_rest() -> None:
    assert [rise_share(time) for time in (-1, 0, 0.5, 1, 2)] == [0, 0, 0.5, 1, 1]
    assert rise_share(0.01) < 1e-4


def test_a_hand_arrives_holds_and_lets_go() -> None:
    acting, place, vector = swings(), np.array([0.1, 0.2]), np.array([0.3, -0.1])
    acting.add(0, place, np.zeros(2), vector, rise=4, release=8)
    offsets = []
    for frame in range(1, 12):
        acting.step(frame)
        offsets.append(acting.hands[0].offset)
        assert acting.hands[0].held(frame) == (frame < 8)
    assert np.allclose(offsets[1], 0.5 * vector)  # half of the way at half of the time
    assert np.allclose(offsets[3], vector)
    assert np.allclose(offsets[6], vector)
    assert np.linalg.norm(offsets[8]) < np.linalg.norm(vector)
    for frame in range(12, 200):
        acting.step(frame)
    assert acting.hands == []
    assert float(acting.handles(200).present.sum()) == 0


def test_a_place_that_is_there_is_taken_over_with_its_motion() -> None:
    acting = swings()
    acting.add(0, np.zeros(2), np.zeros(2), np.array([0.2, 0.0]), rise=2, release=2)
    for frame in range(1, 4):
        acting.step(frame)
    swinging = acting.hands[0].offset
    acting.add(3, np.array([0.01, 0.0]), np.array([9.0, 9.0]), np.array([0.0, 0.1]), rise=1, release=None)
    assert len(acting.hands) == 1
    acting.step(4)
    assert np.allclose(acting.hands[0].offset, swinging + np.array([0.0, 0.1]), atol=1e-6)
    acting.add(4, np.array([0.5, 0.0]), np.zeros(2), np.array([0.0, 0.1]), rise=1, release=None)
    acting.step(5)
    assert len(acting.hands) == 2
    assert acting.handles(5).held.tolist() == [[1, 1]]
    acting.let_go(6)
    assert acting.handles(6).held.tolist() == [[0, 0]]


def test_a_force_pushes_in_proportion_and_passes() -> None:
    peaks = []
    for length in (0.02, 0.2):
        acting = swings()
        acting.push(0, np.zeros(2), np.zeros(2), np.array([length, 0.0]), duration=4)
        offsets = []
        for frame in range(1, 60):
            acting.step(frame)
            offsets += [hand.offset[0] for hand in acting.hands]
        assert min(offsets) < 0 < max(offsets)
        peaks.append(max(offsets))
        assert acting.hands == [] or abs(offsets[-1]) < 0.1 * length
    assert peaks[1] == pytest.approx(10 * peaks[0], rel=1e-3)
    assert math.isfinite(peaks[1])
