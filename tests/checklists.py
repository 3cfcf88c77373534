"""Fact sheets end with a checklist; a test module's docstring says which tests hold each item."""

import re
from pathlib import Path

TESTS = Path(__file__).parent


def check(docstring: str, items: int) -> None:
    """Lines like ` 7  words  file.py::test_name`; further tests of an item stand on lines of their own.

    Raises:
        AssertionError: an item lacks a test, or a test is not where it is said to be.
    """
    listed: dict[int, list[str]] = {}
    for line in docstring.splitlines():
        if number := re.match(r"\s?(\d+)  ", line):
            listed[int(number[1])] = []
        if name := re.search(r"\S+\.py::test_\w+$", line):
            listed[max(listed)].append(name[0])
    assert list(listed) == list(range(1, items + 1))
    for number, names in listed.items():
        assert names, f"item {number} has no test"
        for file, _, test in (name.partition("::") for name in names):
            text = (TESTS / file).read_text(encoding="utf-8")
            assert re.search(rf"^def {test}\(", text, re.MULTILINE), f"item {number}: there is no {file}::{test}"
