"""`make fuzz`: coverage-guided inputs for every target, by atheris.

Each target is a process of its own. What it found worth keeping stays in `out/fuzz/NAME`, so the next call goes on
from there; an input that brings a foreign exception is kept in `out/fuzz/foreign`, and the run goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import traceback
import warnings
from pathlib import Path

KEPT = Path("out") / "fuzz"
LONGEST = 60_000  # bytes of an input
SLOWEST = 60  # seconds for one


def main() -> None:
    """Run one target, or all of them."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="of all targets together")
    parser.add_argument("--minutes", type=float, default=0, help="of all targets together; 0: as long as it takes")
    parser.add_argument("--target", action="append", help="only this one; several may be named")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.inside:
        _fuzz(asked.target[0], asked.inputs, asked.minutes)
    from fuzz.targets import TARGETS

    names = asked.target or [target.name for target in TARGETS]
    share = ["--inputs", str(-(-asked.inputs // len(names))), "--minutes", str(asked.minutes / len(names))]
    command = [sys.executable, __file__, "--inside", *share, "--target"]
    failed = [name for name in names if subprocess.call([*command, name])]
    readers = {target.name: target for target in TARGETS}
    kept = [path for path in sorted((KEPT / "foreign").glob("*")) if path.name.partition("-")[0] in names]
    # Those of earlier calls may have been mended since.
    found = [path for path in kept if readers[path.name.partition("-")[0]].foreign(path.read_bytes())]
    print(f"{asked.inputs} inputs, {len(found)} foreign exceptions; ended early: {', '.join(failed) or 'none'}")
    print("".join(f"  {path}\n" for path in found), end="")
    sys.exit(bool(failed or found))


def _fuzz(name: str, inputs: int, minutes: float) -> None:
    """Fuzz one target in this process; does not return."""
    import atheris

    with atheris.instrument_imports(include=["stillmotion"]):
        from fuzz.targets import CORPUS, TARGETS
    warnings.simplefilter("ignore")
    target = next(each for each in TARGETS if each.name == name)
    seen: set[tuple[str, int | None]] = set()

    def once(content: bytes) -> None:
        error = target.foreign(content)
        place = error and traceback.extract_tb(error.__traceback__)[-1]
        if error is None or place is None or (place.filename, place.lineno) in seen:
            return
        seen.add((place.filename, place.lineno))
        path = KEPT / "foreign" / f"{name}-{hashlib.sha256(content).hexdigest()[:12]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        print(f"foreign: {type(error).__name__} at {place.filename}:{place.lineno} from {path}: {error}", flush=True)

    kept = KEPT / name
    kept.mkdir(parents=True, exist_ok=True)
    bounds = [f"-runs={inputs}", f"-max_total_time={round(minutes * 60)}", f"-max_len={LONGEST}"]
    paths = [f"-artifact_prefix={KEPT}{os.sep}stopped-{name}-", str(kept), str(CORPUS / name)]
    atheris.Setup(
        [sys.argv[0], *bounds, f"-timeout={SLOWEST}", "-rss_limit_mb=4096", "-print_final_stats=1", *paths], once
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
