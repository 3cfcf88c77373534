r"""Train the ablations of Table 4 of `structures` small, of poses or faces; print them beside the paper's numbers.

    stillmotion world puppets data/puppets --clips 2000 --frames 44 --test-share 0.02
    stillmotion world faces data/faces --clips 1000 --test-share 0.04
    python recipes/face_networks.py networks
    python benchmarks/structures_ablations.py data/puppets data/faces -o runs/structures-ablations --minutes 30 \
        --network identity=networks/faces_identity.safetensors@SHA256

It is a benchmark and no recipe: nothing made here is shipped. Each DATA is trained on and measured by itself, which
gives RUNS/DATA/ablations.md, RUNS/DATA/ablations.json and the report it was taken from: protocol `structures` for
clips with joints, `retargeting` for faces.

Beside Table 4's three rows stand the network without a residual, which is that of Villegas et al. (Tables 1 and 3),
and the single difference map (Eq. 1), which the paper has no numbers for. All are preset `narrow` with the same clips
in the same order and the same minutes: these are turned into steps once, by timing the stages, and kept in
RUNS/DATA/plan.json. The variant with refinement gives it a quarter of its minutes. Last stands what we ship in their
place: the forecasts of preset `small` (faces: `small-faces`) in the same minutes.

Run it again after Ctrl-C or a crash: a finished variant is not trained again, a begun one goes on.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from variants import (
    TRIAL_STEPS,
    agreed,
    answer,
    baselines,
    cells,
    common_parser,
    described,
    finished,
    folder_of,
    log_lines,
    loop_of,
    measured,
    setting,
    steps_in,
    tested_on,
    train_and_measure,
    write_found,
)

from stillmotion.data.clipset import open_dataset
from stillmotion.errors import StillmotionError
from stillmotion.evaluation.extractors import open_extractors
from stillmotion.evaluation.extractors.base import FeatureExtractor
from stillmotion.train import TrainRequest, train
from stillmotion.training import LoopSettings

NAME = "structures_ablations"

REFINED_SHARE = 0.25
"""Of the minutes of a variant with refinement."""

POSES: Mapping[str, Any] = {}
FACES: Mapping[str, Any] = {"structure.kind": "normals", "structure.face_model": "ict"}
WORLD_FACES: Mapping[str, Any] = {**FACES, "structure.face_model": "faces", "structure.face_crop": 0}
"""What the preset, which is one of poses, is changed to."""

UNREFINED: Mapping[str, Any] = {"refinement.enabled": False}


@dataclass(frozen=True)
class Variant:
    """A row.

    Attributes:
        title: what it is, as in the paper.
        changes: what it switches in the configuration.
        paper: MSE on Penn Action with true joints, ACD-I and ACD-C on MUG (Tables 1, 3 and 4).
    """

    title: str
    changes: Mapping[str, Any]
    paper: tuple[float, float, float] | tuple[()] = ()

    @property
    def refined(self) -> bool:
        """Whether it has the second stage."""
        return "refinement.enabled" not in self.changes

    @property
    def timed(self) -> str:
        """The entry of `TIMED` that counts its forecasts."""
        return "fields" if self.changes.get("forecast.fields") else "forecast"


VARIANTS: Mapping[str, Variant] = {
    "sparse": Variant("No dense links, no refinement", {**UNREFINED, "forecast.dense": False}, (0.027, 0.459, 0.155)),
    "dense": Variant("Dense links, no refinement", UNREFINED, (0.014, 0.252, 0.140)),
    "full": Variant("Dense links and refinement", {}, (0.011, 0.184, 0.107)),
    "no-residual": Variant(
        "No residual (Villegas et al.)", {**UNREFINED, "forecast.residual": "none"}, (0.025, 0.683, 0.130)
    ),
    "difference": Variant("Single difference map (Eq. 1)", {**UNREFINED, "forecast.residual": "difference"}),
    "fields": Variant("Fields (ours)", {**UNREFINED, "forecast.fields": True}),
}

TIMED = {"forecast": "dense", "refinement": "full", "fields": "fields"}
"""By which variant the steps of a stage are found."""

REFINEMENT = "refinement"
"""Of `Plan.steps`, the entry beside the variants."""

NOT_SETTABLE = (
    "forecast_training.steps",
    "refinement_training.steps",
    "pose_prediction.steps",
    *sorted({name for variant in VARIANTS.values() for name in variant.changes}),
)
"""What `--set` must leave alone."""

COLUMNS = {
    "MSE": ("MSE", ".4f"),
    "ACD-I": ("ACD-I", ".3f"),
    "ACD-C": ("ACD-C", ".3f"),
    "PSNR": ("PSNR", ".2f"),
    "L1 / copy the still": ("L1 / copying", ".2f"),
    "LPIPS": ("LPIPS", ".3f"),
    "temporal error": ("temporal error", ".4f"),
    "joint error (% of side)": ("joint error, % of side", ".2f"),
    "expression recognised": ("expression, %", ".0f"),
    "identity right": ("identity, %", ".0f"),
}
"""Columns of the report that the table shows, and how. The paper has the first three."""


@dataclass(frozen=True)
class Plan:
    """What all variants have in common; RUNS/DATA/plan.json holds it, and a later call must agree with it."""

    data: tuple[str, ...]
    test: str
    preset: str
    settings: Mapping[str, str]
    common: Mapping[str, Any]
    minutes: float | None
    steps: Mapping[str, int] = field(default_factory=dict)  # see `steps_of`; empty: to be found from `minutes`

    def stage_steps(self, variant: Variant) -> tuple[int, int]:
        """Of forecasts and of their refinement."""
        forecast = self.steps[TIMED[variant.timed]]
        if not variant.refined:
            return forecast, 0
        return max(1, round((1 - REFINED_SHARE) * forecast)), self.steps[REFINEMENT]

    def request(self, variant: Variant, run: Path) -> TrainRequest:
        """The training of one variant."""
        forecast, refinement = self.stage_steps(variant)
        ours = "small-faces" if self.common else "small"
        preset = ours if variant.timed == "fields" else self.preset
        settings = {
            **self.common,
            **self.settings,
            **variant.changes,
            "forecast_training.steps": forecast,
            "refinement_training.steps": refinement,
            "pose_prediction.steps": 0,
        }
        return TrainRequest("structures", self.data, run, preset, settings, resume=run.is_dir())


def main(arguments: Sequence[str] | None = None) -> int:
    """0; 1 if a variant failed, 2 for what the user can mend, 130 after Ctrl-C."""
    parser = common_parser(NAME, __doc__, list(VARIANTS), preset="narrow")
    parser.add_argument(
        "--network", action="append", type=setting, default=[], help="identity=..., expressions=..., keypoints=..."
    )
    return answer(NAME, run, parser.parse_args(arguments))


def run(options: argparse.Namespace) -> int:
    """Every data set by itself; 0 if every variant asked for is in its table.

    Raises:
        StillmotionError: `--test` is given for several data sets, or as `tested_on`.
    """
    if options.test and len(options.data) > 1:
        raise StillmotionError("Each of several data sets is measured on its own test clips: leave --test out.")
    extractors = open_extractors(options.network)  # before the trainings: one that is missing is told now
    each = [
        argparse.Namespace(**{**vars(options), "data": [item], "out": options.out / Path(folder_of(item)).name})
        for item in options.data
    ]
    for one in each:
        tested_on(one, NOT_SETTABLE)
    code = 0
    for one in each:
        code = max(code, run_one(one, extractors))
        if code == 130:
            break
    return code


def run_one(options: argparse.Namespace, extractors: Mapping[str, FeatureExtractor]) -> int:
    """Train on one data set what is not trained yet, measure what is; as `run`."""
    loop = loop_of(options)
    test, minutes = tested_on(options, NOT_SETTABLE), None if options.steps else options.minutes
    common = settings_for(options.data[0])
    steps = {}
    if options.steps:
        steps = steps_of(dict.fromkeys(TIMED, options.steps), max(1, round(REFINED_SHARE * options.steps)))
    plan = Plan(tuple(options.data), test, options.preset, dict(options.set), common, minutes, steps)
    plan = agreed(options.out / "plan.json", plan, lambda plan: _found_steps(plan, loop))
    last = {key: plan.stage_steps(variant)[variant.refined] for key, variant in VARIANTS.items()}
    return train_and_measure(
        NAME,
        plan,
        VARIANTS,
        options,
        loop,
        train,
        lambda folder, steps: finished(folder, last[folder.name]),
        lambda done: write_table(plan, options.out, done, extractors),
    )


def settings_for(item: str) -> Mapping[str, Any]:
    """What the preset is changed to for a data set: nothing for poses."""
    clip = open_dataset(folder_of(item))[0]
    if "joints" in clip.tracks:
        return POSES
    return WORLD_FACES if clip.meta.get("world") == "faces" else FACES


def steps_of(stages: Mapping[str, int], refinement: int) -> dict[str, int]:
    """The steps of all variants' forecasts, by their keys, and of refinements."""
    return {key: stages[variant.timed] for key, variant in VARIANTS.items()} | {REFINEMENT: refinement}


