"""A still performs: controls and what they refuse, roll-outs of both kinds of networks, pose, removal, layers."""

import gc
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from actions_tools import TINY, TINY_FIELDS, TINY_FIELDS_VAE, action_clips, actions_of, changed, picture
from refusals import refused
from stillmotion import Drive, media
from stillmotion.keypoints.networks import Keypoints
from stillmotion.rendering.fields import STATIC
from stillmotion.systems.actions import Act, Pose, Remove
from stillmotion.systems.actions.animating import Actions
from stillmotion.systems.actions.performing import WIDE, between, find_crop, next_window, several_figures
from stillmotion.systems.base import Rollout, Step

pytestmark = pytest.mark.filterwarnings("ignore:The still seems")
STILL, FRAMES = picture(), 5
PAPER = changed(TINY, size=32, actions=("left", "right"))
KINDS = {"paper": PAPER, "tracks": TINY_FIELDS, "fields-vae": TINY_FIELDS_VAE}


@pytest.fixture(scope="module", params=[*KINDS])
def system(request: pytest.FixtureRequest) -> Actions:
    return actions_of(KINDS[request.param])


@pytest.fixture(scope="module")
def ours() -> Actions:
    return actions_of()


@pytest.fixture(scope="module")
def sided() -> Actions:
    return actions_of(changed(TINY_FIELDS, sides=("left", "right")))


def take(rollout: Iterator[Step], count: int) -> list[Step]:
    return list(islice(rollout, count))


def means(steps: list[Step]) -> np.ndarray:
    return np.stack([step.facts["mean"] for step in steps])


def frames(rollout: Rollout, count: int) -> np.ndarray:
    return np.stack([step.frame for step in take(rollout, count)])


# --- actions -------------------------------------------------------------------------------------------------------
def test_a_performance_is_the_still_and_as_many_frames_as_a_sequence_has(system: Actions) -> None:
    steps = list(system.animate(STILL, Act("left")))
    assert len(steps) == 1 + FRAMES
    assert all(step.frame.shape == STILL.shape for step in steps)
    assert np.array_equal(steps[0].frame, STILL)
    assert (np.abs(np.diff(means(steps), axis=0)).max((1, 2)) > 0).all()
    assert all(step.facts["shares"].shape == (4, 32, 32) for step in steps)
    np.testing.assert_allclose(steps[2].facts["shares"].sum(0), 1, atol=1e-5)
    assert ("displacement" in steps[1].facts) is (system.config.fields is not None)


@pytest.mark.parametrize("count", [1, 3, 12])
def test_there_are_as_many_frames_as_asked(system: Actions, count: int) -> None:
    assert len(system.animate(STILL, Act("left"), count).frames()) == count


def test_a_seed_is_a_performance(system: Actions) -> None:
    made = [list(system.animate(STILL, Act("left"), seed=seed)) for seed in (3, 3, 4, None, 0)]
    assert np.array_equal(means(made[0]), means(made[1]))
    assert all(np.array_equal(a.frame, b.frame) for a, b in zip(made[0], made[1], strict=True))
    assert not np.allclose(means(made[0]), means(made[2]))
    assert np.array_equal(means(made[3]), means(made[4]))


def test_the_action_counts(system: Actions) -> None:
    left, right = (means(list(system.animate(STILL, Act(name), seed=1))) for name in ("left", "right"))
    assert np.array_equal(left[0], right[0])
    assert not np.allclose(left[1:], right[1:])


def test_an_unknown_action_or_side_names_those_known(ours: Actions, sided: Actions) -> None:
    assert refused(ours.animate, STILL, Act("fly")) == (
        "This model knows no action 'fly'; it knows left, right, any, all."
    )
    assert "knows no sides" in refused(ours.animate, STILL, Act("left", side="left"))
    assert refused(sided.animate, STILL, Act("left", side="top")) == (
        "This model knows no side 'top'; it knows left, right."
    )
    assert "must be a name" in refused(Act, "  ")
    assert "must be a name" in refused(Act, 3)
    assert "not by Drive" in refused(ours.animate, STILL, Drive("a.mp4"))


def test_the_example_clip_shows_what_the_model_knows(ours: Actions, sided: Actions) -> None:
    """Speed is measured on it, of training too, which takes no other."""
    for own in (ours, sided):
        clip = own.example_clip(4)
        control = own.control_of(clip)
        assert control.action == (own.config.actions or ())[0]
        assert control.side == next(iter(own.config.sides or ()), None)
    assert "side" not in ours.example_clip(4).meta


