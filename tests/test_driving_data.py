"""facts/monkey-net.md section 12, item 16, and joints: each in its place, whatever the augmentation."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from driving_tools import moving_square, tiny, training_of
from refusals import refuses
from stillmotion.data.augment import AugmentParams
from stillmotion.data.clip import Clip
from stillmotion.data.track_augment import mirrored_name
from stillmotion.geometry import to_pixels
from stillmotion.keypoints import data as shared
from stillmotion.keypoints.data import JOINTS, joint_places, joint_targets
from stillmotion.keypoints.networks import Keypoints
from stillmotion.systems.driving import data
from stillmotion.systems.driving.data import KeypointWindows
from stillmotion.worlds import sample_clip

SIZE = (64, 64)
PLAIN = AugmentParams(SIZE, SIZE)


def puppet(action: str = "wave2") -> Clip:
    return sample_clip("puppets", 0, 1, size=64, frames=4, action=action)


def targets(
    clip: Clip, frames: list[int], keypoints: int = 12, params: AugmentParams = PLAIN
) -> dict[str, torch.Tensor]:
    return joint_targets(clip, np.array(frames), params, keypoints)


def test_training_pairs_are_sorted_and_drawn_with_replacement() -> None:
    """Frame t of the clip has the value t, so that samples tell which frames they hold."""
    values = np.broadcast_to(np.arange(4, dtype=np.uint8)[:, None, None, None], (4, 64, 64, 3))
    dataset = training_of([Clip("counting", values, 25.0)]).dataset
    pairs = [tuple(round(dataset[n][key].mean().item() * 255) for key in ("source", "driving")) for n in range(600)]
    assert all(source <= driving for source, driving in pairs)
    # 4 of the 16 draws take the same frame twice; three standard deviations are 0.053.
    assert np.mean([source == driving for source, driving in pairs]) == pytest.approx(0.25, abs=0.053)
    assert len(set(pairs)) == 10


def test_a_handful_of_clips_does_not_drop_the_only_batch() -> None:
    clips = [moving_square(f"clip-{i}", seed=i) for i in range(5)]
    assert len(shared.pairs(clips, 0, "none", batch=2)) == 4  # release: the partial batch is dropped
    assert len(shared.pairs(clips, 0, "none", batch=8)) == 5
    refuses("no augmentation 'odd'; known are none, taichi", shared.pairs, clips, 0, "odd", batch=2)


# --- joints --------------------------------------------------------------------------------------------------------
def test_joint_places_are_the_named_joints_and_the_neck_is_between_the_shoulders() -> None:
    clip = puppet()
    joints = dict(zip(clip.meta["joints"], clip.tracks["joints"][2], strict=True))
    places = dict(zip(JOINTS, joint_places(clip.tracks["joints"][2], clip.meta["joints"]), strict=True))
    assert np.array_equal(places["left_wrist"], joints["left_wrist"])
    assert np.allclose(places["neck"], (joints["left_shoulder"] + joints["right_shoulder"]) / 2)


def test_in_the_mirror_left_becomes_right() -> None:
    """A mirrored figure's left wrist is where its right wrist was, mirrored: sides stay those of the figure seen."""
    plain, mirror = (targets(puppet(), [1], params=replace(PLAIN, mirror=m))["points"][0] for m in (False, True))
    for k, name in enumerate(JOINTS):
        expected = plain[JOINTS.index(mirrored_name(name))] * torch.tensor([-1.0, 1.0])
        assert torch.allclose(mirror[k], expected, atol=1e-5)


def test_points_lie_on_the_figure() -> None:
    clip = puppet()
    place = to_pixels(targets(clip, [0], 4)["points"][0], SIZE).round().long().clamp(0, 63)
    assert all(any(mask[y, x] > 0 for mask in np.asarray(clip.tracks["mask"])) for x, y in place.tolist())


