"""Metrics of actions by hand: recognition, diversity, what is kept, whose colours a figure has."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from refusals import refuses
from stillmotion.data.clip import Clip
from stillmotion.evaluation.extractors.identity import figure_colours
from stillmotion.evaluation.metrics.actions import (
    BackgroundExactness,
    DiversityRatio,
    FeatureDiversity,
    KeypointConsistency,
    MaskCoverage,
    RecognitionAccuracy,
    diversity,
    multimodality,
    repeated,
)
from stillmotion.evaluation.metrics.feature import IdentityAccuracy
from stillmotion.evaluation.protocols import PROTOCOLS
from stillmotion.evaluation.protocols.action_cases import action_cases
from stillmotion.evaluation.protocols.columns import Case
from test_evaluation_actions import LENGTH, swinging

ROOT = Path(__file__).parents[1]


def test_recognition_by_hand() -> None:
    metric, interval = RecognitionAccuracy(["a", "b"]), RecognitionAccuracy(["a", "b"], interval=True)
    scores, asked = torch.tensor([[2.0, 1.0], [2.0, 1.0], [0.0, 1.0], [0.0, 1.0]]), torch.tensor([0, 1, 1, 1])
    for each in (metric, interval):
        each.update(scores, asked)
    assert metric.compute() == 75
    assert metric.table() == {"a": {"a": 1, "b": 0}, "b": {"a": 1, "b": 2}}
    # Wilson, 3 of 4: from 0.3006 to 0.9544.
    assert interval.compute() == pytest.approx(50 * (0.9544 - 0.3006), abs=0.01)
    widths = []
    for _ in range(3):
        interval.update(scores, asked)
        widths.append(float(interval.compute()))
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > widths[-1]
    metric.reset()
    metric.update(scores, asked[torch.tensor([1, 0, 2, 3])])  # permuted labels
    metric.update(scores, 1 - asked)
    assert metric.compute() == 50
    refuses("N x 2 and N", metric.update, scores[:2], asked, error=ValueError)


def test_diversity_by_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    assert diversity(torch.ones(6, 3), generator) == 0
    assert diversity(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), generator) == 5  # no row meets itself
    assert math.isnan(diversity(torch.ones(1, 3), generator))
    features, labels = torch.tensor([[0.0], [2.0], [10.0], [14.0], [99.0]]), torch.tensor([0, 0, 1, 1, 2])
    assert multimodality(features, labels, generator) == 3
    inside, overall = FeatureDiversity(within=True), FeatureDiversity()
    for metric in (inside, overall):
        for k in range(5):
            metric.update([(features[k : k + 1], labels[k : k + 1])])
    assert inside.compute() == 3
    true = torch.pdist(features).mean()
    assert overall.compute() == pytest.approx(float(true), rel=0.05)
    half = FeatureDiversity(interval=True)
    half.update([(row[None], labels[:1]) for row in features])
    assert 0 < half.compute() < 0.05 * true
    assert half.compute() == half.compute()  # the draws have a seed


def test_intervals_shrink_with_the_number_of_repetitions() -> None:
    def measure(generator: torch.Generator) -> Tensor:
        return torch.randn((), generator=generator)

    (few_mean, few), (many_mean, many) = repeated(measure, 20), repeated(measure, 2000)
    assert few == pytest.approx(1.96 / math.sqrt(20), rel=0.4)
    assert many == pytest.approx(1.96 / math.sqrt(2000), rel=0.1)
    assert abs(many_mean) < 2 * many
    assert few_mean != many_mean


def test_the_ratio_of_diversities_by_hand() -> None:
    metric = DiversityRatio("dots")
    one, two = torch.tensor(0), torch.tensor(1)

    def dots(value: float) -> Tensor:
        return torch.full((3, 4), value)  # 3 dots in 4 dimensions: distance 2 for a difference of 1

    metric.update([(dots(0), one, dots(0)), (dots(1), one, dots(0))])
    assert math.isnan(metric.compute())  # a single real clip has no pair
    metric.update([(dots(3), one, dots(4)), (dots(3), one, dots(4))])
    assert metric.compute() == pytest.approx((2 + 0) / 2 / 8)
    metric.update([(dots(0), one, None), (dots(2), one, None)])  # another still, asked for the same action
    assert metric.compute() == pytest.approx((2 + 0 + 4) / 3 / 8)
    for value in (0.0, 1.0):
        metric.update([(dots(0), two, dots(value)), (dots(1), two, dots(value))])
    assert metric.compute() == pytest.approx((2 / 8 + 2 / 2) / 2)


def test_what_is_kept_by_hand() -> None:
    frames, still = torch.full((2, 4, 4, 3), 7, dtype=torch.uint8), torch.full((4, 4, 3), 7, dtype=torch.uint8)
    frames[1, 0, 0, 2], frames[0, 3, 3, 1] = 3, 255
    kept = torch.ones(2, 4, 4, dtype=torch.bool)
    kept[0, 3, 3] = False
    exact = BackgroundExactness()
    exact.update(frames, still, ~kept[:, :1].expand(2, 4, 4) & kept)  # nothing is kept
    assert math.isnan(exact.compute())
    exact.update(frames, still, kept)
    assert exact.compute() == 4
    exact.update(frames[:1], still, kept[:1])
    assert exact.compute() == 4  # the largest of all
    refuses("T x H x W x 3", exact.update, frames, still, kept[:1], error=ValueError)
    coverage = MaskCoverage()
    coverage.update(torch.tensor([[[1.0, 0.0], [1.0, 1.0]]]))
    assert coverage.compute() == 0.75
    consistency = KeypointConsistency()
    asked = torch.zeros(2, 1, 2)
    consistency.update(asked, asked + torch.tensor([[[0.6, 0.8]], [[0.0, 0.0]]]))
    assert consistency.compute() == pytest.approx(25)  # 1 of the 2 that span the width, in one of two frames
    refuses("T x K x 2", consistency.update, asked, asked[:1], error=ValueError)


def test_colours_of_a_figure_do_not_depend_on_its_place() -> None:
    red, blue = swinging("red", "across"), swinging("blue", "along")
    colours = [figure_colours(clip.frames, clip.tracks["mask"] / 255) for clip in (red, blue)]
    assert torch.allclose(colours[0], colours[0][:1].expand_as(colours[0]), atol=1e-6)
    assert (colours[0] - colours[1]).norm(dim=1).min() > 0.5
    assert torch.allclose(colours[0].square().sum(1), torch.ones(LENGTH), atol=1e-5)
    # Half a figure of another colour, and none.
    mixed = np.concatenate([red.frames[:1], blue.frames[:1]], axis=1)
    weights = np.concatenate([red.tracks["mask"][:1], blue.tracks["mask"][:1]], axis=1) / 255
    both = figure_colours(mixed, weights).square()
    assert torch.allclose(both, (colours[0][:1].square() + colours[1][:1].square()) / 2, atol=1e-5)
    assert figure_colours(mixed, 0 * weights).isnan().all()
    refuses("T x H x W", figure_colours, mixed, weights[0], error=ValueError)


# --- identity -------------------------------------------------------------------------------------------------------


def walls_and_figures() -> tuple[np.ndarray, list[np.ndarray], list[Case]]:
    """A red figure before a blue wall, and the other way round: the box, the pictures, the cases."""
    box = np.zeros((1, 8, 8), np.uint8)
    box[:, :2, :2] = 1
    red, blue = (np.array(colour, np.uint8) for colour in ((255, 0, 0), (0, 0, 255)))
    pictures = [np.where(box[..., None] > 0, figure, wall) for figure, wall in ((red, blue), (blue, red))]
    clips = [
        Clip(f"{i}", picture.repeat(4, 0), 25.0, tracks={"mask": box.repeat(4, 0)}, meta={"action": "a"})
        for i, picture in enumerate(pictures)
    ]
    return box, pictures, action_cases(clips)


def identity_right(case: Case, frames: np.ndarray, facts: dict[str, np.ndarray]) -> float:
    prediction: Any = SimpleNamespace(case=case, frames=frames, facts=facts)
    column = next(each for each in PROTOCOLS["actions"].columns if each.name == "identity right")
    assert column.inputs is not None
    found = column.inputs(prediction)
    assert found is not None
    metric = IdentityAccuracy()
    metric.update(*found)
    return float(metric.compute())


def test_what_moves_along_a_little_is_no_figure() -> None:
    """A red figure before a blue wall is not taken for the blue person, though a third of the wall moves."""
    box, pictures, cases = walls_and_figures()
    shares = np.stack([np.where(box > 0, 1, 0.3), np.where(box > 0, 0, 0.7), 0 * box, 0 * box], 1).astype(np.float32)
    assert identity_right(cases[0], pictures[0], {"shares": shares}) == 100


def test_a_wall_drawn_with_the_wall_beside_it_is_no_figure_and_paint_is() -> None:
    """The figure has left, and its place is drawn by the wall around; then all of the frame is painted."""
    box, pictures, cases = walls_and_figures()
    near = np.zeros_like(box)
    near[:, :6, :6] = 1
    displacement = np.zeros((1, 8, 8, 2), np.float32)
    displacement[..., 0] = np.where(near > 0, 2 * 2 / 7, 0)  # from two pixels further right ...
    displacement[:, :, 6:] = 0
    displacement[:, 6:, 6:, :] = np.array([-6 * 2 / 7, -6 * 2 / 7])  # ... and the figure in the far corner
    shares = np.stack([np.ones_like(box), 0 * box, 0 * box, 0 * box], 1).astype(np.float32)
    frame = pictures[0][:, ::-1, ::-1]
    assert identity_right(cases[0], frame, {"shares": shares, "displacement": displacement}) == 100
    assert identity_right(cases[0], frame, {"shares": shares}) == 0
    assert identity_right(cases[0], frame, {"shares": np.roll(shares, 3, axis=1), "displacement": displacement}) == 0
