"""The verb `train`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from stillmotion.options import device_option, name_and_value, names, option, rate, whole


@dataclass(frozen=True)
class Train:
    """Train a system on prepared data."""

    system: str = option("system", help="driving, strokes, ...")
    data: tuple[str, ...] = option("data", many="+", help="prepared data sets; DATA@N counts one N times")
    out: str = option("-o", "--out", metavar="RUN", help="folder of the training")
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
    resume: bool = option("--resume", default=False, help="go on from the last checkpoint")
    seed: int = option("--seed", default=0, parse=int, metavar="S", help="of weights, samples and noise")
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
        from stillmotion.train import TrainRequest, train
        from stillmotion.training import LoopSettings

        # Fields of the same name are handed on.
        what, how = (
            {each.name: getattr(self, each.name) for each in fields(kind) if hasattr(self, each.name)}
            for kind in (TrainRequest, LoopSettings)
        )
        what |= {"data": tuple(self.data), "run": Path(self.out), "settings": dict(map(name_and_value, self.set))}
        how |= {"time_budget_s": self.minutes * 60 if self.minutes else None}
        print(train(TrainRequest(**what), LoopSettings(**how)))
