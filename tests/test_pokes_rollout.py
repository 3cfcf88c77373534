"""Roll-outs of pokes: at rest, pushed while they run, let go, and back byte for byte."""

import gc
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from pokes_state_tools import TINY_STATES
from pokes_tools import (
    TINY_FIELDS,
    poked_clip,
    rigid_pokes,
    spot,
    textured,
    tiny_pokes,
    unmoving,
    wild_pokes,
    without,
)
from refusals import refuses
from stillmotion import Drive, Impulse, Poke
from stillmotion.rendering.fields import STATIC
from stillmotion.systems.base import Rollout, Step
from stillmotion.systems.pokes.animating import SWINGING, Pokes, PokesRollout

STILL = spot((40, 48))


@pytest.fixture(scope="module")
def rigid() -> Pokes:
    """Everything moves with the handles, which swing fast and come to rest soon."""
    return rigid_pokes()


@pytest.fixture(scope="module")
def pokes() -> Pokes:
    return tiny_pokes()


def take(rollout: Rollout, count: int) -> list[Step]:
    return list(islice(rollout, count))


def offsets(steps: list[Step]) -> np.ndarray:
    """Of the first handle at each step, pixels of the still; zero where there is none."""
    return np.array([step.facts["handles"][0, 2:] if len(step.facts["handles"]) else (0, 0) for step in steps])


def moved(steps: list[Step]) -> np.ndarray:
    """How far the middle pixel of the networks' frames has come, pixels of the networks."""
    return np.array([-step.facts["displacement"][16, 16] for step in steps])


# --- rest ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["rigid", "pokes"])
def test_frame_0_is_the_still_byte_for_byte(kind: str, request: pytest.FixtureRequest) -> None:
    system = request.getfixturevalue(kind)
    first, second = take(system.open(STILL, Poke("10,12>16,15", rise=3)), 2)
    assert np.array_equal(first.frame, STILL)
    assert not first.facts["displacement"].any()
    assert (first.facts["shares"][STATIC] == 1).all()
    assert not np.array_equal(second.frame, STILL)


def test_nothing_moves_without_a_control(pokes: Pokes) -> None:
    rollout = pokes.open(STILL)
    assert rollout.done
    for step in take(rollout, 5):
        assert np.array_equal(step.frame, STILL)
        assert step.facts["handles"].shape == (0, 4)
        step.frame[:] = 0  # what a caller draws on a frame is not in the next one
    assert np.array_equal(next(rollout).frame, STILL)


# --- pokes ---------------------------------------------------------------------------------------------------------
def test_the_handle_goes_where_it_is_poked_and_is_held(rigid: Pokes) -> None:
    """40 x 48 pixels are padded to 48 and shrunk to 32: a pixel of the networks is 1.5 of the still."""
    steps = take(rigid.open(STILL, Poke("10,12>16,9", rise=4)), 8)
    curve = np.array([0, 0.103515625, 0.5, 0.896484375, 1, 1, 1, 1])
    np.testing.assert_allclose(offsets(steps), curve[:, None] * [6, -3], atol=1e-4)
    np.testing.assert_allclose(moved(steps), curve[:, None] * [4, -2], atol=1e-3)
    assert np.allclose(steps[1].facts["handles"][0, :2], [10, 12])


def test_the_pixels_go_with_it(rigid: Pokes) -> None:
    """Six pixels to the right and three up, in pixels of the still."""
    frame = take(rigid.open(STILL, Poke("10,12>16,9", rise=4)), 6)[-1].frame
    assert np.abs(frame[7:13, 14:20].astype(int) - STILL[10:16, 8:14]).max() <= 1
    shifted = np.abs(frame[2:30, 10:40].astype(int) - STILL[5:33, 4:34])
    assert np.mean(shifted) < 0.5


