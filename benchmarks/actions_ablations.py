r"""Train the motion of `actions` in each way that paper and README tell of, for equal minutes, and measure who acts.

    stillmotion world puppets data/puppets10 --clips 1500 --size 64 --seed 2 --jobs 2
    stillmotion world puppets data/puppets10-test --clips 120 --size 64 --seed 15 --test-share 0.99
    python recipes/action_network.py data/puppets10
    python benchmarks/actions_ablations.py data/puppets10 --test data/puppets10-test -o runs/actions-ablations \
        --minutes 10 --network actions=FILE@SHA256

It is a benchmark and no recipe: nothing made here is shipped. What comes out is RUNS/ablations.md,
RUNS/ablations.json and the report it was taken from (protocol `actions`).

The flow (preset `small`) and the conditional VAE (Eq. 5; preset `small-vae` with the paper's weight of the sequence
discriminator) learn from the same keypoints: detector and generator are those of `--from`, finished, and only the
stage `motion` runs. The translator's ablations (Fig. 9) have the paper's networks at half the widths, which learn
from the start, at the data's size and with a VGG-16 of fixed random weights, which needs no file (the real one:
`--set losses.perceptual.network=vgg16 --set losses.perceptual.file=FILE@SHA256`): both stages take the minutes, the
second with as many steps as the VAE. `--minutes` is turned into each variant's steps once, by timing it, and kept in
RUNS/plan.json; with `--steps` all have the same number. Keypoints are labelled once, in RUNS/labels.

Run it again after Ctrl-C or a crash: a finished variant is not trained again, a begun one goes on.
"""

from __future__ import annotations

import argparse
import shutil
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
from stillmotion.evaluation.extractors import open_extractors
from stillmotion.evaluation.extractors.base import FeatureExtractor
from stillmotion.systems.actions.data import TRACK
from stillmotion.train import TrainRequest, train
from stillmotion.training import LoopSettings

NAME = "actions_ablations"
PARTS = ("detector", "generator")


@dataclass(frozen=True)
class Variant:
    """A row.

    Attributes:
        key: its folder.
        title: what it is.
        preset: whose motion it has.
        changes: what it switches in the configuration.
        paper: recognised actions of Penn Action in percent (Table 2), or what the paper says of it.
        translator: whether it has the paper's translator, which learns as well.
    """

    key: str
    title: str
    preset: str
    changes: Mapping[str, Any]
    paper: str = ""
    translator: bool = False


_VAE: Mapping[str, Any] = {"motion_losses.gan": 2.0}  # lambda 3
_ALONE: Mapping[str, Any] = {"motion.sequence_discriminator": False, "motion_losses.gan": 0.0}
_TRANSLATOR: Mapping[str, Any] = {
    **_VAE,
    "size": 64,
    "actions": None,
    "keypoints.count": 10,
    "encoder.width": 16,
    "translator.width": 32,
    "discriminator.width": 32,
    "discriminator.layers": 5,
    "keypoints_training.batch": 8,
    "keypoints_training.learning_rate": 4e-4,
    "losses.perceptual.network": "random-vgg16",
    "motion.latent": 16,
    "motion.hidden": 192,
    "motion.input_every_step": True,
    "motion_losses.kl": 0.05,
    "motion_losses.kl_ramp": 0.3,
    "motion_losses.free_bits": 0.05,
    "motion_training.batch": 64,
    "motion_training.learning_rate": 1e-3,
    "sequences.step": 1,
    "sequences.rotation": 0,
    "sequences.balance": True,
}
"""The paper's networks at half its widths, which make a step in a fifth of the time, with the motion generator of
`small-vae`."""

