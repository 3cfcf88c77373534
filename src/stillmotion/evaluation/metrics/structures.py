"""Metrics of stills that follow poses or expressions: agreement over time, content distances, errors of joints.

ACD is the average content distance of Tulyakov et al., "MoCoGAN" (CVPR 2018), in the two forms of the structures
paper (Sec. 4.2). Its values depend on the network whose features are compared.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stillmotion.evaluation.metrics.base import ClipMean, MeanOfValues, shapes


class TemporalError(ClipMean):
    """Error of the change from each frame to the next, whatever the frames themselves are."""

    definition = (
        "mean absolute difference between the predicted and the true change from each frame to the next, in [0, 1], "
        "per clip, then over clips; lower is better"
    )

    @staticmethod
    def per_frame(preds: Tensor, target: Tensor) -> Tensor:
        """Of all frames but the first, T-1."""
        return (preds.diff(dim=0) - target.diff(dim=0)).abs().mean(dim=(1, 2, 3))


class ContentDistance(MeanOfValues):
    """ACD-I: how far the person in a video is from the one in the still."""

    definition = (
        "average content distance to the input: mean Euclidean distance of identity features between each frame "
        "after the still and the still, per video, then over videos; lower is better, and 0 for a still video"
    )

    def update(self, features: Tensor, still: Tensor) -> None:
        """Add a video: T x D and 1 x D.

        Raises:
            ValueError: the shapes do not fit.
        """
        if features.ndim != 2 or still.shape != (1, features.shape[1]):
            raise ValueError(f"Features must be T x D and 1 x D, not {shapes(features, still)}.")
        if len(features):
            self.add((features.double() - still.double()).norm(dim=1).mean())


class ContentConsistency(MeanOfValues):
    """ACD-C: how far the persons in the frames of one video are from each other."""

    definition = (
        "average content distance between all pairs of frames after the still: mean Euclidean distance of identity "
        "features, per video, then over videos; lower is better, and 0 for a still video"
    )

    def update(self, features: Tensor) -> None:
        """Add a video, T x D; one frame has no pair.

        Raises:
            ValueError: the shape is another one.
        """
        if features.ndim != 2:
            raise ValueError(f"Features must be T x D, not {shapes(features)}.")
        if len(features) > 1:
            self.add(torch.pdist(features.double()).mean())


class JointError(MeanOfValues):
    """Distance of detected joints from the true ones, as a share of the picture's side."""

    definition = (
        "distance of the joints found in the predicted frame from the true ones, in percent of the picture's longer "
        "side, over the visible joints that are found (the others: MKR); lower is better"
    )

    def update(self, preds: Tensor, target: Tensor, side: int) -> None:
        """Add frames: joints T x K x 3 (x, y, found) twice, in pixels, and the picture's longer side.

        Raises:
            ValueError: the shapes differ or are others.
        """
        if preds.shape != target.shape or preds.ndim != 3 or preds.shape[2] != 3:
            raise ValueError(f"Joints must both be T x K x 3, not {shapes(preds, target)}.")
        both = (preds[..., 2] > 0) & (target[..., 2] > 0)
        self.add(100 * (preds[..., :2].double() - target[..., :2]).norm(dim=-1)[both] / side)
