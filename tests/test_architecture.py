"""The house rules, read from the source itself: who knows whom, what is never called, how long a file may be."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "stillmotion"
FILES = sorted(SOURCE.rglob("*.py"))
SYSTEMS = sorted(path.name for path in (SOURCE / "systems").iterdir() if (path / "config.py").is_file())

BASE = {"errors", "version", "outputs", "options"}
TOOLS = {"nn", "losses", "geometry", "media", "files", "rendering", "morphable"}
MAY_KNOW = {
    # From the ground up; a room may always know itself.
    "errors": set(),
    "version": set(),
    "outputs": {"errors"},
    "options": {"errors", "files"},
    "geometry": set(),
    "losses": {"geometry"},
    "media": BASE,
    "files": {"errors", "outputs"},
    "nn": {"geometry", "files", "errors"},
    "morphable": {"geometry", "files", "errors"},
    "rendering": {"nn", "geometry", "media", "files"} | BASE,
    "data": {"media", "geometry", "files", "morphable", "rendering.fields", "rendering.plate"} | BASE,
    "worlds": {"data", "files", "morphable"} | BASE,
    "training": {"data.sampling", "files", "nn"} | BASE,
    "keypoints": {"data", "training.muon", "training.schedules", "training.stage"} | TOOLS | BASE,
    "systems": {"keypoints", "data", "training.muon", "training.schedules", "training.stage"} | TOOLS | BASE,
    "animate": {"systems", "media", "nn"} | BASE,
    "evaluation": {"animate", "systems", "worlds", "data", "media", "files", "geometry", "nn"} | BASE,
    "importing": {"systems", "animate", "files"} | BASE,
    "train": {"systems", "data", "training", "animate", "files"} | BASE,
    "cli": {"train", "importing", "animate", "systems", "evaluation", "worlds", "training", "data"} | BASE,
    "__main__": {"cli"},
    "": {"animate", "systems", "errors", "version"},  # the lazily imported public names
}
LAZY = {"options"}
"""Reads a file of points only when one is given."""

ROOMS = {"__init__", "config", "networks", "losses", "data", "training", "animating", "visualization"}
MORE_ROOMS = {
    "actions": {"motion", "tracks", "performing"},
    "driving": {"transfer", "masking"},
    "strokes": {"object_frame", "stroke_encoding", "compositing"},
    "pokes": {"poking", "handles", "field_network"},
    "structures": {
        *("forecasting", "fields", "refinement"),  # the paper's forecasts, ours, and the second pass
        *("structure_maps", "displacements", "poses", "expressions", "painting"),
    },
}
"""At most three more, each explained in the system's README."""
MOST_MORE = {"structures": 8}
"""Other limits: poses and faces are two conditions, forecast by two networks and then refined."""


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def module(path: Path) -> str:
    """`systems.driving.networks`; the package itself is ``."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module(path) for path in FILES}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module of this package), wherever in the file; `from a import b` counts as `a.b` where that is one."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name == "stillmotion" or name.startswith("stillmotion."):
                inner = name.removeprefix("stillmotion").removeprefix(".")
                yield node.lineno, inner if inner in MODULES else inner.rpartition(".")[0]


def calls(path: Path) -> Iterator[tuple[int, str, ast.Call]]:
    """(line, dotted name, call) of every call of something that has a name."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func), node


