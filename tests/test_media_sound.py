"""A video that a still follows: where it begins, its rate, and its sound on the way into the result."""

import warnings
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from refusals import refuses
from stillmotion import media
from stillmotion.errors import StillmotionWarning
from stillmotion.media import MediaError, Sound, open_driver, open_video, open_writer, read_video

RATE = 48_000
SECONDS = 2.0
CLICK = 1.2  # when something is heard


def clicking(seconds: float = SECONDS, channels: int = 1) -> np.ndarray:
    """Silence, and from `CLICK` on a loud tone; channels x samples in [-1, 1]."""
    time = np.arange(round(seconds * RATE)) / RATE
    return np.repeat((np.sin(2 * np.pi * 440 * time) * (time >= CLICK))[None], channels, 0).astype(np.float32)


def talk(
    path: Path, codec: str = "aac", video: str = "libx264", fps: int = 20, channels: int = 1, late: float = 0.0
) -> Path:
    """A video whose frame t has the grey level 10 + 5 t, with sound that begins `late` seconds after it."""
    with av.open(path, "w") as output:
        frames, sound = output.add_stream(video, rate=fps), output.add_stream(codec, rate=RATE)
        frames.width = frames.height = 32
        frames.pix_fmt, sound.layout = "yuv420p", "mono" if channels == 1 else "5.1"
        for t in range(round(SECONDS * fps)):
            picture = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 10 + 5 * t, np.uint8), format="rgb24")
            picture.pts, picture.time_base = t, Fraction(1, fps)
            output.mux(frames.encode(picture))
        samples = clicking(channels=channels)
        if codec.startswith("pcm"):
            samples = (samples * 32767).astype(np.int16).T.reshape(1, -1)
        heard = av.AudioFrame.from_ndarray(
            samples, format="s16" if codec.startswith("pcm") else "fltp", layout=sound.layout.name
        )
        heard.rate, heard.pts, heard.time_base = RATE, round(late * RATE), Fraction(1, RATE)
        output.mux(sound.encode(heard))
        output.mux(sound.encode(None))
        output.mux(frames.encode(None))
    return path


def heard_in(path: Path) -> tuple[np.ndarray, float, str]:
    """Samples from the time of the first video frame on, one channel; when the last ends, in seconds; the codec."""
    with av.open(path) as file:
        stream = file.streams.audio[0]
        frames = list(file.decode(stream))
        rate = frames[0].sample_rate
        start = float(frames[0].pts * frames[0].time_base)
        arrays = [frame.to_ndarray() for frame in frames]
        whole = np.concatenate([array.reshape(-1, frame.layout.nb_channels).T[0] if array.shape[0] == 1 else array[0]
                                for array, frame in zip(arrays, frames, strict=True)])  # fmt: skip
        name = stream.codec_context.name
    if whole.dtype == np.int16:
        whole = whole / 32768
    silence = np.zeros(max(0, round(start * rate)))
    return np.concatenate([silence, whole]), start + len(whole) / rate, name


def onset(path: Path) -> float:
    """When something is heard, in seconds."""
    with av.open(path) as file:
        rate = file.streams.audio[0].rate
    return float(np.argmax(np.abs(heard_in(path)[0]) > 0.3) / rate)


def written(path: Path, sound: Sound | None, frames: int = 40, fps: float = 20) -> Path:
    with open_writer(path, fps=fps, sound=lambda: sound) as writer:
        for _ in range(frames):
            writer.write(np.full((32, 32, 3), 60, np.uint8))
    return path


# --- sound ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("ending", ["mp4", "webm"])
@pytest.mark.parametrize(
    ("name", "codec", "video"),
    [
        ("a.mp4", "aac", "libx264"),
        ("a.mov", "pcm_s16le", "libx264"),
        ("a.webm", "libopus", "libvpx"),
        ("a.mkv", "flac", "libx264"),
        ("a.avi", "libmp3lame", "mpeg4"),
    ],
)
def test_sound_goes_into_the_result_at_its_time(
    tmp_path: Path, name: str, codec: str, video: str, ending: str
) -> None:
    if codec == "flac":
        pytest.importorskip("av")
        codec = "pcm_s16le"  # what matroska holds as well
    source = open_driver(talk(tmp_path / name, codec, video))
    assert source.sound is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = written(tmp_path / f"out.{ending}", source.sound)
    assert onset(result) == pytest.approx(CLICK, abs=0.04)
    copied = {("a.mp4", "mp4"): "aac", ("a.webm", "webm"): "opus", ("a.avi", "mp4"): "mp3float"}
    expected = copied.get((name, ending), {"mp4": "aac", "webm": "opus"}[ending])
    assert heard_in(result)[2] == expected
    assert len(read_video(result)[0]) == 40


