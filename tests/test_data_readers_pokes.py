"""Readers of the data sets of the poke paper: its splits, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from reader_tools import empty, frames
from stillmotion.data.prepare import prepare
from stillmotion.data.readers import READERS
from stillmotion.data.shards import open_dataset
from stillmotion.errors import StillmotionError
from stillmotion.media import write_video


def test_human36m_is_split_as_the_poke_paper_splits_it(tmp_path: Path) -> None:
    for subject in (1, 5, 6, 7, 8, 9, 11):
        empty(tmp_path / f"S{subject}" / "Walking.60457274.mp4")
    split = {s.meta["subject"]: s.split for s in READERS["human36m"](tmp_path).sources}
    assert {subject for subject, each in split.items() if each == "train"} == {"S1", "S5", "S6", "S7", "S8"}
    assert {subject for subject, each in split.items() if each == "test"} == {"S9", "S11"}


def test_poking_plants_cuts_every_video(tmp_path: Path) -> None:
    """Each frame has a grey level of its own: 16 of 20 are for training, and 8 of 10 at half the rate."""
    levels = np.arange(20) * 12
    moving = np.broadcast_to(levels[:, None, None, None], (20, 16, 16, 3)).astype(np.uint8)
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in" / "VID_2_10_1024x1024.mp4", moving, 25.0)
    frames(tmp_path / "in" / "VID_10_0_1024x1024", 5)
    empty(*(tmp_path / "in" / f"VID_{name}_1024x1024.mkv" for name in ("0_3", "8_0", "8_12")))
    empty(tmp_path / "in" / "credits.mp4")
    info = prepare(tmp_path / "in", tmp_path / "out", size=16, layout="poking-plants")
    assert info.split_rule == "the last 20 % of every video for testing"
    back = open_dataset(tmp_path / "out")
    clips = {clip.name: clip for clip in back}
    assert {name: (len(clip), clip.meta["split"]) for name, clip in clips.items()} == {
        "VID_2_10_1024x1024_train": (16, "train"),
        "VID_2_10_1024x1024_test": (4, "test"),
        "VID_10_0_1024x1024_train": (4, "train"),
    }
    assert (clips["VID_2_10_1024x1024_test"].meta["object"], clips["VID_2_10_1024x1024_test"].meta["take"]) == (2, 10)
    for name, true in (("train", levels[:16]), ("test", levels[16:])):
        found = np.asarray(clips[f"VID_2_10_1024x1024_{name}"].frames).mean(axis=(1, 2, 3))
        assert np.abs(found - true).max() < 5
    assert {item.source: item.reason for item in info.quarantined} == {
        "VID_0_3_1024x1024.mkv": "The authors leave it out.",
        "VID_8_0_1024x1024.mkv": "The authors leave it out.",
        "VID_8_12_1024x1024.mkv": "The authors leave it out.",
        "credits.mp4": "Its name does not have the form VID_OBJECT_TAKE.",
        "VID_10_0_1024x1024": "It has 1 frames and not the least, 2.",
    }
    prepare(tmp_path / "in", tmp_path / "half", size=16, layout="poking-plants", fps=12.5)
    halves = {clip.name: len(clip) for clip in open_dataset(tmp_path / "half")}
    assert (halves["VID_2_10_1024x1024_train"], halves["VID_2_10_1024x1024_test"]) == (8, 2)


def test_poking_plants_keeps_folders_and_needs_a_video(tmp_path: Path) -> None:
    empty(tmp_path / "a" / "train" / "VID_1_0.mkv", tmp_path / "a" / "test" / "VID_1_1.mkv")
    found = READERS["poking-plants"](tmp_path / "a").sources
    assert [(s.name, s.split, s.shares) for s in found] == [("VID_1_0", "train", None), ("VID_1_1", "test", None)]
    empty(tmp_path / "b" / "VID_8_0.mkv", tmp_path / "c" / "other.mkv")
    with pytest.raises(StillmotionError, match="among those that the authors leave out"):
        READERS["poking-plants"](tmp_path / "b")
    with pytest.raises(StillmotionError, match="has a name of the form VID_OBJECT_TAKE"):
        READERS["poking-plants"](tmp_path / "c")


def iper_videos(folder: Path) -> None:
    empty(
        *(
            folder / "iPER_256_video_release" / f"{actor:03d}_{1 + actor % 3}_{m}.mp4"
            for actor in range(1, 11)
            for m in (1, 2)
        )
    )


def test_iper_without_lists_splits_by_actor(tmp_path: Path) -> None:
    iper_videos(tmp_path)
    empty(tmp_path / "readme.mp4")
    found = READERS["iper"](tmp_path)
    assert found.split_rule == "20 % of the people at random for testing (seed 0)"
    assert [item.source for item in found.refused] == ["readme.mp4"]
    tested, trained = ({s.meta["actor"] for s in found.sources if s.split == split} for split in ("test", "train"))
    assert (len(tested), len(trained)) == (2, 8)
    assert not tested & trained
    assert dict(found.sources[0].meta) == {"actor": "001", "clothes": "2", "motion": "1"}
    empty(tmp_path / "none" / "a.mp4")
    with pytest.raises(StillmotionError, match="form ACTOR_CLOTHES_MOTION"):
        READERS["iper"](tmp_path / "none")


def test_iper_follows_its_lists(tmp_path: Path) -> None:
    iper_videos(tmp_path)
    (tmp_path / "val.txt").write_text("001/2/1\n\n004/2/2\n")
    found = READERS["iper"](tmp_path)  # what val.txt does not name is for training
    assert [s.path.stem for s in found.sources if s.split == "test"] == ["001_2_1", "004_2_2"]
    assert [s.split for s in found.sources].count("train") == 18
    (tmp_path / "train.txt").write_text("002/3/1\r\n003_1_1\n")
    inside = READERS["iper"](tmp_path / "iPER_256_video_release")  # the lists lie one folder above
    assert {s.name: s.split for s in inside.sources} == {
        "001_2_1": "test",
        "002_3_1": "train",
        "003_1_1": "train",
        "004_2_2": "test",
    }
    assert inside.split_rule == "the official lists (train.txt, val.txt)"
    assert len(inside.refused) == 16
    assert inside.refused[0].reason == "Neither train.txt nor val.txt names it."
    (tmp_path / "val.txt").unlink()
    alone = READERS["iper"](tmp_path)
    assert [s.path.stem for s in alone.sources if s.split == "train"] == ["002_3_1", "003_1_1"]
    assert [s.split for s in alone.sources].count("test") == 18


def test_iper_refuses_wrong_lists_and_reads_frames(tmp_path: Path) -> None:
    for name in ("001/10/1", "001/10/2", "002/1/1"):
        frames(tmp_path / "images_HD" / name)
    names = {s.name: s.kind for s in READERS["iper"](tmp_path).sources}
    assert names == dict.fromkeys(("images_HD_001_10_1", "images_HD_001_10_2", "images_HD_002_1_1"), "frames")
    for train, val, sentence in (
        ("001/10/1\nfirst\n", "", r"Line 2 of train\.txt should read as 001/10/2: 'first'"),
        ("001/10/1\n", "001/10/1\n", r"001/10/1 stands in both train\.txt and val\.txt"),
        ("030/1/1\n", "029/1/1\n", "name none of its videos"),
    ):
        (tmp_path / "train.txt").write_text(train)
        (tmp_path / "val.txt").write_text(val)
        with pytest.raises(StillmotionError, match=sentence):
            READERS["iper"](tmp_path)


def test_tai_chi_hd(tmp_path: Path) -> None:
    empty(tmp_path / "a" / "train" / "aDyy#000001#000300.mp4")
    frames(tmp_path / "a" / "test" / "b-_1#000173#000373.mp4")
    found = READERS["tai-chi-hd"](tmp_path / "a")
    assert [(s.split, s.kind, s.meta["video"]) for s in found.sources] == [
        ("train", "video", "aDyy"),
        ("test", "frames", "b-_1"),
    ]
    assert found.split_rule == "the folders train and test"
    empty(*(tmp_path / "b" / f"video{i}#{part}#9.mp4" for i in range(20) for part in range(3)))
    drawn = READERS["tai-chi-hd"](tmp_path / "b")
    assert drawn.split_rule == "10 % of the videos at random for testing (seed 0)"
    tested, trained = ({s.meta["video"] for s in drawn.sources if s.split == split} for split in ("test", "train"))
    assert (len(tested), len(trained)) == (2, 18)
    (tmp_path / "c").mkdir()
    with pytest.raises(StillmotionError, match="check the folder"):
        READERS["tai-chi-hd"](tmp_path / "c")
