"""Colour jitter of whole samples: the same change for all frames, so that nothing flickers."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

LUMA = np.array([0.299, 0.587, 0.114])  # rec. 601: the grey that saturation moves colours to and from.


@dataclass(frozen=True, eq=False)
class ColourShift:
    """One local change: colours similar to that of one pixel are shifted, wherever they are."""

    place: tuple[float, float]  # (x, y) of the pixel in the first frame, as shares of width and height (below 1)
    shift: np.ndarray  # 3, added to colours equal to the pixel's
    radius: float  # distance in RGB (each in [0, 1]) at which the shift has fallen to exp(-1/2)


@dataclass(frozen=True, eq=False)
class ColourParams:
    """The changes of colour of one sample, in the order in which they are applied; the defaults change nothing."""

    shifts: tuple[ColourShift, ...] = ()  # local changes
    hue: float = 0.0  # shift in turns
    contrast: float = 1.0  # factor of the distance from the mean grey of all frames
    matrix: np.ndarray | None = None  # 3 x 3, applied to RGB columns: gains, saturation and the order of channels
    brightness: float = 0.0  # offset, where 1 is the full range
    gamma: float = 1.0  # exponent


def sample_shifts(std: float, rng: np.random.Generator) -> tuple[ColourShift, ...]:
    """Sample up to two local changes, whose colours are looked up near the middle of the picture.

    Args:
        std: standard deviation of each channel's shift.
        rng: the source of randomness.
    """
    return tuple(
        ColourShift(
            (float(rng.uniform(0.35, 0.65)), float(rng.uniform(0.3, 0.9))),
            rng.normal(0, std, 3),
            float(rng.uniform(0.05, 0.2)),
        )
        for _ in range(rng.integers(0, 3))
    )


def colour_jitter(frames: np.ndarray, params: ColourParams, reference: int | None = None) -> np.ndarray:
    """Change the colours of frames.

    Args:
        frames: `float32`, T x H x W x 3 in [0, 1]; may be written to.
        params: what to change.
        reference: the mean grey and the colours of local changes are those of so many first frames; None for all.

    Returns:
        `float32`, T x H x W x 3 in [0, 1].
    """
    shape = frames.shape
    for change in params.shifts:
        frames = _shift_similar(frames, change)
    flat = frames.reshape(-1, shape[2], 3)  # one tall picture: one call for all frames
    if params.hue:
        flat = shift_hue(flat, params.hue)
    if params.matrix is not None or params.contrast != 1.0 or params.brightness:
        matrix = np.eye(3) if params.matrix is None else params.matrix
        grey = 0.0
        if params.contrast != 1.0:
            rows = len(flat) if reference is None else reference * shape[1]
            grey = float(np.mean(flat[:rows], axis=(0, 1), dtype=np.float64) @ LUMA)
        offset = matrix.sum(1) * (1 - params.contrast) * grey + params.brightness
        flat = cv2.transform(flat, np.column_stack([matrix * params.contrast, offset]))
        np.clip(flat, 0.0, 1.0, out=flat)
    if params.gamma != 1.0:
        flat = flat ** np.float32(params.gamma)
    return flat.reshape(shape)


def shift_hue(picture: np.ndarray, turns: float) -> np.ndarray:
    """Shift the hue of a `float32` H x W x 3 picture in [0, 1]; the largest channel and greys stay."""
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)  # float: hue in degrees, no 8-bit rounding
    hue = hsv[..., 0] + np.float32(turns * 360)
    hsv[..., 0] = hue - 360 * np.floor(hue / 360)
    return np.clip(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), 0.0, 1.0)


def _shift_similar(frames: np.ndarray, change: ColourShift) -> np.ndarray:
    sides = (frames.shape[2], frames.shape[1])
    column, row = (min(int(share * side), side - 1) for share, side in zip(change.place, sides, strict=True))
    distance = np.square(frames - frames[0, row, column]).sum(-1, keepdims=True)
    weight = np.exp(-distance / np.float32(2 * change.radius**2))
    return np.clip(frames + weight * change.shift.astype(np.float32), 0, 1)
