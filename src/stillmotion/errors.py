"""Errors meant for the person at the keyboard: one sentence that says what is wrong and what to do."""

from __future__ import annotations

from collections.abc import Collection


class StillmotionError(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence for a person; the command line prints it and exits with code 2. Programming
    mistakes inside the library raise ordinary exceptions instead.
    """


class StillmotionWarning(UserWarning):
    """A result that will disappoint; the message is one sentence that says why and what to do."""


def check_known(kind: str, name: str, known: Collection[str]) -> None:
    """Refuse a name that is not among the known ones of its kind.

    Raises:
        StillmotionError: names what there is.
    """
    if name not in known:
        raise StillmotionError(f"There is no {kind} {name!r}; known are {', '.join(known)}.")
