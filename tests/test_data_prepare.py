"""From folders as people have them to prepared data sets, in several processes."""

import os
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refusals import refuses
from stillmotion.data.pool import map_in_order
from stillmotion.data.prepare import ClipSettings, prepare, read_clip
from stillmotion.data.shards import open_dataset
from stillmotion.data.sources import Source, find_sources, hold_out, natural_key, random_split, with_safe_names
from stillmotion.media import open_video, write_picture, write_video


def film(length: int = 4, size: tuple[int, int] = (8, 8), shade: int = 0) -> np.ndarray:
    """Frame t is even grey: shade + 10 t."""
    grey = (shade + 10 * np.arange(length)).astype(np.uint8)
    return np.broadcast_to(grey[:, None, None, None], (length, *size, 3)).copy()


def put_strip(path: Path, frames: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_picture(path, np.concatenate(list(frames), axis=1))


def put_frames(folder: Path, frames: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for t, frame in enumerate(frames):
        write_picture(folder / f"{t}.png", frame)


def put_gif(path: Path, frames: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [Image.fromarray(frame) for frame in frames]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100)


def greys(frames: np.ndarray) -> list[int]:
    return frames[:, 0, 0, 0].tolist()


def silent(*_: object) -> None:
    """Report nothing."""


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_strips_frames_and_films_in_one_folder(tmp_path: Path) -> None:
    root = tmp_path / "in"
    put_strip(root / "strip.png", film(5))
    put_frames(root / "folder", film(12, shade=3))  # 10.png must come after 9.png
    put_gif(root / "deep" / "er" / "moving.gif", film(3, shade=7))
    write_video(root / "film.mp4", film(6, (16, 16), shade=20), 10.0)
    (root / "README.txt").write_text("not a video")
    (root / ".hidden.mp4").write_bytes(b"")
    info = prepare(root, tmp_path / "out", size=8)
    back = open_dataset(tmp_path / "out")
    assert back.names == ("deep_er_moving", "film", "folder", "strip")
    assert info.quarantined == ()
    assert greys(back.named("strip").frames) == [0, 10, 20, 30, 40]
    assert greys(back.named("folder").frames) == [3 + 10 * t for t in range(12)]
    assert np.abs(np.array(greys(back.named("film").frames)) - [20, 30, 40, 50, 60, 70]).max() <= 4
    assert [clip.fps for clip in back] == [10.0, 10.0, 25.0, 25.0]
    assert (info.size, info.clips, info.title) == ((8, 8), 4, "in")
    assert info.splits == {"train": 3, "test": 1}
    assert "PyAV" in info.decoder
    assert info.settings["crop"] == "centre"


def test_train_and_test_folders_are_respected(tmp_path: Path) -> None:
    for name in ("train/a.png", "train/b.png", "test/a.png", "other/c.png"):
        put_strip(tmp_path / "in" / name, film())
    info = prepare(tmp_path / "in", tmp_path / "out", size=8)
    back = open_dataset(tmp_path / "out")
    assert info.splits == {"test": 1, "train": 2}
    assert back.where(split="train").names == ("a", "b")
    assert back.where(split="test").names == ("a-2",)
    assert info.split_rule == "the folders train and test"


def test_broken_files_are_quarantined_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "in"
    put_strip(root / "good.png", film())
    put_strip(root / "short.png", film(1))
    (root / "empty.mp4").write_bytes(b"")
    (root / "noise.mp4").write_bytes(bytes(range(256)) * 8)
    (root / "text.png").write_text("not a picture")
    write_video(root / "film.mp4", film(12, (16, 16)), 10.0)
    whole = (root / "film.mp4").read_bytes()
    (root / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    write_picture(root / "uneven.png", np.zeros((8, 27, 3), np.uint8))
    info = prepare(root, tmp_path / "out", size=8, layout="auto")
    assert open_dataset(tmp_path / "out").names == ("film", "good")
    reasons = {item.source: item.reason for item in info.quarantined}
    assert sorted(reasons) == ["cut.mp4", "empty.mp4", "noise.mp4", "short.png", "text.png", "uneven.png"]
    assert reasons["short.png"] == "It has 1 frames and not the least, 2."
    told = capsys.readouterr().err
    for name, reason in reasons.items():
        assert f"quarantined {name}: {reason}\n" in told
        assert str(tmp_path) not in reason


def test_nothing_usable_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    root = tmp_path / "in"
    root.mkdir()
    refuses("No video, no frames, no strip in", prepare, root, tmp_path / "out")
    (root / "empty.mp4").write_bytes(b"")
    refuses("not one usable clip", prepare, root, tmp_path / "out", progress=silent)
    refuses("is not a folder", prepare, root / "empty.mp4", tmp_path / "out")
    refuses("no layout 'vhs': choose from auto, videos", prepare, root, tmp_path / "out", layout="vhs")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_progress_counts_every_source(tmp_path: Path) -> None:
    put_strip(tmp_path / "in" / "a.png", film())
    put_strip(tmp_path / "in" / "b.png", film(1))
    calls: list[tuple[int, int, str, str | None]] = []
    prepare(tmp_path / "in", tmp_path / "out", size=8, progress=lambda *call: calls.append(call))
    reason = "It has 1 frames and not the least, 2."
    assert calls == [(1, 2, "a.png", None), (2, 2, "b.png", reason)]


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_the_number_of_jobs(tmp_path: Path) -> None:
    for name in "abcde":
        put_strip(tmp_path / "in" / f"{name}.png", film(3, shade=ord(name)))
    (tmp_path / "in" / "c.png").write_bytes(b"broken")
    for jobs in (1, 2):
        prepare(
            tmp_path / "in",
            tmp_path / f"out{jobs}",
            size=8,
            jobs=jobs,
            layout="strips",
            tracks=["points"],
            progress=silent,
        )
    assert contents(tmp_path / "out1") == contents(tmp_path / "out2")


def test_a_rate_is_reached_by_repeating_and_dropping(tmp_path: Path) -> None:
    put_gif(tmp_path / "in" / "a.gif", film(8))  # 10 frames per second
    prepare(tmp_path / "in", tmp_path / "out", size=8, fps=5)
    clip = open_dataset(tmp_path / "out")[0]
    assert clip.fps == 5
    assert len(clip) == 4
    # Of strips, whose rate is not known, the rate is declared and no frame is dropped.
    put_strip(tmp_path / "strips" / "a.png", film(8))
    prepare(tmp_path / "strips", tmp_path / "out2", size=8, fps=5)
    assert (len(open_dataset(tmp_path / "out2")[0]), open_dataset(tmp_path / "out2")[0].fps) == (8, 5)


def test_frames_are_limited(tmp_path: Path) -> None:
    put_strip(tmp_path / "a.png", film(9))
    source = Source(tmp_path / "a.png", "a", "strip")
    assert len(read_clip(source, ClipSettings(size=(8, 8), max_frames=4))) == 4
    refuses("has 9 frames and not the least, 10", read_clip, source, ClipSettings(size=(8, 8), min_frames=10))


def quadrants(tmp_path: Path) -> Source:
    """Two frames, 20 wide and 10 high: left third black, middle white, right grey, in columns of 5, 10, 5."""
    frame = np.zeros((10, 20, 3), np.uint8)
    frame[:, 5:15] = 255
    frame[:, 15:] = 128
    put_frames(tmp_path / "clip", np.stack([frame, frame]))
    return Source(tmp_path / "clip", "clip", "frames")


def test_crops(tmp_path: Path) -> None:
    source = quadrants(tmp_path)

    def row(crop: str, size: tuple[int, int]) -> tuple[list[int], list[int]]:
        clip = read_clip(source, ClipSettings(size=size, crop=crop))
        return clip.frames[0, 0, :, 0].tolist(), clip.meta["crop"]

    assert row("centre", (10, 10)) == ([255] * 10, [5, 0, 15, 10])
    assert row("none", (10, 20)) == ([0] * 5 + [255] * 10 + [128] * 5, [0, 0, 20, 10])
    assert row("centre", (5, 10))[1] == [0, 0, 20, 10]
    assert row("13,2,4,3", (3, 4)) == ([255, 255, 128, 128], [13, 2, 17, 5])
    refuses("does not lie in its 20 x 10 pixels", row, "13,2,8,3", (3, 4))
    for wrong in ("middle", "1,2,3", "0,0,0,5", "-1,0,5,5"):
        refuses(r"crop|least one", ClipSettings, crop=wrong)


def test_motion_crop_holds_all_that_moves(tmp_path: Path) -> None:
    # Larger than the 128 pixels a side that motion is looked for in: the scale back must be right for x and y.
    frames = np.full((24, 200, 400, 3), 40, np.uint8)
    for t in range(24):
        frames[t, 120:140, 200 + 4 * t : 220 + 4 * t] = 250
    put_frames(tmp_path / "clip", frames)
    clip = read_clip(Source(tmp_path / "clip", "c", "frames"), ClipSettings(size=(32, 32), crop="motion"))
    x0, y0, x1, y1 = clip.meta["crop"]
    # It moves over columns 200 to 311 and rows 120 to 139; with a tenth on each side that is 134 pixels.
    assert x1 - x0 == y1 - y0
    assert abs((x1 - x0) - 112 * 1.2) <= 6
    assert abs((x0 + x1) / 2 - 256) <= 4
    # Centred on row 130 it would end at row 197.
    assert abs((y0 + y1) / 2 - 130) <= 4


def test_any_exception_of_a_decoder_is_one_files_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_strip(tmp_path / "in" / "a.png", film())
    put_strip(tmp_path / "in" / "b.png", film())

    def moody(path: Path, **options: object) -> object:
        if path.name == "a.png":
            raise IndexError("list index out of range")
        return open_video(path, **options)

    monkeypatch.setattr("stillmotion.data.prepare.open_video", moody)
    info = prepare(tmp_path / "in", tmp_path / "out", size=8, progress=silent)
    assert open_dataset(tmp_path / "out").names == ("b",)
    assert info.quarantined[0].reason == "It cannot be read (IndexError: list index out of range)."


def test_tracks_are_made_on_the_finished_frames(tmp_path: Path) -> None:
    put_strip(tmp_path / "in" / "a.png", film(4, (16, 16)))
    info = prepare(tmp_path / "in", tmp_path / "out", size=(12, 14), tracks=["points", "flow"], crop="none")
    clip = open_dataset(tmp_path / "out")[0]
    assert info.tracks == ("flow", "points")
    assert clip.tracks["flow"].shape == (3, 12, 14, 2)
    assert clip.tracks["points"].shape == (4, 2)
    refuses("no tracker 'pose'", prepare, tmp_path / "in", tmp_path / "other", tracks=["pose"])


def sources_named(*names: str) -> list[Source]:
    return [Source(Path(name), name, "video", meta={"subject": name[0]}) for name in names]


def test_names_become_safe_and_unique() -> None:
    long = "x" * 200
    named = with_safe_names(sources_named("a b", "a/b", "A-b", "äö", "öä", "a-b-2", long, long + "y"))
    names = [source.name for source in named]
    assert names[:6] == ["a-b", "a-b-2", "A-b-3", "clip", "clip-2", "a-b-2-2"]
    assert len({name.lower() for name in names}) == 8
    assert max(len(name) for name in names) == 80 + 1 + 8


def test_random_split_is_fixed_and_never_cuts_a_group() -> None:
    sources = sources_named(*(f"{subject}_{i}" for subject in "abcde" for i in range(3)))
    split = random_split(sources, 0.2)
    assert [s.split for s in split] == [s.split for s in random_split(sources, 0.2)]
    assert sum(s.split == "test" for s in split) == 3
    people = random_split(sources, 0.2, by="subject")
    tested = {s.meta["subject"] for s in people if s.split == "test"}
    assert len(tested) == 1
    assert all((s.split == "test") == (s.meta["subject"] in tested) for s in people)
    assert [s.split for s in random_split(sources[:1], 0.2)] == ["train"]


@pytest.mark.parametrize(("total", "share", "tested"), [(1234, 0.1, 124), (4110, 0.2, 822), (1000, 0.1, 100)])
def test_random_split_gives_the_papers_numbers(total: int, share: float, tested: int) -> None:
    split = random_split(sources_named(*(f"v{i}" for i in range(total))), share)
    assert sum(s.split == "test" for s in split) == tested


def test_holding_out() -> None:
    split = hold_out(sources_named("a1", "b1", "a2", "c1"), {"subject": ["a", "c"]})
    assert [s.split for s in split] == ["test", "train", "test", "test"]
    refuses("No clip has subject=z", hold_out, split, {"subject": ["z"]})


def test_natural_order() -> None:
    assert sorted(["10", "9", "a2", "a10", "1"], key=natural_key) == ["1", "9", "10", "a2", "a10"]


def test_a_link_back_up_does_not_loop(tmp_path: Path) -> None:
    put_strip(tmp_path / "in" / "a.png", film())
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in")
    assert [source.name for source in find_sources(tmp_path / "in").sources] == ["a"]


def test_a_folder_of_frames_is_one_clip_by_itself(tmp_path: Path) -> None:
    put_frames(tmp_path / "wave", film())
    assert [(s.name, s.kind) for s in find_sources(tmp_path / "wave").sources] == [("wave", "frames")]
    # Asked for strips, each picture is one.
    assert len(find_sources(tmp_path / "wave", "strips").sources) == 4


def real_data() -> Path | None:
    named = os.environ.get("STILLMOTION_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    return folder if (folder / "weizmann").is_dir() else None


@pytest.mark.skipif(real_data() is None, reason="the real data are not here (STILLMOTION_DATA)")
def test_a_real_strip(tmp_path: Path) -> None:
    root = real_data()
    strip = sorted((root / "weizmann").glob("*.png"))[0]
    (tmp_path / "in").mkdir()
    shutil.copy(strip, tmp_path / "in")
    prepare(tmp_path / "in", tmp_path / "out", layout="weizmann", tracks=["points"])
    clip = open_dataset(tmp_path / "out")[0]
    pixels = np.asarray(Image.open(strip).convert("RGB"))
    assert clip.frames.shape == (pixels.shape[1] // 64, 64, 64, 3)
    assert np.array_equal(np.concatenate(list(clip.frames), axis=1), pixels)
    assert clip.fps == 25
    assert clip.name == f"subject{clip.meta['subject']}_{clip.meta['action']}"


def square_or_die(number: int) -> int:
    if number == 2:
        os._exit(1)
    if number == 5:
        raise ValueError("five")
    return number * number


def minus(number: int) -> int:
    return -number


@pytest.mark.slow
def test_a_crash_takes_only_its_own_item_along() -> None:
    # More items than are under way at a time, so that work goes on together after the crash.
    items = [0, 1, 2, 3, 4, 6, 7, 8]
    assert list(map_in_order(square_or_die, items, 2, minus)) == [0, 1, -2, 9, 16, 36, 49, 64]


@pytest.mark.slow
def test_an_exception_in_a_process_is_raised_here() -> None:
    results = map_in_order(square_or_die, [1, 5], 2, minus)
    assert next(results) == 1
    refuses("five", next, results, error=ValueError)


def test_mapping_in_this_process_is_plain_and_lazy() -> None:
    results = map_in_order(partial(divmod, 7), [1, 2, 0], 1, minus)
    assert next(results) == (7, 0)
    assert next(results) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        next(results)
