"""Where the digit is: a smooth random path inside the window, in units of the paper's 112-pixel window.

The paper (Hu et al., ICPR 2020, section 4) asks for smooth random trajectories and publishes no law. Here each
coordinate is a sum of three sines, so a path is smooth, has no end, and never needs to bounce.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WINDOW, DIGIT = 112.0, 28.0
_WAVES = 3


@dataclass(frozen=True)
class Path:
    """A smooth path.

    Attributes:
        middle: 2 (x, y), around which it winds, in window units with 0 at the window's left and upper border.
        amplitudes: 2 x 3, of the sines; each row sums up to less than the room around the middle.
        turns: 2 x 3, radians per frame.
        phases: 2 x 3, radians.
    """

    middle: tuple[float, float]
    amplitudes: tuple[tuple[float, ...], tuple[float, ...]]
    turns: tuple[tuple[float, ...], tuple[float, ...]]
    phases: tuple[tuple[float, ...], tuple[float, ...]]

    def at(self, times: np.ndarray) -> np.ndarray:
        """Return the digit's centre at `times` (T, in frames): T x 2, in window units."""
        angle = np.asarray(self.turns) * np.asarray(times, float)[:, None, None] + np.asarray(self.phases)
        return np.asarray(self.middle) + (np.asarray(self.amplitudes) * np.sin(angle)).sum(-1)


def sample_path(rng: np.random.Generator) -> Path:
    """Draw a path whose digit stays wholly inside the window; its typical speed is 0.6 to 7 units per frame."""
    room = (WINDOW - DIGIT) / 2
    reach = room * rng.uniform(0.35, 1.0, 2)
    middle = WINDOW / 2 + (room - reach) * rng.uniform(-1, 1, 2)
    weights = rng.uniform(0.1, 1.0, (2, _WAVES)) * np.array([1.0, 0.6, 0.35])
    amplitudes = reach[:, None] * weights / weights.sum(1, keepdims=True)
    # Relative tempi first; then all are scaled to the speed drawn (root mean square over the endless path).
    turns = np.array([1.0, 1.9, 3.1]) * rng.uniform(0.75, 1.25, (2, _WAVES))
    speed = 0.6 * (7.0 / 0.6) ** rng.random()
    turns *= speed / np.sqrt(0.5 * ((amplitudes * turns) ** 2).sum())
    phases = rng.uniform(0, 2 * np.pi, (2, _WAVES))
    return Path((float(middle[0]), float(middle[1])), _rows(amplitudes), _rows(turns), _rows(phases))


def _rows(values: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    first, second = (tuple(float(v) for v in row) for row in values)
    return first, second
