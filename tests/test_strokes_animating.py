"""From a still and a stroke to frames: what moves, what stays, where the object is found, how long it may go on."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stillmotion.controls import Drive, Stroke, StrokeFrom
from stillmotion.systems.strokes.composing import Canvas, Change, changed, compose, distance_to_way
from stillmotion.systems.strokes.planning import Plan, laid_over, make_plan

from stillmotion import media
from stillmotion.data.object_detection import find_object, reachable
from stillmotion.errors import StillmotionError, StillmotionWarning
from stillmotion.systems.strokes import composing, drawing, planning
from stillmotion.systems.strokes.animating import Strokes
from stillmotion.systems.strokes.networks import Drawn
from strokes_tools import spot, tiny_strokes

STILL = spot()
STROKE = Stroke([[10, 12], [24, 20]])


@pytest.fixture(scope="module")
def strokes() -> Strokes:
    return tiny_strokes()


# --- frames --------------------------------------------------------------------------------------------------------


def plain(frame: torch.Tensor) -> Drawn:
    """A frame that is all painted."""
    return Drawn(frame, frame, None)


def test_the_first_frame_is_the_still_and_the_rest_are_the_networks_own(strokes: Strokes) -> None:
    """What `model` gives is the networks' roll-out from their own states, frame by frame."""
    frames = strokes.animate(STILL, STROKE, frames=4, size="model").frames()
    assert np.array_equal(frames[0], STILL)
    networks = strokes.networks
    points = torch.tensor([[[10 + 14 * t / 3, 12 + 8 * t / 3] for t in range(4)]])
    with torch.no_grad():
        context = networks.begin(drawing.to_frames(STILL[None]), points, fast=False)
        state = context.initial
        for t in range(3):
            state, frame = networks.advance(context, state, t)
            assert np.abs(drawing.to_picture(frame).astype(int) - frames[t + 1]).max() <= 1
    assert np.abs(frames[2].astype(int) - frames[1]).max() > 0


@pytest.mark.parametrize("count", [1, 2, 24])
def test_any_number_of_frames(strokes: Strokes, count: int) -> None:
    steps = list(strokes.animate(STILL, STROKE, frames=count, layers=True))
    assert len(steps) == count
    assert steps[-1].facts["point"] == pytest.approx([24, 20] if count > 1 else [10, 12])


def test_the_stroke_says_how_many_frames_if_nobody_does(strokes: Strokes) -> None:
    assert sum(1 for _ in strokes.animate(STILL, STROKE, size="model")) == strokes.config.frames
    timed = Stroke([[10, 12], [24, 20]], times=[0, 1], fps=6)
    animation = strokes.animate(STILL, timed, size="model")
    assert animation.fps == 6
    assert sum(1 for _ in animation) == 7


def test_long_animations_need_no_more_memory_than_short_ones(strokes: Strokes) -> None:
    """Tensors alive while frames stream: those of one step, whatever came before."""
    alive = []
    for t, _ in enumerate(strokes.animate(STILL, STROKE, frames=80)):
        if t in (10, 79):
            gc.collect()
            # `type`, since `isinstance` asks some objects for more than they like to say.
            alive.append(sum(thing.numel() for thing in gc.get_objects() if type(thing) is torch.Tensor))
    assert t == 79
    assert alive[0] == alive[1] > 0


def test_the_same_stroke_gives_the_same_frames_and_another_gives_others(strokes: Strokes) -> None:
    torch.manual_seed(3)
    first = strokes.animate(STILL, STROKE, seed=1).frames()
    torch.rand(7)
    assert np.array_equal(first, strokes.animate(STILL, STROKE, seed=2).frames())
    other = strokes.animate(STILL, Stroke([[10, 12], [24, 4]])).frames()
    assert not np.array_equal(first[-1], other[-1])
    animation = strokes.animate(STILL, STROKE)
    assert np.array_equal(animation.frames(), animation.frames())


