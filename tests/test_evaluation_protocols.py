"""Protocols: several samples per case, features of whole videos, and the fit of a protocol to a model."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from refusals import refuses
from stillmotion import media
from stillmotion.animate import Animator
from stillmotion.data.clip import Clip
from stillmotion.data.info import DatasetInfo
from stillmotion.data.shards import write_dataset
from stillmotion.errors import StillmotionError
from stillmotion.evaluation import protocols, report
from stillmotion.evaluation.extractors.base import NetworkFeatures
from stillmotion.evaluation.metrics.base import BestOfSamples, SampleDiversity
from stillmotion.evaluation.metrics.feature import LPIPS
from stillmotion.evaluation.metrics.pixel import L1, MSE, PSNR
from stillmotion.evaluation.protocols import PROTOCOLS, check_fits, choose_protocol
from stillmotion.evaluation.protocols.base import Protocol, copy_still, feed
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
from stillmotion.systems.driving import Drive
from toy_tools import Push, Toy, ToyConfig


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
        "predictor": feed(lambda system, case: system.control_of(case.clip)),
        "baselines": {"copy the still": copy_still, "brighter": brighter},
        "columns": (
            *pixel_columns(),
            best_of_samples(pixel_columns()[0]),
            sample_diversity(Column("MSE", metric(MSE))),
            sample_diversity(LPIPS_COLUMN),
            frechet_column("FVD", "brightness"),
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
    extractors = {"brightness": Brightness(), "lpips": Flat()}
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
    assert "target videos (4 and 2 here)" in report["metrics"]["FVD"]


def test_a_missing_extractor_of_videos_is_named(greys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocols, "PROTOCOLS", {"toy": toy_protocol()})
    text = evaluate_models([], greys, "toy", tmp_path / "out", split="all")
    assert "FVD (needs extractors={'brightness': ...} from Python)" in text


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Every model is the toy; what is loaded and where to."""
    loaded: list[tuple[str, str]] = []

    def load(model: str, device: str = "cpu") -> Animator:
        loaded.append((model, device))
        return Animator(Toy.build(ToyConfig()))

    monkeypatch.setattr(report, "load", load)
    return loaded


def test_the_sample_is_the_seed() -> None:
    (case,) = reconstruction_cases([Clip("a", grey(10, 20, 3), 25.0)])
    predict = PROTOCOLS["reconstruction"].predictor(Animator(Toy.build(ToyConfig())))
    samples = [predict(case, sample) for sample in range(3)]
    assert all(frames is not None and frames.shape == (3, 32, 32, 3) for frames in samples)
    # The seed is in the red channel; the clip's own control makes each frame brighter by 3 % 7 + 1.
    assert [frames[1, 0, 0].tolist() for frames in samples if frames is not None] == [
        [18, 18, 18], [19, 18, 18], [20, 18, 18],
    ]  # fmt: skip


@pytest.mark.usefixtures("toy")
def test_a_report_shows_every_sample(greys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocols, "PROTOCOLS", {"toy": toy_protocol()})
    evaluate_models(["model"], greys, "toy", tmp_path / "out", split="all")
    picture = media.read_picture(tmp_path / "out" / "one.png")
    assert picture.shape == (3 * 32, 3 * 32, 3)  # target, two samples
    assert (picture[64, 0] - picture[32, 0]).tolist() == [1, 0, 0]


# --- which protocol ------------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("toy")
def test_a_protocol_that_does_not_fit_is_refused_before_any_work(tmp_path: Path) -> None:
    words = r"'strokes' feeds Stroke, which the system toy does not take; protocols that fit it are reconstruction\."
    refuses(words, evaluate_models, ["model"], tmp_path / "missing", "strokes", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_declared_controls_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Toy, "controls", (Push, Drive))
    check_fits(PROTOCOLS["transfer"], Toy.build(ToyConfig()))
    monkeypatch.setattr(Toy, "controls", (Push,))
    with pytest.raises(StillmotionError, match=r"feeds Drive, .* protocols that fit it are reconstruction\."):
        check_fits(PROTOCOLS["transfer"], Toy.build(ToyConfig()))
    check_fits(PROTOCOLS["reconstruction"], Toy.build(ToyConfig()))  # which feeds whatever control_of makes


def test_models_bring_their_own_protocol(
    greys: Path, tmp_path: Path, toy: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate_models(["a", "b"], greys, None, tmp_path / "out", split="all", device="fake")
    assert json.loads((tmp_path / "out" / "report.json").read_text())["protocol"] == "reconstruction"
    assert toy == [("a", "fake"), ("b", "fake")]

    class Other(Toy):
        protocol = "transfer"

    one, other = Toy.build(ToyConfig()), Other.build(ToyConfig())
    with pytest.raises(StillmotionError, match=r"in common \(a: reconstruction, b: transfer\); choose one with"):
        choose_protocol(None, {"a": one, "b": other})
    monkeypatch.setattr(Other, "controls", (Drive,))
    assert choose_protocol(None, {"b": other}).name == "transfer"
    refuses("there is no model", choose_protocol, None, {})


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
def test_the_network_of_an_extractor_goes_to_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake device: where modules are sent is recorded, and they stay on the CPU."""
    sent: list[str] = []
    monkeypatch.setattr(nn.Module, "to", lambda module, device: sent.append(device) or module)
    NetworkFeatures(nn.Flatten(), 1, (4, 4), lambda x: x, "", "fake")
    assert sent == ["fake"]
