"""Roll-outs that are steered while they run: equal to the fixed form, endless, in constant memory."""

import gc
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from refusals import refuses
from stillmotion import Drive, Stroke, StrokeFrom, load, media
from stillmotion.errors import StillmotionWarning
from stillmotion.systems.base import Rollout, Step
from stillmotion.systems.strokes.animating import Strokes
from strokes_tools import TINY_FIELDS, TINY_OBJECT, TINY_STROKES, changed, spot, tiny_strokes

STILL = spot((40, 48))
ZOOMED = changed(TINY_OBJECT, generator__crop_zoom=1.5, stroke__smoothing_radius=2)
CONFIGS = {"plain": TINY_STROKES, "fields": TINY_FIELDS, "object": ZOOMED}


@pytest.fixture(scope="module")
def strokes() -> Strokes:
    return tiny_strokes()


def way(count: int, seed: int = 0) -> np.ndarray:
    """Points inside the still, from the object on."""
    steps = np.random.default_rng(seed).uniform(-1.5, 2.0, (count, 2))
    return np.clip(np.cumsum(steps, axis=0) + np.array([11, 13]), 1, (46, 38))


def take(rollout: Rollout, count: int) -> list[Step]:
    return list(islice(rollout, count))


def equal(first: list[Step], second: list[Step]) -> None:
    """Frames, layers and facts, to the last bit."""
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a.frame, b.frame)
        for name in a.facts:
            assert np.array_equal(a.facts[name], b.facts[name]), name


# --- equal to the fixed form ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", CONFIGS)
def test_points_sent_early_enough_give_the_frames_of_the_whole_stroke(name: str) -> None:
    """Four points ahead, one more for their displacement, and two for smoothing: sent nine before the end."""
    system, points = tiny_strokes(base=CONFIGS[name]), way(60)
    fixed = list(system.animate(STILL, Stroke(points)))
    assert len(fixed) == 60
    rollout, steps = system.open(STILL, Stroke(points[:20])), []
    for end in range(30, 61, 10):
        steps += take(rollout, 10)
        rollout.send(Stroke(points[end - 10 : end]))
    while not rollout.done:
        steps.append(next(rollout))
    equal(steps, fixed)


def test_the_shipped_people_as_well() -> None:
    picture = media.read_picture(Path(__file__).parents[1] / "examples" / "worlds" / "puppets.png")
    animator, points = load("strokes-puppets"), np.linspace([60, 150], [170, 150], 44)
    fixed = list(animator(picture, Stroke(points, attach=True)))
    rollout = animator.open(picture, Stroke(points[:26], attach=True))
    steps = take(rollout, 3)
    rollout.send(Stroke(points[25:], attach=True))  # attached to the end of the trajectory, which is its first point
    equal(steps + take(rollout, 41), fixed)
    assert rollout.done


def test_an_animation_is_a_rollout_to_its_end_and_repeats(strokes: Strokes) -> None:
    stroke = Stroke(way(9))
    animation = strokes.animate(STILL, stroke, layers=True)
    first, again = list(animation), list(animation)
    equal(first, again)
    assert all(np.array_equal(a.layers[k], b.layers[k]) for a, b in zip(first, again, strict=True) for k in a.layers)
    rollout = strokes.open(STILL, stroke)
    assert not rollout.done
    equal(take(rollout, 9), first)
    assert rollout.done


def test_a_control_sent_before_the_first_step_is_one_given_at_once(strokes: Strokes) -> None:
    stroke = Stroke([[2, 2], [8, 4]], attach=True)
    sent = strokes.open(STILL, frames=6)
    sent.send(stroke)
    assert not sent.done
    equal(take(sent, 6), list(strokes.animate(STILL, stroke, frames=6)))


# --- steering ------------------------------------------------------------------------------------------------------
def test_steering_changes_later_frames_only(strokes: Strokes) -> None:
    points = way(30)
    runs = []
    for end in ([45, 3], [3, 36]):
        rollout = strokes.open(STILL, Stroke(points))
        steps = take(rollout, 12)
        rollout.send(Stroke(np.linspace(points[-1], end, 10)))
        runs.append(steps + take(rollout, 28))
        assert rollout.done
    equal(runs[0][:25], runs[1][:25])  # the sent points are five steps ahead
    assert any(not np.array_equal(a.frame, b.frame) for a, b in zip(runs[0][25:], runs[1][25:], strict=True))
    assert not np.array_equal(runs[0][-1].frame, runs[1][-1].frame)
    assert runs[0][-1].facts["point"] == pytest.approx([45, 3])


