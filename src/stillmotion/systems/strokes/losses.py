"""Every loss of a time step (Eq. 3 to 8), as pure functions; frames are in [-1, 1]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion import losses
from stillmotion.nn.spectral import frozen_power_iteration
from stillmotion.nn.vgg import frozen_vgg
from stillmotion.rendering.fields import PAINT, WARPED
from stillmotion.systems.strokes.config import LossConfig, PerceptualConfig, StrokesConfig
from stillmotion.systems.strokes.networks import (
    Context,
    FrameDiscriminator,
    PairDiscriminator,
    StepOutputs,
    StrokesNetworks,
)
from stillmotion.systems.strokes.object_frame import (
    FieldGenerator,
    GeneratorOutput,
    ObjectFrame,
    object_frame,
    to_object_frame,
    translate,
)

SHARE_WEIGHTS = (1.0, 1.0, 2.0)
"""Of the moved still, the background and paint in the cross-entropy: few pixels are hidden."""

CHANGE_SATURATION = 0.2  # mean difference over the channels from which on a pixel has the full additional weight


class StepTargets(NamedTuple):
    """What the outputs of a time step are compared with."""

    still: Tensor  # I_0, N x 3 x s x s
    current: Tensor  # true frame t, N x 3 x s x s
    target: Tensor  # true frame t + 1, N x 3 x s x s
    frame: ObjectFrame  # the object's, at point t + 1
    corners: Tensor  # N x 2, (x, y) of the first pixel of each crop
    step: Tensor  # S_t, N x channels x s x s, if the pair discriminator sees it


def truth_losses(
    model: StrokesNetworks, context: Context, generated: GeneratorOutput, batch: Mapping[str, Tensor], t: int
) -> dict[str, Tensor]:
    """Ours: the fields of frame t + 1 and the still's figure against what clips know of them, weighted.

    Clips that do not know their motion do not count. None of the weights is set: no terms.
    """
    weights, terms = model.config.losses, dict[str, Tensor]()
    if not weights.truth:
        return terms
    assert generated.fields is not None
    assert isinstance(model.decoder, FieldGenerator)
    if weights.displacement:
        true, moving = batch["displacement"][:, t], batch["moving"][:, t]
        error = losses.displacement_error(generated.fields.displacement, true, moving)
        terms["displacement"] = weights.displacement * error
    if weights.visibility:
        # What is plate and what the unmoved still follows from the plate itself (`object_frame.place`).
        warped, static, plate, paint = generated.fields.shares.split(1, dim=1)
        shares, shown = torch.cat([warped, static + plate, paint], dim=1), batch["visibility"][:, t]
        target = torch.where(shown == PAINT, 2, torch.where(shown > WARPED, 1, shown))
        terms["visibility"] = weights.visibility * losses.source_cross_entropy(shares, target, SHARE_WEIGHTS)
    if weights.figure:
        logits = model.decoder.figure(context.features, context.initial)
        start = object_frame(batch["points"], 0, model.config)
        figure = to_object_frame(batch["figure"], start) if model.config.generator.object_frame else batch["figure"]
        terms["figure"] = weights.figure * losses.figure_cross_entropy(logits, figure)
    return terms


class Discriminators(NamedTuple):
    """D1, D2 and the frozen VGG; None where the configuration does without."""

    frame: FrameDiscriminator | None = None
    pair: PairDiscriminator | None = None
    perceptual: nn.Module | None = None

    @classmethod
    def build(cls, config: StrokesConfig) -> Discriminators:
        """Those that have a weight in the losses; errors as for `perceptual_network`."""
        weights = config.losses
        return cls(
            FrameDiscriminator(config) if weights.gan else None,
            PairDiscriminator(config) if weights.pair_gan else None,
            perceptual_network(weights.perceptual) if weights.perceptual.weight else None,
        )


def generator_losses(
    outputs: StepOutputs,
    autoencoded: Tensor | None,
    targets: StepTargets,
    previous: Tensor | None,
    networks: Discriminators,
    config: StrokesConfig,
) -> dict[str, Tensor]:
    """The terms of Eq. 8 that E1, E2, P and G minimise, weighted.

    Args:
        outputs: of the time step, with gradient.
        autoencoded: G(E1(I_{t+1})), N x 3 x s x s, or None without a loss on it.
        targets: of the step.
        previous: the frame generated before, without gradient, I_0 at t = 0; for the pair discriminator.
        networks: the discriminators and the VGG.
        config: the system's.
    """
    weights, frame, target = config.losses, outputs.generated.frame, targets.target
    pixels, terms = pixel_weights(targets.still, target, targets.frame, weights), {}
    if weights.reconstruction:  # Eq. 3
        terms["reconstruction"] = weights.reconstruction * distance(frame, target, weights, pixels)
    if weights.unblended:
        terms["unblended"] = weights.unblended * distance(outputs.generated.unblended, target, weights, pixels)
    if autoencoded is not None:  # Eq. 4
        aim = target if weights.autoencoding_target == "true" else frame
        terms["autoencoding"] = weights.autoencoding * distance(autoencoded, aim, weights, pixels)
    if weights.crop:
        parts = [crop(picture, targets.corners) for picture in (frame, target)]
        terms["crop"] = weights.crop * distance(parts[0], parts[1], weights)
    if networks.perceptual is not None:  # Eq. 7
        perceptual = perceptual_loss(networks.perceptual, frame, target, targets.corners, weights.perceptual)
        terms["perceptual"] = weights.perceptual.weight * perceptual
    if networks.frame is not None:  # Eq. 5
        with frozen_power_iteration(networks.frame):
            score = frame_score(networks.frame, frame, outputs, targets)
        terms["gan"] = weights.gan * losses.log_generator(score)
    if networks.pair is not None:  # Eq. 6
        assert previous is not None
        with frozen_power_iteration(networks.pair):
            score = networks.pair(frame, previous, targets.step)
        terms["pair_gan"] = weights.pair_gan * losses.log_generator(score)
    return terms


def frame_discriminator_loss(network: FrameDiscriminator, outputs: StepOutputs, targets: StepTargets) -> Tensor:
    """D1's side of Eq. 5. Only the pass on the generated frame updates its vectors u (release)."""
    with frozen_power_iteration(network):
        real = frame_score(network, targets.target, outputs, targets)
    return losses.log_discriminator(real, frame_score(network, outputs.generated.frame.detach(), outputs, targets))