@pytest.mark.parametrize(("size", "poke"), [((1, 48), "10,0>16,0"), ((48, 1), "0,10>0,16"), ((20, 70), "40,9>52,12")])
def test_stills_of_any_shape(rigid: Pokes, size: tuple[int, int], poke: str) -> None:
    still = spot(size)
    steps = take(rigid.open(still, Poke(poke, rise=2)), 4)
    assert [step.frame.shape for step in steps] == [(*size, 3)] * 4
    assert np.array_equal(steps[0].frame, still)
    assert not np.array_equal(steps[-1].frame, still)
    x, y, dx, dy = Poke(poke).moves[0].place + Poke(poke).moves[0].vector
    np.testing.assert_allclose(steps[-1].facts["handles"], [[x, y, dx, dy]], atol=1e-3)


def test_several_at_once_and_some_of_them_later(rigid: Pokes) -> None:
    rollout = rigid.open(STILL, Poke(["8,10>12,10", "40,10>40,16@3"], rise=2))
    steps = take(rollout, 6)
    assert [len(step.facts["handles"]) for step in steps] == [1, 1, 1, 1, 2, 2]
    # The second has moved by (4, 0) with everything else when it is taken.
    np.testing.assert_allclose(steps[-1].facts["handles"], [[8, 10, 4, 0], [36, 10, 4, 6]], atol=1e-2)
    assert rollout.done
    assert np.allclose(steps[4].facts["handles"][0, 2:], [4, 0], atol=1e-4)


def test_a_place_is_where_it_is_seen_now(rigid: Pokes) -> None:
    """After the still has gone by (6, -3), what is seen at (30, 12) is the still's (24, 15)."""
    rollout = rigid.open(STILL, Poke("10,12>16,9", rise=2))
    take(rollout, 4)
    rollout.send(Poke("30,12>34,12", rise=2))
    handles = next(rollout).facts["handles"]
    np.testing.assert_allclose(handles[1, :2], [24, 15], atol=1e-2)
    np.testing.assert_allclose(handles[1, 2:], [6 + 2, -3], atol=1e-2)


def test_a_poke_while_it_runs_keeps_the_motion_that_there_is(rigid: Pokes) -> None:
    """The first step of the new poke is the only change: a tenth of 6 pixels of the still."""
    rollout = rigid.open(STILL, Poke("10,12>16,9", rise=2))
    before = take(rollout, 5)
    rollout.send(Poke("16,9>16,15", rise=4))
    after = take(rollout, 5)
    assert [len(step.facts["handles"]) for step in after] == [1] * 5  # the same handle
    path = offsets([*before, *after])
    np.testing.assert_allclose(path[5] - path[4], [0, 6 * 0.103515625], atol=1e-3)
    np.testing.assert_allclose(path[-1], [6, 3], atol=1e-3)
    steps = np.linalg.norm(np.diff(moved([*before, *after]), axis=0), axis=1)
    assert steps[4] == pytest.approx(4 * 0.103515625, abs=1e-2)


def test_a_second_poke_lets_go_of_the_first(rigid: Pokes) -> None:
    rollout = rigid.open(STILL, Poke("4,20>10,20", rise=2))
    take(rollout, 4)
    rollout.send(Poke("44,20>46,24", rise=2))
    steps = take(rollout, 40)
    np.testing.assert_allclose(offsets(steps[-1:])[0], [8, 4], atol=1e-2)  # it had moved by 6 when it was taken
    assert len(steps[-1].facts["handles"]) == 1
    assert len(steps[2].facts["handles"]) == 2
    assert steps[2].facts["handles"][0, 2] < 6  # swings back


def test_release_lets_go_of_everything_and_the_still_comes_back(rigid: Pokes) -> None:
    rollout = rigid.open(STILL, Poke(["10,12>16,9", "40,30>36,30"]))
    held = take(rollout, 8)
    assert isinstance(rollout, PokesRollout)
    rollout.release()
    free = take(rollout, 80)
    assert not np.allclose(offsets(free[:1]), offsets(held[-1:]))
    assert len(free[-1].facts["handles"]) == 0
    assert np.array_equal(free[-1].frame, STILL)


