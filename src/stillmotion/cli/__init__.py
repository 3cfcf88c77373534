"""The command line: one verb, one frozen dataclass of declared options with a `run`.

Nothing heavy is imported before a verb runs. What directs a still (`--drive`, `--stroke`, ...) is built from the
controls that the systems declare.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from stillmotion.animate import declared_controls, describe_models, load, to_pixels
from stillmotion.cli.evaluating import Bench, Evaluate
from stillmotion.cli.explaining import Explain
from stillmotion.cli.importing import Import, Weights
from stillmotion.cli.preparing import Prepare, World
from stillmotion.cli.training import Train
from stillmotion.errors import StillmotionError, StillmotionWarning
from stillmotion.options import Control, add_option, device_option, made_from, option, option_name, options_of, whole
from stillmotion.version import __version__

if TYPE_CHECKING:
    from stillmotion.systems.base import Animation


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0; 2 for anything the user can mend (one sentence on stderr, no traceback); 130 after Ctrl-C.
    """
    typed = vars(parser().parse_args(arguments))
    verb = typed.pop("verb")
    for number in _ENDINGS if threading.current_thread() is threading.main_thread() else ():
        if signal.getsignal(number) is signal.SIG_DFL:  # not where `nohup` has it ignored
            signal.signal(number, _end)
    try:
        control = {"control": control_from(typed)} if verb is Animate else {}
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # names may hold what cannot be printed
        made_from(verb, typed, **control).run()
        _flush()
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
        _drop_output()
        return 0
    except KeyboardInterrupt:
        print("stillmotion: stopped.", file=sys.stderr)
        return 130
    return 0


def _flush() -> None:
    """Write what was printed; after a verb has done its work, a failure of this is no traceback."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _drop_output()
        raise StillmotionError(
            f"The work is done, but standard output cannot be written ({error.strerror})."
        ) from error


def _drop_output() -> None:
    """Let what is still to be printed go nowhere: Python prints it again at its end, and would complain."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# Sent by schedulers, at logout and by `docker stop`; Windows has no SIGHUP.
_ENDINGS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


def _end(number: int, _: object) -> NoReturn:
    """End as by an exception, so that half-written outputs are removed."""
    raise SystemExit(128 + number)


@dataclass(frozen=True)
class Animate:
    """Animate a still after a control."""

    control: Control
    still: str = option("still", help="a picture (PNG, JPEG, WebP)")
    model: str = option("--model", metavar="NAME", help="a shipped model, a run folder or a saved folder")
    out: str = option("-o", "--out", metavar="OUT", help=".mp4, .webm, .gif, .png (a strip) or a folder of frames")
    frames: int | None = option(
        "--frames",
        default=None,
        metavar="N",
        parse=whole,
        help="at most so many (--predict: 32); a stroke has just so many",
    )
    seed: int | None = option(
        "--seed", default=None, metavar="S", parse=int, help="for systems that draw random numbers"
    )
    samples: int | None = option(
        "--samples",
        default=None,
        metavar="K",
        parse=whole,
        help="K videos, OUT-001 ..., with the seeds S, S + 1, ...",
    )
    grid: bool = option("--grid", default=False, help="all --samples side by side in one video")
    size: str = option(
        "--size", default="native", choices=("native", "model"), help="the still's own size or the network's"
    )
    precision: str = option(
        "--precision", default="fp32", choices=("auto", "fp32", "bf16"), help="auto measures which is faster here"
    )
    device: str = device_option("cpu")
    layers: str | None = option(
        "--layers", default=None, metavar="DIR", help="also write what explains the frames: flow, masks, ..."
    )
    mask: str | None = option(
        "--mask", default=None, metavar="FILE", help="the still's figure in white, as a picture of the still's size"
    )
    plate: str | None = option(
        "--plate", default=None, metavar="FILE", help="the still without its figure; none: no background behind it"
    )
    overwrite: bool = option("-y", "--overwrite", default=False, help="replace existing files")

    def run(self) -> None:
        """Animate and save."""
        if self.grid and self.samples is None:
            raise StillmotionError("--grid shows several videos: say how many with --samples K.")
        several = self.samples is not None and not self.grid
        if several:
            self._check_places()
        with printed_warnings():
            self._animate(several)

    def _animate(self, several: bool) -> None:
        animator, still = load(self.model, self.precision, self.device), to_pixels(self.still)
        options: dict[str, Any] = {"size": self.size, "layers": self.layers is not None}
        options |= {"mask": self.mask, "plate": self.plate}
        if self.grid and self.samples is not None:
            grid = animator.grid(still, self.control, self.samples, self.frames, self.seed, **options)
            self._save(grid, self.out, self.layers)
            return
        for number, (out, layers) in enumerate(self._places() if several else [(self.out, self.layers)]):
            seed = (self.seed or 0) + number if several else self.seed
            self._save(animator(still, self.control, self.frames, seed, **options), out, layers)

    def _save(self, animation: Animation, out: str, layers: str | None) -> None:
        with Progress("frames", self.frames) as progress:
            count = animation.save(out, layers=layers, overwrite=self.overwrite, progress=progress.reached)
        print(f"{out}: {count} frames at {animation.fps:g} per second")

    def _places(self) -> Iterator[tuple[str, str | None]]:
        """Where each of several videos and its layers go."""
        count = self.samples or 0
        for number in range(1, count + 1):
            word = f"{number:0{max(3, len(str(count)))}d}"
            path = Path(self.out)
            out = path.with_name(f"{path.stem}-{word}{path.suffix}")
            yield str(out), None if self.layers is None else f"{self.layers}-{word}"

    def _check_places(self) -> None:
        """Refuse before any work what cannot be numbered, or is there already."""
        if not Path(self.out).name:
            raise StillmotionError(f"{self.out!r} is not a file name; choose another one.")
        for out, _ in self._places():
            if Path(out).exists() and not self.overwrite:
                raise StillmotionError(f"{out!r} already exists; pass --overwrite (-y) or choose another name.")