def pair_discriminator_loss(
    network: PairDiscriminator, outputs: StepOutputs, targets: StepTargets, previous: Tensor
) -> Tensor:
    """D2's side of Eq. 6; a generated pair is the frame generated now and the one generated before."""
    with frozen_power_iteration(network):
        real = network(targets.target, targets.current, targets.step)
    return losses.log_discriminator(real, network(outputs.generated.frame.detach(), previous, targets.step))


def frame_score(network: FrameDiscriminator, frame: Tensor, outputs: StepOutputs, targets: StepTargets) -> Tensor:
    """D1's logits, conditioned on x_t where it is (Sec. III-B); no gradient reaches E2 that way."""
    part = None if network.crop is None else crop(frame, targets.corners)
    score: Tensor = network(frame, part, outputs.motion.detach() if network.conditioned else None)
    return score


def reconstruction_losses(
    generated: GeneratorOutput, still: Tensor, target: Tensor, frame: ObjectFrame, weights: LossConfig
) -> dict[str, Tensor]:
    """Terms of the stages that train G without discriminators, weighted: the frame, and with paint alone."""
    pixels = pixel_weights(still, target, frame, weights)
    return {
        "reconstruction": weights.reconstruction * distance(generated.frame, target, weights, pixels),
        "unblended": weights.unblended * distance(generated.unblended, target, weights, pixels),
    }


