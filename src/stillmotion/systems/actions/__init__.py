"""A still performs an action by its name.

Kim, Nam, Cho and Kim, "Unsupervised Keypoint Learning for Guiding Class-Conditional Video Prediction" (NeurIPS 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from stillmotion.errors import StillmotionError
from stillmotion.options import Box, Control, check_crop, fps_option, option, whole

if TYPE_CHECKING:
    import numpy as np

ALL = "all"
"""Instead of an action: every one that the model knows."""

NONE = "any"
"""Instead of an action: whatever the model makes of the still; the only one of a model without classes."""


_CROP: dict[str, Any] = {
    "default": None,
    "metavar": "X,Y,W,H",
    "check": check_crop,
    "help": "animate only this part of the still; auto: around the figure, where it is small",
}


def _check_name(name: str, given: Any) -> str:
    if not isinstance(given, str) or not given.strip():
        raise StillmotionError(f"The {name} must be a name, not {given!r}.")
    return given.strip()


def _check_picture(name: str, given: Any) -> Any:
    if isinstance(given, str | Path) or (getattr(given, "ndim", 0) == 3 and given.shape[2] == 3):
        return given
    raise StillmotionError(f"The {name} must be a file or a picture, H x W x 3 `uint8`.")


@dataclass(frozen=True, eq=False)
class Act(Control):
    """Perform an action (Sec. 2). Each seed gives another performance.

    Attributes:
        action: one of the model's; `all` for a grid of all of them; `any` leaves it to the model.
        side: from which side it is to be seen, of a model that knows sides; None leaves it to the model.
        fps: frames per second; None for those of the training clips.
        crop: animate only this part of the still, (x, y, width, height) in its pixels, or `auto`: a square around the
            figure. The rest of the still stays.
    """

    given_by: ClassVar[str] = "--action"

    action: str = option(
        "--action",
        metavar="NAME",
        help="perform this action; all: a grid of all that the model knows",
        check=_check_name,
    )
    side: str | None = option(
        "--side", default=None, metavar="NAME", help="seen from this side, if the model knows sides"
    )
    fps: float | None = fps_option()
    crop: Box | Literal["auto"] | None = option("--crop", **_CROP)


@dataclass(frozen=True, eq=False)
class Pose(Control):
    """Take the pose of another picture (Fig. 8).

    Attributes:
        picture: a file, or H x W x 3, `uint8` RGB: something like the still's figure, in another pose.
        rise: frames until the still has the pose; 1 shows nothing between.
        fps: as in `Act`.
        crop: as in `Act`; a picture of the still's size is cropped alike.
    """

    given_by: ClassVar[str] = "--pose-of"

    picture: str | Path | np.ndarray = option(
        "--pose-of", metavar="PICTURE", help="take the pose of the figure in this picture", check=_check_picture
    )
    rise: int = option(
        "--pose-frames", default=16, metavar="N", parse=whole, at_least=1, help="frames until it has it"
    )
    fps: float | None = fps_option()
    crop: Box | Literal["auto"] | None = option("--crop", **_CROP)


@dataclass(frozen=True)
class Remove(Control):
    """Remove the figure, and fill what was behind it (Fig. 8).

    Attributes:
        fps: as in `Act`.
        crop: as in `Act`.
    """

    given_by: ClassVar[str] = "--remove"
    summary: ClassVar[str] = "remove the figure, and fill what was behind it"

    fps: float | None = fps_option()
    crop: Box | Literal["auto"] | None = option("--crop", **_CROP)


CONTROLS = (Act, Pose, Remove)
