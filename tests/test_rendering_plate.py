"""The plate behind a still's figure, and the figure's alpha."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rendering_tools import disc, noise, textured_disc
from stillmotion.rendering import alpha, plate


def rough(true: np.ndarray, shift: float, size: int = 64) -> np.ndarray:
    """The mask that networks of `size` pixels find: shifted by pixels of the picture, shrunk, blurred, enlarged."""
    height, width = true.shape
    moved = cv2.warpAffine(true, np.float32([[1, 0, shift], [0, 1, shift / 2]]), (width, height))
    small = cv2.GaussianBlur(cv2.resize(moved, (size, size), interpolation=cv2.INTER_AREA), (0, 0), 0.6)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))


def edge_errors(height: int, width: int, shift: float, seed: int = 0) -> tuple[float, float]:
    """Mean error of alpha near the edge: of the rough mask, and refined."""
    true = disc(height, width, 0.3)
    mask = rough(true, shift)
    near = cv2.dilate(((true > 0.05) & (true < 0.95)).astype(np.uint8), np.ones((13, 13))) > 0
    found = alpha.refine(textured_disc(true, seed), mask)
    before, after = (float(np.abs(values - true)[near].mean()) for values in (mask, found))
    return before, after


# --- the plate -----------------------------------------------------------------------------------------------------
def test_a_widened_mask_grows_by_its_margin_all_around() -> None:
    mask = np.zeros((40, 64), bool)
    mask[20, 30] = True
    grown = plate.widened(mask, 3 / 64)
    rows, columns = np.mgrid[:40, :64]
    assert grown.dtype == np.uint8
    assert np.array_equal(grown > 0, np.hypot(rows - 20, columns - 30) <= 3)
    assert np.array_equal(plate.widened(mask) > 0, np.hypot(rows - 20, columns - 30) <= 2)  # 1/32 of the longer side


def test_a_widened_mask_grows_by_a_pixel_at_least() -> None:
    mask = np.zeros((5, 7), bool)
    mask[2, 3] = True
    assert plate.widened(mask).sum() == 5  # itself and its four neighbours
    assert plate.widened(np.array([[True, False, False]])).tolist() == [[1, 1, 0]]
    assert plate.widened(np.zeros((5, 7), bool)).sum() == 0
    assert plate.widened(np.ones((5, 7), bool)).all()


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 1000))
def test_inpainting_keeps_what_is_not_masked(height: int, width: int, share: float, seed: int) -> None:
    picture = noise(height, width, seed)
    mask = np.random.default_rng(seed).random((height, width)) < share
    filled = plate.inpaint(picture, mask)
    assert (filled.shape, filled.dtype) == (picture.shape, np.uint8)
    assert np.array_equal(filled[~mask], picture[~mask])
    assert filled is not picture


@pytest.mark.parametrize("size", [(700, 40), (40, 700), (1, 1100), (1100, 1), (2, 1100)])
def test_large_stills_keep_what_is_not_masked_too(size: tuple[int, int]) -> None:
    picture, mask = noise(*size), np.zeros(size, bool)
    mask[size[0] // 3 : size[0] // 2 + 1, size[1] // 3 : size[1] // 2 + 1] = True
    filled = plate.inpaint(picture, mask)
    assert np.array_equal(filled[~mask], picture[~mask])
    assert not np.array_equal(filled, picture)


def tiles(height: int, width: int, tile: int = 16) -> np.ndarray:
    """A wall of tiles, each with the same pattern."""
    one = cv2.GaussianBlur(noise(tile, tile), (0, 0), 1.0)
    one[:2] = one[:, :2] = 30
    return np.asarray(np.tile(one, (height // tile + 1, width // tile + 1, 1))[:height, :width])


@pytest.mark.parametrize("side", [96, 300])
def test_a_wall_of_tiles_goes_on_behind_a_figure(side: int) -> None:
    """To the pixel, where a smooth filling has no tiles; also where shifts are found in a smaller picture."""
    wall, hole = tiles(side, side, side // 6), disc(side, side, 0.12) > 0
    picture = np.where(hole[..., None], noise(side, side), wall)
    errors = [np.abs(made.astype(int) - wall)[hole].mean() for made in (plate.inpaint(picture, hole),
        plate.inpaint_smoothly(picture, hole))]  # fmt: skip
    assert errors[0] < 4
    assert errors[0] < 0.15 * errors[1]


def test_what_is_brought_has_the_light_of_where_it_comes_to() -> None:
    """The wall gets darker from left to right, by more than its texture differs."""
    side = 96
    light = np.linspace(80, -60, side)[None, :, None]
    wall, hole = (tiles(side, side) / 4 + 110 + light).clip(0, 255).astype(np.uint8), disc(side, side, 0.25) > 0
    picture = np.where(hole[..., None], np.uint8(255), wall)
    assert np.abs(plate.inpaint(picture, hole).astype(int) - wall)[hole].mean() < 3


def test_parts_of_a_wall_join_without_a_seam() -> None:
    """In a gradient every shift is wrong in light alone, and what comes out has no step anywhere."""
    side = 128
    wall = (np.mgrid[:side, :side].sum(0) / 2 + 40)[..., None] + np.random.default_rng(0).normal(
        0, 2, (side, side, 1)
    )
    picture, hole = np.repeat(wall.clip(0, 255), 3, axis=2).astype(np.uint8), disc(side, side, 0.12) > 0
    made = cv2.GaussianBlur(plate.inpaint(picture, hole), (0, 0), 2).astype(np.float32)
    assert np.abs(made - cv2.GaussianBlur(picture, (0, 0), 2)).max() < 8


@pytest.mark.parametrize("side", [64, 512, 700, 1100])
def test_a_hole_in_a_plain_wall_gets_the_colour_of_the_wall(side: int) -> None:
    """Exactly, however large the hole is, and whatever was in it."""
    wall = np.full((side, side, 3), (60, 130, 200), np.uint8)
    hole = disc(side, side, 0.3) > 0
    picture = np.where(hole[..., None], noise(side, side), wall)
    assert np.array_equal(plate.inpaint(picture, hole), wall)


def test_large_stills_are_filled_at_the_working_side(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, fill = [], cv2.inpaint
    monkeypatch.setattr(cv2, "inpaint", lambda picture, *rest: sizes.append(picture.shape) or fill(picture, *rest))
    for size in ((300, 200), (1024, 300), (300, 2048)):
        plate.inpaint(noise(*size), disc(*size, 0.2) > 0)
    assert sizes == [(300, 200, 3), (512, 150, 3), (75, 512, 3)]


def test_a_hole_is_filled_from_the_side_that_is_near() -> None:
    picture = np.full((60, 90, 3), 40, np.uint8)
    picture[:, 45:] = 200
    hole = np.zeros((60, 90), bool)
    hole[20:40, 25:65] = True
    filled = plate.inpaint(np.where(hole[..., None], 255, picture).astype(np.uint8), hole)
    assert np.abs(filled[22:38, 27:33].astype(int) - 40).max() < 30
    assert np.abs(filled[22:38, 57:63].astype(int) - 200).max() < 30


def test_a_thin_mask_of_a_large_still_leaves_no_trace() -> None:
    """At the working size it is a quarter of a pixel wide."""
    wall = np.full((2048, 64, 3), 100, np.uint8)
    picture, mask = wall.copy(), np.zeros(wall.shape[:2], bool)
    mask[1000] = True
    picture[1000] = 255
    assert np.array_equal(plate.inpaint(picture, mask), wall)


def test_masks_of_nothing_and_of_everything() -> None:
    picture = np.zeros((8, 10, 3), np.uint8)
    picture[:, :5] = 100
    assert np.array_equal(plate.inpaint(picture, np.zeros((8, 10))), picture)
    assert (plate.inpaint(picture, np.ones((8, 10))) == 50).all()
    assert plate.inpaint(picture[:1, :1], np.ones((1, 1))).tolist() == [[[100, 100, 100]]]


def test_what_is_too_small_to_fill_a_large_still_gives_its_mean() -> None:
    picture, mask = np.zeros((1024, 1024, 3), np.uint8), np.ones((1024, 1024), bool)
    mask[300, 300] = False
    picture[300, 300] = 200
    assert (plate.inpaint(picture, mask) == 200).all()


# --- alpha ---------------------------------------------------------------------------------------------------------
def test_the_network_is_small_and_made_once() -> None:
    """Convolutions of 3 x 3: 4 to 8, 8 to 16, four times 16 to 16, 16 to 8, 16 to 1."""
    count = sum(9 * a * b + b for a, b in ((4, 8), (8, 16), *[(16, 16)] * 4, (16, 8), (16, 1)))
    assert sum(parameter.numel() for parameter in alpha.network().parameters()) == count == 12_049
    assert alpha.network() is alpha.network()
    assert not any(parameter.requires_grad for parameter in alpha.network().parameters())
    assert not alpha.network().training


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("height", "width"), [(256, 256), (251, 203)])
def test_the_edge_of_a_rough_mask_is_refined(height: int, width: int, seed: int) -> None:
    """Of stills four times as large as the networks' frames it leaves less than half of the error."""
    before, after = edge_errors(height, width, shift=2.0, seed=seed)
    assert after < 0.5 * before


