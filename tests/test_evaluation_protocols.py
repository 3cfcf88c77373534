"""Protocols: several samples per case, features of whole videos, and the fit of a protocol to a model."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from driving_tools import driving_frames, tiny_driving
from stillmotion.animate import Animator
from stillmotion.controls import Control, Drive
from stillmotion.data.clip import Clip
from stillmotion.data.info import DatasetInfo
from stillmotion.data.shards import write_dataset
from stillmotion.errors import StillmotionError
from stillmotion.evaluation import protocols
from stillmotion.evaluation.extractors.base import NetworkFeatures
from stillmotion.evaluation.metrics.feature import LPIPS
from stillmotion.evaluation.metrics.pixel import L1, MSE, PSNR
from stillmotion.evaluation.metrics.samples import BestOfSamples, SampleDiversity
from stillmotion.evaluation.protocols import PROTOCOLS, check_fits, choose_protocol
from stillmotion.evaluation.protocols.base import Protocol, control_of, copy_still, feed
from stillmotion.evaluation.protocols.columns import (
    LPIPS_COLUMN,
    Case,
    Column,
    best_of_samples,
    frechet_column,
    metric,
    pixel_columns,
    sample_diversity,
)
from stillmotion.evaluation.protocols.reconstruction import reconstruction_cases
from stillmotion.evaluation.report import evaluate_models
from stillmotion.systems.driving.animating import Driving
from strokes_tools import tiny_strokes


def grey(*values: int) -> np.ndarray:
    return np.stack([np.full((32, 32, 3), value, np.uint8) for value in values])


# --- metrics over samples ------------------------------------------------------------------------------------------


def level(value: float) -> Tensor:
    return torch.full((2, 3, 8, 8), value)


def test_best_of_samples_by_hand() -> None:
    target = level(0.5)
    lowest, highest = BestOfSamples(L1()), BestOfSamples(PSNR())
    for best in (lowest, highest):
        best.update([(level(0.6), target), (level(0.51), target), (level(0.7), target)])
        best.update([(level(0.4), target)])
    assert lowest.compute() == pytest.approx((0.01 + 0.1) / 2, rel=1e-4)
    assert highest.compute() == pytest.approx((40 + 20) / 2, rel=1e-4)
    assert (lowest.higher_is_better, highest.higher_is_better) == (False, True)
    lowest.update([(level(math.nan), target), (level(0.7), target)])  # a sample without a value is left out
    assert lowest.compute() == pytest.approx((0.01 + 0.1 + 0.2) / 3, rel=1e-4)


def test_diversity_is_the_mean_over_pairs() -> None:
    diversity = SampleDiversity(MSE())
    diversity.update([(level(0.0),), (level(0.2),), (level(0.4),)])
    assert diversity.compute() == pytest.approx((0.04 + 0.16 + 0.04) / 3, rel=1e-4)
    diversity.update([(level(0.3),), (level(0.3),)])  # twice the same sample
    assert diversity.compute() == pytest.approx(0.08 / 2, rel=1e-4)
    assert math.isnan(SampleDiversity(MSE())([(level(0.3),)]))  # a single sample has no pair
    features = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    pairwise = SampleDiversity(LPIPS())
    pairwise.update([(features,), (features + torch.tensor([1.0, 2.0]),)])
    assert pairwise.compute() == 5  # 1 + 4 in both frames
    assert "over all pairs" in pairwise.definition
    assert "lower is better" not in pairwise.definition


# --- a protocol with samples, and an extractor of videos -----------------------------------------------------------


class Brightness:
    """One feature per video: its mean brightness, 0 to 255."""

    description, dimension, per_video = "the mean brightness", 1, True

    def __call__(self, frames: np.ndarray) -> Tensor:
        return torch.tensor([[float(frames.mean())]])


class Flat:
    """Features per frame whose squared distances stand for LPIPS."""

    description, dimension, per_video = "the red channel over 10", 1, False

    def __call__(self, frames: np.ndarray) -> Tensor:
        return torch.from_numpy(frames[:, 0, 0, :1].astype(np.float32) / 10)


def brighter(case: Case, sample: int) -> np.ndarray:
    """Sample 0 is the target, sample 1 is 20 levels brighter."""
    return case.target + np.uint8(20 * sample)


def toy_protocol(**changes: Any) -> Protocol:
    options: dict[str, Any] = {
        "name": "toy",
        "definition": "a toy",
        "cases": reconstruction_cases,
        "predictor": feed(lambda system, case: control_of(system, case.clip)),
        "baselines": {"copy the still": copy_still, "brighter": brighter},
        "columns": (
            *pixel_columns(),
            best_of_samples(pixel_columns()[0]),
            sample_diversity(Column("MSE", metric(MSE))),
            sample_diversity(LPIPS_COLUMN),
            frechet_column("FVD", "video"),
        ),
        "samples": 2,
    }
    return Protocol(**{**options, **changes})


@pytest.fixture
def greys(tmp_path: Path) -> Path:
    clips = [Clip("one", grey(10, 10, 10), 25.0), Clip("two", grey(30, 30), 25.0)]
    write_dataset(tmp_path / "greys", clips, info=DatasetInfo(title="greys"))
    return tmp_path / "greys"


def test_samples_and_videos_by_hand(greys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocols, "PROTOCOLS", {"toy": toy_protocol()})
    extractors = {"video": Brightness(), "lpips": Flat()}
    text = evaluate_models([], greys, "toy", tmp_path / "out", split="all", extractors=extractors)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    still, found = (report["means"][f"baseline: {name}"] for name in ("copy the still", "brighter"))
    step = 20 / 255
    assert found["L1"] == pytest.approx(step / 2)  # the mean over samples
    assert found["PSNR"] == pytest.approx((60 - 20 * math.log10(step)) / 2, rel=1e-4)
    assert found["L1 (best sample)"] == 0
    assert found["diversity (MSE)"] == pytest.approx(step**2, rel=1e-4)
    assert found["diversity (LPIPS)"] == pytest.approx(4)
    # Videos of 10 and 30, whatever their length, against 10, 30, 30 and 50: means 20 and 30, unbiased deviations.
    assert found["FVD"] == pytest.approx(10**2 + (math.sqrt(200) - math.sqrt(800 / 3)) ** 2, rel=1e-4)
    assert (still["L1"], still["diversity (MSE)"]) == (0, 0)
    row = report["per_clip"]["baseline: brighter"]["two"]
    assert row["L1"] == pytest.approx(step / 2)
    assert row["L1 (best sample)"] == 0
    assert "FVD" not in row  # a single video has no distribution
    assert report["samples"] == 2
    assert "2 cases, 2 samples of each" in text
    assert "target videos" in report["metrics"]["FVD"]


def test_a_missing_extractor_of_videos_is_named(greys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocols, "PROTOCOLS", {"toy": toy_protocol()})
    text = evaluate_models([], greys, "toy", tmp_path / "out", split="all")
    assert "FVD (needs extractors={'video': ...} from Python)" in text


def test_the_sample_is_the_seed() -> None:
    seen: list[int | None] = []

    class Seeded(Animator):
        def __call__(
            self, still: Any, control: Control, frames: int | None = None, seed: int | None = None, **o: Any
        ):  # type: ignore[no-untyped-def, override]
            seen.append(seed)
            return super().__call__(still, control, frames, seed, **o)

    frames = driving_frames(2)
    predict = PROTOCOLS["reconstruction"].predictor(Seeded(tiny_driving()))
    case = Case("a", frames[0], frames, Clip("a", frames, 25.0))
    assert all(predict(case, sample) is not None for sample in range(3))
    assert seen == [0, 1, 2]


def test_a_report_shows_every_sample(greys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stillmotion import media

    tiny_driving().save_pretrained(tmp_path / "model")
    monkeypatch.setattr(protocols, "PROTOCOLS", {"toy": toy_protocol()})
    evaluate_models([str(tmp_path / "model")], greys, "toy", tmp_path / "out", split="all")
    assert media.read_picture(tmp_path / "out" / "one.png").shape == (3 * 32, 3 * 32, 3)  # target, two samples


# --- which protocol ------------------------------------------------------------------------------------------------


def test_a_protocol_that_does_not_fit_is_refused_before_any_work(tmp_path: Path) -> None:
    tiny_driving().save_pretrained(tmp_path / "model")
    with pytest.raises(
        StillmotionError,
        match=r"'strokes' feeds Stroke, which the system driving does not take; protocols that fit it are "
        r"reconstruction, transfer, transfer-absolute\.",
    ):
        evaluate_models([str(tmp_path / "model")], tmp_path / "missing", "strokes", tmp_path / "out")
    with pytest.raises(StillmotionError, match=r"feeds Drive, .* fit it are strokes\."):
        check_fits(PROTOCOLS["transfer"], tiny_strokes())
    assert not (tmp_path / "out").exists()


def test_declared_controls_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    class Push:
        """A control that no protocol feeds."""

    system = tiny_driving()
    monkeypatch.setattr(Driving, "controls", (Push, Drive), raising=False)
    check_fits(PROTOCOLS["transfer"], system)
    monkeypatch.setattr(Driving, "controls", (Push,))
    with pytest.raises(StillmotionError, match="protocols that fit it are none"):
        check_fits(PROTOCOLS["transfer"], system)
    monkeypatch.setattr(Driving, "control_of", staticmethod(lambda clip: Push()), raising=False)
    check_fits(PROTOCOLS["reconstruction"], system)  # which feeds whatever control_of makes


def test_models_bring_their_own_protocol(greys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_driving().save_pretrained(tmp_path / "one")
    monkeypatch.setattr(Driving, "protocol", "reconstruction", raising=False)
    evaluate_models([str(tmp_path / "one")], greys, None, tmp_path / "out", split="all")
    assert json.loads((tmp_path / "out" / "report.json").read_text())["protocol"] == "reconstruction"
    monkeypatch.setattr(Driving, "protocol", "transfer")
    assert choose_protocol(None, {"a": tiny_driving()}).name == "transfer"
    with pytest.raises(StillmotionError, match=r"no protocol in common \(a: transfer, b: strokes\); choose one with"):
        choose_protocol(None, {"a": tiny_driving(), "b": tiny_strokes()})
    with pytest.raises(StillmotionError, match="there is no model"):
        choose_protocol(None, {})


def test_reconstruction_takes_the_systems_own_control(monkeypatch: pytest.MonkeyPatch) -> None:
    frames, seen = driving_frames(4), []

    def backwards(clip: Clip) -> Drive:
        seen.append(clip.name)
        return Drive(np.asarray(clip.frames)[::-1].copy(), transfer="absolute")

    animator = Animator(tiny_driving())
    (case,) = reconstruction_cases([Clip("a", frames, 25.0)])
    plain = PROTOCOLS["reconstruction"].predictor(animator)(case, 0)
    assert plain is not None
    assert np.array_equal(plain, animator(frames[0], Drive(frames, transfer="absolute")).frames())
    monkeypatch.setattr(Driving, "control_of", staticmethod(backwards), raising=False)
    found = PROTOCOLS["reconstruction"].predictor(animator)(case, 0)
    assert found is not None
    assert np.array_equal(found, animator(frames[0], backwards(case.clip)).frames())
    assert not np.array_equal(found, plain)
    assert seen == ["a", "a"]


def test_adding_a_protocol_is_adding_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "added.py").write_text(
        "from dataclasses import replace\n"
        "from stillmotion.evaluation.protocols.transfer import PROTOCOL as TRANSFER\n"
        "PROTOCOL = replace(TRANSFER, name='added')\n"
    )
    monkeypatch.setattr(protocols, "__path__", [*protocols.__path__, str(tmp_path)])
    assert list(protocols.discover()) == [*PROTOCOLS, "added"]
    monkeypatch.delitem(sys.modules, "stillmotion.evaluation.protocols.added")


# --- devices -------------------------------------------------------------------------------------------------------


def test_networks_go_to_the_device(greys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake device: where modules are sent is recorded, and they stay on the CPU."""
    tiny_driving().save_pretrained(tmp_path / "model")
    sent: list[str] = []

    def to(module: nn.Module, device: str = "", **_: object) -> nn.Module:
        sent.extend([device] * bool(device))
        return module

    monkeypatch.setattr(nn.Module, "to", to)
    evaluate_models([str(tmp_path / "model")], greys, "reconstruction", tmp_path / "out", split="all", device="fake")
    assert sent == ["fake"]
    NetworkFeatures(nn.Flatten(), 1, (4, 4), lambda x: x, "", "fake")
    assert sent == ["fake", "fake"]
