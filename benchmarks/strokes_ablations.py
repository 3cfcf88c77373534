r"""Train the ablations of `strokes` small on one data set, and print what each does with strokes it never saw.

    stillmotion world digits data/digits --clips 4000 --frames 16 --test-share 0.01 \
        --digits digits-8k-images-idx3-ubyte.gz
    python benchmarks/strokes_ablations.py data/digits -o runs/strokes-ablations --minutes 10 --threads 2

It is a benchmark and no recipe: nothing made here is shipped. What comes out is RUNS/ablations.md,
RUNS/ablations.json and the report it was taken from (protocol `strokes`).

Every variant has the same clips in the same order and the same number of steps of the stage `single_step`. All have
what the ablations take away, which preset `small` lacks: both discriminators, a perceptual loss (on a VGG-16 of
fixed random weights, which needs no file), and no blend with the still, which would hide frames that darken. `--set`
changes these for all. `--minutes` is turned into steps once, by timing the full variant, and kept in RUNS/plan.json.

`--only` trains some, and then `--set` may change for all what only the others differ in: without discriminators and
VGG (`--only full whole step teacher --set losses.gan=0 --set losses.pair_gan=0 --set losses.perceptual.weight=0`) a
step takes a tenth of the time.

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
    cells,
    common_parser,
    described,
    finished,
    log_lines,
    loop_of,
    measured,
    steps_in,
    tested_on,
    train_and_measure,
    write_found,
)

from stillmotion.animate import load
from stillmotion.train import TrainRequest, train
from stillmotion.training import LoopSettings

NAME = "strokes_ablations"

COMMON: Mapping[str, Any] = {
    "generator.fields": False,
    "generator.output": "linear",
    "losses.unblended": 0.0,
    "losses.gan": 0.02,
    "losses.pair_gan": 0.02,
    "losses.perceptual.weight": 0.1,
    "losses.perceptual.network": "random-vgg16",
    "losses.perceptual.region": "frame",
    "losses.perceptual.range": "unit",
    "single_step.schedule.total": None,
    "annealing.steps": 0,
}
"""What all have before the ablations take it away."""


@dataclass(frozen=True)
class Variant:
    """A row.

    Attributes:
        title: what it is.
        changes: what it switches in the configuration.
        paper: what the paper says of it, if anything.
    """

    title: str
    changes: Mapping[str, Any]
    paper: str = ""


VARIANTS: Mapping[str, Variant] = {
    "full": Variant("Full", {}),
    "whole": Variant("S only", {"stroke.input": "whole"}, "time and speed are lost (supplement)"),
    "step": Variant("S_t only", {"stroke.input": "step"}, "the future is ambiguous (supplement)"),
    "teacher": Variant(
        "Teacher forcing",
        {"single_step.teacher_forcing": True},
        "ignores the stroke, forgets the input, darkens (Fig. 3)",
    ),
    "no-d2": Variant("No D2", {"losses.pair_gan": 0.0}),
    "no-perceptual": Variant("No perceptual loss", {"losses.perceptual.weight": 0.0}),
    "no-autoencoding": Variant("No auto-encoding loss", {"losses.autoencoding": 0.0}),
    "gaussian": Variant(
        "Gaussian dots, whole stroke", {"stroke.encoding": "gaussian", "stroke.lookahead": 0}, "ours"
    ),
    "grey": Variant(
        "Grey dots, whole stroke", {"stroke.encoding": "grey", "stroke.lookahead": 0}, "the paper's encoding"
    ),
}


def not_settable(only: Sequence[str]) -> tuple[str, ...]:
    """What `--set` must leave alone: the variants that are trained differ in it."""
    return ("single_step.steps", *(name for key in only for name in VARIANTS[key].changes))


COLUMNS = {
    "trajectory error (% of width)": ("trajectory error, % of width", ".2f"),
    "trajectory error": ("trajectory error, px", ".2f"),
    "endpoint accuracy": ("endpoint accuracy, %", ".0f"),
    "PSNR": ("PSNR", ".2f"),
    "class accuracy": ("class accuracy, %", ".0f"),
    "background change": ("background change", ".4f"),
}
"""Columns of the report that the table shows, and how."""


@dataclass(frozen=True)
class Plan:
    """What all variants have in common; RUNS/plan.json holds it, and a later call must agree with it."""

    data: tuple[str, ...]
    test: str
    preset: str
    settings: Mapping[str, str]
    minutes: float | None
    steps: int = 0  # 0: not yet known, to be found from `minutes`

    def request(self, variant: Variant, run: Path) -> TrainRequest:
        """The training of one variant."""
        settings = {**COMMON, **self.settings, **variant.changes, "single_step.steps": self.steps}
        return TrainRequest("strokes", self.data, run, self.preset, settings, resume=run.is_dir())


def main(arguments: Sequence[str] | None = None) -> int:
    """0; 1 if a variant failed, 2 for what the user can mend, 130 after Ctrl-C."""
    return answer(NAME, run, common_parser(NAME, __doc__, list(VARIANTS)).parse_args(arguments))


def run(options: Any) -> int:
    """Train what is not trained yet, measure what is; 0 if every variant asked for is in the table."""
    loop = loop_of(options)
    settings = dict(options.set)
    test = tested_on(options, not_settable(options.only or list(VARIANTS)))
    minutes = None if options.steps else options.minutes
    plan = Plan(tuple(options.data), test, options.preset, settings, minutes, options.steps or 0)
    plan = agreed(options.out / "plan.json", plan, lambda plan: _steps(plan, loop))
    return train_and_measure(
        NAME, plan, VARIANTS, options, loop, train, finished, lambda done: write_table(plan, options.out, done)
    )


def _steps(plan: Plan, loop: LoopSettings) -> int:
    with tempfile.TemporaryDirectory() as folder:
        trial = replace(plan, steps=TRIAL_STEPS).request(VARIANTS["full"], Path(folder) / "trial")
        return steps_in(plan.minutes or 0.0, trial, loop, train, log_lines)


def write_table(plan: Plan, out: Path, done: Sequence[str]) -> str:
    """Measure the trained variants; write RUNS/report, ablations.json and ablations.md. Returns the Markdown."""
    report = measured("strokes", plan, out, done)
    curves = report["curves"]["values"]
    rows = {
        **{name: name for name in report["means"] if name.startswith("baseline")},
        **{key: str(out / key) for key in done},
    }
    found = {
        **described(plan, report, ("definition", "split", "clips", "frames", "metrics")),
        "common": dict(COMMON),
        "rows": {
            key: {
                "title": VARIANTS[key].title if key in VARIANTS else key.removeprefix("baseline: "),
                "changes": dict(VARIANTS[key].changes) if key in VARIANTS else {},
                "paper": VARIANTS[key].paper if key in VARIANTS else "",
                "means": report["means"][name],
                "last_psnr": curves["PSNR"][name][-1],
                "last_brightness": curves["brightness"][name][-1],
                "above_still": _above(curves["PSNR"][name], curves["PSNR"]["baseline: copy the still"]),
                **(_cost(out / key) if key in VARIANTS else {}),
            }
            for key, name in rows.items()
        },
    }
    return write_found(out / "ablations", found, as_markdown(found))


def _above(curve: Sequence[float], still: Sequence[float]) -> float:
    """Share of the steps, without the still itself, at which the curve is higher."""
    pairs = list(zip(curve[1:], still[1:], strict=True))
    return sum(made > copied for made, copied in pairs) / len(pairs)


def _cost(folder: Path) -> dict[str, Any]:
    model = load(folder).system.shipped()
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seconds": log_lines(folder, "losses")[-1]["seconds"],
    }


def as_markdown(found: Mapping[str, Any]) -> str:
    """The table, and under it what was done."""
    heads = [head for head, _ in COLUMNS.values()]
    heads += ["PSNR, last step", "steps above the still", "brightness, last step", "the paper"]
    lines = ["| variant | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    for row in found["rows"].values():
        last = [f"{row['last_psnr']:.2f}", f"{row['above_still']:.0%}", f"{row['last_brightness']:.2f}"]
        shown = [cells(COLUMNS, row["means"]), *last, row["paper"] or "-"]
        lines.append(f"| {row['title']} | " + " | ".join(shown) + " |")
    seconds = [row["seconds"] for row in found["rows"].values() if "seconds" in row]
    plan, report = found["plan"], found["report"]
    changed = ", ".join(f"{name}={value}" for name, value in {**found["common"], **plan["settings"]}.items())
    lines += [
        "",
        f"Trained on {found['trained_on']}, {plan['steps']} steps, preset {plan['preset']} with {changed}; "
        f"{min(seconds) / 60:.1f} to {max(seconds) / 60:.1f} minutes per variant on {found['machine']['cpu']}. "
        "One seed each.",
        f"Measured on {found['measured_on']}: {report['clips']} clips of split {report['split']}, {report['frames']} "
        f"frames; {report['definition']}.",
        "Brightness is that of the made frame over the true one's: below 1 the frames darken. Dots in S of all but "
        "the last two rows are the preset's.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
