"""From a still and a control of `structures` to frames: what moves, what stays, how it is steered."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from refusals import refused
from stillmotion import media
from stillmotion.data.examples import moving_square
from stillmotion.systems.base import Step
from stillmotion.systems.structures import Express, Observe, Poses, PosesFrom, Retarget, poses, structure_maps
from stillmotion.systems.structures.animating import Structures
from stillmotion.systems.structures.painting import BATCH
from stillmotion.systems.structures.refinement import clip_starts, next_clip, refine
from structures_tools import TINY, changed

COARSE = changed(TINY, refinement__enabled=False, refinement_training__steps=0, pose_prediction__steps=0)
REFINED = changed(TINY, pose_prediction__steps=0)
SIZE = (40, 48)
"""Height and width of the still."""


def system(config: Any = COARSE, seed: int = 3) -> Structures:
    torch.manual_seed(seed)
    made = Structures.build(config)
    with torch.no_grad():  # fresh heads give masks of one half everywhere
        for parameter in made.networks.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return made


def still() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (*SIZE, 3), np.uint8)


def figure(frames: int, seed: int = 0) -> np.ndarray:
    """A person in the middle of the still, in pixels of it; its arms move."""
    rng = np.random.default_rng(seed)
    base = np.array([
        [24, 6], [28, 11], [20, 11], [31, 16], [17, 16], [33, 21], [15, 21],
        [27, 22], [21, 22], [28, 28], [20, 28], [29, 35], [19, 35],
    ], float)  # fmt: skip
    track = np.repeat(base[None], frames, 0)
    track[1:, 3:7] += rng.uniform(-3, 3, (frames - 1, 4, 2))
    return track


def steps_of(made: Structures, control: Any, **options: Any) -> list[Step]:
    return list(made.animate(still(), control, **options))


# --- frames ---------------------------------------------------------------------------------------------------------
def test_forecasts_are_those_of_the_network() -> None:
    """Of more frames than go through it together; at the networks' size the frames are its own."""
    made, track = system(), figure(BATCH + 3)
    steps = steps_of(made, Poses(track), size="model")
    assert len(steps) == BATCH + 3
    small = np.concatenate([(track + 0.5) / 3 - 0.5 + [0, 4 / 3], np.ones((len(track), 13, 1))], -1)  # padded by 4
    maps = structure_maps.pose_maps(torch.from_numpy(small).float(), "joints", (16, 16), COARSE.structure.sigma)
    pixels = media.to_tensor(media.resize(media.pad_square(still())[0], (16, 16))[None])
    with torch.no_grad():
        output = made.networks.forecast(2 * pixels - 1, maps[:1], maps)
    expected = media.to_pictures((output.frame + 1) / 2)
    assert np.abs(np.stack([step.frame for step in steps]).astype(int) - expected).max() <= 1
    assert np.ptp(output.mask.numpy()) > 0.1
    for t, step in enumerate(steps):
        assert np.allclose(step.facts["mask"], output.mask[t].numpy(), atol=1e-4)
        assert np.array_equal(step.facts["pose"][:, :2], track[t])


