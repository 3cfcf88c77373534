"""A face model fitted to 68 landmarks per frame: one identity, and an expression and a pose for every frame.

Minimises, by Gauss-Newton steps on all unknowns at once,

    sum_t ( sum_l w_l |landmark_tl - projection_tl|^2 / noise^2 + |identity / std|^2 + |expression_t / std|^2 )

which is the most probable face if landmarks have errors of `noise` and coefficients are normal. The identity counts
once per frame: where a detector and a model mean different places by one landmark, the error is the same in all
frames, and a long clip must not distort the face to remove it. Frames are only coupled by the identity, so a step
solves one small system per frame and one for the identity (Schur complement). Expressions that leave the model's
range are held at its end while the others are solved for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillmotion.errors import StillmotionError
from stillmotion.morphable.camera import Pose, cross_matrices, project, rotation_matrices, rotation_vectors
from stillmotion.morphable.model import LANDMARKS, MorphableModel

_POSE = 6  # scale, rotation, shift
_STEPS, _SETTLED = 40, 1e-5
_JAW = 17  # the first landmarks: on a head that turns, detectors slide them along the outline
_WORST = 0.08
"""Largest root mean square error of a fit, as a share of the face's side; photos give about 0.02."""


@dataclass(frozen=True, eq=False)
class FaceFit:
    """A face in T frames.

    Attributes:
        identity: K coefficients.
        expression: T x E coefficients.
        pose: of T frames.
        error: T, root mean square distance of the landmarks, in pixels.
    """

    identity: np.ndarray
    expression: np.ndarray
    pose: Pose
    error: np.ndarray


def check_landmarks(landmarks: np.ndarray) -> np.ndarray:
    """Landmarks given by anyone, 68 x 2 or T x 68 x 2 (or x 3: the third number is left out), as T x 68 x 2.

    Raises:
        StillmotionError: another shape, numbers that are not finite, or all landmarks of a frame in one place.
    """
    points = np.asarray(landmarks, float)
    points = points[None] if points.ndim == 2 else points
    if points.ndim != 3 or points.shape[1] != LANDMARKS or points.shape[2] not in (2, 3) or not len(points):
        raise StillmotionError(
            f"Face landmarks are T x {LANDMARKS} x 2, (x, y) in pixels, not {np.shape(landmarks)}."
        )
    points = points[..., :2]
    lost = np.flatnonzero(~np.isfinite(points).all((1, 2)))
    if len(lost):
        raise StillmotionError(
            f"The face landmarks of frame {lost[0]} hold NaN or infinity: give all {LANDMARKS} points."
        )
    flat = np.flatnonzero(np.ptp(points, axis=1).min(1) <= 0)
    if len(flat):
        raise StillmotionError(
            f"The face landmarks of frame {flat[0]} lie on one line or in one place: they are no face."
        )
    return points


def fit_landmarks(
    model: MorphableModel,
    landmarks: np.ndarray,
    *,
    identity: np.ndarray | None = None,
    noise: float = 0.015,
    jaw_weight: float = 0.3,
    smoothing: float = 0.0,
) -> FaceFit:
    """Fit a model to a clip or a picture.

    Args:
        model: any face model.
        landmarks: T x 68 x 2 (or 68 x 2), (x, y) in pixels.
        identity: K coefficients that are known, of the same person; None finds them.
        noise: expected error of a landmark, as a share of the face's side (the longer one of the landmarks' box).
        jaw_weight: weight of the 17 landmarks of the jaw; the others have 1.
        smoothing: standard deviation, in frames, of a gaussian that smooths expressions and poses over time; 0 = off.

    Raises:
        StillmotionError: as `check_landmarks`; or no face is like these landmarks.
    """
    points = check_landmarks(landmarks)
    side = np.ptp(points, axis=1).max(1)
    weights = np.ones(LANDMARKS)
    weights[:_JAW] = jaw_weight
    small = model.only_landmarks()
    state = _start(small, points, identity)
    before = np.inf
    for _ in range(_STEPS):
        state, cost = _step(small, points, state, weights[None] / (noise * side[:, None]) ** 2, identity is None)
        if before - cost < _SETTLED * cost:
            break
        before = cost
    if smoothing > 0:
        state = _smooth(state, smoothing)
    error = np.sqrt((_residual(small, points, state) ** 2).sum(-1).mean(1))
    worst = int((error / side).argmax())
    if not error[worst] <= _WORST * side[worst]:
        raise StillmotionError(
            f"No face fits the landmarks of frame {worst}: they are off by {error[worst] / side[worst]:.0%} of its "
            "size; check their order (iBUG, 68 points) and that the picture shows one face."
        )
    return FaceFit(state.identity, state.expression, state.pose, error)


