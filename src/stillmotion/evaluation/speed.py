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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from stillmotion import media, systems
from stillmotion.animate import Animator, load, shipped_models
from stillmotion.controls import Drive
from stillmotion.data.clip import Clip
from stillmotion.files import write_json
from stillmotion.nn.precision import choose
from stillmotion.systems.base import System
from stillmotion.version import __version__

FRAMES = 32
"""Length of the made driving video that is timed."""
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


def bench_model(animator: Animator, repeats: int) -> dict[str, Any]:
    """Everything about one driving model: sizes, times per frame in milliseconds, share of the matmul peak."""
    size = animator.system.config.size
    rng = np.random.default_rng(0)
    still = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
    video = rng.integers(0, 256, (FRAMES, size, size, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "drive.mp4"
        media.write_video(source, iter(video), fps=25)
        target = Path(folder) / "out.mp4"
        variants: dict[str, Callable[[], Any]] = {
            "matmul": _matmul,
            "network": lambda: animator(still, Drive(video), size="model").frames(),
            "end_to_end": lambda: animator(still, Drive(source), size="model").save(target, overwrite=True),
            "first_frame": lambda: next(iter(animator(still, Drive(source), size="model"))),
        }
        times = interleaved(variants, repeats)
    with FlopCounterMode(display=False) as counter:
        animator(still, Drive(video), size="model").frames()
    flops = counter.get_total_flops() / FRAMES
    per_frame = {name: [t / FRAMES for t in times[name]] for name in ("network", "end_to_end")}
    peak = _MATMUL_FLOPS / statistics.median(times["matmul"])
    network = statistics.median(per_frame["network"])
    return {
        "parameters": sum(p.numel() for p in animator.system.shipped().parameters()),
        "gflop_per_frame": flops / 1e9,
        "network_ms_per_frame": spread(per_frame["network"]),
        "end_to_end_ms_per_frame": spread(per_frame["end_to_end"]),
        "first_frame_ms": spread(times["first_frame"]),
        "share_of_matmul_peak": flops / network / peak,
        "matmul_gflop_per_s": peak / 1e9,
        "share_outside_network": 1 - network / statistics.median(per_frame["end_to_end"]),
        "bf16": _bf16(animator, still, video, statistics.median(times["network"])),
        "training": _training(animator, video, max(repeats // 2, 1)),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _bf16(animator: Animator, still: np.ndarray, video: np.ndarray, fp32_s: float) -> dict[str, Any]:
    """What bf16 costs and spares: the probe that `auto` decides by, times the network, error in grey levels."""
    chosen, probe = choose("auto", torch.device("cpu"), channels_last=True)
    rough = copy.copy(animator.system)
    rough.precision = "bf16"
    few = Drive(video[:_BF16_FRAMES])

    def frames(system: System) -> np.ndarray:
        return system.animate(still, few, size="model").frames().astype(np.float32)

    start = time.perf_counter()
    made = frames(rough)
    spent = (time.perf_counter() - start) / _BF16_FRAMES
    error = np.abs(made - frames(animator.system))
    return {
        "auto_chooses": chosen,
        "probe_ms": probe,
        "network_ms_per_frame": 1000 * spent,
        "fp32_over_bf16": fp32_s / FRAMES / spent,
        "mean_error_grey_levels": float(error.mean()),
        "largest_error_grey_levels": float(error.max()),
    }


def _training(animator: Animator, video: np.ndarray, repeats: int) -> dict[str, Any]:
    """Samples per second of the system's training step on made frames, without loading and logging."""
    system = copy.deepcopy(animator.system)
    clips = [Clip("made", video, 25.0)]
    stage = systems.find(system.name).stages(system, clips, (), ("motion",))[0]
    batch = {key: torch.rand(stage.batch, *video.shape[3:], *video.shape[1:3]) for key in ("source", "driving")}
    for network in stage.networks.values():
        network.train()

    def update(name: str, loss: torch.Tensor) -> None:
        stage.optimizers[name].zero_grad()
        loss.backward()
        stage.optimizers[name].step()

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
