"""The face models: shapes, normals, counts, files, named expressions."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from refusals import refused, refuses
from stillmotion.morphable.camera import Pose, project, rotation_vectors
from stillmotion.morphable.expressions import expression, expression_sequence
from stillmotion.morphable.model import (
    MorphableModel,
    outward,
    read_model,
    save_model,
    shipped_model,
    triangle_normals,
    vertex_normals,
)
from stillmotion.worlds import faces
from stillmotion.worlds.faces.model import PIVOT

EMOTIONS = ("happiness", "sadness", "anger", "surprise", "fear", "disgust")
MODELS = ("ict", "faces")


def tetrahedron() -> MorphableModel:
    """Four vertices, one identity that widens, two expressions; every landmark is one of the vertices."""
    mean = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], float)
    triangles = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    bases = np.zeros((1, 4, 3)), np.zeros((2, 4, 3))
    bases[0][0, 1, 0] = 1
    bases[1][0, 3, 2], bases[1][1, 2, 1] = 2, -1
    return MorphableModel(mean, *bases, np.ones(1), np.ones(2), triangles, np.arange(68) % 4, ("up", "down"))


def test_vertices_are_the_mean_and_the_weighted_bases() -> None:
    found = tetrahedron().vertices(np.array([0.5]), np.array([[0, 0], [1, 0.25]]))
    assert found[0].tolist() == [[0, 0, 0], [1.5, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert found[1].tolist() == [[0, 0, 0], [1.5, 0, 0], [0, 0.75, 0], [0, 0, 3]]


def test_retargeting_to_oneself_is_oneself() -> None:
    """Section 12, line 15 of the fact sheet."""
    model, rng = shipped_model(), np.random.default_rng(0)
    one, other, shown = rng.normal(size=40), rng.normal(size=40), rng.random(55)
    moved = model.vertices(one, shown) - model.vertices(one, np.zeros(55))
    assert np.allclose(model.vertices(other, shown), model.vertices(other, np.zeros(55)) + moved, atol=1e-4)


def test_normals_of_a_tetrahedron_point_out_of_it() -> None:
    model = tetrahedron()
    third = 1 / np.sqrt(3)
    expected = [[0, 0, -1], [0, -1, 0], [-1, 0, 0], [third, third, third]]
    assert np.allclose(triangle_normals(model.mean, model.triangles), expected)
    # Areas 1, 1, 1 (times the axes) meet at the corner 0; at corner 3 the slanted one weighs sqrt(3).
    assert np.allclose(vertex_normals(model.mean, model.triangles)[0], [-third] * 3)
    assert np.allclose(vertex_normals(model.mean, model.triangles)[3], [0, 0, 1])
    batch = np.stack([model.mean, 2 * model.mean])
    assert np.allclose(vertex_normals(batch, model.triangles)[1], vertex_normals(model.mean, model.triangles))


def test_a_triangle_without_area_has_no_normal() -> None:
    assert triangle_normals(np.zeros((3, 3)), np.array([[0, 1, 2]])).tolist() == [[0, 0, 0]]


def test_triangles_are_turned_outwards_whichever_way_a_file_has_them() -> None:
    model = tetrahedron()
    assert (outward(model.mean, model.triangles[:, ::-1]) == model.triangles).all()
    assert (outward(model.mean, model.triangles) == model.triangles).all()


@pytest.mark.parametrize("name", MODELS)
def test_shipped_models_are_faces(name: str) -> None:
    model = shipped_model(name)
    marks = model.mean[model.landmarks]
    assert 1500 <= len(model.mean) <= 3100
    assert marks[30, 2] == marks[:, 2].max()  # the tip of the nose is in front
    assert marks[8, 1] == marks[:, 1].min()  # the chin is lowest
    assert marks[36, 0] < marks[39, 0] < marks[42, 0] < marks[45, 0]  # the corners of the eyes, left to right
    # Left and right are mirrored, but for the precision of the files.
    assert np.abs(marks[:17] * [-1, 1, 1] - marks[:17][::-1]).max() < 0.01 * np.ptp(marks[:, 1])
    assert triangle_normals(model.mean, model.triangles)[:, 2].mean() > 0.4


@pytest.mark.parametrize("name", MODELS)
def test_meshes_have_no_cracks(name: str) -> None:
    """Every side has at most one triangle on either side; the borders are the outline, eyes and mouth."""
    triangles = shipped_model(name).triangles
    sides = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    assert len(np.unique(sides, axis=0)) == len(sides)
    border = {tuple(side) for side in sides.tolist()} - {tuple(side[::-1]) for side in sides.tolist()}
    after, loops = dict(border), 0
    assert len(after) == len(border)
    while after:
        loops, vertex = loops + 1, min(after)
        while vertex in after:
            vertex = after.pop(vertex)
    assert loops == {"ict": 4, "faces": 1}[name]


def test_the_faces_world_is_behind_the_same_model() -> None:
    """Its own landmarks, from its coefficients; its pose turns about the neck, ours about the origin."""
    model = shipped_model("faces")
    clip = faces.sample(np.random.default_rng(4), size=64, frames=4)
    tracks = {name: np.asarray(track) for name, track in clip.tracks.items()}
    assert model.expression_names == tuple(clip.meta["actions"])
    assert model.emotions == faces.EMOTIONS
    vertices = model.vertices(tracks["identity"][0], tracks["expression"])
    pose = tracks["pose"].astype(float)
    turns, scale = faces.rotation(pose), pose[:, 5] * 64
    shift = pose[:, 3:5] * 64 - 0.5
    shift += scale[:, None] * ((PIVOT - turns @ PIVOT) * [1, -1, 1])[:, :2]
    placed = project(vertices, Pose(scale, rotation_vectors(turns), shift))
    assert np.abs(placed[:, model.landmarks, :2] - tracks["landmarks"][..., :2]).max() < 0.02


def test_models_survive_their_files(tmp_path: Path) -> None:
    model = dataclasses.replace(tetrahedron(), expression_range=(0.0, 1.0), emotions={"joy": {"up": 1.0}})
    save_model(tmp_path / "one.safetensors", model, {"source": "made", "licence": "none"})
    again = read_model(tmp_path / "one.safetensors")
    for part in dataclasses.fields(MorphableModel):
        assert np.array_equal(getattr(again, part.name), getattr(model, part.name)), part.name


def test_shipped_files_are_small_and_state_their_licence() -> None:
    folder = Path(__file__).parents[1] / "src" / "stillmotion" / "morphable"
    assert all((folder / f"{name}.safetensors").stat().st_size < 1_000_000 for name in MODELS)
    assert "MIT License" in (folder / "ict.LICENSE").read_text()


def test_counts_that_differ_are_refused() -> None:
    model = tetrahedron()
    assert "4 vertices" in refused(dataclasses.replace, model, identity_basis=np.zeros((1, 5, 3)))
    assert "std" in refused(dataclasses.replace, model, expression_std=np.ones(3))
    assert "landmarks" in refused(dataclasses.replace, model, landmarks=np.arange(67))
    assert "beyond its 4" in refused(dataclasses.replace, model, triangles=np.array([[0, 1, 4]]))
    assert "3 names" in refused(dataclasses.replace, model, expression_names=("a", "b", "c"))
    assert "1 identity coefficients, not 2" in refused(model.vertices, np.zeros(2), np.zeros(2))
    assert "2 expression coefficients, not 3" in refused(model.vertices, np.zeros(1), np.zeros((4, 3)))
    assert "known are faces, ict" in refused(shipped_model, "basel")


def test_a_file_that_lacks_something_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "one.safetensors", tetrahedron(), {})
    (tmp_path / "one.json").write_text('{"emotions": {}, "expression_range": null}')
    assert "expression_names" in refused(read_model, tmp_path / "one.safetensors")


# --- expressions ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", MODELS)
def test_six_emotions_are_known_and_differ(name: str) -> None:
    model = shipped_model(name)
    shown = np.stack([expression(model, emotion) for emotion in EMOTIONS])
    cosine = (shown @ shown.T) / np.linalg.norm(shown, axis=1)[:, None] / np.linalg.norm(shown, axis=1)
    assert (cosine - np.eye(6)).max() < 0.85
    assert (expression(model, "neutral") == 0).all()


@pytest.mark.parametrize("name", MODELS)
def test_faces_show_what_their_emotion_is(name: str) -> None:
    model = shipped_model(name)

    def moved(emotion: str) -> np.ndarray:
        change = model.vertices(np.zeros(len(model.identity_std)), expression(model, emotion)) - model.mean
        return change[model.landmarks]

    assert moved("happiness")[[48, 54], 1].min() > 0  # corners of the mouth go up and apart
    assert moved("happiness")[54, 0] > 0 > moved("happiness")[48, 0]
    assert moved("sadness")[[48, 54], 1].max() < 0
    assert moved("surprise")[8, 1] < 0 < moved("surprise")[17:27, 1].min()  # jaw down, brows up
    assert moved("anger")[[20, 21, 22, 23], 1].max() < 0  # inner brows down
    assert moved("fear")[[21, 22], 1].min() > 0
    assert moved("disgust")[51, 1] > 0  # the upper lip rises


def test_strength_scales_within_the_range() -> None:
    model = shipped_model()
    half, full, more = (expression(model, "happiness", strength) for strength in (0.5, 1.0, 1.5))
    assert np.allclose(2 * half, full)
    assert more.max() == 1.0
    assert expression(model, "jawOpen", 0.5).tolist() == [
        0.5 * (name == "jawOpen") for name in model.expression_names
    ]


def test_sequences_go_gently_from_one_expression_to_the_next() -> None:
    model = shipped_model()
    shown = expression_sequence(model, [(1.0, "jawOpen", 1.0), (2.0, "neutral", 1.0)], 30, 10.0)
    jaw = shown[:, model.expression_names.index("jawOpen")]
    assert jaw[[0, 5, 10, 15, 20, 29]] == pytest.approx([0, 0.5, 1, 0.5, 0, 0])
    assert jaw[1] == pytest.approx(3 * 0.1**2 - 2 * 0.1**3)
    still = expression_sequence(model, [(0.0, "jawOpen", 0.5)], 3, 10.0)
    assert (still == expression(model, "jawOpen", 0.5)).all()


def test_unknown_expressions_and_times_are_refused() -> None:
    model = shipped_model()
    assert "happiness" in refused(expression, model, "joy")
    refuses("0 to 2", expression, model, "fear", float("nan"))
    refuses("no names", expression, dataclasses.replace(tetrahedron(), expression_names=()), "fear")
    for times in ([], [1.0, 1.0], [-1.0], [float("inf")]):
        refuses("order|times", expression_sequence, model, [(time, "fear", 1.0) for time in times], 4, 25.0)
