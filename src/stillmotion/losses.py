"""Losses that two or more systems share: GAN forms, feature matching, pyramids."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def lsgan_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Least-squares GAN, discriminator side: mean of (1 - D(real))^2 + D(fake)^2; scores of any shape -> scalar."""
    return ((1 - real.float()) ** 2).mean() + (fake.float() ** 2).mean()


def lsgan_generator(fake: Tensor) -> Tensor:
    """Least-squares GAN, generator side: mean of (1 - D(fake))^2; scores of any shape -> scalar."""
    return ((1 - fake.float()) ** 2).mean()


def log_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Log-loss GAN, discriminator side: mean of -log s(real) - log(1 - s(fake)), s the logistic function."""
    return F.softplus(-real.float()).mean() + F.softplus(fake.float()).mean()


def log_generator(fake: Tensor) -> Tensor:
    """Log-loss GAN, generator side, in the form that does not saturate: mean of -log s(fake); scores -> scalar."""
    return F.softplus(-fake.float()).mean()


def feature_matching(
    fake: Sequence[Tensor], real: Sequence[Tensor], weights: Sequence[float], squared: bool = False
) -> Tensor:
    """Weighted mean difference between two lists of feature maps; the real side is held constant.

    Args:
        fake: maps of the generated picture, one B x C x H x W each.
        real: maps of the real picture, same shapes.
        weights: one factor per map; a map with factor 0 is not computed.
        squared: take squares instead of absolute values.
    """
    compare = F.mse_loss if squared else F.l1_loss
    total = torch.zeros((), device=fake[0].device)
    for made, truth, weight in zip(fake, real, weights, strict=True):
        if weight:
            total = total + weight * compare(made.float(), truth.detach().float())
    return total


def pyramid_l1(made: Tensor, truth: Tensor, levels: int = 4, weights: Tensor | None = None) -> Tensor:
    """Mean absolute difference at full size and at `levels - 1` halvings, averaged over the levels.

    Args:
        made: B x C x H x W.
        truth: the same shape; sides of at least 2^(levels - 1) pixels.
        levels: how many sizes; 1 is plain L1.
        weights: B x 1 x H x W, how much each pixel counts; None for all alike.
    """
    total = weighted_l1(made, truth, weights)
    for _ in range(levels - 1):
        made, truth = F.avg_pool2d(made, 2), F.avg_pool2d(truth, 2)
        weights = None if weights is None else F.avg_pool2d(weights, 2)
        total = total + weighted_l1(made, truth, weights)
    return total / levels


def weighted_l1(made: Tensor, truth: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean absolute difference, B x C x H x W, with each pixel counted by `weights` (B x 1 x H x W), if given."""
    difference = (_wide(made) - _wide(truth)).abs()
    return difference.mean() if weights is None else (difference * weights).mean()


def moving_weights(source: Tensor, target: Tensor, focus: float, full: float = 0.1) -> Tensor:
    """Weights that count the pixels in which two frames differ up to 1 + `focus` times; their mean is one.

    In a clip with a still camera a waving arm is a few percent of the pixels, and the rest is copied noise.

    Args:
        source: B x C x H x W.
        target: the same shape.
        focus: how much more a moving pixel counts; 0 counts all alike.
        full: mean difference over the channels that counts as moving for certain.

    Returns:
        B x 1 x H x W.
    """
    weights = 1 + focus * changed(source, target, full)
    return weights / weights.mean()


def changed(source: Tensor, target: Tensor, full: float) -> Tensor:
    """How far two frames differ: 0 to 1 where the mean difference over the channels reaches `full`.

    B x C x H x W both, to B x 1 x H x W.
    """
    return ((target - source).abs().mean(dim=1, keepdim=True) / full).clamp(max=1)


def _wide(values: Tensor) -> Tensor:
    """At least float32: half precision is for convolutions, not for means over a picture."""
    return values if values.dtype == torch.float64 else values.float()
