"""Colours (RGB in [0, 1]): random draws and mixtures."""

from __future__ import annotations

import colorsys

import numpy as np

Colour = tuple[float, float, float]


def sample_hsv(
    rng: np.random.Generator, hue: tuple[float, float], saturation: tuple[float, float], value: tuple[float, float]
) -> Colour:
    """Draw a colour from ranges of hue, saturation and value, each in [0, 1]."""
    return colorsys.hsv_to_rgb(rng.uniform(*hue), rng.uniform(*saturation), rng.uniform(*value))


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Return the colour at `share` of the way from `first` to `second`."""
    a, b, c = (float(np.clip(p + (q - p) * share, 0, 1)) for p, q in zip(first, second, strict=True))
    return (a, b, c)


def jitter(rng: np.random.Generator, colour: Colour, amount: float) -> Colour:
    """Return the colour with a random change of brightness and a smaller one of hue."""
    gain = 1 + rng.normal(0, amount)
    a, b, c = (float(np.clip(p * gain + rng.normal(0, amount * 0.2), 0, 1)) for p in colour)
    return (a, b, c)


def blend(first: np.ndarray | Colour, second: np.ndarray | Colour, weight: np.ndarray) -> np.ndarray:
    """Return ... x 3, float32: colours at `weight` (..., 0 to 1) of the way from `first` to `second`."""
    share = np.asarray(weight, np.float32)[..., None]
    return (1 - share) * np.asarray(first, np.float32) + share * np.asarray(second, np.float32)
