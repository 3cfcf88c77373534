"""The command line: one verb, one function. Nothing heavy is imported before a verb needs it."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stillmotion.errors import StillmotionError
from stillmotion.version import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0; 2 for anything the user can mend (one sentence on stderr, no traceback); 130 after Ctrl-C.
    """
    options = _parser().parse_args(arguments)
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


# --- the verbs -----------------------------------------------------------------------------------------------------


def animate(options: argparse.Namespace) -> None:
    """Animate a still after a control."""
    from stillmotion.animate import load
    from stillmotion.controls import Drive

    if options.drive is None:
        raise StillmotionError("Say what the still should follow: --drive VIDEO.")
    animator = load(options.model)
    control = Drive(
        options.drive,
        transfer=options.transfer,
        scale_motion=options.scale_motion,
        clip=options.clip_mean,
        adapt_covariance=options.adapt_covariance,
    )
    animation = animator(
        options.still,
        control,
        options.frames,
        options.seed,
        size=options.size,
        layers=options.layers is not None,
    )
    with _Progress("frames", options.frames) as progress:
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
    for key, text in (_pair(item) for item in options.hold_out):
        held_out[key] = [int(value) if value.isdigit() else value for value in text.split(",")]
    with _Progress("files") as progress:
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
    from stillmotion.worlds.write import write_world

    with _Progress("clips", options.clips) as progress:
        info = write_world(
            options.name,
            options.out,
            clips=options.clips,
            size=options.size,
            frames=options.frames,
            seed=options.seed,
            test_share=options.test_share,
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
            **dict(_pair(item) for item in options.set),
            **({"steps": options.steps} if options.steps else {}),
        },
        start_from=options.start_from,
        parts=tuple(name for name in options.parts.split(",") if name),
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
    from stillmotion.evaluation.report import evaluate_models

    with _Progress("clips") as progress:
        text = evaluate_models(
            options.models,
            options.data,
            options.protocol,
            Path(options.out),
            split=options.split,
            progress=progress.reached,
        )
    print(text)


def bench(options: argparse.Namespace) -> None:
    """Measure speed and size of models on this machine."""
    from stillmotion.evaluation.speed import bench_models

    print(bench_models(options.models, Path(options.out), repeats=options.repeats, threads=options.threads))


