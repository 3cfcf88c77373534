"""A still follows a sequence of poses or facial expressions.

Zhao, Peng, Tian, Kapadia and Metaxas, "Learning to Forecast and Refine Residual Motion for Image-to-Video Generation"
(ECCV 2018).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from stillmotion.errors import StillmotionError
from stillmotion.options import Box, Control, check_crop, check_video, fps_option, option, start_option

if TYPE_CHECKING:
    import numpy as np

RISE = 1.0
"""Seconds from one expression to the next, where none are said."""

POSE_FILES = (".npy", ".json")


class Expression(NamedTuple):
    """An expression that is reached at a time."""

    seconds: float
    name: str
    strength: float = 1.0


def _check_crop(name: str, value: Any) -> Any:
    return value if value in (None, "none") else check_crop(name, value)


def _check_array(name: str, value: Any) -> Any:
    if isinstance(value, str | Path) or (hasattr(value, "dtype") and value.ndim >= 2):
        return value
    raise StillmotionError(f"The {name} must be a file or an array, not {type(value).__name__}.")


def _check_observed(name: str, value: Any) -> Any:
    return value if getattr(value, "ndim", 0) == 3 else check_video(name, value)


_ITEM = re.compile(r"(?P<name>[A-Za-z]\w*)(:(?P<strength>\d{1,3}(\.\d{0,6})?))?(@(?P<seconds>\d{1,6}(\.\d{0,6})?))?")


def check_expressions(name: str, given: Any) -> tuple[Expression, ...]:
    """Expressions as text, `NAME[:STRENGTH][@SECONDS],...`, or (seconds, name[, strength]) each, in order of time.

    One without a time is reached `RISE` after the one before it.

    Raises:
        StillmotionError: they read otherwise, times do not rise, or a strength is not from 0 to 2.
    """
    items = given.split(",") if isinstance(given, str) else given
    if not isinstance(items, Sequence) or not items:
        raise StillmotionError(f"The {name} must be expressions like 'happiness:0.8@0.5,neutral@2', not {given!r}.")
    made: list[Expression] = []
    for item in items:
        before = made[-1].seconds if made else 0.0
        one = _parse(name, item, before + RISE) if isinstance(item, str) else _from_tuple(name, item)
        if not (math.isfinite(one.seconds) and (one.seconds > before if made else one.seconds >= 0)):
            raise StillmotionError(
                f"The times of the {name} must rise from 0 on: {one.name} is at {one.seconds:g} s."
            )
        if not 0 <= one.strength <= 2:
            raise StillmotionError(f"The strength of the {name} {one.name} goes from 0 to 2, not {one.strength}.")
        made.append(one)
    return tuple(made)


def _parse(name: str, text: str, seconds: float) -> Expression:
    found = _ITEM.fullmatch(text.strip())
    if found is None:
        raise StillmotionError(f"The {name} {text!r} must read NAME, NAME:STRENGTH or NAME:STRENGTH@SECONDS.")
    return Expression(float(found["seconds"] or seconds), found["name"], float(found["strength"] or 1))


def _from_tuple(name: str, item: Any) -> Expression:
    try:
        seconds, expression, *strength = item
        made = Expression(float(seconds), str(expression), *map(float, strength))
    except (TypeError, ValueError) as error:
        raise StillmotionError(
            f"Each {name} is (seconds, name) or (seconds, name, strength), not {item!r}."
        ) from error
    return made


_FILE: dict[str, Any] = {"default": None, "metavar": "FILE", "check": _check_array}
_STILL: dict[str, Any] = {**_FILE, "help": "the still's own pose, a file as for --poses with one pose"}
_LANDMARKS: dict[str, Any] = {
    **_FILE,
    "help": "the 68 landmarks of the still's face, .npy or JSON, in its pixels",
}
DETECTED, EXACT = 0.015, 0.001
"""Expected errors of landmarks that are detected, and of those that a clip knows, as shares of the face's side."""
_NOISE: dict[str, Any] = {
    **{"default": DETECTED, "metavar": "SHARE", "parse": float, "above": 0},
    "help": f"expected error of landmarks, share of the face's side (default: {DETECTED}; less follows weaker ones)",
}
_PROPORTIONS: dict[str, Any] = {
    "negatable": True,
    "help": "keep the still's bone lengths: retarget by joint angles (on with --poses-from and --observe)",
}
_ALIGN: dict[str, Any] = {
    "negatable": True,
    "help": "place and scale the poses so that the first lies where the still's body is (on with the same)",
}
_SMOOTH: dict[str, Any] = {
    "negatable": True,
    "help": "smooth what is found in a video (on with the same and --retarget)",
}
_FILL: dict[str, Any] = {
    "negatable": True,
    "help": "fill short gaps of joints that are not found (on with the same)",
}
_CROP: dict[str, Any] = {
    **{"metavar": "X,Y,W,H", "check": _check_crop},
    "help": "animate only this part of the still; auto: where it fits the driver",
}


