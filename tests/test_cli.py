"""The command line: every verb, and one sentence for everything the person can mend."""

import dataclasses
import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from driving_tools import driving_frames, still_picture, tiny_driving
from refusals import refuses
from stillmotion import cli, media
from stillmotion.cli.terminal import Progress, printed_warnings
from stillmotion.data.clip import Clip
from stillmotion.data.info import DatasetInfo
from stillmotion.data.shards import write_dataset
from stillmotion.errors import StillmotionWarning
from stillmotion.version import __version__

VERBS = ["animate", "explain", "models", "prepare", "world", "train", "evaluate", "bench", "import", "weights"]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, a still, a driving strip, and files that are not what their names say."""
    folder = tmp_path_factory.mktemp("shelf")
    tiny_driving(card={"data": "made"}).save_pretrained(folder / "tiny")
    Image.fromarray(still_picture((47, 83))).save(folder / "me.png")
    media.write_video(folder / "wave.png", iter(driving_frames(5)), 10)
    (folder / "notes.mp4").write_text("not a video at all\n" * 20)
    (folder / "notes.png").write_text("not a picture at all\n" * 20)
    clips = [Clip("a", driving_frames(3), 25.0, meta={"split": "train"})]
    write_dataset(folder / "set", clips, info=DatasetInfo(title="made"))
    return folder


def test_a_trained_run_is_listed_as_one(shelf: Path, tmp_path: Path, capsys: Capture) -> None:
    tiny_driving().save_pretrained(tmp_path / "run" / "model")
    assert run(["models", str(tmp_path)]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:] if str(tmp_path) in line] == [
        str(tmp_path / "run")
    ]


def run(arguments: list[str]) -> int:
    """The exit code, whether returned or raised by the parser."""
    try:
        return cli.main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)


def animate(shelf: Path, out: Path, *more: str, **changes: str) -> list[str]:
    options = {
        "still": str(shelf / "me.png"),
        "model": str(shelf / "tiny"),
        "drive": str(shelf / "wave.png"),
        **changes,
    }
    still, model, drive = (options[name] for name in ("still", "model", "drive"))
    return ["animate", still, "--model", model, "--drive", drive, "-o", str(out), *more]


def sentence(capsys: Capture) -> str:
    """What was said on stderr: one line, no traceback, nothing on stdout."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("stillmotion: ")
    assert captured.err.rstrip("\n").endswith(".")
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    return captured.err


# --- help ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("arguments", [["--help"], *([verb, "--help"] for verb in VERBS)], ids=" ".join)
def test_help_of_every_verb(arguments: list[str], capsys: Capture) -> None:
    assert run(arguments) == 0
    assert "usage: stillmotion" in capsys.readouterr().out


def test_the_verbs_are_those_tested_here(capsys: Capture) -> None:
    run(["--help"])
    text = capsys.readouterr().out
    assert [word for word in VERBS if f"\n    {word} " not in text] == []
    assert text.count("\n    ") == len(VERBS)


def test_version(capsys: Capture) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"stillmotion {__version__}\n"


