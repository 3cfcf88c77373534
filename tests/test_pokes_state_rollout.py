"""Roll-outs of the paper's networks: states that carry on, phi while there is a poke, and its schedule."""

from collections.abc import Sequence
from itertools import islice, pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from pokes_state_tools import TINY_STATES, changed
from pokes_tools import TINY_FIELDS, spot, wild_pokes
from stillmotion import Impulse, Poke
from stillmotion.rendering.fields import PAINT, STATIC
from stillmotion.systems.base import Rollout, Step
from stillmotion.systems.pokes.animating import FieldPlayer, PokesRollout, StatePlayer, poke_at
from stillmotion.systems.pokes.networks import StateGenerator

STILL = spot((40, 48))


def take(rollout: Rollout, count: int) -> list[Step]:
    return list(islice(rollout, count))


def maps_seen(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The poke maps that are encoded, but for empty ones."""
    seen, encode = list[Tensor](), StateGenerator.encode_poke

    def watched(self: StateGenerator, poke: Tensor) -> Tensor:
        if poke.any():
            seen.append(poke)
        return encode(self, poke)

    monkeypatch.setattr(StateGenerator, "encode_poke", watched)
    return seen


def phis_seen(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """phi of every step of the networks."""
    seen, step = list[Tensor](), StateGenerator.step

    def watched(self: StateGenerator, states: Sequence[Tensor], phi: Tensor) -> list[Tensor]:
        seen.append(phi)
        return step(self, states, phi)

    monkeypatch.setattr(StateGenerator, "step", watched)
    return seen


def test_states_carry_on_and_phi_ends_with_the_release(monkeypatch: pytest.MonkeyPatch) -> None:
    system, seen, phis = wild_pokes(TINY_STATES), maps_seen(monkeypatch), phis_seen(monkeypatch)
    steps = take(system.open(STILL, Poke("24,18>30,21", rise=2, release=4)), 8)
    assert np.array_equal(steps[0].frame, STILL)
    assert [bool(phi.any()) for phi in phis] == [True] * 3 + [False] * 4  # frames 1 to 3 are held
    assert len(seen) == 3
    # 48 pixels become 16: (24, 18) with the padding of 4 rows is (8, 7), and the vector is a third.
    rows, columns = seen[0][0].abs().sum(0).nonzero(as_tuple=True)
    assert (rows.float().mean().item(), columns.float().mean().item()) == (7, 8)
    assert seen[0][0, :, 7, 8].tolist() == pytest.approx([2, 1])
    frames = [step.frame for step in steps]
    assert {frame.shape for frame in frames} == {STILL.shape}
    assert not any(np.array_equal(a, b) for a, b in pairwise(frames))


def test_without_a_poke_the_papers_networks_keep_the_still() -> None:
    rollout = wild_pokes(TINY_STATES).open(STILL)
    assert all(np.array_equal(step.frame, STILL) for step in take(rollout, 3))


def test_the_papers_frames_are_those_of_its_own_rollout() -> None:
    """Animated with the state network's `forward`: the same poke, the same frames."""
    system = wild_pokes(TINY_STATES)
    still = spot((16, 16), 4, 5, 4)
    steps = take(system.open(still, Poke("8,7>10,8"), size="model"), 4)
    small = torch.from_numpy(still).permute(2, 0, 1)[None] / 255 * 2 - 1
    poke = torch.zeros(1, 2, 16, 16)
    poke[0, :, 6:9, 7:10] = torch.tensor([2.0, 1.0])[:, None, None]
    with torch.no_grad():
        frames = system.networks(small, poke, 3).frames[0]
    made = np.stack([step.frame for step in steps[1:]])
    expected = (frames.permute(0, 2, 3, 1).numpy() + 1) / 2 * 255
    assert np.abs(made - expected.clip(0, 255)).max() <= 1
    assert np.array_equal(steps[0].frame, still)


def test_pokes_of_the_papers_networks_lie_on_whole_pixels_inside() -> None:
    assert poke_at(np.array([3.4, 7.6]), np.array([1.5, -2.0]), (16, 16)) == ((3, 8), (1.5, -2.0))
    assert poke_at(np.array([-0.5, 15.4]), np.array([1.0, 0.0]), (16, 16)) == ((0, 15), (1.0, 0.0))


def test_players_are_those_of_the_networks() -> None:
    for base, player in ((TINY_FIELDS, FieldPlayer), (changed(TINY_STATES), StatePlayer)):
        rollout = wild_pokes(base).open(STILL)
        next(rollout)
        assert type(rollout._player) is player  # type: ignore[attr-defined]


def test_everything_is_painted_and_states_go_on_after_the_release() -> None:
    rollout = wild_pokes(TINY_STATES).open(STILL)
    assert isinstance(rollout, PokesRollout)
    assert (next(rollout).facts["shares"][STATIC] == 1).all()
    rollout.send(Poke("24,18>30,21"))
    held = take(rollout, 3)
    assert (held[0].facts["shares"][PAINT] == 1).all()
    assert not held[0].facts["displacement"].any()
    rollout.release()
    free = take(rollout, 3)
    assert not np.array_equal(free[0].frame, free[1].frame)
    assert not np.array_equal(free[-1].frame, STILL)


@pytest.mark.parametrize(("schedule", "factors"), [("first", [1, 0, 0, 0]), ("decay", [1, 2 / 3, 1 / 3, 1 / 3])])
def test_phi_has_the_factor_of_its_time(monkeypatch: pytest.MonkeyPatch, schedule: str, factors: list[float]) -> None:
    """Three frames are trained; later ones have the last factor."""
    seen = phis_seen(monkeypatch)
    system = wild_pokes(changed(TINY_STATES, poke__schedule=schedule, clip__frames=3))
    rollout = system.open(STILL)
    take(rollout, 2)
    rollout.send(Poke("24,18>30,21"))  # from now on counts its time
    take(rollout, 4)
    assert [float((phi / seen[0]).nanmedian()) for phi in seen] == pytest.approx(factors)


def test_an_impulse_is_normalised_and_ends_after_its_duration(monkeypatch: pytest.MonkeyPatch) -> None:
    """A vector of (3, 4) pixels of the still is a third of it in the networks', and there its unit of 2."""
    seen = maps_seen(monkeypatch)
    system = wild_pokes(changed(TINY_STATES, poke__interpretation="impulse", poke__largest=2.0))
    take(system.open(STILL, Impulse("24,18:3,4", duration=2)), 6)
    assert len(seen) == 2
    assert seen[0][0, :, 7, 8].tolist() == pytest.approx([3 / 3 / 2, 4 / 3 / 2])
