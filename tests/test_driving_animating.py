"""facts/monkey-net.md section 12, items 14 and 15, and what happens at the still's own size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from driving_tools import keypoints, moving_square, tiny
from stillmotion.controls import Drive
from stillmotion.errors import StillmotionError
from stillmotion.systems.driving.animating import Driving, Still, compose, pad_square, settle, transfer
from stillmotion.systems.driving.networks import Generated, Keypoints, Motion


def system(**changes) -> Driving:
    config, networks = tiny(**changes)
    # Trained-looking batch statistics and a flow that is not zero, so that frames differ.
    with torch.no_grad():
        networks.train()
        for _ in range(3):
            found = networks.detector(torch.rand(4, 3, 64, 64))
            networks.generator(networks.generator.encode(torch.rand(4, 3, 64, 64)), found, found)
        if networks.generator.dense_motion is not None:
            networks.generator.dense_motion.head.weight.normal_(0, 0.05)
    return Driving(config, networks)


VIDEO = moving_square("drive", frames=5).frames
STILL = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def means(animation) -> np.ndarray:
    return np.stack([step.facts["mean"] for step in animation])


def test_relative_transfer_of_a_standing_driver_keeps_the_stills_keypoints():
    driving = system()
    standing = np.repeat(VIDEO[:1], 4, axis=0)
    own = driving.networks.detector(torch.from_numpy(STILL.copy()).permute(2, 0, 1)[None].float() / 255).mean
    found = means(driving.animate(STILL, Drive(standing)))
    assert np.allclose(found, own.detach().numpy(), atol=1e-6)


def test_relative_transfer_onto_the_drivers_own_first_frame_is_a_reconstruction():
    driving = system()
    relative = driving.animate(VIDEO[0], Drive(VIDEO, transfer="relative"), size="model").frames()
    absolute = driving.animate(VIDEO[0], Drive(VIDEO, transfer="absolute"), size="model").frames()
    assert np.abs(relative.astype(int) - absolute).max() <= 1


def test_absolute_transfer_ignores_the_first_frame():
    driving = system()
    whole = driving.animate(STILL, Drive(VIDEO, transfer="absolute"), size="model").frames()
    rest = driving.animate(STILL, Drive(VIDEO[1:], transfer="absolute"), size="model").frames()
    assert np.abs(whole[1:].astype(int) - rest).max() <= 1
    moved = driving.animate(STILL, Drive(VIDEO, transfer="relative")), driving.animate(STILL, Drive(VIDEO[1:]))
    assert not np.allclose(means(moved[0])[1:], means(moved[1]), atol=1e-4)


def test_frames_fed_in_any_number_keep_the_first_driving_frame_as_reference(monkeypatch):
    """Pitfall of the sheet: a reference per batch would make a still video."""
    driving = system()
    whole = means(driving.animate(STILL, Drive(VIDEO)))
    monkeypatch.setattr("stillmotion.systems.driving.animating.BATCH", 1)
    assert np.allclose(means(driving.animate(STILL, Drive(VIDEO))), whole, atol=1e-5)
    assert np.abs(whole[-1] - whole[0]).max() > 1e-4


def test_transfer_options_by_hand():
    still = keypoints([[-0.8, -0.8], [0.8, -0.8], [0.8, 0.8], [-0.8, 0.8]], variance=0.02)  # hull area 2.56
    first = keypoints([[-0.4, -0.4], [0.4, -0.4], [0.4, 0.4], [-0.4, 0.4]], variance=0.01)  # hull area 0.64
    moved = Keypoints(first.mean + torch.tensor([0.2, 0.0]), 4 * first.covariance)

    plain = transfer(still, first, moved, Drive(VIDEO))
    assert torch.allclose(plain.mean, still.mean + torch.tensor([0.2, 0.0]))
    assert torch.equal(plain.covariance, moved.covariance)
    scaled = transfer(still, first, moved, Drive(VIDEO, scale_motion=True))
    assert torch.allclose(scaled.mean, still.mean + torch.tensor([0.4, 0.0]))
    clipped = transfer(still, first, moved, Drive(VIDEO, clip=True))
    assert clipped.mean.max() <= 1
    assert torch.allclose(clipped.mean[..., 1], still.mean[..., 1])
    adapted = transfer(still, first, moved, Drive(VIDEO, adapt_covariance=True))
    assert torch.allclose(adapted.covariance, 4 * still.covariance, atol=1e-6)  # driver grew by 4: so does the still
    assert transfer(still, first, moved, Drive(VIDEO, transfer="absolute")) is moved


def test_one_driving_frame_is_enough_and_frames_limits_them():
    driving = system()
    assert driving.animate(STILL, Drive(VIDEO[:1]), size="model").frames().shape == (1, 64, 64, 3)
    assert len(list(driving.animate(STILL, Drive(VIDEO), frames=3))) == 3
    assert len(list(driving.animate(STILL, Drive(VIDEO), frames=99))) == 5
    with pytest.raises(StillmotionError, match="frames"):
        driving.animate(STILL, Drive(VIDEO), frames=0)
    with pytest.raises(StillmotionError, match="size"):
        driving.animate(STILL, Drive(VIDEO), size="huge")


def test_padding_repeats_the_border_and_says_where_the_picture_is():
    picture = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3)
    square, (left, top, right, bottom) = pad_square(picture)
    assert square.shape == (5, 5, 3)
    assert np.array_equal(square[top:bottom, left:right], picture)
    assert np.array_equal(square[0], picture[0])
    assert np.array_equal(square[-1], picture[-1])


def made_by_hand(displacement: torch.Tensor, keep: float | None, painted: float = 0.0) -> Generated:
    frame = torch.full((1, 3, 64, 64), 0.5)
    blend = None if keep is None else torch.tensor([keep, 0.0]).view(1, 2, 1, 1).expand(1, 2, 64, 64)
    paint = None if keep is None else torch.full((1, 3, 64, 64), painted)
    return Generated(frame, Motion(displacement, None), frame, blend, paint)


@pytest.mark.parametrize("shape", [(200, 200, 3), (47, 83, 3), (300, 101, 3)])
def test_what_does_not_move_keeps_its_own_pixels_at_any_size(shape):
    picture = np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)
    still = Still.prepare(system(), picture)
    swimming = torch.full((1, 64, 64, 2), 0.1 * 2 / 63)  # a tenth of a network pixel: below what may move
    assert np.array_equal(compose(still, made_by_hand(swimming, keep=1.0)), picture)
    assert np.array_equal(compose(still, made_by_hand(swimming, keep=None)), picture)  # nothing was painted either
    assert np.array_equal(
        compose(still, made_by_hand(swimming, keep=0.0, painted=1.0)), np.full(shape, 255, np.uint8)
    )


def test_a_large_still_moves_by_the_upsampled_flow():
    picture = np.random.default_rng(3).integers(0, 256, (127, 127, 3), dtype=np.uint8)
    still = Still.prepare(system(), picture)
    displacement = torch.zeros(1, 64, 64, 2)
    displacement[..., 0] = -4 * 2 / 63  # look four network pixels to the left: eight of the large picture's steps
    moved = compose(still, made_by_hand(displacement, keep=1.0))
    assert np.array_equal(moved[:, 8:], picture[:, :-8])


def test_the_unmoved_share_is_taken_from_the_full_size_still():
    picture = np.random.default_rng(4).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    still = Still.prepare(system(), picture)
    made = made_by_hand(torch.full((1, 64, 64, 2), 0.5), keep=0.0)  # a flow that would move everything
    unmoved = made._replace(keep=torch.tensor([0.0, 1.0]).view(1, 2, 1, 1).expand(1, 2, 64, 64))
    assert np.array_equal(compose(still, unmoved), picture)


def test_settle_stops_slow_motion_and_leaves_fast_motion():
    step = 2 / 63
    speeds = torch.tensor([0.2, 0.65, 1.0, 5.0]) * step
    displacement = torch.zeros(1, 64, 64, 2)
    displacement[0, 0, :4, 0] = speeds
    found = settle(displacement)[0, 0, :4, 0] / step
    assert torch.allclose(found, torch.tensor([0.0, 0.65 * 0.5, 1.0, 5.0]), atol=1e-5)


def test_layers_explain_each_frame():
    step = next(iter(system(composite=True).animate(STILL, Drive(VIDEO), layers=True)))
    assert set(step.layers) == {"driving", "keypoints", "flow", "masks", "warped"}
    assert {picture.shape for picture in step.layers.values()} == {(256, 256, 3)}
    assert step.facts["displacement"].shape == (64, 64, 2)
    assert step.facts["covariance"].shape == (3, 2, 2)


def test_paths_are_drawn_through_the_keypoints_places():
    from stillmotion.systems.driving.drawing import draw_paths, palette

    paths = np.array([[[-1.0, 0.0]], [[1.0, 0.0]]])  # one keypoint from the left rim to the right
    drawn = draw_paths(np.zeros((65, 65, 3), np.uint8), paths)
    assert (drawn[32] == palette(1)[0]).all()
    assert not drawn[40:].any()


def test_grey_drawing_means_no_flow_and_colours_follow_the_direction():
    from stillmotion.systems.driving.drawing import draw_flow

    flow = np.zeros((2, 2, 2), np.float32)
    flow[0, 0] = (0.25, 0)
    picture = draw_flow(flow)
    assert picture[1, 1].tolist() == [255, 255, 255]
    assert picture[0, 0].tolist() == [255, 0, 0]  # to the right: red
