"""Metrics inside regions, and the regions of a clip that knows its parts."""

import math

import cv2
import numpy as np
import pytest
import torch

from stillmotion.data.clip import Clip
from stillmotion.evaluation.metrics.region import RegionGradientError, RegionL1, RegionMean, RegionSharpness, sobel
from stillmotion.evaluation.protocols.columns import Case, FeatureCache, Prediction
from stillmotion.evaluation.protocols.reconstruction import warped_still
from stillmotion.evaluation.protocols.regions import REGIONS, changed, disoccluded, old_outline, region_columns
from stillmotion.evaluation.protocols.strokes import COLUMNS

SIZE = 64


def square_case(known: bool = True) -> Case:
    """A bright square of 16 pixels that steps 24 to the right, before a wall that rests."""
    corners = ((8, 20), (32, 20))
    parts = np.zeros((2, SIZE, SIZE), np.uint8)
    moves = np.zeros((2, 2, 2, 3), np.float32)
    moves[:, :, 0, 0] = moves[:, :, 1, 1] = 1
    for t, (x, y) in enumerate(corners):
        parts[t, y : y + 16, x : x + 16] = 1
        moves[t, 1, :, 2] = x, y
    frames = np.repeat(np.where(parts[..., None] > 0, 220, 40).astype(np.uint8), 3, axis=-1)
    clip = Clip("square", frames, 25.0, {"parts": parts, "moves": moves} if known else {})
    return Case("square", frames[0], frames, clip)


def ramp(slope: float) -> torch.Tensor:
    return (slope * torch.arange(8.0)).expand(1, 3, 8, 8)


def test_l1_counts_the_region_alone_and_frames_without_it_not_at_all() -> None:
    target, preds = torch.zeros(3, 3, 4, 4), torch.zeros(3, 3, 4, 4)
    preds[0, :, 0, 0], preds[1, :, 0, 0], preds[:, :, 3, 3] = 0.4, 0.2, 1.0
    region = torch.zeros(3, 4, 4, dtype=torch.bool)
    region[:2, 0, :2] = True  # two pixels of the first two frames
    metric = RegionL1()
    metric.update(preds, target, region)
    assert metric.compute().item() == pytest.approx((0.2 + 0.1) / 2)
    metric.update(preds[2:], target[2:], region[2:])  # a clip without the region
    assert metric.compute().item() == pytest.approx(0.15)


def test_sobel_of_a_ramp_is_its_slope() -> None:
    both = sobel(ramp(0.1))
    assert both.shape == (1, 2, 3, 8, 8)
    assert both[0, 0, :, :, 1:-1].numpy() == pytest.approx(0.1, abs=1e-6)
    assert both[0, 1].abs().max() < 1e-6
    assert torch.allclose(sobel(ramp(0.1).transpose(2, 3))[0, 1], both[0, 0].transpose(1, 2))


def test_gradients_of_ramps_by_hand() -> None:
    inside = torch.zeros(1, 8, 8, dtype=torch.bool)
    inside[:, :, 1:-1] = True
    error, sharpness = RegionGradientError(), RegionSharpness()
    for metric in (error, sharpness):
        metric.update(ramp(0.06), ramp(0.1), inside)
    assert error.compute().item() == pytest.approx(0.04 / 2, rel=1e-4)  # a mean over both directions
    assert sharpness.compute().item() == pytest.approx(0.6, rel=1e-4)
    diagonal, metric = ramp(0.1) + ramp(0.1).transpose(2, 3), RegionSharpness()
    inside[:, [0, -1]] = False
    metric.update(diagonal, ramp(0.1), inside)
    assert metric.compute().item() == pytest.approx(math.sqrt(2), rel=1e-4)


def test_a_copy_is_sharp_and_a_blurred_frame_is_not() -> None:
    target = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    everywhere = torch.ones(2, 16, 16, dtype=torch.bool)
    blurred = torch.nn.functional.avg_pool2d(target, 3, stride=1, padding=1)
    values = []
    for preds in (target, blurred):
        metric = RegionSharpness()
        metric.update(preds, target, everywhere)
        values.append(metric.compute().item())
    assert values[0] == pytest.approx(1)
    assert values[1] < 0.5


@pytest.mark.parametrize("kind", [RegionL1, RegionGradientError, RegionSharpness])
def test_regions_of_another_size_are_refused(kind: type[RegionMean]) -> None:
    frames = torch.zeros(2, 3, 8, 8)
    with pytest.raises(ValueError, match="T x H x W"):
        kind().update(frames, frames, torch.ones(2, 4, 8, dtype=torch.bool))


def test_the_regions_of_a_square_that_steps_aside() -> None:
    case = square_case()
    there, wall, rim = changed(case), disoccluded(case), old_outline(case)
    assert wall is not None
    assert rim is not None
    assert not there[0].any()  # frame 0 is the still
    assert there[1, 19:37, 9:23].all()  # where it was and one pixel around
    assert there[1, 21:35, 33:47].all()
    assert not there[1, 0:18].any()
    assert not wall[0].any()
    assert wall[1, 20:36, 8:24].all()
    assert wall[1].sum() == 16 * 16
    assert rim[1, 19:21, 10:20].all()  # one pixel outside the old upper edge and one inside
    assert not rim[1, 24:30, 12:20].any()
    assert not rim[0, 22:34, 10:22].any()
    assert not (rim & (np.asarray(case.clip.tracks["parts"]) > 0)).any()


def test_a_clip_that_knows_no_parts_has_the_changed_region_alone() -> None:
    case = square_case(known=False)
    assert [name for name, region in REGIONS.items() if region(case) is not None] == ["changed"]


def test_columns_measure_a_copied_still_where_it_is_wrong() -> None:
    case = square_case()
    copied = Prediction(case, np.repeat(case.still[None], 2, axis=0), FeatureCache({}))
    values = {}
    for column in region_columns():
        metric = column.build(None)
        arguments = column.arguments(copied)
        assert arguments is not None
        metric.update(*arguments)
        values[column.name] = metric.compute().item()
    assert len(values) == 9
    assert values["L1 (disoccluded)"] == pytest.approx(180 / 255)
    assert values["sharpness (changed)"] == pytest.approx(1, abs=0.05)  # one outline for another
    assert values["sharpness (old outline)"] > 5  # an outline where there is a plain wall


def test_strokes_measure_regions_where_the_outcome_is_known() -> None:
    names = {column.name for column in COLUMNS}
    assert {column.name for column in region_columns()} <= names


def test_a_warped_still_follows_a_textured_square() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    texture = cv2.resize(noise, (24, 24), interpolation=cv2.INTER_CUBIC)
    frames = np.full((2, SIZE, SIZE, 3), 120, np.uint8)
    frames[0, 20:44, 14:38] = frames[1, 20:44, 18:42] = texture
    case = Case("texture", frames[0], frames, Clip("texture", frames, 25.0))
    made = warped_still(case)
    error = np.abs(made.astype(int) - frames).mean(-1)
    copied = np.abs(frames[0].astype(int) - frames[1]).mean(-1)
    assert np.array_equal(made[0], frames[0])
    assert error[1, 24:40, 22:38].mean() < copied[24:40, 22:38].mean() / 3
