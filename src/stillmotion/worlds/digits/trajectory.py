"""The digit's smooth random trajectory inside the paper's window of 112 units.

The paper (Hu et al., ICPR 2020, Sec. 4) specifies smooth random trajectories and publishes no law. Here each
coordinate is a sum of three sines: smooth, endless, and without reflections at the borders.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WINDOW, DIGIT = 112.0, 28.0

_Rows = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Trajectory:
    """Sums of three sines around a centre, in window units with 0 at the window's left and upper border."""

    centre: tuple[float, float]
    amplitudes: _Rows  # 2 x 3 (x, y); each row sums to at most the room around the centre
    frequencies: _Rows  # 2 x 3, radians per frame
    phases: _Rows  # 2 x 3, radians

    def at(self, times: np.ndarray) -> np.ndarray:
        """Return the digit's centre at `times` (T, in frames): T x 2, in window units."""
        angle = np.asarray(self.frequencies) * np.asarray(times, float)[:, None, None] + np.asarray(self.phases)
        return np.asarray(self.centre) + (np.asarray(self.amplitudes) * np.sin(angle)).sum(-1)


def sample_trajectory(rng: np.random.Generator) -> Trajectory:
    """Draw a trajectory that keeps the digit inside the window; the RMS speed is 0.6 to 7 units per frame."""
    room = (WINDOW - DIGIT) / 2
    reach = room * rng.uniform(0.35, 1.0, 2)
    centre = WINDOW / 2 + (room - reach) * rng.uniform(-1, 1, 2)
    weights = rng.uniform(0.1, 1.0, (2, 3)) * np.array([1.0, 0.6, 0.35])
    amplitudes = reach[:, None] * weights / weights.sum(1, keepdims=True)
    # Relative frequencies first; then all are scaled to the drawn speed (RMS over the endless trajectory).
    frequencies = np.array([1.0, 1.9, 3.1]) * rng.uniform(0.75, 1.25, (2, 3))
    speed = 0.6 * (7.0 / 0.6) ** rng.random()
    frequencies *= speed / np.sqrt(0.5 * ((amplitudes * frequencies) ** 2).sum())
    phases = rng.uniform(0, 2 * np.pi, (2, 3))
    return Trajectory((float(centre[0]), float(centre[1])), *map(_rows, (amplitudes, frequencies, phases)))


def _rows(values: np.ndarray) -> _Rows:
    first, second = (tuple(row) for row in values.tolist())
    return first, second
