"""Test-time augmentation: a frame is the mean of two animations, of the picture and of its mirror image."""

from typing import Any

import numpy as np
import pytest

from driving_tools import DRIVER, STILL, VIDEO, at, driving_frames, own_means, seeing, spot, tiny_driving
from refusals import refuses
from stillmotion.systems.driving import Drive, Predict
from stillmotion.systems.driving.animating import Driving

# Untrained networks find bodies of any size.
pytestmark = pytest.mark.filterwarnings("ignore:The body in the still")

LARGE = np.random.default_rng(2).integers(0, 256, (100, 100, 3), dtype=np.uint8)


def pair(make: Any = tiny_driving, **changes: Any) -> tuple[Driving, Driving]:
    """The same networks without and with test-time augmentation."""
    usual, both = make(**changes), make(flip_tta=True, **changes)
    both.networks.load_state_dict(usual.networks.state_dict())
    return usual, both


def turned(frames: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(frames[..., ::-1, :])


def assert_mean(found: np.ndarray, own: np.ndarray, other: np.ndarray) -> None:
    assert np.abs(found - (own.astype(float) + turned(other)) / 2).max() <= 1
    assert np.abs(own.astype(int) - turned(other)).max() > 3  # else the mean would be no test


@pytest.mark.parametrize(
    "options",
    [{}, {"transfer": "absolute"}, {"adapt_covariance": True}, {"keep_background": True}, {"crop": (3, 10, 60, 50)}],
    ids=str,
)
@pytest.mark.parametrize(("still", "size"), [(STILL, "model"), (LARGE, "native")])
def test_it_is_the_mean_of_two_animations(still: np.ndarray, size: str, options: dict[str, Any]) -> None:
    usual, both = pair()
    there = dict(options)
    if "crop" in options:
        x, y, w, h = options["crop"]
        there["crop"] = (still.shape[1] - x - w, y, w, h)
    own = usual.animate(still, Drive(VIDEO, **options), size=size).frames()
    other = usual.animate(turned(still), Drive(turned(VIDEO), **there), size=size).frames()
    assert_mean(both.animate(still, Drive(VIDEO, **options), size=size).frames(), own, other)


def test_a_region_moves_what_lies_in_it_in_both() -> None:
    usual, both = pair(seeing, **at("generator", blend_masks=True))
    driver = np.stack([spot((64, 64), x, 16, 24) for x in (8, 12)])
    still = driver[0].copy()
    still[:, 40:] = STILL[:, 40:] // 8  # too dark to be seen as a body
    region, there = (12, 20, 16, 16), (64 - 12 - 16, 20, 16, 16)  # the middle of the body
    own = usual.animate(still, Drive(driver, region=region)).frames()
    other = usual.animate(turned(still), Drive(turned(driver), region=there)).frames()
    found = both.animate(still, Drive(driver, region=region)).frames()
    assert_mean(found, own, other)
    assert np.array_equal(found[1, 58:], still[58:])


def test_a_region_without_keypoints_in_the_mirror_image_moves_the_nearest_one() -> None:
    """The same limb may be found just outside there."""
    usual, both = pair(seeing)
    still = spot((64, 64), 20, 16, 24)
    x, y = own_means(usual, still)[1] * 31.5 + 31.5  # right of the body's centre; in the mirror image, left of it
    region = (int(x) - 3, int(y) - 3, 7, 7)
    steps = list(both.animate(still, Drive(DRIVER, region=region)))
    assert steps[1].facts["mean"][1, 0] > steps[0].facts["mean"][1, 0] + 0.05
    refuses("No keypoint", list, both.animate(still, Drive(DRIVER, region=(0, 0, 3, 3))))


def test_an_automatic_crop_is_the_same_part_in_both() -> None:
    usual, both = pair(seeing)
    still = spot((120, 200), 110, 60, 18)
    steps = list(both.animate(still, Drive(DRIVER, crop="auto")))
    x, y, w, h = (int(value) for value in steps[0].facts["crop"])
    own = usual.animate(still, Drive(DRIVER, crop="auto")).frames()
    other = usual.animate(turned(still), Drive(turned(DRIVER), crop=(200 - x - w, y, w, h))).frames()
    assert own.shape[1:3] == (h, w)
    assert_mean(np.stack([step.frame for step in steps]), own, other)


def test_the_best_reference_frame_is_the_same_one_in_both() -> None:
    usual, both = pair()
    still, video = np.random.default_rng(3).integers(0, 256, (32, 32, 3), dtype=np.uint8), driving_frames(12)

    def reference(system: Driving, picture: np.ndarray, frames: np.ndarray) -> int:
        step = next(iter(system.animate(picture, Drive(frames, align="best"), size="model")))
        return int(step.facts["reference"])

    best = reference(usual, still, video)
    assert reference(usual, turned(still), turned(video)) != best  # by itself the mirror image would take another
    assert reference(both, still, video) == best
    own = usual.animate(still, Drive(video, align="best"), size="model").frames()
    other = usual.open(turned(still), Drive(turned(video[best][None])), size="model")  # motion counts from there
    next(other)
    other.send(Drive(turned(video)))
    found = both.animate(still, Drive(video, align="best"), size="model").frames()
    assert_mean(found, own, np.stack([next(other).frame for _ in video]))


def test_facts_and_layers_are_those_of_the_picture_itself() -> None:
    usual, both = pair()
    for one, other in zip(
        usual.animate(STILL, Drive(VIDEO), layers=True, size="model"),
        both.animate(STILL, Drive(VIDEO), layers=True, size="model"),
        strict=True,
    ):
        assert one.layers.keys() == other.layers.keys()
        for name in ("mean", "covariance", "displacement"):
            np.testing.assert_allclose(one.facts[name], other.facts[name], atol=1e-4)
        for name, picture in one.layers.items():
            assert np.abs(picture.astype(int) - other.layers[name]).max() <= 1, name


def test_a_predictor_continues_both() -> None:
    usual, both = pair(predictor={"hidden": 8})
    own = usual.animate(STILL, Predict(6), size="model").frames()
    other = usual.animate(turned(STILL), Predict(6), size="model").frames()
    found = both.animate(STILL, Predict(6), size="model").frames()
    assert len(found) == 6
    assert_mean(found, own, other)
