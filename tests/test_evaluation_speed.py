"""The speed benchmark."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from stillmotion import cli, media
from stillmotion.animate import Animator
from stillmotion.data.clip import Clip
from stillmotion.evaluation import speed
from stillmotion.options import Control
from stillmotion.systems.strokes.object_frame import object_frame
from strokes_tools import step, tiny_strokes
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


def test_a_stage_that_makes_what_it_learns_from_is_timed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, stages = [], Toy.stages

    def with_begin(system: Toy, *given: Any, **options: Any) -> list[Any]:
        (stage,) = stages(system, *given, **options)
        stage.begin = lambda folder: begun.append(folder.is_dir())
        return [stage]

    monkeypatch.setattr(Toy, "stages", with_begin)
    assert speed.bench_model(Animator(Toy.build(ToyConfig())), 1)["training"]["batch"] == 2
    assert begun == [True]


def test_the_machine_names_its_device() -> None:
    assert speed.machine()["device"] == "cpu"


def test_a_bench_measures_what_it_says(tmp_path: Path) -> None:
    system = tiny_strokes()
    system.save_pretrained(tmp_path / "tiny")
    assert cli.main(["bench", str(tmp_path / "tiny"), "-o", str(tmp_path / "speed.json"), "--repeats", "1"]) == 0
    (row,) = json.loads((tmp_path / "speed.json").read_text())["models"].values()
    assert row["parameters"] == sum(p.numel() for p in system.shipped().parameters())
    network = row["network_ms_per_frame"]["median"]
    assert row["share_outside_network"] == pytest.approx(1 - network / row["end_to_end_ms_per_frame"]["median"])
    assert {"native_256_ms_per_frame", "first_frame_ms", "bf16"} <= set(row)
    assert row["training"]["batch"] == 2

    # What 6 recurrent steps cost, and what is computed once, counted here.
    points = torch.linspace(8, 24, 7)[None, :, None].expand(1, 7, 2)
    networks = system.for_inference().networks
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        context = networks.begin(torch.zeros(1, 3, 32, 32), points)
        state = context.initial
        networks.generate(context, state, object_frame(points, 0, system.config))
        for t in range(6):
            state, _ = step(networks, context, state, points, t)
    assert row["gflop_per_frame"] * 6e9 == pytest.approx(counter.get_total_flops())


def test_a_grey_model_is_timed_with_no_more_points_than_it_has_levels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "FRAMES", 32)
    system = tiny_strokes(stroke__encoding="grey", stroke__lookahead=0)
    exercise = speed.make_exercise(system, tmp_path)
    assert (exercise.frames, exercise.generated, exercise.stage) == (32, 31, "single_step")
    assert len(list(system.animate(exercise.still, exercise.control, exercise.frames))) == 32
