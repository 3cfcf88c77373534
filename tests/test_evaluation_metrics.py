"""Metrics against values worked out by hand, and what the documentation says of them."""

import hashlib
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchmetrics import Metric

from driving_tools import driving_frames, tiny_driving
from refusals import refuses
from stillmotion.cli import main
from stillmotion.data.clip import Clip
from stillmotion.data.info import DatasetInfo
from stillmotion.data.shards import write_dataset
from stillmotion.evaluation.extractors import EXTRACTORS, open_extractors
from stillmotion.evaluation.extractors.keypoints import DETECTORS
from stillmotion.evaluation.metrics.feature import AED, FrechetDistance
from stillmotion.evaluation.metrics.keypoint import AKD, MKR
from stillmotion.evaluation.protocols import PROTOCOLS
from stillmotion.files import read_weights

NAN = float("nan")


def points(*frames: list[tuple[float, float, float]]) -> Tensor:
    return torch.tensor(frames)


def value(metric: Metric, *updates: tuple[Tensor, Tensor]) -> float:
    for preds, target in updates:
        metric.update(preds, target)
    return float(metric.compute())


# --- AKD -----------------------------------------------------------------------------------------------------------

TARGET = points([(10, 10, 1), (20, 20, 1)], [(0, 0, 1), (5, 5, 1)])
PREDS = points([(13, 14, 1), (20, 20, 1)], [(0, 12, 1), (5, 5, 1)])


def test_akd_of_both_definitions_by_hand() -> None:
    # Frame 0: (3, 4) and (0, 0); frame 1: (0, 12) and (0, 0).
    assert value(AKD(), (PREDS, TARGET)) == pytest.approx((3.5 / 2 + 6 / 2) / 2)
    assert value(AKD("euclidean"), (PREDS, TARGET)) == pytest.approx((5 / 2 + 12 / 2) / 2)


def test_akd_is_in_pixels_of_the_frame() -> None:
    scale = torch.tensor([2.0, 2.0, 1.0])
    assert value(AKD(), (scale * PREDS, scale * TARGET)) == pytest.approx(2 * value(AKD(), (PREDS, TARGET)))


def test_akd_leaves_points_out_that_one_side_lacks() -> None:
    preds = points([(13, 14, 1), (NAN, NAN, 0)], [(0, 12, 0), (99, 99, 1)])
    target = points([(10, 10, 1), (20, 20, 1)], [(0, 0, 1), (NAN, NAN, 0)])
    # In frame 0 only the first point counts; frame 1 has no common point and gives no number.
    assert value(AKD(), (preds, target)) == pytest.approx(3.5)


def test_akd_weighs_frames_alike_not_clips() -> None:
    single = (points([(1, 1, 1)]), points([(0, 0, 1)]))
    three = (points(*[[(5, 5, 1)]] * 3), points(*[[(0, 0, 1)]] * 3))
    assert value(AKD(), single, three) == pytest.approx((1 + 3 * 5) / 4)


def test_relative_akd_compares_motion() -> None:
    target = points([(0, 0, 1)], [(2, 0, 1)], [(4, 0, 1)])
    preds = points([(50, 50, 1)], [(52, 50, 1)], [(57, 50, 1)])
    # Elsewhere by 50 pixels, but the motion differs by 0 and then by 3; frame 0 gives no number.
    assert value(AKD(relative=True), (preds, target)) == pytest.approx((0 + 1.5) / 2)
    assert value(AKD("euclidean", relative=True), (preds, target)) == pytest.approx((0 + 3) / 2)
    preds[0, 0, 2] = 0  # a point without a start has no motion
    assert torch.isnan(torch.tensor(value(AKD(relative=True), (preds, target))))


def test_nothing_in_common_is_nan() -> None:
    assert torch.isnan(torch.tensor(value(AKD(), (0 * TARGET, TARGET))))


# --- MKR -----------------------------------------------------------------------------------------------------------
def test_mkr_by_hand() -> None:
    target = points(
        [(0, 0, 1), (0, 0, 1), (0, 0, 1), (0, 0, 0)],
        [(0, 0, 1), (0, 0, 0), (0, 0, 0), (0, 0, 0)],
        [(0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0)],
    )
    preds = points(
        [(0, 0, 1), (0, 0, 0), (0, 0, 1), (0, 0, 1)],  # 1 of 3 missing; a point too many is not punished
        [(0, 0, 0), (0, 0, 1), (0, 0, 1), (0, 0, 1)],  # 1 of 1 missing
        [(0, 0, 1), (0, 0, 1), (0, 0, 1), (0, 0, 1)],  # nothing to be found: no number
    )
    assert value(MKR(), (preds, target)) == pytest.approx((1 / 3 + 1) / 2)
    assert value(MKR(), (target, target)) == 0


