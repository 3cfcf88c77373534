r"""Train the ablations of Tables 3 and 4 of `pokes` small on one data set, and print them beside the paper's numbers.

    stillmotion world plants data/plants --clips 3000 --size 64 --seed 1 --test-share 0
    stillmotion world plants data/plants-test --clips 120 --size 64 --seed 12 --test-share 0.99
    python benchmarks/pokes_ablations.py data/plants --test data/plants-test -o runs/pokes-ablations --minutes 30

It is a benchmark and no recipe: nothing made here is shipped. What comes out is RUNS/ablations.md,
RUNS/ablations.json and the report it was taken from (protocol `pokes`).

Every variant is preset `paper` with the same clips in the same order and the same number of steps of the stage
`dynamics_training`, before which half as many of `pretraining` fix the space of states, but for the single stage. The
perceptual distance is that of a VGG-16 of fixed random weights, which needs no file; discriminators start after half
of the steps. `--set` changes these for all: `--set losses.perceptual.network=none --set losses.frame_gan=0 --set
losses.clip_gan=0 --set losses.clip_features=0 --set encoder.width=128` takes minutes. `--minutes` is turned into
steps once, by timing the stage, and kept in RUNS/plan.json. LPIPS and Frechet distances need `--network`, as
`stillmotion evaluate` does.

Run it again after Ctrl-C or a crash: a finished variant is not trained again, a begun one goes on.
"""

from __future__ import annotations

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
from stillmotion.train import TrainRequest, train
from stillmotion.training import LoopSettings

NAME = "pokes_ablations"

COMMON: Mapping[str, Any] = {"losses.perceptual.network": "random-vgg16"}
"""What all have in place of what the preset has and this benchmark does not."""


@dataclass(frozen=True)
class Variant:
    """A row.

    Attributes:
        title: what it is, as in the paper.
        changes: what it switches in the configuration.
        paper: LPIPS, PSNR and FVD on PokingPlants at 64 pixels (Tables 3 and 4).
    """

    title: str
    changes: Mapping[str, Any]
    paper: tuple[float, float, float]


VARIANTS: Mapping[str, Variant] = {
    "rnn": Variant("RNN at the bottleneck", {"dynamics.hierarchy": False}, (0.08, 20.92, 175.42)),
    "no-latent": Variant("Without latent loss", {"losses.latent": 0.0}, (0.07, 21.53, 110.00)),
    "single-stage": Variant("Single stage", {"single_stage": True}, (0.07, 21.41, 115.65)),
    "one": Variant("N = 1", {"dynamics.order": 1}, (0.08, 21.13, 170.74)),
    "two": Variant("N = 2", {"dynamics.order": 2}, (0.08, 21.15, 138.72)),
    "full": Variant("Full (N = 3)", {}, (0.06, 21.81, 89.67)),
}

NOT_SETTABLE = (
    "pretraining.steps",
    "dynamics_training.steps",
    *(name for variant in VARIANTS.values() for name in variant.changes),
)
"""What `--set` must leave alone."""

COLUMNS = {
    "LPIPS (paper)": ("LPIPS", ".3f"),
    "PSNR (paper)": ("PSNR", ".2f"),
    "FVD": ("FVD", ".1f"),
    "Frechet video distance (world network)": ("Frechet distance, own network", ".2f"),
    "SSIM (paper)": ("SSIM", ".3f"),
    "L1 of changed pixels / copy the still": ("changed pixels / copying", ".2f"),
    "counterfactual accuracy": ("counterfactual, %", ".0f"),
    "change (background poke)": ("change when the background is poked, grey levels", ".2f"),
}
"""Columns of the report that the table shows, and how. The paper has the first three."""


@dataclass(frozen=True)
class Plan:
    """What all variants have in common; RUNS/plan.json holds it, and a later call must agree with it."""

    data: tuple[str, ...]
    test: str
    preset: str
    settings: Mapping[str, str]
    minutes: float | None
    steps: int = 0  # of dynamics; 0: not yet known, to be found from `minutes`

    def request(self, variant: Variant, run: Path) -> TrainRequest:
        """The training of one variant."""
        settings = {
            **COMMON,
            "discriminators.start": self.steps // 2,
            **self.settings,
            **variant.changes,
            "pretraining.steps": 0 if "single_stage" in variant.changes else self.steps // 2,
            "dynamics_training.steps": self.steps,
        }
        return TrainRequest("pokes", self.data, run, self.preset, settings, resume=run.is_dir())


