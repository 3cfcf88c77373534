"""Losses that two or more systems share: GAN forms, gradient penalties, feature matching, photometric terms.

Scores are logits of any shape. All losses are computed in float32 at least. Every loss is a mean over the batch of
this process. Batches are equally large on all processes, so the mean over processes is the mean over the whole batch.
A loss that divides by something else (visible pixels, known joints) needs `global_mean` for that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.distributed
from torch import Tensor
from torch.nn import functional as F


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge GAN, discriminator side: mean of relu(1 - D(real)) + mean of relu(1 + D(fake)); scores -> scalar."""
    return F.relu(1 - real.float()).mean() + F.relu(1 + fake.float()).mean()


def hinge_generator(fake: Tensor) -> Tensor:
    """Hinge GAN, generator side: minus the mean of D(fake); scores -> scalar."""
    return -fake.float().mean()


def wgan_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Wasserstein GAN, critic side: mean of D(fake) - mean of D(real); scores -> scalar."""
    return fake.float().mean() - real.float().mean()


wgan_generator = hinge_generator
"""Wasserstein GAN, generator side: minus the mean of D(fake); scores -> scalar."""


def lsgan_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Least-squares GAN, discriminator side: mean of (1 - D(real))^2 + mean of D(fake)^2; scores -> scalar."""
    return ((1 - real.float()) ** 2).mean() + (fake.float() ** 2).mean()


def lsgan_generator(fake: Tensor) -> Tensor:
    """Least-squares GAN, generator side: mean of (1 - D(fake))^2; scores -> scalar."""
    return ((1 - fake.float()) ** 2).mean()


def log_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Log-loss GAN, discriminator side: mean of -log s(real) - log(1 - s(fake)), s the logistic function."""
    return F.softplus(-real.float()).mean() + F.softplus(fake.float()).mean()


def log_generator(fake: Tensor) -> Tensor:
    """Log-loss GAN, generator side, in the form that does not saturate: mean of -log s(fake); scores -> scalar."""
    return F.softplus(-fake.float()).mean()


def gradient_penalty(
    discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, generator: torch.Generator
) -> Tensor:
    """WGAN-GP (Gulrajani et al., 2017): mean over samples of (|gradient| - 1)^2 between real and generated samples.

    The gradient is that of the summed scores with respect to e real + (1 - e) fake, with one uniform e per sample. A
    condition that is concatenated to both sides stays as it is, and its channels count in the norm.

    Args:
        discriminator: B x ... -> scores of any shape; runs in float32.
        real: B x ...; no gradient flows into it.
        fake: the same shape; no gradient flows into it.
        generator: a CPU generator, the source of e.

    Returns:
        A scalar; finite, with finite gradients, where the norm is zero.
    """
    share = torch.rand(len(real), generator=generator).to(real.device).view(-1, *(1 for _ in real.shape[1:]))
    between = fake.detach().float() + share * (real.detach().float() - fake.detach().float())
    norms = torch.linalg.vector_norm(_input_gradient(discriminator, between).flatten(1), dim=1)
    return ((norms - 1) ** 2).mean()


def r1_penalty(discriminator: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """R1 (Mescheder et al., 2018) without the factor 1/2: mean over samples of |gradient|^2 at real samples.

    Args:
        discriminator: B x ... -> scores of any shape, which are summed; runs in float32.
        real: B x ...; no gradient flows into it.
    """
    return _input_gradient(discriminator, real.detach().float()).square().flatten(1).sum(1).mean()


def _input_gradient(discriminator: Callable[[Tensor], Tensor], sample: Tensor) -> Tensor:
    """Gradient of the summed scores with respect to the input, as part of the graph."""
    with torch.enable_grad(), torch.autocast(sample.device.type, enabled=False):
        sample = sample.requires_grad_()
        return torch.autograd.grad(discriminator(sample).sum(), sample, create_graph=True)[0]


def global_mean(total: Tensor, count: Tensor | float) -> Tensor:
    """The mean of a sum over a count, both over all processes; zero where nothing counts.

    The value is the same on all processes. The gradient of a process is that of its own part times the number of
    processes, so the mean of gradients that `update` takes is the gradient of the whole batch's mean.

    Args:
        total: this process's sum, e.g. `(weights * errors).sum()`; a scalar.
        count: this process's count, e.g. `weights.sum()`; not negative. All processes must call this equally often.

    Returns:
        A scalar.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        world = torch.distributed.get_world_size()
        total = _at_least_float32(total)
        own = torch.stack([total, torch.as_tensor(count, dtype=total.dtype, device=total.device)])
        everyone = own.detach().clone()
        torch.distributed.all_reduce(everyone)
        # Adds zero to the value and the gradient of the own part: no communication in the backward pass.
        total, count = everyone + world * (own - own.detach())
    return total / (count.clamp_min(1e-6) if isinstance(count, Tensor) else max(count, 1e-6))


