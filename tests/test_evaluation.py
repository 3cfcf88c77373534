"""Pixel metrics on inputs with known values, baselines by hand, and a report of a tiny model."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from driving_tools import driving_frames, still_picture, tiny_driving
from refusals import refuses
from stillmotion import media
from stillmotion.animate import Animator, load
from stillmotion.data.clip import Clip
from stillmotion.data.info import DatasetInfo
from stillmotion.data.shards import write_dataset
from stillmotion.errors import StillmotionError
from stillmotion.evaluation import protocols
from stillmotion.evaluation.metrics.base import ClipMean
from stillmotion.evaluation.metrics.pixel import L1, PIXEL_METRICS, PSNR, PSNR_CAP, SSIM
from stillmotion.evaluation.protocols import PROTOCOLS, find_protocol
from stillmotion.evaluation.protocols.base import copy_still
from stillmotion.evaluation.protocols.columns import Case, FeatureCache, add_case, pixel_columns
from stillmotion.evaluation.protocols.reconstruction import mean_frame, reconstruction_cases
from stillmotion.evaluation.protocols.transfer import copy_driving, transfer_cases
from stillmotion.evaluation.report import evaluate_models, strip
from stillmotion.evaluation.speed import bench_models

PICTURE = torch.from_numpy(still_picture((24, 20)).copy()).permute(2, 0, 1)[None].float() / 255


def case(name: str, frames: np.ndarray, still: np.ndarray | None = None) -> Case:
    return Case(name, frames[0] if still is None else still, frames, Clip(name, frames, 25.0))


def flat(value: float, frames: int = 1) -> torch.Tensor:
    return torch.full((frames, 3, 16, 16), value)


# --- metrics -------------------------------------------------------------------------------------------------------
def test_identical_clips_have_no_error() -> None:
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
    preds, target = flat(0.6, 2), flat(0.5, 2)
    for kind, value in ((L1, 0.1), (PSNR, 20.0)):  # 10 * log10(1 / 0.1^2)
        metric = kind()
        metric.update(preds, target)
        assert metric.compute().item() == pytest.approx(value, rel=1e-5)
    metric = SSIM()
    metric.update(preds, target)
    # Without variance SSIM is its luminance term alone, with c1 = (0.01)^2.
    assert metric.compute().item() == pytest.approx((2 * 0.6 * 0.5 + 1e-4) / (0.36 + 0.25 + 1e-4), abs=1e-4)


def test_psnr_is_averaged_over_frames_not_over_errors() -> None:
    preds, target = torch.cat([flat(0.6), flat(0.51)]), flat(0.5, 2)
    metric = PSNR()
    metric.update(preds, target)
    assert metric.compute().item() == pytest.approx((20 + 40) / 2, rel=1e-4)
    metric = PSNR()
    metric.update(torch.cat([flat(0.6), flat(0.5)]), target)  # the second has no error
    assert metric.compute().item() == pytest.approx((20 + PSNR_CAP) / 2, rel=1e-4)


def test_ssim_falls_with_noise() -> None:
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


def test_every_metric_has_a_definition_and_a_direction() -> None:
    for kind in (L1, PSNR, SSIM):
        assert len(kind.definition) > 20
        assert ("higher is better" in kind.definition) == kind.higher_is_better


def test_a_case_of_uint8_frames_gives_its_row() -> None:
    target = np.full((2, 16, 16, 3), 100, np.uint8)
    columns, cache = pixel_columns(), FeatureCache({})
    metrics = {column.name: column.build(None) for column in columns}
    values = add_case(metrics, columns, cache, case("a", target), [target + np.uint8(51)])  # a fifth of 255
    assert values["L1"] == pytest.approx(0.2)
    assert values["PSNR"] == pytest.approx(20 * np.log10(5), rel=1e-4)
    add_case(metrics, columns, cache, case("b", target), [target])
    assert metrics["L1"].compute().item() == pytest.approx(0.1)


# --- baselines and protocols ---------------------------------------------------------------------------------------
def test_baselines_by_hand() -> None:
    frames = np.zeros((3, 2, 2, 3), np.uint8)
    frames[1], frames[2] = 10, 21
    (own,) = reconstruction_cases([Clip("a", frames, 25.0)])
    assert copy_still(own).shape == mean_frame(own).shape == frames.shape
    assert (copy_still(own) == 0).all()
    assert (mean_frame(own) == 10).all()  # 31 / 3
    assert copy_still(own).dtype == mean_frame(own).dtype == np.uint8
    other = case("b", frames[:2], frames[2])
    assert (copy_still(other) == 21).all()
    assert copy_still(other).shape == (2, 2, 2, 3)
    assert copy_driving(other) is other.target


def test_reconstruction_gives_the_clip_to_the_model() -> None:

    frames = driving_frames(3)
    predictor = PROTOCOLS["reconstruction"].predictor(Animator(tiny_driving()))
    frames_of = predictor(case("a", frames), 0)
    assert frames_of.shape == frames.shape


def test_transfer_pairs_different_clips_the_same_way_every_time() -> None:
    clips = [Clip(f"c{i}", driving_frames(2), 25.0) for i in range(12)]
    cases = transfer_cases(clips)
    names = [found.name for found in cases]
    assert len(set(names)) == len(names) == 100  # of 132
    assert all(len(set(name.split("--"))) == 2 for name in names)
    assert [found.name for found in transfer_cases(clips)] == names
    assert len(transfer_cases(clips[:3])) == 6
    ramp = [Clip(f"r{i}", np.full((2 + i, 4, 4, 3), i, np.uint8), 25.0) for i in range(2)]
    first = next(found for found in transfer_cases(ramp) if found.name == "r0--r1")
    assert (first.still == 0).all()
    assert first.target.shape == (3, 4, 4, 3)
    assert (first.target == 1).all()
    refuses("at least two clips", transfer_cases, clips[:1])


def test_an_unknown_protocol_is_refused() -> None:
    refuses(
        "no protocol 'magic'; known are actions, actions-all, pokes, prediction, reconstruction",
        find_protocol,
        "magic",
    )


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


def test_a_report_is_complete(bench: Path, tmp_path: Path) -> None:
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
    assert list(report["means"]) == [
        *(f"baseline: {name}" for name in ("copy the still", "mean frame", "warped still")),
        model,
    ]
    assert report["means"]["baseline: copy the still"]["L1 / copy the still"] == 1
    for name, row in report["means"].items():
        per_clip = report["per_clip"][name]
        assert list(per_clip) == ["short", "long"]
        assert row["L1"] == pytest.approx((per_clip["short"]["L1"] + per_clip["long"]["L1"]) / 2)
    still = report["means"]["baseline: copy the still"]["L1"]
    assert report["means"][model]["L1 / copy the still"] == pytest.approx(report["means"][model]["L1"] / still)
    assert all(f"| {name} | " in text for name in report["means"])
    assert calls == [(i, 8) for i in range(1, 9)]


def test_a_bench_measures_what_it_says(bench: Path, tmp_path: Path) -> None:
    """Numbers that follow from others, and a model's own count; times themselves are never tested."""
    bench_models([str(bench / "model")], tmp_path / "speed.json", repeats=2)
    report = json.loads((tmp_path / "speed.json").read_text())
    (row,) = report["models"].values()
    network, whole = row["network_ms_per_frame"]["median"], row["end_to_end_ms_per_frame"]["median"]
    assert row["share_outside_network"] == pytest.approx(1 - network / whole)
    reached = row["gflop_per_frame"] / (network / 1000)
    assert row["share_of_matmul_peak"] == pytest.approx(reached / row["matmul_gflop_per_s"])
    assert row["parameters"] == sum(p.numel() for p in load(bench / "model").system.shipped().parameters())
    assert row["bf16"]["auto_chooses"] in ("fp32", "bf16")
    assert 0 < row["bf16"]["mean_error_grey_levels"] < 5
    step = row["training"]["step_ms"]["median"] / 1000
    assert row["training"]["samples_per_s"] == pytest.approx(row["training"]["batch"] / step)


