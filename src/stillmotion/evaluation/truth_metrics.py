"""Metrics that need to know the right answer: did the video do what it was told?

Worlds know it (see `worlds`); real video does not. Places in made video come from `tracking`, which sees pixels only.
What is lost there never helps a model: a lost point counts as one that has not moved, a lost thing rests where it was
last seen, a lost joint is wrong. All numbers are means whose states are sums, so they merge over processes.
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

from stillmotion.evaluation.keypoint_metrics import AKD


class Mean(Metric):
    """Mean of all values that were added; NaN if there was none. Subclasses define `update`."""

    full_state_update = False
    definition = ""
    total: Tensor
    count: Tensor

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def add(self, values: Tensor) -> None:
        """Add each of the values."""
        self.total += values.double().sum()
        self.count += values.numel()

    def compute(self) -> Tensor:
        """The mean so far."""
        return (self.total / self.count).float()


class Reach(Mean):
    """How much of a poke is left undone: 0 for a point that gets to its target, 1 for one that does not move."""

    definition = (
        "distance of the poked point's final place from its target, as a share of the poke's length, over all pokes; "
        "a lost point counts as 1, which is what standing still gives too; a poke without length does not count; "
        "lower is better"
    )
    higher_is_better = False

    def update(self, final: Tensor, start: Tensor, target: Tensor) -> None:
        """Add pokes: where each point ended (NaN if lost), was, and should be; N x 2 pixels each."""
        if not final.shape == start.shape == target.shape or final.ndim != 2 or final.shape[1] != 2:
            shapes = ", ".join(str(tuple(places.shape)) for places in (final, start, target))
            raise ValueError(f"Places must all be N x 2, not {shapes}.")
        length = (target.double() - start).norm(dim=1)
        left = torch.nan_to_num((final.double() - target).norm(dim=1) / length, nan=1.0)
        self.add(left[length > 0])


UNITS = ("pixels", "length")


class Follow(Mean):
    """How far the centre of a thing stays from the stroke that it was to follow.

    Args:
        unit: `pixels`, or `length` for the share of the stroke's length.
        timed: compare each frame's centre with the stroke's point of that frame. Else with the nearest point of the
            whole stroke, which asks for the way and not for the time: then a thing that rests at the start follows
            perfectly, so read it only beside the timed number.
    """

    higher_is_better = False

    def __init__(self, unit: str = "pixels", timed: bool = True, **options: Any):
        super().__init__(**options)
        if unit not in UNITS:
            raise ValueError(f"unit must be one of {', '.join(UNITS)}, not {unit!r}.")
        self.unit, self.timed = unit, timed
        point = "the stroke's point of the same frame" if timed else "the nearest point of the stroke"
        share = ", as a share of the stroke's length" if unit == "length" else " in pixels"
        self.definition = (
            f"distance of the object's centre from {point}{share}, per clip with frame 0, then over clips; a lost "
            "object counts as resting where it was last seen; lower is better"
        )

    def update(self, centres: Tensor, stroke: Tensor) -> None:
        """Add a clip: the centres (NaN where lost), T x 2, and the stroke, T x 2 (S x 2 if not timed), in pixels."""
        if centres.ndim != 2 or centres.shape[1:] != (2,) or stroke.shape[1:] != (2,) or len(stroke) == 0:
            raise ValueError(
                f"Centres and stroke must be T x 2 and S x 2, not {tuple(centres.shape)} and {tuple(stroke.shape)}."
            )
        if self.timed and len(centres) != len(stroke):
            raise ValueError(f"A timed stroke has a point per frame: {len(stroke)} points, {len(centres)} frames.")
        centres, stroke = last_seen(centres.double(), stroke[0].double()), stroke.double()
        away = (centres - stroke).norm(dim=1) if self.timed else distance_to_stroke(centres, stroke)
        length = stroke.diff(dim=0).norm(dim=1).sum() if self.unit == "length" else torch.tensor(1.0)
        if length > 0 and len(away):
            self.add(away.mean() / length)


def last_seen(places: Tensor, start: Tensor) -> Tensor:
    """Put the last known place (T x 2) where one is NaN, and `start` (2) before the first that is known."""
    filled = places.clone()
    for t in range(len(filled)):
        if filled[t].isnan().any():
            filled[t] = filled[t - 1] if t else start
    return filled


def distance_to_stroke(points: Tensor, stroke: Tensor) -> Tensor:
    """Distance of each point (T x 2) from the polyline through the stroke's points (S x 2); T."""
    if len(stroke) == 1:
        return (points - stroke).norm(dim=1)
    start, way = stroke[:-1], stroke.diff(dim=0)  # S-1 x 2
    off = points[:, None] - start  # T x S-1 x 2
    # A part without length has its nearest point at its start.
    share = ((off * way).sum(-1) / way.square().sum(-1).clamp_min(1e-12)).clamp(0, 1)
    return (off - share[..., None] * way).norm(dim=-1).amin(dim=1)


class PCK(Mean):
    """Percentage of correct keypoints.

    A joint is right when it is at most alpha max(h, w) away, h and w being the sides of the person's box (Yang and
    Ramanan, "Articulated human detection with flexible mixtures of parts", PAMI 2013). Papers on Penn Action take
    alpha = 0.2 (such as Luo et al., "LSTM pose machines", CVPR 2018).

    Args:
        share: alpha.
    """

    higher_is_better = True

    def __init__(self, share: float = 0.2, **options: Any):
        super().__init__(**options)
        self.share = share
        self.definition = (
            f"percent of the truth's visible joints whose place in the made frame is at most {share:g} times the "
            "larger side of the true box away, over all joints of all frames; a joint not found is wrong; higher is "
            "better"
        )

    def update(self, made: Tensor, real: Tensor, box: Tensor) -> None:
        """Add frames: joints, N x K x 3 (x, y, found), twice, and the true boxes, N x 4 (x0, y0, x1, y1); pixels."""
        if made.shape != real.shape or made.ndim != 3 or made.shape[2] != 3 or box.shape != (len(made), 4):
            shapes = ", ".join(str(tuple(part.shape)) for part in (made, real, box))
            raise ValueError(f"Joints must both be N x K x 3 and boxes N x 4, not {shapes}.")
        side = (box[:, 2:] - box[:, :2]).double().amax(dim=1, keepdim=True)
        away = (made[..., :2].double() - real[..., :2]).norm(dim=-1)
        right = (away <= self.share * side) & (made[..., 2] > 0)
        self.add(100.0 * right[(real[..., 2] > 0) & ~side.isnan()])


