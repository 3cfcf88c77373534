"""`stillmotion import`: files in the form of the authors' checkpoints become models, hostile ones nothing."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from driving_tools import TINY, VIDEO
from stillmotion import Drive, cli, load
from stillmotion.errors import StillmotionError
from stillmotion.importing import RELEASES, import_model
from stillmotion.importing.states import READER, read_states
from stillmotion.systems.driving.animating import Driving
from stillmotion.systems.driving.config import DrivingConfig
from stillmotion.systems.driving.networks import DrivingNetworks
from stillmotion.systems.pokes.animating import Pokes
from stillmotion.systems.structures.animating import Structures

TO_AUTHORS = {
    "detector.unet.encoder.blocks": "kp_detector/predictor.encoder.down_blocks",
    "detector.unet.decoder.blocks": "kp_detector/predictor.decoder.up_blocks",
    "detector.logits": "kp_detector/predictor.decoder.conv",
    "generator.encoder.blocks": "generator/appearance_encoder.down_blocks",
    "generator.decoder.blocks": "generator/video_decoder.up_blocks",
    "generator.dense_motion.groups": "generator/dense_motion_module.group_blocks",
    "generator.dense_motion.unet.encoder.blocks": "generator/dense_motion_module.hourglass.encoder.down_blocks",
    "generator.dense_motion.unet.decoder.blocks": "generator/dense_motion_module.hourglass.decoder.up_blocks",
    "generator.dense_motion.head": "generator/dense_motion_module.hourglass.decoder.conv",
    "generator.colours": "generator/refinement_module.conv-last",
    "generator.refine.0": "generator/refinement_module.r0",
}
"""Names as the reference lists them, the other way round than the package has them."""


def monkey_net(networks: nn.Module) -> dict[str, Any]:
    """A checkpoint as Monkey-Net's training writes it: three-dimensional kernels, optimisers beside."""
    states: dict[str, dict[str, Tensor]] = {"kp_detector": {}, "generator": {}}
    for name, value in networks.state_dict().items():
        begin = max((key for key in TO_AUTHORS if name.startswith(f"{key}.")), key=len)
        state, _, theirs = TO_AUTHORS[begin].partition("/")
        states[state][theirs + name.removeprefix(begin)] = value[:, :, None] if value.ndim == 4 else value
    adam = {
        "state": {0: {"step": 3, "exp_avg": torch.ones(2)}},
        "param_groups": [{"lr": 2e-4, "betas": (0.5, 0.999)}],
    }
    return {
        **states,
        "discriminator": {"conv.bias": torch.ones(1)},
        "optimizer_generator": adam,
        "epoch": 7,
        "it": 99,
    }


@pytest.fixture
def tiny_preset(monkeypatch: pytest.MonkeyPatch) -> DrivingConfig:
    config = replace(TINY, transfer="absolute")
    monkeypatch.setattr(Driving, "presets", {"release-tiny": config})
    return config


def networks_of(config: DrivingConfig) -> DrivingNetworks:
    torch.manual_seed(0)
    networks = DrivingNetworks(config).eval()
    assert networks.generator.dense_motion is not None
    nn.init.normal_(networks.generator.dense_motion.head.weight, std=0.05)
    return networks


@pytest.mark.parametrize("zipped", [False, True])
def test_a_checkpoint_of_monkey_net_becomes_a_model_that_animates(
    zipped: bool, tiny_preset: DrivingConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Today's format of `torch.save` and the one of 2018, without a zip file."""
    file, networks = tmp_path / "00000007-checkpoint.pth.tar", networks_of(tiny_preset)
    torch.save(monkey_net(networks), file, _use_new_zipfile_serialization=zipped)
    out = tmp_path / "model"
    assert cli.main(["import", str(file), "--as", "driving:release-tiny", "-o", str(out)]) == 0
    assert "a driving model" in capsys.readouterr().out
    model = load(out)
    assert model.system.config == tiny_preset
    assert model.system.card["imported"].startswith("00000007-checkpoint.pth.tar of AliaksandrSiarohin/monkey-net")
    state = networks.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.system.networks.state_dict().items())
    expected = Driving(tiny_preset, networks).animate(VIDEO[0], Drive(VIDEO)).frames()
    assert np.array_equal(model(VIDEO[0], Drive(VIDEO)).frames(), expected)
    assert cli.main(["import", str(file), "--as", "driving:release-tiny", "-o", str(out)]) != 0
    assert "already exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("system", "preset", "state", "prefix", "names"),
    [
        ("pokes", "release", "model", "module.", {"dec.out_conv.conv.bias": "decoder.colours.bias"}),
        (
            "structures",
            "release",
            "gen_state_dict",
            "module.",
            {"img_encoder.fc_z.bias": "forecast.image_encoder.code.bias"},
        ),
    ],
)
def test_the_other_checkpoints_have_their_own_states_and_names(
    system: str, preset: str, state: str, prefix: str, names: dict[str, str]
) -> None:
    """Their names as a whole are held to the goldens, in the tests of the systems."""
    release = RELEASES[system]
    assert release.states == (state,)
    config = {"pokes": Pokes, "structures": Structures}[system].presets[preset]
    for theirs, ours in names.items():
        renamed = release.rename(state, prefix + theirs, torch.ones(1), config)
        assert renamed is not None
        assert renamed[0] == ours


