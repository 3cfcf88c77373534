"""Timing of periodic motions. Times are frames (25 per second) and need not be whole numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillmotion.worlds.easing import smootherstep

FPS = 25.0


@dataclass(frozen=True)
class Cycle:
    """The timing of a periodic motion."""

    period: float  # frames
    start: float  # phase at time 0, in periods
    jitter: float  # amplitude of a slow variation of the phase, in periods
    jitter_period: float  # of that variation, frames

    def phase(self, times: np.ndarray) -> np.ndarray:
        """Return the phase in periods, growing by about 1 every `period` frames."""
        drift = np.sin(2 * np.pi * (times / self.jitter_period + self.start))
        return times / self.period + self.start + self.jitter * drift


def sample_cycle(rng: np.random.Generator, shortest: float, longest: float) -> Cycle:
    """Draw a cycle whose period is between `shortest` and `longest` frames."""
    period = float(np.exp(rng.uniform(np.log(shortest), np.log(longest))))
    return Cycle(period, rng.random(), rng.uniform(0, 0.02), rng.uniform(70, 160))


def raised_cosine(phase: np.ndarray, hold: float = 0.0) -> np.ndarray:
    """Return a wave from 0 (phase 0) to 1 (phase 0.5) and back; `hold` > 0 lingers at the ends."""
    wave = np.cos(2 * np.pi * phase)
    return 0.5 - 0.5 * ((1 - hold) * wave + hold * np.sin(0.5 * np.pi * wave))


def ramp(phase: np.ndarray, start: float, end: float) -> np.ndarray:
    """Return a minimum-jerk rise from 0 at `start` and before to 1 at `end` and after."""
    return smootherstep(np.clip((phase - start) / (end - start), 0.0, 1.0))


def left_right(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return T x 2 from the values of the left (T) and the right (T) limb."""
    return np.stack([left, right], axis=-1)