def retarget(model: MorphableModel, identity: np.ndarray, fit: FaceFit) -> np.ndarray:
    """Vertices, T x V x 3, of one person with the expressions of another (Sec. 3.1)."""
    return model.vertices(identity, fit.expression)


def _start(model: MorphableModel, points: np.ndarray, identity: np.ndarray | None) -> FaceFit:
    """The mean face, posed by the affine camera that maps its landmarks best, made orthogonal."""
    known = np.zeros(len(model.identity_std)) if identity is None else np.asarray(identity, float)
    mean = model.vertices(known, np.zeros(len(model.expression_std))).astype(float)
    middle, centre = mean.mean(0), points.mean(1)
    flipped = (points - centre[:, None]) * [1, -1]
    affine = np.einsum("kl,tlj->tjk", np.linalg.pinv(mean - middle), flipped)  # T x 2 x 3
    left, stretch, right = np.linalg.svd(affine, full_matrices=False)
    rows = left @ right
    rotation = np.concatenate([rows, np.cross(rows[:, 0], rows[:, 1])[:, None]], 1)
    scale = stretch.mean(1)
    shift = centre - scale[:, None] * (rows @ middle) * [1, -1]
    expression = np.zeros((len(points), len(model.expression_std)))
    return FaceFit(known, expression, Pose(scale, rotation_vectors(rotation), shift), np.zeros(len(points)))


def _residual(model: MorphableModel, points: np.ndarray, state: FaceFit) -> np.ndarray:
    """Landmarks minus projections, T x 68 x 2."""
    vertices = model.vertices(state.identity, state.expression).astype(float)
    return points - project(vertices, state.pose)[..., :2]


def _step(
    model: MorphableModel, points: np.ndarray, state: FaceFit, weights: np.ndarray, with_identity: bool
) -> tuple[FaceFit, float]:
    """One Gauss-Newton step, halved until it lowers the cost; returns the state and its cost."""
    identity, frames = _solve(model, points, state, weights, with_identity)
    cost = _cost(model, points, state, weights)
    for halving in range(8):
        moved = _moved(model, state, identity * 0.5**halving, frames * 0.5**halving)
        if (lower := _cost(model, points, moved, weights)) < cost:
            return moved, lower
    return state, cost


def _cost(model: MorphableModel, points: np.ndarray, state: FaceFit, weights: np.ndarray) -> float:
    data = (_residual(model, points, state) ** 2).sum(-1) * weights
    prior = len(points) * (state.identity / model.identity_std) ** 2
    return float(data.sum() + prior.sum() + ((state.expression / model.expression_std) ** 2).sum())