def test_what_the_mask_keeps_are_the_stills_own_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    made = system()
    decode = made.networks.forecast.decoder.forward

    def half(*inputs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        content, mask = decode(*inputs)
        mask = torch.zeros_like(mask)
        mask[..., 8:] = 1
        return torch.full_like(content, 0.5), mask

    monkeypatch.setattr(type(made.networks.forecast.decoder), "forward", lambda _, *inputs: half(*inputs))
    for frame in (step.frame for step in steps_of(made, Poses(figure(3)))):
        assert frame.shape == (*SIZE, 3)
        assert np.array_equal(frame[:, :20], still()[:, :20])
        assert (frame[:, 28:] == round(0.75 * 255)).all()


def test_a_crop_goes_back_into_the_still() -> None:
    track = 0.4 * figure(3) + 10
    steps = steps_of(system(), Poses(track, crop=(8, 9, 20, 18)))
    for step in steps:
        outside = np.ones(SIZE, bool)
        outside[9:27, 8:28] = False
        assert np.array_equal(step.frame[outside], still()[outside])
        change = np.abs(step.frame.astype(int) - still())[9:27, 8:28].mean(-1)
        sides = (change[0], change[-1], change[:, 0], change[:, -1])
        assert max(side.mean() for side in sides) < 0.25 * change[5:-5, 5:-5].mean()  # it fades in
    plan = poses.plan_poses(Poses(track), still(), COARSE.structure, 25, None)
    found = poses.pose_box(plan, SIZE)
    assert found is not None
    places = track.reshape(-1, 2) - found[:2]
    assert (places > 0).all()
    assert (places < found[2]).all()
    assert "cannot change" in refused(
        system().open(still(), Poses(track, crop="auto")).send, Poses(track, crop=(0, 0, 9, 9))
    )


@pytest.mark.parametrize("frames", [1, 3, 4, 5, 7, 11])
def test_refined_frames_are_those_of_the_whole_video_refined_at_once(frames: int) -> None:
    """However its clips fall; the layers show the forecast before."""
    made, track = system(REFINED), figure(frames, 2)
    shown = steps_of(made, Poses(track), size="model", layers=True)
    coarse = system(REFINED)
    coarse.networks.refinement = None
    plan = poses.plan_poses(Poses(track), still(), REFINED.structure, 25, None)
    rollout = coarse.open(still(), Poses(track))
    maps = plan.maps(rollout.canvas, 0, frames)  # type: ignore[attr-defined]
    small = 2 * rollout.canvas.small - 1  # type: ignore[attr-defined]
    with torch.no_grad():
        forecasts = made.networks.forecast(small, maps[:1], maps).frame
        assert made.networks.refinement is not None
        refined = refine(made.networks.refinement, forecasts[None], maps[None], 4, 1)[0]
    assert (refined - forecasts).abs().mean() > 0.02
    expected = media.to_pictures((refined + 1) / 2)
    assert np.abs(np.stack([step.frame for step in shown]).astype(int) - expected).max() <= 1
    before = np.stack([step.layers["forecast"][::16, ::16] for step in shown]).astype(int)
    assert np.abs(before - media.to_pictures((forecasts + 1) / 2)).max() <= 1


def test_clips_follow_each_other_as_they_do_at_once() -> None:
    for frames, length, overlap in itertools.product(range(4, 40), (4, 8), (0, 1, 3)):
        if frames < length:
            continue
        starts: list[int] = [0]
        while (after := next_clip(starts[-1], frames, length, overlap)) is not None:
            starts.append(after)
        assert starts == clip_starts(frames, length, overlap)


def test_layers_and_captions_are_the_same() -> None:
    for config in (COARSE, REFINED):
        layers = steps_of(system(config), Poses(figure(2)), layers=True)[1].layers
        known = dict(Structures.layer_captions)
        if config is COARSE:
            del known["forecast"]
        assert list(layers) == list(known)
        assert {picture.shape for picture in layers.values()} == {(256, 256, 3)}


# --- steering -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("config", [COARSE, REFINED], ids=["coarse", "refined"])
def test_a_rollout_is_endless_and_can_be_steered(config: Any) -> None:
    rollout = system(config).open(still())
    assert np.array_equal(next(rollout).frame, still())  # it rests until something is sent
    rollout.send(Poses(figure(5)))
    seen = [next(rollout) for _ in range(3)]
    assert not rollout.done
    seen += [next(rollout) for _ in range(2)]
    assert rollout.done
    held = [next(rollout) for _ in range(20)]
    assert np.array_equal(held[0].facts["pose"], seen[-1].facts["pose"])
    assert np.array_equal(held[3].frame, held[3 + config.refinement.frames].frame)
    rollout.send(Poses(figure(2, 9)))
    assert not rollout.done
    assert np.array_equal(next(rollout).facts["pose"][:, :2], figure(2, 9)[0])
    rollout.close()


def test_an_animation_has_at_most_as_many_frames_as_asked() -> None:
    assert len(steps_of(system(), Poses(figure(5)), frames=3)) == 3
    assert len(steps_of(system(), Poses(figure(5)), frames=9)) == 5


def test_frame_rates() -> None:
    assert system().open(still(), Poses(figure(2), fps=7)).fps == 7
    made = system()
    made.card["fps"] = 12
    assert made.open(still(), Poses(figure(2))).fps == 12


# --- poses of videos ------------------------------------------------------------------------------------------------
@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> dict[int, Any]:
    """Joints by the first pixel of a frame."""
    known: dict[int, Any] = {}

    def find(frames: np.ndarray, tracking: bool = True) -> np.ndarray:
        found = [known.get(int(frame[0, 0, 0]), np.full((13, 3), np.nan)) for frame in frames]
        return np.stack(found)

    monkeypatch.setattr(poses, "find_joints", find)
    return known


def video(frames: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Frames that are known by their first pixel: 100, 101, ..."""
    made = np.zeros((frames, *size, 3), np.uint8)
    made[:, 0, 0, 0] = 100 + np.arange(frames)
    return made


def told(detector: dict[int, Any], track: np.ndarray, first: int = 100) -> None:
    for t, pose_ in enumerate(track):
        detector[first + t] = np.concatenate([pose_, np.ones((13, 1))], -1)


def test_poses_of_a_video_come_to_the_stills_body(detector: dict[int, Any]) -> None:
    """Twice as large and elsewhere in the video: proportions, place and size are the still's, angles the driver's."""
    track, own = 2 * figure(6) + np.array([50, 80]), figure(1, 5)[0]
    own[11:] += [0, 3]  # longer shins
    told(detector, track)
    told(detector, own[None], first=int(still()[0, 0, 0]))
    steps = steps_of(system(), PosesFrom(video(6, (200, 200)), smooth=False))
    made = np.stack([step.facts["pose"] for step in steps])
    lengths, angles = poses.pose_tracks.bone_lengths, poses.pose_tracks.bone_angles
    own3, track3 = (np.concatenate([x, np.ones((*x.shape[:-1], 1))], -1) for x in (own, track))
    whole = [0, 1, 2, 3, 8, 9, 10, 11, 12, 13]  # bones that the driver does not foreshorten
    assert np.allclose(lengths(made)[:, whole], lengths(own3)[whole])
    assert np.allclose(angles(made), angles(track3))
    assert np.allclose(made[0, 7:9, :2].mean(0), own[7:9].mean(0))


def test_without_the_switches_poses_of_a_video_are_as_they_are(detector: dict[int, Any]) -> None:
    """But for the video's size; the first pose is the still's."""
    told(detector, 2 * figure(4) + 0.5)
    off = {"keep_proportions": False, "align_first": False, "smooth": False, "fill_gaps": False}
    steps = steps_of(system(), PosesFrom(video(4, (80, 96)), **off))
    assert np.allclose(np.stack([step.facts["pose"][:, :2] for step in steps]), figure(4))
    assert "whose shape" in refused(steps_of, system(), PosesFrom(video(4, (80, 80)), **off))


def test_gaps_of_a_video_are_filled_and_nobody_is_a_sentence(detector: dict[int, Any]) -> None:
    told(detector, np.repeat(figure(1), 3, 0))
    told(detector, figure(1), first=int(still()[0, 0, 0]))
    del detector[101]
    steps = steps_of(system(), PosesFrom(video(3)))
    assert np.allclose(steps[1].facts["pose"][:, :2], figure(1)[0])
    del detector[int(still()[0, 0, 0])]
    assert "No person is found in the still: give its pose with --still-pose" in refused(
        steps_of, system(), PosesFrom(video(3))
    )
    assert len(steps_of(system(), PosesFrom(video(3), still_pose=figure(1)[0]))) == 3
    assert "No person is found in any frame" in refused(
        steps_of, system(), PosesFrom(video(2) * 0, still_pose=figure(1)[0])
    )


def test_poses_from_files(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", figure(4))
    steps = steps_of(system(), Poses(tmp_path / "a.npy"))
    assert np.array_equal(steps[2].facts["pose"][:, :2], figure(4)[2])
    np.save(tmp_path / "b.npy", figure(4)[:, :11])
    assert "11 joints" in refused(steps_of, system(), Poses(str(tmp_path / "b.npy")))
    assert "does not exist" in refused(steps_of, system(), Poses("nowhere.json"))
    assert "Most joints lie outside of the still" in refused(steps_of, system(), Poses(figure(2) + 100))
    assert "and 2 are given" in refused(steps_of, system(), Poses(figure(2), still_pose=figure(2)))


def test_the_stills_own_pose_is_not_the_first_where_it_is_given() -> None:
    made, track = system(), figure(2)
    one, other = (
        steps_of(made, Poses(track, still_pose=own), size="model")[1].frame for own in (None, figure(2, 7)[1])
    )
    assert not np.array_equal(one, other)
    assert np.array_equal(one, steps_of(made, Poses(track, still_pose=track[0]), size="model")[1].frame)


# --- predicted poses ------------------------------------------------------------------------------------------------
def test_poses_are_predicted_after_those_observed() -> None:
    made = system(changed(COARSE, pose__width=8, pose__embedding=4, pose_prediction__steps=1))
    track = figure(14)
    steps = steps_of(made, Observe(track, keep_proportions=False, align_first=False, smooth=False))
    assert len(steps) == 33
    assert np.array_equal(steps[0].facts["pose"][:, :2], track[9])  # the last of ten that are observed
    small = np.concatenate([(track[:10] + 0.5) / 3 - 0.5 + [0, 4 / 3], np.ones((10, 13, 1))], -1)
    vectors = structure_maps.pose_vectors(torch.from_numpy(small).float(), 16)
    assert made.networks.predictor is not None
    with torch.no_grad():
        expected = structure_maps.vector_poses(made.networks.predictor(vectors[None], 32)[0], 16).numpy()
    places = (expected[..., :2] + 0.5) * 3 - 0.5 - [0, 4]
    assert np.allclose(np.stack([step.facts["pose"][:, :2] for step in steps[1:]]), places, atol=1e-3)
    assert len(steps_of(made, Observe(track, still_pose=track[9]), frames=50)) == 50


# --- what fits together ---------------------------------------------------------------------------------------------
def test_a_model_follows_poses_or_expressions() -> None:
    faces = system(changed(COARSE, structure__kind="normals"))
    assert "follows poses (--poses, --poses-from, --observe), not Express" in refused(
        system().animate, still(), Express("happiness")
    )
    assert "follows expressions (--expression, --retarget), not Poses" in refused(
        faces.animate, still(), Poses(figure(2))
    )
    assert "no pose predictor" in refused(system().animate, still(), Observe(figure(2)))
    assert "leave --mask and --plate out" in refused(system().open, still(), mask="m.png")


def test_a_clips_own_control_makes_it_again() -> None:
    clip, made = moving_square(16, 3, fps=5), system()
    control = made.control_of(clip)
    assert isinstance(control, Poses)
    assert control.fps == 5
    assert np.array_equal(control.poses, clip.tracks["joints"])  # type: ignore[arg-type]
    assert not control.keep_proportions
    assert not control.align_first
    assert control.smooth  # joints of a clip that does not know its motion were detected
    assert control.fill_gaps
    exact = made.control_of(replace(clip, tracks={**clip.tracks, "parts": clip.frames, "moves": clip.frames}))
    assert not exact.smooth
    assert not exact.fill_gaps  # type: ignore[attr-defined]
    bare = type(clip)(clip.name, clip.frames, clip.fps)
    assert "has no joints" in refused(made.control_of, bare)
    faces = system(changed(COARSE, structure__kind="normals"))
    example = faces.example_clip(3)
    own = faces.control_of(example)
    assert isinstance(own, Retarget)
    assert (own.head, own.own_neutral, own.smooth, own.crop) == ("video", False, False, "none")
    steps = list(faces.animate(example.frames[0], own))
    assert len(steps) == 3
    assert steps[2].facts["rotation"][1] == pytest.approx(0.3 * np.sin(2 * np.pi * 2 / 48), abs=0.02)


def test_a_model_survives_its_folder(tmp_path: Path) -> None:
    made = system(changed(REFINED, pose__width=8, pose_prediction__steps=1))
    made.save_pretrained(tmp_path / "model")
    again = Structures.from_pretrained(tmp_path / "model")
    one, other = (steps_of(each, Poses(figure(3)))[2].frame for each in (made, again))
    assert np.array_equal(one, other)


def test_the_last_observed_pose_is_brought_to_the_still() -> None:
    track = figure(10) + 3.0 * np.arange(10)[:, None, None]
    control = Observe(track, still_pose=figure(1)[0], keep_proportions=False, smooth=False)
    own, (observed, *_) = poses.observed_poses(control, still(), 10)
    assert np.array_equal(own[:, :2], figure(1)[0])
    assert np.allclose(observed[-1, 7:, :2], figure(1)[0, 7:])
    assert np.allclose(np.diff(observed[:, 7, :2], axis=0), 3)


def test_refined_frames_keep_what_both_masks_keep() -> None:
    made, track = system(REFINED), figure(4, 2)
    steps = steps_of(made, Poses(track))
    rollout = made.open(still(), Poses(track))
    maps = poses.plan_poses(Poses(track), still(), REFINED.structure, 25, None).maps(
        rollout.canvas,  # type: ignore[attr-defined]
        0,
        4,
    )
    with torch.no_grad():
        first = made.networks.forecast(2 * rollout.canvas.small - 1, maps[:1], maps)  # type: ignore[attr-defined]
        assert made.networks.refinement is not None
        second = made.networks.refinement(first.frame[None], maps[None])
    kept = (1 - first.mask) * (1 - second.mask[0])
    assert np.allclose(np.stack([step.facts["mask"] for step in steps]), 1 - kept.numpy(), atol=1e-4)
