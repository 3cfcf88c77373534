"""Losses of ours: fields and oscillators against what clips know of their motion."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from stillmotion import losses
from stillmotion.rendering.fields import PAINT, PLATE, STATIC, WARPED
from stillmotion.systems.pokes.config import FieldLossConfig
from stillmotion.systems.pokes.field_network import Context, FieldNetwork, FieldOutput
from stillmotion.systems.pokes.handles import Swing, advance

CLASS_WEIGHTS = {WARPED: 1.0, STATIC: 0.3, PLATE: 2.0, PAINT: 2.0}
"""Of the sources of a pixel in the cross-entropy: few pixels are hidden."""

MOTION_GAIN, MOTION_SATURATION = 5.0, 0.15
"""Additional weight of pixels that change, and the difference from which on it is full."""


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
    terms = {
        "displacement": losses.displacement_error(displacement, true["displacement"], true["moving"]),
        "visibility": losses.source_cross_entropy(shares, true["visibility"], classes),
        "figure": losses.figure_cross_entropy(model.figure(context), batch["figure"]),
        "photometric": losses.weighted_l1(output.frame, frames, pixels),
        "stillness": losses.global_mean((displacement.abs().sum(-1) * unmoved).sum(), unmoved.sum()),
        "path": path_error(model, context, batch),
    }
    return {name: getattr(weights, name) * value for name, value in terms.items()}


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
