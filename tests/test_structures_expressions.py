"""Expressions on a still's face: from landmarks and controls to normal maps."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from refusals import refused
from stillmotion import media
from stillmotion.data.augment import find_augmentation, sample_params
from stillmotion.morphable import landmarks
from stillmotion.morphable.camera import Pose, project, rotation_matrices
from stillmotion.morphable.fitting import fit_landmarks
from stillmotion.morphable.model import shipped_model
from stillmotion.morphable.release import release_normals
from stillmotion.morphable.rendering import render_normals
from stillmotion.rendering.canvas import Canvas
from stillmotion.systems.structures import Express, Retarget, expressions
from stillmotion.systems.structures.animating import Structures
from stillmotion.systems.structures.config import StructureConfig
from stillmotion.systems.structures.data import coarse_displacement, known_of, with_structures
from stillmotion.systems.structures.expressions import Face, FacePlan
from structures_tools import TINY, changed
from structures_training_tools import face_clip

MODEL = shipped_model("faces")
CONFIG = StructureConfig(face_model="faces")
STILL = np.zeros((120, 160, 3), np.uint8)


def person(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=len(MODEL.identity_std)).clip(-2, 2)


def seen(identity: np.ndarray, expression: np.ndarray, pose: Pose) -> np.ndarray:
    """Landmarks, T x 68 x 2."""
    return project(MODEL.vertices(identity, expression), pose)[:, MODEL.landmarks, :2]


def posed(frames: int, scale: float = 40.0, turn: float = 0.0) -> Pose:
    """A head in the middle of the still that turns by `turn` from frame to frame."""
    rotation = np.zeros((frames, 3))
    rotation[:, 1] = turn * np.arange(frames)
    return Pose(np.full(frames, scale), rotation, np.repeat([[80.0, 60.0]], frames, 0))


def coefficients(name: str, strength: float = 1.0) -> np.ndarray:
    made = np.zeros(len(MODEL.expression_names))
    for unit, weight in MODEL.emotions[name].items():
        made[MODEL.expression_names.index(unit)] = weight * strength
    return made


@cache
def face() -> Face:
    """The still's: of somebody who smiles a little."""
    marks = seen(person(1), coefficients("happiness", 0.3)[None], posed(1))
    return expressions.find_face(MODEL, STILL, marks[0])


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


# --- the still's face -----------------------------------------------------------------------------------------------
def test_a_still_without_a_face_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landmarks, "detect_landmarks", lambda frames, tracking=True: np.full((1, 68, 2), np.nan))
    assert "No face is found" in refused(expressions.find_face, MODEL, STILL, None)
    marks = seen(person(1), np.zeros((2, len(MODEL.expression_std))), posed(2))
    assert "not those of 2 frames" in refused(expressions.find_face, MODEL, STILL, marks)
    assert "No face fits" in refused(
        expressions.find_face, MODEL, STILL, np.random.default_rng(0).uniform(0, 99, (68, 2))
    )


def test_landmarks_may_be_given_in_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "l.npy", face().marks)
    again = expressions.find_face(MODEL, STILL, tmp_path / "l.npy")
    assert np.array_equal(again.fit.identity, face().fit.identity)


def test_models_are_shipped_or_a_persons_own(tmp_path: Path) -> None:
    assert expressions.open_model("faces") is MODEL
    assert "no face model 'basel'" in refused(expressions.open_model, "basel")
    assert "does not exist" in refused(expressions.open_model, str(tmp_path / "01_MorphableModel.mat"))


# --- normal maps ----------------------------------------------------------------------------------------------------
def canvas(crop: Any = None, size: int = 32) -> Canvas:
    return Canvas.prepare(STILL, size, crop, torch.device("cpu"))


