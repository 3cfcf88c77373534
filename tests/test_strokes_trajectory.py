"""Strokes as a person gives them: text, files, times, and the place they give in every frame."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stillmotion.controls import Stroke, StrokeFrom, frame_count, read_stroke, resample

from stillmotion.errors import StillmotionError

LINE = [[0, 0], [10, 0]]


def refused(make: Any) -> str:
    """The one sentence that is answered."""
    with pytest.raises(StillmotionError) as caught:
        make()
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    return message


# --- what is a stroke ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("points", "word"),
    [
        ([], "N x 2"),
        ([[1, 2]], "2 to 10000 points, not 1"),
        ([[1, 2, 3], [4, 5, 6]], r"\(2, 3\)"),
        ([1, 2, 3], "N x 2"),
        ([[1, 2], [3]], "numbers"),
        ([[1, 2], ["3", "4"]], "numbers"),
        ([[True, False], [True, True]], "numbers"),
        ([[1, 2], [None, 4]], "numbers"),
        ([[1, 2], [float("nan"), 4]], "numbers"),
        ([[1, 2], [float("inf"), 4]], "numbers"),
        ([[1, 2], [1e300, 4]], "numbers"),
        ([[1, 2], [10**400, 4]], "numbers"),
        ("10,20", "numbers"),
        (np.zeros((10_001, 2)), "not 10001"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_is_no_stroke_is_refused(points: Any, word: str) -> None:
    with pytest.raises(StillmotionError, match=word):
        Stroke(points)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"times": [0]}, "2 points needs as many times"),
        ({"times": [0, 0]}, "must rise"),
        ({"times": [1, 0]}, "must rise"),
        ({"times": [0, float("nan")]}, "times must be numbers"),
        ({"times": "ab"}, "times must be numbers"),
        ({"spacing": "fast"}, "spacing must be time or even, not 'fast'"),
        ({"fps": 0}, "fps"),
        ({"fps": float("nan")}, "fps"),
    ],
    ids=str,
)
def test_an_option_that_cannot_be_is_refused(options: dict[str, Any], word: str) -> None:
    assert word in refused(lambda: Stroke(LINE, **options))


@pytest.mark.parametrize("options", [{"spacing": "fast"}, {"fps": -1.0}], ids=str)
def test_a_stroke_from_a_video_checks_the_same(options: dict[str, Any]) -> None:
    refused(lambda: StrokeFrom("wave.mp4", **options))
    refused(lambda: StrokeFrom(7))  # type: ignore[arg-type]
    assert StrokeFrom("wave.mp4").spacing == "time"


def test_a_stroke_keeps_its_own_points() -> None:
    given_points = np.array(LINE, float)
    stroke = Stroke(given_points)
    given_points[:] = 99
    assert np.asarray(stroke.points).tolist() == LINE
    with pytest.raises(ValueError, match="read-only"):
        stroke.points[0] = 1  # type: ignore[index]


# --- a place per frame, by hand ------------------------------------------------------------------------------------


def test_points_without_times_are_equal_steps_of_time() -> None:
    """Ten pixels in the first half of the time, two in the second."""
    stroke = Stroke([[0, 0], [10, 0], [10, 2]])
    assert resample(stroke, 5).tolist() == [[0, 0], [5, 0], [10, 0], [10, 1], [10, 2]]


def test_times_say_when_each_point_is_reached() -> None:
    stroke = Stroke([[0, 0], [10, 0], [10, 2]], times=[1, 2, 5])  # seconds 1, 2, 3, 4, 5
    assert resample(stroke, 5) == pytest.approx(
        np.array([[0, 0], [10, 0], [10, 2 / 3], [10, 4 / 3], [10, 2]]), abs=1e-12
    )


def test_even_spacing_goes_at_one_speed_whatever_the_times_say() -> None:
    """Twelve pixels of way in four steps of three."""
    for times in (None, [0, 1, 9]):
        stroke = Stroke([[0, 0], [9, 0], [9, 3]], times=times, spacing="even")
        assert resample(stroke, 5) == pytest.approx(np.array([[0, 0], [3, 0], [6, 0], [9, 0], [9, 3]]))


def test_points_given_twice_do_not_disturb_even_spacing_and_are_a_rest_in_time() -> None:
    points = [[0, 0], [0, 0], [4, 0], [4, 0], [8, 0]]
    assert resample(Stroke(points, spacing="even"), 3).tolist() == [[0, 0], [4, 0], [8, 0]]
    assert resample(Stroke(points), 5).tolist() == points


@pytest.mark.parametrize("spacing", ["time", "even"])
def test_a_stroke_without_length_rests(spacing: Any) -> None:
    assert resample(Stroke([[3, 4], [3, 4]], spacing=spacing), 4).tolist() == [[3, 4]] * 4
    assert resample(Stroke([[3, 4], [9, 9]], spacing=spacing), 1).tolist() == [[3, 4]]


def test_no_frames_are_a_programming_mistake() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        resample(Stroke(LINE), 0)


def test_how_many_frames_a_stroke_asks_for() -> None:
    assert frame_count(Stroke(LINE), fps=10, least=17) == 17  # two points: as long as a training clip
    assert frame_count(Stroke([[i, 0] for i in range(30)]), fps=10, least=17) == 30  # one per point
    assert frame_count(Stroke(LINE, times=[3, 5]), fps=10, least=17) == 21  # two seconds, both ends included
    assert frame_count(Stroke(LINE, times=[0, 0.001]), fps=10, least=17) == 2


# --- properties ----------------------------------------------------------------------------------------------------

PLACES = st.lists(st.tuples(*[st.floats(-500, 500).map(lambda x: round(x, 3))] * 2), min_size=2, max_size=12)


@settings(max_examples=40, deadline=None)
@given(points=PLACES, frames=st.integers(2, 40), spacing=st.sampled_from(["time", "even"]))
def test_a_resampled_stroke_starts_ends_and_stays_on_the_way(points: Any, frames: int, spacing: Any) -> None:
    made = resample(Stroke(points, spacing=spacing), frames)
    way = np.array(points, float)
    assert made[0] == pytest.approx(way[0])
    assert made[-1] == pytest.approx(way[-1])
    start, step = way[:-1], np.diff(way, axis=0)
    off = made[:, None] - start
    along = np.clip((off * step).sum(-1) / np.maximum((step**2).sum(-1), 1e-12), 0, 1)
    assert np.linalg.norm(off - along[..., None] * step, axis=-1).min(axis=1).max() < 1e-6


@settings(max_examples=40, deadline=None)
@given(points=PLACES, frames=st.integers(2, 40))
def test_even_spacing_never_goes_faster_than_the_way_over_the_steps(points: Any, frames: int) -> None:
    length = np.linalg.norm(np.diff(np.array(points, float), axis=0), axis=1).sum()
    steps = np.linalg.norm(np.diff(resample(Stroke(points, spacing="even"), frames), axis=0), axis=1)
    assert steps.max() <= length / (frames - 1) + 1e-6


@settings(max_examples=25, deadline=None)
@given(points=PLACES, spacing=st.sampled_from(["time", "even"]), frames=st.integers(2, 20))
def test_a_stroke_backwards_is_the_same_places_backwards(points: Any, spacing: Any, frames: int) -> None:
    ahead = resample(Stroke(points, spacing=spacing), frames)
    back = resample(Stroke(points[::-1], spacing=spacing), frames)
    assert back[::-1] == pytest.approx(ahead, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(points=PLACES)
def test_as_many_frames_as_points_give_the_points(points: Any) -> None:
    assert resample(Stroke(points), len(points)) == pytest.approx(np.array(points, float), abs=1e-9)


# --- text and files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["10,20 -4.5,40", " 10,20  -4.5,40 ", "10 , 20 -4.5, 40", "10,20\n-4.5,40", "+10,20. -4.5,40.0"]
)
def test_text_is_read(text: str) -> None:
    stroke = read_stroke(text, spacing="even", attach=True, fps=12)
    assert np.asarray(stroke.points).tolist() == [[10, 20], [-4.5, 40]]
    assert (stroke.times, stroke.spacing, stroke.attach, stroke.fps) == (None, "even", True, 12)


@pytest.mark.parametrize("text", ["", "10", "10,20 30", "10,20;30,40", "1,2 nan,3", "1,2 3,1e5", "ten,20 30,40"])
def test_text_that_is_none_says_how_to_write_it(text: str) -> None:
    message = refused(lambda: read_stroke(text))
    assert "'10,20 40,35'" in message
    assert ".json" in message


def test_one_point_of_text_is_too_few() -> None:
    assert "2 to 10000 points" in refused(lambda: read_stroke("10,20"))


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "wave.json"
    path.write_text(json.dumps({"points": [[1, 2], [3.5, 4]], "times": [0, 0.5]}))
    stroke = read_stroke(path, fps=8)
    assert np.asarray(stroke.points).tolist() == [[1, 2], [3.5, 4]]
    assert np.asarray(stroke.times).tolist() == [0, 0.5]
    assert frame_count(stroke, 8, 17) == 5
    path.write_text(json.dumps({"points": [[1, 2], [3.5, 4]]}))
    assert read_stroke(str(path)).times is None


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("", "not readable JSON"),
        ("[[1, 2]]", "must read"),
        ('{"times": [0, 1]}', "must read"),
        ('{"points": [[1, 2], [3, 4]], "colour": "red"}', "must read"),
        ('{"points": 7}', "N x 2"),
        ('{"points": {"x": 1}}', "numbers"),
        ('{"points": [[1, 2], [3]]}', "numbers"),
        ('{"points": [[1, 2], [NaN, 3]]}', "numbers"),
        ('{"points": [[1, 2], [3, 4]], "times": [0]}', "as many times"),
        ('{"points": [[1, 2], [3, 4]], "times": [1, 0]}', "must rise"),
        ("[" * 100_000, "not readable JSON"),
        (" " * 1_000_001, "larger than 1000000 bytes"),
        (b"\xff\xfe", "not readable JSON"),
    ],
    ids=lambda value: None if isinstance(value, bytes) or len(value) > 60 else value,
)
def test_a_file_that_is_none_is_told_in_a_sentence(tmp_path: Path, content: str | bytes, word: str) -> None:
    path = tmp_path / "wave.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert word in refused(lambda: read_stroke(path))


def test_a_file_that_is_not_there_or_a_folder(tmp_path: Path) -> None:
    assert "does not exist" in refused(lambda: read_stroke(tmp_path / "no.json"))
    (tmp_path / "folder.json").mkdir()
    assert "cannot be read" in refused(lambda: read_stroke(tmp_path / "folder.json"))
