"""Layers and sheets of pokes, pixel by pixel."""

import numpy as np
import pytest
import torch

from pokes_tools import TINY_FIELDS, field_network, make_rigid, poked_clip, textured
from stillmotion.systems.pokes.visualization import (
    HAND,
    draw_displacement,
    draw_handles,
    draw_heat,
    draw_neighbours,
    draw_parts,
    moment_sheet,
    splat,
)

GREY = np.full((60, 80, 3), 100, np.uint8)


def test_a_handle_is_a_ring_a_line_and_a_disc() -> None:
    drawn = draw_handles(GREY, np.array([[20.0, 30.0, 30.0, 0.0]]))
    coloured = (drawn == HAND).all(-1)
    assert coloured[30, 20:51].all()  # from the one to the other
    assert coloured[28:33, 49:52].all()  # the disc, filled
    assert coloured[27, 20]  # the ring, three pixels away
    assert not coloured[29, 19]  # which is empty
    assert coloured.sum() < 120
    assert (drawn[~coloured] == 100).all()
    assert (GREY == 100).all()  # drawn on a copy
    assert np.array_equal(draw_handles(GREY, np.zeros((0, 4))), GREY)


def test_the_hue_of_a_displacement_is_where_things_have_gone() -> None:
    """Backward: a displacement of (-8, 0) is content that went to the right, red, in full brightness."""
    field = np.zeros((4, 4, 2), np.float32)
    field[0, 0], field[0, 1], field[0, 2], field[0, 3] = (-8, 0), (8, 0), (0, -8), (-4, 0)
    drawn = draw_displacement(field, side=4)
    assert drawn.shape == (4, 4, 3)
    right, left, down, half = (drawn[0, k].astype(int) for k in range(4))
    assert right[0] == 255
    assert right[1] == right[2] < 80  # red
    assert left[1] == pytest.approx(left[2], abs=12)  # cyan, the opposite
    assert left[0] < 80
    assert down[1] > down[0] > down[2]  # a quarter of the way: between yellow and green
    assert half[0] == pytest.approx(128, abs=1)
    assert not drawn[1:].any()
    assert draw_displacement(field * 5, side=4)[0, 0, 0] == 255  # no brighter than that
    large = draw_displacement(field, side=16)
    assert large.shape == (16, 16, 3)
    assert (large[:4, :4] == right).all()


@pytest.mark.parametrize("largest", [1.0, 0.4])
def test_a_heat_map_is_red_where_values_are_near_their_largest(largest: float) -> None:
    values = np.zeros((60, 80))
    values[:, 40:] = largest
    values[0, 0] = -3  # as 0
    drawn = draw_heat(GREY, values, (10.0, 30.0)).astype(int)
    assert drawn[50, 60, 0] > drawn[50, 60, 2] + 40
    assert drawn[50, 5, 2] >= drawn[50, 5, 0]
    assert (drawn[0, 0] == drawn[50, 5]).all()
    assert (draw_heat(GREY, 0 * values, (10.0, 30.0))[50, 60] == drawn[50, 5]).all()
    assert tuple(drawn[30, 10]) == HAND


def test_values_are_spread_over_the_four_pixels_around_a_place() -> None:
    """1 at (0.25, 0.5), 2 at the last pixel, 4 half outside, and 8 far outside."""
    values, places = torch.zeros(1, 2, 2, 1), torch.full((1, 2, 2, 2), 99.0)
    values[0, :, :, 0] = torch.tensor([[1.0, 2.0], [4.0, 8.0]])
    places[0, 0, 0], places[0, 0, 1], places[0, 1, 0] = (
        torch.tensor(at) for at in ([0.25, 0.5], [1.0, 1.0], [-0.5, 0.0])
    )
    found = splat(values, places)[0, :, :, 0]
    assert found.flatten().tolist() == pytest.approx([0.375 + 2, 0.125, 0.375, 0.125 + 2])


def test_parts_have_colours_of_their_own_and_the_rest_is_the_still() -> None:
    labels = np.zeros((60, 80), np.uint8)
    labels[:20], labels[20:40] = 1, 2
    drawn = draw_parts(GREY, labels, 2)
    assert (drawn[40:] == 100).all()
    colours = {tuple(colour) for colour in drawn[:40].reshape(-1, 3)}
    assert len(colours) == 2
    first = drawn[0, 0].astype(int)  # hue 0 is red: 0.45 * 100 + 0.55 * (255, 35, 35)
    assert first.tolist() == pytest.approx([185, 64, 64], abs=1)


def test_neighbours_stand_beside_the_still_in_its_size() -> None:
    row = draw_neighbours(GREY, [np.full((30, 40, 3), 7, np.uint8), np.full((60, 80, 3), 9, np.uint8)])
    assert row.shape == (60, 240, 3)
    assert (row[:, :80] == 100).all()
    assert (row[:, 80:160] == 7).all()
    assert (row[:, 160:] == 9).all()


@pytest.mark.parametrize("clip", [poked_clip(frames=11), textured((1, 1), 11)], ids=["known", "estimated"])
def test_a_sheet_has_true_frames_over_those_predicted(clip: object) -> None:
    """Three frames of a clip of eleven, as far apart as they can be: 0, 5 and 10."""
    model = make_rigid(field_network()).train()
    sheet = moment_sheet(model, TINY_FIELDS, [clip], shown=3, scale=2)
    side = clip.frames.shape[1]  # type: ignore[attr-defined]
    assert sheet.shape == (4 * side, 6 * side, 3)
    assert model.training
    for column, t in enumerate((0, 5, 10)):
        part = sheet[: 2 * side : 2, 2 * side * column : 2 * side * (column + 1) : 2]
        np.testing.assert_array_equal(part, clip.frames[t])  # type: ignore[attr-defined]
    below = sheet[2 * side :: 2, : 2 * side : 2]
    np.testing.assert_array_equal(below, clip.frames[0])  # type: ignore[attr-defined]


def test_what_is_predicted_in_a_sheet_has_moved_with_the_true_handle() -> None:
    clip = poked_clip(frames=11)
    sheet = moment_sheet(make_rigid(field_network()), TINY_FIELDS, [clip], shown=2, scale=1)
    made = sheet[32:, 32:].astype(int)
    square = made[clip.tracks["parts"][10] > 0]
    assert np.abs(square - [240, 200, 60]).max() <= 2
    assert torch.is_grad_enabled()