def test_the_copied_still_has_the_error_worked_out_by_hand(bench: Path, tmp_path: Path) -> None:
    evaluate_models([], bench / "set", "reconstruction", tmp_path, split="train")
    report = json.loads((tmp_path / "report.json").read_text())
    frames = driving_frames(2).astype(float) / 255
    expected = np.abs(frames[1] - frames[0]).mean() / 2  # frame 0 counts, with no error
    assert report["means"]["baseline: copy the still"]["L1"] == pytest.approx(expected, rel=1e-5)


def test_the_strip_shows_the_target_above_the_prediction(bench: Path, tmp_path: Path) -> None:
    evaluate_models([str(bench / "model")], bench / "set", "reconstruction", tmp_path)
    picture = np.asarray(Image.open(tmp_path / "short.png"))
    assert picture.shape == (2 * 32, 3 * 32, 3)
    assert np.array_equal(picture[:32, 32:64], driving_frames(3)[1])
    assert np.asarray(Image.open(tmp_path / "long.png")).shape == (2 * 32, 10 * 32, 3)


def test_a_strip_takes_evenly_spaced_frames() -> None:
    rows = [np.arange(21, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)]
    assert strip(rows, 3)[0, ::2, 0].tolist() == [0, 10, 20]
    assert strip(rows, 99).shape == (2, 42, 3)


