"""What every world promises: repeatable clips, documented tracks, and errors that say what to do."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from refusals import refuses
from stillmotion.data.clip import Clip
from stillmotion.data.shards import open_dataset
from stillmotion.worlds import WORLDS, faces, plants, puppets, sample_clip
from stillmotion.worlds.dataset import write_world

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
    if world == "arm":
        return {**common, "gripper": ((t, 2), f32), "poses": ((t, len(clip.meta["things"]), 3), f32)}
    if world == "digits":
        return common
    if world == "faces":
        coefficients = {"identity": ((t, len(faces.TRAITS)), f32), "expression": ((t, len(faces.ACTION_UNITS)), f32)}
        maps = {"normals": ((t, s, s, 3), f16), "landmarks": ((t, 68, 3), f32)}
        return {**coefficients, **maps, **box, **mask, "pose": ((t, 6), f32)}
    parts = {"parts": ((t, s, s), u8), "moves": ((t, clip.tracks["moves"].shape[1], 2, 3), f32)}
    if world == "plants":
        other = {"other_frames": ((t, s, s, 3), u8), "other_path": ((t, 2), f32)}
        return {**flow, **mask, **parts, **other, "path": ((t, 2), f32)}
    return {**common, **parts, "joints": ((t, 13, 3), f32)}


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
