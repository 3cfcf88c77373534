"""What is known of a still beside its pixels: the plate, the figure's alpha, and a person's own files."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from refusals import refused
from stillmotion import media
from stillmotion.rendering import alpha, plate
from stillmotion.rendering.backdrop import LEAST, LEAST_LEFT, MOST, Backdrop, find_backdrop, left_places
from stillmotion.rendering.canvas import Canvas, to_network
from stillmotion.rendering.fields import PAINT, PLATE, STATIC

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Wanted:
    mask: str | Path | None = None
    plate: str | Path | None = None


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def disc(height: int, width: int, radius: float, x: float = 0.5, y: float = 0.5) -> np.ndarray:
    """Alpha of a disc; its radius is a share of the smaller side, its place one of each side."""
    rows, columns = np.mgrid[:height, :width]
    distance = np.hypot(rows - y * (height - 1), columns - x * (width - 1))
    return np.clip(radius * min(height, width) - distance + 0.5, 0, 1).astype(np.float32)


def textured_disc(true: np.ndarray, seed: int = 0) -> np.ndarray:
    """A still of a figure with an alpha, with texture of its own, before a background of another colour."""
    rng = np.random.default_rng(seed)
    grain = cv2.GaussianBlur(rng.normal(0, 1, (*true.shape, 2)).astype(np.float32), (0, 0), 2)
    figure = np.array([200, 120, 60]) + 160 * grain[..., :1]
    wall = np.array([60, 110, 160]) + 80 * grain[..., 1:]
    return np.rint(np.clip(true[..., None] * figure + (1 - true[..., None]) * wall, 0, 255)).astype(np.uint8)


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


# --- the backdrop --------------------------------------------------------------------------------------------------
def scene(height: int = 192, width: int = 256) -> tuple[Canvas, np.ndarray, torch.Tensor]:
    """A still of a disc, its true alpha, and the figure as networks find it."""
    true = disc(height, width, 0.25)
    canvas = Canvas.prepare(textured_disc(true), 64, None, CPU)
    square = torch.from_numpy(media.pad_square(np.repeat(true[..., None], 3, -1))[0][..., 0])
    return canvas, true, F.interpolate(square[None, None], (64, 64), mode="area")


def test_the_figure_that_the_networks_find_and_the_plate_behind_it() -> None:
    canvas, true, figure = scene()
    found = find_backdrop(canvas, figure, Wanted())
    assert found is not None
    assert np.abs(found.alpha - true).mean() < 0.01
    assert found.alpha.dtype == np.float32
    behind = found.plate[true > 0.5].astype(int)
    assert np.abs(behind.mean(0) - (60, 110, 160)).max() < 10  # the wall's colours, where the figure was
    far = disc(192, 256, 0.25 + 2 / 32 * 256 / 192) == 0
    assert np.array_equal(found.plate[far], canvas.picture[far])
    assert found.small.shape == (1, 4, 64, 64)
    assert torch.equal(found.small[:, :3], to_network(found.plate, 64, CPU))
    assert (found.small[:, 3] == 1).all()


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_a_still_without_a_clear_figure_has_no_backdrop(value: float) -> None:
    canvas, _, figure = scene()
    assert find_backdrop(canvas, torch.full_like(figure, value), Wanted()) is None


def test_networks_that_find_no_figure_give_no_backdrop() -> None:
    assert find_backdrop(scene()[0], None, Wanted()) is None


def written(path: Path, pixels: np.ndarray) -> Path:
    picture = np.repeat(pixels[..., None], 3, -1) if pixels.ndim == 2 else pixels
    media.write_picture(path, picture, overwrite=True)
    return path


def test_the_plate_has_nothing_of_the_figures_soft_edge(tmp_path: Path) -> None:
    """An alpha of 0.3 is widened as the figure is."""
    true = np.zeros((64, 64), np.float32)
    true[20:40, 20:40], true[40:44, 20:40] = 1, 0.3
    picture = np.rint(90 + 150 * np.repeat(true[..., None], 3, -1)).astype(np.uint8)
    wanted = Wanted(written(tmp_path / "mask.png", np.rint(255 * true).astype(np.uint8)))
    found = find_backdrop(Canvas.prepare(picture, 64, None, CPU), None, wanted)
    assert found is not None
    assert (found.plate == 90).all()


def masked(tmp_path: Path, share: float) -> Backdrop | None:
    """The backdrop of a still of 100 x 100 pixels, of which a person masks a share."""
    mask = np.zeros(10_000, np.uint8)
    mask[: round(share * 10_000)] = 255
    canvas = Canvas.prepare(noise(100, 100), 64, None, CPU)
    return find_backdrop(canvas, None, Wanted(mask=written(tmp_path / "mask.png", mask.reshape(100, 100))))


def test_the_shares_of_the_picture_that_count_as_a_figure(tmp_path: Path) -> None:
    assert masked(tmp_path, LEAST - 0.0005) is None
    assert masked(tmp_path, LEAST + 0.0005) is not None
    assert masked(tmp_path, MOST - 0.01) is not None
    assert masked(tmp_path, MOST + 0.01) is None


def test_no_plate_is_wanted(tmp_path: Path) -> None:
    canvas, true, figure = scene()
    mask = written(tmp_path / "mask.png", np.rint(255 * true).astype(np.uint8))
    assert find_backdrop(canvas, figure, Wanted(plate="none")) is None
    assert find_backdrop(canvas, figure, Wanted(mask=mask, plate="none")) is None


def test_a_persons_own_mask_and_plate_are_used_as_they_are(tmp_path: Path) -> None:
    canvas, _, figure = scene()
    mask, behind = np.rint(255 * disc(192, 256, 0.2, x=0.3)).astype(np.uint8), noise(192, 256, seed=3)
    wanted = Wanted(written(tmp_path / "mask.png", mask), written(tmp_path / "plate.png", behind))
    found = find_backdrop(canvas, figure, wanted)
    assert found is not None
    assert np.array_equal(found.alpha, mask.astype(np.float32) / 255)
    assert found.alpha.dtype == np.float32
    assert np.array_equal(found.plate, behind)
    assert torch.equal(found.small[:, :3], to_network(behind, 64, CPU))
    only_plate = find_backdrop(canvas, figure, Wanted(plate=str(tmp_path / "plate.png")))
    assert only_plate is not None
    assert np.array_equal(only_plate.plate, behind)
    assert not np.array_equal(only_plate.alpha, found.alpha)


def test_a_file_of_another_size_is_refused(tmp_path: Path) -> None:
    canvas, _, figure = scene()
    small = written(tmp_path / "small.png", noise(100, 80))
    assert refused(find_backdrop, canvas, figure, Wanted(mask=small)) == (
        f"The mask {small} is 80 x 100 pixels, and the still 256 x 192: they must be equally large."
    )
    message = refused(find_backdrop, canvas, figure, Wanted(plate=small))
    assert message.startswith(f"The plate {small} is 80 x 100 pixels, and the still 256 x 192")
    assert "There is no file" in refused(find_backdrop, canvas, figure, Wanted(mask=tmp_path / "no.png"))


def test_a_crop_of_the_still_cuts_its_mask_and_its_plate(tmp_path: Path) -> None:
    still, behind = noise(60, 90), noise(60, 90, seed=1)
    mask = np.rint(255 * disc(60, 90, 0.4)).astype(np.uint8)
    wanted = Wanted(written(tmp_path / "mask.png", mask), written(tmp_path / "plate.png", behind))
    found = find_backdrop(Canvas.prepare(still, 64, (20, 5, 50, 40), CPU), None, wanted)
    assert found is not None
    assert np.array_equal(found.alpha, mask[5:45, 20:70].astype(np.float32) / 255)
    assert np.array_equal(found.plate, behind[5:45, 20:70])


# --- places that the figure leaves ---------------------------------------------------------------------------------
def test_what_frames_have_shown_to_be_figure_is_unsure_and_hidden() -> None:
    """A bright block of 16 x 16 pixels beside the disc, of four cells, which the networks' mask does not have."""
    canvas, true, figure = scene()
    picture = canvas.picture.copy()
    picture[20:36, 20:36] = 255
    canvas = Canvas.prepare(picture, 64, None, CPU)
    left = torch.zeros(1, 1, 64, 64)
    left[..., 8 + 5 : 8 + 9, 5:9] = 1  # the picture lies 8 cells below the top of the square
    plain, found = (find_backdrop(canvas, figure, Wanted(), places) for places in (None, left + (figure > 0.5)))
    assert plain is not None
    assert found is not None
    assert not plain.unsure.any()
    assert found.unsure.dtype == bool
    assert found.unsure[21:35, 21:35].all()
    assert not found.unsure[found.alpha > 0.5].any()
    assert found.unsure[(true == 0)].sum() < 2 * 16 * 16
    assert (plain.plate[20:36, 20:36] == 255).all()
    assert np.abs(found.plate[20:36, 20:36].astype(int) - (60, 110, 160)).mean() < 30
    assert np.array_equal(found.alpha, plain.alpha)


