"""Coordinates, warps, gaussians and soft-argmax: the conventions first, then values worked out by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn import functional as F

from driving_tools import at, changed_config
from refusals import refuses
from stillmotion import geometry
from stillmotion.keypoints.networks import Keypoints, heatmaps

SIZES = [(8, 8), (7, 7), (6, 11), (11, 6), (5, 64), (1, 9), (9, 1), (1, 1)]


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def covariance_of(major: float, minor: float, angle: float) -> Tensor:
    """Standard deviations along an axis `angle` from x towards y (down), and across it."""
    c, s = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    return turn @ torch.diag(torch.tensor([major**2, minor**2], dtype=torch.float64)) @ turn.T


def one_bright(size: tuple[int, int], x: int, y: int) -> Tensor:
    image = torch.zeros(1, 1, *size)
    image[0, 0, y, x] = 1
    return image


# --- the conventions of docs/conventions.md ------------------------------------------------------------------------
def test_convention_points_are_x_y_and_sizes_height_width() -> None:
    grid = geometry.identity_grid((3, 5))
    assert grid.shape == (3, 5, 2)
    assert grid[0, 4].tolist() == [1, -1]  # the upper right corner: x first, y grows downwards
    assert grid[2, 0].tolist() == [-1, 1]
    assert geometry.to_pixels(grid, (3, 5))[2, 3].tolist() == [3, 2]  # row 2, column 3


def test_convention_pixel_centres_are_integers() -> None:
    size = (4, 6)
    pixels = geometry.to_pixels(geometry.identity_grid(size), size)
    y, x = torch.meshgrid(torch.arange(4.0), torch.arange(6.0), indexing="ij")
    torch.testing.assert_close(pixels, torch.stack([x, y], -1), atol=1e-6, rtol=0)


def test_convention_corners_are_aligned() -> None:
    size = (5, 9)
    corners = torch.tensor([[0.0, 0.0], [8.0, 0.0], [0.0, 4.0], [8.0, 4.0]])
    normalised = geometry.to_normalised(corners, size)
    assert normalised.tolist() == [[-1, -1], [1, -1], [-1, 1], [1, 1]]
    image = random(1, 3, *size)
    sampled = geometry.warp(image, normalised.view(1, 2, 2, 2))
    assert torch.equal(sampled, image[:, :, ::4, ::8])


def test_convention_displacement_is_backward_and_normalised() -> None:
    """What is at (5, 3) of the source and at (8, 2) of the driving frame has the displacement source - driving."""
    size = (7, 13)
    source, driving = torch.tensor([5.0, 3.0]), torch.tensor([8.0, 2.0])
    displacement = geometry.to_normalised(source, size) - geometry.to_normalised(driving, size)
    assert displacement.tolist() == pytest.approx([-3 * 2 / 12, 1 * 2 / 6])
    made = geometry.warp(one_bright(size, 5, 3), (geometry.identity_grid(size) + displacement)[None])
    torch.testing.assert_close(made, one_bright(size, 8, 2), atol=1e-5, rtol=0)
    assert geometry.displacement_to_pixels(displacement, size).tolist() == pytest.approx([-3, 1])
    assert torch.allclose(geometry.displacement_to_normalised(torch.tensor([-3.0, 1.0]), size), displacement)


def test_convention_coordinates_stay_float32() -> None:
    size = (3, 600)  # bfloat16 has 8 bits: beyond 256 pixels neighbours would be one point
    low = torch.zeros(1, 1, *size, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        grid = geometry.identity_grid(size, low)
        assert grid.dtype == torch.float32
        assert len(grid[0, :, 0].unique()) == 600
        image = random(1, 2, *size)
        assert (geometry.warp(image, grid[None]) - image).abs().max() < 1e-4
        mean, covariance = geometry.soft_argmax(low + 1 / 1800)
        assert mean.dtype == covariance.dtype == torch.float32
    assert geometry.spatial_softmax(low).dtype == torch.float32
    assert geometry.warp(low, grid[None]).dtype == torch.bfloat16  # pictures keep their type
    assert geometry.identity_grid(size, low.double()).dtype == torch.float64


def test_convention_warps_are_four_dimensional() -> None:
    with pytest.raises(RuntimeError):
        geometry.warp(torch.zeros(1, 3, 2, 4, 4), torch.zeros(1, 2, 4, 4, 2))
    with pytest.raises(RuntimeError):
        geometry.warp(torch.zeros(3, 4, 4), torch.zeros(4, 4, 2))


# --- grids ---------------------------------------------------------------------------------------------------------
def test_a_side_of_one_pixel_lies_at_zero() -> None:
    assert geometry.identity_grid((1, 1)).tolist() == [[[0, 0]]]
    assert geometry.identity_grid((1, 3))[0, :, 0].tolist() == [-1, 0, 1]
    assert geometry.identity_grid((3, 1))[:, 0].tolist() == [[0, -1], [0, 0], [0, 1]]


def test_to_pixels_by_hand() -> None:
    points = torch.tensor([[0.0, 0.0], [-1.0, 0.5], [1.5, -1.0]])
    assert geometry.to_pixels(points, (5, 11)).tolist() == [[5, 2], [0, 3], [12.5, 0]]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.floats(-2000, 2000), st.floats(-2000, 2000)), min_size=1, max_size=5),
    st.integers(1, 2000),
    st.integers(1, 2000),
)
def test_pixels_and_normalised_undo_each_other(values: list[tuple[float, float]], height: int, width: int) -> None:
    points = torch.tensor(values, dtype=torch.float64)
    size = (height, width)
    back = geometry.to_pixels(geometry.to_normalised(points, size), size)
    torch.testing.assert_close(back, points, atol=1e-9, rtol=1e-12)
    again = geometry.to_normalised(geometry.to_pixels(points, size), size)
    torch.testing.assert_close(again, points, atol=1e-9, rtol=1e-12)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_the_identity_warp_changes_nothing(size: tuple[int, int], padding: str) -> None:
    image = random(2, 3, *size)
    grid = geometry.identity_grid(size).expand(2, -1, -1, -1)
    assert (geometry.warp(image, grid, padding) - image).abs().max() < 1e-5


def test_a_warp_reads_between_pixels_and_outside() -> None:
    image = torch.tensor([[[[0.0, 10.0, 30.0]]]])
    grid = geometry.to_normalised(torch.tensor([[[[0.25, 0.0], [1.5, 0.0], [3.0, 0.0], [2.5, 0.0]]]]), (1, 3))
    grid[..., 1] = 0
    assert geometry.warp(image, grid)[0, 0, 0].tolist() == pytest.approx([2.5, 20, 0, 15], abs=1e-4)
    assert geometry.warp(image, grid, "border")[0, 0, 0].tolist() == pytest.approx([2.5, 20, 30, 30], abs=1e-4)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_displacement_shifts_by_half_the_width_less_one(steps: int) -> None:
    """Displacement d moves by d * (W - 1) / 2 pixels; looking right moves the content left."""
    size = (5, 11)
    displacement = torch.tensor([2 * steps / 10, 0.0])
    image = random(1, 2, *size)
    made = geometry.warp(image, (geometry.identity_grid(size) + displacement)[None])
    torch.testing.assert_close(made[..., :-steps], image[..., steps:], atol=1e-5, rtol=0)
    assert (made[..., -steps:].abs() < 1e-4).all()


@pytest.mark.parametrize("bad", ["reflected", ""])
def test_an_unknown_padding_is_refused(bad: str) -> None:
    refuses("padding", geometry.warp, torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 4, 2), bad, error=ValueError)


@pytest.mark.parametrize("size", [(8, 8), (7, 13), (3, 2)])
def test_a_resized_identity_grid_is_the_identity_grid(size: tuple[int, int]) -> None:
    grid = geometry.identity_grid((5, 6))[None]
    resized = geometry.resize_grid(grid, size)
    assert resized.shape == (1, *size, 2)
    torch.testing.assert_close(resized[0], geometry.identity_grid(size), atol=1e-6, rtol=0)


def test_nearest_resizing_shifts_coordinates() -> None:
    """The release's way, kept as a switch: pixel 1 of 4 takes its coordinates from pixel 0 of 2."""
    grid = geometry.identity_grid((2, 2))[None]
    assert geometry.resize_grid(grid, (4, 4), "nearest")[0, 0, :, 0].tolist() == [-1, -1, 1, 1]


