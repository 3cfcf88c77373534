"""A still made ready for the networks, and where points of one lie in the other."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from refusals import refused
from stillmotion.rendering.canvas import Canvas, square_box, to_network

CPU = torch.device("cpu")
S = 64


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (height, width, 3), dtype=np.uint8)


def canvas_of(picture: np.ndarray, crop: tuple[int, int, int, int] | None = None) -> Canvas:
    return Canvas.prepare(picture, S, crop, CPU)


def test_convention_networks_of_driving_see_zero_to_one() -> None:
    black, white = np.zeros((4, 8), np.uint8), np.full((4, 8), 255, np.uint8)
    seen = to_network(np.stack([black, white, black], -1), 16, CPU)
    assert seen.shape == (1, 3, 16, 16)
    assert (seen[:, 0].max(), seen[:, 1].min(), seen[:, 2].max()) == (0, 1, 0)


def test_a_crop_is_padded_to_a_square() -> None:
    """A part 40 wide and 20 high lies 10 rows below the top of its square."""
    still = noise(60, 80)
    canvas = canvas_of(still, (5, 7, 40, 20))
    assert (canvas.box, canvas.side, canvas.size) == ((0, 10, 40, 30), 40, S)
    assert (canvas.crop, canvas.given) == ((5, 7, 40, 20), (60, 80))
    assert np.array_equal(canvas.picture, still[7:27, 5:45])
    assert torch.equal(canvas.small, to_network(canvas.picture, S, CPU))
    assert canvas.scale == 40 / 64
    assert refused(canvas_of, still, (5, 7, 76, 20)) == (
        "The crop 5,7,76,20 reaches out of the still, which is 80 x 60 pixels."
    )
    assert "The crop 5,7,40,54" in refused(canvas_of, still, (5, 7, 40, 54))


def test_points_of_the_picture_by_hand() -> None:
    """The crop's first pixel is 10 rows below the top of a square of 40: its centre is at 10.5 of 40, 16.8 of 64."""
    canvas = canvas_of(noise(60, 80), (5, 7, 40, 20))
    small = canvas.to_small(np.array([[5.0, 7.0], [44.0, 26.0], [4.5, 6.5]]))
    np.testing.assert_allclose(small, [[0.3, 16.3], [62.7, 46.7], [-0.5, 15.5]], atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 90), st.integers(1, 90), st.data())
def test_points_go_there_and_back_in_numpy_and_torch_alike(height: int, width: int, data: st.DataObject) -> None:
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    crop = (x, y, data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y)))
    canvas = Canvas.prepare(np.zeros((height, width, 3), np.uint8), 16, crop, CPU)
    points = np.random.default_rng(0).uniform(-50, 150, (2, 5, 2))
    small = canvas.to_small(points)
    np.testing.assert_allclose(canvas.to_given(small), points, atol=1e-9)
    for precision in (torch.float64, torch.float32):
        tensor = torch.from_numpy(points).to(precision)
        found = canvas.to_small(tensor)
        assert found.dtype == precision
        np.testing.assert_allclose(found.numpy(), small, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(canvas.to_given(found).numpy(), points, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("size", "x", "y"), [((256, 256), 40, 28), ((192, 256), 72, 100), ((256, 100), 60, 201)])
def test_points_agree_with_the_resized_picture(size: tuple[int, int], x: int, y: int) -> None:
    """A bright block of 8 x 8 pixels: the middle of its brightness is where the middle of the block goes."""
    picture = np.zeros((*size, 3), np.uint8)
    picture[y : y + 8, x : x + 8] = 255
    canvas = canvas_of(picture)
    bright = canvas.small[0, 0]
    grid = torch.arange(float(S))
    middle = torch.stack([(bright.sum(0) * grid).sum(), (bright.sum(1) * grid).sum()]) / bright.sum()
    expected = canvas.to_small(torch.tensor([x + 3.5, y + 3.5]))
    torch.testing.assert_close(middle, expected, atol=0.05, rtol=0)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 150), st.integers(1, 150))
def test_weights_of_the_enlarger_sum_to_one(height: int, width: int) -> None:
    rows, columns = canvas_of(np.zeros((height, width, 3), np.uint8)).enlarger()
    assert (rows.shape, columns.shape) == ((height, S), (width, S))
    for weights in (rows, columns):
        torch.testing.assert_close(weights.sum(1), torch.ones(len(weights)))
        assert weights.min() >= 0
        assert (weights > 0).sum(1).max() <= 2


def test_the_enlarger_changes_nothing_at_the_networks_own_size() -> None:
    for weights in canvas_of(noise(S, S)).enlarger():
        assert torch.equal(weights, torch.eye(S))


@pytest.mark.parametrize("crop", [None, (20, 10, 90, 41)])
def test_a_map_of_places_enlarged_is_where_points_go(crop: tuple[int, int, int, int] | None) -> None:
    canvas = canvas_of(noise(80, 130), crop)
    left, top, width, height = crop or (0, 0, 130, 80)
    points = np.stack(np.meshgrid(left + np.arange(width), top + np.arange(height)), -1)
    expected = canvas.to_small(points.astype(np.float64)).clip(0, S - 1)
    rows, columns = canvas.enlarger()
    x, y = torch.meshgrid(torch.arange(float(S)), torch.arange(float(S)), indexing="xy")
    for axis, places in enumerate((x, y)):
        np.testing.assert_allclose((rows @ places @ columns.T).numpy(), expected[..., axis], atol=1e-4)


def test_the_enlarger_is_that_of_interpolate() -> None:
    rows, columns = canvas_of(noise(150, 150)).enlarger()
    values = torch.rand(S, S, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(values[None, None], (150, 150), mode="bilinear", align_corners=False)[0, 0]
    torch.testing.assert_close(rows @ values @ columns.T, expected, atol=1e-5, rtol=0)


def test_a_square_part_lies_in_the_picture() -> None:
    assert square_box(np.array([49.5, 39.5]), 20, (80, 100)) == (40, 30, 20, 20)
    assert square_box(np.array([5, 75]), 20.4, (80, 100)) == (0, 60, 20, 20)
    assert square_box(np.array([99, 0]), 20, (80, 100)) == (80, 0, 20, 20)
    assert square_box(np.array([50, 40]), 71, (80, 100)) == (15, 5, 71, 71)
    assert square_box(np.array([50, 40]), 72, (80, 100)) is None
