"""Choosing between float32 and bfloat16 by measuring: which is faster differs from machine to machine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

PRECISIONS = ("auto", "fp32", "bf16")

# bf16 costs accuracy, so a tie, or a gain within the noise of a busy machine, goes to fp32.
_WORTH = 1.15
_PATIENCE_S = 1.0


def measure(device: torch.device, channels_last: bool, repeats: int = 4) -> dict[str, float]:
    """Time a 3x3 convolution (64 channels, 64 x 64, batch 8), forward and backward, in both precisions.

    Returns:
        The best time of each in milliseconds: `fp32` and `bf16`.
    """
    memory = torch.channels_last if channels_last else torch.contiguous_format

    def tensor(*shape: int) -> Tensor:
        # Fixed numbers and not random ones: measuring must not move anybody's generator.
        made = torch.linspace(-1, 1, math.prod(shape), device=device).reshape(shape)
        return made.contiguous(memory_format=memory).requires_grad_()

    weight = tensor(64, 64, 3, 3)

    def once(name: str, picture: Tensor) -> float:
        _wait(device)
        start = time.perf_counter()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=name == "bf16"):
            made = torch.nn.functional.conv2d(picture, weight, padding=1)
        torch.autograd.grad(made.float().mean(), (picture, weight))
        _wait(device)
        return 1000 * (time.perf_counter() - start)

    small, full = tensor(1, 64, 64, 64), tensor(8, 64, 64, 64)
    for name in ("fp32", "bf16"):
        once(name, small)  # the first call of each kind prepares its kernels
    return compare(lambda name: once(name, full), repeats)


def compare(once: Callable[[str], float], repeats: int = 4) -> dict[str, float]:
    """The best time of each precision, in the unit of `once`, which is given `fp32` or `bf16` and tells its time."""
    best = {"fp32": math.inf, "bf16": math.inf}
    started = time.perf_counter()
    for _ in range(repeats):
        # Taking turns lets a passing load fall on both.
        for name in best:
            best[name] = min(best[name], once(name))
        # Without hardware for it, bfloat16 takes seconds per call: one call says enough.
        if time.perf_counter() - started > _PATIENCE_S:
            break
    return best


def choose(
    wanted: str, device: torch.device, channels_last: bool, timer: Callable[..., dict[str, float]] = measure
) -> tuple[str, dict[str, float]]:
    """Turn `auto` into `fp32` or `bf16`.

    Returns:
        The precision, and the times in milliseconds it was decided on (empty when nothing was measured).
    """
    if wanted != "auto":
        return wanted, {}
    try:
        times = timer(device, channels_last)
    except RuntimeError:  # a device without bfloat16
        return "fp32", {}
    return ("bf16" if times["bf16"] * _WORTH < times["fp32"] else "fp32"), times


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