def test_a_persons_own_mask_is_sure(tmp_path: Path) -> None:
    canvas, true, _ = scene()
    wanted = Wanted(written(tmp_path / "mask.png", np.rint(255 * true).astype(np.uint8)))
    found = find_backdrop(canvas, None, wanted, torch.ones(1, 1, 64, 64))
    assert found is not None
    assert not found.unsure.any()


def shares_with(source: int, rows: slice, share: float = 1.0, count: int = 1) -> torch.Tensor:
    """Of unmoved frames with another source in some rows."""
    shares = torch.zeros(count, 4, 64, 64)
    shares[:, STATIC] = 1
    shares[:, STATIC, rows], shares[:, source, rows] = 1 - share, share
    return shares


def test_left_places_by_hand() -> None:
    figure = torch.zeros(1, 1, 64, 64)
    figure[..., 10:20, :] = 0.9
    expected = torch.zeros(1, 1, 64, 64)
    expected[..., 15:24, :] = 1
    seen = torch.cat([shares_with(PLATE, slice(15, 22)), shares_with(PLATE, slice(20, 24), 0.6)])
    found = left_places(seen, figure, None)
    assert found is not None
    assert torch.equal(found, expected)
    assert left_places(shares_with(PAINT, slice(15, 40)), figure, None) is None
    assert left_places(shares_with(PLATE, slice(15, 40), 0.4), figure, None) is None
    assert left_places(seen, figure, found) is None  # nothing new
    more = left_places(shares_with(PLATE, slice(30, 31)), figure, found)
    expected[..., 30, :] = 1
    assert more is not None
    assert torch.equal(more, expected)


@pytest.mark.parametrize(
    ("cells", "new"), [(int(LEAST_LEFT * 64 * 64), False), (int(LEAST_LEFT * 64 * 64) + 1, True)]
)
def test_hardly_anything_is_not_worth_another_plate(cells: int, new: bool) -> None:
    shares = shares_with(PLATE, slice(0, 0))
    shares[0, PLATE, 30, :cells] = 1
    assert (left_places(shares, torch.zeros(1, 1, 64, 64), None) is not None) == new
