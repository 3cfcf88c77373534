"""The device to compute on, and the precision that is right for it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from stillmotion.errors import StillmotionError

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "fp32", "bf16")

# bf16 is less accurate, so a tie, or a gain within the noise of a busy machine, goes to fp32.
_MIN_SPEEDUP = 1.15
_MAX_SECONDS = 1.0


def choose_device(wanted: str) -> torch.device:
    """The device that a name stands for: `cpu`, `cuda`, or `auto`, which is CUDA if it is there.

    Raises:
        StillmotionError: another name, or CUDA is not there.
    """
    if wanted not in DEVICES:
        raise StillmotionError(f"device must be one of {', '.join(DEVICES)}, not {wanted!r}.")
    found = torch.cuda.is_available()
    if wanted == "cuda" and not found:
        raise StillmotionError("There is no CUDA device that PyTorch can use: install a CUDA build, or use the cpu.")
    return torch.device("cuda" if found and wanted != "cpu" else "cpu")


def choose_precision(
    wanted: str,
    device: torch.device,
    channels_last: bool = True,
    timer: Callable[[torch.device, bool], dict[str, float]] | None = None,
) -> tuple[str, dict[str, float]]:
    """Turn `auto` into `fp32` or `bf16`: on CUDA bf16 if the GPU supports it, on a CPU what is measured to be faster.

    Args:
        wanted: `fp32`, `bf16` or `auto`.
        device: where the networks are.
        channels_last: the memory layout to measure with.
        timer: called with device and layout, returns the times of `fp32` and `bf16`; None for `time_convolution`.

    Returns:
        The precision, and the times in milliseconds it was chosen by (empty when nothing was measured).
    """
    if wanted != "auto":
        return wanted, {}
    if device.type == "cuda":
        return ("bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"), {}
    try:
        times = (timer or time_convolution)(device, channels_last)
    except RuntimeError:  # a device without bfloat16
        return "fp32", {}
    return ("bf16" if times["bf16"] * _MIN_SPEEDUP < times["fp32"] else "fp32"), times


def time_convolution(device: torch.device, channels_last: bool, repeats: int = 4) -> dict[str, float]:
    """Time a 3x3 convolution (64 channels, 64 x 64, batch 8), forward and backward, in both precisions.

    Returns:
        The best time of each in milliseconds: `fp32` and `bf16`.
    """
    memory = torch.channels_last if channels_last else torch.contiguous_format

    def tensor(*shape: int) -> Tensor:
        # Fixed numbers and not random ones: measuring must not advance any generator.
        values = torch.linspace(-1, 1, math.prod(shape), device=device).reshape(shape)
        return values.contiguous(memory_format=memory).requires_grad_()

    weight = tensor(64, 64, 3, 3)

    def once(name: str, image: Tensor) -> float:
        start = time.perf_counter()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=name == "bf16"):
            output = torch.nn.functional.conv2d(image, weight, padding=1)
        torch.autograd.grad(output.float().mean(), (image, weight))
        return 1000 * (time.perf_counter() - start)

    small, full = tensor(1, 64, 64, 64), tensor(8, 64, 64, 64)
    for name in ("fp32", "bf16"):
        once(name, small)  # the first call of each kind prepares its kernels
    return best_times(lambda name: once(name, full), repeats)


def best_times(once: Callable[[str], float], repeats: int = 4) -> dict[str, float]:
    """The best time of each precision, in the unit of `once`: (`fp32` or `bf16`) -> its time."""
    best = {"fp32": math.inf, "bf16": math.inf}
    started = time.perf_counter()
    for _ in range(repeats):
        # In turns, so that a passing load affects both.
        for name in best:
            best[name] = min(best[name], once(name))
        # Without hardware for it, bfloat16 takes seconds per call: one call is enough.
        if time.perf_counter() - started > _MAX_SECONDS:
            break
    return best
