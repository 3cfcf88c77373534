"""Losses of the paper, as pure functions; those of ours are in `keypoints.losses`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stillmotion import losses
from stillmotion.keypoints.networks import Keypoints
from stillmotion.systems.driving.config import LossConfig
from stillmotion.systems.driving.networks import Discriminator


def adversarial_losses(
    discriminator: Discriminator, frame: Tensor, driving: Tensor, found: Keypoints, weights: LossConfig
) -> dict[str, Tensor]:
    """The generator's side, weighted: feature matching (Eq. 6) and least-squares GAN (Eq. 5).

    Args:
        discriminator: D.
        frame: generated, N x 3 x S x S.
        driving: real, the same shape.
        found: keypoints of the driving frames. With `detach_heatmaps` no gradient goes through them (paper); without,
            it does in both of D's passes, the one on the real frame too (release).
        weights: of the stage.
    """
    attached = not weights.detach_heatmaps
    given = found if attached else found.detach()
    *fake_maps, fake_score = discriminator(frame, given)
    with torch.set_grad_enabled(torch.is_grad_enabled() and attached):
        *real_maps, _ = discriminator(driving, given)
    matching = losses.feature_matching(fake_maps, real_maps, weights.feature_matching, attached=attached)
    return {
        "feature_matching": matching,
        "gan": weights.gan * losses.lsgan_generator(fake_score),
    }


def discriminator_loss(discriminator: Discriminator, frame: Tensor, driving: Tensor, found: Keypoints) -> Tensor:
    """D's side (Eq. 5), on the real and the detached generated frame beside the same detached heatmaps."""
    given = found.detach()
    real = discriminator(driving, given)[-1]
    fake = discriminator(frame.detach(), given)[-1]
    return losses.lsgan_discriminator(real, fake)


def prediction_losses(predicted: Keypoints, truth: Keypoints, covariance: bool) -> dict[str, Tensor]:
    """L1 of means, and of covariances if they are predicted, over all frames but the first; N x T x K."""
    names: Sequence[str] = ("mean", "covariance") if covariance else ("mean",)
    pairs = zip(names, predicted, truth, strict=False)
    return {name: (one - other)[:, 1:].abs().mean() for name, one, other in pairs}
