"""Speed and size of models on this machine; never a test, always medians with their spread.

Everything of one model is measured in rounds: each round times every variant once, one after the other, so
that a noisy neighbour hits all of them alike and ratios mean something.
"""

from __future__ import annotations

import copy
import json
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import default_collate
from torch.utils.flop_counter import FlopCounterMode

from stillmotion import media, systems
from stillmotion.animate import Animator, load, own_times, shipped_models
from stillmotion.controls import Control, Drive, Stroke
from stillmotion.data.clip import Clip
from stillmotion.files import write_json
from stillmotion.nn.device import choose_precision
from stillmotion.systems.base import Animation, Step, System
from stillmotion.version import __version__

FRAMES = 32
"""How many frames the networks make in what is timed."""
_LARGE = 256  # side of the still that is animated at its own size
_BF16_FRAMES = 8  # without hardware for it bf16 takes seconds


def bench_models(models: Sequence[str], out: Path, *, repeats: int = 10, threads: int | None = None) -> str:
    """Time models and write what was found as JSON.

    Args:
        models: zoo names or folders; empty for everything shipped.
        out: the JSON file.
        repeats: timed rounds after two to warm up.
        threads: CPU threads; None leaves torch's choice.

    Returns:
        The JSON text.
    """
    if threads:
        torch.set_num_threads(threads)
    report = {
        "machine": machine(),
        "frames": FRAMES,
        "repeats": repeats,
        "models": {name: bench_model(load(name), repeats) for name in models or shipped_models()},
    }
    write_json(out, report)
    return json.dumps(report, indent=2)


