"""Samples of pokes: handles agree with the motion, before and after an augmentation; clips that know nothing."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pokes_state_tools import changed
from pokes_tools import TINY_FIELDS, as_tensor, poked_clip, textured, unmoving, without
from refusals import refuses
from stillmotion import geometry
from stillmotion.data.augment import AugmentParams, affine_matrix
from stillmotion.data.clip import Clip
from stillmotion.data.elastic import sample_field
from stillmotion.data.flow import consistent, displacement_of, find_flow, flows_of
from stillmotion.data.motion_estimate import motion_of, seen_figure
from stillmotion.data.motion_truth import UNKNOWN, motion_truths
from stillmotion.data.plates import Figures
from stillmotion.rendering.fields import STATIC
from stillmotion.systems.pokes.data import (
    SLOTS,
    SWING,
    MomentDataset,
    background_moves,
    farthest_move,
    flow_moves,
    handle_tensors,
    is_poked,
    moment_sample,
    release_frame,
    swing_targets,
    world_moves,
)
from stillmotion.systems.pokes.handles import sample_at
from stillmotion.worlds import sample_clip

FAST = find_flow("dis:fast")
PLAIN = AugmentParams((32, 32), (32, 32))
MIRROR = AugmentParams((32, 32), (32, 32), mirror=True)
HALF = 31 / 2
EVERYWHERE = np.ones((8, 64, 64), bool)


@cache
def plant(index: int, action: str) -> Clip:
    """A clip in which the poked place is seen all the time."""
    return sample_clip("plants", 0, index, 64, 16, action)


# --- handles of made clips -----------------------------------------------------------------------------------------
AUGMENTED = {
    "plain": AugmentParams((64, 64), (64, 64)),
    "mirror": AugmentParams((64, 64), (64, 64), mirror=True),
    "affine": AugmentParams(
        (64, 64), (64, 64), mirror=True, affine=affine_matrix((64, 64), rotation=12, scale=(1.1, 0.9), shift=(2, -1))
    ),
    "elastic": AugmentParams((64, 64), (64, 64), elastic=sample_field((64, 64), 0.02, np.random.default_rng(3))),
}


@pytest.mark.parametrize(("index", "action"), [(1, "pluck"), (2, "drag"), (2, "push")])
@pytest.mark.parametrize("name", AUGMENTED)
def test_handles_and_truth_agree(name: str, index: int, action: str) -> None:
    """Where the poked place is now, the displacement leads back to where it was."""
    clip, times, params = plant(index, action), np.array([0, 4, 8, 15]), AUGMENTED[name]
    handles = handle_tensors(world_moves(clip, times, None), params)
    place, offset = handles["place"][:, 0], handles["offset"][:, 0]
    truth = motion_truths(clip, times, params)["displacement"].permute(0, 3, 1, 2)
    back = geometry.warp(truth, (place + offset)[:, None, None], padding="border")[:, :, 0, 0]
    assert (back + offset).norm(dim=-1).max() * 63 / 2 < 0.5
    assert offset.norm(dim=-1).max() * 63 / 2 > 2


def test_handles_and_truth_agree_in_samples_of_any_augmentation() -> None:
    config = changed(TINY_FIELDS, size=64, clip__augmentation="varied", poke__background=0.0)
    dataset, errors = MomentDataset([plant(1, "pluck"), plant(2, "drag"), plant(2, "push")], config, 0), list[float]()
    for number in range(12):
        sample = dataset[number]
        there = sample_at(sample["displacement"].permute(0, 3, 1, 2), sample["place"] + sample["offset"])
        errors += ((there + sample["offset"]).norm(dim=-1) * 63 / 2)[sample["present"] > 0].tolist()
    assert np.median(errors) < 0.15
    assert np.mean(np.array(errors) < 0.5) > 0.7  # some points are hidden later


@pytest.mark.parametrize(("index", "action"), [(0, "drag"), (0, "pluck"), (2, "push"), (3, "drag"), (3, "push")])
def test_the_motion_of_a_point_agrees_with_the_path(index: int, action: str) -> None:
    clip = plant(index, action)
    path = clip.tracks["path"].astype(float)
    for last in (1, 5, 10, 15):
        np.testing.assert_allclose(displacement_of(clip, path[0], 0, last), path[last] - path[0], atol=0.05)
    assert displacement_of(clip, path[0], 3, 3).tolist() == [0, 0]


def test_the_release_of_the_three_kinds() -> None:
    found = {kind: release_frame(poked_clip(kind=kind, rise=4, hold=1.5)) for kind in ("drag", "pluck", "push")}
    assert found == {"drag": np.inf, "pluck": 5.5, "push": -1.0}
    later = np.array([0, 1, 5, 6])
    held = {kind: world_moves(poked_clip(kind=kind, hold=1.5), later, None).held[:, 0].tolist() for kind in found}
    assert held == {"drag": [True] * 3, "pluck": [True, True, False], "push": [False] * 3}


def test_moves_of_a_made_clip_by_hand() -> None:
    """By (6, 3) in four even steps: rounded (2, 1), (3, 2), (4, 2), (6, 3)."""
    moves = world_moves(poked_clip(), np.array([0, 1, 2, 4, 6]), None)
    assert moves.place.tolist() == [[9, 11]]
    assert moves.offset[:, 0].tolist() == [[2, 1], [3, 2], [6, 3], [6, 3]]
    assert moves.velocity[:, 0].tolist() == [[2, 1], [1, 1], [2, 1], [0, 0]]


def test_further_handles_are_points_of_the_body_and_move_as_it_does() -> None:
    clip, counts = poked_clip(), set()
    for seed in range(20):
        moves = world_moves(clip, np.array([0, 2, 6]), np.random.default_rng(seed))
        counts.add(len(moves.place))
        for x, y in moves.place.astype(int):
            assert clip.tracks["parts"][0, y, x]
        for handle in range(len(moves.place)):
            assert moves.offset[:, handle].tolist() == [[3, 2], [6, 3]]
            assert moves.velocity[:, handle].tolist() == [[1, 1], [0, 0]]
        assert moves.held.shape == (2, len(moves.place))
    assert counts == {1, 2, 3}


def test_handles_are_filled_up_and_move_with_the_pixels() -> None:
    moves = world_moves(poked_clip(), np.array([0, 1, 4]), None)
    handles = handle_tensors(moves, MIRROR)
    assert {name: tuple(value.shape) for name, value in handles.items()} == {
        "place": (2, SLOTS, 2), "offset": (2, SLOTS, 2), "velocity": (2, SLOTS, 2), "held": (2, SLOTS),
        "present": (2, SLOTS),
    }  # fmt: skip
    assert handles["present"].tolist() == [[1, 0, 0]] * 2
    assert handles["held"].tolist() == [[1, 0, 0]] * 2
    # Column 9 of 32 is column 22 of the mirrored picture, and it moves to the left.
    assert handles["place"][:, 0].tolist() == [pytest.approx([22 / HALF - 1, 11 / HALF - 1])] * 2
    assert handles["offset"][:, 0].flatten().tolist() == pytest.approx([-2 / HALF, 1 / HALF, -6 / HALF, 3 / HALF])
    assert handles["velocity"][1, 0].tolist() == pytest.approx([-2 / HALF, 1 / HALF])


# --- oscillators ---------------------------------------------------------------------------------------------------
def swinging(kind: str) -> Clip:
    """Twelve frames whose path is (t, 2 t) from its start on."""
    clip = poked_clip(frames=12, kind=kind, rise=4, hold=1.5, by=(8, -4))
    clip.tracks["path"] = clip.tracks["path"][:1] + np.arange(12)[:, None] * np.array([1, 2], np.float32)
    return clip


def test_a_plucked_place_is_followed_from_its_release_on() -> None:
    """It is let go after 5.5 frames: frame 6 is the first free one."""
    found = swing_targets(swinging("pluck"), PLAIN)
    assert found["swing_known"].tolist() == [1] * 5 + [0] * (SWING - 5)
    assert (found["swing_path"][:5] * HALF).flatten().tolist() == pytest.approx([7, 14, 8, 16, 9, 18, 10, 20, 11, 22])
    assert (found["swing_start"] * HALF).flatten().tolist() == pytest.approx([6, 12, 1, 2])
    assert found["swing_place"].tolist() == pytest.approx([9 / HALF - 1, 11 / HALF - 1])
    assert not found["swing_pull"].any()
    mirrored = swing_targets(swinging("pluck"), MIRROR)
    for name in ("swing_start", "swing_path"):
        torch.testing.assert_close(mirrored[name], found[name] * torch.tensor([-1.0, 1.0]))
    assert mirrored["swing_place"].tolist() == pytest.approx([22 / HALF - 1, 11 / HALF - 1])


def test_a_pushed_place_is_followed_from_the_start_on() -> None:
    found = swing_targets(swinging("push"), PLAIN)
    assert found["swing_known"].tolist() == [1] * 11 + [0] * (SWING - 11)
    assert (found["swing_path"][:2] * HALF).flatten().tolist() == pytest.approx([1, 2, 2, 4])
    assert not found["swing_start"].any()
    share = [np.sin(np.pi * (t + 0.5) / 4) ** 2 for t in range(4)]
    expected = [value for s in share for value in (8 * s, -4 * s)]
    assert (found["swing_pull"][:4] * HALF).flatten().tolist() == pytest.approx(expected, abs=1e-5)
    assert not found["swing_pull"][4:].any()


@pytest.mark.parametrize("clip", [swinging("drag"), textured(), poked_clip(kind="pluck", rise=7, hold=5)])
def test_nothing_is_known_of_what_never_is_free(clip: Clip) -> None:
    size = (clip.frames.shape[1], clip.frames.shape[2])
    found = swing_targets(clip, AugmentParams(size, size))
    assert found["swing_known"].shape == (SWING,)
    assert not found["swing_known"].any()
    assert all(torch.isfinite(value).all() for value in found.values())


# --- the background ------------------------------------------------------------------------------------------------
def test_a_poke_on_the_background_keeps_clear_of_the_body() -> None:
    clip = poked_clip()
    rows, columns = np.nonzero(clip.tracks["parts"][2])
    for seed in range(30):
        moves = background_moves(clip, np.array([2, 2, 2]), np.random.default_rng(seed))
        assert moves.place.shape == (1, 2)
        x, y = moves.place[0]
        assert np.hypot(columns - x, rows - y).min() >= 3.9  # the distance transform is exact to two percent
        assert moves.held.all()
        assert 0 < np.hypot(*moves.offset[:, 0].T).max() <= 0.25 * 32
        assert moves.offset.shape == moves.velocity.shape == (2, 1, 2)


def test_the_background_of_a_clip_that_knows_nothing_is_what_rests() -> None:
    clip = textured()
    x, y = background_moves(clip, np.array([0, 0]), np.random.default_rng(0), flows_of(clip, FAST)).place[0]
    assert not (14 <= x < 38 and 16 <= y < 40)


def fields(**changes: Any) -> MomentDataset:
    return MomentDataset(
        [poked_clip(f"c{k}", corner=(4 + k, 6)) for k in range(3)], changed(TINY_FIELDS, **changes), 0
    )


def test_samples_of_the_background_repeat_the_still() -> None:
    dataset = fields(poke__background=1.0)
    for n in range(6):
        sample = dataset[n]
        assert torch.equal(sample["frames"], sample["frames"][:1].expand(3, -1, -1, -1))
        assert not sample["displacement"].any()
        assert (sample["visibility"] == STATIC).sum() > 1000
        assert sample["present"].tolist() == [[1, 0, 0]] * 2
        assert sample["offset"][:, 0].abs().max() > 0
        x, y = geometry.to_pixels(sample["place"][0, 0], (32, 32)).round().int().tolist()
        assert sample["frames"][0, 0, y, x] < 0.5


def test_samples_of_a_made_clip_begin_at_rest_and_go_on_in_time() -> None:
    dataset, rises = fields(poke__background=0.0, fields__moments=3, fields__span=5), set()
    for n in range(12):
        sample = dataset[n]
        clip = next(clip for clip in dataset.clips if clip.name == sample["name"])
        torch.testing.assert_close(sample["frames"][0], as_tensor(clip.frames[0]))
        assert sample["frames"].shape == (4, 3, 32, 32)
        x, y = geometry.to_pixels(sample["place"][0, 0], (32, 32)).tolist()
        assert (x, y) == pytest.approx(clip.tracks["path"][0].tolist(), abs=1e-4)
        far = (sample["offset"][:, 0].norm(dim=-1) * HALF).tolist()
        assert far == sorted(far)
        rises |= {round(value, 1) for value in far}
        assert sample["plate"].shape == (4, 32, 32)
        assert sample["figure"].sum() == 49
    assert rises == {2.2, 3.6, 4.5, 6.7}  # of (2, 1), (3, 2), (4, 2) and (6, 3); five frames are the span


def test_a_sample_depends_on_its_number_alone() -> None:
    dataset = fields(clip__augmentation="varied")
    first = [dataset[n] for n in (0, 1, 7)]
    for n, sample in zip((7, 1, 0), reversed(first), strict=True):
        again = dataset[n]
        assert all(torch.equal(again[k], v) for k, v in sample.items() if isinstance(v, Tensor))
    assert not torch.equal(first[0]["frames"], first[2]["frames"])


def test_no_sample_is_played_backwards() -> None:
    """A swing comes to rest; played backwards it would begin to move by itself."""
    assert fields(clip__augmentation="varied").augmentation.time_flip == 0


# --- clips that do not know their motion ---------------------------------------------------------------------------
def test_motion_is_estimated_where_it_is_sure() -> None:
    clip, params = textured(), AugmentParams((64, 64), (64, 64))
    found = motion_of(clip, np.array([0, 1, 0]), params, flows_of(clip, FAST), Figures())
    inner = (0, slice(22, 38), slice(21, 37))  # of the square, which has moved by (3, 2)
    moved = found["displacement"][inner] * 63 / 2
    assert (moved - torch.tensor([-3.0, -2.0])).norm(dim=-1).median() < 0.3
    assert found["moving"][inner].mean() > 0.9
    assert found["moving"][0, 50:].mean() < 0.1
    assert (found["visibility"][0, 50:, :10] == STATIC).float().mean() > 0.9
    assert (found["visibility"][inner] == UNKNOWN).all()
    assert not found["displacement"][1].any()  # the still itself
    assert not found["moving"][1].any()
    assert (found["visibility"][1] == STATIC).all()
    mirror = AugmentParams((64, 64), (64, 64), mirror=True)
    mirrored = motion_of(clip, np.array([0, 1]), mirror, flows_of(clip, FAST), Figures())
    assert torch.equal(mirrored["figure"], found["figure"].flip(2))
    flipped = found["displacement"][:1].flip(2) * torch.tensor([-1.0, 1.0])
    torch.testing.assert_close(mirrored["displacement"], flipped, atol=1e-5, rtol=0)


def test_the_figure_of_a_clip_that_knows_none_is_what_moves_now_or_later() -> None:
    """A square that goes from column 20 to 30; a tenth of 64 pixels around both places may be figure."""
    masks = np.zeros((2, 64, 64), bool)
    masks[0, 20:30, 20:30] = masks[1, 20:30, 30:40] = True
    found = seen_figure(masks, 0)
    assert (found == 1).sum() == 100
    assert (found[20:30, 20:30] == 1).all()
    assert (found[20:30, 30:46] == -1).all()
    assert (found[20:30, 13:20] == -1).sum() == 60
    assert (found[25, 46:] == 0).all()
    assert (found[:13] == 0).all()


def test_flows_that_do_not_cancel_are_not_consistent() -> None:
    flow, back = np.zeros((8, 8, 2), np.float32), np.zeros((8, 8, 2), np.float32)
    flow[2, 2], back[2, 4] = (2, 0), (-2, 0)  # cancel
    flow[5, 1] = (2, 0)  # nothing comes back
    flow[6, 6] = (0.4, 0)  # within half a pixel
    found = consistent(flow, back)
    assert not found[5, 1]
    assert found[2, 2]
    assert found[6, 6]
    assert not found[2, 4]  # moves away, although it rests
    assert found.sum() == 62


def test_handles_lie_where_the_flow_moves() -> None:
    clip, config = without(poked_clip(), "path"), TINY_FIELDS
    assert not is_poked(clip)
    counts = set()
    for seed in range(20):
        rng, flows = np.random.default_rng(seed), flows_of(clip, FAST)
        moves = flow_moves(clip, np.array([0, 1, 4]), rng, flows, EVERYWHERE, config)
        counts.add(len(moves.place))
        for handle, (x, y) in enumerate(moves.place.astype(int)):
            assert clip.tracks["parts"][0, y, x]
            assert moves.offset[:, handle].tolist() == [[2, 1], [6, 3]]
            assert moves.velocity[:, handle].tolist() == [[2, 1], [2, 1]]
    assert counts == {1, 2, 3}
    clip = textured()
    flows = flows_of(clip, FAST)
    found = flow_moves(clip, np.array([0, 1]), np.random.default_rng(0), flows, EVERYWHERE, config)
    assert ((found.place > 8) & (found.place < 46)).all()  # DIS moves what lies beside the square, too


def test_handles_of_clips_that_know_nothing_lie_on_the_figure_if_something_moves_there() -> None:
    clip, figure = textured(), np.zeros((1, 64, 64), bool)
    figure[0, 20:24, 20:24] = True
    for seed in range(5):
        rng = np.random.default_rng(seed)
        for x, y in flow_moves(clip, np.array([0, 1]), rng, flows_of(clip, FAST), figure, TINY_FIELDS).place:
            assert figure[0, int(y), int(x)]
    elsewhere = np.zeros((1, 64, 64), bool)
    elsewhere[0, 60:, :4] = True  # nothing moves there
    rng, flows = np.random.default_rng(0), flows_of(clip, FAST)
    assert len(flow_moves(clip, np.array([0, 1]), rng, flows, elsewhere, TINY_FIELDS).place)


def test_frames_in_which_nothing_moves_are_passed_over() -> None:
    """After its fourth frame the square rests: windows that begin there have no handle."""
    clip = without(poked_clip(frames=12), "path")
    dataset = MomentDataset([clip], changed(TINY_FIELDS, poke__background=0.0, fields__span=2), 0)
    assert all(dataset[n]["present"].any() for n in range(20))
    rest = MomentDataset([unmoving(clip)], changed(TINY_FIELDS, poke__background=0.0), 0)[0]
    assert not rest["present"].any()  # not for ever


def test_where_nothing_moves_there_is_no_handle() -> None:
    clip, rng = unmoving(poked_clip()), np.random.default_rng(0)
    moves = flow_moves(clip, np.array([0, 2, 4]), rng, flows_of(clip, FAST), EVERYWHERE, TINY_FIELDS)
    assert moves.place.shape == (0, 2)
    handles = handle_tensors(moves, PLAIN)
    assert not any(value.any() for name, value in handles.items() if name != "place")
    assert handles["present"].shape == (2, SLOTS)


def test_a_training_on_clips_that_know_nothing_has_whole_samples() -> None:
    dataset = MomentDataset([textured()], changed(TINY_FIELDS, size=64, poke__background=0.0), 0)
    sample = dataset[0]
    assert sample["swing_known"].sum() == 0
    assert set(sample["figure"].unique().tolist()) <= {-1.0, 0.0, 1.0}
    assert sample["present"].sum() >= 1
    assert set(sample) == set(fields()[0])


def test_the_pixel_that_moves_farthest() -> None:
    clip = without(poked_clip(), "path")
    (x, y), end = farthest_move(clip, 5)
    assert clip.tracks["parts"][0, int(y), int(x)]
    assert end == (x + 6, y + 3)
    (x, y), end = farthest_move(textured(), 2)
    assert np.hypot(end[0] - x - 6, end[1] - y - 4) < 1.5
    refuses("Nothing in the clip 'still' moves by a pixel", farthest_move, unmoving(clip), 5)


def test_a_sample_of_given_frames() -> None:
    times = np.array([0, 2, 5])
    for clip in (poked_clip(), without(poked_clip(), "path"), textured(frames=6)):
        sample = moment_sample(clip, times)
        torch.testing.assert_close(sample["frames"][2], as_tensor(clip.frames[5]))
        assert sample["present"].sum(1).tolist() == [1, 1] or not is_poked(clip)
        assert sample["displacement"].shape[:1] == (2,)
