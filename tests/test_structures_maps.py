"""Heat maps of joints and of points on limbs, the pose vectors of the LSTM, and normal maps of made surfaces."""

import math

import pytest
import torch
from torch import Tensor

from stillmotion.systems.structures.structure_maps import (
    LIMBS,
    centre_distances,
    heat_maps,
    limb_points,
    normal_map,
    pose_maps,
    pose_vectors,
    triangle_normals,
    vector_poses,
    visible_triangles,
)


def figure() -> Tensor:
    """A person of 13 joints in a picture of 64 pixels, all visible."""
    places = [
        (32, 8), (40, 16), (24, 16), (44, 26), (20, 26), (46, 36), (18, 36),
        (38, 36), (26, 36), (38, 48), (26, 48), (38, 60), (26, 60),
    ]  # fmt: skip
    return torch.tensor([(x, y, 1.0) for x, y in places])


# --- heat maps ------------------------------------------------------------------------------------------------------
def test_a_heat_map_is_a_gaussian_with_its_peak_at_the_joint() -> None:
    """Line 19: values in [0, 1], 1 at the joint, a missing joint gives zeros."""
    pose = figure()
    pose[3, 2] = 0
    maps = heat_maps(pose, (64, 64), 2.0)
    assert maps.shape == (13, 64, 64)
    assert (maps.min() >= 0).item()
    assert maps.max() == 1
    for number, (x, y, visible) in enumerate(pose.tolist()):
        if not visible:
            assert maps[number].abs().max() == 0
            continue
        assert divmod(int(maps[number].argmax()), 64) == (y, x)
        assert maps[number, int(y), int(x)] == 1
    assert maps[0, 8 + 2, 32 - 4].item() == pytest.approx(math.exp(-(4 + 16) / 8))


def test_heat_maps_of_other_sizes_of_nan_and_of_joints_outside() -> None:
    points = torch.tensor([[[2.0, 1.0, 0.4], [math.nan, math.nan, 0.0], [-3.0, 1.0, 1.0]]])
    maps = heat_maps(points, (3, 5), 1.0)
    assert maps.shape == (1, 3, 3, 5)
    assert maps[0, 0, 1].tolist() == pytest.approx([math.exp(-2), math.exp(-0.5), 1, math.exp(-0.5), math.exp(-2)])
    assert maps[0, 1].abs().max() == 0
    assert maps[0, 2].max().item() == pytest.approx(math.exp(-4.5))


def test_both_modes_have_their_channels() -> None:
    """Line 19: 13 maps of joints, 48 of points on limbs; sigma is a share of the side."""
    clip = figure().expand(2, 5, 13, 3)
    assert pose_maps(clip, "joints", (64, 64), 1 / 32).shape == (2, 5, 13, 64, 64)
    assert pose_maps(clip, "limbs", (64, 64), 1 / 32).shape == (2, 5, 48, 64, 64)
    torch.testing.assert_close(pose_maps(clip, "joints", (64, 64), 1 / 32), heat_maps(clip, (64, 64), 2.0))
    torch.testing.assert_close(pose_maps(clip, "limbs", (64, 64), 0.1), heat_maps(limb_points(clip), (64, 64), 6.4))


def test_four_points_lie_evenly_on_each_limb() -> None:
    points = limb_points(figure()).view(12, 4, 3)
    assert points[..., 2].min() == 1
    neck, shoulders, arm, trunk = points[0], points[1], points[2], points[6]
    torch.testing.assert_close(neck[:, :2], torch.tensor([(32, 8 + 8 * n / 3) for n in range(4)]))
    torch.testing.assert_close(shoulders[:, 0], torch.tensor([40, 104 / 3, 88 / 3, 24]))
    torch.testing.assert_close(arm[[0, 3], :2], torch.tensor([[40.0, 16], [44, 26]]))
    torch.testing.assert_close(trunk[[0, 3], :2], torch.tensor([[32.0, 16], [32, 36]]))
    assert sorted(joint for limb in LIMBS for joint in limb if joint < 13).count(0) == 1
    assert {joint for limb in LIMBS for joint in limb} == set(range(15))