def test_maps_are_the_fitted_head_where_the_still_shows_it() -> None:
    plan = FacePlan(face(), np.repeat(face().fit.expression, 3, 0), posed(3, turn=0.1), 25, CONFIG)
    small = posed(3, turn=0.1)
    small = Pose(small.scale / 5, small.rotation, (small.shift + np.array([0.5, 20.5])) / 5 - 0.5)  # padded by 20
    shape = MODEL.vertices(face().fit.identity, face().fit.expression)
    expected = render_normals(np.repeat(shape, 3, 0), MODEL.triangles, small, 32).normals.transpose(0, 3, 1, 2)
    made = plan.maps(canvas(), 0, 3)
    assert np.allclose(made.numpy(), expected, atol=1e-4)
    assert torch.equal(plan.maps(canvas(), 1, 3), made[1:])
    own = FacePlan(face(), face().fit.expression, face().fit.pose, 25, CONFIG)
    assert torch.equal(plan.own(canvas()), own.maps(canvas(), 0, 1))
    length = made.norm(dim=1)
    assert torch.allclose(length[length > 0], torch.ones(1))
    assert 0.03 < float((length > 0).float().mean()) < 0.5
    assert plan.facts(2)["rotation"].tolist() == [0, 0.2, 0]
    assert np.array_equal(plan.facts(0)["identity"], face().fit.identity)


def test_what_is_open_stands_beside_the_displacement_in_the_frame_and_in_the_still(tmp_path: Path) -> None:
    """Training and animating tell the network the same; mirrors and time running backwards move the maps too."""
    config = changed(
        TINY, size=32, structure__kind="normals", structure__face_model="faces", structure__openings=True,
        forecast__fields=True, clip__augmentation="none", pose_prediction__steps=0,
    )  # fmt: skip
    (clip,) = with_structures([face_clip(frames=12)], config, tmp_path)
    plain = sample_params((32, 32), np.random.default_rng(0), find_augmentation("none"))

    def known(**changes: Any) -> Tensor:
        params, plates = replace(plain, **changes), lambda *_: torch.zeros(4, 32, 32)
        batch = known_of(clip, np.array([0, 11]), params, config, plates)  # type: ignore[arg-type]
        return coarse_displacement({name: value[None] for name, value in batch.items()}, config)[0, 0]

    coarse = known()
    assert coarse.shape == (32, 32, 9)
    frame, still = coarse[..., 3:6], coarse[..., 6:]
    assert frame[..., 1].sum() > still[..., 1].sum() + 1  # the mouth opens
    torch.testing.assert_close(known(reverse=True)[..., 3:6], still)
    torch.testing.assert_close(known(mirror=True)[..., 3:], coarse[..., 3:].flip(1))
    control = Structures.build(config).control_of(clip)
    assert isinstance(control, Retarget)
    fitted = expressions.find_face(MODEL, clip.frames[0], control.landmarks, 0.001)
    plan = expressions.plan_retargeting(control, fitted, config.structure, None)
    shown = Canvas.prepare(clip.frames[0], 32, None, torch.device("cpu"))
    found = plan.coarse(shown, 11, 12)[0, ..., 3:]
    assert (found - coarse[..., 3:]).abs().sum() < 0.1 * coarse[..., 3:].abs().sum()  # but for the fit


def test_the_rule_of_the_release() -> None:
    """Flat, into the head, and the triangle farthest from the origin shows."""
    vertices, pose = MODEL.vertices(face().fit.identity, face().fit.expression), Pose(
        np.array([9.0]), np.zeros((1, 3)), np.array([[15.5, 15.5]])
    )  # fmt: skip
    made = expressions.normal_maps(MODEL, vertices, pose, 32, "radius")[0].numpy()
    placed = project(vertices, pose)[0] + np.array([1, 1, 0])
    assert np.allclose(made.transpose(1, 2, 0), release_normals(vertices[0], placed, MODEL.triangles[:, ::-1], 32))
    ours = expressions.normal_maps(MODEL, vertices, pose, 32, "depth")[0].numpy()
    assert ours[2][ours[2] != 0].mean() > 0.4
    assert made[2][made[2] != 0].mean() < -0.4


