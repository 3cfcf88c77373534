"""The morphable model: mean shape + identity basis + expression basis, then a pose."""

from __future__ import annotations

import numpy as np

from stillmotion.worlds.faces.expression import BASIS as EXPRESSION_BASIS
from stillmotion.worlds.faces.grid import EYES, MOUTH
from stillmotion.worlds.faces.identity import BASIS as IDENTITY_BASIS
from stillmotion.worlds.faces.identity import MEAN

_EXPRESSION_BASIS_F32 = EXPRESSION_BASIS.astype(np.float32)
PIVOT = np.array([0.0, -0.55, -0.15])  # the head's centre of rotation on the neck, in the model's axes


def shape(identity: np.ndarray, expression: np.ndarray) -> np.ndarray:
    """Return the vertices of one person (K coefficients) with T expressions (T x E), in the model's axes.

    T x R x C x 3, float32: mean + identity basis x identity + expression basis x expression (structures paper, Sec.
    3.1). With all expressions 0 it is the person's neutral face.
    """
    # einsum and not a matrix product: BLAS may sum in an order that depends on the number of threads.
    neutral = MEAN + np.einsum("k,krcd->rcd", identity, IDENTITY_BASIS)
    vertices = np.repeat(neutral.astype(np.float32)[None], len(expression), 0)
    for unit in np.flatnonzero(np.abs(expression).max(axis=0) > 0):
        vertices += expression[:, unit, None, None, None].astype(np.float32) * _EXPRESSION_BASIS_F32[unit]
    return vertices


def normals(vertices: np.ndarray) -> np.ndarray:
    """Return the unit normals of vertices (... x R x C x 3), pointing out of the head, in the model's axes."""
    x, y, z = (np.ascontiguousarray(vertices[..., axis]) for axis in range(3))
    across = [_differences(part, -1) for part in (x, y, z)]
    down = _close_slits([_differences(part, -2) for part in (x, y, z)])
    pairs = ((1, 2), (2, 0), (0, 1))
    found = np.stack([down[i] * across[j] - down[j] * across[i] for i, j in pairs], -1)
    length = np.sqrt(found[..., 0] ** 2 + found[..., 1] ** 2 + found[..., 2] ** 2)
    return found / np.maximum(length, 1e-12)[..., None]


def _close_slits(down: list[np.ndarray]) -> list[np.ndarray]:
    """Replace the differences between rows that coincide, in closed slits, by those at the slit's edge."""
    for slit in (EYES, MOUTH):
        if down[0].shape[-2] <= slit.last:
            continue
        inside = np.s_[..., slit.first + 1 : slit.last, :]
        closed = sum(np.abs(part[inside]) for part in down) < 1e-6
        for part in down:
            np.copyto(part[inside], part[..., slit.first : slit.first + 1, :], where=closed)
    return down


def _differences(part: np.ndarray, axis: int) -> np.ndarray:
    """Return central differences along an axis, one-sided at its ends."""
    part = np.moveaxis(part, axis, 0)
    found = np.empty_like(part)
    found[1:-1] = part[2:] - part[:-2]
    found[0], found[-1] = part[1] - part[0], part[-1] - part[-2]
    return np.moveaxis(found, 0, axis)


def rotation(pose: np.ndarray) -> np.ndarray:
    """Return the rotations, T x 3 x 3, of poses (T x 6): first pitch, then yaw, then roll.

    Yaw turns the nose to the picture's right, pitch raises it, roll turns the head clockwise in the picture.
    """
    yaw, pitch, roll = pose[:, 0], pose[:, 1], pose[:, 2]
    zero, one = np.zeros_like(yaw), np.ones_like(yaw)

    def matrix(*entries: np.ndarray) -> np.ndarray:
        return np.stack(entries, -1).reshape(-1, 3, 3)

    about_x = matrix(one, zero, zero, zero, np.cos(pitch), np.sin(pitch), zero, -np.sin(pitch), np.cos(pitch))
    about_y = matrix(np.cos(yaw), zero, np.sin(yaw), zero, one, zero, -np.sin(yaw), zero, np.cos(yaw))
    about_z = matrix(np.cos(roll), np.sin(roll), zero, -np.sin(roll), np.cos(roll), zero, zero, zero, one)
    return np.einsum("tij,tjk,tkl->til", about_z, about_y, about_x)


def project(points: np.ndarray, pose: np.ndarray, size: int) -> np.ndarray:
    """Project points of the model into the picture: rotation about the neck, then weak perspective.

    Args:
        points: T x ... x 3, in the model's axes.
        pose: T x 6: yaw, pitch, roll (radians), x, y (where the model's origin would be without rotation, in
            picture heights from the left upper corner) and scale (picture heights per unit of the model).
        size: height and width of the picture.

    Returns:
        T x ... x 3: x and y in pixels (centres at integers) and depth in pixels, larger = nearer to the viewer.
    """
    pose = np.asarray(pose, float)
    per_frame = (len(points),) + (1,) * (points.ndim - 2)
    linear = rotation(pose) * (pose[:, 5] * size)[:, None, None]
    neck = pose[:, 3:5] + pose[:, 5:] * PIVOT[:2] * [1, -1]
    origin = np.concatenate([neck * size - 0.5, np.zeros((len(pose), 1))], 1)
    origin -= np.array([1, -1, 1]) * np.einsum("tij,j->ti", linear, PIVOT)
    linear, origin = linear.astype(points.dtype), origin.astype(points.dtype)
    placed = np.empty_like(points)
    for i, direction in enumerate((1, -1, 1)):
        moved = sum(linear[:, i, j].reshape(per_frame) * points[..., j] for j in range(3))
        placed[..., i] = origin[:, i].reshape(per_frame) + direction * moved
    return placed