# --- AED -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("distance", "expected"),
    [("euclidean", (5 + 1) / 2), ("squared", (25 + 1) / 2), ("mean_absolute", (3.5 + 0.5) / 2)],
)
def test_aed_of_all_definitions_by_hand(distance: str, expected: float) -> None:
    preds, target = torch.tensor([[3.0, 4.0], [1.0, 2.0]]), torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    assert value(AED(distance), (preds, target)) == pytest.approx(expected)


def test_aed_to_one_picture() -> None:
    preds = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    assert value(AED(), (preds, torch.zeros(1, 2))) == pytest.approx(3)


def test_the_papers_definition_is_the_default() -> None:
    assert AED().definition == AED("euclidean").definition
    assert AKD().definition == AKD("mean_absolute").definition


# --- FID -----------------------------------------------------------------------------------------------------------
def corners(centre: tuple[float, float], reach: tuple[float, float]) -> Tensor:
    """Four points with exactly this mean, no correlation, and unbiased variances 4/3 of the reaches squared."""
    signs = torch.tensor([(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)])
    return torch.tensor(centre) + signs * torch.tensor(reach)


def test_fid_of_gaussians_by_hand() -> None:
    preds, target = corners((1, 2), (3, 1)), corners((4, 6), (1, 1))
    # |mean difference|^2, and for covariances that commute the sum of (deviation - deviation)^2.
    assert value(FrechetDistance(2), (preds, target)) == pytest.approx(3**2 + 4**2 + 4 / 3 * (3 - 1) ** 2, rel=1e-6)
    assert value(FrechetDistance(2), (target, target)) == pytest.approx(0, abs=1e-6)


def test_fid_keeps_precision_far_from_zero() -> None:
    """Sums of squares in float32 would lose everything here."""
    offset = 3e4
    preds, target = corners((offset, offset), (0.5, 0.5)), corners((offset, offset), (1, 1))
    assert value(FrechetDistance(2), (preds, target)) == pytest.approx(2 * 4 / 3 * 0.25, rel=1e-3)


def test_fid_of_one_frame_is_nan() -> None:
    assert torch.isnan(torch.tensor(value(FrechetDistance(2), (torch.zeros(1, 2), torch.zeros(4, 2)))))


def test_fid_does_not_depend_on_how_frames_come() -> None:
    rng = torch.Generator().manual_seed(0)
    preds, target = torch.randn(12, 3, generator=rng), 2 * torch.randn(12, 3, generator=rng)
    whole = value(FrechetDistance(3), (preds, target))
    parts = value(FrechetDistance(3), (preds[:5], target[:2]), (preds[5:], target[2:]))
    assert parts == pytest.approx(whole, rel=1e-5)


# --- all -----------------------------------------------------------------------------------------------------------

KINDS: list[tuple[Callable[[], Metric], Callable[[Tensor], Tensor]]] = [
    (AKD, lambda x: torch.cat([10 * x[..., :2], (x[..., 2:] > -1).float()], -1)),
    (MKR, lambda x: torch.cat([10 * x[..., :2], (x[..., 2:] > 0).float()], -1)),
    (AED, lambda x: x[:, 0]),
    (lambda: FrechetDistance(3), lambda x: x[:, 0]),
]


@pytest.mark.parametrize(("build", "shape"), KINDS, ids=["AKD", "MKR", "AED", "FID"])
def test_two_processes_give_what_one_gives(build: Callable[[], Metric], shape: Callable[[Tensor], Tensor]) -> None:
    """Reduce the states as torchmetrics does when it synchronises, by each state's own reduction."""
    rng = torch.Generator().manual_seed(1)
    clips = [tuple(shape(torch.randn(n, 5, 3, generator=rng)) for _ in range(2)) for n in (4, 7, 5)]
    alone, first, second = build(), build(), build()
    for metric, part in ((alone, clips), (first, clips[:1]), (second, clips[1:])):
        for preds, target in part:
            metric.update(preds, target)
    for name, reduce in alone._reductions.items():
        assert callable(reduce), name
        setattr(first, name, reduce(torch.stack([getattr(first, name), getattr(second, name)])))
    first._computed = None
    assert float(first.compute()) == pytest.approx(float(alone.compute()), rel=1e-5)