def _found_steps(plan: Plan, loop: LoopSettings) -> dict[str, int]:
    """The steps that fit into the plan's minutes."""
    found = {stage: _steps(plan, loop, stage) for stage in TIMED}
    return steps_of(found, found[REFINEMENT])


def _steps(plan: Plan, loop: LoopSettings, stage: str) -> int:
    """How many steps of what `TIMED` names fit into its minutes."""
    variant, minutes = VARIANTS[TIMED[stage]], plan.minutes or 0.0
    last = "refinement" if variant.refined else "forecast"
    trial = replace(plan, steps=steps_of({**dict.fromkeys(TIMED, 1), stage: TRIAL_STEPS}, TRIAL_STEPS))
    with tempfile.TemporaryDirectory() as folder:
        return steps_in(
            REFINED_SHARE * minutes if variant.refined else minutes,
            trial.request(variant, Path(folder) / "trial"),
            loop,
            train,
            lambda run, telling: [line for line in log_lines(run, telling) if line["stage"] == last],
        )


def write_table(plan: Plan, out: Path, done: Sequence[str], extractors: Mapping[str, FeatureExtractor]) -> str:
    """Measure the trained variants; write report, ablations.json and ablations.md. Returns the Markdown."""
    protocol = "retargeting" if plan.common else "structures"
    report = measured(protocol, plan, out, done, extractors)
    found = {
        **described(plan, report, ("protocol", "definition", "split", "clips", "networks", "metrics")),
        "baselines": baselines(report),
        "variants": {
            key: {
                "title": VARIANTS[key].title,
                "paper": dict(zip(COLUMNS, VARIANTS[key].paper, strict=False)),
                "ours": report["means"][str(out / key)],
                "steps": plan.stage_steps(VARIANTS[key]),
                "seconds": log_lines(out / key, "losses")[-1]["seconds"],
            }
            for key in done
        },
    }
    return write_found(out / "ablations", found, as_markdown(found))


