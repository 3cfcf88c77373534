"""The region that moves and the background that stays: by hand, and in animations."""

import numpy as np
import pytest
import torch

from driving_tools import (
    DRIVER,
    STILL,
    VIDEO,
    at,
    keypoints,
    output,
    own_keypoints,
    own_means,
    prepare,
    seeing,
    spot,
    system,
)  # fmt: skip
from refusals import refuses
from stillmotion.errors import StillmotionError
from stillmotion.systems.driving import Drive, masking
from stillmotion.systems.driving.compositing import composite, mix
from stillmotion.systems.driving.masking import Masking

# Untrained networks find bodies of any size.
pytestmark = pytest.mark.filterwarnings("ignore:The body in the still")

SQUARE = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])


def block_masks(size: int, rows: slice, columns: slice, share: float = 0.9) -> torch.Tensor:
    """Background everywhere but for a block of one keypoint; 1 x 2 x size x size."""
    masks = torch.zeros(1, 2, size, size)
    masks[:, 0] = 1
    masks[0, :, rows, columns] = torch.tensor([1 - share, share])[:, None, None]
    return masks


# --- the region ----------------------------------------------------------------------------------------------------
def test_only_keypoints_in_the_region_move_and_a_region_without_any_is_refused() -> None:
    points = torch.tensor([[10.0, 20.0], [39.4, 20.0], [39.6, 20.0], [80.0, 70.0]])
    chosen = masking.choose_region(points, (10, 20, 30, 1), (100, 100))
    assert chosen.tolist() == [True, True, False, False]  # pixel 39 is the last; it ends at 39.5
    with pytest.raises(StillmotionError, match=r"40,40,10,10.*\(10, 20\), \(39, 20\), \(40, 20\), \(80, 70\)"):
        masking.choose_region(points, (40, 40, 10, 10), (100, 100))
    refuses("reaches out of the still, which is 90 x 100", masking.choose_region, points, (80, 70, 11, 10), (100, 90))

    still, target = keypoints(SQUARE.tolist(), 0.1), keypoints((SQUARE + 0.3).tolist(), 0.2)
    pinned = masking.pin_others(still, target, torch.tensor([True, False, False, True]))
    assert torch.equal(pinned.mean[0, [0, 3]], target.mean[0, [0, 3]])
    assert torch.equal(pinned.mean[0, [1, 2]], still.mean[0, [1, 2]])
    assert torch.equal(pinned.covariance[0, 1], still.covariance[0, 1])
    assert torch.equal(pinned.covariance[0, 0], target.covariance[0, 0])


def test_the_regions_weight_is_one_around_it_fades_and_follows_its_keypoints() -> None:
    corners = torch.tensor([[-0.5, -0.5], [0.0, 0.0]])
    resting, away = torch.tensor([[[-0.2, -0.2]]]), torch.tensor([[[0.6, -0.2]]])
    size = (201, 201)  # a pixel is 0.01 wide

    def at(weight: torch.Tensor, x: float, y: float) -> float:
        return float(weight[0, 0, round((y + 1) * 100), round((x + 1) * 100)])

    weight = masking.region_weight(corners, resting, size)
    edge = masking.REACH
    assert at(weight, -0.25, -0.25) == at(weight, edge - 0.01, 0) == 1
    assert at(weight, edge + masking.FADE / 2, -0.25) == pytest.approx(0.5, abs=0.04)
    assert at(weight, edge + masking.FADE + 0.01, -0.25) == 0
    assert at(weight, 0.6, -0.2) == 0
    assert at(masking.region_weight(corners, away, size), 0.6, -0.2) == 1  # the hand has gone there


@pytest.mark.parametrize(("size", "scale"), [("native", 2), ("model", 1)])
def test_only_the_region_moves(size: str, scale: int) -> None:
    driving = seeing(**at("generator", fields=True))
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


def test_a_region_without_keypoints_is_refused_with_their_places() -> None:
    driving = system()
    with pytest.raises(StillmotionError, match=r"No keypoint of the still lies in the region 0,0,2,2.*\(\d+, \d+\)"):
        list(driving.animate(STILL, Drive(VIDEO, region=(0, 0, 2, 2))))
    refuses("reaches out of the still", list, driving.animate(STILL, Drive(VIDEO, region=(60, 0, 5, 5))))


# --- the background ------------------------------------------------------------------------------------------------
def test_background_is_what_shows_no_body_in_the_still_nor_in_the_frame() -> None:
    """A block moves from the left to the right of a 32 x 32 flow; the paint covers where it was."""
    displacement = torch.zeros(1, 32, 32, 2)
    displacement[0, 14:18, 22:26, 0] = -14 * 2 / 31  # new place: read 14 pixels further left
    masks = block_masks(32, slice(14, 18), slice(22, 26))
    still = torch.full((1, 3, 64, 64), 0.5)
    made = output(still, displacement, masks, shares=(0.0, 0.0), paint=still)  # painted, but nothing changed plainly
    weight = masking.background_weight(displacement, None, made, still)[0, 0]
    assert weight.shape == (64, 64)
    assert (weight[29:35, 45:51] == 1).all()  # where it is now
    assert (weight[29:35, 17:23] == 1).all()  # where it was: pixels 8 to 11 of the flow, which nothing but it tells
    assert (weight[:20] == 0).all()
    assert (weight[:, 33:36] == 0).all()
    assert (weight[:, :8] == 0).all()
    assert 0 < weight[32, 40] <= 1

    own = block_masks(32, slice(26, 30), slice(4, 8))  # the still's own body, elsewhere
    assert (masking.background_weight(displacement, own, made, still)[0, 0, 53:59, 9:15] == 1).all()
    assert (weight[53:59, 9:15] == 0).all()


