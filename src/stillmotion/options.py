"""Declared options: dataclass fields that carry their own help, range and option name.

What a person can say, on the command line or in Python, is declared once: a frozen dataclass whose fields are made by
`option`. The command line builds its options from them, and a `Control` checks its fields by them. This module and
whatever declares options import neither torch nor numpy, so that `--help` stays instant.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from stillmotion.errors import StillmotionError

Box = tuple[int, int, int, int]  # part of a picture: x, y, width and height in whole pixels
_LIMIT = 1e6  # pixels and seconds: nothing is so large or so long, and sums of what lies beyond lose their precision
_MOST_BYTES = 1_000_000


@dataclass(frozen=True)
class Option:
    """What a field says of itself."""

    help: str = ""  # one line for `--help`
    # How it is typed: options, the name of a positional argument, or nothing for a field that only Python knows.
    flags: tuple[str, ...] = ()
    metavar: str | None = None  # what stands for the value in `--help`; None for a switch
    parse: Callable[[str], Any] = str  # turns text into the value, a `ValueError` is a mistake in typing
    read: Callable[[str], Mapping[str, Any]] | None = None  # turns text into the values of several fields
    choices: tuple[str, ...] = ()  # the only values there are
    above: float | None = None  # the value must be above this number
    at_least: float | None = None  # the value must be at least this number
    check: Callable[[str, Any], Any] | None = None  # `check(name, value)` returns the value to keep, or raises
    as_many_as: str | None = None  # the value is as long as this other field
    negatable: bool = False  # a switch that can be typed as `--no-...` as well
    many: str = ""  # typed several times (`append`), or for a positional argument `+` or `*`


def option(*flags: str, default: Any = MISSING, **about: Any) -> Any:
    """A dataclass field with an `Option`; `about` are its attributes."""
    return field(default=default, metadata={"option": Option(flags=flags, **about)})


def device_option(default: str) -> Any:
    """The field `device`, the same for all verbs."""
    return option("--device", default=default, choices=("auto", "cpu", "cuda"), help="auto: CUDA where there is one")


def fps_option() -> Any:
    """The field `fps`, the same for all controls."""
    return option(
        "--fps",
        default=None,
        metavar="FPS",
        parse=rate,
        above=0,
        help="frames per second of the result (default: the video's, or the training clips')",
    )


def start_option() -> Any:
    """The field `start`, the same for all controls that follow a video."""
    return option(
        "--start", default=0.0, metavar="SECONDS", parse=float, at_least=0, help="the video begins at this second"
    )


def options_of(declared: type) -> Iterator[tuple[dataclasses.Field[Any], Option]]:
    """The fields of a dataclass that were made by `option`."""
    for each in dataclasses.fields(declared):
        if "option" in each.metadata:
            yield each, each.metadata["option"]


@dataclass(frozen=True, eq=False)
class Control:
    """What a person gives beside the still; subclasses are frozen dataclasses.

    Coordinates are pixels of the picture the person gave; the systems scale them with it. Every field is checked when
    the control is made.

    Raises:
        StillmotionError: a field has a value that it cannot have.
    """

    # the option that gives this control on the command line: that of its main field, or a switch of its own
    given_by: ClassVar[str]
    summary: ClassVar[str] = ""  # the help of that switch, if there is no main field

    def __post_init__(self) -> None:
        for each, about in options_of(type(self)):
            value = getattr(self, each.name)
            if value is not None or each.default is not None:  # None is a value only where it is the default
                object.__setattr__(self, each.name, checked(each.name, value, about))
        for each, about in options_of(type(self)):
            value = getattr(self, each.name)
            if about.as_many_as and value is not None and len(value) != len(getattr(self, about.as_many_as)):
                raise StillmotionError(
                    f"{each.name} must be as many as {about.as_many_as}: {len(value)} are given for "
                    f"{len(getattr(self, about.as_many_as))}."
                )


def checked(name: str, value: Any, about: Option) -> Any:
    """The value of a field, as its option says it must be.

    Raises:
        StillmotionError: it cannot be used; names the field.
    """
    if about.choices and value not in about.choices:
        raise StillmotionError(f"{name} must be {' or '.join(about.choices)}, not {value!r}.")
    for least, word in ((about.above, "above"), (about.at_least, "at least")):
        if least is None:
            continue
        good = isinstance(value, int | float) and math.isfinite(value)
        if not (good and (value > least if word == "above" else value >= least)):
            raise StillmotionError(f"{name} must be {word} {least:g}, not {value}.")
    return about.check(name, value) if about.check else value


# --- the command line ----------------------------------------------------------------------------------------------


def option_name(flag: str) -> str:
    """The name under which a parser keeps an option: `--stroke-from` -> `stroke_from`."""
    return flag.lstrip("-").replace("-", "_")


def add_option(
    parser: argparse._ActionsContainer, each: dataclasses.Field[Any], about: Option, required: bool = True
) -> None:
    """Add a field to a parser or a group; left out, it leaves no attribute: defaults stand in the dataclass alone.

    With `required` a field without a default must be typed.
    """
    settings: dict[str, Any] = {"default": argparse.SUPPRESS, "help": _told(each, about)}
    if not about.flags[0].startswith("-"):
        nargs = about.many or (None if each.default is MISSING else "?")
        parser.add_argument(
            each.name, metavar=about.metavar or each.name.upper(), type=about.parse, nargs=nargs, **settings
        )
        return
    # Controls of several systems share a parser, and only their options' names tell their fields apart.
    settings |= {"dest": each.name if required else option_name(about.flags[0])}
    if each.default is False or about.negatable:
        action: Any = argparse.BooleanOptionalAction if about.negatable else "store_true"
        parser.add_argument(*about.flags, action=action, **settings)
        return
    settings |= {"required": required and each.default is MISSING}
    if about.choices:
        parser.add_argument(*about.flags, choices=about.choices, **settings)
    else:
        stored = "append" if about.many else "store"
        parser.add_argument(
            *about.flags, action=stored, metavar=about.metavar or "VALUE", type=about.parse, **settings
        )


def _told(each: dataclasses.Field[Any], about: Option) -> str:
    shown = each.default is not MISSING and each.default not in (None, False, "", ())
    text = f"{about.help} (default: {each.default})" if shown else about.help
    return text.replace("%", "%%")


def made_from(declared: type, typed: Mapping[str, Any], **others: Any) -> Any:
    """An instance of a dataclass out of what was typed; fields that were not typed keep their defaults."""
    values = others
    for each, about in options_of(declared):
        if each.name in typed:
            values |= about.read(typed[each.name]) if about.read else {each.name: typed[each.name]}
    return declared(**values)


# --- values: parsing and checks ------------------------------------------------------------------------------------


def whole(text: str) -> int:
    """A whole number from 1 on."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


