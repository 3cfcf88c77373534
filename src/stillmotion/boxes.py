"""Part of a picture as a person names it: x, y, width and height in whole pixels."""

from __future__ import annotations

from stillmotion.errors import StillmotionError

Box = tuple[int, int, int, int]
"""x, y, width, height."""


def check_box(name: str, box: Box) -> None:
    """Refuse what is no part of a picture: x, y, width and height, whole numbers.

    Raises:
        StillmotionError: another number of values, one that is not whole or is negative, or an empty part.
    """
    whole = isinstance(box, tuple) and len(box) == 4 and all(type(value) is int for value in box)
    if not (whole and min(box[:2]) >= 0 and min(box[2:]) >= 1):
        raise StillmotionError(
            f"A {name} is x, y, width and height in whole pixels, at least 0, 0, 1 and 1, not {box!r}."
        )


def parse_box(name: str, text: str, words: str = "") -> Box:
    """Read `X,Y,W,H`.

    Args:
        name: what the part is called.
        text: what was given.
        words: what else could have been given, for the sentence, such as `centre, none or `.

    Raises:
        StillmotionError: it does not read so, or is empty.
    """
    parts = [part.strip() for part in text.split(",")]
    # More digits than any picture needs: a number of thousands of them would stop Python itself.
    if len(parts) != 4 or not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts):
        raise StillmotionError(f"The {name} {text!r} must be {words}X,Y,W,H in whole pixels.")
    x, y, width, height = map(int, parts)
    check_box(name, (x, y, width, height))
    return x, y, width, height
