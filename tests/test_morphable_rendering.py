"""Pose, projection and normal maps; section 12, line 14 of the fact sheet."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillmotion.morphable.camera import Pose, framing, project, rotation_matrices, rotation_vectors
from stillmotion.morphable.expressions import expression
from stillmotion.morphable.model import shipped_model
from stillmotion.morphable.rendering import Fragments, fragments, nearest, render_normals
from stillmotion.worlds import faces

angles = st.tuples(*3 * [st.floats(-1.7, 1.7)])


def sphere(rows: int = 40, columns: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """A sphere of radius 1, triangles counter-clockwise from outside."""
    theta, phi = np.meshgrid(np.linspace(0, np.pi, rows), np.linspace(0, 2 * np.pi, columns), indexing="ij")
    vertices = np.stack([np.sin(theta) * np.sin(phi), np.cos(theta), np.sin(theta) * np.cos(phi)], -1).reshape(-1, 3)
    number = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]
    return vertices, np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])


def pose(
    scale: float = 20.0, rotation: tuple[float, float, float] = (0, 0, 0), x: float = 31.5, y: float = 31.5
) -> Pose:
    return Pose(np.array([scale]), np.array([rotation], float), np.array([[x, y]]))


# --- camera --------------------------------------------------------------------------------------------------------
@given(angles)
def test_rotations_are_rotations_and_come_back(vector: tuple[float, float, float]) -> None:
    matrix = rotation_matrices(np.array([vector]))
    assert np.allclose(matrix[0] @ matrix[0].T, np.eye(3))
    assert np.linalg.det(matrix[0]) == pytest.approx(1)
    assert np.allclose(matrix[0] @ vector, vector)
    assert np.allclose(rotation_vectors(matrix), [vector], atol=1e-7)


def test_quarter_turns_by_hand() -> None:
    turn = np.pi / 2
    x, y, z = rotation_matrices(np.diag([turn] * 3))
    assert np.allclose(x @ [0, 1, 0], [0, 0, 1])
    assert np.allclose(y @ [0, 0, 1], [1, 0, 0])  # the nose turns to the picture's right
    assert np.allclose(z @ [1, 0, 0], [0, 1, 0])
    half = rotation_matrices(np.array([[np.pi, 0, 0], [0, -np.pi, 0]]))
    assert np.allclose(np.abs(rotation_vectors(half)), [[np.pi, 0, 0], [0, np.pi, 0]])


def test_projection_by_hand() -> None:
    placed = project(np.array([[1.0, 2, 3]]), pose(10, x=5, y=50))
    assert placed.tolist() == [[[15, 30, 30]]]
    bigger = project(np.array([[1.0, 2, 3]]), pose(10, x=5, y=50).resized(2))
    # Pixel 15 of a picture covers 30 and 31 of one twice as large.
    assert bigger.tolist() == [[[30.5, 60.5, 60]]]


def test_framing_leaves_a_margin_on_all_sides() -> None:
    points = np.array([[-1.0, -2, 0], [1, 4, 5]])
    placed = project(points, framing(points, 64, 0.125))[0]
    assert placed[:, 1].tolist() == [55.5, 7.5]
    assert placed[:, 0].mean() == 31.5


# --- normal maps ---------------------------------------------------------------------------------------------------
def test_a_sphere_has_the_normals_of_a_sphere() -> None:
    vertices, triangles = sphere()
    found = render_normals(vertices, triangles, pose(), 64)
    y, x = np.mgrid[:64, :64] - 31.5
    inside = x**2 + y**2 < 19.5**2
    assert found.mask[0][inside].all()
    assert not found.mask[0][x**2 + y**2 > 20**2].any()
    expected = np.stack([x, -y, np.sqrt(np.maximum(20**2 - x**2 - y**2, 0))], -1) / 20
    assert np.abs(found.normals[0] - expected)[inside & (x**2 + y**2 < 18**2)].max() < 0.03
    assert np.abs(found.depth[0] - 20 * expected[..., 2])[x**2 + y**2 < 18**2].max() < 0.2
    assert found.normals.dtype == found.depth.dtype == np.float32
    assert (found.normals[~found.mask] == 0).all()
    assert np.isneginf(found.depth[~found.mask]).all()


def test_more_rays_per_pixel_smooth_the_outline_and_keep_depth() -> None:
    """A pixel of a disc is face where at least half of it is: the area stays that of the disc."""
    vertices, triangles = sphere()
    found = render_normals(vertices, triangles, pose(), 64, samples=4)
    assert found.mask.sum() == pytest.approx(np.pi * 20**2, rel=0.02)
    y, x = np.mgrid[:64, :64] - 31.5
    middle = x**2 + y**2 < 15**2
    assert np.abs(found.depth[0] - np.sqrt(np.maximum(20**2 - x**2 - y**2, 0)))[middle].max() < 0.2


@settings(max_examples=15, deadline=None)
@given(angles)
def test_maps_are_unit_vectors_or_nothing(vector: tuple[float, float, float]) -> None:
    model = shipped_model("faces")
    found = render_normals(model.mean, model.triangles, pose(18, vector), 48, samples=2)
    length = np.linalg.norm(found.normals, axis=-1)
    assert np.allclose(length[found.mask], 1, atol=1e-5)
    assert (length[~found.mask] == 0).all()
    assert (np.isfinite(found.depth) == found.mask).all()


@settings(max_examples=15, deadline=None)
@given(angles)
def test_a_turned_head_keeps_its_vectors_unless_rotated_ones_are_asked_for(
    vector: tuple[float, float, float],
) -> None:
    model, turn = shipped_model(), rotation_matrices(np.array([vector]))[0]
    own = render_normals(model.mean, model.triangles, pose(2.5, vector), 64)
    seen = render_normals(model.mean, model.triangles, pose(2.5, vector), 64, rotated=True)
    assert np.allclose(own.normals @ turn.T, seen.normals, atol=1e-5)
    # What turns the head itself instead of its pose gives the vectors that the viewer sees.
    turned = render_normals(model.mean @ turn.T, model.triangles, pose(2.5), 64)
    assert np.allclose(turned.normals, seen.normals, atol=1e-4)


@settings(max_examples=15, deadline=None)
@given(st.integers(-9, 9), st.integers(-9, 9), st.floats(0.5, 2.0))
def test_shifts_move_maps_and_units_do_not_matter(x: int, y: int, unit: float) -> None:
    model = shipped_model()
    still = render_normals(model.mean, model.triangles, pose(1.5, x=31.4, y=36.3), 64)
    moved = render_normals(model.mean * unit, model.triangles, pose(1.5 / unit, x=31.4 + x, y=36.3 + y), 64)
    back = np.roll(moved.normals[0], (-y, -x), (0, 1))[9:-9, 9:-9]
    different = np.abs(back - still.normals[0][9:-9, 9:-9]).max(-1) > 1e-3
    assert different.mean() < 0.002  # rounding may decide on a pixel at an edge


def test_what_is_nearer_hides_what_is_behind() -> None:
    near = np.array([[-1.0, -1, 1], [1, -1, 1], [0, 1, 1]])
    far = np.array([[-2.0, -2, 0], [2, -2, 0], [0, 2, -1]])
    triangles = np.array([[0, 1, 2], [3, 4, 5]])
    for vertices in (np.concatenate([near, far]), np.concatenate([far, near])):
        found = render_normals(vertices, triangles, pose(10), 64)
        assert found.depth[0, 32, 32] == pytest.approx(10)
        assert np.allclose(found.normals[0, 32, 32], [0, 0, 1])
        assert found.normals[0, 48, 32, 1] != 0  # the tilted one below


def test_surfaces_seen_from_inside_are_not_drawn() -> None:
    model = shipped_model()
    assert render_normals(model.mean, model.triangles[:, ::-1], pose(2.5), 64).mask.mean() < 0.02
    assert render_normals(model.mean, model.triangles, pose(2.5), 64).mask.mean() > 0.2


def test_a_head_outside_of_the_picture_gives_an_empty_map() -> None:
    model = shipped_model()
    assert not render_normals(model.mean, model.triangles, pose(2.5, x=900), 64).mask.any()


def test_every_frame_has_its_own_shape_and_pose() -> None:
    model = shipped_model()
    shapes = model.vertices(np.zeros(40), np.stack([expression(model, name) for name in ("surprise", "happiness")]))
    poses = Pose(np.array([2.0, 2.5]), np.zeros((2, 3)), np.full((2, 2), 31.5))
    both = render_normals(shapes, model.triangles, poses, 64)
    for t in range(2):
        one = render_normals(shapes[t], model.triangles, poses[t : t + 1], 64)
        assert (both.normals[t] == one.normals[0]).all()


def test_maps_of_the_faces_world_are_its_own() -> None:
    """The world's face region, in a frontal pose, against the normal maps that it writes itself."""
    model, turn = shipped_model("faces"), np.zeros((1, 6))
    turn[:, 3:] = 0.5, 0.5, 0.35
    rng = np.random.default_rng(2)
    person, shown = rng.normal(size=24).clip(-1, 1), expression(model, "happiness")[None]
    truth = faces.normal_maps(person, shown, turn, 64)[0].astype(np.float32)
    found = render_normals(model.vertices(person, shown), model.triangles, pose(0.35 * 64), 64, samples=2)
    face = (truth != 0).any(-1)
    assert (face != found.mask[0]).mean() < 0.01
    both = face & found.mask[0]
    cosine = (truth * found.normals[0]).sum(-1)[both]
    assert np.degrees(np.arccos(cosine.clip(-1, 1))).mean() < 4