def drop(states: dict[str, Any]) -> None:
    del states["generator"]["refinement_module.conv-last.bias"]


def add(states: dict[str, Any]) -> None:
    states["generator"]["blur.weight"] = torch.ones(1)


def spoil(states: dict[str, Any]) -> None:
    states["generator"]["refinement_module.conv-last.bias"][1] = torch.nan


def widen(states: dict[str, Any]) -> None:
    states["generator"]["refinement_module.conv-last.bias"] = torch.ones(4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop, r"lacks 'generator.colours.bias'"),
        (add, r"has blur.weight in generator, which driving:release-tiny has no place for"),
        (spoil, r"conv-last.bias of generator in file.pth holds NaN"),
        (widen, r"'generator.colours.bias' has the shape \(4,\)"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_does_not_fit_is_named(
    change: Callable[[dict[str, Any]], None],
    words: str,
    tiny_preset: DrivingConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    states = monkey_net(networks_of(tiny_preset))
    change(states)
    monkeypatch.setattr("stillmotion.importing.read_states", lambda _, names: {name: states[name] for name in names})
    with pytest.raises(StillmotionError, match=words):
        import_model(tmp_path / "file.pth", "driving:release-tiny", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_state_that_is_not_there_is_named(tmp_path: Path) -> None:
    torch.save({"generator": {"a": torch.ones(1)}, "kp_detector": [torch.ones(1)]}, tmp_path / "file.pth")
    with pytest.raises(StillmotionError, match="no state 'kp_detector'"):
        read_states(tmp_path / "file.pth", ["generator", "kp_detector"])


@pytest.mark.parametrize(
    ("target", "words"),
    [("strokes:release", "no release 'strokes'"), ("driving:release-moon", "no preset 'release-moon'")],
)
def test_unknown_targets_are_told(target: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(StillmotionError, match=words):
        import_model(tmp_path / "file.pth", target, tmp_path / "model")


class Hostile:
    """Unpickled by anything but a reader of plain containers, it makes a file."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_hostile_checkpoint_runs_nothing(zipped: bool, tmp_path: Path) -> None:
    states = {"kp_detector": {"a": torch.ones(1)}, "generator": Hostile(tmp_path / "mark")}
    torch.save(states, tmp_path / "file.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(StillmotionError, match="no dict of tensors and plain containers"):
        read_states(tmp_path / "file.pth", ["kp_detector", "generator"])
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing"])
def test_damaged_files_bring_one_sentence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file.pth").write_bytes(content)
    with pytest.raises(StillmotionError, match=r"The checkpoint .*file\.pth"):
        read_states(tmp_path / "file.pth", ["generator"])
    with pytest.raises(StillmotionError, match="cannot be read: No such file"):
        read_states(tmp_path / "other.pth", ["generator"])


def test_the_reader_has_given_up_every_other_capability(tmp_path: Path) -> None:
    """Even if the loader could be made to run something: no files, no connections, no other programs."""
    actions = [
        "open('mark', 'w')",
        "open(sys.executable)",
        "socket.socket()",
        "subprocess.run([sys.executable, '-c', ''])",
    ]
    source = READER.read_text(encoding="utf-8").replace("from __future__ import annotations", "")
    program = f"""
import socket, subprocess, sys
{source.partition("if __name__")[0]}
warm_up()
give_up()
for action in {actions!r}:
    try:
        eval(action)
        print("done")
    except OSError:
        print("refused")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout.split() == ["refused"] * len(actions), done.stderr
    assert not (tmp_path / "mark").exists()
