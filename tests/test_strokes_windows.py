"""Which frames are learned from, and the stroke that belongs to them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from stillmotion.controls import Stroke
from stillmotion.data.augment import Draw
from stillmotion.data.clip import Clip
from stillmotion.systems.strokes.windows import smooth, stroke_of, window_points
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
    drawn = window_points(clip, np.arange(4, 9), Draw((32, 32), (32, 32)), config)
    torch.testing.assert_close(drawn["points"], torch.from_numpy(wanted[4:9]))  # the whole clip's fit, cut after it
    inside = np.clip(rough, 0, 31)
    facts = [step.facts["point"] for step in tiny_strokes(smooth_points=3).animate(spot(), Stroke(inside), 12)]
    assert np.allclose(np.stack(facts), smooth(inside, 3), atol=1e-6)
