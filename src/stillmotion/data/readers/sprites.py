"""Sprites: game characters of the Liberated Pixel Cup, composed of layers (Li and Mandt, ICML 2018)."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from stillmotion.data.sources import Found, Source, counting, file_role, natural_key
from stillmotion.errors import StillmotionError
from stillmotion.media import Limits, MediaError
from stillmotion.media.pictures import open_image

# First row of cells and number of frames. Every action but `hurt`, which is drawn from the front, has a row a side.
ACTIONS = {
    "spellcast": (0, 7),
    "thrust": (4, 8),
    "walk": (8, 9),
    "slash": (12, 6),
    "shoot": (16, 13),
    "hurt": (20, 6),
}
SIDES = ("up", "left", "down", "right")
LAYERS = ("body", "bottomwear", "topwear", "hair")  # from back to front; the shoes come last
SHOES = "shoes/1.png"
CELL, COLUMNS, ROWS = 64, 13, 21
FPS = 10.0
TERMS = "CC BY-SA 3.0 / GPL 3.0, Liberated Pixel Cup, credits in SOURCE.txt"

_EACH = 6  # layers of each kind that the paper combines
_TEST_SHARE = 0.1
_NOT_COMPOSED = {"picture": "sheets that are not composed", "folder": "folders beside sheets", "video": "videos"}


@counting
def sprites(root: Path, passed_over: Counter[str], characters: int | None = None, ground: str = "black") -> Found:
    """Sprites, composed from the layers `body`, `bottomwear`, `topwear`, `hair` and the shoes `shoes/1.png`.

    Known: each layer is a sheet of 832 x 1344 pixels, 13 x 21 cells of 64 x 64; the first six layers of each kind
    give 1,296 characters on black; frames change every 0.1 s. Clips have the frames of the sheet in its order (walk
    9, of which the first is the character standing; spellcast 7, thrust 8, slash 6, shoot 13, hurt 6), where the
    paper drops and repeats some to have 8; it uses walk, spellcast and slash from three sides:
    `prepare(only={"action": ["walk", "spellcast", "slash"], "side": ["left", "down", "right"]})`. Meta `character`
    (the layers' names, as `0-3-2-5`), `action`, `side`; track `mask` (uint8, T x 64 x 64, 255 where the figure is,
    of any opacity). Where a layer has no pictures of an action, its characters do not do it. Assumed: a tenth of the
    combinations is held out for testing, those with the smallest digests of their names, and their layers all occur
    in training. The same combinations are held out for any number of characters.

    Args:
        root: the folder with the folders of layers.
        passed_over: see `counting`.
        characters: how many to compose, a tenth of them for testing; None for all.
        ground: `black`, `colour` (one random colour a clip) or `grass` (a random tile of 16 x 16 pixels, repeated).

    Raises:
        StillmotionError: a layer is missing or no such sheet, or there are fewer characters.
    """
    sheets = {kind: _layers(root, kind) for kind in LAYERS}
    if not (root / SHOES).is_file():
        raise StillmotionError(f"There is no {SHOES} in {str(root)!r}: give the folder with the layers.")
    _count_others(root, {*(path for each in sheets.values() for path in each.values()), root / SHOES}, passed_over)
    splits = _splits([tuple(names) for names in product(*sheets.values())], characters)
    sources = [
        source
        for names, split in splits.items()
        for source in _clips((*(sheets[kind][name] for kind, name in zip(LAYERS, names, strict=True)), root / SHOES),
                             "-".join(names), split, ground)
    ]  # fmt: skip
    rule = "a tenth of the characters, each a combination of layers that is not in training, by digest of the name"
    return Found(sources, rule, "Sprites", licence=TERMS)


def _layers(root: Path, kind: str) -> dict[str, Path]:
    """The first six sheets of a kind, by name."""
    paths = sorted((root / kind).glob("*.png"), key=lambda path: natural_key(path.name))[:_EACH]
    if not paths:
        raise StillmotionError(f"There are no sheets {kind}/*.png in {str(root)!r}: give the folder with the layers.")
    return {path.stem: path for path in paths}


def _count_others(root: Path, taken: set[Path], passed_over: Counter[str]) -> None:
    """Count what lies beside the sheets that are taken."""
    folders = {path.parent for path in taken}
    for folder in (root, *folders):
        for entry in os.scandir(folder):
            path, role = Path(entry), file_role(entry)
            if folder == root and path not in folders:
                passed_over["beside the folders of layers"] += 1
            elif folder != root and path not in taken:
                passed_over[_NOT_COMPOSED.get(role, role)] += 1


def _splits(combinations: Sequence[tuple[str, ...]], count: int | None) -> dict[tuple[str, ...], str]:
    """The chosen combinations of layers, each with its split."""
    if count is not None and not 1 <= count <= len(combinations):
        raise StillmotionError(f"The layers make 1 to {len(combinations)} characters, not {count}.")
    ranked = sorted(combinations, key=lambda names: hashlib.sha256("-".join(names).encode()).hexdigest())
    border = round(_TEST_SHARE * len(ranked))
    wanted = round(_TEST_SHARE * (len(ranked) if count is None else count))
    train = ranked[border:][: None if count is None else count - wanted]
    seen = [set(layers) for layers in zip(*train, strict=True)]
    # With few characters a layer may be missing in training; a test character with it would be another task.
    test = [names for names in ranked[:border] if all(name in kind for name, kind in zip(names, seen, strict=True))]
    splits = {**dict.fromkeys(test[:wanted], "test"), **dict.fromkeys(train, "train")}
    return {names: splits[names] for names in combinations if names in splits}


def _clips(sheets: tuple[Path, ...], character: str, split: str, ground: str) -> Iterator[Source]:
    """A source for each action and side that all layers have."""
    for action, (first, count) in ACTIONS.items():
        for i, side in enumerate(("down",) if action == "hurt" else SIDES):
            if all(_has_row(sheet, first + i) for sheet in sheets):
                name = f"{character}_{action}_{side}"
                draw = partial(draw_character, sheets, first + i, count, ground, name)
                meta = {"character": character, "action": action, "side": side}
                yield Source(sheets[0], name, "drawn", split, FPS, draw=draw, meta=meta)


def draw_character(sheets: Sequence[Path], row: int, count: int, ground: str, name: str) -> np.ndarray:
    """Compose the first cells of a row of sheets, given from back to front.

    Args:
        sheets: the layers' files.
        row: of cells, 0 to 20.
        count: frames, 1 to 13.
        ground: see `sprites`.
        name: of the clip; the ground is drawn with a generator seeded by its digest.

    Returns:
        `uint8`, T x 64 x 64 x 4: RGB before the ground, and 255 where the figure has any opacity, else 0.
    """
    part = np.s_[row * CELL : (row + 1) * CELL, : count * CELL]
    figure = Image.new("RGBA", (count * CELL, CELL))
    for sheet in sheets:
        figure.alpha_composite(Image.fromarray(np.ascontiguousarray(_read_sheet(sheet)[part])))
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little"))
    picture = Image.fromarray(np.tile(_draw_ground(ground, rng), (1, count, 1))).convert("RGBA")
    picture.alpha_composite(figure)
    drawn = np.array(picture)
    drawn[..., 3] = np.where(np.array(figure)[..., 3] > 0, 255, 0)
    return drawn.reshape(CELL, count, CELL, 4).swapaxes(0, 1)


def _draw_ground(kind: str, rng: np.random.Generator) -> np.ndarray:
    """`uint8`, 64 x 64 x 3."""
    ground = np.zeros((CELL, CELL, 3), np.uint8)
    if kind == "colour":
        ground[:] = rng.integers(0, 256, 3)
    elif kind == "grass":
        colour = rng.integers((40, 90, 20), (120, 170, 70))
        tile = colour + rng.integers(-16, 17, (16, 16, 1))
        ground = np.tile(tile.astype(np.uint8), (CELL // 16, CELL // 16, 1))
    return ground


@lru_cache(maxsize=1024)
def _has_row(path: Path, row: int) -> bool:
    return bool(_read_sheet(path)[row * CELL : (row + 1) * CELL, :, 3].any())


@lru_cache(maxsize=32)
def _read_sheet(path: Path) -> np.ndarray:
    """`uint8`, 1344 x 832 x 4, RGBA, read only."""
    with open_image(path, Limits()) as image:
        if image.size != (COLUMNS * CELL, ROWS * CELL):
            raise StillmotionError(
                f"{str(path)!r} is {image.width} x {image.height} pixels and no sheet of 832 x 1344: fetch it again."
            )
        try:
            sheet = np.array(image.convert("RGBA"))
        except (OSError, ValueError, SyntaxError) as error:
            raise MediaError(f"The picture {str(path)!r} is damaged ({error}): fetch it again.") from error
    sheet.setflags(write=False)
    return sheet
