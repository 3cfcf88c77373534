"""Interlaced video: each frame is of one moment, and as many come as without."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from av.filter import Graph

from fuzz.targets import CORPUS
from refusals import refuses
from stillmotion.errors import StillmotionWarning
from stillmotion.media import MediaError, deinterlacing, read_video
from stillmotion.media.decoding import DamagedError
from stillmotion.media.deinterlacing import progressive

FRAMES = 6
STEP = 4  # pixels from one field to the next


def bar(moment: int, size: int) -> np.ndarray:
    """A bright bar, 8 pixels wide, that moves to the right."""
    picture = np.full((size, size, 3), 16, np.uint8)
    picture[:, STEP * moment : STEP * moment + 8] = 235
    return picture


def marked(frame: av.VideoFrame, order: str) -> av.VideoFrame:
    """The frame with the order of its fields, which PyAV does not let one set."""
    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    order_of_fields = graph.add("setfield", order)
    source.link_to(order_of_fields)
    order_of_fields.link_to(graph.add("buffersink"))
    graph.push(frame)
    return graph.pull()


def interlaced(path: Path, top_first: bool = True, size: int = 64) -> Path:
    """A video whose frame k has the moment 2 k in one field, and 2 k + 1 in the other."""
    with av.open(path, "w") as output:
        options = {"flags": "+ildct+ilme", "qmax": "2"}
        stream = output.add_stream("mpeg2video", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = size, size, "yuv420p"
        for k in range(FRAMES):
            woven = bar(2 * k, size)
            woven[top_first::2] = bar(2 * k + 1, size)[top_first::2]
            frame = av.VideoFrame.from_ndarray(woven, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            output.mux(stream.encode(marked(frame, "tff" if top_first else "bff")))
        output.mux(stream.encode(None))
    return path


def decoded(path: Path) -> list[tuple[av.VideoFrame, bool]]:
    with av.open(path) as file:
        return [(frame, frame.pts > 5000) for frame in file.decode(video=0)]


@pytest.mark.parametrize("top_first", [True, False])
def test_a_frame_is_of_the_moment_of_its_first_field(tmp_path: Path, top_first: bool) -> None:
    path = interlaced(tmp_path / "a.mpg", top_first)
    assert all(frame.interlaced_frame for frame, _ in decoded(path))
    frames, fps = read_video(path)
    assert (len(frames), fps) == (FRAMES, 25)
    for k, frame in enumerate(frames):
        # The first and the last frame have a neighbour in time on one side only.
        assert np.abs(frame.astype(int) - bar(2 * k, 64)).mean() < 4
        assert np.abs(np.diff(frame.astype(int), axis=0)).mean() < 2


def test_the_times_of_the_frames_stay(tmp_path: Path) -> None:
    path = interlaced(tmp_path / "a.mpg")
    assert [f.pts for f, _ in progressive(decoded(path))] == [f.pts for f, _ in decoded(path)]
    every = read_video(path)[0]
    assert np.array_equal(read_video(path, resample_fps=12.5)[0], every[::2])


def test_frames_of_another_size_and_damage_lose_none(tmp_path: Path) -> None:
    large, small = decoded(interlaced(tmp_path / "a.mpg")), decoded(interlaced(tmp_path / "b.mpg", size=32))

    def damaged() -> Iterator[tuple[av.VideoFrame, bool]]:
        yield from [*large, *small]
        raise DamagedError

    came = []
    with pytest.raises(DamagedError):
        came.extend(progressive(damaged()))  # keeps what came before
    assert [frame.width for frame, _ in came] == [64] * FRAMES + [32] * FRAMES
    assert [mark for _, mark in came] == [mark for _, mark in [*large, *small]]
    assert not any(frame.interlaced_frame for frame, _ in came)
    assert all(one.pts < two.pts for one, two in pairwise(frame for frame, _ in came[:FRAMES]))


def test_frames_without_a_time_base_are_deinterlaced(tmp_path: Path) -> None:
    """Those that a decoder is flushed of after damage."""
    content = (CORPUS / "video" / "interlaced.mpg").read_bytes()
    (tmp_path / "a.mpg").write_bytes(content[:224] + b"9" * 30 + content[224:])
    refuses("is damaged after frame", read_video, tmp_path / "a.mpg", error=MediaError)


def test_what_is_not_marked_as_interlaced_is_not_touched(tmp_path: Path) -> None:
    frames = [(frame, False) for frame, _ in progressive(decoded(interlaced(tmp_path / "a.mpg")))]
    assert all(one is two for (one, _), (two, _) in zip(progressive(frames), frames, strict=True))


def test_without_the_filter_a_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = interlaced(tmp_path / "a.mpg")
    monkeypatch.setattr(deinterlacing, "filters_available", set())
    with pytest.warns(StillmotionWarning, match="is interlaced, but FFmpeg as installed here cannot use") as told:
        frames, _ = read_video(path)
    assert (len(frames), len(told)) == (FRAMES, 1)
    assert np.abs(np.diff(frames[2].astype(int), axis=0)).mean() > 10
