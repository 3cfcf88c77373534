"""The best driving frame, the crop that fits, the region that moves, the background that stays: by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from driving_tools import keypoints
from stillmotion import geometry
from stillmotion.errors import StillmotionError
from stillmotion.systems.driving import aligning, holding
from stillmotion.systems.driving.networks import Generated, Keypoints, Motion

POSE = torch.tensor([[[-0.5, -0.5], [0.5, -0.4], [0.3, 0.6], [-0.2, 0.1]]])


def driver(count: int = 12, seed: int = 0) -> Keypoints:
    """Random poses; frame 3 lies near the pose point by point, frame 7 is the pose itself, small and elsewhere."""
    mean = torch.rand(count, 4, 2, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    mean[3] = POSE[0] + torch.tensor([[0.1, 0.0], [-0.1, 0.0], [0.0, -0.1], [0.0, 0.1]])
    mean[7] = POSE[0] * 0.4 + torch.tensor([0.3, -0.2])
    return Keypoints(mean, torch.eye(2).expand(count, 4, 2, 2) * torch.arange(count)[:, None, None, None])


def test_a_layout_has_neither_place_nor_size():
    assert torch.allclose(
        aligning.layout(torch.tensor([[[3.0, 5.0], [7.0, 5.0]]])), torch.tensor([[[-1.0, 0], [1.0, 0]]])
    )
    assert aligning.layout(torch.ones(1, 4, 2)).abs().max() == 0  # all in one point: not a division by zero
    turned = POSE[..., [1, 0]]
    assert aligning.layout_distance(POSE, 3 * POSE - 0.7) < 1e-6
    assert aligning.layout_distance(POSE, turned) > 0.2


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 13))
def test_the_frame_in_the_stills_pose_is_chosen_however_it_is_moved_and_scaled(size: int):
    found = driver()
    batches = (Keypoints(m, c) for m, c in zip(found.mean.split(size), found.covariance.split(size), strict=True))
    best = aligning.best_match(Keypoints(POSE, torch.eye(2).expand(1, 4, 2, 2)), batches)
    assert best.index == 7
    assert best.distance < 1e-5
    assert torch.equal(best.keypoints.mean, found.mean[7:8])
    assert torch.equal(best.keypoints.covariance, found.covariance[7:8])


def test_of_equal_frames_the_first_is_chosen_and_no_batch_is_kept():
    still = keypoints(POSE[0].tolist())
    many = Keypoints(POSE.expand(50, 4, 2).clone(), still.covariance.expand(50, 4, 2, 2).clone())
    best = aligning.best_match(still, [many, many])
    assert best.index == 0
    assert best.keypoints.mean.untyped_storage().nbytes() == 4 * 2 * 4
    with pytest.raises(StillmotionError, match="no frames"):
        aligning.best_match(still, [])


SQUARE = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])


def test_the_crop_gives_the_body_the_drivers_size_and_place():
    body = 10 * SQUARE + torch.tensor([50.0, 60.0])  # 20 pixels wide
    # In the driver it takes half of the picture's 2 units: so do 20 of 40 steps, the body's centre at step 20.
    assert aligning.suggest_crop(body, 0.5 * SQUARE, (100, 200)) == ((30, 40, 41, 41), True)
    # Driver's centre at x = 0.5: three quarters of the steps lie to the left of it.
    assert aligning.suggest_crop(body, 0.5 * SQUARE + torch.tensor([0.5, 0.0]), (100, 200)) == (
        (20, 40, 41, 41),
        True,
    )


def test_a_crop_that_reaches_out_is_moved_inside_and_says_so():
    body = 10 * SQUARE + torch.tensor([12.0, 95.0])
    assert aligning.suggest_crop(body, 0.5 * SQUARE, (100, 200)) == ((0, 59, 41, 41), False)
    assert aligning.suggest_crop(body, 0.5 * SQUARE, (35, 200)) == ((0, 0, 41, 35), False)
    assert aligning.suggest_crop(body, 0.05 * SQUARE, (100, 200)) == ((0, 0, 200, 100), False)


@settings(max_examples=40, deadline=None)
@given(st.floats(8, 40), st.floats(0.2, 0.9), st.floats(-0.3, 0.3), st.floats(-0.3, 0.3))
def test_after_the_crop_the_two_bodies_agree(half: float, driven: float, dx: float, dy: float):
    points = half * SQUARE + torch.tensor([300.0, 280.0])
    aim = driven * SQUARE + torch.tensor([dx, dy])
    (x, y, w, h), whole = aligning.suggest_crop(points, aim, (600, 640))
    assert whole
    assert w == h
    cropped = geometry.to_normalised(points - torch.tensor([x, y]), (h, w))
    pixel = 2 / (w - 1)
    assert (cropped - aim).abs().max() <= 1.01 * pixel  # rounding of the corner and of the side


def test_what_fits_and_what_does_not():
    points = 10 * SQUARE + torch.tensor([50.0, 50.0])
    fit = aligning.compare(0.4 * SQUARE, points, 0.5 * SQUARE + torch.tensor([0.6, 0.0]), (101, 101))
    assert fit is not None
    assert fit.size_ratio == pytest.approx(0.8)
    assert fit.offset == pytest.approx(0.3)  # 0.6 of 2 units
    assert fit.good
    far = aligning.compare(0.4 * SQUARE, points, 0.5 * SQUARE + torch.tensor([0.8, 0.0]), (101, 101))
    small = aligning.compare(0.3 * SQUARE, points, 0.5 * SQUARE, (101, 101))
    large = aligning.compare(0.8 * SQUARE, points, 0.5 * SQUARE, (101, 101))
    for bad in (far, small, large):
        assert bad is not None
        assert not bad.good
        assert f"--crop {','.join(map(str, bad.crop))} " in bad.advice()
    assert aligning.compare(0 * SQUARE, points, 0.5 * SQUARE, (101, 101)) is None
    assert aligning.compare(0.4 * SQUARE, points, 0 * SQUARE, (101, 101)) is None
    hopeless = aligning.compare(0.8 * SQUARE, 40 * SQUARE + 50.0, 0.3 * SQUARE, (101, 101))
    assert hopeless is not None
    assert "--crop" not in hopeless.advice()  # the whole still is no advice
    assert "no part of the still" in hopeless.advice()


def test_only_keypoints_in_the_region_move_and_a_region_without_any_is_refused():
    points = torch.tensor([[10.0, 20.0], [39.4, 20.0], [39.6, 20.0], [80.0, 70.0]])
    chosen = aligning.choose_region(points, (10, 20, 30, 1), (100, 100))
    assert chosen.tolist() == [True, True, False, False]  # pixel 39 is the last; it ends at 39.5
    with pytest.raises(StillmotionError, match=r"40,40,10,10.*\(10, 20\), \(39, 20\), \(40, 20\), \(80, 70\)"):
        aligning.choose_region(points, (40, 40, 10, 10), (100, 100))
    with pytest.raises(StillmotionError, match="reaches out of the still, which is 90 x 100"):
        aligning.choose_region(points, (80, 70, 11, 10), (100, 90))

    still, target = keypoints(SQUARE.tolist(), 0.1), keypoints((SQUARE + 0.3).tolist(), 0.2)
    held = aligning.hold(still, target, torch.tensor([True, False, False, True]))
    assert torch.equal(held.mean[0, [0, 3]], target.mean[0, [0, 3]])
    assert torch.equal(held.mean[0, [1, 2]], still.mean[0, [1, 2]])
    assert torch.equal(held.covariance[0, 1], still.covariance[0, 1])
    assert torch.equal(held.covariance[0, 0], target.covariance[0, 0])


def test_the_regions_weight_is_one_around_it_fades_and_follows_its_keypoints():
    corners = torch.tensor([[-0.5, -0.5], [0.0, 0.0]])
    resting, away = torch.tensor([[[-0.2, -0.2]]]), torch.tensor([[[0.6, -0.2]]])
    size = (201, 201)  # a pixel is 0.01 wide

    def at(weight: torch.Tensor, x: float, y: float) -> float:
        return float(weight[0, 0, round((y + 1) * 100), round((x + 1) * 100)])

    weight = holding.region_weight(corners, resting, size)
    edge = holding.REACH
    assert at(weight, -0.25, -0.25) == at(weight, edge - 0.01, 0) == 1
    assert at(weight, edge + holding.FADE / 2, -0.25) == pytest.approx(0.5, abs=0.04)
    assert at(weight, edge + holding.FADE + 0.01, -0.25) == 0
    assert at(weight, 0.6, -0.2) == 0
    assert at(holding.region_weight(corners, away, size), 0.6, -0.2) == 1  # the hand has gone there


def test_places_read_are_where_the_flow_looks():
    displacement = torch.zeros(2, 8, 8, 2)
    displacement[1, 2, 5, 0] = -3 * 2 / 7  # pixel (5, 2) looks three to the left
    displacement[1, 0, 0, 1] = -1.0  # and (0, 0) out of the picture, but it does not move by the mask
    moving = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    moving[1, 0, 2, 5] = True
    read = holding.places_read(displacement, moving)
    assert read.nonzero().tolist() == [[1, 0, 2, 2]]


def test_background_is_what_shows_no_body_in_the_still_nor_in_the_frame():
    """A block moves from the left to the right of a 32 x 32 flow; the painter covers where it was."""
    displacement = torch.zeros(1, 32, 32, 2)
    displacement[0, 14:18, 22:26, 0] = -14 * 2 / 31  # new place: read 14 pixels further left
    masks = torch.zeros(1, 2, 32, 32)
    masks[:, 0] = 1
    masks[0, :, 14:18, 22:26] = torch.tensor([0.1, 0.9])[:, None, None]
    still = torch.full((1, 3, 64, 64), 0.5)
    keep = torch.zeros(1, 2, 64, 64)
    made = Generated(still, Motion(displacement, masks), still, keep, still)  # painted, but nothing changed plainly
    weight = holding.background_weight(displacement, None, made, still)[0, 0]
    assert weight.shape == (64, 64)
    assert (weight[29:35, 45:51] == 1).all()  # where it is now
    assert (weight[29:35, 17:23] == 1).all()  # where it was: pixels 8 to 11 of the flow, which nothing but it tells
    assert (weight[:20] == 0).all()
    assert (weight[:, 33:36] == 0).all()
    assert (weight[:, :8] == 0).all()
    assert 0 < weight[32, 40] <= 1

    standing = torch.zeros(1, 2, 32, 32)
    standing[:, 0] = 1
    standing[0, :, 26:30, 4:8] = torch.tensor([0.1, 0.9])[:, None, None]  # the still's own body, elsewhere
    assert (holding.background_weight(displacement, standing, made, still)[0, 0, 53:59, 9:15] == 1).all()
    assert (weight[53:59, 9:15] == 0).all()


@pytest.mark.parametrize(("painted", "change", "shows"), [(0.9, 0.3, True), (0.2, 0.3, False), (0.9, 0.02, False)])
def test_a_plain_change_by_the_painter_shows_a_faint_one_does_not(painted: float, change: float, shows: bool):
    still = torch.full((1, 3, 64, 64), 0.5)
    masks = torch.stack([torch.ones(1, 32, 32), torch.zeros(1, 32, 32)], dim=1)
    frame = still.clone()
    frame[:, 1, 40:44, 40:44] += change
    keep = torch.full((1, 2, 64, 64), (1 - painted) / 2)
    made = Generated(frame, Motion(torch.zeros(1, 32, 32, 2), masks), still, keep, frame)
    weight = holding.background_weight(torch.zeros(1, 32, 32, 2), None, made, still)
    assert bool((weight[0, 0, 40:44, 40:44] == 1).all()) == shows
    assert bool((weight == 0).all()) == (not shows)


def test_faded_flow_ends_with_the_weight_and_the_blend_is_exact_at_both_ends():
    generator = torch.Generator().manual_seed(0)
    weight = torch.zeros(1, 1, 9, 9)
    weight[..., :4] = 1
    displacement = torch.rand(1, 9, 9, 2, generator=generator)
    made = Generated(torch.zeros(1, 3, 9, 9), Motion(displacement, None), torch.zeros(1, 3, 9, 9), None, None)
    faded = holding.fade(made, weight).motion.displacement
    assert torch.equal(faded[:, :, :4], displacement[:, :, :4])
    assert faded[:, :, 4:].abs().max() == 0
    frame, still = torch.rand(2, 1, 3, 9, 9, generator=generator)
    mixed = holding.blend(frame, still, weight)
    assert torch.equal(mixed[..., :4], frame[..., :4])
    assert torch.equal(mixed[..., 4:], still[..., 4:])
    assert math.isclose(
        float(holding.blend(frame, still, weight / 2)[0, 0, 0, 0]),
        float(frame[0, 0, 0, 0] + still[0, 0, 0, 0]) / 2,
        rel_tol=1e-6,
    )
