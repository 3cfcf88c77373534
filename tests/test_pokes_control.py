"""Pokes and impulses as a person gives them: all forms, what is refused, text."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import stillmotion
from refusals import refused
from stillmotion import Impulse, Poke
from stillmotion.systems.pokes import MOST, Push

MOVE = Push(8.0, 10.0, 6.0, -2.0)


# --- forms ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "moves",
    [
        "8,10>14,8",
        " 8 , 10 > 14. , +8 @ 0 ",
        "8,10>14,8@0",
        ["8,10>14,8"],
        ((8, 10), (14, 8)),
        [[8, 10], [14, 8]],
        [((8, 10), (14, 8))],
        ((8, 10), (14, 8), 0),
        np.array([[8, 10], [14, 8]]),
        np.array([[[8, 10], [14, 8]]]),
        MOVE,
        [MOVE],
    ],
    ids=str,
)
def test_every_form_of_one_poke_is_the_same(moves: Any) -> None:
    assert Poke(moves).moves == (MOVE,)


@pytest.mark.parametrize(
    "pushes",
    [
        "8,10:6,-2",
        ["8,10:6,-2"],
        ((8, 10), (6, -2)),
        [((8, 10), (6, -2))],
        np.array([[8, 10], [6, -2]]),
        MOVE,
        [MOVE],
    ],
    ids=str,
)
def test_every_form_of_one_impulse_is_the_same(pushes: Any) -> None:
    """The second pair is a vector here, and a place in a poke."""
    assert Impulse(pushes).pushes == (MOVE,)
    assert Impulse(pushes).duration == 6


@pytest.mark.parametrize(
    "moves",
    [
        ["8,10>14,8@12", "1,2>3.5,.5"],
        [((8, 10), (14, 8), 12), ((1, 2), (3.5, 0.5))],
        [((8, 10), (14, 8), 12), "1,2>3.5,0.5"],
        [MOVE._replace(frame=12), ((1, 2), (3.5, 0.5), 0)],
    ],
    ids=["text", "pairs", "both", "push"],
)
def test_several_keep_their_order_and_frames(moves: Any) -> None:
    assert Poke(moves).moves == (MOVE._replace(frame=12), Push(1.0, 2.0, 2.5, -1.5))


@pytest.mark.parametrize("count", [2, 3])
def test_pairs_of_pairs_are_several_pokes_and_not_one(count: int) -> None:
    pairs = [((k, 1), (k + 2, 4)) for k in range(count)]
    expected = tuple(Push(float(k), 1.0, 2.0, 3.0) for k in range(count))
    assert Poke(pairs).moves == expected
    assert Poke(np.array(pairs)).moves == expected
    assert Poke(Poke(pairs).moves).moves == expected


def test_a_control_keeps_its_own_pokes_and_its_times() -> None:
    given_moves = [[[8, 10], [14, 8]]]
    poke = Poke(given_moves, rise=3, release=7)
    given_moves[0][0][0] = 99
    assert poke.moves == (MOVE,)
    assert (poke.rise, poke.release) == (3, 7)
    assert (Poke("1,2>3,4").rise, Poke("1,2>3,4").release) == (None, None)
    assert stillmotion.Poke is Poke
    assert stillmotion.Impulse is Impulse


def test_as_many_as_there_may_be() -> None:
    assert len(Poke(["1,2>3,4"] * MOST).moves) == 100


# --- what is refused -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("moves", "word"),
    [
        ([], "moves must be 1 to 100 pokes, not 0"),
        (["1,2>3,4"] * 1000, "moves must be 1 to 100 pokes, not 1000"),
        ("", "must read x,y>x,y or x,y>x,y@frame"),
        ("here", "'here' must read x,y>x,y"),
        ("1,2:3,4", "must read x,y>x,y"),
        ("1,2>3", "must read"),
        ("1,2>3,4,5", "must read"),
        ("1;2>3;4", "must read"),
        ("1,2>3,4@-1", "must read"),
        ("1,2>3,4@1.5", "must read"),
        ("1,2>3,4@", "must read"),
        ("nan,2>3,4", "must read"),
        ("inf,2>3,4", "must read"),
        ("1e5,2>3,4", "must read"),
        ("1,2>3,4\n5,6>7,8", "must read"),
        (["1,2>3,4", "5"], "'5' must read"),
        (((math.nan, 2), (3, 4)), "must be finite, and below a million pixels"),
        (((1, 2), (3, math.inf)), "must be finite"),
        (((1, 2), (-math.inf, 4)), "must be finite"),
        (((1e6, 2), (3, 4)), "below a million"),
        ("9999999,2>3,4", "below a million"),
        (((10**400, 2), (3, 4)), "must be"),
        (((1, 2), (3, 4), -1), "frame of a poke must be at least 0, not -1"),
        (((1, 2), (3, 4), math.nan), "must be"),
        (((1, 2), (3, 4), math.inf), "must be"),
        (Push(1, 2, 3, 4, -5), "at least 0, not -5"),
        (Push(1, 2, 0, 0), "poke at 1,2 has no length"),
        (Push(1, math.nan, 3, 4), "must be finite"),
        (Push("a", 2, 3, 4), "must be"),  # type: ignore[arg-type]
        (Push(1, 2, None, 4), "must be"),  # type: ignore[arg-type]
        (Push(1, 2, 3, 4, "soon"), "must be"),  # type: ignore[arg-type]
        ("5,6>5,6", "The poke at 5,6 has no length, so nothing would move; give it another end."),
        (((5, 6), (5.0, 6.0)), "no length"),
        (((1, 2), (3, 4, 5)), "must be"),
        ([1, 2, 3, 4], "must be"),
        ((("a", "b"), ("c", "d")), "must be"),
        (np.array([["a", "b"], ["c", "d"]]), "must be"),
        ([None], "None must be"),
        (None, "None must be"),
        (7, "7 must be"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_poke_is_refused_in_one_sentence(moves: Any, word: str) -> None:
    message = refused(Poke, moves)
    assert word in message
    assert message.count(". ") == 0


@pytest.mark.parametrize(
    ("pushes", "word"),
    [
        ("1,2>3,4", "must read x,y:dx,dy or x,y:dx,dy@frame"),
        ("5,6:0,0", "no length"),
        (((1, 2), (0, 0)), "no length"),
        (((1, 2), (math.nan, 0)), "finite"),
        (["1,2:3,4"] * 101, "pushes must be 1 to 100 pokes, not 101"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_impulse_is_refused(pushes: Any, word: str) -> None:
    assert word in refused(Impulse, pushes)


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "3"])
def test_frames_of_a_control_are_at_least_one(value: Any) -> None:
    for name in ("rise", "release"):
        assert refused(Poke, "1,2>3,4", **{name: value}).startswith(f"{name} must be at least 1")
        assert getattr(Poke("1,2>3,4", **{name: 1}), name) == 1
    assert refused(Impulse, "1,2:3,4", duration=value).startswith("duration must be at least 1")


# --- text ----------------------------------------------------------------------------------------------------------
numbers = st.integers(-999_999, 999_999).map(lambda value: value / 100)
frames = st.integers(0, 999_999)


@given(numbers, numbers, numbers, numbers, frames)
def test_text_is_read_back(x: float, y: float, a: float, b: float, frame: int) -> None:
    """Both forms, with and without a frame."""
    place = f"{x:.2f},{y:.2f}"
    if (x, y) != (a, b):
        found = Poke([f"{place}>{a:.2f},{b:.2f}@{frame}", f"{place} > {a},{b}"])
        expected = Push(x, y, a - x, b - y, frame)
        assert found.moves == (expected, expected._replace(frame=0))
    if (a, b) != (0, 0):
        pushed = Impulse([f"{place}:{a:.2f},{b:.2f}@{frame}", f"{place}:{a},{b}"])
        assert pushed.pushes == (Push(x, y, a, b, frame), Push(x, y, a, b))


@given(st.text(alphabet="0123456789.,>:@-+ naife\n", max_size=24))
def test_any_other_text_is_a_poke_or_one_sentence(text: str) -> None:
    try:
        found = Poke(text)
    except stillmotion.StillmotionError:
        assert refused(Poke, text)
    else:
        assert all(map(math.isfinite, (*found.moves[0].place, *found.moves[0].vector)))
