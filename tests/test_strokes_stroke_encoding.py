"""Strokes as maps: the release's grey pixels (sheet 3.1, checklist 3 to 6), and Gaussian dots."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from refusals import refuses
from stillmotion.systems.strokes.config import PRESETS, StrokesConfig
from stillmotion.systems.strokes.stroke_encoding import stroke_maps, stroke_step, whole_stroke
from strokes_tools import changed

GREY = changed(PRESETS["release"], size=64)
GAUSSIAN = changed(PRESETS["small"], stroke__lookahead=0)
LOOKAHEAD = changed(PRESETS["small"], stroke__lookahead=4)


def line(count: int, start: tuple[float, float] = (5, 9), by: tuple[float, float] = (2, 1)) -> Tensor:
    """One stroke, 1 x count x 2, from `start` on by a fixed displacement; (x, y)."""
    return torch.tensor([[[start[0] + by[0] * i, start[1] + by[1] * i] for i in range(count)]]).float()


def level(i: int) -> float:
    """The sheet's table: grey 8i on 0 to 255, mapped to [-1, 1]."""
    return 2 * 8 * i / 255 - 1


# --- grey ----------------------------------------------------------------------------------------------------------
def test_seventeen_points_are_single_pixels_of_rising_grey_on_white() -> None:
    """Checklist 3."""
    points = line(17)
    picture = whole_stroke(points, GREY)
    expected = torch.ones(64, 64)
    for i in range(17):
        expected[9 + i, 5 + 2 * i] = level(i)  # row y, column x
    torch.testing.assert_close(picture[0, 0], expected)
    assert picture.shape == (1, 1, 64, 64)
    assert picture.min() == -1
    assert picture[0, 0, 25, 37].item() == pytest.approx(0.0039, abs=5e-5)  # point 16
    assert picture[0, 0, 17, 21].item() == pytest.approx(-0.4980, abs=5e-5)  # point 8


@pytest.mark.parametrize("t", [0, 7, 15])
def test_a_step_is_two_pixels_with_the_levels_they_have_in_the_whole(t: int) -> None:
    """Checklist 4."""
    points = line(17)
    step, whole = stroke_step(points, t, GREY), whole_stroke(points, GREY)
    drawn = step < 1
    assert int(drawn.sum()) == 2
    assert torch.equal(step[drawn], whole[drawn])
    assert sorted(step[drawn].tolist()) == pytest.approx([level(t), level(t + 1)], abs=1e-6)


def test_of_points_on_one_pixel_the_later_is_seen() -> None:
    """Checklist 5, whatever order memory is written in: the third point comes back to the first one's pixel."""
    points = torch.tensor([[[3.0, 4.0], [8.0, 8.0], [3.4, 3.6]]])
    picture = whole_stroke(points, GREY)[0, 0]
    assert picture[4, 3].item() == pytest.approx(level(2))
    assert int((picture < 1).sum()) == 2
    resting = torch.full((1, 17, 2), 30.0)
    assert whole_stroke(resting, GREY)[0, 0, 30, 30].item() == pytest.approx(level(16), abs=1e-6)
    assert int((stroke_step(resting, 3, GREY) < 1).sum()) == 1  # at most two


def test_thirty_two_points_fit_and_no_more() -> None:
    """Checklist 6."""
    picture = whole_stroke(line(32, by=(1, 1)), GREY)
    assert picture[0, 0, 9 + 31, 5 + 31].item() == pytest.approx(0.9451, abs=5e-5)
    refuses("33 points cannot be drawn in grey, which has levels for 32", whole_stroke, line(33, by=(1, 1)), GREY)
    refuses(r"stroke\.encoding=gaussian", stroke_step, line(33, by=(1, 1)), 0, GREY)


@pytest.mark.parametrize("outside", [(-0.6, 5), (5, -0.6), (63.5, 5), (5, 64), (1e9, 5)])
def test_a_point_outside_is_refused(outside: tuple[float, float]) -> None:
    """Checklist 6; the first pixel reaches from -0.5 to 0.5."""
    inside = torch.tensor([[[-0.5, 63.4], [5.0, 5.0]]])
    assert whole_stroke(inside, GREY)[0, 0, 63, 0].item() == -1
    refuses("leaves the picture of 64 x 64", whole_stroke, torch.tensor([[[5.0, 5.0], outside]]), GREY)


@pytest.mark.parametrize("config", [GREY, GAUSSIAN], ids=["grey", "gaussian"])
def test_what_is_no_number_is_refused(config: StrokesConfig) -> None:
    points = line(5)
    points[0, 3, 1] = math.nan
    refuses("not a number", whole_stroke, points, config)


@pytest.mark.parametrize("config", [GREY, GAUSSIAN, LOOKAHEAD], ids=["grey", "gaussian", "lookahead"])
def test_each_stroke_of_a_batch_is_drawn_by_itself(config: StrokesConfig) -> None:
    both = torch.cat([line(9), line(9, start=(40, 3), by=(-3, 5))])
    for draw in (lambda p: whole_stroke(p, config, 2), lambda p: stroke_step(p, 2, config)):
        torch.testing.assert_close(draw(both), torch.cat([draw(both[:1]), draw(both[1:])]))


@pytest.mark.parametrize("t", [-1, 4])
def test_a_step_that_is_not_there_is_a_mistake_of_the_caller(t: int) -> None:
    refuses("steps 0 to 3", stroke_step, line(5), t, GAUSSIAN, error=ValueError)


