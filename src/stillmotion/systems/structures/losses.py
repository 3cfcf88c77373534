"""Every loss, by equation (Sec. 3.2, 3.3 and 4.3). Frames are in [-1, 1].

The paper writes norms; all of these are means, as in the release. The forms of the Wasserstein GAN themselves are in
`stillmotion.losses`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion import losses
from stillmotion.geometry import to_normalised, warp
from stillmotion.keypoints import losses as photometric
from stillmotion.keypoints.config import PairLossConfig
from stillmotion.keypoints.networks import GeneratorOutput, Motion
from stillmotion.nn.vgg import frozen_vgg
from stillmotion.systems.structures.config import FeatureConfig, LossConfig
from stillmotion.systems.structures.forecasting import ForecastOutput
from stillmotion.systems.structures.refinement import RefinementOutput, to_3d

Critic = Callable[[Tensor], Tensor]
"""Frames or clips with their structure maps, N x (3 + C) x ..., to scores."""


def total(terms: Mapping[str, Tensor]) -> Tensor:
    """The sum of weighted terms."""
    return torch.stack(list(terms.values())).sum()


# --- generators -----------------------------------------------------------------------------------------------------


def forecast_losses(
    output: ForecastOutput, target: Tensor, structures: Tensor, critic: Critic, weights: LossConfig
) -> dict[str, Tensor]:
    """What G_M minimises, weighted (Eq. 4); `feature_loss` comes on top.

    Args:
        output: of N frames.
        target: N x 3 x s x s, the true frames.
        structures: N x C x s x s, their structure maps.
        critic: D_I.
        weights: of the terms.
    """
    scores = critic(torch.cat([output.frame, structures], dim=1))
    return {
        "reconstruction": weights.reconstruction * reconstruction_loss(output.frame, target),
        "mask": weights.mask * mask_loss(output.mask),
        "gan": weights.gan * losses.wgan_generator(scores),
    }


def refinement_losses(
    output: RefinementOutput,
    target: Tensor,
    structures: Tensor,
    critics: tuple[Critic, Critic] | None,
    weights: LossConfig,
) -> dict[str, Tensor]:
    """What G_R minimises, weighted (Eq. 11).

    Args:
        output: of N clips.
        target: N x K x 3 x s x s, the true clips.
        structures: N x K x C x s x s, their structure maps.
        critics: D_I and D_V; None without an adversarial loss.
        weights: of the terms.
    """
    terms = {
        "reconstruction": weights.reconstruction * reconstruction_loss(output.frames, target),
        "mask": weights.mask * mask_loss(output.mask),
    }
    if critics is not None:
        terms["gan"] = weights.gan * refinement_gan(output.frames, structures, *critics)
    if weights.temporal:
        changes = reconstruction_loss(output.frames.diff(dim=1), target.diff(dim=1))
        terms["temporal"] = weights.temporal * changes
    if weights.squared:
        terms["squared"] = weights.squared * (output.frames.float() - target.float()).square().mean()
    return terms


def field_losses(
    output: ForecastOutput,
    figure: Tensor,
    still: Tensor,
    target: Tensor,
    known: Mapping[str, Tensor],
    weights: PairLossConfig,
) -> dict[str, Tensor]:
    """Ours: what fields minimise, weighted; see `keypoints.losses`.

    Args:
        output: of N frames, with fields.
        figure: logits of the stills' figures, N x 1 x s x s.
        still: N x 3 x s x s in [0, 1].
        target: the true frames, the same shape.
        known: what `data.motion_truth` gives, of N pairs.
        weights: of the terms.
    """
    assert output.fields is not None
    assert output.warped is not None
    motion = Motion(output.fields.displacement, None)
    made = GeneratorOutput((output.frame + 1) / 2, motion, output.warped, output.fields)
    terms = photometric.reconstruction_losses(made, still, target, weights, visibility=known["visibility"])
    return terms | photometric.truth_losses(made, figure, known, weights)


def reconstruction_loss(generated: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of frames or clips of any shape (Eq. 5)."""
    return losses.weighted_l1(generated, target)


def mask_loss(mask: Tensor) -> Tensor:
    """Mean of a mask, which makes it sparse (Eq. 6)."""
    return mask.float().abs().mean()


def refinement_gan(frames: Tensor, structures: Tensor, image_critic: Critic, video_critic: Critic) -> Tensor:
    """Minus the score of the clip, minus the mean score of its K frames (Eq. 12).

    Args:
        frames: N x K x 3 x s x s.
        structures: N x K x C x s x s.
        image_critic: D_I.
        video_critic: D_V.

    Returns:
        A scalar, the mean over the clips.
    """
    single = torch.cat([frames, structures], dim=2).flatten(0, 1)
    clips = losses.wgan_generator(video_critic(to_3d(frames, structures)))
    return clips + losses.wgan_generator(image_critic(single))


# --- critics --------------------------------------------------------------------------------------------------------