def test_resize_map_keeps_the_corners() -> None:
    values = random(2, 3, 4, 5)
    assert geometry.resize_map(values, (4, 5)) is values
    large = geometry.resize_map(values, (7, 13))
    assert large.shape == (2, 3, 7, 13)
    torch.testing.assert_close(large[:, :, ::6, ::12], values[:, :, ::3, ::4])
    assert geometry.resize_map(torch.tensor([[[[0.0, 1.0]]]]), (1, 3)).flatten().tolist() == [0, 0.5, 1]


# --- soft-argmax and gaussians -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("row", "column", "expected"),
    [(0, 0, (-1, -1)), (0, 8, (1, -1)), (4, 0, (-1, 1)), (4, 8, (1, 1)), (1, 6, (0.5, -0.5)), (2, 4, (0, 0))],
)
def test_delta_logits_give_their_pixel(row: int, column: int, expected: tuple[float, float]) -> None:
    logits = torch.full((1, 1, 5, 9), -1000.0)
    logits[0, 0, row, column] = 1000
    heat = geometry.spatial_softmax(logits, 0.1)
    mean, covariance = geometry.soft_argmax(heat)
    assert tuple(mean[0, 0].tolist()) == expected  # exactly, (x, y)
    assert covariance.abs().max() == 0


