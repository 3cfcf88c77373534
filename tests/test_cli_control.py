"""The options of `animate` that make a control: grouped in its help, parsed, and refused where they do not belong."""

import dataclasses
from typing import Any

import pytest

from stillmotion.cli import control_from, parser
from stillmotion.errors import StillmotionError
from stillmotion.options import Control
from stillmotion.systems.actions import Act, Pose, Remove
from stillmotion.systems.driving import Drive, Predict
from stillmotion.systems.strokes import Stroke, StrokeFrom


def test_options_of_animate_are_grouped_by_system_and_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["animate", "--help"])
    text = capsys.readouterr().out
    driving, strokes = (text.index(f"\n{name}: ") for name in ("driving", "strokes"))
    assert (
        driving
        < text.index("  --drive VIDEO")
        < text.index("  --predict ")
        < strokes
        < text.index("  --stroke POINTS")
    )
    # `--spacing` belongs to both controls of strokes.
    assert [text.count(f"\n  {option} ") for option in ("--drive", "--spacing", "--fps", "--region")] == [1] * 4
    assert "(default: the model's own, mostly relative)" in " ".join(text.split())


def control_of(*words: str) -> Control:
    """The control out of the options of `animate`."""
    typed = vars(parser().parse_args(["animate", "me.png", "--model", "m", "-o", "out.mp4", *words]))
    return control_from(typed)


def fields_of(control: Control) -> dict[str, Any]:
    """Those that differ from their defaults."""
    found = ((each.name, getattr(control, each.name), each.default) for each in dataclasses.fields(control))
    return {name: value for name, value, default in found if value is not default and name != "points"}


@pytest.mark.parametrize(
    ("words", "kind", "fields"),
    [
        ("--drive a.mp4", Drive, {"video": "a.mp4"}),
        (
            "--drive a.mp4 --transfer absolute --movement-mult --region 1,2,3,4 --crop auto --align best",
            Drive,
            {
                **{"video": "a.mp4", "transfer": "absolute", "scale_motion": True, "region": (1, 2, 3, 4)},
                **{"crop": "auto", "align": "best"},
            },
        ),
        ("--predict", Predict, {}),
        ("--action walk --side left", Act, {"action": "walk", "side": "left"}),
        ("--pose-of b.png --pose-frames 4", Pose, {"picture": "b.png", "rise": 4}),
        ("--remove", Remove, {}),
        ("--stroke 1,2&3,4 --fps 5 --attach", Stroke, {"fps": 5.0, "attach": True}),
        ("--stroke-from a.mp4 --tracker points:person", StrokeFrom, {"video": "a.mp4", "tracker": "points:person"}),
    ],
)
def test_options_become_a_control(words: str, kind: type[Control], fields: dict[str, Any]) -> None:
    control = control_of(*(word.replace("&", " ") for word in words.split()))
    assert type(control) is kind
    assert fields_of(control) == fields
    if isinstance(control, Stroke):
        assert control.points.tolist() == [[1, 2], [3, 4]]  # type: ignore[union-attr]


@pytest.mark.parametrize("words", ["", "--attach", "--drive a.mp4 --predict", "--stroke 1,2 --stroke-from a.mp4"])
def test_there_is_one_control(words: str) -> None:
    with pytest.raises(StillmotionError) as caught:
        control_of(*words.split())
    assert str(caught.value) == (
        "Say what the still should follow: one of --action NAME, --pose-of PICTURE, --remove, --drive VIDEO, "
        "--predict, --poke X,Y>X,Y, "
        "--impulse X,Y:DX,DY, --stroke POINTS, --stroke-from VIDEO, --poses FILE, --poses-from VIDEO, "
        "--observe VIDEO, --expression NAME[:STRENGTH][@SECONDS],... and --retarget VIDEO."
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--predict --keep-background", "--keep-background belongs to --drive; leave it out with --predict."),
        ("--drive a.mp4 --attach", "--attach belongs to --stroke and --stroke-from; leave it out with --drive."),
        ("--remove --side left", "--side belongs to --action; leave it out with --remove."),
        ("--action walk --pose-frames 3", "--pose-frames belongs to --pose-of; leave it out with --action."),
        (
            "--predict --crop none",
            "--crop belongs to --action and --pose-of and --remove and --drive and --poses and --poses-from and "
            "--observe and --expression and --retarget; leave it out with --predict.",
        ),
        ("--stroke 1,2 --tracker x", "--tracker belongs to --stroke-from; leave it out with --stroke."),
        ("--stroke 1,2 --adapt-variance", "--adapt-covariance belongs to --drive; leave it out with --stroke."),
    ],
)
def test_an_option_of_another_control_is_named_with_its_owner(words: str, told: str) -> None:
    with pytest.raises(StillmotionError) as caught:
        control_of(*words.split())
    assert str(caught.value) == told
