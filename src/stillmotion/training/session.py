"""State of a running training: the call of `fit`, and the stage that is being trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator

from stillmotion.training.ema import EMA
from stillmotion.training.logging import Console, JsonLines, MeanMeter, TensorBoard
from stillmotion.training.settings import LoopSettings
from stillmotion.training.signals import StopSignal
from stillmotion.training.stage import Stage
from stillmotion.training.update import Updater


@dataclass
class Session:
    """One call of `fit`: what its stages share, and the training time, which continues over resumes."""

    run: Path
    stages: list[str]
    settings: LoopSettings
    accelerator: Accelerator
    stop_signal: StopSignal
    log: JsonLines
    config_hash: str
    precision: str = "fp32"
    seconds: float = 0.0

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and the console."""
        return bool(self.accelerator.is_main_process)


@dataclass
class Progress:
    """One stage while it is trained."""

    stage: Stage
    updater: Updater
    ema: EMA
    meter: MeanMeter
    console: Console | None = None
    tensorboard: TensorBoard | None = None
    step: int = 0
    stopped: bool = False
    last_log: tuple[float, int] = (0.0, 0)  # seconds, step