def test_spatial_softmax_sums_to_one_and_sharpens_with_the_cold() -> None:
    logits = random(2, 3, 5, 7)
    for temperature in (0.1, 1.0):
        heat = geometry.spatial_softmax(logits, temperature)
        assert heat.shape == logits.shape
        torch.testing.assert_close(heat.sum((2, 3)), torch.ones(2, 3))
    two = torch.tensor([[[[0.0, 0.1 * math.log(3)]]]])
    assert geometry.spatial_softmax(two, 0.1).flatten().tolist() == pytest.approx([0.25, 0.75])


def test_two_pixels_by_hand() -> None:
    heat = torch.zeros(1, 1, 3, 5)
    heat[0, 0, 0, 1], heat[0, 0, 2, 3] = 0.25, 0.75  # at (-0.5, -1) and (0.5, 1)
    mean, covariance = geometry.soft_argmax(heat)
    assert mean[0, 0].tolist() == pytest.approx([0.25, 0.5])
    # Variance of a coin with p = 3/4 is 3/16 of the squared distance; the two coordinates move together.
    assert covariance[0, 0].flatten().tolist() == pytest.approx([3 / 16, 3 / 8, 3 / 8, 3 / 4])


def test_epsilon_adds_to_every_pixel() -> None:
    heat = torch.zeros(1, 1, 3, 3)
    heat[0, 0, 2, 2] = 1
    mean, covariance = geometry.soft_argmax(heat, epsilon=0.01)
    assert mean[0, 0].tolist() == pytest.approx([1, 1])  # a uniform map adds nothing to the mean
    # xx: 0.01 * 3 rows * ((-1 - 1)^2 + (0 - 1)^2), the bright pixel itself lies on the mean.
    assert covariance[0, 0, 0, 0].item() == pytest.approx(0.15)


def test_soft_argmax_of_bfloat16_is_as_good_as_of_float32() -> None:
    heat = geometry.spatial_softmax(4 * random(2, 3, 33, 65)).bfloat16()
    low, high = geometry.soft_argmax(heat, 1e-7), geometry.soft_argmax(heat.float(), 1e-7)
    for a, b in zip(low, high, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("angle", [0.0, 0.5, math.pi / 4, 2.0])
def test_an_anisotropic_gaussian_is_recovered_with_its_orientation(angle: float) -> None:
    mean = torch.tensor([[[0.1, -0.05]]], dtype=torch.float64)
    covariance = covariance_of(0.2, 0.08, angle)[None, None]
    heat = geometry.gaussian_map(mean, covariance, (129, 129))
    heat = heat / heat.sum((2, 3), keepdim=True)
    found_mean, found = geometry.soft_argmax(heat)
    torch.testing.assert_close(found_mean, mean, atol=1e-4, rtol=0)
    torch.testing.assert_close(found, covariance, atol=2e-4, rtol=0)
    axis = torch.linalg.eigh(found[0, 0])[1][:, 1]
    assert abs(axis @ torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)) > 0.9999


def test_a_gaussian_by_hand() -> None:
    mean = torch.tensor([[[0.0, 0.5], [1.0, -1.0]]])
    covariance = torch.tensor([[[[0.25, 0.0], [0.0, 1.0]]]]).expand(1, 2, 2, 2)
    maps = geometry.gaussian_map(mean, covariance, (5, 5))
    assert maps.shape == (1, 2, 5, 5)
    assert maps[0, 0, 3, 2] == 1  # the mean: x = 0 is column 2, y = 0.5 is row 3
    assert maps[0, 0, 3, 3].item() == pytest.approx(math.exp(-0.5))  # one standard deviation of 0.5 along x
    assert maps[0, 0, 1, 2].item() == pytest.approx(math.exp(-0.5))  # one standard deviation of 1 along y
    assert maps[0, 0, 1, 3].item() == pytest.approx(math.exp(-1.0))
    assert maps[0, 1, 0, 4] == 1
    plain = geometry.gaussian_map(mean, covariance, (5, 5), exponent=1.0)
    assert plain[0, 0, 3, 3].item() == pytest.approx(math.exp(-1.0))


