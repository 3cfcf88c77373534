"""Which frames are learned from, and the stroke that belongs to them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from stillmotion.controls import Stroke
from stillmotion.data.augment import AUGMENTATIONS, AugmentParams, augment_frames, sample_params
from stillmotion.data.clip import Clip
from stillmotion.systems.strokes.windows import Masks, before_grey, smooth, stroke_of, window_points
from strokes_tools import TINY_STROKES, spot, tiny_strokes


def parabola(count: int) -> np.ndarray:
    t = np.arange(count, dtype=float)
    return np.stack([3 + 2 * t - 0.05 * t**2, 40 - 0.5 * t], -1)


@pytest.mark.parametrize("count", [4, 9, 30])
def test_a_parabola_is_its_own_fit_up_to_both_ends(count: int) -> None:
    assert np.allclose(smooth(parabola(count), 5), parabola(count), atol=1e-9)


def test_the_swing_of_steps_goes_and_the_way_stays() -> None:
    swing = 1.5 * np.sin(2 * np.pi * np.arange(40) / 9)[:, None] * [1.0, 0.0]
    left = smooth(parabola(40) + swing, 7) - parabola(40)
    assert np.abs(left[7:-7]).max() < 0.35
    assert np.abs(left).max() < 1.0
    assert np.abs(left[:, 1]).max() < 1e-9


def test_a_fit_by_hand() -> None:
    """Five points 0 0 1 0 0: the parabola of least squares has 17/35 in the middle."""
    points = np.zeros((5, 2))
    points[2, 0] = 1.0
    assert smooth(points, 2)[2].tolist() == pytest.approx([17 / 35, 0.0])


def test_nothing_is_fitted_across_a_gap() -> None:
    points = parabola(21)
    points[10] = np.nan
    points[11:] += 100
    made = smooth(points, 3)
    assert np.isnan(made[10]).all()
    assert np.allclose(made[:10], points[:10], atol=1e-9)
    assert np.allclose(made[11:], points[11:], atol=1e-9)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_too_few_points_stay(count: int) -> None:
    rough = np.random.default_rng(0).normal(size=(count, 2))
    assert np.array_equal(smooth(rough, 7), rough)


def test_training_and_animating_read_the_same_stroke() -> None:
    config = replace(TINY_STROKES, smooth_points=3)
    rough = parabola(12) + np.random.default_rng(1).normal(size=(12, 2))
    clip = Clip("a", np.zeros((12, 32, 32, 3), np.uint8), 25.0, {"points": rough})
    assert np.array_equal(stroke_of(clip, TINY_STROKES), rough.astype(np.float32))
    wanted = smooth(rough, 3).astype(np.float32)
    assert not np.allclose(wanted, rough, atol=0.1)
    drawn = window_points(clip, np.arange(4, 9), AugmentParams((32, 32), (32, 32)), config)
    torch.testing.assert_close(drawn["points"], torch.from_numpy(wanted[4:9]))  # the whole clip's fit, cut after it
    inside = np.clip(rough, 0, 31)
    facts = [step.facts["point"] for step in tiny_strokes(smooth_points=3).animate(spot(), Stroke(inside), 12)]
    assert np.allclose(np.stack(facts), smooth(inside, 3), atol=1e-6)


def walker(**tracks: np.ndarray) -> Clip:
    """A bright square of 6 pixels before a wall with a pattern, 2 pixels further in every frame."""
    wall = np.indices((32, 32)).sum(0) % 7 * 10 + 60
    frames = np.repeat(np.repeat(wall[None, :, :, None], 10, 0), 3, -1).astype(np.uint8)
    for t, frame in enumerate(frames):
        frame[12:18, 2 + 2 * t : 8 + 2 * t] = 230
    return Clip("walker", frames, 25.0, dict(tracks))


@pytest.mark.parametrize("marked", [True, False])
def test_what_moves_is_left_before_grey(marked: bool) -> None:
    clip = walker()
    truth = (clip.frames[..., 0] == 230).astype(np.uint8)
    if marked:
        clip.tracks["mask"] = truth * 255
    chosen, masks = np.array([1, 6]), Masks()
    found = masks.window(clip, chosen)
    assert found.shape == (2, 1, 32, 32)
    assert np.abs(found[:, 0].numpy() - truth[chosen]).mean() < (1e-6 if marked else 0.02)
    frames = torch.from_numpy(clip.frames[chosen] / 255).permute(0, 3, 1, 2)
    shown = before_grey(frames, found)
    assert (shown[:, :, 0, 0] == 0.5).all()
    assert shown[1, :, 15, 16].tolist() == pytest.approx([230 / 255] * 3)


def test_masks_move_as_their_pixels_do_and_have_no_colours() -> None:
    clip = walker()
    clip.tracks["mask"] = (clip.frames[..., 0] == 230).astype(np.uint8)
    drawn = sample_params((32, 32), np.random.default_rng(0), AUGMENTATIONS["bold"])
    moved = Masks().window(clip, np.array([4]), drawn)[0, 0].numpy()
    pixels = augment_frames(clip.frames[[4]], drawn)[0].mean(-1)
    inside, outside = pixels[moved > 0.95], pixels[moved < 0.05]
    assert moved.max() == pytest.approx(1.0, abs=1e-5)
    assert inside.std() < 0.02
    assert abs(inside.mean() - outside.mean()) > 0.1
