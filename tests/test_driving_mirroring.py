"""`flip_test`: a frame is the mean of what is made of the picture and of its mirror image, whatever the control."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from stillmotion.controls import Drive, Predict

from driving_tools import moving_square, tiny_driving
from stillmotion.systems.driving import mirroring
from stillmotion.systems.driving.animating import Driving
from stillmotion.systems.driving.networks import Keypoints

pytestmark = pytest.mark.filterwarnings("ignore:The body in the still")

VIDEO = moving_square("drive", frames=5).frames
SMALL = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
LARGE = np.random.default_rng(2).integers(0, 256, (100, 100, 3), dtype=np.uint8)


def pair(**changes: Any) -> tuple[Driving, Driving]:
    """The same networks without and with the flip test."""
    usual = tiny_driving(composite=True, fine_flow=True, retouch=True, **changes)
    config = replace(usual.config, flip_test=True)
    twice = Driving.build(config)
    twice.networks.load_state_dict(usual.networks.state_dict())
    twice.networks.eval()
    return usual, twice


def turned(frames: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(frames[..., ::-1, :])


@pytest.mark.parametrize("options", [{}, {"transfer": "absolute"}, {"scale_motion": False, "adapt_covariance": True}])
@pytest.mark.parametrize(("still", "size"), [(SMALL, "model"), (LARGE, "native")])
def test_it_is_the_mean_of_two_animations(still: np.ndarray, size: str, options: dict[str, Any]) -> None:
    usual, twice = pair()
    own = usual.animate(still, Drive(VIDEO, **options), size=size).frames().astype(float)
    other = usual.animate(turned(still), Drive(turned(VIDEO), **options), size=size).frames()
    found = twice.animate(still, Drive(VIDEO, **options), size=size).frames()
    assert np.abs(found - (own + turned(other)) / 2).max() <= 1
    assert np.abs(own - turned(other)).max() > 3  # else the mean would be no test


def test_facts_and_layers_are_those_of_the_picture_itself() -> None:
    usual, twice = pair()
    for one, other in zip(
        usual.animate(SMALL, Drive(VIDEO), layers=True, size="model"),
        twice.animate(SMALL, Drive(VIDEO), layers=True, size="model"),
        strict=True,
    ):
        assert one.layers.keys() == other.layers.keys()
        for name in ("mean", "covariance", "displacement"):
            np.testing.assert_allclose(one.facts[name], other.facts[name], atol=1e-4)
        for name, picture in one.layers.items():
            assert np.abs(picture.astype(int) - other.layers[name]).max() <= 1, name


def test_a_predictor_continues_both() -> None:
    usual, twice = pair(predict_steps=1, predict_hidden=8)
    own = usual.animate(SMALL, Predict(6), size="model").frames().astype(float)
    other = usual.animate(turned(SMALL), Predict(6), size="model").frames()
    found = twice.animate(SMALL, Predict(6), size="model").frames()
    assert len(found) == 6
    assert np.abs(found - (own + turned(other)) / 2).max() <= 1


def test_a_region_chooses_in_both_and_the_background_stays() -> None:
    usual, twice = pair()
    points = next(iter(usual.animate(SMALL, Drive(VIDEO, transfer="relative")))).facts["mean"]
    x, y = ((points[0] + 1) / 2 * 63).round().astype(int)
    region = (max(int(x) - 6, 0), max(int(y) - 6, 0), 12, 12)
    frames = twice.animate(SMALL, Drive(VIDEO, region=region, keep_background=True)).frames()
    assert frames.shape == (5, 64, 64, 3)


def test_mirroring_by_hand() -> None:
    keypoints = Keypoints(torch.tensor([[[0.5, -0.2]]]), torch.tensor([[[[0.04, 0.01], [0.01, 0.02]]]]))
    there = mirroring.mirrored(keypoints)
    assert there.mean.flatten().tolist() == pytest.approx([-0.5, -0.2])
    assert there.covariance.flatten().tolist() == pytest.approx([0.04, -0.01, -0.01, 0.02])
    both = mirroring.joined(keypoints, there)
    assert both.mean.shape == (1, 2, 2)
    for half, wanted in zip(mirroring.halves(both, 1), (keypoints, there), strict=True):
        assert torch.equal(half.mean, wanted.mean)
        assert torch.equal(half.covariance, wanted.covariance)
    assert mirroring.mean_picture([np.full((1, 1, 3), 10, np.uint8), np.full((1, 1, 3), 255, np.uint8)]).max() == 132
