"""Train the six variants of Monkey-Net's Table 2 small, and print our row under the paper's.

    python benchmarks/driving_table2.py data/weizmann@80 data/puppets --from driving-weizmann -o runs/table2 \
        --minutes 10 --threads 2

It is a benchmark and no recipe: a recipe says how a shipped model was made, and nothing made here is shipped. What
comes out is a measurement: RUNS/table2.md, RUNS/table2.json and the report it was taken from.

Every variant is trained in the preset's first motion stage: `frozen_detector` of preset `small`. All get the same
start, the same pairs of frames in the same order, the same number of steps and the same losses, as far as they have
them: the mask-mixture loss of preset `small` needs masks and shifted stills, which three variants lack. The table
says so; `--set motion_stages.frozen_detector.losses.mask_mixture=0` takes it from all. A few minutes on a laptop
train no detector from scratch, so `--from MODEL` gives all variants that model's detector (`--parts` says what else).
The stage leaves it as it is, so every variant has the same keypoints. Without `--from`, keypoint supervision comes
first.
`--minutes` is turned into steps once, by timing the full variant, and kept in RUNS/plan.json.

Run it again after Ctrl-C or a crash: a finished variant is not trained again, a begun one goes on. One process trains
one variant after the other: data are memory-mapped and the networks are freed, so separate processes would save
nothing.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from variants import (
    TRIAL_STEPS,
    agreed,
    answer,
    baselines,
    common_parser,
    described,
    finished,
    log_lines,
    loop_of,
    measured,
    setting,
    steps_in,
    tested_on,
    train_and_measure,
    write_found,
)

from stillmotion.animate import load
from stillmotion.errors import StillmotionError
from stillmotion.evaluation.extractors import open_extractors
from stillmotion.evaluation.extractors.base import FeatureExtractor
from stillmotion.systems.driving.config import PRESETS
from stillmotion.train import TrainRequest, train
from stillmotion.training import LoopSettings

COLUMNS = {
    "L1": ".4f",
    "L1 / copy the still": ".3f",
    "PSNR": ".2f",
    "SSIM": ".3f",
    "AKD": ".2f",
    "MKR": ".1%",
    "AED": ".2f",
}
"""What the table shows of a report, where the report has it, and how."""

NAME = "driving_table2"


@dataclass(frozen=True)
class Variant:
    """A row of Table 2.

    Attributes:
        title: as in the paper.
        changes: what it switches in the configuration.
        paper: its numbers on Tai-Chi; MKR as a share.
    """

    title: str
    changes: Mapping[str, Any]
    paper: Mapping[str, float]


def _paper(l1: float, akd: float, mkr: float, aed: float) -> dict[str, float]:
    return {"L1": l1, "AKD": akd, "MKR": mkr, "AED": aed}


VARIANTS: Mapping[str, Variant] = {
    "no-flow": Variant("No F", {"motion.flow": "none"}, _paper(0.057, 3.11, 0.238, 0.24)),
    "no-residual": Variant("No F_residual", {"motion.flow": "coarse"}, _paper(0.051, 2.81, 0.180, 0.22)),
    "no-coarse": Variant("No F_coarse", {"motion.flow": "residual"}, _paper(0.052, 2.75, 0.197, 0.22)),
    "no-covariance": Variant("No Sigma_k", {"keypoints.covariance": "fixed"}, _paper(0.054, 2.86, 0.206, 0.23)),
    "no-image": Variant("No x", {"motion.image": False}, _paper(0.051, 2.71, 0.193, 0.21)),
    "full": Variant("Full", {}, _paper(0.050, 2.53, 0.174, 0.21)),
}


@dataclass(frozen=True)
class Plan:
    """What all variants have in common; RUNS/plan.json holds it, and a later call must agree with it."""

    data: tuple[str, ...]
    test: str
    preset: str
    settings: Mapping[str, str]
    start_from: str | None
    parts: tuple[str, ...]
    stages: tuple[str, ...]  # the last one is that of the variants
    minutes: float | None
    steps: int = 0  # 0: not yet known, to be found from `minutes`

    def request(self, variant: Variant, run: Path) -> TrainRequest:
        """The training of one variant."""
        return TrainRequest(
            "driving",
            self.data,
            run,
            self.preset,
            {**self.settings, **variant.changes, steps_of(self.stages[-1]): self.steps},
            start_from=self.start_from,
            parts=self.parts,
            stages=self.stages,
            resume=run.is_dir(),
        )


def steps_of(stage: str) -> str:
    """The setting that holds the steps of a motion stage."""
    return f"motion_stages.{stage}.steps"


def stages_of(preset: str, from_scratch: bool) -> tuple[str, ...]:
    """The preset's first motion stage; from scratch, keypoint supervision before it.

    Raises:
        StillmotionError: there is no such preset.
    """
    if preset not in PRESETS:
        raise StillmotionError(f"There is no preset {preset!r}; known are {', '.join(PRESETS)}.")
    config = PRESETS[preset]
    first = ("keypoint_supervision",) if from_scratch and config.keypoint_supervision.steps else ()
    return (*first, config.motion_stages[0].name)


def main(arguments: Sequence[str] | None = None) -> int:
    """0; 1 if a variant failed, 2 for what the user can mend, 130 after Ctrl-C."""
    return answer(NAME, run, _parser().parse_args(arguments))


def run(options: argparse.Namespace) -> int:
    """Train what is not trained yet, measure what is; 0 if every variant asked for is in the table."""
    loop = loop_of(options)
    extractors = open_extractors(options.network)  # before the trainings: one that is missing is told now
    plan = agreed_plan(options, loop)
    return train_and_measure(
        NAME,
        plan,
        VARIANTS,
        options,
        loop,
        train,
        finished,
        lambda done: write_table(plan, options.out, done, extractors),
    )


def agreed_plan(options: argparse.Namespace, loop: LoopSettings) -> Plan:
    """The plan of this call, with its steps; the one in RUNS where there is one.

    Raises:
        StillmotionError: RUNS holds another plan, the test set has no test clips, or a setting is a variant's own.
    """
    settings = dict(options.set)
    stages = stages_of(options.preset, from_scratch=options.start_from is None)
    own = {name for variant in VARIANTS.values() for name in variant.changes}
    test = tested_on(options, [*own, steps_of(stages[-1])])
    parts = tuple(options.parts.split(",")) if options.start_from else ()
    minutes = None if options.steps else options.minutes
    plan = Plan(
        tuple(options.data),
        test,
        options.preset,
        settings,
        options.start_from,
        parts,
        stages,
        minutes,
        options.steps or 0,
    )  # fmt: skip
    return agreed(options.out / "plan.json", plan, lambda plan: _steps(plan, loop))


def _steps(plan: Plan, loop: LoopSettings) -> int:
    """How many steps of the full variant fit into the plan's minutes."""
    with tempfile.TemporaryDirectory() as folder:
        trial = replace(plan, steps=TRIAL_STEPS, stages=plan.stages[-1:])
        request = trial.request(VARIANTS["full"], Path(folder) / "trial")
        return steps_in(plan.minutes or 0.0, request, loop, train, log_lines)


