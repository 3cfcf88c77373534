"""Settings of the loop, and the outcome of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stillmotion.errors import StillmotionError
from stillmotion.nn.device import DEVICES, PRECISIONS


@dataclass(frozen=True)
class LoopSettings:
    """Settings of the loop, the same for every stage.

    Raises:
        StillmotionError: a value is out of its range.
    """

    seed: int = 0  # of the random numbers drawn in steps; not negative
    checkpoint_every: int = 500  # steps between checkpoints
    keep: int = 3  # checkpoints of the current stage that are kept; the last one of a finished stage always is
    log_every: int = 50  # steps between log lines
    preview_every: int = 500  # steps between preview images; 0 for none
    # `bf16` is autocast; `auto` is bf16 on a GPU that supports it, and on a CPU where a short measurement is faster.
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    channels_last: bool = True  # keep 4-D weights and inputs in channels-last layout (faster on most devices)
    ema_decay: float = 0.999  # of the averaged weights, in [0, 1)
    # Seconds of the whole run, resumes included, in which the learning rates fall to zero; None: the stages' steps.
    time_budget_s: float | None = None
    threads: int | None = None  # CPU threads per process, None: torch's choice; as many for a bit-exact resume
    workers: int = 0  # processes that prepare batches, per training process; 0 prepares them in this one
    device: Literal["auto", "cpu", "cuda"] = "auto"  # `auto` (CUDA if it is there), `cpu` or `cuda`

    def __post_init__(self) -> None:
        smallest = {"seed": 0, "checkpoint_every": 1, "keep": 1, "log_every": 1, "preview_every": 0, "workers": 0}
        for name, least in smallest.items():
            if getattr(self, name) < least:
                raise StillmotionError(f"{name} must be at least {least}, not {getattr(self, name)}.")
        if self.threads is not None and self.threads < 1:
            raise StillmotionError(f"threads must be at least 1, not {self.threads}.")
        if self.time_budget_s is not None and not self.time_budget_s > 0:
            raise StillmotionError(f"time_budget_s must be above 0, not {self.time_budget_s}.")
        if not 0 <= self.ema_decay < 1:
            raise StillmotionError(f"ema_decay must be at least 0 and below 1, not {self.ema_decay}.")
        for name, known in {"precision": PRECISIONS, "device": DEVICES}.items():
            if getattr(self, name) not in known:
                raise StillmotionError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}.")


@dataclass(frozen=True)
class Outcome:
    """How `fit` ended."""

    finished: bool  # every stage has all its steps, or had its part of the time budget
    stage: str  # the last stage that was trained
    step: int  # its last step
    stopped_by: str = ""  # empty when finished, else `Ctrl-C`, `SIGTERM` or `another process`
