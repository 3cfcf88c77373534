"""`animate --samples K` writes K numbered videos, `--grid` shows them side by side; for every system."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from actions_tools import actions_of, picture
from stillmotion import cli, media
from stillmotion.animate import Animator
from stillmotion.systems.actions import Act

FRAMES = 3


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shelf")
    actions_of().save_pretrained(folder / "tiny")
    Image.fromarray(picture()).save(folder / "me.png")
    return folder


def run(shelf: Path, out: Path, *more: str) -> int:
    still, model = str(shelf / "me.png"), str(shelf / "tiny")
    words = ["animate", still, "--model", model, "--action", "left", "--frames", str(FRAMES), "-o", str(out), *more]
    try:
        return cli.main(words)
    except SystemExit as stop:
        return int(stop.code or 0)


def strip(path: Path) -> np.ndarray:
    return media.read_video(path, frame_width=48)[0]


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("stillmotion: ")
    assert captured.err.rstrip("\n").endswith(".")
    assert captured.err.count("\n") == 1
    return captured.err


def test_samples_are_numbered_and_have_the_seeds_that_follow(
    shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(shelf, tmp_path / "a.png", "--samples", "3", "--seed", "7", "--layers", str(tmp_path / "why")) == 0
    names = [f"a-00{n}.png" for n in (1, 2, 3)]
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path / name}: {FRAMES} frames at 25 per second" for name in names
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*names, "why-001", "why-002", "why-003"]
    assert (tmp_path / "why-003" / "keypoints.png").is_file()
    for number, name in enumerate(names):
        assert run(shelf, tmp_path / "one.png", "--seed", str(7 + number), "-y") == 0
        assert (tmp_path / "one.png").read_bytes() == (tmp_path / name).read_bytes()
    made = [(tmp_path / name).read_bytes() for name in names]
    assert len(set(made)) == 3


def test_without_a_seed_samples_begin_at_0_and_folders_are_numbered_too(shelf: Path, tmp_path: Path) -> None:
    assert run(shelf, tmp_path / "many", "--samples", "1") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["many-001"]
    assert run(shelf, tmp_path / "zero", "--seed", "0") == 0
    assert np.array_equal(media.read_video(tmp_path / "many-001")[0], media.read_video(tmp_path / "zero")[0])


def test_numbers_are_as_wide_as_the_last_one(monkeypatch: pytest.MonkeyPatch, shelf: Path, tmp_path: Path) -> None:
    """10,000 samples are made one after the other: when the first is saved, no other has been opened."""
    saved: list[str] = []

    def save(_: object, out: str, __: object) -> None:
        saved.append(out)
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(cli.Animate, "_save", lambda self, animation, out, layers: save(animation, out, layers))
    opened: list[int] = []
    call = Animator.__call__

    def counted(self: Animator, *given: object, **options: object) -> object:
        opened.append(len(saved))
        return call(self, *given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Animator, "__call__", counted)
    assert run(shelf, tmp_path / "a.mp4", "--samples", "10000") == 130
    assert saved == [str(tmp_path / "a-00001.mp4"), str(tmp_path / "a-00002.mp4")]
    assert opened == [0, 1]


def test_a_grid_holds_the_videos_in_rows(shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(shelf, tmp_path / "a.png", "--samples", "3", "--seed", "7") == 0
    assert run(shelf, tmp_path / "grid", "--samples", "3", "--seed", "7", "--grid") == 0
    assert capsys.readouterr().err.count("several figures") == 2  # once per command
    grid, _ = media.read_video(tmp_path / "grid")
    assert grid.shape == (FRAMES, 80, 96, 3)
    cells = [grid[:, :40, :48], grid[:, :40, 48:], grid[:, 40:, :48]]
    for cell, number in zip(cells, (1, 2, 3), strict=True):
        assert np.array_equal(cell, strip(tmp_path / f"a-00{number}.png"))
    assert not grid[:, 40:, 48:].any()


@pytest.mark.filterwarnings("ignore:The still seems")
def test_in_python() -> None:
    animator = Animator(actions_of())
    frames = animator.grid(picture(), Act("left"), 2, 2, seed=5).frames()
    alone = [animator(picture(), Act("left"), 2, seed=seed).frames() for seed in (5, 6)]
    assert np.array_equal(frames, np.concatenate(alone, axis=2))
    repeated = animator.grid(picture(), Act("left"), 2, 2)
    assert np.array_equal(repeated.frames(), repeated.frames())


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (["--samples", "0"], "--samples"),
        (["--samples", "-3"], "--samples"),
        (["--samples", "2.5"], "--samples"),
        (["--grid"], "--grid shows several videos: say how many with --samples K."),
        (["--samples", "101", "--grid"], "A grid holds 1 to 100 animations, not 101."),
    ],
    ids=" ".join,
)
def test_wrong_numbers_of_samples(
    shelf: Path, tmp_path: Path, more: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(shelf, tmp_path / "a.mp4", *more) == 2
    assert word in sentence(capsys)
    assert list(tmp_path.iterdir()) == []


def test_no_work_is_done_where_a_file_is_there_already(
    shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a-003.mp4").write_bytes(b"mine")
    assert run(shelf, tmp_path / "a.mp4", "--samples", "4") == 2
    told = sentence(capsys)
    assert "a-003.mp4' already exists" in told
    assert "-y" in told
    assert [path.name for path in tmp_path.iterdir()] == ["a-003.mp4"]
    assert run(shelf, tmp_path / "a.mp4", "--samples", "4", "-y") == 0
    assert len(list(tmp_path.iterdir())) == 4
    assert run(shelf, Path("/"), "--samples", "4") == 2
    capsys.readouterr()
    assert run(shelf, tmp_path / "a.txt", "--samples", "2") == 2
