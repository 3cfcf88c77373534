"""Which files of `media` run for one action, how often a container is opened, and what importing `media` loads."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import av
import numpy as np
import pytest
from PIL import Image

from refusals import refuses
from stillmotion import media
from test_media_damage import encoded, put

FOLDER = Path(media.__file__).parent
FRAMES = np.random.default_rng(0).integers(0, 256, (4, 16, 24, 3), np.uint8)


def files_run(action: Callable[[], object]) -> set[str]:
    """Return the names of the files under `media` of which a function runs during `action`."""
    seen: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.parent == FOLDER and frame.f_code.co_name != "<module>":
            seen.add(path.name)

    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
    return seen


def write(path: Path) -> None:
    with media.open_writer(path, fps=25, overwrite=True) as writer:
        for frame in FRAMES:
            writer.write(frame)


def use_picture(path: Path) -> None:
    picture, _ = media.pad_square(media.read_picture(path))
    small = media.resize(media.crop(picture, media.fit_square(picture.shape[:2])), (8, 8))
    media.write_picture(path, media.to_pictures(media.to_tensor(small[None]))[0], overwrite=True)


def test_an_action_runs_few_files(tmp_path: Path) -> None:
    media.write_picture(tmp_path / "a.png", FRAMES[0])
    assert files_run(lambda: media.read_picture(tmp_path / "a.png")) == {"pictures.py", "containers.py"}
    assert files_run(lambda: use_picture(tmp_path / "a.png")) == {"pictures.py", "containers.py"}
    assert files_run(lambda: write(tmp_path / "a.mp4")) == {"writing.py", "pictures.py"}
    reading = {"reading.py", "decoding.py", "display.py", "containers.py", "deinterlacing.py", "pictures.py"}
    assert files_run(lambda: list(media.open_video(tmp_path / "a.mp4"))) == reading
    assert files_run(lambda: list(media.open_video(tmp_path / "a.mp4", resample_fps=10))) == reading


def test_media_is_ten_short_files() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in FOLDER.glob("*.py")}
    assert len(lengths) <= 10
    assert max(lengths.values()) <= 400


def video_with_sound(path: Path) -> None:
    with av.open(path, "w", format="mp4") as output:
        video, sound = output.add_stream("libx264", rate=25), output.add_stream("aac", rate=48000, layout="mono")
        video.height, video.width, video.pix_fmt = 16, 24, "yuv420p"
        for i, array in enumerate(FRAMES):
            picture = av.VideoFrame.from_ndarray(array, format="rgb24")
            picture.pts = i
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1920), np.float32), format="fltp", layout="mono")
            samples.rate, samples.pts = 48000, 1920 * i
            output.mux(video.encode(picture) + sound.encode(samples))
        output.mux(video.encode(None) + sound.encode(None))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The arguments of every call of `av.open` from now on."""
    calls: list[object] = []
    really_open = av.open

    def count(file: object, *args: object, **options: object) -> object:
        calls.append(file)
        return really_open(file, *args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(av, "open", count)
    return calls


@pytest.mark.parametrize("kind", ["sound", "mp4", "late mp4", "short groups", "webm", "mkv", "avi", "gif"])
@pytest.mark.parametrize("resample_fps", [None, 10.0])
def test_a_container_is_opened_once(
    tmp_path: Path, opened: list[object], kind: str, resample_fps: float | None
) -> None:
    if kind == "sound":
        video_with_sound(tmp_path / "video")
    else:
        put(tmp_path, encoded(kind))
    with av.open(tmp_path / "video") as container:  # what a plain decoder reads
        expected = sum(1 for _ in container.decode(video=0))
    opened.clear()
    with media.open_video(tmp_path / "video", resample_fps=resample_fps) as reader:
        count = sum(1 for _ in reader)
    assert len(opened) == 1
    assert opened[0].closed  # type: ignore[attr-defined]
    assert count == (expected if resample_fps is None else round(expected / 2.5))


def test_a_damaged_video_is_opened_anew_to_decode_it(tmp_path: Path, opened: list[object]) -> None:
    data = encoded("mp4")
    path = put(tmp_path, data[: len(data) // 2])
    opened.clear()
    with media.open_video(path) as reader, pytest.raises(media.MediaError, match="damaged after frame"):
        list(reader)
    assert len(opened) == 2
    assert opened[0].closed  # type: ignore[attr-defined]


def test_a_video_that_begins_between_keyframes_loses_no_frame(tmp_path: Path, opened: list[object]) -> None:
    """Seeking leads to the first keyframe, which is not the first packet here."""
    with av.open(tmp_path / "a.mkv", "w", format="matroska") as output:
        stream = output.add_stream("mpeg4", rate=25, options={"g": "5"})
        stream.height, stream.width, stream.pix_fmt = 16, 24, "yuv420p"
        packets = []
        for i in range(10):
            picture = av.VideoFrame.from_ndarray(FRAMES[i % 4], format="rgb24")
            picture.pts = i
            packets += stream.encode(picture)
        for packet in [*packets, *stream.encode(None)][1:]:
            output.mux(packet)
    opened.clear()
    assert len(media.read_video(tmp_path / "a.mkv")[0]) == 9
    assert len(opened) == 2


def test_a_refused_video_is_closed(tmp_path: Path, opened: list[object]) -> None:
    path = put(tmp_path, encoded("mp4"))
    opened.clear()
    for options in (
        {"limits": media.Limits(max_frames=5)},
        {"limits": media.Limits(max_frames=40), "resample_fps": 99},
    ):
        with pytest.raises(media.MediaError, match="more than the"):
            media.open_video(path, **options)
    with media.open_video(path) as reader:
        next(reader)
    assert list(reader) == []
    assert [file.closed for file in opened] == [True] * 3  # type: ignore[attr-defined]


def test_a_failed_frame_aborts_the_video(tmp_path: Path) -> None:
    writer = media.open_writer(tmp_path / "a.png", fps=25)
    wide = np.zeros((1, 40_000, 3), np.uint8)
    writer.write(wide)
    refuses("would be wider", writer.write, wide, error=media.MediaError)
    refuses("closed", writer.write, wide, error=ValueError)
    writer.close()
    assert not list(tmp_path.iterdir())


def test_a_strip_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.png")
    decoded = []
    load = Image.Image.convert
    monkeypatch.setattr(Image.Image, "convert", lambda *args: decoded.append(1) or load(*args))
    assert np.array_equal(media.read_video(tmp_path / "a.png")[0], FRAMES)
    assert len(decoded) == 1


def test_importing_media_does_not_import_torch() -> None:
    probe = "import sys, stillmotion.media; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True).stdout == "False\n"