def test_of_a_limb_with_one_visible_end_that_end_is_drawn() -> None:
    pose = figure()
    pose[3, 2] = 0  # left elbow: end of limb 2 (upper arm), start of limb 4 (forearm)
    visible = limb_points(pose).view(12, 4, 3)[..., 2]
    assert visible[2].tolist() == [1, 0, 0, 0]
    assert visible[4].tolist() == [0, 0, 0, 1]
    assert visible.sum() == 48 - 6
    pose[1, 2] = 0  # left shoulder: there is no middle of the shoulders
    visible = limb_points(pose).view(12, 4, 3)[..., 2]
    assert visible[0].tolist() == [1, 0, 0, 0]
    assert visible[6].tolist() == [0, 0, 0, 1]
    assert visible[2].tolist() == [0, 0, 0, 0]


def test_pose_vectors_have_all_x_first_and_zeros_for_what_is_not_visible() -> None:
    """Line 18: 26 numbers, 2 x / side - 1."""
    pose = figure()
    pose[5, 2] = 0
    vector = pose_vectors(pose.expand(2, 3, 13, 3), 64)
    assert vector.shape == (2, 3, 26)
    assert vector[0, 0, [1, 13 + 1, 5, 13 + 5]].tolist() == [2 * 40 / 64 - 1, 2 * 16 / 64 - 1, 0, 0]
    torch.testing.assert_close(vector_poses(pose_vectors(figure(), 64), 64), figure())


# --- normal maps ----------------------------------------------------------------------------------------------------
def sphere(radius: float = 20.0, rows: int = 24) -> tuple[Tensor, Tensor]:
    """A sphere around the origin, normals inwards as the release's: vertices 3 x V and triangles T x 3."""
    theta = torch.linspace(0, math.pi, rows)[:, None]
    phi = torch.arange(2 * rows) * (math.pi / rows)
    x, y = torch.sin(theta) * torch.cos(phi), torch.sin(theta) * torch.sin(phi)
    vertices = radius * torch.stack([x, y, torch.cos(theta).expand_as(x)]).flatten(1)
    found = []
    for i in range(rows - 1):
        for j in range(2 * rows):
            a, b = 2 * rows * i + j, 2 * rows * i + (j + 1) % (2 * rows)
            c, d = a + 2 * rows, b + 2 * rows
            found += [(a, b, c), (b, d, c)]
    return vertices, torch.tensor(found)


def projected(vertices: Tensor, angle: float = 0.0, shift: float = 31.5) -> Tensor:
    """Turned around y and put into the middle of a picture."""
    c, s = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    return turn @ vertices + torch.tensor([[shift], [31.5], [0]])


def test_the_normal_map_of_a_sphere() -> None:
    """Line 14: unit vectors where it is, zero elsewhere, float32, channels first; inwards, away from the viewer."""
    vertices, triangles = sphere()
    normals = triangle_normals(vertices, triangles)
    found = normal_map(normals, visible_triangles(projected(vertices), triangles, (64, 64)))
    assert found.shape == (3, 64, 64)
    assert found.dtype == torch.float32
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    distance = torch.hypot(columns - 31.5, rows - 31.5)
    lengths = found.norm(dim=0)
    torch.testing.assert_close(lengths[distance < 19], torch.ones_like(lengths[distance < 19]))
    assert (found[:, distance > 20.1] == 0).all()
    inner = distance < 15
    expected = -torch.stack([columns - 31.5, rows - 31.5, (400 - distance**2).clamp_min(0).sqrt()]) / 20
    assert (found - expected)[:, inner].abs().max() < 0.15  # flat triangles
    assert found[2, inner].max() < 0


