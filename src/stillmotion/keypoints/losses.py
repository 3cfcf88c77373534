"""Losses of pairs of frames and of keypoints, as pure functions. All are ours."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from stillmotion import geometry, losses
from stillmotion.keypoints.config import NetworkConfig, PairLossConfig
from stillmotion.keypoints.networks import GeneratorOutput, Keypoints, shrink
from stillmotion.rendering.fields import PAINT, PLATE

SHARE_WEIGHTS = (1.0, 1.0, 2.0, 2.0)
"""Of the four sources in the cross-entropy: few pixels are hidden. With less for the unmoved still, the moved one
spread over the background around the figure (docs/log.md, 2026-11-27)."""


def reconstruction_losses(
    output: GeneratorOutput,
    source: Tensor,
    driving: Tensor,
    weights: PairLossConfig,
    config: NetworkConfig | None = None,
    visibility: Tensor | None = None,
) -> dict[str, Tensor]:
    """Photometric terms, weighted: how far the output is from the driving frames.

    Args:
        output: of N frames.
        source: the stills, N x 3 x S x S in [0, 1].
        driving: the targets, the same shape.
        weights: of the stage.
        config: of the networks that find the masks whose mixture counts, if it does.
        visibility: N x S x S, what each pixel shows of the still, see `data.motion_truth`. Where it is known, the
            warped still is compared with what it can show, and the paint with what it alone can.
    """
    terms: dict[str, Tensor] = {}
    pixels = losses.motion_weights(source, driving, weights.motion_weighting) if weights.motion_weighting else None
    if visibility is not None and weights.paint_weighting:
        needed = 1 + weights.paint_weighting * (visibility == PAINT)[:, None].float()
        pixels = needed if pixels is None else pixels * needed
    seen, hidden = counted(pixels, visibility)
    if weights.pyramid:
        terms["pyramid"] = weights.pyramid * losses.pyramid_l1(output.frame, driving, weights=pixels)
    if weights.warp:
        terms["warp"] = weights.warp * losses.weighted_l1(output.warped, driving, seen)
    if weights.paint and output.fields is not None:
        # Without a loss of its own the paint saturates: early on the warped still is always better, so the blend
        # excludes the paint, and an excluded source gets no gradient (docs/log.md, G).
        terms["paint"] = weights.paint * losses.weighted_l1(output.fields.paint, driving, hidden)
    if weights.mask_mixture and output.motion.mixture is not None:
        # The flow's gradient is local. The mixture compares whole shifts with the target, so a mask learns which
        # keypoint's shift brings the right pixels from afar.
        assert config is not None
        smaller = None if pixels is None else shrink(pixels, config)
        mixture = losses.weighted_l1(output.motion.mixture, shrink(driving, config), smaller)
        terms["mask_mixture"] = weights.mask_mixture * mixture
    return terms


def counted(pixels: Tensor | None, visibility: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Weights of the pixels, N x 1 x S x S, for the warped still and for the paint; None for all alike."""
    if visibility is None:
        return pixels, pixels
    hidden = ((visibility == PLATE) | (visibility == PAINT))[:, None].float()
    unknown = (visibility < 0)[:, None].float()
    base = torch.ones_like(hidden) if pixels is None else pixels
    return base * (1 - hidden), base * (hidden + unknown)


def truth_losses(
    output: GeneratorOutput, figure: Tensor, batch: Mapping[str, Tensor], weights: PairLossConfig
) -> dict[str, Tensor]:
    """Ours: terms against known motion, weighted; pixels of clips that do not know theirs (real ones) do not count.

    Photometric terms alone leave the flow short of the target and fill the gap with paint, which blurs
    (docs/log.md, 2026-11-26).

    Args:
        output: of N frames of a `FieldGenerator`.
        figure: logits of the stills' figures, N x 1 x S x S.
        batch: what `data.motion_truth` gives.
        weights: of the stage.
    """
    assert output.fields is not None
    terms: dict[str, Tensor] = {}
    if weights.displacement:
        # The background's flow is zero in almost every pixel, and a static pixel is copied whatever its flow.
        error = losses.displacement_error(output.fields.displacement, batch["displacement"], batch["moving"])
        terms["displacement"] = weights.displacement * error
    if weights.visibility:
        wrong = losses.source_cross_entropy(output.fields.shares, batch["visibility"], SHARE_WEIGHTS)
        terms["visibility"] = weights.visibility * wrong
    if weights.figure:
        terms["figure"] = weights.figure * losses.figure_cross_entropy(figure, batch["figure"])
    return terms


