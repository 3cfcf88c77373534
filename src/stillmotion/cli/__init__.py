"""The command line: one verb, one function. Nothing heavy is imported before a verb needs it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stillmotion.cli.directing import make_control
from stillmotion.cli.options import name_and_value, parser
from stillmotion.cli.progress import Progress
from stillmotion.errors import StillmotionError, warnings_told


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0; 2 for anything the user can mend (one sentence on stderr, no traceback); 130 after Ctrl-C.
    """
    options = parser(VERBS).parse_args(arguments)
    try:
        options.run(options)
    except StillmotionError as error:
        print(f"stillmotion: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("stillmotion"):
            raise
        print(
            f"stillmotion: this needs the package {error.name!r}; install stillmotion with the extras: "
            "pip install 'stillmotion[train,eval]'.",
            file=sys.stderr,
        )
        return 2
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt:
        print("stillmotion: stopped.", file=sys.stderr)
        return 130
    return 0


def animate(options: argparse.Namespace) -> None:
    """Animate a still after a control."""
    from stillmotion.animate import load

    control = make_control(options)
    animator = load(options.model, options.precision)
    animation = animator(
        options.still,
        control,
        options.frames,
        options.seed,
        size=options.size,
        layers=options.layers is not None,
    )
    with warnings_told(), Progress("frames", options.frames) as progress:
        count = animation.save(
            options.out, layers=options.layers, overwrite=options.overwrite, progress=progress.reached
        )
    print(f"{options.out}: {count} frames at {animation.fps:g} per second")


def models(options: argparse.Namespace) -> None:
    """List the shipped models and those trained here."""
    from stillmotion.animate import describe_models

    rows = [("NAME", "SYSTEM", "CONTROL", "SIZE", "DATA", "LICENCE"), *describe_models(options.folders)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def prepare(options: argparse.Namespace) -> None:
    """Turn a folder of videos into a prepared data set."""
    from stillmotion.data.prepare import prepare as prepare_folder

    held_out: dict[str, list[Any]] = {}
    for key, text in (name_and_value(item) for item in options.hold_out):
        held_out[key] = [int(value) if value.isdigit() else value for value in text.split(",")]
    with Progress("files") as progress:
        info = prepare_folder(
            options.videos,
            options.out,
            size=options.size,
            jobs=options.jobs,
            fps=options.fps,
            crop=options.crop,
            tracks=[name for name in options.tracks.split(",") if name],
            layout=options.layout,
            max_frames=options.max_frames,
            held_out=held_out or None,
            licence=options.licence,
            overwrite=options.overwrite,
            progress=progress.file_done,
        )
    print(f"{options.out}: {info.clips} clips, {info.frames} frames, {len(info.quarantined)} files left out")


def world(options: argparse.Namespace) -> None:
    """Make clips of a world."""
    from stillmotion.worlds.dataset import write_world

    with Progress("clips", options.clips) as progress:
        info = write_world(
            options.name,
            options.out,
            clips=options.clips,
            size=options.size,
            frames=options.frames,
            seed=options.seed,
            test_share=options.test_share,
            source=options.digits,
            pictures=options.digit_range,
            actions=[name.strip() for name in options.actions.split(",") if name.strip()],
            far=options.far,
            jobs=options.jobs,
            overwrite=options.overwrite,
            progress=progress.reached,
        )
    print(f"{options.out}: {info.clips} clips, {info.frames} frames")


def train(options: argparse.Namespace) -> None:
    """Train a system on prepared data."""
    from stillmotion.train import TrainRequest
    from stillmotion.train import train as train_system
    from stillmotion.training.settings import LoopSettings

    request = TrainRequest(
        system=options.system,
        data=tuple(options.data),
        run=Path(options.out),
        preset=options.preset,
        settings={
            **dict(name_and_value(item) for item in options.set),
            **({"steps": options.steps} if options.steps else {}),
        },
        start_from=options.start_from,
        parts=tuple(name for name in options.parts.split(",") if name),
        stages=tuple(name for name in options.stages.split(",") if name),
        resume=options.resume,
    )
    loop = LoopSettings(
        seed=options.seed,
        checkpoint_every=options.checkpoint_every,
        preview_every=options.preview_every,
        log_every=options.log_every,
        precision=options.precision,
        time_limit_s=options.minutes * 60 if options.minutes else None,
        threads=options.threads,
        workers=options.workers,
    )
    print(train_system(request, loop))


def evaluate(options: argparse.Namespace) -> None:
    """Measure models on prepared data."""
    from stillmotion.evaluation.networks import open_networks
    from stillmotion.evaluation.report import evaluate_models

    networks = open_networks([name_and_value(item) for item in options.network])
    with Progress("clips") as progress:
        text = evaluate_models(
            options.models,
            options.data,
            options.protocol,
            Path(options.out),
            split=options.split,
            networks=networks,
            progress=progress.reached,
        )
    print(text)


def bench(options: argparse.Namespace) -> None:
    """Measure speed and size of models on this machine."""
    from stillmotion.evaluation.speed import bench_models

    print(bench_models(options.models, Path(options.out), repeats=options.repeats, threads=options.threads))


VERBS = (animate, models, prepare, world, train, evaluate, bench)
