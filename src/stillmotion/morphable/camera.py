"""Weak perspective: a head is rotated, scaled and shifted, and its depth does not change its size.

A rotation is a vector of three numbers: its direction is the axis (in the model's axes: x right, y up, z towards the
viewer) and its length the angle in radians, counter-clockwise seen from the axis' tip. (0, a, 0) turns the nose to
the picture's right by a.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Pose:
    """Where a head is in T frames.

    Attributes:
        scale: T, pixels per unit of the model.
        rotation: T x 3, rotation vectors.
        shift: T x 2, (x, y) of the model's origin, in pixels with centres at integers.
    """

    scale: np.ndarray
    rotation: np.ndarray
    shift: np.ndarray

    def __len__(self) -> int:
        return len(self.scale)

    def __getitem__(self, frames: slice | np.ndarray) -> Pose:
        """The poses of some frames."""
        return Pose(self.scale[frames], self.rotation[frames], self.shift[frames])

    def resized(self, factor: float) -> Pose:
        """The same poses in a picture `factor` times as large; outer edges stay aligned, as `media.resize` has it."""
        return Pose(self.scale * factor, self.rotation, (self.shift + 0.5) * factor - 0.5)


def rotation_matrices(vectors: np.ndarray) -> np.ndarray:
    """Rotation vectors, T x 3, as matrices, T x 3 x 3 (Rodrigues' formula)."""
    vectors = np.asarray(vectors, float)
    angle = np.linalg.norm(vectors, axis=-1)[:, None, None]
    cross = cross_matrices(vectors)
    # sin(a) / a and (1 - cos(a)) / a^2, which are 1 and 1/2 at a = 0.
    return np.eye(3) + np.sinc(angle / np.pi) * cross + 0.5 * np.sinc(angle / (2 * np.pi)) ** 2 * (cross @ cross)


def rotation_vectors(matrices: np.ndarray) -> np.ndarray:
    """Rotation matrices, T x 3 x 3, as vectors, T x 3, of angles in [0, pi]; through quaternions."""
    matrices = np.asarray(matrices, float)
    diagonal, trace = np.einsum("tii->ti", matrices), np.einsum("tii->t", matrices)
    # All four products of the largest component are well conditioned; the others may be near zero.
    products = np.empty((len(matrices), 4, 4))
    products[:, 0, 0] = 1 + trace
    products[:, [1, 2, 3], [1, 2, 3]] = 1 - trace[:, None] + 2 * diagonal
    for i, (j, k) in enumerate(((1, 2), (2, 0), (0, 1))):
        products[:, 0, 1 + i] = products[:, 1 + i, 0] = matrices[:, k, j] - matrices[:, j, k]
        products[:, 1 + j, 1 + k] = products[:, 1 + k, 1 + j] = matrices[:, k, j] + matrices[:, j, k]
    largest = np.einsum("tii->ti", products).argmax(1)
    quaternion = products[np.arange(len(matrices)), largest]
    quaternion = quaternion / np.linalg.norm(quaternion, axis=1, keepdims=True)
    quaternion = np.where(quaternion[:, :1] < 0, -quaternion, quaternion)
    sine = np.linalg.norm(quaternion[:, 1:], axis=1, keepdims=True)
    angle = 2 * np.arctan2(sine, quaternion[:, :1])
    return quaternion[:, 1:] * np.divide(angle, sine, out=np.full_like(angle, 2.0), where=sine > 1e-12)


def cross_matrices(vectors: np.ndarray) -> np.ndarray:
    """The matrices, T x 3 x 3, that multiply by a cross product with each vector."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    zero = np.zeros_like(x)
    return np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 3, 3)


def project(points: np.ndarray, pose: Pose) -> np.ndarray:
    """Points of the model in the picture.

    Args:
        points: T x V x 3 or V x 3, in the model's axes.
        pose: of T frames.

    Returns:
        T x V x 3: x and y in pixels (y down) and depth in pixels, larger = nearer to the viewer.
    """
    linear = rotation_matrices(pose.rotation) * pose.scale[:, None, None]
    placed = np.asarray(points) @ linear.transpose(0, 2, 1)
    placed[..., 1] *= -1
    placed[..., :2] += pose.shift[:, None]
    return placed


def solve_pose(points: np.ndarray, places: np.ndarray) -> Pose:
    """The poses in which points of a head, T x N x 3, are at places in the picture, T x N x 2; exact if there are.

    Solves for the affine camera by least squares, and takes the nearest scaled rotation.
    """
    middle, centre = points.mean(1, keepdims=True), places.mean(1, keepdims=True)
    flipped = (places - centre) * [1, -1]
    affine = (np.linalg.pinv(points - middle) @ flipped).transpose(0, 2, 1)  # T x 2 x 3
    left, stretch, right = np.linalg.svd(affine, full_matrices=False)
    rows, scale = left @ right, stretch.mean(1)
    rotation = np.concatenate([rows, np.cross(rows[:, 0], rows[:, 1])[:, None]], axis=1)
    shift = centre[:, 0] - scale[:, None] * np.einsum("tij,tj->ti", rows, middle[:, 0]) * [1, -1]
    return Pose(scale, rotation_vectors(rotation), shift)


def framing(points: np.ndarray, size: int, margin: float = 0.12) -> Pose:
    """A frontal pose that fits a head, V x 3, into a square picture, with a share of its side free on all sides."""
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    scale = size * (1 - 2 * margin) / (high - low).max()
    middle = (low + high) / 2 * scale * [1, -1]
    return Pose(np.array([scale]), np.zeros((1, 3)), (size - 1) / 2 - middle[None])
