"""Commands and code of README and CONTRIBUTING run as written, in a folder with just the files that they name."""

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refusals import refuses
from stillmotion import media
from stillmotion.animate import find_system, shipped_models
from stillmotion.cli import main
from stillmotion.files import change_settings
from stillmotion.worlds import sample_clip
from test_architecture import ROOMS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def blocks(language: str, document: str = README) -> list[str]:
    """Fenced blocks of one language; fences come in pairs, so every other piece between them is inside one."""
    inside = re.split(r"^```", document, flags=re.MULTILINE)[1::2]
    return [text.partition("\n")[2] for text in inside if text.partition("\n")[0] == language]


def commands() -> list[str]:
    lines = [line for block in blocks("") for line in block.splitlines()]
    return [line.partition("#")[0].strip() for line in lines if line.startswith("stillmotion ")]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the pictures that are named, wave.mp4 and my-videos/, and nothing else."""
    rng = np.random.default_rng(0)
    frames = np.repeat(np.repeat(rng.integers(0, 256, (4, 16, 16, 3), dtype=np.uint8), 6, 1), 6, 2)
    media.write_picture(tmp_path / "me.png", frames[0])
    walker = sample_clip("puppets", 7, 0, size=256, frames=1, staging="far", action="walk")
    media.write_picture(tmp_path / "far.png", walker.frames[0])
    for name in ("hero.png", "other.png"):
        media.write_picture(tmp_path / name, frames[1])
    media.write_picture(tmp_path / "plant.png", sample_clip("plants", 7, 0, size=256, frames=1).frames[0])
    media.write_picture(tmp_path / "digit.png", sample_clip("digits", 0, 0, size=96, frames=1).frames[0])
    media.write_video(tmp_path / "wave.mp4", iter(frames), fps=25)
    for name, example in (
        ("poses.json", "poses/jack.json"),
        ("mine.json", "poses/jack-still.json"),
        ("face.png", "faces/still.png"),
        ("face.json", "faces/still.json"),
        ("talk.mp4", "faces/surprise.mp4"),
        ("talk.json", "faces/surprise.json"),
    ):
        shutil.copyfile(ROOT / "examples" / example, tmp_path / name)
    (tmp_path / "my-videos").mkdir()
    for name in ("a", "b", "c"):
        media.write_video(tmp_path / "my-videos" / f"{name}.mp4", iter(frames), fps=25)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_commands_of_the_readme(folder):
    """In order, since later ones use what earlier ones made; trainings are cut to two steps, worlds to two clips."""
    seen = commands()
    assert len(seen) >= 8
    for command in seen:
        words = shlex.split(command)[1:]
        if words[0] == "train":
            words += ["--steps", "2", "--threads", "1", "--precision", "fp32"]
        if words[0] == "world":
            words += ["--clips", "3", "--frames", "2"]
        if words[0] == "evaluate":
            words += ["--split", "all"]
        assert main(words) == 0, command
    for made in (
        "out.mp4",
        "out.gif",
        "layers/flow.gif",
        "drawn.mp4",
        "runs/mine/model/model.safetensors",
        "report/report.md",
    ):
        assert (folder / made).exists(), made


def test_python_of_the_readme(folder):
    saved, steered = blocks("python")
    run(saved)
    assert (folder / "out.mp4").exists()
    names = run(steered)
    assert names["frame"].shape == (96, 96, 3)
    # Points 0 to 15 of the first stroke and 0 to 15 of the second, whose first one is the first stroke's last.
    assert len(names["frames"]) == 32
    assert np.abs(names["frames"][-1].astype(int) - names["frames"][0]).max() > 50


def run(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec", dont_inherit=True), names)
    return names


def test_models_the_readme_names_are_shipped():
    named = set(re.findall(r"\b(?:driving|strokes|pokes|actions|structures)-[a-z]+(?:-\d+)?\b", README))
    pictures = {"strokes-demo", "pokes-demo", "actions-demo", "structures-demo"}
    assert named == set(shipped_models()) | pictures


def test_settings_the_readme_names_exist():
    preset = find_system("driving").presets["small"]
    for name, value in re.findall(r"--set ([\w.]+)=(\w+)", README):
        assert change_settings(preset, {name: value}, "--set") != preset


@pytest.mark.parametrize("document", [README, CONTRIBUTING], ids=["README", "CONTRIBUTING"])
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)\)", document):
        assert (ROOT / target).exists(), target


def test_contributing_lists_the_rooms_and_members_of_a_system():
    rows = [line.split("|")[1] for line in CONTRIBUTING.splitlines() if line.startswith("| `")]
    rooms = [room for room in re.findall(r"`(\w+)\.py`", "".join(rows))]
    assert set(rooms) == ROOMS
    members = [name for row in rows if ".py" not in row for name in re.findall(r"`(\w+)(?:\([\w, ]*\))?`", row)]
    assert len(members) >= 11
    for name in members:
        assert hasattr(find_system("driving"), name), name


def test_the_control_of_contributing_is_one():
    (code,) = blocks("python", CONTRIBUTING)
    imports = "from dataclasses import dataclass\nfrom typing import ClassVar\n"
    slide = run(imports + "from stillmotion.options import Control, option\n" + code)["Slide"]
    assert slide(2.0).speed == 2.0
    refuses("speed must be above 0", slide, 0.0)


def test_no_text_holds_the_marks_of_an_unfinished_merge():
    """They had been in the README for a day."""
    texts = [
        path
        for path in ROOT.rglob("*.md")
        if not {".venv", "runs", "data", "out"} & set(path.relative_to(ROOT).parts)
    ]
    assert len(texts) > 10
    mark = re.compile(r"^(<{7}|>{7}|={7})( |$)", re.MULTILINE)
    assert [path for path in texts if mark.search(path.read_text("utf-8"))] == []
