"""Metrics over time: a number per step of a clip instead of one per clip, and their files."""

from __future__ import annotations

import csv
import io
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from stillmotion import media
from stillmotion.evaluation.metrics import PSNR_CAP
from stillmotion.files import write_bytes

MOST_STEPS = 1024
"""Later frames of a clip do not count."""


class Curve(Metric):
    """Mean over clips at every step, frame 0 first; clips may differ in length. Subclasses define `of_frames`."""

    full_state_update = False
    higher_is_better: bool | None = True
    definition = ""
    total: Tensor
    clips: Tensor

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.add_state("total", torch.zeros(MOST_STEPS, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("clips", torch.zeros(MOST_STEPS, dtype=torch.int64), dist_reduce_fx="sum")

    @abstractmethod
    def of_frames(self, made: Tensor, real: Tensor) -> Tensor:
        """A number per frame."""

    def update(self, made: Tensor, real: Tensor) -> None:
        """Add one clip: made and real frames, T x 3 x H x W in [0, 1].

        Raises:
            ValueError: the shapes differ or are not T x 3 x H x W.
        """
        if made.shape != real.shape or made.ndim != 4 or made.shape[1] != 3:
            raise ValueError(f"Clips must both be T x 3 x H x W, not {tuple(made.shape)} and {tuple(real.shape)}.")
        values = self.of_frames(made[:MOST_STEPS].float(), real[:MOST_STEPS].float())
        self.total[: len(values)] += values.double()
        self.clips[: len(values)] += 1

    def compute(self) -> Tensor:
        """The means, as many as the longest clip has frames."""
        steps = int((self.clips > 0).sum())
        return (self.total[:steps] / self.clips[:steps]).float()


class PSNRCurve(Curve):
    """Peak signal-to-noise ratio at every step."""

    definition = (
        "peak signal-to-noise ratio in dB (at most 60) of the frame at each step, over clips; step 0 is the still; "
        "higher is better"
    )

    def of_frames(self, made: Tensor, real: Tensor) -> Tensor:
        """Per frame."""
        each = peak_signal_noise_ratio(made, real, data_range=1.0, reduction="none", dim=(1, 2, 3))
        return torch.nan_to_num(each, posinf=PSNR_CAP).clamp(max=PSNR_CAP).reshape(-1)


class SSIMCurve(Curve):
    """Structural similarity at every step."""

    definition = (
        "structural similarity (gaussian window 11, sigma 1.5) of the frame at each step, over clips; step 0 is the "
        "still; higher is better"
    )

    def of_frames(self, made: Tensor, real: Tensor) -> Tensor:
        """Per frame."""
        value = structural_similarity_index_measure(made, real, data_range=1.0, reduction="none")
        assert isinstance(value, Tensor)
        return value.reshape(-1)


class BrightnessCurve(Curve):
    """Mean brightness at every step over the truth's: how far the frames darken."""

    higher_is_better = None
    definition = (
        "mean brightness of the made frame over that of the true one at each step, over clips; 1 is right, below it "
        "the frames have darkened (the paper's Fig. 3)"
    )

    def of_frames(self, made: Tensor, real: Tensor) -> Tensor:
        """Per frame."""
        return made.mean(dim=(1, 2, 3)) / real.mean(dim=(1, 2, 3)).clamp_min(1e-6)


def write_curves(folder: Path, curves: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Write curves.csv and a picture NAME.png for each metric.

    Args:
        folder: exists.
        curves: numbers per step by metric and row.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["metric", "row", "step", "value"])
    for metric, rows in curves.items():
        for row, values in rows.items():
            writer.writerows([metric, row, step, f"{value:.6g}"] for step, value in enumerate(values))
    write_bytes(folder / "curves.csv", text.getvalue().encode())
    for metric, rows in curves.items():
        media.write_picture(folder / f"curve-{metric.lower()}.png", plot(metric, rows), overwrite=True)


_COLOURS = ((31, 119, 180), (214, 39, 40), (44, 160, 44), (148, 103, 189), (140, 86, 75), (90, 90, 90))
_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 640, 360, 60, 30, 20, 40


def plot(title: str, rows: Mapping[str, Sequence[float]]) -> np.ndarray:
    """Draw lines over steps; step 0 is left out, since the still is perfect there. H x W x 3 `uint8`."""
    image = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    shown = {name: np.asarray(values, float)[1:] for name, values in rows.items() if len(values) > 1}
    finite = np.concatenate([values[np.isfinite(values)] for values in shown.values()] or [np.zeros(1)])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    high = high if high > low else low + 1
    last = max((len(values) for values in shown.values()), default=1)

    def at(step: float, value: float) -> tuple[float, float]:
        x = _LEFT + (_WIDTH - _LEFT - _RIGHT) * (step - 1) / max(1, last - 1)
        return x, _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (value - low) / (high - low)

    for share in np.linspace(0, 1, 5):
        value = low + share * (high - low)
        draw.line([at(1, value), at(last, value)], fill=(225, 225, 225))
        draw.text((6, at(1, value)[1] - 6), f"{value:.4g}", fill="black")
    for step in np.unique(np.linspace(1, last, min(last, 9)).round().astype(int)):
        draw.text((at(step, low)[0] - 4, _HEIGHT - _BOTTOM + 6), str(step), fill="black")
    draw.text((_WIDTH // 2 - 20, _HEIGHT - 16), "step", fill="black")
    draw.text((_LEFT, 6), title, fill="black")
    for number, (name, values) in enumerate(shown.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        line = [at(step, value) for step, value in enumerate(values, start=1) if np.isfinite(value)]
        if len(line) == 1:
            line *= 2
        draw.line(line, fill=colour, width=2)
        draw.text((_LEFT + 8, _TOP + 4 + 12 * number), name[-60:], fill=colour)
    return np.asarray(image)
