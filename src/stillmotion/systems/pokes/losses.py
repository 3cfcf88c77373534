"""Every loss: of the paper's networks (Eq. 6 to 8, appendix E.2), whose frames are in [-1, 1], and of ours.

Hinge losses, gradient penalty and feature matching themselves are in `stillmotion.losses`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion import losses
from stillmotion.data.motion_truth import UNKNOWN
from stillmotion.nn.discriminators import PatchDiscriminator, TemporalDiscriminator
from stillmotion.nn.vgg import frozen_vgg, normalise
from stillmotion.rendering.fields import PAINT, PLATE, STATIC, WARPED
from stillmotion.systems.pokes.config import FieldLossConfig, PerceptualConfig, PokesConfig
from stillmotion.systems.pokes.field_network import Context, FieldNetwork, FieldOutput
from stillmotion.systems.pokes.handles import Swing, advance, sample_at

VGG_CONVOLUTION = 2
"""The second convolution of each block gives its map: conv1_2 to conv5_2 (release)."""

CLASS_WEIGHTS = {WARPED: 1.0, STATIC: 0.3, PLATE: 2.0, PAINT: 2.0}
"""Of the sources of a pixel in the cross-entropy: few pixels are hidden."""

AGREES = 1 / 32
"""Normalised, a pixel of 64: a handle that the truth at its place contradicts by more holds something else."""

MOTION_GAIN, MOTION_SATURATION = 5.0, 0.15
"""Additional weight of pixels that change, and the difference from which on it is full."""


class Discriminators(NamedTuple):
    """Of frames and of clips; None where the configuration does without."""

    frame: PatchDiscriminator | None = None
    clip: TemporalDiscriminator | None = None

    @classmethod
    def build(cls, config: PokesConfig) -> Discriminators:
        """Those that have a weight in the losses."""
        weights = config.losses
        return cls(
            PatchDiscriminator() if weights.frame_gan or weights.frame_features else None,
            TemporalDiscriminator(config.clip.frames, config.size)
            if weights.clip_gan or weights.clip_features
            else None,
        )


def perceptual_distance(network: nn.Module | None, generated: Tensor, target: Tensor) -> Tensor:
    """The sum of six mean absolute differences: of ImageNet-normalised pictures, and of five maps of a VGG (Eq. 6).

    Frames are folded into the batch, so it is the mean over frames. No gradient flows into the target.

    Args:
        network: N x 3 x s x s in [0, 1] to maps; None for the first difference alone (ours).
        generated: N x 3 x s x s in [-1, 1].
        target: the same shape.

    Returns:
        A scalar.
    """
    generated, target = (generated + 1) / 2, (target.detach() + 1) / 2
    distance = losses.weighted_l1(normalise(generated), normalise(target))
    if network is None:
        return distance
    maps = network.to(generated.device)(generated)
    with torch.no_grad():
        wanted = network(target)
    return distance + losses.feature_matching(maps, wanted, [1.0] * len(maps))


def latent_loss(predicted: Sequence[Sequence[Tensor]], encoded: Sequence[Sequence[Tensor]]) -> Tensor:
    """Mean square between predicted and encoded states, the mean over the levels, then over the frames (Eq. 7).

    All levels weigh alike, however large their maps. The paper writes a norm, the release takes the mean square.

    Args:
        predicted: of each frame the states of all levels, N x C x h x h.
        encoded: the same of the true frames.

    Returns:
        A scalar.
    """
    frames = []
    for states, targets in zip(predicted, encoded, strict=True):
        levels = [F.mse_loss(a.float(), b.float()) for a, b in zip(states, targets, strict=True)]
        frames.append(torch.stack(levels).mean())
    return torch.stack(frames).mean()


def sample_frames(frames: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Some of all frames of a batch, with replacement, for the patch discriminator (release; appendix E.2).

    Args:
        frames: N x T x 3 x s x s.
        count: how many.
        generator: a CPU generator.

    Returns:
        count x 3 x s x s.
    """
    every = frames.flatten(0, 1)
    return every[torch.randint(len(every), (count,), generator=generator).to(every.device)]


def discriminator_loss(network: nn.Module, real: Tensor, fake: Tensor, penalty: float) -> Tensor:
    """Hinge loss of a discriminator and the weighted gradient penalty at real samples (appendix E.2).

    The penalty is the batch mean of the squared norm of the gradient, without a factor 1/2 (release).

    Args:
        network: samples to maps, the scores last.
        real: frames N x 3 x s x s or clips N x 3 x T x s x s.
        fake: the same shape; no gradient flows into it.
        penalty: weight.

    Returns:
        A scalar.
    """
    scores: list[Tensor] = []

    def score(samples: Tensor) -> Tensor:
        scores.append(network(samples)[-1])
        return scores[-1]

    # One pass on real samples for the scores and for their gradient (release).
    weighted = penalty * losses.r1_penalty(score, real) if penalty else score(real).new_zeros(())
    return losses.hinge_discriminator(scores[0], score(fake.detach())) + weighted


