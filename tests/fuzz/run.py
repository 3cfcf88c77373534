"""`make fuzz`: damaged inputs for every target, by atheris, which lets coverage guide them, or at random.

All targets take turns, each in a fork of its own. Inputs that reached new code stay in `--keep`, so the next call
goes on from there; one that brings a foreign exception is kept in its folder `foreign`, and the run goes on.
`--keep`/inputs.json has the inputs given so far: those of each target, without what was kept and is read again.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import itertools
import json
import mmap
import os
import random
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fuzz.targets import Target

ROUNDS = 4  # in which all targets take turns
LONGEST = 60_000  # bytes of an input
SLOWEST = 60  # seconds for one


def main() -> None:
    """Run some targets, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="of all targets together")
    parser.add_argument("--minutes", type=float, default=0, help="of all targets together; 0: as long as it takes")
    parser.add_argument("--target", action="append", help="only this one; several may be named")
    parser.add_argument("--engine", choices=("atheris", "random"), help="default: atheris where it is installed")
    parser.add_argument("--keep", type=Path, default=Path("out") / "fuzz", help="what it found worth keeping")
    asked = parser.parse_args()
    engine = asked.engine or ("atheris" if importlib.util.find_spec("atheris") else "random")
    targets = _targets(engine, asked.target)
    counts = Counts(asked.keep)
    seconds = asked.minutes * 60 / ROUNDS / len(targets)
    shares = sum(target.share for target in targets) * ROUNDS
    stopped = {
        target.name
        for _, target in itertools.product(range(ROUNDS), targets)
        if not counts.add(target, ENGINES[engine], -(-asked.inputs * target.share // shares), seconds)
    }
    readers = {target.name: target for target in targets}
    kept = [(path, path.name.rpartition("-")[0]) for path in sorted((asked.keep / "foreign").glob("*"))]
    # Those of earlier calls may have been mended since.
    found = [path for path, name in kept if name in readers and readers[name].foreign(path.read_bytes())]
    print("".join(f"{name:15} {number:9}\n" for name, number in counts.all.items()), end="")
    ended = ", ".join(sorted(stopped)) or "none"
    print(f"{counts.given} inputs by {engine}, {len(found)} foreign exceptions; ended early: {ended}")
    print("".join(f"  {path}\n" for path in found), end="")
    sys.exit(bool(stopped or found))


def _targets(engine: str, names: list[str] | None) -> list[Target]:
    """The targets, warm: what a reader imports or caches at its first input is there before a process forks."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    instrumented: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    if engine == "atheris":
        import atheris

        instrumented = atheris.instrument_imports(include=["stillmotion"])
    warnings.simplefilter("ignore")
    with instrumented:
        from fuzz.targets import TARGETS

        targets = [target for target in TARGETS if target.name in (names or [target.name])]
        for target in targets:
            for seed in target.seeds:
                target.parse(seed)
    return targets


class Counts:
    """How many inputs each target was given, in this call and before.

    Attributes:
        all: by target, since `keep` was made.
        given: in this call.
    """

    def __init__(self, keep: Path):
        self.keep, self.given = keep, 0
        self.all: dict[str, int] = {}
        with contextlib.suppress(FileNotFoundError):
            self.all = json.loads((keep / "inputs.json").read_bytes())

    def add(self, target: Target, engine: Engine, inputs: int, seconds: float) -> bool:
        """Run one target in a fork, and count; False where that process did not end well."""
        kept = self.keep / target.name
        kept.mkdir(parents=True, exist_ok=True)
        old = len(list(kept.iterdir())) + len(target.seeds) if engine is _atheris else 0
        tally = mmap.mmap(-1, 8)  # the process counts here, however it ends
        if not (child := os.fork()):
            numbers = itertools.count(1 - old)

            def once(content: bytes) -> None:
                look(target, content, self.keep / "foreign")
                tally[:] = max(0, next(numbers)).to_bytes(8)

            try:
                engine(target, once, kept, inputs + old, seconds)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        given = int.from_bytes(tally[:])
        self.given += given
        self.all[target.name] = self.all.get(target.name, 0) + given
        (self.keep / "inputs.json").write_text(json.dumps(self.all))
        print(f"{target.name}: {given} inputs, {self.all[target.name]} in all", flush=True)
        return status == 0


def look(target: Target, content: bytes, foreign: Path) -> None:
    """Read one input; keep it if the exception that comes out is foreign and from a new place."""
    error = target.foreign(content)
    if error is None:
        return
    place = traceback.extract_tb(error.__traceback__)[-1]
    named = hashlib.sha256(f"{type(error).__name__} {place.filename} {place.lineno}".encode()).hexdigest()[:12]
    path = foreign / f"{target.name}-{named}"
    if not path.exists():
        foreign.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        print(f"foreign: {type(error).__name__} at {place.filename}:{place.lineno} from {path}: {error}", flush=True)


# --- engines: each gives a target's inputs to a function, and ends this process ------------------------------------
Engine = Callable[["Target", Callable[[bytes], None], Path, int, float], None]


def _atheris(target: Target, once: Callable[[bytes], None], kept: Path, inputs: int, seconds: float) -> None:
    import atheris

    from fuzz.targets import CORPUS

    # A time of 0 is no limit.
    bounds = [f"-runs={inputs}", f"-max_total_time={seconds and max(1, round(seconds))}", f"-max_len={LONGEST}"]
    bounds += [f"-timeout={SLOWEST}", "-rss_limit_mb=4096", "-verbosity=0"]
    paths = [f"-artifact_prefix={kept.parent}{os.sep}stopped-{target.name}-", str(kept), str(CORPUS / target.name)]
    atheris.Setup([sys.argv[0], *bounds, *paths], once)
    atheris.Fuzz()


def _random(target: Target, once: Callable[[bytes], None], kept: Path, inputs: int, seconds: float) -> None:
    from fuzz.targets import damaged

    rng, end = random.Random(), time.monotonic() + (seconds or float("inf"))
    stopped, seeds = kept.parent / f"stopped-{target.name}", target.seeds
    for _ in range(inputs):
        content = damaged(rng.choice(seeds), rng)
        stopped.write_bytes(content)
        signal.alarm(SLOWEST)  # ends this process
        once(content)
        if time.monotonic() > end:
            break
    stopped.unlink(missing_ok=True)
    os._exit(0)


ENGINES: dict[str, Engine] = {"atheris": _atheris, "random": _random}


if __name__ == "__main__":
    main()