def test_points_are_given_in_pixels_of_the_still(strokes: Strokes) -> None:
    """A still twice as large with its stroke twice as large (between the same pixels' edges) is the same question."""
    large = np.repeat(np.repeat(STILL, 2, 0), 2, 1)
    doubled = Stroke(2 * (np.asarray(STROKE.points) + 0.5) - 0.5)
    small, big = (
        strokes.animate(still, stroke, frames=3, size="model").frames()[-1].astype(int)
        for still, stroke in ((STILL, STROKE), (large, doubled))
    )
    # Shrinking is not quite the opposite of doubling.
    assert np.abs(small - big).mean() < 1.5
    assert Canvas.prepare(large, 32).to_network(np.asarray(doubled.points))[0].tolist() == [[10, 12], [24, 20]]


def test_convention_networks_of_strokes_see_minus_one_to_one(
    strokes: Strokes, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(Strokes, "ready", lambda system: system)
    first = strokes.networks.encoder.layers[0]
    handle = first.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    still = np.stack([np.zeros((8, 4), np.uint8), np.full((8, 4), 255, np.uint8), np.full((8, 4), 51, np.uint8)], -1)
    list(strokes.animate(still, Stroke([[0, 0], [3, 3]]), frames=2))
    handle.remove()
    (made,) = seen
    assert made.shape == (1, 3, 32, 32)
    assert made.amax((2, 3))[0].tolist() == pytest.approx([-1, 1, -0.6])
    assert made.amin((2, 3))[0].tolist() == pytest.approx([-1, 1, -0.6])


def test_a_still_that_is_not_square_is_padded(strokes: Strokes) -> None:
    canvas = Canvas.prepare(spot((32, 64)), 32)  # 16 rows above and below
    assert canvas.to_network(np.array([[0.5, 0.5]])).tolist() == [[[0.0, 8.0]]]
    assert strokes.animate(spot((20, 50)), Stroke([[10, 12], [24, 18]]), frames=2).frames().shape == (2, 20, 50, 3)


def test_bf16_changes_little() -> None:
    exact, rough = tiny_strokes(), tiny_strokes()
    rough.precision = "bf16"
    a, b = (system.animate(STILL, STROKE, size="model").frames().astype(int) for system in (exact, rough))
    assert 0 < np.abs(a - b).mean() < 3
    assert not torch.is_autocast_enabled("cpu")


def test_folding_the_spectral_norm_changes_nothing_but_rounding() -> None:
    system = tiny_strokes(generator_norm="spectral", composite=False, painted_weight=0.0)
    with torch.no_grad():
        points = torch.tensor([[[10.0, 12.0], [24.0, 20.0]]])
        frames = []
        for networks in (system.networks, system.ready().networks):
            context = networks.begin(drawing.to_frames(STILL[None]), points)
            frames.append(networks.advance(context, context.initial, 0)[1])
    assert torch.allclose(frames[0], frames[1], atol=1e-4)


def test_layers_and_facts_explain_each_frame(strokes: Strokes) -> None:
    still = spot((40, 60))
    step = list(strokes.animate(still, STROKE, frames=3, layers=True))[1]
    assert set(step.layers) == {"stroke", "coding", "change"}
    assert step.layers["stroke"].shape == still.shape
    assert step.facts["point"].tolist() == [17, 16]
    assert step.facts["change"].shape == (32, 32)
    assert not list(strokes.animate(still, STROKE, frames=3))[1].layers


@pytest.mark.parametrize(
    ("options", "word"), [({"frames": 0}, "frames"), ({"size": "huge"}, "size"), ({"frames": 100_001}, "100000")]
)
def test_an_option_that_cannot_be_is_refused(strokes: Strokes, options: dict[str, Any], word: str) -> None:
    with pytest.raises(StillmotionError, match=word):
        list(strokes.animate(STILL, STROKE, **options))


def test_the_control_of_another_system_is_refused(strokes: Strokes) -> None:
    with pytest.raises(StillmotionError, match="directed by Stroke, not by Drive"):
        strokes.animate(STILL, Drive("wave.mp4"))


def test_the_rate_is_that_of_the_training_clips() -> None:
    assert tiny_strokes().animate(STILL, STROKE).fps == 25
    assert tiny_strokes(card={"fps": 10.0}).animate(STILL, STROKE).fps == 10
    assert tiny_strokes(card={"fps": 10.0}, frame_step=2).animate(STILL, STROKE).fps == 5
    assert tiny_strokes(card={"fps": 10.0}).animate(STILL, Stroke(STROKE.points, fps=30)).fps == 30


# --- what stays ----------------------------------------------------------------------------------------------------


def painted(size: int, boxes: list[tuple[int, int, int, int]], composite: bool) -> Drawn:
    """White in the boxes (x0, y0, x1, y1, ends exclusive), black elsewhere; with a blend that keeps the rest."""
    frame, keep = torch.full((1, 3, size, size), -1.0), torch.ones(1, 1, size, size)
    for x0, y0, x1, y1 in boxes:
        frame[..., y0:y1, x0:x1] = 1
        keep[..., y0:y1, x0:x1] = 0
    return Drawn(frame, frame, keep if composite else None)


BLACK = torch.full((1, 3, 32, 32), -1.0)


@pytest.mark.parametrize("composite", [True, False])
def test_what_is_not_connected_with_the_way_does_not_change(composite: bool) -> None:
    """A white block on the way, and another far away, which the networks made up."""
    change = Change(BLACK, BLACK, torch.tensor([[6.0, 6.0], [10.0, 6.0], [14.0, 6.0]]))
    drawn = painted(32, [(8, 4, 12, 9), (24, 24, 28, 28)], composite)
    weight = change.weigh(drawn, 0)
    assert (weight[..., 4:9, 8:12] == 1).all()
    assert not weight[..., 18:, 18:].any()


def test_a_faint_veil_around_what_moved_does_not_show() -> None:
    """A blend that paints 3 % of every pixel would make the background swim."""
    drawn = painted(32, [(8, 4, 12, 9)], True)
    assert drawn.keep is not None
    veiled = drawn._replace(keep=drawn.keep.clamp(max=0.97))
    weight = Change(BLACK, BLACK, torch.tensor([[6.0, 6.0], [10.0, 6.0]])).weigh(veiled, 0)
    assert int((weight > 0).sum()) == 4 * 5


def test_a_blend_that_keeps_half_of_everything_shows_only_what_changed() -> None:
    """Nothing in training makes G keep what it can paint as well."""
    drawn = painted(32, [(8, 4, 12, 9)], True)
    assert drawn.keep is not None
    halves = drawn._replace(keep=torch.full_like(drawn.keep, 0.5))
    weight = Change(BLACK, BLACK, torch.tensor([[6.0, 6.0], [10.0, 6.0]])).weigh(halves, 0)
    assert (weight[..., 4:9, 8:12] == 0.5).all()
    assert not weight[..., 14:].any()
    assert not weight[..., 14:, :].any()


def test_a_faint_trail_does_not_carry_the_change_to_the_other_side() -> None:
    """Below half of a change nothing is passed on; beside a clear one the faint shows."""
    frame = BLACK.clone()
    frame[..., 4:9, 8:12] = 1
    frame[..., 6, 12:] = BLACK[..., 0, 12:] + 2 * (composing.CHANGE_FROM + 0.3 * 0.08)  # three tenths of a change
    weight = Change(BLACK, BLACK, torch.tensor([[6.0, 6.0], [10.0, 6.0]])).weigh(Drawn(frame, frame, None), 0)
    assert (weight[..., 6, 8:14] > 0).all()
    assert not weight[..., 17:].any()


def test_what_was_moved_and_left_behind_stays_changed() -> None:
    """The arm pushes a thing at the start and goes on: the thing still touches the way."""
    points = torch.tensor([[4.0, 6.0], [10.0, 6.0], [28.0, 6.0], [28.0, 28.0]])
    change = Change(BLACK, BLACK, points)
    drawn = painted(32, [(6, 8, 10, 11)], True)
    assert all((change.weigh(drawn, t)[..., 8:11, 6:10] == 1).all() for t in range(3))
    fresh = Change(BLACK, BLACK, points)
    fresh.weigh(drawn, 2)
    assert not fresh.near[..., 8:11, 6:10].any()  # the last part of the way alone is far from it


def test_change_is_the_difference_from_the_still_however_the_networks_paint_it() -> None:
    """Neither the still nor what the networks make of it counts as changed, though they differ much."""
    unmoved = torch.zeros(1, 3, 32, 32)
    for same in (BLACK, unmoved, BLACK + 2 * composing.CHANGE_FROM):
        assert not changed(same, BLACK, unmoved).any()
    assert (changed(torch.ones(1, 3, 32, 32), BLACK, unmoved) == 1).all()
    half = BLACK + composing.CHANGE_FROM + composing.CHANGE_FULL
    assert changed(half, BLACK, torch.ones(1, 3, 32, 32)).mean() == pytest.approx(0.5, abs=1e-5)


def test_distances_to_a_way_by_hand() -> None:
    found = distance_to_way(torch.tensor([2.0, 3.0]), torch.tensor([6.0, 3.0]), (8, 10))[0, 0]
    assert [float(found[y, x]) for y, x in ((3, 2), (3, 5), (0, 4), (7, 9), (3, 0))] == [0, 0, 3, 5, 2]
    point = distance_to_way(torch.tensor([2.0, 3.0]), torch.tensor([2.0, 3.0]), (8, 10))[0, 0]
    assert float(point[7, 5]) == 5


def test_reachable_follows_a_crooked_part_and_leaves_the_others() -> None:
    mask = torch.zeros(1, 1, 6, 6, dtype=torch.bool)
    mask[0, 0, 0, :5] = mask[0, 0, 1:5, 5] = True  # round a corner, over a diagonal
    mask[0, 0, 4, 0] = True
    seed = torch.zeros_like(mask)
    seed[0, 0, 0, 0] = seed[0, 0, 2, 2] = True
    found = reachable(mask, seed)[0, 0]
    assert found.sum() == 9
    assert not found[4, 0]


def test_where_nothing_shows_the_stills_own_pixels_come_out_at_any_size() -> None:
    rng = np.random.default_rng(0)
    for shape in ((32, 32, 3), (90, 130, 3), (131, 70, 3), (20, 9, 3)):
        still = rng.integers(0, 256, shape, dtype=np.uint8)
        canvas = Canvas.prepare(still, 32)
        assert np.array_equal(compose(canvas, plain(torch.ones(1, 3, 32, 32)), torch.zeros(1, 1, 32, 32)), still)
        assert (compose(canvas, plain(torch.ones(1, 3, 32, 32)), torch.ones(1, 1, 32, 32)) == 255).all()


def test_what_shows_is_the_painting_enlarged_and_the_rest_is_exact() -> None:
    """128 pixels are 32 of the networks': network pixel 8 covers 32 to 35, and its ramp ends with pixel 29 and 38."""
    still = np.random.default_rng(1).integers(0, 200, (128, 128, 3), dtype=np.uint8)
    weight = torch.zeros(1, 1, 32, 32)
    weight[..., 8, 8] = 1
    made = compose(Canvas.prepare(still, 32), plain(torch.ones(1, 3, 32, 32)), weight)
    different = (made != still).any(axis=2)
    rows, columns = np.nonzero(different)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (30, 37, 30, 37)
    # Pixel 33 lies at 33.5 / 4 - 0.5 = 7.875 of the networks', so it takes 0.875 of the painting along each side.
    share = 0.875**2
    assert made[33, 33] == pytest.approx(255 * share + (1 - share) * still[33, 33], abs=0.51)


def test_a_still_of_the_networks_size_gets_the_painting_itself() -> None:
    frame = torch.rand(1, 3, 32, 32) * 2 - 1
    made = compose(Canvas.prepare(STILL, 32), plain(frame), torch.ones(1, 1, 32, 32))
    assert np.abs(made.astype(int) - drawing.to_picture(frame)).max() <= 1


def test_noise_far_away_never_reaches_the_background_in_two_hundred_frames() -> None:
    """Untrained networks change everything everywhere; only what is connected with the way may show."""
    system = tiny_strokes(composite=False, painted_weight=0.0)

    class Flickering(torch.nn.Module):
        def forward(self, state: torch.Tensor, still: torch.Tensor, *_: object) -> Drawn:
            frame = still.clone()
            frame[..., 26:31, 26:31] = state.mean().sin()  # drifts
            frame[..., 10:16, 8:14] = 0.9  # the object's place
            return Drawn(frame, frame, None)

    system.networks.decoder = Flickering()  # type: ignore[assignment]
    still = spot((96, 96), 24, 30, 18)
    for step in system.animate(still, Stroke([[32, 38], [40, 38]]), frames=200):
        assert np.array_equal(step.frame[70:], still[70:])
        assert np.array_equal(step.frame[:, 60:], still[:, 60:])


# --- leaving the picture -------------------------------------------------------------------------------------------


def test_a_stroke_that_leaves_is_told_once_and_held_at_the_border(strokes: Strokes) -> None:
    leaving = Stroke([[10, 12], [42, 12]])  # 10, 26, 42
    with pytest.warns(StillmotionWarning, match=r"leaves the picture at frame 2 \(x 42, y 12 .* 32 x 32") as caught:
        steps = list(strokes.animate(STILL, leaving, frames=3))
    assert len(caught) == 1
    assert str(caught[0].message).endswith(".")
    assert steps[2].facts["point"].tolist() == [31, 12]


def test_a_stroke_up_to_the_border_pixels_edge_is_inside(strokes: Strokes) -> None:
    plan = Plan(np.array([[-0.5, -0.5], [31.5, 31.5]]), np.zeros(2))
    assert plan.leaves((32, 32)) is None
    assert plan.leaves((32, 31)) is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(strokes.animate(STILL, Stroke([[0, 0], [31, 31]]), frames=2))


# --- the object ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1, 4])
def test_the_object_is_boxed(scale: int) -> None:
    still = spot((48 * scale, 64 * scale), 20 * scale, 8 * scale, 10 * scale)
    found = find_object(still, (0.0, 0.0))
    expected = (20 * scale, 8 * scale, 30 * scale - 1, 18 * scale - 1)
    assert found is not None
    # A picture made smaller to look at has soft edges, but evenly: the centre is exact.
    assert found == pytest.approx(expected, abs=scale if scale > 1 else 0)
    assert (found[0] + found[2], found[1] + found[3]) == (50 * scale - 1, 26 * scale - 1)


def test_the_object_is_found_before_a_wall_and_a_floor_with_noise() -> None:
    rng = np.random.default_rng(0)
    still = np.full((64, 64, 3), 180.0)
    still[44:] = (90, 70, 50)
    still[20:50, 30:38] = (30, 40, 160)
    still = (still + rng.normal(0, 3, still.shape)).clip(0, 255).astype(np.uint8)
    assert find_object(still, (5.0, 5.0)) == pytest.approx((30, 20, 37, 49), abs=1)


def test_of_two_objects_the_one_nearest_to_the_start_is_meant_and_specks_are_not() -> None:
    still = spot((64, 64), 6, 6, 12)
    still[40:50, 44:54] = (20, 220, 60)
    still[30:32, 30:32] = 255  # nearer still, but a speck
    assert find_object(still, (20.0, 20.0)) == pytest.approx((6, 6, 17, 17))
    assert find_object(still, (36.0, 36.0)) == pytest.approx((44, 40, 53, 49))


def test_an_empty_still_has_no_object() -> None:
    assert find_object(np.full((40, 40, 3), 90, np.uint8), (3.0, 3.0)) is None


def test_attach_shifts_the_whole_stroke_to_the_objects_centre(strokes: Strokes) -> None:
    """The square's pixels 8 to 13 and 10 to 15 have their centre at (10.5, 12.5)."""
    stroke = Stroke([[2, 2], [8, 4]], attach=True)
    steps = list(strokes.animate(STILL, stroke, frames=3))
    assert [step.facts["point"].tolist() for step in steps] == [[10.5, 12.5], [13.5, 13.5], [16.5, 14.5]]
    assert steps[0].facts["shift"].tolist() == [8.5, 10.5]
    loose = list(strokes.animate(STILL, Stroke(stroke.points), frames=3))
    assert loose[0].facts["shift"].tolist() == [0, 0]


def test_attach_without_an_object_says_what_to_do(strokes: Strokes) -> None:
    empty = np.full((32, 32, 3), 90, np.uint8)
    with pytest.raises(StillmotionError, match=r"No object stands out .* leave attach out\."):
        list(strokes.animate(empty, Stroke([[2, 2], [8, 4]], attach=True)))


def test_a_finder_of_ones_own_takes_the_place() -> None:
    system = tiny_strokes()
    asked = []

    def finder(still: np.ndarray, near: tuple[float, float]) -> tuple[float, float, float, float]:
        asked.append((still.shape, near))
        return (0.0, 0.0, 4.0, 8.0)

    system.finder = finder
    (step,) = system.animate(STILL, Stroke([[5, 6], [8, 4]], attach=True), frames=1)
    assert step.facts["point"].tolist() == [2, 4]
    assert asked == [((32, 32, 3), (5.0, 6.0))]


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
    with pytest.raises(StillmotionError, match="Nothing that moves"):
        list(strokes.animate(STILL, StrokeFrom(np.repeat(STILL[None], 6, 0))))
    with pytest.raises(StillmotionError, match="one frame"):
        list(strokes.animate(STILL, StrokeFrom(STILL[None])))


def test_a_stroke_may_come_from_another_tracker(strokes: Strokes) -> None:
    control = StrokeFrom(walking(), tracker="points:tracker=csrt")
    points = np.stack([step.facts["point"] for step in strokes.animate(spot((48, 64)), control, size="model")])
    truth = np.stack([7.5 + 3 * np.arange(12), np.full(12, 20.5)], 1)
    assert 0.3 < np.abs(points - truth).max() < 2  # `points` itself is exact here
    for tracker, word in (("flow", "makes flow, not points"), ("points:nose", "no tracker")):
        with pytest.raises(StillmotionError, match=word):
            list(strokes.animate(STILL, StrokeFrom(walking(), tracker=tracker)))


def test_a_large_video_is_looked_at_small_and_laid_over_the_still() -> None:
    assert planning._small(np.zeros((300, 600, 3), np.uint8)).shape == (64, 128, 3)
    # A video of 10 x 20 pixels over a still of 40 x 40: doubled, with ten rows above.
    found = laid_over(np.array([[0.0, 0.0], [19.0, 9.0]]), (10, 20), (40, 40))
    assert found.tolist() == [[0.5, 10.5], [38.5, 28.5]]


def test_a_plan_never_asks_the_finder_without_attach() -> None:
    def finder(still: np.ndarray, near: tuple[float, float]) -> None:
        raise AssertionError

    plan = make_plan(STILL, STROKE, 3, fps=25.0, least=5, finder=finder)
    assert plan.points.tolist() == [[10, 12], [17, 16], [24, 20]]


# --- pictures ------------------------------------------------------------------------------------------------------


def test_a_drawn_stroke_goes_from_blue_to_red() -> None:
    drawn = drawing.draw_stroke(
        np.zeros((120, 120, 3), np.uint8), np.array([[20.0, 60.0], [60.0, 60.0], [100.0, 60.0]])
    )
    assert drawn[60, 20].argmax() == 2
    assert drawn[60, 60].argmax() == 1
    assert drawn[60, 100].argmax() == 0
    assert not drawn[80:].any()


def test_the_drawn_coding_has_the_whole_above_the_step() -> None:
    whole, step = torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 8, 8)
    whole[0, 1, 4, 4] = 1
    sheet = drawing.draw_coding(whole, step)
    factor = sheet.shape[0] // 20
    assert sheet.shape[:2] == (20 * factor, 20 * factor)
    assert (sheet[factor * 5, factor * 15] == 255).all()  # after a line of one pixel around each of 8 + 2
    assert not sheet[factor * 15, factor * 15].any()
