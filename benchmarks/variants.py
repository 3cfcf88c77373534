"""What benchmarks share that train several variants of a system alike: one plan, equal steps or time, resuming."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from stillmotion.animate import RUN_MODEL, load
from stillmotion.data.clipset import open_dataset
from stillmotion.errors import StillmotionError
from stillmotion.evaluation.extractors.base import FeatureExtractor
from stillmotion.evaluation.report import choose_split, evaluate_models
from stillmotion.evaluation.speed import machine
from stillmotion.files import read_json, write_json
from stillmotion.train import TrainRequest
from stillmotion.training import LoopSettings

TRIAL_STEPS = 12
"""Steps that are timed to turn minutes into steps; the first third warms up."""

Plan = TypeVar("Plan", bound=Any)
Train = Callable[[TrainRequest, LoopSettings], str]


def agreed(stored: Path, plan: Plan, find_steps: Callable[[Plan], int | dict[str, int]]) -> Plan:
    """The plan with its steps: the stored one's where there is one, else found now and stored.

    Args:
        stored: RUNS/plan.json.
        plan: a frozen dataclass with `minutes` and `steps`, 0 or empty for not yet known.
        find_steps: how many fit into the plan's minutes; of each variant, where they differ.

    Raises:
        StillmotionError: the stored plan is another one.
    """
    if stored.is_file():
        before = read_json(stored)
        if plan.minutes is not None and before.get("minutes") == plan.minutes:
            plan = replace(plan, steps=before.get("steps"))
        now = json.loads(json.dumps(asdict(plan)))
        if other := [name for name in now if before.get(name) != now[name]]:
            raise StillmotionError(
                f"{stored} was made with another {other[0]} ({before.get(other[0])}, now {now[other[0]]}): "
                "give the same options or another folder with -o."
            )
        return plan
    if not plan.steps:
        plan = replace(plan, steps=find_steps(plan))
    stored.parent.mkdir(parents=True, exist_ok=True)
    write_json(stored, asdict(plan))
    return plan


def tested_on(options: argparse.Namespace, not_settable: Sequence[str]) -> str:
    """The folder of the data that are measured, once it and `--set` are known to fit.

    Raises:
        StillmotionError: the set has no test clips, or a setting is a variant's own.
    """
    if own := [name for name in dict(options.set) if name in not_settable]:
        raise StillmotionError(f"{own[0]} is not for --set here: the variants differ in it, or --steps says it.")
    test: str = options.test or folder_of(options.data[0])
    choose_split(open_dataset(test), "test")  # told now, not after hours of training
    return test


def steps_in(
    minutes: float,
    trial: TrainRequest,
    loop: LoopSettings,
    train: Train,
    log_lines: Callable[[Path, str], list[dict[str, Any]]],
) -> int:
    """How many steps of a trial of `TRIAL_STEPS` fit into so many minutes on this machine, now; at least one."""
    train(trial, replace(loop, log_every=TRIAL_STEPS // 3))
    lines = log_lines(trial.run, "losses")
    each = (lines[-1]["seconds"] - lines[0]["seconds"]) / (lines[-1]["step"] - lines[0]["step"])
    return max(1, int(60 * minutes / each))


def train_each(
    name: str,
    wanted: Sequence[str],
    request: Callable[[str], TrainRequest],
    steps: Mapping[str, int],
    loop: LoopSettings,
    train: Train,
    finished: Callable[[Path, int], bool],
) -> tuple[list[str], bool]:
    """Train what is not trained yet, one after the other.

    Args:
        name: of the benchmark, for messages.
        wanted: the variants.
        request: makes a variant's training.
        steps: of each variant.
        loop: how to train.
        train: trains.
        finished: tells whether a folder holds a variant with so many steps.

    Returns:
        Which failed, and whether the person stopped.
    """
    failed = []
    for key in wanted:
        asked = request(key)
        if finished(asked.run, steps[key]):
            continue
        print(f"{key}: {steps[key]} steps", flush=True)
        try:
            print(train(asked, loop), flush=True)
        except StillmotionError as error:  # say it and go on: a loss that became NaN is a result too
            print(f"{key}: {error}", file=sys.stderr, flush=True)
            failed.append(key)
            continue
        if not finished(asked.run, steps[key]):  # Ctrl-C: the person wants the rest no more than this one
            print(f"{name}: stopped; the same command goes on from there.", file=sys.stderr)
            return failed, True
    return failed, False


def train_and_measure(
    name: str,
    plan: Any,
    variants: Mapping[str, Any],
    options: argparse.Namespace,
    loop: LoopSettings,
    train: Train,
    finished: Callable[[Path, int], bool],
    table: Callable[[Sequence[str]], str],
) -> int:
    """Train what is not trained yet, measure what is; 0 if every variant asked for is in the table, see `main`s.

    Args:
        name: of the benchmark, for messages.
        plan: agreed, with `request(variant, run)` and `steps`: of all, or of each.
        variants: by their keys, in the order of the table.
        options: `only`, what is asked for, and `out`, the folder of the runs.
        loop: how to train.
        train: trains.
        finished: tells whether a folder holds a variant with so many steps.
        table: measures the variants of these keys, and returns the Markdown.
    """
    wanted = options.only or list(variants)
    steps = dict.fromkeys(variants, plan.steps) if isinstance(plan.steps, int) else plan.steps
    failed, stopped = train_each(
        name, wanted, lambda key: plan.request(variants[key], options.out / key), steps, loop, train, finished
    )
    if stopped:
        return 130
    done = [key for key in variants if finished(options.out / key, steps[key])]
    if done:
        print(table(done))
    return 1 if failed else 0


def answer(name: str, run: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    """What a benchmark's `main` returns: that of `run`, or 2 and a sentence for what the user can mend."""
    try:
        return run(options)
    except StillmotionError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2


