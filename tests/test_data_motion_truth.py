"""Exact motion between two frames: by hand on a moving square, and by warping made people."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from stillmotion import geometry
from stillmotion.data.augment import AUGMENTATIONS, AugmentParams, augment_frames, sample_params
from stillmotion.data.clip import Clip
from stillmotion.data.motion_truth import (
    PAINT,
    PLATE,
    STATIC,
    UNKNOWN,
    WARPED,
    extended,
    motion_truth,
    motion_truths,
    visibility,
    without_resting,
)
from stillmotion.data.sampling import to_tensor
from stillmotion.worlds import sample_clip

SIZE = 16
PLAIN = AugmentParams((SIZE, SIZE), (SIZE, SIZE))


def square_clip(corners: list[tuple[int, int]], side: int = 4, pan: float = 0.0) -> Clip:
    """A bright square at (x, y) in each frame, before a wall that goes to the right by `pan` pixels a frame."""
    parts = np.zeros((len(corners), SIZE, SIZE), np.uint8)
    moves = np.zeros((len(corners), 2, 2, 3), np.float32)
    moves[:, :, 0, 0] = moves[:, :, 1, 1] = 1
    for t, (x, y) in enumerate(corners):
        parts[t, y : y + side, x : x + side] = 1
        moves[t, 0, 0, 2] = t * pan
        moves[t, 1, :, 2] = x, y
    frames = np.repeat(np.where(parts[..., None] > 0, 220, 40).astype(np.uint8), 3, axis=-1)
    return Clip("square", frames, 25.0, {"parts": parts, "moves": moves})


def test_a_square_that_steps_aside_by_hand() -> None:
    truth = motion_truth(square_clip([(2, 5), (8, 5)]), np.array([0, 1]), PLAIN)
    shown, displacement = truth["visibility"], truth["displacement"]
    assert (shown[5:9, 8:12] == WARPED).all()
    assert torch.allclose(displacement[6, 9], torch.tensor([-6 * 2 / (SIZE - 1), 0.0]))  # backward and normalised
    assert (shown[5:9, 2:6] == PLATE).all()  # the wall that the square hid
    assert (shown[0] == STATIC).all()
    assert displacement[0].abs().max() == 0
    assert (shown == WARPED).sum() == 16
    assert torch.equal(truth["figure"][0, 5:9, 2:6], torch.ones(4, 4))
    assert truth["figure"].sum() == 16


def test_a_direction_says_something_of_the_figure_and_of_what_lies_just_outside_of_it() -> None:
    """Of 4 x 4 pixels and those within 2.5 of them: two rows on each side, and at a corner all but the far one."""
    truth = motion_truth(square_clip([(2, 5), (8, 5)]), np.array([0, 1]), PLAIN)
    expected = torch.zeros(SIZE, SIZE)
    expected[3:11, 6:14] = 1
    for y, x in ((3, 6), (3, 13), (10, 6), (10, 13)):
        expected[y, x] = 0
    assert torch.equal(truth["moving"], expected)
    step = torch.tensor([-6 * 2 / (SIZE - 1), 0.0])
    assert torch.allclose(truth["displacement"][expected > 0], step)  # just outside, that of the figure
    assert truth["displacement"][expected == 0].abs().max() == 0
    mirrored = motion_truth(square_clip([(2, 5), (8, 5)]), np.array([0, 1]), replace(PLAIN, mirror=True))
    assert torch.equal(mirrored["moving"], expected.flip(1))


def test_outside_of_a_figure_the_nearest_of_its_pixels_has_the_say() -> None:
    figure, flow = np.zeros((5, 10), bool), np.full((5, 10, 2), 0.25, np.float32)
    figure[2, 2] = figure[2, 7] = True
    flow[2, 2], flow[2, 7] = (1, 0), (0, 2)
    carried, counts = extended(flow, figure)
    assert carried[2].tolist() == [[1, 0]] * 5 + [[0, 2]] * 5
    assert carried[4, 5].tolist() == [0.25, 0.25]  # 2.8 pixels from the nearest
    assert counts[2].all()
    assert not counts[4, 5]
    for unchanged, none in (extended(flow, np.zeros_like(figure)), extended(flow, np.ones_like(figure))):
        assert np.array_equal(unchanged, flow)
        assert none.all() or not none.any()


def test_played_backwards_the_later_frame_is_the_still() -> None:
    truth = motion_truth(square_clip([(2, 5), (8, 5)]), np.array([0, 1]), replace(PLAIN, reverse=True))
    assert torch.allclose(truth["displacement"][6, 3], torch.tensor([6 * 2 / (SIZE - 1), 0.0]))
    assert truth["figure"][0, 6, 9] == 1
    assert truth["moving"][6, 3] == 1


def test_a_figure_that_comes_in_from_outside_has_to_be_painted() -> None:
    """It goes to the right by three pixels; the still shows its last column at the border, and not what follows."""
    still, driving = np.zeros((2, 6, 6), np.uint8)
    still[2:4, 0] = 1
    driving[2:4, :4] = 1
    flow = np.zeros((6, 6, 2), np.float32)
    flow[2:4, :4, 0] = -3
    assert (visibility(still, driving, flow)[2:4, :4] == [PAINT, PAINT, PAINT, WARPED]).all()


def test_background_that_shifts_a_little_is_static_and_what_comes_in_with_it_is_painted() -> None:
    """By two pixels to the right: columns 0 and 1 were left of the picture, and 4 to 7 show what the square hid."""
    clip = square_clip([(2, 5), (12, 5)], pan=2.0)
    shown = motion_truth(clip, np.array([0, 1]), PLAIN)["visibility"]
    expected = torch.full((SIZE, SIZE), STATIC)
    expected[:, :2] = PAINT
    expected[5:9, 4:8] = PLATE
    expected[5:9, 12:16] = WARPED  # the square
    assert torch.equal(shown, expected)


def test_of_background_that_a_camera_pans_nothing_is_known() -> None:
    """Neither where it comes from nor what it shows; the square before it is warped as ever."""
    clip = square_clip([(2, 5), (8, 5)], pan=5.0)
    truth = motion_truth(clip, np.array([0, 1]), PLAIN)
    expected = torch.full((SIZE, SIZE), UNKNOWN)
    expected[5:9, 8:12] = WARPED
    assert torch.equal(truth["visibility"], expected)
    assert truth["moving"][:, 0].max() == 0
    assert truth["moving"][6, 9] == 1


@pytest.mark.parametrize(
    ("shift", "expected"),
    [((0.0, 0.0), STATIC), ((0.0, -3.0), STATIC), ((-3.0, 3.0), STATIC), ((0.1, 3.1), UNKNOWN)],
)
def test_how_far_background_may_move(shift: tuple[float, float], expected: int) -> None:
    still, driving = np.zeros((2, 9, 9), np.uint8)
    shown = visibility(still, driving, np.full((9, 9, 2), shift, np.float32))
    assert (shown[4, 4], shown.dtype) == (expected, np.int16)


def test_a_window_holds_the_truth_of_every_frame_after_the_still() -> None:
    clip = square_clip([(1, 5), (3, 5), (8, 5)])
    for reverse, order in ((False, [(0, 1), (0, 2)]), (True, [(1, 2), (0, 2)])):
        params = replace(PLAIN, reverse=reverse)
        truths = motion_truths(clip, np.arange(3), params)
        for i, pair in enumerate(order):
            single = motion_truth(clip, np.array(pair), params)
            for name in ("displacement", "moving", "visibility"):
                assert torch.equal(truths[name][i], single[name]), name
            assert torch.equal(truths["figure"], single["figure"])
        assert len(truths["moving"]) == 2


def beside(clip: Clip, resting: list[tuple[int, int]]) -> Clip:
    """The same with a part of one pixel at (x, y) in each frame, which lies on the square."""
    parts, moves = clip.tracks["parts"].copy(), clip.tracks["moves"]
    more = moves[:, 1:2].copy()
    for t, (x, y) in enumerate(resting):
        parts[t, y, x] = 2
        more[t, 0, :, 2] = x, y
    return replace(clip, tracks={"parts": parts, "moves": np.concatenate([moves, more], axis=1)})


def test_what_rests_in_the_frames_that_are_looked_at_is_background() -> None:
    clip = beside(square_clip([(2, 5), (4, 5), (8, 5)]), [(1, 1), (1, 1), (2, 1)])
    found = without_resting(clip, np.array([0, 1]))
    assert np.array_equal(found.tracks["parts"], np.where(clip.tracks["parts"] == 2, 0, clip.tracks["parts"]))
    assert np.array_equal(found.tracks["mask"], 255 * (found.tracks["parts"] > 0))
    assert found.tracks["mask"].dtype == found.tracks["parts"].dtype == np.uint8
    assert motion_truth(found, np.array([0, 1]), PLAIN)["figure"][0, 1, 1] == 0
    assert without_resting(clip, np.array([0, 2])) is clip  # later it is pushed
    assert without_resting(clip, np.array([1, 1])) is clip
    panned = beside(square_clip([(2, 5), (4, 5)], pan=1.0), [(1, 1), (1, 1)])
    assert without_resting(panned, np.array([0, 1])) is panned  # against what the camera shows it moves
    unknown = replace(clip, tracks={"parts": clip.tracks["parts"]})
    assert without_resting(unknown, np.array([0, 1])) is unknown


def test_a_clip_that_does_not_know_its_motion_says_so() -> None:
    clip = Clip("plain", np.zeros((3, SIZE, SIZE, 3), np.uint8), 25.0)
    truth = motion_truth(clip, np.array([0, 2]), PLAIN)
    assert (truth["visibility"] == UNKNOWN).all()
    assert (truth["figure"] == -1).all()
    assert not truth["moving"].any()
    assert truth["displacement"].shape == (SIZE, SIZE, 2)


@pytest.mark.parametrize("augmentation", ["none", "taichi", "bold"])
def test_the_still_warped_by_the_truth_is_the_driving_frame(augmentation: str) -> None:
    """Over all augmentations; what is left is light, the mouth, and half a pixel at the outlines."""
    errors, copies = [], []
    for i in range(8):
        clip = sample_clip("puppets", 5, i, size=64, frames=9, action="jack")
        params = sample_params((64, 64), np.random.default_rng(i), AUGMENTATIONS[augmentation])
        truth = motion_truth(clip, np.array([0, 8]), params)
        still, driving = to_tensor(augment_frames(clip.frames[[0, 8]], params))
        grid = geometry.identity_grid((64, 64)) + truth["displacement"]
        warped = geometry.warp(still[None], grid[None], padding="border")[0]
        figure = (truth["visibility"] == WARPED) & (truth["displacement"].norm(dim=-1) > 0.1)
        errors.append((warped - driving).abs().mean(0)[figure])
        copies.append((still - driving).abs().mean(0)[figure])
    assert torch.cat(errors).mean() < 0.45 * torch.cat(copies).mean()


# --- clips that know their figure alone ----------------------------------------------------------------------------


def masked(clip: Clip) -> Clip:
    return replace(clip, tracks={"mask": np.where(clip.tracks["parts"] > 0, 255, 0).astype(np.uint8)})


def test_a_mask_says_what_is_background_and_what_the_figure_has_uncovered() -> None:
    clip = square_clip([(2, 5), (8, 5)])
    exact, known = (motion_truth(each, np.array([0, 1]), PLAIN) for each in (clip, masked(clip)))
    shown = known["visibility"]
    assert torch.equal(known["figure"], exact["figure"])
    assert (shown[5:9, 8:12] == UNKNOWN).all()  # figure: from somewhere
    elsewhere = shown != UNKNOWN
    assert int((~elsewhere).sum()) == 16
    assert torch.equal(shown[elsewhere], exact["visibility"][elsewhere])
    assert known["moving"].sum() == 0


def test_a_mask_is_moved_as_the_frames_are_and_played_backwards_with_them() -> None:
    clip = masked(square_clip([(2, 5), (8, 5)]))
    mirrored = motion_truth(clip, np.array([0, 1]), replace(PLAIN, mirror=True, reverse=True))
    assert torch.equal(mirrored["figure"][0, 5:9, 4:8], torch.ones(4, 4))  # of the later frame, in a mirror
    assert (mirrored["visibility"][5:9, 10:14] == UNKNOWN).all()


def test_of_a_camera_that_moves_a_mask_says_no_more_than_the_figure() -> None:
    clip = masked(square_clip([(2, 5), (8, 5)]))
    frames = clip.frames.copy()
    frames[1] = np.where(clip.tracks["mask"][1][..., None] > 0, frames[1], frames[1] + 2)
    known = motion_truth(replace(clip, frames=frames), np.array([0, 1]), PLAIN)
    assert (known["visibility"] == UNKNOWN).all()
    assert known["figure"].sum() == 16


def test_pixel_art_keeps_its_pixels_and_its_black() -> None:
    rng, settings = np.random.default_rng(0), AUGMENTATIONS["pixel-art"]
    frames = np.zeros((2, SIZE, SIZE, 3), np.uint8)
    frames[:, 3:6, 4:9] = (200, 120, 60)
    for _ in range(20):
        made = augment_frames(frames, sample_params((SIZE, SIZE), rng, settings))
        assert set(np.unique((made.sum(-1) > 0).sum((1, 2)))) == {15}
        assert len(np.unique(made[made.sum(-1) > 0].reshape(-1, 3).round(5), axis=0)) == 1