def _solve(
    model: MorphableModel, points: np.ndarray, state: FaceFit, weights: np.ndarray, with_identity: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The step of the identity, K, and of the frames, T x (6 + E)."""
    frames, people = len(points), len(state.identity)
    residual = (_residual(model, points, state) * np.sqrt(weights)[..., None]).reshape(frames, -1)
    by_frame, by_identity = _jacobians(model, state, np.sqrt(weights))
    own_prior = np.concatenate([np.full(_POSE, 1e-9), 1 / model.expression_std**2])
    own = by_frame.transpose(0, 2, 1) @ by_frame + np.diag(own_prior)
    pull = np.einsum("tmi,tm->ti", by_frame, residual)
    pull[:, _POSE:] -= state.expression / model.expression_std**2
    held = _held(model, state, pull)
    own[held], pull[held] = 0, 0
    own.transpose(0, 2, 1)[held] = 0
    own += np.eye(own.shape[1]) * held[:, None]
    if not with_identity:
        return np.zeros(people), np.linalg.solve(own, pull[..., None])[..., 0]
    cross = by_frame.transpose(0, 2, 1) @ by_identity  # T x (6 + E) x K
    cross[held] = 0
    solved = np.linalg.solve(own, np.concatenate([cross, pull[..., None]], -1))
    left = np.einsum("tmi,tmj->ij", by_identity, by_identity) + frames * np.diag(1 / model.identity_std**2)
    left = left - np.einsum("tki,tkj->ij", cross, solved[..., :-1])
    right = np.einsum("tmi,tm->i", by_identity, residual) - frames * state.identity / model.identity_std**2
    step = np.linalg.solve(left, right - np.einsum("tki,tk->i", cross, solved[..., -1]))
    return step, solved[..., -1] - solved[..., :-1] @ step


def _jacobians(model: MorphableModel, state: FaceFit, roots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives of the projections, times the roots of the weights: T x 136 x (6 + E) and T x 136 x K."""
    linear = rotation_matrices(state.pose.rotation) * state.pose.scale[:, None, None]
    linear[:, 1] *= -1  # y runs down
    vertices = model.vertices(state.identity, state.expression).astype(float)
    placed = vertices @ linear.transpose(0, 2, 1)  # T x 68 x 3
    upright = placed * [1, -1, 1]
    turning = -cross_matrices(upright.reshape(-1, 3)).reshape(*placed.shape, 3)[..., :2, :] * [[1], [-1]]
    shifting = np.broadcast_to(np.eye(2), (*placed.shape[:2], 2, 2))
    # Not np.einsum with three letters left over: as matrix products these are several times as fast.
    expressing, identifying = (
        (basis.transpose(1, 0, 2).astype(float)[None] @ linear[:, None, :2].transpose(0, 1, 3, 2)).swapaxes(-1, -2)
        for basis in (model.expression_basis, model.identity_basis)
    )
    by_frame = np.concatenate([placed[..., :2, None], turning, shifting, expressing], -1)
    scaled = (part * roots[..., None, None] for part in (by_frame, identifying))
    one, other = (part.reshape(len(placed), -1, part.shape[-1]) for part in scaled)
    return one, other


def _held(model: MorphableModel, state: FaceFit, pull: np.ndarray) -> np.ndarray:
    """Which unknowns, T x (6 + E), stand at an end of their range and are pulled beyond it."""
    held = np.zeros(pull.shape, bool)
    if model.expression_range is not None:
        low, high = model.expression_range
        outwards = pull[:, _POSE:]
        held[:, _POSE:] = ((state.expression <= low) & (outwards < 0)) | ((state.expression >= high) & (outwards > 0))
    return held


def _moved(model: MorphableModel, state: FaceFit, identity: np.ndarray, frames: np.ndarray) -> FaceFit:
    """The state after a step; rotations are multiplied from the left."""
    turned = rotation_matrices(frames[:, 1:4]) @ rotation_matrices(state.pose.rotation)
    scale = state.pose.scale * np.exp(frames[:, 0].clip(-1, 1))
    pose = Pose(scale, rotation_vectors(turned), state.pose.shift + frames[:, 4:_POSE])
    expression = state.expression + frames[:, _POSE:]
    if model.expression_range is not None:
        expression = expression.clip(*model.expression_range)
    return FaceFit(state.identity + identity, expression, pose, state.error)


def _smooth(state: FaceFit, std: float) -> FaceFit:
    """Expressions and poses under a gaussian over time; at the clip's ends it is cut off and normalised."""
    times = np.arange(len(state.expression))
    kernel = np.exp(-0.5 * ((times[:, None] - times) / std) ** 2)
    kernel /= kernel.sum(1, keepdims=True)
    turns = np.einsum("ts,sij->tij", kernel, rotation_matrices(state.pose.rotation))
    left, _, right = np.linalg.svd(turns)  # the nearest rotation to a mean of rotations
    pose = Pose(kernel @ state.pose.scale, rotation_vectors(left @ right), kernel @ state.pose.shift)
    return FaceFit(state.identity, kernel @ state.expression, pose, state.error)