VARIANTS: Mapping[str, Variant] = {
    one.key: one
    for one in (
        Variant("flow", "Rectified flow (ours)", "small", {}),
        Variant("flow-no-action", "Rectified flow, without the action", "small", {"actions": ()}),
        Variant("vae", "Conditional VAE", "small-vae", _VAE, "68.89"),
        Variant("vae-no-action", "VAE, without the action", "small-vae", {**_VAE, "actions": ()}, "63.33"),
        Variant("vae-no-discriminator", "VAE, without sequence discriminator", "small-vae", _ALONE, "text only"),
        Variant("translator", "Translator, full", "paper", _TRANSLATOR, "Fig. 9 (c)", True),
        Variant(
            "no-mask",
            "Translator, without mask",
            "paper",
            {**_TRANSLATOR, "translator.mask": False},
            "Fig. 9 (b)",
            True,
        ),
        Variant(
            "target-only",
            "Translator, target keypoints alone and no mask",
            "paper",
            {**_TRANSLATOR, "translator.mask": False, "translator.reference_maps": False},
            "Fig. 9 (a)",
            True,
        ),
    )
}

NOT_SETTABLE = (
    "keypoints_training.steps",
    "motion_training.steps",
    *("actions", "translator.mask", "translator.reference_maps"),
    *_ALONE,
)
"""What `--set` must leave alone."""

COLUMNS = {
    "recognised": ("recognised, %", ".1f"),
    "recognised, 95 % +-": ("+-", ".1f"),
    "diversity ratio (keypoints)": ("diversity over real, keypoints", ".2f"),
    "multimodality": ("multimodality", ".2f"),
    "keypoint consistency (% of width)": ("keypoints found again, % of width", ".2f"),
    "L1 of changed pixels / copy the still": ("changed pixels / copying", ".2f"),
    "LPIPS": ("LPIPS", ".3f"),
}
"""Columns of the report that the table shows, and how."""


