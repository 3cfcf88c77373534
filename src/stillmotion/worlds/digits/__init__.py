"""Digits: one handwritten digit on a smooth random trajectory (Hu et al., ICPR 2020, Sec. 4).

The digit is 28 units wide in a window of 112, which is scaled to the clip's size. Its picture comes from a file in
MNIST's format, or is drawn from fonts and warped.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np

from stillmotion.data.clip import Clip
from stillmotion.errors import StillmotionError
from stillmotion.worlds.digits.glyphs import draw_glyph, sample_glyph_style
from stillmotion.worlds.digits.idx import read_digits
from stillmotion.worlds.digits.render import MovingDigit, render, sample_trajectory
from stillmotion.worlds.validation import check_clip

__all__ = ["FPS", "MovingDigit", "render", "sample", "sample_description"]

FPS = 10.0


def sample_description(
    rng: np.random.Generator, source: Path | str | None = None, share: tuple[float, float] = (0.0, 1.0)
) -> MovingDigit:
    """Draw a trajectory and a digit: from a share of the pictures of an IDX file, or without one a glyph of a font.

    Raises:
        StillmotionError: the file cannot be used, or that part of it holds no picture.
    """
    trajectory = sample_trajectory(rng)
    if source is None:
        style = sample_glyph_style(rng)
        return MovingDigit(draw_glyph(style), style.label, trajectory, {"glyph": asdict(style)})
    pictures, labels = read_digits(source)
    first, last = (round(end * len(pictures)) for end in share)
    if not 0 <= first < last <= len(pictures):
        raise StillmotionError(
            f"{source} holds {len(pictures)} pictures, too few for both training and test clips; "
            "name a larger file or set the test share to 0."
        )
    number = int(rng.integers(first, last))
    label = None if labels is None else int(labels[number])
    return MovingDigit(
        _pad_to_square(pictures[number]), label, trajectory, {"file": Path(source).name, "picture": number}
    )


def _pad_to_square(picture: np.ndarray) -> np.ndarray:
    """Return the picture's ink (float32, in [0, 1]) in the middle of a square."""
    height, width = picture.shape
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    padding = ((top, side - height - top), (left, side - width - left))
    return np.pad(picture, padding).astype(np.float32) / 255


def sample(
    rng: np.random.Generator,
    *,
    size: int = 64,
    frames: int = 16,
    action: str | None = None,
    source: Path | str | None = None,
    share: tuple[float, float] = (0.0, 1.0),
) -> Clip:
    """Make one clip of a moving digit, as `worlds.sample_clip` says, at 10 frames per second.

    The paper's clips have 16 frames of 112 pixels. `source` is an IDX file (MNIST's format, gzip or not).

    Returns:
        A clip with the tracks of `render`. `meta["label"]` is the digit, None where the file of labels is missing.
    """
    check_clip("digits", size, frames, action)
    digit = sample_description(rng, source, share)
    video, tracks = render(digit, size, frames)
    description = {**digit.origin, "trajectory": asdict(digit.trajectory)}
    return Clip("digits", video, FPS, tracks, {"world": "digits", "label": digit.label, "description": description})