def equivariance(detector: nn.Module, frames: Tensor, found: Keypoints, generator: torch.Generator) -> Tensor:
    """Mean distance (L1 per axis) between the keypoints of a transformed frame and the transformed keypoints.

    Ours, as in the paper's successors: with few people to learn from, it keeps a keypoint on the same body part.

    Args:
        detector: the keypoint detector.
        frames: N x 3 x S x S.
        found: their keypoints.
        generator: the random rotations, scales and shifts are drawn from it.
    """
    matrix, offset = random_affine(len(frames), generator, frames.device)
    grid = geometry.identity_grid((frames.shape[2], frames.shape[3]), frames)
    grid = apply_affine(matrix, offset, grid.expand(len(frames), -1, -1, -1).flatten(1, 2))
    moved = geometry.warp(frames, grid.view(len(frames), *frames.shape[2:], 2), padding="border")
    return (apply_affine(matrix, offset, detector(moved).mean) - found.mean).abs().mean()


def random_affine(count: int, generator: torch.Generator, device: torch.device) -> tuple[Tensor, Tensor]:
    """`count` small random similarity transforms: N x 2 x 2 matrices and N x 1 x 2 offsets, normalised units."""
    drawn = (torch.rand(count, 4, generator=generator) * 2 - 1).to(device)
    angle, scale = drawn[:, 0] * math.radians(25), 1 + 0.2 * drawn[:, 1]
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    matrix = torch.stack([torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)], -2)
    return matrix, 0.2 * drawn[:, None, 2:]


def apply_affine(matrix: Tensor, offset: Tensor, points: Tensor) -> Tensor:
    """Map N x P x 2 points by matrix and offset, written out: bmm over two-wide axes is slow on a CPU."""
    x, y = points[..., 0], points[..., 1]
    m = matrix[:, None]
    return torch.stack([m[..., 0, 0] * x + m[..., 0, 1] * y, m[..., 1, 0] * x + m[..., 1, 1] * y], -1) + offset


def separation(mean: Tensor, reach: float = 0.1) -> Tensor:
    """How close keypoints are: mean over pairs of exp(-distance^2 / (2 reach^2)); N x K x 2 -> scalar in [0, 1].

    Ours (Zhang et al. 2018). Without it most keypoints of a small network settle on the torso's centre
    (docs/log.md, 2026-11-21).
    """
    x, y = mean[..., 0], mean[..., 1]
    square = (x[:, :, None] - x[:, None, :]) ** 2 + (y[:, :, None] - y[:, None, :]) ** 2
    count = mean.shape[1]
    close = torch.exp(-square / (2 * reach**2)).sum(dim=(1, 2)) - count  # without each point's own
    return (close / max(count * (count - 1), 1)).mean()


def joint_distance(found: Tensor, points: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean distance (L1 per axis) of keypoints from joints; 0 where no joint has a weight.

    Args:
        found: N x K x 2, normalised.
        points: N x K x 2, where they should be.
        weights: N x K.
    """
    away = (found - points).abs().mean(2)
    return losses.global_mean((weights * away).sum(), weights.sum())


def narrowness(found: Keypoints, least: float = 0.005) -> Tensor:
    """How far the maps' variance (mean of both axes) falls below `least`, in squared normalised units; a scalar.

    Without it the maps collapse to single pixels, whose gaussians carry no information for the motion network. The
    square root of 0.005 is 2.2 of 64 pixels, about the width of an arm. Wide maps are not penalised: a pull from both
    sides froze the keypoints where they were.
    """
    return (least - found.covariance.diagonal(dim1=-2, dim2=-1).mean(-1)).clamp_min(0).mean()
