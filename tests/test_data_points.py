"""Flow, boxes and points of what moves, against exact tracks."""

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from refusals import refuses
from stillmotion.data import points
from stillmotion.data.clip import Clip
from stillmotion.data.patches import correlation, patch_tracker, perceptual, read_references
from stillmotion.data.points import (
    PointTracker,
    detect_person,
    drop_uncertain,
    fill_gaps,
    opencv_tracker,
    smooth_path,
    track_moving_object,
    tracker_from_detector,
)
from stillmotion.data.trackers import TRACKERS, check_trackers, find_tracker
from stillmotion.data.tracks import boxes, camera_shift, detect_moving_object, flow, flow_backward
from stillmotion.errors import StillmotionError
from stillmotion.media import write_picture
from stillmotion.worlds import sample_clip

GAITS = ("walk", "jog", "run")


@cache
def clips(world: str, count: int, frames: int = 20, action: tuple[str, ...] | None = None) -> tuple[Clip, ...]:
    return tuple(sample_clip(world, 11, i, frames=frames, action=action) for i in range(count))


def box_centre(clip: Clip) -> np.ndarray:
    return (clip.tracks["box"][:, :2] + clip.tracks["box"][:, 2:]) / 2


def errors(finder: PointTracker, chosen: tuple[Clip, ...], truth: str = "box") -> tuple[np.ndarray, float]:
    """Errors in pixels of the known points of all clips, and the share of frames that are known."""
    found = []
    for clip in chosen:
        right = box_centre(clip) if truth == "box" else clip.tracks[truth]
        found.append(np.linalg.norm(drop_uncertain(*finder(np.asarray(clip.frames))) - right, axis=1))
    away = np.concatenate(found)
    known = np.isfinite(away)
    return away[known], float(known.mean())


def textured(size: int, seed: int = 0, contrast: float = 60) -> np.ndarray:
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(0, 1, (size, size, 3)), (0, 0), 1.5)
    return np.clip(128 + contrast * noise / noise.std(), 0, 255).astype(np.uint8)


def square(places: list[tuple[int, int]], side: int = 10, size: int = 64) -> np.ndarray:
    """Frames of a bright square whose upper left pixel is at the places, before a dim texture."""
    behind = textured(size, contrast=8) // 2
    frames = np.repeat(behind[None], len(places), axis=0)
    for frame, (x, y) in zip(frames, places, strict=True):
        frame[y : y + side, x : x + side] = textured(side, 1, 30) // 2 + 120
    return frames


# --- boxes of what moves -------------------------------------------------------------------------------------------
def test_digits_are_found_to_half_a_pixel() -> None:
    away, known = errors(track_moving_object, clips("digits", 6))
    assert known == 1
    assert np.median(away) < 0.4
    assert np.quantile(away, 0.95) < 1


def test_an_object_that_overlaps_its_start_is_detected() -> None:
    """It hides what is behind it for half of the clip, so that the median over time shows the object."""
    places = [(16 + t, 22) for t in range(14)]
    found, confidence = track_moving_object(square(places, side=18))
    assert (confidence >= 0.5).all()
    assert np.abs(found - (np.array(places) + 8.5)).max() < 1.1


@pytest.mark.slow
def test_walkers_before_any_camera_are_found() -> None:
    """Half of these cameras go along with the person: the background moves and the person hardly does."""
    away, known = errors(track_moving_object, clips("puppets", 4, 24, GAITS))
    assert known > 0.9
    assert np.median(away) < 1.5


def test_a_camera_that_moves_along_differs_from_an_object_that_moves() -> None:
    wall = textured(160)
    frames = np.stack([wall[40:104, 2 * t : 2 * t + 64] for t in range(12)])
    frames[:, 25:45, 27:37] = (255, 40, 40)
    shift = camera_shift(frames)
    assert np.abs(shift - np.stack([-2.0 * np.arange(12), np.zeros(12)], 1)).max() < 0.5
    found, confidence = track_moving_object(frames)
    assert (confidence >= 0.5).all()
    assert np.abs(found - (31.5, 34.5)).max() <= 1
    assert not camera_shift(square([(4 + 3 * t, 20) for t in range(12)])).any()


def test_nothing_moves() -> None:
    still = np.repeat(textured(48)[None], 6, axis=0)
    found, confidence = track_moving_object(still)
    assert np.isnan(found).all()
    assert (confidence == 0).all()
    assert np.isnan(drop_uncertain(found, confidence)).all()
    refuses("draw the stroke by hand", fill_gaps, drop_uncertain(found, confidence))


