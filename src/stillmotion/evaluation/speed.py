"""Speed and size of models on this machine: medians with their spread.

All variants of one model are timed in turn, once per round, so that other load on the machine affects them equally.
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
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import default_collate
from torch.utils.flop_counter import FlopCounterMode

from stillmotion import media
from stillmotion.animate import Animator, load, own_times, shipped_models
from stillmotion.data.clip import Clip
from stillmotion.files import write_json
from stillmotion.nn.device import choose_device, choose_precision
from stillmotion.options import Control
from stillmotion.outputs import check_file
from stillmotion.systems.base import Animation, System
from stillmotion.version import __version__

FRAMES = 32  # frames that the networks generate in what is timed
_LARGE = 256  # side of the still that is animated at its own size
_MATMUL = 1024  # side of the matrices whose product gives the peak
_BF16_FRAMES = 8  # without hardware for it bf16 takes seconds


def bench_models(
    models: Sequence[str],
    out: Path | None,
    *,
    repeats: int = 10,
    threads: int | None = None,
    device: str = "cpu",
    overwrite: bool = False,
) -> str:
    """Time models and write the results as JSON.

    Args:
        models: zoo names or folders; empty for everything shipped.
        out: the JSON file; None writes none.
        repeats: timed rounds after two to warm up.
        threads: CPU threads; None leaves torch's choice.
        device: where the networks run: `cpu`, `cuda` or `auto`.
        overwrite: replace the file if it is there.

    Returns:
        The JSON text.

    Raises:
        StillmotionError: an unknown model, or a file that is there or cannot be written.
    """
    if out is not None:
        check_file(out, overwrite)
    if threads:
        torch.set_num_threads(threads)
    report = {
        "machine": machine(choose_device(device)),
        "frames": FRAMES,
        "repeats": repeats,
        "models": {name: bench_model(load(name, device=device), repeats) for name in models or shipped_models()},
    }
    if out is not None:
        write_json(out, report)
    return json.dumps(report, indent=2)


def machine(device: torch.device = torch.device("cpu")) -> dict[str, Any]:  # noqa: B008
    """Hardware and versions."""
    return {
        "cpu": _cpu_name(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "stillmotion": __version__,
    }


@dataclass(frozen=True)
class Exercise:
    """What a system's speed is measured on."""

    still: np.ndarray  # H x W x 3, of the networks' size
    control: Control  # the control, from memory
    given: Control  # the same as a person gives it: with a file to read, where there is one
    frames: int  # how many to ask for, so that the networks generate `generated` of them
    generated: int  # how many the networks generate; the others are the still
    stage: str  # the training stage whose step is timed
    clips: Sequence[Clip]  # training clips for that stage


def make_exercise(system: System, folder: Path) -> Exercise:
    """The exercise of a system, of its `example_clip(frames)`, `control_of(clip)` and `main_stage`.

    A video that the control reads is written to `folder`.
    """
    clip = system.example_clip(FRAMES)
    still = np.asarray(clip.frames)[0]
    first = next(iter(system.animate(still, system.control_of(clip), len(clip), size="model"))).frame
    if copied := int(np.array_equal(first, still)):  # frame 0 is the still and not generated
        clip = system.example_clip(FRAMES + 1)
    control = given = system.control_of(clip)
    video = getattr(control, "video", None)
    if isinstance(video, np.ndarray):
        media.write_video(folder / "control.mp4", iter(video), fps=clip.fps)
        given = replace(cast(Any, control), video=folder / "control.mp4")
    return Exercise(still, control, given, len(clip), len(clip) - copied, system.main_stage, [clip])


def bench_model(animator: Animator, repeats: int) -> dict[str, Any]:
    """Everything about one model: sizes, times per frame in milliseconds, share of the matmul peak."""
    system = animator.system
    left = torch.ones(_MATMUL, _MATMUL, device=system.device)
    with tempfile.TemporaryDirectory() as folder:
        exercise = make_exercise(system, Path(folder))
        large = media.resize(exercise.still, (_LARGE, _LARGE))
        target = Path(folder) / "out.mp4"

        def animated(control: Control, size: str = "model", still: np.ndarray = exercise.still) -> Animation:
            return animator(still, control, exercise.frames, size=size)

        variants: dict[str, Callable[[], Any]] = {
            "matmul": lambda: left @ left,
            "network": lambda: deque(animated(exercise.control), 0),
            "large": lambda: deque(animated(exercise.control, "native", large), 0),
            "end_to_end": lambda: animated(exercise.given).save(target, overwrite=True),
            "first_frame": lambda: next(islice(animated(exercise.given), exercise.frames - exercise.generated, None)),
        }
        times = interleaved(variants, repeats)
    with FlopCounterMode(display=False) as counter:
        deque(animated(exercise.control), 0)
    flops = counter.get_total_flops() / exercise.generated
    per_frame = {name: [t / exercise.generated for t in times[name]] for name in ("network", "large", "end_to_end")}
    peak = 2 * _MATMUL**3 / statistics.median(times["matmul"])
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
        "bf16": _bf16(system, exercise, network),
        "training": _training(system, exercise, max(repeats // 2, 1)),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _bf16(system: System, exercise: Exercise, fp32_s: float) -> dict[str, Any]:
    """bf16 against fp32: the probe that `auto` decides by, the network's time, the error in grey levels."""
    chosen, probe = choose_precision("auto", system.device, True, lambda *_: own_times(system))
    rough = copy.copy(system)
    rough.precision = "bf16"
    before = exercise.frames - exercise.generated
    generated = min(_BF16_FRAMES, exercise.generated)

    def frames(system: System) -> np.ndarray:
        animation = system.animate(exercise.still, exercise.control, generated + before, size="model")
        return animation.frames()[before:].astype(np.float32)

    start = time.perf_counter()
    found = frames(rough)
    spent = (time.perf_counter() - start) / generated
    error = np.abs(found - frames(system))
    return {
        "auto_chooses": chosen,
        "probe_ms": probe,
        "network_ms_per_frame": 1000 * spent,
        "fp32_over_bf16": fp32_s / spent,
        "mean_error_grey_levels": float(error.mean()),
        "largest_error_grey_levels": float(error.max()),
    }


def _training(system: System, exercise: Exercise, repeats: int) -> dict[str, Any]:
    """Samples per second of the system's training step, without loading and logging."""
    from accelerate.utils import send_to_device  # of the extra `train`, as the stages

    stage = copy.deepcopy(system).stages(exercise.clips, only=(exercise.stage,))[0]
    with tempfile.TemporaryDirectory() as folder:
        if (begin := getattr(stage, "begin", None)) is not None:  # makes what it learns from, as in a training
            begin(Path(folder))
        batch = send_to_device(default_collate([stage.dataset[i] for i in range(stage.batch)]), system.device)
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
            if torch.cuda.is_initialized():
                torch.cuda.synchronize()
            if round_number >= warm_up:
                times[name].append(time.perf_counter() - start)
    return times


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median, quartiles and minimum, in milliseconds."""
    low, median, high = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else [seconds[0]] * 3
    values = {"median": median, "quartile_1": low, "quartile_3": high, "min": min(seconds)}
    return {name: 1000 * value for name, value in values.items()}


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
