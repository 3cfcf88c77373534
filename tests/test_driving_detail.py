"""What `small` adds at full size: the detector's detail, the corrected flow, the retouched blend; growing them."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stillmotion.controls import Drive
from stillmotion.systems.driving.composing import Still, compose, slice_generated

from driving_tools import TINY_32, keypoints, moving_square, tiny
from stillmotion.errors import StillmotionError
from stillmotion.systems.driving.animating import Driving
from stillmotion.systems.driving.networks import DrivingNetworks, Generated, Motion
from stillmotion.systems.driving.training import reconstruct

SMALL = replace(TINY_32, motion_scale=0.5, detector_blocks=2, motion_blocks=2, shrink="area")
ALL = {"detector_detail": True, "fine_flow": True, "retouch": True}
GROW = runpy.run_path(str(Path(__file__).parents[1] / "recipes" / "grow_driving.py"))["grow"]


def networks(**changes) -> DrivingNetworks:
    torch.manual_seed(0)
    return DrivingNetworks(replace(SMALL, **changes)).eval()


def test_the_detector_sees_more_than_the_mean_of_four_pixels_only_with_detail():
    stripes = torch.zeros(1, 3, 32, 32)
    stripes[..., ::2] = 1.0
    grey = torch.full_like(stripes, 0.5)  # the same means over 2 x 2 pixels
    for detail, same in ((False, True), (True, False)):
        found = networks(detector_detail=detail).detector
        assert torch.allclose(found(stripes).mean, found(grey).mean, atol=1e-6) == same


def test_the_flow_is_corrected_by_pixels_of_the_full_size():
    model = networks(fine_flow=True).generator
    assert model.fine_flow is not None
    still = torch.rand(1, 3, 32, 32)
    still[..., 0] = 0.0
    points = keypoints([[0.0, 0.0]] * 3)
    with torch.no_grad():
        model.fine_flow.bias[:] = torch.tensor([-1.0, 0.0])  # look one pixel to the left
        made = model(model.encode(still), points, points)
    assert made.motion.displacement.shape == (1, 32, 32, 2)
    assert torch.allclose(made.warped[..., 1:], still[..., :-1], atol=1e-4)


def test_retouching_adds_to_the_blend():
    model = networks(retouch=True).generator
    assert model.retouch is not None
    still, points = torch.rand(1, 3, 32, 32), keypoints([[0.0, 0.0]] * 3)
    with torch.no_grad():
        before = model(model.encode(still), points, points)
        model.retouch.bias[:] = torch.tensor([0.5, 0.0, -0.5])
        after = model(model.encode(still), points, points)
    added = torch.tensor([0.05, 0.0, -0.05]).view(1, 3, 1, 1)  # a tenth
    assert torch.allclose(after.frame, before.frame + added, atol=1e-6)


def test_larger_stills_are_retouched_only_where_they_move():
    config = replace(SMALL, retouch=True)
    driving = Driving(config, networks(retouch=True))
    for side, unmoved, expected in ((32, 1.0, 125), (64, 1.0, 100), (64, 0.0, 125)):
        still = Still.prepare(driving, np.full((side, side, 3), 100, np.uint8))
        keep = torch.tensor([1 - unmoved, unmoved]).view(1, 2, 1, 1).expand(1, 2, 32, 32)
        flat = torch.full((1, 3, 32, 32), 100 / 255)
        motion = Motion(torch.zeros(1, 16, 16, 2), None)
        made = Generated(flat, motion, flat, keep, flat, torch.full((1, 3, 32, 32), 25 / 255))
        assert np.abs(compose(still, slice_generated(made, 0)).astype(int) - expected).max() <= 1


def test_a_grown_model_makes_the_same_frames_and_all_it_got_learns():
    old, new = networks(), networks(**ALL)
    for parameter in old.parameters():
        torch.nn.init.normal_(parameter, 0, 0.1)
    GROW(old, new)
    source, driving = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    (was, _, found), (made, _, again) = reconstruct(old, source, driving), reconstruct(new, source, driving)
    assert torch.allclose(found.mean, again.mean, atol=1e-5)
    assert torch.allclose(was.frame, made.frame, atol=1e-4)
    (made.frame - driving).abs().mean().backward()
    for name in ("fine_flow", "retouch"):
        assert getattr(new.generator, name).weight.grad.abs().sum() > 0


@pytest.mark.parametrize("size", ["model", "native"])
def test_animations_with_everything_on_follow_and_keep_the_background(size):
    config, made = tiny(composite=True, motion_scale=0.5, detector_blocks=3, **ALL)
    video = moving_square("drive", frames=3).frames
    animation = Driving(config, made.eval()).animate(
        video[0], Drive(video, transfer="absolute", keep_background=True), size=size, layers=True
    )
    steps = list(animation)
    assert len(steps) == 3
    assert {"flow", "warped", "keypoints", "masks"} <= set(steps[0].layers)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"detector_detail": True, "motion_scale": 0.75}, "detector_detail"),
        ({"retouch": True, "composite": False}, "blend"),
    ],
    ids=["detail", "retouch"],
)
def test_settings_that_do_not_fit_are_refused(changes, says):
    with pytest.raises(StillmotionError, match=says):
        replace(SMALL, **{"size": 64, **changes})
