"""Pose tracks: joint sets, bones, one body's motion on another, smoothing and gaps."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refusals import refused
from stillmotion.data import pose_tracks
from stillmotion.data.pose import JOINTS
from stillmotion.data.pose_tracks import (
    BONES,
    JOINT_SETS,
    NECK,
    PELVIS,
    align_first,
    bone_angles,
    bone_lengths,
    bone_vectors,
    fill_gaps,
    read_poses,
    retarget,
    scaled,
    smooth,
    to_track,
    with_middles,
)

FEW = settings(max_examples=40, deadline=None)
SEEDS = st.integers(0, 2**31)


def body(rng: np.random.Generator) -> np.ndarray:
    """Lengths of the bones; both halves of hips and of shoulders are alike."""
    lengths = rng.uniform(5, 30, len(BONES))
    lengths[3], lengths[9] = lengths[2], lengths[8]
    return lengths


def posed(lengths: np.ndarray, angles: np.ndarray, pelvis: np.ndarray) -> np.ndarray:
    """T x 13 x 3 of bones with these lengths (14 or T x 14), angles (T x 14) and places of the pelvis (T x 2)."""
    angles, lengths = angles.copy(), np.broadcast_to(lengths, angles.shape)
    angles[:, 3], angles[:, 9] = angles[:, 2] + np.pi, angles[:, 8] + np.pi  # the other shoulder, the other hip
    points = np.zeros((len(angles), len(JOINTS) + 2, 2))
    points[:, PELVIS] = pelvis
    for i, (start, end) in enumerate(BONES):
        step = lengths[:, i, None] * np.stack([np.cos(angles[:, i]), np.sin(angles[:, i])], -1)
        points[:, end] = points[:, start] + step
    return np.concatenate([points[:, : len(JOINTS)], np.ones((len(angles), len(JOINTS), 1))], -1)


def moving(seed: int, frames: int = 6, lengths: np.ndarray | None = None) -> np.ndarray:
    rng = np.random.default_rng(seed)
    own = body(rng) if lengths is None else lengths
    return posed(own, rng.uniform(-np.pi, np.pi, (frames, len(BONES))), rng.uniform(20, 80, (frames, 2)))


# --- joint sets -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["coco", "openpose"])
def test_joints_of_another_set_are_found_by_their_names(name: str) -> None:
    names = JOINT_SETS[name]
    poses = np.stack([np.arange(len(names)), 100 + np.arange(len(names))], -1)[None].astype(float)
    track = to_track(poses)
    assert np.array_equal(track, to_track(poses, name))
    for joint in JOINTS[1:]:
        assert track[0, JOINTS.index(joint)].tolist() == [names.index(joint), 100 + names.index(joint), 1]
    middle = np.mean([names.index(part) for part in ("nose", "left_ear", "right_ear")])
    assert track[0, 0].tolist() == [middle, 100 + middle, 1]
    poses[0, names.index("left_ear")] = np.nan
    seen = np.mean([names.index(part) for part in ("nose", "right_ear")])
    assert to_track(poses)[0, 0].tolist() == [seen, 100 + seen, 1]
    poses[0, [names.index(part) for part in ("nose", "right_ear")]] = np.nan
    assert to_track(poses)[0, 0].tolist() == [0, 0, 0]


def test_the_sets_have_the_published_order() -> None:
    """Pairs of COCO are left, right; OpenPose begins with the right side."""
    assert {name: len(names) for name, names in JOINT_SETS.items()} == {"penn": 13, "coco": 17, "openpose": 18}
    assert JOINT_SETS["coco"][5:7] == ("left_shoulder", "right_shoulder")
    assert JOINT_SETS["openpose"][:5] == ("nose", "neck", "right_shoulder", "right_elbow", "right_wrist")


def test_visibility_is_kept_and_what_is_not_known_is_missing() -> None:
    poses = np.ones((2, 13, 3))
    poses[0, 3, 2], poses[0, 4, 0], poses[1, 5, 2] = 0.25, np.nan, np.nan
    track = to_track(poses)
    assert track[0, 3, 2] == 0.25
    assert track[0, 4].tolist() == track[1, 5].tolist() == [0, 0, 0]
    assert (track[..., 2] > 0).sum() == 24


@pytest.mark.parametrize(
    ("poses", "joints", "words"),
    [
        (np.zeros((2, 14, 2)), None, "14 joints are of no known set; known are penn .13., coco .17., openpose .18."),
        (np.zeros((2, 17, 2)), "openpose", "openpose has 18 joints, and the poses 17"),
        (np.zeros((2, 13, 2)), "mpii", "no joint set 'mpii'; known are penn, coco"),
        (np.zeros((13, 2)), None, "T x J x 2"),
        (np.zeros((0, 13, 2)), None, "T x J x 2"),
        (np.zeros((2, 13, 4)), None, "T x J x 2"),
        (np.zeros((2, 13, 2), bool), None, "not bool"),
    ],
)
def test_other_poses_are_refused(poses: np.ndarray, joints: str | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        to_track(poses, joints)


# --- bones ----------------------------------------------------------------------------------------------------------
@FEW
@given(SEEDS)
def test_lengths_and_angles_are_those_that_a_body_was_made_of(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths, angles = body(rng), rng.uniform(-3, 3, (4, len(BONES)))
    track = posed(lengths, angles, np.zeros((4, 2)))
    free = [i for i in range(len(BONES)) if i not in (3, 9)]
    assert np.allclose(bone_lengths(track), lengths)
    assert np.allclose(bone_angles(track)[:, free], angles[:, free])


def test_a_bone_without_an_end_is_not_known() -> None:
    track = moving(1, 1)
    track[0, JOINTS.index("left_elbow"), 2] = 0
    missing = np.isnan(bone_vectors(track)).any(-1)[0]
    assert [BONES[i] for i in np.flatnonzero(missing)] == [(1, 3), (3, 5)]


# --- from one body to another ---------------------------------------------------------------------------------------
@FEW
@given(SEEDS)
def test_retargeting_to_oneself_changes_nothing(seed: int) -> None:
    track = moving(seed)
    assert np.allclose(retarget(track, track[3]), track)
    assert np.allclose(align_first(track, track[0]), track)


@FEW
@given(SEEDS, SEEDS)
def test_proportions_are_the_stills_and_angles_the_drivers(driver: int, still: int) -> None:
    track, own = moving(driver), moving(still, 1)[0]
    made = retarget(track, own)
    assert np.allclose(bone_lengths(made), bone_lengths(own))
    turned = np.exp(1j * bone_angles(made)) / np.exp(1j * bone_angles(track))
    assert np.allclose(turned, 1)
    aligned = align_first(made, own)
    assert np.allclose(bone_lengths(aligned), bone_lengths(own))  # of one size already
    assert np.allclose(with_middles(aligned)[0, PELVIS], with_middles(own)[PELVIS])


def test_steps_are_scaled_with_the_body() -> None:
    track = moving(5, 3, lengths=(lengths := body(np.random.default_rng(5))))
    still = moving(6, 1, lengths=2 * lengths)[0]
    steps = np.diff(with_middles(track)[:, PELVIS, :2], axis=0)
    assert np.allclose(np.diff(with_middles(retarget(track, still))[:, PELVIS, :2], axis=0), 2 * steps)
    assert np.allclose(with_middles(retarget(track, still))[0, PELVIS], with_middles(track)[0, PELVIS])
    assert np.allclose(np.diff(with_middles(align_first(track, still))[:, PELVIS, :2], axis=0), 2 * steps)


def test_foreshortening_is_kept() -> None:
    """An arm that points at the camera is short in the picture, of whomever it is."""
    rng, frames = np.random.default_rng(8), 40
    lengths, arm = np.repeat(body(rng)[None], frames, 0), BONES.index((3, 5))
    whole = lengths[0, arm]
    lengths[-1, arm] *= 0.25
    track = posed(lengths, rng.uniform(-3, 3, (frames, len(BONES))), np.zeros((frames, 2)))
    still = moving(9, 1)[0]
    made = bone_lengths(retarget(track, still))[:, arm]
    assert whole > 0
    assert np.allclose(made[-1], 0.25 * bone_lengths(still)[arm])
    assert np.allclose(made[:-1], bone_lengths(still)[arm])


def test_what_the_still_does_not_show_is_taken_from_its_other_side() -> None:
    track, still = moving(11), moving(12, 1)[0]
    still[JOINTS.index("left_wrist"), 2] = 0
    made = bone_lengths(retarget(track, still))
    left, right = BONES.index((3, 5)), BONES.index((4, 6))
    assert np.allclose(made[:, left], made[:, right])
    still[JOINTS.index("right_wrist"), 2] = 0
    scale = pose_tracks.size_ratio(track, still)
    assert np.allclose(bone_lengths(retarget(track, still))[:, left], scale * bone_lengths(track)[:, left])


def test_what_the_driver_does_not_show_is_missing_with_all_behind_it() -> None:
    track, still = moving(13), moving(14, 1)[0]
    track[2, JOINTS.index("left_elbow")] = 0
    made = retarget(track, still)
    gone = {JOINTS[k] for k in np.flatnonzero(made[2, :, 2] == 0)}
    assert gone == {"left_elbow", "left_wrist"}
    assert (made[[0, 1, 3, 4, 5], :, 2] == 1).all()
    assert np.isfinite(made).all()


def test_half_a_body_hangs_on_its_neck() -> None:
    track, still = moving(15), moving(16, 1)[0]
    track[:, JOINTS.index("left_hip") :, 2] = 0
    made = retarget(track, still)
    assert np.allclose(bone_lengths(made)[:, 1:8], bone_lengths(still)[1:8])
    assert np.allclose(with_middles(align_first(made, still))[0, NECK], with_middles(still)[NECK])
    track[:, 1, 2] = 0
    assert "both hips or both shoulders" in refused(retarget, track, still)
    track[..., 2] = 0
    assert "no visible bone in common" in refused(retarget, track, still)


# --- over time ------------------------------------------------------------------------------------------------------
@FEW
@given(SEEDS)
def test_smoothing_keeps_parabolas(seed: int) -> None:
    rng = np.random.default_rng(seed)
    t = np.arange(20)[:, None, None]
    places = rng.normal(size=(1, 13, 2)) * 50 + t * rng.normal(size=(1, 13, 2)) + t**2 * rng.normal(size=(1, 13, 2))
    track = np.concatenate([places, np.ones((20, 13, 1))], -1)
    track[7, 4] = 0, 0, 0
    made = smooth(track)
    assert np.allclose(made, track)


def test_smoothing_lowers_jitter() -> None:
    rng, t = np.random.default_rng(3), np.arange(60)[:, None, None]
    true = np.concatenate([40 + 20 * np.sin(t / 8 + np.arange(26).reshape(13, 2)), np.ones((60, 13, 1))], -1)
    track = true.copy()
    track[..., :2] += rng.normal(size=(60, 13, 2))
    before, after = (np.abs(each[..., :2] - true[..., :2]).mean() for each in (track, smooth(track)))
    assert after < 0.65 * before


def test_gaps_are_filled_in_time() -> None:
    track = np.ones((40, 13, 3))
    track[..., 0] = np.arange(40)[:, None]
    gap = track.copy()
    gap[3:7, 2] = np.nan, np.nan, 0
    gap[0:2, 3] = 0, 0, 0
    gap[5:35, 4] = 0, 0, 0
    gap[:, 5] = 0, 0, 0
    made = fill_gaps(gap)
    assert np.array_equal(made[:, 2], track[:, 2])
    assert made[:2, 3].tolist() == [[2, 1, 1], [2, 1, 1]]
    assert (made[5:35, 4, 2] == 0).all()  # too long to be guessed
    assert (made[:, 5, 2] == 0).all()
    assert np.array_equal(fill_gaps(gap, 30)[:, 4], track[:, 4])


@pytest.mark.parametrize("switch", ["keep_proportions", "align", "smoothed", "filled"])
def test_each_of_the_four_is_a_switch(switch: str) -> None:
    track, still = moving(20, 12), moving(21, 1)[0]
    track[5, 2] = 0
    off: dict[str, bool] = dict.fromkeys(("keep_proportions", "align", "smoothed", "filled"), False)
    assert np.array_equal(pose_tracks.prepare(track, still, **off), track)
    alone = {"keep_proportions": retarget, "align": align_first}
    expected = (
        alone[switch](track, still) if switch in alone else {"smoothed": smooth, "filled": fill_gaps}[switch](track)
    )
    assert np.array_equal(pose_tracks.prepare(track, still, **{**off, switch: True}), expected)
    assert not np.array_equal(expected, track)


# --- files ----------------------------------------------------------------------------------------------------------
def test_poses_from_files(tmp_path: Path) -> None:
    poses = np.arange(2 * 17 * 2, dtype=float).reshape(2, 17, 2)
    np.save(tmp_path / "a.npy", poses)
    assert np.array_equal(read_poses(tmp_path / "a.npy").poses, poses)
    listed: Any = poses.tolist()
    listed[0][3] = [None, None]
    (tmp_path / "a.json").write_text(json.dumps(listed))
    assert np.isnan(read_poses(tmp_path / "a.json").poses[0, 3]).all()
    (tmp_path / "b.json").write_text(json.dumps({"poses": listed, "joints": "coco", "size": [64, 48], "fps": 12}))
    assert read_poses(tmp_path / "b.json")[1:] == ("coco", (64, 48), 12)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"people": []}', "must hold poses"),
        ('{"poses": [[[1, 2]], [[1]]]}', "even rows"),
        ('{"poses": [[["a", "b"]]]}', "even rows"),
        ('{"poses": [], "size": [0, 3]}', r"\[width, height\]"),
        ('{"poses": [], "fps": -1}', "fps must be a number above 0"),
        ("[", "not readable JSON"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match=words):
        read_poses(tmp_path / "a.json")
    (tmp_path / "a.npy").write_bytes(b"no")
    assert "not a readable .npy" in refused(read_poses, tmp_path / "a.npy")


def test_poses_of_a_picture_of_another_size_are_scaled() -> None:
    """Outer edges are aligned: the corner (-1/2, -1/2) stays."""
    poses = np.array([[[-0.5, -0.5, 1.0], [31.5, 15.5, 0.5]]])
    assert np.allclose(scaled(poses, (64, 32), (64, 128)), [[[-0.5, -0.5, 1.0], [63.5, 31.5, 0.5]]])
    assert scaled(poses, None, (64, 128)) is poses
    assert "whose shape is not that of the still (128 x 64)" in refused(scaled, poses, (64, 64), (64, 128))


def test_poses_of_another_picture_are_refused() -> None:
    track = moving(30)
    pose_tracks.check_inside(track, (300, 300))
    assert "--align-first" in refused(pose_tracks.check_inside, track + np.array([500, 0, 0]), (300, 300))
    assert "no visible joint" in refused(pose_tracks.check_inside, track * 0, (300, 300))


def test_detections_are_joined() -> None:
    seen, nobody = moving(31, 2), np.full((3, 13, 3), np.nan)
    track = pose_tracks.joined([nobody, seen])
    assert np.array_equal(track[3:], seen)
    assert (track[:3, :, 2] == 0).all()
    assert "No person" in refused(pose_tracks.joined, [nobody])
    assert "No person" in refused(pose_tracks.joined, [])
