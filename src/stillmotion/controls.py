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
Align = Literal["first", "best"]
Box = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Drive:
    """Follow a driving video.

    Attributes:
        video: a file or folder that `media.open_video` reads, or frames, T x H x W x 3, `uint8` RGB.
        transfer: `relative` moves the still's keypoints as the driving ones move from the first driving frame;
            `absolute` puts them where the driving ones are (a reconstruction, if the still is the first frame).
        fps: frames per second of frames given as an array; None means 25. A file knows its own.
        scale_motion: relative transfer only: scale the motion by the size of the still's body over the driver's
            (square root of the ratio of the keypoints' hull areas; the release's `movement_mult`).
        clip: relative transfer only: keep keypoints inside the picture (the release's `clip_mean`).
        adapt_covariance: relative transfer only: carry over how the driver's covariances change instead of
            the covariances themselves (the release's `adapt_variance`).
        align: relative transfer only: motion counts from the `first` driving frame, or from the one whose pose is the
            `best` match of the still's; then the first frame made is no longer the still.
        keep_background: what is background in the still and in a frame keeps the still's own pixels.
        region: only the keypoints in this part of the still move, and nothing far from it; (x, y, width, height) in
            pixels of the still given.
        crop: animate this part of the still, (x, y, width, height) in its pixels, or `auto`: the part in which the
            body has the size and place of the driver's. The animation has the size of the part.

    Raises:
        StillmotionError: the video is neither a path nor frames, or an option has no such value.
    """

    video: str | Path | np.ndarray
    transfer: Transfer = "relative"
    fps: float | None = None
    scale_motion: bool = False
    clip: bool = False
    adapt_covariance: bool = False
    align: Align = "first"
    keep_background: bool = False
    region: Box | None = None
    crop: Box | Literal["auto"] | None = None

    def __post_init__(self) -> None:
        if self.transfer not in get_args(Transfer):
            raise StillmotionError(f"transfer must be relative or absolute, not {self.transfer!r}.")
        if self.align not in get_args(Align):
            raise StillmotionError(f"align must be first or best, not {self.align!r}.")
        if self.region is not None:
            check_box("region", self.region)
        if self.crop is not None and self.crop != "auto":
            check_box("crop", self.crop)
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


def check_box(name: str, box: Box) -> None:
    """Refuse what is no part of a picture: x, y, width and height, whole numbers.

    Raises:
        StillmotionError: another number of values, one that is not whole or is negative, or an empty part.
    """
    whole = isinstance(box, tuple) and len(box) == 4 and all(type(value) is int for value in box)
    if not (whole and min(box[:2]) >= 0 and min(box[2:]) >= 1):
        raise StillmotionError(
            f"A {name} is x, y, width and height in whole pixels, at least 0, 0, 1 and 1, not {box!r}."
        )


def parse_box(name: str, text: str) -> Box:
    """Read `X,Y,W,H`.

    Raises:
        StillmotionError: it does not read so.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 4 or not all(part.isascii() and part.isdecimal() for part in parts):
        raise StillmotionError(f"The {name} {text!r} must be X,Y,W,H in whole pixels.")
    x, y, width, height = map(int, parts)
    return x, y, width, height


@dataclass(frozen=True)
class Predict:
    """No direction: the model continues the still as its training clips went on (image-to-video translation).

    Only a model that was trained with a predictor can.

    Attributes:
        frames: how many frames to make; the first is the still.
        fps: frames per second; those of the training clips, if the motion is to have their speed.

    Raises:
        StillmotionError: a number is out of range.
    """

    frames: int = 32
    fps: float = 25.0

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise StillmotionError(f"frames must be at least 1, not {self.frames}.")
        if not (np.isfinite(self.fps) and self.fps > 0):
            raise StillmotionError(f"fps must be above 0, not {self.fps}.")


Control = Drive | Predict
"""Any control; grows with the systems."""
