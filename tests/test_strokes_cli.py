"""`stillmotion animate --stroke ...`, whole: a saved model, a still on disk, a video out."""

import json
from pathlib import Path

import numpy as np
import pytest

from stillmotion import Stroke, media
from stillmotion.animate import load
from stillmotion.data.object_detection import find_object
from stillmotion.options import read_points
from stillmotion.systems.strokes.animating import leaving
from strokes_tools import spot, tiny_strokes
from test_cli import Capture, run, sentence


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a strokes model, a still, a stroke and a video in which something moves."""
    folder = tmp_path_factory.mktemp("strokes")
    tiny_strokes(card={"data": "made", "fps": 10.0}).save_pretrained(folder / "tiny")
    media.write_picture(folder / "me.png", spot((48, 64)))
    (folder / "wave.json").write_text(json.dumps({"points": [[11, 13], [30, 30]], "times": [0, 0.5]}))
    (folder / "bad.json").write_text('{"points": [[1, 2]]}')
    media.write_video(folder / "walk.png", iter(np.stack([spot((48, 64), 4 + 3 * t, 17, 8) for t in range(9)])), 12)
    return folder


def animate(shelf: Path, out: Path, *more: str, model: str = "tiny") -> list[str]:
    places = [word.replace("{shelf}", str(shelf)) for word in more]
    found = str(shelf / model) if (shelf / model).is_dir() else model
    return ["animate", str(shelf / "me.png"), "--model", found, "-o", str(out), *places]


def test_a_stroke_in_text_makes_a_video(shelf: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out.mp4"
    assert run(animate(shelf, out, "--stroke", "11,13 30,30", "--frames", "4")) == 0
    assert capsys.readouterr().out == f"{out}: 4 frames at 10 per second\n"
    assert media.read_video(out)[0].shape == (4, 48, 64, 3)


def test_the_command_line_makes_the_frames_that_python_makes(shelf: Path, tmp_path: Path) -> None:
    from stillmotion import Stroke

    options = ["--stroke", "11,13 30,30 30,20", "--spacing", "even", "--attach", "--fps", "8", "--frames", "5"]
    assert run(animate(shelf, tmp_path / "out.png", *options)) == 0
    stroke = Stroke([[11, 13], [30, 30], [30, 20]], spacing="even", attach=True, fps=8)
    expected = load(shelf / "tiny")(shelf / "me.png", stroke, 5)
    assert expected.fps == 8
    frames, _ = media.read_video(tmp_path / "out.png", frame_width=64)
    assert np.array_equal(frames, expected.frames())


def test_a_stroke_in_a_file_has_times(shelf: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out.png"
    assert run(animate(shelf, out, "--stroke", "{shelf}/wave.json", "--fps", "12")) == 0
    assert capsys.readouterr().out == f"{out}: 7 frames at 12 per second\n"  # half a second, both ends


def test_a_stroke_is_taken_from_a_video(shelf: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "frames"
    assert run(animate(shelf, out, "--stroke-from", "{shelf}/walk.png", "--layers", str(tmp_path / "layers"))) == 0
    assert capsys.readouterr().out.startswith(f"{out}: 9 frames at ")
    names = sorted(path.name for path in (tmp_path / "layers").iterdir())
    assert names == ["change", "encoding", "figure", "plate", "stroke"]


def test_a_stroke_that_begins_with_a_minus_is_a_stroke(shelf: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out.png"
    assert run(animate(shelf, out, "--stroke", "-5,13 30,30", "--frames", "3")) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{out}: 3 frames at 10 per second\n"
    assert captured.err.startswith("stillmotion: The stroke leaves the picture at frame 0 (x -5, y 13 ")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ([], "--stroke POINTS, --stroke-from VIDEO"),
        (["--stroke", "1,2 3,4", "--predict"], "--drive VIDEO"),
        (["--stroke", "1,2 3,4", "--stroke-from", "{shelf}/walk.png"], "--drive VIDEO"),
        (["--stroke", "hello"], "'10,20 40,35'"),
        (["--stroke", "1,2"], "points must be 2 to 10000"),
        (["--stroke", "{shelf}/bad.json"], "points must be 2 to 10000"),
        (["--stroke", "{shelf}/missing.json"], "missing.json does not exist"),
        (["--stroke-from", "{shelf}/missing.mp4"], "missing.mp4"),
        (["--stroke", "1,2 3,4", "--spacing", "fast"], "--spacing"),
        (["--stroke", "1,2 3,4", "--fps", "0"], "--fps"),
        (
            ["--stroke", "1,2 3,4", "--transfer", "absolute"],
            "--transfer belongs to --drive; leave it out with --stroke",
        ),
        (
            ["--drive", "{shelf}/walk.png", "--attach"],
            "--attach belongs to --stroke and --stroke-from; leave it out with --drive",
        ),
        (["--stroke", "1,2 3,4", "--tracker", "points:person"], "--tracker belongs to --stroke-from"),
        (["--stroke-from", "{shelf}/walk.png", "--tracker", "nose"], "no tracker 'nose'"),
        (["--predict", "--spacing", "even"], "--spacing belongs to --stroke and --stroke-from"),
        (["--drive", "{shelf}/walk.png"], "directed by Stroke or StrokeFrom, not by Drive"),
        (["--predict"], "directed by Stroke or StrokeFrom, not by Predict"),
        (["--stroke", "1,2 3,4", "--frames", "100001"], "more than 100000"),
    ],
    ids=lambda value: " ".join(value).replace("{shelf}/", "") if isinstance(value, list) else "",
)
def test_what_can_be_mended_is_told_in_one_sentence(
    shelf: Path, tmp_path: Path, more: list[str], word: str, capsys: Capture
) -> None:
    assert run(animate(shelf, tmp_path / "out.png", *more)) == 2
    assert word in sentence(capsys)
    assert list(tmp_path.iterdir()) == []


def test_another_systems_model_is_told_what_directs_it(shelf: Path, tmp_path: Path, capsys: Capture) -> None:
    assert run(animate(shelf, tmp_path / "out.png", "--stroke", "1,2 3,4", model="driving-puppets")) == 2
    assert "A driving model is directed by Drive or Predict, not by Stroke." in sentence(capsys)


def test_models_lists_it(shelf: Path, capsys: Capture) -> None:
    assert run(["models", str(shelf)]) == 0
    (row,) = [line.split() for line in capsys.readouterr().out.splitlines() if str(shelf / "tiny") in line]
    assert row == [str(shelf / "tiny"), "strokes", "Stroke", "32", "made", "yours"]


def test_the_bundled_strokes_start_on_the_object_of_their_still() -> None:
    examples = Path(__file__).parents[1] / "examples"
    files = sorted((examples / "strokes").glob("*.json"))
    assert len(files) >= 6
    for file in files:
        points = np.asarray(Stroke(**read_points(file)).points)
        still = media.read_picture(examples / "worlds" / f"{file.stem.partition('-')[0]}.png")
        assert leaving(points, still.shape[:2]) is None
        if file.stem.startswith("digits"):
            x0, y0, x1, y1 = find_object(still, (0.0, 0.0)) or (0, 0, 0, 0)
            assert points[0] == pytest.approx([(x0 + x1) / 2, (y0 + y1) / 2], abs=3)


def test_saved_weights_come_back_bit_for_bit(tmp_path: Path) -> None:
    system = tiny_strokes(generator__norm="spectral", losses__gan=1.0)
    system.save_pretrained(tmp_path / "model")
    back = load(tmp_path / "model").system
    assert back.config == system.config
    before, after = system.shipped().state_dict(), back.shipped().state_dict()
    assert list(before) == list(after)
    assert any(name.endswith(".u") for name in before)  # the spectral norm's vectors are weights, too
    assert not any("discriminator" in name for name in before)
    assert all((before[name] == after[name]).all() for name in before)
