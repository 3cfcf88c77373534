"""Logs of a training: a JSONL file, TensorBoard, and progress on the console."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from stillmotion.outputs import write_bytes, writing


class MeanMeter:
    """Means of logged scalars since the last log line; its sums are stored in checkpoints."""

    def __init__(self) -> None:
        self._pending: dict[str, list[Tensor]] = {}
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add one step's scalars without waiting for the device."""
        for name, value in values.items():
            self._pending.setdefault(name, []).append(value.detach())

    def sums(self) -> dict[str, tuple[float, int]]:
        """Sum and count of each scalar so far."""
        for name, values in self._pending.items():
            before, count = self._sums.get(name, (0.0, 0))
            total = float(torch.stack([v.double().reshape(()) for v in values]).sum())
            self._sums[name] = (before + total, count + len(values))
        self._pending = {}
        return dict(self._sums)

    def reset(self, sums: Mapping[str, Sequence[float]] | None = None) -> None:
        """Start from nothing, or from stored sums."""
        self._pending = {}
        self._sums = {name: (float(total), int(count)) for name, (total, count) in (sums or {}).items()}


class JsonLines:
    """The file `log.jsonl`: one JSON object per line, each with its `stage` and `step`."""

    def __init__(self, path: Path):
        self.path = path
        self._file: TextIO | None = None

    def truncate(self, stages: Sequence[str], stage: str, step: int) -> None:
        """Remove the lines after a step of a stage, which a resumed training is about to write again."""
        if not self.path.is_file():
            return
        kept = [
            line
            for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
            if _is_until(line, stages, stage, step)
        ]
        write_bytes(self.path, "".join(kept).encode())

    def write(self, line: Mapping[str, Any]) -> None:
        """Append a line; NaN and infinity become null."""
        with writing(self.path):
            if self._file is None:
                self._file = self.path.open("a", encoding="utf-8")
            self._file.write(json.dumps(_finite(line)) + "\n")
            self._file.flush()

    def sync(self) -> None:
        """Make sure that the lines so far are on the disk before a checkpoint says that they are."""
        if self._file is not None:
            with writing(self.path):
                os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


class TensorBoard:
    """TensorBoard, if it is installed: scalars and images of one stage in a folder of its own."""

    def __init__(self, folder: Path, start: int):
        self._writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        # `purge_step` hides what an interrupted run logged of the steps that are run again.
        self._writer = SummaryWriter(str(folder), purge_step=start + 1)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log scalars of a step."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Log uint8 H x W x 3 images of a step."""
        if self._writer is not None:
            for name, image in images.items():
                self._writer.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        """Flush and close."""
        if self._writer is not None:
            self._writer.close()


class Console:
    """A progress bar on a terminal, plain lines elsewhere.

    Attributes:
        total: steps to expect.
    """

    def __init__(self, stage: str, start: int, total: int, stream: TextIO | None = None):
        self.stream = stream or sys.stderr
        self.stage = stage
        self.total = total
        self._bar: Any = None
        if self.stream.isatty():
            self._bar = tqdm(total=total, initial=start, desc=stage, unit="step", file=self.stream)

    def advance(self) -> None:
        """One step is done."""
        if self._bar is not None:
            self._bar.update()

    def losses(self, step: int, losses: Mapping[str, float], samples_per_s: float, left: float) -> None:
        """Show the mean losses at a step, the rate and the seconds left of the stage."""
        shown = "  ".join(f"{name} {value:.4g}" for name, value in losses.items())
        if self._bar is not None:
            self._bar.total = self.total
            self._bar.set_postfix_str(shown)
            return
        text = f"{self.stage} {step}/{self.total}  {shown}  {samples_per_s:.1f} samples/s"
        self.line(f"{text}  {tqdm.format_interval(left)} left")

    def line(self, text: str) -> None:
        """Print a sentence without breaking the bar."""
        if self._bar is not None:
            self._bar.write(text, file=self.stream)
        else:
            print(text, file=self.stream, flush=True)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()


def save_images(folder: Path, stage: str, step: int, images: Mapping[str, np.ndarray]) -> None:
    """Write previews as PNG files `STAGE-000500-NAME.png`."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, image in images.items():
            safe = re.sub(r"[^A-Za-z0-9_-]+", "_", name)
            Image.fromarray(image).save(folder / f"{stage}-{step:06d}-{safe}.png")


def _is_until(line: str, stages: Sequence[str], stage: str, step: int) -> bool:
    try:
        entry = json.loads(line)
        there = (stages.index(entry["stage"]), int(entry["step"]))
    except (ValueError, KeyError, TypeError):
        return False  # the partial line of a killed process, or a stage that no longer exists
    return line.endswith("\n") and there <= (stages.index(stage), step)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
