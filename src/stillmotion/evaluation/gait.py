"""Strides per second, read from a video of one person who walks or runs across, without learned weights.

Legs open and close twice in a stride, so how far the lower body spreads swings at the rate of steps. What the lower
body is, tells the background; how fast it swings, the sinusoid that fits best.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from stillmotion.data.background import moving_masks
from stillmotion.evaluation.truth_metrics import Mean

STEPS_PER_SECOND = (1.2, 3.6)
"""Where the rate of steps is sought: a stroll has 1.4, a sprint 3.2."""

_LEAST_FRAMES = 12
# Of the person's box below its centre: where the legs are.
_LEGS_FROM, _LEGS_TO, _WIDE = 0.08, 0.62, 0.75
# A fit must explain this share of the spread's changes, or there is no gait.
_LEAST_FIT = 0.35


def stride_rate(frames: np.ndarray, fps: float, places: np.ndarray, box: np.ndarray) -> float:
    """Measure the strides per second.

    Args:
        frames: `uint8`, T x H x W x 3.
        fps: frames per second.
        places: T x 2, the person's centre in each frame in pixels: tracked, or the stroke that was followed.
        box: (x0, y0, x1, y1) around the person in the first frame.

    Returns:
        Strides (of two steps) per second; NaN if no swing is seen or there are too few frames.
    """
    if len(frames) < _LEAST_FRAMES:
        return float("nan")
    signals = leg_signals(frames, places, box)
    rates = np.arange(STEPS_PER_SECOND[0], STEPS_PER_SECOND[1] + 1e-6, 0.02)
    fits = np.stack([_fits(signals, rate / fps) for rate in rates])  # rates x signals
    together = fits @ (signals.var(axis=0) > 0).astype(float) / signals.shape[1]
    best = int(together.argmax())
    return float(rates[best] / 2) if together[best] >= _LEAST_FIT else float("nan")


def leg_signals(frames: np.ndarray, places: np.ndarray, box: np.ndarray) -> np.ndarray:
    """How wide the legs are spread in each frame: T x 2, the deviation of the mask's columns, and of its lowest."""
    height = float(box[3] - box[1])
    masks = moving_masks(frames)
    y, x = np.mgrid[: frames.shape[1], : frames.shape[2]]
    spreads = np.zeros((len(frames), 2))
    for t, mask in enumerate(masks):
        dx, dy = x - places[t, 0], y - places[t, 1]
        near = (np.abs(dx) < _WIDE * height / 2) & (mask > 0)
        for number, start in enumerate((_LEGS_FROM, 0.3)):
            columns = dx[near & (dy > start * height) & (dy < _LEGS_TO * height)]
            spreads[t, number] = columns.std() / height if len(columns) >= 3 else np.nan
    for signal in spreads.T:
        known = np.flatnonzero(np.isfinite(signal))
        signal[:] = np.interp(np.arange(len(signal)), known, signal[known]) if len(known) > len(signal) / 2 else 0.0
    return spreads


def _fits(signals: np.ndarray, frequency: float) -> np.ndarray:
    """Share of each signal's changes (about a straight line) that a sinusoid of this frequency (per frame) has."""
    times = np.arange(len(signals))
    angle = 2 * np.pi * frequency * times
    line = np.stack([np.ones(len(times)), times - times.mean()], axis=1)
    wave = np.concatenate([line, np.cos(angle)[:, None], np.sin(angle)[:, None]], axis=1)
    without, left = (_left(basis, signals) for basis in (line, wave))
    return 1 - left / np.maximum(without, 1e-12)


def _left(basis: np.ndarray, signals: np.ndarray) -> np.ndarray:
    fitted = basis @ np.linalg.lstsq(basis, signals, rcond=None)[0]
    return np.asarray(((signals - fitted) ** 2).sum(axis=0))


class StrideRight(Mean):
    """Is the gait the one that the stroke's speed asks for?

    Args:
        within: the largest relative error that is right.
    """

    higher_is_better = True

    def __init__(self, within: float = 0.15, **options: Any):
        super().__init__(**options)
        self.within = within
        self.definition = (
            f"percent of clips whose strides per second, read from the video, lie within {within:.0%} of the "
            "truth's; a video without a readable gait is wrong; higher is better"
        )

    def update(self, found: Tensor, truth: Tensor) -> None:
        """Add clips: strides per second as found (NaN if none) and as they should be; N each."""
        self.add(100.0 * ((found - truth).abs() <= self.within * truth).double())
