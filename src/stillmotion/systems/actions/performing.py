"""A still's figure brought to generated keypoints: by the paper's translator, or by fields (ours)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from stillmotion import geometry, media
from stillmotion.errors import StillmotionError
from stillmotion.keypoints.networks import Keypoints
from stillmotion.keypoints.playing import Player, autocast, encode, pick
from stillmotion.keypoints.visualization import draw_layers
from stillmotion.options import Box
from stillmotion.rendering.canvas import Canvas, square_box, to_network
from stillmotion.rendering.compositing import Renderer, hold
from stillmotion.rendering.fields import PAINT, PLATE, STATIC, Fields
from stillmotion.systems.actions.config import ActionsConfig
from stillmotion.systems.actions.motion import MotionGenerator
from stillmotion.systems.actions.networks import ActionsNetworks, FieldActionsNetworks
from stillmotion.systems.actions.tracks import Condition, from_track, to_track
from stillmotion.systems.base import Output

WIDE = 0.2
"""Deviation of a keypoint, normalised, from which on it belongs to no one place: two figures share it."""

UNSURE = 0.25
"""Share of such keypoints from which on the still is said to show several figures. Of 56 single people no one has so
many; of two people side by side nine in ten do with actions-weizmann, and six in ten with actions-puppets."""


ROOM = 2.0
"""Side of a crop over the extent of the keypoints in it: a hand may be raised, a foot put forward."""

CROP_ROUNDS = 4


class Drawn(NamedTuple):
    """A frame, and what explains it."""

    frame: np.ndarray  # H x W x 3, `uint8`
    layers: Mapping[str, np.ndarray]
    facts: Mapping[str, np.ndarray]


class Performer(Protocol):
    """Draws frames of one still."""

    own: Keypoints  # 1 x K, the still's
    renderer: Renderer

    def find(self, small: Tensor) -> Keypoints:
        """Keypoints of N frames, N x 3 x S x S in [0, 1]."""

    def draw(self, targets: Keypoints) -> Iterator[Drawn]:
        """Frames of the still with its keypoints at N x K."""

    def empty(self) -> Drawn:
        """The still without its figure."""


class FieldPerformer:
    """Draws with fields."""

    def __init__(self, networks: FieldActionsNetworks, canvas: Canvas, output: Output, precision: str):
        inputs = encode(networks, canvas, precision)
        self.player = Player(networks, canvas, inputs, output, precision)
        self.own, self.output, self.renderer = inputs.source, output, self.player.renderer
        self.border = canvas.feather()

    def find(self, small: Tensor) -> Keypoints:
        """See `Performer`."""
        found: Keypoints = self.player.networks.detector(small)
        return found

    def draw(self, targets: Keypoints) -> Iterator[Drawn]:
        """See `Performer`."""
        made = self.player.generate(targets)
        for i in range(len(targets.mean)):
            one = self.player.reveal(pick(made, i))
            assert one.fields is not None
            here, layers = targets.rows(slice(i, i + 1)), dict[str, np.ndarray]()
            if self.output.layers:
                layers = {**draw_layers(one, here, None), **self.renderer.layers()}
            facts = {
                "mean": here.mean[0].cpu().numpy(),
                "covariance": here.covariance[0].cpu().numpy(),
                "displacement": one.fields.displacement[0].cpu().numpy(),
                "shares": one.fields.shares[0].cpu().numpy(),
            }
            yield Drawn(self.player.render(one, self.output.native, self.border), layers, facts)

    def empty(self) -> Drawn:
        """The plate where the figure is; the still's own pixels elsewhere."""
        backdrop, size, figure = self.renderer.backdrop, self.player.canvas.size, self.player.scene.figure
        if backdrop is None:
            raise StillmotionError("There is no clear figure in this still to remove; give one with --mask.")
        if figure is None:  # a person gave its mask
            alpha = np.repeat(media.to_uint8(backdrop.alpha)[..., None], 3, axis=2)
            figure = to_network(alpha, size, self.player.canvas.small.device)[:, :1]
        figure = (figure > 0.2).float()
        shares = torch.zeros_like(figure).repeat(1, 4, 1, 1)
        shares[:, PLATE], shares[:, STATIC] = figure[:, 0], 1 - figure[:, 0]
        small = self.player.canvas.small
        still = torch.zeros_like(small).movedim(1, -1)[..., :2]
        fields = hold(Fields(still, shares, torch.zeros_like(small)), self.border)
        plate = self.renderer.small_plate
        assert plate is not None
        seen = figure * plate[:, :3] + (1 - figure) * small
        frame = self.renderer.render(fields) if self.output.native else media.to_pictures(seen)[0]
        return Drawn(frame, self.renderer.layers() if self.output.layers else {}, {"shares": shares[0].cpu().numpy()})


