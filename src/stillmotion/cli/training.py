"""The verb `train`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stillmotion.options import device_option, name_and_value, names, option, whole


@dataclass(frozen=True)
class Train:
    """Train a system on prepared data."""

    system: str = option("system", help="driving, strokes, ...")
    data: tuple[str, ...] = option("data", many="+", help="prepared data sets; DATA@N counts one N times")
    out: str = option("-o", "--out", metavar="RUN", help="folder of the training")
    preset: str | None = option(
        "--preset",
        default=None,
        metavar="NAME",
        help="small (default), paper, release, or another that the system's README names",
    )
    steps: int | None = option("--steps", default=None, parse=whole, metavar="N", help="of every stage that runs")
    set: tuple[str, ...] = option(
        "--set",
        default=(),
        many="append",
        metavar="FIELD=VALUE",
        help="change a field of the configuration, e.g. generator.width=32",
    )
    start_from: str | None = option(
        "--from", default=None, metavar="MODEL", help="start from the weights of this model"
    )
    parts: tuple[str, ...] = option(
        "--parts",
        default=(),
        metavar="NAMES",
        parse=names,
        help="take only these parts from it, e.g. detector,generator.dense_motion",
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
        "--minutes", default=None, parse=float, metavar="M", help="stop with a checkpoint after so long"
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

        request = TrainRequest(
            system=self.system,
            data=tuple(self.data),
            run=Path(self.out),
            preset=self.preset,
            settings=dict(map(name_and_value, self.set)),
            steps=self.steps,
            start_from=self.start_from,
            parts=self.parts,
            stages=self.stages,
            resume=self.resume,
        )
        loop = LoopSettings(
            seed=self.seed,
            checkpoint_every=self.checkpoint_every,
            preview_every=self.preview_every,
            log_every=self.log_every,
            precision=self.precision,  # type: ignore[arg-type]
            device=self.device,  # type: ignore[arg-type]
            time_limit_s=self.minutes * 60 if self.minutes else None,
            threads=self.threads,
            workers=self.workers,
        )
        print(train(request, loop))
