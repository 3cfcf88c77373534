"""Roll-outs: the still first, pokes while it runs, rest, and what is refused."""

import gc
from typing import Any

import numpy as np
import pytest
import torch

from pokes_state_tools import changed
from pokes_tools import rigid_pokes, spot, tiny_pokes
from refusals import refused
from stillmotion import Impulse, Poke
from stillmotion.rendering.fields import PAINT, STATIC
from stillmotion.systems.base import Step
from stillmotion.systems.pokes.animating import Pokes, PokesRollout
from stillmotion.systems.pokes.config import PokesConfig
from stillmotion.systems.strokes import Stroke


def states(**changes: Any) -> Pokes:
    """The paper's networks, tiny."""
    torch.manual_seed(0)
    config = changed(PokesConfig(), size=32, encoder__width=64, encoder__bottleneck=16, **changes)
    return Pokes.build(config)


def opened(system: Pokes, still: np.ndarray, **options: Any) -> PokesRollout:
    rollout = system.open(still, **options)
    assert isinstance(rollout, PokesRollout)
    return rollout


def steps_of(rollout: PokesRollout, count: int) -> list[Step]:
    return [next(rollout) for _ in range(count)]


@pytest.mark.parametrize("system", [rigid_pokes, states], ids=["fields", "states"])
@pytest.mark.parametrize("size", [(32, 32), (40, 57), (1, 20)])
def test_nothing_moves_without_a_poke(system: Any, size: tuple[int, int]) -> None:
    still = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    for step in steps_of(opened(system(), still), 3):
        assert np.array_equal(step.frame, still)
        assert step.facts["handles"].shape == (0, 4)


def test_a_poke_takes_the_still_along_and_the_facts_say_how_far() -> None:
    """The whole picture follows: 6 pixels to the right and 2 down, after 5 frames; 64 x 32 pixels, networks of 32."""
    still = spot((32, 64), x=20)
    steps = list(rigid_pokes().animate(still, Poke("23,13>29,15")))
    assert len(steps) == 6
    assert np.array_equal(steps[0].frame, still)
    assert steps[-1].facts["handles"] == pytest.approx(np.array([[23, 13, 6, 2]]), abs=1e-3)
    # The networks' pixels are two of the still's.
    assert steps[-1].facts["displacement"] == pytest.approx(np.broadcast_to([-3, -1], (32, 32, 2)), abs=1e-3)
    assert np.abs(steps[-1].frame[5:25, 10:50].astype(int) - still[3:23, 4:44]).max() <= 2


def test_what_is_let_go_of_comes_to_rest_byte_for_byte_in_memory_that_does_not_grow() -> None:
    still, rng = spot(), np.random.default_rng(0)
    rollout = opened(rigid_pokes(), still)
    next(rollout)
    counts = []
    for number in range(400):
        if number % 50 == 0:
            x, y = rng.uniform(4, 28, 2)
            rollout.send(Poke([((x, y), (x + 4, y - 3))]))
        elif number % 50 == 12:
            rollout.release()
        step = next(rollout)
        if number % 100 == 99:
            gc.collect()
            counts.append(sum(torch.is_tensor(each) for each in gc.get_objects()))
        assert len(step.facts["handles"]) <= 3
    assert max(counts) <= counts[0] + 5
    rollout.release()
    last = steps_of(rollout, 80)[-1]
    assert np.array_equal(last.frame, still)
    assert rollout.done


def test_a_poke_while_it_runs_begins_where_things_are() -> None:
    rollout = opened(rigid_pokes(), spot())
    rollout.send(Poke("10,10>16,10"))
    before = steps_of(rollout, 6)[-1].facts["displacement"]
    assert before[0, 0] == pytest.approx([-6, 0], abs=1e-3)
    rollout.send(Poke("16,10>16,14", rise=4))  # what was at 10,10 is at 16,10 now
    during = steps_of(rollout, 4)
    assert during[0].facts["handles"][0, :2] == pytest.approx([10, 10], abs=1e-3)
    first = during[0].facts["displacement"] - before
    assert np.abs(first).max() < 0.5  # no jump: a tenth of four pixels at a quarter of the time
    assert during[-1].facts["displacement"][0, 0] == pytest.approx([-6, -4], abs=1e-3)