def loop_of(options: argparse.Namespace) -> LoopSettings:
    """How all variants are trained; sets the threads of this process too."""
    if options.threads:
        torch.set_num_threads(options.threads)
    return LoopSettings(preview_every=0, precision=options.precision, threads=options.threads)


def measured(
    protocol: str, plan: Any, out: Path, done: Sequence[str], extractors: Mapping[str, FeatureExtractor] | None = None
) -> dict[str, Any]:
    """Measure the trained variants on the plan's test data; the report of `out/report`."""
    models = [str(out / key) for key in done]
    evaluate_models(models, plan.test, protocol, out / "report", extractors=extractors, overwrite=True)
    report: dict[str, Any] = read_json(out / "report" / "report.json")
    return report


def described(plan: Any, report: Mapping[str, Any], facts: Sequence[str]) -> dict[str, Any]:
    """What every table tells of how it was made: the plan, the machine, the data, and these facts of the report."""
    return {
        "plan": asdict(plan),
        "machine": machine(),
        "trained_on": " + ".join(open_dataset(folder_of(item)).info.title for item in plan.data),
        "measured_on": open_dataset(plan.test).info.title,
        "report": {key: report[key] for key in facts},
    }


def baselines(report: Mapping[str, Any]) -> dict[str, Any]:
    """The rows of a report that no model made."""
    return {name: row for name, row in report["means"].items() if name.startswith("baseline")}


def cells(columns: Mapping[str, tuple[str, str]], values: Mapping[str, float | None]) -> str:
    """The columns of a row, each in its format; `-` where there is no value."""
    shown = {name: values.get(name) for name in columns}
    return " | ".join("-" if value is None else format(value, columns[name][1]) for name, value in shown.items())


def write_found(path: Path, found: Mapping[str, Any], text: str) -> str:
    """Write what was found as `path`.json and its table as `path`.md; the table."""
    write_json(path.with_suffix(".json"), found)
    path.with_suffix(".md").write_text(text + "\n", encoding="utf-8")
    return text


def finished(folder: Path, steps: int) -> bool:
    """Whether a variant has been trained to its end."""
    if not (folder / RUN_MODEL).is_dir():
        return False
    return bool(load(folder).system.card.get("steps") == steps)


def log_lines(folder: Path, telling: str) -> list[dict[str, Any]]:
    """The lines of a run's log that tell `losses`, `threads`, ...."""
    lines = (json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines())
    return [line for line in lines if telling in line]


def folder_of(item: str) -> str:
    """A data set without its `@N`."""
    folder, at, times = item.rpartition("@")
    return folder if at and times.isdigit() and not Path(item).exists() else item


def common_parser(
    name: str, text: str | None, variants: Sequence[str], preset: str | None = "small"
) -> argparse.ArgumentParser:
    """The options that all have; without a preset to start with, the variants have their own."""
    parser = argparse.ArgumentParser(prog=name, description=text, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", nargs="+", help="prepared data to train on; FOLDER@N counts it N times")
    parser.add_argument("-o", dest="out", type=Path, required=True, metavar="RUNS", help="folder for all of it")
    parser.add_argument("--test", help="prepared data whose test split is measured (default: the first DATA)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=above_zero, default=10.0, help="per variant (default: 10)")
    length.add_argument("--steps", type=count, help="per variant, instead of minutes")
    parser.add_argument("--threads", type=count, help="CPU threads")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of the arithmetic (fp32)")
    parser.add_argument("--only", nargs="+", choices=list(variants), help="train only these")
    if preset is not None:
        parser.add_argument("--preset", default=preset)
    parser.add_argument("--set", action="append", type=setting, default=[], help="a setting for all: name=value")
    return parser


def setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} should read name=value")
    return name, value


def count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} should be a whole number above 0")
    return int(text)


def above_zero(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} should be a number above 0")
    return value
