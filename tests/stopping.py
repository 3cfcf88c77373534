"""Trainings that are stopped."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from stillmotion.training.signals import StopSignal


@contextmanager
def ctrl_c() -> Iterator[None]:
    """Every training in this block gets Ctrl-C in its first step."""
    enter = StopSignal.__enter__

    def pressed(stop_signal: StopSignal) -> StopSignal:
        stop_signal.reason = "Ctrl-C"
        return enter(stop_signal)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StopSignal, "__enter__", pressed)
        yield
