"""Controls check themselves, with one sentence."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stillmotion.boxes import parse_box
from stillmotion.controls import Drive

from stillmotion.errors import StillmotionError

FRAMES = np.zeros((2, 4, 5, 3), np.uint8)


@pytest.mark.parametrize("video", ["wave.mp4", Path("wave.mp4"), FRAMES])
def test_a_drive_takes_a_path_or_frames(video: Any) -> None:
    drive = Drive(video)
    assert drive.video is video
    assert (drive.transfer, drive.fps) == ("relative", None)
    assert (drive.scale_motion, drive.clip, drive.adapt_covariance) == (False, False, False)


@pytest.mark.parametrize(
    ("video", "word"),
    [
        (FRAMES[0], "uint8"),
        (FRAMES[..., :1], "uint8"),
        (FRAMES.astype(np.float32), "float32"),
        (FRAMES[:0], "no frames"),
        (FRAMES[:, :0], "no frames"),
        (FRAMES[:, :, :0], "no frames"),
        (None, "NoneType"),
        (7, "int"),
        ([FRAMES[0]], "list"),
    ],
)
def test_what_is_no_video_is_refused(video: Any, word: str) -> None:
    with pytest.raises(StillmotionError, match=word) as caught:
        Drive(video)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("transfer", ["Relative", "", "both", None])
def test_an_unknown_transfer_is_refused(transfer: Any) -> None:
    with pytest.raises(StillmotionError, match="relative or absolute"):
        Drive("a.mp4", transfer=transfer)


@pytest.mark.parametrize("fps", [0, -1.0, float("nan"), float("inf")])
def test_a_frame_rate_is_above_zero_and_finite(fps: float) -> None:
    with pytest.raises(StillmotionError, match="fps must be above 0"):
        Drive(FRAMES, fps=fps)


def test_controls_are_frozen_and_compare_by_identity() -> None:
    drive = Drive(FRAMES)
    with pytest.raises(FrozenInstanceError):
        drive.fps = 10.0  # type: ignore[misc]
    assert drive != Drive(FRAMES)  # comparing arrays has no single answer
    assert len({drive, drive}) == 1


def test_a_part_is_read_from_text() -> None:
    assert parse_box("crop", " 1, 2,30,4 ") == (1, 2, 30, 4)
    for text in ("", "1,2,3", "1,2,3,4,5", "1,2,3,x", "-1,2,3,4", "1.5,2,3,4", "\u0661,2,3,4", f"1,2,3,{'9' * 5000}"):
        with pytest.raises(StillmotionError, match="must be centre or X,Y,W,H in whole pixels"):
            parse_box("crop", text, "centre or ")
    with pytest.raises(StillmotionError, match="A crop is x, y, width and height"):
        parse_box("crop", "1,2,0,4")