# --- Gaussian ------------------------------------------------------------------------------------------------------
def test_gaussian_maps_of_one_step_by_hand() -> None:
    """Two points far apart, at size 64 with sigma 2: next to a point only that one is felt."""
    points = torch.tensor([[[10.0, 20.0], [50.0, 40.0], [50.0, 40.0]]])
    occupancy, time, across, down, origin = stroke_step(points, 0, GAUSSIAN)[0]
    assert occupancy[20, 10].item() == pytest.approx(1)
    assert occupancy[20, 12].item() == pytest.approx(math.exp(-0.5))
    assert occupancy[41, 50].item() == pytest.approx(math.exp(-1 / 8))
    assert occupancy[5, 60].item() == pytest.approx(0, abs=1e-6)
    # Without a window time counts in training clips, of which 15 steps are one.
    assert time[20, 10].item() == pytest.approx(0, abs=1e-6)
    assert time[40, 50].item() == pytest.approx(1 / 15)
    # The way to the next point in units of 64 / 16 = 4 pixels: (40, 20) from the first, none from the second.
    assert across[20, 10].item() == pytest.approx(10)
    assert down[20, 10].item() == pytest.approx(5)
    assert across[40, 50].item() == pytest.approx(0, abs=1e-6)
    assert origin[20, 10].item() == pytest.approx(1)
    assert origin[40, 50].item() == pytest.approx(0, abs=1e-6)


def test_points_on_one_place_share_their_time_and_none_is_lost() -> None:
    """Three points at one place, with a window of 4: times 0, 1/4 and 2/4; grey would show the last alone."""
    points = torch.tensor([[[30.0, 30.0], [30.0, 30.0], [30.0, 30.0], [34.0, 30.0]]])
    _, time, across, _, _ = whole_stroke(points[:, :3], LOOKAHEAD, 0)[0]
    assert time[30, 30].item() == pytest.approx((0 + 1 / 4 + 2 / 4) / 3)
    assert across[30, 30].item() == pytest.approx(0, abs=1e-6)
    _, _, across, _, _ = stroke_step(points, 2, LOOKAHEAD)[0]
    assert across[30, 30].item() == pytest.approx(1)  # 4 pixels; the last point goes on as it came


def test_a_gaussian_dot_lies_between_pixels() -> None:
    for x in (20.0, 20.3, 20.5, 20.9):
        occupancy = stroke_step(torch.tensor([[[x, 31.2], [x, 31.2]]]), 0, GAUSSIAN)[0, 0]
        columns = torch.arange(64.0)
        assert ((occupancy.sum(0) * columns).sum() / occupancy.sum()).item() == pytest.approx(x, abs=1e-3)


@pytest.mark.parametrize("size", [64, 128])
def test_a_gaussian_dot_grows_with_the_picture(size: int) -> None:
    occupancy = stroke_step(torch.full((1, 2, 2), 20.0), 0, changed(GAUSSIAN, size=size))[0, 0]
    assert occupancy[20, 20 + size // 32].item() == pytest.approx(math.exp(-0.5))


def test_with_lookahead_s_holds_the_coming_points_and_time_is_relative() -> None:
    points = line(12, start=(4, 4), by=(5, 5))
    occupancy, time, _, _, origin = whole_stroke(points, LOOKAHEAD, 3)[0]
    seen = [occupancy[4 + 5 * i, 4 + 5 * i].item() > 0.9 for i in range(12)]
    assert seen == [3 <= i <= 7 for i in range(12)]
    assert [round(time[4 + 5 * i, 4 + 5 * i].item(), 2) for i in range(3, 8)] == [0, 0.25, 0.5, 0.75, 1]
    assert origin[4, 4].item() == pytest.approx(1)  # where the object lies in the still, at every step


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 210), st.data())
def test_with_lookahead_s_does_not_depend_on_the_time_since_the_start(count: int, data: Any) -> None:
    """Any length: step t of a long stroke looks like step 0 of the stroke that begins there, but for `origin`."""
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    points = torch.rand((1, count, 2), generator=generator) * 90 - 13  # some outside
    t = data.draw(st.integers(0, count - 2))
    for late, early in (
        (whole_stroke(points, LOOKAHEAD, t), whole_stroke(points[:, t:], LOOKAHEAD, 0)),
        (stroke_step(points, t, LOOKAHEAD), stroke_step(points[:, t:], 0, LOOKAHEAD)),
    ):
        torch.testing.assert_close(late[:, :4], early[:, :4])
        assert torch.isfinite(late).all()
        assert 0 <= late[:, 0].min() <= late[:, 0].max() <= 1


def test_the_stroke_as_a_whole_stays_the_same_at_every_step() -> None:
    for config in (GREY, GAUSSIAN):
        points = line(9)
        assert torch.equal(whole_stroke(points, config, 0), whole_stroke(points, config, 7))


@pytest.mark.parametrize(("wanted", "count"), [("both", 2), ("whole", 1), ("step", 1)])
def test_the_ablations_leave_one_of_the_maps_out(wanted: str, count: int) -> None:
    maps = stroke_maps(line(9), 3, changed(LOOKAHEAD, stroke__input=wanted))
    assert len(maps) == count
    if wanted != "step":
        assert torch.equal(maps[0], whole_stroke(line(9), LOOKAHEAD, 3))
    if wanted != "whole":
        assert torch.equal(maps[-1], stroke_step(line(9), 3, LOOKAHEAD))
