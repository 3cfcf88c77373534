"""Strokes as a person gives them: what is refused, text and files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refusals import refused, refuses
from stillmotion import Stroke, StrokeFrom
from stillmotion.options import read_points

LINE = [[0, 0], [10, 0]]


def read_stroke(given: Any, **options: Any) -> Stroke:
    """As the command line does."""
    return Stroke(**read_points(given), **options)


# --- what is a stroke ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("points", "word"),
    [
        ([], "N x 2"),
        ([[1, 2]], "points must be 2 to 10000, not 1"),
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
    refuses(word, Stroke, points)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"times": [0]}, "times must be as many as points: 1 are given for 2"),
        ({"times": [0, 0]}, "rise from point to point"),
        ({"times": [1, 0]}, "rise from point to point"),
        ({"times": [0, float("nan")]}, "times must be numbers"),
        ({"times": "ab"}, "times must be numbers"),
        ({"spacing": "fast"}, "spacing must be time or even, not 'fast'"),
        ({"fps": 0}, "fps"),
        ({"fps": float("nan")}, "fps"),
    ],
    ids=str,
)
def test_an_option_that_cannot_be_is_refused(options: dict[str, Any], word: str) -> None:
    assert word in refused(Stroke, LINE, **options)


@pytest.mark.parametrize("options", [{"spacing": "fast"}, {"fps": -1.0}], ids=str)
def test_a_stroke_from_a_video_checks_the_same(options: dict[str, Any]) -> None:
    refused(StrokeFrom, "wave.mp4", **options)
    refused(StrokeFrom, 7)
    assert StrokeFrom("wave.mp4").spacing == "time"


def test_a_stroke_keeps_its_own_points() -> None:
    given_points = np.array(LINE, float)
    stroke = Stroke(given_points)
    given_points[:] = 99
    assert np.asarray(stroke.points).tolist() == LINE
    with pytest.raises(ValueError, match="read-only"):
        stroke.points[0] = 1  # type: ignore[index]


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
    message = refused(read_stroke, text)
    assert "'10,20 40,35'" in message
    assert ".json" in message


def test_one_point_of_text_is_too_few() -> None:
    assert "points must be 2 to 10000" in refused(read_stroke, "10,20")


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "wave.json"
    path.write_text(json.dumps({"points": [[1, 2], [3.5, 4]], "times": [0, 0.5]}))
    stroke = read_stroke(path, fps=8)
    assert np.asarray(stroke.points).tolist() == [[1, 2], [3.5, 4]]
    assert np.asarray(stroke.times).tolist() == [0, 0.5]
    assert stroke.fps == 8
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
        ('{"points": [[1, 2], [NaN, 3]]}', "not a finite number"),
        ('{"points": [[1, 2], [3, 4]], "times": [0]}', "as many as points"),
        ('{"points": [[1, 2], [3, 4]], "times": [1, 0]}', "rise from point to point"),
        ("[" * 100_000, "not readable JSON"),
        (" " * 1_000_001, "larger than 1000000 bytes"),
        (b"\xff\xfe", "not readable JSON"),
    ],
    ids=lambda value: None if isinstance(value, bytes) or len(value) > 60 else value,
)
def test_a_file_that_is_none_is_told_in_a_sentence(tmp_path: Path, content: str | bytes, word: str) -> None:
    path = tmp_path / "wave.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert word in refused(read_stroke, path)


def test_a_file_that_is_not_there_or_a_folder(tmp_path: Path) -> None:
    assert "does not exist" in refused(read_stroke, tmp_path / "no.json")
    (tmp_path / "folder.json").mkdir()
    assert "cannot be read" in refused(read_stroke, tmp_path / "folder.json")
