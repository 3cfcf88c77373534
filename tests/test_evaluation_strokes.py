"""Metrics of strokes: curves, LPIPS, smoothness, digits, gait, and the protocol's cases."""

import csv
import hashlib
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from refusals import refuses
from stillmotion import media
from stillmotion.data.clip import Clip
from stillmotion.errors import StillmotionError, StillmotionWarning
from stillmotion.evaluation.extractors import open_extractors
from stillmotion.evaluation.extractors.base import NetworkFeatures
from stillmotion.evaluation.extractors.digits import WEIGHTS, DigitClassifier, load_classifier, read_digits
from stillmotion.evaluation.extractors.lpips import AlexNet, LPIPSNetwork, open_lpips
from stillmotion.evaluation.metrics.control import StrideAccuracy
from stillmotion.evaluation.metrics.curves import CURVES, plot, write_curves
from stillmotion.evaluation.metrics.feature import LPIPS
from stillmotion.evaluation.metrics.keypoint import PoseSmoothness
from stillmotion.evaluation.protocols import PROTOCOLS, strokes
from stillmotion.evaluation.protocols.base import copy_still
from stillmotion.evaluation.protocols.columns import FeatureCache, Prediction, add_case
from stillmotion.evaluation.protocols.strokes import (
    COLUMNS,
    StrokeCase,
    back_and_forth,
    has_truth,
    stride_hz,
    stroke_cases,
    true_clip,
)
from stillmotion.evaluation.report import evaluate_models
from stillmotion.evaluation.trackers.gait import stride_rate
from stillmotion.files import save_tensors
from stillmotion.nn.vgg import random_vgg
from stillmotion.worlds import sample_clip
from stillmotion.worlds.dataset import write_world


@cache
def digits(count: int = 4, frames: int = 12) -> tuple[Clip, ...]:
    return tuple(sample_clip("digits", 5, i, frames=frames) for i in range(count))


# --- curves --------------------------------------------------------------------------------------------------------
def test_psnr_over_time_by_hand() -> None:
    """Step 1 is off by 0.1 everywhere (20 dB), step 2 by 0.01 (40 dB); a shorter clip counts where it has steps."""
    target = torch.full((3, 3, 16, 16), 0.5)
    preds = target + torch.tensor([0.0, 0.1, 0.01])[:, None, None, None]
    curve = CURVES["PSNR"]()
    curve.update(preds, target)
    assert curve.compute().tolist() == pytest.approx([60, 20, 40], abs=1e-3)
    curve.update(target[:2] + 0.01, target[:2])
    assert curve.compute().tolist() == pytest.approx([50, 30, 40], abs=1e-2)
    refuses("must both be T x 3", curve.update, preds, target[:2], error=ValueError)


def test_ssim_and_brightness_over_time() -> None:
    torch.manual_seed(0)
    target = torch.rand(2, 3, 24, 24) * 0.5
    ssim, brightness = CURVES["SSIM"](), CURVES["brightness"]()
    preds = torch.stack([target[0], target[1] * 0.5])
    ssim.update(preds, target)
    brightness.update(preds, target)
    assert ssim.compute()[0] == pytest.approx(1, abs=1e-5)
    assert ssim.compute()[1] < 0.99
    assert brightness.compute().tolist() == pytest.approx([1, 0.5], abs=1e-5)


def test_curves_become_a_table_and_a_picture(tmp_path: Path) -> None:
    write_curves(tmp_path, {"PSNR": {"a": [60.0, 20.0], "b": [60.0, 10.0]}})
    lines = list(csv.reader((tmp_path / "curves.csv").open()))
    assert lines[0] == ["metric", "row", "step", "value"]
    assert lines[4] == ["PSNR", "b", "1", "10"]
    assert media.read_picture(tmp_path / "curve-psnr.png").shape == (360, 640, 3)


def test_a_higher_line_is_drawn_higher() -> None:
    picture = plot("x", {"low": [9, 1, 1, 1], "high": [9, 3, 3, 3]})
    blue, red = (
        np.flatnonzero((picture[:, 300] == colour).all(-1)).mean() for colour in ((31, 119, 180), (214, 39, 40))
    )
    assert red < blue