@dataclass(frozen=True)
class Plan:
    """What all variants have in common; RUNS/plan.json holds it, and a later call must agree with it."""

    data: tuple[str, ...]
    test: str
    settings: Mapping[str, str]
    start_from: str
    minutes: float | None
    steps: Mapping[str, int] = field(default_factory=dict)  # of the last stage; empty: to be found from `minutes`
    translator_steps: int = 0  # of the stage `keypoints`; 0 likewise

    def request(self, variant: Variant, run: Path) -> TrainRequest:
        """The training of one variant."""
        settings = {**variant.changes, **self.settings, "motion_training.steps": self.steps[variant.key]}
        if variant.translator:
            settings["keypoints_training.steps"] = self.translator_steps
        return TrainRequest(
            "actions",
            self.data,
            run,
            variant.preset,
            settings,
            start_from=None if variant.translator else self.start_from,
            parts=() if variant.translator else PARTS,
            stages=("keypoints", "motion") if variant.translator else ("motion",),
            resume=run.is_dir(),
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """0; 1 if a variant failed, 2 for what the user can mend, 130 after Ctrl-C."""
    parser = common_parser(NAME, __doc__, list(VARIANTS), preset=None)
    parser.add_argument("--from", dest="start_from", default="actions-puppets", help="has detector and generator")
    parser.add_argument("--network", action="append", type=setting, default=[], help="actions=FILE@SHA256, lpips=...")
    return answer(NAME, run, parser.parse_args(arguments))


def run(options: argparse.Namespace) -> int:
    """Train what is not trained yet, measure what is; 0 if every variant asked for is in the table."""
    loop = loop_of(options)
    test = tested_on(options, NOT_SETTABLE)
    extractors = open_extractors(options.network)  # before the trainings: one that is missing is told now
    steps = dict.fromkeys(VARIANTS, options.steps) if options.steps else {}
    minutes = None if options.steps else options.minutes
    plan = Plan(
        tuple(options.data), test, dict(options.set), options.start_from, minutes, steps, options.steps or 0
    )  # fmt: skip
    labels = options.out / "labels"
    plan = agreed(options.out / "plan.json", plan, lambda plan: _steps(plan, loop, labels))
    if minutes:  # one stage of the translator took the time that is told for it
        plan = replace(plan, translator_steps=plan.steps["keypoints"])
    return train_and_measure(
        NAME,
        plan,
        VARIANTS,
        options,
        loop,
        lambda request, loop: train_with(labels, request, loop),
        finished,
        lambda done: write_table(plan, options.out, done, extractors),
    )


def train_with(labels: Path, request: TrainRequest, loop: LoopSettings) -> str:
    """Train; variants with the same detector read the keypoints that the first of them found.

    Args:
        labels: a folder for them.
        request: of a variant.
        loop: how to train.
    """
    own = request.run / TRACK
    if request.start_from and labels.is_dir() and not own.exists():
        shutil.copytree(labels, own)
    told = train(request, loop)
    if request.start_from and not labels.is_dir():
        shutil.copytree(own, labels)
    return told


def _steps(plan: Plan, loop: LoopSettings, labels: Path) -> dict[str, int]:
    """The steps of each variant that fit into the plan's minutes, and `keypoints`, those of the translator."""
    trial = replace(plan, steps=dict.fromkeys(VARIANTS, TRIAL_STEPS), translator_steps=TRIAL_STEPS)

    def timed(key: str, stages: tuple[str, ...]) -> int:
        with tempfile.TemporaryDirectory() as folder:
            request = replace(trial.request(VARIANTS[key], Path(folder) / "trial"), stages=stages)
            return steps_in(plan.minutes or 0.0, request, loop, lambda *given: train_with(labels, *given), log_lines)

    own = {key: timed(key, ("motion",)) for key, variant in VARIANTS.items() if not variant.translator}
    others = {key: own["vae"] for key, variant in VARIANTS.items() if variant.translator}
    return own | others | {"keypoints": timed("translator", ("keypoints",))}


def write_table(plan: Plan, out: Path, done: Sequence[str], extractors: Mapping[str, FeatureExtractor]) -> str:
    """Measure the trained variants; write RUNS/report, ablations.json and ablations.md. Returns the Markdown."""
    report = measured("actions", plan, out, done, extractors)
    found = {
        **described(plan, report, ("definition", "split", "clips", "networks", "metrics")),
        "baselines": baselines(report),
        "variants": {key: _row(key, out / key, report) for key in done},
    }
    return write_found(out / "ablations", found, as_markdown(found))


def _row(key: str, folder: Path, report: Mapping[str, Any]) -> dict[str, Any]:
    variant, lines = VARIANTS[key], [line for line in log_lines(folder, "losses") if line["stage"] == "motion"]
    return {
        "title": variant.title,
        "changes": dict(variant.changes),
        "paper": variant.paper,
        "means": report["means"][str(folder)],
        "parameters": sum(p.numel() for p in load(folder).system.networks.motion.parameters()),
        "nats": lines[-1]["losses"].get("nats"),
        "steps": lines[-1]["step"],
        "seconds": lines[-1]["seconds"],
    }


def as_markdown(found: Mapping[str, Any]) -> str:
    """The table, and under it what was done."""
    heads = [head for head, _ in COLUMNS.values()] + [
        "divergence, nats",
        "parameters of M, million",
        "steps",
        "paper",
    ]
    lines = ["| variant | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    for row in found["variants"].values():
        nats = "-" if row["nats"] is None else f"{row['nats']:.1f}"
        shown = [
            cells(COLUMNS, row["means"]),
            nats,
            f"{row['parameters'] / 1e6:.2f}",
            str(row["steps"]),
            row["paper"] or "-",
        ]
        lines.append(f"| {row['title']} | " + " | ".join(shown) + " |")
    for name, values in found["baselines"].items():
        lines.append(f"| {name.removeprefix('baseline: ')} | {cells(COLUMNS, values)} | - | - | - | - |")
    plan, report = found["plan"], found["report"]
    seconds = [row["seconds"] for row in found["variants"].values()]
    settings = ", ".join(f"{name}={value}" for name, value in plan["settings"].items()) or "nothing"
    lines += [
        "",
        f"Trained on {found['trained_on']}, with {settings} set; detector and generator of {plan['start_from']} but "
        f"for the translator's; {min(seconds) / 60:.1f} to {max(seconds) / 60:.1f} minutes per variant on "
        f"{found['machine']['cpu']}. One seed each.",
        f"Measured on {found['measured_on']}: {report['clips']} clips of split {report['split']}, "
        f"{report['definition']}.",
        *(f"Network {name}: {text}." for name, text in report["networks"].items()),
        "The paper's recognition is of nine actions of Penn Action by its own classifier: compare the order, not the "
        "numbers.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
