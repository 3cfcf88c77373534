"""Damaged videos: frames before the damage are read, then a `MediaError` is raised, and no other exception."""

import contextlib
import functools
import io
import logging
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from refusals import refuses
from stillmotion.media import Limits, MediaError, open_video, read_picture, read_video, sniff, write_video
from stillmotion.media.containers import is_truncated
from stillmotion.media.pictures import file_type

RNG = np.random.default_rng(0)
COUNT = 30
VIDEOS = {
    "mp4": ("mp4", "libx264", {"movflags": "+faststart"}),
    "late mp4": ("mp4", "libx264", {}),  # the index stands at the end
    "short groups": ("mp4", "libx264", {"movflags": "+faststart", "g": "6"}),
    "webm": ("webm", "libvpx-vp9", {}),
    "mkv": ("matroska", "libx264", {}),
    "avi": ("avi", "mpeg4", {"b": "1000000"}),
}


def moving_frames() -> np.ndarray:
    """Return noise that moves, so that no packet is tiny."""
    noise = RNG.integers(0, 256, (32, 48 + COUNT, 3), np.uint8)
    return np.stack([noise[:, t : t + 48] for t in range(COUNT)])


@functools.cache
def encoded(kind: str) -> bytes:
    """Encode a video of `COUNT` frames; once per kind and process."""
    if kind in ("gif", "webp"):
        images = [Image.fromarray(frame) for frame in moving_frames()]
        buffer = io.BytesIO()
        images[0].save(buffer, kind, save_all=True, append_images=images[1:], duration=40)
        return buffer.getvalue()
    container, codec, options = VIDEOS[kind]
    movflags = {key: options[key] for key in options if key == "movflags"}
    buffer = io.BytesIO()
    path_free = {} if container != "mp4" else {"io_open": lambda *_: io.BytesIO(buffer.getvalue())}
    with av.open(buffer, "w", format=container, container_options=movflags, **path_free) as output:
        stream = output.add_stream(codec, rate=25, options={k: v for k, v in options.items() if k != "movflags"})
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        for i, array in enumerate(moving_frames()):
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            frame.pts = i
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def put(folder: Path, data: bytes) -> Path:
    path = folder / "video"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", [*VIDEOS, "gif", "webp"])
def test_whole_videos_are_whole(tmp_path: Path, kind: str) -> None:
    path = put(tmp_path, encoded(kind))
    found = file_type(path)
    with path.open("rb") as file:
        assert not is_truncated(file, found)
    assert len(read_video(path)[0]) == COUNT


@pytest.mark.parametrize("kind", ["mp4", "short groups", "webm", "mkv", "avi", "gif"])
@pytest.mark.parametrize("part", [0.5, 0.8])
def test_a_cut_video_gives_its_first_frames_and_says_so(tmp_path: Path, kind: str, part: float) -> None:
    data = encoded(kind)
    whole, _ = read_video(put(tmp_path, data))
    path = put(tmp_path, data[: int(len(data) * part)])
    frames = []
    with open_video(path) as reader, pytest.raises(MediaError, match="is damaged after frame") as caught:
        frames.extend(reader)
    assert 0 < len(frames) < COUNT
    assert np.array_equal(np.stack(frames), whole[: len(frames)])
    assert f"damaged after frame {len(frames)};" in str(caught.value)
    # What the message advises works, and gives the same.
    assert np.array_equal(read_video(path, max_frames=len(frames))[0], whole[: len(frames)])
    refuses("damaged", read_video, path, error=MediaError)


@pytest.mark.parametrize(
    ("kind", "part"), [("late mp4", 0.9), ("mp4", 0.02), ("webm", 0.03), ("avi", 0.01), ("webp", 0.5)]
)
def test_a_video_without_a_readable_frame(tmp_path: Path, kind: str, part: float) -> None:
    data = encoded(kind)
    with pytest.raises(MediaError, match=r"damaged|no video|not a video"):
        open_video(put(tmp_path, data[: int(len(data) * part)]))