def test_the_face_has_the_size_of_training_clips() -> None:
    marks = face().marks
    box = expressions.face_box(marks, StructureConfig(face_crop=1.5), (400, 400))
    side = np.ptp(marks, axis=0).max()
    assert box is not None
    assert box[2] == box[3] == round(1.5 * side)
    middle = np.array(box[:2]) + box[2] / 2 - 0.5
    assert np.allclose(middle, (marks.min(0) + marks.max(0)) / 2 - [0, 0.08 * side], atol=1)
    assert expressions.face_box(marks, StructureConfig(face_crop=0), (400, 400)) is None
    assert expressions.face_box(marks, StructureConfig(face_crop=1.5), (90, 400)) is None  # it is all of it
    release = expressions.face_box(marks + 100, StructureConfig(depth="radius"), (400, 400))
    ours = expressions.face_box(marks + 100, StructureConfig(), (400, 400))
    assert release is not None
    assert ours is not None
    assert release[1] < ours[1]  # lower in the picture, the release crops higher


# --- named expressions ----------------------------------------------------------------------------------------------
def test_named_expressions_begin_with_the_stills_own() -> None:
    plan = expressions.plan_expressions(Express("surprise@1,neutral@2"), face(), CONFIG, 10, None, None)
    assert (len(plan), plan.fps) == (26, 10)
    assert np.allclose(plan.expression[0], face().fit.expression[0])
    assert np.allclose(plan.expression[10], coefficients("surprise").clip(0, 1.2), atol=1e-6)
    assert np.allclose(plan.expression[20:], 0, atol=1e-6)
    assert np.allclose(plan.expression[5], (face().fit.expression[0] + coefficients("surprise")) / 2, atol=1e-6)
    assert np.array_equal(plan.pose.shift, np.repeat(face().fit.pose.shift, 26, 0))


def test_expressions_go_on_from_what_is_shown() -> None:
    before = coefficients("fear", 0.5)
    plan = expressions.plan_expressions(Express("anger:0.5@1", fps=5), face(), CONFIG, 10, before, 8)
    assert (len(plan), plan.fps) == (8, 5)
    assert np.allclose(plan.expression[0], before)
    assert np.allclose(plan.expression[5:], coefficients("anger", 0.5), atol=1e-6)
    at_once = expressions.plan_expressions(Express("anger@0"), face(), CONFIG, 10, before, 3)
    assert np.allclose(at_once.expression, coefficients("anger"), atol=1e-6)
    assert "'joy' is not an expression" in refused(
        expressions.plan_expressions, Express("joy"), face(), CONFIG, 10, None, None
    )


# --- retargeting ----------------------------------------------------------------------------------------------------
@cache
def driver() -> tuple[np.ndarray, np.ndarray]:
    """Landmarks of somebody else who shows anger and turns the head, and the truth; neutral in frame 2."""
    strength = np.abs(np.arange(8) - 2) / 6
    shown = strength[:, None] * coefficients("anger")
    return seen(person(7), shown, posed(8, scale=55.0, turn=0.04)), shown


def retarget(**options: Any) -> FacePlan:
    marks, _ = driver()
    control = Retarget(np.zeros((8, 30, 30, 3), np.uint8), video_landmarks=marks, smooth=False, **options)
    return expressions.plan_retargeting(control, face(), CONFIG, None)


def test_what_the_driver_shows_is_added_to_what_the_still_shows() -> None:
    plan, (_, true) = retarget(), driver()
    assert (len(plan), plan.fps) == (8, 25)
    added = plan.expression - face().fit.expression[0]
    assert np.allclose(plan.expression[2], face().fit.expression[0], atol=0.1)
    assert correlation(added, true) > 0.75
    assert np.array_equal(plan.pose.rotation, np.repeat(face().fit.pose.rotation, 8, 0))
    assert np.array_equal(plan.face.fit.identity, face().fit.identity)


def test_the_drivers_expressions_may_be_taken_as_they_are() -> None:
    plan, (marks, _) = retarget(own_neutral=False), driver()
    assert np.allclose(plan.expression, fit_landmarks(MODEL, marks).expression)


