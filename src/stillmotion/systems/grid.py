"""Roll-outs made of others: several of one still side by side, or one in another size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from stillmotion import media
from stillmotion.errors import StillmotionError
from stillmotion.options import Control
from stillmotion.systems.base import Rollout, Step

MOST = 100
"""Roll-outs in one picture."""


class Grid(Rollout):
    """Roll-outs in lockstep, their frames in rows from left to right; layers of the first one alone.

    Args:
        rollouts: of equally large frames; at most `MOST`.
    """

    def __init__(self, rollouts: Sequence[Rollout]):
        check_count(len(rollouts))
        self.rollouts, self.fps = list(rollouts), rollouts[0].fps
        self.columns = math.ceil(math.sqrt(len(rollouts)))

    def __next__(self) -> Step:
        """One step of each; those that are done hold their last pose."""
        steps = [next(rollout) for rollout in self.rollouts]
        self.sound = self.rollouts[0].sound
        cells = [step.frame for step in steps]
        rows = math.ceil(len(cells) / self.columns)
        cells += [np.zeros_like(cells[0])] * (rows * self.columns - len(cells))
        lines = [np.concatenate(cells[i * self.columns : (i + 1) * self.columns], axis=1) for i in range(rows)]
        return Step(np.concatenate(lines), steps[0].layers, steps[0].facts)

    def send(self, control: Control) -> None:
        """Send it to all."""
        for rollout in self.rollouts:
            rollout.send(control)

    @property
    def done(self) -> bool:
        """Whether all are."""
        return all(rollout.done for rollout in self.rollouts)

    @property
    def length(self) -> int | None:
        """That of the longest."""
        return max((rollout.length or 0 for rollout in self.rollouts), default=0) or None

    def close(self) -> None:
        """Close all."""
        for rollout in self.rollouts:
            rollout.close()


class Resized(Rollout):
    """A roll-out with frames of another size; layers keep theirs.

    Args:
        rollout: any; what else it can do, this can.
        side: pixels of the frames' longer side. Both sides are made even, since most videos must be.
    """

    def __init__(self, rollout: Rollout, side: int):
        self.rollout, self.side = rollout, side

    def __next__(self) -> Step:
        """The next step, resized."""
        step = next(self.rollout)
        self.sound = self.rollout.sound
        height, width = step.frame.shape[:2]
        size = even(height * self.side / max(height, width)), even(width * self.side / max(height, width))
        return replace(step, frame=media.resize(step.frame, size))

    def send(self, control: Control) -> None:
        """Send it on."""
        self.rollout.send(control)

    @property
    def done(self) -> bool:
        """Whether it is."""
        return self.rollout.done

    @property
    def length(self) -> int | None:
        """Its own."""
        return self.rollout.length

    def close(self) -> None:
        """Close it."""
        self.rollout.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rollout, name)


def even(length: float) -> int:
    """The even number of pixels nearest to a length, at least 2; an odd whole number goes down."""
    return max(2, 2 * math.floor(length / 2 + 0.499))


def check_count(count: int) -> None:
    """Refuse a grid of none or of too many."""
    if not 1 <= count <= MOST:
        raise StillmotionError(f"A grid holds 1 to {MOST} animations, not {count}.")