@dataclass(frozen=True, eq=False)
class Poses(Control):
    """Take one pose after the other (Sec. 3.1).

    The first is the still's own, unless `still_pose` says so, or one of the switches needs to know it: then it is
    detected.

    Attributes:
        poses: a .npy or JSON file, see `data.pose_tracks.read_poses`, or T x J x 2 or 3, (x, y, visibility) in pixels
            of the still given.
        joints: the joint set, `penn` (13), `coco` (17) or `openpose` (18); None: the one with so many joints.
        still_pose: a file or J x 2 or 3, as `poses`.
        keep_proportions: bones keep the still's lengths and take the directions of the poses.
        align_first: the first pose lies where the still's body is, at its size.
        smooth: lower the jitter of a detector.
        fill_gaps: joints that are missing for a short time are interpolated.
        fps: frames per second; None: the file's, or those of the training clips.
        crop: animate only this part of the still, (x, y, width, height) in its pixels, or `auto`: the part in which
            the poses lie.
    """

    given_by: ClassVar[str] = "--poses"

    poses: str | Path | np.ndarray = option(
        "--poses",
        metavar="FILE",
        help="take these poses: .npy or JSON, T x joints x (x, y[, visibility]) in pixels of the still",
        check=_check_array,
    )
    joints: str | None = option(
        "--joints", default=None, metavar="SET", help="the poses' joint set: penn (13), coco (17) or openpose (18)"
    )
    still_pose: str | Path | np.ndarray | None = option("--still-pose", **_STILL)
    keep_proportions: bool = option("--keep-proportions", default=False, **_PROPORTIONS)
    align_first: bool = option("--align-first", default=False, **_ALIGN)
    smooth: bool = option("--smooth", default=False, **_SMOOTH)
    fill_gaps: bool = option("--fill-gaps", default=False, **_FILL)
    fps: float | None = fps_option()
    crop: Box | Literal["auto", "none"] | None = option("--crop", default=None, **_CROP)


@dataclass(frozen=True, eq=False)
class PosesFrom(Control):
    """Take the poses of a person in a video; made for another body, so all switches of `Poses` are on.

    Attributes:
        video: a file or folder that `media.open_video` reads, or frames, T x H x W x 3, `uint8` RGB.
        still_pose: as in `Poses`; None: detected, if a switch needs it.
        keep_proportions: as in `Poses`.
        align_first: as in `Poses`.
        smooth: as in `Poses`.
        fill_gaps: as in `Poses`.
        start: the video begins at this second.
        fps: frames per second of the result, which lasts as long as the video; None: the video's. For an array or a
            folder it is their rate, 25 if None.
        crop: as in `Poses`.
    """

    given_by: ClassVar[str] = "--poses-from"

    video: str | Path | np.ndarray = option(
        "--poses-from", metavar="VIDEO", help="take the poses of the person in this video", check=check_video
    )
    still_pose: str | Path | np.ndarray | None = option("--still-pose", **_STILL)
    keep_proportions: bool = option("--keep-proportions", default=True, **_PROPORTIONS)
    align_first: bool = option("--align-first", default=True, **_ALIGN)
    smooth: bool = option("--smooth", default=True, **_SMOOTH)
    fill_gaps: bool = option("--fill-gaps", default=True, **_FILL)
    start: float = start_option()
    fps: float | None = fps_option()
    crop: Box | Literal["auto", "none"] | None = option("--crop", default=None, **_CROP)


