"""Trackers against made clips in which the truth is exact."""

import cv2
import numpy as np
import pytest

from stillmotion.data.tracks import boxes, flow, flow_backward


def moving_square(
    size: int = 64, side: int = 12, step: tuple[int, int] = (3, 1), noise: float = 2.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """A textured square on a textured background; returns frames and boxes (x0, y0, x1, y1) in pixels."""
    rng = np.random.default_rng(seed)
    background = cv2.GaussianBlur(rng.uniform(0, 255, (size, size, 3)), (0, 0), 2)
    square = cv2.GaussianBlur(rng.uniform(0, 255, (side, side, 3)), (0, 0), 1.5)
    background = (background - 128) * 2 + 80
    square = (square - 128) * 2 + 200
    frames, truth = [], []
    for t in range((size - side - 2) // max(step)):
        x, y = 1 + step[0] * t, 1 + step[1] * t
        frame = background.copy()
        frame[y : y + side, x : x + side] = square
        frames.append(frame + rng.normal(0, noise, frame.shape))
        truth.append((x, y, x + side - 1, y + side - 1))
    return np.clip(frames, 0, 255).astype(np.uint8), np.array(truth, np.float32)


def test_backward_flow_points_to_where_the_square_came_from() -> None:
    frames, truth = moving_square(64, 16, (3, 1))
    found = flow_backward(frames[:3])
    assert found.shape == (2, 64, 64, 2)
    for t in (0, 1):
        x0, y0, x1, y1 = truth[t + 1].astype(int)
        assert np.abs(found[t, y0 + 3 : y1 - 2, x0 + 3 : x1 - 2].astype(np.float32) - (-3, -1)).mean() < 0.1


@pytest.mark.parametrize(
    ("size", "side", "step"), [(64, 16, (3, 1)), (32, 10, (1, 1)), (128, 30, (2, 4)), (260, 60, (5, 2))]
)
def test_flow_inside_a_moving_square(size: int, side: int, step: tuple[int, int]) -> None:
    frames, truth = moving_square(size, side, step)
    frames, truth = frames[:5], truth[:5].astype(int)
    found = flow(frames)
    assert found.shape == (4, size, size, 2)
    assert found.dtype == np.float16
    for t in range(4):
        x0, y0, x1, y1 = truth[t]
        # Away from its own border, where two motions meet.
        inside = found[t, y0 + 3 : y1 - 2, x0 + 3 : x1 - 2].astype(np.float32)
        error = np.abs(inside - step)
        assert error.mean() < 0.1
        assert np.quantile(error, 0.95) < 0.2


def test_flow_of_a_background_at_rest_and_of_one_frame() -> None:
    frames, truth = moving_square(noise=0.0)
    far = flow(frames[:3])[:, int(truth[2][3]) + 12 :]
    assert np.abs(far.astype(np.float32)).max() < 0.05
    assert flow(frames[:1]).shape == (0, 64, 64, 2)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("size", "side", "step"), [(64, 12, (3, 1)), (32, 6, (1, 1)), (96, 20, (2, 3))])
def test_boxes_hold_the_moving_square(size: int, side: int, step: tuple[int, int], seed: int) -> None:
    frames, truth = moving_square(size, side, step, seed=seed)
    found = boxes(frames)
    assert found.shape == (len(frames), 4)
    assert found.dtype == np.float32
    assert np.abs(found - truth).max() <= 1


def test_one_bad_frame_does_not_disturb_the_boxes() -> None:
    frames, truth = moving_square()
    broken = frames.copy()
    broken[7, 40:, :20] = 255  # a flash in a corner, 20 pixels away
    # The median over neighbours may be one frame late, which is one step of 3 pixels.
    assert np.abs(boxes(broken) - truth).max() <= 3
    assert np.abs(boxes(broken) - truth)[[0, 1, 2, 3, 11, 12]].max() <= 1


def test_between_frames_without_motion_boxes_pass_over_evenly() -> None:
    frames, truth = moving_square(noise=0.0)
    hidden = frames.copy()
    background = np.median(frames, axis=0).astype(np.uint8)
    hidden[5:8] = background
    assert np.abs(boxes(hidden) - truth).max() <= 1


def test_where_nothing_moves_the_box_is_everything() -> None:
    frames, _ = moving_square()
    still = np.repeat(frames[:1], 4, axis=0)
    assert boxes(still).tolist() == [[0, 0, 63, 63]] * 4
