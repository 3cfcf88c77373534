"""Every write: refused early, whole or not at all, through links, and nobody else's files are touched."""

import multiprocessing
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from refusals import refuses
from stillmotion import outputs
from stillmotion.outputs import LOCK, check_file, check_folder, locked, new_folder, write_bytes


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
    (tmp_path / "a").rename(tmp_path / ".stillmotion-a.old")  # as a process leaves it that ends in between
    outputs.remove_stale(tmp_path)
    assert (tmp_path / "a" / "a.txt").read_text() == "newer"


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