class Spill(Mean):
    """How much changes where nothing should."""

    definition = (
        "mean absolute difference in [0, 1] between the made frames and the still, over the pixels that rest in the "
        "whole true clip, per clip with frame 0, then over clips; a clip without such pixels does not count; lower "
        "is better"
    )
    higher_is_better = False

    def update(self, made: Tensor, still: Tensor, resting: Tensor) -> None:
        """Add a clip: T x 3 x H x W and 3 x H x W in [0, 1], and which pixels rest, H x W; see `resting`."""
        each = spill_per_frame(made, still, resting)
        if resting.any():
            self.add(each.mean())


def spill_per_frame(made: Tensor, still: Tensor, resting: Tensor) -> Tensor:
    """Mean absolute change of the resting pixels in every frame, for a curve over time; T. NaN if none rests."""
    if made.ndim != 4 or made.shape[1:] != still.shape or resting.shape != still.shape[1:] or len(still) != 3:
        shapes = ", ".join(str(tuple(part.shape)) for part in (made, still, resting))
        raise ValueError(f"Frames, still and pixels must be T x 3 x H x W, 3 x H x W and H x W, not {shapes}.")
    return (made.double() - still)[..., resting.bool()].abs().mean(dim=(1, 2))


def resting(mask: np.ndarray, *flows: np.ndarray, margin: int | None = None) -> np.ndarray:
    """Find the pixels that show the background in all frames and never move.

    Args:
        mask: T x H x W, above 0 on what moves: a track of a world.
        flows: T-1 x H x W x 2 in pixels, forward and backward. Without them the camera is taken to stand still.
        margin: so many pixels around what moves are left out: edges are soft, and a mask starts at half a pixel.
            None takes a 32nd of the smaller side, which leaves the true clips of plants and digits no change at all.

    Returns:
        `bool`, H x W. Shadows, flicker and noise move no pixel, so the true clip itself has some spill.
    """
    busy: np.ndarray = np.any(np.asarray(mask) > 0, axis=0)
    for flow in flows:
        # float16 cannot hold much less than this beside whole pixels.
        busy |= (np.abs(np.asarray(flow, np.float32)) > 1e-3).any(axis=(0, 3))
    margin = -(-min(busy.shape) // 32) if margin is None else margin
    kernel = np.ones((2 * margin + 1, 2 * margin + 1), np.uint8)
    return cv2.dilate(busy.astype(np.uint8), kernel) == 0


class Counterfactual(Mean):
    """Does the answer fit its own control better than another one?"""

    definition = (
        "percent of answers with a smaller mean absolute difference from the truth of what was asked than from the "
        "truth of the other control on the same still; a tie is half; higher is better, and 50 is what a model "
        "gets that ignores the control when each pair is asked both ways"
    )
    higher_is_better = True

    def update(self, made: Tensor, asked: Tensor, other: Tensor) -> None:
        """Add one answer and both truths, of one shape: frames, or paths. A NaN in the answer makes it wrong."""
        if not made.shape == asked.shape == other.shape:
            shapes = ", ".join(str(tuple(part.shape)) for part in (made, asked, other))
            raise ValueError(f"The answer and both truths must have one shape, not {shapes}.")
        near, far = ((made.double() - truth).abs().mean() for truth in (asked, other))
        if not torch.equal(asked, other):
            self.add(100.0 * ((near < far).double() + 0.5 * (near == far).double()))


class Identity(Mean):
    """Is the one in the made frames nearest to whom it should be?"""

    definition = (
        "percent of frames whose features are nearer (Euclidean) to those of the right identity than to any other's; "
        "a tie is wrong; higher is better, and chance is 100 over the number of identities"
    )
    higher_is_better = True

    def update(self, features: Tensor, gallery: Tensor, right: Tensor) -> None:
        """Add frames: their features, N x D, one row per identity, M x D, and the right rows, N whole numbers."""
        sizes = features.shape[1:] == gallery.shape[1:] and features.ndim == 2 and len(gallery) >= 2
        if not sizes or right.shape != features.shape[:1]:
            shapes = ", ".join(str(tuple(part.shape)) for part in (features, gallery, right))
            raise ValueError(f"Features must be N x D, M x D with two rows or more, and N numbers, not {shapes}.")
        away = (features.double()[:, None] - gallery.double()).norm(dim=-1)
        own = away.gather(1, right[:, None].long())[:, 0]
        others = away.scatter(1, right[:, None].long(), torch.inf).amin(dim=1)
        self.add(100.0 * (own < others))


TRUTH_METRICS: Mapping[str, Callable[[], Metric]] = {
    "reach": Reach,
    "follow": Follow,
    "follow (share)": partial(Follow, unit="length"),
    "pose error": partial(AKD, distance="euclidean"),
    "PCK@0.2": PCK,
    "spill": Spill,
    "counterfactual": Counterfactual,
    "identity": Identity,
}
"""By the headings that reports use. The pose error is AKD with a world's joints as the real ones."""
