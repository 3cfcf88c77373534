"""Measure models on prepared data and write down what came out: report.json, report.md, one strip per case."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchmetrics import Metric

from stillmotion import media
from stillmotion.animate import load
from stillmotion.data.clipset import ClipSet, open_dataset
from stillmotion.data.info import DatasetInfo
from stillmotion.errors import StillmotionError
from stillmotion.evaluation.curves import Curve, write_curves
from stillmotion.evaluation.measures import Case, Measure, Views, add_case, number
from stillmotion.evaluation.networks import NEEDS, Source
from stillmotion.evaluation.protocols import Answer, Protocol, find_protocol
from stillmotion.files import write_json, writing
from stillmotion.version import __version__

SHOWN = 10
"""Frames of each case in its strip."""

INPUT = "made and real frames are compared as 8-bit RGB arrays; made frames never pass through a video file"
"""Users of this family found their numbers changed by mp4 against png: every report says which it was."""


def evaluate_models(
    models: Sequence[str],
    data: str | Path,
    protocol: str,
    out: Path,
    *,
    split: str = "test",
    networks: Mapping[str, Source] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """Measure every model and every baseline on every case of a protocol, and write the report.

    Args:
        models: zoo names or folders.
        data: a prepared data set.
        protocol: a key of `PROTOCOLS`.
        out: folder for report.json, report.md and CASE.png (rows: driving, then each model); where the protocol has
            curves, curves.csv and curve-METRIC.png.
        split: `train`, `test` or `all`.
        networks: what `networks.open_networks` gave; metrics whose network is missing are left out and named.
        progress: called with (answers done, answers in all).

    Returns:
        The table as text.

    Raises:
        StillmotionError: an unknown model or protocol, or no clip in the split.
    """
    chosen = find_protocol(protocol)
    clips = choose_split(open_dataset(data), split)
    cases = chosen.cases(clips)
    views = Views(networks or {})
    measures = [measure for measure in chosen.measures if views.has(measure.view)]
    if not measures:
        asked = sorted({NEEDS[measure.view] for measure in chosen.measures})
        raise StillmotionError(
            f"Protocol {protocol!r} measures nothing without a network; give {' or '.join(asked)}."
        )
    answers: dict[str, Answer] = {f"baseline: {name}": answer for name, answer in chosen.baselines.items()}
    for model in models:
        answers[str(model)] = chosen.answer(load(model))
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)

    metrics = {name: build_metrics(measures, views) for name in answers}
    curves = {key: {name: build() for name in answers} for key, build in chosen.curves.items()}
    rows: dict[str, dict[str, dict[str, float | None]]] = {name: {} for name in answers}
    for count, case in enumerate(cases):
        strips = [case.driving]
        for place, (name, answer) in enumerate(answers.items()):
            made = answer(case)
            if made is None:
                continue
            check_size(name, case, made)
            rows[name][case.name] = add_case(metrics[name], measures, views, case, made)
            if chosen.has_truth(case):
                add_curves(curves, name, made, case.driving)
            if not name.startswith("baseline"):
                strips.append(made)
            if progress:
                progress(count * len(answers) + place + 1, len(cases) * len(answers))
        media.write_picture(out / f"{case.name}.png", strip(strips), overwrite=True)
    report = {
        **summarise(chosen, cases, metrics, split),
        "clips": len(clips),
        "data": describe_data(clips.info),
        "input": INPUT,
        "networks": {name: source.description for name, source in (networks or {}).items()},
        "not_measured": not_measured(chosen, views),
        "versions": {"stillmotion": __version__, "torch": torch.__version__},
        "per_clip": rows,
    }
    if curves:
        report["curves"] = told_curves(curves)
        write_curves(out, report["curves"]["values"])
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


def build_metrics(measures: Sequence[Measure], views: Views) -> dict[str, Metric]:
    """A fresh metric per column."""
    return {measure.name: measure.build(views.networks.get(measure.view)) for measure in measures}


def add_curves(curves: Mapping[str, Mapping[str, Curve]], name: str, made: np.ndarray, real: np.ndarray) -> None:
    """Add one answer to the curves of its row."""
    if curves:
        pair = tuple(torch.from_numpy(media.to_float(frames)) for frames in (made, real))
        for by_name in curves.values():
            by_name[name].update(*pair)


def told_curves(curves: Mapping[str, Mapping[str, Curve]]) -> dict[str, Any]:
    """The curves for report.json: what each means, and its numbers per row and step."""
    return {
        "definitions": {key: next(iter(row.values())).definition for key, row in curves.items()},
        "values": {
            key: {name: curve.compute().tolist() for name, curve in row.items()} for key, row in curves.items()
        },
    }


def check_size(name: str, case: Case, made: np.ndarray) -> None:
    """Raise `StillmotionError` unless an answer has the shape of the case's driving video."""
    if made.shape != case.driving.shape:
        raise StillmotionError(
            f"{name} makes frames of {made.shape[1]} x {made.shape[2]} pixels where clip {case.name!r} has "
            f"{case.driving.shape[1]} x {case.driving.shape[2]}; prepare the data with --size {made.shape[1]}."
        )


