"""facts/forecast-refine.md section 12, lines 12, 14 and 15: pairs, clips and poses with their structures."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from refusals import refused
from stillmotion.data.augment import AugmentParams, affine_matrix
from stillmotion.data.clip import Clip
from stillmotion.data.pose import JOINTS
from stillmotion.morphable.camera import Pose, rotation_matrices, rotation_vectors
from stillmotion.morphable.model import MorphableModel, shipped_model
from stillmotion.morphable.rendering import render_normals
from stillmotion.systems.structures import data
from stillmotion.systems.structures.data import (
    TRACK,
    ClipWindows,
    PoseWindows,
    choose_pair,
    clip_face,
    pairs,
    person_boxes,
    structure_maps,
    structures_of,
    usable_clips,
    with_structures,
)
from stillmotion.systems.structures.expressions import normal_maps, open_model
from stillmotion.systems.structures.structure_maps import pose_maps, pose_vectors
from structures_tools import TINY, changed
from structures_training_tools import LEARNING, counting, face_clip, square_clip

FACES = changed(TINY, size=32, structure__kind="normals", structure__face_model="faces", pose_prediction__steps=0)


def number(frame: Any) -> int:
    """Which frame of `counting` it is."""
    return round(float(frame.mean()) * 255)


# --- pairs ----------------------------------------------------------------------------------------------------------
def drawn(length: int, **changes: Any) -> set[tuple[int, int]]:
    config = changed(TINY, **{f"clip__{name}": value for name, value in changes.items()})
    rng = np.random.default_rng(0)
    return {choose_pair(length, rng, config) for _ in range(800)}


def test_pairs_are_a_random_frame_and_a_random_jump() -> None:
    """Line 12, the paper's mode."""
    assert drawn(5, largest_jump=0) == {(t, u) for t in range(5) for u in range(t + 1, 5)}
    assert {u - t for t, u in drawn(30, largest_jump=4)} == {1, 2, 3, 4}
    assert {t for t, _ in drawn(8, largest_jump=4)} == set(range(7))
    assert drawn(7, frame_step=3, largest_jump=0) == {(t, t + 3) for t in range(4)} | {(0, 6)}
    assert drawn(4, frame_step=3, largest_jump=2) == {(0, 3)}


def test_the_releases_pairs_start_at_the_first_frame() -> None:
    """Line 12, the release's mode: any frame, itself included."""
    assert drawn(5, pairs="first", largest_jump=0) == {(0, u) for u in range(5)}
    assert drawn(1, pairs="first", largest_jump=0) == {(0, 0)}


def test_a_pair_has_the_structures_of_its_own_frames() -> None:
    dataset = pairs([counting(), counting(20, "other")], TINY, 3)
    for i in range(20):
        item = dataset[i]
        times = [number(item["source"]), number(item["driving"])]
        assert item["poses"].shape == (2, 13, 3)
        assert item["poses"][:, 5, 0].tolist() == times


def test_structure_maps_of_a_batch() -> None:
    poses = torch.rand(2, 3, 13, 3) * 15
    for kind, count in (("joints", 13), ("limbs", 48)):
        config = changed(TINY, structure__kind=kind)
        maps = structure_maps({"poses": poses}, config)
        assert maps.shape == (2, 3, count, 16, 16)
        assert torch.equal(maps[1, 2], pose_maps(poses[1, 2], kind, (16, 16), TINY.structure.sigma))
    normals = torch.rand(2, 3, 3, 16, 16)
    assert structure_maps({"normals": normals}, FACES) is normals


# --- augmentation ---------------------------------------------------------------------------------------------------
def wrists(order: list[str]) -> Clip:
    """The left wrist is red and the right one green; joints in any order."""
    frames, joints = np.zeros((2, 16, 16, 3), np.uint8), np.ones((2, 13, 3), np.float32)
    for side, channel, (x, y) in (("left", 0, (3, 5)), ("right", 1, (10, 8))):
        frames[:, y - 1 : y + 2, x - 1 : x + 2, channel] = 200
        joints[:, order.index(f"{side}_wrist"), :2] = x, y
    return Clip("wrists", frames, 25.0, {"joints": joints}, {"joints": order})