def test_heatmaps_are_divided_by_a_constant_or_by_their_sum() -> None:
    points = Keypoints(torch.zeros(1, 1, 2), 0.25 * torch.eye(2)[None, None])
    size = (33, 33)  # a pixel is 1/16; half a unit, one standard deviation, is 8 pixels
    heat = heatmaps(points, changed_config(**at("keypoints", heatmap_scale=100.0)), size)
    assert heat[0, 0, 16, 16].item() == pytest.approx(1 / 100)
    assert heat[0, 0, 16, 24].item() == pytest.approx(math.exp(-0.5) / 100)
    summed = heatmaps(points, changed_config(**at("keypoints", heatmap_sum=True)), size)
    assert summed.sum().item() == pytest.approx(1)


# --- 2 x 2 matrices ------------------------------------------------------------------------------------------------
@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-5, 5, width=32), min_size=4, max_size=4))
def test_the_smallest_singular_value_is_numpys(values: list[float]) -> None:
    matrix = torch.tensor(values, dtype=torch.float64).view(2, 2)
    expected = np.linalg.svd(matrix.numpy())[1][1]
    assert geometry.smallest_singular_value(matrix).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("large", "small"), [(0.3, 1e-4), (0.3, 1e-5), (1.0, 1e-6), (1e-3, 1e-4)])
@pytest.mark.parametrize("angle", [0.0, 0.7])
def test_the_smallest_singular_value_of_a_thin_matrix(large: float, small: float, angle: float) -> None:
    """In float32, where the difference of two nearly equal squares would be noise."""
    matrix = covariance_of(math.sqrt(large), math.sqrt(small), angle).float()
    exact = np.linalg.svd(matrix.double().numpy())[1][1]
    tolerance = 1e-6 if angle == 0 else 0.05 + 3e-7 * large / small
    assert geometry.smallest_singular_value(matrix).item() == pytest.approx(exact, rel=tolerance)


def test_the_floor_scales_up_thin_covariances_and_leaves_the_others() -> None:
    thin = covariance_of(0.3, 0.01, 0.4)  # smallest singular value 0.0001
    fine = covariance_of(0.3, 0.1, 1.1)  # 0.01
    floored = geometry.floor_covariance(torch.stack([thin, fine])[None], 0.001)
    torch.testing.assert_close(floored[0, 0], thin * 10)  # the same shape, ten times as large
    assert torch.equal(floored[0, 1], fine)
    values = torch.linalg.svdvals(floored[0])
    assert values[:, 1].tolist() == pytest.approx([0.001, 0.01])


def test_the_floor_of_a_thin_float32_covariance() -> None:
    thin = torch.tensor([[0.3, 0.0], [0.0, 1e-5]])
    torch.testing.assert_close(geometry.floor_covariance(thin, 0.001), thin * 100)


def test_no_gradient_runs_through_the_scale_of_the_floor() -> None:
    thin = covariance_of(0.3, 0.01, 0.4).requires_grad_()
    (grad,) = torch.autograd.grad(geometry.floor_covariance(thin, 0.001).sum(), thin)
    torch.testing.assert_close(grad, torch.full((2, 2), 10.0, dtype=torch.float64))
    flat = torch.zeros(2, 2, requires_grad=True)  # a singular matrix: no NaN on the way back
    (grad,) = torch.autograd.grad(geometry.floor_covariance(flat, 0.001).sum(), flat)
    assert grad.isfinite().all()


def test_inverse_by_hand() -> None:
    matrix = torch.tensor([[4.0, 7.0], [2.0, 6.0]])  # determinant 10
    torch.testing.assert_close(geometry.inverse_2x2(matrix), torch.tensor([[0.6, -0.7], [-0.2, 0.4]]))
    batch = random(2, 3, 2, 2) + 2 * torch.eye(2)
    torch.testing.assert_close(geometry.inverse_2x2(batch) @ batch, torch.eye(2).expand(2, 3, 2, 2))
    assert not geometry.inverse_2x2(torch.ones(2, 2)).isfinite().any()