@dataclass(frozen=True, eq=False)
class Observe(Control):
    """Go on as a video began: the model observes its first poses and predicts the next (Sec. 3.1).

    The last observed pose is the still's. Only a model with a pose predictor can.

    Attributes:
        video: as in `PosesFrom`; or its poses, a file or an array as in `Poses`.
        still_pose: as in `Poses`; None: detected, if a switch needs it.
        keep_proportions: as in `Poses`.
        align_first: as in `Poses`, but of the last observed pose.
        smooth: as in `Poses`.
        fill_gaps: as in `Poses`.
        start: as in `PosesFrom`.
        fps: as in `PosesFrom`.
        crop: as in `Poses`.
    """

    given_by: ClassVar[str] = "--observe"

    video: str | Path | np.ndarray = option(
        "--observe",
        metavar="VIDEO",
        help="go on as this video began: its first 10 poses are observed, the next 32 predicted",
        check=_check_observed,
    )
    still_pose: str | Path | np.ndarray | None = option("--still-pose", **_STILL)
    keep_proportions: bool = option("--keep-proportions", default=True, **_PROPORTIONS)
    align_first: bool = option("--align-first", default=True, **_ALIGN)
    smooth: bool = option("--smooth", default=True, **_SMOOTH)
    fill_gaps: bool = option("--fill-gaps", default=True, **_FILL)
    start: float = start_option()
    fps: float | None = fps_option()
    crop: Box | Literal["auto", "none"] | None = option("--crop", default=None, **_CROP)


@dataclass(frozen=True, eq=False)
class Express(Control):
    """Show one facial expression after the other; the face goes gently from each to the next.

    Attributes:
        expression: `NAME[:STRENGTH][@SECONDS],...`, e.g. `happiness@0.5,neutral@2`, or (seconds, name[, strength])
            each; see `check_expressions`. Names: happiness, sadness, anger, surprise, fear, disgust, neutral, and
            the face model's own.
        landmarks: the 68 landmarks of the still's face (iBUG), a file or 68 x 2 in its pixels; None: detected.
        fps: frames per second; None: those of the training clips.
        crop: animate only this part of the still, (x, y, width, height) in its pixels; `auto`: the face, as in the
            training clips; `none`: all of it.
        landmark_noise: expected error of landmarks, as a share of the face's side. Less follows weaker expressions,
            more ignores what detectors make of noise.
    """

    given_by: ClassVar[str] = "--expression"

    expression: str | Sequence[Any] = option(
        "--expression",
        metavar="NAME[:STRENGTH][@SECONDS],...",
        help="show this expression, or several in turn: happiness@0.5,neutral@2",
        check=check_expressions,
    )
    landmarks: str | Path | np.ndarray | None = option("--landmarks", **_LANDMARKS)
    fps: float | None = fps_option()
    crop: Box | Literal["auto", "none"] = option("--crop", default="auto", **_CROP)
    landmark_noise: float = option("--landmark-noise", **_NOISE)


@dataclass(frozen=True, eq=False)
class Retarget(Control):
    """Show the expressions of the face in a video (expression retargeting, Sec. 3.1).

    Attributes:
        video: a file or folder that `media.open_video` reads, or frames, T x H x W x 3, `uint8` RGB.
        landmarks: as in `Express`.
        video_landmarks: those of the video's face, a file or T x 68 x 2 in its pixels; None: detected.
        own_neutral: carry over how the driver's face differs from its own face at rest, added to what the still
            shows; otherwise the driver's expressions as they are.
        strength: times what is carried over; the face model's range is kept.
        head: the `still`'s head stays, or turns as in the `video`.
        smooth: smooth expressions and poses over time.
        start: the video begins at this second.
        fps: frames per second of the result, which lasts as long as the video; None: the video's. For an array or a
            folder it is their rate, 25 if None.
        crop: as in `Express`.
        landmark_noise: as in `Express`.
    """

    given_by: ClassVar[str] = "--retarget"

    video: str | Path | np.ndarray = option(
        "--retarget", metavar="VIDEO", help="show the expressions of the face in this video", check=check_video
    )
    landmarks: str | Path | np.ndarray | None = option("--landmarks", **_LANDMARKS)
    video_landmarks: str | Path | np.ndarray | None = option(
        "--video-landmarks", help="those of the video's frames", **_FILE
    )
    own_neutral: bool = option(
        "--own-neutral",
        default=True,
        negatable=True,
        help="leave out what the driver's face shows at rest",
    )
    strength: float = option(
        "--strength",
        default=1.0,
        metavar="TIMES",
        parse=float,
        at_least=0,
        help="weaker or stronger expressions than the driver's (default: 1)",
    )
    head: Literal["still", "video"] = option(
        "--head", default="still", choices=("still", "video"), help="whose head turns: not at all, or as in the video"
    )
    smooth: bool = option("--smooth", default=True, **_SMOOTH)
    start: float = start_option()
    fps: float | None = fps_option()
    crop: Box | Literal["auto", "none"] = option("--crop", default="auto", **_CROP)
    landmark_noise: float = option("--landmark-noise", **_NOISE)


POSE_CONTROLS = (Poses, PosesFrom, Observe)
FACE_CONTROLS = (Express, Retarget)
CONTROLS = (*POSE_CONTROLS, *FACE_CONTROLS)