@pytest.mark.parametrize("order", [list(JOINTS), list(JOINTS)[::-1]], ids=["penn", "reversed"])
def test_joints_move_with_the_frames_and_have_one_order(order: list[str]) -> None:
    """The left of a mirrored person is where their right was: it is green."""
    dataset = pairs([wrists(order)], changed(TINY, clip__augmentation="actions"), 0)
    mirrored = set()
    for i in range(30):
        item = dataset[i]
        places = {name: item["poses"][0, JOINTS.index(name), :2] for name in ("left_wrist", "right_wrist")}
        blobs = item["source"].clamp(min=0.2).sub(0.2).topk(2, dim=0).values.sum(0)  # whatever the hue
        for x, y in places.values():
            if 1 <= x <= 14 and 1 <= y <= 14:
                assert blobs[round(float(y)), round(float(x))] > 0.2
        left_first = bool(places["left_wrist"][1] < places["right_wrist"][1])
        mirrored.add(left_first)
    assert mirrored == {True, False}


def test_joints_that_are_not_known_are_nowhere() -> None:
    clip = square_clip()
    clip.tracks["joints"][:, 4] = np.nan, np.nan, 0
    item = pairs([clip], TINY, 0)[0]
    assert item["poses"][:, 4].abs().max() == 0
    assert structure_maps({"poses": item["poses"][None]}, TINY)[:, :, 4].max() == 0


def maps_of(model: MorphableModel, vertices: np.ndarray, pose: Pose, size: int, depth: str = "depth") -> np.ndarray:
    """T x S x S x 3."""
    return normal_maps(model, vertices, pose, size, depth).permute(0, 2, 3, 1).numpy()


def posed(degrees: float = 0.0, factor: float = 1.0, x: float = 0.0, turn: float = 0.3) -> Pose:
    """A head turned aside, then rotated in the picture, enlarged about the middle of 48 pixels and shifted."""
    about_z = rotation_matrices(np.array([[0.0, 0.0, -np.radians(degrees)]]))
    rotation = rotation_vectors(about_z @ rotation_matrices(np.array([[0.0, turn, 0.0]])))
    return Pose(np.array([14.0 * factor]), rotation, np.array([[23.5 + x, 23.5]]))


def test_normal_maps_follow_rotations_scales_and_shifts_of_the_frames() -> None:
    """Line 14: they are those of a head in the moved pose; vectors do not change."""
    model, vertices = shipped_model("faces"), shipped_model("faces").mean[None]
    maps = maps_of(model, vertices, posed(), 48).astype(np.float16)
    clip = Clip("face", np.zeros((1, 48, 48, 3), np.uint8), 25.0, {TRACK: maps}, {"track_kinds": {TRACK: "normals"}})
    affine = affine_matrix((48, 48), rotation=20, scale=(1.1, 1.1), shift=(3, 0))
    params = AugmentParams((48, 48), (48, 48), affine=affine)
    found = structures_of(clip, np.array([0]), params, "normals")["normals"][0].permute(1, 2, 0).numpy()
    truth = maps_of(model, vertices, posed(20, 1.1, 3), 48)[0]
    both = (found != 0).any(-1) & (truth != 0).any(-1)
    assert (((found != 0) ^ (truth != 0)).any(-1)).mean() < 0.02
    assert both.mean() > 0.15
    angles = np.degrees(np.arccos((found * truth).sum(-1)[both].clip(-1, 1)))
    assert np.median(angles) < 2


def test_a_mirrored_normal_map_is_that_of_the_mirrored_head() -> None:
    model = shipped_model("faces")
    vertices = model.vertices(np.linspace(-1, 1, 24), np.zeros(16))[None]
    maps = maps_of(model, vertices, posed(), 48).astype(np.float16)
    clip = Clip("face", np.zeros((1, 48, 48, 3), np.uint8), 25.0, {TRACK: maps}, {"track_kinds": {TRACK: "normals"}})
    params = AugmentParams((48, 48), (48, 48), mirror=True)
    found = structures_of(clip, np.array([0]), params, "normals")["normals"][0].permute(1, 2, 0).numpy()
    truth = render_normals(vertices * [-1, 1, 1], model.triangles[:, ::-1], posed(turn=-0.3), 48).normals[0]
    assert (((found != 0) ^ (truth != 0)).any(-1)).mean() < 0.005
    assert np.abs(found - truth).mean() < 2e-3