def feature_matching(
    fake: Sequence[Tensor],
    real: Sequence[Tensor],
    weights: Sequence[float],
    squared: bool = False,
    attached: bool = False,
) -> Tensor:
    """Weighted mean difference between two lists of feature maps.

    Args:
        fake: maps of the generated image or clip, B x ... each.
        real: maps of the real one, same shapes.
        weights: one factor per map; a map with factor 0 is not computed.
        squared: take squares instead of absolute values.
        attached: gradients flow into the real side as well.
    """
    distance = F.mse_loss if squared else F.l1_loss
    total = torch.zeros((), device=fake[0].device)
    for generated, target, weight in zip(fake, real, weights, strict=True):
        if weight:
            target = target if attached else target.detach()
            total = total + weight * distance(generated.float(), target.float())
    return total


def pyramid_l1(generated: Tensor, target: Tensor, levels: int = 4, weights: Tensor | None = None) -> Tensor:
    """Mean absolute difference at full size and at `levels - 1` halvings, averaged over the levels.

    Args:
        generated: B x C x H x W.
        target: the same shape; sides of at least 2^(levels - 1) pixels.
        levels: how many sizes; 1 is plain L1.
        weights: B x 1 x H x W, how much each pixel counts; None for all alike.
    """
    total = weighted_l1(generated, target, weights)
    for _ in range(levels - 1):
        generated, target = F.avg_pool2d(generated, 2), F.avg_pool2d(target, 2)
        weights = None if weights is None else F.avg_pool2d(weights, 2)
        total = total + weighted_l1(generated, target, weights)
    return total / levels


def weighted_l1(generated: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean absolute difference, B x C x H x W, with each pixel counted by `weights` (B x 1 x H x W), if given."""
    difference = (_at_least_float32(generated) - _at_least_float32(target)).abs()
    return difference.mean() if weights is None else (difference * weights).mean()


def motion_weights(source: Tensor, target: Tensor, gain: float, saturation: float = 0.1) -> Tensor:
    """Weights of up to 1 + `gain` for pixels in which two frames differ; their mean over all processes is one.

    With a static camera a waving arm covers a few percent of the pixels, and the rest is sensor noise.

    Args:
        source: B x C x H x W.
        target: the same shape.
        gain: additional weight of a moving pixel; 0 weights all alike.
        saturation: mean difference over the channels from which a pixel has the full weight.

    Returns:
        B x 1 x H x W.
    """
    weights = 1 + gain * frame_difference(source, target, saturation)
    return weights / global_mean(weights.sum(), weights.numel())


def frame_difference(source: Tensor, target: Tensor, saturation: float) -> Tensor:
    """Mean absolute difference over the channels, as a share of `saturation` clipped to 1.

    B x C x H x W both, to B x 1 x H x W.
    """
    return ((target - source).abs().mean(dim=1, keepdim=True) / saturation).clamp(max=1)


def _at_least_float32(values: Tensor) -> Tensor:
    """Half precision is for convolutions, not for means over an image."""
    return values if values.dtype == torch.float64 else values.float()


def displacement_error(predicted: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Mean end-point error of a displacement over the pixels that count, in its own units; 0 where none does.

    Args:
        predicted: N x H x W x 2.
        target: the same shape.
        weights: N x H x W, not negative.
    """
    # A root's gradient is infinite at zero, where a flow that starts at zero meets a background that does not move.
    error = (_at_least_float32(predicted) - target).square().sum(-1).add(1e-8).sqrt()
    return global_mean((weights * error).sum(), weights.sum())


def source_cross_entropy(shares: Tensor, target: Tensor, class_weights: Sequence[float]) -> Tensor:
    """Cross-entropy of the shares of the sources of pixels, weighted by class, over the pixels whose source is known.

    Args:
        shares: N x C x H x W, positive, of sum one.
        target: N x H x W, `int64`; pixels with a negative class do not count.
        class_weights: C factors.
    """
    weights = torch.tensor(class_weights, dtype=torch.float32, device=shares.device)
    counted = weights[target.clamp_min(0)] * (target >= 0)
    share = _at_least_float32(shares).gather(1, target.clamp_min(0)[:, None])[:, 0]
    return global_mean((counted * -share.clamp_min(1e-6).log()).sum(), counted.sum())


def figure_cross_entropy(logits: Tensor, figure: Tensor) -> Tensor:
    """Binary cross-entropy of a figure over the pixels whose truth is known.

    Args:
        logits: N x 1 x H x W.
        figure: the same shape, 0 or 1; negative where it is not known.
    """
    known = (figure >= 0).float()
    error = F.binary_cross_entropy_with_logits(logits.float(), figure.clamp_min(0), reduction="none")
    return global_mean((known * error).sum(), known.sum())
