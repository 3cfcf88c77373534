"""Declared options: checks of every field, values out of text, what a parser makes of them."""

import argparse
import dataclasses
import json
import math
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refusals import refused
from stillmotion import options
from stillmotion.options import Control, add_option, check_points, made_from, option, options_of, read_points
from stillmotion.systems.driving import Drive, Predict

FRAMES = np.zeros((2, 4, 5, 3), np.uint8)


# --- controls ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("video", ["wave.mp4", Path("wave.mp4"), FRAMES])
def test_a_drive_takes_a_path_or_frames(video: Any) -> None:
    drive = Drive(video)
    assert drive.video is video
    assert (drive.align, drive.transfer, drive.fps, drive.region, drive.crop) == ("first", *[None] * 4)
    assert not any((drive.scale_motion, drive.clip_mean, drive.adapt_covariance, drive.keep_background))


@pytest.mark.parametrize(
    ("video", "word"),
    [
        (FRAMES[0], "uint8"),
        (FRAMES[..., :1], "uint8"),
        (FRAMES.astype(np.float32), "float32"),
        (FRAMES[:0], "no frames"),
        (FRAMES[:, :0], "no frames"),
        (FRAMES[:, :, :0], "no frames"),
        (None, "NoneType"),
        (7, "int"),
        ([FRAMES[0]], "list"),
    ],
)
def test_what_is_no_video_is_refused(video: Any, word: str) -> None:
    assert word in refused(Drive, video)


@pytest.mark.parametrize(
    ("field", "values", "words"),
    [
        ("transfer", ["Relative", "", "both"], "transfer must be relative or absolute"),
        ("align", ["middle", None], "align must be first or best"),
        ("fps", [0, -1.0, float("nan"), float("inf"), "25"], "fps must be above 0"),
        ("region", [(0, 0, 0, 5), (-1, 0, 5, 5), (0, 0, 5), (0, 0, 5.5, 5), [0, 0, 5, 5], "auto"], "region"),
        ("crop", [(0, 0, 5, 0), (True, 0, 5, 5), "middle", 5], "crop"),
    ],
)
def test_a_drive_refuses_options_without_sense(field: str, values: list[Any], words: str) -> None:
    for value in values:
        assert words in refused(Drive, FRAMES, **{field: value})


@pytest.mark.parametrize(("changes", "words"), [({"frames": 0}, "frames must be at least 1"), ({"fps": 0.0}, "fps")])
def test_a_prediction_checks_itself(changes: dict[str, Any], words: str) -> None:
    assert words in refused(Predict, **changes)


def test_parts_are_read_from_text() -> None:
    drive = Drive(FRAMES, crop="1, 2,30,4", region="0,0,5,6")  # type: ignore[arg-type]
    assert (drive.crop, drive.region) == ((1, 2, 30, 4), (0, 0, 5, 6))
    assert Drive(FRAMES, crop="auto").crop == "auto"


def test_controls_are_frozen_and_compare_by_identity() -> None:
    drive = Drive(FRAMES)
    with pytest.raises(FrozenInstanceError):
        drive.fps = 10.0  # type: ignore[misc]
    assert drive != Drive(FRAMES)  # comparing arrays has no single answer
    assert len({drive, drive}) == 1


@dataclass(frozen=True, eq=False)
class Toy(Control):
    """A control with one of everything."""

    given_by: ClassVar[str] = "--toy"

    path: Any = option("--toy", metavar="POINTS", help="a path", parse=read_points, check=check_points(least=2))
    times: Any = option(default=None, check=options.check_rising, as_many_as="path")
    kind: str = option("--kind", "-k", default="soft", choices=("soft", "hard"), help="100 % of it")
    speed: float = option("--toy-speed", default=1.0, at_least=0.5, parse=float)
    loud: bool = option("--loud", default=False)
    plain: int = 3  # not an option: neither checked nor typed


def test_fields_are_checked_and_replaced_by_what_their_check_returns() -> None:
    toy = Toy([[1, 2], [3, 4]], times=[0, 1])
    assert toy.path.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert toy.path.dtype == np.float64
    assert Toy([[1, 2], [3, 4]], plain="anything").plain == "anything"  # type: ignore[arg-type]
    assert refused(Toy, [[1, 2]]).startswith("path must be 2 to 10000, not 1")
    assert refused(Toy, [[1, 2], [3, 4]], times=[0, 1, 2]) == ("times must be as many as path: 3 are given for 2.")
    assert refused(Toy, [[1, 2], [3, 4]], times=[1, 1]).startswith("times must be a row of numbers that rise")
    assert refused(Toy, [[1, 2], [3, 4]], speed=0.4) == "speed must be at least 0.5, not 0.4."
    assert Toy([[1, 2], [3, 4]], speed=0.5).speed == 0.5


