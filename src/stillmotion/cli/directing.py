"""From the options of `animate` to the control they describe."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from stillmotion.errors import StillmotionError

if TYPE_CHECKING:
    from stillmotion.controls import Control

GIVEN = {
    "drive": "--drive VIDEO",
    "stroke": "--stroke POINTS",
    "stroke_from": "--stroke-from VIDEO",
    "predict": "--predict",
}
"""What a still can follow, of which one is given."""

_DRIVE = ("drive",)
_STROKES = ("stroke", "stroke_from")
BELONGS: dict[str, tuple[tuple[str, ...], object]] = {
    "transfer": (_DRIVE, "relative"),
    "scale_motion": (_DRIVE, False),
    "clip_mean": (_DRIVE, False),
    "adapt_covariance": (_DRIVE, False),
    "align": (_DRIVE, "first"),
    "keep_background": (_DRIVE, False),
    "region": (_DRIVE, None),
    "crop": (_DRIVE, None),
    "attach": (_STROKES, False),
    "spacing": (_STROKES, "time"),
    "fps": (_STROKES, None),
    "tracker": (("stroke_from",), "points"),
}
"""Options that say how to follow it: what they belong to, and their defaults."""


def make_control(options: argparse.Namespace) -> Control:
    """Make the one control that the options describe.

    Raises:
        StillmotionError: none or several controls, an option of another control, or a value that cannot be used.
    """
    from stillmotion.boxes import parse_box
    from stillmotion.controls import Drive, Predict, StrokeFrom, read_stroke

    given = [name for name in GIVEN if getattr(options, name) not in (None, False)]
    if len(given) != 1:
        *others, last = GIVEN.values()
        raise StillmotionError(f"Say what the still should follow: one of {', '.join(others)} and {last}.")
    for name, (owners, default) in BELONGS.items():
        if getattr(options, name) != default and given[0] not in owners:
            theirs = " and ".join(map(_typed, owners))
            raise StillmotionError(f"{_typed(name)} belongs to {theirs}; leave it out with {_typed(given[0])}.")
    match given[0]:
        case "predict":
            return Predict()
        case "stroke":
            return read_stroke(options.stroke, spacing=options.spacing, attach=options.attach, fps=options.fps)
        case "stroke_from":
            return StrokeFrom(
                options.stroke_from, options.spacing, options.attach, options.fps, tracker=options.tracker
            )
    return Drive(
        options.drive,
        transfer=options.transfer,
        scale_motion=options.scale_motion,
        clip=options.clip_mean,
        adapt_covariance=options.adapt_covariance,
        align=options.align,
        keep_background=options.keep_background,
        region=options.region and parse_box("region", options.region),
        crop=options.crop if options.crop in (None, "auto") else parse_box("crop", options.crop),
    )


def _typed(name: str) -> str:
    return f"--{name.replace('_', '-')}"