def test_sound_that_the_container_can_hold_is_not_encoded_again(tmp_path: Path) -> None:
    def packets(path: Path) -> list[bytes]:
        with av.open(path) as file:
            return [bytes(packet) for packet in file.demux(file.streams.audio[0]) if packet.size]

    before = packets(talk(tmp_path / "a.mp4"))
    after = packets(written(tmp_path / "out.mp4", open_driver(tmp_path / "a.mp4").sound))
    assert len(after) > 80
    assert after == before[-len(after) :] or after == before[1 : 1 + len(after)]


@pytest.mark.parametrize("name", ["out.mp4", "out.webm"])
@pytest.mark.parametrize("start", [0.0, 0.5, 1.0])
def test_sound_is_cut_to_the_frames_and_from_the_start(tmp_path: Path, name: str, start: float) -> None:
    with open_driver(talk(tmp_path / "a.mp4"), start=start) as source:
        assert source.length == 40 - round(20 * start)
        result = written(tmp_path / name, source.sound, frames=16)
    samples, end, _ = heard_in(result)
    assert end == pytest.approx(16 / 20, abs=0.03)
    if start:
        assert onset(result) == pytest.approx(CLICK - start, abs=0.04)
    else:
        assert np.abs(samples).max() < 0.05  # it is over before


@pytest.mark.parametrize("name", ["out.mp4", "out.webm"])
def test_sound_that_begins_later_or_ends_earlier_than_the_video_stays_where_it_is(tmp_path: Path, name: str) -> None:
    with open_driver(talk(tmp_path / "a.mp4", late=0.5)) as source:
        result = written(tmp_path / name, source.sound, frames=100)
    assert onset(result) == pytest.approx(CLICK + 0.5, abs=0.04)
    assert heard_in(result)[1] == pytest.approx(SECONDS + 0.5, abs=0.06)
    with open_driver(tmp_path / "a.mp4", start=1.0) as source:
        result = written(tmp_path / f"later-{name}", source.sound, frames=20)
    assert onset(result) == pytest.approx(CLICK - 0.5, abs=0.04)


def test_many_channels_become_two(tmp_path: Path) -> None:
    source = open_driver(talk(tmp_path / "a.mkv", "pcm_s16le", channels=6))
    result = written(tmp_path / "out.webm", source.sound)
    with av.open(result) as file:
        assert file.streams.audio[0].layout.name == "stereo"
    assert onset(result) == pytest.approx(CLICK, abs=0.04)


