"""Metrics of pokes: predicted displacement fields against a world's exact motion, and what changes in the frames.

A field is backward and in pixels: the value at a place of the predicted frame is the offset from there to the place
of the still that is shown (docs/conventions.md, `displacement`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stillmotion.evaluation.metrics.base import MeanOfValues, RatioOfSums, check_frames, shapes
from stillmotion.geometry import to_normalised, warp


class PokeError(MeanOfValues):
    """Error of the predicted displacement at the poked point over the poke's length: 1 for a field of zeros."""

    definition = (
        "distance of the predicted backward displacement, at the place where the poked point is to be in the last "
        "frame, from the true one, as a share of the poke's length, over all pokes; a still picture has 1; a poke of "
        "zero length does not count; lower is better"
    )

    def update(self, displacement: Tensor, start: Tensor, target: Tensor) -> None:
        """Add a poke.

        Args:
            displacement: of the last frame, H x W x 2 pixels.
            start: the poked point's place in the still, (x, y) in pixels.
            target: its place in the last frame.

        Raises:
            ValueError: the shapes do not fit.
        """
        if displacement.ndim != 3 or displacement.shape[2] != 2 or not start.shape == target.shape == (2,):
            raise ValueError(f"They must be H x W x 2, 2 and 2, not {shapes(displacement, start, target)}.")
        true = start.double() - target
        if true.any():
            self.add((value_at(displacement, target) - true).norm() / true.norm())


def value_at(field: Tensor, place: Tensor) -> Tensor:
    """The value of a field, H x W x C, at a place (x, y) in pixels; C, float64, bilinear, borders repeated."""
    where = to_normalised(place.double(), (field.shape[0], field.shape[1]))
    maps = field.double().permute(2, 0, 1)[None]
    return warp(maps, where.view(1, 1, 1, 2), padding="border").flatten()


class FlowEPE(RatioOfSums):
    """End-point error (EPE) of a predicted backward displacement over the pixels that count.

    Args:
        relative: over the length of the true displacement, which is the error of standing still: the sum of all
            errors over the sum of all lengths, so that 1 is a field of zeros. Else in pixels, a mean over pixels.
    """

    def __init__(self, relative: bool = False, **options: Any):
        super().__init__(**options)
        self.relative = relative
        over = (
            "the sum of all errors over the sum of all true lengths (no mean of ratios), so that standing still has 1"
            if relative
            else "in pixels, a mean over all of these pixels of all cases"
        )
        self.definition = self.definition or (
            "end-point error of the predicted backward displacement from each frame to the still, over the pixels "
            f"whose true displacement is known; {over}; lower is better"
        )

    def update(self, preds: Tensor, target: Tensor, counts: Tensor) -> None:
        """Add a case: fields, ... x 2 in pixels, and the pixels that count, `bool` of the shape before the 2.

        Raises:
            ValueError: the shapes do not fit.
        """
        if preds.shape != target.shape or preds.shape != (*counts.shape, 2):
            raise ValueError(f"Fields and pixels must be ... x 2 and ..., not {shapes(preds, target, counts)}.")
        preds, target = preds[counts].double(), target[counts].double()
        scale = target.norm(dim=-1).sum() if self.relative else counts.sum()
        self.add((preds - target).norm(dim=-1).sum(), scale)


class BackgroundDisplacement(RatioOfSums):
    """Mean length of the predicted displacement where the truth does not move."""

    definition = (
        "mean length in pixels of the predicted displacement over the pixels that are static in the whole target "
        "clip and all frames after the still; lower is better"
    )

    def update(self, displacement: Tensor, static: Tensor) -> None:
        """Add a case: the fields of its frames, T x H x W x 2 in pixels, and the static pixels, H x W `bool`.

        Raises:
            ValueError: the shapes do not fit.
        """
        if displacement.ndim != 4 or displacement.shape[1:] != (*static.shape, 2):
            found = shapes(displacement, static)
            raise ValueError(f"Fields and pixels must be T x H x W x 2 and H x W, not {found}.")
        lengths = displacement.double().norm(dim=-1)[:, static]
        self.add(lengths.sum(), torch.tensor(lengths.numel()))


class ChangedPixels(RatioOfSums):
    """Error of a prediction over that of a copied still, where the target changes: 1 for the still."""

    definition = (
        "sum of the absolute pixel errors over that of copying the still, in the region that changes in the target, "
        "all frames and cases summed before the division; the still has 1; lower is better"
    )

    def update(self, preds: Tensor, target: Tensor, still: Tensor, region: Tensor) -> None:
        """Add a case: T x 3 x H x W twice, 3 x H x W, all in [0, 1], and the region that counts, T x H x W `bool`.

        Raises:
            ValueError: the shapes do not fit.
        """
        check_frames(preds, target)
        if still.shape != target.shape[1:] or region.shape != (len(preds), *preds.shape[2:]):
            raise ValueError(f"Still and region must be 3 x H x W and T x H x W, not {shapes(still, region)}.")
        errors = [((frames.double() - target).abs().sum(1) * region).sum() for frames in (preds, still[None])]
        self.add(*errors)