class TranslatorPerformer:
    """Draws with the paper's translator: what its mask keeps are the still's own pixels, the rest is paint."""

    def __init__(self, networks: ActionsNetworks, canvas: Canvas, output: Output, precision: str):
        self.networks, self.canvas, self.output, self.precision = networks, canvas, output, precision
        with autocast(canvas, precision):
            self.context = networks.encode(2 * canvas.small - 1)
        self.own = bare(self.context.keypoints.float())
        self.renderer, self.border = Renderer(canvas, None), canvas.feather()

    def find(self, small: Tensor) -> Keypoints:
        """See `Performer`."""
        return bare(self.networks.detector(2 * small - 1))

    def draw(self, targets: Keypoints) -> Iterator[Drawn]:
        """See `Performer`."""
        with autocast(self.canvas, self.precision):
            made = self.networks(self.context, targets.mean)
        for i in range(len(targets.mean)):
            here = slice(i, i + 1)
            painted = (made.synthesized[here].float() + 1) / 2
            kept = torch.zeros_like(painted[:, :1]) if made.mask is None else made.mask[here].float()
            kept = 1 - self.border * (1 - kept)
            shares = torch.zeros_like(kept).repeat(1, 4, 1, 1)
            shares[:, STATIC], shares[:, PAINT] = kept[:, 0], 1 - kept[:, 0]
            still = torch.zeros_like(painted).movedim(1, -1)[..., :2]
            fields = Fields(still, shares, painted)
            seen = torch.lerp(self.canvas.small, (made.frame[here].float() + 1) / 2, self.border)
            frame = self.renderer.render(fields) if self.output.native else media.to_pictures(seen)[0]
            layers: Mapping[str, np.ndarray] = {}
            if self.output.layers:
                from stillmotion.systems.actions.visualization import draw_translation

                layers = draw_translation(seen, painted, kept, targets.mean[i])
            facts = {"mean": targets.mean[i].cpu().numpy(), "shares": shares[0].cpu().numpy()}
            yield Drawn(frame, layers, facts)

    def empty(self) -> Drawn:
        """The translator learns no figure of its own: it removes what another picture lacks (Fig. 8, c)."""
        raise StillmotionError(
            "This model finds no figure to remove: give --pose-of a picture of the same place without it (Fig. 8)."
        )


def bare(mean: Tensor) -> Keypoints:
    """Keypoints without gaussians of their own, N x K x 2."""
    return Keypoints(mean, mean.new_zeros(*mean.shape, 2))


def open_performer(
    networks: ActionsNetworks | FieldActionsNetworks, canvas: Canvas, output: Output, precision: str
) -> Performer:
    """That of the networks."""
    if isinstance(networks, FieldActionsNetworks):
        return FieldPerformer(networks, canvas, output, precision)
    return TranslatorPerformer(networks, canvas, output, precision)


def find_crop(labeller: nn.Module, still: np.ndarray, size: int, device: torch.device) -> Box:
    """The square of a still around its figure; in steps, as keypoints of a small figure are inaccurate.

    Args:
        labeller: a detector, see `networks.Labeller`.
        still: H x W x 3, `uint8`.
        size: of the networks' frames.
        device: of the networks.

    Returns:
        (x, y, width, height); all of the still where the figure is large.
    """
    canvas = Canvas.prepare(still, size, None, device)
    for _ in range(CROP_ROUNDS):
        found = geometry.to_pixels(labeller(canvas.small)[0, :, :2].float(), (size, size))
        places = canvas.to_given(found).cpu().numpy()
        low, high = places.min(0), places.max(0)
        box = square_box((low + high) / 2, ROOM * float((high - low).max()), canvas.given)
        if box in (None, canvas.crop):
            break
        canvas = Canvas.prepare(still, size, box, device)
    return canvas.crop


def several_figures(own: Keypoints) -> bool:
    """Whether many keypoints belong to no one place, as where objects are of like size (Sec. 3, failure cases).

    Only gaussians of their own say so; the paper's keypoints have none.
    """
    deviation = own.covariance.diagonal(dim1=-2, dim2=-1).amax(-1).sqrt()  # 1 x K
    return float((deviation > WIDE).float().mean()) > UNSURE


# --- what comes next ------------------------------------------------------------------------------------------------


def next_window(
    networks: ActionsNetworks | FieldActionsNetworks,
    config: ActionsConfig,
    past: Keypoints,
    action: int | None,
    side: int | None,
    generator: torch.Generator,
) -> Keypoints:
    """The next frames of a performance.

    Args:
        networks: of the system.
        config: of the system.
        past: 1 x H x K, the last frames, of which a motion generator takes as many as it can use.
        action: an index; None for whatever comes.
        side: an index; None for whatever comes.
        generator: what is random is drawn from it; on the CPU.

    Returns:
        N x K, the frames after the past.
    """
    motion, last = networks.motion, Keypoints(past.mean[:, -1], past.covariance[:, -1])
    device, frames = last.mean.device, config.motion.frames
    if isinstance(motion, MotionGenerator):
        chosen = None
        if config.classes:
            drawn = (
                torch.randint(config.classes, (1,), generator=generator) if action is None else torch.tensor([action])
            )
            chosen = drawn.to(device)
        mean = motion.sample(last.mean, chosen, generator)[0]
        return Keypoints(mean, last.covariance.expand(frames, -1, -1, -1))
    given = min(past.mean.shape[1], motion.config.known)
    recent = Keypoints(past.mean[:, -given:], past.covariance[:, -given:])
    first = Keypoints(recent.mean[:, 0], recent.covariance[:, 0])
    track = to_track(recent, first)
    known = torch.cat([track, track.new_zeros(1, frames + 1 - given, track.shape[2])], dim=1)
    condition = Condition(
        first,
        torch.tensor([motion.no_action if action is None else action], device=device),
        torch.tensor([motion.no_side if side is None else side], device=device),
        known,
        torch.tensor([given], device=device),
    )
    made = from_track(motion.sample(condition, generator), first)
    return Keypoints(made.mean[0, given:], made.covariance[0, given:])


def between(start: Keypoints, end: Keypoints, frames: int) -> Keypoints:
    """Keypoints on straight ways from one pose to another, which is the last of them; 1 x K to frames x K."""
    share = torch.linspace(1 / frames, 1, frames, device=start.mean.device)
    smooth = share.square() * (3 - 2 * share)
    mean = torch.lerp(start.mean, end.mean, smooth[:, None, None])
    return Keypoints(mean, torch.lerp(start.covariance, end.covariance, smooth[:, None, None, None]))
