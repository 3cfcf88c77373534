"""Augmentation of frames and points, elastic deformation included."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refusals import refuses
from stillmotion.data.augment import (
    AUGMENTATIONS,
    Augmentation,
    AugmentParams,
    affine_matrix,
    augment_frames,
    move_points,
    sample_params,
)
from stillmotion.data.colour import ColourParams, ColourShift, colour_jitter, shift_hue
from stillmotion.data.elastic import deform, deform_points, sample_field
from stillmotion.errors import StillmotionError

NEUTRAL = AugmentParams((6, 8), (6, 8))


def augment(frames: np.ndarray, rng: np.random.Generator, settings: Augmentation) -> np.ndarray:
    return augment_frames(frames, sample_params(frames.shape[1:3], rng, settings))


def noise(length: int = 3, size: tuple[int, int] = (6, 8), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (length, *size, 3), dtype=np.uint8)


def spots(places: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """One soft bright spot per frame, centred on (x, y)."""
    y, x = np.mgrid[: size[0], : size[1]]
    frames = [np.exp(-((x - px) ** 2 + (y - py) ** 2) / 8.0) for px, py in places]
    return np.repeat(np.float32(frames)[..., None], 3, axis=3)


def centres(frames: np.ndarray) -> np.ndarray:
    """Centre of mass (x, y) of each frame."""
    weight = frames[..., 0].astype(np.float64)
    y, x = np.mgrid[: frames.shape[1], : frames.shape[2]]
    return np.stack([(weight * x).sum((1, 2)), (weight * y).sum((1, 2))], 1) / weight.sum((1, 2))[:, None]


def test_nothing_is_exactly_nothing() -> None:
    frames = noise()
    made = augment(frames, np.random.default_rng(0), AUGMENTATIONS["none"])
    assert made.dtype == np.float32
    assert np.array_equal(made, frames * np.float32(1 / 255))
    assert np.array_equal(np.rint(made * 255), frames)


def test_floats_stay_as_they_are_and_the_input_is_not_touched() -> None:
    frames = noise().astype(np.float32) / 255
    before = frames.copy()
    made = augment_frames(frames, replace(NEUTRAL, colour=ColourParams(brightness=0.5)))
    assert np.array_equal(frames, before)
    same = augment_frames(frames, NEUTRAL)
    assert np.array_equal(same, frames)
    assert not np.shares_memory(same, frames)
    assert not np.shares_memory(made, frames)


def test_flips_are_exact() -> None:
    frames = noise()
    plain = augment_frames(frames, NEUTRAL)
    assert np.array_equal(augment_frames(frames, replace(NEUTRAL, reverse=True)), plain[::-1])
    assert np.array_equal(augment_frames(frames, replace(NEUTRAL, mirror=True)), plain[:, :, ::-1])


@pytest.mark.parametrize(
    ("name", "shares"),
    # (neither, only reversed, only mirrored, both)
    [("taichi", (0.25, 0.5, 0.25, 0.0)), ("bair", (0.5, 0.0, 0.5, 0.0)), ("strong", (0.25, 0.25, 0.25, 0.25))],
)
def test_flips_come_as_often_as_they_should(name: str, shares: tuple[float, ...]) -> None:
    rng = np.random.default_rng(0)
    total = 4000
    counts = [0, 0, 0, 0]
    for _ in range(total):
        params = sample_params((8, 8), rng, AUGMENTATIONS[name])
        counts[params.reverse + 2 * params.mirror] += 1
    # Three standard deviations of a share of one half are 0.024.
    assert np.array(counts) / total == pytest.approx(shares, abs=0.025)


def test_identity_affine_is_exact() -> None:
    frames = noise()
    identity = affine_matrix((6, 8))
    assert np.array_equal(identity, [[1, 0, 0], [0, 1, 0]])
    assert np.array_equal(augment_frames(frames, replace(NEUTRAL, affine=identity)), augment_frames(frames, NEUTRAL))


def test_whole_pixel_shift_moves_pixels_and_replicates_the_border() -> None:
    frames = noise()
    made = augment_frames(frames, replace(NEUTRAL, affine=affine_matrix((6, 8), shift=(2, 1))))
    plain = augment_frames(frames, NEUTRAL)
    assert np.allclose(made[:, 1:, 2:], plain[:, :-1, :-2], atol=1e-6)
    assert np.allclose(made[:, 1:, 0], plain[:, :-1, 0], atol=1e-6)
    assert np.allclose(made[:, 0, 2:], plain[:, 0, :-2], atol=1e-6)


def test_a_quarter_turn_is_exact_about_the_centre() -> None:
    # With x right and y down, turning x towards y is clockwise as seen.
    frames = noise(size=(7, 7))
    params = AugmentParams((7, 7), (7, 7), affine=affine_matrix((7, 7), rotation=90))
    made = augment_frames(frames, params)
    assert np.allclose(
        made, np.rot90(augment_frames(frames, AugmentParams((7, 7), (7, 7))), -1, axes=(1, 2)), atol=1e-5
    )
    assert move_points(np.array([[[6, 3]]]), params).tolist() == [[[3, 6]]]


def test_scale_and_shear_about_the_centre() -> None:
    matrix = affine_matrix((5, 9), scale=(2.0, 0.5), shear=45)
    # Centre (4, 2) stays; one pixel right of it goes two right; two below go one down and, sheared, one
    # right.
    assert (matrix @ [4, 2, 1]).tolist() == pytest.approx([4, 2])
    assert (matrix @ [5, 2, 1]).tolist() == pytest.approx([6, 2])
    assert (matrix @ [4, 4, 1]).tolist() == pytest.approx([5, 3])


def test_random_crop_is_a_part_of_the_picture() -> None:
    frames = noise(size=(6, 8))
    plain = augment_frames(frames, NEUTRAL)
    seen = set()
    for seed in range(60):
        params = sample_params((6, 8), np.random.default_rng(seed), Augmentation(crop=(5, 4)))
        x, y = params.corner
        seen.add((x, y))
        assert np.array_equal(augment_frames(frames, params), plain[:, y : y + 5, x : x + 4])
    assert seen == {(x, y) for x in range(5) for y in range(2)}


def test_padding_replicates_the_edges_evenly() -> None:
    frames = noise(size=(6, 8))
    made = augment(frames, np.random.default_rng(0), Augmentation(crop=(9, 8)))
    padded = np.pad(augment_frames(frames, NEUTRAL), ((0, 0), (1, 2), (0, 0), (0, 0)), mode="edge")
    assert np.array_equal(made, padded)


def test_resize_is_nearest_neighbour() -> None:
    frames = noise(size=(2, 3))
    made = augment_frames(frames, AugmentParams((2, 3), (4, 6), resize=2.0))
    assert np.array_equal(
        made, augment_frames(frames, AugmentParams((2, 3), (2, 3))).repeat(2, axis=1).repeat(2, axis=2)
    )
    # The result keeps its size where only the content is scaled.
    settings = Augmentation(resize=(0.5, 2.0))
    for seed in range(20):
        assert augment(noise(), np.random.default_rng(seed), settings).shape == (3, 6, 8, 3)


def test_a_third_of_a_turn_permutes_pure_colours() -> None:
    red, green, blue = np.eye(3, dtype=np.float32)
    picture = np.stack([red, green, blue])[None] * np.float32(0.7)
    assert np.allclose(shift_hue(picture, 1 / 3), np.stack([green, blue, red])[None] * 0.7, atol=1e-5)
    assert np.allclose(shift_hue(picture, -1 / 3), np.stack([blue, red, green])[None] * 0.7, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.floats(-2, 2), st.integers(0, 100))
def test_hue_can_be_shifted_back_without_8_bit_rounding(turns: float, seed: int) -> None:
    picture = np.random.default_rng(seed).random((5, 5, 3), dtype=np.float32)
    shifted = shift_hue(picture, turns)
    assert np.allclose(shifted.max(2), picture.max(2), atol=1e-6)
    assert np.allclose(shift_hue(shifted, -turns), picture, atol=2e-5)
    grey = np.full((1, 1, 3), 0.3, np.float32)
    assert np.allclose(shift_hue(grey, turns), grey, atol=1e-6)


def test_colour_changes_by_hand() -> None:
    frames = np.array([[0.2, 0.4, 0.6], [0.6, 0.4, 0.2]], np.float32).reshape(1, 1, 2, 3)
    base = AugmentParams((1, 2), (1, 2))

    def first(colour: ColourParams) -> list[float]:
        return augment_frames(frames, replace(base, colour=colour))[0, 0, 0].tolist()

    assert first(ColourParams(brightness=0.1)) == pytest.approx([0.3, 0.5, 0.7])
    assert first(ColourParams(brightness=0.5)) == pytest.approx([0.7, 0.9, 1.0])
    assert first(ColourParams(gamma=2.0)) == pytest.approx([0.04, 0.16, 0.36])
    assert first(ColourParams(matrix=np.diag([2.0, 1.0, 0.5]))) == pytest.approx([0.4, 0.4, 0.3])
    # Mean grey is 0.4: a contrast of 1.5 takes 0.2 to 0.1, 0.4 to 0.4 and 0.6 to 0.7.
    assert first(ColourParams(contrast=1.5)) == pytest.approx([0.1, 0.4, 0.7])


def test_saturation_zero_is_luma_and_permutation_is_exact() -> None:
    frames = noise(1, (2, 2))
    grey = augment_frames(frames, sample_params((2, 2), np.random.default_rng(0), Augmentation(saturation=(0, 0))))
    luma = frames.astype(np.float64) @ [0.299, 0.587, 0.114] / 255
    assert np.allclose(grey, luma[..., None], atol=1e-6)

    plain = augment_frames(frames, AugmentParams((2, 2), (2, 2)))
    orders = set()
    for seed in range(40):
        made = augment(frames, np.random.default_rng(seed), Augmentation(permute_channels=1.0))
        order = next(o for o in np.ndindex(3, 3, 3) if np.allclose(made, plain[..., list(o)], atol=1e-6))
        orders.add(order)
    assert len(orders) == 6


def test_channel_gain_is_drawn_per_channel_within_its_range() -> None:
    frames = np.full((1, 2, 2, 3), 0.5, np.float32)
    gains = np.array(
        [
            augment(frames, np.random.default_rng(s), Augmentation(channel_gain=(0.75, 1.25)))[0, 0, 0] * 2
            for s in range(200)
        ]
    )
    assert gains.min() >= 0.75 - 1e-6
    assert gains.max() <= 1.25 + 1e-6
    assert gains.min(0).max() < 0.8
    assert gains.max(0).min() > 1.2
    assert (np.ptp(gains, axis=1) > 0).all()


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_every_preset_treats_all_frames_alike(name: str) -> None:
    frame = noise(1, (16, 20))
    for seed in range(15):
        made = augment(np.repeat(frame, 3, axis=0), np.random.default_rng(seed), AUGMENTATIONS[name])
        assert made.shape == (3, 16, 20, 3)
        assert made.dtype == np.float32
        assert made.min() >= 0
        assert made.max() <= 1
        # OpenCV rounds the ends of rows differently, by the last bit.
        assert np.allclose(made[0], made[1:], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_every_preset_repeats_with_its_generator(name: str) -> None:
    frames = noise(2, (16, 20))
    one, again, other = (
        [augment(frames, np.random.default_rng(seed + i), AUGMENTATIONS[name]) for i in range(16)]
        for seed in (0, 0, 100)
    )
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    if name != "none":
        assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("settings", "tolerance"),
    # Nearest-neighbour resizing puts a pixel up to half of one beside its place.
    [
        (AUGMENTATIONS["taichi"], 1e-4),
        (Augmentation(rotation=(-20, 20), scale=(0.9, 1.1), translate=(-0.1, 0.1)), 0.03),
        (Augmentation(aspect=(0.8, 1.2), shear=(-9, 9)), 0.03),
        (Augmentation(horizontal_flip=0.5, rotation=(-10, 10), resize=(0.9, 1.1)), 0.5),
        (Augmentation(time_flip=0.5, horizontal_flip=0.5, exclusive_flips=False, crop=(36, 36)), 1e-3),
        (Augmentation(resize=(2.0, 2.0), crop=(80, 88)), 1e-4),
    ],
)
def test_points_follow_the_pixels(settings: Augmentation, tolerance: float) -> None:
    places = np.array([[22.0, 19.0], [17.5, 20.0], [20.0, 16.0]])
    frames = spots(places, (38, 42))
    for seed in range(10):
        params = sample_params((38, 42), np.random.default_rng(seed), settings)
        assert np.abs(centres(augment_frames(frames, params)) - move_points(places, params)).max() < tolerance


def test_wrong_settings_are_refused() -> None:
    for wrong in (
        {"time_flip": 1.5},
        {"permute_channels": -0.1},
        {"rotation": (10, -10)},
        {"scale": (0.0, 1.0)},
        {"gamma": (-1.0, 1.0)},
    ):
        with pytest.raises(StillmotionError, match=next(iter(wrong))):
            Augmentation(**wrong)
    refuses("are for frames of", augment_frames, noise(), AugmentParams((5, 5), (5, 5)), error=ValueError)


def test_probabilities_switch_whole_groups() -> None:
    settings = replace(AUGMENTATIONS["pokes"], affine_probability=0.25, colour_probability=0.75)
    rng = np.random.default_rng(0)
    params = [sample_params((8, 8), rng, settings) for _ in range(2000)]
    assert np.mean([p.affine is not None for p in params]) == pytest.approx(0.25, abs=0.03)
    colours = [p.colour for p in params]
    assert np.mean([c.hue != 0 for c in colours]) == pytest.approx(0.75, abs=0.03)
    assert all((c.hue != 0) == (c.contrast != 1) == (c.matrix is not None) for c in colours)


def test_opencv_keeps_more_than_8_bits() -> None:
    # The warp must not go through uint8: a step of 1/1000 survives a half-pixel shift.
    ramp = np.repeat(np.linspace(0.5, 0.507, 8, dtype=np.float32)[None, None, :, None], 3, axis=3)
    made = augment_frames(ramp, AugmentParams((1, 8), (1, 8), affine=affine_matrix((1, 8), shift=(0.5, 0))))
    assert made[0, 0, 1:, 0] == pytest.approx((ramp[0, 0, 1:, 0] + ramp[0, 0, :-1, 0]) / 2, abs=1e-5)
    assert cv2.__version__


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