whole.__name__ = "whole number"  # argparse names the type in its sentences


def rate(text: str) -> float:
    """A number above zero."""
    number = float(text)
    if not 0 < number < math.inf:  # False for NaN too
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text}")
    return number


rate.__name__ = "number"


MOST_SIDE = 8192  # pixels of a result's longer side


def check_size(name: str, size: Any) -> Any:
    """`native`, `model`, or the pixels of the longer side, as a whole number or its text.

    Raises:
        StillmotionError: something else.
    """
    side = int(size) if isinstance(size, str) and size.isascii() and size.isdecimal() and len(size) < 6 else size
    if side in ("native", "model") or (type(side) is int and 2 <= side <= MOST_SIDE):
        return side
    raise StillmotionError(f"{name} must be native, model or 2 to {MOST_SIDE} pixels, not {size!r}.")


def frame_size(text: str) -> Any:
    """`check_size` of what is typed."""
    try:
        return check_size("it", text)
    except StillmotionError as error:
        raise argparse.ArgumentTypeError(str(error).rstrip(".")) from error


def number_range(text: str) -> tuple[int, int]:
    """`A:B` as two whole numbers."""
    first, colon, end = text.partition(":")
    if not (colon and first.isdecimal() and end.isdecimal()):
        raise argparse.ArgumentTypeError(f"must read A:B in whole numbers, not {text}")
    return int(first), int(end)


def names(text: str) -> tuple[str, ...]:
    """Comma-separated names."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def name_and_value(text: str) -> tuple[str, str]:
    """Split `name=value`."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise StillmotionError(f"{text!r} should read name=value.")
    return key, value


def parse_box(name: str, text: str, words: str = "") -> Box:
    """Read `X,Y,W,H`; `words` names what else could have been given, such as `centre, none or `.

    Raises:
        StillmotionError: it does not read so, or is empty.
    """
    parts = [part.strip() for part in text.split(",")]
    # More digits than any picture needs: a number of thousands of them would stop Python itself.
    if len(parts) != 4 or not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts):
        raise StillmotionError(f"The {name} {text!r} must be {words}X,Y,W,H in whole pixels.")
    x, y, width, height = map(int, parts)
    return check_box(name, (x, y, width, height))


