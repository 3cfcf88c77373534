"""The speed benchmark of a system that it does not know; times themselves are never tested."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from stillmotion import media
from stillmotion.animate import Animator
from stillmotion.data.clip import Clip
from stillmotion.evaluation import speed
from stillmotion.options import Control
from toy_tools import Push, Toy, ToyConfig


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "FRAMES", 6)
    monkeypatch.setattr(speed, "choose_precision", lambda *_, **__: ("fp32", {}))  # measuring takes a second
    monkeypatch.setattr(speed, "_MATMUL", 8)


@pytest.mark.parametrize(("copies", "frames"), [(False, 6), (True, 7)])
def test_a_copied_first_frame_is_not_counted(tmp_path: Path, copies: bool, frames: int) -> None:
    exercise = speed.make_exercise(Toy.build(ToyConfig(copies_still=copies)), tmp_path)
    assert (exercise.frames, exercise.generated, exercise.stage) == (frames, 6, "fit")
    assert len(exercise.clips[0]) == frames
    assert np.array_equal(exercise.still, exercise.clips[0].frames[0])
    assert exercise.given is exercise.control
    assert isinstance(exercise.control, Push)


@dataclass(frozen=True, eq=False)
class Follow(Push):
    given_by: ClassVar[str] = "--push"
    video: np.ndarray | Path | None = None


def test_a_video_is_given_as_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def control_of(system: Toy, clip: Clip) -> Control:
        return Follow(3, np.asarray(clip.frames))

    monkeypatch.setattr(Toy, "control_of", control_of)
    exercise = speed.make_exercise(Toy.build(ToyConfig()), tmp_path)
    assert isinstance(exercise.given, Follow)
    assert isinstance(exercise.given.video, Path)
    assert exercise.given.levels == 3
    with media.open_video(exercise.given.video) as video:
        assert len(list(video)) == 6


def test_an_unknown_system_is_benched() -> None:
    row = speed.bench_model(Animator(Toy.build(ToyConfig())), 1)
    assert (row["parameters"], row["training"]["batch"]) == (2, 2)
    assert set(row) == {
        *("parameters", "gflop_per_frame", "network_ms_per_frame", "native_256_ms_per_frame"),
        *("end_to_end_ms_per_frame", "first_frame_ms", "share_of_matmul_peak", "matmul_gflop_per_s"),
        *("share_outside_network", "bf16", "training", "peak_memory_mb"),
    }


def test_the_machine_names_its_device() -> None:
    assert speed.machine()["device"] == "cpu"
