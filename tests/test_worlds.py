"""What holds for every world."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refusals import refuses
from stillmotion.data.clip import Clip
from stillmotion.data.part_flow import flow_between, flow_tracks
from stillmotion.data.shards import open_dataset
from stillmotion.errors import StillmotionError
from stillmotion.worlds import WORLDS, faces, plants, puppets, sample_clip
from stillmotion.worlds.dataset import write_world
from stillmotion.worlds.plants import sample_description, simulate_poke
from stillmotion.worlds.plants.physics import build_dynamics, energy, simulate

ACTIONS: dict[str, tuple[str | None, ...]] = {
    "arm": (None,), "digits": (None,), "faces": tuple(faces.EMOTIONS), "plants": plants.ACTIONS,
    "puppets": tuple(puppets.ACTIONS),
}  # fmt: skip
SIZE, FRAMES = 40, 5


def warp(picture: np.ndarray, flow: np.ndarray, interpolation: int = cv2.INTER_LINEAR) -> np.ndarray:
    """Return the picture sampled at every pixel plus its flow (H x W x 2)."""
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]].astype(np.float32)
    flow = flow.astype(np.float32)
    return cv2.remap(picture.astype(np.float32), x + flow[..., 0], y + flow[..., 1], interpolation)


def dilate(mask: np.ndarray, by: int) -> np.ndarray:
    """Return the mask (H x W, bool) grown by some pixels in all directions."""
    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * by + 1, 2 * by + 1))) > 0


def assert_only_mask_changes(video: np.ndarray, mask: np.ndarray, by: int) -> None:
    """Some pixels change, all of them within `by` pixels of the mask (H x W)."""
    changed = (np.ptp(video.astype(int), axis=0) > 0).any(-1)
    assert changed.any()
    assert not (changed & ~dilate(mask, by)).any()


def expected_tracks(world: str, clip: Clip, t: int, s: int) -> dict[str, tuple[tuple[int, ...], Any]]:
    """The shape and dtype of every track of `t` frames of `s` pixels."""
    f16, f32, u8 = np.float16, np.float32, np.uint8
    box, mask = {"box": ((t, 4), f32)}, {"mask": ((t, s, s), u8)}
    flow = {"flow_forward": ((t - 1, s, s, 2), f16), "flow_backward": ((t - 1, s, s, 2), f16)}
    common = {**box, **mask, **flow, "points": ((t, 2), f32)}
    if world != "faces":
        common |= {"parts": ((t, s, s), u8), "moves": ((t, clip.tracks["moves"].shape[1], 2, 3), f32)}
    if world == "arm":
        return {**common, "gripper": ((t, 2), f32), "poses": ((t, len(clip.meta["things"]), 3), f32)}
    if world == "digits":
        return common
    if world == "faces":
        coefficients = {"identity": ((t, len(faces.TRAITS)), f32), "expression": ((t, len(faces.ACTION_UNITS)), f32)}
        maps = {"normals": ((t, s, s, 3), f16), "landmarks": ((t, 68, 3), f32)}
        return {**coefficients, **maps, **box, **mask, "pose": ((t, 6), f32)}
    if world == "plants":
        other = {"other_frames": ((t, s, s, 3), u8), "other_path": ((t, 2), f32)}
        return {**{name: common[name] for name in (*flow, *mask, "parts", "moves")}, **other, "path": ((t, 2), f32)}
    return {**common, "joints": ((t, 13, 3), f32)}


@pytest.mark.parametrize("world", [world for world in WORLDS if world != "faces"])
def test_parts_and_moves_give_the_flow_between_any_two_frames(world: str) -> None:
    """The neighbouring flow is one of them; a world whose parts or maps are wrong gives another."""
    tracks = sample_clip(world, 2, 0, SIZE, FRAMES, None).tracks
    for t in range(FRAMES - 1):
        there = flow_between(tracks["parts"], tracks["moves"], t, t + 1)
        back = flow_between(tracks["parts"], tracks["moves"], t + 1, t)
        assert np.allclose(there, tracks["flow_forward"][t], atol=0.01)
        assert np.allclose(back, tracks["flow_backward"][t], atol=0.01)
    assert np.abs(tracks["flow_forward"]).max() > 0.05


@pytest.mark.parametrize(("world", "action"), [(world, action) for world in WORLDS for action in ACTIONS[world]])
def test_clip_has_the_documented_tracks_and_meta(world: str, action: str | None) -> None:
    clip = sample_clip(world, 1, 0, SIZE, FRAMES, action)
    assert clip.frames.shape == (FRAMES, SIZE, SIZE, 3)
    assert clip.fps == (10 if world in ("arm", "digits") else 25)
    shapes = {name: (track.shape, track.dtype) for name, track in clip.tracks.items()}
    assert shapes == expected_tracks(world, clip, FRAMES, SIZE)
    assert set(np.unique(clip.tracks["mask"])) == {0, 255}
    meta = json.loads(json.dumps(clip.meta))
    assert meta["world"] == world
    assert meta.get("action") == action
    assert meta["description"]


@pytest.mark.parametrize("world", ["arm", "digits", "plants", "puppets"])
def test_a_single_frame_has_no_flow(world: str) -> None:
    tracks = sample_clip(world, 1, 0, SIZE, 1).tracks
    assert tracks["flow_forward"].shape == tracks["flow_backward"].shape == (0, SIZE, SIZE, 2)


@pytest.mark.parametrize("world", WORLDS)
def test_same_seed_same_bytes_and_a_longer_clip_begins_with_the_shorter(world: str) -> None:
    first, again, longer = (sample_clip(world, 3, 5, 32, frames) for frames in (3, 3, 6))
    assert first.name == again.name == f"{world}-3-000005"
    assert first.meta == again.meta
    assert first.frames.tobytes() == again.frames.tobytes()
    assert np.array_equal(first.frames, longer.frames[:3])
    for name, track in first.tracks.items():
        assert track.tobytes() == again.tracks[name].tobytes()
        assert np.array_equal(track, longer.tracks[name][: len(track)])
    for other in (sample_clip(world, 3, 6, 32, 3), sample_clip(world, 4, 5, 32, 3)):
        assert not np.array_equal(first.frames, other.frames)


@pytest.mark.parametrize(
    ("world", "action"),
    [("arm", "walk"), ("digits", "wave1"), ("faces", "boredom"), ("plants", "shake"), ("puppets", "moonwalk")],
)
def test_bad_arguments_are_explained(world: str, action: str) -> None:
    refuses(f"no action '{action}'", sample_clip, world, 0, 0, action=action)
    for size in (0, 15, 5000):
        refuses("size", sample_clip, world, 0, 0, size=size)
    refuses("at least 1 frame", sample_clip, world, 0, 0, frames=0)
    refuses("0 or more", sample_clip, world, -1, 0, 64, 4)
    if world != "digits":
        refuses("reads no file", sample_clip, world, 0, 0, 32, 2, source="digits.gz")


def test_an_unknown_world_is_explained() -> None:
    refuses("atlantis", sample_clip, "atlantis", 0, 0, 64, 4)


def test_naming_all_actions_is_like_naming_none_and_naming_some_draws_from_these() -> None:
    free, named = (sample_clip("puppets", 2, 4, 16, 2, actions) for actions in (None, tuple(puppets.ACTIONS)))
    assert free.frames.tobytes() == named.frames.tobytes()
    drawn = {sample_clip("puppets", 2, index, 16, 1, ("jog", "throw")).meta["action"] for index in range(12)}
    assert drawn == {"jog", "throw"}


def test_a_data_set_of_some_actions(tmp_path: Path) -> None:
    made = [
        write_world("puppets", tmp_path / str(jobs), clips=2, size=16, frames=2, actions=("walk", "run"), jobs=jobs)
        for jobs in (1, 2)
    ]
    assert made[0] == made[1]
    assert made[0].settings["actions"] == ["walk", "run"]
    assert {clip.meta["action"] for clip in open_dataset(tmp_path / "1")} <= {"walk", "run"}
    refuses("moonwalk", write_world, "puppets", tmp_path / "no", clips=1, actions=("walk", "moonwalk"))
    refuses("leave the action out", write_world, "digits", tmp_path / "no", clips=1, actions=("walk",))


def test_naming_the_worlds_imports_nothing_heavy() -> None:
    code = (
        "import sys, stillmotion.worlds as w; assert 'puppets' in w.WORLDS; "
        "print('cv2' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


SEED = st.integers(0, 2**31)
some = settings(max_examples=5, deadline=None)


@pytest.mark.parametrize("world", sorted(WORLDS))
@some
@given(seed=SEED, size=st.integers(16, 40))
def test_the_same_seed_gives_the_same_finite_clip(world: str, seed: int, size: int) -> None:
    clip, again = (sample_clip(world, seed, seed % 7, size, 3) for _ in range(2))
    assert clip.frames.shape == (3, size, size, 3)
    assert clip.frames.tobytes() == again.frames.tobytes()
    assert clip.frames.std() > 1
    assert list(clip.tracks) == list(again.tracks)
    for name, track in clip.tracks.items():
        assert track.tobytes() == again.tracks[name].tobytes()
        assert len(track) == (2 if name.startswith("flow_") else 3)
        if name != "box":  # NaN where nothing of the person is seen
            assert np.isfinite(np.asarray(track, float)).all()
    assert clip.meta == again.meta


@pytest.mark.parametrize("world", ["arm", "digits", "plants", "puppets"])
@some
@given(seed=SEED)
def test_forward_and_backward_flow_cancel(world: str, seed: int) -> None:
    """At nearly every pixel: except those hidden in the other frame or at the border of two parts."""
    tracks = sample_clip(world, seed, 0, 48, 3).tracks
    y, x = np.mgrid[:48, :48].astype(np.float32)
    for t in range(2):
        forward, backward = (np.asarray(tracks[name][t], np.float32) for name in ("flow_forward", "flow_backward"))
        back = warp(backward, forward, cv2.INTER_NEAREST)
        at = np.stack([x, y], -1) + forward
        kernel = np.ones((3, 3))
        edges = np.max([cv2.dilate(b, kernel) - cv2.erode(b, kernel) for b in np.moveaxis(backward, -1, 0)], 0)
        meets = warp(edges, forward, cv2.INTER_NEAREST) > 0.3
        alike = np.abs(forward + back).max(-1) < 0.35
        inside = ((at >= 0) & (at <= 47)).all(-1)
        assert (alike | meets)[inside].mean() > 0.9


@some
@given(seed=SEED)
def test_normal_maps_are_unit_vectors_or_zero(seed: int) -> None:
    maps = np.asarray(sample_clip("faces", seed, 1, 40, 2).tracks["normals"], float)
    length = np.linalg.norm(maps, axis=-1)
    assert ((length == 0) | (np.abs(length - 1) < 2e-3)).all()
    assert (length > 0).mean() > 0.05


@some
@given(seed=SEED, push=st.floats(0.1, 6.0))
def test_the_energy_of_a_free_plant_never_grows(seed: int, push: float) -> None:
    plant, rng = sample_description(np.random.default_rng(seed)), np.random.default_rng(seed + 1)
    dyn, count = build_dynamics(plant.tree, plant.springs), len(plant.tree)
    free = simulate(dyn, 15, 60.0, start=(rng.normal(0, 0.3, count), rng.normal(0, push, count)))
    energies = energy(dyn, free)
    assert energies[0] > 0
    assert (np.diff(energies) <= 1e-12 * energies[0]).all()


@some
@given(seed=SEED)
def test_a_plants_motion_does_not_depend_on_the_frame_rate(seed: int) -> None:
    plant = sample_description(np.random.default_rng(seed))
    slow, fast = simulate_poke(plant, 9, 25.0).deflections, simulate_poke(plant, 17, 50.0).deflections[::2]
    assert np.abs(slow - fast).max() < 1e-9  # the same steps, other frames


@some
@given(seed=SEED)
def test_visible_joints_are_on_the_person(seed: int) -> None:
    tracks = sample_clip("puppets", seed, 2, 96, 2).tracks
    joints, near = tracks["joints"], cv2.dilate(np.moveaxis(tracks["mask"], 0, -1), np.ones((3, 3)))
    for t in range(2):
        seen = joints[t, joints[t, :, 2] > 0, :2]
        x, y = np.clip(np.rint(seen), 0, 95).astype(int).T
        assert (near[y, x, t] > 0).mean() > 0.9 or len(seen) < 4  # single ones are at a wrist's edge


@some
@given(seed=SEED)
def test_flow_of_a_rotating_part_by_hand(seed: int) -> None:
    """A part rotates by 90 degrees about (3, 2) and moves by (1, 5): x' = 3 - (y - 2) + 1, y' = 2 + (x - 3) + 5."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (2, 6, 7)).astype(np.uint8)
    start = np.array([[2.0, 0.3, 1.0], [-0.4, 1.5, 2.0]])  # any map of the part's own coordinates to pixels
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    end = np.concatenate([turn @ start[:, :2], (turn @ (start[:, 2] - [3, 2]) + [4, 7])[:, None]], 1)
    still = np.eye(2, 3)
    maps = np.stack([np.stack([still, start]), np.stack([np.array([[1, 0, 0.5], [0, 1, 0]]), end])])
    y, x = np.mgrid[:6, :7]
    expected = np.stack([3 - (y - 2) + 1 - x, 2 + (x - 3) + 5 - y], -1).astype(float)
    expected[labels[0] == 0] = (0.5, 0)
    assert np.allclose(flow_between(labels, maps, 0, 1), expected, atol=1e-5)
    assert np.allclose(flow_tracks(labels, maps)["flow_forward"][0], expected, atol=0.01)
    assert np.allclose(flow_between(labels, maps, 0, 0), 0, atol=1e-6)


@pytest.mark.parametrize("world", sorted(WORLDS))
@some
@given(size=st.integers(-5, 15) | st.integers(1025, 10**9), frames=st.integers(-5, 0))
def test_bad_arguments_raise_one_sentence(world: str, size: int, frames: int) -> None:
    for arguments in ({"size": size}, {"frames": frames}, {"action": "no such thing"}):
        with pytest.raises(StillmotionError, match=r"^[A-Z].*\.$"):
            sample_clip(world, 0, 0, **{"size": 32, "frames": 1, **arguments})