class Corner:
    """A keypoint detector: one point, as many pixels to the right as the corner pixel is bright; none if black."""

    description, dimension, per_video = "the corner pixel", 1, False

    def __call__(self, frames: np.ndarray) -> torch.Tensor:
        bright = torch.from_numpy(frames[:, :1, 0, 0].astype(np.float32))
        return torch.stack([bright, 0 * bright, (bright > 0).float()], dim=-1)


class Colour:
    """An identity and Inception network: the mean colour, 0 to 255."""

    description, dimension, per_video = "the mean colour", 3, False

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, frames: np.ndarray) -> torch.Tensor:
        self.calls += 1
        return torch.from_numpy(frames.astype(np.float32).mean(axis=(1, 2)))


def grey(*values: int) -> np.ndarray:
    return np.stack([np.full((32, 32, 3), value, np.uint8) for value in values])


@pytest.fixture(scope="module")
def greys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("greys")
    clips = [Clip("one", grey(10, 14, 12), 25.0), Clip("two", grey(50, 50, 80, 0), 25.0)]
    write_dataset(folder / "set", clips, info=DatasetInfo(title="greys", decoder="by hand"))
    return folder / "set"


def test_metrics_with_extractors_by_hand(greys: Path, tmp_path: Path) -> None:
    colour = Colour()
    extractors = {"keypoints": Corner(), "identity": colour, "inception": Colour(), "lpips": Colour()}
    text = evaluate_models([], greys, "reconstruction", tmp_path, split="all", extractors=extractors)
    report = json.loads((tmp_path / "report.json").read_text())
    still = report["means"]["baseline: copy the still"]
    # Off by 0, 4, 2 and 0, 0, 30 pixels to the side; the black frame has no point to be found.
    assert still["AKD"] == pytest.approx((4 + 2 + 30) / 2 / 6)
    assert still["AKD (Euclidean)"] == pytest.approx((4 + 2 + 30) / 6)
    assert still["MKR"] == 0
    root = 3**0.5  # three equal channels
    assert still["AED"] == pytest.approx(root * (4 + 2 + 30 + 50) / 7, rel=1e-5)
    assert still["AED (squared)"] == pytest.approx(3 * (16 + 4 + 900 + 2500) / 7, rel=1e-5)
    assert still["AED (mean absolute)"] == pytest.approx((4 + 2 + 30 + 50) / 7, rel=1e-5)
    assert still["FID"] > 0
    assert still["LPIPS"] == pytest.approx(still["AED (squared)"], rel=1e-4)  # of the same features
    row = report["per_clip"]["baseline: copy the still"]["two"]
    assert row["AED (mean absolute)"] == pytest.approx(20)
    assert "FID" not in row  # a single clip has no distribution
    assert colour.calls == 2 * 4  # the target frames once for all three baselines
    assert report["not_measured"] == {}
    assert "Network identity: the mean colour." in text
    assert "Not measured" not in text