@pytest.mark.parametrize(("height", "width"), [(700, 700), (1030, 641)])
def test_stills_above_the_working_side_are_refined_at_it(height: int, width: int) -> None:
    before, after = edge_errors(height, width, shift=4.0)
    assert after < 0.75 * before


def test_the_network_sees_stills_at_their_own_size_up_to_the_working_side(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def network(still: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        seen.append((tuple(still.shape), tuple(mask.shape)))
        return mask

    monkeypatch.setattr(alpha, "network", lambda: network)
    for size in ((200, 300), (512, 100), (1024, 300)):
        alpha.refine(noise(*size), np.ones(size, np.float32))
    assert seen == [((1, 3, h, w), (1, 1, h, w)) for h, w in ((200, 300), (512, 100), (512, 150))]


@pytest.mark.parametrize("side", [128, 300, 700])
def test_far_from_its_edge_a_mask_stays(side: int) -> None:
    true = disc(side, side, 0.3)
    found = alpha.refine(textured_disc(true), rough(true, side / 128))
    assert found[disc(side, side, 0.2) == 1].min() > 0.99
    assert found[disc(side, side, 0.4) == 0].max() < 0.02
    assert found.dtype == np.float32


def test_flat_masks_stay() -> None:
    picture = np.full((90, 61, 3), 130, np.uint8)
    for value in (0.0, 0.01):
        mask = np.full((90, 61), value, np.float32)
        assert np.array_equal(alpha.refine(picture, mask), mask)
    assert alpha.refine(picture, np.ones((90, 61), np.float32)).min() > 0.99


def test_pixels_far_around_the_figure_are_not_touched() -> None:
    mask = np.full((100, 120), 0.01, np.float32)
    mask[50:60, 70:90] = 1
    found = alpha.refine(noise(100, 120), mask)
    outside = np.ones_like(mask, bool)
    outside[50 - 16 : 60 + 16, 70 - 16 : 90 + 16] = False
    assert (found[outside] == np.float32(0.01)).all()
    assert (found[~outside] != mask[~outside]).any()


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (3, 5), (37, 90), (2, 300), (513, 3)])
def test_any_size_is_refined(size: tuple[int, int]) -> None:
    found = alpha.refine(noise(*size), np.full(size, 0.5, np.float32))
    assert (found.shape, found.dtype) == (size, np.float32)
    assert 0 <= found.min() <= found.max() <= 1