# --- values --------------------------------------------------------------------------------------------------------
def test_a_part_is_read_from_text_exactly() -> None:
    assert options.parse_box("crop", " 1, 2,30,4 ") == (1, 2, 30, 4)
    for text in ("", "1,2,3", "1,2,3,4,5", "1,2,3,x", "-1,2,3,4", "1.5,2,3,4", "\u0661,2,3,4", f"1,2,3,{'9' * 5000}"):
        assert "must be centre or X,Y,W,H in whole pixels" in refused(options.parse_box, "crop", text, "centre or ")
    assert "A crop is x, y, width and height" in refused(options.parse_box, "crop", "1,2,0,4")


NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)


@given(st.lists(st.lists(NUMBERS, min_size=2, max_size=2), min_size=1, max_size=5))
def test_numbers_are_copied_and_cannot_be_changed(rows: list[list[float]]) -> None:
    given_array = np.array(rows)
    kept = options.check_numbers("points", given_array)
    assert np.array_equal(kept, given_array)
    assert not np.shares_memory(kept, given_array)
    with pytest.raises(ValueError, match="read-only"):
        kept[0, 0] = 1.0


@pytest.mark.parametrize(
    "values",
    [
        [[1, 2], [3]],
        [[1, float("nan")]],
        [[1, math.inf]],
        [[1, 1.1e6]],
        [[1, 10**400]],
        [["1", "2"]],
        [[True, False]],
        None,
        {"x": 1},
        [[1, 2j]],
    ],
    ids=str,
)
def test_what_are_no_numbers_is_refused(values: Any) -> None:
    assert "numbers from -1000000 to 1000000, in even rows" in refused(options.check_numbers, "points", values)


@pytest.mark.parametrize("values", [[1, 2], [[1, 2, 3]], [[[1, 2]]], 3])
def test_points_have_two_columns(values: Any) -> None:
    assert "points must be N x 2, (x, y) each" in refused(check_points(), "points", values)


def test_points_have_a_count() -> None:
    check = check_points(least=2, most=3)
    assert len(check("points", [[1, 2]] * 2)) == 2
    for count in (1, 4):
        assert refused(check, "points", [[1, 2]] * count) == (
            f"points must be 2 to 3, not {count}; to rest, give the same point twice."
        )


@pytest.mark.parametrize(("values", "rises"), [([0, 1, 5], True), ([3], True), ([0, 0], False), ([2, 1], False)])
def test_times_rise(values: list[float], rises: bool) -> None:
    if rises:
        assert options.check_rising("times", values).tolist() == values
    else:
        assert "numbers that rise" in refused(options.check_rising, "times", values)
    assert "numbers that rise" in refused(options.check_rising, "times", [values])


PAIRS = st.lists(st.tuples(st.integers(-9999, 9999), st.integers(0, 999)), min_size=1, max_size=6)


@given(PAIRS, st.sampled_from([",", ", ", " ,"]), st.sampled_from([" ", "  ", "\n"]))
def test_points_are_read_from_text(pairs: list[tuple[int, int]], comma: str, gap: str) -> None:
    text = gap.join(f"{x}{comma}{y}.5" for x, y in pairs)
    assert read_points(text) == {"points": [[x, y + 0.5] for x, y in pairs]}


def test_points_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "wave.json"
    stored = {"points": [[11, 13], [30, 30]], "times": [0, 0.5]}
    file.write_text(json.dumps(stored))
    assert read_points(file) == read_points(str(file)) == stored
    for content, words in (
        ("[[1, 2]]", "must read"),
        ('{"times": [1]}', "must read"),
        ('{"points": [[1, 2]], "colour": 1}', "must read"),
        ("{", "not readable JSON"),
        ("[" + "1," * 600_000 + "1]", "larger than 1000000 bytes"),
    ):
        file.write_text(content)
        assert words in refused(read_points, file)
    assert "does not exist" in refused(read_points, "missing.json")
    for text in ("", "1,2 3", "1;2", "wave.txt", f"1,{'9' * 500}", "nan,1"):
        assert "must be points like '10,20 40,35', or a file that ends in .json" in refused(read_points, text)


