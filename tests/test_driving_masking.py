"""The region that moves and the background that stays: by hand, and in animations."""

from typing import Any

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
from stillmotion.keypoints.playing import as_fields
from stillmotion.rendering.compositing import Renderer, hold
from stillmotion.rendering.fields import PAINT, PLATE, WARPED
from stillmotion.systems.driving import Drive, masking
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
    made = output(
        still, displacement, masks, shares=(0.0, 0.0, 0.0, 1.0), paint=still
    )  # painted, but nothing changed plainly
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
@pytest.mark.parametrize("source", [PLATE, PAINT])
def test_a_plain_change_by_plate_or_paint_shows_a_faint_one_does_not(
    painted: float, change: float, shows: bool, source: int
) -> None:
    still = torch.full((1, 3, 64, 64), 0.5)
    frame = still.clone()
    frame[:, 1, 40:44, 40:44] += change
    flat = torch.zeros(1, 32, 32, 2)
    shares = [(1 - painted) / 2, (1 - painted) / 2, 0.0, 0.0]
    shares[source] = painted
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
    shares = torch.zeros(1, 4, 64, 64)
    shares[0, PAINT] = 1
    shares[0, :, 28:36, 44:52] = 0
    shares[0, WARPED, 28:36, 44:52] = 1
    masks = block_masks(64, slice(28, 36), slice(44, 52), share=1.0)
    made = output(0.9 * canvas.small, displacement, masks, shares, paint=0.2)
    renderer = Renderer(canvas, None)
    free = renderer.render(*as_fields(made))
    made, weight = Masking(own, canvas.small, None, None, True, None).weigh(made, own)
    assert weight is not None
    fields, _ = as_fields(made)
    frame = renderer.render(hold(fields, weight))

    scale = 130 / 64  # picture pixels per network pixel; 20 rows of padding lie above the picture
    rows = slice(round(30 * scale) - 20, round(34 * scale) - 20)
    old, new = frame[rows, round(16 * scale) : round(20 * scale)], frame[rows, round(46 * scale) : round(50 * scale)]
    assert (old == 51).all()  # painted, 0.2 of 255: nothing of the still's block is left
    assert (new >= 95).all()  # the still's own pixels, moved
    assert np.array_equal(frame[:15], picture[:15])
    assert np.array_equal(frame[:, 62:78], picture[:, 62:78])  # between the two places
    assert not np.array_equal(free[:15], picture[:15])  # without the option paint is everywhere


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


def test_faded_flow_ends_with_the_weight_in_the_motion_and_in_the_fields() -> None:
    weight = torch.zeros(1, 1, 9, 9)
    weight[..., :4] = 1
    displacement = torch.rand(1, 9, 9, 2, generator=torch.Generator().manual_seed(0))
    faded = masking.fade(output(torch.zeros(1, 3, 9, 9), displacement, shares=(1.0, 0.0, 0.0, 0.0)), weight)
    assert faded.fields is not None
    for flow in (faded.motion.displacement, faded.fields.displacement):
        assert torch.equal(flow[:, :, :4], displacement[:, :, :4])
        assert flow[:, :, 4:].abs().max() == 0
    assert masking.fade(output(torch.zeros(1, 3, 9, 9), displacement), weight).fields is None


@pytest.mark.parametrize("fields", [False, True])
@pytest.mark.parametrize("size", ["native", "model"])
def test_what_is_held_is_the_still_and_the_rest_is_the_animation(fields: bool, size: str) -> None:
    """A weight of one leaves the left half of a frame as it is, and a weight of zero the right half the still's."""
    driving = system(**at("generator", fields=fields))
    free = driving.animate(STILL, Drive(VIDEO[:2]), size=size).frames()
    rollout = driving.open(STILL, Drive(VIDEO[:2]), size=size)
    rollout.masking = lambda: Holding(1.0)  # type: ignore[attr-defined]
    found = np.stack([next(rollout).frame for _ in range(2)])
    assert np.array_equal(found[:, :, :32], free[:, :, :32])
    assert np.array_equal(found[:, :, 32:], np.stack([STILL[:, 32:]] * 2))


def test_on_a_ramp_the_papers_frames_are_mixed_with_the_still() -> None:
    """What it adds to the warped still counts no more than that; pixels cut off at black or white tell less."""
    driving = system()
    free = driving.animate(STILL, Drive(VIDEO[:1])).frames()[0]
    rollout = driving.open(STILL, Drive(VIDEO[:1]))
    rollout.masking = lambda: Holding(0.5)  # type: ignore[attr-defined]
    expected = (free.astype(float) + STILL) / 2
    whole = ((free > 0) & (free < 255))[:, :32]
    assert whole.sum() > 1000
    assert np.abs(next(rollout).frame - expected)[:, :32][whole].max() <= 1


class Holding:
    """A masking that shows a share of the left half, nothing of the right one, and pins no keypoint."""

    def __init__(self, share: float):
        self.share = share

    def keypoints(self, target: Any) -> Any:
        return target

    def weigh(self, made: Any, target: Any) -> Any:
        return made, (self.share * (torch.arange(64) < 32)).expand(len(target.mean), 1, 64, 64)
