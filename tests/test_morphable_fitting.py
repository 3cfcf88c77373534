"""Faces fitted to landmarks, against the truth."""

import dataclasses
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refusals import refused
from stillmotion.morphable.camera import Pose, project, rotation_matrices
from stillmotion.morphable.fitting import FaceFit, check_landmarks, fit_landmarks, retarget
from stillmotion.morphable.model import shipped_model

MODELS = ("ict", "faces")
FRAMES = 24


@cache
def truth(name: str) -> tuple[np.ndarray, FaceFit]:
    """Landmarks of one person with random expressions and poses, about 100 pixels a side, and the truth."""
    model, rng = shipped_model(name), np.random.default_rng(3)
    expressions = (FRAMES, len(model.expression_std))
    identity = rng.normal(size=len(model.identity_std)).clip(-2, 2)
    expression = rng.random(expressions) * (rng.random(expressions) < 0.15)
    scale = 100 / np.ptp(model.mean[model.landmarks, 1]) * rng.uniform(0.9, 1.1, FRAMES)
    rotation = rng.normal(size=(FRAMES, 3)) * [0.2, 0.35, 0.15]
    pose = Pose(scale, rotation, 150 + 5 * rng.normal(size=(FRAMES, 2)))
    marks = project(model.vertices(identity, expression), pose)[:, model.landmarks, :2]
    return marks, FaceFit(identity, expression, pose, np.zeros(FRAMES))


def noisy(marks: np.ndarray, std: float) -> np.ndarray:
    return marks + std * np.random.default_rng(9).normal(size=marks.shape)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def shape_error(name: str, found: FaceFit, true: FaceFit) -> float:
    """Mean distance of vertices before the pose, as a share of the face's height."""
    model = shipped_model(name)
    wrong = model.vertices(found.identity, found.expression) - model.vertices(true.identity, true.expression)
    return float(np.linalg.norm(wrong, axis=-1).mean() / np.ptp(model.mean[:, 1]))


@pytest.mark.parametrize("name", MODELS)
def test_exact_landmarks_give_the_face_back(name: str) -> None:
    marks, true = truth(name)
    found = fit_landmarks(shipped_model(name), marks, noise=0.001, jaw_weight=1.0)
    assert found.error.max() < 0.1
    assert shape_error(name, found, true) < 0.01
    assert correlation(found.identity, true.identity) > 0.9
    assert correlation(found.expression, true.expression) > 0.85
    turns = rotation_matrices(found.pose.rotation) @ rotation_matrices(true.pose.rotation).transpose(0, 2, 1)
    assert np.degrees(np.arccos((np.einsum("tii->t", turns) - 1) / 2)).max() < 2
    assert np.abs(found.pose.scale / true.pose.scale - 1).max() < 0.02


@pytest.mark.parametrize("name", MODELS)
def test_noise_of_a_pixel_is_not_fitted(name: str) -> None:
    marks, true = truth(name)
    found = fit_landmarks(shipped_model(name), noisy(marks, 1.0), noise=0.01, jaw_weight=1.0)
    again = project(shipped_model(name).vertices(found.identity, found.expression), found.pose)
    again = again[:, shipped_model(name).landmarks, :2]
    assert np.sqrt(((again - marks) ** 2).sum(-1).mean()) < 1.0  # the noise itself is sqrt(2)
    assert shape_error(name, found, true) < 0.02
    assert correlation(found.identity, true.identity) > 0.7


def test_coefficients_stay_in_the_models_range() -> None:
    marks, _ = truth("ict")
    found = fit_landmarks(shipped_model("ict"), noisy(marks, 3.0), noise=0.005)
    assert found.expression.min() == 0.0
    assert found.expression.max() <= 1.0
    free = dataclasses.replace(shipped_model("ict"), expression_range=None)
    assert fit_landmarks(free, noisy(marks, 3.0), noise=0.005).expression.min() < -0.1


def test_ends_of_the_range_are_held_as_the_best_fit_asks() -> None:
    """At the minimum no coefficient inside its range has a slope, and none at an end is pulled inwards."""
    model, (marks, _) = shipped_model("ict"), truth("ict")
    side = np.ptp(marks[0], axis=0).max()
    found = fit_landmarks(model, noisy(marks, 1.0)[0], noise=0.01, jaw_weight=1.0)

    def cost(expression: np.ndarray) -> float:
        placed = project(model.vertices(found.identity, expression), found.pose)[0, model.landmarks, :2]
        error = noisy(marks, 1.0)[0] - placed
        return float((error**2).sum() / (0.01 * side) ** 2 + ((expression / model.expression_std) ** 2).sum())

    for number, value in enumerate(found.expression[0]):
        change = np.zeros_like(found.expression[0])
        change[number] = 1e-2
        slope = (cost(found.expression[0] + change) - cost(found.expression[0] - change)) / 2e-2
        assert slope > -1 if value <= 0 else abs(slope) < 3, number