def test_an_impulse_of_ten_pixels_moves_ten_times_as_far_as_one_of_one(rigid: Pokes) -> None:
    far = {}
    for length in (1, 10):
        steps = take(rigid.open(STILL, Impulse(f"10,12:0,{length}", duration=4)), 14)
        far[length] = offsets(steps)
    assert 0.2 < np.abs(far[1]).max() < 1  # it does not last, so it does not get there
    np.testing.assert_allclose(far[10], 10 * far[1], atol=1e-4)


def test_an_impulse_leaves_what_is_held_alone(rigid: Pokes) -> None:
    rollout = rigid.open(STILL, Poke("4,20>10,20", rise=2))
    take(rollout, 4)
    rollout.send(Impulse("40,20:0,6"))
    assert np.allclose(take(rollout, 60)[-1].facts["handles"], [[4, 20, 6, 0]], atol=1e-3)


# --- refusals, ends ------------------------------------------------------------------------------------------------
def test_what_is_wrong_is_refused_and_the_rollout_goes_on(rigid: Pokes) -> None:
    rollout = rigid.open(STILL, Poke("10,12>16,9", rise=2))
    take(rollout, 3)
    refuses("A pokes model is directed by Poke or Impulse, not by Drive", rollout.send, Drive("wave.mp4"))
    for place in ("48,2", "2,40", "-1,2", "-0.6,2", "2,39.6"):
        refuses(
            r"The place .* is outside of the still, which is 48 x 40 pixels\.", rollout.send, Poke(f"{place}>3,3")
        )
        refuses("outside", rollout.send, Impulse(f"{place}:3,3"))
    refuses("outside", rollout.send, Poke(["3,3>4,4", "99,2>3,3"]))
    assert np.allclose(offsets([next(rollout)]), [[6, -3]], atol=1e-3)
    rollout.send(Poke("47.4,39.4>100,100"))  # the last pixel's corner, and a target outside
    assert len(take(rollout, 2)[-1].facts["handles"]) == 2
    refuses("outside", rigid.open, STILL, Poke("48,2>3,3"))


def test_it_is_done_when_all_pokes_have_been_answered(rigid: Pokes) -> None:
    frames = {
        "held": (Poke("10,12>16,9", rise=4), 5),  # frames 0 to 4
        "the rise of the model": (Poke("10,12>16,9"), 6),
        "a later one": (Poke(["10,12>16,9", "3,3>4,4@7"], rise=4), 12),
        "released": (Poke("10,12>16,9", rise=4, release=6), 6 + SWINGING + 1),
        "pushed": (Impulse("10,12:6,-3", duration=5), 5 + SWINGING + 1),
    }
    for control, count in frames.values():
        assert len(list(rigid.animate(STILL, control))) == count
    assert len(list(rigid.animate(STILL, Poke("10,12>16,9"), frames=3))) == 3
    rollout = rigid.open(STILL, Poke("10,12>16,9", rise=2))
    take(rollout, 3)
    assert rollout.done
    rollout.send(Poke("30,12>36,9", rise=3))
    assert not rollout.done
    take(rollout, 3)
    assert rollout.done


def test_an_animation_repeats(pokes: Pokes) -> None:
    animation = pokes.animate(STILL, Poke("10,12>16,9", rise=3, release=5), frames=9)
    first, again = list(animation), list(animation)
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a.frame, b.frame)
        assert all(np.array_equal(a.facts[name], b.facts[name]) for name in a.facts)


def test_a_control_sent_before_the_first_step_is_one_given_at_once(pokes: Pokes) -> None:
    poke = Poke(["10,12>16,9", "30,20>32,24@2"], rise=3)
    rollout = pokes.open(STILL)
    rollout.send(poke)
    fixed = list(pokes.animate(STILL, poke))
    for a, b in zip(take(rollout, len(fixed)), fixed, strict=True):
        assert np.array_equal(a.frame, b.frame)
    assert rollout.done


def test_a_closed_rollout_ends(rigid: Pokes) -> None:
    with rigid.open(STILL, Poke("10,12>16,9")) as rollout:
        take(rollout, 3)
    assert take(rollout, 3) == []
    rollout.close()
    rollout.send(Poke("10,12>16,9"))  # nobody follows it
    assert take(rollout, 3) == []