# --- the z-buffer itself -------------------------------------------------------------------------------------------
def test_fragments_of_a_triangle_by_hand() -> None:
    """A right triangle with legs of 3 pixels covers 4 + 3 + 2 + 1 centres, borders included."""
    corners = np.array([[1.0, 1], [4, 1], [1, 4]])
    found = fragments(corners, np.array([[0, 1, 2]]), 8)
    assert sorted(found.pixel.tolist()) == [9, 10, 11, 12, 17, 18, 19, 25, 26, 33]
    assert np.allclose(found.weights.sum(0), 1)
    x, y = found.pixel % 8, found.pixel // 8
    assert np.allclose(corners.T @ found.weights, [x, y])


def test_triangles_that_share_a_side_leave_no_hole() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        square = np.array([[-9.0, -9], [30, -9], [30, 30], [-9, 30], rng.uniform(2, 18, 2)])
        fan = np.array([[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]])
        assert len(np.unique(fragments(square, fan, 20).pixel)) == 400


def test_the_nearest_fragment_wins_and_the_first_among_equals() -> None:
    found = Fragments(np.array([5, 2, 5, 2, 7]), np.arange(5), np.ones((3, 5)))
    assert nearest(found, np.array([1.0, 3, 2, 3, 0])).tolist() == [1, 2, 4]
    many = Fragments(np.zeros(1000, int), np.arange(1000), np.ones((3, 1000)))
    assert nearest(many, np.arange(1000) % 2).tolist() == [1]