@pytest.mark.parametrize(("painted", "change", "shows"), [(0.9, 0.3, True), (0.2, 0.3, False), (0.9, 0.02, False)])
def test_a_plain_change_by_the_paint_shows_a_faint_one_does_not(painted: float, change: float, shows: bool) -> None:
    still = torch.full((1, 3, 64, 64), 0.5)
    frame = still.clone()
    frame[:, 1, 40:44, 40:44] += change
    flat = torch.zeros(1, 32, 32, 2)
    shares = ((1 - painted) / 2, (1 - painted) / 2)
    made = output(frame, flat, block_masks(32, slice(0, 0), slice(0, 0)), shares, paint=frame)
    weight = masking.background_weight(flat, None, made, still)
    assert bool((weight[0, 0, 40:44, 40:44] == 1).all()) == shows
    assert bool((weight == 0).all()) == (not shows)


def test_a_kept_background_is_the_stills_own_to_the_pixel_and_what_left_is_painted_over() -> None:
    """A block goes from the left to the right; the networks paint everything a little darker."""
    driving = system()
    picture = np.random.default_rng(5).integers(100, 200, (90, 130, 3), dtype=np.uint8)
    canvas, own = prepare(driving, picture), own_keypoints(driving, picture)
    displacement = torch.zeros(1, 64, 64, 2)
    displacement[0, 28:36, 44:52, 0] = -30 * 2 / 63  # the block's new place reads 30 network pixels to the left
    shares = torch.zeros(1, 2, 64, 64)
    shares[0, 0, 28:36, 44:52] = 1
    masks = block_masks(64, slice(28, 36), slice(44, 52), share=1.0)
    made = output(0.9 * canvas.small, displacement, masks, shares, paint=0.2)
    made, weight = Masking(own, canvas.small, None, None, True, None).weigh(made, own)
    frame = composite(canvas, made, weight)

    step = 129 / 63  # picture pixels per network pixel; 20 rows of padding lie above the picture
    old = frame[round(30 * step) - 20 : round(34 * step) - 20, round(16 * step) : round(20 * step)]
    new = frame[round(30 * step) - 20 : round(34 * step) - 20, round(46 * step) : round(50 * step)]
    assert (old == 51).all()  # painted, 0.2 of 255: nothing of the still's block is left
    assert (new >= 95).all()  # the still's own pixels, moved
    assert np.array_equal(frame[:15], picture[:15])
    assert np.array_equal(frame[:, 62:78], picture[:, 62:78])  # between the two places
    assert not np.array_equal(composite(canvas, made)[:15], picture[:15])  # without the option paint is everywhere


@pytest.mark.parametrize(
    "changes", [at("generator", fields=True), *(at("motion", flow=f) for f in ("residual", "none"))]
)
def test_keeping_the_background_runs_with_and_without_masks_and_shares(changes: dict[str, object]) -> None:
    driving = system(**changes)
    plain = driving.animate(STILL, Drive(VIDEO), frames=1).frames()
    kept = driving.animate(STILL, Drive(VIDEO, keep_background=True), frames=1).frames()
    assert kept.shape == plain.shape
    assert np.abs(kept.astype(int) - STILL).mean() <= np.abs(plain.astype(int) - STILL).mean()


# --- weights -------------------------------------------------------------------------------------------------------
def test_sampled_places_are_where_the_flow_looks() -> None:
    displacement = torch.zeros(2, 8, 8, 2)
    displacement[1, 2, 5, 0] = -3 * 2 / 7  # pixel (5, 2) looks three to the left
    displacement[1, 0, 0, 1] = -1.0  # and (0, 0) out of the picture, but it does not move by the mask
    moving = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    moving[1, 0, 2, 5] = True
    assert masking.sampled_places(displacement, moving).nonzero().tolist() == [[1, 0, 2, 2]]


def test_faded_flow_ends_with_the_weight_and_the_mix_is_exact_at_both_ends() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.zeros(1, 1, 9, 9)
    weight[..., :4] = 1
    displacement = torch.rand(1, 9, 9, 2, generator=generator)
    faded = masking.fade(output(torch.zeros(1, 3, 9, 9), displacement), weight).motion.displacement
    assert torch.equal(faded[:, :, :4], displacement[:, :, :4])
    assert faded[:, :, 4:].abs().max() == 0
    frame, still = torch.rand(2, 1, 3, 9, 9, generator=generator)
    mixed = mix(frame, still, weight)
    assert torch.equal(mixed[..., :4], frame[..., :4])
    assert torch.equal(mixed[..., 4:], still[..., 4:])
    halved = mix(frame, still, weight / 2)[0, 0, 0, 0]
    assert halved == pytest.approx(float(frame[0, 0, 0, 0] + still[0, 0, 0, 0]) / 2, rel=1e-6)
