"""The sets of the papers of `actions` and `structures`: Penn Action and MUG, each as a small tree in its layout."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from reader_tools import empty
from stillmotion.data.pose import JOINTS
from stillmotion.data.prepare import prepare
from stillmotion.data.readers import READERS
from stillmotion.data.readers.actions import PENN_CLASSES
from stillmotion.data.shards import open_dataset
from stillmotion.errors import StillmotionError
from stillmotion.media import write_picture


def penn_clip(root: Path, number: int, action: str = "squat", frames: int = 3, **labels: Any) -> Path:
    """Frames of 40 x 60 pixels and a label file: joint j of frame t is at (11 + 2 j + t, 5 + j) counted from 1."""
    folder = root / "frames" / f"{number:04d}"
    folder.mkdir(parents=True)
    for t in range(frames):
        write_picture(folder / f"{t + 1:06d}.png", np.full((40, 60, 3), t, np.uint8))
    times, joints = np.arange(3)[:, None], np.arange(13)[None]
    known = {
        "action": action,
        "pose": "left",
        "x": (11 + 2 * joints + times).astype(float),
        "y": (5.0 + joints + 0 * times),
        "visibility": np.uint8(joints + 0 * times != 4),
        "bbox": np.array([[21.0, 11, 30, 25], [20, 11, 31, 25], [20, 12, 32, 25]]),
        "train": -1,
        "nframes": 3,
        "dimensions": [40, 60, 3],
    }
    path = root / "labels" / f"{number:04d}.mat"
    path.parent.mkdir(exist_ok=True)
    savemat(path, {name: value for name, value in {**known, **labels}.items() if value is not None})
    return path


def test_penn_action_labels_become_tracks_and_facts(tmp_path: Path) -> None:
    penn_clip(tmp_path, 1, "baseball_pitch")
    penn_clip(tmp_path, 2, train=1)
    # No detector runs for a track that the data set brings.
    info = prepare(tmp_path, tmp_path / "out", size=20, layout="penn-action", tracks=["joints"], fps=30, max_frames=2)
    assert (info.title, info.splits, info.fps) == ("Penn Action", {"train": 1, "test": 1}, 30)
    clip = open_dataset(tmp_path / "out")[0]
    joints = clip.tracks["joints"]
    assert (joints.shape, joints.dtype) == ((2, 13, 3), np.float32)
    # The centre of 40 x 60 pixels begins at (10, 0) and is halved: x is (11 + 2 j + t - 1 - 10 + 1/2) / 2 - 1/2.
    assert np.allclose(joints[1, :, 0], (2 * np.arange(13) + 1.5) / 2 - 0.5)
    assert np.allclose(joints[1, :, 1], (np.arange(13) + 4.5) / 2 - 0.5)
    assert joints[0, :, 2].tolist() == [float(j != 4) for j in range(13)]
    facts = {"action": "baseball_pitch", "view": "left", "sequence": "0001", "split": "test", "crop": [10, 0, 50, 40]}
    assert dict(clip.meta) == {**facts, "joints": list(JOINTS)}


def test_penn_action_crops_to_its_boxes(tmp_path: Path) -> None:
    """The boxes reach from pixel 19 to 31 and from 10 to 24, counted from 0: with 5 pixels around, 25 wide."""
    penn_clip(tmp_path, 1)
    penn_clip(tmp_path, 2, bbox=np.array([[1.0, 1, 60, 20]]))
    penn_clip(tmp_path, 3, bbox=np.array([[np.nan] * 4]))
    penn_clip(tmp_path, 4, bbox=np.array([[200.0, 200, 210, 210]]))
    info = prepare(tmp_path, tmp_path / "out", size=20, layout="penn-action", crop="box")
    crops = {clip.name: clip.meta["crop"] for clip in open_dataset(tmp_path / "out")}
    assert crops == {"0001": [13, 5, 38, 30], "0002": [0, 0, 60, 40], "0003": [10, 0, 50, 40]}
    assert [item.reason for item in info.quarantined] == ["Its box does not lie in its 60 x 40 pixels."]


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ({"frames": 4}, "It has 4 frames, but 3 labels x."),
        ({"y": np.zeros((2, 13))}, "It has 3 frames, but 2 labels y."),
        ({"x": np.zeros((3, 14))}, "Its labels x are 3 x 14 and not T x 13."),
        ({"y": np.full((3, 13), np.nan)}, "Its labels y are not all finite numbers."),
        ({"visibility": None}, "Its label file 0001.mat has no 'visibility'."),
        ({"action": 7}, "Its label `action` is not one word."),
        ({"train": [1, 1]}, "Its label `train` is not one number."),
    ],
)
def test_penn_action_leaves_out_what_does_not_fit(tmp_path: Path, labels: dict[str, Any], reason: str) -> None:
    penn_clip(tmp_path, 1, **labels)
    penn_clip(tmp_path, 2)
    found = READERS["penn-action"](tmp_path)
    assert [source.name for source in found.sources] == ["0002"]
    assert [(item.source, item.reason) for item in found.refused] == [("frames/0001", reason)]


def test_penn_action_with_missing_and_broken_label_files(tmp_path: Path) -> None:
    penn_clip(tmp_path, 1).unlink()
    penn_clip(tmp_path, 2).write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    with pytest.raises(StillmotionError, match=r"can be taken \(first left out: It has no label file 0001.mat"):
        READERS["penn-action"](tmp_path)
    penn_clip(tmp_path, 3)
    reasons = [item.reason for item in READERS["penn-action"](tmp_path).refused]
    assert "0002.mat cannot be read" in reasons[1]
    with pytest.raises(StillmotionError, match="folders frames and labels"):
        READERS["penn-action"](tmp_path / "frames")


def test_penn_action_classes_of_the_papers(tmp_path: Path) -> None:
    """The labels write `pullup` and `squat` for what the data set's page calls pull_ups and squats."""
    assert {paper: len(classes) for paper, classes in PENN_CLASSES.items()} == {"actions": 9, "structures": 8}
    for i, action in enumerate(["bowl", "jump_rope", "pullup", "squat", "squats", "tennis_serve"]):
        penn_clip(tmp_path, i, action, train=1)
    assert [s.name for s in READERS["penn-action:actions"](tmp_path).sources] == ["0002", "0003", "0004", "0005"]
    found = READERS["penn-action:structures"](tmp_path)
    assert [(s.name, s.split) for s in found.sources] == [("0001", "train"), ("0005", "train")]
    assert found.split_rule == "the labels' `train`"


