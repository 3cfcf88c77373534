"""Where eyes and mouths are open."""

import numpy as np
import pytest

from stillmotion.morphable.camera import Pose, project
from stillmotion.morphable.model import MorphableModel, shipped_model
from stillmotion.morphable.openings import face_openings

SIDE = 64


def posed(turn: float = 0.0, roll: float = 0.0, scale: float = 20.0) -> Pose:
    return Pose(np.array([scale]), np.array([[0.0, turn, roll]]), np.array([[32.0, 30.0]]))


def opened(model: MorphableModel, pose: Pose, **units: float) -> np.ndarray:
    expression = np.zeros((1, len(model.expression_std)))
    for name, weight in units.items():
        expression[0, model.expression_names.index(name)] = weight
    return face_openings(model, np.zeros(len(model.identity_std)), expression, pose, SIDE)[0]


def test_a_mouth_opens_below_the_line_of_its_closed_lips() -> None:
    model = shipped_model("faces")
    closed, dropped = opened(model, posed()), opened(model, posed(), jaw_drop=1.0, lips_part=0.3)
    assert closed[..., 1].sum() < 1 < 10 < dropped[..., 1].sum()
    rows = np.flatnonzero(dropped[..., 1].max(1) > 0.5)
    below = dropped[rows, 32, 2] / dropped[rows, 32, 1]
    assert below[-1] == 1  # the range ends
    # Row by row it goes down by the same length on the skull, from the line on.
    marks = project(model.only_landmarks().mean, posed())[0, :, :2]
    apart = np.linalg.norm(marks[45] - marks[36])
    np.testing.assert_allclose(np.diff(below[below < 1]), 1 / (0.25 * apart), rtol=0.05)
    line = (marks[62, 1] + marks[66, 1]) / 2
    np.testing.assert_allclose(below[1], (rows[1] - line) / (0.25 * apart), atol=0.02)


def test_what_is_open_is_counted_in_parts_of_pixels() -> None:
    """Maps of half the side hold the same area, a quarter of the pixels, whatever the grid."""
    model = shipped_model("faces")
    whole, half = opened(model, posed()), opened(model, posed().resized(0.5))
    assert 0.2 < half[..., 0].sum() / whole[..., 0].sum() < 0.3
    assert ((whole[..., 0] > 0.1) & (whole[..., 0] < 0.9)).any()


@pytest.mark.parametrize("name", ["faces", "ict"])
def test_eyes_close(name: str) -> None:
    model = shipped_model(name)
    units = {"blink": 1.0} if name == "faces" else {"eyeBlink_L": 1.0, "eyeBlink_R": 1.0}
    scale = 20.0 if name == "faces" else 2.0
    wide, shut = opened(model, posed(scale=scale)), opened(model, posed(scale=scale), **units)
    assert shut[..., 0].sum() < 0.35 * wide[..., 0].sum()
    assert wide[..., 0].max() == pytest.approx(1, abs=0.1)
    columns = wide[..., 0].sum(0)
    assert columns[:32].sum() == pytest.approx(columns[32:].sum(), rel=0.15)  # both eyes
    assert not wide[..., 2][wide[..., 1] == 0].any()


def test_places_on_the_skull_turn_with_the_head() -> None:
    """Teeth stay where they are on the skull while the head rolls and turns."""
    model = shipped_model("faces")
    found = []
    for pose in (posed(), posed(roll=0.6), posed(turn=0.5)):
        maps = opened(model, pose, jaw_drop=1.0)
        inside = maps[..., 1] > 0.99
        found.append((maps[..., 2][inside].mean(), maps[..., 2][inside].max()))
    assert found[0][1] > 0.5
    np.testing.assert_allclose(found[1], found[0], atol=0.06)
    np.testing.assert_allclose(found[2], found[0], atol=0.06)
