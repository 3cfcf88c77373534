"""Metrics of control accuracy against a world's ground truth: how well a prediction follows its control.

Positions in a prediction come from `trackers`, which see pixels only. A lost position never helps a model: a lost
point counts as one that has not moved, a lost object as resting at its last known position, a lost joint as wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from stillmotion.evaluation.metrics.base import MeanOfValues, shapes
from stillmotion.evaluation.metrics.feature import IdentityAccuracy
from stillmotion.evaluation.metrics.keypoint import AKD, PCK
from stillmotion.geometry import distance_to_polyline


class EndpointError(MeanOfValues):
    """Distance of a poked point's last position from its target over the poke's length: 1 for a point at rest."""

    definition = (
        "distance of the poked point's last position from its target, as a share of the poke's length, over all "
        "pokes; a lost point counts as 1, which is also the value of a still video; a poke of zero length does not "
        "count; lower is better"
    )

    def update(self, final: Tensor, start: Tensor, target: Tensor) -> None:
        """Add pokes: each point's last position (NaN if lost), first position and target; N x 2 pixels each."""
        if not final.shape == start.shape == target.shape or final.ndim != 2 or final.shape[1] != 2:
            raise ValueError(f"Positions must all be N x 2, not {shapes(final, start, target)}.")
        length = (target.double() - start).norm(dim=1)
        error = torch.nan_to_num((final.double() - target).norm(dim=1) / length, nan=1.0)
        self.add(error[length > 0])


UNITS = {"pixels": "in pixels", "length": "as a share of the stroke's length", "width": "in percent of the width"}


class TrajectoryError(MeanOfValues):
    """Distance of an object's centre from the stroke it was to follow.

    Args:
        unit: `pixels`, `length` (a share of the stroke's length) or `width` (percent of the picture's width).
        timed: compare each frame's centre with the stroke's point of that frame. Else with the nearest point of the
            whole stroke, which ignores time: an object that rests at the start then has no error, so read it only
            beside the timed value.
    """

    def __init__(self, unit: str = "pixels", timed: bool = True, **options: Any):
        super().__init__(**options)
        if unit not in UNITS:
            raise ValueError(f"unit must be one of {', '.join(UNITS)}, not {unit!r}.")
        self.unit, self.timed = unit, timed
        point = "the stroke's point of the same frame" if timed else "the nearest point of the stroke"
        self.definition = (
            f"distance of the object's centre from {point} {UNITS[unit]}, per clip with frame 0, then over clips; a "
            "lost object counts as resting at its last known position; lower is better"
        )

    def update(self, path: Tensor, stroke: Tensor, width: int | None = None) -> None:
        """Add a clip.

        Args:
            path: the object's centres, T x 2 in pixels; NaN where lost.
            stroke: T x 2 (S x 2 if not timed) in pixels.
            width: of the picture, for the unit `width`.
        """
        if path.ndim != 2 or path.shape[1:] != (2,) or stroke.shape[1:] != (2,) or len(stroke) == 0:
            raise ValueError(f"Path and stroke must be T x 2 and S x 2, not {shapes(path, stroke)}.")
        if self.timed and len(path) != len(stroke):
            raise ValueError(f"A timed stroke has a point per frame: {len(stroke)} points, {len(path)} frames.")
        path, stroke = fill_lost(path.double(), stroke[0].double()), stroke.double()
        distance = (path - stroke).norm(dim=1) if self.timed else distance_to_polyline(path, stroke)
        scale = 1.0
        if self.unit == "length":
            scale = float(stroke.diff(dim=0).norm(dim=1).sum())
        elif self.unit == "width":
            assert width is not None
            scale = width / 100
        if scale > 0 and len(distance):
            self.add(distance.mean() / scale)


def fill_lost(path: Tensor, start: Tensor) -> Tensor:
    """Replace NaN positions (T x 2) by the last known one, and by `start` (2) before the first that is known."""
    filled = path.clone()
    for t in range(len(filled)):
        if filled[t].isnan().any():
            filled[t] = filled[t - 1] if t else start
    return filled


class BackgroundChange(MeanOfValues):
    """Mean absolute change of pixels that do not change in the target clip.

    Args:
        grey_levels: in grey levels, 0 to 255, instead of [0, 1].
    """

    def __init__(self, grey_levels: bool = False, **options: Any):
        super().__init__(**options)
        self.scale = 255.0 if grey_levels else 1.0
        unit = "in grey levels (0 to 255)" if grey_levels else "in [0, 1]"
        self.definition = self.definition or (
            f"mean absolute difference {unit} between the predicted frames and the still, over the pixels that are "
            "static in the whole target clip, per clip with frame 0, then over clips; a clip without such pixels "
            "does not count; lower is better"
        )

    def update(self, preds: Tensor, still: Tensor, static: Tensor) -> None:
        """Add a clip: T x 3 x H x W and 3 x H x W in [0, 1], and the static pixels, H x W; see `static_pixels`."""
        each = background_change(preds, still, static)
        if static.any():
            self.add(self.scale * each.mean())


