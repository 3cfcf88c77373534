"""Several roll-outs of one still side by side in one picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

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

    def close(self) -> None:
        """Close all."""
        for rollout in self.rollouts:
            rollout.close()


def check_count(count: int) -> None:
    """Refuse a grid of none or of too many."""
    if not 1 <= count <= MOST:
        raise StillmotionError(f"A grid holds 1 to {MOST} animations, not {count}.")
