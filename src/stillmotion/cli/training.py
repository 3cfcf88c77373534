"""The verb `train`."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

from stillmotion.options import device_option, name_and_value, names, option, rate, whole


@dataclass(frozen=True)
class Train:
    """Train a system on prepared data."""

    out: str = option("-o", "--out", metavar="RUN", help="folder of the training")
    system: str = option("system", default="", help="driving, strokes, ...")
    data: tuple[str, ...] = option("data", default=(), many="*", help="prepared data sets; DATA@N counts one N times")
    preset: str | None = option(
        "--preset", default=None, metavar="NAME", help="small (default), paper, release, or another in its README"
    )
    steps: int | None = option("--steps", default=None, parse=whole, metavar="N", help="of every stage that runs")
    set: tuple[str, ...] = option(
        "--set", default=(), many="append", metavar="FIELD=VALUE", help="change a setting, e.g. generator.width=32"
    )
    start_from: str | None = option(
        "--from",
        default=None,
        metavar="MODEL",
        help="train this model on, in its own configuration and main stage unless --preset or --stages is given",
    )
    parts: tuple[str, ...] = option(
        "--parts",
        default=(),
        metavar="NAMES",
        parse=names,
        help="take only these, as detector,generator.dense_motion",
    )
    stages: tuple[str, ...] = option(
        "--stages", default=(), metavar="NAMES", parse=names, help="run only these stages, e.g. keypoint_prediction"
    )
    resume: bool = option(
        "--resume", default=False, help="go on from the last checkpoint; what is not typed again is as before"
    )
    seed: int | None = option(
        "--seed", default=None, parse=int, metavar="S", help="of weights, samples and noise (default: 0)"
    )
    threads: int | None = option("--threads", default=None, parse=whole, metavar="N", help="CPU threads")
    workers: int = option("--workers", default=0, parse=int, metavar="N", help="processes that prepare batches")
    device: str = device_option("auto")
    precision: str = option(
        "--precision", default="auto", choices=("auto", "fp32", "bf16"), help="auto measures which is faster here"
    )
    minutes: float | None = option(
        "--minutes",
        default=None,
        parse=rate,
        metavar="M",
        help="a whole training in so long, on any machine: learning rates fall to zero by then",
    )
    checkpoint_every: int = option(
        "--checkpoint-every", default=500, parse=whole, metavar="STEPS", help="steps between checkpoints"
    )
    preview_every: int = option(
        "--preview-every", default=500, parse=int, metavar="STEPS", help="steps between pictures; 0 for none"
    )
    log_every: int = option("--log-every", default=50, parse=whole, metavar="STEPS", help="steps between log lines")

    def run(self) -> None:
        """Train and say where the model is."""
        from stillmotion.train import TrainRequest, read_run, train
        from stillmotion.training import LoopSettings

        what = {each.name: getattr(self, each.name) for each in fields(TrainRequest) if hasattr(self, each.name)}
        what |= {"data": tuple(self.data), "run": Path(self.out), "settings": dict(map(name_and_value, self.set))}
        known = {each.name for each in fields(LoopSettings)}
        typed = {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if each.name in known and getattr(self, each.name) != each.default
        }
        if self.minutes:
            typed["time_budget_s"] = self.minutes * 60
        before = read_run(Path(self.out)) if self.resume else None
        print(train(TrainRequest(**what), replace(before.typed.loop if before else LoopSettings(), **typed)))
