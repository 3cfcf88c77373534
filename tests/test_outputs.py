"""Every write: refused early, whole or not at all, through links, and nobody else's files are touched."""

import multiprocessing
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from refusals import refuses
from stillmotion import outputs
from stillmotion.data.clip import Clip
from stillmotion.data.clipset import open_dataset
from stillmotion.data.info import DatasetInfo
from stillmotion.data.shards import write_dataset
from stillmotion.media import open_writer
from stillmotion.outputs import LOCK, check_file, check_folder, locked, new_folder, write_bytes
from stillmotion.training import check_run


def fill(folder: Path, text: str) -> None:
    with new_folder(folder) as new:
        (new / "a.txt").write_text(text)


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="swaps no two names")
def test_a_folder_is_replaced_without_a_moment_in_which_it_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "a", "old")

    def gone(*_: object) -> None:
        raise AssertionError("the folder was renamed away")

    monkeypatch.setattr(Path, "rename", gone)
    monkeypatch.setattr(Path, "replace", gone)
    fill(tmp_path / "a", "new")
    assert (tmp_path / "a" / "a.txt").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_where_names_cannot_be_swapped_an_old_folder_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "a", "old")
    monkeypatch.setattr(outputs, "_exchange", lambda *_: False)
    fill(tmp_path / "a", "newer")
    assert (tmp_path / "a" / "a.txt").read_text() == "newer"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    for heal in (lambda: outputs.remove_stale(tmp_path), lambda: fill(tmp_path / "other", "new")):
        (tmp_path / "a").rename(tmp_path / ".stillmotion-a.old")  # as a process leaves it that ends in between
        heal()
        assert (tmp_path / "a" / "a.txt").read_text() == "newer"


def test_a_data_set_whose_swap_was_cut_is_found_when_it_is_opened(tmp_path: Path) -> None:
    clips = [Clip("a", np.zeros((2, 4, 4, 3), np.uint8), 5.0)]
    write_dataset(tmp_path / "set", clips, info=DatasetInfo())
    (tmp_path / "set").rename(tmp_path / ".stillmotion-set.old")
    assert open_dataset(tmp_path / "set")[0].name == "a"
    refuses("no dataset.json", open_dataset, tmp_path / "none")


@pytest.mark.parametrize("name", ["-", "  ", "a/-", "a\0b"])
@pytest.mark.parametrize(
    "check",
    [
        lambda path: check_file(path, True),
        lambda path: check_folder(path, True, "a", "models"),
        lambda path: check_run(path, False),
        lambda path: open_writer(path, fps=5),
    ],
    ids=["file", "folder", "run", "video"],
)
def test_what_is_no_name_is_refused(
    check: Callable[[Path], object], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    refuses("is not a file name", check, Path(name))
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


@pytest.mark.parametrize("name", [".mp4", ".PNG", ".gif"])
def test_an_ending_alone_is_no_name(tmp_path: Path, name: str) -> None:
    refuses("without a name", open_writer, tmp_path / name, fps=5)


@pytest.mark.parametrize(
    ("write", "read"),
    [
        (lambda path: write_bytes(path, b"new"), lambda path: path.read_text()),
        (lambda path: fill(path, "new"), lambda path: (path / "a.txt").read_text()),
    ],
    ids=["file", "folder"],
)
def test_a_link_is_written_through(
    tmp_path: Path, write: Callable[[Path], None], read: Callable[[Path], str]
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk/real")
    for _ in range(2):  # what is not there yet, and what is
        write(tmp_path / "link")
        assert (tmp_path / "link").readlink() == Path("disk/real")
        assert read(tmp_path / "disk" / "real") == "new"
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["real"]


def test_what_may_not_be_replaced_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("mine")
    refuses("--overwrite", check_file, tmp_path / "a.txt", False)
    refuses("not a folder", check_folder, tmp_path / "a.txt", True, "b", "models")
    check_folder(tmp_path / "new" / "models", False, "b", "models")
    refuses("could not be written: Not a directory|does not exist", check_file, tmp_path / "a.txt" / "b", False)
    check_file(tmp_path / "a.txt", True)
    refuses("--overwrite", check_folder, tmp_path, False, r"a\.txt", "models")
    refuses("holds more than models, such as 'a.txt'", check_folder, tmp_path, True, "a", "models")
    check_folder(tmp_path, True, r"a\.txt", "models")


def hold(folder: Path, pipe: Connection) -> None:
    with locked(folder):
        pipe.send("held")
        pipe.recv()
    pipe.send("released")


def test_a_folder_has_one_owner_until_its_process_ends(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=hold, args=(tmp_path / "run", there))
    process.start()
    assert here.recv() == "held"
    with pytest.raises(ValueError, match="Another process is training"), locked(tmp_path / "run"):
        pass
    assert (tmp_path / "run" / LOCK).exists()
    process.kill()
    process.join()
    with locked(tmp_path / "run"):  # what a killed process leaves is no lock
        (tmp_path / "run" / "a").write_text("")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["a"]


def test_a_lock_leaves_no_folder_in_which_nothing_was_written(tmp_path: Path) -> None:
    with locked(tmp_path / "run"):
        pass
    assert list(tmp_path.iterdir()) == []
