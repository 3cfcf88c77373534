"""Digits: one handwritten digit on a smooth random path (Hu et al., ICPR 2020, section 4).

The digit is 28 units wide in a window of 112, which is scaled to the clip's size. Its picture comes from a file in
MNIST's format, or is drawn from fonts and warped.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np

from stillmotion.data.clip import Clip
from stillmotion.errors import StillmotionError
from stillmotion.worlds.digits.glyphs import sample_hand, write
from stillmotion.worlds.digits.idx import read_digits
from stillmotion.worlds.digits.motion import sample_path
from stillmotion.worlds.digits.render import MovingDigit, render

__all__ = ["FPS", "MovingDigit", "describe", "render", "sample", "to_clip"]

FPS = 10.0


def describe(
    rng: np.random.Generator, source: Path | str | None = None, share: tuple[float, float] = (0.0, 1.0)
) -> tuple[MovingDigit, dict[str, object]]:
    """Draw a digit and a path.

    Args:
        rng: the only source of randomness.
        source: an IDX file of pictures, or None to draw glyphs.
        share: which part of the file's pictures to draw from, as shares of their number.

    Returns:
        The description, and JSON-able facts about the digit: the file's name and the picture's number in it, or how
        the glyph was written.

    Raises:
        StillmotionError: the file cannot be used, or that part of it holds no picture.
    """
    path = sample_path(rng)
    if source is None:
        hand = sample_hand(rng)
        return MovingDigit(write(hand), hand.label, path), {"hand": asdict(hand)}
    pictures, labels = read_digits(source)
    first, last = (round(end * len(pictures)) for end in share)
    if not 0 <= first < last <= len(pictures):
        raise StillmotionError(
            f"{source} holds {len(pictures)} pictures, too few for both training and test clips; "
            "name a larger file or set the test share to 0."
        )
    number = int(rng.integers(first, last))
    label = None if labels is None else int(labels[number])
    return MovingDigit(_square(pictures[number]), label, path), {"file": Path(source).name, "picture": number}


def _square(picture: np.ndarray) -> np.ndarray:
    """Return the picture's ink (float32, in [0, 1]) in the middle of a square."""
    height, width = picture.shape
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    around = ((top, side - height - top), (left, side - width - left))
    return np.pad(picture, around).astype(np.float32) / 255


def to_clip(moving: MovingDigit, size: int, frames: int, facts: dict[str, object], name: str = "digits") -> Clip:
    """Paint a description and wrap it up as a clip."""
    if not 16 <= size <= 1024:
        raise StillmotionError(f"The size of a digit clip must be 16 to 1024 pixels, not {size}.")
    if frames < 1:
        raise StillmotionError(f"A clip needs at least 1 frame, not {frames}.")
    video, tracks = render(moving, size, frames)
    meta = {"world": "digits", "label": moving.label, "description": {**facts, "path": asdict(moving.path)}}
    return Clip(name, video, FPS, tracks, meta)


def sample(
    rng: np.random.Generator,
    *,
    size: int = 64,
    frames: int = 16,
    action: str | None = None,
    source: Path | str | None = None,
    share: tuple[float, float] = (0.0, 1.0),
) -> Clip:
    """Make one clip of a moving digit.

    Args:
        rng: the only source of randomness.
        size: height and width in pixels, 16 to 1024; the paper's window has 112.
        frames: number of frames; the paper's clips have 16.
        action: must be None; a digit's motion has no name.
        source: an IDX file of digit pictures (MNIST's format, gzip or not), or None to draw glyphs from fonts.
        share: which part of the file's pictures to draw from, as shares of their number.

    Returns:
        A clip with the tracks `points`, `box`, `mask`, `flow_forward` and `flow_backward` (see `render`) and the
        digit's `label` in its meta, None where the file of labels is not there.

    Raises:
        StillmotionError: the file cannot be used, an action was named, or a number is out of range.
    """
    if action is not None:
        raise StillmotionError(f"Digits know no action {action!r}; leave the action out.")
    moving, facts = describe(rng, source, share)
    return to_clip(moving, size, frames, facts)
