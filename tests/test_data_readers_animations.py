"""Animated WebP with alpha becomes clips on white or on a colour, each a character of its own."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stillmotion.cli import main
from stillmotion.data.readers import READERS, find_reader
from stillmotion.data.shards import open_dataset
from stillmotion.errors import StillmotionError

GROUND = (32, 192, 64)


def animation(path: Path, frames: int = 4) -> None:
    """A red square that moves four pixels a frame; its lower half is half transparent, the rest fully. 42 ms."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = []
    for t in range(frames):
        pixels = np.zeros((32, 32, 4), np.uint8)
        pixels[8:24, 4 * t : 4 * t + 8] = (200, 0, 0, 255)
        pixels[16:24, 4 * t : 4 * t + 8, 3] = 128
        pictures.append(Image.fromarray(pixels))
    first, *rest = pictures
    options = {"save_all": True, "append_images": rest, "duration": 42} if rest else {}
    first.save(path, lossless=True, exact=True, **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "animals"
    for name in ("1f400", "1f403", "my fox", "face"):
        animation(root / f"{name}.webp")
    animation(root / "still.webp", frames=1)
    (root / "1f401.webp").write_bytes(b"RIFF\x00\x00\x00\x00WEBP")
    Image.new("RGB", (8, 8)).save(root / "poster.png")
    return root


@pytest.mark.parametrize(("layout", "ground"), [("webp", (255, 255, 255)), ("webp=20c040", GROUND)])
def test_what_is_transparent_shows_the_ground(
    folder: Path, tmp_path: Path, layout: str, ground: tuple[int, int, int]
) -> None:
    out = tmp_path / "out"
    assert main(["prepare", str(folder), str(out), "--layout", layout, "--size", "32"]) == 0
    clips = open_dataset(out)
    assert clips.info.fps == pytest.approx(1000 / 42)
    assert sorted(clip.name for clip in clips) == ["face", "my-fox", "rat", "water_buffalo"]
    for clip in clips:
        assert clip.frames.shape == (4, 32, 32, 3)
        for t in range(4):
            columns = slice(4 * t, 4 * t + 8)
            expected = np.tile(np.array(ground, np.uint8), (32, 32, 1))
            expected[8:16, columns] = (200, 0, 0)
            half = (np.array([200, 0, 0]) * 128 + np.array(ground) * 127 + 127) // 255
            expected[16:24, columns] = half
            assert np.array_equal(clip.frames[t], expected)


def test_each_file_is_a_character_and_a_class_of_its_own(folder: Path) -> None:
    found = READERS["webp"](folder)
    assert {source.path.stem: dict(source.meta) for source in found.sources} == {
        "1f400": {"character": "rat", "action": "rat"},
        "1f403": {"character": "water_buffalo", "action": "water_buffalo"},
        "my fox": {"character": "my fox", "action": "my fox"},
        "face": {"character": "face", "action": "face"},  # hexadecimal too, and no emoji
    }
    assert sorted(source.split or "" for source in found.sources) == ["test", "train", "train", "train"]
    reasons = {item.source: item.reason for item in found.refused}
    assert reasons.keys() == {"still.webp", "1f401.webp"}
    assert reasons["still.webp"] == "It is a still picture."
    assert str(folder) not in reasons["1f401.webp"]


def test_folders_decide_the_split(tmp_path: Path) -> None:
    for split, name in (("train", "1f400"), ("test", "1f402"), ("test", "1f404")):
        animation(tmp_path / split / f"{name}.webp")
    found = READERS["webp"](tmp_path)
    assert {source.name: source.split for source in found.sources} == {"rat": "train", "ox": "test", "cow": "test"}


@pytest.mark.parametrize("layout", ["webp=white", "webp=", "webp=20c04", "webp=#20c0400"])
def test_a_ground_is_six_digits(layout: str) -> None:
    with pytest.raises(StillmotionError, match="six hexadecimal digits, as in webp=20c040"):
        find_reader(layout)


def test_pictures_alone_are_no_animations(tmp_path: Path) -> None:
    animation(tmp_path / "still.webp", frames=1)
    with pytest.raises(StillmotionError, match=r"No animated \.webp files"):
        READERS["webp"](tmp_path)
