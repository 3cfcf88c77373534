"""The table of the paper's equations in the system's page: every equation is there, and every name exists."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from stillmotion.systems import strokes

FOLDER = Path(strokes.__file__).parent
TABLE = [
    line
    for line in (FOLDER / "README.md").read_text(encoding="utf-8").splitlines()
    if re.match(r"\| (Eq|Sec)\. ", line)
]
NAMES = sorted({(file, name) for line in TABLE for file, name in re.findall(r"`(\w+)\.py:([\w.]+)`", line)})


def test_every_equation_has_a_row_with_a_name() -> None:
    assert re.findall(r"^\| Eq\. (\d)", "\n".join(TABLE), re.MULTILINE) == list("12345678")
    assert all("`" in line.rpartition("| ")[2] for line in TABLE)


@pytest.mark.parametrize(("file", "name"), NAMES, ids=lambda value: value)
def test_the_name_exists(file: str, name: str) -> None:
    found = import_module(f"stillmotion.systems.strokes.{file}")
    for part in name.split("."):
        found = getattr(found, part)


@pytest.mark.parametrize("line", TABLE, ids=lambda line: line.partition(",")[0].strip("| "))
def test_the_code_names_the_equation_too(line: str) -> None:
    """In one of the files that the row names, at the place or its class."""
    label = re.findall(r"(?:Eq|Sec)\. [\w-]+", line)[0]
    files = {file for file, _ in re.findall(r"`(\w+)\.py:([\w.]+)`", line)}
    assert any(label in (FOLDER / f"{file}.py").read_text(encoding="utf-8") for file in files), label
