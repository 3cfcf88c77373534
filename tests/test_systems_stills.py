"""A still far from the training stills of a model: one sentence, and none for those like them."""

import warnings
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from benchmark_tools import benchmark as load_benchmark
from refusals import refuses
from stillmotion import Drive, load
from stillmotion.animate import ZOO
from stillmotion.data.clip import Clip
from stillmotion.data.info import DatasetInfo
from stillmotion.data.shards import write_dataset
from stillmotion.errors import StillmotionWarning
from stillmotion.files import read_json, write_json
from stillmotion.media import read_picture
from stillmotion.systems.stills import Stills, describe, summarize, warn_if_far
from stillmotion.worlds import sample_clip

TOLD = "The still looks unlike those that the model was trained on"


def drawn(rng: np.random.Generator) -> np.ndarray:
    """A grey picture, brighter below; no colours, which the others have."""
    levels = rng.integers(20, 60) + np.linspace(0, rng.integers(100, 190), 64)
    return np.repeat(np.repeat(levels[:, None, None], 64, 1), 3, 2).astype(np.uint8)


def far(card: dict[str, object], still: np.ndarray) -> bool:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        warn_if_far(card, still)
    assert all(str(each.message).startswith(TOLD) for each in told)
    return bool(told)


def test_a_picture_is_described_by_the_layout_of_its_brightness_and_colours() -> None:
    picture = np.zeros((64, 32, 3), np.uint8)
    picture[:, 16:] = (255, 0, 0)
    numbers = describe(picture)
    luma, chroma = numbers[:16].reshape(4, 4), numbers[16:].reshape(2, 2, 2)
    # Bicubic filters reach over the border.
    np.testing.assert_allclose(luma, np.tile([0, 0, 0.299, 0.299], (4, 1)), atol=0.03)
    np.testing.assert_allclose(chroma, np.tile([[0, 0], [-0.169, 0.5]], (2, 1, 1)), atol=0.06)


def test_the_distance_is_mahalanobis() -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (4, 4, 3), np.uint8) for _ in range(600)]
    known = summarize(pictures)
    assert known is not None
    described = np.array([describe(picture) for picture in pictures])
    covariance = np.cov(described.T)
    np.testing.assert_allclose(known.mean, described.mean(0), rtol=1e-4, atol=1e-6)
    whitening = np.array(known.whitening)
    np.testing.assert_allclose(whitening @ covariance @ whitening.T, np.eye(24), atol=0.03)
    # The squares of 24 normal numbers sum to 45.6 in 99.5 of 100 cases, and the limit has a tenth more.
    assert 1.1 * np.sqrt(45.6) == pytest.approx(known.limit, rel=0.04)


def test_few_stills_say_nothing() -> None:
    rng = np.random.default_rng(0)
    assert summarize(drawn(rng) for _ in range(199)) is None
    assert summarize(drawn(rng) for _ in range(200)) is not None


def test_a_still_of_another_kind_is_told() -> None:
    rng = np.random.default_rng(0)
    known = summarize(drawn(rng) for _ in range(300))
    assert known is not None
    card = {"stills": asdict(known)}
    assert not any(far(card, drawn(rng)) for _ in range(50))
    coloured = drawn(rng)
    coloured[:32, :, 0] = 200
    assert far(card, coloured)
    assert far(card, drawn(rng)[::-1])
    assert not far({}, coloured)


def test_a_damaged_card_is_refused() -> None:
    zeros = [0.0] * 24
    refuses("stills: mean: Tuple should have at least 24", warn_if_far, {"stills": {"mean": []}}, np.zeros((8, 8, 3)))
    wrong = {"mean": zeros, "whitening": [zeros] * 23, "limit": 1}
    refuses("stills: whitening: Tuple should have at least 24", warn_if_far, {"stills": wrong}, np.zeros((8, 8, 3)))
    refuses("stills does not hold names and values", warn_if_far, {"stills": 3}, np.zeros((8, 8, 3)))
    huge = Stills((1e300,) * 24, ((1e300,) * 24,) * 24, 1.0)
    assert far({"stills": asdict(huge)}, np.zeros((8, 8, 3), np.uint8))


@pytest.mark.parametrize(
    ("model", "world", "more"),
    [
        ("driving-puppets", "puppets", {"action": "run", "staging": "far"}),
        ("structures-faces", "faces", {}),
        ("pokes-plants", "plants", {}),
        ("strokes-digits", "digits", {}),
    ],
)
def test_shipped_models_know_their_own_stills(model: str, world: str, more: dict[str, object]) -> None:
    card = read_json(ZOO / model / "config.json")["card"]
    own = [sample_clip(world, 123, number, size=64, frames=2, **more).frames[0] for number in range(10)]
    assert not any(far(card, still) for still in own)
    rng = np.random.default_rng(0)
    assert far(card, rng.integers(0, 256, (3, 3, 3), np.uint8).repeat(21, 0).repeat(21, 1))


def test_a_card_can_learn_later(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    train = [Clip(f"a{i}", drawn(rng)[None], 25.0, {}, {"split": "train"}) for i in range(300)]
    test = [Clip(f"b{i}", drawn(rng)[None, ::-1], 25.0, {}, {"split": "test"}) for i in range(20)]
    write_dataset(tmp_path / "all", [*train, *test], info=DatasetInfo())
    write_dataset(tmp_path / "bright", test, info=DatasetInfo())
    (tmp_path / "model").mkdir()
    write_json(tmp_path / "model" / "config.json", {"card": {"data": "made"}})
    (tmp_path / "model" / "model.safetensors").touch()
    words = [str(tmp_path / "model"), str(tmp_path / "bright"), "--learn", str(tmp_path / "all")]
    load_benchmark("far_stills").main(words)
    assert capsys.readouterr().out == "bright: 20 of 20 (100.0 %)\n"
    card = read_json(tmp_path / "model" / "config.json")["card"]
    assert card["data"] == "made"
    assert not far(card, drawn(rng))


def test_animating_tells(tmp_path: Path) -> None:
    animator = load("driving-puppets")
    checks = np.zeros((64, 64, 3), np.uint8)
    checks[:32, :32, 0] = checks[32:, 32:, 2] = 255
    drive = Drive(np.repeat(checks[None], 2, 0))
    for start in (
        lambda: animator(checks, drive),
        lambda: animator.open(checks),
        lambda: animator.grid(checks, drive, 2),
    ):
        with pytest.warns(StillmotionWarning, match=TOLD):
            start()
    still = read_picture(Path(__file__).parents[1] / "examples" / "stills" / "wave1.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        animator.open(still)
