"""Transfer of keypoints, the best driving frame, and the crop that fits: by hand."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from driving_tools import keypoints
from refusals import refuses
from stillmotion import geometry, media
from stillmotion.errors import StillmotionWarning
from stillmotion.keypoints.networks import Keypoints
from stillmotion.rendering.canvas import Canvas
from stillmotion.systems.base import Output
from stillmotion.systems.driving import Drive
from stillmotion.systems.driving import transfer as transferring
from stillmotion.systems.driving.transfer import (
    BATCH,
    MOST_AHEAD,
    Driver,
    compare,
    detail,
    first_shown,
    large_parts,
    suggest_crop,
    transfer,
)

POSE = torch.tensor([[[-0.5, -0.5], [0.5, -0.4], [0.3, 0.6], [-0.2, 0.1]]])
SQUARE = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
VIDEO = np.zeros((2, 4, 4, 3), np.uint8)


# --- transfer ------------------------------------------------------------------------------------------------------
def test_transfer_options_by_hand() -> None:
    still = keypoints((0.8 * SQUARE).tolist(), variance=0.02)  # hull area 2.56
    first = keypoints((0.4 * SQUARE).tolist(), variance=0.01)  # hull area 0.64
    moved = Keypoints(first.mean + torch.tensor([0.2, 0.0]), 4 * first.covariance)

    plain = transfer(still, first, moved, Drive(VIDEO))
    assert torch.allclose(plain.mean, still.mean + torch.tensor([0.2, 0.0]))
    assert torch.equal(plain.covariance, moved.covariance)
    scaled = transfer(still, first, moved, Drive(VIDEO, scale_motion=True))
    assert torch.allclose(scaled.mean, still.mean + torch.tensor([0.4, 0.0]))
    clipped = transfer(still, first, moved, Drive(VIDEO, clip_mean=True))
    assert clipped.mean.max() <= 1
    assert torch.allclose(clipped.mean[..., 1], still.mean[..., 1])
    adapted = transfer(still, first, moved, Drive(VIDEO, adapt_covariance=True))
    assert torch.allclose(adapted.covariance, 4 * still.covariance, atol=1e-6)  # driver grew by 4: so does the still
    assert transfer(still, first, moved, Drive(VIDEO, transfer="absolute")) is moved
    flat = keypoints([[0.0, 0.0], [0.5, 0.0], [0.7, 0.0], [0.9, 0.0]])
    refuses("leave scale_motion out", transfer, still, flat, moved, Drive(VIDEO, scale_motion=True))


# --- the driving video ---------------------------------------------------------------------------------------------
def test_a_driver_gives_its_frames_in_batches_and_no_more_than_asked_for() -> None:
    """Frame t has the value t."""
    video = np.zeros((2 * BATCH + 3, 8, 8, 3), np.uint8)
    video += np.arange(len(video), dtype=np.uint8)[:, None, None, None]
    for frames, sizes in ((None, [BATCH, BATCH, 3]), (BATCH + 1, [BATCH, 1])):
        driver = Driver(Drive(video), Output(frames), 8, torch.device("cpu"))
        batches = list(driver.batches)
        assert [len(batch) for batch in batches] == sizes
        assert torch.allclose(torch.cat(batches)[:, 0, 0, 0] * 255, torch.arange(sum(sizes)).float())


# --- the best frame ------------------------------------------------------------------------------------------------
def driver(count: int = 12, seed: int = 0) -> Keypoints:
    """Random poses; frame 3 lies near the pose point by point, frame 7 is the pose itself, small and elsewhere."""
    mean = torch.rand(count, 4, 2, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    mean[3] = POSE[0] + torch.tensor([[0.1, 0.0], [-0.1, 0.0], [0.0, -0.1], [0.0, 0.1]])
    mean[7] = POSE[0] * 0.4 + torch.tensor([0.3, -0.2])
    return Keypoints(mean, torch.eye(2).expand(count, 4, 2, 2) * torch.arange(count)[:, None, None, None])


def batches(found: Keypoints, size: int) -> list[Keypoints]:
    return [Keypoints(m, c) for m, c in zip(found.mean.split(size), found.covariance.split(size), strict=True)]


def test_a_layout_has_neither_place_nor_size() -> None:
    line = torch.tensor([[[3.0, 5.0], [7.0, 5.0]]])
    assert torch.allclose(transferring.layout(line), torch.tensor([[[-1.0, 0], [1.0, 0]]]))
    assert transferring.layout(torch.ones(1, 4, 2)).abs().max() == 0  # all in one point: not a division by zero
    turned = POSE[..., [1, 0]]
    assert transferring.layout_distance(POSE, 3 * POSE - 0.7) < 1e-6
    assert transferring.layout_distance(POSE, turned) > 0.2


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 13))
def test_the_frame_in_the_stills_pose_is_chosen_however_it_is_moved_and_scaled(size: int) -> None:
    found, still = driver(), Keypoints(POSE, torch.eye(2).expand(1, 4, 2, 2))
    best = transferring.best_match(still, batches(found, size))
    assert best.index == 7
    assert best.distance < 1e-5
    assert torch.equal(best.keypoints.mean, found.mean[7:8])
    assert torch.equal(best.keypoints.covariance, found.covariance[7:8])


def test_of_equal_frames_the_first_is_chosen_and_no_batch_is_kept() -> None:
    still = keypoints(POSE[0].tolist())
    many = Keypoints(POSE.expand(50, 4, 2).clone(), still.covariance.expand(50, 4, 2, 2).clone())
    best = transferring.best_match(still, [many, many])
    assert best.index == 0
    assert best.keypoints.mean.untyped_storage().nbytes() == 4 * 2 * 4
    refuses("no frames", transferring.best_match, still, [])


# --- the crop ------------------------------------------------------------------------------------------------------
def test_the_crop_gives_the_body_the_drivers_size_and_place() -> None:
    """Networks of 11 pixels, 10 steps. The driver's body takes half of them, so 20 pixels are 5 of 11: 44 in all."""
    body = 10 * SQUARE + torch.tensor([49.5, 59.5])  # 20 pixels wide
    # Its centre is the networks' pixel 5, the middle: 22 pixels from each outer edge.
    assert suggest_crop(body, 0.5 * SQUARE, (100, 200), 11) == ((28, 38, 44, 44), True)
    # Two of the networks' pixels farther to the right, which are eight of the still's.
    assert suggest_crop(body, 0.5 * SQUARE + torch.tensor([0.4, 0.0]), (100, 200), 11) == ((20, 38, 44, 44), True)


