"""Videos out: frames survive a round trip, and outputs are written atomically."""

import errno
import os
import resource
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from refusals import refuses
from stillmotion import outputs
from stillmotion.errors import StillmotionError
from stillmotion.media import MediaError, open_video, open_writer, read_video, write_picture, write_video

NAMES = ["a.mp4", "a.webm", "a.gif", "a.png", "a"]
RNG = np.random.default_rng(0)


def smooth_frames(count: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """Return colour ramps that brighten with time, so that every pixel shows the order of frames."""
    height, width = size
    y, x = np.mgrid[0:height, 0:width]
    still = np.stack([x * 100 / width, y * 100 / height, 50 + 0 * x], -1)
    return np.stack([still + min(6 * t, 150) for t in range(count)]).astype(np.uint8)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((a.astype(float) - b) ** 2))))


@pytest.mark.parametrize(("name", "least"), [("a.mp4", 40), ("a.webm", 40), ("a.gif", 30), ("a.png", 99), ("a", 99)])
def test_what_is_written_comes_back(tmp_path: Path, name: str, least: float) -> None:
    frames = smooth_frames(20)
    assert write_video(tmp_path / name, iter(frames), 12.5) == 20
    back, fps = read_video(tmp_path / name, fps=12.5 if name == "a" else None)
    assert fps == 12.5
    assert back.shape == frames.shape
    assert psnr(back, frames) > least
    brightness = back.mean((1, 2, 3))
    assert (np.diff(brightness) > 3).all()  # 6 for each frame: none is lost, doubled or exchanged
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.png"])
@pytest.mark.parametrize("fps", [0.5, 24000 / 1001, 29.97, 60.0])
def test_rates_are_kept(tmp_path: Path, name: str, fps: float) -> None:
    write_video(tmp_path / name, smooth_frames(12, (16, 16)), fps)
    back, rate = read_video(tmp_path / name)
    assert rate == pytest.approx(fps, rel=1e-3)
    assert len(back) == 12


def test_gif_delays_add_up(tmp_path: Path) -> None:
    # 30 per second is no whole number of hundredths: the delays must alternate instead of drifting.
    write_video(tmp_path / "a.gif", smooth_frames(16, (16, 16)), 30.0)
    with Image.open(tmp_path / "a.gif") as image:
        delays = []
        for i in range(image.n_frames):
            image.seek(i)
            delays.append(image.info["duration"])
        assert image.info["loop"] == 0  # for ever
    assert set(delays) == {30, 40}
    assert sum(delays[:15]) == 500
    assert read_video(tmp_path / "a.gif")[1] == pytest.approx(30.0, rel=0.01)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(1, 1), (17, 32), (32, 17), (33, 35)])