# --- shapes and gradients ------------------------------------------------------------------------------------------
def test_shapes_of_everything() -> None:
    assert geometry.warp(torch.zeros(2, 3, 4, 5), torch.zeros(2, 6, 7, 2)).shape == (2, 3, 6, 7)
    mean, covariance = geometry.soft_argmax(geometry.spatial_softmax(torch.zeros(2, 3, 4, 5)))
    assert mean.shape == (2, 3, 2)
    assert covariance.shape == (2, 3, 2, 2)
    assert torch.equal(covariance, covariance.mT)
    assert geometry.floor_covariance(covariance, 0.1).shape == (2, 3, 2, 2)
    assert geometry.smallest_singular_value(covariance).shape == (2, 3)
    assert geometry.gaussian_map(mean, covariance, (6, 7)).shape == (2, 3, 6, 7)


def double(*shape: int, seed: int = 0) -> Tensor:
    return random(*shape, seed=seed, dtype=torch.float64).requires_grad_()


def test_gradients_of_warps() -> None:
    image = double(1, 2, 4, 5)
    # Halfway between pixels: bilinear sampling has no derivative on them.
    pixels = torch.tensor([[[0.3, 0.4], [1.6, 2.3]], [[3.4, 1.7], [2.2, 0.6]]], dtype=torch.float64)
    grid = geometry.to_normalised(pixels, (4, 5))[None].requires_grad_()
    for padding in ("zeros", "border"):
        assert gradcheck(lambda i, g, p=padding: geometry.warp(i, g, p), (image, grid))
    assert gradcheck(lambda g: geometry.resize_grid(g, (3, 5)), (grid,))
    assert gradcheck(lambda v: geometry.resize_map(v, (7, 3)), (image,))


def test_gradients_of_keypoints() -> None:
    logits = double(1, 2, 4, 5)
    assert gradcheck(lambda x: geometry.spatial_softmax(x, 0.5), (logits,))
    assert gradcheck(lambda x: geometry.soft_argmax(F.softmax(x.flatten(2), 2).view_as(x), 1e-7), (logits,))
    spread = torch.stack([covariance_of(0.7, 0.4, 0.3), covariance_of(0.5, 0.6, 1.0)])[None].requires_grad_()
    mean = (double(1, 2, 2).detach() - 0.5).requires_grad_()
    assert gradcheck(lambda m, c: geometry.gaussian_map(m, c, (3, 4)), (mean, spread))
    assert gradcheck(geometry.inverse_2x2, (spread,))
    assert gradcheck(lambda c: geometry.floor_covariance(c, 0.01), (spread,))
    assert gradcheck(lambda p: geometry.to_pixels(geometry.to_normalised(p, (3, 4)), (7, 9)), (mean,))


def test_everything_is_computed_where_its_input_is() -> None:
    """On the device `meta`, which has no values, as it would be on a GPU."""
    points, matrices = torch.ones(2, 3, 2, device="meta"), torch.ones(2, 3, 2, 2, device="meta")
    maps, grid = torch.ones(2, 3, 4, 4, device="meta"), torch.ones(2, 4, 4, 2, device="meta")
    made = [
        geometry.identity_grid((4, 1), points),
        geometry.identity_grid((1, 4), points),
        geometry.to_pixels(points, (4, 4)),
        geometry.to_normalised(points, (4, 4)),
        geometry.displacement_to_pixels(points, (4, 4)),
        geometry.displacement_to_normalised(points, (4, 4)),
        geometry.resize_grid(grid, (8, 8)),
        *geometry.soft_argmax(geometry.spatial_softmax(maps)),
        geometry.floor_covariance(matrices, 0.1),
        geometry.gaussian_map(points, matrices, (4, 4)),
        *geometry.place(points),
        geometry.distance_to_polyline(points[0], points[0, :1]),
        geometry.distance_to_polyline(points[0], points[1]),
    ]
    assert {values.device.type for values in made} == {"meta"}


@pytest.mark.parametrize("size", [(1, 5), (5, 1), (1, 1)])
def test_gaussians_of_a_single_row_or_column(size: tuple[int, int]) -> None:
    made = geometry.gaussian_map(torch.zeros(1, 1, 2), torch.eye(2).view(1, 1, 2, 2), size)
    squares = geometry.identity_grid(size).square().sum(-1)
    torch.testing.assert_close(made[0, 0], (-0.5 * squares).exp())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_places_of_another_type_are_sampled_in_the_pictures_own(dtype: torch.dtype) -> None:
    image = random(1, 2, 3, 3)
    grid = geometry.identity_grid((3, 3))[None].to(dtype)
    for picture in (image, image.double(), image.bfloat16()):
        torch.testing.assert_close(geometry.warp(picture, grid), picture)