def test_a_crop_that_reaches_out_is_moved_inside_and_says_so() -> None:
    body = 10 * SQUARE + torch.tensor([12.0, 95.0])
    assert suggest_crop(body, 0.5 * SQUARE, (100, 200), 11) == ((0, 56, 44, 44), False)
    assert suggest_crop(body, 0.5 * SQUARE, (35, 200), 11) == ((0, 0, 44, 35), False)
    assert suggest_crop(body, 0.05 * SQUARE, (100, 200), 11) == ((0, 0, 200, 100), False)


@settings(max_examples=40, deadline=None)
@given(st.floats(8, 40), st.floats(0.2, 0.9), st.floats(-0.3, 0.3), st.floats(-0.3, 0.3))
def test_after_the_crop_the_two_bodies_agree(half: float, driven: float, dx: float, dy: float) -> None:
    points = half * SQUARE + torch.tensor([300.0, 280.0])
    target = driven * SQUARE + torch.tensor([dx, dy])
    crop, whole = suggest_crop(points, target, (600, 640), 16)
    assert whole
    assert crop[2] == crop[3]
    canvas = Canvas.prepare(np.zeros((600, 640, 3), np.uint8), 16, crop, torch.device("cpu"))
    cropped = geometry.to_normalised(canvas.to_small(points), (16, 16))
    pixel = 2 / 15 / canvas.scale
    assert (cropped - target).abs().max() <= 1.05 * pixel  # rounding of the corner and of the side


def test_what_fits_and_what_does_not() -> None:
    points = 10 * SQUARE + torch.tensor([50.0, 50.0])
    fit = compare(0.4 * SQUARE, points, 0.5 * SQUARE + torch.tensor([0.6, 0.0]), (101, 101), 64)
    assert fit is not None
    assert fit.size_ratio == pytest.approx(0.8)
    assert fit.offset == pytest.approx(0.3)  # 0.6 of 2 units
    assert fit.good
    far = compare(0.4 * SQUARE, points, 0.5 * SQUARE + torch.tensor([0.8, 0.0]), (101, 101), 64)
    small = compare(0.3 * SQUARE, points, 0.5 * SQUARE, (101, 101), 64)
    large = compare(0.8 * SQUARE, points, 0.5 * SQUARE, (101, 101), 64)
    for bad in (far, small, large):
        assert bad is not None
        assert not bad.good
        assert f"--crop {','.join(map(str, bad.crop))} " in bad.advice()
    assert compare(0 * SQUARE, points, 0.5 * SQUARE, (101, 101), 64) is None
    assert compare(0.4 * SQUARE, points, 0 * SQUARE, (101, 101), 64) is None
    hopeless = compare(0.8 * SQUARE, 40 * SQUARE + 50.0, 0.3 * SQUARE, (101, 101), 64)
    assert hopeless is not None
    assert "--crop" not in hopeless.advice()  # the whole still is no advice
    assert "no part of the still" in hopeless.advice()


