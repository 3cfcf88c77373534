"""The guided first stage: the right joints in the right place, whatever the augmentation does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stillmotion.systems.driving.guiding import (
    JOINTS,
    GuideDataset,
    GuideStage,
    distance,
    joint_aims,
    joint_points,
    mirrored,
    too_sharp,
)

from driving_tools import moving_square, tiny
from stillmotion.data.augment import Augmentation, AugmentParams
from stillmotion.data.clip import Clip
from stillmotion.errors import StillmotionError
from stillmotion.geometry import to_pixels
from stillmotion.systems.driving.networks import Keypoints
from stillmotion.systems.driving.training import MotionStage
from stillmotion.worlds import sample_clip


def puppet(name_of: str = "wave2") -> Clip:
    return sample_clip("puppets", 0, 1, size=64, frames=4, action=name_of)


def test_joint_points_are_the_named_joints_and_the_neck_is_between_the_shoulders():
    clip = puppet()
    joints = dict(zip(clip.meta["joints"], clip.tracks["joints"][2], strict=True))
    points = dict(zip(JOINTS, joint_points(clip, 2), strict=True))
    assert np.array_equal(points["left_wrist"], joints["left_wrist"])
    assert np.allclose(points["neck"], (joints["left_shoulder"] + joints["right_shoulder"]) / 2)


def test_in_the_mirror_left_becomes_right():
    """A mirrored figure's left wrist is where its right wrist was, mirrored: sides stay those of the figure seen."""
    clip = puppet()
    plain = GuideDataset([clip], 12, seed=0, augmentation=Augmentation())
    mirror = GuideDataset([clip], 12, seed=0, augmentation=Augmentation(horizontal_flip=1.0, exclusive_flips=False))
    for index in range(4):
        here, there = plain[index], mirror[index]
        if not torch.equal(here["frame"], there["frame"].flip(-1)):
            continue  # the augmentation drew another frame
        for k, name in enumerate(JOINTS):
            expected = here["points"][JOINTS.index(mirrored(name))] * torch.tensor([-1.0, 1.0])
            assert torch.allclose(there["points"][k], expected, atol=1e-5)
        return
    pytest.fail("no index drew the same frame twice")


def test_points_lie_on_the_figure():
    clip = puppet()
    sample = GuideDataset([clip], 4, seed=0, augmentation=Augmentation())[0]
    masks = np.asarray(clip.tracks["mask"])
    place = to_pixels(sample["points"], (64, 64)).round().long().clamp(0, 63)
    on = [any(mask[y, x] > 0 for mask in masks) for x, y in place.tolist()]
    assert all(on)


def test_points_outside_the_picture_are_aimed_at_its_rim():
    clip = puppet()
    low = Clip(clip.name, clip.frames, clip.fps, {"joints": clip.tracks["joints"] + [0, 500, 0]}, clip.meta)
    assert torch.equal(GuideDataset([low], 3, 0, Augmentation())[0]["points"][:, 1], torch.ones(3))


def test_only_maps_that_are_too_sharp_are_pushed():
    def variance(v: float) -> Keypoints:
        return Keypoints(torch.zeros(1, 1, 2), (v * torch.eye(2))[None, None])

    assert too_sharp(variance(0.005)).item() == 0
    assert too_sharp(variance(1.0)).item() == 0
    assert too_sharp(variance(0.002)).item() == pytest.approx(0.003)


def test_clips_without_joints_are_left_out_and_none_at_all_is_said():
    square = moving_square("square")
    assert len(GuideDataset([square, puppet()], 3, 0, Augmentation()).clips) == 1
    with pytest.raises(StillmotionError, match="joints"):
        GuideDataset([square], 3, 0, Augmentation())
    with pytest.raises(StillmotionError, match="12"):
        GuideDataset([puppet()], 13, 0, Augmentation())


