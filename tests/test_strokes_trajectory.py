"""From controls to a position per frame: resampling, trajectories that grow, strokes out of videos."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refusals import refuses
from stillmotion import Stroke, StrokeFrom, media
from stillmotion.systems.strokes import animating
from stillmotion.systems.strokes.animating import Strokes, fit_to_still, leaving, plan, resample
from stillmotion.systems.strokes.stroke_encoding import Trajectory, smooth
from strokes_tools import spot, tiny_strokes

LINE = [[0, 0], [10, 0]]
STILL = spot()


@pytest.fixture(scope="module")
def strokes() -> Strokes:
    return tiny_strokes()


# --- a place per frame, by hand ------------------------------------------------------------------------------------
def test_points_without_times_are_equal_steps_of_time() -> None:
    """Ten pixels in the first half of the time, two in the second."""
    stroke = Stroke([[0, 0], [10, 0], [10, 2]])
    assert resample(stroke, 5).tolist() == [[0, 0], [5, 0], [10, 0], [10, 1], [10, 2]]


def test_times_say_when_each_point_is_reached() -> None:
    stroke = Stroke([[0, 0], [10, 0], [10, 2]], times=[1, 2, 5])  # seconds 1, 2, 3, 4, 5
    assert resample(stroke, 5) == pytest.approx(
        np.array([[0, 0], [10, 0], [10, 2 / 3], [10, 4 / 3], [10, 2]]), abs=1e-12
    )


def test_even_spacing_goes_at_one_speed_whatever_the_times_say() -> None:
    """Twelve pixels of way in four steps of three."""
    for times in (None, [0, 1, 9]):
        stroke = Stroke([[0, 0], [9, 0], [9, 3]], times=times, spacing="even")
        assert resample(stroke, 5) == pytest.approx(np.array([[0, 0], [3, 0], [6, 0], [9, 0], [9, 3]]))


def test_points_given_twice_do_not_disturb_even_spacing_and_are_a_rest_in_time() -> None:
    points = [[0, 0], [0, 0], [4, 0], [4, 0], [8, 0]]
    assert resample(Stroke(points, spacing="even"), 3).tolist() == [[0, 0], [4, 0], [8, 0]]
    assert resample(Stroke(points), 5).tolist() == points


@pytest.mark.parametrize("spacing", ["time", "even"])
def test_a_stroke_without_length_rests(spacing: Any) -> None:
    assert resample(Stroke([[3, 4], [3, 4]], spacing=spacing), 4).tolist() == [[3, 4]] * 4
    assert resample(Stroke([[3, 4], [9, 9]], spacing=spacing), 1).tolist() == [[3, 4]]


def test_no_frames_are_a_programming_mistake() -> None:
    refuses("at least 1", resample, Stroke(LINE), 0, error=ValueError)


def test_how_many_frames_a_stroke_asks_for() -> None:
    assert len(plan(Stroke(LINE), None, fps=10, least=17)) == 17  # two points: as long as a training clip
    assert len(plan(Stroke([[i, 0] for i in range(30)]), None, fps=10, least=17)) == 30  # one per point
    assert len(plan(Stroke(LINE, times=[3, 5]), None, fps=10, least=17)) == 21  # two seconds, both ends included
    assert len(plan(Stroke(LINE, times=[0, 0.001]), None, fps=10, least=17)) == 2


# --- properties ----------------------------------------------------------------------------------------------------

PLACES = st.lists(st.tuples(*[st.floats(-500, 500).map(lambda x: round(x, 3))] * 2), min_size=2, max_size=12)


@settings(max_examples=40, deadline=None)
@given(points=PLACES, frames=st.integers(2, 40), spacing=st.sampled_from(["time", "even"]))
def test_a_resampled_stroke_starts_ends_and_stays_on_the_way(points: Any, frames: int, spacing: Any) -> None:
    made = resample(Stroke(points, spacing=spacing), frames)
    way = np.array(points, float)
    assert made[0] == pytest.approx(way[0])
    assert made[-1] == pytest.approx(way[-1])
    start, step = way[:-1], np.diff(way, axis=0)
    off = made[:, None] - start
    along = np.clip((off * step).sum(-1) / np.maximum((step**2).sum(-1), 1e-12), 0, 1)
    assert np.linalg.norm(off - along[..., None] * step, axis=-1).min(axis=1).max() < 1e-6


@settings(max_examples=40, deadline=None)
@given(points=PLACES, frames=st.integers(2, 40))
def test_even_spacing_never_goes_faster_than_the_way_over_the_steps(points: Any, frames: int) -> None:
    length = np.linalg.norm(np.diff(np.array(points, float), axis=0), axis=1).sum()
    steps = np.linalg.norm(np.diff(resample(Stroke(points, spacing="even"), frames), axis=0), axis=1)
    assert steps.max() <= length / (frames - 1) + 1e-6


@settings(max_examples=25, deadline=None)
@given(points=PLACES, spacing=st.sampled_from(["time", "even"]), frames=st.integers(2, 20))
def test_a_stroke_backwards_is_the_same_places_backwards(points: Any, spacing: Any, frames: int) -> None:
    ahead = resample(Stroke(points, spacing=spacing), frames)
    back = resample(Stroke(points[::-1], spacing=spacing), frames)
    assert back[::-1] == pytest.approx(ahead, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(points=PLACES)
def test_as_many_frames_as_points_give_the_points(points: Any) -> None:
    assert resample(Stroke(points), len(points)) == pytest.approx(np.array(points, float), abs=1e-9)


# --- trajectories --------------------------------------------------------------------------------------------------
def walk(count: int, seed: int = 0) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).normal(size=(count, 2)), axis=0)


@pytest.mark.parametrize("radius", [0, 1, 3])
@pytest.mark.parametrize("keep_all", [True, False])
def test_a_trajectory_that_grows_early_is_the_one_that_was_known_at_once(radius: int, keep_all: bool) -> None:
    """Pieces of seven points, each long before the object comes near the end."""
    points = walk(70)
    whole = Trajectory(points, radius, keep_all)
    grown, place, origin = Trajectory(points[:28], radius, keep_all), [], whole.origin
    for t in range(70):
        if t % 7 == 0 and 28 + t < 70:
            grown.append(points[28 + t : 35 + t])
        place.append(grown.path[grown.index])
        assert np.array_equal(grown.path[grown.index + 1 :][:8], whole.path[t + 1 :][:8])
        grown.index += 1
    assert np.array_equal(np.stack(place), whole.path)
    assert np.array_equal(whole.path, smooth(points, radius))
    assert np.array_equal(grown.origin, origin)
    assert (len(grown.points) == 70) == (keep_all or (radius == 0 and len(grown.points) == 70))


def test_a_trajectory_keeps_what_smoothing_needs_and_nothing_more() -> None:
    trajectory = Trajectory(walk(10), 3, keep_all=False)
    for _ in range(500):
        while not trajectory.arrived:
            trajectory.index += 1
        trajectory.append(walk(5))
        assert len(trajectory.points) == len(trajectory.path) == 2 * 3 + 1 + 5


def test_points_that_come_late_change_only_the_path_ahead() -> None:
    """With the object at the end: its place, which was fitted without them, stays."""
    trajectory = Trajectory(walk(12), 3, keep_all=True)
    trajectory.index = 11
    before = trajectory.path.copy()
    trajectory.append(walk(12, seed=1) + 5)
    assert np.array_equal(trajectory.path[:12], before)
    assert not np.array_equal(smooth(trajectory.points, 3)[11], before[11])
    assert np.array_equal(trajectory.path[12:], smooth(trajectory.points, 3)[12:])
    assert not trajectory.arrived


def test_a_stroke_spread_over_one_frame_is_its_start_and_too_many_frames_are_refused() -> None:
    assert plan(Stroke(LINE), 1, 25.0, 5).tolist() == [[0, 0]]
    assert plan(Stroke([[10, 12], [24, 20]]), 3, 25.0, 5).tolist() == [[10, 12], [17, 16], [24, 20]]
    refuses("asks for 100001 frames, more than 100000", plan, Stroke(LINE), 100_001, 25.0, 5)


def test_up_to_the_border_pixels_edge_is_inside() -> None:
    corners = np.array([[-0.5, -0.5], [31.5, 31.5]])
    assert leaving(corners, (32, 32)) is None
    assert leaving(corners, (32, 31)) is not None


# --- strokes out of videos -----------------------------------------------------------------------------------------
def walking(frames: int = 12, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A square that goes 3 pixels to the right per frame, its centre first at (7.5, 20.5)."""
    return np.stack([spot(size, 4 + 3 * t, 17, 8) for t in range(frames)])


