"""What comes out at the still's own size, and what stays as it is: background, regions, slow swimming."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stillmotion.controls import Drive
from stillmotion.systems.driving.composing import Still, compose
from stillmotion.systems.driving.holding import Hold, settle

from driving_tools import DRIVER, moving_square, own_means, seeing, spot, system
from stillmotion import media
from stillmotion.errors import StillmotionError
from stillmotion.systems.driving.networks import Generated, Motion

# Untrained networks find bodies of any size; what fits is tested below with a detector that sees.
pytestmark = pytest.mark.filterwarnings("ignore:The body in the still")

VIDEO = moving_square("drive", frames=5).frames
STILL = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def test_padding_repeats_the_border_and_says_where_the_picture_is():
    picture = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3)
    square, (left, top, right, bottom) = media.pad_square(picture)
    assert square.shape == (5, 5, 3)
    assert np.array_equal(square[top:bottom, left:right], picture)
    assert np.array_equal(square[0], picture[0])
    assert np.array_equal(square[-1], picture[-1])


def made_by_hand(displacement: torch.Tensor, keep: float | None, painted: float = 0.0) -> Generated:
    frame = torch.full((1, 3, 64, 64), 0.5)
    blend = None if keep is None else torch.tensor([keep, 0.0]).view(1, 2, 1, 1).expand(1, 2, 64, 64)
    paint = None if keep is None else torch.full((1, 3, 64, 64), painted)
    return Generated(frame, Motion(displacement, None), frame, blend, paint)


@pytest.mark.parametrize("shape", [(200, 200, 3), (47, 83, 3), (300, 101, 3)])
def test_what_does_not_move_keeps_its_own_pixels_at_any_size(shape):
    picture = np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)
    still = Still.prepare(system(), picture)
    swimming = torch.full((1, 64, 64, 2), 0.1 * 2 / 63)  # a tenth of a network pixel: below what may move
    assert np.array_equal(compose(still, made_by_hand(swimming, keep=1.0)), picture)
    assert np.array_equal(compose(still, made_by_hand(swimming, keep=None)), picture)  # nothing was painted either
    assert np.array_equal(
        compose(still, made_by_hand(swimming, keep=0.0, painted=1.0)), np.full(shape, 255, np.uint8)
    )


def test_a_large_still_moves_by_the_upsampled_flow():
    picture = np.random.default_rng(3).integers(0, 256, (127, 127, 3), dtype=np.uint8)
    still = Still.prepare(system(), picture)
    displacement = torch.zeros(1, 64, 64, 2)
    displacement[..., 0] = -4 * 2 / 63  # look four network pixels to the left: eight of the large picture's steps
    moved = compose(still, made_by_hand(displacement, keep=1.0))
    assert np.array_equal(moved[:, 8:], picture[:, :-8])


def test_the_unmoved_share_is_taken_from_the_full_size_still():
    picture = np.random.default_rng(4).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    still = Still.prepare(system(), picture)
    made = made_by_hand(torch.full((1, 64, 64, 2), 0.5), keep=0.0)  # a flow that would move everything
    unmoved = made._replace(keep=torch.tensor([0.0, 1.0]).view(1, 2, 1, 1).expand(1, 2, 64, 64))
    assert np.array_equal(compose(still, unmoved), picture)


def test_settle_stops_slow_motion_and_leaves_fast_motion():
    step = 2 / 63
    speeds = torch.tensor([0.2, 0.65, 1.0, 5.0]) * step
    displacement = torch.zeros(1, 64, 64, 2)
    displacement[0, 0, :4, 0] = speeds
    found = settle(displacement)[0, 0, :4, 0] / step
    assert torch.allclose(found, torch.tensor([0.0, 0.65 * 0.5, 1.0, 5.0]), atol=1e-5)


# --- what stays as it is -------------------------------------------------------------------------------------------


def test_a_kept_background_is_the_stills_own_to_the_pixel_and_what_left_is_painted_over():
    """A block goes from the left to the right; the networks paint everything a little darker."""
    picture = np.random.default_rng(5).integers(100, 200, (90, 130, 3), dtype=np.uint8)
    still = Still.prepare(system(), picture)
    displacement = torch.zeros(1, 64, 64, 2)
    displacement[0, 28:36, 44:52, 0] = -30 * 2 / 63  # the block's new place reads 30 network pixels to the left
    masks = torch.zeros(1, 2, 64, 64)
    masks[:, 0] = 1
    masks[0, :, 28:36, 44:52] = torch.tensor([0.0, 1.0])[:, None, None]
    keep = torch.zeros(1, 2, 64, 64)
    keep[0, 0, 28:36, 44:52] = 1
    paint = torch.full((1, 3, 64, 64), 0.2)
    made = Generated(0.9 * still.small, Motion(displacement, masks), still.small, keep, paint)
    hold = Hold(still.keypoints, still.small, None, None, True, None)
    made, weight = hold.weigh(made, still.keypoints)
    frame = compose(still, made, weight)

    step = 129 / 63  # picture pixels per network pixel; 20 rows of padding lie above the picture
    old = frame[round(30 * step) - 20 : round(34 * step) - 20, round(16 * step) : round(20 * step)]
    new = frame[round(30 * step) - 20 : round(34 * step) - 20, round(46 * step) : round(50 * step)]
    assert (old == 51).all()  # painted, 0.2 of 255: nothing of the still's block is left
    assert (new >= 95).all()  # the still's own pixels, moved
    assert np.array_equal(frame[:15], picture[:15])
    assert np.array_equal(frame[:, 62:78], picture[:, 62:78])  # between the two places
    assert not np.array_equal(compose(still, made)[:15], picture[:15])  # without the option the paint is everywhere


def test_keeping_the_background_runs_with_and_without_masks_and_shares():
    for changes in ({"composite": True}, {"use_coarse": False}, {"use_flow": False}):
        driving = system(**changes)
        plain = driving.animate(STILL, Drive(VIDEO), frames=1).frames()
        kept = driving.animate(STILL, Drive(VIDEO, keep_background=True), frames=1).frames()
        assert kept.shape == plain.shape
        assert np.abs(kept.astype(int) - STILL).mean() <= np.abs(plain.astype(int) - STILL).mean()


@pytest.mark.parametrize(("size", "scale"), [("native", 2), ("model", 1)])
def test_only_the_region_moves(size, scale):
    driving = seeing(composite=True)
    picture = spot((64 * scale, 64 * scale), 20 * scale, 16 * scale, 24 * scale)
    texture = np.random.default_rng(6).integers(0, 50, picture.shape, dtype=np.uint8)
    picture = np.where(picture < 100, texture, picture)  # too dark to be seen as a body
    own = own_means(driving, picture)
    region = (28 * scale, 24 * scale, 8 * scale, 8 * scale)  # holds the first keypoint, the centre, alone
    steps = list(driving.animate(picture, Drive(DRIVER, region=region), size=size))
    found = np.stack([step.facts["mean"] for step in steps])
    assert np.array_equal(found[:, 1:], np.stack([own[1:]] * 2))
    assert found[1, 0] - own[0] == pytest.approx([4 * 2 / 63, 0], abs=0.01)
    far = slice(56 * scale, None)
    for step in steps:
        assert np.array_equal(step.frame[far], picture[far])
        assert np.abs(step.facts["displacement"][56:]).max() == 0
    free = list(driving.animate(picture, Drive(DRIVER), size=size))
    assert not np.array_equal(free[1].frame[far], picture[far])
    assert not np.array_equal(steps[1].frame, picture)


def test_a_region_without_keypoints_is_refused_with_their_places():
    driving = system()
    with pytest.raises(StillmotionError, match=r"No keypoint of the still lies in the region 0,0,2,2.*\(\d+, \d+\)"):
        list(driving.animate(STILL, Drive(VIDEO, region=(0, 0, 2, 2))))
    with pytest.raises(StillmotionError, match="reaches out of the still"):
        list(driving.animate(STILL, Drive(VIDEO, region=(60, 0, 5, 5))))
