"""Identity features without a network: the face's pixels, cropped and downsampled."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

SIDE = 12


def face_crops(frames: np.ndarray, boxes: np.ndarray, side: int = SIDE) -> Tensor:
    """Crop the face out of every frame and downsample it; features of people who look alike are near.

    Downsampling removes expression before it removes skin, hair line, brows and proportions. For a predicted video
    the boxes are those of the target clip. Measured in docs/evaluation.md.

    Args:
        frames: `uint8`, T x H x W x 3.
        boxes: T x 4 (x0, y0, x1, y1), centres of the face's outermost pixels, as the world `faces` gives them; NaN
            where there is no face.
        side: of the crops in pixels.

    Returns:
        T x 3 side^2, in [0, 1]; NaN where there is no face, which the metric counts as wrong.

    Raises:
        ValueError: another shape.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or boxes.shape != (len(frames), 4):
        raise ValueError(f"Frames must be uint8, T x H x W x 3, and boxes T x 4, not {frames.shape}, {boxes.shape}.")
    found = np.full((len(frames), side, side, 3), np.nan, np.float32)
    # Each cell is the mean of 4 x 4 samples, so that fine texture does not alias.
    fine = 4 * side
    for t in np.flatnonzero(np.isfinite(boxes).all(1)):
        x0, y0, x1, y1 = boxes[t] + np.array([-0.5, -0.5, 0.5, 0.5])
        wide, high = (x1 - x0) / fine, (y1 - y0) / fine
        back = np.array([[wide, 0, x0 + wide / 2], [0, high, y0 + high / 2]])
        large = cv2.warpAffine(
            np.ascontiguousarray(frames[t]), back, (fine, fine), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip
        found[t] = cv2.resize(large.astype(np.float32) / 255, (side, side), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(found.reshape(len(frames), -1))