def test_odd_sizes(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    frames = np.full((2, *size, 3), 60, np.uint8)
    frames[:, -1] = 180  # the last row is the one that is doubled
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        write_video(tmp_path / name, frames, 25)
    even = f"is {size[1] + size[1] % 2} x {size[0] + size[0] % 2} pixels, not {size[1]} x {size[0]}"
    assert [even in str(each.message) for each in told] == ([True] if name in ("a.mp4", "a.webm") else [])
    back, _ = read_video(tmp_path / name, frame_width=size[1] if name == "a.png" else None)
    if name in ("a.mp4", "a.webm"):
        assert back.shape == (2, size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
        assert np.abs(back[:, -1].astype(int) - 180).max() <= 12
    else:
        assert back.shape == frames.shape
        assert np.abs(back.astype(int) - frames).max() <= 4


@pytest.mark.parametrize("fps", [60, 50, 33, 200])
def test_a_gif_lasts_as_long_at_a_rate_that_it_cannot_show(tmp_path: Path, fps: int) -> None:
    frames = smooth_frames(40)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        count = write_video(tmp_path / "a.gif", frames, fps)
    assert ["at most 50 frames per second" in str(each.message) for each in told] == [True] * (fps > 50)
    back, rate = read_video(tmp_path / "a.gif")
    assert len(back) == count == round(40 * min(fps, 50) / fps)
    assert count / rate == pytest.approx(40 / fps, abs=0.015)
    with Image.open(tmp_path / "a.gif") as image:  # no delay that browsers lengthen
        delays = [image.seek(k) or image.info["duration"] for k in range(count)]
    assert min(delays) >= 20
    assert np.abs(back[0].astype(int) - frames[0]).mean() < 8  # the first frame stays the first


def test_mp4_is_what_browsers_play(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", smooth_frames(30), 25)
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(tmp_path / "a.mp4") as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        frame = next(container.decode(video=0))
        # 1 means BT.709 for the matrix, primaries and transfer, and the studio range.
        assert (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range) == (1, 1, 1, 1)


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.gif"])
def test_colours_are_kept(tmp_path: Path, name: str) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 120, 40), (255, 255, 255), (0, 0, 0)]
    flat = np.stack([np.full((16, 16, 3), colour, np.uint8) for colour in colours])
    write_video(tmp_path / name, flat, 5)
    back = read_video(tmp_path / name)[0]
    assert np.abs(back.astype(int) - flat).max() <= 4


@pytest.mark.parametrize("name", ["a.mp4", "a.gif"])
def test_the_same_frames_give_the_same_bytes(tmp_path: Path, name: str) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write_video(tmp_path / folder / name, smooth_frames(5), 25)
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@settings(max_examples=30, deadline=None)
@given(
    frames=hnp.arrays(np.uint8, st.tuples(*[st.integers(1, 9)] * 3, st.just(3))),
    fps=st.floats(0.01, 1000.0),
    name=st.sampled_from(["a.png", "a"]),
)
def test_strips_and_folders_lose_nothing(frames: np.ndarray, fps: float, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_video(Path(folder) / name, frames, fps)
        back, rate = read_video(Path(folder) / name, fps=fps if name == "a" else None)
    assert np.array_equal(back, frames)
    assert rate == pytest.approx(fps)


def test_strips_are_plain_pictures(tmp_path: Path) -> None:
    frames = RNG.integers(0, 256, (3, 4, 5, 3), np.uint8)
    write_video(tmp_path / "a.png", frames, 25)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), np.concatenate(frames, axis=1))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png"]


def test_folder_names(tmp_path: Path) -> None:
    write_video(tmp_path / "a", smooth_frames(2, (4, 4)), 25)
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["frame-00000.png", "frame-00001.png"]


def test_too_long_strips_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"after 3 frames; write mp4"):
        write_video(tmp_path / "a.png", [np.zeros((2, 20_000, 3), np.uint8)] * 4, 25)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fps", [0.0, -25.0, float("nan"), float("inf"), 1e9, 1e-9])
def test_impossible_rates(tmp_path: Path, fps: float) -> None:
    refuses("frame rate", open_writer, tmp_path / "a.mp4", error=MediaError, fps=fps)
    assert not list(tmp_path.iterdir())


def test_outputs_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    for name, words in [
        ("a.avi", "must end in"),
        ("none/a.mp4", "does not exist"),
        ("none/a", "does not exist"),
        ("folder.mp4", "is a folder"),
        ("pipe.mp4", "not a plain file"),
        ("nul\0.mp4", "not a file name"),
    ]:
        refuses(words, open_writer, tmp_path / name, fps=25, overwrite=True)
    refuses("not a plain file", open_writer, "/dev/null", fps=25, overwrite=True)
    refuses("does not exist", open_writer, "http://example.org/a.mp4", fps=25)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.mp4", "pipe.mp4"]


@pytest.mark.parametrize("name", NAMES)
def test_existing_outputs_are_refused_or_replaced(tmp_path: Path, name: str) -> None:
    write_video(tmp_path / name, smooth_frames(3), 25)
    refuses("--overwrite", open_writer, tmp_path / name, fps=25)
    write_video(tmp_path / name, smooth_frames(2), 25, overwrite=True)
    assert len(read_video(tmp_path / name)[0]) == 2
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_folders_with_other_things_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    write_video(tmp_path / "a", smooth_frames(1), 25)  # an empty folder is fine
    (tmp_path / "a" / "thesis.txt").write_text("years of work")
    refuses("holds more than frames", open_writer, tmp_path / "a", fps=25, overwrite=True)
    assert (tmp_path / "a" / "thesis.txt").read_text() == "years of work"


