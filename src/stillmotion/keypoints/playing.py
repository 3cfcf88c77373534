"""Frames of one still with its keypoints where they are wanted, at its own size."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stillmotion import geometry, media
from stillmotion.keypoints.networks import (
    FieldGenerator,
    GeneratorOutput,
    KeypointNetworks,
    Keypoints,
    Motion,
    StepInputs,
)
from stillmotion.rendering.backdrop import Wanted
from stillmotion.rendering.canvas import Canvas
from stillmotion.rendering.compositing import Scene, hold
from stillmotion.rendering.fields import WARPED, Fields, alone, blend


class Player:
    """Generates and renders the frames of one still.

    Args:
        networks: made for inference.
        canvas: the still.
        inputs: of the still, see `encode`.
        wanted: what a person says of mask and plate.
        precision: autocast to bfloat16 or not, see `systems.base.System.precision`.
    """

    def __init__(
        self, networks: KeypointNetworks, canvas: Canvas, inputs: StepInputs, wanted: Wanted, precision: str = "fp32"
    ):
        self.networks, self.canvas, self.precision = networks, canvas, precision
        figure: Tensor | None = None
        if isinstance(networks.generator, FieldGenerator) and wanted.mask is None:
            with autocast(canvas, precision):
                figure = torch.sigmoid(networks.generator.figure(inputs.features))
        self.scene = Scene(canvas, figure, wanted)
        self.renderer = self.scene.renderer
        self.inputs = inputs._replace(plate=self.renderer.small_plate)

    def generate(self, target: Keypoints) -> GeneratorOutput:
        """Frames of the still with its keypoints at N targets."""
        with autocast(self.canvas, self.precision):
            output: GeneratorOutput = self.networks(self.inputs._replace(target=target))
        return output

    def reveal(self, one: GeneratorOutput) -> GeneratorOutput:
        """The frame with the plate that is known once it has been seen; see `Scene.reveal`."""
        if one.fields is None or not self.scene.reveal(one.fields.shares):
            return one
        return one._replace(frame=blend(one.fields, one.warped, self.canvas.small, self.renderer.small_plate))

    def render(self, one: GeneratorOutput, native: bool, share: Tensor | None = None) -> np.ndarray:
        """A frame as a picture, at the still's own size or at the networks'.

        Args:
            one: a batch of one.
            native: at the still's own size.
            share: 1 x 1 x S x S, how far each pixel may differ from the still; None for fully.
        """
        if not native:
            return media.to_pictures(held(one, share, self.canvas).frame)[0]
        fields, residual = as_fields(one)
        if share is not None:
            fields, residual = hold(fields, share), None if residual is None else share * residual
        return self.renderer.render(fields, residual)


def autocast(canvas: Canvas, precision: str) -> torch.autocast:
    """The context that calls of the networks belong in."""
    return torch.autocast(canvas.small.device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def encode(networks: KeypointNetworks, canvas: Canvas, precision: str = "fp32") -> StepInputs:
    """The still's features and keypoints, once per still; the target is its own pose."""
    with autocast(canvas, precision):
        features = networks.generator.encode(canvas.small)
        found: Keypoints = networks.detector(canvas.small)
    return StepInputs(features, found, found)


def held(one: GeneratorOutput, share: Tensor | None, canvas: Canvas) -> GeneratorOutput:
    """A frame of which only a share of each pixel differs from the still."""
    return one if share is None else one._replace(frame=share * one.frame + (1 - share) * canvas.small)


def pick(made: GeneratorOutput, index: int) -> GeneratorOutput:
    """One frame of a batch, still as a batch of one."""
    here = slice(index, index + 1)
    masks = None if made.motion.masks is None else made.motion.masks[here]
    motion = Motion(made.motion.displacement[here], masks)
    fields = None if made.fields is None else made.fields.rows(here)
    return GeneratorOutput(made.frame[here], motion, made.warped[here], fields)


def as_fields(made: GeneratorOutput) -> tuple[Fields, Tensor | None]:
    """The fields of a frame, and what is added to their blend: the paper's generator paints over the warped still."""
    if made.fields is not None:
        return made.fields, None
    size = (made.frame.shape[2], made.frame.shape[3])
    displacement = geometry.resize_grid(made.motion.displacement, size)
    return Fields(displacement, alone(WARPED, made.frame), torch.zeros_like(made.frame)), made.frame - made.warped
