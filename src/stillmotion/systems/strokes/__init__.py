"""A still's object follows a drawn path, one point per frame.

Motion strokes: Hu, Wälchli, Portenier, Zwicker and Favaro, "Learning to Take Directions One Step at a Time"
(ICPR 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from stillmotion.options import (
    Control,
    check_points,
    check_rising,
    check_video,
    fps_option,
    option,
    read_points,
    start_option,
)

if TYPE_CHECKING:
    import numpy as np

Spacing = Literal["time", "even"]

_ATTACH = "shift the stroke so that it starts at the still's object"
_SPACING = "time: points that lie dense are slow; even: one speed all along"


@dataclass(frozen=True, eq=False)
class Stroke(Control):
    """Follow a drawn path: the object that it starts on goes along it.

    Attributes:
        points: N x 2, (x, y) in pixels of the still given; at least two.
        times: the second at which each point is reached, rising; None: one equal step of time between neighbours.
        spacing: `time` goes from point to point as the times say, so that dense points are slow; `even` goes the
            whole way at one speed.
        attach: shift the whole stroke so that it starts at the centre of the object found in the still.
        fps: frames per second; None: those of the clips that the model learned from.
    """

    given_by: ClassVar[str] = "--stroke"

    points: np.ndarray | Sequence[Sequence[float]] = option(
        "--stroke",
        metavar="POINTS",
        help="follow this path, in pixels of the still: 'x,y x,y ...', or a file.json with points and times",
        read=read_points,
        check=check_points(least=2),
    )
    times: np.ndarray | Sequence[float] | None = option(default=None, check=check_rising, as_many_as="points")
    spacing: Spacing = option("--spacing", default="time", choices=("time", "even"), help=_SPACING)
    attach: bool = option("--attach", default=False, help=_ATTACH)
    fps: float | None = fps_option()


@dataclass(frozen=True, eq=False)
class StrokeFrom(Control):
    """Follow the path of the moving object in another video.

    The video is laid over the still, as large as fits and centred, and its path is the stroke: a point per frame.

    Attributes:
        video: a file or folder that `media.open_video` reads, or frames, T x H x W x 3, `uint8` RGB.
        spacing: `time` keeps the object's speed, `even` goes the whole way at one speed.
        attach: shift the whole stroke so that it starts at the centre of the object found in the still.
        start: the video begins at this second.
        fps: frames per second of the result, which lasts as long as the video; None: the video's. For an array or a
            folder it is their rate, 25 if None.
        tracker: what finds the moving object: `points`, or another tracker of that track (docs/data.md), e.g.
            `points:person` or `points:patch=FOLDER`.
    """

    given_by: ClassVar[str] = "--stroke-from"

    video: str | Path | np.ndarray = option(
        "--stroke-from", metavar="VIDEO", help="follow the path of the moving object in this video", check=check_video
    )
    spacing: Spacing = option("--spacing", default="time", choices=("time", "even"), help=_SPACING)
    attach: bool = option("--attach", default=False, help=_ATTACH)
    start: float = start_option()
    fps: float | None = fps_option()
    tracker: str = option("--tracker", default="points", metavar="NAME", help="what finds that object (docs/data.md)")


CONTROLS = (Stroke, StrokeFrom)