def check_box(name: str, box: Any) -> Box:
    """Refuse what is no part of a picture; text as typed is read first.

    Raises:
        StillmotionError: another number of values, one that is not whole or is negative, or an empty part.
    """
    if isinstance(box, str):
        return parse_box(name, box)
    is_whole = isinstance(box, tuple) and len(box) == 4 and all(type(value) is int for value in box)
    if not (is_whole and min(box[:2]) >= 0 and min(box[2:]) >= 1):
        raise StillmotionError(
            f"A {name} is x, y, width and height in whole pixels, at least 0, 0, 1 and 1, not {box!r}."
        )
    return box


def check_crop(name: str, crop: Any) -> Any:
    """Refuse what is neither `auto` nor a part of a picture, see `check_box`."""
    return crop if crop == "auto" else check_box(name, crop)


def check_video(name: str, video: Any) -> Any:
    """Refuse what is neither a path nor frames, T x H x W x 3 `uint8`."""
    if isinstance(video, str | Path):
        return video
    if not all(hasattr(video, attribute) for attribute in ("ndim", "shape", "dtype")):
        raise StillmotionError(f"A {name} is a path or an array of frames, not {type(video).__name__}.")
    if video.ndim != 4 or video.shape[3] != 3 or video.dtype != "uint8":
        raise StillmotionError(
            f"The frames of a {name} must be uint8, T x H x W x 3, not {video.dtype} {video.shape}; convert them."
        )
    if min(video.shape[:3]) < 1:
        raise StillmotionError(f"The {name} has no frames; give at least one.")
    return video


def check_numbers(name: str, values: Any) -> Any:
    """Numbers in even rows as a new, read-only `float64` array, each within a million.

    Raises:
        StillmotionError: something else.
    """
    import numpy as np

    try:
        array = np.array(values)  # lists of different lengths raise
        numbers = array.astype(np.float64) if array.dtype.kind in "fiu" else None
    except (TypeError, ValueError, OverflowError):
        numbers = None
    if numbers is None or not (np.abs(numbers) <= _LIMIT).all():  # False for NaN too
        raise StillmotionError(f"{name} must be numbers from {-_LIMIT:.0f} to {_LIMIT:.0f}, in even rows.")
    numbers.flags.writeable = False
    return numbers


def check_points(least: int = 1, most: int = 10_000) -> Callable[[str, Any], Any]:
    """A check for N x 2 points, (x, y) in pixels, with N from `least` to `most`."""

    def check(name: str, values: Any) -> Any:
        points = check_numbers(name, values)
        if points.ndim != 2 or points.shape[1] != 2:
            raise StillmotionError(f"{name} must be N x 2, (x, y) each, not {points.shape}.")
        if not least <= len(points) <= most:
            raise StillmotionError(
                f"{name} must be {least} to {most}, not {len(points)}; to rest, give the same point twice."
            )
        return points

    return check


def check_rising(name: str, values: Any) -> Any:
    """A row of numbers, each above the one before."""
    numbers = check_numbers(name, values)
    if numbers.ndim != 1 or not (numbers[1:] > numbers[:-1]).all():
        raise StillmotionError(f"{name} must be a row of numbers that rise from point to point.")
    return numbers


_NUMBER = r"[-+]?\d{1,7}(\.\d{0,9})?"
_POINT = f"{_NUMBER},{_NUMBER}"


def read_points(given: str | Path) -> dict[str, Any]:
    """Points as typed, `x,y x,y ...`, or out of a JSON file, `{"points": [[x, y], ...], "times": [seconds, ...]}`.

    Returns:
        `points`, and `times` where the file has them.

    Raises:
        StillmotionError: it is neither, or the file is missing, too large or no such JSON.
    """
    text = re.sub(r"\s*,\s*", ",", str(given).strip())
    if re.fullmatch(rf"{_POINT}(\s+{_POINT})*", text):
        return {"points": [[float(number) for number in pair.split(",")] for pair in text.split()]}
    if not str(given).lower().endswith(".json"):
        raise StillmotionError(f"{str(given)!r} must be points like '10,20 40,35', or a file that ends in .json.")
    from stillmotion.files import read_json

    stored = read_json(Path(given), most_bytes=_MOST_BYTES)
    if not isinstance(stored, dict) or "points" not in stored or set(stored) - {"points", "times"}:
        form = '{"points": [[x, y], ...], "times": [seconds, ...]}'
        raise StillmotionError(f"The file {given} must read {form}.")
    return stored
