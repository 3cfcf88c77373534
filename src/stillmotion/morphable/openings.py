"""Ours: where the eyes and the mouth of a face are open, which a normal map hardly shows.

Between lips and lids the surface has holes, a pixel or two high in the networks' frames, and normals are there or
not. Here every pixel knows how much of it is open, and in the mouth how far below the line of the closed lips it lies
on the skull: the upper teeth are fixed there, whatever the lips do.
"""

from __future__ import annotations

import cv2
import numpy as np

from stillmotion.morphable.camera import Pose, project, rotation_matrices
from stillmotion.morphable.model import MorphableModel

OPENINGS = 3
"""Channels: eyes, mouth, and how far below the closed lips."""

_EYES, _INNER_LIPS = ((36, 42), (42, 48)), (60, 68)
_EYE_CORNERS, _LIP_MIDDLES = (36, 45), (62, 66)
"""Landmarks, in the order of iBUG."""

_DOWN = 0.25
"""How far below the closed lips is 1, as a share of the distance between the outer corners of the eyes."""

_SAMPLES, _BITS = 8, 4
"""Rays per pixel along each side, and binary digits of the outlines' places behind the point."""

_FLATTEST = 0.2
"""Cosine of the largest turn that the places on the skull are worked out for."""


def face_openings(
    model: MorphableModel, identity: np.ndarray, expression: np.ndarray, pose: Pose, size: int
) -> np.ndarray:
    """The open parts of one person's face in T frames.

    Args:
        model: of the face.
        identity: K coefficients.
        expression: T x E coefficients.
        pose: of T frames, in pixels of the maps.
        size: S.

    Returns:
        T x S x S x 3, `float32`: how much of a pixel is open eye and how much open mouth, in [0, 1], and how far a
        place in the mouth is below the line of the closed lips, in [-1, 1] (1: a quarter of the distance between the
        outer corners of the eyes), times the second.
    """
    marks = model.only_landmarks()
    shapes = marks.vertices(identity, expression)
    placed = project(shapes, pose)[..., :2]
    rest = marks.vertices(identity, np.zeros(len(model.expression_std)))
    line, apart = rest[list(_LIP_MIDDLES), 1].mean(), np.linalg.norm(np.subtract(*rest[list(_EYE_CORNERS)]))
    depth = shapes[:, slice(*_INNER_LIPS), 2].mean(1)
    made = np.zeros((len(pose), size, size, OPENINGS), np.float32)
    for picture, at, height in zip(made, placed, _heights(depth, pose, size), strict=True):
        picture[..., 0] = _covered([at[slice(*eye)] for eye in _EYES], size)
        picture[..., 1] = _covered([at[slice(*_INNER_LIPS)]], size)
        picture[..., 2] = picture[..., 1] * ((line - height) / (_DOWN * apart)).clip(-1, 1)
    return made


def _covered(outlines: list[np.ndarray], size: int) -> np.ndarray:
    """How much of each pixel polygons cover, S x S in [0, 1]."""
    canvas = np.zeros((size * _SAMPLES,) * 2, np.uint8)
    for outline in outlines:
        fine = (outline + 0.5) * _SAMPLES - 0.5
        cv2.fillPoly(canvas, [np.rint(fine * (1 << _BITS)).astype(np.int32)], 255, shift=_BITS)
    return cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _heights(depth: np.ndarray, pose: Pose, size: int) -> np.ndarray:
    """The height y in the model's axes of what pixels show, if it lies at depths z, T; T x S x S."""
    turns, cells = rotation_matrices(pose.rotation), np.arange(size)
    right = (cells - pose.shift[:, :1]) / pose.scale[:, None] - turns[:, 0, 2, None] * depth[:, None]
    up = (pose.shift[:, 1:] - cells) / pose.scale[:, None] - turns[:, 1, 2, None] * depth[:, None]
    flat = np.maximum(turns[:, 2, 2], _FLATTEST)[:, None, None]  # the determinant of the first two rows and columns
    level, tilted = turns[:, 0, 0, None, None], turns[:, 1, 0, None, None]
    return np.asarray((level * up[..., None] - tilted * right[:, None]) / flat)
