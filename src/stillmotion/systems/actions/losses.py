"""Every loss of both stages (Sec. 2); frames are in [-1, 1]. The cross-entropies are in `stillmotion.losses`."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion import losses
from stillmotion.nn.vgg import frozen_vgg
from stillmotion.systems.actions.config import LossConfig, MotionLossConfig, PerceptualConfig
from stillmotion.systems.actions.motion import MotionOutput

LEAST_VARIANCE = 1e-8
"""Added to variances whose logarithm is taken (release): a ReLU's deviation may be zero, which costs 8.7 nats."""


# --- stage `keypoints` ----------------------------------------------------------------------------------------------
def perceptual_network(settings: PerceptualConfig) -> nn.Module | None:
    """The frozen VGG of the perceptual loss, with the errors of `frozen_vgg`; None where it has no weight."""
    if not settings.weight:
        return None
    return frozen_vgg(settings.network, settings.file, "losses.perceptual", "weight=0", inputs=settings.inputs)


def perceptual_loss(network: nn.Module, generated: Tensor, target: Tensor) -> Tensor:
    """Mean over the maps of their mean absolute differences; no gradient flows into the target.

    The paper writes the expectation of a norm over layers; the release takes means of both.

    Args:
        network: N x 3 x S x S in [0, 1] to maps; a VGG gives five, those of the last convolution of each block.
        generated: N x 3 x S x S in [-1, 1], or beyond.
        target: the same shape.
    """
    maps = network.to(generated.device)((generated.float() + 1) / 2)
    wanted = network((target.float() + 1) / 2)
    return losses.feature_matching(maps, wanted, [1 / len(maps)] * len(maps))


def translator_losses(
    network: nn.Module | None, discriminator: nn.Module | None, frame: Tensor, target: Tensor, weights: LossConfig
) -> dict[str, Tensor]:
    """What detector, image encoder and translator minimise, weighted.

    Args:
        network: see `perceptual_loss`; None leaves it out.
        discriminator: frames to logits; None leaves it out.
        frame: N x 3 x S x S, translated.
        target: the true frame.
        weights: of the terms.
    """
    terms = {}
    if network is not None:
        terms["perceptual"] = weights.perceptual.weight * perceptual_loss(network, frame, target)
    if discriminator is not None:
        terms["gan"] = weights.gan * losses.log_generator(discriminator(frame))
    return terms


# --- stage `motion` -------------------------------------------------------------------------------------------------
def motion_losses(
    output: MotionOutput, future: Tensor, discriminator: nn.Module | None, weights: MotionLossConfig, done: float
) -> dict[str, Tensor]:
    """What the motion generator minimises (Eq. 5), weighted.

    Args:
        output: of N sequences.
        future: N x T x K x 2, the true ones.
        discriminator: sequences to logits; None leaves it out.
        weights: of the terms.
        done: share of the stage that is over.
    """
    divergence = with_free_bits(kl_divergence(output.mean, output.std), weights.free_bits)
    terms = {
        "kl": weights.kl * kl_factor(weights, done) * divergence,
        "reconstruction": weights.reconstruction * F.l1_loss(output.sequence, future),
    }
    if discriminator is not None:
        terms["gan"] = weights.gan * losses.log_generator(discriminator(output.sequence))
    return terms


def kl_divergence(mean: Tensor, std: Tensor) -> Tensor:
    """Divergence of N(mean, std^2) from N(0, 1), of each number of z; N x Z -> N x Z, nats.

    Of a latent it is the sum over Z, which the loss takes; a mean would make its weight depend on Z.
    """
    variance = std.square()
    return 0.5 * (mean.square() + variance - (LEAST_VARIANCE + variance).log() - 1)


def with_free_bits(divergence: Tensor, free_bits: float = 0.0) -> Tensor:
    """Batch mean, summed over the numbers of z, each of which counts at least as `free_bits`; N x Z -> scalar.

    A number below has no gradient, so it is not pressed to zero (Kingma et al., 2016, with the batch as one group).
    """
    return divergence.mean(0).clamp_min(free_bits).sum()


def kl_factor(weights: MotionLossConfig, done: float) -> float:
    """Factor of the divergence's weight when a share of the stage is over: evenly from 0 to 1 over `kl_ramp`."""
    return min(1.0, done / weights.kl_ramp) if weights.kl_ramp else 1.0


# --- both -----------------------------------------------------------------------------------------------------------
def discriminator_loss(network: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """Cross-entropy of real samples against 1 plus that of generated ones against 0; no gradient into the latter."""
    return losses.log_discriminator(network(real), network(fake.detach()))