def test_a_missing_index_at_the_end_harms_no_frame(tmp_path: Path) -> None:
    for kind in ("webm", "avi"):
        data = encoded(kind)
        path = put(tmp_path, data[:-4])
        with path.open("rb") as file:
            assert is_truncated(file, "matroska" if kind == "webm" else "avi")
        assert len(read_video(path)[0]) == COUNT


@pytest.mark.parametrize("kind", ["mp4", "webm", "mkv", "avi"])
def test_garbage_in_the_middle(tmp_path: Path, kind: str) -> None:
    data = bytearray(encoded(kind))
    half = len(data) // 2
    data[half : half + len(data) // 8] = np.random.default_rng(1).bytes(len(data) // 8)
    whole, _ = read_video(put(tmp_path, encoded(kind)))
    frames = []
    path = put(tmp_path, bytes(data))
    with open_video(path) as reader, pytest.raises(MediaError, match="is damaged after frame"):
        frames.extend(reader)
    assert 0 < len(frames) < COUNT
    assert np.array_equal(frames[0], whole[0])


def test_a_header_that_claims_a_huge_canvas(tmp_path: Path) -> None:
    data = bytearray(encoded("gif"))
    data[6:10] = b"\xff\xff\xff\xff"  # 65535 x 65535: no decoder may make room for that
    refuses("damaged from its first frame", open_video, put(tmp_path, bytes(data)), error=MediaError)


def test_a_video_that_changes_its_size(tmp_path: Path) -> None:
    def packets(width: int) -> bytes:
        buffer = io.BytesIO()
        with av.open(buffer, "w", format="avi") as output:
            stream = output.add_stream("mjpeg", rate=25)
            stream.height, stream.width, stream.pix_fmt = 32, width, "yuvj420p"
            for _ in range(2):
                output.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, width, 3), np.uint8))))
            output.mux(stream.encode(None))
        return buffer.getvalue()

    def second_picture(data: bytes) -> tuple[int, int]:
        begin = data.index(b"\xff\xd8", data.index(b"\xff\xd8") + 2)
        return begin, data.index(b"\xff\xd9", begin) + 2

    small, large = packets(32), packets(64)
    begin, end = second_picture(small)
    other = large[slice(*second_picture(large))]
    assert len(other) <= end - begin + 200
    # The second JPEG is exchanged for a wider one; its chunk is given the new length.
    chunk = small.rindex(b"00dc", 0, begin)
    patched = small[: chunk + 4] + len(other).to_bytes(4, "little") + other + b"\0" * (len(other) % 2)
    with open_video(put(tmp_path, patched)) as reader:
        assert next(reader).shape == (32, 32, 3)
        refuses("changes its size after frame 1", next, reader, error=MediaError)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from([*VIDEOS, "gif", "webp"]),
    places=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=20),
    head=st.booleans(),
    part=st.floats(0.01, 1.0),
)
def test_whatever_the_bytes_there_is_a_video_or_a_media_error(
    tmp_path: Path, kind: str, places: list[tuple[float, int]], head: bool, part: float
) -> None:
    data = bytearray(encoded(kind))
    for where, value in places:
        data[int(where * (200 if head else len(data)))] = value
    path = put(tmp_path, bytes(data[: max(1, int(len(data) * part))]))
    logging.getLogger("libav").setLevel(logging.CRITICAL)
    limits = Limits(max_pixels=200_000, max_frame_pixels=200_000, max_frames=100)
    for read in (read_video, read_picture):
        with contextlib.suppress(MediaError):
            pixels = read(path, limits=limits)
            assert np.asarray(pixels[0] if isinstance(pixels, tuple) else pixels).dtype == np.uint8


def test_the_folder_of_a_video_stays_clean(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", moving_frames(), 25)
    read_video(tmp_path / "a.mp4")
    assert sniff(tmp_path / "a.mp4") == "video"
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
