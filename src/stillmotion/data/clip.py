"""A clip: a short real or made video, with everything known about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stillmotion.errors import StillmotionError


def evenly(count: int, most: int) -> np.ndarray:
    """Indices of at most `most` of `count` things, evenly spaced from the first to the last."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int)


@dataclass(frozen=True)
class Clip:
    """A video and its tracks, as plain arrays.

    Raises:
        StillmotionError: a field breaks the rules above.
    """

    name: str  # unique within a data set; letters, digits, `-` and `_` only (it becomes a file name in a tar)
    frames: np.ndarray  # `uint8`, T x H x W x 3, RGB; may be a read-only memory map
    fps: float  # frames per second of `frames`, above zero
    tracks: Mapping[str, np.ndarray] = field(default_factory=dict)  # known beside the pixels, one array per name
    meta: Mapping[str, Any] = field(default_factory=dict)  # JSON-able facts (`action`, `subject`, `split`, ...)

    def __post_init__(self) -> None:
        if not self.name or not all(c.isascii() and (c.isalnum() or c in "-_") for c in self.name):
            raise StillmotionError(f"The clip name {self.name!r} must hold letters, digits, '-' and '_' only.")
        if self.frames.ndim != 4 or self.frames.shape[3] != 3 or self.frames.dtype != np.uint8:
            raise StillmotionError(
                f"The frames of clip {self.name!r} must be uint8, T x H x W x 3, "
                f"not {self.frames.dtype} {self.frames.shape}."
            )
        if len(self.frames) == 0:
            raise StillmotionError(f"The clip {self.name!r} has no frames.")
        if not (np.isfinite(self.fps) and self.fps > 0):
            raise StillmotionError(f"The frame rate of clip {self.name!r} must be above 0, not {self.fps}.")

    def __len__(self) -> int:
        return len(self.frames)
