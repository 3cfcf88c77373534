"""Metrics over time: a value per step of a clip instead of one per clip, and their files."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torchmetrics import Metric

from stillmotion import media
from stillmotion.evaluation.metrics.base import check_frames
from stillmotion.evaluation.metrics.feature import LPIPS
from stillmotion.evaluation.metrics.pixel import PSNR, SSIM
from stillmotion.outputs import write_bytes

MAX_STEPS = 1024  # later frames of a clip do not count


class Curve(Metric):
    """Mean over clips at every step, frame 0 first; clips may differ in length.

    Args:
        per_frame: of predicted and target frames, T x 3 x H x W in [0, 1], or of their features, T x D, T values.
        definition: in a sentence.
        extractor: name of the extractor whose features are compared; `pixels` for the frames themselves.
    """

    full_state_update = False
    total: Tensor
    clips: Tensor

    def __init__(
        self,
        per_frame: Callable[[Tensor, Tensor], Tensor],
        definition: str,
        extractor: str = "pixels",
        **options: Any,
    ):
        super().__init__(**options)
        self.per_frame, self.definition, self.extractor = per_frame, definition, extractor
        self.add_state("total", torch.zeros(MAX_STEPS, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("clips", torch.zeros(MAX_STEPS, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add one clip: predicted and target frames, T x 3 x H x W in [0, 1], or features, T x D.

        Raises:
            ValueError: the shapes differ or are not these.
        """
        if self.extractor == "pixels":
            check_frames(preds, target)
        values = self.per_frame(preds[:MAX_STEPS].float(), target[:MAX_STEPS].float())
        self.total[: len(values)] += values.double()
        self.clips[: len(values)] += 1

    def compute(self) -> Tensor:
        """The means, as many as the longest clip has frames."""
        steps = int((self.clips > 0).sum())
        return (self.total[:steps] / self.clips[:steps]).float()


def relative_brightness(preds: Tensor, target: Tensor) -> Tensor:
    """Mean brightness of each predicted frame over that of the target frame, T."""
    return preds.mean(dim=(1, 2, 3)) / target.mean(dim=(1, 2, 3)).clamp_min(1e-6)


CURVES: Mapping[str, Callable[[], Curve]] = {
    "PSNR": partial(
        Curve,
        PSNR.per_frame,
        "peak signal-to-noise ratio in dB (at most 60) of the frame at each step, over clips; step 0 is the still; "
        "higher is better",
    ),
    "SSIM": partial(
        Curve,
        SSIM.per_frame,
        "structural similarity (gaussian window 11, sigma 1.5) of the frame at each step, over clips; step 0 is the "
        "still; higher is better",
    ),
    "brightness": partial(
        Curve,
        relative_brightness,
        "mean brightness of the predicted frame over that of the target frame at each step, over clips; 1 is "
        "correct, below 1 the frames have darkened (Fig. 3 of the strokes paper)",
    ),
    "LPIPS": partial(
        Curve,
        LPIPS().per_frame,
        "learned perceptual image patch similarity of the frame at each step, over clips; step 0 is the still; lower "
        "is better",
        extractor="lpips",
    ),
}


def write_curves(folder: Path, curves: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Write curves.csv and a picture curve-METRIC.png for each metric.

    Args:
        folder: exists.
        curves: values per step by metric and row.
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
    """Plot lines over steps; step 0 is left out, since the still has no error. H x W x 3 `uint8`."""
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
        draw.line(line * 2 if len(line) == 1 else line, fill=colour, width=2)
        draw.text((_LEFT + 8, _TOP + 4 + 12 * number), name[-60:], fill=colour)
    return np.asarray(image)
