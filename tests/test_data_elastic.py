"""Elastic deformation and local colour jitter: where pixels and points go, which colours change."""

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stillmotion.data.augment import AUGMENTATIONS, augment_frames, move_points, sample_params
from stillmotion.data.colour import ColourParams, ColourShift, colour_jitter
from stillmotion.data.elastic import deform, deform_points, sample_field


def test_a_constant_field_shifts_and_replicates_the_border() -> None:
    frames = np.random.default_rng(0).random((2, 4, 5, 3), np.float32)
    field = np.zeros((4, 5, 2), np.float32)
    field[..., 0] = 1.0  # take from one pixel to the right
    made = deform(frames, field)
    assert np.array_equal(made[:, :, :-1], frames[:, :, 1:])
    assert np.array_equal(made[:, :, -1], frames[:, :, -1])
    assert np.allclose(deform_points(np.array([[[3.0, 2.0]]]), field), [[[2.0, 2.0]]])


@given(st.integers(0, 2**32 - 1))
def test_points_go_where_the_pixels_go(seed: int) -> None:
    rng = np.random.default_rng(seed)
    field = sample_field((64, 64), 0.02, rng)
    x, y = rng.uniform(14, 50, 2)
    moved = deform_points(np.array([[x, y]]), field)[0]
    rows, columns = np.mgrid[:64, :64].astype(np.float32)
    places = np.stack([columns, rows, rows], -1)[None]  # pixels that hold where they are
    found = cv2.remap(deform(places, field)[0], moved.reshape(1, 1, 2), None, cv2.INTER_LINEAR)[0, 0]
    assert np.abs(found[:2] - [x, y]).max() < 0.05


@given(st.integers(0, 2**32 - 1))
def test_steep_fields_are_inverted_too(seed: int) -> None:
    """One wave whose slope reaches 1.2, where a plain fixed-point iteration oscillates; it folds nowhere."""
    rng = np.random.default_rng(seed)
    x = np.arange(64, dtype=np.float32)
    field = np.zeros((64, 64, 2), np.float32)
    field[..., 0] = np.interp(x, [0, 27, 32, 37, 63], [0, -6, 0, 6, 0])
    points = rng.uniform([25, 5], [39, 58], (5, 2))
    moved = deform_points(points, field)
    there = cv2.remap(
        field, moved[:, None, 0].astype(np.float32), moved[:, None, 1].astype(np.float32), cv2.INTER_LINEAR
    )
    assert np.abs(moved + there[:, 0] - points).max() < 0.05


def test_strength_is_the_spread_at_the_knots() -> None:
    rng = np.random.default_rng(1)
    knots = np.stack([sample_field((25, 25), 0.1, rng)[2::5, 2::5] for _ in range(100)])  # a knot every fifth pixel
    assert knots.shape == (100, 5, 5, 2)
    assert np.isclose(knots.std(), 2.5, rtol=0.05)


def test_a_local_change_of_colour_is_for_similar_colours_alone_and_in_all_frames() -> None:
    frames = np.zeros((2, 2, 2, 3), np.float32)
    frames[0, 0, 0] = frames[1, 1, 1] = [0.8, 0.1, 0.1]  # a red thing that moves on black
    made = colour_jitter(frames, ColourParams((ColourShift((0.1, 0.1), np.array([-0.5, 0.0, 0.5]), 0.1),)))
    assert np.allclose(made[0, 0, 0], [0.3, 0.1, 0.6])
    assert np.allclose(made[1, 1, 1], [0.3, 0.1, 0.6])
    assert np.allclose(made[0, 1, 1], 0, atol=1e-6)


def test_varied_samples_the_numbers_of_strong_and_then_more() -> None:
    strong = sample_params((64, 64), np.random.default_rng(8), AUGMENTATIONS["strong"])
    varied = sample_params((64, 64), np.random.default_rng(8), AUGMENTATIONS["varied"])
    assert strong.elastic is None
    assert strong.colour.shifts == ()
    assert varied.elastic is not None
    assert varied.colour.shifts
    assert (strong.colour.hue, strong.colour.contrast, strong.mirror) == (
        varied.colour.hue,
        varied.colour.contrast,
        varied.mirror,
    )
    frames = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    made = augment_frames(frames, varied)
    assert made.dtype == np.float32
    assert 0 <= made.min() <= made.max() <= 1
    points = move_points(np.full((2, 1, 2), 31.5, np.float32), varied)
    unbent = move_points(np.full((2, 1, 2), 31.5, np.float32), strong)
    assert np.allclose(points, deform_points(unbent, varied.elastic), atol=1e-4)
