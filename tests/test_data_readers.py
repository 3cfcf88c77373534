"""Published data sets, each as a small tree in its layout."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stillmotion.data.prepare import prepare
from stillmotion.data.readers import READERS
from stillmotion.data.shards import open_dataset
from stillmotion.errors import StillmotionError
from stillmotion.media import write_picture


def strip(path: Path, length: int = 3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_picture(path, np.full((8, 8 * length, 3), 90, np.uint8))


def frames(folder: Path, length: int = 3) -> None:
    folder.mkdir(parents=True)
    for t in range(length):
        write_picture(folder / f"{t}.png", np.full((8, 8, 3), t, np.uint8))


def gif(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    first, second = (Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in (0, 200))
    first.save(path, save_all=True, append_images=[second], duration=40)


def test_weizmann_without_folders_splits_by_person(tmp_path: Path) -> None:
    for subject in (1, 2, 4, 5, 10):
        for action in ("bend", "wave1"):
            strip(tmp_path / f"subject{subject}_{action}.png")
    strip(tmp_path / "poster.png")
    found = READERS["weizmann"](tmp_path)
    assert len(found.sources) == 10
    first = found.sources[0]
    assert (first.name, first.fps, first.kind) == ("subject1_bend", 25.0, "strip")
    assert dict(first.meta) == {"subject": 1, "action": "bend"}
    tested = {s.meta["subject"] for s in found.sources if s.split == "test"}
    trained = {s.meta["subject"] for s in found.sources if s.split == "train"}
    assert len(tested) == 1
    assert not tested & trained
    assert [(item.source, item.reason) for item in found.refused] == [
        ("poster.png", "Its name does not have the form subjectN_ACTION.")
    ]


def test_weizmann_with_named_people_and_with_folders(tmp_path: Path) -> None:
    for subject in (1, 2, 4):
        strip(tmp_path / "a" / f"subject{subject}_bend.png")
    info = prepare(tmp_path / "a", tmp_path / "out", size=8, layout="weizmann", held_out={"subject": [2, "4"]})
    assert open_dataset(tmp_path / "out").where(split="test").names == ("subject2_bend", "subject4_bend")
    assert info.split_rule == "held out for testing: subject 2, 4"
    assert info.title == "Weizmann actions"
    assert info.fps == 25

    strip(tmp_path / "b" / "train" / "subject1_jack.png")
    strip(tmp_path / "b" / "test" / "subject3_jack.png")
    sources = READERS["weizmann"](tmp_path / "b").sources
    assert [(s.name, s.split) for s in sources] == [("subject1_jack", "train"), ("subject3_jack", "test")]


def test_uva_nemo(tmp_path: Path) -> None:
    for i in range(1, 9):
        strip(tmp_path / f"{i:03d}_deliberate_smile_2.png")
    frames(tmp_path / "009_spontaneous_smile_4")
    frames(tmp_path / "010_spontaneous_smile_1")
    strip(tmp_path / "calibration.png")
    found = READERS["uva-nemo"](tmp_path)
    assert len(found.sources) == 10
    assert [s.split for s in found.sources].count("test") == 1
    facts = {s.name: (s.kind, s.meta["subject"], s.meta["smile"]) for s in found.sources}
    assert facts["009_spontaneous_smile_4"] == ("frames", "009", "spontaneous")
    assert facts["001_deliberate_smile_2"] == ("strip", "001", "deliberate")
    assert [item.source for item in found.refused] == ["calibration.png"]
    strip(tmp_path / "other" / "x.png")
    with pytest.raises(StillmotionError, match="has a name of the form NNN_deliberate_smile"):
        READERS["uva-nemo"](tmp_path / "other")


def test_tai_chi(tmp_path: Path) -> None:
    for i in range(10):
        strip(tmp_path / f"clip{i}.jpg".replace("jpg", "png"), length=4)
    found = READERS["tai-chi"](tmp_path)
    assert [s.split for s in found.sources].count("test") == 2
    assert {s.kind for s in found.sources} == {"strip"}


def test_bair(tmp_path: Path) -> None:
    frames(tmp_path / "train" / "traj_0_to_255" / "0", 30)
    frames(tmp_path / "train" / "traj_0_to_255" / "10", 30)
    frames(tmp_path / "test" / "07", 30)
    info = prepare(tmp_path, tmp_path / "out", size=8, layout="bair")
    back = open_dataset(tmp_path / "out")
    assert info.splits == {"test": 1, "train": 2}
    assert back.names == ("traj_0_to_255_0", "traj_0_to_255_10", "07")
    # 10.png comes after 9.png although "10" sorts before "9".
    assert back[0].frames[:, 0, 0, 0].tolist() == list(range(30))
    (tmp_path / "flat").mkdir()
    frames(tmp_path / "flat" / "0", 3)
    with pytest.raises(StillmotionError, match="no train and test folders"):
        READERS["bair"](tmp_path / "flat")


def test_mgif(tmp_path: Path) -> None:
    for i in range(3):
        gif(tmp_path / "train" / f"{i:03d}.gif")
    gif(tmp_path / "test" / "900.gif")
    found = READERS["mgif"](tmp_path)
    assert [(s.name, s.split) for s in found.sources] == [
        ("000", "train"),
        ("001", "train"),
        ("002", "train"),
        ("900", "test"),
    ]
    (tmp_path / "none").mkdir()
    with pytest.raises(StillmotionError, match="No video in"):
        READERS["mgif"](tmp_path / "none")


def test_every_reader_can_be_named() -> None:
    assert sorted(READERS) == [
        *("bair", "human36m", "kth", "mgif", "push", "tai-chi", "uva-nemo", "weizmann", "weizmann-videos")
    ]