def test_a_name_taken_in_the_meantime_is_not_overwritten(tmp_path: Path) -> None:
    def frames() -> Iterator[np.ndarray]:
        yield smooth_frames(1)[0]
        (tmp_path / "a.mp4").write_text("somebody else's")

    refuses("--overwrite", write_video, tmp_path / "a.mp4", frames(), 25)
    assert (tmp_path / "a.mp4").read_text() == "somebody else's"
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_leaves_the_old_output(tmp_path: Path, name: str, error: type[BaseException]) -> None:
    def frames() -> Iterator[np.ndarray]:
        yield 255 - smooth_frames(1)[0]
        raise error

    write_video(tmp_path / name, smooth_frames(3), 25)
    before = read_video(tmp_path / name)[0]
    with pytest.raises(error):
        write_video(tmp_path / name, frames(), 25, overwrite=True)
    assert np.array_equal(read_video(tmp_path / name)[0], before)
    assert [p.name for p in tmp_path.iterdir()] == [name]


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Limit the size of files, which fails as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [100, 30_000])
@pytest.mark.filterwarnings("error")
def test_a_full_disk_leaves_the_old_output(tmp_path: Path, name: str, size: int) -> None:
    write_video(tmp_path / name, smooth_frames(3), 25)
    before = read_video(tmp_path / name)[0]
    noise = RNG.integers(0, 256, (4, 128, 128, 3), np.uint8)
    with pytest.raises(StillmotionError, match="disk is full"), file_size_limit(size):
        write_video(tmp_path / name, noise, 25, overwrite=True)
    assert np.array_equal(read_video(tmp_path / name)[0], before)
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.mp4", "a.png", "a"])
def test_a_failing_last_step_leaves_the_old_output(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / name, smooth_frames(3), 25)
    before = read_video(tmp_path / name)[0]
    rename = Path.replace

    def fail(self: Path, target: Path) -> Path:
        if Path(target).name == name and not any(tmp_path.joinpath(name).glob("*")) and fail_once:
            fail_once.clear()
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    fail_once = [True]
    monkeypatch.setattr(Path, "replace", fail)
    monkeypatch.setattr(outputs, "_exchange", lambda *_: False)  # as on a system that cannot swap two folders
    with pytest.raises(StillmotionError, match="Input/output error"):
        write_video(tmp_path / name, smooth_frames(2), 25, overwrite=True)
    assert not fail_once
    assert np.array_equal(read_video(tmp_path / name)[0], before)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_frames_must_agree(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"Frame 2 .* is 20 x 16 pixels but the first was 16 x 16"):
        write_video(tmp_path / "a.mp4", [np.zeros((16, 16, 3), np.uint8), np.zeros((16, 20, 3), np.uint8)], 25)
    refuses("uint8", write_video, tmp_path / "a.mp4", [np.zeros((16, 16, 3))], 25, error=TypeError)
    refuses("No frames", write_video, tmp_path / "a.mp4", [], 25, error=MediaError)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_a_frame_may_be_drawn_into_again(tmp_path: Path, name: str) -> None:
    canvas = np.zeros((16, 16, 3), np.uint8)
    with open_writer(tmp_path / name, fps=25) as writer:
        for level in (40, 120, 200):
            canvas[:] = level
            writer.write(canvas)
    levels = read_video(tmp_path / name)[0].mean((1, 2, 3))
    assert np.abs(levels - [40, 120, 200]).max() < 3


def test_writing_after_the_end(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "a.mp4", fps=25)
    writer.write(smooth_frames(1)[0])
    writer.close()
    writer.close()  # does nothing
    refuses("closed", writer.write, smooth_frames(1)[0], error=ValueError)
    assert len(read_video(tmp_path / "a.mp4")[0]) == 1


def test_a_written_strip_is_read_after_an_editor_dropped_its_notes(tmp_path: Path) -> None:
    write_video(tmp_path / "a.png", smooth_frames(3, (8, 8)), 10)
    plain = np.asarray(Image.open(tmp_path / "a.png"))
    write_picture(tmp_path / "b.png", plain)
    with open_video(tmp_path / "b.png") as reader:
        assert (reader.length, reader.fps) == (3, 25.0)
