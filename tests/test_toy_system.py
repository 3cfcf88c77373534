"""A system is a folder and nothing else: one that only this test knows goes through every verb."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import stillmotion
from stillmotion import cli, media, systems
from stillmotion.animate import find_system, load, system_names
from stillmotion.data.examples import moving_square
from stillmotion.data.info import DatasetInfo
from stillmotion.data.shards import write_dataset
from stillmotion.files import load_tensors

ROOT = Path(__file__).parents[1]

DECLARED = '''
"""A toy: the whole still slides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stillmotion.options import Control, option


@dataclass(frozen=True)
class Slide(Control):
    """Slide to the right."""

    given_by: ClassVar[str] = "--slide"
    speed: float = option("--slide", metavar="SPEED", parse=float, above=0, help="slide by so many pixels a frame")


CONTROLS = (Slide,)
'''

ANIMATING = """
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch

from stillmotion.systems.base import Rollout, Step, System
from stillmotion.systems.toy import CONTROLS, Slide


@dataclass(frozen=True)
class ToyConfig:
    size: int = 32
    steps: int = 4


class Toy(System):
    name, controls, config_class, main_stage = "toy", CONTROLS, ToyConfig, "fit"
    presets = {"small": ToyConfig()}

    @classmethod
    def build(cls, config, card=None):
        return cls(config, torch.nn.Linear(1, 1), card)

    def control_of(self, clip):
        return Slide(1.0)

    def rollout(self, still, control, output):
        return Sliding(still, control, output.frames or 5)


class Sliding(Rollout):
    fps = 10.0

    def __init__(self, still, control, frames):
        self.still, self.control, self.left, self.way = still, control, frames if control else 0, 0.0

    def __next__(self):
        frame = np.roll(self.still, round(self.way), axis=1)
        self.left, self.way = self.left - 1, self.way + (self.control.speed if self.control else 0)
        return Step(frame, {"still": self.still}, {"way": np.asarray(self.way)})

    def send(self, control):
        self.control, self.left = control, self.left + 5

    @property
    def done(self):
        return self.left <= 0

    def close(self):
        pass
"""

TRAINING = """
from types import SimpleNamespace

import torch

from stillmotion.data.sampling import FrameDataset


def stages(system, clips, preview_clips, only, seed):
    net = system.networks
    optimizer = torch.optim.SGD(net.parameters(), 0.1)

    def step(batch, update):
        loss = (net(batch["frame"].mean().view(1, 1)) - 1).square().mean()
        update("net", loss)
        return {"loss": loss.detach()}

    return [
        SimpleNamespace(
            name="fit", steps=system.config.steps, batch=2, networks={"net": net}, optimizers={"net": optimizer},
            dataset=FrameDataset(clips, seed), step=step,
        )
    ]
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the toy system, found beside the others; forgotten afterwards."""
    folder = tmp_path / "systems" / "toy"
    folder.mkdir(parents=True)
    for name, text in (("__init__", DECLARED), ("animating", ANIMATING), ("training", TRAINING)):
        (folder / f"{name}.py").write_text(text)
    monkeypatch.setattr(systems, "__path__", [*systems.__path__, str(folder.parent)])
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("stillmotion.systems.toy")]:
        del sys.modules[name]
    if hasattr(systems, "toy"):
        del systems.toy


def script(path: str) -> ModuleType:
    spec = util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


def run(*arguments: str) -> None:
    assert cli.main(list(arguments)) == 0


def test_a_folder_is_all_a_system_needs(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "toy" in system_names()
    slide = stillmotion.Slide
    clip = moving_square(32, 6)
    parts = [
        replace(clip, name=f"c{i}", meta={**clip.meta, "split": s}) for i, s in enumerate(["train", "train", "test"])
    ]
    write_dataset(toy / "data", parts, info=DatasetInfo(title="made"))

    # train, stop, resume; the model is listed
    run("train", "toy", str(toy / "data"), "-o", str(toy / "run"), "--steps", "6", "--checkpoint-every", "2")
    (toy / "run" / "last.json").write_text(json.dumps({"checkpoint": "fit-000004"}))
    run("train", "toy", str(toy / "data"), "-o", str(toy / "run"), "--steps", "6", "--resume")
    capsys.readouterr()
    run("models", str(toy / "run"))
    assert any(
        line.split()[:3] == [str(toy / "run"), "toy", "Slide"] for line in capsys.readouterr().out.splitlines()
    )

    # animate, in Python and on the command line, whose help knows the option
    still = np.asarray(clip.frames[0])
    frames = load(toy / "run")(still, slide(2.0), 3).frames()
    assert np.array_equal(frames[2], np.roll(still, 4, axis=1))
    media.write_picture(toy / "me.png", still)
    run("animate", str(toy / "me.png"), "--model", str(toy / "run"), "--slide", "2", "--frames", "3", "-o",
        str(toy / "out.png"), "--layers", str(toy / "layers"))  # fmt: skip
    made, _ = media.read_video(toy / "out.png", frame_width=32)
    assert np.array_equal(made, frames)
    with pytest.raises(SystemExit):
        cli.main(["animate", "--help"])
    assert "--slide SPEED" in capsys.readouterr().out
    assert cli.main(["animate", "me.png", "--model", "m", "--slide", "0", "-o", "x.mp4"]) == 2
    assert "speed must be above 0" in capsys.readouterr().err
    assert cli.main(["animate", "me.png", "--model", "m", "--slide", "1", "--align", "best", "-o", "x.mp4"]) == 2
    assert "--align belongs to --drive" in capsys.readouterr().err

    # steered
    rollout = load(toy / "run").open(still)
    assert rollout.done
    rollout.send(slide(3.0))
    next(rollout)
    assert np.array_equal(next(rollout).frame, np.roll(still, 3, axis=1))

    # evaluate by its own protocol, and not by one that feeds another control; bench
    run("evaluate", str(toy / "run"), str(toy / "data"), "-o", str(toy / "report"))
    report = json.loads((toy / "report" / "report.json").read_text())
    assert report["protocol"] == "reconstruction"
    assert cli.main(["evaluate", str(toy / "run"), str(toy / "data"), "--protocol", "strokes", "-o", "r"]) == 2
    assert "feeds Stroke" in capsys.readouterr().err
    run("bench", str(toy / "run"), "-o", str(toy / "speed.json"), "--repeats", "1")
    assert json.loads((toy / "speed.json").read_text())["models"][str(toy / "run")]["parameters"] == 2

    # packed, and shown by the demo
    script("recipes/pack.py").main([str(toy / "run"), "toy-squares", "--zoo", str(toy / "zoo")])
    golden = load_tensors(toy / "zoo" / "toy-squares" / "golden.safetensors")
    assert golden["frames"].shape == (5, 32, 32, 3)
    assert find_system("toy").from_pretrained(toy / "zoo" / "toy-squares").card["licence"] == "Apache-2.0"


def test_the_demo_shows_it(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_system("toy").build(find_system("toy").presets["small"]).save_pretrained(toy / "toy-model")
    monkeypatch.chdir(toy)
    demo = script("examples/demo.py")
    monkeypatch.setattr(demo, "show_world", lambda *_: "")
    demo.main(["--out", str(toy / "demo"), str(toy / "toy-model")])
    assert (toy / "demo" / "toy-model" / "example-clip" / "animation.mp4").is_file()
    assert "toy-model/example-clip/animation.mp4" in (toy / "demo" / "index.html").read_text()
