"""The speed benchmark of systems that declare their own example; times themselves are never tested."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from driving_tools import TINY_32
from stillmotion import media
from stillmotion.animate import Animator
from stillmotion.controls import Control, Drive, Stroke
from stillmotion.data.clip import Clip
from stillmotion.evaluation import speed
from stillmotion.systems.driving.animating import Driving
from stillmotion.systems.strokes.animating import Strokes
from strokes_tools import TINY_STROKES


def noise(frames: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, 32, 32, 3), dtype=np.uint8)


class DeclaredDriving(Driving):
    main_stage = "motion"

    @staticmethod
    def example_clip(frames: int) -> Clip:
        return Clip("example", noise(frames), 25.0)

    @staticmethod
    def control_of(clip: Clip) -> Control:
        return Drive(np.asarray(clip.frames), transfer="absolute")


class DeclaredStrokes(Strokes):
    main_stage = "stroke"

    @staticmethod
    def example_clip(frames: int) -> Clip:
        points = np.linspace(8, 24, frames)[:, None].repeat(2, axis=1)
        return Clip("example", noise(frames), 25.0, {"points": points.astype(np.float32)})

    @staticmethod
    def control_of(clip: Clip) -> Control:
        return Stroke(clip.tracks["points"])


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "FRAMES", 6)
    monkeypatch.setattr(speed, "choose", lambda *_, **__: ("fp32", {}))  # measuring takes a second
    monkeypatch.setattr(speed, "_LEFT", torch.ones(8, 8))
    monkeypatch.setattr(speed, "EXERCISES", {})  # nothing here knows these systems


def test_a_system_brings_its_own_exercise(tmp_path: Path) -> None:
    exercise = speed.make_exercise(DeclaredDriving.build(TINY_32), tmp_path)
    assert (exercise.frames, exercise.generated, exercise.stage) == (6, 6, "motion")
    assert isinstance(exercise.given, Drive)
    assert isinstance(exercise.given.video, Path)
    assert exercise.given.transfer == "absolute"
    with media.open_video(exercise.given.video) as video:
        assert len(list(video)) == 6
    assert np.array_equal(exercise.still, exercise.clips[0].frames[0])


def test_a_copied_first_frame_is_not_counted(tmp_path: Path) -> None:
    exercise = speed.make_exercise(DeclaredStrokes.build(TINY_STROKES), tmp_path)
    assert (exercise.frames, exercise.generated, exercise.stage) == (7, 6, "stroke")
    assert exercise.given is exercise.control


@pytest.mark.parametrize(("kind", "config"), [(DeclaredDriving, TINY_32), (DeclaredStrokes, TINY_STROKES)])
def test_a_declared_system_is_benched(kind: type[Driving | Strokes], config: object) -> None:
    row = speed.bench_model(Animator(kind.build(config)), 1)
    assert row["training"]["batch"] == 2
    assert row["gflop_per_frame"] > 0
    assert set(row) == {
        *("parameters", "gflop_per_frame", "network_ms_per_frame", "native_256_ms_per_frame"),
        *("end_to_end_ms_per_frame", "first_frame_ms", "share_of_matmul_peak", "matmul_gflop_per_s"),
        *("share_outside_network", "bf16", "training", "peak_memory_mb"),
    }


def test_the_machine_names_its_device() -> None:
    assert speed.machine()["device"] == "cpu"