# --- memory --------------------------------------------------------------------------------------------------------
def alive() -> int:
    """Numbers in all tensors."""
    gc.collect()
    # `type`, since `isinstance` asks some objects for more than they like to say.
    return sum(thing.numel() for thing in gc.get_objects() if type(thing) is torch.Tensor)


def test_memory_does_not_grow_and_after_each_release_the_still_is_back() -> None:
    system, still = rigid_pokes(swing=(1.2, 0.6), size=16), spot((16, 16), 4, 5, 4)
    rollout, found, most = system.open(still, size="model"), [], 0
    places = np.random.default_rng(0).integers(1, 15, (12, 2))
    for number, (x, y) in enumerate(places.tolist()):
        rollout.send(Poke(f"{x},{y}>8,7.5", rise=3, release=6))
        steps = take(rollout, 50)
        most = max(most, *(len(step.facts["handles"]) for step in steps))
        assert len(steps[-1].facts["handles"]) == 0
        assert np.array_equal(steps[-1].frame, still)
        if number in (2, 11):
            found.append((alive(), len(gc.get_objects())))
    assert most == 1
    assert found[0][0] == found[1][0] > 0
    assert abs(found[0][1] - found[1][1]) < 100


# --- what a step tells ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("base", [TINY_FIELDS, TINY_STATES], ids=["fields", "states"])
def test_layers_have_the_names_of_their_captions(base: Any) -> None:
    system = wild_pokes(base)
    for control in (None, Poke("10,12>16,9", rise=2)):
        for step in take(system.open(STILL, control, layers=True), 3):
            assert set(step.layers) == set(Pokes.layer_captions)
            for picture in step.layers.values():
                assert picture.dtype == np.uint8
                assert picture.shape[2] == 3
    drawn = take(system.open(STILL, Poke("10,12>16,9", rise=2), layers=True), 3)[-1]
    assert tuple(drawn.layers["pokes"][9, 16]) == (255, 80, 40)  # the disc where it is now
    assert drawn.layers["pokes"].shape == STILL.shape


def test_frames_of_the_networks_size(rigid: Pokes) -> None:
    steps = take(rigid.open(STILL, Poke("10,12>16,9", rise=2), size="model"), 4)
    assert {step.frame.shape for step in steps} == {(32, 32, 3)}
    assert {step.facts["displacement"].shape for step in steps} == {(32, 32, 2)}
    assert {step.facts["shares"].shape for step in steps} == {(4, 32, 32)}


def test_fps_are_those_of_the_training_clips() -> None:
    assert tiny_pokes().fps == 25
    assert tiny_pokes(card={"fps": 30}).open(STILL).fps == 30
    assert tiny_pokes(card={"fps": 30}, clip__frame_step=3).fps == 10
    assert tiny_pokes(card={"fps": "many"}).fps == 25


def test_the_control_of_a_clip() -> None:
    system = tiny_pokes()
    (known,) = system.control_of(poked_clip()).moves
    assert (known.place, known.vector) == ((9, 11), (6, 3))
    clip = without(poked_clip(), "path")
    (found,) = system.control_of(clip).moves
    x, y = (int(value) for value in found.place)
    assert clip.tracks["parts"][0, y, x]
    assert found.vector == (6, 3)
    assert system.control_of(textured()).moves[0].vector[0] == pytest.approx(6, abs=1)  # after its last frame
    refuses("moves by a pixel", system.control_of, unmoving(clip))


def test_bfloat16_moves_nearly_alike() -> None:
    system, poke = rigid_pokes(), Poke("10,12>16,9", rise=3)
    exact = take(system.open(STILL, poke), 5)
    system.precision = "bf16"
    half = take(system.open(STILL, poke), 5)
    assert np.array_equal(half[0].frame, STILL)
    np.testing.assert_allclose(moved(half), moved(exact), atol=0.05)
    assert half[-1].facts["displacement"].dtype == np.float32
