"""How smoothly people move: Table I of the motion strokes' paper."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

LEAST_JOINTS = 0.5
"""Share of the joints that must be found for a frame to have a person."""

KINDS = ("mean", "deviation", "detection")


class PoseSmoothness(Metric):
    """Displacement of joints between consecutive frames, or how often there is no person at all.

    The paper's joints came from a convolutional pose machine; numbers from another detector do not compare with its.

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
            raise ValueError(f"Joints must be T x K x 3, not {tuple(joints.shape)}.")
        found = joints[..., 2] > 0
        person = found.double().mean(dim=1) >= LEAST_JOINTS
        both = found[1:] & found[:-1] & (person[1:] & person[:-1])[:, None]
        moved = 100.0 * joints[..., :2].double().diff(dim=0).norm(dim=-1)[both] / max(size)
        self.sums += torch.stack(
            [
                torch.tensor(float(moved.numel()), dtype=torch.float64),
                moved.sum(),
                moved.square().sum(),
                torch.tensor(float(len(joints)), dtype=torch.float64),
                person.sum().double(),
            ]
        )

    def compute(self) -> Tensor:
        """The number so far; NaN if nothing was seen."""
        count, total, squares, frames, people = self.sums
        if self.kind == "detection":
            return (100.0 * people / frames).float()
        mean = total / count
        if self.kind == "mean":
            return mean.float()
        return (squares / count - mean.square()).clamp_min(0).sqrt().float()
