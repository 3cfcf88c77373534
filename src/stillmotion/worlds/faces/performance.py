"""The performance: expression and pose over time, independent of the person."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillmotion.worlds.easing import smootherstep
from stillmotion.worlds.faces.expression import ACTION_UNITS, EMOTIONS, coefficients

_BLINK = ACTION_UNITS.index("blink")
_BLINK_FRAMES = 5.0
# The head's gesture with an emotion at full intensity: yaw, pitch, roll (radians), y and scale.
_GESTURES = {
    "anger": (0.0, -0.10, 0.0, 0.008, 0.012),
    "disgust": (0.10, 0.03, 0.04, 0.0, -0.008),
    "fear": (0.05, 0.03, 0.0, 0.004, -0.012),
    "happiness": (0.0, 0.03, 0.06, 0.0, 0.0),
    "sadness": (0.04, -0.16, 0.06, 0.014, 0.0),
    "surprise": (0.0, 0.05, 0.0, -0.008, -0.006),
}


@dataclass(frozen=True)
class Performance:
    """One emotion with onset, apex and offset, repeated; times in frames."""

    emotion: str  # a key of `EMOTIONS`
    peak: tuple[float, ...]  # the expression's coefficients at the apex, one per name in `ACTION_UNITS`
    start: float  # end of the neutral phase before the first onset
    onset: float  # duration of the rise to the apex, and of the fall
    apex: float  # duration of the apex
    pause: float  # duration of the neutral phase before the next onset
    place: tuple[float, float, float]  # x, y of the model's origin and scale, in picture heights
    rest: tuple[float, float, float]  # yaw, pitch and roll at rest, radians
    gesture: tuple[float, float, float, float, float]  # added at the apex to yaw, pitch, roll, y and scale
    sway: tuple[float, ...]  # amplitudes of a slow motion of yaw, pitch, roll (radians), x and y (picture heights)
    periods: tuple[float, ...]  # its periods, in the same order
    phases: tuple[float, ...]  # its phases, radians
    blinks: tuple[float, float]  # time of the first blink, and from each to the next

    def intensity(self, times: np.ndarray) -> np.ndarray:
        """Return the emotion's intensity at each time (T): 0 = neutral, 1 = apex, with eased ends."""
        cycle = 2 * self.onset + self.apex + self.pause
        since = np.where(times < self.start, 0.0, np.mod(times - self.start, cycle))
        rising = np.clip(since / self.onset, 0, 1)
        falling = np.clip((2 * self.onset + self.apex - since) / self.onset, 0, 1)
        return smootherstep(np.minimum(rising, falling))

    def expression(self, times: np.ndarray) -> np.ndarray:
        """Return the expression's coefficients, T x E in the order of `ACTION_UNITS`, at each time."""
        found = self.intensity(times)[:, None] * np.array(self.peak)
        first, every = self.blinks
        since = np.where(times < first, _BLINK_FRAMES, np.mod(times - first, every))
        shut = smootherstep(np.clip(1 - np.abs(2 * since / _BLINK_FRAMES - 1), 0, 1))
        found[:, _BLINK] += shut * (1 - found[:, _BLINK])
        return found

    def pose(self, times: np.ndarray) -> np.ndarray:
        """Return the pose, T x 6, at each time; see `model.project`."""
        angle = 2 * np.pi * times[:, None] / np.array(self.periods) + np.array(self.phases)
        sway = np.array(self.sway) * np.sin(angle)
        x, y, scale = self.place
        yaw, pitch, roll, lift, nearer = self.gesture
        gesture = self.intensity(times)[:, None] * np.array([yaw, pitch, roll, 0.0, lift, nearer])
        return np.array([*self.rest, x, y, scale]) + gesture + np.concatenate([sway, np.zeros((len(times), 1))], 1)


def sample_performance(rng: np.random.Generator, emotion: str) -> Performance:
    """Draw a performance of an emotion: intensity, tempo, head motion and place in the picture."""
    strength = rng.uniform(0.7, 1.08)
    variation = 1 + np.clip(rng.normal(0, 0.12, len(ACTION_UNITS)), -0.3, 0.3)
    peak = strength * coefficients(EMOTIONS[emotion]) * variation
    onset = rng.uniform(6, 12)
    yaw, pitch, roll, lift, nearer = _GESTURES[emotion]
    side = 1.0 if rng.random() < 0.5 else -1.0
    amount = strength * rng.uniform(0.3, 1.2)
    scale = rng.uniform(0.30, 0.37)
    sway = rng.uniform(0.2, 1.0) * np.array([0.07, 0.04, 0.03, 0.006, 0.005])
    return Performance(
        emotion=emotion,
        peak=tuple(peak.tolist()),
        start=rng.uniform(1, 6),
        onset=onset,
        apex=rng.uniform(5, 14),
        pause=rng.uniform(4, 16),
        place=(0.5 + float(np.clip(rng.normal(0, 0.02), -0.05, 0.05)), rng.uniform(0.47, 0.52), scale),
        rest=(
            float(np.clip(rng.normal(0, 0.17), -0.42, 0.42)),
            float(np.clip(rng.normal(0, 0.05), -0.13, 0.13)),
            float(np.clip(rng.normal(0, 0.04), -0.1, 0.1)),
        ),
        gesture=(side * yaw * amount, pitch * amount, side * roll * amount, lift * amount, nearer * amount),
        sway=tuple((sway * rng.uniform(0.3, 1.0, 5)).tolist()),
        periods=tuple(rng.uniform(30, 110, 5).tolist()),
        phases=tuple(rng.uniform(0, 2 * np.pi, 5).tolist()),
        blinks=(rng.uniform(2, 70), rng.uniform(45, 110)),
    )