def test_a_known_identity_is_kept() -> None:
    marks, true = truth("ict")
    found = fit_landmarks(shipped_model("ict"), noisy(marks, 0.5)[:4], identity=true.identity, jaw_weight=1.0)
    assert (found.identity == true.identity).all()
    free = fit_landmarks(shipped_model("ict"), noisy(marks, 0.5)[:4], jaw_weight=1.0)
    known = dataclasses.replace(true, expression=true.expression[:4])
    assert shape_error("ict", found, known) < shape_error("ict", free, known)


@settings(max_examples=10, deadline=None)
@given(st.floats(0.3, 4.0), st.floats(-200, 200), st.floats(-200, 200))
def test_where_and_how_large_a_face_is_does_not_change_it(factor: float, x: float, y: float) -> None:
    model, (marks, _) = shipped_model("faces"), truth("faces")
    one, other = fit_landmarks(model, marks[0]), fit_landmarks(model, marks[0] * factor + [x, y])
    assert np.allclose(one.identity, other.identity, atol=0.02)
    assert np.allclose(one.expression, other.expression, atol=0.02)
    assert other.pose.scale == pytest.approx(one.pose.scale * factor, rel=1e-2)


def test_the_jaw_can_be_left_out() -> None:
    """Without weight, even a jaw in another place changes nothing but the pose's unit."""
    model, (marks, _) = shipped_model("faces"), truth("faces")
    moved = marks[:3].copy()
    moved[:, 1:16] += [2, 3]  # within the box of the landmarks, which scales the noise
    moved[:, 8] = marks[:3, 8]
    one, other = (fit_landmarks(model, points, jaw_weight=0.0) for points in (marks[:3], moved))
    assert np.allclose(one.expression, other.expression, atol=0.02)
    assert not np.allclose(one.expression, fit_landmarks(model, moved, jaw_weight=1.0).expression, atol=0.02)


def test_smoothing_lowers_jitter() -> None:
    model, (_, true) = shipped_model("ict"), truth("ict")
    frames = np.ones(FRAMES, int)
    still = Pose(true.pose.scale[frames], true.pose.rotation[frames], true.pose.shift[frames])
    marks = noisy(project(model.vertices(true.identity, true.expression[frames]), still)[:, model.landmarks, :2], 1.0)
    rough, smooth = (fit_landmarks(model, marks, smoothing=std) for std in (0.0, 2.0))

    def jitter(fit: FaceFit) -> list[float]:
        return [np.diff(part, axis=0).std() for part in (fit.expression, fit.pose.rotation, fit.pose.shift)]

    assert all(after < 0.4 * before for before, after in zip(jitter(rough), jitter(smooth), strict=True))
    assert smooth.expression.mean() == pytest.approx(rough.expression.mean(), rel=0.05)


def test_one_persons_expression_on_another() -> None:
    model, (_, true) = shipped_model("ict"), truth("ict")
    other = np.random.default_rng(1).normal(size=40)
    assert np.allclose(retarget(model, other, true), model.vertices(other, true.expression))


def test_a_clip_does_not_distort_a_face_more_than_one_picture() -> None:
    """A detector's own idea of a landmark is wrong in every frame alike."""
    model, (marks, _) = shipped_model("ict"), truth("ict")
    wrong = marks[:1] + 3 * np.random.default_rng(0).normal(size=(1, 68, 2))
    one, many = fit_landmarks(model, wrong), fit_landmarks(model, np.repeat(wrong, 20, axis=0))
    assert np.allclose(one.identity, many.identity, atol=0.05)


def test_landmarks_that_are_no_face_are_refused() -> None:
    model, (marks, _) = shipped_model("ict"), truth("ict")
    assert "T x 68 x 2" in refused(check_landmarks, np.zeros((3, 67, 2)))
    assert "T x 68 x 2" in refused(check_landmarks, np.zeros((0, 68, 2)))
    broken = marks.copy()
    broken[2, 5, 1] = np.nan
    assert "frame 2" in refused(fit_landmarks, model, broken)
    flat = marks.copy()
    flat[1, :, 1] = 7
    assert "frame 1" in refused(fit_landmarks, model, flat)
    shuffled = marks.copy()
    shuffled[3] = np.random.default_rng(0).permutation(marks[3])
    assert "No face fits the landmarks of frame 3" in refused(fit_landmarks, model, shuffled)
    assert "identity coefficients" in refused(fit_landmarks, model, marks, identity=np.zeros(3))


def test_a_third_number_of_landmarks_is_left_out() -> None:
    marks, _ = truth("ict")
    seen = np.concatenate([marks, np.ones((FRAMES, 68, 1))], -1)
    assert (check_landmarks(seen) == marks).all()
    assert check_landmarks(marks[0]).shape == (1, 68, 2)