def test_a_hidden_joint_counts_a_fifth():
    clip = puppet()
    joints = np.array(clip.tracks["joints"])
    joints[..., 2] = 1.0
    joints[:, clip.meta["joints"].index("left_wrist"), 2] = 0.0
    unsure = Clip(clip.name, clip.frames, clip.fps, {"joints": joints}, clip.meta)
    weights = GuideDataset([unsure], 3, 0, Augmentation())[0]["weights"]
    assert JOINTS[0] == "left_wrist"
    assert torch.allclose(weights, torch.tensor([0.2, 1.0, 1.0]))

    _, networks = tiny(guide_steps=5, keypoints=2)
    stage = GuideStage(networks, networks.detector.config, [unsure])
    frame = torch.rand(1, 3, networks.detector.config.size, networks.detector.config.size)
    found = networks.detector(frame).mean.detach()
    batch = {"frame": frame, "points": found + torch.tensor([[0.6, 0.6], [0.0, 0.0]])}

    def distance(weights: list[float]) -> float:
        return float(
            stage.step({**batch, "weights": torch.tensor([weights])}, lambda name, loss, clip_grad=None: None)[
                "distance"
            ]
        )

    assert distance([1.0, 1.0]) == pytest.approx(0.3, abs=1e-4)
    assert distance([0.2, 1.0]) == pytest.approx(0.6 * 0.2 / 1.2, abs=1e-4)


def test_a_step_moves_the_detector_only():
    config, networks = tiny(guide_steps=5)
    stage = GuideStage(networks, config, [puppet()])
    before = [p.clone() for p in networks.parameters()]

    def update(name: str, loss: torch.Tensor, clip_grad: float | None = None) -> None:
        loss.backward()
        stage.optimizers[name].step()

    samples = [stage.dataset[i] for i in range(2)]
    stage.step({key: torch.stack([s[key] for s in samples]) for key in ("frame", "points", "weights")}, update)
    changed = {n for (n, p), b in zip(networks.named_parameters(), before, strict=True) if not torch.equal(p, b)}
    assert changed
    assert all(name.startswith("detector.") for name in changed)


def test_a_pair_played_backwards_aims_at_its_joints_backwards():
    clip = puppet()
    chosen = np.array([0, 3])
    plain, back = (
        joint_aims(clip, chosen, AugmentParams((64, 64), (64, 64), reverse=way), 12) for way in (False, True)
    )
    assert not torch.allclose(plain["points"][0], plain["points"][1])
    assert torch.allclose(back["points"], plain["points"].flip(0))
    assert torch.allclose(back["weights"], plain["weights"].flip(0))


def test_distance_is_a_weighted_mean_and_nothing_where_no_joint_is_known():
    found = torch.tensor([[[0.0, 0.0], [0.4, 0.2]]])
    aims = torch.tensor([[[0.1, 0.3], [0.0, 0.0]]])  # away by 0.2 and by 0.3, in the mean of both axes
    assert distance(found, aims, torch.tensor([[1.0, 0.5]])).item() == pytest.approx((0.2 + 0.5 * 0.3) / 1.5)
    assert distance(found, aims, torch.zeros(1, 2)).item() == 0.0


def test_motion_may_be_learned_with_joints_as_a_guide_and_clips_without_them_have_no_say():
    config, model = tiny(guide_weight=2.0)
    seen: dict[str, float] = {}
    for name, clips in (("joints", [puppet(), puppet("jack")]), ("none", [moving_square("a"), moving_square("b")])):
        stage = MotionStage(model, config, clips)
        samples = [stage.dataset[i] for i in range(stage.batch)]
        batch = {key: torch.stack([sample[key] for sample in samples]) for key in samples[0] if key != "name"}
        with torch.no_grad():
            model.detector.train()
            found = [model.detector(torch.cat([batch["source"], batch["driving"]])).mean[k::2] for k in (0, 1)]
        seen[name] = stage.step(batch, lambda *_, **__: None)["guide"].item()
        if name == "joints":  # rows 0 and 1 are the sources of both pairs, 2 and 3 their driving frames
            away = (torch.stack(found) - batch["points"]).abs().mean(3)
            expected = (away * batch["weights"]).sum() / batch["weights"].sum()
            assert seen[name] == pytest.approx(2 * expected.item(), rel=1e-4)
    assert seen["none"] == 0.0