# --- clips for the refinement ---------------------------------------------------------------------------------------
def test_clips_are_consecutive_and_their_still_is_not_after_them() -> None:
    for changes, reach in (({"largest_jump": 3}, 3), ({"largest_jump": 0}, 40), ({"pairs": "first"}, 40)):
        config = changed(TINY, clip__augmentation="taichi", **{f"clip__{k}": v for k, v in changes.items()})
        dataset, starts, away = ClipWindows([counting()], config, 0), set(), set()
        for i in range(150):
            item = dataset[i]
            times = [number(frame) for frame in item["frames"]]
            assert times[1:] == list(range(times[1], times[1] + 4))
            if not torch.equal(item["poses"][:, 0, 0], torch.tensor(times).float()):  # mirrored
                assert item["poses"][:, 0, 0].tolist() == [15 - t for t in times]
            starts.add(times[1])
            away.add(times[1] - times[0])
            assert 0 <= times[1] - times[0] <= reach
            assert "first" not in changes.values() or times[0] == 0
        assert {0, 36} <= starts <= set(range(37))
        assert reach == 40 or away == set(range(4))


def test_clips_have_the_time_step() -> None:
    dataset = ClipWindows([counting(10)], changed(TINY, clip__frame_step=3), 0)
    assert {number(dataset[i]["frames"][4]) - number(dataset[i]["frames"][1]) for i in range(9)} == {9}


# --- poses ----------------------------------------------------------------------------------------------------------
def test_pose_windows_are_the_next_poses() -> None:
    clip = counting(20)
    dataset, starts = PoseWindows([clip], LEARNING, 0), set()
    for i in range(60):
        item = dataset[i]
        start = round((float(item["observed"][0, 0]) + 1) * 8)
        poses = torch.from_numpy(clip.tracks["joints"][start : start + 7])
        assert torch.equal(torch.cat([item["observed"], item["future"]]), pose_vectors(poses, 16))
        assert (item["observed"].shape, item["future"].shape) == ((3, 26), (4, 26))
        assert torch.equal(item["visible"], torch.ones(4, 13))
        starts.add(start)
    assert starts == set(range(14))


def test_there_are_no_poses_behind_a_clips_end_and_none_that_are_not_seen() -> None:
    """Line 18: masked joints add no loss."""
    clip = counting(5)
    clip.tracks["joints"][:, 2, 2] = 0
    item = PoseWindows([clip], LEARNING, 0)[0]
    assert item["visible"][:, 3].tolist() == [1, 1, 0, 0]
    assert item["visible"][:, 2].tolist() == [0, 0, 0, 0]
    assert item["future"][2:].abs().max() == 0
    assert item["observed"][:, [2, 15]].abs().max() == 0


# --- all ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("make", [pairs, ClipWindows, PoseWindows])
def test_an_item_is_a_function_of_the_seed_and_its_number(make: Any) -> None:
    clips = [square_clip("a", 20), square_clip("b", 30, (0, 1))]
    config = changed(LEARNING, clip__augmentation="strong")
    dataset = make(clips, config, 5)
    later, again = [dataset[i] for i in (7, 3)], pickle.loads(pickle.dumps(make(clips, config, 5)))
    for item, other in ((later[0], again[7]), (later[1], again[3])):
        assert item.keys() == other.keys()
        assert all(np.array_equal(item[key], other[key]) for key in item)
    key = "future" if make is PoseWindows else "poses"
    assert not torch.equal(make(clips, config, 6)[7][key], later[0][key])
    assert len({item["name"] for item in (dataset[0], dataset[1])}) == len(dataset) == 2


def test_short_clips_are_left_out_and_groups_are_kept_apart(capsys: pytest.CaptureFixture[str]) -> None:
    clips = [counting(n, f"c{n}") for n in (3, 8, 20)]
    assert usable_clips(clips, 3) is clips
    assert [len(clip) for clip in usable_clips(clips, 8)] == [8, 20]
    assert "Left out 1 of 3" in capsys.readouterr().err
    assert "21 frames" in refused(usable_clips, clips, 21)
    grouped = [counting(9, "a", group="train"), counting(9, "b", group="val"), counting(9, "c", group="val")]
    assert [clip.name for clip in usable_clips(grouped, 2, "val")] == ["b", "c"]
    assert [clip.name for clip in usable_clips(grouped, 2, "train")] == ["a"]
    assert usable_clips(grouped, 2) is grouped
    assert usable_clips(grouped[1:], 2, "train") == grouped[1:]  # one group alone is not a choice