def test_penn_action_without_lists_tests_the_last_ten_of_a_class(tmp_path: Path) -> None:
    for i in range(12):
        penn_clip(tmp_path, i, "golf_swing", train=1)
    for i in range(12, 15):
        penn_clip(tmp_path, i, "tennis_serve", train=1)
    found = READERS["penn-action:actions"](tmp_path)
    assert [s.name for s in found.sources if s.split == "train"] == ["0000", "0001"]
    assert found.split_rule == "the last 10 clips of each action for testing"


def test_penn_action_with_the_authors_lists(tmp_path: Path) -> None:
    for i in range(4):
        penn_clip(tmp_path / "penn", i, "golf_swing")
    (tmp_path / "train_set.txt").write_text("frames/0000 6\nframes/0002 6\n\n")
    (tmp_path / "test_set.txt").write_text("frames/0001 6\n")
    found = READERS["penn-action:actions"](tmp_path / "penn")
    assert [(s.name, s.split) for s in found.sources] == [("0000", "train"), ("0001", "test"), ("0002", "train")]
    (tmp_path / "test_set.txt").write_text("frames/0001 6\n0002 6\n")
    with pytest.raises(StillmotionError, match=r"Line 2 of test_set\.txt should read as frames/2289 0: '0002 6'"):
        READERS["penn-action:actions"](tmp_path / "penn")
    for name in ("train_set.txt", "test_set.txt"):
        (tmp_path / name).write_text("frames/2001 6\n")
    with pytest.raises(StillmotionError, match="name none of the clips"):
        READERS["penn-action:actions"](tmp_path / "penn")


