"""Early stop: Ctrl-C and SIGTERM end a run after a whole step, with a checkpoint."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any


class StopSignal:
    """Watches for reasons to stop while its `with` block runs.

    The first Ctrl-C (or SIGTERM, which job schedulers send before they kill) lets the step finish. The second Ctrl-C
    stops at once.

    Attributes:
        reason: `Ctrl-C`, `SIGTERM`, or empty: there is none to stop.
    """

    def __init__(self) -> None:
        self.reason = ""
        self._previous_handlers: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        # Only the main thread may set handlers; a training inside a thread runs to its end.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous_handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and self.reason == "Ctrl-C":
            raise KeyboardInterrupt
        self.reason = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"

    @contextlib.contextmanager
    def children_ignore_interrupts(self) -> Iterator[None]:
        """Start worker processes in this block, so that Ctrl-C, which reaches them too, does not end them early.

        An ignored signal stays ignored in a child process, a handler does not.
        """
        if not self._previous_handlers:
            yield
            return
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, handler)
