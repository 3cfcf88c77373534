"""Contact sheets of keypoint prediction; what else is drawn is in `keypoints.visualization`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from stillmotion.data.clip import evenly
from stillmotion.keypoints.data import detect
from stillmotion.keypoints.networks import Keypoints
from stillmotion.keypoints.visualization import draw_paths
from stillmotion.systems.driving.networks import DrivingNetworks


@torch.no_grad()
def path_sheet(
    networks: DrivingNetworks, clips: Sequence[Any], length: int, rows: int = 8, scale: int = 4
) -> np.ndarray:
    """The keypoints' paths over the first frame of each clip, one row per clip: as detected and as predicted."""
    assert networks.predictor is not None
    device = next(networks.predictor.parameters()).device
    strips = []
    for clip in (clips[i] for i in evenly(len(clips), rows)):
        truth = detect(networks.detector, clip.frames[:length])
        first = Keypoints(*(part[:1].to(device) for part in truth))
        made = networks.predictor(first, len(truth.mean)).mean[0].cpu()
        frame = np.repeat(np.repeat(clip.frames[0], scale, 0), scale, 1)
        strips.append(np.concatenate([draw_paths(frame, paths.numpy()) for paths in (truth.mean, made)], axis=1))
    return np.concatenate(strips, axis=0)