def test_help_imports_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "cv2", "av", "PIL", "pydantic", "accelerate")
    program = f"""
import contextlib, io, sys
from stillmotion.cli import main
for words in {[["--help"], *([verb, "--help"] for verb in VERBS)]}:
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        main(words)
print([name for name in {heavy} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "typed",
    [
        "train driving -o run A B",
        "train -o run driving A B",
        "train driving A -o run B",
        "train -o run -- driving A B",
    ],
)
def test_values_stand_before_between_and_after_options(typed: str) -> None:
    values = vars(cli.parser().parse_args(typed.split()))
    assert (values["system"], values["out"], tuple(values["data"])) == ("driving", "run", ("A", "B"))


def test_what_no_option_is_stays_unknown(capsys: Capture) -> None:
    assert run(["train", "driving", "-o", "run", "A", "--unknown"]) == 2
    assert "unrecognized arguments: --unknown" in sentence(capsys)
    assert run(["animate", "--model", "m", "-o", "x.mp4"]) == 2
    assert "required: STILL" in sentence(capsys)


# --- animate -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["out.mp4", "out.webm", "out.gif", "out.png", "frames"])
def test_animate_into_every_kind_of_file(shelf: Path, tmp_path: Path, name: str, capsys: Capture) -> None:
    out = tmp_path / name
    assert run(animate(shelf, out, "--frames", "3")) == 0
    assert capsys.readouterr().out == f"{out}: 3 frames at 10 per second\n"
    width = {"frame_width": 83} if name == "out.png" else {}
    frames, _ = media.read_video(out, **width)
    assert len(frames) == 3
    # Video codecs want even sides.
    assert frames.shape[1:3] in ((47, 83), (46, 82), (48, 84))
    if name in ("out.gif", "out.png", "frames"):
        assert frames.shape[1:3] == (47, 83)


def test_animate_with_layers_and_options(shelf: Path, tmp_path: Path) -> None:
    more = ["--layers", str(tmp_path / "layers"), "--size", "model", "--transfer", "absolute", "--seed", "1"]
    assert run(animate(shelf, tmp_path / "out.png", *more)) == 0
    assert media.read_video(tmp_path / "out.png")[0].shape == (5, 32, 32, 3)
    assert (tmp_path / "layers" / "keypoints.png").is_file()
    relative = ["--scale-motion", "--clip-mean", "--adapt-covariance", "-y"]
    assert run(animate(shelf, tmp_path / "out.png", *relative)) == 0


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"still": "missing.png"}, "missing.png"),
        ({"still": "notes.png"}, "notes.png"),
        ({"still": "."}, "folder"),
        ({"drive": "missing.mp4"}, "missing.mp4"),
        ({"drive": "notes.mp4"}, "notes.mp4"),
        ({"model": "dancing"}, "no model"),
    ],
)
def test_animate_with_a_file_that_cannot_be_used(
    shelf: Path, tmp_path: Path, changes: dict[str, str], word: str, capsys: Capture
) -> None:
    paths = {key: value if key == "model" else str(shelf / value) for key, value in changes.items()}
    assert run(animate(shelf, tmp_path / "out.png", **paths)) == 2
    assert word in sentence(capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (["--frames", "0"], "--frames"),
        (["--frames", "-1"], "--frames"),
        (["--frames", "1.5"], "--frames"),
        (["--frames", "nan"], "--frames"),
        (["--size", "0"], "--size"),
        (["--seed", "x"], "--seed"),
        (["--transfer", "both"], "--transfer"),
        (["--dance"], "--dance"),
    ],
    ids=" ".join,
)
def test_animate_with_a_wrong_option(
    shelf: Path, tmp_path: Path, more: list[str], word: str, capsys: Capture
) -> None:
    assert run(animate(shelf, tmp_path / "out.png", *more)) == 2
    assert word in sentence(capsys)


def test_animate_without_a_control_says_what_is_missing(shelf: Path, tmp_path: Path, capsys: Capture) -> None:
    arguments = ["animate", str(shelf / "me.png"), "--model", str(shelf / "tiny"), "-o", str(tmp_path / "a.png")]
    assert run(arguments) == 2
    assert "--drive" in sentence(capsys)


def test_animate_keeps_an_existing_output(shelf: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out.png"
    out.write_bytes(b"mine")
    assert run(animate(shelf, out)) == 2
    assert "already exists" in sentence(capsys)
    assert out.read_bytes() == b"mine"
    assert run(animate(shelf, out, "-y")) == 0
    assert out.read_bytes() != b"mine"


@pytest.mark.parametrize("out", ["nowhere/out.mp4", "out.txt"])
def test_animate_into_a_place_that_cannot_be(shelf: Path, tmp_path: Path, out: str, capsys: Capture) -> None:
    assert run(animate(shelf, tmp_path / out)) == 2
    assert out.split("/")[0] in sentence(capsys)


def test_ctrl_c_stops_with_130(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(media, "resize", interrupted)
    assert run(animate(shelf, tmp_path / "out.mp4")) == 130
    assert sentence(capsys) == "stillmotion: stopped.\n"
    assert list(tmp_path.iterdir()) == []


# --- the other verbs -----------------------------------------------------------------------------------------------
def test_models_prints_a_row_each(shelf: Path, capsys: Capture) -> None:
    assert run(["models", str(shelf)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "SYSTEM", "CONTROL", "SIZE", "DATA", "LICENCE"]
    (row,) = [line.split() for line in lines if str(shelf) in line]
    assert row == [str(shelf / "tiny"), "driving", "Drive", "32", "made", "yours"]


def test_world_prepare_and_evaluate_work_together(shelf: Path, tmp_path: Path, capsys: Capture) -> None:
    made = ["world", "puppets", str(tmp_path / "set"), "--clips", "2", "--size", "32", "--frames", "3"]
    assert run([*made, "--test-share", "0.5"]) == 0
    assert "2 clips, 6 frames" in capsys.readouterr().out
    measured = ["evaluate", str(shelf / "tiny"), str(tmp_path / "set"), "-o", str(tmp_path / "report")]
    assert run(measured) == 0
    assert "copy the still" in capsys.readouterr().out
    assert json.loads((tmp_path / "report" / "report.json").read_text())["clips"] == 1
    (tmp_path / "videos").mkdir()
    media.write_video(tmp_path / "videos" / "one.gif", iter(driving_frames(4)), 25)
    assert run(["prepare", str(tmp_path / "videos"), str(tmp_path / "own"), "--size", "16"]) == 0
    assert "1 clips, 4 frames, 0 files left out" in capsys.readouterr().out


TRAIN = ["train", "driving", "{shelf}/set", "-o", "{out}"]
JOINT = "motion_stages.joint"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["prepare", "{shelf}/missing", "{out}"], "missing"),
        (["prepare", "{shelf}", "{out}", "--size", "0"], "--size"),
        (["prepare", "{shelf}", "{out}", "--fps", "nan"], "--fps"),
        (["prepare", "{shelf}", "{out}", "--fps", "-3"], "--fps"),
        (["prepare", "{shelf}", "{out}", "--crop", "1,2"], "crop"),
        (["prepare", "{shelf}", "{out}", "--tracks", "smell"], "smell"),
        (["prepare", "{shelf}", "{out}", "--layout", "spiral"], "spiral"),
        (["prepare", "{shelf}", "{out}", "--hold-out", "subject"], "name=value"),
        (["world", "dancers", "{out}"], "dancers"),
        (["world", "puppets", "{out}", "--size", "0"], "--size"),
        (["world", "puppets", "{out}", "--frames", "-1"], "--frames"),
        (["world", "puppets", "{out}", "--test-share", "nan"], "nan"),
        (["world", "puppets", "{shelf}/notes.mp4", "--clips", "1", "--frames", "1"], "notes.mp4"),
        (["train", "dancing", "{shelf}/set", "-o", "{out}"], "no system 'dancing'"),
        (["train", "driving", "{shelf}/missing", "-o", "{out}"], "missing"),
        ([*TRAIN, "--preset", "huge"], "no preset 'huge'"),
        ([*TRAIN, "--set", "colour=1"], "'colour'"),
        ([*TRAIN, "--set", "size"], "name=value"),
        ([*TRAIN, "--set", f"{JOINT}.learning_rate=nan"], "learning_rate"),
        ([*TRAIN, "--set", f"{JOINT}.batch=many"], "batch"),
        ([*TRAIN, "--set", "size=32", "--set", f"{JOINT}.augmentation=odd"], "'odd'"),
        ([*TRAIN, "--set", "size=32", "--stages", "dance"], "no stage 'dance'"),
        ([*TRAIN, "--parts", "eyes", "--from", "{shelf}/tiny"], "eyes"),
        ([*TRAIN, "--precision", "fp16"], "--precision"),
        ([*TRAIN, "--minutes", "nan"], "--minutes"),
        ([*TRAIN, "--minutes", "0"], "--minutes"),
        ([*TRAIN, "--steps", "0"], "--steps"),
        ([*TRAIN, "--workers", "-1"], "workers"),
        (TRAIN, "--set size=32"),
        (["train", "driving", "{shelf}/set@0", "-o", "{out}"], "at least once"),
        ([*TRAIN, "--from", "dancing", "--set", "size=32"], "no model"),
        (["evaluate", "{shelf}/tiny", "{shelf}/missing", "-o", "{out}"], "missing"),
        (["evaluate", "{shelf}/tiny", "{shelf}/set", "-o", "{out}", "--protocol", "magic"], "no protocol 'magic'"),
        (["evaluate", "{shelf}/tiny", "{shelf}/set", "-o", "{out}", "--split", "odd"], "split 'odd'"),
        (["evaluate", "dancing", "{shelf}/set", "-o", "{out}", "--split", "all"], "no model"),
        (["evaluate", "{shelf}/tiny", "{shelf}/set", "-o", "{shelf}/notes.mp4", "--split", "all"], "notes.mp4"),
        (["bench", "dancing", "-o", "{out}"], "no model"),
        (["bench", "{shelf}/tiny", "-o", "{out}", "--repeats", "0"], "--repeats"),
        (["juggle"], "juggle"),
        ([], "VERB"),
    ],
    ids=lambda value: " ".join(value).replace("{shelf}/", "").replace("{out}", "") if isinstance(value, list) else "",
)
def test_what_can_be_mended_is_told_in_one_sentence(
    shelf: Path, tmp_path: Path, arguments: list[str], word: str, capsys: Capture
) -> None:
    filled = [part.replace("{shelf}", str(shelf)).replace("{out}", str(tmp_path / "out")) for part in arguments]
    assert run(filled) == 2
    assert word in sentence(capsys)
    assert not (tmp_path / "out").exists()


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture) -> None:
    monkeypatch.delitem(sys.modules, "stillmotion.train", raising=False)
    monkeypatch.setitem(sys.modules, "accelerate", None)
    for name in [name for name in sys.modules if name.startswith("stillmotion.training")]:
        monkeypatch.delitem(sys.modules, name)
    assert run(["train", "driving", str(tmp_path), "-o", str(tmp_path / "run")]) == 2
    said = sentence(capsys)
    assert "'accelerate'" in said
    assert "stillmotion[train,eval]" in said


def test_mistakes_of_the_library_are_not_dressed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclasses.dataclass(frozen=True)
    class Broken:
        """A verb."""

        def run(self) -> None:
            raise TypeError("a bug")

    monkeypatch.setattr(cli, "VERBS", [Broken])
    refuses("a bug", cli.main, ["broken"], error=TypeError)


def test_the_module_runs_as_a_program(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "stillmotion", "animate", "me.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("stillmotion: the following arguments are required: --model")


def test_progress_is_quiet_for_short_work(capsys: Capture) -> None:
    with Progress("frames", 10) as progress:
        for done in range(1, 11):
            progress.reached(done)
    assert capsys.readouterr().err == ""


def test_progress_tells_rate_and_time_left_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    now = [0.0]
    monkeypatch.setattr("stillmotion.cli.terminal.time.monotonic", lambda: now[0])
    with Progress("frames", 100) as progress:
        for done in (1, 20, 40):
            now[0] += 4
            progress.reached(done)
    assert capsys.readouterr().err == "20 frames, 2.5 per second, 32 s left\n"


def test_warnings_are_printed_as_sentences(capsys: Capture) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with printed_warnings():
            for text in ("It will not fit.", "It is dark.", "It will not fit."):
                warnings.warn(text, StillmotionWarning, stacklevel=1)
    assert capsys.readouterr().err == "stillmotion: It will not fit.\nstillmotion: It is dark.\n"
    with pytest.warns(RuntimeWarning, match="other"), printed_warnings():
        warnings.warn("other", RuntimeWarning, stacklevel=1)
