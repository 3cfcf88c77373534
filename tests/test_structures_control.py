"""Controls of `structures` as a person gives them: all forms, what is refused, the command line."""

from typing import Any

import numpy as np
import pytest

import stillmotion
from refusals import refused
from stillmotion.cli import control_from, parser
from stillmotion.systems.structures import (
    RISE,
    Express,
    Expression,
    Observe,
    Poses,
    PosesFrom,
    Retarget,
    check_expressions,
)

SWITCHES = ("keep_proportions", "align_first", "smooth", "fill_gaps")


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        ("happiness", [(RISE, "happiness", 1)]),
        ("happiness:0.8", [(RISE, "happiness", 0.8)]),
        (" happiness@0.5 , neutral@2", [(0.5, "happiness", 1), (2, "neutral", 1)]),
        ("fear:1.5@0,anger", [(0, "fear", 1.5), (RISE, "anger", 1)]),
        ("jaw_open,neutral", [(RISE, "jaw_open", 1), (2 * RISE, "neutral", 1)]),
        ([(0.5, "happiness"), (2, "neutral", 0.3)], [(0.5, "happiness", 1), (2, "neutral", 0.3)]),
        ((Expression(1, "fear"), "anger@3"), [(1, "fear", 1), (3, "anger", 1)]),
    ],
    ids=str,
)
def test_forms_of_expressions(given: Any, steps: list[tuple[float, str, float]]) -> None:
    assert list(Express(given).expression) == steps
    assert check_expressions("expression", Express(given).expression) == tuple(steps)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "must read NAME"),
        ("happiness:much", "must read NAME"),
        ("happiness@-1", "must read NAME"),
        ("a@2,b@1", "must rise from 0 on: b is at 1 s"),
        ("a@2,b@2", "must rise"),
        ([(float("nan"), "a")], "must rise"),
        ("happiness:3", "goes from 0 to 2, not 3"),
        ([(1, "a", float("nan"))], "goes from 0 to 2"),
        ([], "must be expressions like"),
        (7, "must be expressions like"),
        ([(1,)], "is .seconds, name."),
        ([3.5], "is .seconds, name."),
    ],
    ids=str,
)
def test_other_expressions_are_refused(given: Any, words: str) -> None:
    with pytest.raises(stillmotion.StillmotionError, match=words):
        Express(given)


def test_switches_are_on_for_what_is_made_for_another_body() -> None:
    track, video = np.zeros((2, 13, 2)), np.zeros((2, 8, 8, 3), np.uint8)
    for control, on in ((Poses(track), False), (PosesFrom(video), True), (Observe(video), True)):
        assert {getattr(control, switch) for switch in SWITCHES} == {on}
    assert Retarget(video).smooth
    assert Retarget(video).own_neutral
    assert Retarget(video).head == "still"


def test_what_is_neither_a_file_nor_an_array_is_refused() -> None:
    assert "must be a file or an array, not int" in refused(Poses, 5)
    assert "must be a file or an array, not list" in refused(Poses, [[1, 2]])
    assert "is a path or an array of frames" in refused(PosesFrom, 5)
    assert "must be uint8" in refused(Retarget, np.zeros((2, 3, 4)))
    assert "must be uint8" in refused(Observe, np.zeros((2, 3, 4, 5)))
    Observe(np.zeros((2, 13, 3)))
    assert "still_pose must be a file" in refused(Poses, "a.npy", still_pose=4).replace("The ", "")
    assert "head must be still or video" in refused(Retarget, "a.mp4", head="turned")
    assert "X,Y,W,H" in refused(Poses, "a.npy", crop="left")
    assert Poses("a.npy", crop=(1, 2, 3, 4)).crop == (1, 2, 3, 4)
    assert "fps must be above 0" in refused(Express, "fear", fps=0)


def control_of(*words: str) -> Any:
    typed = vars(parser().parse_args(["animate", "me.png", "--model", "m", "-o", "out.mp4", *words]))
    return control_from(typed)


def test_the_command_line() -> None:
    poses = control_of("--poses", "a.npy", "--joints", "coco", "--fps", "12", "--align-first")
    assert isinstance(poses, Poses)
    assert (poses.poses, poses.joints, poses.fps) == ("a.npy", "coco", 12)
    assert [getattr(poses, switch) for switch in SWITCHES] == [False, True, False, False]
    video = control_of("--poses-from", "a.mp4", "--no-keep-proportions", "--still-pose", "b.json", "--crop", "auto")
    assert isinstance(video, PosesFrom)
    assert (video.still_pose, video.crop) == ("b.json", "auto")
    assert [getattr(video, switch) for switch in SWITCHES] == [False, True, True, True]
    seen = control_of("--observe", "a.mp4", "--no-smooth", "--no-fill-gaps", "--no-align-first")
    assert [getattr(seen, switch) for switch in SWITCHES] == [True, False, False, False]
    face = control_of("--expression", "happiness@0.5,neutral@2", "--landmarks", "l.npy")
    assert isinstance(face, Express)
    assert [each.name for each in face.expression] == ["happiness", "neutral"]  # type: ignore[union-attr]
    other = control_of("--retarget", "a.mp4", "--no-own-neutral", "--head", "video", "--video-landmarks", "v.npy")
    assert isinstance(other, Retarget)
    assert (other.own_neutral, other.head, other.video_landmarks, other.crop) == (False, "video", "v.npy", "auto")
    assert "belongs to --retarget" in refused(control_of, "--poses", "a.npy", "--head", "video")


def test_controls_are_public() -> None:
    assert stillmotion.Express is Express
    assert stillmotion.PosesFrom is PosesFrom
