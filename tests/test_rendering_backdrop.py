"""The figure of a still and what is behind it: found by networks, or a person's own files."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from refusals import refused
from rendering_tools import disc, noise, textured_disc
from stillmotion import media
from stillmotion.rendering import alpha
from stillmotion.rendering.backdrop import LEAST, LEAST_LEFT, LEAST_MORE, MOST, Backdrop, find_backdrop, left_places
from stillmotion.rendering.canvas import Canvas, to_network
from stillmotion.rendering.fields import PAINT, PLATE, STATIC

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Wanted:
    mask: str | Path | None = None
    plate: str | Path | None = None


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


def test_a_figure_that_has_no_alpha_gives_no_backdrop(monkeypatch: pytest.MonkeyPatch) -> None:
    canvas, _, figure = scene()
    assert find_backdrop(canvas, figure, Wanted()) is not None
    monkeypatch.setattr(alpha, "refine", lambda picture, mask: 0 * mask)
    assert find_backdrop(canvas, figure, Wanted()) is None


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


def test_what_alpha_loses_of_the_networks_figure_does_not_stay_in_the_plate(monkeypatch: pytest.MonkeyPatch) -> None:
    canvas, true, figure = scene()
    monkeypatch.setattr(alpha, "refine", lambda picture, mask: np.where(np.arange(256) < 128, mask, 0))
    found = find_backdrop(canvas, figure, Wanted())
    assert found is not None
    lost = (true > 0.5) & (np.arange(256) >= 128)
    assert np.abs(found.plate[lost].astype(int).mean(0) - (60, 110, 160)).max() < 15


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


def test_found_again_the_alpha_stays_and_is_not_refined_again(monkeypatch: pytest.MonkeyPatch) -> None:
    canvas, _, figure = scene()
    left = torch.zeros(1, 1, 64, 64)
    left[..., 13:17, 5:9] = 1
    first, whole = (find_backdrop(canvas, figure, Wanted(), places) for places in (None, left))
    assert first is not None
    assert whole is not None
    monkeypatch.setattr("stillmotion.rendering.alpha.refine", lambda *_: pytest.fail("refined again"))
    again = find_backdrop(canvas, figure, Wanted(), left, first)
    assert again is not None
    assert again.alpha is first.alpha
    for part in ("unsure", "plate"):
        assert np.array_equal(getattr(again, part), getattr(whole, part))
    assert torch.equal(again.small, whole.small)


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
    expected[..., 14:25, :] = 1  # a pixel more to either side
    seen = torch.cat([shares_with(PLATE, slice(15, 22)), shares_with(PLATE, slice(20, 24), 0.6)])
    found = left_places(seen, figure, None)
    assert found is not None
    assert torch.equal(found, expected)
    assert left_places(shares_with(PAINT, slice(15, 40)), figure, None) is None
    assert left_places(shares_with(PLATE, slice(15, 40), 0.4), figure, None) is None
    assert left_places(seen, figure, found) is None  # nothing new
    assert left_places(shares_with(PLATE, slice(15, 25)), figure, found) is None  # the pixel around it
    more = left_places(shares_with(PLATE, slice(30, 31)), figure, found)
    expected[..., 29:32, :] = 1
    assert more is not None
    assert torch.equal(more, expected)


@pytest.mark.parametrize(("rows", "new"), [(40, False), (30, True)])
def test_little_beside_what_is_known_is_not_worth_another_plate(rows: int, new: bool) -> None:
    """A row of 64 cells is 1/40 or 1/30 of the figure."""
    figure = torch.zeros(1, 1, 64, 64)
    figure[..., :rows, :] = 0.9
    assert 1 / 40 < LEAST_MORE < 1 / 30
    assert (left_places(shares_with(PLATE, slice(50, 51)), figure, None) is not None) == new


@pytest.mark.parametrize(
    ("cells", "new"), [(int(LEAST_LEFT * 64 * 64), False), (int(LEAST_LEFT * 64 * 64) + 1, True)]
)
def test_hardly_anything_is_not_worth_another_plate(cells: int, new: bool) -> None:
    shares = shares_with(PLATE, slice(0, 0))
    shares[0, PLATE, 30, :cells] = 1
    assert (left_places(shares, torch.zeros(1, 1, 64, 64), None) is not None) == new
