"""Metrics on keypoints: AKD, MKR, PCK and the smoothness of joint motion.

Points are N x K x 3: (x, y) in pixels of the frame, and 1 where the point was found, 0 where it was not.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from stillmotion.evaluation.metrics.base import FrameMean, MeanOfValues, shapes

DISTANCES = ("mean_absolute", "euclidean")


class AKD(FrameMean):
    """Average keypoint distance between predicted and target frames, in pixels.

    Args:
        distance: `mean_absolute`, as the reference code of Monkey-Net: the mean of |dx| and |dy|, which is at most
            the Euclidean distance over sqrt(2) and at least half of it; or `euclidean`, as the paper's text reads.
        relative: compare the displacement of the points since the clip's first frame instead of their positions;
            for relative transfer, where positions differ by design. The first frame then has no value.
    """

    def __init__(self, distance: str = "mean_absolute", relative: bool = False, **options: Any):
        super().__init__(**options)
        if distance not in DISTANCES:
            raise ValueError(f"distance must be one of {', '.join(DISTANCES)}, not {distance!r}.")
        self.distance, self.relative = distance, relative
        what = "mean of |dx| and |dy|" if distance == "mean_absolute" else "Euclidean distance"
        moved = " of the points' motion since the first frame" if relative else ""
        self.definition = (
            f"{what}{moved} in pixels of the frame, over the points found in both the predicted and the target "
            "frame, then over all frames with such points; lower is better"
        )

    def per_frame(self, preds: Tensor, target: Tensor) -> Tensor:
        """Mean over the points found in both."""
        _check_points(preds, target)
        both = (preds[..., 2] > 0) & (target[..., 2] > 0)
        difference = preds[..., :2] - target[..., :2]
        if self.relative:
            both = both[1:] & both[:1]
            difference = difference[1:] - difference[:1]
        each = difference.abs().mean(-1) if self.distance == "mean_absolute" else difference.norm(dim=-1)
        # Points that were not found may hold NaN, which times 0 is still NaN.
        sums = torch.where(both, each, 0.0).sum(-1)
        counts = both.sum(-1)
        return sums[counts > 0] / counts[counts > 0]


class MKR(FrameMean):
    """Missing keypoint rate: the share of the target frame's points that are not found in the predicted frame."""

    definition = (
        "share, 0 to 1, of the points found in the target frame that are not found in the predicted frame, then over "
        "all frames with a point in the target; lower is better"
    )

    def per_frame(self, preds: Tensor, target: Tensor) -> Tensor:
        """Share per frame with at least one target point."""
        _check_points(preds, target)
        expected = target[..., 2] > 0
        missing = (expected & ~(preds[..., 2] > 0)).sum(-1)
        counts = expected.sum(-1)
        return missing[counts > 0].double() / counts[counts > 0]


def _check_points(preds: Tensor, target: Tensor) -> None:
    if preds.shape != target.shape or preds.ndim != 3 or preds.shape[2] != 3:
        raise ValueError(f"Points must both be N x K x 3, not {shapes(preds, target)}.")


class PCK(MeanOfValues):
    """Percentage of correct keypoints.

    A joint is correct when it is at most alpha max(h, w) away, h and w being the sides of the person's box (Yang and
    Ramanan, "Articulated human detection with flexible mixtures of parts", PAMI 2013). Papers on Penn Action take
    alpha = 0.2 (such as Luo et al., "LSTM pose machines", CVPR 2018).

    Args:
        alpha: share of the box's larger side.
    """

    higher_is_better = True

    def __init__(self, alpha: float = 0.2, **options: Any):
        super().__init__(**options)
        self.alpha = alpha
        self.definition = (
            f"percent of the target's visible joints whose position in the predicted frame is at most {alpha:g} "
            "times the larger side of the target's box away, over all joints of all frames; a joint not found is "
            "wrong; higher is better"
        )

    def update(self, preds: Tensor, target: Tensor, box: Tensor) -> None:
        """Add frames: joints, N x K x 3 (x, y, found), twice, and the target's boxes, N x 4 (x0, y0, x1, y1)."""
        if preds.shape != target.shape or preds.ndim != 3 or preds.shape[2] != 3 or box.shape != (len(preds), 4):
            raise ValueError(f"Joints must both be N x K x 3 and boxes N x 4, not {shapes(preds, target, box)}.")
        side = (box[:, 2:] - box[:, :2]).double().amax(dim=1, keepdim=True)
        distance = (preds[..., :2].double() - target[..., :2]).norm(dim=-1)
        correct = (distance <= self.alpha * side) & (preds[..., 2] > 0)
        self.add(100.0 * correct[(target[..., 2] > 0) & ~side.isnan()])


MIN_JOINTS = 0.5  # share of the joints that must be found for a frame to show a person

KINDS = ("mean", "deviation", "detection")


class PoseSmoothness(Metric):
    """Displacement of joints between consecutive frames, or the rate of frames with a person (Table I of strokes).

    The paper's joints came from a convolutional pose machine; values from another detector do not compare with its.

    Args:
        kind: `mean` or `deviation` of all joints' displacements in percent of the image's size (the larger side), or
            `detection`: the percent of frames with a person (of which more is better).
    """

    full_state_update = False
    higher_is_better = False
    sums: Tensor

    def __init__(self, kind: str = "mean", **options: Any):
        super().__init__(**options)
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}.")
        self.kind = kind
        what = {
            "mean": "mean Euclidean displacement of a joint between consecutive frames, in percent of the image size",
            "deviation": "standard deviation of a joint's displacement between consecutive frames, in percent of the "
            "image size",
            "detection": "percent of frames in which a person is found",
        }[kind]
        over = "all frames" if kind == "detection" else "joints found in both of two frames that show a person"
        better = "higher" if kind == "detection" else "lower"
        self.definition = f"{what}, over {over} (a person: at least half of the joints found); {better} is better"
        # Displacements: count, sum, sum of squares; frames: all, with a person.
        self.add_state("sums", torch.zeros(5, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, joints: Tensor, size: tuple[int, int]) -> None:
        """Add a clip: T x K x 3 (x, y, found) in pixels, and the frames' (height, width)."""
        if joints.ndim != 3 or joints.shape[2] != 3:
            raise ValueError(f"Joints must be T x K x 3, not {shapes(joints)}.")
        found = joints[..., 2] > 0
        person = found.double().mean(dim=1) >= MIN_JOINTS
        both = found[1:] & found[:-1] & (person[1:] & person[:-1])[:, None]
        moved = 100.0 * joints[..., :2].double().diff(dim=0).norm(dim=-1)[both] / max(size)
        counts = torch.tensor([moved.numel(), len(joints)], dtype=torch.float64)
        self.sums += torch.stack([counts[0], moved.sum(), moved.square().sum(), counts[1], person.sum().double()])

    def compute(self) -> Tensor:
        """The value so far; NaN if there was no frame."""
        count, total, squares, frames, people = self.sums
        if self.kind == "detection":
            return (100.0 * people / frames).float()
        mean = total / count
        if self.kind == "mean":
            return mean.float()
        return (squares / count - mean.square()).clamp_min(0).sqrt().float()