# --- LPIPS ---------------------------------------------------------------------------------------------------------
class Pixels(torch.nn.Module):
    """The frame itself as the only map."""

    def forward(self, pictures: Tensor) -> list[Tensor]:
        return [pictures]


def test_lpips_by_hand() -> None:
    """Two places; at one the unit vectors (1, 0, 0) and (0, 1, 0) differ, weights 2, 3, 5: (2 + 3) / 2 places."""
    frames = np.zeros((1, 32, 64, 3), np.uint8)
    frames[..., 0] = 255
    other = frames.copy()
    other[:, :, :32] = (0, 51, 0)  # half the places; length does not count
    source = NetworkFeatures(LPIPSNetwork(Pixels(), [torch.tensor([2.0, 3.0, 5.0])]), 0, None, lambda x: x, "")
    metric = LPIPS()
    metric.update(source(frames), source(other))
    assert metric.compute() == pytest.approx(2.5, abs=1e-4)
    assert LPIPS()(source(frames), source(frames)) == 0
    refuses("32 pixels a side", source, frames[:, :16])


def lpips_files(folder: Path, trunk: dict[str, Tensor], widths: tuple[int, ...], sign: float = 1.0) -> str:
    named = []
    for name, tensors in {
        "trunk": {**trunk, "classifier.0.weight": torch.zeros(2)},
        "linear": {f"lin{i}.model.1.weight": sign * torch.rand(1, w, 1, 1) for i, w in enumerate(widths)},
    }.items():
        path = folder / f"{name}.safetensors"
        save_tensors(path, tensors)
        named.append(f"{path}@{hashlib.sha256(path.read_bytes()).hexdigest()}")
    return "+".join(named)


def test_lpips_from_files(tmp_path: Path) -> None:
    torch.manual_seed(0)
    given = lpips_files(tmp_path, dict(AlexNet().state_dict()), (64, 192, 384, 256, 256))
    source = open_extractors([("lpips", given)])["lpips"]
    assert "AlexNet" in source.description
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 255, (1, 64, 64, 3), dtype=np.uint8)
    near = np.clip(frame.astype(int) + rng.integers(-9, 10, frame.shape), 0, 255).astype(np.uint8)
    far = rng.integers(0, 255, frame.shape, dtype=np.uint8)
    distances = [float(LPIPS()(source(frame), source(other))) for other in (frame, near, far)]
    assert distances[0] == 0 < distances[1] < distances[2]
    refuses("SHA-256", open_lpips, given[:-4] + "0000")
    refuses("needs two files", open_lpips, "one.safetensors@00")
    negative = tmp_path / "negative"
    negative.mkdir()
    with pytest.raises(StillmotionError, match="negative weights"):
        open_lpips(lpips_files(negative, dict(AlexNet().state_dict()), (64, 192, 384, 256, 256), -1))


def test_alexnet_has_torchvisions_trunk() -> None:
    shapes = {name: tuple(value.shape) for name, value in AlexNet().state_dict().items()}
    assert sum(value.numel() for value in AlexNet().parameters()) == 2_469_696  # torchvision's `features`
    assert shapes["features.0.weight"] == (64, 3, 11, 11)
    assert shapes["features.10.weight"] == (256, 256, 3, 3)


@pytest.mark.slow
def test_lpips_on_vgg(tmp_path: Path) -> None:
    given = lpips_files(tmp_path, dict(random_vgg().state_dict()), (64, 128, 256, 512, 512))
    source = open_lpips(given)
    assert "VGG-16" in source.description
    frame = np.random.default_rng(0).integers(0, 255, (1, 32, 32, 3), dtype=np.uint8)
    assert source(frame).shape == (1, 64 * 1024 + 128 * 256 + 256 * 64 + 512 * 16 + 512 * 4)


