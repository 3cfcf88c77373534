"""Training samples: usable frames, their points, masks of the moving object, plates and motion."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from refusals import refuses
from stillmotion import Stroke, geometry
from stillmotion.data.augment import AUGMENTATIONS, Augmentation, AugmentParams, augment_frames, sample_params
from stillmotion.data.clip import Clip
from stillmotion.data.motion_truth import STATIC, WARPED, motion_truth
from stillmotion.data.plates import Plates
from stillmotion.data.sampling import WindowDataset
from stillmotion.systems.strokes.data import (
    ObjectMasks,
    clip_plate,
    clip_stroke,
    clips_with_points,
    frame_pairs,
    frame_windows,
    known_targets,
    mask_background,
    training_clips,
    usable_frames,
)
from stillmotion.systems.strokes.object_frame import behind
from stillmotion.systems.strokes.stroke_encoding import smooth
from strokes_tools import TINY_FIELDS, TINY_STROKES, changed, spot, tiny_strokes
from strokes_training_tools import PEOPLE, blinking_clip, square_clip


# --- usable frames -------------------------------------------------------------------------------------------------
def test_windows_never_hold_an_unknown_point() -> None:
    clip = square_clip(frames=9)
    clip.tracks["points"][[0, 6]] = np.nan  # frames 1 to 5 are five in a row
    dataset = frame_windows([clip], changed(TINY_STROKES, clip__frames=4), seed=0)
    firsts = {int(dataset[n]["points"][0, 0]) for n in range(40)}
    assert firsts == {int(clip.tracks["points"][t, 0]) for t in (1, 2)}
    assert all(torch.isfinite(dataset[n]["points"]).all() for n in range(40))


def test_the_grey_encoding_also_skips_points_outside() -> None:
    clip = square_clip(frames=6)
    clip.tracks["points"][:, 0] = [-1, -0.6, -0.5, 31.4, 31.5, 40]
    grey = changed(TINY_STROKES, stroke__encoding="grey", stroke__lookahead=0)
    assert usable_frames(clip, grey).tolist() == [False, False, True, True, False, False]
    assert usable_frames(clip, TINY_STROKES).all()
    assert clips_with_points([clip], changed(grey, clip__frames=2)) == [clip]
    assert clips_with_points([clip], changed(grey, clip__frames=3)) == []
    unknown = Clip(clip.name, clip.frames, clip.fps, {})
    assert clips_with_points([unknown], TINY_STROKES) == []
    refuses(r"No clip has 5 frames in a row .*--tracks points", training_clips, [unknown], TINY_STROKES)


def test_points_follow_the_pixels_and_a_sample_depends_on_its_number_alone() -> None:
    """Under mirroring and reversal the point is still the centre of the square."""
    clips = [square_clip(f"c{i}", seed=i) for i in range(3)]
    changes = Augmentation(horizontal_flip=0.5, time_flip=0.5, exclusive_flips=False)
    dataset = WindowDataset(clips, 3, 4, changes, extra=partial(known_targets, config=TINY_STROKES))
    seen = set()
    for n in range(24):
        sample, again = dataset[n], dataset[n]
        assert torch.equal(sample["frames"], again["frames"])
        assert torch.equal(sample["points"], again["points"])
        bright = sample["frames"][:, 0] > 0.5
        for frame, point in zip(bright, sample["points"], strict=True):
            rows, columns = frame.nonzero(as_tuple=True)
            assert point.tolist() == pytest.approx([columns.float().mean().item(), rows.float().mean().item()])
        seen.add(tuple((sample["points"][1] - sample["points"][0]).tolist()))
    assert seen == {(2, 1), (-2, 1), (-2, -1), (2, -1)}


def test_frames_may_be_taken_apart() -> None:
    config = changed(TINY_STROKES, clip__frame_step=2, clip__frames=4)
    points = frame_windows([square_clip()], config, seed=0)[0]["points"]
    assert (points[1:] - points[:-1]).tolist() == [[4, 2]] * 3


def test_of_a_pair_the_still_comes_first_and_points_are_those_of_the_frames() -> None:
    clip = blinking_clip()
    clip.tracks["points"][[0, 3]] = np.nan
    dataset, seen = frame_pairs([clip], PEOPLE, seed=0), set()
    for i in range(60):
        sample = dataset[i]
        x = sample["points"][:, 0].tolist()
        assert x[0] <= x[1]
        for frame, at in zip((sample["source"], sample["driving"]), x, strict=True):
            t = round(at - 4.5)
            assert np.array_equal((frame * 255).round().byte().permute(1, 2, 0).numpy(), clip.frames[t])
            seen.add(t)
        assert "masks" not in sample
        assert sample["plate"].shape == (4, 16, 16)
    assert seen == {1, 2, 4, 5, 6, 7}


# --- strokes -------------------------------------------------------------------------------------------------------
def parabola(count: int) -> np.ndarray:
    t = np.arange(count, dtype=float)
    return np.stack([3 + 2 * t - 0.05 * t**2, 40 - 0.5 * t], -1)


@pytest.mark.parametrize("count", [4, 9, 30])
def test_a_parabola_is_its_own_fit_up_to_both_ends(count: int) -> None:
    assert np.allclose(smooth(parabola(count), 5), parabola(count), atol=1e-9)


def test_the_swing_of_steps_goes_and_the_way_stays() -> None:
    swing = 1.5 * np.sin(2 * np.pi * np.arange(40) / 9)[:, None] * [1.0, 0.0]
    left = smooth(parabola(40) + swing, 7) - parabola(40)
    assert np.abs(left[7:-7]).max() < 0.35
    assert np.abs(left).max() < 1.0
    assert np.abs(left[:, 1]).max() < 1e-9


def test_a_fit_by_hand() -> None:
    """Five points 0 0 1 0 0: the parabola of least squares has 17/35 in the middle."""
    points = np.zeros((5, 2))
    points[2, 0] = 1.0
    assert smooth(points, 2)[2].tolist() == pytest.approx([17 / 35, 0.0])


def test_nothing_is_fitted_across_a_gap() -> None:
    points = parabola(21)
    points[10] = np.nan
    points[11:] += 100
    made = smooth(points, 3)
    assert np.isnan(made[10]).all()
    assert np.allclose(made[:10], points[:10], atol=1e-9)
    assert np.allclose(made[11:], points[11:], atol=1e-9)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_too_few_points_stay(count: int) -> None:
    rough = np.random.default_rng(0).normal(size=(count, 2))
    assert np.array_equal(smooth(rough, 7), rough)


def test_training_and_animating_read_the_same_stroke() -> None:
    config = changed(TINY_STROKES, stroke__smoothing_radius=3)
    rough = parabola(12) + np.random.default_rng(1).normal(size=(12, 2))
    clip = Clip("a", np.zeros((12, 32, 32, 3), np.uint8), 25.0, {"points": rough})
    assert np.array_equal(clip_stroke(clip, TINY_STROKES), rough.astype(np.float32))
    wanted = smooth(rough, 3).astype(np.float32)
    assert not np.allclose(wanted, rough, atol=0.1)
    drawn = known_targets(clip, np.arange(4, 9), AugmentParams((32, 32), (32, 32)), config)
    torch.testing.assert_close(drawn["points"], torch.from_numpy(wanted[4:9]))  # the whole clip's fit, cut after it
    inside = np.clip(rough, 0, 31)
    facts = [
        step.facts["point"] for step in tiny_strokes(stroke__smoothing_radius=3).animate(spot(), Stroke(inside), 12)
    ]
    assert np.allclose(np.stack(facts), smooth(inside, 3), atol=1e-6)


# --- masks ---------------------------------------------------------------------------------------------------------
def walker(**tracks: np.ndarray) -> Clip:
    """A bright square of 6 pixels before a wall with a pattern, 2 pixels further in every frame."""
    wall = np.indices((32, 32)).sum(0) % 7 * 10 + 60
    frames = np.repeat(np.repeat(wall[None, :, :, None], 10, 0), 3, -1).astype(np.uint8)
    for t, frame in enumerate(frames):
        frame[12:18, 2 + 2 * t : 8 + 2 * t] = 230
    return Clip("walker", frames, 25.0, dict(tracks))


@pytest.mark.parametrize("marked", [True, False])
def test_what_moves_is_left_on_grey(marked: bool) -> None:
    clip = walker()
    truth = (clip.frames[..., 0] == 230).astype(np.uint8)
    if marked:
        clip.tracks["mask"] = truth * 255
    chosen = np.array([1, 6])
    found = ObjectMasks()(clip, chosen)
    assert found.shape == (2, 1, 32, 32)
    assert np.abs(found[:, 0].numpy() - truth[chosen]).mean() < (1e-6 if marked else 0.02)
    frames = torch.from_numpy(clip.frames[chosen] / 255).permute(0, 3, 1, 2)
    shown = mask_background(frames, found)
    assert (shown[:, :, 0, 0] == 0.5).all()
    assert shown[1, :, 15, 16].tolist() == pytest.approx([230 / 255] * 3)


def test_masks_move_as_their_pixels_do_and_have_no_colours() -> None:
    clip = walker()
    clip.tracks["mask"] = (clip.frames[..., 0] == 230).astype(np.uint8)
    drawn = sample_params((32, 32), np.random.default_rng(0), AUGMENTATIONS["bold"])
    moved = ObjectMasks()(clip, np.array([4]), drawn)[0, 0].numpy()
    pixels = augment_frames(clip.frames[[4]], drawn)[0].mean(-1)
    inside, outside = pixels[moved > 0.95], pixels[moved < 0.05]
    assert moved.max() == pytest.approx(1.0, abs=1e-5)
    assert inside.std() < 0.02
    assert abs(inside.mean() - outside.mean()) > 0.1


def test_masks_of_a_sample_are_augmented_as_its_frames_are() -> None:
    clip, chosen = walker(points=np.full((10, 2), 5.0)), np.array([1, 6])
    clip.tracks["mask"] = (clip.frames[..., 0] == 230).astype(np.uint8)
    mirrored = AugmentParams((32, 32), (32, 32), mirror=True)
    found = known_targets(clip, chosen, mirrored, PEOPLE, masks=ObjectMasks())["masks"]
    assert torch.equal(found, ObjectMasks()(clip, chosen).flip(-1))


# --- plates and motion ---------------------------------------------------------------------------------------------
TRUTH = changed(TINY_FIELDS, losses__displacement=1.0)
FORWARDS, BACKWARDS = (AugmentParams((32, 32), (32, 32), reverse=reverse) for reverse in (False, True))


@pytest.mark.parametrize("params", [FORWARDS, BACKWARDS], ids=["forwards", "backwards"])
def test_motion_is_that_from_the_still_to_each_other_frame(params: AugmentParams) -> None:
    clip, indices = square_clip(known=True), np.array([1, 2, 5, 6])
    found = known_targets(clip, indices, params, TRUTH, plates=Plates())
    # Pairs are in the clip's order, and played backwards the later frame is the still.
    pairs = [(5, 6), (2, 6), (1, 6)] if params.reverse else [(1, 2), (1, 5), (1, 6)]
    for t, pair in enumerate(pairs):
        single = motion_truth(clip, np.array(pair), params)
        for name in ("displacement", "moving", "visibility"):
            assert torch.equal(found[name][t], single[name]), name
        assert torch.equal(found["figure"], single["figure"])
    # In the last of the frames the square has moved by 5 times (2, 1).
    steps = found["displacement"][2][found["moving"][2] > 0].unique(dim=0)
    (step,) = (steps * 31 / 2).tolist()
    assert step == pytest.approx([10, 5] if params.reverse else [-10, -5], abs=1e-4)
    assert torch.equal(found["points"][:, 0].diff().sign(), torch.full((3,), -1.0 if params.reverse else 1.0))


@pytest.mark.parametrize("params", [FORWARDS, BACKWARDS], ids=["forwards", "backwards"])
def test_the_plate_is_that_of_the_still(params: AugmentParams) -> None:
    clip = square_clip(known=True)
    clip.frames[..., 2] += 10 * np.arange(8, dtype=np.uint8)[:, None, None]  # every frame has its own light
    found = known_targets(clip, np.array([1, 2, 5]), params, TRUTH, plates=Plates())["plate"]
    still = 5 if params.reverse else 1
    assert torch.equal(found, Plates()(clip, np.array([still]), FORWARDS))
    assert (found[3] == 1).all()
    wall = torch.tensor([30, 30, 30 + 10 * still])[:, None, None]
    assert (255 * found[:3] - wall).abs().max() < 2.5  # the square is gone; Telea's method rounds


def test_under_any_augmentation_a_plate_differs_from_its_still_behind_the_object_alone() -> None:
    """What differs is shown instead of the still (`object_frame.place`)."""
    dataset = frame_windows([square_clip(known=True)], changed(TINY_FIELDS, clip__augmentation="bold"), 0)
    for n in range(8):
        sample = dataset[n]
        differs = behind(sample["frames"][:1], sample["plate"][None])[0, 0]
        assert 0 < differs.mean() < 0.25  # the square has 5 of 32 pixels a side, and is widened and scaled
        # Points are its middle.
        y, x = torch.nonzero(differs).float().mean(0).tolist()
        assert (x, y) == pytest.approx(sample["points"][0].tolist(), abs=2.5)


def test_what_rests_in_the_window_is_neither_figure_nor_behind_the_plate() -> None:
    clip = square_clip(known=True)
    clip.frames[:, 25:30, 2:7] = 255  # a second square, which rests
    parts = np.array(clip.tracks["parts"])
    parts[:, 25:30, 2:7] = 2
    moves = np.concatenate([clip.tracks["moves"], clip.tracks["moves"][:1, 1:].repeat(8, 0)], axis=1)
    clip = replace(clip, tracks={**clip.tracks, "parts": parts, "moves": moves})
    found = known_targets(clip, np.array([1, 2, 5]), FORWARDS, TRUTH, plates=Plates())
    assert torch.equal(found["figure"][0] > 0, torch.from_numpy(parts[1] == 1))
    assert (found["visibility"][:, 25:30, 2:7] == STATIC).all()
    assert (found["plate"][:3, 25:30, 2:7] == 1).all()


def test_samples_know_what_their_losses_need() -> None:
    """Windows and pairs under mirroring and reversal: the still warped by the truth has the square of each frame."""
    config = changed(TRUTH, clip__frames=3, clip__augmentation="taichi")
    windows, pairs = (
        frame_windows([square_clip(known=True)], config, 0),
        frame_pairs([square_clip(known=True)], config, 0),
    )
    seen = set()
    for n in range(12):
        window, pair = windows[n], pairs[n]
        for frames, sample in ((window["frames"], window), (torch.stack([pair["source"], pair["driving"]]), pair)):
            assert sample["displacement"].shape == (len(frames) - 1, 32, 32, 2)
            assert torch.equal(sample["figure"][0] > 0, frames[0, 0] > 0.5)
            assert not (sample["plate"][0] > 0.5).any()
            for frame, displacement, shown in zip(
                frames[1:], sample["displacement"], sample["visibility"], strict=True
            ):
                grid = geometry.identity_grid((32, 32)) + displacement
                warped = geometry.warp(frames[:1], grid[None], padding="border")[0]
                torch.testing.assert_close(warped[:, shown == WARPED], frame[:, shown == WARPED], atol=1e-4, rtol=0)
                assert torch.equal(shown == WARPED, frame[0] > 0.5)
        seen.add(tuple((window["points"][1] - window["points"][0]).tolist()))
    assert len(seen) == 3  # mirrored, or reversed, or neither


def test_what_is_not_needed_is_not_made() -> None:
    clips = [square_clip(known=True)]
    names = {"name", "points"}
    assert set(frame_windows(clips, TINY_STROKES, 0)[0]) == names | {"frames"}
    assert set(frame_windows(clips, TINY_FIELDS, 0)[0]) == names | {"frames", "plate"}
    assert set(frame_windows(clips, changed(TRUTH, clip__mask_background=True), 0, latent=True)[0]) == names | {
        "frames",
        "masks",
    }
    truth = {"displacement", "moving", "visibility", "figure"}
    assert set(frame_pairs(clips, TRUTH, 0)[0]) == names | {"source", "driving", "plate"} | truth
    assert (clip_plate(clips[0], 3, TINY_FIELDS) == Plates()(clips[0], np.array([3]), FORWARDS)).all()
    assert clip_plate(clips[0], 3, TINY_STROKES) is None
