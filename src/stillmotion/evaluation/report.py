"""Evaluate models on prepared data and write the report: report.json, report.md, one strip of frames per case."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchmetrics import Metric

from stillmotion import media
from stillmotion.animate import load
from stillmotion.data.clip import Clip, evenly
from stillmotion.data.clipset import ClipSet, open_dataset
from stillmotion.data.info import DatasetInfo
from stillmotion.errors import StillmotionError
from stillmotion.evaluation.extractors import needs
from stillmotion.evaluation.extractors.base import FeatureExtractor
from stillmotion.evaluation.metrics.actions import RecognitionAccuracy
from stillmotion.evaluation.metrics.curves import Curve, write_curves
from stillmotion.evaluation.protocols import choose_protocol, find_protocol
from stillmotion.evaluation.protocols.base import Predictor, Protocol
from stillmotion.evaluation.protocols.columns import Case, Column, FeatureCache, add_case, finite, frames_of
from stillmotion.files import write_json
from stillmotion.outputs import check_file, check_name, write_bytes, writing
from stillmotion.version import __version__

SHOWN = 10  # frames of each case in its strip

INPUT = "predicted and target frames are compared as 8-bit RGB arrays; predictions never pass through a video file"
"""Comparing mp4 with png changes the values, so every report names the format."""


@dataclass(frozen=True)
class Row:
    """A model or baseline with its metrics so far."""

    predictor: Predictor  # makes its predictions
    metrics: Mapping[str, Metric]  # by column
    curves: Mapping[str, Curve]  # by metric
    cases: dict[str, dict[str, float | None]] = field(default_factory=dict)  # the values of each case by column


def evaluate_models(
    models: Sequence[str],
    data: str | Path,
    protocol: str | None,
    out: Path,
    *,
    split: str = "test",
    extractors: Mapping[str, FeatureExtractor] | None = None,
    device: str = "cpu",
    pairs: Path | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """Evaluate every model and every baseline on every case of a protocol, and write the report.

    Args:
        models: zoo names or folders.
        data: a prepared data set.
        protocol: a key of `PROTOCOLS`; None for the one that the models declare.
        out: folder for report.json, report.md and CASE.png (rows: the target, then each model's samples); where the
            protocol has curves, curves.csv and curve-METRIC.png.
        split: `train`, `test` or `all`.
        extractors: what `open_extractors` gave; columns whose extractor is missing are left out and named.
        device: where the models run: `cpu`, `cuda` or `auto`.
        pairs: a csv file of the cases, for protocols that have pairs of clips.
        overwrite: replace files of an older report.
        progress: called with (predictions done, predictions in all).

    Returns:
        The table as text.

    Raises:
        StillmotionError: an unknown model or protocol, a protocol that does not fit a model, or no clip in the split.
    """
    if protocol is not None:
        find_protocol(protocol)  # before anything is loaded
    animators = {str(model): load(model, device=device) for model in models}
    chosen = choose_protocol(protocol, {name: animator.system for name, animator in animators.items()})
    clips = choose_split(open_dataset(data), split)
    cases = chosen_cases(chosen, clips, pairs)
    if pairs is not None:
        chosen = replace(
            chosen, definition=f"the pairs of {pairs.name} in place of the cases of: {chosen.definition}"
        )
    cache = FeatureCache(extractors or {})
    columns = measured_columns(chosen, cache)
    predictors = {f"baseline: {name}": predictor for name, predictor in chosen.baselines.items()}
    predictors |= {name: chosen.predictor(animator) for name, animator in animators.items()}
    files = ["report.json", "report.md", *(f"{case.name}.png" for case in cases)]
    files += [*(f"curve-{name.lower()}.png" for name in chosen.curves), *(["curves.csv"] if chosen.curves else [])]
    check_name(out)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    for name in files:
        check_file(out / name, overwrite)
    rows = {name: new_row(chosen, predictor, columns, cache) for name, predictor in predictors.items()}
    for count, case in enumerate(cases):
        shown = [case.target]
        for place, (name, row) in enumerate(rows.items()):
            samples = evaluate_case(chosen, name, row, columns, cache, case)
            if not name.startswith("baseline"):
                shown += samples
            if progress:
                progress(count * len(rows) + place + 1, len(cases) * len(rows))
        media.write_picture(out / f"{case.name}.png", strip(shown), overwrite=True)
    report = {**summarise(chosen, cases, rows, columns, split), **describe(clips, chosen, cache)}
    report["per_clip"] = {name: row.cases for name, row in rows.items()}
    if chosen.curves:
        report["curves"] = curves_of(rows)
        write_curves(out, report["curves"]["values"])
    write_json(out / "report.json", report)
    text = as_text(report)
    write_bytes(out / "report.md", f"{text}\n".encode())
    return text


def chosen_cases(protocol: Protocol, clips: Sequence[Clip], pairs: Path | None) -> Sequence[Case]:
    """The protocol's own cases, or those that a file lists.

    Raises:
        StillmotionError: a file is given, and the protocol has no pairs.
    """
    if pairs is None:
        return protocol.cases(clips)
    if protocol.listed is None:
        raise StillmotionError(f"The protocol {protocol.name} has no pairs of clips: leave --pairs out.")
    return protocol.listed(clips, pairs)


def choose_split(clips: ClipSet, split: str) -> ClipSet:
    """The clips of one split (`all` for every clip).

    Raises:
        StillmotionError: there are none.
    """
    found = clips if split == "all" else clips.select(lambda clip: clip.meta.get("split") == split)
    if len(found) == 0:
        raise StillmotionError(f"The data set has no clips of split {split!r}; try --split all.")
    return found


def measured_columns(protocol: Protocol, cache: FeatureCache) -> list[Column]:
    """The columns whose extractor is available.

    Raises:
        StillmotionError: there are none.
    """
    columns = [column for column in protocol.columns if cache.has(column.extractor)]
    if not columns:
        needed = sorted({needs(column.extractor) for column in protocol.columns})
        raise StillmotionError(
            f"Protocol {protocol.name!r} measures nothing without a network; give {' or '.join(needed)}."
        )
    return columns


def new_row(protocol: Protocol, predictor: Predictor, columns: Sequence[Column], cache: FeatureCache) -> Row:
    """A row without cases."""
    metrics = {column.name: column.build(cache.extractors.get(column.extractor)) for column in columns}
    curves = {name: build() for name, build in protocol.curves.items()}
    return Row(predictor, metrics, {name: curve for name, curve in curves.items() if cache.has(curve.extractor)})


def evaluate_case(
    protocol: Protocol, name: str, row: Row, columns: Sequence[Column], cache: FeatureCache, case: Case
) -> list[np.ndarray]:
    """Predict a case, add it to the row and return the samples' frames; none where the predictor has no prediction.

    Raises:
        StillmotionError: a prediction has another shape than the target.
    """
    predictions = [row.predictor(case, sample) for sample in range(protocol.samples)]
    samples = [prediction for prediction in predictions if prediction is not None]
    videos = [frames_of(sample) for sample in samples]
    for frames in videos:
        if frames.shape != case.target.shape:
            raise StillmotionError(
                f"{name} predicts {len(frames)} frames of {frames.shape[1]} x {frames.shape[2]} pixels where clip "
                f"{case.name!r} has {len(case.target)} of {case.target.shape[1]} x {case.target.shape[2]}; prepare "
                f"the data with --size {frames.shape[1]}."
            )
    if samples:
        curves = row.curves.values() if protocol.has_truth(case) else ()
        row.cases[case.name] = add_case(row.metrics, columns, cache, case, samples, curves)
    return videos


def summarise(
    protocol: Protocol, cases: Sequence[Case], rows: Mapping[str, Row], columns: Sequence[Column], split: str
) -> dict[str, Any]:
    """The metrics' values, beside what was done and the definition of each."""
    means = {
        name: {key: finite(metric.compute()) if metric.update_called else None for key, metric in row.metrics.items()}
        for name, row in rows.items()
    }
    first = next(iter(means.values())).get("L1")
    for values in means.values():
        if "L1" in values:
            # Where nothing moves the copied still has no error, and JSON has no infinity.
            values["L1 / copy the still"] = (values["L1"] or 0.0) / first if first else None
    tables = {
        name: {
            key: metric.table()
            for key, metric in row.metrics.items()
            if isinstance(metric, RecognitionAccuracy) and metric.tabulated
        }
        for name, row in rows.items()
    }
    return {
        "protocol": protocol.name,
        "definition": protocol.definition,
        "split": split,
        "cases": len(cases),
        "samples": protocol.samples,
        "frames": sum(len(case.target) for case in cases),
        "metrics": {key: metric.definition for key, metric in next(iter(rows.values())).metrics.items()},
        "means": means,
        "tables": {name: found for name, found in tables.items() if found},
        "groups": group_means(protocol, cases, rows),
        "blocks": list(protocol.blocks),
    }


def group_means(
    protocol: Protocol, cases: Sequence[Case], rows: Mapping[str, Row]
) -> dict[str, dict[str, dict[str, float]]]:
    """By column and row, the mean of the cases of each group, for the columns that the protocol wants grouped."""
    groups = {case.name: group for case in cases if (group := protocol.group(case)) is not None}
    found: dict[str, dict[str, dict[str, float]]] = {}
    for column in protocol.grouped:
        for name, row in rows.items():
            values: dict[str, list[float]] = {}
            for case, group in sorted(groups.items(), key=lambda item: item[1]):
                if (value := row.cases.get(case, {}).get(column)) is not None:
                    values.setdefault(group, []).append(value)
            if values:
                means = {group: sum(each) / len(each) for group, each in values.items()}
                found.setdefault(column, {})[name] = means
    return found


def describe(clips: ClipSet, protocol: Protocol, cache: FeatureCache) -> dict[str, Any]:
    """What else is needed to compare values: data, input, networks, versions, and the columns left out."""
    return {
        "clips": len(clips),
        "data": describe_data(clips.info),
        "input": INPUT,
        "networks": {name: extractor.description for name, extractor in cache.extractors.items()},
        "not_measured": {
            column.name: needs(column.extractor) for column in protocol.columns if not cache.has(column.extractor)
        },
        "versions": {"stillmotion": __version__, "torch": torch.__version__},
    }


def describe_data(info: DatasetInfo) -> dict[str, Any]:
    """The data set's facts."""
    facts = {name: getattr(info, name) for name in ("title", "size", "fps", "decoder", "licence", "settings")}
    return {**facts, "shards": [shard.sha256 for shard in info.shards]}


def curves_of(rows: Mapping[str, Row]) -> dict[str, Any]:
    """The curves for report.json: definitions, and values per row and step."""
    definitions = {key: curve.definition for key, curve in next(iter(rows.values())).curves.items()}
    values = {key: {name: row.curves[key].compute().tolist() for name, row in rows.items()} for key in definitions}
    return {"definitions": definitions, "values": values}


def as_text(report: Mapping[str, Any]) -> str:
    """The report as a Markdown table with its definitions."""
    data = report["data"]
    size = "various sizes" if data["size"] is None else f"{data['size'][0]} x {data['size'][1]}"
    rate = "various rates" if data["fps"] is None else f"{data['fps']:g} frames per second"
    decoder = f", decoded by {data['decoder']}" if data["decoder"] else ""
    samples = f", {report['samples']} samples of each" if report["samples"] > 1 else ""
    lines = [
        f"Protocol {report['protocol']}: {report['definition']}.",
        f"Data: {data['title'] or 'untitled'}, {report['clips']} clips of split {report['split']}, {size}, {rate}"
        f"{decoder}; {report['cases']} cases{samples}, {report['frames']} frames.",
        f"Input: {report['input']}.",
        "",
        *means_tables(report["means"], report["blocks"]),
    ]
    lines += ["", *(f"{name}: {definition}." for name, definition in report["metrics"].items())]
    lines += [f"Network {name}: {description}." for name, description in report["networks"].items()]
    if "curves" in report:
        lines += ["", *curve_table(report["curves"])]
    for name, tables in report["tables"].items():
        for key, table in tables.items():
            lines += ["", *count_table(f"{key}, {name}", table), ""]
    for key, means in report["groups"].items():
        lines += ["", *group_table(key, means), ""]
    missing = report["not_measured"]
    if missing:
        by_need = {need: [name for name in missing if missing[name] == need] for need in missing.values()}
        entries = (f"{', '.join(names)} (needs {need})" for need, names in by_need.items())
        lines.append(f"Not measured: {'; '.join(entries)}.")
    return "\n".join(lines)


def means_tables(means: Mapping[str, Mapping[str, float | None]], blocks: Sequence[str] = ()) -> list[str]:
    """A Markdown table of the columns, and one more for each block with a value: those whose names end in it."""
    left, lines = list(next(iter(means.values()))), list[str]()
    tables = {}
    for block in blocks:
        tables[block] = [column for column in left if column.endswith(f" ({block})")]
        left = [column for column in left if column not in tables[block]]
    for block, columns in {"": left, **tables}.items():
        if block and all(values[column] is None for values in means.values() for column in columns):
            continue
        heads = [column.removesuffix(f" ({block})") for column in columns]
        lines += ["", *[f"| {block} | " + " | ".join(heads) + " |", "|---|" + "---|" * len(columns)]]
        for name, values in means.items():
            cells = ("n/a" if values[column] is None else f"{values[column]:.4f}" for column in columns)
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines[1:]


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


def count_table(title: str, table: Mapping[str, Mapping[str, int]]) -> list[str]:
    """A Markdown table of counts, such as of what was recognised (columns) as what (rows); none without a count."""
    if not any(any(row.values()) for row in table.values()):
        return []
    names = list(next(iter(table.values())))
    lines = [f"| {title} | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    return [*lines, *(f"| {name} | " + " | ".join(map(str, row.values())) + " |" for name, row in table.items())]


def group_table(title: str, means: Mapping[str, Mapping[str, float]]) -> list[str]:
    """A Markdown table of a column's means by group."""
    groups = sorted({group for row in means.values() for group in row})
    lines = [f"| {title} | " + " | ".join(groups) + " |", "|---|" + "---|" * len(groups)]
    for name, row in means.items():
        cells = (f"{row[group]:.4f}" if group in row else "n/a" for group in groups)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def strip(videos: Sequence[np.ndarray], shown: int = SHOWN) -> np.ndarray:
    """Videos under each other, `shown` evenly spaced frames side by side; H x W x 3 `uint8`."""
    at = evenly(len(videos[0]), shown)
    return np.concatenate([np.concatenate(list(video[at]), axis=1) for video in videos], axis=0)
