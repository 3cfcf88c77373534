"""A still moves as a driving video does.

Monkey-Net: Siarohin, Lathuilière, Tulyakov, Ricci and Sebe, "Animating Arbitrary Objects via Deep Motion Transfer"
(CVPR 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from stillmotion.options import Box, Control, check_box, check_crop, check_video, fps_option, option, start_option

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, eq=False)
class Drive(Control):
    """Follow a driving video (Sec. 3.6).

    Attributes:
        video: a file or folder that `media.open_video` reads, or frames, T x H x W x 3, `uint8` RGB.
        transfer: `relative` moves the still's keypoints as the driving ones move from the first driving frame;
            `absolute` puts them where the driving ones are (a reconstruction, if the still is the first frame); None
            takes the model's own (`transfer` in its configuration).
        start: the video begins at this second.
        fps: frames per second of the result, which lasts as long as the video; None: the video's. For an array or a
            folder it is their rate, 25 if None.
        scale_motion: relative transfer only: scale the motion by the size of the still's body over the driver's
            (square root of the ratio of the keypoints' hull areas; the release's `movement_mult`).
        clip_mean: relative transfer only: keep keypoints inside the picture (the release's `clip_mean`).
        adapt_covariance: relative transfer only: carry over how the driver's covariances change instead of
            the covariances themselves (the release's `adapt_variance`).
        align: relative transfer only: motion counts from the `first` driving frame, or from the one whose pose is the
            `best` match of the still's; then the first frame made is no longer the still.
        keep_background: what is background in the still and in a frame keeps the still's own pixels.
        region: only the keypoints in this part of the still move, and nothing far from it; (x, y, width, height) in
            pixels of the still given.
        crop: animate this part of the still, (x, y, width, height) in its pixels, or `auto`: the part in which the
            body has the size and place of the driver's. The animation has the size of the part.
    """

    given_by: ClassVar[str] = "--drive"

    video: str | Path | np.ndarray = option(
        "--drive",
        metavar="VIDEO",
        help="follow this video (mp4, webm, mov, avi, gif, a strip, a folder of frames)",
        check=check_video,
    )
    transfer: Literal["relative", "absolute"] | None = option(
        "--transfer",
        default=None,
        choices=("relative", "absolute"),
        help="how keypoints are carried over (default: the model's own, mostly relative)",
    )
    start: float = start_option()
    fps: float | None = fps_option()
    scale_motion: bool = option(
        "--scale-motion", "--movement-mult", default=False, help="scale the motion by the size of the bodies"
    )
    clip_mean: bool = option("--clip-mean", default=False, help="keep keypoints inside the picture")
    adapt_covariance: bool = option(
        "--adapt-covariance", "--adapt-variance", default=False, help="carry over how covariances change"
    )
    align: Literal["first", "best"] = option(
        "--align", default="first", choices=("first", "best"), help="the driving frame that motion counts from"
    )
    keep_background: bool = option(
        "--keep-background", default=False, help="the background keeps the still's own pixels"
    )
    region: Box | None = option(
        "--region",
        default=None,
        metavar="X,Y,W,H",
        help="move only what lies in this part of the still (in its pixels)",
        check=check_box,
    )
    crop: Box | Literal["auto"] | None = option(
        "--crop",
        default=None,
        metavar="X,Y,W,H",
        help="animate only this part of the still; auto: where it fits the driver",
        check=check_crop,
    )


@dataclass(frozen=True)
class Predict(Control):
    """No direction: the model continues the still as its training clips went on (image-to-video translation, Sec. 4).

    Only a model that was trained with a keypoint predictor can.

    Attributes:
        frames: how many frames to make; the first is the still.
        fps: frames per second; None is the rate of the training clips.
    """

    given_by: ClassVar[str] = "--predict"
    summary: ClassVar[str] = "continue as the training clips did; for models with a keypoint predictor"

    frames: int = option(default=32, at_least=1)
    fps: float | None = fps_option()


CONTROLS = (Drive, Predict)