def test_without_a_control_the_still_rests_until_one_is_sent(strokes: Strokes) -> None:
    rollout = strokes.open(STILL, layers=True)
    assert rollout.done
    for step in take(rollout, 3):
        assert np.array_equal(step.frame, STILL)
        assert np.array_equal(step.layers["stroke"], STILL)
        assert np.isnan(step.facts["point"]).all()
        step.frame[:] = 0  # what a caller draws on a frame is not in the next one
    rollout.send(Stroke(way(20)))
    assert not rollout.done
    moved = take(rollout, 19)  # the still was frame 0
    equal(moved, list(strokes.animate(STILL, Stroke(way(20))))[1:])
    assert rollout.done


def test_behind_the_last_point_it_holds_and_then_goes_on_from_there(strokes: Strokes) -> None:
    rollout = strokes.open(STILL, Stroke(way(8)))
    *_, last = take(rollout, 8)
    held = take(rollout, 4)
    assert rollout.done
    equal(held, [last] * 4)
    further = way(8)[-1] + np.array([[1, 1], [3, 1], [5, 1]])
    rollout.send(Stroke(further))
    assert np.allclose([step.facts["point"] for step in take(rollout, 3)], further)
    assert rollout.done


def test_points_one_by_one_as_a_pen_gives_them(strokes: Strokes) -> None:
    rollout, points = strokes.open(STILL), way(30)
    rollout.send(Stroke(points[:2]))
    take(rollout, TINY_STROKES.clip.frames)
    for point in points[2:]:
        rollout.send(Stroke([point, point + 1]))
        assert np.allclose(next(rollout).facts["point"], point)
        next(rollout)
        assert rollout.done


def test_an_attached_stroke_starts_where_the_trajectory_ends(strokes: Strokes) -> None:
    rollout = strokes.open(STILL, Stroke([[10, 12], [11, 12]]), frames=2)
    take(rollout, 2)
    rollout.send(Stroke([[30, 30], [33, 31], [35, 35]], attach=True))
    steps = take(rollout, 2)
    assert [step.facts["point"].tolist() for step in steps] == [[14, 13], [16, 17]]
    assert steps[0].facts["shift"].tolist() == [-19, -18]
    assert rollout.done


def test_times_of_a_sent_stroke_are_seconds_of_the_rollout(strokes: Strokes) -> None:
    rollout = strokes.open(STILL, Stroke([[10, 12], [11, 12]], fps=10), frames=2)
    take(rollout, 2)
    rollout.send(Stroke([[12, 12], [16, 12]], times=[0, 0.4]))
    assert [step.facts["point"][0] for step in take(rollout, 5)] == pytest.approx([12, 13, 14, 15, 16])
    assert rollout.fps == 10
    assert rollout.done


def test_without_lookahead_the_whole_stroke_is_read_again() -> None:
    """S shows all points, so a sent one changes it; times go on counting from the start."""
    system, points = tiny_strokes(stroke__lookahead=0), way(20)
    fixed = list(system.animate(STILL, Stroke(points)))
    rollout = system.open(STILL, Stroke(points[:10]))
    still = take(rollout, 1)
    rollout.send(Stroke(points[10:]))
    equal(still + take(rollout, 19), fixed)
    nexts = []
    for further in (points[10:], points[10:] + 1):
        rollout = system.open(STILL, Stroke(points[:10]))
        take(rollout, 4)
        rollout.send(Stroke(further))
        nexts.append(next(rollout).frame)
    assert not np.array_equal(*nexts)  # although the sent points are six steps ahead
    grey = tiny_strokes(stroke__encoding="grey", stroke__lookahead=0).open(STILL, Stroke(points))
    take(grey, 20)
    grey.send(Stroke(points[:13]))
    refuses("33 points cannot be drawn in grey", next, grey)