@pytest.mark.parametrize(
    ("parse", "good", "bad"),
    [
        (options.whole, {"1": 1, "27": 27}, ["0", "-1", "1.5", "nan", "x"]),
        (options.rate, {"0.5": 0.5, "25": 25.0}, ["0", "-3", "nan", "inf", "x"]),
        (options.number_range, {"3:40": (3, 40)}, ["3", "3:", ":4", "-1:4", "a:b", "1:2:3"]),
        (options.names, {"a, b,,c": ("a", "b", "c"), "": ()}, []),
        (options.name_and_value, {"a=b=c": ("a", "b=c"), "a=": ("a", "")}, ["a", "=b", ""]),
    ],
)
def test_values_are_parsed(parse: Any, good: dict[str, Any], bad: list[str]) -> None:
    assert {text: parse(text) for text in good} == good
    for text in bad:
        with pytest.raises((ValueError, argparse.ArgumentTypeError)):
            parse(text)


# --- parsers -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Verb:
    """Options of a command."""

    still: str = option("still")
    out: str = option("-o", "--out")
    more: tuple[str, ...] = option("more", default=(), many="*", metavar="MORE")
    start_from: str | None = option("--from", default=None)
    sets: tuple[str, ...] = option("--set", default=(), many="append")
    count: int = option("--count", default=7, parse=options.whole, help="at 50 %")
    control: Any = None


def parser_of(declared: type, required: bool = True) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(exit_on_error=False)
    for each, about in options_of(declared):
        if about.flags:
            add_option(parser, each, about, required)
    return parser


def test_what_is_left_out_leaves_the_defaults_of_the_dataclass() -> None:
    typed = vars(parser_of(Verb).parse_args(["me.png", "-o", "x"]))
    assert typed == {"still": "me.png", "out": "x"}
    verb = made_from(Verb, typed, control="given")
    assert (verb.count, verb.sets, verb.start_from, verb.control) == (7, (), None, "given")


def test_what_is_typed_reaches_its_field() -> None:
    words = ["me.png", "a", "b", "--out", "x", "--from", "m", "--set", "a=1", "--set", "b=2", "--count", "3"]
    verb = made_from(Verb, vars(parser_of(Verb).parse_args(words)))
    assert (verb.still, list(verb.more), verb.out, verb.start_from) == ("me.png", ["a", "b"], "x", "m")
    assert (list(verb.sets), verb.count) == (["a=1", "b=2"], 3)


def test_a_field_without_a_default_must_be_typed_unless_parsers_are_shared() -> None:
    with pytest.raises(SystemExit):
        parser_of(Verb).parse_args(["me.png"])
    assert vars(parser_of(Toy, required=False).parse_args([])) == {}


def test_in_a_shared_parser_options_are_kept_by_their_own_names() -> None:
    words = ["--toy", "1,2 3,4", "-k", "hard", "--toy-speed", "2", "--loud"]
    typed = vars(parser_of(Toy, required=False).parse_args(words))
    assert typed.keys() == {"toy", "kind", "toy_speed", "loud"}
    assert options.option_name("--toy-speed") == "toy_speed"


def test_one_text_may_give_several_fields(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"points": [[1, 2], [3, 4]], "times": [0, 2]}')

    @dataclass(frozen=True)
    class Drawn:
        points: Any = option("--points", read=read_points)
        times: Any = option(default=None)

    parsed = vars(parser_of(Drawn).parse_args(["--points", str(tmp_path / "a.json")]))
    assert made_from(Drawn, parsed) == Drawn([[1, 2], [3, 4]], [0, 2])


def test_help_tells_defaults_and_survives_a_percent_sign() -> None:
    told = parser_of(Verb).format_help()
    assert "at 50 % (default: 7)" in told
    assert "default: ()" not in told
    assert "None" not in told
    assert "100 % of it (default: soft)" in parser_of(Toy, required=False).format_help()
    assert [each.name for each, _ in options_of(Toy)] == [
        f.name for f in dataclasses.fields(Toy) if f.name != "plain"
    ]


@pytest.mark.parametrize("words", [["--kind", "loud"], ["--toy-speed", "fast"]])
def test_a_parser_refuses_values_that_cannot_be(words: list[str]) -> None:
    with pytest.raises((argparse.ArgumentError, SystemExit)):
        parser_of(Toy, required=False).parse_args(words)


def test_a_switch_may_be_typed_as_its_opposite() -> None:
    @dataclass(frozen=True)
    class Switches:
        on: bool = option("--on", default=True, negatable=True)
        off: bool = option("--off", default=False, negatable=True)

    parser = argparse.ArgumentParser()
    for each, about in options_of(Switches):
        add_option(parser, each, about)
    for words, values in (("", (True, False)), ("--no-on --off", (False, True)), ("--on --no-off", (True, False))):
        made = made_from(Switches, vars(parser.parse_args(words.split())))
        assert (made.on, made.off) == values
