"""What can be typed: the verbs' arguments, and how their words become values."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from typing import NoReturn

from stillmotion.errors import StillmotionError
from stillmotion.version import __version__

Verb = Callable[[argparse.Namespace], None]


def parser(functions: Sequence[Verb]) -> argparse.ArgumentParser:
    """The whole command line; each function becomes the verb of its name, its docstring the verb's help."""
    whole = _Parser(
        prog="stillmotion",
        description="One still picture, one direction from a person, one video.",
        epilog="`stillmotion VERB --help` says more.",
    )
    whole.add_argument("--version", action="version", version=f"stillmotion {__version__}")
    parsers = whole.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=_Parser)
    for function in functions:
        text = (function.__doc__ or "").strip()
        made = parsers.add_parser(function.__name__, help=text, description=text)
        made.set_defaults(run=function)
        _OPTIONS[function.__name__](made)
    return whole


def _animate_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("still", metavar="STILL", help="a picture (PNG, JPEG, WebP)")
    add("--model", required=True, metavar="NAME", help="a shipped model, a run folder or a saved folder")
    add(
        "--drive",
        metavar="VIDEO",
        help="follow this video (mp4, webm, mov, avi, gif, a strip, a folder of frames)",
    )
    add(
        "--stroke",
        metavar="POINTS",
        help="follow this path, in pixels of the still: 'x,y x,y ...', or a file.json with points and times",
    )
    add("--stroke-from", metavar="VIDEO", help="follow the path of the moving thing in this video")
    add("--tracker", default="points", metavar="NAME", help="what finds that thing (default: points; docs/data.md)")
    add("--attach", action="store_true", help="shift the stroke so that it starts at the still's object")
    add(
        "--spacing",
        choices=("time", "even"),
        default="time",
        help="time (default): points that lie dense are slow; even: one speed all along",
    )
    add("--fps", type=_rate, help="frames per second of a stroke (default: the training clips', or the video's)")
    add("--predict", action="store_true", help="go on as the training clips did; for models with a predictor")
    add("--transfer", choices=("relative", "absolute"), default="relative", help="default: relative")
    add("--scale-motion", "--movement-mult", action="store_true", help="scale the motion by the size of the bodies")
    add("--clip-mean", action="store_true", help="keep keypoints inside the picture")
    add("--adapt-covariance", "--adapt-variance", action="store_true", help="carry over how covariances change")
    add("--align", choices=("first", "best"), default="first", help="the driving frame that motion counts from")
    add("--keep-background", action="store_true", help="the background keeps the still's own pixels")
    add("--region", metavar="X,Y,W,H", help="move only what lies in this part of the still (in its pixels)")
    add("--crop", metavar="X,Y,W,H", help="animate only this part of the still; auto: where it fits the driver")
    add(
        "--frames",
        type=_positive,
        metavar="N",
        help="at most so many (--predict: 32); a stroke has just so many",
    )
    add("--seed", type=int, metavar="S", help="for systems that draw random numbers")
    add(
        "--size",
        choices=("native", "model"),
        default="native",
        help="the still's own size (default) or the network's",
    )
    add(
        "--precision",
        choices=("auto", "fp32", "bf16"),
        default="fp32",
        help="fp32 (default), bf16, or auto: measure for a moment which is faster here",
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


def _models_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders", nargs="*", default=["runs"], help="look for trained models here too (default: runs)"
    )


def _prepare_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
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
    add(
        "--tracks",
        default="",
        metavar="NAMES",
        help="comma-separated: flow, boxes, joints, points (or points:patch=FOLDER, :person, :tracker)",
    )
    add(
        "--layout",
        default="auto",
        help="auto (default), videos, frames, strips, or a published data set's name",
    )
    add("--hold-out", action="append", default=[], metavar="KEY=VALUES", help="test clips, e.g. subject=4")
    add("--max-frames", type=_positive, help="cut longer clips off")
    add("--licence", default="", help="terms of the clips, kept in dataset.json")
    add("-y", "--overwrite", action="store_true", help="replace an older data set")


def _world_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("name", metavar="NAME", help="arm, digits, faces, plants or puppets")
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
    add("--actions", default="", metavar="NAMES", help="draw from these only, e.g. walk,jog,run for puppets")
    add("--far", action="store_true", help="small puppets who walk, jog or run past a camera that stands still")
    add("--digits", metavar="FILE", help="for digits: pictures in MNIST's format (IDX, gzip or not)")
    add("--digit-range", type=_range, metavar="A:B", help="use the file's pictures A to B - 1 only, counted from 0")
    add("--jobs", type=_positive, default=1)
    add("-y", "--overwrite", action="store_true", help="replace an older data set")


def _train_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("system", metavar="SYSTEM", help="driving or strokes")
    add("data", nargs="+", metavar="DATA", help="prepared data sets; DATA@N counts one N times")
    add("-o", "--out", required=True, metavar="RUN", help="folder of the training")
    add("--preset", help="small (default), paper, release, or another that the system's README names")
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
    add("--stages", default="", metavar="NAMES", help="run only these stages on it, e.g. predict")
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


def _evaluate_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("models", nargs="+", metavar="MODEL")
    add("data", metavar="DATA", help="a prepared data set")
    add("--protocol", default="reconstruction", help="reconstruction (default), transfer, transfer-absolute, strokes")
    add("--split", default="test", help="which clips: test (default), train or all")
    add(
        "--network",
        action="append",
        default=[],
        metavar="NAME=WHAT",
        help="keypoints=blazepose, identity=FILE@SHA256, inception=FILE@SHA256, lpips=... (docs/evaluation.md)",
    )
    add("-o", "--out", required=True, metavar="REPORT", help="folder for the report")


def _bench_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("models", nargs="*", metavar="MODEL", help="default: all shipped models")
    add("-o", "--out", required=True, metavar="FILE.json")
    add("--repeats", type=_positive, default=10, help="timed repeats after the warm-up (default: 10)")
    add("--threads", type=_positive, help="default: as many as torch takes")


_OPTIONS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "animate": _animate_options,
    "models": _models_options,
    "prepare": _prepare_options,
    "world": _world_options,
    "train": _train_options,
    "evaluate": _evaluate_options,
    "bench": _bench_options,
}


class _Parser(argparse.ArgumentParser):
    """Says what to do in one sentence instead of repeating the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"stillmotion: {message}; see {self.prog} --help.\n")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


_positive.__name__ = "whole number"


def _range(text: str) -> tuple[int, int]:
    first, colon, end = text.partition(":")
    if not (colon and first.isdecimal() and end.isdecimal()):
        raise argparse.ArgumentTypeError(f"must read A:B in whole numbers, not {text}")
    return int(first), int(end)


def _rate(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:  # False for NaN too
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text}")
    return number


_rate.__name__ = "number"


def name_and_value(text: str) -> tuple[str, str]:
    """Split `name=value`."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise StillmotionError(f"{text!r} should read name=value.")
    return key, value