# --- the parser ----------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="stillmotion",
        description="One still picture, one direction from a person, one video.",
        epilog="`stillmotion VERB --help` says more.",
    )
    parser.add_argument("--version", action="version", version=f"stillmotion {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=_Parser)

    def verb(function: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        text = (function.__doc__ or "").strip()
        made = verbs.add_parser(function.__name__, help=text, description=text)
        made.set_defaults(run=function)
        return made

    _animate_options(verb(animate))
    listed = verb(models)
    listed.add_argument(
        "folders", nargs="*", default=["runs"], help="look for trained models here too (default: runs)"
    )
    _data_options(verb(prepare), verb(world))
    _train_options(verb(train))
    measured = verb(evaluate)
    measured.add_argument("models", nargs="+", metavar="MODEL")
    measured.add_argument("data", metavar="DATA", help="a prepared data set")
    measured.add_argument("--protocol", default="reconstruction", help="reconstruction (default)")
    measured.add_argument("--split", default="test", help="which clips: test (default), train or all")
    measured.add_argument("-o", "--out", required=True, metavar="REPORT", help="folder for the report")
    timed = verb(bench)
    timed.add_argument("models", nargs="*", metavar="MODEL", help="default: all shipped models")
    timed.add_argument("-o", "--out", required=True, metavar="FILE.json")
    timed.add_argument("--repeats", type=_positive, default=10, help="timed repeats after the warm-up (default: 10)")
    timed.add_argument("--threads", type=_positive, help="default: as many as torch takes")
    return parser


def _animate_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("still", metavar="STILL", help="a picture (PNG, JPEG, WebP)")
    add("--model", required=True, metavar="NAME", help="a shipped model, a run folder or a saved folder")
    add(
        "--drive",
        metavar="VIDEO",
        help="follow this video (mp4, webm, mov, avi, gif, a strip, a folder of frames)",
    )
    add("--transfer", choices=("relative", "absolute"), default="relative", help="default: relative")
    add("--scale-motion", action="store_true", help="scale the motion by the size of the still's body")
    add("--clip-mean", action="store_true", help="keep keypoints inside the picture")
    add("--adapt-covariance", action="store_true", help="carry over how the driver's covariances change")
    add("--frames", type=_positive, metavar="N", help="at most so many frames")
    add("--seed", type=int, metavar="S", help="for systems that draw random numbers")
    add(
        "--size",
        choices=("native", "model"),
        default="native",
        help="the still's own size (default) or the network's",
    )
    add("--layers", metavar="DIR", help="also write what explains the frames: keypoints, flow, masks, ...")
    add("-y", "--overwrite", action="store_true", help="replace existing files")
    add(
        "-o",
        "--out",
        required=True,
        metavar="OUT",
        help=".mp4, .webm, .gif, .png (a strip) or a folder of frames",
    )


def _data_options(prepared: argparse.ArgumentParser, made: argparse.ArgumentParser) -> None:
    add = prepared.add_argument
    add(
        "videos",
        metavar="VIDEOS",
        help="a folder of videos, of frame folders or of strips, or a published data set",
    )
    add("out", metavar="OUT")
    add("--size", type=_positive, default=64, help="height and width of the clips (default: 64)")
    add("--jobs", type=_positive, default=1, help="processes (default: 1)")
    add("--fps", type=_rate, help="bring all videos to this rate")
    add("--crop", default="centre", help="centre (default), none, motion, or X,Y,W,H")
    add("--tracks", default="", metavar="NAMES", help="comma-separated: flow, boxes, points")
    add(
        "--layout",
        default="auto",
        help="auto (default), videos, frames, strips, or a published data set's name",
    )
    add("--hold-out", action="append", default=[], metavar="KEY=VALUES", help="test clips, e.g. subject=4")
    add("--max-frames", type=_positive, help="cut longer clips off")
    add("--licence", default="", help="terms of the clips, kept in dataset.json")
    add("-y", "--overwrite", action="store_true", help="replace an older data set")

    add = made.add_argument
    add("name", metavar="NAME", help="puppets")
    add("out", metavar="OUT")
    add("--clips", type=_positive, default=100)
    add("--size", type=_positive, default=64)
    add("--frames", type=_positive, default=32)
    add("--seed", type=int, default=0)
    add(
        "--test-share",
        type=float,
        default=0.05,
        help="share of the clips held back for testing (default: 0.05)",
    )
    add("--jobs", type=_positive, default=1)
    add("-y", "--overwrite", action="store_true", help="replace an older data set")


def _train_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("system", metavar="SYSTEM", help="driving")
    add("data", nargs="+", metavar="DATA", help="prepared data sets; DATA@N counts one N times")
    add("-o", "--out", required=True, metavar="RUN", help="folder of the training")
    add("--preset", default="small", help="small (default), paper, release, or a release's data set")
    add("--steps", type=_positive, help="training steps")
    add(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change a field of the configuration",
    )
    add("--from", dest="start_from", metavar="MODEL", help="start from the weights of this model")
    add("--parts", default="", metavar="NAMES", help="take only these parts from it, e.g. detector,generator.dense")
    add("--resume", action="store_true", help="go on from the last checkpoint")
    add("--seed", type=int, default=0)
    add("--threads", type=_positive, help="CPU threads")
    add("--workers", type=int, default=0, help="processes that prepare batches (default: 0)")
    add(
        "--precision",
        choices=("auto", "fp32", "bf16"),
        default="auto",
        help="auto measures which is faster here",
    )
    add("--minutes", type=float, help="stop with a checkpoint after so long")
    add("--checkpoint-every", type=_positive, default=500, metavar="STEPS")
    add("--preview-every", type=int, default=500, metavar="STEPS")
    add("--log-every", type=_positive, default=50, metavar="STEPS")


class _Parser(argparse.ArgumentParser):
    """Says what to do in one sentence instead of repeating the usage."""

    def error(self, message: str) -> Any:
        self.exit(2, f"stillmotion: {message}; see {self.prog} --help.\n")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


_positive.__name__ = "whole number"


def _rate(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:  # False for NaN too
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text}")
    return number


_rate.__name__ = "number"


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise StillmotionError(f"{text!r} should read name=value.")
    return key, value


class _Progress:
    """How far long work is, with rate and time left: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, unit: str, total: int | None = None):
        self.unit, self.total = unit, total
        self.bar: Any = None
        self.started = self.told = time.monotonic()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def file_done(self, done: int, total: int, name: str, reason: str | None) -> None:
        """For `prepare`: also names the files that are left out."""
        if reason is not None:
            print(f"left out {name}: {reason}", file=sys.stderr)
        self.reached(done, total)

    def reached(self, done: int, total: int | None = None) -> None:
        """`done` of `total` are finished."""
        self.total = total or self.total
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = self.bar or tqdm(total=self.total, unit=f" {self.unit}")
            self.bar.update(done - self.bar.n)
            return
        now = time.monotonic()
        if now - self.told < 5:
            return
        self.told, rate = now, done / (now - self.started)
        left = f", {(self.total - done) / rate:.0f} s left" if self.total else ""
        print(f"{done} {self.unit}, {rate:.1f} per second{left}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