def summarise(
    protocol: Protocol, cases: Sequence[Case], metrics: Mapping[str, Mapping[str, Metric]], split: str
) -> dict[str, Any]:
    """The metrics' values, beside what was done and what each of them means."""
    means = {
        name: {key: number(metric.compute()) if metric.update_called else None for key, metric in row.items()}
        for name, row in metrics.items()
    }
    first = next(iter(means.values())).get("L1")
    for values in means.values():
        if "L1" in values:
            # Where nothing moves the copied still is perfect, and JSON knows no infinity.
            values["L1 / copy the still"] = (values["L1"] or 0.0) / first if first else None
    return {
        "protocol": protocol.name,
        "definition": protocol.definition,
        "split": split,
        "cases": len(cases),
        "frames": sum(len(case.driving) for case in cases),
        "metrics": {key: metric.definition for key, metric in next(iter(metrics.values())).items()},
        "means": means,
    }


def describe_data(info: DatasetInfo) -> dict[str, Any]:
    """What a reader needs to know of the data to compare numbers."""
    return {
        "title": info.title,
        "size": list(info.size) if info.size else None,
        "fps": info.fps,
        "decoder": info.decoder,
        "licence": info.licence,
        "settings": dict(info.settings),
        "shards": [shard.sha256 for shard in info.shards],
    }


def not_measured(protocol: Protocol, views: Views) -> dict[str, str]:
    """The columns that lack their network, and what each needs."""
    return {measure.name: NEEDS[measure.view] for measure in protocol.measures if not views.has(measure.view)}


def as_text(report: Mapping[str, Any]) -> str:
    """The report as a Markdown table with its definitions."""
    columns = list(next(iter(report["means"].values())))
    data = report["data"]
    size = "various sizes" if data["size"] is None else f"{data['size'][0]} x {data['size'][1]}"
    rate = "various rates" if data["fps"] is None else f"{data['fps']:g} frames per second"
    lines = [
        f"Protocol {report['protocol']}: {report['definition']}.",
        f"Data: {data['title'] or 'untitled'}, {report['clips']} clips of split {report['split']}, {size}, {rate}"
        + (f", decoded by {data['decoder']}" if data["decoder"] else "")
        + f"; {report['cases']} cases, {report['frames']} frames.",
        f"Input: {report['input']}.",
        "",
        "| | " + " | ".join(columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for name, values in report["means"].items():
        cells = ("n/a" if values[column] is None else f"{values[column]:.4f}" for column in columns)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", *(f"{name}: {definition}." for name, definition in report["metrics"].items())]
    lines += [f"Network {name}: {description}." for name, description in report["networks"].items()]
    if "curves" in report:
        lines += ["", *curve_table(report["curves"])]
    lacking = report["not_measured"]
    if lacking:
        needs = {need: [name for name in lacking if lacking[name] == need] for need in lacking.values()}
        told = (f"{', '.join(names)} (needs {need})" for need, names in needs.items())
        lines.append(f"Not measured: {'; '.join(told)}.")
    return "\n".join(lines)


def curve_table(curves: Mapping[str, Any], shown: int = 8) -> list[str]:
    """A Markdown table of the curves at some steps; step 0 is the still."""
    longest = max(len(values) for rows in curves["values"].values() for values in rows.values())
    steps = np.unique(np.linspace(1, longest - 1, min(shown, longest - 1)).round().astype(int)).tolist()
    lines = ["| step | | " + " | ".join(map(str, steps)) + " |", "|---|---|" + "---|" * len(steps)]
    for key, rows in curves["values"].items():
        for name, values in rows.items():
            cells = (f"{values[step]:.4g}" if step < len(values) else "n/a" for step in steps)
            lines.append(f"| {key} | {name} | " + " | ".join(cells) + " |")
    return [*lines, "", *(f"{key}: {text}." for key, text in curves["definitions"].items())]


def strip(rows: Sequence[np.ndarray], shown: int = SHOWN) -> np.ndarray:
    """Videos under each other, `shown` evenly spaced frames side by side; H x W x 3 `uint8`."""
    at = np.linspace(0, len(rows[0]) - 1, min(shown, len(rows[0]))).round().astype(int)
    return np.concatenate([np.concatenate(list(row[at]), axis=1) for row in rows], axis=0)