def critic_loss(
    critic: Critic, real: Tensor, fake: Tensor, structures: Tensor, penalty: float, generator: torch.Generator
) -> dict[str, Tensor]:
    """What D_I minimises (Eq. 8 and Eq. 9), and D_V (Eq. 13 and Eq. 14).

    The penalty is taken between real and generated samples under the same structure maps, whose channels count in
    the norm of the gradient.

    Args:
        critic: D_I or D_V.
        real: N x 3 x s x s or N x 3 x K x s x s.
        fake: the same shape; no gradient flows into it.
        structures: N x C x s x s or N x C x K x s x s.
        penalty: lambda.
        generator: a CPU generator, for the places of the penalty.

    Returns:
        `wasserstein` and `penalty`, weighted.
    """
    real, fake = (torch.cat([samples.detach(), structures], dim=1) for samples in (real, fake))
    return {
        "wasserstein": losses.wgan_discriminator(critic(real), critic(fake)),
        "penalty": penalty * losses.gradient_penalty(critic, real, fake, generator),
    }


def sample_frame(
    real: Tensor, fake: Tensor, structures: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """One random moment of each clip, with which D_I learns while G_R does (Sec. 3.3).

    Args:
        real: N x K x 3 x s x s, true clips.
        fake: the same shape, refined clips.
        structures: N x K x C x s x s.
        generator: a CPU generator.

    Returns:
        Of the same moments N x 3 x s x s, N x 3 x s x s and N x C x s x s.
    """
    count, length = real.shape[:2]
    moments = torch.randint(length, (count,), generator=generator).to(real.device)
    rows = torch.arange(count, device=real.device)
    return real[rows, moments], fake[rows, moments], structures[rows, moments]


# --- features -------------------------------------------------------------------------------------------------------


def feature_loss(
    networks: Sequence[nn.Module], generated: Tensor, target: Tensor, boxes: Tensor, settings: FeatureConfig
) -> Tensor:
    """Feature similarity (Eq. 15): the sum over networks of the mean squared difference of their last maps.

    Args:
        networks: C_1 (appearance) and C_2 (structure, an hourglass network), or one of them: persons N x 3 x side x
            side in [0, 1] to a list of maps, of which the last counts, or all (see `FeatureConfig`).
        generated: N x 3 x s x s.
        target: the same shape; no gradient flows into it.
        boxes: N x 4, of the persons, see `crop_boxes`.
        settings: to which side persons are scaled, and which maps count.

    Returns:
        A scalar.
    """
    persons, wanted = (crop_boxes((frames + 1) / 2, boxes, settings.side) for frames in (generated, target))
    total = persons.new_zeros(())
    for network in networks:
        network = network.to(persons.device)
        with torch.no_grad():
            goals = network(wanted)
        found = network(persons)
        if settings.maps == "last":
            total = total + F.mse_loss(found[-1].float(), goals[-1].float())
        else:
            total = total + sum(map(direction_distance, found, goals), total.new_zeros(()))
    return total


def direction_distance(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean over places of the squared distance of channels scaled to unit length, N x C x H x W both; in [0, 4]."""
    first, second = (F.normalize(maps.float(), dim=1) for maps in (found, wanted))
    return (first - second).square().sum(1).mean()


def crop_boxes(frames: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Boxes of frames, scaled to a square; outside of the frame the border is repeated.

    Args:
        frames: N x C x H x W.
        boxes: N x 4, (x, y) of the outer edges left, top, right, bottom in pixels, pixel centres at integers: the
            whole frame is (-1/2, -1/2, W - 1/2, H - 1/2).
        side: of the squares.

    Returns:
        N x C x side x side, bilinear.
    """
    share = (torch.arange(side, dtype=boxes.dtype, device=boxes.device) + 0.5) / side
    x, y = (torch.lerp(boxes[:, n, None], boxes[:, n + 2, None], share) for n in (0, 1))  # N x side each
    grid = torch.stack([x[:, None].expand(-1, side, -1), y[..., None].expand(-1, -1, side)], dim=-1)
    return warp(frames, to_normalised(grid, (frames.shape[2], frames.shape[3])), padding="border")


def appearance_network(settings: FeatureConfig) -> nn.Module:
    """C_1 of Eq. 15, a frozen VGG-16, with the errors of `frozen_vgg`.

    There is no C_2: no weights of an hourglass network are at hand.
    """
    return frozen_vgg(settings.network, settings.file, "features", "weight=0")


# --- poses ----------------------------------------------------------------------------------------------------------


def pose_loss(predicted: Tensor, target: Tensor, visible: Tensor) -> Tensor:
    """Mean over all coordinates of the squared error, zero where the joint is not visible (Villegas et al.).

    Args:
        predicted: N x T x 2J, see `structure_maps.pose_vectors`.
        target: the same shape.
        visible: N x T x J, 0 or 1.
    """
    both = torch.cat([visible, visible], dim=-1)  # all x, then all y
    return (both * (predicted.float() - target.float()).square()).mean()