def test_any_leaves_it_to_the_model(system: Actions) -> None:
    made = {seed: means(list(system.animate(STILL, Act("any"), seed=seed))) for seed in range(4)}
    named = [means(list(system.animate(STILL, Act(name), seed=0))) for name in ("left", "right")]
    if system.config.tracks:
        assert not any(np.allclose(made[0], other) for other in named)
    assert not np.allclose(made[0], made[1])
    bare = actions_of(replace(system.config, actions=()))
    assert len(bare.animate(STILL, Act("any")).frames()) == 1 + FRAMES
    assert "it knows any, all." in refused(bare.animate, STILL, Act("left"))


def test_the_side_counts(sided: Actions) -> None:
    made = [means(list(sided.animate(STILL, Act("left", side), seed=1))) for side in ("left", "right", None)]
    assert not np.allclose(made[0], made[1])
    assert not np.allclose(made[0], made[2])


def test_all_is_a_grid_of_every_action(system: Actions) -> None:
    grid = system.animate(STILL, Act("all"), 3, seed=2).frames()
    each = [system.animate(STILL, Act(name), 3, seed=2).frames() for name in ("left", "right")]
    assert np.array_equal(grid, np.concatenate(each, axis=2))
    rollout = system.open(STILL)
    assert "open another one" in refused(rollout.send, Act("all"))


def test_the_rate_is_the_controls_or_the_cards(ours: Actions) -> None:
    assert ours.animate(STILL, Act("left", fps=7)).fps == 7
    assert actions_of().animate(STILL, Act("left")).fps == 25
    ours.card["fps"] = 12.0
    assert ours.animate(STILL, Act("left")).fps == 12
    del ours.card["fps"]
    assert "fps must be above 0" in refused(Act, "left", fps=0)


# --- while it runs -------------------------------------------------------------------------------------------------
def test_without_a_control_the_still_rests(system: Actions) -> None:
    steps = take(system.open(STILL), 4)
    assert np.array_equal(steps[0].frame, STILL)
    assert np.ptp(means(steps), axis=0).max() == 0


def test_a_new_control_goes_on_from_the_last_pose(system: Actions) -> None:
    rollout = system.open(STILL, Act("left"), seed=1)
    before = take(rollout, 3)
    rollout.send(Pose(picture(seed=5), rise=4))
    after = take(rollout, 5)
    assert rollout.done
    share = np.array([t * t * (3 - 2 * t) for t in (0.25, 0.5, 0.75, 1.0)])[:, None, None]
    last, end = before[-1].facts["mean"], means(after)[3]
    np.testing.assert_allclose(means(after)[:4], last + share * (end - last), atol=1e-5)
    np.testing.assert_allclose(means(after)[4], end)


def test_a_track_continues_the_frames_before_it() -> None:
    """The flow is given the last three frames: with others before the same pose it goes on otherwise."""
    made = []
    for way in (0.3, -0.3):
        torch.manual_seed(0)
        system = actions_of()
        past = torch.linspace(-way, 0, 4)[:, None, None].expand(4, 3, 2)
        shape = (0.01 * torch.eye(2)).expand(1, 4, 3, 2, 2)
        asked = Keypoints((past + torch.tensor([[0.0, 0.1], [0.3, 0.0], [0.2, 0.4]]))[None], shape)
        found = next_window(system.networks, system.config, asked, 0, None, torch.Generator().manual_seed(0))
        assert len(found.mean) == 1 + FRAMES - 3
        made.append(found.mean)
    assert (made[0] - made[1]).abs().max() > 1e-3


def test_it_runs_without_end_in_memory_that_does_not_grow(system: Actions) -> None:
    rollout = system.open(STILL, Act("left"), size="model")
    take(rollout, 20)
    counts = []
    for _ in range(2):
        gc.collect()
        counts.append(sum(isinstance(each, Tensor | np.ndarray) for each in gc.get_objects()))
        steps = take(rollout, 40)
        assert np.isfinite(means(steps)).all()
        del steps
    assert rollout.done
    assert counts[1] <= counts[0] + 5
    rollout.close()


