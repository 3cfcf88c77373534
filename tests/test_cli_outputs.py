"""Where the verbs write: nothing unasked, nothing half, and what cannot be written is refused before the work."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from driving_tools import tiny_driving
from stillmotion import cli, media
from stillmotion.data.clip import Clip
from stillmotion.data.info import DatasetInfo
from stillmotion.data.pool import map_in_order
from stillmotion.data.shards import write_dataset

FRAMES = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3), np.uint8)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: a model, a still, a driving video and a data set."""
    monkeypatch.chdir(tmp_path)
    tiny_driving().save_pretrained(tmp_path / "tiny")
    Image.fromarray(FRAMES[0]).save("me.png")
    media.write_video("wave.gif", iter(FRAMES), 10)
    write_dataset("set", [Clip("a", FRAMES, 25.0)], info=DatasetInfo())
    return tmp_path


ANIMATE = ["animate", "me.png", "--model", "tiny", "--drive", "wave.gif"]
EVALUATE = ["evaluate", "tiny", "set", "--split", "all", "-o", "report"]


def test_reports_replace_nothing_unasked(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shelf / "report").mkdir()
    mine = [shelf / "report" / "report.md", shelf / "holiday.json"]
    for path in mine:
        path.write_text("mine")
    assert cli.main(EVALUATE) == 2
    assert cli.main(["bench", "tiny", "-o", "holiday.json"]) == 2
    assert [path.read_text() for path in mine] == ["mine", "mine"]
    assert capsys.readouterr().err.count("--overwrite") == 2
    assert cli.main([*EVALUATE, "-y"]) == 0
    assert mine[0].read_text() != "mine"


def test_a_full_disk_leaves_the_old_report(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli.main(EVALUATE) == 0
    before = (shelf / "report" / "report.md").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    assert cli.main([*EVALUATE, "-y"]) == 2
    assert (shelf / "report" / "report.md").read_bytes() == before


@pytest.mark.parametrize(
    ("out", "layers"),
    [("frames", "frames/layers"), ("frames", "frames"), ("warped.gif", "."), ("warped.gif", "../{}")],
)
def test_layers_that_would_lie_in_the_result_are_refused_before_the_work(shelf: Path, out: str, layers: str) -> None:
    before = {path.name for path in shelf.iterdir()}
    assert cli.main([*ANIMATE, "-o", out, "--layers", layers.format(shelf.name)]) == 2
    assert {path.name for path in shelf.iterdir()} == before


def test_a_data_set_with_other_files_in_its_folder_is_not_replaced(shelf: Path) -> None:
    world = ["world", "puppets", "set", "--clips", "1", "--size", "32", "--frames", "2", "-y"]
    (shelf / "set" / "notes.txt").write_text("mine")
    assert cli.main(world) == 2
    assert (shelf / "set" / "notes.txt").read_text() == "mine"
    (shelf / "set" / "notes.txt").unlink()
    assert cli.main(world) == 0


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP])
def test_a_process_that_is_ended_leaves_nothing(tmp_path: Path, ending: signal.Signals) -> None:
    command = [sys.executable, "-m", "stillmotion", "world", "puppets", str(tmp_path / "set"), "--clips", "5000"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not list(tmp_path.glob(".*/*")) and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(ending)
    assert process.wait(60) == 128 + ending
    assert list(tmp_path.iterdir()) == []


def double(number: int) -> int:
    return 2 * number


def test_processes_that_cannot_start_are_not_blamed_on_the_work(tmp_path: Path) -> None:
    """A script without a main guard, which every process of several jobs runs again."""
    script = tmp_path / "script.py"
    call = "list(map_in_order(abs, [1, 2], 2, str))"
    script.write_text(f"from stillmotion.data.pool import map_in_order\nprint({call})\n")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "__main__" in done.stderr.splitlines()[-1]
    assert list(map_in_order(double, [1, 2], 2, double)) == [2, 4]


FULL, DONE = "> /dev/full", "stillmotion: The work is done, but standard output is full"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no full device")
@pytest.mark.parametrize(
    ("words", "to", "code", "said"),
    [
        ("models $'\\xff'", FULL, 2, DONE),  # buffered, so that it is at the end that nothing can be written
        ("PYTHONUNBUFFERED=1 models", FULL, 2, DONE),
        ("PYTHONUNBUFFERED=1 models", "| true", 0, ""),
        ("models $'\\xff'", "> told", 0, ""),
        ("models", ">&-", 0, ""),
        ("models", "2>&-", 0, ""),
        ("models --unknown", "2> /dev/full", 2, ""),
        ("explain no.png --model no -o x.png", "2> /dev/full", 2, ""),
    ],
)
def test_what_cannot_be_printed_is_no_traceback(tmp_path: Path, words: str, to: str, code: int, said: str) -> None:
    setting, _, words = words.rpartition("=1 ")
    start = f"{setting}=1 {sys.executable}" if setting else sys.executable
    program = f"unset PYTHONUNBUFFERED; set -o pipefail; {start} -m stillmotion {words} {to}"
    done = subprocess.run(["bash", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stderr.startswith(said) if said else not done.stderr


def test_the_work_goes_on_where_nothing_can_be_told(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`animate --samples 2 2>&1 | head -0`: both videos are there."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", buffering=1) as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        monkeypatch.setattr(sys, "stderr", closed)
        assert cli.main([*ANIMATE, "-o", "out.gif", "--samples", "2"]) == 0
    assert (shelf / "out-002.gif").exists()