def test_boxes_are_squares_around_what_is_seen() -> None:
    poses = torch.zeros(1, 2, 13, 3)
    poses[0, 0, 1], poses[0, 0, 2] = torch.tensor([2.0, 4, 1]), torch.tensor([12.0, 8, 1])
    boxes = person_boxes({"poses": poses}, 16)
    assert boxes[0, 0].tolist() == pytest.approx([7 - 6.5, 6 - 6.5, 7 + 6.5, 6 + 6.5])
    assert boxes[0, 1].tolist() == [-0.5, -0.5, 15.5, 15.5]
    faces = torch.zeros(2, 3, 3, 16, 16)
    faces[0, 1, 2, 4:9, 2:13] = -0.5
    boxes = person_boxes({"normals": faces}, 16)
    assert boxes[1, 2].tolist() == [-0.5, -0.5, 15.5, 15.5]
    assert boxes[0, 1].tolist() == pytest.approx([7 - 6.5, 6 - 6.5, 7 + 6.5, 6 + 6.5])


def test_clips_without_the_joints_of_penn_action_are_refused(tmp_path: Path) -> None:
    bare = replace(square_clip("bare"), tracks={})
    assert "--tracks joints" in refused(with_structures, [square_clip(), bare], TINY, tmp_path)
    clips = [square_clip()]
    assert with_structures(clips, TINY, tmp_path) is clips
    other = square_clip()
    names = ["thumb", *JOINTS[1:]]
    assert "Penn Action" in refused(pairs([replace(other, meta={"joints": names})], TINY, 0).__getitem__, 0)


# --- faces ----------------------------------------------------------------------------------------------------------
def test_the_faces_world_knows_its_coefficients() -> None:
    clip, model = face_clip(), open_model("faces")
    fit = clip_face(clip, model)
    assert np.array_equal(fit.expression, clip.tracks["expression"])
    assert np.array_equal(fit.identity, clip.tracks["identity"][0])
    assert fit.error.max() < 0.02  # of a pixel; the pose is solved for
    vertices = model.vertices(fit.identity, fit.expression)
    maps = maps_of(model, vertices, fit.pose, 32)
    truth = clip.tracks["normals"].astype(np.float32)
    both = (maps != 0).any(-1) & (truth != 0).any(-1)
    cosines = (maps * truth).sum(-1)[both]
    assert both.sum() > 0.9 * (truth != 0).any(-1).sum()
    assert np.degrees(np.arccos(cosines.clip(-1, 1))).mean() < 10


def test_other_faces_are_fitted_to_their_landmarks() -> None:
    clip = face_clip()
    given = replace(clip, tracks={"landmarks": clip.tracks["landmarks"]}, meta={})
    fit = clip_face(given, open_model("ict"))
    assert fit.expression.shape == (4, 55)
    assert (fit.error < 1.5).all()
    lost = replace(given, tracks={"landmarks": np.full((4, 68, 2), np.nan)})
    assert "Clip 'faces'" in refused(clip_face, lost, open_model("ict"))


def test_normal_maps_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = [face_clip()]
    made = with_structures(clips, FACES, tmp_path)
    maps = made[0].tracks[TRACK]
    assert (maps.shape, maps.dtype) == ((4, 32, 32, 3), np.float16)
    length = np.linalg.norm(maps.astype(np.float32), axis=-1)
    face = length > 0
    assert 0.1 < face.mean() < 0.9
    assert np.allclose(length[face], 1, atol=2e-3)
    item = ClipWindows(made, FACES, 0)[0]
    assert item["normals"].shape == (5, 3, 32, 32)
    assert structure_maps({"normals": item["normals"][None]}, FACES).shape == (1, 5, 3, 32, 32)
    assert with_structures(made, FACES, tmp_path) is made

    def fail(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(data, "clip_face", fail)
    again = with_structures(clips, FACES, tmp_path)
    assert np.array_equal(again[0].tracks[TRACK], maps)
    for changes in ({"structure__depth": "radius"}, {"structure__face_model": "ict"}, {"size": 48}):
        with pytest.raises(AssertionError):
            with_structures(clips, changed(FACES, **changes), tmp_path)


def test_the_releases_maps_are_flat_and_point_into_the_head() -> None:
    model, vertices = open_model("ict"), open_model("ict").mean[None]
    pose = Pose(np.array([1.6]), np.zeros((1, 3)), np.full((1, 2), 23.5))
    ours, theirs = (maps_of(model, vertices, pose, 48, depth)[0] for depth in ("depth", "radius"))
    assert theirs.dtype == np.float32
    both = (ours != 0).any(-1) & (theirs != 0).any(-1)
    assert both.mean() > 0.2
    assert np.median((ours * theirs).sum(-1)[both]) < -0.9
    assert theirs[..., 2].sum() < 0 < ours[..., 2].sum()
    # Both count pixels alike: the first column of ours is the first of theirs, not the second.
    assert ((ours != 0).any(-1) ^ (theirs != 0).any(-1)).mean() < 0.01