@pytest.mark.parametrize(("build", "shape"), KINDS, ids=["AKD", "MKR", "AED", "FID"])
def test_every_metric_has_a_definition_and_resets(
    build: Callable[[], Metric], shape: Callable[[Tensor], Tensor]
) -> None:
    metric = build()
    assert len(metric.definition) > 40
    assert "lower is better" in metric.definition
    assert metric.higher_is_better is False
    rng = torch.Generator().manual_seed(2)
    one, other = (tuple(shape(torch.randn(6, 5, 3, generator=rng)) for _ in range(2)) for _ in range(2))
    fresh = value(build(), other)
    metric.update(*one)
    metric.reset()
    assert value(metric, other) == fresh


@pytest.mark.parametrize(
    ("metric", "shapes"),
    [
        (AKD(), [(2, 3, 2), (2, 3, 2)]),
        (AKD(), [(2, 3, 3), (3, 3, 3)]),
        (MKR(), [(2, 3), (2, 3)]),
        (AED(), [(2, 3), (3, 3)]),
        (AED(), [(2, 3), (2, 4)]),
        (FrechetDistance(3), [(2, 3), (2, 4)]),
    ],
)
def test_other_shapes_are_refused(metric: Metric, shapes: list[tuple[int, ...]]) -> None:
    refuses("not \\(", metric.update, *(torch.zeros(shape) for shape in shapes), error=ValueError)


def test_unknown_definitions_are_refused() -> None:
    refuses("mean_absolute, euclidean", AKD, "squared", error=ValueError)
    refuses("euclidean, squared, mean_absolute", AED, "cosine", error=ValueError)


PAGE = (Path(__file__).parents[1] / "docs" / "evaluation.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    inside = re.split(r"^```", PAGE, flags=re.MULTILINE)[1::2]
    return [text.partition("\n")[2] for text in inside if text.partition("\n")[0] == language]


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On a tiny model and two short clips in place of those named."""
    monkeypatch.chdir(tmp_path)
    tiny_driving().save_pretrained(tmp_path / "driving-demo")
    clips = [Clip(name, driving_frames(3), 25.0, meta={"split": "test"}) for name in ("a", "b")]
    write_dataset(tmp_path / "data" / "mine", clips, info=DatasetInfo(title="made"))
    commands = [line for block in blocks("") for line in block.splitlines()]
    assert len(commands) == 2
    for command in commands:
        words = shlex.split(command)
        assert words.pop(0) == "stillmotion"
        if "keypoints=blazepose" in words:
            pytest.importorskip("mediapipe")
        assert main(words) == 0, command
        assert "copy the still" in capsys.readouterr().out
    assert (tmp_path / "report-transfer" / "a--b.png").is_file()


def test_metric_code() -> None:
    exec(compile(blocks("python")[0], "evaluation.md", "exec"), {})


def test_conversion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A published file becomes one that is read back, with the digest that is printed; another file is refused."""
    monkeypatch.chdir(tmp_path)
    torch.save({"fc.bias": torch.arange(3.0)}, "made.pth")
    digits = hashlib.sha256(Path("made.pth").read_bytes()).hexdigest()[:8]
    code = blocks("python")[1]
    assert "weights-0123abcd.pth" in code
    Path("made.pth").rename(f"weights-{digits}.pth")
    exec(compile(code.replace("0123abcd", digits), "evaluation.md", "exec"), {})
    file, _, digest = capsys.readouterr().out.strip().partition("@")
    assert read_weights(Path(file), digest)["fc.bias"].tolist() == [0, 1, 2]
    Path(f"weights-{digits}.pth").rename("weights-0123abcd.pth")
    refuses("not the published file", exec, compile(code, "evaluation.md", "exec"), {}, error=AssertionError)


def test_every_column_protocol_and_network_is_on_the_page() -> None:
    for protocol in PROTOCOLS.values():
        assert f"| `{protocol.name}` |" in PAGE
        for column in protocol.columns:
            assert f"| {column.name.replace('motion AKD (Euclidean)', 'motion AKD')} |" in PAGE
    for name in (*EXTRACTORS, *DETECTORS):
        assert name in PAGE
    assert open_extractors([]) == {}


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ("keypoints", "name=value"),
        ("smell=x", "no network 'smell'"),
        ("inception=missing.safetensors@00", "cannot be read"),
    ],
)
def test_wrong_networks_are_refused_before_anything_is_read(
    given: str, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "dancing", "nothing", "-o", str(tmp_path / "out"), "--network", given]) == 2
    assert word in capsys.readouterr().err
