"""Heat maps of joints and of points on limbs, and the pose vectors of the LSTM."""

import math

import pytest
import torch
from torch import Tensor

from stillmotion.systems.structures.structure_maps import (
    LIMBS,
    heat_maps,
    limb_points,
    pose_maps,
    pose_vectors,
    vector_poses,
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
