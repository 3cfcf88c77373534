"""Other bodies and other clothes: what bends, where points go, which colours change."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stillmotion.data.augment import AUGMENTATIONS, apply, draw, move_points
from stillmotion.data.varying import Dye, bend, bend_points, draw_bend, dye


def test_a_constant_field_shifts_and_replicates_the_border() -> None:
    frames = np.random.default_rng(0).random((2, 4, 5, 3), np.float32)
    field = np.zeros((4, 5, 2), np.float32)
    field[..., 0] = 1.0  # take from one pixel to the right
    made = bend(frames, field)
    assert np.array_equal(made[:, :, :-1], frames[:, :, 1:])
    assert np.array_equal(made[:, :, -1], frames[:, :, -1])
    assert np.allclose(bend_points(np.array([[[3.0, 2.0]]]), field), [[[2.0, 2.0]]])


@given(st.integers(0, 2**32 - 1))
def test_points_go_where_the_pixels_go(seed: int) -> None:
    rng = np.random.default_rng(seed)
    field = draw_bend((64, 64), 0.02, rng)
    x, y = rng.uniform(14, 50, 2)
    moved = bend_points(np.array([[x, y]]), field)[0]
    rows, columns = np.mgrid[:64, :64].astype(np.float32)
    places = np.stack([columns, rows, rows], -1)[None]  # pixels that hold where they are
    found = cv2.remap(bend(places, field)[0], moved.reshape(1, 1, 2), None, cv2.INTER_LINEAR)[0, 0]
    assert np.abs(found[:2] - [x, y]).max() < 0.05


def test_strength_is_the_spread_at_the_knots() -> None:
    rng = np.random.default_rng(1)
    knots = np.stack([draw_bend((25, 25), 0.1, rng)[2::5, 2::5] for _ in range(100)])  # a knot every fifth pixel
    assert knots.shape == (100, 5, 5, 2)
    assert np.isclose(knots.std(), 2.5, rtol=0.05)


def test_a_dye_changes_like_colours_alone_and_in_all_frames() -> None:
    frames = np.zeros((2, 2, 2, 3), np.float32)
    frames[0, 0, 0] = frames[1, 1, 1] = [0.8, 0.1, 0.1]  # a red thing that moves on black
    made = dye(frames, (Dye((0.1, 0.1), np.array([-0.5, 0.0, 0.5]), 0.1),))
    assert np.allclose(made[0, 0, 0], [0.3, 0.1, 0.6])
    assert np.allclose(made[1, 1, 1], [0.3, 0.1, 0.6])
    assert np.allclose(made[0, 1, 1], 0, atol=1e-6)


def test_varied_is_strong_and_more_and_strong_draws_what_it_always_drew() -> None:
    strong = draw((64, 64), np.random.default_rng(8), AUGMENTATIONS["strong"])
    varied = draw((64, 64), np.random.default_rng(8), AUGMENTATIONS["varied"])
    assert strong.bend is None
    assert strong.dyes == ()
    assert varied.bend is not None
    assert varied.dyes
    assert (strong.hue, strong.contrast, strong.mirror) == (varied.hue, varied.contrast, varied.mirror)
    frames = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    made = apply(frames, varied)
    assert made.dtype == np.float32
    assert 0 <= made.min() <= made.max() <= 1
    points = move_points(np.full((2, 1, 2), 31.5, np.float32), varied)
    unbent = move_points(np.full((2, 1, 2), 31.5, np.float32), strong)
    assert np.allclose(points, bend_points(unbent, varied.bend), atol=1e-4)
