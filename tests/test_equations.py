"""The equations of the papers are where the tables of the READMEs say."""

import ast
import re
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from refusals import refuses
from stillmotion.systems import strokes

SOURCE = Path(__file__).parents[1] / "src" / "stillmotion"
HEAD = "| equation |"
READMES = sorted((SOURCE / "systems").glob("*/README.md"))

Row = tuple[str, list[tuple[Path, str]]]


def table(readme: Path) -> list[Row]:
    """The first cell of each row of the table, and the places that it names: `file.py:Class.function`."""
    lines = readme.read_text(encoding="utf-8").splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith(HEAD)), None)
    if start is None:
        return []
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        named = re.findall(r"`([\w/]+\.py):([\w.]+)`", line)
        rows.append((line.split("|")[1].strip(), [(place(readme.parent, file), name) for file, name in named]))
    return rows


def place(folder: Path, file: str) -> Path:
    """A file of the system, or one below all systems."""
    return folder / file if (folder / file).is_file() else SOURCE / file


@cache
def definitions(path: Path) -> dict[str, str]:
    """The source of every function, class and constant of a file by dotted name."""
    text, found = path.read_text(encoding="utf-8"), {}

    def collect(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found[prefix + node.name] = ast.get_source_segment(text, node) or ""
                if isinstance(node, ast.ClassDef):
                    collect(node.body, f"{prefix}{node.name}.")
            for target in getattr(node, "targets", [getattr(node, "target", None)]):
                if isinstance(target, ast.Name):
                    found[prefix + target.id] = ast.get_source_segment(text, node) or ""

    collect(ast.parse(text).body, "")
    return found


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.parent.name)
def test_every_equation_is_where_the_table_says(readme: Path) -> None:
    rows = table(readme)
    assert rows, f"{readme} has no table of equations"
    for source, places in rows:
        assert places, f"{source} names no place"
        for file, name in places:
            assert file.is_file(), f"{source}: there is no {file}"
            assert name in definitions(file), f"{source}: {file.name} has no {name}"
        for one in re.findall(r"(?:Eq\.|Sec\.|Table) (?:[\d.]*\d|[IVX]+(?:-[A-Z])?)", source):
            # An equation is named where it is computed, a section somewhere in its file.
            whole = not one.startswith("Eq.")
            texts = [file.read_text(encoding="utf-8") if whole else definitions(file)[name] for file, name in places]
            exactly = re.compile(rf"{re.escape(one)}(?![\d.]*\d|\w)")
            assert any(map(exactly.search, texts)), f"{one} is not named there"


def test_the_table_of_driving_is_whole() -> None:
    named = {source for source, _ in table(SOURCE / "systems" / "driving" / "README.md")}
    assert named == {*(f"Eq. {n}" for n in range(1, 8)), *(f"Sec. 3.{n}" for n in range(1, 7)), "Sec. 4"}


def test_a_wrong_table_would_be_seen(tmp_path: Path) -> None:
    """The check itself: a name or a file that is gone, an equation that is not named where it should be."""
    (tmp_path / "losses.py").write_text('def gan():\n    """Eq. 12."""\n\n\nclass Net:\n    def forward(self): ...\n')
    for row, error in (
        ("| Eq. 12 | | `losses.py:gan` |", None),
        ("| Eq. 1 | | `losses.py:gan` |", "Eq. 1 is not named there"),
        ("| Eq. 12 | | `losses.py:wgan` |", "has no wgan"),
        ("| Eq. 12 | | `gone.py:gan` |", "there is no"),
        ("| Eq. 12 | | nowhere |", "names no place"),
        ("| ours | | `losses.py:Net.forward` |", None),
    ):
        readme = tmp_path / "README.md"
        readme.write_text(f"# A system\n\n{HEAD} what | where |\n|---|---|---|\n{row}\n\nText.\n")
        if error is None:
            test_every_equation_is_where_the_table_says(readme)
        else:
            refuses(error, test_every_equation_is_where_the_table_says, readme, error=AssertionError)


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