def test_another_poke_lets_go_of_the_first_and_several_at_once_are_held() -> None:
    rollout = opened(rigid_pokes(swing=(0.5, 0.9)), spot())
    rollout.send(Poke(["4,4>8,4", "28,28>28,24"]))
    both = steps_of(rollout, 6)[-1].facts["handles"]
    assert both[:, 2:] == pytest.approx(np.array([[4, 0], [0, -4]]), abs=1e-3)
    rollout.send(Poke("16,16>18,16"))
    later = steps_of(rollout, 60)[-1].facts["handles"]
    # Half way between both it had gone (2, -2) already; the others have come to rest.
    assert later[:, 2:] == pytest.approx(np.array([[4, -2]]), abs=1e-3)


def test_a_late_poke_waits_for_its_frame() -> None:
    steps = list(rigid_pokes().animate(spot(), Poke("10,10>14,10@7", rise=3)))
    assert len(steps) == 11
    moved = [len(step.facts["handles"]) for step in steps]
    assert moved == [0] * 8 + [1] * 3


def test_pushes_move_in_proportion_to_their_force_and_pokes_to_their_length() -> None:
    for make in (lambda d: Impulse([((16, 16), (d, 0.0))]), lambda d: Poke([((16.0, 16.0), (16.0 + d, 16.0))])):
        farthest = []
        for pixels in (1.0, 10.0):
            steps = rigid_pokes().animate(spot(), make(pixels), 16)
            farthest.append(max(np.abs(step.facts["displacement"]).max() for step in steps))
        assert farthest[1] == pytest.approx(10 * farthest[0], rel=1e-2)


def test_a_bad_poke_is_refused_and_the_animation_goes_on() -> None:
    rollout = opened(rigid_pokes(), spot())
    rollout.send(Poke("10,10>14,10"))
    steps_of(rollout, 3)
    assert "outside of the still, which is 32 x 32 pixels" in refused(rollout.send, Poke("40,10>14,10"))
    assert "outside" in refused(rollout.send, Impulse("10,-3:4,4"))
    assert "directed by Poke or Impulse, not by Stroke" in refused(rollout.send, Stroke([(1, 1), (2, 2)]))
    assert steps_of(rollout, 3)[-1].facts["handles"][0, 2] == pytest.approx(4, abs=1e-3)
    rollout.close()
    assert list(rollout) == []


def test_as_many_frames_as_are_asked_for() -> None:
    system = rigid_pokes()
    assert len(list(system.animate(spot(), Poke("10,10>14,10"), 3))) == 3
    assert len(list(system.animate(spot(), Poke("10,10>14,10"), 30))) == 30
    assert len(list(system.animate(spot(), Poke("10,10>14,10", release=6)))) == 47


def test_layers_are_those_with_captions() -> None:
    for system in (tiny_pokes(), states()):
        for step in system.animate(spot((32, 40)), Poke("10,10>14,10"), 3, layers=True):
            assert set(step.layers) == set(Pokes.layer_captions)
            assert all(layer.dtype == np.uint8 and layer.ndim == 3 for layer in step.layers.values())


def test_the_state_networks_carry_on_and_generate_everything() -> None:
    rollout = opened(states(), spot((48, 40)))
    assert rollout is not None
    first = next(rollout)
    assert first.facts["shares"][STATIC].min() == 1
    rollout.send(Poke("10,10>14,10"))
    held = steps_of(rollout, 4)
    assert held[0].frame.shape == (48, 40, 3)
    assert held[0].facts["shares"][PAINT].min() == 1
    assert not np.array_equal(held[0].frame, held[-1].frame)
    rollout.release()
    free = steps_of(rollout, 3)
    assert not np.array_equal(free[-1].frame, spot((48, 40)))  # states go on from where they are


def test_phi_follows_its_schedule_and_is_zero_without_a_poke() -> None:
    system = states(poke__schedule="first", poke__interpretation="impulse", clip__frames=4)
    seen: list[float] = []
    step = system.networks.step
    system.networks.step = lambda state, phi: seen.append(float(phi.abs().max())) or step(state, phi)  # type: ignore
    system.for_inference = lambda: system  # type: ignore[method-assign]
    rollout = opened(system, spot())
    rollout.send(Impulse("10,10:8,0", duration=6))
    steps_of(rollout, 5)
    assert seen[0] > 0
    assert seen[1:] == [0.0] * 3


def test_half_precision_runs() -> None:
    system = rigid_pokes()
    system.precision = "bf16"
    assert len(list(system.animate(spot(), Poke("10,10>14,10"), 3))) == 3