def within(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


def not_allowed(path: Path) -> list[str]:
    here = module(path)
    room = here.split(".")[0]
    allowed = MAY_KNOW[room] | ({room} if room else set())
    wrong = [
        f"{here}:{line} knows {known or 'the package itself'}"
        for line, known in imports(path)
        if not any(within(known, other) for other in allowed)
    ]
    own = [name for name in SYSTEMS if within(here, f"systems.{name}")]
    wrong += [
        f"{here}:{line} knows the system {other}"
        for line, known in imports(path)
        for other in SYSTEMS
        if within(here, "systems") and within(known, f"systems.{other}") and other not in own
    ]
    return wrong


# --- arrows --------------------------------------------------------------------------------------------------------
def test_every_room_has_its_arrows() -> None:
    assert {module(path).split(".")[0] for path in FILES} == set(MAY_KNOW)


def test_the_arrows_themselves_point_down() -> None:
    order = list(MAY_KNOW)
    for room, known in MAY_KNOW.items():
        if room:
            lower = {other.split(".")[0] for other in known if room not in LAZY}
            assert all(order.index(other) < order.index(room) for other in lower), room


def test_nothing_points_up() -> None:
    assert [wrong for path in FILES for wrong in not_allowed(path)] == []


def test_a_wrong_arrow_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check itself: the same file with less allowed, and a system that is not its own."""
    animating = SOURCE / "systems" / "driving" / "animating.py"
    assert not_allowed(animating) == []
    monkeypatch.setitem(MAY_KNOW, "systems", {"errors"})
    assert any("knows options" in wrong for wrong in not_allowed(animating))
    monkeypatch.setattr(sys.modules[__name__], "SYSTEMS", ["driving.config"])
    assert any("knows the system driving.config" in wrong for wrong in not_allowed(animating))


def test_systems_have_the_same_rooms_and_at_most_three_more() -> None:
    for system in SYSTEMS:
        folder = SOURCE / "systems" / system
        names = {path.stem for path in folder.glob("*.py")}
        assert names >= ROOMS, system
        assert names - ROOMS == MORE_ROOMS[system], system
        assert len(names - ROOMS) <= MOST_MORE.get(system, 3), system
        readme = (folder / "README.md").read_text(encoding="utf-8")
        assert all(f"`{name}.py`" in readme for name in names - {"__init__"}), system


def module_imports(path: Path) -> set[str]:
    """Modules that are imported when this one is, without those that only a function or a type checker needs."""
    found = set()
    for node in tree(path).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [
                f"{node.module}.{alias.name}" for alias in node.names
            ]  # fmt: skip
            for name in names:
                inner = name.removeprefix("stillmotion").removeprefix(".")
                found.add(inner if inner in MODULES else inner.rpartition(".")[0])
    return {name for name in found if name in MODULES and name}


def test_no_import_runs_in_a_circle() -> None:
    graph = {module(path): module_imports(path) for path in FILES}

    def reaches(start: str) -> bool:
        seen, ahead = set(), list(graph[start])
        while ahead:
            name = ahead.pop()
            if name == start:
                return True
            if name not in seen:
                seen.add(name)
                ahead += graph[name]
        return False

    assert [name for name in graph if reaches(name)] == []


def test_training_only_needs_data_for_its_loader() -> None:
    known = {name for path in (SOURCE / "training").glob("*.py") for _, name in imports(path)}
    assert {name for name in known if within(name, "data")} <= {"data.sampling"}


# --- what is never done --------------------------------------------------------------------------------------------
def test_nothing_that_runs_code_out_of_files() -> None:
    modules = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "yaml", "joblib"}
    functions = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load", "torch.jit.load"}
    for path in FILES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Import):
                assert not modules & {alias.name.split(".")[0] for alias in node.names}, f"{path}:{node.lineno}"
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in modules, f"{path}:{node.lineno}"
        for line, name, call in calls(path):
            # Checkpoints of other code: read by a program of its own, for tensors alone.
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            reader = module(path) == "importing.checkpoint_reader" and keywords.get("weights_only") == "True"
            assert name not in functions or (name == "torch.load" and reader), f"{path}:{line}: {name}"
            for keyword in call.keywords:
                risky = keyword.arg in ("allow_pickle", "shell") and ast.unparse(keyword.value) != "False"
                assert not risky, f"{path}:{line}: {keyword.arg}"


def test_the_reader_of_checkpoints_is_a_program_of_its_own() -> None:
    assert not list(imports(SOURCE / "importing" / "checkpoint_reader.py"))
    assert not [path for path in FILES for _, name in imports(path) if name == "importing.checkpoint_reader"]


def test_nothing_reaches_for_the_network() -> None:
    modules = {"urllib", "http", "socket", "requests", "httpx", "aiohttp", "ftplib", "huggingface_hub"}
    for path in FILES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Import):
                names = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names = {(node.module or "").split(".")[0]}
            else:
                continue
            # The processes of a training on one machine find each other over a local socket.
            if path != SOURCE / "training" / "distributed.py":
                assert not names & modules, f"{path}:{node.lineno}"


def test_convention_every_sampling_says_align_corners() -> None:
    seen = 0
    for path in FILES:
        for line, name, call in calls(path):
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            last = name.rpartition(".")[2]
            if last in ("grid_sample", "affine_grid"):
                seen += 1
                assert keywords.get("align_corners") == "True", f"{path}:{line}"
            if last == "interpolate" and keywords.get("mode") in ("'bilinear'", "'bicubic'"):
                seen += 1
                assert "align_corners" in keywords, f"{path}:{line}"
    assert seen >= 2


def test_convention_random_numbers_come_from_a_generator() -> None:
    """No hidden stream of numpy or of the standard library; only trainings seed torch's own, once."""
    for path in FILES:
        for line, name, _ in calls(path):
            if module(path) == "training.state":  # stores and restores every stream
                continue
            hidden = re.match(r"(np|numpy)\.random\.(?!default_rng\b|Generator\b|PCG64\b|SeedSequence\b)", name)
            assert not hidden, f"{path}:{line}: {name}"
            assert not re.match(r"random\.", name), f"{path}:{line}: {name}"
            if name == "torch.manual_seed":
                assert module(path) in ("train", "training.loop"), f"{path}:{line}"


# --- size and text -------------------------------------------------------------------------------------------------
def test_files_stay_short() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in FILES}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode:  # an unpacked source archive has no history
        return [path for folder in ("src", "tests", "docs") for path in (ROOT / folder).rglob("*") if path.is_file()]
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


def test_no_place_of_one_machine_in_the_text() -> None:
    """Written in halves, so that this file does not find itself."""
    forbidden = re.compile("/wo" + "rk/|py" + "pi|/ho" + "me/|/ro" + "ot/")
    found = []
    for path in tracked():
        content = path.read_bytes()
        if b"\0" in content:
            continue
        lines = content.decode("utf-8").splitlines()
        found += [f"{path.relative_to(ROOT)}:{i}" for i, line in enumerate(lines, 1) if forbidden.search(line)]
    assert found == []


def test_every_convention_is_pinned_and_every_pin_explained() -> None:
    told = set(re.findall(r"test_convention_\w+", (ROOT / "docs" / "conventions.md").read_text()))
    pinned = {
        name
        for path in (ROOT / "tests").glob("test_*.py")
        for name in re.findall(r"^def (test_convention_\w+)", path.read_text(), re.MULTILINE)
    }
    assert told == pinned


# --- lightness -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "program",
    ["import stillmotion", "from stillmotion.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit: pass"],
    ids=["import", "help"],
)
def test_nothing_heavy_is_imported_before_it_is_needed(program: str) -> None:
    heavy = ("torch", "cv2", "av", "numpy", "PIL", "pydantic", "accelerate")
    probe = f"{program}\nimport sys\nprint([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
