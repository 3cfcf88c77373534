"""The release's geometry and regressor, equal to the authors' own numbers on a made mesh."""

import zlib
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from reference_tools import Golden, load, needs_reference
from stillmotion.morphable.regressor import FaceRegressor
from stillmotion.morphable.release import (
    crop,
    face_box,
    output_box,
    parse_parameters,
    place,
    release_normals,
    release_triangles,
    to_output,
)


def drawn(name: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(zlib.crc32(f"structures.{name}".encode())))


@cache
def golden() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    stored = Golden("structures/geometry")
    outputs = stored.facts["outputs"]
    assert all(entry["stride"] == 1 for entry in outputs.values())
    return stored.facts["settings"], {name: stored.values[name].reshape(outputs[name]["shape"]) for name in outputs}


def mesh() -> tuple[np.ndarray, np.ndarray]:
    """The ellipsoid of the goldens with its coefficients, V x 3, and its triangles."""
    i, j = np.mgrid[:9, :16]
    theta, phi = np.pi * (i + 1) / 10, 2 * np.pi * j / 16
    x, z = 70000 * np.sin(theta) * np.cos(phi), 60000 * np.sin(theta) * np.sin(phi) + 9000
    mean = np.stack([x, 90000 * np.cos(theta), z], -1).reshape(-1)
    shape = drawn("mesh_w_shp").standard_normal((432, 40)) @ drawn("mesh_alpha_shp").standard_normal(40)
    shown = drawn("mesh_w_exp").standard_normal((432, 10)) @ drawn("mesh_alpha_exp").standard_normal(10)
    i, j = np.mgrid[:8, :16]
    a, b, c, d = 16 * i + j, 16 * i + (j + 1) % 16, 16 * (i + 1) + j, 16 * (i + 1) + (j + 1) % 16
    triangles = np.stack([np.stack([a, b, c], -1), np.stack([b, d, c], -1)], 2).reshape(-1, 3)
    return (mean + 300 * (shape + shown)).reshape(-1, 3), triangles


def rasterised(output: str) -> np.ndarray:
    given, stored = golden()
    placed = place(mesh()[0], stored["pose_p"].reshape(3, 3), np.array([60.0, 62, -40]))
    return to_output(placed, tuple(given["roi_box"]), tuple(given[output]), 64)


@needs_reference
def test_the_regressors_numbers_are_taken_apart_as_in_the_release() -> None:
    mean, std = drawn("mesh_param_mean").standard_normal(62), 0.5 + drawn("mesh_param_std").random(62)
    found, stored = parse_parameters(drawn("mesh_params62").standard_normal(62), mean, std), golden()[1]
    assert np.allclose(found.linear, stored["parse.p"])
    for name in ("offset", "shape", "expression"):
        assert np.allclose(getattr(found, name), stored[f"parse.{name}"].ravel()), name


@needs_reference
def test_vertices_are_placed_as_in_the_release() -> None:
    stored = golden()[1]
    assert np.allclose(mesh()[0].T, stored["vertices"])
    placed = place(mesh()[0], stored["pose_p"].reshape(3, 3), np.array([60.0, 62, -40]))
    assert np.allclose(placed.T, stored["vertices_120"])
    assert np.allclose(rasterised("out_box").T, stored["vertices_raster"])


@needs_reference
def test_normal_maps_are_those_of_the_release() -> None:
    """Which of two triangles wins, flat normals, and triangles dropped at the border, pixel for pixel."""
    (vertices, triangles), stored = mesh(), golden()[1]
    placed = rasterised("out_box")
    assert (release_triangles(vertices, placed, triangles, 64) + 1 == stored["triangle_index"][..., 0]).all()
    assert np.allclose(release_normals(vertices, placed, triangles, 64), stored["normal_map"])
    cut = release_normals(vertices, rasterised("out_box_cut"), triangles, 64)
    assert np.allclose(cut, stored["normal_map_cut"])


@needs_reference
def test_boxes_and_crops_are_those_of_the_release() -> None:
    given, stored = golden()
    landmarks = (100 * drawn("landmarks").random((2, 68)) + 40).T
    assert np.allclose(face_box(landmarks), stored["roi_box"])
    photo = np.floor(256 * drawn("photo").random((50, 60, 3))).astype(np.uint8)
    for number, box in enumerate(given["crop_boxes"]):
        assert (crop(photo, tuple(box)) == stored[f"crop.{number}"]).all()


@needs_reference
def test_the_regressor_is_that_of_the_release() -> None:
    stored, network = Golden("structures/face_regressor"), FaceRegressor().eval()
    load(network, stored.weights(), str)
    with torch.no_grad():
        stored.check("params62", network(stored.inputs()[0]))


def test_the_regressor_has_3270526_parameters() -> None:
    assert sum(weight.numel() for weight in FaceRegressor().parameters()) == 3_270_526


def test_the_output_box_by_hand() -> None:
    """Side 0.95 x 100; the middle, 80, goes up by 0.04 x (30 + 130)."""
    assert output_box((10, 30, 110, 130)) == pytest.approx((12.5, 26.1, 107.5, 121.1))


def test_a_crop_outside_of_the_photo_is_black() -> None:
    assert (crop(np.ones((4, 4, 3), np.uint8), (-9, -9, -5, -6)) == np.zeros((3, 4, 3))).all()
    assert crop(np.ones((4, 4), np.uint8), (2, -1, 6, 3)).tolist() == [[0, 0, 0, 0]] + 3 * [[1, 1, 0, 0]]