def test_a_frame_of_something_else_is_dropped() -> None:
    places = [(4 + 3 * t, 6 + 2 * t) for t in range(14)]
    frames = square(places)
    frames[6] = square([(50, 2)], side=4)[0]  # the square is gone, a speck is far off
    frames[9] = 255 - frames[9]  # a flash over the whole picture
    found, confidence = track_moving_object(frames)
    assert (confidence < 0.5).nonzero()[0].tolist() == [6, 9]
    truth = np.array(places) + 4.5
    kept = drop_uncertain(found, confidence)
    assert np.isnan(kept[[6, 9]]).all()
    away = np.linalg.norm(np.delete(kept - truth, [6, 9], 0), axis=1)
    assert away.max() < 1.6
    assert np.linalg.norm(fill_gaps(kept)[[6, 9]] - truth[[6, 9]], axis=1).max() < 2


def test_the_three_factors_of_confidence_halve_where_they_say() -> None:
    """A blob a quarter as large as usual, alone and on its way, has a confidence of one half."""
    frames = square([(4 + 3 * t, 26) for t in range(15)], side=12)
    quarter = square([(4 + 3 * 7 + 3, 29)], side=6)
    frames[7] = quarter[0]
    _, confidence = detect_moving_object(frames)
    assert confidence[7] == pytest.approx(0.5, abs=0.06)
    assert (np.delete(confidence, 7) > 0.8).all()


def test_smoothing_stays_on_one_side_of_a_gap() -> None:
    places = np.array([[0, 0], [0, 0], [0, 0], [99, 99], [8, 8], [8, 8], [8, 8]], np.float32)
    confidence = np.array([1, 1, 1, 0.2, 1, 1, 1], np.float32)
    assert smooth_path(places, confidence).tolist() == places.tolist()
    jump = np.array([[0, 0], [0, 0], [9, 0], [0, 0], [0, 0]], np.float32)
    assert smooth_path(jump, np.ones(5)).tolist() == np.zeros((5, 2)).tolist()  # the median takes it out
    bend = np.array([[0, 0], [0, 0], [4, 0], [4, 0]], np.float32)
    assert smooth_path(bend, np.ones(4))[:, 0].tolist() == [0, 1, 3, 4]  # a mean of 1/4, 1/2, 1/4


def test_filling_gaps_by_hand() -> None:
    nan = np.nan
    track = np.array([[nan, nan], [2, 10], [nan, nan], [4, 20], [nan, nan]], np.float32)
    assert fill_gaps(track).tolist() == [[2, 10], [2, 10], [3, 15], [4, 20], [4, 20]]