def test_points_outside_the_picture_are_put_on_its_border() -> None:
    clip = puppet()
    low = replace(clip, tracks={"joints": clip.tracks["joints"] + [0, 500, 0]})
    assert torch.equal(targets(low, [0], 3)["points"][0, :, 1], torch.ones(3))


def test_a_hidden_joint_counts_a_fifth() -> None:
    clip = puppet()
    joints = np.array(clip.tracks["joints"])
    joints[..., 2] = 1.0
    joints[:, clip.meta["joints"].index("left_wrist"), 2] = 0.0
    assert JOINTS[0] == "left_wrist"
    weights = targets(replace(clip, tracks={"joints": joints}), [0], 3)["weights"]
    assert torch.allclose(weights[0], torch.tensor([0.2, 1.0, 1.0]))


def test_a_pair_played_backwards_has_its_joints_backwards() -> None:
    plain, back = (targets(puppet(), [0, 3], params=replace(PLAIN, reverse=r)) for r in (False, True))
    assert not torch.allclose(plain["points"][0], plain["points"][1])
    assert torch.allclose(back["points"], plain["points"].flip(0))
    assert torch.allclose(back["weights"], plain["weights"].flip(0))


def test_clips_without_joints_are_left_out_and_none_at_all_is_said() -> None:
    square = moving_square("square")
    assert len(shared.frames_with_joints([square, puppet()], 3, 0, "none").clips) == 1
    refuses("joints", shared.frames_with_joints, [square], 3, 0, "none")
    refuses("12", shared.frames_with_joints, [puppet()], 13, 0, "none")
    assert not targets(square, [0, 1], 3)["weights"].any()  # beside clips that know theirs
    assert targets(square, [0, 1], 3)["points"].shape == (2, 3, 2)


# --- windows of keypoints ------------------------------------------------------------------------------------------
def test_windows_are_consecutive_frames_of_one_clip() -> None:
    """Keypoints that carry their clip and time as numbers."""

    def clip(number: int, length: int) -> tuple[str, Keypoints]:
        time = torch.arange(length).float()
        mean = torch.stack([torch.full_like(time, number), time], -1)[:, None]
        return str(number), Keypoints(mean, mean[..., None].expand(-1, -1, -1, 2))

    windows = KeypointWindows([clip(0, 6), clip(1, 9)], 4, seed=0)
    starts: dict[str, set[int]] = {"0": set(), "1": set()}
    for index in range(200):
        item = windows[index]
        start = int(item["mean"][0, 0, 1])
        starts[item["name"]].add(start)
        assert item["mean"][:, 0].tolist() == [[int(item["name"]), start + t] for t in range(4)]
        assert torch.equal(item["covariance"][:, 0, 1, 0], item["mean"][:, 0, 1])
    assert starts == {"0": set(range(3)), "1": set(range(6))}
    assert all(torch.equal(windows[3][key], windows[3][key]) for key in ("mean", "covariance"))


def test_shorter_clips_shorten_the_windows_and_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    clips = [moving_square("long", frames=9)]
    assert data.window_length(clips, 5) == 5
    assert capsys.readouterr().err == ""
    assert data.window_length([*clips, moving_square("short", frames=4)], 5) == 4
    assert "windows of 4 frames, not 5: short" in capsys.readouterr().err
    refuses("short has one frame", data.window_length, [*clips, moving_square("short", frames=1)], 5)


def test_keypoints_are_those_found_when_animating_whatever_the_mode() -> None:
    """Batch norm's running statistics, no gradient; the detector is left in the mode it was in, and as it was."""
    clip, detector = moving_square("long", frames=70), tiny()[1].detector.train()
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    found = shared.detect(detector, clip.frames)
    assert detector.training
    assert not found.mean.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())
    frame = torch.from_numpy(clip.frames[69:].copy()).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        alone = detector.eval()(frame)
    assert len(found.mean) == 70
    assert torch.allclose(found.mean[69], alone.mean[0], atol=1e-5)
    assert torch.allclose(found.covariance[69], alone.covariance[0], atol=1e-5)
