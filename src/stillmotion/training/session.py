"""What a training carries along: the call of `fit`, and the stage that is being trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator

from stillmotion.training.average import Average
from stillmotion.training.logging import Averager, Board, Console, JsonLines
from stillmotion.training.settings import LoopSettings
from stillmotion.training.stage import Stage
from stillmotion.training.stopping import Stopper
from stillmotion.training.update import Updater


@dataclass
class Session:
    """One call of `fit`: what stays the same over its stages, and the clock that goes on over resumes."""

    run: Path
    stages: list[str]
    settings: LoopSettings
    accelerator: Accelerator
    stopper: Stopper
    log: JsonLines
    config_hash: str
    precision: str = "fp32"
    seconds: float = 0.0

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return bool(self.accelerator.is_main_process)


@dataclass
class Progress:
    """One stage while it is trained."""

    stage: Stage
    updater: Updater
    average: Average
    numbers: Averager
    console: Console | None = None
    board: Board | None = None
    step: int = 0
    stopped: bool = False
    logged: tuple[float, int] = (0.0, 0)