def generator_losses(
    network: nn.Module, real: Tensor, fake: Tensor, gan: float, features: float
) -> dict[str, Tensor]:
    """What the generator minimises against one discriminator, weighted.

    Args:
        network: samples to maps, the scores last; of a patch discriminator the first map is not matched (release).
        real: as for `discriminator_loss`.
        fake: the same shape, with gradient.
        gan: weight of `gan`, minus the mean of the scores.
        features: weight of `features`, the mean over the maps of their mean absolute difference; 0 leaves it out.
    """
    *maps, scores = network(fake)
    terms = {"gan": gan * losses.hinge_generator(scores)}
    if features:
        with torch.no_grad():
            wanted = network(real)[:-1]
        first = 1 if isinstance(network, PatchDiscriminator) else 0
        matched = losses.feature_matching(maps[first:], wanted[first:], [1.0] * len(maps[first:]))
        terms["features"] = features * matched / len(maps[first:])
    return terms


def perceptual_network(settings: PerceptualConfig) -> nn.Module | None:
    """The frozen VGG of the perceptual distance, with the errors of `frozen_vgg`; None for pictures alone."""
    if settings.network == "none":
        return None
    return frozen_vgg(settings.network, settings.file, "losses.perceptual", "network=none", VGG_CONVOLUTION)


# --- ours -----------------------------------------------------------------------------------------------------------


def field_losses(
    model: FieldNetwork, context: Context, output: FieldOutput, batch: Mapping[str, Tensor], weights: FieldLossConfig
) -> dict[str, Tensor]:
    """The terms of the stage `fields`, weighted.

    Args:
        model: the network.
        context: of B stills.
        output: of B x K frames, in this order.
        batch: see `data.MomentDataset`, with a leading axis B.
        weights: of the terms.
    """
    still, frames = batch["frames"][:, 0], batch["frames"][:, 1:].flatten(0, 1)
    count = batch["frames"].shape[1] - 1
    true = {name: batch[name].flatten(0, 1) for name in ("displacement", "moving", "visibility")}
    stills = still.repeat_interleave(count, dim=0)
    pixels = losses.motion_weights(stills, frames, MOTION_GAIN, MOTION_SATURATION)
    shares, displacement = output.fields.shares, output.fields.displacement
    classes = [CLASS_WEIGHTS[source] for source in range(4)]
    unmoved = (true["visibility"] == STATIC) | (true["visibility"] == PLATE)
    unknown = true["visibility"] == UNKNOWN
    terms = {
        "displacement": losses.displacement_error(displacement, true["displacement"], true["moving"]),
        "visibility": losses.source_cross_entropy(shares, true["visibility"], classes),
        "figure": losses.figure_cross_entropy(context.figure, batch["figure"]),
        "photometric": losses.weighted_l1(output.frame, frames, pixels),
        "stillness": losses.global_mean((displacement.abs().sum(-1) * unmoved).sum(), unmoved.sum()),
        "handle": handle_error(output, batch),
        "filled": losses.global_mean((shares[:, [PLATE, PAINT]].sum(1) * unknown).sum(), unknown.sum()),
        "path": path_error(model, context, batch),
    }
    return {name: getattr(weights, name) * value for name, value in terms.items()}


def handle_error(output: FieldOutput, batch: Mapping[str, Tensor]) -> Tensor:
    """Mean end-point error where handles are, normalised, before they are anchored.

    A stem thinner than a pixel is held where the truth is that of the leaf behind it; such handles do not count.
    """
    true = batch["displacement"].flatten(0, 1)
    place, offset, present = (batch[name].flatten(0, 1) for name in ("place", "offset", "present"))
    wanted = sample_at(true.permute(0, 3, 1, 2), place + offset)  # N x M x 2
    rests = true.flatten(1).abs().amax(1, keepdim=True) == 0  # N x 1, pokes on the background
    counts = present * (rests | ((wanted + offset).norm(dim=-1) < AGREES))
    error = (output.at_handles - wanted).square().sum(-1).add(1e-8).sqrt()
    return losses.global_mean((error * counts).sum(), counts.sum())


def path_error(model: FieldNetwork, context: Context, batch: Mapping[str, Tensor]) -> Tensor:
    """Mean distance of oscillators from the paths of handles that are let go of or pushed, normalised."""
    oscillators = model.swings(context, batch["swing_place"][:, None])
    start = batch["swing_start"][:, :, None]  # B x 2 x 1 x 2
    swing = Swing.of(oscillators, start[:, 0], start[:, 1])
    errors = []
    for t in range(batch["swing_path"].shape[1]):
        swing = advance(swing, oscillators, batch["swing_pull"][:, None, t])
        away = swing.total()[0][:, 0] - batch["swing_path"][:, t]
        errors.append(away.square().sum(-1).add(1e-8).sqrt())
    known = batch["swing_known"]
    return losses.global_mean((torch.stack(errors, dim=1) * known).sum(), known.sum())