# --- smoothness ----------------------------------------------------------------------------------------------------
def test_pose_smoothness_by_hand() -> None:
    """In 200 x 100 pixels: one joint moves by 2 then 6 (1 % and 3 %), the other is lost in 1; 3 is empty."""
    joints = torch.zeros(4, 2, 3)
    joints[:, 0, 0] = torch.tensor([0.0, 2.0, 8.0, 99.0])
    joints[:3, 0, 2] = 1
    joints[0, 1, 2] = joints[2, 1, 2] = 1
    found = {}
    for kind in ("mean", "deviation", "detection"):
        metric = PoseSmoothness(kind)
        metric.update(joints, (200, 100))
        found[kind] = float(metric.compute())
    assert found == pytest.approx({"mean": 2, "deviation": 1, "detection": 75})
    still = PoseSmoothness()
    still.update(torch.ones(3, 5, 3), (64, 64))
    assert still.compute() == 0
    assert math.isnan(PoseSmoothness().compute())


# --- digits --------------------------------------------------------------------------------------------------------
def test_the_classifier_is_small_and_reads_a_handwritten_seven() -> None:
    assert WEIGHTS.stat().st_size < 300_000
    network = load_classifier()
    assert sum(p.numel() for p in network.parameters()) < 60_000
    # Strokes drawn by hand: a seven, a one, a nought, at two places and sizes of frame.
    for size, at in ((64, (8, 40)), (112, (70, 20))):
        unit = size / 112
        frames = np.zeros((3, size, size, 3), np.uint8)
        y, x = np.mgrid[:size, :size]
        u, v = (x + 0.5) / unit - at[0], (y + 0.5) / unit - at[1]  # 28 units of the digit's picture

        def line(x0: float, y0: float, x1: float, y1: float, u: np.ndarray = u, v: np.ndarray = v) -> np.ndarray:
            share = np.clip(((u - x0) * (x1 - x0) + (v - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2), 0, 1)
            return np.hypot(u - x0 - share * (x1 - x0), v - y0 - share * (y1 - y0)) < 1.3

        frames[0][line(7, 6, 20, 6) | line(20, 6, 12, 23)] = 255
        frames[1][line(14, 4, 14, 24)] = 255
        frames[2][np.abs(np.hypot((u - 14) / 0.75, v - 14) - 9) < 1.6] = 255
        assert read_digits(frames, network).tolist() == [7, 1, 0]


def test_digits_are_read_wherever_they_are() -> None:
    """The window that is classified shows the same digit at any position, so the class is the same."""
    torch.manual_seed(0)
    network = DigitClassifier().eval()
    clip = digits(1)[0]
    frame = np.asarray(clip.frames)[0]
    moved = np.roll(frame, (5, -3), (0, 1))
    assert read_digits(np.stack([frame, moved]), network).unique().numel() == 1


# --- gait ----------------------------------------------------------------------------------------------------------
def test_strides_of_made_walkers() -> None:
    """Two true clips; over many, see docs/evaluation.md."""
    for index, action in ((5, "jog"), (0, "run")):
        clip = sample_clip("puppets", 5, index, frames=32, action=("walk", "jog", "run"))
        assert clip.meta["action"] == action
        truth = clip.meta["gait"]["stride_hz"]
        found = stride_rate(np.asarray(clip.frames), clip.fps, clip.tracks["points"], clip.tracks["box"][0])
        assert found == pytest.approx(truth, rel=0.15)


def scissors(steps_hz: float, fps: float = 25.0, count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Two legs under a trunk that swing against each other; a stride is two steps."""
    frames = np.full((count, 64, 96, 3), 40, np.uint8)
    places = np.stack([20 + 1.2 * np.arange(count), np.full(count, 32.0)], 1)
    y, x = np.mgrid[:64, :96]
    for t, (px, _) in enumerate(places):
        swing = 9 * math.sin(math.pi * steps_hz * t / fps)
        trunk = (np.abs(x - px) < 4) & (y > 8) & (y < 34)
        legs = np.zeros_like(trunk)
        for sign in (-1, 1):
            legs |= (np.abs(x - px - sign * swing * (y - 32) / 24) < 2) & (y >= 32) & (y < 56)
        frames[t][trunk | legs] = 200
    return frames, places


@pytest.mark.parametrize("steps", [1.6, 2.4, 3.0])
def test_strides_of_scissors(steps: float) -> None:
    frames, places = scissors(steps)
    found = stride_rate(frames, 25.0, places, np.array([11, 9, 29, 55]))
    assert found == pytest.approx(steps / 2, rel=0.05)


def test_no_gait_without_legs() -> None:
    frames, places = scissors(2.0)
    stiff = np.repeat(frames[:1], 40, axis=0)
    assert math.isnan(stride_rate(stiff, 25.0, places[:1].repeat(40, 0), np.array([11, 9, 29, 55])))
    assert math.isnan(stride_rate(frames[:8], 25.0, places[:8], np.array([11, 9, 29, 55])))
    right = StrideAccuracy()
    right.update(torch.tensor([1.1, 1.2, math.nan, 0.9]), torch.ones(4))
    assert right.compute() == 50


# --- the protocol --------------------------------------------------------------------------------------------------
def test_three_cases_of_a_clip() -> None:
    cases = stroke_cases(digits())
    own, other, long = (
        next(c for c in cases if isinstance(c, StrokeCase) and c.kind == k) for k in ("own", "other", "long")
    )
    clip = digits()[0]
    assert (own.name, other.name, long.name) == (clip.name, f"{clip.name}--other", f"{clip.name}--long")
    assert np.array_equal(own.stroke, clip.tracks["points"])
    assert np.allclose(other.stroke[0], own.stroke[0])
    # It is another clip's stroke, shifted, and the digit stays inside.
    shapes = [np.asarray(c.tracks["points"]) - c.tracks["points"][0] for c in digits()[1:]]
    assert any(np.allclose(other.stroke - other.stroke[0], shape, atol=1e-4) for shape in shapes)
    assert long.target.shape[0] == 201
    assert np.array_equal(long.target[12], clip.frames[10])
    assert np.array_equal(long.stroke[12], np.asarray(clip.tracks["points"][10], np.float64))
    if own.other_end is not None:
        assert np.array_equal(own.other_end, other.stroke[-1])
        assert np.linalg.norm(own.other_end - own.stroke[-1]) >= 8
    assert back_and_forth(3, 8).tolist() == [0, 1, 2, 1, 0, 1, 2, 1]
    assert back_and_forth(1, 3).tolist() == [0, 0, 0]


def test_clips_without_a_track_or_a_known_point_are_refused() -> None:
    clip = digits()[0]
    refuses("has neither of the tracks points and joints", stroke_cases, [Clip("bare", clip.frames, 10.0)])
    lost = Clip("lost", clip.frames, 10.0, {"points": np.full((12, 2), np.nan)})
    refuses("No clip has a known point", stroke_cases, [lost])
    with pytest.warns(StillmotionWarning, match="1 clips have no known point and are left out: lost"):
        cases = stroke_cases([lost, clip])
    assert [case.name for case in cases] == [clip.name, f"{clip.name}--long"]


def measured(predictor: object) -> dict[str, float | None]:
    cases = [case for case in stroke_cases(digits()) if isinstance(case, StrokeCase)]
    columns = [column for column in COLUMNS if column.extractor == "pixels"]
    metrics, cache = {column.name: column.build(None) for column in columns}, FeatureCache({})
    for case in cases:
        frames = predictor(case)  # type: ignore[operator]
        if frames is not None:
            add_case(metrics, columns, cache, case, [frames])
    return {name: float(metric.compute()) if metric.update_called else None for name, metric in metrics.items()}


def pasted(case: StrokeCase) -> np.ndarray:
    """A correct prediction on black: the digit shifted to the stroke's points, by whole pixels."""
    shifts = (case.stroke - case.stroke[0]).round().astype(int)
    return np.stack([np.roll(case.still, (dy, dx), (0, 1)) for dx, dy in shifts])


def test_correct_and_static_predictions() -> None:
    truth, still, perfect = measured(true_clip), measured(copy_still), measured(pasted)
    assert truth["PSNR"] == 60
    assert truth["trajectory error"] < 0.3
    assert perfect["trajectory error (% of width)"] == pytest.approx(100 * (perfect["trajectory error"] or 0) / 64)
    assert (perfect["trajectory error (% of width)"] or 9) < 1
    assert (still["trajectory error (% of width)"] or 0) > 5
    assert (perfect["endpoint accuracy"], still["endpoint accuracy"]) == (100, 50)
    assert perfect["class accuracy"] == still["class accuracy"]
    assert (truth["background change"], still["background change (200)"], perfect["background change"]) == (0, 0, 0)
    assert truth["stride accuracy"] is None


def test_a_background_that_drifts_is_measured() -> None:
    def drifting(case: StrokeCase) -> np.ndarray:
        frames = true_clip(case)
        frames = copy_still(case) if frames is None else frames
        late = (np.arange(len(frames)) >= 100)[:, None, None, None]
        return np.clip(frames.astype(int) + late * 51, 0, 255).astype(np.uint8)

    found = measured(drifting)
    assert found["background change"] == 0
    assert found["background change (200)"] == pytest.approx(0.2 * 101 / 201, abs=1e-3)


def test_the_class_is_read_in_the_last_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    case = next(c for c in stroke_cases(digits()) if isinstance(c, StrokeCase))
    seen: list[np.ndarray] = []

    def read(frames: np.ndarray, network: object) -> Tensor:
        seen.append(frames)
        return torch.tensor([3])

    monkeypatch.setattr(strokes, "read_digits", read)
    column = next(c for c in COLUMNS if c.name == "class accuracy")
    found = column.arguments(Prediction(case, np.asarray(case.target), FeatureCache({})))
    assert np.array_equal(seen[0], case.target[-1:])
    assert found[1].tolist() == [case.clip.meta["label"]]


def test_a_report_of_strokes(tmp_path: Path) -> None:
    write_world("digits", tmp_path / "data", clips=2, size=32, frames=12, test_share=0.5)
    text = evaluate_models([], tmp_path / "data", "strokes", tmp_path / "report")
    assert "baseline: the true clip" in text
    assert "| PSNR | baseline: copy the still |" in text
    assert "LPIPS (needs VGG-16 or AlexNet" in text
    lines = (tmp_path / "report" / "curves.csv").read_text().splitlines()
    assert "PSNR,baseline: the true clip,11,60" in lines
    assert PROTOCOLS["strokes"].has_truth is has_truth


@pytest.mark.parametrize(("read", "wanted"), [(0.9, 50.0), (float("nan"), 0.0)])
def test_gait_transfer(monkeypatch: pytest.MonkeyPatch, read: float, wanted: float) -> None:
    """One walks and one runs; each gets the other's stroke. Legs that always walk are correct for one of them."""
    clips = [
        Clip(name, np.zeros((12, 64, 64, 3), np.uint8), 25.0, tracks, {"gait": {"stride_hz": rate}})
        for name, rate, step in (("walker", 0.9, 0.5), ("runner", 1.5, 2.0))
        for tracks in [
            {
                "points": np.stack([20 + step * np.arange(12), np.full(12, 30.0)], -1),
                "box": np.tile([15.0, 20, 25, 40], (12, 1)),
            }
        ]
    ]
    cases = [case for case in stroke_cases(clips) if isinstance(case, StrokeCase)]
    rates = [(stride_hz(case.clip), stride_hz(case.donor)) for case in cases if case.kind == "other"]
    assert rates == [(0.9, 1.5), (1.5, 0.9)]
    monkeypatch.setattr(strokes, "stride_rate", lambda *_: read)
    column = next(column for column in COLUMNS if column.name == "gait transfer accuracy")
    cache, metrics = FeatureCache({}), {column.name: column.build(None)}
    for case in cases:
        add_case(metrics, [column], cache, case, [copy_still(case)])
    assert float(metrics["gait transfer accuracy"].compute()) == wanted
