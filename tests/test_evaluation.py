"""Metrics on inputs whose answer is known, baselines by hand, and a report of a tiny model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stillmotion import media
from stillmotion.data.clip import Clip
from stillmotion.data.info import DatasetInfo
from stillmotion.data.shards import write_dataset
from stillmotion.errors import StillmotionError
from stillmotion.evaluation import protocols
from stillmotion.evaluation.metrics import L1, PIXEL_METRICS, PSNR, PSNR_CAP, SSIM, ClipMean
from stillmotion.evaluation.protocols import PROTOCOLS, copy_still, find_protocol, mean_frame
from stillmotion.evaluation.report import evaluate_models, measure, strip
from tiny import driving_frames, still_picture, tiny_driving

PICTURE = torch.from_numpy(still_picture((24, 20)).copy()).permute(2, 0, 1)[None].float() / 255


def flat(value: float, frames: int = 1) -> torch.Tensor:
    return torch.full((frames, 3, 16, 16), value)


# --- metrics -------------------------------------------------------------------------------------------------------


def test_identical_clips_are_perfect() -> None:
    clip = PICTURE.expand(3, -1, -1, -1)
    results = {}
    for name, kind in PIXEL_METRICS.items():
        metric = kind()
        metric.update(clip, clip)
        results[name] = metric.compute().item()
    assert results["L1"] == 0
    assert results["PSNR"] == PSNR_CAP == 60
    assert results["SSIM"] == pytest.approx(1, abs=1e-4)  # float32: variances are differences of large numbers


def test_a_constant_offset_by_hand() -> None:
    made, real = flat(0.6, 2), flat(0.5, 2)
    for kind, value in ((L1, 0.1), (PSNR, 20.0)):  # 10 * log10(1 / 0.1^2)
        metric = kind()
        metric.update(made, real)
        assert metric.compute().item() == pytest.approx(value, rel=1e-5)
    metric = SSIM()
    metric.update(made, real)
    # Without variance SSIM is its luminance term alone, with c1 = (0.01)^2.
    assert metric.compute().item() == pytest.approx((2 * 0.6 * 0.5 + 1e-4) / (0.36 + 0.25 + 1e-4), abs=1e-4)


def test_psnr_is_averaged_over_frames_not_over_errors() -> None:
    made, real = torch.cat([flat(0.6), flat(0.51)]), flat(0.5, 2)
    metric = PSNR()
    metric.update(made, real)
    assert metric.compute().item() == pytest.approx((20 + 40) / 2, rel=1e-4)
    metric = PSNR()
    metric.update(torch.cat([flat(0.6), flat(0.5)]), real)  # the second is perfect
    assert metric.compute().item() == pytest.approx((20 + PSNR_CAP) / 2, rel=1e-4)


def test_ssim_sees_structure() -> None:
    noise = torch.rand(PICTURE.shape, generator=torch.Generator().manual_seed(0))
    values = []
    for share in (0.0, 0.1, 0.5):
        metric = SSIM()
        metric.update((1 - share) * PICTURE + share * noise, PICTURE)
        values.append(metric.compute().item())
    assert values[0] > values[1] > values[2]


@pytest.mark.parametrize("kind", [L1, PSNR])
def test_every_clip_weighs_the_same_whatever_its_length(kind: type[ClipMean]) -> None:
    metric, short, long = kind(), kind(), kind()
    metric.update(flat(0.6), flat(0.5))
    metric.update(flat(0.9, 9), flat(0.5, 9))
    short.update(flat(0.6), flat(0.5))
    long.update(flat(0.9), flat(0.5))
    mean = (short.compute() + long.compute()) / 2
    assert metric.compute().item() == pytest.approx(mean.item(), rel=1e-5)


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 1, 16, 16), (2, 3, 16, 16), (1, 16, 16, 3)])
def test_clips_of_different_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="T x 3 x H x W"):
        L1().update(torch.zeros(shape), flat(0.0))


def test_every_metric_says_its_definition_and_direction() -> None:
    for kind in (L1, PSNR, SSIM):
        assert len(kind.definition) > 20
        assert ("higher is better" in kind.definition) == kind.higher_is_better


def test_measure_takes_uint8() -> None:
    real = np.full((2, 16, 16, 3), 100, np.uint8)
    values = measure(real + np.uint8(51), real)  # 51 / 255 is a fifth
    assert values["L1"] == pytest.approx(0.2)
    assert values["PSNR"] == pytest.approx(20 * np.log10(5), rel=1e-4)


# --- baselines and protocols ---------------------------------------------------------------------------------------


def test_baselines_by_hand() -> None:
    frames = np.zeros((3, 2, 2, 3), np.uint8)
    frames[1], frames[2] = 10, 21
    clip = Clip("a", frames, 25.0)
    assert copy_still(clip).shape == mean_frame(clip).shape == frames.shape
    assert (copy_still(clip) == 0).all()
    assert (mean_frame(clip) == 10).all()  # 31 / 3
    assert copy_still(clip).dtype == mean_frame(clip).dtype == np.uint8


def test_reconstruction_gives_the_clip_to_the_model() -> None:
    from stillmotion.animate import Animator

    frames = driving_frames(3)
    answer = PROTOCOLS["reconstruction"].answer(Animator(tiny_driving()))
    assert answer(Clip("a", frames, 25.0)).shape == frames.shape


def test_an_unknown_protocol_is_told_with_those_known() -> None:
    with pytest.raises(StillmotionError, match="no protocol 'magic'; known are reconstruction"):
        find_protocol("magic")


# --- reports -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    tiny_driving().save_pretrained(folder / "model")
    clips = [
        Clip("short", driving_frames(3), 25.0, meta={"split": "test"}),
        Clip("long", driving_frames(14)[4:], 25.0, meta={"split": "test"}),
        Clip("seen", driving_frames(2), 25.0, meta={"split": "train"}),
        Clip("still", driving_frames(1), 25.0, meta={"split": "frozen"}),
    ]
    write_dataset(folder / "set", clips, info=DatasetInfo(title="made"))
    return folder


def test_a_report_says_everything(bench: Path, tmp_path: Path) -> None:
    out, model = tmp_path / "report", str(bench / "model")
    calls: list[tuple[int, int]] = []
    progress = lambda done, total: calls.append((done, total))  # noqa: E731
    text = evaluate_models([model], bench / "set", "reconstruction", out, progress=progress)

    assert sorted(path.name for path in out.iterdir()) == ["long.png", "report.json", "report.md", "short.png"]
    assert (out / "report.md").read_text() == text + "\n"
    report = json.loads((out / "report.json").read_text())
    assert (report["protocol"], report["split"], report["clips"], report["frames"]) == (
        "reconstruction",
        "test",
        2,
        13,
    )
    assert list(report["means"]) == ["baseline: copy the still", "baseline: mean frame", model]
    assert report["means"]["baseline: copy the still"]["L1 / copy the still"] == 1
    for name, row in report["means"].items():
        per_clip = report["per_clip"][name]
        assert list(per_clip) == ["short", "long"]
        assert row["L1"] == pytest.approx((per_clip["short"]["L1"] + per_clip["long"]["L1"]) / 2)
    still = report["means"]["baseline: copy the still"]["L1"]
    assert report["means"][model]["L1 / copy the still"] == pytest.approx(report["means"][model]["L1"] / still)
    assert all(f"| {name} | " in text for name in report["means"])
    assert calls == [(i, 6) for i in range(1, 7)]


def test_the_copied_still_is_measured_as_by_hand(bench: Path, tmp_path: Path) -> None:
    evaluate_models([], bench / "set", "reconstruction", tmp_path, split="train")
    report = json.loads((tmp_path / "report.json").read_text())
    frames = driving_frames(2).astype(float) / 255
    expected = np.abs(frames[1] - frames[0]).mean() / 2  # frame 0 counts, with no error
    assert report["means"]["baseline: copy the still"]["L1"] == pytest.approx(expected, rel=1e-5)


def test_the_strip_shows_real_above_made(bench: Path, tmp_path: Path) -> None:
    evaluate_models([str(bench / "model")], bench / "set", "reconstruction", tmp_path)
    picture = np.asarray(Image.open(tmp_path / "short.png"))
    assert picture.shape == (2 * 32, 3 * 32, 3)
    assert np.array_equal(picture[:32, 32:64], driving_frames(3)[1])
    assert np.asarray(Image.open(tmp_path / "long.png")).shape == (2 * 32, 10 * 32, 3)


def test_a_strip_takes_evenly_spaced_frames() -> None:
    rows = [np.arange(21, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)]
    assert strip(rows, 3)[0, ::2, 0].tolist() == [0, 10, 20]
    assert strip(rows, 99).shape == (2, 42, 3)


@pytest.mark.parametrize("split", ["odd", "", "Test"])
def test_an_unknown_split_is_told(bench: Path, tmp_path: Path, split: str) -> None:
    with pytest.raises(StillmotionError, match="no clips of split"):
        evaluate_models([], bench / "set", "reconstruction", tmp_path / "out", split=split)
    assert not (tmp_path / "out").exists()


def test_clips_in_which_nothing_moves_still_give_a_report(bench: Path, tmp_path: Path) -> None:
    """The copied still is then perfect, and no ratio to it exists."""
    text = evaluate_models([str(bench / "model")], bench / "set", "reconstruction", tmp_path, split="frozen")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["means"]["baseline: copy the still"]["L1"] == 0
    assert report["means"]["baseline: copy the still"]["L1 / copy the still"] is None
    assert "| n/a |" in text


def test_a_model_of_another_size_answers_at_the_clips_size(bench: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", [Clip("a", driving_frames(2, (48, 48)), 25.0)], info=DatasetInfo(title="large"))
    evaluate_models([str(bench / "model")], tmp_path / "set", "reconstruction", tmp_path / "out", split="all")
    assert media.read_picture(tmp_path / "out" / "a.png").shape == (2 * 48, 2 * 48, 3)  # real above made, two frames


def test_an_answer_of_another_size_is_told(bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(tmp_path / "set", [Clip("a", driving_frames(2, (48, 48)), 25.0)], info=DatasetInfo(title="large"))
    cut = replace(protocols.PROTOCOLS["reconstruction"], answer=lambda _: lambda clip: clip.frames[:, :32, :32])
    monkeypatch.setattr(protocols, "PROTOCOLS", {"reconstruction": cut})
    with pytest.raises(StillmotionError, match=r"32 x 32 .* 48 x 48; prepare the data with --size 32"):
        evaluate_models([str(bench / "model")], tmp_path / "set", "reconstruction", tmp_path / "out", split="all")