def test_a_stroke_is_taken_from_another_video(strokes: Strokes, tmp_path: Path) -> None:
    media.write_video(tmp_path / "walk.png", iter(walking()), 10)
    still = spot((96, 128), 10, 30, 16)  # twice the video's size
    for video in (walking(), tmp_path / "walk.png"):
        animation = strokes.animate(still, StrokeFrom(video), size="model")
        points = np.stack([step.facts["point"] for step in animation])
        expected = np.stack([2 * (7.5 + 3 * np.arange(12) + 0.5) - 0.5, np.full(12, 2 * 21 - 0.5)], 1)
        assert points == pytest.approx(expected, abs=2.0)
        assert animation.fps == (25 if isinstance(video, np.ndarray) else 10)


def test_a_stroke_from_a_video_may_be_attached_spread_and_made_even(strokes: Strokes) -> None:
    control = StrokeFrom(walking(), spacing="even", attach=True, fps=5)
    animation = strokes.animate(STILL, control, frames=4, size="model")
    points = np.stack([step.facts["point"] for step in animation])
    assert points[0] == pytest.approx([10.5, 12.5])
    assert animation.fps == 5
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    assert steps == pytest.approx(steps[0] * np.ones(3), abs=1e-6)
    # 33 pixels of the video, of which 32 / 64 is a pixel of the still.
    assert steps.sum() == pytest.approx(16.5, abs=1)


