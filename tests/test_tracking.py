"""Trackers on rendered clips with exact ground truth, and their calibration."""

import math
import runpy
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from refusals import refuses
from stillmotion.data.clip import Clip
from stillmotion.data.points import drop_uncertain
from stillmotion.evaluation.trackers.calibration import (
    TRACKERS,
    add_surface_points,
    by_points,
    measure_tracker,
    true_background,
)
from stillmotion.evaluation.trackers.tracking import track_object, track_points
from stillmotion.worlds import WORLDS

SIDE = 17
SIZE = 64


def texture(size: int, seed: int, blur: float, around: float) -> np.ndarray:
    noise = cv2.GaussianBlur(np.random.default_rng(seed).uniform(0, 255, (size, size, 3)), (0, 0), blur)
    return ((noise - 128) * 2 + around).astype(np.float32)


def centres(frames: int, step: tuple[float, float], start: tuple[float, float] = (14.0, 20.0)) -> np.ndarray:
    return np.array(start) + np.arange(frames)[:, None] * np.array(step)


def moving_square(path: np.ndarray, noise: float = 2.0, seed: int = 0) -> Clip:
    """A textured square over a textured background, its centre on a path of fractions of pixels."""
    background, square = texture(SIZE, seed, 2, 90), texture(SIDE, seed + 1, 1.2, 180)
    rng = np.random.default_rng(seed + 2)
    frames, masks = [], []
    for x, y in path:
        move = np.array([[1, 0, x - SIDE // 2], [0, 1, y - SIDE // 2]])
        drawn = cv2.warpAffine(square, move, (SIZE, SIZE))
        cover = cv2.warpAffine(np.ones((SIDE, SIDE), np.float32), move, (SIZE, SIZE))
        frame = background * (1 - cover[..., None]) + drawn
        frames.append(np.clip(frame + rng.normal(0, noise, frame.shape), 0, 255).astype(np.uint8))
        masks.append(np.where(cover >= 0.5, 255, 0).astype(np.uint8))
    half = SIDE // 2
    mask = np.stack(masks)
    steps = np.diff(path, axis=0)[:, None, None].astype(np.float16)
    tracks = {
        "points": path.astype(np.float32),
        "box": np.concatenate([path - half, path + half], axis=1).astype(np.float32),
        "mask": mask,
        "flow_forward": (mask[:-1, ..., None] > 0) * steps,
        "flow_backward": (mask[1:, ..., None] > 0) * -steps,
    }
    return Clip(f"square-{seed}", np.stack(frames), 25.0, tracks)


# --- points --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("step", "seed"), [((1.3, 0.4), 0), ((0.37, 0.81), 10), ((2.6, -0.9), 20)])
def test_points_of_a_square_that_moves_by_parts_of_a_pixel(step: tuple[float, float], seed: int) -> None:
    path = centres(12, step)
    clip = moving_square(path, seed=seed)
    offsets = np.array([(0.0, 0.0), (-3.0, 2.5), (2.25, -3.5)])
    found, confidence = track_points(clip.frames, path[0] + offsets)
    assert found.shape == (12, 3, 2)
    assert confidence.shape == (12, 3)
    assert found.dtype == confidence.dtype == np.float32
    error = np.linalg.norm(found - (path[:, None] + offsets), axis=-1)
    assert error[0].max() < 1e-5
    assert np.median(error) < 0.15
    assert error.max() < 0.4
    assert confidence.min() > 0.8


def test_drift_stays_bounded() -> None:
    """Along a path of 40 steps and back, the last error is no larger than the first ones."""
    there = centres(20, (1.7, 0.6), (12.0, 20.0))
    path = np.concatenate([there, there[::-1]])
    clip = moving_square(path, noise=4.0)
    found, _ = track_points(clip.frames, path[:1])
    error = np.linalg.norm(found[:, 0] - path, axis=-1)
    assert error[-5:].max() < 0.25
    assert error.max() < 0.4


def test_points_of_the_background_rest() -> None:
    clip = moving_square(centres(8, (1.0, 0.0)))
    start = np.array([[50.0, 50.0], [8.5, 55.25]])
    found, confidence = track_points(clip.frames, start)
    assert np.abs(found - start).max() < 0.15
    assert confidence.min() > 0.8


def test_a_point_that_is_gone_has_low_confidence() -> None:
    """The square vanishes after four frames; and another point leaves the picture."""
    path = centres(8, (1.0, 0.0))
    clip = moving_square(path)
    empty = moving_square(np.full((4, 2), 500.0))
    _, confidence = track_points(np.concatenate([clip.frames[:4], empty.frames]), path[:1])
    assert confidence[:4].min() > 0.8
    assert confidence[4:].max() < 0.5
    leaving = centres(12, (-2.5, 0.0), (14.0, 30.0))
    found, confidence = track_points(moving_square(leaving).frames, leaving[:1])
    assert confidence[:3].min() > 0.8
    assert confidence[-3:].max() < 0.5
    assert np.isnan(drop_uncertain(found, confidence)[-1]).all()
    assert not np.isnan(drop_uncertain(found, confidence)[:3]).any()


def test_a_point_outside_the_picture_has_no_confidence() -> None:
    """The camera pans: the flow stays good at the border, and still nothing is known beyond it."""
    wide = np.clip(texture(SIZE + 40, 3, 2, 120), 0, 255).astype(np.uint8)[:SIZE]
    frames = np.stack([wide[:, 2 * t : 2 * t + SIZE] for t in range(8)])
    found, confidence = track_points(frames, np.array([[7.0, 30.0], [40.0, 30.0]]))
    outside = found[:, 0, 0] < 0
    assert outside[-1]
    assert (confidence[outside, 0] == 0).all()
    assert confidence[:, 1].min() > 0.8


def test_flow_alone_is_confident_at_a_changing_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing matches here, so confidence comes from forward and backward flow of the same step."""
    monkeypatch.setattr("stillmotion.evaluation.trackers.tracking._MIN_CORRELATION", 2.0)
    path = np.stack([14 + np.array([0, 0, 0, 0.5, 2, 5, 8.5, 12]), np.full(8, 30.0)], axis=1)
    found, confidence = track_points(moving_square(path).frames, path[:1])
    assert np.linalg.norm(found[:, 0] - path, axis=1).max() < 0.6
    assert confidence.min() > 0.8


def test_a_point_does_not_slide_along_an_edge() -> None:
    """A straight edge matches itself everywhere along its length."""
    frames = np.full((6, SIZE, SIZE, 3), 40, np.uint8)
    for t in range(6):
        frames[t, :, 20 + t :] = 200
    found, _ = track_points(frames, np.array([[20.0, 30.0]]))
    assert np.abs(found[:, 0] - (centres(6, (1.0, 0.0), (20.0, 30.0)))).max() < 0.5


def test_a_faint_patch_is_not_found_again() -> None:
    """Three grey levels of pattern are no proof that the point is back."""
    strong = np.clip(texture(SIZE, 5, 1, 120), 0, 255)
    for contrast, back in ((0.05, False), (0.5, True)):
        pattern = 120 + contrast * (texture(SIZE, 4, 1, 128) - 128)
        frames = np.stack([pattern, strong, pattern]).round().clip(0, 255).astype(np.uint8)
        _, confidence = track_points(frames, np.array([[30.0, 30.0]]))
        assert confidence[1] < 0.5
        assert confidence[2] > 0.8 if back else confidence[2] < 0.5


def test_one_frame_no_point_and_a_point_outside() -> None:
    frames = moving_square(centres(2, (1.0, 0.0))).frames
    found, confidence = track_points(frames[:1], np.array([[3.0, 4.0], [-2.0, 4.0]]))
    assert found.tolist() == [[[3, 4], [-2, 4]]]
    assert confidence.tolist() == [[1, 0]]
    found, confidence = track_points(frames, np.zeros((0, 2)))
    assert found.shape == (2, 0, 2)
    assert confidence.shape == (2, 0)


def test_a_picture_without_contrast_leaves_points_where_they_are() -> None:
    grey = np.full((4, 32, 32, 3), 90, np.uint8)
    found, _ = track_points(grey, np.array([[10.5, 20.0]]))
    assert np.abs(found - [10.5, 20.0]).max() < 0.01


@pytest.mark.parametrize("points", [np.zeros((2, 3)), np.zeros(2), np.array([[np.nan, 1.0]])])
def test_other_points_are_refused(points: np.ndarray) -> None:
    refuses("N x 2 finite", track_points, np.zeros((2, 32, 32, 3), np.uint8), points, error=ValueError)


def test_other_frames_are_refused() -> None:
    refuses("float64", track_points, np.zeros((2, 32, 32, 3)), np.zeros((1, 2)), error=ValueError)


# --- objects --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("way", ["box", "mask", "background"])
def test_the_centre_of_a_square(way: str) -> None:
    path = centres(12, (1.9, 0.7))
    clip = moving_square(path)
    given = {
        "box": clip.tracks["box"][0],
        "mask": clip.tracks["mask"][0],
        "background": moving_square(np.full((1, 2), 500.0)).frames[0],
    }
    found = track_object(clip.frames, **{way: given[way]})
    error = np.linalg.norm(found - path, axis=1)
    # A box around pixels knows whole pixels only.
    assert error.max() < (1.0 if way == "background" else 0.35)


def test_a_camera_that_moves_does_not_disturb_box_and_mask() -> None:
    """The picture shifts as a whole: the object moves with it."""
    path = centres(8, (0.0, 0.0), (30.0, 30.0))
    clip = moving_square(path, noise=0.0)
    rolled = np.stack([np.roll(frame, 2 * t, axis=1) for t, frame in enumerate(clip.frames)])
    found = track_object(rolled, box=clip.tracks["box"][0])
    assert np.abs(found - (path + np.arange(8)[:, None] * [2, 0])).max() < 0.35


def test_an_object_that_is_gone_is_lost() -> None:
    clip = moving_square(centres(4, (1.0, 0.0)))
    empty = moving_square(np.full((3, 2), 500.0))
    frames = np.concatenate([clip.frames, empty.frames])
    by_box = track_object(frames, box=clip.tracks["box"][0])
    by_background = track_object(frames, background=empty.frames[0])
    for found in (by_box, by_background):
        assert not np.isnan(found[:4]).any()
        assert np.isnan(found[-1]).all()


def test_objects_are_given_in_one_way() -> None:
    frames, box = np.zeros((2, 32, 32, 3), np.uint8), np.array([2, 2, 9, 9])
    refuses("exactly one", track_object, frames, error=ValueError)
    refuses("exactly one", track_object, frames, error=ValueError, box=box, mask=np.ones((32, 32)))
    refuses("not empty", track_object, frames, error=ValueError, mask=np.zeros((32, 32)))
    refuses("x0 <= x1", track_object, frames, error=ValueError, box=box[::-1])
    refuses("outside", track_object, frames, error=ValueError, box=box + 90)
    refuses("background must be", track_object, frames, error=ValueError, background=np.zeros((16, 32, 3), np.uint8))


# --- calibration ------------------------------------------------------------------------------------
def off_by(*distances: float) -> object:
    """A tracker that is off by these many pixels in the frames after the first, confident in every second one."""

    def tracker(clip: Clip, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        truth = clip.tracks["points"][:, None].repeat(len(starts), 1).astype(float)
        truth[1:, :, 0] += np.array(distances)[:, None]
        return truth, np.where(np.arange(len(truth)) % 2, 0.9, 0.1)[:, None].repeat(len(starts), 1)

    return tracker


def test_the_error_of_a_known_tracker() -> None:
    clip = moving_square(centres(5, (3.0, 4.0)))
    found = measure_tracker([clip], "points", off_by(1, 2, 3, 4))
    assert (found.positions, found.last, found.last_high) == (4, 4, 4)
    assert (found.median, found.high) == (2, 3)  # the lower of two neighbours
    assert (found.confident, found.high_confident) == (0.5, 1)
    assert found.moved == pytest.approx(10)
    assert measure_tracker([clip, clip], "points", off_by(1, 2, 3, math.nan)).last == math.inf


def test_only_what_is_visible_counts() -> None:
    clip = moving_square(centres(4, (1.0, 0.0)))
    seen = np.ones((4, 3, 1), np.float32)
    seen[2, 0] = 0  # hidden once
    seen[0, 1] = 0  # not there to be followed
    places = clip.tracks["points"][:, None].repeat(3, 1).copy()
    places[3, 2] = (900, 3)  # out of the picture
    clip = replace(clip, tracks={**clip.tracks, "joints": np.concatenate([places, seen], axis=-1)})
    found = measure_tracker([clip], "joints", off_by(1, 1, 1))
    assert found.positions == 2 + 2
    assert found.high == 1


def test_trackers_on_squares_and_their_surface() -> None:
    clips = [add_surface_points(moving_square(centres(6, (1.5, 0.5)), seed=seed), 9) for seed in (0, 10)]
    surface = clips[0].tracks["surface"]
    assert surface.shape == (6, 9, 3)
    assert np.allclose(surface[:, :, :2] - surface[:1, :, :2], (np.arange(6)[:, None] * [1.5, 0.5])[:, None])
    assert surface[0, :, 2].all()
    assert measure_tracker(clips, "surface").median < 0.2
    for name, tracker in TRACKERS.items():
        found = measure_tracker(clips, "points", tracker)
        assert found.positions == 10, name
        assert found.median < (1.0 if name == "background" else 0.2), name
        assert found.moved > 3


def test_a_hidden_point_leaves_the_surface() -> None:
    clip = moving_square(centres(4, (1.0, 0.0)))
    backward = clip.tracks["flow_backward"].copy()
    backward[1, :, :20] = 0  # from frame 2 on, the square's left half is said to have been elsewhere
    track = add_surface_points(replace(clip, tracks={**clip.tracks, "flow_backward": backward})).tracks["surface"]
    left, right = track[2, :, 0] < 18, track[2, :, 0] > 21
    assert left.any()
    assert right.any()
    assert track[1, :, 2].all()
    assert not track[2:, left, 2].any()
    assert track[2:, right, 2].all()


def test_a_point_at_the_outline_leaves_the_surface() -> None:
    """The mask shrinks by two columns: there the flow would mix with that of the background."""
    clip = moving_square(centres(3, (0.0, 0.0)))
    mask = clip.tracks["mask"].copy()
    mask[1:, :, :9] = 0
    track = add_surface_points(replace(clip, tracks={**clip.tracks, "mask": mask}), 100).tracks["surface"]
    near = track[0, :, 0] < 9
    assert near.any()
    assert not track[1:, near, 2].any()
    assert track[:, ~near, 2].all()


def test_the_true_background_is_what_the_mask_leaves() -> None:
    path = centres(9, (4.0, 0.0), (9.0, 30.0))
    clip = moving_square(path, noise=0.0)
    empty = moving_square(np.full((1, 2), 500.0), noise=0.0).frames[0].astype(int)
    inside = true_background(clip)[:, 2:50].astype(int)
    assert np.median(np.abs(inside - empty[:, 2:50])) == 0
    assert np.quantile(np.abs(inside - empty[:, 2:50]), 0.99) < 30


def test_clips_that_cannot_be_measured() -> None:
    clip = moving_square(centres(2, (1.0, 0.0)))
    refuses("no track 'joints'", measure_tracker, [clip], "joints", by_points)
    short = Clip("short", clip.frames[:1], 25.0, {"points": clip.tracks["points"][:1]})
    for clips in ([], [short]):
        refuses("longer clips", measure_tracker, clips, "points")


def test_the_benchmark_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    script = Path(__file__).parents[1] / "benchmarks" / "tracker_error.py"
    benchmark = runpy.run_path(str(script))
    benchmark["main"]("plants", 64, 1, frames=4)
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| `")]
    assert len(rows) == len(benchmark["ROWS"]["plants"])
    assert rows[0].startswith("| `surface` | points |")
    assert set(benchmark["ROWS"]) == set(WORLDS)