# --- how a driver begins -------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def shown() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (40, 8, 8, 3), np.uint8)


def opened(video: Any, frames: int | None = None, **options: Any) -> Driver:
    driver = Driver(Drive(video, **options), Output(frames), 8, torch.device("cpu"))
    driver.pass_over(lambda batch: detail(batch)[:, None], torch.tensor([0.2]))
    return driver


def left(driver: Driver) -> np.ndarray:
    return media.to_pictures(torch.cat(list(driver.batches)))


BLACK = np.zeros((3, 8, 8, 3), np.uint8)


@pytest.mark.parametrize("kind", ["black", "grey", "blurred", "dim"])
@pytest.mark.parametrize("frames", [None, 2, 3, 20])
def test_first_frames_that_show_nothing_are_passed_over_with_a_sentence(
    shown: np.ndarray, kind: str, frames: int | None
) -> None:
    begin = {"black": BLACK, "grey": BLACK + 90, "dim": shown[:3] // 3}
    begin["blurred"] = media.resize(media.resize(shown[:3], (3, 3)), (8, 8))
    video = np.concatenate([begin[kind], shown])
    with pytest.warns(StillmotionWarning, match="first 3 frames of the driver show nothing to follow and are passed"):
        driver = opened(video, frames)
    assert driver.passed == 3
    assert driver.length == (frames or len(shown))
    assert np.array_equal(left(driver), shown[:frames])


def test_one_frame_is_told_in_the_singular(shown: np.ndarray) -> None:
    with pytest.warns(StillmotionWarning, match="first frame of the driver shows nothing to follow and is passed"):
        assert np.array_equal(left(opened(np.concatenate([BLACK[:1], shown]))), shown)


def test_more_than_a_batch_may_be_passed_over(shown: np.ndarray) -> None:
    with pytest.warns(StillmotionWarning, match="first 50 frames"):
        assert np.array_equal(left(opened(np.concatenate([np.repeat(BLACK[:1], 50, 0), shown]))), shown)


def test_no_frame_is_passed_over_without_need(shown: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for whole in (shown, np.concatenate([shown, BLACK]), BLACK, np.zeros((MOST_AHEAD + 30, 8, 8, 3), np.uint8)):
            driver = opened(whole)
            assert np.array_equal(left(driver), whole)
            assert driver.passed == 0


def test_every_respect_counts() -> None:
    scores = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.4, 0.2], [0.5, 0.4], [1.0, 1.0]])
    assert first_shown(scores) == 3
    assert first_shown(scores[:2]) == 0  # none of these shows enough in both


def test_damage_after_empty_frames_is_told_where_it_is(shown: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        fps, length, sound = 25.0, 9, None

        def __iter__(self) -> Iterator[np.ndarray]:
            yield from np.concatenate([BLACK, shown[:2]])
            raise media.MediaError("The video is damaged after frame 5.")

    monkeypatch.setattr(media, "open_driver", lambda *_: Broken())
    for frames in (5, None):
        with pytest.warns(StillmotionWarning, match="first 3 frames"):
            driver = opened("broken.mp4", frames)
        with pytest.raises(media.MediaError, match="after frame 5"):
            next(driver.batches)
    with pytest.warns(StillmotionWarning, match="first 3 frames"):
        assert np.array_equal(left(opened("broken.mp4", frames=2)), shown[:2])


def test_the_second_look_at_a_driver_passes_over_the_same_frames(shown: np.ndarray) -> None:
    driver = Driver(Drive(np.concatenate([BLACK, shown])), Output(), 8, torch.device("cpu"), passed=3)
    assert driver.length == len(shown)
    assert np.array_equal(left(driver), shown)


def test_the_rate_of_a_folder_of_frames_can_be_said(tmp_path: Path, shown: np.ndarray) -> None:
    media.write_video(tmp_path / "a", shown, 25)
    driver = opened(tmp_path / "a", fps=50, start=0.2)
    assert (driver.fps, driver.length) == (50, 30)
    assert np.array_equal(left(driver), shown[10:])
    driver.close()


# --- what a still shows --------------------------------------------------------------------------------------------
def test_large_parts_of_a_figure_are_counted() -> None:
    mask = torch.zeros(32, 32, dtype=torch.bool)
    assert large_parts(mask) == 0
    mask[2:20, 2:8] = mask[18:20, 2:20] = True
    mask[25:27, 25:27] = True  # a speck
    assert large_parts(mask) == 1
    mask[2:16, 24:30] = True
    assert large_parts(mask) == 2
