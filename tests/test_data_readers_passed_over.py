"""Readers of published data sets count what they pass over; what they refuse by name is in other tests."""

from collections.abc import Callable
from pathlib import Path

import pytest

from reader_tools import empty, frames
from stillmotion.data.readers import READERS
from stillmotion.data.sources import find_sources
from test_data_readers import gif, push_clip, strip
from test_data_readers_actions import mug_take, penn_clip, write_lists
from test_data_readers_animations import animation

NOTES = {".txt files": 1, "hidden or made by a system": 1}
"""What `with_notes` puts into a folder."""


def with_notes(folder: Path) -> None:
    empty(folder / "notes.txt", folder / ".DS_Store")


def strips(*names: str) -> Callable[[Path], None]:
    def put(root: Path) -> None:
        with_notes(root)
        empty(root / "film.mp4")
        for name in names:
            strip(root / f"{name}.png")

    return put


def videos(*names: str) -> Callable[[Path], None]:
    def put(root: Path) -> None:
        with_notes(root)
        empty(root / "cover.jpg", *(root / name for name in names))

    return put


def bair(root: Path) -> None:
    frames(root / "train" / "1")
    with_notes(root / "train" / "1")
    empty(root / "readme", root / "test" / "film.mp4")
    frames(root / "test" / "1")


def kth(root: Path) -> None:
    videos("person01_walking_d1_uncomp.avi", "person01_boxing_d1_uncomp.avi", "person02_boxing_d1_uncomp.avi")(root)
    (root / "00sequences.txt").write_text("person01_walking_d1 frames 1-3\n")


def mgif(root: Path) -> None:
    with_notes(root)
    gif(root / "a.gif")
    empty(root / "b.mp4", root / "c.avi")


def webp(root: Path) -> None:
    with_notes(root)
    animation(root / "a.webp")
    strip(root / "b.png")


def iper(root: Path) -> None:
    videos("001_1_1.mp4", "002_1_1.mp4")(root)
    (root / "val.txt").write_text("001/1/1\n")
    (root / "train.txt").write_text("002/1/1\n")


def push(root: Path) -> None:
    push_clip(root / "push_train" / "0", 3, "1,2\n1,2\n")
    with_notes(root / "push_train")
    empty(root / "readme", root / "a.png")


def push_alone(root: Path) -> None:
    push_clip(root / "0", 3, "1,2\n1,2\n")
    with_notes(root)


def penn(root: Path) -> None:
    penn_clip(root, 1, "squat")
    penn_clip(root, 2, "golf_swing")
    penn_clip(root, 3, "bowl")
    with_notes(root / "frames")
    empty(root / "readme", root / "labels" / "0009.mat", root / "labels" / "0001.txt")
    (root / "train_set.txt").write_text("frames/0001 0\n")
    (root / "test_set.txt").write_text("")


def mug(root: Path) -> None:
    one, two = mug_take(root, "001 fear take000", 0, 6), mug_take(root, "002 fear take000", 0, 3)
    mug_take(root, "003 fear take000", 0, 3)
    with_notes(root / "001")
    write_lists(root, train=one[2:4], test=two)


def mug_alone(root: Path) -> None:
    mug_take(root, "001 fear take000", 0, 6)
    with_notes(root / "001")


PENN = {"beside the folders frames and labels": 1, "files in labels of no clip": 2, **NOTES}
TREES: dict[str, tuple[str, Callable[[Path], None], dict[str, int]]] = {
    "weizmann": ("weizmann", strips("subject1_walk"), {"videos": 1, **NOTES}),
    "tai-chi": ("tai-chi", strips("a"), {"videos": 1, **NOTES}),
    "penn-strips": ("penn-strips", strips("golf_1"), {"videos": 1, **NOTES}),
    "uva-nemo": ("uva-nemo", videos("001_spontaneous_smile.mp4"), {"pictures beside videos": 1, **NOTES}),
    "bair": ("bair", bair, {"beside the folders train and test": 1, "videos": 1, **NOTES}),
    "mgif": ("mgif", mgif, {"videos that are no .gif": 2, **NOTES}),
    "webp": ("webp", webp, {"pictures that are no .webp": 1, **NOTES}),
    "kth": ("kth", kth, {"pictures": 1, "videos of other actions": 2, **NOTES}),
    "weizmann-videos": ("weizmann-videos", videos("daria_walk.avi"), {"pictures": 1, **NOTES}),
    "human36m": ("human36m", videos("S1/Walking.60457274.mp4"), {"pictures": 1, **NOTES}),
    "poking-plants": ("poking-plants", videos("VID_1_3.mkv"), {"pictures beside videos": 1, **NOTES}),
    "tai-chi-hd": ("tai-chi-hd", videos("a#0#9.mp4"), {"pictures beside videos": 1, **NOTES}),
    "iper": ("iper", iper, {"pictures beside videos": 1, **NOTES}),
    "push": ("push", push, {"beside the folders push_...": 2, "pictures of strokes": 1, **NOTES}),
    "push without folders": ("push", push_alone, {"pictures of strokes": 1, **NOTES}),
    "penn-action": ("penn-action", penn, PENN),
    "penn-action of a paper": (
        "penn-action:actions",
        penn,
        {"clips of other actions": 1, "clips that the lists do not name": 1, **PENN},
    ),
    "mug": (
        "mug",
        mug,
        {
            "folders that the lists do not name": 1,
            "pictures before and after those that the lists name": 4,
            **NOTES,
        },
    ),
    "mug without lists": ("mug", mug_alone, NOTES),
}


@pytest.mark.parametrize("tree", TREES)
def test_what_a_reader_passes_over_is_counted(tmp_path: Path, tree: str) -> None:
    layout, put, expected = TREES[tree]
    put(tmp_path)
    assert READERS[layout](tmp_path).passed_over == expected


def test_every_reader_is_counted_in_a_tree() -> None:
    drawn = {"sprites", "sprites:colour", "sprites:grass"}  # in test_data_readers_sprites.py
    assert {layout for layout, _, _ in TREES.values()} | drawn == {*READERS} - {"penn-action:structures"}


def test_links_back_up_are_counted(tmp_path: Path) -> None:
    empty(tmp_path / "in" / "a.mp4")
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in")
    assert find_sources(tmp_path).passed_over == {"links to folders that are taken already": 1}