def write_table(plan: Plan, out: Path, done: Sequence[str], extractors: Mapping[str, FeatureExtractor]) -> str:
    """Measure the trained variants; write RUNS/report, table2.json and table2.md. Returns the Markdown."""
    report = measured("reconstruction", plan, out, done, extractors)
    found = {
        **described(plan, report, ("protocol", "definition", "split", "clips", "frames", "metrics")),
        "batch": batch_of(out / done[0], plan.stages[-1]),
        "baselines": baselines(report),
        "variants": {
            key: {
                "title": VARIANTS[key].title,
                "changes": dict(VARIANTS[key].changes),
                "paper": dict(VARIANTS[key].paper),
                "ours": report["means"][str(out / key)],
                **facts_of(out / key, plan.stages[-1]),
            }
            for key in done
        },
    }
    return write_found(out / "table2", found, as_markdown(found))


def batch_of(folder: Path, stage: str) -> int:
    """Pairs per step of a trained variant."""
    config = load(folder).system.config
    return next(each.batch for each in config.motion_stages if each.name == stage)


def facts_of(folder: Path, stage: str) -> dict[str, Any]:
    """What a training cost and which losses it had: from its log, not from what was meant."""
    lines = [line for line in log_lines(folder, "losses") if line["stage"] == stage]
    model = load(folder).system.shipped()
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seconds": lines[-1]["seconds"],
        "threads": log_lines(folder, "threads")[-1]["threads"],
        "losses": sorted({name for line in lines for name in line["losses"]} - {"keypoint_spread"}),
    }


def as_markdown(found: Mapping[str, Any]) -> str:
    """The table: per variant the paper's row and under it ours, the baselines last; then what was done."""
    lines = ["| variant | | " + " | ".join(COLUMNS) + " |", "|---|---|" + "---|" * len(COLUMNS)]
    for row in found["variants"].values():
        lines.append(f"| {row['title']} | paper | {_cells(row['paper'], {'L1': '.3f'})} |")
        lines.append(f"| | ours | {_cells(row['ours'])} |")
    for name, values in found["baselines"].items():
        lines.append(f"| {name.removeprefix('baseline: ')} | ours | {_cells(values)} |")
    plan, report, rows = found["plan"], found["report"], found["variants"]
    seconds = [row["seconds"] for row in rows.values()]
    threads = " or ".join(map(str, sorted({row["threads"] for row in rows.values()})))
    start = f"{', '.join(plan['parts'])} of {plan['start_from']}" if plan["start_from"] else "nothing"
    every = set().union(*(row["losses"] for row in rows.values()))
    lacking = [
        f"{row['title']} has no loss `{'`, `'.join(sorted(every - set(row['losses'])))}`"
        for row in rows.values()
        if every - set(row["losses"])
    ]
    lines += [
        "",
        "paper: Tai-Chi at 64 x 64, trained for about 76,000 steps of 32 pairs. AKD in pixels, MKR in percent.",
        f"ours: trained on {found['trained_on']}, {plan['steps']} steps of {found['batch']} pairs, starting from "
        f"{start}; {min(seconds) / 60:.1f} to {max(seconds) / 60:.1f} minutes per variant, threads: {threads}, "
        f"{found['machine']['cpu']}. One seed each.",
        f"Measured on {found['measured_on']}: {report['clips']} clips of split {report['split']}, {report['frames']} "
        f"frames; {report['definition']}.",
        "The paper's data are other data: compare the order of the variants, not the numbers.",
        *(f"{text}: it needs what the variant leaves out." for text in lacking),
    ]
    return "\n".join(lines)


def _cells(values: Mapping[str, float | None], formats: Mapping[str, str] | None = None) -> str:
    shown = {**COLUMNS, **(formats or {})}
    cells = {name: values.get(name) for name in shown}
    return " | ".join("-" if value is None else format(value, shown[name]) for name, value in cells.items())


def _parser() -> argparse.ArgumentParser:
    parser = common_parser(NAME, __doc__, list(VARIANTS))
    parser.add_argument(
        "--network", action="append", type=setting, default=[], help="keypoints=blazepose, for AKD and MKR"
    )
    parser.add_argument("--from", dest="start_from", metavar="MODEL", help="the model whose parts all start from")
    parser.add_argument("--parts", default="detector", help="which parts of it (default: detector)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
