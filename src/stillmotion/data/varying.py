"""Augmentation that makes other bodies and other clothes out of the few that a data set has.

`bend` deforms all frames of a sample by one smooth field, so limbs get other lengths and widths; `dye` shifts the
colours that are like the colour at some place, wherever they are: a shirt changes and stays one shirt in all frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

KNOTS = 5
"""Knots of the smooth field along each side; bodies that fill the picture have limbs a few knots long."""

SOLVE = 12
"""Fixed-point iterations that find where a point goes; the field's slope is well below one, so each gains a digit."""


@dataclass(frozen=True, eq=False)
class Dye:
    """One shift of colours.

    Attributes:
        place: (x, y) as shares of width and height (below 1), where the colour is looked up in the first frame.
        shift: 3, added to colours equal to it.
        reach: distance in RGB (each in [0, 1]) at which the shift has fallen to exp(-1/2).
    """

    place: tuple[float, float]
    shift: np.ndarray
    reach: float


def draw_bend(size: tuple[int, int], strength: float, rng: np.random.Generator) -> np.ndarray:
    """A smooth random field, H x W x 2 float32: from where, relative to itself, each pixel (x, y) is taken.

    Args:
        size: (height, width).
        strength: standard deviation at the knots, as a share of each side.
        rng: where the numbers come from.
    """
    knots = rng.normal(0, strength, (KNOTS, KNOTS, 2)) * [size[1], size[0]]
    return cv2.resize(knots.astype(np.float32), (size[1], size[0]), interpolation=cv2.INTER_CUBIC)


def bend(frames: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Take every pixel from where `field` says: one bilinear resample, borders replicated; T x H x W x 3 float32."""
    height, width = field.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    made = np.empty_like(frames)
    for frame, target in zip(frames, made, strict=True):
        cv2.remap(
            frame, x + field[..., 0], y + field[..., 1], cv2.INTER_LINEAR, dst=target, borderMode=cv2.BORDER_REPLICATE
        )
    return made


def bend_points(points: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Where points (... x 2, pixels) are after `bend`: the inverse of the field, found by iteration."""
    height, width = field.shape[:2]
    flat = points.reshape(-1, 1, 2).astype(np.float32)
    moved = flat
    for _ in range(SOLVE):
        # Outside the picture the field goes on as it is at the border.
        at = np.clip(moved, 0, np.array([width - 1, height - 1], np.float32))
        moved = flat - cv2.remap(field, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return moved.reshape(points.shape)


def draw_dyes(strength: float, rng: np.random.Generator) -> tuple[Dye, ...]:
    """Up to two shifts of colours looked up around the middle of the picture, where the body is.

    Args:
        strength: standard deviation of each channel's shift.
        rng: where the numbers come from.
    """
    return tuple(
        Dye(
            (float(rng.uniform(0.35, 0.65)), float(rng.uniform(0.3, 0.9))),
            rng.normal(0, strength, 3),
            float(rng.uniform(0.05, 0.2)),
        )
        for _ in range(rng.integers(0, 3))
    )


def dye(frames: np.ndarray, dyes: tuple[Dye, ...]) -> np.ndarray:
    """Shift colours one dye after the other; T x H x W x 3 float32 in [0, 1], the same for all frames."""
    height, width = frames.shape[1:3]
    for one in dyes:
        column, row = (
            min(int(share * side), side - 1) for share, side in zip(one.place, (width, height), strict=True)
        )
        colour = frames[0, row, column]
        away = np.square(frames - colour).sum(-1, keepdims=True)
        weight = np.exp(-away / np.float32(2 * one.reach**2))
        frames = np.clip(frames + weight * one.shift.astype(np.float32), 0, 1)
    return frames
