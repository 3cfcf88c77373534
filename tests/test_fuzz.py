"""No bytes bring a foreign exception out of a reader: a short run of what `make fuzz` does for hours."""

import random

import pytest

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
