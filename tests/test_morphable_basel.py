"""Basel Face Models in made files of their layouts."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import io

from refusals import refused
from stillmotion.morphable.basel import read_basel_model
from stillmotion.morphable.model import triangle_normals

VERTICES, PEOPLE, SHOWN = 100, 5, 4
LANDMARKS = [(7 * i) % VERTICES for i in range(68)]


def hemisphere() -> tuple[np.ndarray, np.ndarray]:
    """Ten rings of ten vertices, a face of 100 units; triangles from 0, counter-clockwise from outside."""
    i, j = np.mgrid[:10, :10]
    theta, phi = np.pi * (i + 1) / 11, np.pi * (j / 9 - 0.5)
    vertices = 50 * np.stack([np.sin(theta) * np.sin(phi), np.cos(theta), np.sin(theta) * np.cos(phi)], -1)
    number = np.arange(100).reshape(10, 10)
    a, b, c, d = number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]
    triangles = [np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)]
    return vertices.reshape(-1, 3), np.concatenate(triangles)


def published(folder: Path, expressions: int = VERTICES) -> dict[str, Any]:
    """Write 01_MorphableModel.mat and the files of the expressions; triangles run clockwise, numbers start at 1."""
    rng, (mean, triangles) = np.random.default_rng(0), hemisphere()
    model = {
        "shapeMU": mean.reshape(-1, 1).astype(np.float32),
        "shapePC": rng.normal(size=(3 * VERTICES, PEOPLE)).astype(np.float32),
        "shapeEV": np.arange(1.0, PEOPLE + 1).reshape(-1, 1),
        "tl": (triangles[:, ::-1] + 1).astype(np.int32),
        "texMU": np.zeros((3 * VERTICES, 1)),
    }
    io.savemat(folder / "01_MorphableModel.mat", model)
    parts = rng.normal(size=(SHOWN + 1, 3 * expressions)).astype("<f4")
    (folder / "Exp_Pca.bin").write_bytes(np.array([SHOWN], "<i4").tobytes() + parts.tobytes())
    np.savetxt(folder / "std_exp.txt", [[2, 4, 6, 8]])
    return {**model, "parts": parts}


def released(folder: Path, **changes: np.ndarray) -> dict[str, Any]:
    """Write param_mesh.mat."""
    rng, (mean, triangles) = np.random.default_rng(1), hemisphere()
    model = {
        "mu_shape": mean.reshape(-1, 1),
        "mu_exp": rng.normal(size=(3 * VERTICES, 1)),
        "w": rng.normal(size=(3 * VERTICES, PEOPLE)),
        "w_exp": rng.normal(size=(3 * VERTICES, SHOWN)),
        "tri": triangles.T[::-1] + 1.0,
        **changes,
    }
    io.savemat(folder / "param_mesh.mat", model)
    return model


def test_the_published_model(tmp_path: Path) -> None:
    stored = published(tmp_path)
    model = read_basel_model(tmp_path / "01_MorphableModel.mat", LANDMARKS)
    identity, expression = np.array([1.0, 0, 0, 0, -2]), np.array([0, 0.5, 0, 0])
    # Eigenvalues scale the columns: 1 x 1 and -2 x 5; the second expression has the standard deviation 4.
    flat = stored["shapeMU"][:, 0] + stored["shapePC"][:, 0] - 10 * stored["shapePC"][:, 4]
    flat = flat + stored["parts"][0] + 0.5 * 4 * stored["parts"][2]
    assert np.allclose(model.vertices(identity, expression), flat.reshape(-1, 3), atol=1e-3)
    assert model.landmarks.tolist() == LANDMARKS
    assert (triangle_normals(hemisphere()[0], model.triangles)[:, 2] > -1e-6).all()
    assert model.triangles.min() == 0


def test_vertices_without_expressions_are_dropped(tmp_path: Path) -> None:
    """As the 53490 vertices of the model and the 53215 of its expressions."""
    stored = published(tmp_path, expressions=90)
    io.savemat(tmp_path / "BFM_exp_idx.mat", {"trimIndex": np.arange(11, 101)})
    model = read_basel_model(tmp_path / "01_MorphableModel.mat", [i % 90 for i in range(68)])
    assert len(model.mean) == 90
    assert np.allclose(model.mean.ravel(), stored["shapeMU"][30:, 0] + stored["parts"][0], atol=1e-4)
    assert len(model.triangles) == 2 * 8 * 9  # one ring of ten is gone
    assert (triangle_normals(hemisphere()[0][10:], model.triangles)[:, 2] > -1e-6).all()


def test_the_model_of_the_release(tmp_path: Path) -> None:
    stored = released(tmp_path, keypoints=np.repeat(3 * np.array(LANDMARKS), 3) + np.tile([0, 1, 2], 68))
    model = read_basel_model(tmp_path / "param_mesh.mat")
    assert np.allclose(model.mean.ravel(), (stored["mu_shape"] + stored["mu_exp"])[:, 0], atol=1e-4)
    assert model.landmarks.tolist() == LANDMARKS
    height = np.ptp(hemisphere()[0][:, 1])
    for basis, name in ((model.identity_basis, "w"), (model.expression_basis, "w_exp")):
        assert np.sqrt((basis**2).sum(2).mean(1)) == pytest.approx(np.full(len(basis), 0.01 * height))
        assert np.corrcoef(basis[1].ravel(), stored[name][:, 1])[0, 1] == pytest.approx(1)
    assert (triangle_normals(hemisphere()[0], model.triangles)[:, 2] > -1e-6).all()


def test_landmarks_from_a_file(tmp_path: Path) -> None:
    released(tmp_path)
    (tmp_path / "marks.json").write_text(json.dumps(LANDMARKS))
    assert read_basel_model(tmp_path / "param_mesh.mat", tmp_path / "marks.json").landmarks.tolist() == LANDMARKS
    assert "give them" in refused(read_basel_model, tmp_path / "param_mesh.mat")
    for wrong in (LANDMARKS[:67], [*LANDMARKS[:67], 100], [0.5] * 68):
        assert "0 to 99" in refused(read_basel_model, tmp_path / "param_mesh.mat", wrong)


def test_counts_that_differ_are_refused(tmp_path: Path) -> None:
    path, mesh = tmp_path / "01_MorphableModel.mat", tmp_path / "param_mesh.mat"
    published(tmp_path, expressions=90)
    assert "100 vertices" in refused(read_basel_model, path, LANDMARKS)
    (tmp_path / "Exp_Pca.bin").write_bytes(b"")
    assert "Exp_Pca.bin" in refused(read_basel_model, path, LANDMARKS)
    (tmp_path / "std_exp.txt").unlink()
    assert "std_exp.txt" in refused(read_basel_model, path, LANDMARKS)
    released(tmp_path, w=np.zeros((297, PEOPLE)))
    assert "w has 297 rows, not 300" in refused(read_basel_model, mesh, LANDMARKS)
    released(tmp_path, mu_shape=np.zeros((301, 1)))
    assert "mu_shape has 301 rows" in refused(read_basel_model, mesh, LANDMARKS)
    released(tmp_path, tri=np.array([[1, 2, 101]]).T)
    assert "101" in refused(read_basel_model, mesh, LANDMARKS)


def test_other_files_are_refused(tmp_path: Path) -> None:
    assert "does not exist" in refused(read_basel_model, tmp_path / "none.mat")
    assert "2009" in refused(read_basel_model, tmp_path / "model2017-1_bfm_nomouth.h5")
    (tmp_path / "text.mat").write_text("not a matrix, and long enough to be read as a header " * 5)
    assert "MATLAB" in refused(read_basel_model, tmp_path / "text.mat")
    # Format 4: doubles, 2**31 - 1 x 2**15, and nothing of them.
    (tmp_path / "huge.mat").write_bytes(struct.pack("<5i", 0, 2**31 - 1, 2**15, 0, 2) + b"a\0")
    assert "larger than the memory" in refused(read_basel_model, tmp_path / "huge.mat")
    io.savemat(tmp_path / "other.mat", {"a": 1})
    assert "not a Basel Face Model" in refused(read_basel_model, tmp_path / "other.mat")
    io.savemat(tmp_path / "part.mat", {"shapeMU": np.zeros((3, 1))})
    assert "lacks 'shapePC'" in refused(read_basel_model, tmp_path / "part.mat")