def test_any_detector_makes_a_tracker() -> None:
    def detector(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = np.tile(np.array([10, 20, 14, 30], np.float32), (len(frames), 1))
        return found, np.array([0.9, 0.49, 0.5], np.float32)

    track = drop_uncertain(*tracker_from_detector(detector)(np.zeros((3, 8, 8, 3), np.uint8)))
    assert track[0].tolist() == track[2].tolist() == [12, 25]
    assert np.isnan(track[1]).all()


def test_a_persons_box_surrounds_head_and_feet(monkeypatch: pytest.MonkeyPatch) -> None:
    joints = np.full((2, 13, 3), np.nan, np.float32)
    joints[0] = (20, 50, 0.8)
    joints[0, 0, :2] = 22, 10  # the head
    joints[0, 12, :2] = 16, 110  # an ankle
    monkeypatch.setattr(points, "find_joints", lambda frames: joints)
    found, confidence = detect_person(np.zeros((2, 4, 4, 3), np.uint8))
    assert found[0].tolist() == pytest.approx([16, 10 - 9, 22, 110 + 5])
    assert confidence.tolist() == pytest.approx([0.8, 0])


# --- patches -------------------------------------------------------------------------------------------------------
def test_patches_follow_digits_from_a_start() -> None:
    """From the true point of frame 0, which a reference patch would give."""
    for clip in clips("digits", 6)[:3]:
        found, confidence = patch_tracker(start=tuple(clip.tracks["points"][0]))(np.asarray(clip.frames))
        assert (confidence >= 0.5).all()
        assert np.linalg.norm(found - clip.tracks["points"], axis=1).max() < 1


def test_the_reference_selects_its_object(tmp_path: Path) -> None:
    """Two squares; the reference says which, at any size of picture; the one that stands still is not followed."""
    frames = square([(4 + 3 * t, 6 + 2 * t) for t in range(12)], side=12)
    other = np.zeros((16, 16, 3), np.uint8)
    other[4:12, 4:12] = (255, 0, 0)
    frames[:, 40:56, 40:56] = other
    write_picture(tmp_path / "b.png", cv2.resize(other, (64, 64), interpolation=cv2.INTER_NEAREST))
    (tmp_path / "notes.txt").write_text("not a picture")
    references = read_references(tmp_path)
    assert len(references) == 1
    found, confidence = patch_tracker(references)(frames[:8])
    assert np.abs(found - 47.5).max() < 0.3
    assert confidence.min() > 0.8
    moving, _ = patch_tracker([frames[0][4:20, 2:18]])(frames[:8])
    assert np.abs(moving - (np.array([(2 + 3 * t, 4 + 2 * t) for t in range(8)]) + 7.5)).max() < 1


def test_a_patch_that_vanishes_is_lost_for_good() -> None:
    frames = square([(10 + 2 * t, 20) for t in range(10)], side=14)
    frames[5:] = textured(64, 5)  # a cut to something else
    _, confidence = patch_tracker(start=(16.5, 26.5))(frames)
    assert (confidence[:5] >= 0.5).all()
    assert (confidence[5:] < 0.5).all()


def test_perceptual_similarity_by_hand() -> None:
    """With the picture itself as the only map: 1 - |a - b|^2 / |b|^2 at every place."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (9, 8, 3), dtype=np.uint8)
    patch = picture[3:7, 2:6]

    def features(pictures: Tensor) -> list[Tensor]:
        return [pictures]

    score = perceptual(features)(picture, patch)
    assert score.shape == (6, 5)
    assert np.unravel_index(score.argmax(), score.shape) == (3, 2)
    assert score[3, 2] == pytest.approx(1, abs=1e-5)
    a, b = picture[0:4, 1:5].astype(np.float64) / 255, patch.astype(np.float64) / 255
    assert score[0, 1] == pytest.approx(1 - ((a - b) ** 2).sum() / (b**2).sum(), abs=1e-4)


def test_perceptual_patches_follow_with_coarse_maps() -> None:
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(3, 16, 3, padding=1)

    def features(pictures: Tensor) -> list[Tensor]:
        first = convolution(pictures - 0.5).relu()
        return [first, torch.nn.functional.max_pool2d(first, 2)]

    truth = np.array([(20 + 2 * t, 20 + t) for t in range(8)]) + 7.5
    frames = square([(20 + 2 * t, 20 + t) for t in range(8)], side=16)
    found, _ = patch_tracker(start=tuple(truth[0]), similarity=perceptual(features))(frames)
    assert np.linalg.norm(found - truth, axis=1).max() < 1.5


def test_a_plain_patch_matches_nothing() -> None:
    assert (correlation(np.full((8, 8, 3), 70, np.uint8), np.full((3, 3, 3), 9, np.uint8)) <= 1).all()
    _, confidence = patch_tracker()(np.full((4, 32, 32, 3), 90, np.uint8))
    assert (confidence == 0).all()


def test_references_must_be_there(tmp_path: Path) -> None:
    refuses("is not a folder", read_references, tmp_path / "nowhere")
    refuses("no PNG, JPEG or WebP", read_references, tmp_path)


# --- OpenCV's trackers ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["csrt", "kcf", "mil"])
def test_trackers_of_opencv_follow(name: str) -> None:
    truth = np.array([(6 + 3 * t, 8 + 2 * t) for t in range(10)]) + 6.5
    found, confidence = opencv_tracker(name)(square([(6 + 3 * t, 8 + 2 * t) for t in range(10)], side=14))
    assert (confidence == 1).all()
    # KCF looks for no change of size and lags behind at the start.
    assert np.linalg.norm(found - truth, axis=1).max() < 5 < np.linalg.norm(truth - truth[0], axis=1).max()


def test_a_tracker_of_opencv_needs_something_that_moves() -> None:
    _, confidence = opencv_tracker("kcf")(np.repeat(textured(48)[None], 4, axis=0))
    assert (confidence == 0).all()
    refuses("choose from csrt, kcf, mil", opencv_tracker, "goturn")


# --- names ---------------------------------------------------------------------------------------------------------
def test_trackers_by_name(tmp_path: Path) -> None:
    assert sorted(TRACKERS) == [
        "boxes", "flow", "flow_backward", "flow_forward", "joints", "points", "points:patch", "points:person",
        "points:tracker",
    ]  # fmt: skip
    check_trackers(["flow", "points:tracker=mil"])
    assert find_tracker("points:patch")[0] == "points"
    with pytest.raises(
        StillmotionError, match="no tracker 'pose': choose from boxes, flow, flow_backward, flow_forward"
    ):
        check_trackers(["flow", "pose"])
    refuses("one track 'points'", check_trackers, ["points", "points:patch"])
    refuses("takes no value", check_trackers, ["points=3"])
    refuses("is not a folder", check_trackers, [f"points:patch={tmp_path / 'no'}"])


def test_the_track_of_a_clip_is_nan_where_unknown() -> None:
    frames = square([(4 + 3 * t, 6 + 2 * t) for t in range(14)])
    frames[6] = 255 - frames[6]
    name, tracker = find_tracker("points")
    track = tracker(frames, 25.0)
    assert (name, track.dtype, track.shape) == ("points", np.float32, (14, 2))
    assert np.isnan(track).any(axis=1).nonzero()[0].tolist() == [6]


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
