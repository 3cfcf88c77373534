"""Measure models on prepared data and write down what came out: report.json, report.md, one strip per clip."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stillmotion import media
from stillmotion.animate import load
from stillmotion.data.clip import Clip
from stillmotion.data.clipset import ClipSet, open_dataset
from stillmotion.errors import StillmotionError
from stillmotion.evaluation.metrics import PIXEL_METRICS
from stillmotion.evaluation.protocols import Answer, Protocol, find_protocol
from stillmotion.files import write_json, writing

SHOWN = 10
"""Frames of each clip in its strip."""


def evaluate_models(
    models: Sequence[str],
    data: str | Path,
    protocol: str,
    out: Path,
    *,
    split: str = "test",
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """Measure every model and every baseline on every clip of a split, and write the report.

    Args:
        models: zoo names or folders.
        data: a prepared data set.
        protocol: a key of `PROTOCOLS`.
        out: folder for report.json, report.md and CLIP.png (rows: real, then each model).
        split: `train`, `test` or `all`.
        progress: called with (answers done, answers in all).

    Returns:
        The table as text.

    Raises:
        StillmotionError: an unknown model or protocol, or no clip in the split.
    """
    chosen = find_protocol(protocol)
    clips = choose_split(open_dataset(data), split)
    answers: dict[str, Answer] = {f"baseline: {name}": answer for name, answer in chosen.baselines.items()}
    for model in models:
        answers[str(model)] = chosen.answer(load(model))
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)

    rows: dict[str, dict[str, dict[str, float]]] = {name: {} for name in answers}
    for number, clip in enumerate(clips):
        real = np.asarray(clip.frames)
        strips = [real]
        for place, (name, answer) in enumerate(answers.items()):
            made = answer(clip)
            if made.shape != real.shape:
                raise StillmotionError(
                    f"{name} makes frames of {made.shape[1]} x {made.shape[2]} pixels where clip {clip.name!r} has "
                    f"{real.shape[1]} x {real.shape[2]}; prepare the data with --size {made.shape[1]}."
                )
            rows[name][clip.name] = measure(made, real)
            if not name.startswith("baseline"):
                strips.append(made)
            if progress:
                progress(number * len(answers) + place + 1, len(clips) * len(answers))
        media.write_picture(out / f"{clip.name}.png", strip(strips), overwrite=True)
    report = summarise(chosen, clips, rows, split)
    write_json(out / "report.json", report)
    text = as_text(report)
    (out / "report.md").write_text(text + "\n", encoding="utf-8")
    return text


def choose_split(clips: ClipSet, split: str) -> ClipSet:
    """The clips of one split (`all` for every clip).

    Raises:
        StillmotionError: there are none.
    """
    found = clips if split == "all" else clips.select(lambda clip: clip.meta.get("split") == split)
    if len(found) == 0:
        raise StillmotionError(f"The data set has no clips of split {split!r}; try --split all.")
    return found


def measure(made: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """All pixel metrics of one clip; both T x H x W x 3, `uint8`."""
    values = {}
    for name, kind in PIXEL_METRICS.items():
        metric = kind()
        metric.update(_tensor(made), _tensor(real))
        values[name] = float(metric.compute())
    return values


def summarise(
    protocol: Protocol,
    clips: Sequence[Clip],
    rows: Mapping[str, Mapping[str, Mapping[str, float]]],
    split: str,
) -> dict[str, Any]:
    """Means over clips, beside the definitions and the numbers per clip."""
    means: dict[str, dict[str, float | None]] = {
        name: {metric: float(np.mean([row[metric] for row in per_clip.values()])) for metric in PIXEL_METRICS}
        for name, per_clip in rows.items()
    }
    first = next(iter(means.values()))["L1"]
    for values in means.values():
        # Where nothing moves the copied still is perfect, and JSON knows no infinity.
        values["L1 / copy the still"] = (values["L1"] or 0.0) / first if first else None
    return {
        "protocol": protocol.name,
        "definition": protocol.definition,
        "split": split,
        "clips": len(clips),
        "frames": sum(len(clip) for clip in clips),
        "metrics": {name: kind.definition for name, kind in PIXEL_METRICS.items()},  # type: ignore[attr-defined]
        "means": means,
        "per_clip": rows,
    }


def as_text(report: Mapping[str, Any]) -> str:
    """The report as a Markdown table with its definitions."""
    columns = list(next(iter(report["means"].values())))
    lines = [
        f"Protocol {report['protocol']}: {report['definition']}.",
        f"{report['clips']} clips of split {report['split']}, {report['frames']} frames, uint8 RGB.",
        "",
        "| | " + " | ".join(columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for name, values in report["means"].items():
        cells = ("n/a" if values[column] is None else f"{values[column]:.4f}" for column in columns)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", *(f"{name}: {definition}." for name, definition in report["metrics"].items())]
    return "\n".join(lines)


def strip(rows: Sequence[np.ndarray], shown: int = SHOWN) -> np.ndarray:
    """Videos under each other, `shown` evenly spaced frames side by side; H x W x 3 `uint8`."""
    at = np.linspace(0, len(rows[0]) - 1, min(shown, len(rows[0]))).round().astype(int)
    return np.concatenate([np.concatenate(list(row[at]), axis=1) for row in rows], axis=0)


def _tensor(frames: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(frames)).permute(0, 3, 1, 2).float() / 255
