"""`stillmotion animate --poke ...` and `explain`, whole: a saved model, a still on disk, a video or a picture out."""

from pathlib import Path

import numpy as np
import pytest

from driving_tools import tiny_driving
from pokes_state_tools import TINY_STATES
from pokes_tools import rigid_pokes, spot, tiny_pokes, wild_pokes
from stillmotion import Impulse, Poke, media
from stillmotion.animate import load
from stillmotion.systems.pokes.animating import SWINGING
from stillmotion.systems.pokes.field_network import FieldNetwork
from test_cli import Capture, run, sentence


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models of both kinds, one of another system, and a still."""
    folder = tmp_path_factory.mktemp("pokes")
    tiny_pokes(card={"data": "made", "fps": 10.0}).save_pretrained(folder / "tiny")
    wild_pokes(TINY_STATES).save_pretrained(folder / "states")
    tiny_driving().save_pretrained(folder / "driving")
    media.write_picture(folder / "me.png", spot((40, 48)))
    return folder


def animate(shelf: Path, out: Path, *more: str, model: str = "tiny") -> list[str]:
    return ["animate", str(shelf / "me.png"), "--model", str(shelf / model), "-o", str(out), *more]


def explain(shelf: Path, out: Path, *more: str, model: str = "tiny") -> list[str]:
    return ["explain", str(shelf / "me.png"), "--model", str(shelf / model), "-o", str(out), *more]


def test_places_may_begin_with_a_minus(shelf: Path, tmp_path: Path, capsys: Capture) -> None:
    """Centres of pixels are at integers, so half of the first pixel is left of 0."""
    for number, flag, text in ((0, "--poke", "-0.4,12>6,9"), (1, "--impulse", "-.25,-0.5:4,2")):
        out = tmp_path / f"{number}.png"
        assert run(animate(shelf, out, flag, text, "--frames", "4")) == 0
        control = Poke(text) if flag == "--poke" else Impulse(text)
        frames, _ = media.read_video(out, frame_width=48)
        assert np.array_equal(frames, load(shelf / "tiny")(shelf / "me.png", control, 4).frames())
    capsys.readouterr()
    assert run(animate(shelf, tmp_path / "x.png", "--poke", "1,2>3,4", "-q")) == 2
    assert "-q" in sentence(capsys)


# --- animate -------------------------------------------------------------------------------------------------------
def test_the_command_line_makes_the_frames_that_python_makes(shelf: Path, tmp_path: Path, capsys: Capture) -> None:
    options = ["--poke", "10,12>16,9", "--poke", "30,20>34,20@2", "--rise", "3", "--release", "5", "--frames", "9"]
    out = tmp_path / "out.png"
    assert run(animate(shelf, out, *options)) == 0
    assert capsys.readouterr().out == f"{out}: 9 frames at 10 per second\n"
    poke = Poke([((10, 12), (16, 9)), ((30, 20), (34, 20), 2)], rise=3, release=5)
    expected = load(shelf / "tiny")(shelf / "me.png", poke, 9)
    frames, _ = media.read_video(out, frame_width=48)
    assert np.array_equal(frames, expected.frames())
    assert np.array_equal(frames[0], spot((40, 48)))
    assert not np.array_equal(frames[3], frames[0])


@pytest.mark.parametrize("model", ["tiny", "states"])
def test_an_impulse_and_its_duration(shelf: Path, tmp_path: Path, model: str, capsys: Capture) -> None:
    out = tmp_path / "out.png"
    assert run(animate(shelf, out, "--impulse", "10,12:6,-3", "--duration", "2", model=model)) == 0
    assert f"{out}: {2 + SWINGING + 1} frames at " in capsys.readouterr().out
    frames, _ = media.read_video(out, frame_width=48)
    expected = load(shelf / model)(shelf / "me.png", Impulse("10,12:6,-3", duration=2))
    assert np.array_equal(frames, expected.frames())


def test_a_place_may_begin_with_a_minus(shelf: Path, tmp_path: Path) -> None:
    """The corner of the first pixel; written with `=`, since argparse takes it for an option otherwise."""
    assert run(animate(shelf, tmp_path / "out.png", "--poke=-0.5,-.5>3,3", "--frames", "2")) == 0


def test_layers_are_written(shelf: Path, tmp_path: Path) -> None:
    layers = tmp_path / "layers"
    assert run(animate(shelf, tmp_path / "out", "--poke", "9,9>12,9", "--layers", str(layers))) == 0
    assert sorted(path.name for path in layers.iterdir()) == ["displacement", "figure", "plate", "pokes"]


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ([], "--poke X,Y>X,Y"),
        (["--poke", "1,2>3,4", "--impulse", "1,2:3,4"], "one of"),
        (["--poke", "hello"], "must read x,y>x,y"),
        (["--poke", "1,2:3,4"], "must read x,y>x,y"),
        (["--impulse", "1,2>3,4"], "must read x,y:dx,dy"),
        (["--poke", "1,2>1,2"], "has no length"),
        (["--poke", "1,2>3,4", "--poke", "5"], "must read"),
        (["--poke", "48,2>3,4"], "48,2 is outside of the still, which is 48 x 40 pixels"),
        (["--impulse", "2,41:3,4"], "outside of the still"),
        (["--poke", "1,2>3,4", "--rise", "0"], "--rise"),
        (["--poke", "1,2>3,4", "--release", "-2"], "--release"),
        (["--poke", "1,2>3,4", "--duration", "3"], "--duration belongs to --impulse; leave it out with --poke"),
        (["--impulse", "1,2:3,4", "--rise", "3"], "--rise belongs to --poke; leave it out with --impulse"),
        (["--stroke", "1,2 3,4"], "A pokes model is directed by Poke or Impulse, not by Stroke."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_can_be_mended_is_told_in_one_sentence(
    shelf: Path, tmp_path: Path, more: list[str], word: str, capsys: Capture
) -> None:
    assert run(animate(shelf, tmp_path / "out.png", *more)) == 2
    assert word in sentence(capsys)
    assert list(tmp_path.iterdir()) == []


def test_another_systems_model_takes_no_pokes(shelf: Path, tmp_path: Path, capsys: Capture) -> None:
    assert run(animate(shelf, tmp_path / "out.png", "--poke", "1,2>3,4", model="driving")) == 2
    assert "A driving model is directed by Drive or Predict, not by Poke." in sentence(capsys)


def test_models_lists_it(shelf: Path, capsys: Capture) -> None:
    assert run(["models", str(shelf)]) == 0
    (row,) = [line.split() for line in capsys.readouterr().out.splitlines() if str(shelf / "tiny") in line]
    assert row == [str(shelf / "tiny"), "pokes", "Poke", "32", "made", "yours"]


@pytest.mark.parametrize("name", ["tiny", "states"])
def test_saved_weights_come_back_bit_for_bit(tmp_path: Path, name: str) -> None:
    system = tiny_pokes() if name == "tiny" else wild_pokes(TINY_STATES)
    system.save_pretrained(tmp_path / "model")
    back = load(tmp_path / "model").system
    assert back.config == system.config
    before, after = system.shipped().state_dict(), back.shipped().state_dict()
    assert list(before) == list(after)
    assert all((before[key] == after[key]).all() for key in before)
    assert isinstance(back.networks, FieldNetwork) == (name == "tiny")


# --- explain -------------------------------------------------------------------------------------------------------
def test_explain_writes_what_python_gives(shelf: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "map.png"
    assert run(explain(shelf, out, "--at", "20,10", "--pokes", "3", "--seed", "4")) == 0
    assert capsys.readouterr().out == f"{out}: 48 x 40 pixels\n"
    expected = load(shelf / "tiny").explain(shelf / "me.png", at=(20.0, 10.0), pokes=3, seed=4)
    assert np.array_equal(media.read_picture(out), expected)
    other = load(shelf / "tiny").explain(shelf / "me.png", at=(20.0, 10.0), pokes=3, seed=5)
    assert not np.array_equal(other, expected)


@pytest.mark.parametrize(
    ("more", "model", "word"),
    [
        ([], "tiny", "one of --at X,Y, --parts K and --nearest DATA"),
        (["--at", "1,2", "--parts", "2"], "tiny", "one of --at X,Y"),
        (["--at", "1,2", "--nearest", "set"], "tiny", "one of --at X,Y"),
        (["--at", "12"], "tiny", "--at"),
        (["--at", "48,2", "--pokes", "2"], "tiny", "48,2 is outside of the still"),
        (["--at", "nan,2", "--pokes", "2"], "tiny", "outside of the still"),
        (["--parts", "0"], "tiny", "parts"),
        (["--at", "1,2", "--pokes", "0"], "tiny", "pokes"),
        (["--nearest", "nowhere"], "tiny", "nowhere"),
        (["--at", "1,2"], "driving", "A driving model takes no pokes"),
        (["--at", "1,2"], "states", "Only a model that predicts fields"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_explain_cannot_do_is_told_in_one_sentence(
    shelf: Path, tmp_path: Path, more: list[str], model: str, word: str, capsys: Capture
) -> None:
    assert run(explain(shelf, tmp_path / "map.png", *more, model=model)) == 2
    assert word in sentence(capsys)
    assert list(tmp_path.iterdir()) == []


def test_a_rigid_still_is_one_part_that_moves_as_every_place(tmp_path: Path) -> None:
    """Every pixel goes with every other one: the map is red, but for the border, where pixels leave the picture."""
    system = rigid_pokes()
    found = system.explain(spot((40, 48)), at=(20.0, 10.0), pokes=4)
    others = np.zeros((40, 48), bool)
    others[12:28, 12:36] = True
    others[5:16, 15:26] = False  # the ring
    assert (found[others, 0].astype(int) > found[others, 1:].max(-1).astype(int) + 15).all()
