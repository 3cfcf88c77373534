"""What the terminal is told: warnings as sentences, progress, and output that may break off."""

from __future__ import annotations

import io
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any, TextIO, cast

from stillmotion.errors import StillmotionWarning


class Lasting:
    """A stream of the terminal; once it cannot be written, text goes nowhere and the work goes on.

    A closed pipe is how `head` says that it has enough; anything else is remembered in `full`.
    """

    def __init__(self, stream: TextIO | None):
        self._stream = stream or open(os.devnull, "w")  # noqa: SIM115, PTH123  closed by who started this, as `>&-`
        self.full = ""
        if isinstance(self._stream, io.TextIOWrapper):
            self._stream.reconfigure(errors="backslashreplace")  # names may hold what cannot be printed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """As the stream's own."""
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """As the stream's own."""
        self._try(self._stream.flush)

    def _try(self, write: Callable[[], object]) -> None:
        try:
            write()
        except OSError as error:
            self.full = self.full or ("" if isinstance(error, BrokenPipeError) else f"{error.strerror}")
            with suppress(OSError, ValueError):  # Python writes again at its end what is still to be written
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


@contextmanager
def lasting_output() -> Iterator[Lasting]:
    """What is printed meanwhile can fail without ending the work; yields standard output."""
    out, told = Lasting(sys.stdout), Lasting(sys.stderr)
    with redirect_stdout(cast(TextIO, out)), redirect_stderr(cast(TextIO, told)):
        try:
            yield out
        finally:
            out.flush()
            told.flush()


@contextmanager
def printed_warnings() -> Iterator[None]:
    """Print the library's own warnings on stderr, a sentence each and each once, without file and line."""
    told: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("always", StillmotionWarning)
        others = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, StillmotionWarning):
                if str(message) not in told:
                    print(f"stillmotion: {message}", file=sys.stderr)
                told.add(str(message))
            else:
                others(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield


class Progress:
    """Progress of long work, with rate and time left: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, unit: str, total: int | None = None):
        self.unit, self.total = unit, total
        self.bar: Any = None
        self.started = self.printed = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def file_done(self, done: int, total: int, name: str, reason: str | None) -> None:
        """For `prepare`: also names the files that are left out."""
        if reason is not None:
            print(f"left out {name}: {reason}", file=sys.stderr)
        self.reached(done, total)

    def reached(self, done: int, total: int | None = None) -> None:
        """`done` of `total` are finished."""
        self.total = total or self.total
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = self.bar or tqdm(total=self.total, unit=f" {self.unit}")
            self.bar.update(done - self.bar.n)
            return
        now = time.monotonic()
        if now - self.printed < 5:
            return
        self.printed, rate = now, done / (now - self.started)
        left = f", {(self.total - done) / rate:.0f} s left" if self.total else ""
        print(f"{done} {self.unit}, {rate:.1f} per second{left}", file=sys.stderr, flush=True)
