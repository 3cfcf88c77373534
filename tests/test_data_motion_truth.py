"""Exact motion between two frames: by hand on a moving square, and by warping made people."""

import numpy as np
import pytest
import torch

from stillmotion import geometry
from stillmotion.data.augment import AUGMENTATIONS, AugmentParams, augment_frames, sample_params
from stillmotion.data.clip import Clip
from stillmotion.data.motion_truth import PAINT, PLATE, STATIC, UNKNOWN, WARPED, motion_truth, visibility
from stillmotion.data.sampling import to_tensor
from stillmotion.worlds import sample_clip

SIZE = 16
PLAIN = AugmentParams((SIZE, SIZE), (SIZE, SIZE))


def square_clip(corners: list[tuple[int, int]], side: int = 4) -> Clip:
    """A bright square at (x, y) in each frame, before a wall that rests."""
    parts = np.zeros((len(corners), SIZE, SIZE), np.uint8)
    moves = np.zeros((len(corners), 2, 2, 3), np.float32)
    moves[:, :, 0, 0] = moves[:, :, 1, 1] = 1
    for t, (x, y) in enumerate(corners):
        parts[t, y : y + side, x : x + side] = 1
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


def test_played_backwards_the_later_frame_is_the_still() -> None:
    params = AugmentParams((SIZE, SIZE), (SIZE, SIZE), reverse=True)
    truth = motion_truth(square_clip([(2, 5), (8, 5)]), np.array([0, 1]), params)
    assert torch.allclose(truth["displacement"][6, 3], torch.tensor([6 * 2 / (SIZE - 1), 0.0]))
    assert truth["figure"][0, 6, 9] == 1


def test_a_figure_that_comes_in_from_outside_has_to_be_painted() -> None:
    still, driving = np.zeros((2, 6, 6), np.uint8)
    driving[2:4, 0:2] = 1
    flow = np.zeros((6, 6, 2), np.float32)
    flow[2:4, 0:2, 0] = -3  # it was left of the picture
    assert (visibility(still, driving, flow)[2:4, 0:2] == PAINT).all()


def test_background_that_shifts_is_warped_and_not_static() -> None:
    still, driving = np.zeros((2, 6, 6), np.uint8)
    flow = np.full((6, 6, 2), [1.0, 0.0], np.float32)
    shown = visibility(still, driving, flow)
    assert (shown[:, :5] == WARPED).all()
    assert (shown[:, 5] == PLATE).all()  # it was right of the picture


def test_a_clip_that_does_not_know_its_motion_says_so() -> None:
    clip = Clip("plain", np.zeros((3, SIZE, SIZE, 3), np.uint8), 25.0)
    truth = motion_truth(clip, np.array([0, 2]), PLAIN)
    assert (truth["visibility"] == UNKNOWN).all()
    assert (truth["figure"] == -1).all()
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
