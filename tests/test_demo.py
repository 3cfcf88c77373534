"""The demo's choice of examples and its page; `test_toy_system.py` runs it on a new system."""

import sys
from importlib import util
from pathlib import Path
from types import ModuleType

import pytest

from stillmotion.animate import ZOO, load, shipped_models

ROOT = Path(__file__).parents[1]


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`examples/demo.py` as a module, in its folder."""
    spec = util.spec_from_file_location("demo", ROOT / "examples" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "demo", module)
    spec.loader.exec_module(module)
    monkeypatch.chdir(ROOT / "examples")
    return module


@pytest.mark.parametrize("model", shipped_models())
def test_a_shipped_model_has_examples_with_their_command(demo: ModuleType, model: str) -> None:
    found = demo.examples(load(model), model)
    assert len(found) >= 2
    for example in found:
        assert isinstance(example.control, load(model).system.controls)
        assert example.command.startswith("animate ")
        assert f"--model {model}" in example.command


def test_a_model_of_another_name_gets_no_example_of_a_shipped_one(demo: ModuleType) -> None:
    model = str(ZOO / "strokes-digits")
    (example,) = demo.examples(load(model), model)
    assert (example.name, example.command) == ("example clip", "")


def test_a_figure_quotes_its_address_and_its_caption(demo: ModuleType, tmp_path: Path) -> None:
    page = demo.figure(tmp_path / "a#1 b" / "still.png", "<still>", tmp_path)
    assert page == (
        '<figure><img src="a%231%20b/still.png" alt="&lt;still&gt;"><figcaption>&lt;still&gt;</figcaption></figure>'
    )
