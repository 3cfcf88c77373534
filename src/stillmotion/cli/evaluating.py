"""The verbs that measure: `evaluate` and `bench`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stillmotion.options import device_option, name_and_value, option, whole


@dataclass(frozen=True)
class Evaluate:
    """Measure models on prepared data."""

    models: tuple[str, ...] = option("models", many="+", metavar="MODEL", help="names or folders")
    data: str = option("data", help="a prepared data set")
    out: str = option("-o", "--out", metavar="REPORT", help="folder for the report")
    protocol: str | None = option(
        "--protocol",
        default=None,
        metavar="NAME",
        help="reconstruction, transfer, strokes, ... (default: the models' own; docs/evaluation.md)",
    )
    split: str = option("--split", default="test", metavar="NAME", help="which clips: test, train or all")
    pairs: str | None = option(
        "--pairs",
        default=None,
        metavar="FILE.csv",
        help="transfer: the pairs, columns source and driving (default: 100 random ones)",
    )
    network: tuple[str, ...] = option(
        "--network",
        default=(),
        many="append",
        metavar="NAME=WHAT",
        help="keypoints=blazepose, identity=FILE@SHA256, inception=FILE@SHA256, lpips=... (docs/evaluation.md)",
    )
    device: str = device_option("cpu")
    overwrite: bool = option("-y", "--overwrite", default=False, help="replace an older report")

    def run(self) -> None:
        """Evaluate and print the table."""
        from stillmotion.cli.terminal import Progress
        from stillmotion.evaluation.extractors import open_extractors
        from stillmotion.evaluation.report import evaluate_models

        extractors = open_extractors([name_and_value(item) for item in self.network], device=self.device)
        with Progress("clips") as progress:
            text = evaluate_models(
                self.models,
                self.data,
                self.protocol,
                Path(self.out),
                split=self.split,
                extractors=extractors,
                device=self.device,
                pairs=Path(self.pairs) if self.pairs else None,
                overwrite=self.overwrite,
                progress=progress.reached,
            )
        print(text)


@dataclass(frozen=True)
class Bench:
    """Measure speed and size of models on this machine."""

    models: tuple[str, ...] = option(
        "models", default=(), many="*", metavar="MODEL", help="default: all shipped models"
    )
    out: str | None = option("-o", "--out", metavar="FILE.json", default=None, help="also write the figures there")
    repeats: int = option("--repeats", default=10, parse=whole, metavar="N", help="timed repeats after the warm-up")
    threads: int | None = option(
        "--threads", default=None, parse=whole, metavar="N", help="default: as many as torch takes"
    )
    device: str = device_option("cpu")
    overwrite: bool = option("-y", "--overwrite", default=False, help="replace an older file")

    def run(self) -> None:
        """Time the models and print the table."""
        from stillmotion.evaluation.speed import bench_models

        text = bench_models(
            self.models,
            Path(self.out) if self.out else None,
            repeats=self.repeats,
            threads=self.threads,
            device=self.device,
            overwrite=self.overwrite,
        )
        print(text)
