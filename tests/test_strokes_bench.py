"""`stillmotion bench` of a strokes model: numbers that follow from others; times themselves are never tested."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from stillmotion import cli
from stillmotion.evaluation import speed
from stillmotion.systems.strokes import drawing
from strokes_tools import tiny_strokes


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
    networks = system.ready().networks
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        context = networks.begin(drawing.to_frames(torch.zeros(1, 32, 32, 3).byte().numpy()), points)
        state = context.initial
        networks.draw(context, state)
        for t in range(6):
            state, _ = networks.advance(context, state, t)
    assert row["gflop_per_frame"] * 6e9 == pytest.approx(counter.get_total_flops())


def test_a_grey_model_is_given_no_more_points_than_it_has_greys(tmp_path: Path) -> None:
    config = tiny_strokes(coding="grey", stroke_window=0).config
    exercise = speed.EXERCISES[speed.Stroke](config, torch.zeros(32, 32, 32, 3).byte().numpy(), tmp_path)
    assert (exercise.frames, exercise.generated) == (5, 4)