def test_frames_do_not_depend_on_how_many_are_made_together(system: Actions, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = system.animate(STILL, Act("left"), 5, seed=1).frames()
    monkeypatch.setattr("stillmotion.systems.actions.animating.BATCH", 2)
    parts = system.animate(STILL, Act("left"), 5, seed=1).frames()
    assert np.abs(whole.astype(int) - parts).max() <= 1


# --- pose, removal -------------------------------------------------------------------------------------------------
def test_the_pose_of_another_picture_is_reached(system: Actions, tmp_path: Path) -> None:
    other = picture((30, 60), seed=5)
    steps = list(system.animate(STILL, Pose(other, rise=3)))
    assert len(steps) == 4
    wanted = system.detect_keypoints(other[None])[0]
    assert wanted.shape == (3, 2)
    np.testing.assert_allclose(steps[-1].facts["mean"], wanted, atol=1e-4)
    media.write_picture(tmp_path / "other.png", other)
    stored = list(system.animate(STILL, Pose(tmp_path / "other.png", rise=1)))
    np.testing.assert_allclose(means(stored)[1], wanted, atol=1e-4)
    assert "must be a file or a picture" in refused(Pose, np.zeros((4, 4)))
    assert "missing.png" in refused(system.animate(STILL, Pose("missing.png")).frames)
    assert "rise must be at least 1" in refused(Pose, "a.png", 0)


def test_keypoints_of_many_frames_are_those_of_each(system: Actions) -> None:
    clip = action_clips()[0]
    found = system.detect_keypoints(clip.frames[:3])
    alone = [system.detect_keypoints(clip.frames[t : t + 1])[0] for t in range(3)]
    np.testing.assert_allclose(found, np.stack(alone), atol=1e-5)
    assert np.abs(found).max() <= 1


def test_a_figure_is_removed_within_its_mask(ours: Actions, tmp_path: Path) -> None:
    mask = np.zeros((*STILL.shape[:2], 3), np.uint8)
    mask[12:24, 16:30] = 255
    media.write_picture(tmp_path / "mask.png", mask)
    plate = np.full_like(STILL, 90)
    media.write_picture(tmp_path / "plate.png", plate)
    given: dict[str, Any] = {"mask": tmp_path / "mask.png", "plate": tmp_path / "plate.png"}
    still, empty = list(ours.animate(STILL, Remove(), **given))
    assert np.array_equal(still.frame, STILL)
    assert np.abs(empty.frame[13:23, 17:29].astype(int) - 90).max() <= 1
    outside = np.ones(STILL.shape[:2], bool)
    outside[9:27, 13:33] = False
    assert np.array_equal(empty.frame[outside], STILL[outside])
    assert next(ours.open(STILL, Remove(), **given, size="model")).frame.shape == (32, 32, 3)


# --- a part of the still -------------------------------------------------------------------------------------------
CROP = (10, 4, 24, 20)


def test_only_the_crop_changes_and_it_fades_into_the_still(system: Actions) -> None:
    moved = system.animate(STILL, Act("left", crop=CROP), FRAMES, seed=1).frames()
    assert moved.shape == (FRAMES, *STILL.shape)
    x, y, width, height = CROP
    outside = np.ones(STILL.shape[:2], bool)
    outside[y : y + height, x : x + width] = False
    assert np.array_equal(moved[:, outside], np.broadcast_to(STILL[outside], (FRAMES, outside.sum(), 3)))
    part = media.crop(STILL, (x, y, x + width, y + height))
    alone = system.animate(part, Act("left"), FRAMES, seed=1).frames()
    inside = moved[:, y : y + height, x : x + width]
    assert np.array_equal(inside[:, 4:-4, 4:-4], alone[:, 4:-4, 4:-4])
    assert (alone != part).any()
    faded, whole = (np.abs(each.astype(int) - part)[:, :, [0, -1]].mean() for each in (inside, alone))
    assert faded < 0.6 * whole


def test_pose_and_removal_keep_to_the_crop_too(ours: Actions) -> None:
    other = picture(STILL.shape[:2], seed=5)
    x, y, width, height = CROP
    reached = list(ours.animate(STILL, Pose(other, rise=1, crop=CROP)))[-1].facts["mean"]
    wanted = ours.detect_keypoints(media.crop(other, (x, y, x + width, y + height))[None])[0]
    np.testing.assert_allclose(reached, wanted, atol=1e-4)
    rollout = ours.open(STILL, Act("left", crop=CROP))
    take(rollout, 2)
    rollout.send(Act("right", crop=CROP))
    rollout.send(Act("right"))
    assert "crop cannot change" in refused(rollout.send, Act("left", crop=(0, 0, 9, 9)))
    assert "reaches out of the still" in refused(ours.animate(STILL, Act("left", crop=(0, 0, 99, 9))).frames)


def test_the_crop_around_a_small_figure_is_found_in_steps() -> None:
    class Spread(torch.nn.Module):
        """The dark pixels' outline, as a detector finds it; a small figure is taken for half its size."""

        def forward(self, frames: Tensor) -> Tensor:
            ys, xs = torch.where(frames[0].mean(0) < 0.5)
            ends = torch.tensor([[xs.min(), ys.min()], [xs.max(), ys.max()]]) * 2 / 31 - 1
            middle, wide = ends.mean(0), float(ends[1, 1] - ends[0, 1])
            return (middle + (ends - middle) * (1 if wide > 0.6 else 0.5))[None]

    still = np.full((128, 128, 3), 255, np.uint8)
    still[70:102, 30:46] = 0
    x, y, width, height = find_crop(Spread(), still, 32, torch.device("cpu"))
    assert width == height == pytest.approx(64, abs=5)
    assert (x + width / 2, y + height / 2) == pytest.approx((38, 86), abs=4)
    assert find_crop(Spread(), still[60:112, 10:62], 32, torch.device("cpu")) == (0, 0, 52, 52)


def test_what_cannot_be_removed_is_said(ours: Actions) -> None:
    assert "finds no figure to remove" in refused(actions_of(PAPER).animate(STILL, Remove()).frames)
    assert "no clear figure" in refused(ours.animate(STILL, Remove(), plate="none").frames)


# --- pictures ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["paper", "tracks"])
def test_what_the_mask_keeps_are_the_stills_own_pixels(kind: str) -> None:
    """The networks say to keep the right half and to change the left one: there alone pixels change."""
    system = actions_of(KINDS[kind])
    if kind == "paper":
        translate = system.networks.translator.forward

        def halved(*given: Any) -> tuple[Tensor, Tensor]:
            image, mask = translate(*given)
            return image, (torch.arange(32) >= 16).float().expand_as(mask)

        torch.nn.Module.__setattr__(system.networks.translator, "forward", halved)
        system.for_inference = lambda: system  # type: ignore[method-assign]
    else:
        head = system.networks.generator.fields.forward

        def halved_fields(*given: Any) -> Any:
            fields = head(*given)
            right = (torch.arange(32) >= 16).float()
            alone = torch.zeros_like(fields.shares)
            alone[:, STATIC] = 1
            return fields._replace(shares=right * alone + (1 - right) * fields.shares)

        torch.nn.Module.__setattr__(system.networks.generator.fields, "forward", halved_fields)
        system.for_inference = lambda: system  # type: ignore[method-assign]
    made = system.animate(STILL, Act("left")).frames()
    assert np.array_equal(made[:, :, 27:], np.repeat(STILL[None, :, 27:], len(made), 0))
    assert (np.abs(made[1:, :, :20].astype(int) - STILL[:, :20]).max((1, 2, 3)) > 0).all()


@pytest.mark.parametrize("size", [(40, 48), (20, 70), (48, 1), (200, 150)])
def test_stills_of_any_shape_keep_their_size(ours: Actions, size: tuple[int, int]) -> None:
    still = picture(size)
    made = ours.animate(still, Act("left"), 3).frames()
    assert made.shape == (3, *size, 3)
    assert np.array_equal(made[0], still)
    assert ours.animate(still, Act("left"), 3, size="model").frames().shape == (3, 32, 32, 3)


def test_layers_are_drawn_when_asked_for(system: Actions) -> None:
    steps = take(system.open(STILL, Act("left"), layers=True), 2)
    expected = (
        {"keypoints", "mask", "synthesized"} if system.config.fields is None else {"keypoints", "flow", "warped"}
    )
    assert expected <= set(steps[1].layers)
    assert set(steps[1].layers) <= set(system.layer_captions)
    assert all(each.dtype == np.uint8 and each.ndim == 3 for each in steps[1].layers.values())
    assert not take(system.open(STILL, Act("left")), 2)[1].layers


def test_a_clips_own_control(sided: Actions) -> None:
    clip = action_clips()[1]
    assert (sided.control_of(clip).action, sided.control_of(clip).side) == ("right", None)
    other = replace(clip, meta={"action": "fly", "side": "left"})
    assert (sided.control_of(other).action, sided.control_of(other).side) == ("any", "left")


def test_a_saved_system_gives_the_same_frames(system: Actions, tmp_path: Path) -> None:
    system.save_pretrained(tmp_path / "model")
    stored = Actions.from_pretrained(tmp_path / "model")
    assert stored.config == system.config
    one, other = (each.animate(STILL, Act("left"), seed=1).frames() for each in (system, stored))
    assert np.array_equal(one, other)


# --- several figures -----------------------------------------------------------------------------------------------
def test_wide_keypoints_are_taken_for_several_figures() -> None:
    for count, expected in ((0, False), (2, False), (3, True), (10, True)):
        deviation = torch.full((10,), WIDE / 2)
        deviation[:count] = 1.1 * WIDE
        shapes = deviation.square()[None, :, None, None] * torch.diag(torch.tensor([0.1, 1.0]))
        assert several_figures(Keypoints(torch.zeros(1, 10, 2), shapes)) is expected, count
    assert not several_figures(Keypoints(torch.zeros(1, 3, 2), torch.zeros(1, 3, 2, 2)))


def test_straight_ways_end_at_the_pose() -> None:
    start, end = (Keypoints(torch.full((1, 3, 2), v), torch.full((1, 3, 2, 2), v)) for v in (0.0, 1.0))
    way = between(start, end, 2)
    assert way.mean[:, 0, 0].tolist() == [0.5, 1.0]
    assert way.covariance[:, 0, 0, 0].tolist() == [0.5, 1.0]
