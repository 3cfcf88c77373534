"""No bytes bring a foreign exception out of a reader: a short run of what `make fuzz` does for hours."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz import run
from fuzz.targets import CORPUS, TARGETS, Target, damaged
from stillmotion.errors import StillmotionError

INPUTS = 25
"""Damaged versions of each target's files."""


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_are_read_or_refused_in_a_sentence(target: Target) -> None:
    rng, refusals = random.Random(5), 0
    for number in range(INPUTS):
        content = damaged(target.seeds[number % len(target.seeds)], rng)
        try:
            target.parse(content)
        except StillmotionError:
            refusals += 1
    assert refusals or target.name == "values"  # whose readers are asked one after the other


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
@pytest.mark.filterwarnings("ignore")
def test_the_corpus_is_read(target: Target) -> None:
    for content in target.seeds:
        target.parse(content)


def test_every_folder_of_the_corpus_has_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} == {target.name for target in TARGETS}


def test_a_foreign_exception_is_found() -> None:
    assert Target("", lambda content: content.decode()).foreign(b"\xff") is not None
    assert Target("", lambda content: content.decode()).foreign(b"a") is None


@pytest.mark.parametrize("engine", ["atheris", "random"])
def test_a_run_counts_its_inputs_and_goes_on(tmp_path: Path, engine: str) -> None:
    if engine == "atheris":
        pytest.importorskip("atheris")
    words = [sys.executable, run.__file__, "--engine", engine, "--inputs", "100", "--keep", str(tmp_path)]
    words += ["--target", "values", "--target", "json"]
    shares = {target.name: target.share for target in TARGETS}
    assert shares["values"] == shares["json"]
    for times in (1, 2):
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert f"by {engine}, 0 foreign exceptions; ended early: none" in done.stdout
        # Each of the two gets 100 / 2 inputs in run.ROUNDS rounds, rounded up.
        assert json.loads((tmp_path / "inputs.json").read_bytes()) == {"json": 52 * times, "values": 52 * times}


def test_a_run_keeps_what_is_foreign_once_a_place_and_tells_who_ended_early(tmp_path: Path) -> None:
    counts = run.Counts(tmp_path)

    def parse(content: bytes) -> None:
        raise ValueError(content)

    assert counts.add(Target("json", parse), run.ENGINES["random"], 5, 0)
    (kept,) = (tmp_path / "foreign").iterdir()
    assert kept.name.startswith("json-")
    assert kept.read_bytes()
    assert not list(tmp_path.glob("stopped-*"))

    def stop(content: bytes) -> None:
        raise SystemExit

    assert not counts.add(Target("values", stop), run.ENGINES["random"], 5, 0)
    assert (counts.given, counts.all) == (5, {"json": 5, "values": 0})
    assert (tmp_path / "stopped-values").is_file()
