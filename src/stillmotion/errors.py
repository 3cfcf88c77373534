"""Errors meant for the person at the keyboard: one sentence that says what is wrong and what to do."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


class StillmotionError(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence for a person; the command line prints it and exits with code 2. Programming
    mistakes inside the library raise ordinary exceptions instead.
    """


class StillmotionWarning(UserWarning):
    """A result that will disappoint; the message is one sentence that says why and what to do."""


@contextmanager
def warnings_told() -> Iterator[None]:
    """Print the library's own warnings on stderr, a sentence each, without file and line."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", StillmotionWarning)
        others = warnings.showwarning

        def tell(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, StillmotionWarning):
                print(f"stillmotion: {message}", file=sys.stderr)
            else:
                others(message, category, filename, lineno, file, line)

        warnings.showwarning = tell
        yield