def main(arguments: Sequence[str] | None = None) -> int:
    """0; 1 if a variant failed, 2 for what the user can mend, 130 after Ctrl-C."""
    parser = common_parser(NAME, __doc__, list(VARIANTS), preset="paper")
    parser.add_argument(
        "--network", action="append", type=setting, default=[], help="lpips=..., i3d=..., video=worlds"
    )
    return answer(NAME, run, parser.parse_args(arguments))


def run(options: Any) -> int:
    """Train what is not trained yet, measure what is; 0 if every variant asked for is in the table."""
    loop = loop_of(options)
    test = tested_on(options, NOT_SETTABLE)
    extractors = open_extractors(options.network)  # before the trainings: one that is missing is told now
    minutes = None if options.steps else options.minutes
    plan = Plan(tuple(options.data), test, options.preset, dict(options.set), minutes, options.steps or 0)
    plan = agreed(options.out / "plan.json", plan, lambda plan: _steps(plan, loop))
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


def _steps(plan: Plan, loop: LoopSettings) -> int:
    """Timed without `pretraining`, whose steps are cheap, but for the last half of them with discriminators."""
    with tempfile.TemporaryDirectory() as folder:
        trial = replace(plan, steps=TRIAL_STEPS).request(VARIANTS["single-stage"], Path(folder) / "trial")
        return steps_in(plan.minutes or 0.0, trial, loop, train, log_lines)


def write_table(plan: Plan, out: Path, done: Sequence[str], extractors: Mapping[str, FeatureExtractor]) -> str:
    """Measure the trained variants; write RUNS/report, ablations.json and ablations.md. Returns the Markdown."""
    report = measured("pokes", plan, out, done, extractors)
    found = {
        **described(plan, report, ("definition", "split", "clips", "networks", "metrics")),
        "common": dict(COMMON),
        "batch": load(out / done[0]).system.config.dynamics_training.batch,
        "baselines": baselines(report),
        "variants": {
            key: {
                "title": VARIANTS[key].title,
                "changes": dict(VARIANTS[key].changes),
                "paper": dict(zip(COLUMNS, VARIANTS[key].paper, strict=False)),
                "ours": report["means"][str(out / key)],
                "parameters": sum(p.numel() for p in load(out / key).system.shipped().parameters()),
                "seconds": log_lines(out / key, "losses")[-1]["seconds"],
            }
            for key in done
        },
    }
    return write_found(out / "ablations", found, as_markdown(found))


def as_markdown(found: Mapping[str, Any]) -> str:
    """The table: per variant the paper's row and under it ours, the baselines last; then what was done."""
    lines = ["| variant | | " + " | ".join(head for head, _ in COLUMNS.values()) + " | parameters, million |"]
    lines.append("|---|---|" + "---|" * (len(COLUMNS) + 1))
    for row in found["variants"].values():
        lines.append(f"| {row['title']} | paper | {cells(COLUMNS, row['paper'])} | - |")
        lines.append(f"| | ours | {cells(COLUMNS, row['ours'])} | {row['parameters'] / 1e6:.1f} |")
    for name, values in found["baselines"].items():
        lines.append(f"| {name.removeprefix('baseline: ')} | ours | {cells(COLUMNS, values)} | - |")
    plan, report = found["plan"], found["report"]
    seconds = [row["seconds"] for row in found["variants"].values()]
    settings = ", ".join(f"{name}={value}" for name, value in {**found["common"], **plan["settings"]}.items())
    lines += [
        "",
        "paper: PokingPlants at 64 x 64, for about 147,000 steps of ten clips; FVD with I3D.",
        f"ours: trained on {found['trained_on']}, {plan['steps']} steps of {found['batch']} clips, before "
        f"which half as many fix the states, preset {plan['preset']} with {settings}; {min(seconds) / 60:.1f} to "
        f"{max(seconds) / 60:.1f} minutes per variant on {found['machine']['cpu']}. One seed each.",
        f"Measured on {found['measured_on']}: {report['clips']} clips of split {report['split']}.",
        *(f"Network {name}: {text}." for name, text in report["networks"].items()),
        "The paper's data are other data: compare the order of the variants, not the numbers.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
