"""The settings of `make mutants`: every pattern finds sources, every test file is there."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mutmut"]


def test_every_pattern_finds_sources_and_every_test_is_there() -> None:
    assert [pattern for pattern in SETTINGS["only_mutate"] if not list(ROOT.glob(pattern))] == []
    assert [name for name in SETTINGS["pytest_add_cli_args_test_selection"] if not (ROOT / name).is_file()] == []


def test_what_every_system_computes_is_mutated_and_tested() -> None:
    mutated = {path for pattern in SETTINGS["only_mutate"] for path in ROOT.glob(pattern)}
    selected = " ".join(SETTINGS["pytest_add_cli_args_test_selection"])
    for folder in (path.parent for path in (ROOT / "src" / "stillmotion" / "systems").glob("*/config.py")):
        assert {folder / "networks.py", folder / "losses.py"} <= mutated
        assert all(f"tests/test_{folder.name}_{room}.py" in selected for room in ("networks", "losses"))


def test_every_test_of_networks_and_losses_takes_part() -> None:
    """A function that no selected test reaches counts as never killed."""
    selected = SETTINGS["pytest_add_cli_args_test_selection"]
    tests = {
        f"tests/{path.name}" for name in ("losses", "network*") for path in (ROOT / "tests").glob(f"test_*_{name}.py")
    }
    assert tests - set(selected) == {"tests/test_evaluation_networks.py"}  # of published networks
