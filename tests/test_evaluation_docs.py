"""docs/evaluation.md: its commands and code run as written, and it names every column and network."""

import hashlib
import re
import shlex
from pathlib import Path

import pytest
import torch

from driving_tools import driving_frames, tiny_driving
from refusals import refuses
from stillmotion.cli import main
from stillmotion.data.clip import Clip
from stillmotion.data.info import DatasetInfo
from stillmotion.data.shards import write_dataset
from stillmotion.evaluation.extractors import EXTRACTORS, open_extractors
from stillmotion.evaluation.extractors.keypoints import DETECTORS
from stillmotion.evaluation.protocols import PROTOCOLS
from stillmotion.files import read_weights

PAGE = (Path(__file__).parents[1] / "docs" / "evaluation.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    inside = re.split(r"^```", PAGE, flags=re.MULTILINE)[1::2]
    return [text.partition("\n")[2] for text in inside if text.partition("\n")[0] == language]


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On a tiny model and two short clips in place of those named."""
    monkeypatch.chdir(tmp_path)
    tiny_driving().save_pretrained(tmp_path / "driving-demo")
    clips = [Clip(name, driving_frames(3), 25.0, meta={"split": "test"}) for name in ("a", "b")]
    write_dataset(tmp_path / "data" / "mine", clips, info=DatasetInfo(title="made"))
    commands = [line for block in blocks("") for line in block.splitlines()]
    assert len(commands) == 2
    for command in commands:
        words = shlex.split(command)
        assert words.pop(0) == "stillmotion"
        if "keypoints=blazepose" in words:
            pytest.importorskip("mediapipe")
        assert main(words) == 0, command
        assert "copy the still" in capsys.readouterr().out
    assert (tmp_path / "report-transfer" / "a--b.png").is_file()


def test_metric_code() -> None:
    exec(compile(blocks("python")[0], "evaluation.md", "exec"), {})


def test_conversion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A published file becomes one that is read back, with the digest that is printed; another file is refused."""
    monkeypatch.chdir(tmp_path)
    torch.save({"fc.bias": torch.arange(3.0)}, "made.pth")
    digits = hashlib.sha256(Path("made.pth").read_bytes()).hexdigest()[:8]
    code = blocks("python")[1]
    assert "weights-0123abcd.pth" in code
    Path("made.pth").rename(f"weights-{digits}.pth")
    exec(compile(code.replace("0123abcd", digits), "evaluation.md", "exec"), {})
    file, _, digest = capsys.readouterr().out.strip().partition("@")
    assert read_weights(Path(file), digest)["fc.bias"].tolist() == [0, 1, 2]
    Path(f"weights-{digits}.pth").rename("weights-0123abcd.pth")
    refuses("not the published file", exec, compile(code, "evaluation.md", "exec"), {}, error=AssertionError)


def test_every_column_protocol_and_network_is_on_the_page() -> None:
    for protocol in PROTOCOLS.values():
        assert f"| `{protocol.name}` |" in PAGE
        for column in protocol.columns:
            assert f"| {column.name.replace('motion AKD (Euclidean)', 'motion AKD')} |" in PAGE
    for name in (*EXTRACTORS, *DETECTORS):
        assert name in PAGE
    assert open_extractors([]) == {}


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ("keypoints", "name=value"),
        ("smell=x", "no network 'smell'"),
        ("inception=missing.safetensors@00", "cannot be read"),
    ],
)
def test_wrong_networks_are_refused_before_anything_is_read(
    given: str, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "dancing", "nothing", "-o", str(tmp_path / "out"), "--network", given]) == 2
    assert word in capsys.readouterr().err