def background_change(preds: Tensor, still: Tensor, static: Tensor) -> Tensor:
    """Mean absolute change of the static pixels in every frame, T; NaN if there are none."""
    if preds.ndim != 4 or preds.shape[1:] != still.shape or static.shape != still.shape[1:] or len(still) != 3:
        raise ValueError(
            "Frames, still and pixels must be T x 3 x H x W, 3 x H x W and H x W, not "
            f"{shapes(preds, still, static)}."
        )
    return (preds.double() - still)[..., static.bool()].abs().mean(dim=(1, 2))


def static_pixels(mask: np.ndarray, *flows: np.ndarray, margin: int | None = None) -> np.ndarray:
    """Pixels that show the background in all frames and never move.

    Args:
        mask: T x H x W, above 0 on what moves: a track of a world.
        flows: T-1 x H x W x 2 in pixels, forward and backward. Without them the camera is taken to be static.
        margin: pixels around what moves that are left out, since edges are soft and a mask starts at half a pixel.
            None takes a 32nd of the smaller side, at which the target clips of plants and digits do not change.

    Returns:
        `bool`, H x W. Shadows, flicker and noise have no flow, so the target clip itself may change a little.
    """
    moving: np.ndarray = np.any(np.asarray(mask) > 0, axis=0)
    for flow in flows:
        # float16 cannot hold much less than this beside whole pixels.
        moving |= (np.abs(np.asarray(flow, np.float32)) > 1e-3).any(axis=(0, 3))
    margin = -(-min(moving.shape) // 32) if margin is None else margin
    kernel = np.ones((2 * margin + 1, 2 * margin + 1), np.uint8)
    return cv2.dilate(moving.astype(np.uint8), kernel) == 0


class CounterfactualAccuracy(MeanOfValues):
    """Percent of predictions that are nearer to the outcome of their own control than to that of another one."""

    definition = (
        "percent of predictions with a smaller mean absolute difference from the true outcome of their control than "
        "from that of another control on the same still; a tie is half; higher is better, and 50 is the value of a "
        "model that ignores the control when both controls of each pair are evaluated"
    )
    higher_is_better = True

    def update(self, preds: Tensor, target: Tensor, other: Tensor) -> None:
        """Add a prediction and both outcomes, of one shape: frames, paths, numbers. A NaN makes it wrong."""
        if not preds.shape == target.shape == other.shape:
            raise ValueError(f"Prediction and both outcomes must have one shape, not {shapes(preds, target, other)}.")
        near, far = ((preds.double() - outcome).abs().mean() for outcome in (target, other))
        if not torch.equal(target, other):
            self.add(100.0 * ((near < far).double() + 0.5 * (near == far).double()))


class ClassAccuracy(MeanOfValues):
    """Percent of predictions that a classifier assigns to the right class."""

    definition = "percent of predictions whose class is that of the still; higher is better"
    higher_is_better = True

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add classes as read and as they should be; N each."""
        self.add(100.0 * (preds == target).double())


class StrideAccuracy(MeanOfValues):
    """Percent of predictions whose stride rate is that of the target.

    Args:
        tolerance: the largest relative error that counts as correct.
    """

    higher_is_better = True

    def __init__(self, tolerance: float = 0.15, **options: Any):
        super().__init__(**options)
        self.tolerance = tolerance
        self.definition = (
            f"percent of clips whose strides per second, measured in the video, are within {tolerance:.0%} of the "
            "target's; a video without a measurable gait is wrong; higher is better"
        )

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add clips: strides per second as measured (NaN if none) and as they should be; N each."""
        self.add(100.0 * ((preds - target).abs() <= self.tolerance * target).double())


CONTROL_METRICS: Mapping[str, Callable[[], Metric]] = {
    "endpoint error": EndpointError,
    "trajectory error": TrajectoryError,
    "trajectory error (relative)": partial(TrajectoryError, unit="length"),
    "pose error": partial(AKD, distance="euclidean"),
    "PCK@0.2": PCK,
    "background change": BackgroundChange,
    "counterfactual accuracy": CounterfactualAccuracy,
    "identity accuracy": IdentityAccuracy,
}
"""By their names in reports. The pose error is AKD with a world's joints as the target."""
