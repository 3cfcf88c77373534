"""The command line: one verb, one frozen dataclass of declared options with a `run`.

Nothing heavy is imported before a verb runs. What directs a still (`--drive`, `--stroke`, ...) is built from the
controls that the systems declare.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from stillmotion.animate import check_order, declared_controls, load, shown_fps, to_pixels
from stillmotion.cli.evaluating import Bench, Evaluate
from stillmotion.cli.explaining import Explain
from stillmotion.cli.importing import Import, Weights
from stillmotion.cli.listing import Models
from stillmotion.cli.preparing import Prepare, World
from stillmotion.cli.terminal import Progress, lasting_output, printed_warnings
from stillmotion.cli.training import Train
from stillmotion.errors import StillmotionError
from stillmotion.options import (
    Control,
    add_option,
    device_option,
    frame_size,
    made_from,
    option,
    option_name,
    options_of,
    whole,
)
from stillmotion.version import __version__

if TYPE_CHECKING:
    from stillmotion.systems.base import Animation


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0; 2 for anything the user can mend (one sentence on stderr, no traceback); 130 after Ctrl-C.
    """
    with lasting_output() as printed:
        code = _run(arguments)
        printed.flush()
        if printed.full and code == 0:
            print(f"stillmotion: The work is done, but standard output is full ({printed.full}).", file=sys.stderr)
            code = 2
    return code


def _run(arguments: Sequence[str] | None) -> int:
    typed = vars(parser().parse_args(arguments))
    verb = typed.pop("verb")
    for number in _ENDINGS if threading.current_thread() is threading.main_thread() else ():
        if signal.getsignal(number) is signal.SIG_DFL:  # not where `nohup` has it ignored
            signal.signal(number, _end)
    try:
        control = {"control": control_from(typed)} if verb is Animate else {}
        made_from(verb, typed, **control).run()
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
    except KeyboardInterrupt:
        print("stillmotion: stopped.", file=sys.stderr)
        return 130
    return 0


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
    size: str | int = option(
        "--size",
        default="native",
        metavar="SIZE",
        parse=frame_size,
        help="native: the still's own, model: the networks', or pixels of the longer side",
    )
    sound: bool = option(
        "--sound", default=True, negatable=True, help="keep the sound of the video that is followed, in mp4 and webm"
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
        check_order(self.still, self.control)
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
            count = animation.save(
                out,
                layers=layers,
                sound=self.sound,
                overwrite=self.overwrite,
                progress=lambda done: progress.reached(done, animation.length),
            )
        print(f"{out}: {count} frames at {shown_fps(out, animation.fps):g} per second")

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


class _VerbParser(_Parser):
    """Takes values before, between and after options, as in `train driving -o run DATA`."""

    _mixed = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._mixed or "--" in (args or ()):  # after `--` all are values, which mixing would not know
            return super().parse_known_args(args, namespace)
        self._mixed = True  # it calls this method in turn
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._mixed = False


def parser() -> argparse.ArgumentParser:
    """The whole command line; each verb's docstring is its help."""
    whole_line = _Parser(
        prog="stillmotion",
        description="One still picture, one direction from a person, one video.",
        epilog="`stillmotion VERB --help` says more.",
    )
    whole_line.add_argument("--version", action="version", version=f"stillmotion {__version__}")
    parsers = whole_line.add_subparsers(required=True, metavar="VERB", parser_class=_VerbParser)
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
    """Add the options of all controls, a group per system; an option that several systems share stands above them."""
    known: set[str] = set()
    owners = Counter(
        flag
        for controls in declared_controls().values()
        for flag in {about.flags[0] for control in controls for _, about in options_of(control) if about.flags}
    )
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
                    place = made if owners[about.flags[0]] > 1 else group
                    add_option(place, each, about, required=False)
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
