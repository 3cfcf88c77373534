"""Metrics of control accuracy against values worked out by hand, for correct and for wrong predictions."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics import Metric

from refusals import refuses
from stillmotion.evaluation.extractors.identity import face_crops
from stillmotion.evaluation.metrics.control import (
    CONTROL_METRICS,
    BackgroundChange,
    CounterfactualAccuracy,
    EndpointError,
    TrajectoryError,
    background_change,
    static_pixels,
)
from stillmotion.evaluation.metrics.feature import IdentityAccuracy
from stillmotion.evaluation.metrics.keypoint import PCK
from stillmotion.geometry import distance_to_polyline
from stillmotion.worlds import faces

NAN = float("nan")


def value(metric: Metric, *updates: tuple[Tensor, ...]) -> float:
    for update in updates:
        metric.update(*update)
    return float(metric.compute())


def places(*points: tuple[float, float]) -> Tensor:
    return torch.tensor(points, dtype=torch.float32)


# --- endpoint error -------------------------------------------------------------------------------------------------

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
        ((NAN, NAN), 1.0),  # a lost point counts as one at rest
    ],
)
def test_endpoint_error_by_hand(final: tuple[float, float], left: float) -> None:
    assert value(EndpointError(), (places(final), START, TARGET)) == pytest.approx(left)


def test_endpoint_error_is_relative_to_each_poke_and_pokes_weigh_alike() -> None:
    start, target = places((0, 0), (0, 0)), places((10, 0), (1, 0))
    assert value(EndpointError(), (places((8, 0), (0, 0)), start, target)) == pytest.approx((0.2 + 1) / 2)


def test_a_poke_without_length_does_not_count() -> None:
    start = places((3, 3), (0, 0))
    final, target = places((9, 9), (0, 1)), places((3, 3), (0, 2))
    assert value(EndpointError(), (final, start, target)) == pytest.approx(0.5)
    assert math.isnan(value(EndpointError(), (final[:1], start[:1], target[:1])))


# --- trajectory error -----------------------------------------------------------------------------------------------

STROKE = places((0, 0), (2, 0), (4, 0), (4, 3))  # length 7


def test_trajectory_error_of_a_shifted_path() -> None:
    beside = STROKE + torch.tensor([0.0, -2.0])
    assert value(TrajectoryError(), (STROKE, STROKE)) == 0
    assert value(TrajectoryError(), (beside, STROKE)) == pytest.approx(2)
    assert value(TrajectoryError("length"), (beside, STROKE)) == pytest.approx(2 / 7)


def test_a_late_object_is_on_the_stroke_but_not_in_time() -> None:
    late = STROKE[[0, 0, 1, 2]]  # one frame behind: 0, 2, 2, 3 pixels away
    assert value(TrajectoryError(), (late, STROKE)) == pytest.approx(7 / 4)
    assert value(TrajectoryError(timed=False), (late, STROKE)) == 0


def test_an_object_at_rest_has_an_error() -> None:
    at_rest = STROKE[:1].repeat(4, 1)
    assert value(TrajectoryError(), (at_rest, STROKE)) == pytest.approx((0 + 2 + 4 + 5) / 4)


def test_a_lost_object_static_at_its_last_known_position() -> None:
    lost = places((0, 0), (2, 0), (NAN, NAN), (NAN, NAN))
    assert value(TrajectoryError(), (lost, STROKE)) == pytest.approx((0 + 0 + 2 + math.sqrt(13)) / 4)
    never = torch.full((4, 2), NAN)
    assert value(TrajectoryError(), (never, STROKE)) == pytest.approx((0 + 2 + 4 + 5) / 4)


def test_trajectory_error_weighs_clips_alike() -> None:
    short, other = STROKE[:2], torch.zeros(8, 2)
    updates = (short + places((0, 1)), short), (other + places((5, 0)), other)
    assert value(TrajectoryError(), *updates) == pytest.approx((1 + 5) / 2)
    # A stroke without length has no share.
    assert value(TrajectoryError("length"), *updates) == pytest.approx(1 / 2)


def test_distance_to_the_nearest_part_of_a_stroke() -> None:
    points = places((1, -3), (-3, -4), (6, 2), (4, 5), (4, 1))
    found = distance_to_polyline(points, STROKE[[0, 1, 1, 2, 3]])  # a point twice makes a part without length
    assert found.tolist() == pytest.approx([3, 5, 2, 2, 0])
    assert distance_to_polyline(points, STROKE[:1])[1] == 5


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
    assert value(CONTROL_METRICS["pose error"](), (made, real)) == pytest.approx(3)


# --- background change ----------------------------------------------------------------------------------------------
def test_background_change_of_a_copy_and_of_a_known_change() -> None:
    still = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    static = torch.ones(4, 5)
    static[0] = 0  # the object moves in the first row, so 15 pixels are static
    made = still.repeat(2, 1, 1, 1)
    made[:, :, 0] += 0.7
    assert value(BackgroundChange(), (made, still, static)) == 0
    made[1, 0, 2, 2] += 0.3
    made[1, 1, 3, 4] -= 0.6
    assert value(BackgroundChange(), (made, still, static)) == pytest.approx(0.9 / (2 * 3 * 15))
    assert background_change(made, still, static).tolist() == pytest.approx([0, 0.9 / (3 * 15)])


def test_clips_without_static_pixels_are_left_out() -> None:
    still = torch.zeros(3, 2, 2)
    assert math.isnan(value(BackgroundChange(), (torch.ones(1, 3, 2, 2), still, torch.zeros(2, 2))))


def test_static_pixels_are_off_the_mask_and_without_flow() -> None:
    mask = np.zeros((3, 12, 12), np.uint8)
    mask[1, 2, 2] = 255
    flow = np.zeros((2, 12, 12, 2), np.float16)
    flow[1, 9, 8, 1] = -0.25
    expected = np.ones((12, 12), bool)
    expected[2, 2] = expected[9, 8] = False
    assert (static_pixels(mask, flow, margin=0) == expected).all()
    expected[1:4, 1:4] = expected[8:11, 7:10] = False
    assert (static_pixels(mask, flow, margin=1) == expected).all()
    assert (static_pixels(mask, flow) == expected).all()  # a 32nd, rounded up
    assert static_pixels(mask, margin=1).sum() == 144 - 9
    flow[0] = 0.5  # a camera that moves leaves nothing
    assert not static_pixels(mask, flow).any()


# --- counterfactual ------------------------------------------------------------------------------------------------

A, B = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)


@pytest.mark.parametrize(
    ("for_a", "for_b", "percent"),
    [
        (A, B, 100),
        (B, A, 0),
        (A + 0.4, B - 0.4, 100),
        (A + 0.2, A + 0.2, 50),  # the same prediction for both
        (A + 0.5, A + 0.5, 50),  # and in the middle
        (A, A * NAN, 50),  # a NaN is wrong
    ],
)
def test_counterfactual_by_hand(for_a: Tensor, for_b: Tensor, percent: float) -> None:
    assert value(CounterfactualAccuracy(), (for_a, A, B), (for_b, B, A)) == percent


def test_the_common_part_of_both_outcomes_cancels_and_equal_outcomes_do_not_count() -> None:
    first, second = places((0, 0), (1, 0), (2, 0)), places((0, 0), (1, 0), (-2, 0))
    assert value(CounterfactualAccuracy(), (first + places((9, 0), (9, 0), (0, 0)), first, second)) == 100
    assert math.isnan(value(CounterfactualAccuracy(), (first, first, first)))


# --- identity ------------------------------------------------------------------------------------------------------
def test_identity_on_toy_features() -> None:
    gallery = places((0, 0), (10, 0), (0, 10))
    features = places((1, 1), (9, 1), (4, 1), (0, 0))
    right = torch.tensor([0, 1, 1, 2])
    # Right, right, nearer to the first, on top of the first.
    assert value(IdentityAccuracy(), (features, gallery, right)) == 50
    assert value(IdentityAccuracy(), (features, gallery, torch.tensor([0, 1, 0, 0]))) == 100


def test_identical_features_are_wrong() -> None:
    assert value(IdentityAccuracy(), (torch.ones(3, 2), torch.zeros(3, 2), torch.arange(3))) == 0


# --- all -----------------------------------------------------------------------------------------------------------

CASES: dict[str, tuple[tuple[Tensor, ...], ...]] = {
    "endpoint error": (
        (places((1, 2)), START, TARGET),
        (places((9, 9), (12, 14)), START.repeat(2, 1), TARGET.repeat(2, 1)),
    ),
    "trajectory error": ((STROKE + 1, STROKE), (STROKE.flip(0), STROKE)),
    "trajectory error (relative)": ((STROKE + 1, STROKE), (STROKE.flip(0), STROKE)),
    "pose error": ((joints((1, 2, 1)), joints((0, 0, 1))), (joints((1, 7, 1)).repeat(2, 1, 1), torch.ones(2, 1, 3))),
    "PCK@0.2": (
        (joints((1, 2, 1)), joints((0, 0, 1)), BOX),
        (joints((40, 40, 1), (1, 2, 1)), joints((0, 0, 1), (0, 0, 1)), BOX),
    ),
    "background change": tuple((frames, torch.zeros(3, 4, 4), torch.ones(4, 4)) for frames in (A + 0.3, B)),
    "counterfactual accuracy": ((A + 0.2, A, B), (A + 0.2, B, A), (A, A, B)),
    "identity accuracy": tuple((f, places((0, 0), (3, 3)), torch.zeros(len(f))) for f in (START, torch.zeros(2, 2))),
}


@pytest.mark.parametrize("name", CONTROL_METRICS)
def test_two_processes_give_what_one_gives(name: str) -> None:
    alone, first, second = (CONTROL_METRICS[name]() for _ in range(3))
    for metric, part in ((alone, CASES[name]), (first, CASES[name][:1]), (second, CASES[name][1:])):
        for case in part:
            metric.update(*case)
    for state, reduce in alone._reductions.items():
        assert callable(reduce)
        setattr(first, state, reduce(torch.stack([getattr(first, state), getattr(second, state)])))
    first._computed = None
    assert float(first.compute()) == pytest.approx(float(alone.compute()))
    assert math.isfinite(float(alone.compute()))


@pytest.mark.parametrize("name", CONTROL_METRICS)
def test_every_metric_has_a_definition_and_resets(name: str) -> None:
    metric = CONTROL_METRICS[name]()
    better = "higher" if metric.higher_is_better else "lower"
    assert len(metric.definition) > 60
    assert f"{better} is better" in metric.definition
    first, *_, last = CASES[name]
    fresh = value(CONTROL_METRICS[name](), last)
    metric.update(*first)
    metric.reset()
    assert value(metric, last) == fresh


@pytest.mark.parametrize(
    ("metric", "shapes"),
    [
        (EndpointError(), [(2, 2), (2, 2), (1, 2)]),
        (EndpointError(), [(2, 3)] * 3),
        (TrajectoryError(), [(4, 2), (4, 3)]),
        (TrajectoryError(), [(4, 2), (0, 2)]),
        (PCK(), [(2, 5, 3), (2, 5, 3), (1, 4)]),
        (PCK(), [(2, 5, 2), (2, 5, 2), (2, 4)]),
        (BackgroundChange(), [(2, 3, 4, 4), (3, 4, 4), (4, 5)]),
        (BackgroundChange(), [(2, 3, 4, 4), (3, 5, 4), (4, 4)]),
        (CounterfactualAccuracy(), [(2, 2), (2, 2), (3, 2)]),
        (IdentityAccuracy(), [(2, 4), (3, 5), (2,)]),
        (IdentityAccuracy(), [(2, 4), (1, 4), (2,)]),
        (IdentityAccuracy(), [(2, 4), (3, 4), (3,)]),
    ],
)
def test_other_shapes_are_refused(metric: Metric, shapes: list[tuple[int, ...]]) -> None:
    refuses("not \\(", metric.update, *(torch.zeros(shape) for shape in shapes), error=ValueError)


def test_other_arguments_are_refused() -> None:
    refuses("pixels, length", TrajectoryError, "height", error=ValueError)
    with pytest.raises(ValueError, match="3 points, 4 frames"):
        TrajectoryError().update(STROKE, STROKE[:3])
    assert value(TrajectoryError(timed=False), (STROKE, STROKE[:3])) > 0


def test_the_code_on_the_page() -> None:
    page = (Path(__file__).parents[1] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    truth = page.partition("## Control metrics")[2]
    exec(compile(truth.partition("```python\n")[2].partition("```")[0], "evaluation.md", "exec"), {})
    for name in CONTROL_METRICS:
        assert f"| {name} |" in truth


def test_a_face_crop_is_the_face_alone_downsampled() -> None:
    """Four quarters of a face on noise: each cell of the 2 x 2 crop is its quarter's colour."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)
    colours = np.array([[[250, 0, 0], [0, 250, 0]], [[0, 0, 250], [100, 100, 100]]], np.uint8)
    frames[0, 8:24, 10:26] = colours.repeat(8, axis=0).repeat(8, axis=1)
    boxes = np.array([[10, 8, 25, 23], [np.nan] * 4], np.float32)
    found = face_crops(frames, boxes, side=2)
    assert found.shape == (2, 12)
    assert torch.allclose(found[0], torch.from_numpy(colours.reshape(-1) / np.float32(255)), atol=0.07)
    assert found[1].isnan().all()
    gallery = torch.stack([found[0], torch.full((12,), 0.5)])
    metric = IdentityAccuracy()
    metric.update(found, gallery, torch.tensor([0, 0]))
    assert metric.compute() == 50  # the frame without a face is wrong
    refuses("boxes T x 4", face_crops, frames, boxes[:1], error=ValueError)


def test_faces_of_the_world_are_recognised_with_anothers_expression() -> None:
    people = [faces.sample_description(np.random.default_rng([4, index])) for index in range(5)]
    stills = [faces.render(face, 48, 1) for face in people]
    gallery = torch.cat([face_crops(video, tracks["box"]) for video, tracks in stills])
    metric = IdentityAccuracy()
    for index, face in enumerate(people):
        video, tracks = faces.render(faces.retarget(people[(index + 1) % 5], face), 48, 12)
        metric.update(face_crops(video, tracks["box"])[::4], gallery, torch.full((3,), index))
    assert metric.compute() == 100