def test_a_pose_moves_normals_and_does_not_change_them() -> None:
    """Line 14: the vectors are the model's own."""
    vertices, triangles = sphere()
    normals = triangle_normals(vertices, triangles)
    shown = [visible_triangles(projected(vertices, angle), triangles, (64, 64)) for angle in (0.0, 0.5)]
    maps = [normal_map(normals, one) for one in shown]
    assert (maps[0] - maps[1]).abs().max() > 0.3
    both = sorted(set(shown[0].flatten().tolist()) & set(shown[1].flatten().tolist()) - {-1})
    assert len(both) > 100
    for triangle in both[::20]:
        values = [one[:, at == triangle][:, 0] for one, at in zip(maps, shown, strict=True)]
        assert torch.equal(values[0], values[1])
        assert torch.equal(values[0], normals[:, triangle])


def square(z: float, side: float = 9.0, at: float = 2.0) -> Tensor:
    """Four corners, 3 x 4."""
    low, high = at, at + side
    return torch.tensor([[low, high, low, high], [low, low, high, high], [z, z, z, z]])


TWO = torch.tensor([(0, 1, 2), (1, 3, 2), (4, 5, 6), (5, 7, 6)])


def test_the_nearest_triangle_or_the_one_of_the_largest_radius_shows() -> None:
    """Line 14: the largest r wins an overlap in release mode, the nearest otherwise."""
    vertices = torch.cat([square(1.0), square(5.0, at=4.0)], dim=1)
    shown = visible_triangles(vertices, TWO, (16, 16))
    assert (shown[4:12, 4:12] >= 2).all()
    assert (shown[2, 2:12] <= 1).all()
    radii = torch.tensor([9.0, 9.0, 4.0, 4.0])
    shown = visible_triangles(vertices, TWO, (16, 16), radii)
    assert shown[8, 8] in (0, 1)
    assert shown[12, 12] == 3
    assert shown[1, 1] == shown[14, 14] == -1
    same = visible_triangles(torch.cat([square(1.0)] * 2, dim=1), TWO, (16, 16))
    assert set(same.flatten().tolist()) == {-1, 0, 1}


def test_depth_is_that_of_the_pixel() -> None:
    """Two planes that cross: each is in front on one side."""
    slope = square(0.0)
    slope[2] = torch.tensor([-4.5, 4.5, -4.5, 4.5])
    shown = visible_triangles(torch.cat([slope, square(0.0)], dim=1), TWO, (16, 16))
    assert (shown[3:11, 2:6] >= 2).all()
    assert (shown[3:11, 8:12] <= 1).all()


def test_triangles_at_the_border_are_cut_or_left_out() -> None:
    """Line 14: border triangles are dropped in release mode."""
    vertices = torch.cat([square(1.0), square(1.0, at=-4.0)], dim=1)
    shown = visible_triangles(vertices, TWO, (16, 16))
    assert shown[0, 0] == 2 or shown[0, 0] == 3
    assert shown[1, 4] in (2, 3)
    whole = visible_triangles(vertices, TWO, (16, 16), whole=True)
    assert set(whole.flatten().tolist()) == {-1, 0, 1}
    right = visible_triangles(square(1.0, at=6.5), TWO[:2], (16, 16), whole=True)
    assert right.max() == 1  # up to 15.5: the last pixel inside is the last of the picture
    assert visible_triangles(square(1.0, at=7.0), TWO[:2], (16, 16), whole=True).max() == -1
    assert visible_triangles(square(1.0, at=40.0), TWO[:2], (16, 16)).max() == -1


def test_normals_and_distances_of_triangles_by_hand() -> None:
    vertices = torch.tensor([[0.0, 2, 0], [0, 0, 3], [1, 1, 1]])
    triangles = torch.tensor([(0, 1, 2), (0, 2, 1), (0, 0, 1)])
    assert triangle_normals(vertices, triangles).T.tolist() == [[0, 0, 1], [0, 0, -1], [0, 0, 0]]
    assert centre_distances(vertices, triangles)[0].item() == pytest.approx(4 / 9 + 1 + 1)
    flat = visible_triangles(vertices, triangles[2:], (4, 4))
    assert flat.max() == -1
    shown = normal_map(triangle_normals(vertices, triangles), torch.tensor([[-1, 0]]))
    assert shown[:, 0].T.tolist() == [[0, 0, 0], [0, 0, 1]]
