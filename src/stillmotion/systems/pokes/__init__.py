"""Pixels of a still are pushed, and the object answers.

II2V: Blattmann, Milbich, Dorkenwald and Ommer, "Understanding Object Dynamics for Interactive Image-to-Video
Synthesis" (CVPR 2021).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from stillmotion.errors import StillmotionError
from stillmotion.options import Control, fps_option, option, whole

MOST = 100
"""Pokes in one control."""

_NUMBER = r"[+-]?(?:\d{1,9}\.?\d{0,9}|\.\d{1,9})"
_FORMS = {">": "x,y>x,y", ":": "x,y:dx,dy"}


class Push(NamedTuple):
    """A place, in pixels of the still given, and what happens to it."""

    x: float
    y: float
    dx: float  # how far it goes, or how far the force would hold it if it lasted
    dy: float
    frame: int = 0  # frames after the control is sent

    @property
    def place(self) -> tuple[float, float]:
        """(x, y)."""
        return self.x, self.y

    @property
    def vector(self) -> tuple[float, float]:
        """(dx, dy)."""
        return self.dx, self.dy


def _read_push(text: str, sign: str) -> Push:
    """A push as typed: `x,y>x,y` (where it goes) or `x,y:dx,dy`, with `@frame` behind it for a later one."""
    pair = rf"\s*({_NUMBER})\s*,\s*({_NUMBER})\s*"
    found = re.fullmatch(rf"{pair}{sign}{pair}(?:@\s*(\d{{1,6}})\s*)?", text)
    if found is None:
        raise StillmotionError(f"{text!r} must read {_FORMS[sign]} or {_FORMS[sign]}@frame, in pixels of the still.")
    x, y, a, b = (float(number) for number in found.groups()[:4])
    return _push(x, y, a, b, found[5] or 0, sign)


def _push(x: float, y: float, a: float, b: float, frame: Any, sign: str) -> Push:
    return Push(x, y, a - x, b - y, int(frame)) if sign == ">" else Push(x, y, a, b, int(frame))


def _numbers_of(given: Any, sign: str) -> Push:
    """A push out of five numbers, as in `Push`, or of two points and perhaps a frame."""
    try:
        if len(given) == len(Push._fields):
            x, y, dx, dy, frame = given
            return Push(float(x), float(y), float(dx), float(dy), int(frame))
        (x, y), (a, b), *more = given
        return _push(float(x), float(y), float(a), float(b), more[0] if more else 0, sign)
    except (TypeError, ValueError, OverflowError):
        shown = " ".join(repr(given).split())
        raise StillmotionError(f"{shown} must be (x, y), (x, y) and perhaps a frame, or a text.") from None


def _push_of(given: Any, sign: str) -> Push:
    """A push out of any form that a person may give."""
    push = _read_push(given, sign) if isinstance(given, str) else _numbers_of(given, sign)
    if not all(math.isfinite(value) and abs(value) < 1e6 for value in push[:4]):
        raise StillmotionError("The numbers of a poke must be finite, and below a million pixels.")
    if push.frame < 0:
        raise StillmotionError(f"The frame of a poke must be at least 0, not {push.frame}.")
    if not any(push.vector):
        raise StillmotionError(
            f"The poke at {push.x:g},{push.y:g} has no length, so nothing would move; give it another end."
        )
    return push


def _check_pushes(sign: str) -> Any:
    """A check of one push or several, which gives a tuple of them."""

    def check(name: str, given: Any) -> tuple[Push, ...]:
        several = hasattr(given, "__len__") and not (isinstance(given, str | Push) or _is_pair(given))
        pushes = tuple(_push_of(one, sign) for one in (given if several else [given]))
        if not 1 <= len(pushes) <= MOST:
            raise StillmotionError(f"{name} must be 1 to {MOST} pokes, not {len(pushes)}.")
        return pushes

    return check


def _is_pair(given: Any) -> bool:
    """Whether it is one push, (x, y), (x, y) and perhaps a frame, and not several."""
    try:
        return 2 <= len(given) <= 3 and all(len(point) == 2 for point in given[:2]) and not _is_pair(given[0])
    except (TypeError, IndexError, KeyError):
        return False


@dataclass(frozen=True, eq=False)
class Poke(Control):
    """Push pixels to other places: a hand takes each, moves it there and holds it (Sec. 3).

    Those of one control are held together. A later control lets go of them first.

    Attributes:
        moves: one or several, each a text `x,y>x,y` or `x,y>x,y@frame`, or ((x, y), (x, y)) with perhaps a frame
            behind, or a `Push`: from where to where, in pixels of the still given, and how many frames later.
        rise: frames until it is there; None: as many as the model learned from, for a poke of this length.
        release: frames after its start at which the hand lets go; None: it holds on.
        fps: frames per second of the result; None: those of the training clips.
    """

    given_by: ClassVar[str] = "--poke"

    moves: Sequence[Any] = option(
        "--poke",
        metavar="X,Y>X,Y",
        many="append",
        help="move this pixel of the still there; repeat it for several, with @FRAME for a later one",
        check=_check_pushes(">"),
    )
    rise: int | None = option(
        "--rise", default=None, metavar="N", parse=whole, at_least=1, help="frames until it is there"
    )
    release: int | None = option(
        "--release", default=None, metavar="N", parse=whole, at_least=1, help="frames until the hand lets go"
    )
    fps: float | None = fps_option()


@dataclass(frozen=True, eq=False)
class Impulse(Control):
    """Push pixels with a force that passes, without a target (appendix B).

    Attributes:
        pushes: one or several, each a text `x,y:dx,dy` or `x,y:dx,dy@frame`, or ((x, y), (dx, dy)) with perhaps a
            frame behind: where, in pixels of the still given, and how far the force would hold that place at its
            strongest, if it lasted.
        duration: frames over which the force swells and falls.
        fps: as in `Poke`.
    """

    given_by: ClassVar[str] = "--impulse"

    pushes: Sequence[Any] = option(
        "--impulse",
        metavar="X,Y:DX,DY",
        many="append",
        help="push this pixel of the still with a short force; repeat it for several, with @FRAME for a later one",
        check=_check_pushes(":"),
    )
    duration: int = option("--duration", default=6, metavar="N", parse=whole, at_least=1, help="frames of the force")
    fps: float | None = fps_option()


CONTROLS = (Poke, Impulse)