def as_markdown(found: Mapping[str, Any]) -> str:
    """The table: per variant the paper's row and under it ours, the baselines last; then what was done."""
    lines = ["| variant | | " + " | ".join(head for head, _ in COLUMNS.values()) + " | steps |"]
    lines.append("|---|---|" + "---|" * (len(COLUMNS) + 1))
    for row in found["variants"].values():
        lines.append(f"| {row['title']} | paper | {cells(COLUMNS, row['paper'])} | - |")
        lines.append(f"| | ours | {cells(COLUMNS, row['ours'])} | {' + '.join(str(n) for n in row['steps'] if n)} |")
    for name, values in found["baselines"].items():
        lines.append(f"| {name.removeprefix('baseline: ')} | ours | {cells(COLUMNS, values)} | - |")
    plan, report = found["plan"], found["report"]
    seconds = [row["seconds"] for row in found["variants"].values()]
    settings = ", ".join(f"{name}={value}" for name, value in {**plan["common"], **plan["settings"]}.items())
    lines += [
        "",
        "paper: MSE on Penn Action at 64 x 64 with true joints, its pixel scale not stated; ACD on MUG at 96 x 96, "
        "features of OpenFace.",
        f"ours: trained on {found['trained_on']}, preset {plan['preset']}{' with ' if settings else ''}{settings}; "
        f"{min(seconds) / 60:.1f} to {max(seconds) / 60:.1f} minutes per variant on {found['machine']['cpu']}. One "
        "seed each.",
        f"Measured on {found['measured_on']}: protocol {report['protocol']}, {report['clips']} clips of split "
        f"{report['split']}.",
        *(f"Network {name}: {text}." for name, text in report["networks"].items()),
        "The paper's data are other data: compare the order of the variants, not the numbers.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
