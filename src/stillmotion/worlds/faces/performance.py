"""The performance: how expression and pose change over time, apart from who performs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillmotion.worlds.faces.expression import ACTIONS, EMOTIONS, coefficients

_BLINK = ACTIONS.index("blink")
_BLINK_FRAMES = 5.0
# What the head does with an emotion at full intensity: yaw, pitch, roll (radians), y and scale.
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
    """One emotion that comes, stays and goes, again and again; times in frames.

    Attributes:
        emotion: a key of `EMOTIONS`.
        peak: the expression's coefficients at the apex, one per name in `ACTIONS`.
        start: when the face, neutral until then, begins to change.
        onset: how long it takes to the apex, and back again.
        apex: how long the apex lasts.
        pause: how long the face stays neutral before the next time.
        place: x, y of the model's origin and scale, in picture heights.
        turn: yaw, pitch and roll at rest, radians.
        gesture: what is added at the apex to yaw, pitch, roll, y and scale.
        sway: amplitudes of a slow movement of yaw, pitch, roll (radians), x and y (picture heights).
        periods: its periods, in the same order.
        phases: its phases, radians.
        blinks: time of the first blink, and from each to the next.
    """

    emotion: str
    peak: tuple[float, ...]
    start: float
    onset: float
    apex: float
    pause: float
    place: tuple[float, float, float]
    turn: tuple[float, float, float]
    gesture: tuple[float, float, float, float, float]
    sway: tuple[float, ...]
    periods: tuple[float, ...]
    phases: tuple[float, ...]
    blinks: tuple[float, float]

    def intensity(self, times: np.ndarray) -> np.ndarray:
        """Return how far the emotion has come at each time (T): 0 = neutral, 1 = apex, with eased ends."""
        cycle = 2 * self.onset + self.apex + self.pause
        since = np.where(times < self.start, 0.0, np.mod(times - self.start, cycle))
        rising = np.clip(since / self.onset, 0, 1)
        falling = np.clip((2 * self.onset + self.apex - since) / self.onset, 0, 1)
        return _ease(np.minimum(rising, falling))

    def expression(self, times: np.ndarray) -> np.ndarray:
        """Return the expression's coefficients, T x E in the order of `ACTIONS`, at each time."""
        made = self.intensity(times)[:, None] * np.array(self.peak)
        first, every = self.blinks
        since = np.where(times < first, _BLINK_FRAMES, np.mod(times - first, every))
        shut = _ease(np.clip(1 - np.abs(2 * since / _BLINK_FRAMES - 1), 0, 1))
        made[:, _BLINK] += shut * (1 - made[:, _BLINK])
        return made

    def pose(self, times: np.ndarray) -> np.ndarray:
        """Return the pose, T x 6, at each time; see `model.project`."""
        sway = np.array(self.sway) * np.sin(
            2 * np.pi * times[:, None] / np.array(self.periods) + np.array(self.phases)
        )
        x, y, scale = self.place
        rest = np.array([*self.turn, x, y, scale])
        yaw, pitch, roll, lift, nearer = self.gesture
        added = self.intensity(times)[:, None] * np.array([yaw, pitch, roll, 0.0, lift, nearer])
        return rest + added + np.concatenate([sway, np.zeros((len(times), 1))], 1)


def _ease(share: np.ndarray) -> np.ndarray:
    """Return the smoothest step: speed and acceleration are 0 at both ends."""
    return share**3 * (10 - 15 * share + 6 * share**2)


def sample_performance(rng: np.random.Generator, emotion: str) -> Performance:
    """Draw a performance of an emotion: intensity, tempo, head motion and place in the picture."""
    strength = rng.uniform(0.7, 1.08)
    varied = 1 + np.clip(rng.normal(0, 0.12, len(ACTIONS)), -0.3, 0.3)
    peak = strength * coefficients(EMOTIONS[emotion]) * varied
    onset = rng.uniform(6, 12)
    yaw, pitch, roll, lift, nearer = _GESTURES[emotion]
    side = 1.0 if rng.random() < 0.5 else -1.0
    much = strength * rng.uniform(0.3, 1.2)
    scale = rng.uniform(0.30, 0.37)
    calm = rng.uniform(0.2, 1.0)
    limits = np.array([0.07, 0.04, 0.03, 0.006, 0.005])
    return Performance(
        emotion=emotion,
        peak=tuple(float(v) for v in peak),
        start=rng.uniform(1, 6),
        onset=onset,
        apex=rng.uniform(5, 14),
        pause=rng.uniform(4, 16),
        place=(0.5 + float(np.clip(rng.normal(0, 0.02), -0.05, 0.05)), rng.uniform(0.47, 0.52), scale),
        turn=(
            float(np.clip(rng.normal(0, 0.17), -0.42, 0.42)),
            float(np.clip(rng.normal(0, 0.05), -0.13, 0.13)),
            float(np.clip(rng.normal(0, 0.04), -0.1, 0.1)),
        ),
        gesture=(side * yaw * much, pitch * much, side * roll * much, lift * much, nearer * much),
        sway=tuple(float(v) for v in calm * limits * rng.uniform(0.3, 1.0, 5)),
        periods=tuple(float(v) for v in rng.uniform(30, 110, 5)),
        phases=tuple(float(v) for v in rng.uniform(0, 2 * np.pi, 5)),
        blinks=(rng.uniform(2, 70), rng.uniform(45, 110)),
    )
