"""Videos in: formats, order of frames, rates, limits, memory."""

import os
import re
import tracemalloc
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from refusals import refuses
from stillmotion.media import (
    Limits,
    MediaError,
    open_video,
    read_video,
    write_picture,
    write_video,
)
from stillmotion.media.decoding import DamagedError, constant_fps, nominal_fps
from stillmotion.media.reading import resample
from stillmotion.media.sequences import natural_key


def grey_frames(count: int, size: tuple[int, int] = (32, 48)) -> np.ndarray:
    """Return frames whose grey level encodes their number: frame i is 10 + 8 i."""
    levels = (10 + 8 * np.arange(count)).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, *size, 3)).copy()


def numbers(frames: np.ndarray) -> list[int]:
    """Return the numbers of such frames."""
    return np.rint((frames.mean((1, 2, 3)) - 10) / 8).astype(int).tolist()


def encode(
    path: Path,
    frames: np.ndarray,
    times: Sequence[int] | None = None,
    *,
    container: str = "mp4",
    codec: str = "libx264",
    unit: Fraction = Fraction(1, 25),
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Write a video through PyAV alone; `times` counts `unit` seconds."""
    with av.open(path, "w", format=container, container_options=container_options or {}) as output:
        stream = output.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        stream.codec_context.time_base = unit
        for i, array in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(array, format="rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = (i if times is None else times[i]), unit
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


VIDEOS = {
    "mp4": ("mp4", "libx264", {}),
    "mov": ("mov", "libx264", {}),
    "mkv": ("matroska", "libx264", {"g": "5"}),
    "webm": ("webm", "libvpx-vp9", {}),
    "vp8": ("webm", "libvpx", {"auto-alt-ref": "1", "lag-in-frames": "10"}),
    "avi": ("avi", "mpeg4", {"b": "2000000"}),
}


@pytest.mark.parametrize("video", VIDEOS)
def test_videos_come_in_order_with_their_rate(tmp_path: Path, video: str) -> None:
    container, codec, options = VIDEOS[video]
    # The name ends wrongly on purpose: what a file is, its bytes say.
    path = encode(tmp_path / "video.txt", grey_frames(25), container=container, codec=codec, options=options)
    with open_video(path) as reader:
        assert (reader.fps, reader.size, reader.length) == (25.0, (32, 48), 25)
        frames = np.stack(list(reader))
    assert numbers(frames) == list(range(25))
    assert frames.dtype == np.uint8


def test_colours_of_untagged_and_grey_videos(tmp_path: Path) -> None:
    flat = np.broadcast_to(np.array([200, 120, 40], np.uint8), (2, 32, 32, 3)).copy()
    frames, _ = read_video(encode(tmp_path / "a.mp4", flat, options={"crf": "5"}))
    assert np.abs(frames.astype(int) - [200, 120, 40]).max() <= 3
    grey, _ = read_video(
        encode(tmp_path / "g.mkv", grey_frames(3), container="matroska", codec="ffv1", pixels="gray")
    )
    assert numbers(grey) == [0, 1, 2]
    assert (grey[..., 0] == grey[..., 2]).all()


def test_odd_sizes_and_a_single_frame(tmp_path: Path) -> None:
    odd = encode(tmp_path / "odd.mkv", grey_frames(3, (33, 47)), container="matroska", codec="ffv1", pixels="bgr0")
    assert np.array_equal(read_video(odd)[0], grey_frames(3, (33, 47)))
    frames, fps = read_video(encode(tmp_path / "one.mp4", grey_frames(1)))
    assert (len(frames), fps) == (1, 25.0)


def test_the_first_video_frame_is_not_lost_when_iterating_twice(tmp_path: Path) -> None:
    with open_video(encode(tmp_path / "a.mp4", grey_frames(4))) as reader:
        first = next(reader)
        rest = list(reader)
    assert numbers(np.stack([first, *rest])) == [0, 1, 2, 3]
    assert list(reader) == []


def test_gif_transparency_lies_on_white(tmp_path: Path) -> None:
    frames = []
    for right in (4, 5):
        image = Image.new("P", (8, 8), 0)
        image.putpalette([10, 20, 30, 200, 100, 50])
        image.paste(1, (0, 0, right, 8))
        frames.append(image)
    frames[0].save(
        tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=40, transparency=0, disposal=2
    )
    video, fps = read_video(tmp_path / "a.gif")
    assert fps == 25.0
    assert video[0, 4, 1].tolist() == [200, 100, 50]
    assert video[0, 4, 6].tolist() == [255, 255, 255]


def test_animated_webp(tmp_path: Path) -> None:
    frames = [Image.fromarray(frame) for frame in grey_frames(6)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], duration=50, lossless=True)
    video, fps = read_video(tmp_path / "a.webp")
    assert fps == pytest.approx(20.0)
    assert np.array_equal(video, grey_frames(6))


def test_pauses_are_filled_at_the_rate_between_them(tmp_path: Path) -> None:
    # In tenths of a second; the file says that the last frame lasts 1/25, but it lasts one step at least.
    times = [0, 1, 2, 6, 7]
    path = encode(tmp_path / "a.mp4", grey_frames(5), times, unit=Fraction(1, 10), options={"bf": "0"})
    with open_video(path) as reader:
        assert (reader.fps, reader.length) == (10.0, 8)
        assert numbers(np.stack(list(reader))) == [0, 1, 2, 2, 2, 2, 3, 4]


def test_slightly_uneven_timing_is_left_alone(tmp_path: Path) -> None:
    path = encode(
        tmp_path / "a.mkv", grey_frames(6), [0, 39, 82, 118, 160, 203], unit=Fraction(1, 1000), container="matroska"
    )
    video, fps = read_video(path)
    assert numbers(video) == [0, 1, 2, 3, 4, 5]
    assert fps == pytest.approx(25, rel=0.03)


def test_doubled_timestamps_do_not_lose_frames(tmp_path: Path) -> None:
    frames = [Image.fromarray(frame) for frame in grey_frames(4)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=40)
    data = (tmp_path / "a.gif").read_bytes()
    # A delay of 0 in every graphic control extension: viewers choose their own.
    data, changed = re.subn(rb"(!\xf9\x04.)\x04\x00", lambda found: found[1] + b"\0\0", data, flags=re.DOTALL)
    assert changed == 4
    (tmp_path / "a.gif").write_bytes(data)
    assert numbers(read_video(tmp_path / "a.gif")[0]) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(25.0, list(range(10))), (12.5, [0, 2, 4, 6, 8]), (50.0, [i // 2 for i in range(20)]), (10.0, [1, 3, 6, 8])],
)
def test_resampling_to_a_rate(tmp_path: Path, rate: float, expected: list[int]) -> None:
    path = encode(tmp_path / "a.mp4", grey_frames(10))
    with open_video(path, resample_fps=rate) as reader:
        assert reader.fps == rate
        assert reader.length == len(expected)
        assert numbers(np.stack(list(reader))) == expected


@given(gaps=st.lists(st.floats(0.001, 1.0), min_size=1, max_size=20), rate=st.floats(0.5, 60.0))
def test_resampling_follows_its_rule(gaps: list[float], rate: float) -> None:
    begins = np.concatenate([[0.0], np.cumsum(gaps)])
    end, begins = begins[-1], begins[:-1]
    frames = [np.full((1, 1, 1), i) for i in range(len(begins))]
    given_back = [int(f[0, 0, 0]) for f in resample(zip(begins.tolist(), frames, strict=True), float(end), rate)]
    assert abs(len(given_back) - end * rate) <= 1.0
    for k, number in enumerate(given_back):
        shown = (k + 0.5) / rate
        near = 1e-5 / rate + 1e-9  # on the very edge either side is right
        assert begins[number] <= shown + near
        assert number + 1 == len(begins) or begins[number + 1] >= shown - near


def test_resampling_keeps_the_last_frame_before_damage() -> None:
    def timed() -> Iterator[tuple[float, np.ndarray]]:
        yield 0.0, np.zeros(1)
        yield 0.1, np.ones(1)
        raise DamagedError

    frames = []
    with pytest.raises(DamagedError):
        frames.extend(float(frame[0]) for frame in resample(timed(), 1.0, 10.0))
    assert frames == [0.0, 1.0]


def test_constant_fps() -> None:
    assert constant_fps([0.0, 0.04, 0.08], [25.0]) == 25.0
    assert constant_fps([5.0, 5.04, 5.08], [30.0]) == 30.0  # less than half a frame off, and named first
    assert constant_fps([i / 25 for i in range(50)], [30.0]) == pytest.approx(25.0)
    assert constant_fps([0.0, 0.1, 0.5], [10.0]) is None


@pytest.mark.parametrize(
    ("steps", "candidates", "expected"),
    [
        ([0.04] * 20 + [30.0] + [0.04] * 20, [1.56], 25.0),
        ([1001 / 30000] * 9 + [2.0], [], 30000 / 1001),
        ([0.033, 0.033, 0.034] * 6 + [1.0], [], 30.0),  # as Matroska rounds
        ([1 / 30, 1 / 30, 2 / 30] * 6, [22.5], 30.0),  # dropped frames
        ([1 / 60] * 5 + [1 / 30] * 15, [], 60.0),  # the faster part keeps its frames
        ([1 / 60] + [1 / 24] * 15, [], 24.0),  # a single short step is no rate
        ([1 / 17] * 8 + [1.0], [17.02], 17.02),
        ([1 / 17] * 8 + [1.0], [16.0], 17.0),
        ([0.0001, 1.0], [], 240.0),
    ],
)
def test_the_rate_between_pauses(steps: list[float], candidates: list[float], expected: float) -> None:
    assert nominal_fps(np.cumsum([5.0, *steps]).tolist(), candidates) == pytest.approx(expected, abs=1e-9)


def test_strips(tmp_path: Path) -> None:
    frames = grey_frames(5, (8, 8))
    write_picture(tmp_path / "a.png", np.concatenate(frames, axis=1))
    video, fps = read_video(tmp_path / "a.png")
    assert np.array_equal(video, frames)
    assert fps == 25.0
    with open_video(tmp_path / "a.png") as reader:
        kept = list(reader)
    assert not any(frame.base is not None for frame in kept)  # a kept frame does not keep the whole strip
    video, fps = read_video(tmp_path / "a.png", frame_width=20, fps=10)
    assert video.shape == (2, 8, 20, 3)
    assert fps == 10.0
    assert np.array_equal(np.concatenate(video, axis=1), np.concatenate(frames, axis=1))
    for width in (7, 0, -8, 80):
        with pytest.raises(MediaError, match=r"40 pixels wide, does not divide into frames -?\d+ wide"):
            open_video(tmp_path / "a.png", frame_width=width)


def test_folders_in_natural_order(tmp_path: Path) -> None:
    folder = tmp_path / "frames.d"
    folder.mkdir()
    frames = grey_frames(12)
    for i, frame in enumerate(frames):
        write_picture(folder / f"shot{i + 1}.png", frame)
    (folder / "notes.txt").write_text("not a frame")
    (folder / ".hidden.png").write_text("not a frame")
    video, fps = read_video(folder)
    assert np.array_equal(video, frames)
    assert fps == 25.0
    assert read_video(folder, fps=8, max_frames=3)[1] == 8.0


def test_natural_order() -> None:
    names = ["b1", "a10", "a2", "a02", "A1", "10", "9", "a", "²"]
    assert sorted(names, key=natural_key) == ["9", "10", "a", "A1", "a02", "a2", "a10", "b1", "²"]


def test_folders_that_are_no_videos(tmp_path: Path) -> None:
    refuses("holds no pictures", open_video, tmp_path, error=MediaError)
    write_picture(tmp_path / "1.png", grey_frames(1)[0])
    write_picture(tmp_path / "2.png", grey_frames(1, (32, 50))[0])
    with open_video(tmp_path) as reader:
        next(reader)
        refuses(r"2.png' is 50 x 32 pixels but the first is 48 x 32", next, reader, error=MediaError)


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a"])
def test_long_videos_stream(tmp_path: Path, name: str) -> None:
    write_video(tmp_path / f"first-{name}", iter([np.zeros((64, 64, 3), np.uint8)]), 25)  # modules that it loads
    tracemalloc.start()

    def peak() -> int:
        return tracemalloc.get_traced_memory()[1]

    count, size = 300, (64, 64)  # 3.7 MB together, and no more than a few frames of 12 kB may be held
    write_video(tmp_path / name, (np.full((*size, 3), i % 250, np.uint8) for i in range(count)), 25)
    assert peak() < 1_000_000
    tracemalloc.reset_peak()
    with open_video(tmp_path / name) as reader:
        assert reader.length == count
        assert sum(1 for _ in reader) == count
    assert peak() < 1_000_000
    tracemalloc.stop()


def test_limits_come_before_decoding(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", grey_frames(20))
    refuses("more than the 19 frames", open_video, path, error=MediaError, limits=Limits(max_frames=19))
    refuses("lasts 1 seconds", open_video, path, error=MediaError, limits=Limits(max_seconds=0.7))
    refuses("48 x 32", open_video, path, error=MediaError, limits=Limits(max_frame_pixels=32 * 48 - 1))
    refuses("--frames 3 ", read_video, path, error=MediaError, limits=Limits(max_bytes=3 * 32 * 48 * 3))
    exact = Limits(max_frames=20, max_seconds=0.8, max_frame_pixels=32 * 48, max_bytes=20 * 32 * 48 * 3)
    assert len(read_video(path, limits=exact)[0]) == 20
    refuses("more than the 20 frames", open_video, path, error=MediaError, resample_fps=50, limits=exact)


def test_max_frames(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", grey_frames(6))
    assert numbers(read_video(path, max_frames=4)[0]) == [0, 1, 2, 3]
    assert len(read_video(path, max_frames=40)[0]) == 6
    refuses("at least 1", read_video, path, error=MediaError, max_frames=0)
    for fps in (0.0, -1.0, float("nan"), float("inf")):
        refuses("frame rate", open_video, path, error=MediaError, fps=fps)
        refuses("frame rate", open_video, path, error=MediaError, resample_fps=fps)


PLAYLISTS = {
    "list.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nvideo.mp4\n",
    "concat.mp4": "ffconcat version 1.0\nfile video.mp4\n",
    "text.mp4": "dear diary, today I was named after a video",
    "page.webm": "<html><body>404</body></html>",
    "dash.mp4": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>',
    "session.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 0 RTP/AVP 96\n",
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_playlists_and_texts_are_refused(tmp_path: Path, name: str) -> None:
    encode(tmp_path / "video.mp4", grey_frames(2))
    (tmp_path / name).write_text(PLAYLISTS[name])
    refuses("not a video or picture", open_video, tmp_path / name, error=MediaError)


def test_names_that_are_no_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    encode(tmp_path / "video.mp4", grey_frames(2))
    for name in (
        "http://example.org/a.mp4",
        "file:video.mp4",
        "concat:video.mp4|video.mp4",
        "pipe:0",
        "data:video/mp4;base64,AAAA",
        "subfile,,start,0,end,9,,:video.mp4",
        "-",
        "",
        "nul\0.mp4",
    ):
        with pytest.raises(MediaError):
            open_video(name)
    os.mkfifo(tmp_path / "pipe")
    for device in ("pipe", "/dev/zero", "/dev/stdin"):
        refuses(r"not a plain file|no file|empty", open_video, device, error=MediaError)


def test_files_whose_names_look_like_addresses_are_just_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("concat:a|b", "-", "list.m3u8", "%03d.png"):
        encode(tmp_path / "video.mp4", grey_frames(2)).rename(name)
        assert numbers(read_video(name)[0]) == [0, 1]


def test_a_video_is_read_a_few_frames_at_a_time(tmp_path: Path) -> None:
    frames = np.arange(7, dtype=np.uint8)[:, None, None, None] * np.full((1, 16, 16, 3), 30, np.uint8)
    write_video(tmp_path / "a.png", frames, 12)
    with open_video(tmp_path / "a.png") as reader:
        parts = list(reader.batches(size=3))
    assert [len(part) for part in parts] == [3, 3, 1]
    assert np.array_equal(np.concatenate(parts), frames)
    with open_video(tmp_path / "a.png") as reader:
        assert [len(part) for part in reader.batches(4, size=3)] == [3, 1]
