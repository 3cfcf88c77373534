"""How far long work is."""

from __future__ import annotations

import sys
import time
from typing import Any


class Progress:
    """How far long work is, with rate and time left: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, unit: str, total: int | None = None):
        self.unit, self.total = unit, total
        self.bar: Any = None
        self.started = self.told = time.monotonic()

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
        if now - self.told < 5:
            return
        self.told, rate = now, done / (now - self.started)
        left = f", {(self.total - done) / rate:.0f} s left" if self.total else ""
        print(f"{done} {self.unit}, {rate:.1f} per second{left}", file=sys.stderr, flush=True)