@dataclass(frozen=True)
class Models:
    """List the shipped models and those trained here."""

    folders: Sequence[str] = option("folders", default=("runs",), many="*", help="look for trained models here too")

    def run(self) -> None:
        """Print a table."""
        rows = [("NAME", "SYSTEM", "CONTROL", "SIZE", "DATA", "LICENCE"), *describe_models(self.folders)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        for row in rows:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


VERBS = (Animate, Explain, Models, Prepare, World, Train, Import, Weights, Evaluate, Bench)


# --- parsing -------------------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Says what to do in one sentence instead of repeating the usage."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        # What begins with a negative number is a value, and no option: a place in the first half pixel, `-0.4,12`.
        self._negative_number_matcher = re.compile(r"-\.?\d")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"stillmotion: {message}; see {self.prog} --help.\n")


def parser() -> argparse.ArgumentParser:
    """The whole command line; each verb's docstring is its help."""
    whole_line = _Parser(
        prog="stillmotion",
        description="One still picture, one direction from a person, one video.",
        epilog="`stillmotion VERB --help` says more.",
    )
    whole_line.add_argument("--version", action="version", version=f"stillmotion {__version__}")
    parsers = whole_line.add_subparsers(required=True, metavar="VERB", parser_class=_Parser)
    for verb in VERBS:
        text = (verb.__doc__ or "").strip()
        made = parsers.add_parser(verb.__name__.lower(), help=text, description=text)
        made.set_defaults(verb=verb)
        for each, about in options_of(verb):
            add_option(made, each, about)
        if verb is Animate:
            add_controls(made)
    return whole_line


def add_controls(made: argparse.ArgumentParser) -> None:
    """Add the options of all controls, a group per system; an option that two controls share is added once."""
    known: set[str] = set()
    for system, controls in declared_controls().items():
        summary = (import_module(f"stillmotion.systems.{system}").__doc__ or "").partition("\n")[0].rstrip(".")
        group = made.add_argument_group(f"{system}: {summary[:1].lower()}{summary[1:]}")
        for control in controls:
            name = option_name(control.given_by)
            if all(about.flags[:1] != (control.given_by,) for _, about in options_of(control)):
                group.add_argument(
                    control.given_by, dest=name, action="store_true", default=argparse.SUPPRESS, help=control.summary
                )
            for each, about in options_of(control):
                if about.flags and about.flags[0] not in known:
                    add_option(group, each, about, required=False)
                    known.add(about.flags[0])


def control_from(typed: Mapping[str, Any]) -> Control:
    """Make the one control that was typed.

    Raises:
        StillmotionError: none or several controls, an option of another control, or a value that cannot be used.
    """
    controls = [control for controls in declared_controls().values() for control in controls]
    given = [control for control in controls if option_name(control.given_by) in typed]
    if len(given) != 1:
        *others, last = (_as_typed(control) for control in controls)
        raise StillmotionError(f"Say what the still should follow: one of {', '.join(others)} and {last}.")
    (chosen,) = given
    own = {option_name(about.flags[0]): each.name for each, about in options_of(chosen) if about.flags}
    for control in controls:
        for _, about in options_of(control):
            if about.flags and option_name(about.flags[0]) in typed and option_name(about.flags[0]) not in own:
                owners = [c.given_by for c in controls if any(o.flags == about.flags for _, o in options_of(c))]
                raise StillmotionError(
                    f"{about.flags[0]} belongs to {' and '.join(owners)}; leave it out with {chosen.given_by}."
                )
    return made_from(chosen, {own[name]: value for name, value in typed.items() if name in own})


def _as_typed(control: type[Control]) -> str:
    for _, about in options_of(control):
        if control.given_by in about.flags:
            return f"{control.given_by} {about.metavar}"
    return control.given_by


# --- the terminal --------------------------------------------------------------------------------------------------


@contextmanager
def printed_warnings() -> Iterator[None]:
    """Print the library's own warnings on stderr, a sentence each and each once, without file and line."""
    told: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("always", StillmotionWarning)
        others = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, StillmotionWarning):
                if str(message) not in told:
                    print(f"stillmotion: {message}", file=sys.stderr)
                told.add(str(message))
            else:
                others(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield


class Progress:
    """Progress of long work, with rate and time left: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, unit: str, total: int | None = None):
        self.unit, self.total = unit, total
        self.bar: Any = None
        self.started = self.printed = time.monotonic()

    def __enter__(self) -> Progress:
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
        if now - self.printed < 5:
            return
        self.printed, rate = now, done / (now - self.started)
        left = f", {(self.total - done) / rate:.0f} s left" if self.total else ""
        print(f"{done} {self.unit}, {rate:.1f} per second{left}", file=sys.stderr, flush=True)