def penn_strip(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_picture(path, np.full((8, 24, 3), 90, np.uint8))


def test_penn_strips(tmp_path: Path) -> None:
    for name in ("jumping_jacks_3", "jumping_jacks_6", "tennis_7", "tennis_0", "Poster"):
        penn_strip(tmp_path / f"{name}.png")
    info = prepare(tmp_path, tmp_path / "out", size=8, layout="penn-strips")
    clips = open_dataset(tmp_path / "out")
    assert {(c.meta["action"], c.meta["number"], c.meta["split"]) for c in clips} == {
        ("jumping_jacks", 3, "train"),
        ("jumping_jacks", 6, "test"),
        ("tennis", 0, "train"),
        ("tennis", 7, "test"),
    }
    assert (info.fps, info.split_rule) == (20, "numbers 6 and 7 of each action for testing")
    assert [item.reason for item in info.quarantined] == ["Its name does not have the form ACTION_NUMBER."]
    penn_strip(tmp_path / "split" / "train" / "squat_7.png")
    penn_strip(tmp_path / "split" / "test" / "squat_1.png")
    found = READERS["penn-strips"](tmp_path / "split")
    assert [(s.name, s.split) for s in found.sources] == [("squat_7", "train"), ("squat_1", "test")]


def test_only_takes_what_has_the_values(tmp_path: Path) -> None:
    for name in ("squat_1", "squat_7", "tennis_0", "bowl_2"):
        penn_strip(tmp_path / "in" / f"{name}.png")

    def names(**only: list[Any]) -> tuple[str, ...]:
        prepare(tmp_path / "in", tmp_path / "out", size=8, layout="penn-strips", only=only, overwrite=True)
        return open_dataset(tmp_path / "out").names

    assert names(action=["squat", "bowl"]) == ("bowl_2", "squat_1", "squat_7")
    assert open_dataset(tmp_path / "out").info.settings["only"] == {"action": ["squat", "bowl"]}
    assert names(action=["squat", "bowl"], number=[1, "2"]) == ("bowl_2", "squat_1")
    with pytest.raises(StillmotionError, match="No clip has action=walk that could be taken"):
        names(action=["walk"])
    with pytest.raises(StillmotionError, match="No clip has action=bowl and number=7"):
        names(action=["bowl"], number=[7])


# --- MUG -----------------------------------------------------------------------------------------------------------
def mug_take(root: Path, label: str, first: int, count: int, skip: int | None = None) -> list[str]:
    """Empty pictures of a take; returns the lines of a list."""
    numbers = [n for n in range(first, first + count) if n != skip]
    empty(*(root.joinpath(*label.split()) / f"img_{n:04d}.jpg" for n in numbers))
    return [f"{label} img_{n:04d}.jpg" for n in numbers]


def write_lists(folder: Path, **lines: list[str]) -> None:
    for name in ("train", "val", "test"):
        (folder / f"{name}.txt").write_text("\n".join(lines.get(name, [])) + "\n")


def test_mug_with_the_authors_lists(tmp_path: Path) -> None:
    """A clip is the part of its folder that the list names; one folder lacks a picture in the middle."""
    root = tmp_path / "mug"
    one = mug_take(root, "001 happiness take000", 98, 8)
    two = mug_take(root, "001 fear take002", 0, 6, skip=3)
    three, four = mug_take(root, "006 anger take001", 0, 4), mug_take(root, "028 sadness take000", 0, 5)
    mug_take(root, "099 neutral take000", 0, 3)
    write_lists(tmp_path, train=[*one[2:6], *two], val=three, test=four)
    found = READERS["mug"](root)
    assert [(s.name, s.span, s.split, s.meta["group"]) for s in found.sources] == [
        ("001_happiness_take000", (2, 6), "train", "train"),
        ("001_fear_take002", (0, 5), "train", "train"),
        ("006_anger_take001", (0, 4), "train", "val"),
        ("028_sadness_take000", (0, 5), "test", "test"),
    ]
    facts = {"subject": "001", "expression": "happiness", "take": "take000", "group": "train"}
    assert dict(found.sources[0].meta) == facts
    assert (found.sources[0].fps, found.sources[0].kind) == (19.0, "frames")
    assert found.refused == []


def test_mug_leaves_out_what_is_missing_or_out_of_order(tmp_path: Path) -> None:
    good = mug_take(tmp_path, "001 fear take000", 0, 3)
    short, turned = mug_take(tmp_path, "002 fear take000", 0, 3), mug_take(tmp_path, "003 fear take000", 0, 3)
    (tmp_path / "002" / "fear" / "take000" / "img_0001.jpg").unlink()
    write_lists(tmp_path, train=good, val=[*short, *turned[::-1]], test=["004 fear take000 img_0000.jpg"])
    found = READERS["mug"](tmp_path)
    assert [s.name for s in found.sources] == ["001_fear_take000"]
    assert {item.source: item.reason for item in found.refused} == {
        "002/fear/take000": "1 of the 3 pictures listed are missing, as img_0001.jpg.",
        "003/fear/take000": "Its pictures are not listed in the order of time.",
        "004/fear/take000": "A list names it, but there is no such folder.",
    }


def test_mug_lists_that_cannot_be_used(tmp_path: Path) -> None:
    lines = mug_take(tmp_path, "001 fear take000", 0, 3)
    write_lists(tmp_path, train=lines, test=lines)
    with pytest.raises(StillmotionError, match=r"001 fear take000 stands in both train\.txt and test\.txt"):
        READERS["mug"](tmp_path)
    write_lists(tmp_path, train=lines, val=["001/fear/take000/img_0000.jpg"])
    with pytest.raises(StillmotionError, match=r"Line 1 of val\.txt should read as 001 happiness take000 img_0012"):
        READERS["mug"](tmp_path)
    write_lists(tmp_path, test=["004 fear take000 img_0000.jpg"])
    with pytest.raises(StillmotionError, match="name no folder"):
        READERS["mug"](tmp_path)


def test_mug_without_lists_tests_a_third_of_the_people(tmp_path: Path) -> None:
    for subject in range(1, 10):
        for expression in ("disgust", "surprise"):
            mug_take(tmp_path / "data", f"{subject:03d} {expression} take000", 0, 2)
    mug_take(tmp_path / "data", "001 neutral take000", 0, 2)
    found = READERS["mug"](tmp_path / "data")
    tested, trained = ({s.meta["subject"] for s in found.sources if s.split == split} for split in ("test", "train"))
    assert (len(tested), len(trained), len(found.sources)) == (3, 6, 18)
    assert [item.source for item in found.refused] == ["001/neutral/take000"]
    empty(tmp_path / "other" / "a" / "img_0000.jpg")
    with pytest.raises(StillmotionError, match=r"No folder in .* is called as 001/happiness/take000"):
        READERS["mug"](tmp_path / "other")
    with pytest.raises(StillmotionError, match="is not a folder"):
        READERS["mug"](tmp_path / "nowhere")
