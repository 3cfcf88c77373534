"""Pictures that explain: paths, flow, masks, keypoints; and the contact sheets of trainings."""

import numpy as np

from driving_tools import at, moving_square, tiny
from stillmotion.data.clip import evenly
from stillmotion.keypoints import visualization as drawing
from stillmotion.systems.driving.visualization import path_sheet


def test_paths_are_drawn_through_the_keypoints_places() -> None:
    paths = np.array([[[-1.0, 0.0]], [[1.0, 0.0]]])  # one keypoint from the left border to the right
    drawn = drawing.draw_paths(np.zeros((65, 65, 3), np.uint8), paths)
    assert (drawn[32] == drawing.palette(1)[0]).all()
    assert not drawn[40:].any()


def test_white_means_no_flow_and_colours_follow_the_direction() -> None:
    flow = np.zeros((2, 2, 2), np.float32)
    flow[0, 0] = (0.25, 0)
    picture = drawing.draw_flow(flow)
    assert picture[1, 1].tolist() == [255, 255, 255]
    assert picture[0, 0].tolist() == [255, 0, 0]  # to the right: red


def test_masks_mix_the_keypoints_colours_over_a_dark_background() -> None:
    masks = np.zeros((3, 1, 3), np.float32)  # background, two keypoints; three pixels
    masks[0, 0, 0] = masks[1, 0, 1] = 1
    masks[1:, 0, 2] = 0.5
    background, first, both = drawing.draw_masks(masks)[0]
    colours = np.array(drawing.palette(2))
    assert background.tolist() == [40, 40, 40]
    assert first.tolist() == colours[0].tolist()
    assert np.abs(both - colours.mean(0)).max() <= 0.5


def test_a_keypoint_is_a_dot_with_an_ellipse_of_one_sigma() -> None:
    black = np.zeros((65, 65, 3), np.uint8)
    covariance = np.diag([0.5**2, 0.25**2])[None]  # 16 of the 32 steps from the centre along x, 8 along y
    drawn = drawing.draw_keypoints(black, np.zeros((1, 2)), covariance).any(-1)
    assert drawn[32, 32]
    assert drawn[32, 48]
    assert drawn[40, 32]
    assert not drawn[32, 50:].any()
    assert not drawn[42:].any()
    assert not drawn[32, 40]  # between dot and ellipse
    assert drawing.draw_keypoints(black, np.zeros((1, 2)), covariance, scale=2).shape == (130, 130, 3)


def test_contact_sheets_have_a_row_per_clip_and_leave_the_mode_as_it_was() -> None:
    clips = [moving_square(f"clip-{i}", seed=i) for i in range(3)]
    _, networks = tiny(**at("generator", fields=True), predictor={"hidden": 8})
    networks.train()
    assert drawing.keypoint_sheet(networks.detector, clips, rows=2, shown=4).shape == (2 * 3 * 64, 4 * 3 * 64, 3)
    # Four frames with keypoints, three generated, two warped, two of masks, one of the blend.
    assert drawing.pair_sheet(networks, clips).shape == (3 * 128, 12 * 128, 3)
    assert path_sheet(networks, clips, 5).shape == (3 * 256, 2 * 256, 3)
    assert all(module.training for module in networks.modules())
    assert [clips[i].name for i in evenly(len(clips), 2)] == ["clip-0", "clip-2"]