def test_what_is_sent_is_checked_and_what_leaves_the_picture_is_told(strokes: Strokes) -> None:
    rollout = strokes.open(STILL, Stroke(way(6)))
    refuses("directed by Stroke or StrokeFrom", rollout.send, Drive("wave.mp4"))
    take(rollout, 6)
    rollout.send(Stroke([[46, 20], [60, 20]]))
    with pytest.warns(StillmotionWarning, match=r"leaves the picture at frame 1 \(x 60"):
        steps = take(rollout, 2)
    assert steps[-1].facts["point"].tolist() == [47, 20]
    rollout.send(StrokeFrom(np.repeat(STILL[None], 3, 0)))
    refuses("Nothing that moves", next, rollout)
    assert rollout.done
    equal([next(rollout)], steps[-1:])  # it goes on holding


# --- endless, closed -----------------------------------------------------------------------------------------------
def alive() -> int:
    """Numbers in all tensors."""
    gc.collect()
    # `type`, since `isinstance` asks some objects for more than they like to say.
    return sum(thing.numel() for thing in gc.get_objects() if type(thing) is torch.Tensor)


@pytest.mark.slow
def test_a_thousand_steered_steps_in_constant_memory() -> None:
    """Steered all the time: ten points sent every ten steps."""
    system = tiny_strokes(base=changed(ZOOMED, size=16))
    still = spot((16, 16), 4, 5, 4)
    rollout, found = system.open(still, Stroke([[6, 7], [7, 7]]), size="model"), []
    for round_number in range(100):
        angle = np.linspace(round_number, round_number + 1, 10)
        rollout.send(Stroke(np.stack([8 + 4 * np.cos(angle), 8 + 4 * np.sin(angle)], -1)))
        take(rollout, 10)
        if round_number in (20, 99):
            found.append((alive(), len(rollout._trajectory.points), len(gc.get_objects())))  # type: ignore[attr-defined]
    (tensors, points, things), later = found
    assert (tensors, points) == later[:2]
    assert 0 < points < 40
    assert abs(later[2] - things) < 100


def test_a_fixed_stroke_needs_no_more_memory_the_longer_it_runs(strokes: Strokes) -> None:
    found = [alive() for t, _ in enumerate(strokes.animate(STILL, Stroke(way(80)))) if t in (10, 79)]
    assert found[0] == found[1] > 0


def test_a_closed_rollout_ends_and_its_video_is_closed(strokes: Strokes, tmp_path: Path) -> None:
    frames = np.stack([spot((48, 64), 4 + 3 * t, 17, 8) for t in range(9)])
    media.write_video(tmp_path / "walk.png", iter(frames), 12)
    with strokes.open(STILL, StrokeFrom(tmp_path / "walk.png")) as rollout:
        assert rollout.fps == 12
        video: Any = rollout._video  # type: ignore[attr-defined]
    assert list(video) == []
    assert take(rollout, 3) == []
    running = strokes.open(STILL, Stroke(way(9)))
    take(running, 4)
    running.close()
    running.close()
    assert take(running, 3) == []


def test_each_video_is_opened_once(strokes: Strokes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = np.stack([spot((48, 64), 4 + 3 * t, 17, 8) for t in range(9)])
    media.write_video(tmp_path / "walk.png", iter(frames), 12)
    opened, open_driver = [], media.open_driver
    monkeypatch.setattr(media, "open_driver", lambda path, *more: opened.append(path) or open_driver(path, *more))
    assert len(list(strokes.animate(STILL, StrokeFrom(tmp_path / "walk.png")))) == 9
    assert opened == [tmp_path / "walk.png"]


def test_a_stroke_from_a_video_has_its_sound_if_it_is_as_fast(
    strokes: Strokes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = np.stack([spot((48, 64), 4 + 3 * t, 17, 8) for t in range(9)])
    media.write_video(tmp_path / "walk.png", iter(frames), 12)
    sound, open_driver = media.Sound(tmp_path / "walk.png", 0.0), media.open_driver

    def loud(*options: Any) -> media.VideoReader:
        reader = open_driver(*options)
        reader.sound = sound
        return reader

    monkeypatch.setattr(media, "open_driver", loud)
    control = StrokeFrom(tmp_path / "walk.png", start=0.25)
    rollout = strokes.open(STILL, control)
    assert rollout.sound == sound
    next(rollout)
    assert rollout.length == 6
    assert strokes.open(STILL, control, frames=6).sound == sound
    for other, count in ((control, 20), (StrokeFrom(tmp_path / "walk.png", spacing="even"), None)):
        with pytest.warns(StillmotionWarning, match="the video's sound is left out"):
            assert strokes.open(STILL, other, frames=count).sound is None
