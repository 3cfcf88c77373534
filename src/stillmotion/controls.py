"""What a person gives beside the still: frozen dataclasses that check themselves.

Coordinates are pixels of the picture the person gave; the systems scale them with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from stillmotion.errors import StillmotionError

Transfer = Literal["relative", "absolute"]


@dataclass(frozen=True, eq=False)
class Drive:
    """Follow a driving video.

    Attributes:
        video: a file or folder that `media.open_video` reads, or frames, T x H x W x 3, `uint8` RGB.
        transfer: `relative` moves the still's keypoints as the driving ones move from the first driving frame;
            `absolute` puts them where the driving ones are (a reconstruction, if the still is the first frame).
        fps: frames per second of frames given as an array; None means 25. A file knows its own.
        scale_motion: relative transfer only: scale the motion by the size of the still's body over the driver's
            (square root of the ratio of the keypoints' hull areas).
        clip: relative transfer only: keep keypoints inside the picture.
        adapt_covariance: relative transfer only: carry over how the driver's covariances change instead of
            the covariances themselves.

    Raises:
        StillmotionError: the video is neither a path nor frames, or the transfer has no such name.
    """

    video: str | Path | np.ndarray
    transfer: Transfer = "relative"
    fps: float | None = None
    scale_motion: bool = False
    clip: bool = False
    adapt_covariance: bool = False

    def __post_init__(self) -> None:
        if self.transfer not in get_args(Transfer):
            raise StillmotionError(f"transfer must be relative or absolute, not {self.transfer!r}.")
        if self.fps is not None and not (np.isfinite(self.fps) and self.fps > 0):
            raise StillmotionError(f"fps must be above 0, not {self.fps}.")
        if isinstance(self.video, np.ndarray):
            if self.video.ndim != 4 or self.video.shape[3] != 3 or self.video.dtype != np.uint8:
                raise StillmotionError(
                    "Driving frames must be uint8, T x H x W x 3, "
                    f"not {self.video.dtype} {self.video.shape}; convert them first."
                )
            if min(self.video.shape[:3]) < 1:
                raise StillmotionError("The driving video has no frames; give at least one.")
        elif not isinstance(self.video, str | Path):
            raise StillmotionError(
                f"A driving video is a path or an array of frames, not {type(self.video).__name__}."
            )


Control = Drive
"""Any control; grows with the systems."""
