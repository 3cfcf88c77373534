"""Time: when things happen, and smooth curves from one value to another. Times are frames, angles radians."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FPS = 25.0


@dataclass(frozen=True)
class Clock:
    """When things happen: `period` in frames, `start` in periods, a slow `wobble` of the tempo in periods."""

    period: float
    start: float
    wobble: float
    wobble_period: float

    def phase(self, times: np.ndarray) -> np.ndarray:
        """Return the phase in periods, growing by about 1 every `period` frames."""
        drift = np.sin(2 * np.pi * (times / self.wobble_period + self.start))
        return times / self.period + self.start + self.wobble * drift


def zeros(times: np.ndarray) -> np.ndarray:
    """Return a zero per moment."""
    return np.zeros_like(times, dtype=float)


def pair(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return T x 2 from what the left (T) and the right (T) do."""
    return np.stack([left, right], axis=-1)


def ease(phase: np.ndarray, sharp: float = 0.0) -> np.ndarray:
    """Return a wave from 0 (phase 0) to 1 (phase 0.5) and back; `sharp` > 0 lingers at the ends."""
    wave = np.cos(2 * np.pi * phase)
    bent = np.sin(0.5 * np.pi * wave)
    return 0.5 - 0.5 * ((1 - sharp) * wave + sharp * bent)


def sample_clock(rng: np.random.Generator, fastest: float, slowest: float) -> Clock:
    """Draw a clock whose period lies between `fastest` and `slowest` frames."""
    period = float(np.exp(rng.uniform(np.log(fastest), np.log(slowest))))
    return Clock(period, rng.random(), rng.uniform(0, 0.02), rng.uniform(70, 160))


def glide(phase: np.ndarray, start: float, end: float) -> np.ndarray:
    """Return 0 before `start`, 1 after `end`, and between them a step whose speed and acceleration have no jumps."""
    t = np.clip((phase - start) / (end - start), 0.0, 1.0)
    return t**3 * (10 - 15 * t + 6 * t**2)
