"""`stillmotion bench` of a strokes model: numbers that follow from others; times themselves are never tested."""

import json
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from stillmotion import cli
from stillmotion.evaluation import speed
from stillmotion.systems.strokes.object_frame import object_frame
from strokes_tools import step, tiny_strokes


def test_a_bench_measures_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "FRAMES", 6)
    monkeypatch.setattr(speed, "choose_precision", lambda *_, **__: ("fp32", {}))  # measuring takes a second
    monkeypatch.setattr(speed, "_LEFT", torch.ones(8, 8))  # the peak is not what is tested
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


def test_a_grey_model_is_timed_with_no_more_points_than_it_has_levels(tmp_path: Path) -> None:
    system = tiny_strokes(stroke__encoding="grey", stroke__lookahead=0)
    exercise = speed.make_exercise(system, tmp_path)
    assert (exercise.frames, exercise.generated, exercise.stage) == (32, 31, "single_step")
    assert len(list(system.animate(exercise.still, exercise.control, exercise.frames))) == 32
