"""Driving as people do it: videos with sound, arguments in each other's place, sizes and rates."""

import warnings
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from driving_tools import tiny_driving
from stillmotion import cli, media
from stillmotion.systems.driving import Drive
from stillmotion.systems.driving.animating import DrivingRollout

Capture = pytest.CaptureFixture[str]
# Untrained networks find bodies of any size.
pytestmark = pytest.mark.filterwarnings("ignore:The body in the still")

FRAMES = np.random.default_rng(0).integers(0, 255, (12, 32, 32, 3), np.uint8)
ANIMATE = ["animate", "me.png", "--model", "tiny", "--drive", "talk.mp4"]


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: a model, a still, and a video of 12 frames at 10 per second with sound."""
    monkeypatch.chdir(tmp_path)
    tiny_driving().save_pretrained(tmp_path / "tiny")
    Image.fromarray(FRAMES[0]).save("me.png")
    with av.open("talk.mp4", "w") as output:
        pictures, sound = output.add_stream("libx264", rate=10), output.add_stream("aac", rate=48_000)
        pictures.width = pictures.height = 32
        pictures.pix_fmt, sound.layout = "yuv420p", "mono"
        for frame in FRAMES:
            output.mux(pictures.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        output.mux(pictures.encode(None))
        heard = av.AudioFrame.from_ndarray(np.ones((1, 57_600), np.float32) / 2, format="fltp", layout="mono")
        heard.rate, heard.pts, heard.time_base = 48_000, 0, Fraction(1, 48_000)
        output.mux(sound.encode(heard))
        output.mux(sound.encode(None))
    return tmp_path


def streams(path: str) -> dict[str, float]:
    """Seconds of each stream, by its type."""
    with av.open(path) as file:
        return {stream.type: float((stream.duration or 0) * (stream.time_base or 0)) for stream in file.streams}


def test_the_result_has_the_sound_of_the_video_unless_told_otherwise(shelf: Path, capsys: Capture) -> None:
    assert cli.main([*ANIMATE, "-o", "a.mp4"]) == 0
    assert streams("a.mp4") == {"video": pytest.approx(1.2), "audio": pytest.approx(1.2, abs=0.03)}
    assert cli.main([*ANIMATE, "-o", "b.mp4", "--no-sound"]) == 0
    assert set(streams("b.mp4")) == {"video"}
    assert "sound" not in capsys.readouterr().err
    assert cli.main([*ANIMATE, "-o", "c.gif", "--frames", "2"]) == 0
    assert "'c.gif' cannot hold the video's sound" in capsys.readouterr().err


def test_start_rate_and_size_together(shelf: Path, capsys: Capture) -> None:
    assert cli.main([*ANIMATE, "-o", "a.mp4", "--start", "0.2", "--fps", "5", "--size", "48"]) == 0
    assert "a.mp4: 5 frames at 5 per second" in capsys.readouterr().out
    assert streams("a.mp4") == {"video": pytest.approx(1), "audio": pytest.approx(1, abs=0.03)}
    assert media.read_video("a.mp4")[0].shape == (5, 48, 48, 3)


@pytest.mark.parametrize("grid", [["--samples", "2", "--grid"], []])
def test_the_size_is_that_of_the_whole_result(shelf: Path, grid: list[str]) -> None:
    assert cli.main([*ANIMATE, "-o", "a.png", "--frames", "1", "--size", "20", *grid]) == 0
    assert media.read_picture("a.png").shape == ((10, 20, 3) if grid else (20, 20, 3))


def test_a_still_and_a_video_in_each_others_place_are_told(shelf: Path, capsys: Capture) -> None:
    swapped = ["animate", "talk.mp4", "--model", "tiny", "-o", "out.mp4", "--drive"]
    assert cli.main([*swapped, "me.png"]) == 2
    assert "The still 'talk.mp4' is a video and 'me.png' a picture: swap the two." in capsys.readouterr().err
    assert cli.main([*swapped, "talk.mp4"]) == 2
    assert "'talk.mp4' is a video, not a picture" in capsys.readouterr().err


def test_progress_knows_how_long_the_video_is(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int | None]] = []
    monkeypatch.setattr(cli.Progress, "reached", lambda _, done, total=None: seen.append((done, total)))
    assert cli.main([*ANIMATE, "-o", "a.mp4"]) == 0
    assert seen == [(done, 12) for done in range(1, 13)]


def test_several_figures_in_the_still_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = np.full((32, 32), -5.0, np.float32)
    figure[4:20, 2:8] = figure[6:22, 20:27] = 5.0
    monkeypatch.setattr(
        DrivingRollout, "_figure", lambda _, frames: torch.from_numpy(figure).expand(len(frames), -1, -1)
    )
    monkeypatch.setattr("stillmotion.systems.driving.animating.FieldGenerator", torch.nn.Module)
    with pytest.warns(match="seems to show several figures"):
        next(tiny_driving().open(FRAMES[0], Drive(FRAMES[:2]), size="model"))
    figure[4:20, 2:8] = -5.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="The body in the still")
        next(tiny_driving().open(FRAMES[0], Drive(FRAMES[:2]), size="model"))
