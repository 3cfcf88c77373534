"""Published data sets, each as a small tree in its layout."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reader_tools import empty, frames
from stillmotion.data.prepare import prepare
from stillmotion.data.readers import READERS
from stillmotion.data.shards import open_dataset
from stillmotion.errors import StillmotionError
from stillmotion.media import write_picture, write_video


def strip(path: Path, length: int = 3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_picture(path, np.full((8, 8 * length, 3), 90, np.uint8))


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
        *("bair", "human36m", "iper", "kth", "mgif", "mug"),
        *("penn-action", "penn-action:actions", "penn-action:structures", "penn-strips"),
        *("poking-plants", "push", "sprites", "sprites:colour", "sprites:grass"),
        *("tai-chi", "tai-chi-hd", "uva-nemo", "webp", "weizmann", "weizmann-videos"),
    ]


# As in the official file: tabs and spaces, three parts, parts out of order, an overlap, an action that is not wanted.
LINES = """The sequences are named person15_walking_d1 and so on.
Training: person11, 12; Test: person22

person01_walking_d1\t\tframes\t1-4, 9-12
person07_jogging_d4    \t\tframes\t1-3, 9-10, 5-8
person07_running_d2\t\tframes\t1-6, 5-9, 11-40,
person21_running_d3\t\tframes\t1-5
person13_handclapping_d3\t*missing*
person22_walking_d1\tframes\t7-3
person23_boxing_d1\t\tframes\t1-4
"""


def test_kth_takes_the_parts_of_the_sequence_file(tmp_path: Path) -> None:
    (tmp_path / "00sequences.txt").write_text(LINES)
    for action, names in {
        "walking": ("person01_walking_d1", "person22_walking_d1", "person05_walking_d2"),
        "jogging": ("person07_jogging_d4",),
        "running": ("person07_running_d2", "person21_running_d3"),
        "boxing": ("person23_boxing_d1",),
    }.items():
        empty(*(tmp_path / action / f"{name}_uncomp.avi" for name in names))
    empty(tmp_path / "running" / "trailer.avi")
    found = READERS["kth"](tmp_path)
    assert {s.name: (s.span, s.split) for s in found.sources} == {
        "person07_jogging_d4_1": ((0, 3), "train"),
        "person07_jogging_d4_2": ((4, 8), "train"),
        "person07_jogging_d4_3": ((8, 10), "train"),
        "person07_running_d2_1": ((0, 6), "train"),
        "person07_running_d2_2": ((6, 9), "train"),  # frames 5 and 6 belong to the first part
        "person07_running_d2_3": ((10, 40), "train"),
        "person21_running_d3_1": ((0, 5), "test"),
        "person01_walking_d1_1": ((0, 4), "train"),
        "person01_walking_d1_2": ((8, 12), "train"),
    }
    assert dict(found.sources[1].meta) == {"person": 7, "action": "jogging", "scenario": "d4", "part": 2}
    assert {s.fps for s in found.sources} == {25.0}
    reasons = {item.source: item.reason for item in found.refused}
    assert set(reasons) == {
        "running/trailer.avi",
        "walking/person05_walking_d2_uncomp.avi",
        "walking/person22_walking_d1_uncomp.avi",
    }
    assert reasons["walking/person05_walking_d2_uncomp.avi"] == "It has no line in 00sequences.txt."
    assert "7-3" in reasons["walking/person22_walking_d1_uncomp.avi"]


@pytest.mark.parametrize(("person", "split"), [(20, "train"), (21, "test"), (25, "test"), (16, "train")])
def test_kth_keeps_the_persons_21_to_25_for_testing(person: int, split: str, tmp_path: Path) -> None:
    """The split of the paper (Sec. IV-A)."""
    (tmp_path / "00sequences.txt").write_text(f"person{person}_walking_d1\t\tframes\t1-4\n")
    (tmp_path / "walking").mkdir()
    empty(tmp_path / "walking" / f"person{person}_walking_d1_uncomp.avi")
    assert [source.split for source in READERS["kth"](tmp_path).sources] == [split]


def test_kth_needs_its_sequence_file(tmp_path: Path) -> None:
    empty(tmp_path / "kth" / "person01_walking_d1_uncomp.avi")
    with pytest.raises(StillmotionError, match=r"no 00sequences\.txt"):
        READERS["kth"](tmp_path / "kth")
    (tmp_path / "00sequences.txt").write_text(LINES)  # where the download page leaves it
    assert len(READERS["kth"](tmp_path / "kth").sources) == 2
    empty(tmp_path / "other" / "person01_boxing_d1_uncomp.avi")
    with pytest.raises(StillmotionError, match="No walking, jogging or running"):
        READERS["kth"](tmp_path / "other")


def test_a_part_is_cut_out_of_its_video(tmp_path: Path) -> None:
    """Each frame has a grey level of its own, so the clip says which frames it has; at half the rate too."""
    (tmp_path / "00sequences.txt").write_text("person21_walking_d1 frames 1-4, 9-16, 17-90\n")
    levels = np.arange(20) * 12
    write_video(
        tmp_path / "person21_walking_d1_uncomp.mp4",
        np.broadcast_to(levels[:, None, None, None], (20, 16, 16, 3)).astype(np.uint8),
        25.0,
    )
    prepare(tmp_path, tmp_path / "out", size=16, layout="kth")
    parts = [np.asarray(clip.frames).mean(axis=(1, 2, 3)) for clip in open_dataset(tmp_path / "out")]
    for found, true in zip(parts, (levels[:4], levels[8:16], levels[16:]), strict=True):
        assert len(found) == len(true)
        assert np.abs(found - true).max() < 5
    prepare(tmp_path, tmp_path / "half", size=16, layout="kth", fps=12.5, max_frames=3)
    halves = [np.asarray(clip.frames).mean(axis=(1, 2, 3)) for clip in open_dataset(tmp_path / "half")]
    assert [len(part) for part in halves] == [2, 3, 2]
    assert levels[8] - 5 <= halves[1][0] <= levels[9] + 5
    assert np.abs(np.diff(halves[1]) - 24).max() < 5


def test_weizmann_videos(tmp_path: Path) -> None:
    for person in ("daria", "denis", "eli", "lena", "shahar"):
        empty(tmp_path / "wave2" / f"{person}_wave2.avi")
    empty(tmp_path / "walk" / "lena_walk1.avi", tmp_path / "walk" / "lena_walk2.avi", tmp_path / "classif.avi")
    found = READERS["weizmann-videos"](tmp_path)
    facts = {s.path.stem: dict(s.meta) for s in found.sources}
    assert facts["lena_walk2"] == {"subject": "lena", "action": "walk", "take": 2}
    assert facts["eli_wave2"] == {"subject": "eli", "action": "wave2"}
    tested = {s.meta["subject"] for s in found.sources if s.split == "test"}
    assert len(tested) == 1
    assert not tested & {s.meta["subject"] for s in found.sources if s.split == "train"}
    assert [item.source for item in found.refused] == ["classif.avi"]


def push_clip(folder: Path, count: int = 4, stroke: str | None = None, size: tuple[int, int] = (16, 16)) -> None:
    folder.mkdir(parents=True)
    for t in range(count):
        write_picture(folder / f"frame-{t:03d}.png", np.full((*size, 3), 10 * t, np.uint8))
    if stroke is not None:
        (folder / "stroke.txt").write_text(stroke)
        write_picture(folder / "stroke.png", np.full((*size, 3), 255, np.uint8))


def test_push_has_one_training_and_two_test_sets(tmp_path: Path) -> None:
    for name in ("push_train/0", "push_train/1", "push_testseen/0", "push_testnovel/0", "leftovers/9"):
        push_clip(tmp_path / name)
    found = READERS["push"](tmp_path)
    assert {(s.name, s.split, s.meta.get("objects")) for s in found.sources} == {
        ("push_train_0", "train", None),
        ("push_train_1", "train", None),
        ("push_testseen_0", "test", "seen"),
        ("push_testnovel_0", "test", "novel"),
    }


def test_push_strokes_become_points(tmp_path: Path) -> None:
    """Line i is (row, col) of frame i + 1; halved in size, (x, y) goes to (x + 1/2) / 2 - 1/2."""
    push_clip(tmp_path / "in" / "000", 4, "2,12\n3,10\n5,8\n", (16, 32))
    prepare(tmp_path / "in", tmp_path / "out", size=(8, 16), layout="push", crop="none", tracks=["points", "boxes"])
    clip = open_dataset(tmp_path / "out")[0]
    assert len(clip) == 4  # stroke.png is no frame
    assert np.asarray(clip.frames).max() == 30
    assert np.isnan(clip.tracks["points"][0]).all()
    assert clip.tracks["points"][1:].tolist() == [[5.75, 0.75], [4.75, 1.25], [3.75, 2.25]]
    # A part of the source: its first pixel is the clip's.
    prepare(tmp_path / "in", tmp_path / "part", size=8, layout="push", crop="4,2,8,8", max_frames=3)
    part = open_dataset(tmp_path / "part")[0]
    assert part.tracks["points"][1:].tolist() == [[8, 0], [6, 1]]


def test_push_strokes_too_long_or_too_short(tmp_path: Path) -> None:
    push_clip(tmp_path / "a", 3, "9,9\n0,1\n0,2\n0,3\n")  # more lines than frames: the first is dropped
    push_clip(tmp_path / "b", 3, "0,1\n")
    push_clip(tmp_path / "c", 3, "0,1\nnonsense\n")
    found = READERS["push"](tmp_path)
    points = {s.name: s.points for s in found.sources}
    assert points["a"][1:] == ((1, 0), (2, 0))
    assert points["b"][1] == (1, 0)
    assert all(math.isnan(value) for value in (*points["a"][0], *points["b"][0], *points["b"][2]))
    assert [(item.source, item.reason) for item in found.refused] == [
        ("c", "Line 2 of its stroke.txt should read row,col: 'nonsense'.")
    ]


def test_push_frames_behind_the_strokes_picture_are_refused(tmp_path: Path) -> None:
    push_clip(tmp_path / "a", 2, "0,1\n")
    write_picture(tmp_path / "a" / "zebra.png", np.zeros((16, 16, 3), np.uint8))
    assert "lies between the frames" in READERS["push"](tmp_path).refused[0].reason


def test_human36m(tmp_path: Path) -> None:
    for name in ("S1/Videos/Directions 1.54138969", "S9/Videos/Sitting.55011271", "S11/Videos/_ALL 1.54138969"):
        empty(tmp_path / f"{name}.mp4")
    empty(tmp_path / "S11" / "Videos" / "Walking 2.60457274.mp4", tmp_path / "Walking 1.60457274.mp4")
    found = READERS["human36m"](tmp_path)
    assert {s.name: s.split for s in found.sources} == {
        "S1_Directions_1_54138969": "train",
        "S9_Sitting_55011271": "test",
        "S11_Walking_2_60457274": "test",
    }
    facts = {s.name: dict(s.meta) for s in found.sources}
    walking = {"subject": "S11", "action": "Walking", "take": 2, "camera": "60457274"}
    assert facts["S11_Walking_2_60457274"] == walking
    assert {s.fps for s in found.sources} == {50.0}
    assert sorted(item.source for item in found.refused) == [
        "S11/Videos/_ALL 1.54138969.mp4",
        "Walking 1.60457274.mp4",
    ]
    alone = READERS["human36m"](tmp_path / "S9")  # one subject's folder
    assert [s.name for s in alone.sources] == ["S9_Sitting_55011271"]
