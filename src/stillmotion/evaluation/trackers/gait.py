"""Stride rate in a video of one person who walks or runs across, without learned weights.

Legs open and close twice in a stride, so the spread of the lower body oscillates at the step rate. Background
subtraction gives the lower body, and the best-fitting sinusoid the step rate.
"""

from __future__ import annotations

import numpy as np

from stillmotion.data.tracks import moving_masks

STEPS_PER_SECOND = (1.2, 3.6)  # range that is searched: a stroll has 1.4, a sprint 3.2

_MIN_FRAMES = 12
# The legs below the box's centre and their width, in heights of the box.
_LEGS_FROM, _LEGS_TO, _WIDE = 0.08, 0.62, 0.75
_MIN_FIT = 0.35  # a fit must explain this share of the spread's variance, or there is no gait


def stride_rate(frames: np.ndarray, fps: float, positions: np.ndarray, box: np.ndarray) -> float:
    """Measure the strides per second.

    Args:
        frames: `uint8`, T x H x W x 3.
        fps: frames per second.
        positions: T x 2, the person's centre in each frame in pixels: tracked, or the control's stroke.
        box: (x0, y0, x1, y1) around the person in the first frame.

    Returns:
        Strides (of two steps) per second; NaN if there is no oscillation or there are too few frames.
    """
    if len(frames) < _MIN_FRAMES:
        return float("nan")
    signals = leg_signals(frames, positions, box)
    rates = np.arange(STEPS_PER_SECOND[0], STEPS_PER_SECOND[1] + 1e-6, 0.02)
    fits = np.stack([_fits(signals, rate / fps) for rate in rates])  # rates x signals
    together = fits @ (signals.var(axis=0) > 0).astype(float) / signals.shape[1]
    best = int(together.argmax())
    return float(rates[best] / 2) if together[best] >= _MIN_FIT else float("nan")


def leg_signals(frames: np.ndarray, positions: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Spread of the legs in each frame, T x 2: deviation of the columns of the lower mask and of its lowest part."""
    height = float(box[3] - box[1])
    masks = moving_masks(frames)
    y, x = np.mgrid[: frames.shape[1], : frames.shape[2]]
    spreads = np.zeros((len(frames), 2))
    for t, mask in enumerate(masks):
        dx, dy = x - positions[t, 0], y - positions[t, 1]
        near = (np.abs(dx) < _WIDE * height / 2) & (mask > 0)
        for number, start in enumerate((_LEGS_FROM, 0.3)):
            columns = dx[near & (dy > start * height) & (dy < _LEGS_TO * height)]
            spreads[t, number] = columns.std() / height if len(columns) >= 3 else np.nan
    for signal in spreads.T:
        known = np.flatnonzero(np.isfinite(signal))
        signal[:] = np.interp(np.arange(len(signal)), known, signal[known]) if len(known) > len(signal) / 2 else 0.0
    return spreads


def _fits(signals: np.ndarray, frequency: float) -> np.ndarray:
    """Share of each signal's variance about a line that a sinusoid of this frequency (per frame) explains."""
    times = np.arange(len(signals))
    angle = 2 * np.pi * frequency * times
    line = np.stack([np.ones(len(times)), times - times.mean()], axis=1)
    wave = np.concatenate([line, np.cos(angle)[:, None], np.sin(angle)[:, None]], axis=1)
    linear, periodic = (_residual(basis, signals) for basis in (line, wave))
    return 1 - periodic / np.maximum(linear, 1e-12)


def _residual(basis: np.ndarray, signals: np.ndarray) -> np.ndarray:
    fitted = basis @ np.linalg.lstsq(basis, signals, rcond=None)[0]
    return np.asarray(((signals - fitted) ** 2).sum(axis=0))