def test_a_video_in_which_nothing_moves_gives_no_stroke(strokes: Strokes) -> None:
    refuses("Nothing that moves", list, strokes.animate(STILL, StrokeFrom(np.repeat(STILL[None], 6, 0))))
    refuses("one frame", list, strokes.animate(STILL, StrokeFrom(STILL[None])))


def test_a_stroke_may_come_from_another_tracker(strokes: Strokes) -> None:
    control = StrokeFrom(walking(), tracker="points:tracker=csrt")
    points = np.stack([step.facts["point"] for step in strokes.animate(spot((48, 64)), control, size="model")])
    truth = np.stack([7.5 + 3 * np.arange(12), np.full(12, 20.5)], 1)
    assert 0.3 < np.abs(points - truth).max() < 2  # `points` itself is exact here
    for tracker, word in (("flow", "makes flow, not points"), ("points:nose", "no tracker")):
        refuses(word, list, strokes.animate(STILL, StrokeFrom(walking(), tracker=tracker)))


def test_a_large_video_is_tracked_small_and_laid_over_the_still() -> None:
    assert animating._shrink(np.zeros((300, 600, 3), np.uint8)).shape == (64, 128, 3)
    # A video of 10 x 20 pixels over a still of 40 x 40: doubled, with ten rows above.
    found = fit_to_still(np.array([[0.0, 0.0], [19.0, 9.0]]), (10, 20), (40, 40))
    assert found.tolist() == [[0.5, 10.5], [38.5, 28.5]]
