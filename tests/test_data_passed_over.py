"""What `prepare` does not take as a clip: it is counted with the reason, and nothing is skipped without a word."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from stillmotion.cli import main as run
from stillmotion.data.info import merge_infos, read_info
from stillmotion.data.prepare import prepare
from stillmotion.data.shards import open_dataset
from stillmotion.data.sources import find_sources
from stillmotion.media import write_picture, write_video
from test_data_prepare import film, put_frames, put_strip


def put_video(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, film(3, (16, 16)), 10.0)


def found(root: Path, layout: str = "auto") -> tuple[list[str], dict[str, int]]:
    result = find_sources(root, layout)
    return [source.name for source in result.sources], dict(result.passed_over)


def test_thumbnails_are_no_clips(tmp_path: Path) -> None:
    picture = film(1, (16, 16))[0]
    for name in ("one", "two"):
        put_video(tmp_path / f"{name}.mp4")
        write_picture(tmp_path / f"{name}.jpg", picture)
    for folder in (".thumb", "@eaDir", "__MACOSX", "Thumbs"):
        put_frames(tmp_path / folder, film(4))
    (tmp_path / "Thumbs.db").touch()
    (tmp_path / "previews").mkdir()
    write_picture(tmp_path / "previews" / "one.png", picture)
    write_picture(tmp_path / "previews" / "two.mp4.jpg", picture)
    assert found(tmp_path) == (["one", "two"], {"hidden or made by a system": 5, "pictures beside videos": 4})
    # Who asks for frames gets them.
    assert found(tmp_path, "frames")[0] == [tmp_path.name, "previews"]


def test_a_lone_picture_is_no_clip_but_a_strip_is(tmp_path: Path) -> None:
    put_frames(tmp_path / "cover", film(1))
    put_frames(tmp_path / "frames", film(4))
    put_strip(tmp_path / "strips" / "one.png", film(4))
    put_video(tmp_path / "mixed" / "film.mp4")
    put_strip(tmp_path / "mixed" / "strip.png", film(4))
    assert found(tmp_path) == (
        ["frames", "mixed_film", "mixed_strip", "strips_one"],
        {"pictures alone in their folder": 1},
    )


def test_other_files_are_counted_by_their_ending(tmp_path: Path) -> None:
    put_video(tmp_path / "film.mp4")
    for name in ("notes.txt", "LIST.TXT", "readme", "film.srt", "film.mp4.part"):
        (tmp_path / name).touch()
    (tmp_path / "link.mp4").symlink_to(tmp_path / "missing")
    os.mkfifo(tmp_path / "pipe.png")
    assert found(tmp_path) == (
        ["film"],
        {".part files": 1, ".srt files": 1, ".txt files": 2, "broken links and devices": 2, "unnamed files": 1},
    )


def test_what_a_layout_does_not_ask_for_is_counted(tmp_path: Path) -> None:
    put_video(tmp_path / "film.mp4")
    put_frames(tmp_path / "frames", film(4))
    assert found(tmp_path, "videos") == (["film"], {"pictures": 4})
    assert found(tmp_path, "frames") == (["frames"], {"videos": 1})


def test_what_lies_beside_train_and_test_is_counted(tmp_path: Path) -> None:
    for name in ("train/a.mp4", "test/b.mp4", "c.mp4", "other/d.mp4"):
        put_video(tmp_path / name)
    assert found(tmp_path) == (["a", "b"], {"beside the folders train and test": 2})


@pytest.mark.parametrize("ending", ["3gp", "mts", "m2ts", "ts", "wmv", "mpg", "mpeg", "MKV", "m4v"])
def test_videos_of_cameras_are_found(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"film.{ending}").touch()
    assert [source.kind for source in find_sources(tmp_path).sources] == ["video"]


@pytest.mark.parametrize("ending", ["bmp", "tif", "tiff", "avif", "heic"])
def test_frames_of_further_formats_are_found(tmp_path: Path, ending: str) -> None:
    for name in ("1", "2"):
        (tmp_path / f"{name}.{ending}").touch()
    assert [source.kind for source in find_sources(tmp_path).sources] == ["frames"]


def test_it_is_told_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put_video(tmp_path / "in" / "film.mp4")
    (tmp_path / "in" / "notes.txt").touch()
    (tmp_path / "in" / ".DS_Store").touch()
    assert run(["prepare", str(tmp_path / "in"), str(tmp_path / "out"), "--size", "8"]) == 0
    assert "passed over: 1 .txt files, 1 hidden or made by a system" in capsys.readouterr().out
    info = read_info(tmp_path / "out")
    assert info.passed_over == {".txt files": 1, "hidden or made by a system": 1}
    assert merge_infos([info, info]).passed_over[".txt files"] == 2
    (tmp_path / "in" / "notes.txt").unlink()
    (tmp_path / "in" / ".DS_Store").unlink()
    assert prepare(tmp_path / "in", tmp_path / "clean", size=8).passed_over == {}
    assert run(["prepare", str(tmp_path / "in"), str(tmp_path / "again"), "--size", "8"]) == 0
    assert "passed over" not in capsys.readouterr().out


def test_data_sets_from_before_are_read(tmp_path: Path) -> None:
    put_video(tmp_path / "in" / "film.mp4")
    prepare(tmp_path / "in", tmp_path / "out", size=8)
    path = tmp_path / "out" / "dataset.json"
    values = json.loads(path.read_text())
    del values["passed_over"]
    path.write_text(json.dumps(values))
    assert np.array_equal(open_dataset(tmp_path / "out").named("film").frames.shape, (3, 8, 8, 3))
