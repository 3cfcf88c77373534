"""What a model knows of an object's structure: correlation maps, parts, neighbours, and the verb `explain`."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from driving_tools import tiny_driving
from pokes_tools import make_rigid, rigid_pokes, spot, tiny_pokes
from refusals import refused
from stillmotion import cli, media
from stillmotion.animate import Animator
from stillmotion.data.clip import Clip
from stillmotion.data.info import DatasetInfo
from stillmotion.data.shards import write_dataset
from stillmotion.systems.pokes.animating import Pokes
from stillmotion.systems.pokes.field_network import FieldNetwork
from stillmotion.systems.pokes.visualization import correlation_map, find_parts, forward_motion, nearest_neighbours


class LeftHalf(nn.Module):
    """Logits of which pixels follow: those of the left half."""

    def forward(self, maps: Tensor) -> Tensor:
        logits = torch.full_like(maps[:, :1], -30.0)
        logits[..., : maps.shape[3] // 2] = 30.0
        return logits


class Everywhere(nn.Module):
    """A figure that is all of the picture."""

    def forward(self, maps: list[Tensor]) -> Tensor:
        return torch.full_like(maps[0][:, :1], 9.0)


def half_pokes() -> Pokes:
    """The left half follows, the right half stays; all is figure."""
    system = rigid_pokes()
    network = system.networks
    assert isinstance(network, FieldNetwork)
    network.follow, network.mask = LeftHalf(), Everywhere()  # type: ignore[assignment]
    return system


def network_of(system: Pokes) -> FieldNetwork:
    assert isinstance(system.networks, FieldNetwork)
    return system.networks


def test_what_goes_along_is_one_and_what_stays_is_zero() -> None:
    network = network_of(half_pokes())
    context = network.begin(torch.rand(1, 3, 32, 32))
    found = correlation_map(network, context, torch.tensor([-0.7, 0.0]), 40, np.random.default_rng(0))
    # In the middle: what leaves the picture, or is covered by what comes from the left, is not seen to go along.
    assert found[10:22, 5:9] == pytest.approx(1, abs=0.02)
    assert found[:, 26:] == pytest.approx(0, abs=0.02)


def test_motion_of_the_still_s_pixels_is_the_inverse_of_where_pixels_come_from() -> None:
    network = make_rigid(network_of(tiny_pokes()))
    context = network.begin(torch.rand(1, 3, 32, 32))
    vectors = torch.tensor([[0.2, 0.0], [0.0, -0.3]])
    found = forward_motion(network, context, torch.zeros(2), vectors).detach()
    # A fifth is three pixels: what has left the picture is not seen to have moved.
    assert found[0, :, :28].numpy() == pytest.approx(np.broadcast_to([0.2, 0.0], (32, 28, 2)), abs=1e-4)
    assert float(found[0, :, 29:].abs().max()) == 0
    assert found[1, 5:].numpy() == pytest.approx(np.broadcast_to([0.0, -0.3], (27, 32, 2)), abs=1e-4)


def test_parts_are_what_moves_together() -> None:
    network = network_of(half_pokes())
    context = network.begin(torch.rand(1, 3, 32, 32))
    found = find_parts(network, context, 2, np.random.default_rng(0), places=6, pokes=12)
    assert set(np.unique(found)) == {1, 2}
    assert len(np.unique(found[10:22, 5:9])) == len(np.unique(found[:, 26:])) == 1
    assert found[16, 6] != found[16, 31]


def test_no_figure_has_no_parts() -> None:
    network = network_of(rigid_pokes())
    with torch.no_grad():
        network.mask.logit.bias.fill_(-50.0)  # type: ignore[union-attr]
    context = network.begin(torch.rand(1, 3, 32, 32))
    assert find_parts(network, context, 3, np.random.default_rng(0)).max() == 0


def test_the_nearest_still_is_itself() -> None:
    rng = np.random.default_rng(0)
    clips = [Clip(name, rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8), 25.0) for name in "abc"]
    order = nearest_neighbours(network_of(tiny_pokes()), np.asarray(clips[1].frames[0]), clips, 32)
    assert order[0] == 1
    assert sorted(order.tolist()) == [0, 1, 2]


def test_the_heat_map_has_the_still_s_size_and_repeats() -> None:
    system, still = tiny_pokes(), spot((40, 64))
    first = Animator(system).explain(still, at=(20.0, 10.0), pokes=5)
    assert first.shape == (40, 64, 3)
    assert np.array_equal(first, Animator(system).explain(still, at=(20.0, 10.0), pokes=5))
    assert "outside of the still" in refused(Animator(system).explain, still, at=(64.0, 3.0))
    assert "takes no pokes" in refused(Animator(tiny_driving()).explain, still, at=(3.0, 3.0))


def test_the_verb_writes_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_pokes(size=16).save_pretrained(tmp_path / "model")
    media.write_picture(tmp_path / "me.png", spot((40, 48)))
    clips = [Clip(name, np.repeat(spot()[None], 2, 0), 25.0) for name in "abcde"]
    write_dataset(tmp_path / "set", clips, info=DatasetInfo(title="made"))
    start = ["explain", str(tmp_path / "me.png"), "--model", str(tmp_path / "model")]
    for name, more, size in (
        ("at", ["--at", "20,10", "--pokes", "3"], (40, 48)),
        ("parts", ["--parts", "2"], (40, 48)),
        ("nearest", ["--nearest", str(tmp_path / "set")], (40, 5 * 48)),
    ):
        assert cli.main([*start, *more, "-o", str(tmp_path / f"{name}.png")]) == 0
        assert media.read_picture(tmp_path / f"{name}.png").shape == (*size, 3)
    capsys.readouterr()
    for wrong in ([], ["--at", "1,2", "--parts", "2"]):
        assert cli.main([*start, *wrong, "-o", str(tmp_path / "no.png")]) == 2
        assert "one of --at X,Y, --parts K and --nearest DATA" in capsys.readouterr().err
