"""Sprites: characters composed of made sheets, whose colours say layer, row and column."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stillmotion.cli import main
from stillmotion.data.prepare import prepare
from stillmotion.data.readers import READERS
from stillmotion.data.readers.sprites import LAYERS
from stillmotion.data.shards import open_dataset
from stillmotion.errors import StillmotionError

KINDS = [*LAYERS, "shoes"]
COUNTS = {"body": 2, "bottomwear": 3, "topwear": 7, "hair": 4, "shoes": 2}
# 2 x 3 x 6 x 4 = 144 characters: the seventh top is not taken.


def cell(kind: str, index: int, row: int, column: int) -> tuple[int, int, int]:
    return 40 * KINDS.index(kind) + 5 * index + 10, 12 * row, 19 * column


def sheet(kind: str, index: int, empty_rows: tuple[int, ...] = ()) -> np.ndarray:
    """In every cell the kinds' squares overlap: each covers 8 columns more than the one before, 4 of them its own."""
    pixels = np.zeros((21, 13, 64, 64, 4), np.uint8)
    start = 4 * KINDS.index(kind)
    for row in set(range(21)) - set(empty_rows):
        for column in range(13):
            pixels[row, column, 20:30, start : start + 8] = (*cell(kind, index, row, column), 255)
    return pixels.transpose(0, 2, 1, 3, 4).reshape(1344, 832, 4)


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bottom 2 has no pictures of thrust to the left (row 5) and of hurt (row 20)."""
    root = tmp_path_factory.mktemp("layers")
    for kind, count in COUNTS.items():
        (root / kind).mkdir()
        for i in range(count):
            missing = (5, 20) if (kind, i) == ("bottomwear", 2) else ()
            Image.fromarray(sheet(kind, i, missing)).save(root / kind / f"{i}.png", compress_level=1)
    return root


def test_a_character_is_composed_from_back_to_front(layers: Path) -> None:
    found = READERS["sprites"](layers)
    sources = {source.name: source for source in found.sources}
    source = sources["1-2-5-3_walk_left"]
    assert dict(source.meta) == {"character": "1-2-5-3", "action": "walk", "side": "left"}
    assert (source.kind, source.fps) == ("drawn", 10.0)
    assert source.draw is not None
    drawn = source.draw()
    assert (drawn.shape, drawn.dtype) == ((9, 64, 64, 4), np.uint8)
    for column in range(9):  # the row of walk to the left is 8 + 1
        used = zip(KINDS, (1, 2, 5, 3, 1), strict=True)
        colours = [cell(kind, index, 9, column) for kind, index in used]
        line = [*np.repeat(colours, 4, axis=0).tolist(), *[list(colours[-1])] * 4, *[[0, 0, 0]] * 40]
        assert drawn[column, 25, :, :3].tolist() == line
    mask = np.zeros((64, 64), np.uint8)
    mask[20:30, :24] = 255
    assert (drawn[..., 3] == mask).all()


def test_a_figure_may_be_translucent(tmp_path: Path) -> None:
    for kind in KINDS:
        (tmp_path / kind).mkdir()
        pixels = np.zeros((1344, 832, 4), np.uint8)
        pixels[:, :] = (200, 100, 50, 102) if kind == "body" else (0, 0, 0, 0)
        pixels[::64, ::64] = (9, 9, 9, 255)  # every layer has its row
        Image.fromarray(pixels).save(tmp_path / kind / "1.png")
    source = READERS["sprites"](tmp_path).sources[0]
    assert source.draw is not None
    drawn = source.draw()
    assert drawn[0, 32, 32].tolist() == [80, 40, 20, 255]


def test_actions_have_the_frames_and_sides_of_the_sheet(layers: Path) -> None:
    found = READERS["sprites"](layers)
    of = {}
    for source in found.sources:
        if source.meta["character"] == "0-0-0-0":
            assert source.draw is not None
            row = int(source.draw()[0, 25, 0, 1]) // 12
            of[source.meta["action"], source.meta["side"]] = (row, len(source.draw()))
    firsts = {"spellcast": (0, 7), "thrust": (4, 8), "walk": (8, 9), "slash": (12, 6), "shoot": (16, 13)}
    expected = {
        (action, side): (first + i, count)
        for action, (first, count) in firsts.items()
        for i, side in enumerate(("up", "left", "down", "right"))
    }
    assert of == {**expected, ("hurt", "down"): (20, 6)}
    without = {s.name for s in found.sources if s.meta["character"] == "0-2-0-0"}
    assert len(without) == 19
    assert not without & {"0-2-0-0_thrust_left", "0-2-0-0_hurt_down"}


def split_of(layers: Path, **options: int) -> dict[str, set[str]]:
    sources = READERS["sprites"](layers, **options).sources
    return {split: {s.meta["character"] for s in sources if s.split == split} for split in ("train", "test")}


def test_whole_characters_are_held_out(layers: Path) -> None:
    everything = split_of(layers)
    assert (len(everything["test"]), len(everything["train"])) == (14, 130)
    assert not everything["test"] & everything["train"]
    some = split_of(layers, characters=60)
    assert (len(some["test"]), len(some["train"])) == (6, 54)
    for split in ("train", "test"):
        assert some[split] < everything[split]
    for chosen in (everything, some):
        seen = [set(names) for names in zip(*(name.split("-") for name in chosen["train"]), strict=True)]
        assert all(part in kind for name in chosen["test"] for part, kind in zip(name.split("-"), seen, strict=True))


def test_a_layer_that_training_lacks_is_not_tested(layers: Path) -> None:
    few = split_of(layers, characters=15)
    assert len(few["train"]) == 13
    for count in range(1, 25):
        chosen = split_of(layers, characters=count)
        seen = [set(names) for names in zip(*(name.split("-") for name in chosen["train"]), strict=True)]
        assert chosen["train"]
        assert all(part in kind for name in chosen["test"] for part, kind in zip(name.split("-"), seen, strict=True))


def test_sprites_are_prepared(layers: Path, tmp_path: Path) -> None:
    info = prepare(layers, tmp_path / "out", layout="sprites=20", only={"action": ["walk"], "side": ["up", "left"]})
    assert (info.clips, info.splits, info.size, info.fps) == (40, {"test": 4, "train": 36}, (64, 64), 10)
    assert (info.tracks, info.licence) == (
        ("mask",),
        "CC BY-SA 3.0 / GPL 3.0, Liberated Pixel Cup, credits in SOURCE.txt",
    )
    clip = open_dataset(tmp_path / "out")[0]
    mask = clip.tracks["mask"]
    assert (mask.shape, mask.dtype) == ((9, 64, 64), np.uint8)
    assert np.unique(mask).tolist() == [0, 255]
    assert (np.asarray(clip.frames).any(-1) <= (mask > 0)).all()
    # Smaller, at another rate, cut off: the mask goes along.
    small = prepare(
        layers, tmp_path / "small", layout="sprites=1", size=32, fps=8, max_frames=4, licence="mine", min_frames=3
    )
    clip = open_dataset(tmp_path / "small")[0]
    assert (small.fps, small.licence, clip.frames.shape) == (8, "mine", (4, 32, 32, 3))
    half = np.zeros((4, 32, 32), np.uint8)
    half[:, 10:15, :12] = 255
    assert (clip.tracks["mask"] == half).all()


@pytest.mark.parametrize("ground", ["colour", "grass"])
def test_other_grounds_leave_the_figure(layers: Path, ground: str) -> None:
    plain, other = (READERS[name](layers, characters=2).sources for name in ("sprites", f"sprites:{ground}"))
    drawn = [source.draw() for source in other if source.draw is not None]
    for before, after in zip(plain, drawn, strict=True):
        assert before.draw is not None
        black = before.draw()
        assert (after[..., 3] == black[..., 3]).all()
        figure = black[..., 3] > 0
        assert (after[figure] == black[figure]).all()
        assert (after[~figure] == np.broadcast_to(after[0], after.shape)[~figure]).all()  # it stands still
    corners = np.array([d[0, 40:, 40:, :3] for d in drawn])
    assert len(np.unique(corners[:, 0, 0], axis=0)) > len(drawn) / 2  # of its own in every clip
    if ground == "colour":
        assert (corners == corners[:, :1, :1]).all()
    else:
        assert (corners[:, :8, :8] == corners[:, 16:, 16:]).all()
        assert (corners.std((1, 2)) > 2).all()
    again = READERS[f"sprites:{ground}"](layers, characters=2).sources[0]
    assert again.draw is not None
    assert (again.draw() == drawn[0]).all()


def broken(root: Path) -> None:
    (root / "hair" / "0.png").write_bytes((root / "hair" / "0.png").read_bytes()[:3000])


def resized(root: Path) -> None:
    Image.new("RGBA", (64, 64)).save(root / "hair" / "0.png")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "hair" / "0.png").unlink(), r"no sheets hair/\*\.png"),
        (lambda root: (root / "shoes" / "1.png").unlink(), r"no shoes/1\.png"),
        (resized, "64 x 64 pixels and no sheet of 832 x 1344"),
        (broken, "is damaged"),
    ],
)
def test_layers_that_cannot_be_used(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    for kind in KINDS:
        (tmp_path / kind).mkdir()
        name = "1.png" if kind == "shoes" else "0.png"
        Image.fromarray(sheet(kind, 0)).save(tmp_path / kind / name, compress_level=1)
    damage(tmp_path)
    with pytest.raises(StillmotionError, match=message):
        READERS["sprites"](tmp_path)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("sprites=0", "1 to 144 characters, not 0"),
        ("sprites=145", "1 to 144 characters, not 145"),
        ("sprites=many", "must be a whole number, as in sprites=100, not 'many'"),
        ("sprites:sand", "no layout 'sprites:sand'"),
        ("mgif=3", "'mgif' takes no value: leave '=3' out"),
    ],
)
def test_layouts_that_do_not_exist(layers: Path, tmp_path: Path, layout: str, message: str) -> None:
    with pytest.raises(StillmotionError, match=message):
        prepare(layers, tmp_path / "out", layout=layout)


def test_the_command_takes_only_what_is_asked_for(layers: Path, tmp_path: Path) -> None:
    done = main(
        ["prepare", str(layers), str(tmp_path / "out"), "--layout", "sprites=2", "--only", "action=walk,slash"]
    )
    assert done == 0
    assert {clip.meta["action"] for clip in open_dataset(tmp_path / "out")} == {"walk", "slash"}


def test_what_is_not_composed_is_counted(tmp_path: Path) -> None:
    for kind in KINDS:
        (tmp_path / kind).mkdir()
        Image.fromarray(sheet(kind, 1)).save(tmp_path / kind / "1.png", compress_level=1)
    for name in ("SOURCE.txt", "hats/1.png", "shoes/2.png", "hair/notes.txt", "hair/old/1.png", "topwear/.DS_Store"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for i in range(2, 9):
        (tmp_path / "body" / f"{i}.png").write_bytes((tmp_path / "body" / "1.png").read_bytes())
    assert READERS["sprites"](tmp_path).passed_over == {
        ".txt files": 1,
        "beside the folders of layers": 2,
        "folders beside sheets": 1,
        "hidden or made by a system": 1,
        "sheets that are not composed": 3,
    }
