"""Joints of people, and the object in a still."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from refusals import refuses
from stillmotion.data import pose
from stillmotion.data.object_detection import Box, ObjectDetector, connected_components, find_object
from stillmotion.geometry import reachable

LEFT = [i for i, name in enumerate(pose.JOINTS) if name.startswith("left")]


class Detector:
    """Answers with prepared landmarks, and remembers what it was shown."""

    def __init__(self, answers: Sequence[list[tuple[float, float, float]] | None]):
        self.answers, self.shown = list(answers), []

    def process(self, picture: np.ndarray) -> SimpleNamespace:
        self.shown.append(picture)
        answer = self.answers[len(self.shown) - 1]
        if answer is None:
            return SimpleNamespace(pose_landmarks=None)
        landmark = [SimpleNamespace(x=x, y=y, visibility=v) for x, y, v in answer]
        return SimpleNamespace(pose_landmarks=SimpleNamespace(landmark=landmark))


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> Any:
    def use(answers: Sequence[list[tuple[float, float, float]] | None]) -> Detector:
        made = Detector(answers)

        @contextlib.contextmanager
        def open_detector(tracking: bool) -> Iterator[Detector]:
            made.tracking = tracking  # type: ignore[attr-defined]
            yield made

        monkeypatch.setattr(pose, "_detector", open_detector)
        return made

    return use


def all_at(x: float, y: float, visibility: float = 1.0) -> list[tuple[float, float, float]]:
    return [(x, y, visibility)] * 33


def test_the_middle_of_the_picture_is_its_middle(detector: Any) -> None:
    detector([all_at(0.5, 0.5)])
    found = pose.joints(np.zeros((1, 40, 64, 3), np.uint8))
    assert found.shape == (1, 13, 3)
    assert found.dtype == np.float32
    assert np.allclose(found[0, :, :2], (31.5, 19.5))  # between the two pixels in the middle


def test_the_margin_is_taken_off_again(detector: Any) -> None:
    """64 x 32 (width x height): 24 pixels of margin on every side, 112 x 80 with it."""
    seen = detector([all_at(0, 0), all_at(24.5 / 112, 24.5 / 80), all_at((24 + 63.5) / 112, (24 + 31.5) / 80)])
    found = pose.joints(np.zeros((3, 32, 64, 3), np.uint8))
    assert np.allclose(found[0, 0, :2], (-24.5, -24.5))  # the padded picture's corner
    assert np.allclose(found[1, 0, :2], (0, 0), atol=1e-5)  # the first pixel's centre
    assert np.allclose(found[2, 0, :2], (63, 31), atol=1e-5)  # the last one's
    assert seen.shown[0].shape == (320, 448, 3)  # enlarged to 448 on its longer side


def test_what_is_seen_maps_back_to_where_it_was(detector: Any) -> None:
    """A white pixel, found again in what the detector is shown, gives its own coordinates."""
    frame = np.zeros((1, 48, 48, 3), np.uint8)
    frame[0, 10, 30] = 255
    seen = detector([all_at(0, 0)])
    pose.joints(frame)
    shown = seen.shown[0].mean(2)
    y, x = np.mgrid[: shown.shape[0], : shown.shape[1]]
    centre = (
        ((x * shown).sum() / shown.sum() + 0.5) / shown.shape[1],
        ((y * shown).sum() / shown.sum() + 0.5) / shown.shape[0],
    )
    detector([all_at(*centre)])
    assert np.allclose(pose.joints(frame)[0, 0, :2], (30, 10), atol=0.1)


def test_joints_come_in_their_order_and_a_head_is_the_mean_of_nose_and_ears(detector: Any) -> None:
    landmarks = [(i / 100, 0.0, i / 100) for i in range(33)]
    detector([landmarks])
    visibility = 100 * pose.joints(np.zeros((1, 8, 8, 3), np.uint8))[0, :, 2]
    assert visibility[0] == pytest.approx((0 + 7 + 8) / 3)
    # BlazePose: shoulders 11 12, elbows 13 14, wrists 15 16, hips 23 24, knees 25 26, ankles 27 28; left is odd.
    assert visibility[1:].round().tolist() == [11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28]
    assert [round(visibility[i]) % 2 for i in LEFT] == [1] * 6


def test_gaps_pass_linearly_and_are_not_visible(detector: Any) -> None:
    detector([None, all_at(0.25, 0.5), None, None, all_at(0.55, 0.5), None])
    found = pose.joints(np.zeros((6, 16, 16, 3), np.uint8))
    wide = 16 + 2 * 6
    expected = np.array([0.25, 0.25, 0.35, 0.45, 0.55, 0.55]) * wide - 0.5 - 6
    assert np.allclose(found[:, 0, 0], expected, atol=1e-4)
    assert found[:, 3, 2].tolist() == [0, 1, 0, 0, 1, 0]


def test_gaps_can_be_left_open(detector: Any) -> None:
    made = detector([None, all_at(0.5, 0.5)])
    found = pose.find_joints(np.zeros((2, 16, 16, 3), np.uint8), tracking=False)
    assert np.isnan(found[0]).all()
    assert not np.isnan(found[1]).any()
    assert made.tracking is False


def test_nobody_anywhere_is_told(detector: Any) -> None:
    detector([None, None])
    refuses("No person is found in any frame: leave `joints` out", pose.joints, np.zeros((2, 16, 16, 3), np.uint8))


def test_without_mediapipe_the_sentence_says_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("mediapipe")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    refuses(r"needs mediapipe 0\.10\.21: run `make pose` first", pose.joints, np.zeros((1, 16, 16, 3), np.uint8))


def test_a_real_person_is_found_head_above_feet() -> None:
    """Both arms wave: a frame of Weizmann, as prepared, 64 pixels."""
    pytest.importorskip("mediapipe")
    strip = Path(__file__).parents[2] / "shared" / "data" / "weizmann" / "subject9_wave2.png"
    if not strip.is_file():
        pytest.skip("the Weizmann strips are not here")
    picture = cv2.cvtColor(cv2.imread(str(strip)), cv2.COLOR_BGR2RGB)
    side = picture.shape[0]
    frames = picture.reshape(side, -1, side, 3).swapaxes(0, 1)[:3]
    found = dict(zip(pose.JOINTS, pose.joints(frames)[1], strict=True))
    head, ankle, shoulder = found["head"], found["left_ankle"], found["left_shoulder"]
    assert head[1] < shoulder[1] < found["left_hip"][1] < ankle[1]
    assert ankle[1] - head[1] > side / 3
    assert found["left_shoulder"][0] > found["right_shoulder"][0]  # facing us: their left is on our right
    assert shoulder[2] > 0.5


def mask_of(*rows: str) -> torch.Tensor:
    return torch.tensor([[pixel == "#" for pixel in row] for row in rows])[None, None]


def test_components_are_connected_over_corners() -> None:
    mask = mask_of("##..#", "..#..", "#...#", "#....")
    found = sorted(component.tolist() for component in connected_components(mask))
    assert found == [[[0, 0], [0, 1], [1, 2]], [[0, 4]], [[2, 0], [3, 0]], [[2, 4]]]
    assert connected_components(torch.zeros(1, 1, 3, 3, dtype=torch.bool)) == []


def test_a_flood_fill_does_not_run_on_into_the_next_row() -> None:
    mask = mask_of("..##", "....", "##..")
    seed = mask_of("...#", "....", "....")
    assert torch.equal(reachable(mask, seed), mask_of("..##", "....", "...."))
    assert not reachable(mask, mask_of("#...", "....", "....")).any()  # a seed outside the mask


@given(st.integers(0, 2**32 - 1))
def test_what_is_reachable_are_the_components_that_hold_a_seed(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(1, 1, 9, 11, generator=generator) < 0.45
    seeds = torch.rand(1, 1, 9, 11, generator=generator) < 0.05
    wanted = torch.zeros_like(mask)
    for component in connected_components(mask):
        y, x = component.T
        wanted[0, 0, y, x] = seeds[0, 0, y, x].any()
    assert torch.equal(reachable(mask, seeds), wanted)


def test_a_function_is_a_detector() -> None:
    def whole(still: np.ndarray, near: tuple[float, float]) -> Box | None:
        return 0.0, 0.0, still.shape[1] - 1.0, still.shape[0] - 1.0

    detectors: list[ObjectDetector] = [whole, find_object]
    still = np.full((32, 40, 3), 90, np.uint8)
    still[8:20, 10:26] = 250
    assert [detector(still, (5.0, 5.0)) for detector in detectors] == [(0, 0, 39, 31), (10, 8, 25, 19)]
