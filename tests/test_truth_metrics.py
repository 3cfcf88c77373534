"""Metrics of truth on cases whose answer is worked out by hand; each must also see what is wrong."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics import Metric

from stillmotion.evaluation.likeness import portraits
from stillmotion.evaluation.truth_metrics import (
    PCK,
    TRUTH_METRICS,
    Counterfactual,
    Follow,
    Identity,
    Reach,
    Spill,
    distance_to_stroke,
    resting,
    spill_per_frame,
)
from stillmotion.worlds import faces

NAN = float("nan")


def value(metric: Metric, *updates: tuple[Tensor, ...]) -> float:
    for update in updates:
        metric.update(*update)
    return float(metric.compute())


def places(*points: tuple[float, float]) -> Tensor:
    return torch.tensor(points, dtype=torch.float32)


# --- reach ---------------------------------------------------------------------------------------------------------

START, TARGET = places((10, 10)), places((13, 14))  # a poke of 5 pixels


@pytest.mark.parametrize(
    ("final", "left"),
    [
        ((10, 10), 1.0),  # does not move
        ((13, 14), 0.0),  # gets there
        ((11.5, 12), 0.5),
        ((7, 6), 2.0),  # as far in the other direction
        ((16, 18), 1.0),  # as far again
        ((13, 15), 0.2),
        ((NAN, NAN), 1.0),  # destroying the point is no better than leaving it
    ],
)
def test_reach_by_hand(final: tuple[float, float], left: float) -> None:
    assert value(Reach(), (places(final), START, TARGET)) == pytest.approx(left)


def test_reach_is_a_share_of_each_poke_and_pokes_weigh_alike() -> None:
    start, target = places((0, 0), (0, 0)), places((10, 0), (1, 0))
    assert value(Reach(), (places((8, 0), (0, 0)), start, target)) == pytest.approx((0.2 + 1) / 2)


def test_a_poke_without_length_does_not_count() -> None:
    start = places((3, 3), (0, 0))
    final, target = places((9, 9), (0, 1)), places((3, 3), (0, 2))
    assert value(Reach(), (final, start, target)) == pytest.approx(0.5)
    assert math.isnan(value(Reach(), (final[:1], start[:1], target[:1])))


# --- follow --------------------------------------------------------------------------------------------------------

STROKE = places((0, 0), (2, 0), (4, 0), (4, 3))  # length 7


def test_follow_a_shifted_path() -> None:
    beside = STROKE + torch.tensor([0.0, -2.0])
    assert value(Follow(), (STROKE, STROKE)) == 0
    assert value(Follow(), (beside, STROKE)) == pytest.approx(2)
    assert value(Follow("length"), (beside, STROKE)) == pytest.approx(2 / 7)


def test_a_late_thing_is_on_the_way_but_not_in_time() -> None:
    late = STROKE[[0, 0, 1, 2]]  # one frame behind: 0, 2, 2, 3 pixels away
    assert value(Follow(), (late, STROKE)) == pytest.approx(7 / 4)
    assert value(Follow(timed=False), (late, STROKE)) == 0


def test_a_thing_that_rests_does_not_follow() -> None:
    resting_thing = STROKE[:1].repeat(4, 1)
    assert value(Follow(), (resting_thing, STROKE)) == pytest.approx((0 + 2 + 4 + 5) / 4)


def test_a_lost_thing_rests_where_it_was_last_seen() -> None:
    lost = places((0, 0), (2, 0), (NAN, NAN), (NAN, NAN))
    assert value(Follow(), (lost, STROKE)) == pytest.approx((0 + 0 + 2 + math.sqrt(13)) / 4)
    never = torch.full((4, 2), NAN)
    assert value(Follow(), (never, STROKE)) == pytest.approx((0 + 2 + 4 + 5) / 4)


def test_follow_weighs_clips_alike() -> None:
    short, other = STROKE[:2], torch.zeros(8, 2)
    updates = (short + places((0, 1)), short), (other + places((5, 0)), other)
    assert value(Follow(), *updates) == pytest.approx((1 + 5) / 2)
    # A stroke without length has no share.
    assert value(Follow("length"), *updates) == pytest.approx(1 / 2)


def test_distance_to_the_nearest_part_of_a_stroke() -> None:
    points = places((1, -3), (-3, -4), (6, 2), (4, 5), (4, 1))
    found = distance_to_stroke(points, STROKE[[0, 1, 1, 2, 3]])  # a point twice makes a part without length
    assert found.tolist() == pytest.approx([3, 5, 2, 2, 0])
    assert distance_to_stroke(points, STROKE[:1])[1] == 5


# --- PCK -----------------------------------------------------------------------------------------------------------

BOX = torch.tensor([[10.0, 20.0, 40.0, 70.0]])  # 30 x 50: the threshold at 0.2 is 10 pixels


def joints(*points: tuple[float, float, float]) -> Tensor:
    return torch.tensor([points])


@pytest.mark.parametrize(
    ("off", "percent"), [((6, 8), 100), ((10, 0), 100), ((0, -10.01), 0), ((6.1, 8), 0), ((0, 0), 100)]
)
def test_pck_at_the_threshold(off: tuple[float, float], percent: float) -> None:
    real = joints((20, 30, 1))
    assert value(PCK(), (real + torch.tensor([*off, 0.0]), real, BOX)) == percent


def test_pck_turns_with_share_and_box() -> None:
    real = joints((20, 30, 1))
    made = real + torch.tensor([0.0, 4.0, 0.0])
    assert value(PCK(0.05), (made, real, BOX)) == 0
    wide = torch.tensor([[0.0, 0.0, 80.0, 1.0]])
    assert value(PCK(0.05), (made, real, wide)) == 100


def test_pck_counts_visible_joints_and_a_missing_one_is_wrong() -> None:
    real = joints((20, 30, 1), (20, 30, 1), (20, 30, 0), (20, 30, 1))
    made = joints((20, 30, 1), (20, 30, 0), (99, 99, 1), (NAN, NAN, 1))
    assert value(PCK(), (made, real, BOX)) == pytest.approx(100 / 3)


def test_pck_weighs_joints_alike_and_leaves_frames_without_a_box_out() -> None:
    real = joints((20, 30, 1), (25, 30, 1), (20, 30, 1))
    far = real + 50
    one = joints((20, 30, 0), (20, 30, 0), (20, 30, 1))
    assert value(PCK(), (real, real, BOX), (far, one, BOX)) == pytest.approx(75)
    assert math.isnan(value(PCK(), (real, real, torch.full((1, 4), NAN))))


def test_the_pose_error_is_the_joints_distance() -> None:
    real, made = joints((0, 0, 1), (9, 9, 1), (5, 5, 0)), joints((3, 4, 1), (9, 10, 1), (80, 80, 1))
    assert value(TRUTH_METRICS["pose error"](), (made, real)) == pytest.approx(3)


# --- spill ---------------------------------------------------------------------------------------------------------


def test_spill_of_a_copy_and_of_a_known_change() -> None:
    still = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    rests = torch.ones(4, 5)
    rests[0] = 0  # the thing moves in the first row, so 15 pixels rest
    made = still.repeat(2, 1, 1, 1)
    made[:, :, 0] += 0.7
    assert value(Spill(), (made, still, rests)) == 0
    made[1, 0, 2, 2] += 0.3
    made[1, 1, 3, 4] -= 0.6
    assert value(Spill(), (made, still, rests)) == pytest.approx(0.9 / (2 * 3 * 15))
    assert spill_per_frame(made, still, rests).tolist() == pytest.approx([0, 0.9 / (3 * 15)])


def test_spill_leaves_clips_out_in_which_nothing_rests() -> None:
    still = torch.zeros(3, 2, 2)
    assert math.isnan(value(Spill(), (torch.ones(1, 3, 2, 2), still, torch.zeros(2, 2))))


def test_pixels_that_rest_are_clear_of_the_mask_and_of_the_flow() -> None:
    mask = np.zeros((3, 12, 12), np.uint8)
    mask[1, 2, 2] = 255
    flow = np.zeros((2, 12, 12, 2), np.float16)
    flow[1, 9, 8, 1] = -0.25
    expected = np.ones((12, 12), bool)
    expected[2, 2] = expected[9, 8] = False
    assert (resting(mask, flow, margin=0) == expected).all()
    expected[1:4, 1:4] = expected[8:11, 7:10] = False
    assert (resting(mask, flow, margin=1) == expected).all()
    assert (resting(mask, flow) == expected).all()  # a 32nd, rounded up
    assert resting(mask, margin=1).sum() == 144 - 9
    flow[0] = 0.5  # a camera that moves leaves nothing
    assert not resting(mask, flow).any()


# --- counterfactual ------------------------------------------------------------------------------------------------

A, B = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)


@pytest.mark.parametrize(
    ("for_a", "for_b", "percent"),
    [
        (A, B, 100),
        (B, A, 0),
        (A + 0.4, B - 0.4, 100),
        (A + 0.2, A + 0.2, 50),  # the same answer to both
        (A + 0.5, A + 0.5, 50),  # and in the middle
        (A, A * NAN, 50),  # no answer is a wrong one
    ],
)
def test_counterfactual_by_hand(for_a: Tensor, for_b: Tensor, percent: float) -> None:
    assert value(Counterfactual(), (for_a, A, B), (for_b, B, A)) == percent


def test_what_both_truths_share_does_not_matter_and_equal_truths_ask_nothing() -> None:
    first, second = places((0, 0), (1, 0), (2, 0)), places((0, 0), (1, 0), (-2, 0))
    assert value(Counterfactual(), (first + places((9, 0), (9, 0), (0, 0)), first, second)) == 100
    assert math.isnan(value(Counterfactual(), (first, first, first)))


# --- identity ------------------------------------------------------------------------------------------------------


def test_identity_on_toy_features() -> None:
    gallery = places((0, 0), (10, 0), (0, 10))
    features = places((1, 1), (9, 1), (4, 1), (0, 0))
    right = torch.tensor([0, 1, 1, 2])
    # Right, right, nearer to the first, on top of the first.
    assert value(Identity(), (features, gallery, right)) == 50
    assert value(Identity(), (features, gallery, torch.tensor([0, 1, 0, 0]))) == 100


def test_features_that_tell_nobody_apart_are_wrong() -> None:
    assert value(Identity(), (torch.ones(3, 2), torch.zeros(3, 2), torch.arange(3))) == 0


# --- all -----------------------------------------------------------------------------------------------------------

CASES: dict[str, tuple[tuple[Tensor, ...], ...]] = {
    "reach": ((places((1, 2)), START, TARGET), (places((9, 9), (12, 14)), START.repeat(2, 1), TARGET.repeat(2, 1))),
    "follow": ((STROKE + 1, STROKE), (STROKE.flip(0), STROKE)),
    "follow (share)": ((STROKE + 1, STROKE), (STROKE.flip(0), STROKE)),
    "pose error": ((joints((1, 2, 1)), joints((0, 0, 1))), (joints((1, 7, 1)).repeat(2, 1, 1), torch.ones(2, 1, 3))),
    "PCK@0.2": (
        (joints((1, 2, 1)), joints((0, 0, 1)), BOX),
        (joints((40, 40, 1), (1, 2, 1)), joints((0, 0, 1), (0, 0, 1)), BOX),
    ),
    "spill": tuple((frames, torch.zeros(3, 4, 4), torch.ones(4, 4)) for frames in (A + 0.3, B)),
    "counterfactual": ((A + 0.2, A, B), (A + 0.2, B, A), (A, A, B)),
    "identity": tuple((f, places((0, 0), (3, 3)), torch.zeros(len(f))) for f in (START, torch.zeros(2, 2))),
}


@pytest.mark.parametrize("name", TRUTH_METRICS)
def test_two_processes_give_what_one_gives(name: str) -> None:
    alone, first, second = (TRUTH_METRICS[name]() for _ in range(3))
    for metric, part in ((alone, CASES[name]), (first, CASES[name][:1]), (second, CASES[name][1:])):
        for case in part:
            metric.update(*case)
    for state, reduce in alone._reductions.items():
        assert callable(reduce)
        setattr(first, state, reduce(torch.stack([getattr(first, state), getattr(second, state)])))
    first._computed = None
    assert float(first.compute()) == pytest.approx(float(alone.compute()))
    assert math.isfinite(float(alone.compute()))


@pytest.mark.parametrize("name", TRUTH_METRICS)
def test_every_metric_says_its_definition_and_forgets_on_reset(name: str) -> None:
    metric = TRUTH_METRICS[name]()
    better = "higher" if metric.higher_is_better else "lower"
    assert len(metric.definition) > 60
    assert f"{better} is better" in metric.definition
    first, *_, last = CASES[name]
    fresh = value(TRUTH_METRICS[name](), last)
    metric.update(*first)
    metric.reset()
    assert value(metric, last) == fresh


@pytest.mark.parametrize(
    ("metric", "shapes"),
    [
        (Reach(), [(2, 2), (2, 2), (1, 2)]),
        (Reach(), [(2, 3)] * 3),
        (Follow(), [(4, 2), (4, 3)]),
        (Follow(), [(4, 2), (0, 2)]),
        (PCK(), [(2, 5, 3), (2, 5, 3), (1, 4)]),
        (PCK(), [(2, 5, 2), (2, 5, 2), (2, 4)]),
        (Spill(), [(2, 3, 4, 4), (3, 4, 4), (4, 5)]),
        (Spill(), [(2, 3, 4, 4), (3, 5, 4), (4, 4)]),
        (Counterfactual(), [(2, 2), (2, 2), (3, 2)]),
        (Identity(), [(2, 4), (3, 5), (2,)]),
        (Identity(), [(2, 4), (1, 4), (2,)]),
        (Identity(), [(2, 4), (3, 4), (3,)]),
    ],
)
def test_other_shapes_are_refused(metric: Metric, shapes: list[tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="not \\("):
        metric.update(*(torch.zeros(shape) for shape in shapes))


def test_other_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="pixels, length"):
        Follow("width")
    with pytest.raises(ValueError, match="3 points, 4 frames"):
        Follow().update(STROKE, STROKE[:3])
    assert value(Follow(timed=False), (STROKE, STROKE[:3])) > 0


def test_the_code_on_the_page() -> None:
    page = (Path(__file__).parents[1] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    truth = page.partition("## Metrics of truth")[2]
    exec(compile(truth.partition("```python\n")[2].partition("```")[0], "evaluation.md", "exec"), {})
    for name in TRUTH_METRICS:
        assert f"| {name} |" in truth


def test_a_portrait_is_the_face_alone_made_small() -> None:
    """Four quarters of a face on noise: each cell of the 2 x 2 portrait is its quarter's colour."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)
    colours = np.array([[[250, 0, 0], [0, 250, 0]], [[0, 0, 250], [100, 100, 100]]], np.uint8)
    frames[0, 8:24, 10:26] = colours.repeat(8, axis=0).repeat(8, axis=1)
    boxes = np.array([[10, 8, 25, 23], [np.nan] * 4], np.float32)
    found = portraits(frames, boxes, side=2)
    assert found.shape == (2, 12)
    assert torch.allclose(found[0], torch.from_numpy(colours.reshape(-1) / np.float32(255)), atol=0.07)
    assert found[1].isnan().all()
    gallery = torch.stack([found[0], torch.full((12,), 0.5)])
    metric = Identity()
    metric.update(found, gallery, torch.tensor([0, 0]))
    assert metric.compute() == 50  # the frame without a face is wrong
    with pytest.raises(ValueError, match="boxes T x 4"):
        portraits(frames, boxes[:1])


def test_faces_of_the_world_are_recognised_with_anothers_expression() -> None:
    people = [faces.sample_description(np.random.default_rng([4, index])) for index in range(5)]
    stills = [faces.render(face, 48, 1) for face in people]
    gallery = torch.cat([portraits(video, tracks["box"]) for video, tracks in stills])
    metric = Identity()
    for index, face in enumerate(people):
        video, tracks = faces.render(faces.retarget(people[(index + 1) % 5], face), 48, 12)
        metric.update(portraits(video, tracks["box"])[::4], gallery, torch.full((3,), index))
    assert metric.compute() == 100
