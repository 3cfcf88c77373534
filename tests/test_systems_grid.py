"""Several roll-outs in one picture."""

import numpy as np
import pytest

from refusals import refused
from stillmotion.options import Control
from stillmotion.systems.base import Rollout, Step
from stillmotion.systems.grid import MOST, Grid


class Counting(Rollout):
    """Frames of one value, `start`, `start` + 1, ...; done after so many."""

    fps = 10.0

    def __init__(self, start: int, length: int = 2):
        self.value, self.left, self.sent, self.closed = start, length, [], False  # type: ignore[var-annotated]

    def __next__(self) -> Step:
        frame = np.full((2, 3, 3), self.value, np.uint8)
        self.left, self.value = self.left - 1, self.value + (self.left > 1)
        return Step(frame, {"why": frame}, {"value": frame[0, 0]})

    def send(self, control: Control) -> None:
        self.sent.append(control)

    @property
    def done(self) -> bool:
        return self.left <= 0

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(("count", "size"), [(1, (2, 3)), (2, (2, 6)), (3, (4, 6)), (5, (4, 9)), (7, (6, 9))])
def test_frames_stand_in_rows_from_left_to_right(count: int, size: tuple[int, int]) -> None:
    grid = Grid([Counting(10 * (n + 1)) for n in range(count)])
    step = next(grid)
    assert step.frame.shape == (*size, 3)
    values = step.frame[::2, ::3, 0].flatten().tolist()
    assert values == [10 * (n + 1) for n in range(count)] + [0] * (len(values) - count)
    assert (step.layers["why"] == 10).all()
    assert step.facts["value"][0] == 10
    assert grid.fps == 10


def test_it_is_done_when_all_are_and_hands_everything_on() -> None:
    rollouts = [Counting(1, length=1), Counting(5, length=3)]
    with Grid(rollouts) as grid:
        control = Control()
        grid.send(control)
        shown = []
        while not grid.done:
            shown.append(next(grid).frame[0, ::3, 0].tolist())
    assert shown == [[1, 5], [1, 6], [1, 7]]
    assert all(rollout.sent == [control] and rollout.closed for rollout in rollouts)


def test_a_grid_of_grids() -> None:
    grid = Grid([Grid([Counting(1), Counting(2)]), Grid([Counting(3), Counting(4)])])
    assert next(grid).frame[0, ::3, 0].tolist() == [1, 2, 3, 4]


def test_too_many_and_none_are_refused() -> None:
    assert len(Grid([Counting(0)] * MOST).rollouts) == MOST
    assert refused(Grid, [Counting(0)] * (MOST + 1)) == "A grid holds 1 to 100 animations, not 101."
    assert "not 0" in refused(Grid, [])
