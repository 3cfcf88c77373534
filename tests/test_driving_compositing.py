"""What comes out at the still's own size, by hand."""

import numpy as np
import pytest
import torch

from driving_tools import keypoints, output, prepare, system, tiny_driving
from stillmotion import media
from stillmotion.errors import StillmotionError
from stillmotion.systems.driving.animating import pick
from stillmotion.systems.driving.compositing import Canvas, composite, suppress_slow, to_network
from stillmotion.systems.driving.networks import GeneratorOutput

CPU = torch.device("cpu")


def made(displacement: torch.Tensor, shares: tuple[float, float] | None, paint: float = 0.0) -> GeneratorOutput:
    return output(torch.full((1, 3, 64, 64), 0.5), displacement, shares=shares, paint=paint)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (*shape, 3), dtype=np.uint8)


def test_padding_repeats_the_border_and_says_where_the_picture_is() -> None:
    picture = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3)
    square, (left, top, right, bottom) = media.pad_square(picture)
    assert square.shape == (5, 5, 3)
    assert np.array_equal(square[top:bottom, left:right], picture)
    assert np.array_equal(square[0], picture[0])
    assert np.array_equal(square[-1], picture[-1])


def test_convention_networks_of_driving_see_zero_to_one() -> None:
    black, white = np.zeros((4, 8), np.uint8), np.full((4, 8), 255, np.uint8)
    seen = to_network(np.stack([black, white, black], -1), 16, CPU)
    assert seen.shape == (1, 3, 16, 16)
    assert (seen[:, 0].max(), seen[:, 1].min(), seen[:, 2].max()) == (0, 1, 0)


def test_points_of_the_picture_and_of_the_padded_part_belong_together() -> None:
    """A part 40 wide and 20 high lies 10 rows below the top of its square; its corner is at (5, 7) of the picture."""
    canvas = Canvas.prepare(noise(60, 80), 64, (5, 7, 40, 20), CPU)
    assert (canvas.box, canvas.side) == ((0, 10, 40, 30), 40)
    points = torch.tensor([[5.0, 7.0], [44.0, 26.0]])
    assert torch.allclose(canvas.from_given(points), torch.tensor([[-1.0, 10 / 19.5 - 1], [1.0, 29 / 19.5 - 1]]))
    assert torch.allclose(canvas.to_given(canvas.from_given(points)), points, atol=1e-5)
    assert canvas.picture.shape == (1, 3, 20, 40)
    with pytest.raises(StillmotionError, match="The crop 5,7,76,20 reaches out of the still, which is 80 x 60"):
        Canvas.prepare(noise(60, 80), 64, (5, 7, 76, 20), CPU)


@pytest.mark.parametrize("shape", [(200, 200), (47, 83), (300, 101)])
def test_what_does_not_move_keeps_its_own_pixels_at_any_size(shape: tuple[int, int]) -> None:
    picture = noise(*shape)
    canvas = prepare(system(), picture)
    drifting = torch.full((1, 64, 64, 2), 0.1 * 2 / 63)  # a tenth of a network pixel: below what may move
    assert np.array_equal(composite(canvas, made(drifting, (1.0, 0.0))), picture)
    assert np.array_equal(composite(canvas, made(drifting, None)), picture)  # nothing was painted either
    assert (composite(canvas, made(drifting, (0.0, 0.0), paint=1.0)) == 255).all()


def test_a_large_still_moves_by_the_upsampled_flow() -> None:
    picture = noise(127, 127)
    displacement = torch.zeros(1, 64, 64, 2)
    displacement[..., 0] = -4 * 2 / 63  # look four network pixels to the left: eight of the large picture's steps
    moved = composite(prepare(system(), picture), made(displacement, (1.0, 0.0)))
    assert np.array_equal(moved[:, 8:], picture[:, :-8])


def test_the_unmoved_share_is_taken_from_the_full_size_still() -> None:
    picture = noise(90, 130)
    everything_moves = torch.full((1, 64, 64, 2), 0.5)
    assert np.array_equal(composite(prepare(system(), picture), made(everything_moves, (0.0, 1.0))), picture)


def test_slow_motion_is_suppressed_and_fast_motion_is_left() -> None:
    step = 2 / 63
    displacement = torch.zeros(1, 64, 64, 2)
    displacement[0, 0, :4, 0] = torch.tensor([0.2, 0.65, 1.0, 5.0]) * step
    found = suppress_slow(displacement)[0, 0, :4, 0] / step
    assert torch.allclose(found, torch.tensor([0.0, 0.65 * 0.5, 1.0, 5.0]), atol=1e-5)


@pytest.mark.parametrize(("side", "unmoved", "expected"), [(32, 1.0, 125), (64, 1.0, 100), (64, 0.0, 125)])
def test_the_residual_corrects_larger_stills_only_where_they_move(side: int, unmoved: float, expected: int) -> None:
    canvas = prepare(tiny_driving(), np.full((side, side, 3), 100, np.uint8))
    flat = torch.full((1, 3, 32, 32), 100 / 255)
    one = output(flat, torch.zeros(1, 32, 32, 2), shares=(1 - unmoved, unmoved), paint=flat)
    one = one._replace(residual=torch.full((1, 3, 32, 32), 25 / 255))
    assert np.abs(composite(canvas, one).astype(int) - expected).max() <= 1


def test_one_frame_of_a_batch_is_picked_with_all_that_belongs_to_it() -> None:
    networks = system().networks
    still, points = torch.rand(3, 3, 64, 64), keypoints([[0.0, 0.0]] * 3)
    many = type(points)(*(part.expand(3, *part.shape[1:]) for part in points))
    batch = networks.generator(networks.generator.encode(still), many, many)
    one = pick(batch, 2)
    assert torch.equal(one.frame, batch.frame[2:])
    assert torch.equal(one.warped, batch.warped[2:])
    assert torch.equal(one.motion.displacement, batch.motion.displacement[2:])
    assert one.motion.masks is not None
    assert torch.equal(one.motion.masks, batch.motion.masks[2:])