@pytest.mark.parametrize("own_neutral", [True, False])
def test_expressions_may_be_stronger_or_weaker_than_the_drivers(own_neutral: bool, monkeypatch: Any) -> None:
    monkeypatch.setattr(expressions, "limited", lambda model, expression: expression)
    none, whole, half = (retarget(strength=s, own_neutral=own_neutral).expression for s in (0.0, 1.0, 0.5))
    assert np.allclose(none, face().fit.expression if own_neutral else 0)
    assert np.allclose(half, (none + whole) / 2)
    assert np.abs(whole - none).max() > 0.5


def test_the_head_may_turn_as_the_drivers_does() -> None:
    plan = retarget(head="video")
    turn = rotation_matrices(plan.pose.rotation) @ rotation_matrices(plan.pose.rotation[:1]).transpose(0, 2, 1)
    angle = np.arccos(((np.einsum("tii->t", turn) - 1) / 2).clip(-1, 1))
    assert np.allclose(angle, 0.04 * np.arange(8), atol=0.03)
    assert np.allclose(plan.pose.rotation[0], face().fit.pose.rotation[0])
    assert np.allclose(plan.pose.shift[0], face().fit.pose.shift[0])
    assert np.allclose(plan.pose.scale, face().fit.pose.scale, rtol=0.06)


def test_moves_and_zooms_are_those_of_the_driver_in_units_of_the_head() -> None:
    one, two = posed(1, scale=20.0), Pose(np.array([40.0, 60.0]), np.zeros((2, 3)), np.array([[50.0, 50], [54, 50]]))
    made = expressions.turned(one, two)
    assert made.scale.tolist() == [20, 30]
    assert made.shift.tolist() == [[80, 60], [82, 60]]


def test_a_face_drives_itself() -> None:
    """The still is the first frame: with its own landmarks all frames are its own again."""
    marks, _ = driver()
    own = expressions.find_face(MODEL, STILL, marks[0])
    control = Retarget(
        np.zeros((8, 30, 30, 3), np.uint8), video_landmarks=marks, smooth=False, own_neutral=False, head="video"
    )
    plan = expressions.plan_retargeting(control, own, CONFIG, 5)
    assert len(plan) == 5
    again = project(MODEL.vertices(own.fit.identity, plan.expression), plan.pose)[:, MODEL.landmarks, :2]
    error = np.linalg.norm(again - marks[:5], axis=-1).mean()
    assert error < 0.03 * np.ptp(marks[0], axis=0).max()


def test_landmarks_given_with_a_video_begin_where_it_does(tmp_path: Path) -> None:
    marks, _ = driver()
    media.write_video(tmp_path / "a.mkv.mp4", np.zeros((8, 32, 32, 3), np.uint8), 20)
    for video, options, frames in (
        (np.zeros((8, 4, 4, 3), np.uint8), {"start": 0.12}, range(3, 8)),
        (tmp_path / "a.mkv.mp4", {"start": 0.1, "fps": 10.0}, (2, 4, 6)),
        (tmp_path / "a.mkv.mp4", {}, range(8)),
    ):
        control = Retarget(video, video_landmarks=marks, **options)  # type: ignore[arg-type]
        with media.open_driver(control.video, control.fps, control.start) as reader:
            assert np.array_equal(expressions.known_marks(control, reader), marks[list(frames)])


def test_landmarks_of_a_video_are_found_a_few_frames_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    marks, sizes = np.tile(driver()[0], (5, 1, 1)), []

    def find(frames: np.ndarray, tracking: bool = True) -> np.ndarray:
        sizes.append(len(frames))
        found = marks[frames[:, 0, 0, 0]].copy()
        found[frames[:, 0, 0, 0] == 33] = np.nan
        return found

    monkeypatch.setattr(landmarks, "detect_landmarks", find)
    video = np.zeros((40, 4, 4, 3), np.uint8)
    video[:, 0, 0, 0] = np.arange(40)
    plan = expressions.plan_retargeting(Retarget(video, smooth=False), face(), CONFIG, None)
    assert sizes == [32, 8]
    assert len(plan) == 40
    assert np.allclose(plan.expression[0], plan.expression[8], atol=0.05)
