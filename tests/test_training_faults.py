"""What may go wrong in a training: kills, full disks, damaged files, NaN, Ctrl-C, the wrong configuration."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from refusals import refuses
from stillmotion import outputs
from stillmotion.errors import StillmotionError
from stillmotion.training import reporting
from stillmotion.training.signals import StopSignal
from stopping import ctrl_c
from test_training_gan import CONFIG, Gan, at_step, everything, losses, same, train

SCRIPT = Path(__file__).with_name("test_training_gan.py")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 12 steps that nothing interrupted."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert train(run, [Gan()]).finished
    return run


def checkpoints(run):
    return sorted(path.name for path in (run / "checkpoints").iterdir())


@pytest.mark.slow
def test_kill_9_and_resume_is_the_whole_run_bit_for_bit(whole, tmp_path):
    # Its first 4 steps take a moment, so the kill falls somewhere behind the first checkpoint.
    process = subprocess.Popen([sys.executable, SCRIPT, tmp_path, "--pause", "0.05"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (tmp_path / "last.json").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert "gan-000012" not in checkpoints(tmp_path)
    assert train(tmp_path, [Gan()], resume=True).finished
    assert same(everything(tmp_path, "gan-000012"), everything(whole, "gan-000012"))
    assert losses(tmp_path) == losses(whole)


class Killed(BaseException):
    """As if the process had been killed."""


def die_at(monkeypatch, number):
    """Let the process be dead from its file operation of that number on; a write is done by half."""
    count = 0
    operations = [
        (os, "write"),
        (os, "fsync"),
        (Path, "replace"),
        (Path, "rename"),
        (Path, "unlink"),
        (Path, "mkdir"),
        (shutil, "rmtree"),
    ]

    def deadly(name, original):
        def operation(*arguments, **options):
            nonlocal count
            count += 1
            if count >= number:
                if name == "write" and count == number:
                    original(arguments[0], arguments[1][: len(arguments[1]) // 2])
                raise Killed
            # Syncing is slow, and a test cannot cut the power: only a kill is tried here.
            return None if name == "fsync" else original(*arguments, **options)

        return operation

    for owner, name in operations:
        monkeypatch.setattr(owner, name, deadly(name, getattr(owner, name)))
    return lambda: count


@pytest.mark.slow
def test_dying_in_any_file_operation_loses_nothing(tmp_path, monkeypatch):
    """Every single one of the operations of a whole short run, one after the other."""

    def short(name, resume=False):
        return train(tmp_path / name, [Gan(steps=2)], resume=resume, checkpoint_every=1, keep=1)

    monkeypatch.setattr(reporting, "TensorBoard", Mock())  # its writer thread takes its time
    with pytest.MonkeyPatch.context() as patch:
        operations = die_at(patch, 10**9)
        short("whole")
        total = operations()
    assert total > 50
    for number in range(1, total + 1):
        name = f"died-{number}"
        (tmp_path / name).mkdir()
        with pytest.MonkeyPatch.context() as patch:
            die_at(patch, number)
            with pytest.raises(Killed):
                short(name)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", lambda descriptor: None)
            assert short(name, resume=True).finished
        # One too many if it died between writing the last one and removing the one before.
        assert checkpoints(tmp_path / name)[-1] == "gan-000002"
        for path in (tmp_path / name).rglob("*"):
            assert not path.name.startswith("."), path
        assert same(everything(tmp_path / name, "gan-000002"), everything(tmp_path / "whole", "gan-000002"))
        assert losses(tmp_path / name) == losses(tmp_path / "whole")


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_full_disk_stops_the_run_and_the_checkpoint_before_serves(whole, tmp_path, monkeypatch, call):
    stage, original = Gan(), getattr(os, call)

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    stage.before_step.append(at_step(7, lambda _: monkeypatch.setattr(os, call, full)))
    refuses("disk is full", train, tmp_path, [stage])
    monkeypatch.setattr(os, call, original)
    assert checkpoints(tmp_path) == ["gan-000004"]
    assert train(tmp_path, [Gan()], resume=True).finished
    assert same(everything(tmp_path, "gan-000012"), everything(whole, "gan-000012"))
    # The line of step 6 was written twice; the resumed run removed the first.
    assert losses(tmp_path) == losses(whole)


def test_nan_in_the_data_names_step_stage_and_the_clip_and_saves_nothing(tmp_path):
    stage = Gan()
    stage.before_step.append(at_step(6, lambda batch: batch["picture"][2].fill_(torch.nan)))
    # Step 6 has the samples 20 to 23, whose clips are named n % 7: 6, 0, 1 and 2.
    words = r"loss of 'discriminator'.*step 6.*'gan' \(clips: clip1\)"
    refuses(words, train, tmp_path, [stage])
    assert checkpoints(tmp_path) == ["gan-000004"]
    assert all(torch.isfinite(v).all() for v in everything(tmp_path, "gan-000004").values())
    assert train(tmp_path, [Gan()], resume=True).finished


def test_nan_from_the_networks_names_all_clips_of_the_batch(tmp_path):
    stage = Gan()
    stage.before_step.append(at_step(6, lambda _: stage.generator[0].weight.data.fill_(torch.nan)))
    refuses(r"step 6.*clips: clip6, clip0, clip1, clip2\)", train, tmp_path, [stage])


def test_an_infinite_gradient_of_a_finite_loss_stops_too(tmp_path):
    stage = Gan(steps=2)
    weight = torch.nn.Parameter(torch.zeros(1))
    stage.networks, stage.ema, stage.schedulers = {"net": torch.nn.ParameterList([weight])}, {}, {}
    stage.optimizers = {"net": torch.optim.SGD([weight], 0.1)}
    stage.step = lambda batch, update: update("net", weight.sqrt().sum()) or {}  # slope of the root at 0
    refuses("gradient of 'net'", train, tmp_path, [stage])
    assert weight.item() == 0


@pytest.mark.parametrize("file", ["model.safetensors", "ema.safetensors", "optim.safetensors", "state.json"])
def test_a_truncated_checkpoint_names_the_one_before_which_then_serves(whole, tmp_path, file):
    shutil.copytree(whole, tmp_path / "run")
    damaged = tmp_path / "run" / "checkpoints" / "gan-000012" / file
    damaged.write_bytes(damaged.read_bytes()[:-20])
    refuses("Remove the folder gan-000012 to continue from gan-000008", train, tmp_path / "run", [Gan()], resume=True)
    shutil.rmtree(damaged.parent)
    assert train(tmp_path / "run", [Gan()], resume=True).finished
    assert same(everything(tmp_path / "run", "gan-000012"), everything(whole, "gan-000012"))


def test_other_networks_do_not_fit(whole, tmp_path):
    stage = Gan()
    stage.discriminator[3] = torch.nn.Conv2d(4, 2, 3)
    shutil.copytree(whole, tmp_path / "run")
    refuses(r"discriminator.3.* is \(1, 4, 3, 3\), not \(2, 4, 3, 3\)", train, tmp_path / "run", [stage], resume=True)
    stage = Gan()
    stage.networks["extra"] = torch.nn.Linear(1, 1)
    refuses(r"lacks gan\.extra\.bias, gan\.extra\.weight", train, tmp_path / "run", [stage], resume=True)


def test_another_configuration_is_named(whole):
    with pytest.raises(StillmotionError, match=r"learning_rate: 0.01 then, 0.02 now"):
        train(whole, [Gan()], resume=True, config=CONFIG | {"learning_rate": 0.02})


def test_an_edited_configuration_is_noticed(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    other = CONFIG | {"width": 8}
    (tmp_path / "run" / "config.json").write_text(json.dumps(other))
    refuses("belongs to another configuration", train, tmp_path / "run", [Gan()], resume=True, config=other)


def test_a_run_is_not_overwritten_and_a_missing_one_not_resumed(whole, tmp_path):
    before = everything(whole, "gan-000012")
    refuses("already holds a training", train, whole, [Gan()])
    assert same(everything(whole, "gan-000012"), before)
    refuses("no run to resume", train, tmp_path / "nowhere", [Gan()], resume=True)
    (tmp_path / "empty").mkdir()
    assert train(tmp_path / "empty", [Gan()], resume=True).finished


@pytest.mark.parametrize(
    ("field", "words"),
    [("processes", "trained by 3 processes, not 1"), ("format", "resume with the version of stillmotion that wrote")],
)
def test_another_number_of_processes_and_a_later_version_are_refused(whole, tmp_path, field, words):
    shutil.copytree(whole, tmp_path / "run")
    state = tmp_path / "run" / "checkpoints" / "gan-000012" / "state.json"
    state.write_text(re.sub(rf'"{field}": \d', f'"{field}": 3', state.read_text()))
    refuses(words, train, tmp_path / "run", [Gan()], resume=True)


def test_ctrl_c_finishes_the_step_saves_and_says_how_to_go_on(tmp_path, capsys):
    stage = Gan()
    stage.before_step.append(at_step(7, lambda _: os.kill(os.getpid(), signal.SIGINT)))
    handler = signal.getsignal(signal.SIGINT)
    outcome = train(tmp_path, [stage])
    assert (outcome.finished, outcome.stage, outcome.step, outcome.stopped_by) == (False, "gan", 7, "Ctrl-C")
    assert checkpoints(tmp_path) == ["gan-000004", "gan-000007"]
    assert "checkpoint gan-000007 is written" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    stage = Gan()

    def twice(_):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("went on")

    stage.before_step.append(at_step(7, twice))
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, [stage])
    assert checkpoints(tmp_path) == ["gan-000004"]


def test_worker_processes_do_not_see_ctrl_c():
    ask = [sys.executable, "-S", "-c", "import signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"]
    with StopSignal() as stop_signal:
        with stop_signal.children_ignore_interrupts():
            assert subprocess.check_output(ask) == b"True\n"
        os.kill(os.getpid(), signal.SIGINT)
        assert stop_signal.reason == "Ctrl-C"


def test_ctrl_c_in_the_last_step_is_no_stop(tmp_path):
    with ctrl_c():
        outcome = train(tmp_path / "two", [Gan(steps=2)])
        assert (outcome.finished, outcome.step, outcome.stopped_by) == (False, 1, "Ctrl-C")
        assert checkpoints(tmp_path / "two") == ["gan-000001"]
        assert train(tmp_path / "one", [Gan(steps=1)]).finished


def test_a_run_that_went_back_leaves_no_later_checkpoint(whole, tmp_path):
    """Else the checkpoint of step 12 would be taken for the newest one."""
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run" / "last.json").write_text(json.dumps({"checkpoint": "gan-000008"}))
    with ctrl_c():
        assert train(tmp_path / "run", [Gan()], resume=True, keep=1).step == 9
    assert checkpoints(tmp_path / "run") == ["gan-000009"]


def test_a_finished_stage_whose_last_checkpoint_is_gone_is_not_taken_from_an_earlier_one(tmp_path):
    train(tmp_path, [Gan(), Gan("second", steps=1)])
    shutil.rmtree(tmp_path / "checkpoints" / "gan-000012")
    refuses("last checkpoint of stage 'gan' is gone", train, tmp_path, [Gan(), Gan("second", steps=1)], resume=True)


def test_files_that_a_killed_process_left_are_removed_and_no_others(tmp_path):
    hidden = ".stillmotion-0123456789ab.part"
    (tmp_path / "checkpoints" / hidden).mkdir(parents=True)
    (tmp_path / "checkpoints" / ".stillmotion-gan-000008.old").mkdir()
    (tmp_path / hidden).write_text("{")
    for name in (".tmp-notes", ".old-thesis", ".stillmotion-notes.part"):
        (tmp_path / name).write_text("a person's")
    outputs.remove_stale(tmp_path / "checkpoints")
    # An old folder whose place is empty was on its way out when the power went: it is put back.
    assert checkpoints(tmp_path) == ["gan-000008"]
    outputs.remove_stale(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"checkpoints", ".tmp-notes", ".old-thesis", ".stillmotion-notes.part"}