def machine() -> dict[str, Any]:
    """What was measured on."""
    return {
        "cpu": _cpu_name(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "stillmotion": __version__,
    }


@dataclass(frozen=True)
class Exercise:
    """What a system's speed is measured on; everything in it is made.

    Attributes:
        control: the control, from memory.
        given: the same as a person gives it: with a file to read, where there is one.
        frames: how many to ask for, so that the networks make `made` of them.
        made: how many the networks make; the others are the still.
        stage: the training stage whose step is timed.
        clips: what that stage may learn from.
    """

    control: Control
    given: Control
    frames: int
    made: int
    stage: str
    clips: Sequence[Clip]


def _drive(config: Any, video: np.ndarray, folder: Path) -> Exercise:
    media.write_video(folder / "drive.mp4", iter(video), fps=25)
    clips = [Clip("made", video, 25.0)]
    return Exercise(Drive(video), Drive(folder / "drive.mp4"), FRAMES, FRAMES, "motion", clips)


def _stroke(config: Any, video: np.ndarray, folder: Path) -> Exercise:
    """A stroke through the middle; the still is frame 0. Grey coding has no more than a training clip's points."""
    made = config.frames - 1 if config.coding == "grey" else FRAMES
    length = max(made + 1, (config.frames - 1) * config.frame_step + 1)
    points = np.linspace(0.25, 0.75, length)[:, None] * np.array([config.size, config.size])
    stroke = Stroke(points)
    frames = np.resize(video, (length, *video.shape[1:]))
    clips = [Clip("made", frames, 25.0, {"points": points.astype(np.float32)})]
    return Exercise(stroke, stroke, made + 1, made, "stroke", clips)


EXERCISES: Mapping[type, Callable[[Any, np.ndarray, Path], Exercise]] = {Drive: _drive, Stroke: _stroke}
"""By the control of a system: makes its exercise of its configuration, a made video and a folder for files."""


def bench_model(animator: Animator, repeats: int) -> dict[str, Any]:
    """Everything about one model: sizes, times per frame in milliseconds, share of the matmul peak."""
    system = animator.system
    size = system.config.size
    rng = np.random.default_rng(0)
    still = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
    large = rng.integers(0, 256, (_LARGE, _LARGE, 3), dtype=np.uint8)
    video = rng.integers(0, 256, (FRAMES, size, size, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        exercise = EXERCISES[system.control](system.config, video, Path(folder))
        target = Path(folder) / "out.mp4"

        def animated(picture: np.ndarray, control: Control, how: str) -> Animation:
            return animator(picture, control, exercise.frames, size=how)

        variants: dict[str, Callable[[], Any]] = {
            "matmul": _matmul,
            "network": lambda: _run(animated(still, exercise.control, "model")),
            "large": lambda: _run(animated(large, exercise.control, "native")),
            "end_to_end": lambda: animated(still, exercise.given, "model").save(target, overwrite=True),
            "first_frame": lambda: _first(animated(still, exercise.given, "model"), exercise.frames - exercise.made),
        }
        times = interleaved(variants, repeats)
    with FlopCounterMode(display=False) as counter:
        _run(animated(still, exercise.control, "model"))
    flops = counter.get_total_flops() / exercise.made
    per_frame = {name: [t / exercise.made for t in times[name]] for name in ("network", "large", "end_to_end")}
    peak = _MATMUL_FLOPS / statistics.median(times["matmul"])
    network = statistics.median(per_frame["network"])
    return {
        "parameters": sum(p.numel() for p in system.shipped().parameters()),
        "gflop_per_frame": flops / 1e9,
        "network_ms_per_frame": spread(per_frame["network"]),
        f"native_{_LARGE}_ms_per_frame": spread(per_frame["large"]),
        "end_to_end_ms_per_frame": spread(per_frame["end_to_end"]),
        "first_frame_ms": spread(times["first_frame"]),
        "share_of_matmul_peak": flops / network / peak,
        "matmul_gflop_per_s": peak / 1e9,
        "share_outside_network": 1 - network / statistics.median(per_frame["end_to_end"]),
        "bf16": _bf16(animator, still, exercise, network),
        "training": _training(animator, exercise, max(repeats // 2, 1)),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _run(steps: Iterable[Any]) -> None:
    for _ in steps:
        pass


def _first(animation: Animation, before: int) -> Step:
    """The first frame that the networks made; `before` others come ahead of it."""
    return next(islice(animation, before, None))


def _bf16(animator: Animator, still: np.ndarray, exercise: Exercise, fp32_s: float) -> dict[str, Any]:
    """What bf16 costs and spares: the probe that `auto` decides by, times the network, error in grey levels."""
    chosen, probe = choose_precision("auto", torch.device("cpu"), True, lambda *_: own_times(animator.system))
    rough = copy.copy(animator.system)
    rough.precision = "bf16"
    before = exercise.frames - exercise.made
    made = min(_BF16_FRAMES, exercise.made)

    def frames(system: System) -> np.ndarray:
        animation = system.animate(still, exercise.control, made + before, size="model")
        return animation.frames()[before:].astype(np.float32)

    start = time.perf_counter()
    found = frames(rough)
    spent = (time.perf_counter() - start) / made
    error = np.abs(found - frames(animator.system))
    return {
        "auto_chooses": chosen,
        "probe_ms": probe,
        "network_ms_per_frame": 1000 * spent,
        "fp32_over_bf16": fp32_s / spent,
        "mean_error_grey_levels": float(error.mean()),
        "largest_error_grey_levels": float(error.max()),
    }


def _training(animator: Animator, exercise: Exercise, repeats: int) -> dict[str, Any]:
    """Samples per second of the system's training step on made frames, without loading and logging."""
    system = copy.deepcopy(animator.system)
    stage = systems.find(system.name).stages(system, exercise.clips, (), (exercise.stage,))[0]
    batch = default_collate([stage.dataset[i] for i in range(stage.batch)])
    for network in stage.networks.values():
        network.train()

    def update(names: str | Sequence[str], loss: torch.Tensor, *, retain_graph: bool = False, **_: Any) -> None:
        chosen = [stage.optimizers[name] for name in ([names] if isinstance(names, str) else names)]
        for optimizer in chosen:
            optimizer.zero_grad()
        loss.backward(retain_graph=retain_graph)
        for optimizer in chosen:
            optimizer.step()

    seconds = interleaved({"step": lambda: stage.step(batch, update)}, repeats)["step"]
    rate = stage.batch / statistics.median(seconds)
    return {"batch": stage.batch, "step_ms": spread(seconds), "samples_per_s": rate}


def interleaved(variants: Mapping[str, Callable[[], Any]], repeats: int, warm_up: int = 2) -> dict[str, list[float]]:
    """Seconds of every variant in every round, after the warm-up rounds."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for round_number in range(warm_up + repeats):
        for name, variant in variants.items():
            start = time.perf_counter()
            variant()
            if round_number >= warm_up:
                times[name].append(time.perf_counter() - start)
    return times


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median, quartiles and minimum, in milliseconds."""
    low, median, high = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else [seconds[0]] * 3
    values = {"median": median, "quartile_1": low, "quartile_3": high, "min": min(seconds)}
    return {name: 1000 * value for name, value in values.items()}


_MATMUL = 1024
_MATMUL_FLOPS = 2 * _MATMUL**3


def _matmul() -> torch.Tensor:
    return _LEFT @ _LEFT


_LEFT = torch.ones(_MATMUL, _MATMUL)


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
