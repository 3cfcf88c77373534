"""Work in several processes. This file imports little, because every process imports it again."""

import os
from functools import partial

import pytest

from refusals import refuses
from stillmotion.data.pool import map_in_order


def square_or_die(number: int) -> int:
    if number == 2:
        os._exit(1)
    if number == 5:
        raise ValueError("five")
    return number * number


def minus(number: int) -> int:
    return -number


@pytest.mark.slow
def test_a_crash_takes_only_its_own_item_along() -> None:
    # More items than are under way at a time, so that work goes on together after the crash.
    items = [0, 1, 2, 3, 4, 6, 7, 8]
    assert list(map_in_order(square_or_die, items, 2, minus)) == [0, 1, -2, 9, 16, 36, 49, 64]


@pytest.mark.slow
def test_an_exception_in_a_process_is_raised_here() -> None:
    results = map_in_order(square_or_die, [1, 5], 2, minus)
    assert next(results) == 1
    refuses("five", next, results, error=ValueError)


def test_mapping_in_this_process_is_plain_and_lazy() -> None:
    results = map_in_order(partial(divmod, 7), [1, 2, 0], 1, minus)
    assert next(results) == (7, 0)
    assert next(results) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        next(results)