def copy_baseline(still: Tensor, target: Tensor, frame: ObjectFrame, weights: LossConfig) -> Tensor:
    """The reconstruction loss of a copy of the still."""
    return weights.reconstruction * distance(still, target, weights, pixel_weights(still, target, frame, weights))


def pixel_weights(still: Tensor, target: Tensor, frame: ObjectFrame, weights: LossConfig) -> Tensor | None:
    """Weights of the pixels in reconstruction losses, N x 1 x s x s, of mean one; None for all alike."""
    if not (weights.motion_weighting or weights.disocclusion_weighting):
        return None
    changed = losses.frame_difference(still, target, CHANGE_SATURATION)
    pixels = 1 + weights.motion_weighting * changed
    if weights.disocclusion_weighting:
        # Where neither picture shows the target, it must be generated: limbs, and what the object uncovers.
        moved = losses.frame_difference(translate(still, frame.shift), target, CHANGE_SATURATION)
        pixels = pixels + weights.disocclusion_weighting * torch.minimum(changed, moved)
    return pixels / losses.global_mean(pixels.sum(), pixels.numel())


def distance(generated: Tensor, target: Tensor, weights: LossConfig, pixels: Tensor | None = None) -> Tensor:
    """Mean squared or absolute difference; the release takes the mean square for the paper's l2 norm."""
    if weights.distance == "absolute":
        return losses.weighted_l1(generated, target, pixels)
    square = F.mse_loss(generated.float(), target.float(), reduction="none")
    return square.mean() if pixels is None else (square * pixels).mean()


def perceptual_loss(
    network: nn.Module, generated: Tensor, target: Tensor, corners: Tensor, settings: PerceptualConfig
) -> Tensor:
    """L_VGG (Eq. 7): distance of the feature maps of a frozen VGG, of the crop or of the whole frame."""
    network.to(generated.device)
    if settings.region == "crop":
        generated, target = crop(generated, corners), crop(target, corners)
    maps = network(perceptual_input(generated, settings))
    with torch.no_grad():
        wanted = network(perceptual_input(target, settings))
    return losses.feature_matching(maps, wanted, settings.layers, squared=settings.distance == "square")


def perceptual_input(pictures: Tensor, settings: PerceptualConfig) -> Tensor:
    """From [-1, 1] to the [0, 1] that VGG expects, or to 1/255 of it.

    The release subtracts means of 0 to 255 from values in [-1, 1]: the contrast is 1/127 of that of VGG's training
    pictures, so the loss is far weaker than its weight.
    """
    return (pictures + 1) / 2 if settings.range == "unit" else pictures / 255


def perceptual_network(settings: PerceptualConfig) -> nn.Module:
    """The frozen VGG of the perceptual loss, with the errors of `frozen_vgg`."""
    return frozen_vgg(settings.network, settings.file, "losses.perceptual", "weight=0")


def crop_corners(points: Tensor, size: int, rng: torch.Generator) -> Tensor:
    """Where crops of half the side begin: near the point, shifted at random along one axis (release).

    As in the release, rows and columns are exchanged, and an eighth of the side is added.

    Args:
        points: N x 2, (x, y) in pixels.
        size: side of the frames.
        rng: shifts of up to a quarter of the side are drawn from it.

    Returns:
        N x 2 integers (x, y), each from 0 to half the side.
    """
    quarter = size // 4
    centres = (points + 0.5).floor().long().flip(-1) + size // 8
    shifts = torch.randint(-quarter, quarter + 1, (len(points),), generator=rng).to(points.device)
    centres = torch.stack([centres[:, 0] + shifts, centres[:, 1]], dim=1)
    return centres.clamp(quarter, 3 * quarter) - quarter


def crop(pictures: Tensor, corners: Tensor) -> Tensor:
    """The part of half the side that begins at (x, y) of each picture; N x C x s x s -> N x C x s/2 x s/2."""
    side = pictures.shape[-1] // 2
    pairs = zip(pictures, corners.tolist(), strict=True)
    return torch.stack([picture[:, y : y + side, x : x + side] for picture, (x, y) in pairs])
