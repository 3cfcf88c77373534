"""Keypoint detectors: BlazePose."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from stillmotion.errors import check_known
from stillmotion.evaluation.extractors.base import FeatureExtractor


class BlazePose:
    """13 joints of one person, by the network in mediapipe's wheel; every frame is searched independently.

    Args:
        visibility: a joint counts as found from this visibility on, if it also lies inside the frame.

    Raises:
        StillmotionError: mediapipe is not installed.
    """

    dimension, per_video = 13, False

    def __init__(self, visibility: float = 0.5):
        from stillmotion.data.pose import find_joints

        self.visibility = visibility
        self._find = find_joints
        find_joints(np.zeros((0, 1, 1, 3), np.uint8))  # a missing mediapipe is reported before any work is done
        self.description = (
            "BlazePose full of mediapipe 0.10.21, 13 joints, each frame by itself, padded by 3/8 of its longer side "
            f"and scaled to 448 pixels; found means inside the frame with visibility of at least {visibility:g}"
        )

    def __call__(self, frames: np.ndarray) -> Tensor:
        """T x 13 x 3; a frame without a person has no joint that is found."""
        height, width = frames.shape[1:3]
        joints = torch.from_numpy(self._find(frames, tracking=False))
        x, y, visibility = joints.unbind(-1)
        # Outer edges, half a pixel beyond the centres of the border pixels; NaN compares as not found.
        inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
        found = inside & (visibility >= self.visibility)
        return torch.cat([joints[..., :2], found[..., None].float()], dim=-1)


DETECTORS: Mapping[str, Callable[[], FeatureExtractor]] = {"blazepose": BlazePose}


def open_keypoints(name: str, device: str | torch.device = "cpu") -> FeatureExtractor:
    """Open a detector by its name; mediapipe runs on the CPU whatever the device.

    Raises:
        StillmotionError: there is no such detector, or it is not installed.
    """
    check_known("keypoint detector", name, DETECTORS)
    return DETECTORS[name]()