@pytest.mark.parametrize("name", ["out.gif", "out.png", "out"])
def test_a_format_without_sound_says_so(tmp_path: Path, name: str) -> None:
    sound = open_driver(talk(tmp_path / "a.mp4")).sound
    with pytest.warns(StillmotionWarning, match=f"{name}' cannot hold the video's sound"):
        written(tmp_path / name, sound, frames=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        written(tmp_path / f"silent-{name}", None, frames=2)


def test_sound_that_cannot_be_read_is_left_out_with_a_sentence(tmp_path: Path) -> None:
    talk(tmp_path / "a.mp4")
    sound = open_driver(tmp_path / "a.mp4").sound
    (tmp_path / "a.mp4").unlink()
    with pytest.warns(StillmotionWarning, match="cannot be read"):
        result = written(tmp_path / "out.mp4", sound)
    assert len(read_video(result)[0]) == 40
    assert open_driver(result).sound is None


def test_damaged_sound_ends_with_a_sentence(tmp_path: Path) -> None:
    content = bytearray(talk(tmp_path / "a.mkv", "aac").read_bytes())
    source = open_driver(tmp_path / "a.mkv").sound
    (tmp_path / "a.mkv").write_bytes(content[: len(content) // 2] + bytes(len(content) // 2))
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        result = written(tmp_path / "out.mp4", source)
    assert len(read_video(result)[0]) == 40


def test_a_video_without_sound_has_none(tmp_path: Path) -> None:
    media.write_video(tmp_path / "a.mp4", np.zeros((3, 16, 16, 3), np.uint8), 25)
    assert open_video(tmp_path / "a.mp4").sound is None
    assert Sound(Path("a"), 1.0).later(0.5) == Sound(Path("a"), 1.5)


# --- where a driver begins, and its rate ---------------------------------------------------------------------------
def levels(frames: np.ndarray) -> list[int]:
    return np.rint((frames.mean((1, 2, 3)) - 10) / 5).astype(int).tolist()


@pytest.mark.parametrize(("start", "first"), [(0.0, 0), (0.5, 10), (0.52, 10), (0.53, 11), (1.95, 39)])
def test_a_video_begins_at_a_second(tmp_path: Path, start: float, first: int) -> None:
    with open_driver(talk(tmp_path / "a.mp4"), start=start) as reader:
        assert reader.length == 40 - first
        assert levels(np.stack(list(reader))) == list(range(first, 40))
        assert reader.sound is not None
        assert reader.sound.start == pytest.approx(first / 20, abs=0.001)


@pytest.mark.parametrize("fps", [10, 20, 40, 13])
def test_another_rate_keeps_the_time_of_a_file(tmp_path: Path, fps: int) -> None:
    with open_driver(talk(tmp_path / "a.mp4"), fps, start=0.5) as reader:
        assert reader.fps == fps
        assert reader.length == round(1.5 * fps)
        found = levels(np.stack(list(reader)))
    assert len(found) == round(1.5 * fps)
    shown = 10 + np.arange(len(found)) * 20 / fps
    assert np.abs(np.array(found) - shown).max() <= 1


def test_the_rate_of_frames_that_have_none_is_said(tmp_path: Path) -> None:
    frames = np.arange(30, dtype=np.uint8)[:, None, None, None] * np.full((1, 8, 8, 3), 5, np.uint8)
    media.write_video(tmp_path / "folder", frames, 25)
    for source in (frames, tmp_path / "folder"):
        for fps, rate in ((None, 25), (10, 10)):
            with open_driver(source, fps, start=0.4) as reader:
                assert (reader.fps, reader.length) == (rate, 30 - round(0.4 * rate))
                assert np.array_equal(list(reader), frames[round(0.4 * rate) :])


def test_a_pause_in_a_video_of_uneven_rate_goes_on_after_the_start(tmp_path: Path) -> None:
    with av.open(tmp_path / "a.mkv", "w") as output:
        stream = output.add_stream("libx264", rate=20)
        stream.width = stream.height = 32
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", Fraction(1, 100)
        for t, at in enumerate([0, 5, 10, 110, 115, 120, 200]):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 10 + 5 * t, np.uint8), format="rgb24")
            frame.pts, frame.time_base = at, Fraction(1, 100)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with open_driver(tmp_path / "a.mkv", 20, start=0.6) as reader:
        found = levels(np.stack(list(reader)))
    assert found[:10] == [2] * 10
    assert found[10:13] == [3, 4, 5]


def test_a_start_behind_the_end_is_refused(tmp_path: Path) -> None:
    frames = np.zeros((5, 8, 8, 3), np.uint8)
    for source in (talk(tmp_path / "a.mp4"), frames):
        refuses("so it cannot begin at 2", open_driver, source, start=2.0, error=MediaError)


# --- what is no video ----------------------------------------------------------------------------------------------
def test_a_picture_as_a_driver_is_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, size in (("square.png", (8, 8)), ("two.jpg", (8, 16)), ("odd.jpg", (8, 13)), ("high.png", (13, 8))):
        media.write_picture(tmp_path / name, rng.integers(0, 255, (*size, 3), np.uint8))
    with pytest.warns(StillmotionWarning, match="is one picture or one frame, so nothing will move"):
        open_driver(tmp_path / "square.png").close()
    with pytest.warns(StillmotionWarning, match="is a picture and read as 2 frames side by side"):
        open_driver(tmp_path / "two.jpg").close()
    for name in ("odd.jpg", "high.png"):
        refuses("is a picture, .* and not a strip of square frames; give a video", open_driver, tmp_path / name)
    media.write_video(tmp_path / "strip.png", np.zeros((2, 8, 8, 3), np.uint8), 25)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_driver(tmp_path / "strip.png").close()


def test_a_video_as_a_picture_is_told(tmp_path: Path) -> None:
    refuses("is a video, not a picture", media.read_picture, talk(tmp_path / "a.mp4"))