def test_frames_without_people_give_no_akd(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", [Clip("dark", grey(0, 0), 25.0)], info=DatasetInfo(title="dark"))
    extractors = {"keypoints": Corner()}
    text = evaluate_models(
        [], tmp_path / "set", "reconstruction", tmp_path / "out", split="all", extractors=extractors
    )
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["means"]["baseline: mean frame"]["AKD"] is None
    assert report["per_clip"]["baseline: mean frame"]["dark"]["MKR"] is None
    assert "n/a" in text


def test_transfer_compares_identity_with_the_still_and_motion_with_the_driver(greys: Path, tmp_path: Path) -> None:
    extractors = {"keypoints": Corner(), "identity": Colour()}
    evaluate_models([], greys, "transfer", tmp_path, split="all", extractors=extractors)
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["clips"], report["cases"], report["frames"]) == (2, 2, 7)
    still, driver = (report["means"][f"baseline: copy the {what}"] for what in ("still", "driving video"))
    assert still["AED"] == driver["motion AKD"] == driver["MKR"] == 0
    # one--two: 10 against 50, 50, 80, 0; two--one: 50 against 10, 14, 12.
    assert driver["AED (mean absolute)"] == pytest.approx((40 + 40 + 70 + 10 + 40 + 36 + 38) / 7)
    assert still["motion AKD (Euclidean)"] == pytest.approx((0 + 30 + 4 + 2) / 4)
    assert "L1" not in still
    assert (tmp_path / "one--two.png").is_file()


def test_a_report_names_data_input_and_what_was_not_measured(greys: Path, tmp_path: Path) -> None:
    text = evaluate_models([], greys, "reconstruction", tmp_path, split="all", extractors={"identity": Colour()})
    assert "Data: greys, 2 clips of split all, 32 x 32, 25 frames per second, decoded by by hand; 2 cases" in text
    assert "8-bit RGB arrays" in text
    (line,) = [line for line in text.splitlines() if line.startswith("Not measured")]
    assert line.startswith("Not measured: AKD, AKD (Euclidean), MKR (needs a keypoint detector: --network keypoints=")
    assert "FID (needs Inception v3: --network inception=FILE.safetensors@SHA256); LPIPS (needs VGG-16" in line
    for name in json.loads((tmp_path / "report.json").read_text())["metrics"]:
        assert f"{name}: " in text


def test_transfer_without_extractors_names_what_it_needs(greys: Path, tmp_path: Path) -> None:
    with pytest.raises(StillmotionError, match=r"measures nothing without a network; give .*keypoints=blazepose"):
        evaluate_models([], greys, "transfer", tmp_path / "out", split="all")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("split", ["odd", "", "Test"])
def test_an_unknown_split_is_refused(bench: Path, tmp_path: Path, split: str) -> None:
    refuses("no clips of split", evaluate_models, [], bench / "set", "reconstruction", tmp_path / "out", split=split)
    assert not (tmp_path / "out").exists()


def test_clips_in_which_nothing_moves_still_give_a_report(bench: Path, tmp_path: Path) -> None:
    """The copied still then has no error, and no ratio to it exists."""
    text = evaluate_models([str(bench / "model")], bench / "set", "reconstruction", tmp_path, split="frozen")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["means"]["baseline: copy the still"]["L1"] == 0
    assert report["means"]["baseline: copy the still"]["L1 / copy the still"] is None
    assert "| n/a |" in text


def test_a_model_of_another_size_predicts_at_the_clips_size(bench: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", [Clip("a", driving_frames(2, (48, 48)), 25.0)], info=DatasetInfo(title="large"))
    evaluate_models([str(bench / "model")], tmp_path / "set", "reconstruction", tmp_path / "out", split="all")
    assert media.read_picture(tmp_path / "out" / "a.png").shape == (
        2 * 48,
        2 * 48,
        3,
    )  # target above prediction, two frames


def test_a_prediction_of_another_size_is_refused(
    bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(tmp_path / "set", [Clip("a", driving_frames(2, (48, 48)), 25.0)], info=DatasetInfo(title="large"))
    cut = replace(
        protocols.PROTOCOLS["reconstruction"], predictor=lambda _: lambda case, sample: case.target[:, :32, :32]
    )
    monkeypatch.setattr(protocols, "PROTOCOLS", {"reconstruction": cut})
    with pytest.raises(StillmotionError, match=r"32 x 32 .* 48 x 48; prepare the data with --size 32"):
        evaluate_models([str(bench / "model")], tmp_path / "set", "reconstruction", tmp_path / "out", split="all")
